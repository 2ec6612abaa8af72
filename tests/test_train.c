/* train/trainer.h on a tiny model: it learns, resumes to the last bit, and survives bad steps. */
#include "ops/file.h"
#include "tests/support/allocations.h"
#include "tests/support/tiny_rig.h"
#include "train/checkpoint/ckpt.h"
#include "train/loop.h"
#include "train/trainer.h"
#include "train/validate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct wl_err err;

static void must(int result)
{
	if (result < 0)
		fail_msg("%s", err.msg);
}

static void open_rig(struct tiny_rig *r, const struct wl_train_config *c, int64_t steps)
{
	tiny_rig_open(r, c, wl_backend_cpu_open(2, &err), steps);
}

static double step(struct tiny_rig *r)
{
	struct wl_step_report report;

	must(wl_trainer_step(&r->t, tiny_batch(r->t.step), &report, &err));
	assert_int_equal(report.verdict, WL_GUARD_OK);
	assert_true(isfinite(report.moco.loss));
	return report.moco.loss;
}

/* Recall at 1 of the training pairs with the inference graphs, percent. */
static double recall_at_1(struct tiny_rig *r)
{
	struct wl_embeddings v = {0};
	struct wl_encoder e;
	struct wl_towers towers;
	json_t *result;
	double r1;
	int64_t s, i;

	tiny_towers(&towers);
	must(wl_encoder_init(&e, &towers, &r->t.params, 5, WL_F32, &err)); /* 5: chunks of 8 */
	v.dim = e.dim;
	assert_int_equal(e.dim, TINY_DIM);
	for (s = 0; s < TINY_PAIRS / TINY_BATCH; s++) {
		const struct wl_moco_batch *b = tiny_batch(s);

		must(wl_embeddings_reserve(&v, TINY_BATCH, TINY_BATCH, &err));
		must(wl_encoder_images(&e, b->images, b->boxes, b->region_mask, TINY_BATCH,
			v.images + v.n_images * v.dim, &err));
		must(wl_encoder_texts(&e, b->ids, b->text_mask, TINY_BATCH,
			v.texts + v.n_texts * v.dim, &err));
		for (i = 0; i < TINY_BATCH; i++)
			v.text_image[v.n_texts++] = v.n_images++;
	}
	result = wl_retrieval_json(&v, NULL, &err);
	assert_non_null(result);
	r1 = json_number_value(json_object_get(json_object_get(result, "i2t"), "r1"));
	json_decref(result);
	wl_embeddings_release(&v);
	wl_encoder_release(&e);
	return r1;
}

static void learns_with(bool in_batch, bool online_positive)
{
	struct wl_train_config c = tiny_config(1e-2);
	struct tiny_rig r;
	double first = 0, last = 0, loss, before;
	int i;

	c.moco.in_batch = in_batch;
	c.moco.online_positive = online_positive;
	open_rig(&r, &c, 150);
	before = recall_at_1(&r);
	for (i = 0; i < 150; i++) {
		loss = step(&r);
		first += i < 10 ? loss / 10 : 0;
		last += i >= 140 ? loss / 10 : 0;
	}
	if (!(last < 0.5 * first))
		fail_msg("the loss went from %g to %g only", first, last);
	if (!(before < 20 && recall_at_1(&r) > 70))
		fail_msg("recall at 1 was %g %% and is %g %%", before, recall_at_1(&r));
	tiny_rig_close(&r);
}

static void loss_falls_and_pairs_are_found(void **state)
{
	(void)state;
	learns_with(false, false);
}

static void other_losses_learn_too(void **state)
{
	(void)state;
	learns_with(true, false);
	learns_with(true, true);
}

