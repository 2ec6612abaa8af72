#include "tests/support/tiny_rig.h"

#include "tests/support/cm.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void must(int result, const struct wl_err *err)
{
	if (result < 0)
		fail_msg("%s", err->msg);
}

struct wl_train_config tiny_config(double lr)
{
	struct wl_opt table[WL_TRAIN_OPTIONS];
	struct wl_train_config c;
	struct wl_err err = WL_ERR_INIT;

	wl_train_config_init(&c, table);
	c.batch = TINY_BATCH;
	c.moco.queue = 24;
	c.moco.momentum = 0.9;
	c.moco.tau = 0.1;
	c.schedule.lr = lr;
	c.schedule.warmup_steps = 5;
	must(wl_train_config_check(&c, &err), &err);
	return c;
}

void tiny_rig_open(struct tiny_rig *r, const struct wl_train_config *c, struct wl_backend *be,
	int64_t steps)
{
	struct wl_towers towers;
	struct wl_err err = WL_ERR_INIT;

	assert_non_null(be);
	tiny_towers(&towers);
	r->config = *c;
	r->be = be;
	must(wl_trainer_init(&r->t, &r->config, &towers, be, NULL, steps, TINY_PAIRS, &err), &err);
	must(towers.init(&r->t.params, NULL, r->t.seed, &err), &err);
	wl_trainer_start(&r->t);
}

void tiny_rig_close(struct tiny_rig *r)
{
	wl_trainer_release(&r->t);
	wl_backend_close(r->be);
}

/* Rows of a batch, in memory of the rank's. */
struct rows {
	float pixels[TINY_BATCH][TINY_PX * TINY_PX * 3], boxes[TINY_BATCH][TINY_REGIONS * 4];
	float mask[TINY_BATCH][TINY_REGIONS], text_mask[TINY_BATCH][TINY_LEN];
	int32_t ids[TINY_BATCH][TINY_LEN];
	int64_t pairs[TINY_BATCH];
	uint64_t hashes[TINY_BATCH];
};

static struct wl_moco_batch take_rows(struct rows *r, int64_t step, int rank, int world)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* tiny_batch has one batch */
	const struct wl_moco_batch *b;
	int n = 0;

	pthread_mutex_lock(&lock);
	b = tiny_batch(step);
	for (int i = rank; i < TINY_BATCH; i += world, n++) {
		memcpy(r->pixels[n], b->images + i * TINY_PX * TINY_PX * 3, sizeof r->pixels[0]);
		memcpy(r->boxes[n], b->boxes + i * TINY_REGIONS * 4, sizeof r->boxes[0]);
		memcpy(r->mask[n], b->region_mask + i * TINY_REGIONS, sizeof r->mask[0]);
		memcpy(r->text_mask[n], b->text_mask + i * TINY_LEN, sizeof r->text_mask[0]);
		memcpy(r->ids[n], b->ids + i * TINY_LEN, sizeof r->ids[0]);
		r->pairs[n] = b->pair_ids[i];
		r->hashes[n] = b->text_hash[i];
	}
	pthread_mutex_unlock(&lock);
	return (struct wl_moco_batch){r->pixels[0], r->boxes[0], r->mask[0], r->ids[0],
		r->text_mask[0], r->pairs, r->hashes};
}

int tiny_rank_steps(struct wl_trainer *t, int64_t steps, const struct tiny_course *seen,
	struct wl_err *err)
{
	int rank = wl_dist_rank(t->dist), world = wl_dist_world(t->dist);
	struct rows *rows = calloc(1, sizeof *rows);
	struct wl_step_report r;

	if (!rows)
		return wl_err_nomem(err, "a rank's rows", sizeof *rows);
	while (t->step < steps) {
		struct wl_moco_batch b = take_rows(rows, t->step, rank, world);

		if (wl_trainer_step(t, &b, &r, err) < 0) {
			free(rows);
			return -1;
		}
		if (rank || t->step > seen->most)
			continue;
		seen->loss[t->step - 1] = r.moco.loss;
		seen->norm[t->step - 1] = r.grad_norm;
		seen->tau[t->step - 1] = r.tau;
	}
	free(rows);
	return 0;
}

uint64_t tiny_hash(const float *v, int64_t n)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (int64_t i = 0; i < n; i++) {
		uint32_t bits;

		memcpy(&bits, v + i, sizeof bits);
		h = (h ^ bits) * 0x100000001b3u;
	}
	return h;
}
