/*
 * Milliseconds and peak memory of one training step of a preset on random data, everything
 * included (momentum update, key towers, both towers forward and backward, AdamW, queues).  Prints
 * one JSON object; tests/bench/peer_step.py prints the same for PyTorch.
 *
 * usage: bench_step [batch [px [threads [steps [fp32|bf16 [small|public|paper [OPTION]...]]]]]]
 * OPTION: profile, recompute, half (moments in bf16), frozen (as the preset freezes)
 */
#include "ops/clock.h"
#include "ops/hash.h"
#include "train/towers.h"
#include "train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static void *must_alloc(int64_t n, size_t element)
{
	void *p = calloc((size_t)n, element);

	if (!p)
		exit(WL_EFAIL);
	return p;
}

static struct wl_moco_batch random_batch(const struct wl_model_config *m, int64_t n)
{
	int64_t px = m->image.px, r = m->image.regions, len = m->text.length, i;
	float *images = must_alloc(n * px * px * 3, sizeof(float));
	float *boxes = must_alloc(n * r * 4, sizeof(float)), *mask = must_alloc(n * r,
		sizeof(float));
	float *text_mask = must_alloc(n * len, sizeof(float));
	int32_t *ids = must_alloc(n * len, sizeof(int32_t));
	int64_t *pairs = must_alloc(n, sizeof(int64_t));
	uint64_t *hashes = must_alloc(n, sizeof(uint64_t));

	for (i = 0; i < n * px * px * 3; i++)
		images[i] = (float)(wl_rand_unit(1, 0, (uint64_t)i) * 4 - 2);
	for (i = 0; i < n * r; i++) {
		float cell = (float)px / 6;

		boxes[4 * i] = (float)(i % r % 6) * cell;
		boxes[4 * i + 1] = (float)(i % r / 6) * cell;
		boxes[4 * i + 2] = boxes[4 * i] + cell;
		boxes[4 * i + 3] = boxes[4 * i + 1] + cell;
		mask[i] = 1;
	}
	for (i = 0; i < n * len; i++) {
		text_mask[i] = i % len < len / 2;
		ids[i] = text_mask[i] > 0 ? (int32_t)(wl_rand64(2, 0, (uint64_t)i) %
				(uint64_t)m->text.bert.vocab) : 0;
	}
	for (i = 0; i < n; i++) {
		pairs[i] = 1 + i;
		hashes[i] = 1 + (uint64_t)i;
	}
	return (struct wl_moco_batch){images, boxes, mask, ids, text_mask, pairs, hashes};
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* MiB; what the kernel counted at its highest. */
static double peak_mb(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_maxrss / 1024;
}

static int bench(struct wl_train_config *c, const char *preset, int64_t px, int steps, bool frozen,
	bool profile, struct wl_err *err)
{
	struct wl_model_config m;
	struct wl_towers towers;
	struct wl_trainer t;
	struct wl_backend *be;
	struct wl_moco_batch b;
	struct wl_step_report report = {0};
	double *ms = must_alloc(steps, sizeof(double)), begin;
	int i;

	WL_TRY(wl_model_preset(preset, &m, err));
	if (px)
		m.image.px = (int)px;
	if (!m.text.bert.vocab)
		m.text.bert.vocab = 8000;
	if (!frozen)
		m.n_freeze = 0;
	WL_TRY(wl_model_check(&m, err));
	wl_brivl_towers(&towers, &m);
	be = wl_backend_cpu_open((int)c->threads, err);
	if (!be)
		return -1;
	WL_TRY(wl_trainer_init(&t, c, &towers, be, NULL, 1000, 100000, err));
	WL_TRY(towers.init(&t.params, &m, 1, err));
	wl_trainer_start(&t);
	b = random_batch(&m, c->batch);
	for (i = steps > 1 ? -2 : 0; i < steps; i++) { /* two to warm up */
		begin = wl_now_s();
		WL_TRY(wl_trainer_step(&t, &b, &report, err));
		if (i >= 0)
			ms[i] = 1000 * (wl_now_s() - begin);
	}
	qsort(ms, (size_t)steps, sizeof *ms, compare);
	printf("{\"system\":\"wenlan\",\"model\":\"%s\",\"precision\":\"%s\",\"batch\":%lld,"
	       "\"px\":%d,\"threads\":%lld,\"ms_median\":%.1f,\"ms_best\":%.1f,"
	       "\"pairs_per_s\":%.2f,\"peak_mb\":%.0f,\"loss\":%.4f}\n",
		preset, c->precision, (long long)c->batch, m.image.px, (long long)c->threads,
		ms[steps / 2], ms[0], 1000.0 * (double)c->batch / ms[steps / 2], peak_mb(),
		report.moco.loss);
	if (profile)
		WL_TRY(wl_graph_profile(t.moco.query, 1, 1, err));
	wl_trainer_release(&t);
	wl_backend_close(be);
	free(ms);
	return 0;
}

int main(int argc, char **argv)
{
	struct wl_opt table[WL_TRAIN_OPTIONS];
	struct wl_train_config c;
	struct wl_err err = WL_ERR_INIT;
	int64_t px = argc > 2 ? atoll(argv[2]) : 128;
	const char *preset = argc > 6 ? argv[6] : "small";
	bool profile = false, frozen = false;
	int i, steps = argc > 4 ? atoi(argv[4]) : 5;

	wl_backend_cpu_prepare(argv);
	wl_train_config_init(&c, table);
	c.batch = argc > 1 ? atoll(argv[1]) : 16;
	c.threads = argc > 3 ? atoll(argv[3]) : 2;
	c.precision = argc > 5 ? argv[5] : "fp32";
	if (strcmp(preset, "small"))
		c.moco.queue = 9600;
	for (i = 7; i < argc; i++) {
		profile |= !strcmp(argv[i], "profile");
		frozen |= !strcmp(argv[i], "frozen");
		c.moco.recompute |= !strcmp(argv[i], "recompute");
		if (!strcmp(argv[i], "half"))
			c.optim_state = "bf16";
	}
	if (steps < 1)
		steps = 1;
	if (wl_train_config_check(&c, &err) < 0 ||
		bench(&c, preset, px, steps, frozen, profile, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return (int)err.code;
	}
	return 0;
}