static void temperature_moves_and_is_clamped(void **state)
{
	struct wl_train_config c = tiny_config(1e-2);
	struct tiny_rig r;
	int i;

	(void)state;
	c.schedule.lr = 1; /* far too large on purpose: pushes tau against its bound */
	c.schedule.warmup_steps = 0;
	c.moco.tau = 0.02;
	open_rig(&r, &c, 40);
	assert_true(fabs(wl_moco_tau(&r.t.moco) - 0.02) < 1e-6);
	for (i = 0; i < 5; i++) {
		step(&r);
		assert_true(wl_moco_tau(&r.t.moco) >= 0.01 - 1e-8);
	}
	assert_true(fabs(wl_moco_tau(&r.t.moco) - 0.02) > 1e-3);
	tiny_rig_close(&r);
}

static void same_floats(const struct wl_params *a, const struct wl_params *b)
{
	assert_int_equal(a->floats, b->floats);
	assert_memory_equal(a->value, b->value, (size_t)a->floats * sizeof(float));
}

static void resumes_with(struct wl_train_config c)
{
	char run[] = "/tmp/wl-train-XXXXXX", *dir;
	struct tiny_rig straight, a, b;
	double loss[12];
	json_t *st;
	int i;

	must(wl_train_config_check(&c, &err));
	assert_non_null(mkdtemp(run));
	open_rig(&straight, &c, 12);
	for (i = 0; i < 12; i++)
		loss[i] = step(&straight);

	open_rig(&a, &c, 12);
	for (i = 0; i < 7; i++)
		assert_true(step(&a) == loss[i]);
	must(wl_trainer_save(&a.t, run, NULL, "tests/golden/optim.json", NULL, &err));
	must(wl_trainer_save(&a.t, run, NULL, NULL, NULL, &err)); /* again: left alone */
	tiny_rig_close(&a);

	c.threads = 1;
	open_rig(&b, &c, 12);
	must(wl_ckpt_load(run, &dir, &st, &err));
	must(wl_trainer_load(&b.t, dir, st, &err));
	assert_int_equal(b.t.step, 7);
	for (i = 7; i < 12; i++)
		if (step(&b) != loss[i])
			fail_msg("step %d differs after the resume", i);
	same_floats(&straight.t.params, &b.t.params);
	if (wl_moco_has_keys(&b.t.moco)) {
		same_floats(&straight.t.moco.momentum, &b.t.moco.momentum);
		assert_memory_equal(straight.t.moco.text_queue.keys, b.t.moco.text_queue.keys,
			24 * TINY_DIM * sizeof(float));
	}
	json_decref(st);
	free(dir);
	tiny_rig_close(&b);
	tiny_rig_close(&straight);
	must(wl_remove_tree(run, &err));
}

static void resumes_to_the_last_bit(void **state)
{
	(void)state;
	resumes_with(tiny_config(1e-2));
}

/* Moments in bf16, batches in two parts, blocks computed again; then CLIP. */
static void resumes_with_every_saving(void **state)
{
	struct wl_train_config c = tiny_config(1e-2);

	(void)state;
	c.optim_state = "bf16";
	c.moco.accumulate = 2;
	c.moco.recompute = true;
	resumes_with(c);
	c.objective = "clip";
	resumes_with(c);
}

static void checkpoint_that_does_not_fit_is_refused(void **state)
{
	struct wl_train_config c = tiny_config(1e-2);
	char run[] = "/tmp/wl-train-XXXXXX", *dir;
	struct tiny_rig r;
	json_t *st;

	(void)state;
	assert_non_null(mkdtemp(run));
	open_rig(&r, &c, 12);
	step(&r);
	must(wl_trainer_save(&r.t, run, NULL, NULL, NULL, &err));
	tiny_rig_close(&r);
	must(wl_ckpt_load(run, &dir, &st, &err));
	c.moco.queue = 16;
	open_rig(&r, &c, 12);
	assert_int_equal(wl_trainer_load(&r.t, dir, st, &err), -1);
	assert_int_equal(err.code, WL_ECKPT);
	assert_non_null(strstr(err.msg, "moco.queue"));
	tiny_rig_close(&r);
	c = tiny_config(1e-2);
	c.seed = 2;
	open_rig(&r, &c, 12);
	assert_int_equal(wl_trainer_load(&r.t, dir, st, &err), -1);
	assert_int_equal(err.code, WL_EUSAGE);
	tiny_rig_close(&r);
	json_decref(st);
	free(dir);
	must(wl_remove_tree(run, &err));
}

