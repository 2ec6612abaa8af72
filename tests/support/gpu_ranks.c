/* See gpu_ranks.h. */
#include "tests/support/gpu_ranks.h"

#include "tests/support/cm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static int rank_steps(struct gpu_ranks *j, struct wl_trainer *t, struct wl_err *e)
{
	const struct tiny_course seen = {
		j->course.loss, j->course.norm, j->course.tau, COURSE_STEPS};

	return tiny_rank_steps(t, j->steps, &seen, e);
}

/* A number that stands for all values of the store, the same on every rank. */
static int hash_values(struct gpu_ranks *j, struct wl_trainer *t, struct wl_err *e)
{
	float *whole = malloc((size_t)t->params.floats * sizeof *whole);
	int rank = wl_dist_rank(t->dist), ret;

	ret = wl_dist_collect(t->dist, &t->params, rank ? NULL : whole, e);
	if (ret == 0 && rank == 0)
		j->hash = tiny_hash(whole, t->params.floats);
	free(whole);
	return ret;
}

/* All ranks' memory in parts and what --dry-run would say of it. */
static int compare_parts(struct gpu_ranks *j, struct wl_trainer *t, struct wl_err *e)
{
	struct wl_moco *m = &t->moco;
	const struct wl_dist_planned graphs[] = {{m->key, false, false}, {m->query, true, true}};
	int world = wl_dist_world(t->dist);
	struct wl_dist_plan plan;

	WL_TRY(wl_dist_plan_parts(&t->config->dist, world, t->backend->part_bytes, graphs, 2,
		&t->params, &m->momentum, m->config.accumulate,
		2.0 * (double)wl_dtype_bytes(t->config->optim.state), &plan, e));
	WL_TRY(wl_comm_barrier(wl_dist_comm(t->dist), e));
	if (wl_dist_rank(t->dist) == 0) {
		j->lies = emulated_parts();
		j->planned = plan.parts * world;
		j->whole = 5.0 * sizeof(float) * (double)t->params.floats;
	}
	return wl_comm_barrier(wl_dist_comm(t->dist), e);
}

/* Buckets that nothing trains are among the gradients too. */
static int freeze_some(struct wl_params *p, const void *model, struct wl_err *e)
{
	(void)model;
	(void)e;
	for (int i = p->n / 4; i < p->n / 2; i++)
		p->item[i].flags &= ~(unsigned)WL_PARAM_TRAINABLE;
	return 0;
}

static int rank_main(struct wl_comm *comm, void *user, struct wl_err *e)
{
	struct gpu_ranks *j = user;
	struct wl_towers towers;
	struct wl_trainer t;
	/* A GPU a rank. */
	struct wl_backend *be = j->gpu ? wl_backend_cuda_open(wl_comm_rank(comm), e)
				       : wl_backend_cpu_open(1, e);
	struct wl_train_config c = j->config;
	struct wl_dist *dist = wl_dist_open(comm, &c.dist, e);
	int ret = -1;

	if (j->wide)
		wide_towers(&towers, j->wide);
	else
		tiny_towers(&towers);
	towers.freeze = j->frozen ? freeze_some : NULL;
	c.batch = TINY_BATCH / wl_comm_size(comm);
	if (!be || !dist ||
		wl_trainer_init(&t, &c, &towers, be, dist, 100, TINY_PAIRS, e) < 0)
		return -1;
	if (towers.init(&t.params, towers.model, t.seed, e) == 0 &&
		(!j->gpu || !t.moco.key || compare_parts(j, &t, e) == 0)) {
		wl_trainer_start(&t);
		ret = rank_steps(j, &t, e);
	}
	if (ret == 0)
		ret = hash_values(j, &t, e);
	wl_dist_close(dist);
	wl_trainer_release(&t);
	wl_backend_close(be);
	return ret;
}

void gpu_ranks_run(struct gpu_ranks *j, int ranks, int zero)
{
	j->course = (struct course_numbers){0};
	j->hash = 0;
	j->lies = 0;
	j->config.dist.zero = zero;
	j->config.dist.bucket_mb = 1;
	OK(wl_comm_simulate(ranks, rank_main, j, &err));
}

void course_numbers_close(const struct course_numbers *a, const struct course_numbers *b, int n,
	double bound)
{
	for (int s = 0; s < n; s++) {
		double loss = fabs(a->loss[s] - b->loss[s]) / fabs(a->loss[s]);
		double norm = fabs(a->norm[s] - b->norm[s]) / fabs(a->norm[s]);

		if (!(loss < bound && norm < 10 * bound && fabs(a->tau[s] - b->tau[s]) < bound))
			fail_msg("step %d: loss %.9g and %.9g, norm %.9g and %.9g, tau %.9g and "
				"%.9g",
				s, a->loss[s], b->loss[s], a->norm[s], b->norm[s], a->tau[s],
				b->tau[s]);
	}
}