/* One setting at a time out of its bounds, below and above. */
static void settings_out_of_bounds_are_named(void **state)
{
	struct wl_train_config c = tiny_config(1e-2);
	const struct {
		const char *name;
		int64_t *value, low, high;
	} all[] = {
		{"threads", &c.threads, -1, 5000},
		{"cache-size", &c.cache_size, -1, INT64_MAX},
		{"data.batch", &c.batch, 0, 100000000000},
		{"data.limit", &c.limit, -1, INT64_MAX},
		{"moco.queue", &c.moco.queue, -1, 1000000000000000000},
		{"optim.max-bad-steps", &c.max_bad_steps, -1, INT64_MAX},
		{"dist.bucket-mb", &c.dist.bucket_mb, 0, 99999999999999},
		{"ckpt.keep-every", &c.ckpt_keep_every, -1, INT64_MAX},
		{"val.limit", &c.val_limit, -1, INT64_MAX},
		{"log-every", &c.log_every, -1, INT64_MAX},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof all / sizeof *all; i++) {
		int64_t was = *all[i].value;

		for (int high = 0; high < 2; high++) {
			*all[i].value = high ? all[i].high : all[i].low;
			assert_int_equal(wl_train_config_check(&c, &err), -1);
			assert_int_equal(err.code, WL_EUSAGE);
			if (strncmp(err.msg, all[i].name, strlen(all[i].name)))
				fail_msg("%s: \"%s\"", all[i].name, err.msg);
		}
		*all[i].value = was;
	}
	c.max_bad_rate = 1.5;
	assert_int_equal(wl_train_config_check(&c, &err), -1);
	c.max_bad_rate = NAN;
	assert_int_equal(wl_train_config_check(&c, &err), -1);
	c.max_bad_rate = 0.5;
	must(wl_train_config_check(&c, &err));
}

static void memory_that_is_not_there_is_named(void **state)
{
	const double mib = 1 << 20;
	struct wl_train_config c = tiny_config(3e-3);
	struct wl_err why = WL_ERR_INIT;
	struct tiny_rig r;

	(void)state;
	open_rig(&r, &c, 100);
	assert_int_equal(wl_train_fits(&r.t, 1, (struct wl_ram){1e12, 1e12}, &why), 0);
	assert_int_equal(wl_train_fits(&r.t, 1, (struct wl_ram){0, 0}, &why), 0); /* unknown */
	assert_int_equal(wl_train_fits(&r.t, 1, (struct wl_ram){mib / 16, 0}, &why), -1);
	assert_int_equal(why.code, WL_EFAIL);
	assert_non_null(strstr(why.msg, "this training needs about 0.0 GiB of memory, and there "
					"are 0.0 GiB: lower --data.batch (8 now)"));
	assert_non_null(strstr(why.msg, "--data.accumulate"));
	assert_non_null(strstr(why.msg, "--recompute"));
	assert_non_null(strstr(why.msg, "--optim.state bf16"));
	assert_non_null(strstr(why.msg, "--dist.zero 3"));
	assert_non_null(strstr(why.msg, "--dry-run"));
	/* What is done already is not advised. */
	r.config.moco.recompute = true;
	r.config.optim_state = "bf16";
	assert_int_equal(wl_train_fits(&r.t, 2, (struct wl_ram){mib / 16, 0}, &why), -1);
	assert_non_null(strstr(why.msg, "a rank of this training"));
	assert_null(strstr(why.msg, "--recompute"));
	assert_null(strstr(why.msg, "--optim.state"));
	tiny_rig_close(&r);
}

static void step_that_is_not_finite_changes_nothing(void **state)
{
	struct wl_train_config c = tiny_config(1e-2);
	struct wl_step_report report;
	struct wl_moco_batch bad;
	struct tiny_rig r, twin;
	static float pixels[TINY_BATCH * TINY_PX * TINY_PX * 3];
	int i;

	(void)state;
	c.max_bad_steps = 3;
	open_rig(&r, &c, 20);
	open_rig(&twin, &c, 20);
	for (i = 0; i < 3; i++)
		assert_true(step(&r) == step(&twin));
	bad = *tiny_batch(3);
	memcpy(pixels, bad.images, sizeof pixels);
	pixels[17] = NAN;
	bad.images = pixels;
	for (i = 0; i < 2; i++) {
		must(wl_trainer_step(&r.t, &bad, &report, &err));
		assert_int_equal(report.verdict, WL_GUARD_NONFINITE);
	}
	same_floats(&r.t.params, &twin.t.params);
	assert_int_equal(r.t.moco.image_queue.next, twin.t.moco.image_queue.next);
	assert_int_equal(r.t.optim.updates, 3);
	for (i = 0; i < r.t.moco.momentum.floats; i++)
		assert_true(isfinite(r.t.moco.momentum.value[i]));
	step(&r);
	for (i = 0; i < 2; i++)
		must(wl_trainer_step(&r.t, &bad, &report, &err));
	assert_int_equal(wl_trainer_step(&r.t, &bad, &report, &err), -1);
	assert_int_equal(err.code, WL_ENUMERIC);
	tiny_rig_close(&r);
	tiny_rig_close(&twin);
}

/* Momentum update, both graphs, gradients, AdamW, queues, guard: all of a step. */
static void step_allocates_nothing(void **state)
{
	(void)state;
#ifdef COUNT_ALLOCATIONS
	struct wl_train_config c = tiny_config(1e-2);
	struct tiny_rig r;
	long before;
	int i;

	open_rig(&r, &c, 20);
	step(&r); /* OpenMP makes its threads */
	before = allocations;
	free(malloc(1));
	assert_int_equal(allocations, before + 1); /* the counter does count */
	for (i = 0; i < 5; i++)
		step(&r);
	assert_int_equal(allocations, before + 1);
	tiny_rig_close(&r);
#else
	puts("SKIPPED: allocations cannot be counted under a sanitizer or another C library");
	skip();
#endif
}

/* Recalls by hand: two pictures, three texts. */
static void retrieval_counts_any_hit(void **state)
{
	float images[] = {1, 0, 0, 1}, texts[] = {1, 0, 0.6f, 0.8f, 0.8f, 0.6f};
	int64_t text_image[] = {1, 1, 0};
	struct wl_embeddings v = {.dim = 2, .n_images = 2, .n_texts = 3, .images = images,
		.texts = texts, .text_image = text_image};
	json_t *r = wl_retrieval_json(&v, NULL, &err), *i2t = json_object_get(r, "i2t");
	json_t *t2i = json_object_get(r, "t2i");

	(void)state;
	/* picture 0: text 2 stands behind text 0: rank 2; picture 1: text 1 first: rank 1.
	 * texts: 0 wants picture 1: rank 2; 1: rank 1; 2: rank 1. */
	assert_true(json_number_value(json_object_get(i2t, "r1")) == 50);
	assert_true(json_number_value(json_object_get(i2t, "median_rank")) == 1.5);
	assert_true(json_number_value(json_object_get(i2t, "r5")) == 100);
	assert_true(fabs(json_number_value(json_object_get(t2i, "r1")) - 200.0 / 3) < 1e-9);
	assert_true(json_number_value(json_object_get(t2i, "median_rank")) == 1);
	json_decref(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loss_falls_and_pairs_are_found),
		cmocka_unit_test(other_losses_learn_too),
		cmocka_unit_test(temperature_moves_and_is_clamped),
		cmocka_unit_test(resumes_to_the_last_bit),
		cmocka_unit_test(resumes_with_every_saving),
		cmocka_unit_test(checkpoint_that_does_not_fit_is_refused),
		cmocka_unit_test(settings_out_of_bounds_are_named),
		cmocka_unit_test(memory_that_is_not_there_is_named),
		cmocka_unit_test(step_that_is_not_finite_changes_nothing),
		cmocka_unit_test(step_allocates_nothing),
		cmocka_unit_test(retrieval_counts_any_hit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
