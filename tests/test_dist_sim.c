/*
 * Training on simulated ranks (threads of this process) over a model of several buckets: all
 * stages give the same bits, one rank with the whole batch the same losses, each rank keeps the
 * memory that the plan says, and delays, lost messages and killed ranks end as they should.
 */
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/tiny_rig.h"
#include "tests/support/wide_towers.h"
#include "train/checkpoint/ckpt.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { STEPS = 4, MAX_RANKS = 4 };

static const struct wide wide = {512, 5}; /* 1.3 M floats, 6 buckets of 1 MiB */

static _Thread_local struct wl_err err; /* ranks are threads */

/* --- one rank --- */

struct job {
	struct wl_train_config config;
	int64_t steps;
	const char *run; /* a checkpoint is read from there first */
	bool save;	 /* and one written there at the end */
	/* what rank 0 saw, and all ranks' memory */
	double loss[STEPS], norm[STEPS], tau[STEPS];
	uint64_t hash;
	double resident[MAX_RANKS][5]; /* weights, gradients, m, v, momentum */
	double between[MAX_RANKS]; /* gradients between two parts of a step */
	int64_t weights;
};

/* Bytes of an array that are in memory. */
static double resident(const void *p, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n = (bytes + page - 1) / page, here = 0;
	unsigned char *v = malloc(n + 1);

	if (mincore((void *)(uintptr_t)p, bytes, v) == 0)
		for (size_t i = 0; i < n; i++)
			here += v[i] & 1;
	free(v);
	return (double)(here * page);
}

static void note_memory(struct job *j, struct wl_trainer *t, int rank)
{
	size_t bytes = (size_t)t->params.weights * sizeof(float);
	const void *arrays[5] = {t->params.value, t->params.grad, t->optim.m, t->optim.v,
		t->moco.momentum.value};

	for (int i = 0; i < 5; i++)
		j->resident[rank][i] = arrays[i] ? resident(arrays[i], bytes) : 0;
}

/* What the present thread's rank looks at between two parts: when the second's pictures come. */
static _Thread_local struct {
	struct job *job;
	struct wl_trainer *t;
	void (*send)(struct wl_backend *be, void *dst, const void *src, size_t bytes);
	int pictures;
} watched;

static void send_watched(struct wl_backend *be, void *dst, const void *src, size_t bytes)
{
	struct wl_trainer *t = watched.t;

	watched.send(be, dst, src, bytes);
	if (dst != wl_graph_data(t->moco.query, t->moco.images) || watched.pictures++ % 2 == 0)
		return;
	OK(wl_comm_barrier(wl_dist_comm(t->dist), &err)); /* behind the reductions */
	watched.job->between[wl_dist_rank(t->dist)] =
		resident(t->params.grad, (size_t)t->params.weights * sizeof(float));
}

static void watch_parts(struct job *j, struct wl_trainer *t)
{
	watched.job = j;
	watched.t = t;
	watched.send = t->backend->send;
	watched.pictures = 0;
	t->backend->send = send_watched;
}

static int steps(struct job *j, struct wl_trainer *t, struct wl_err *e)
{
	const struct tiny_course seen = {j->loss, j->norm, j->tau, STEPS};

	return tiny_rank_steps(t, j->steps, &seen, e);
}

static int finish(struct job *j, struct wl_trainer *t, struct wl_err *e)
{
	size_t floats = (size_t)t->params.floats;
	int rank = wl_dist_rank(t->dist);
	float *whole = malloc(floats * sizeof *whole);
	int ret = 0;

	if (t->dist) {
		ret = wl_comm_barrier(wl_dist_comm(t->dist), e);
		note_memory(j, t, rank);
		if (rank == 0)
			j->weights = t->params.weights;
	}
	if (ret == 0 && t->dist && t->moco.key)
		ret = wl_dist_collect(t->dist, &t->moco.momentum, rank ? NULL : whole, e);
	if (ret == 0 && t->dist)
		ret = wl_dist_collect(t->dist, &t->params, rank ? NULL : whole, e);
	if (ret == 0 && t->dist && rank == 0)
		j->hash = tiny_hash(whole, t->params.floats);
	free(whole);
	return ret;
}

/* Continues from the checkpoint in j->run, where there is one. */
static int resume(struct job *j, struct wl_trainer *t, struct wl_err *e)
{
	int64_t newest = wl_ckpt_newest(j->run, e);
	char dir[4096];
	json_t *state;
	int ret;

	if (newest < 0)
		return newest == -1 ? 0 : -1;
	snprintf(dir, sizeof dir, "%s/ckpt-%08lld", j->run, (long long)newest);
	state = wl_ckpt_state(dir, e);
	ret = state ? wl_trainer_load(t, dir, state, e) : -1;
	json_decref(state);
	return ret;
}

static int rank_main(struct wl_comm *comm, void *user, struct wl_err *e)
{
	struct job *j = user;
	struct wl_towers towers;
	struct wl_trainer t;
	struct wl_dist *dist = NULL;
	struct wl_backend *be = wl_backend_cpu_open(1, e);
	int world = wl_comm_size(comm), ret = -1;
	struct wl_train_config c = j->config;

	wide_towers(&towers, &wide);
	c.batch = TINY_BATCH / world;
	if (world > 1)
		dist = wl_dist_open(comm, &c.dist, e);
	if (!be || (world > 1 && !dist))
		return -1;
	if (wl_trainer_init(&t, &c, &towers, be, dist, 100, TINY_PAIRS, e) < 0)
		return -1;
	if (towers.init(&t.params, towers.model, t.seed, e) == 0) {
		wl_trainer_start(&t);
		ret = j->run ? resume(j, &t, e) : 0;
	}
	if (dist && c.moco.accumulate == 2)
		watch_parts(j, &t);
	if (ret == 0)
		ret = steps(j, &t, e);
	if (ret == 0 && j->save)
		ret = wl_trainer_save(&t, j->run, NULL, NULL, NULL, e);
	if (ret == 0)
		ret = finish(j, &t, e);
	wl_dist_close(dist);
	wl_trainer_release(&t);
	wl_backend_close(be);
	return ret;
}

static void prepare(struct job *j, int zero)
{
	struct wl_opt table[WL_TRAIN_OPTIONS];

	memset(j, 0, sizeof *j);
	wl_train_config_init(&j->config, table);
	j->config.moco.queue = 24;
	j->config.schedule.lr = 1e-3;
	j->config.schedule.warmup_steps = 1;
	j->config.dist.zero = zero;
	j->config.dist.bucket_mb = 1;
	j->config.dist.sync_bn = true;
	j->steps = STEPS;
	OK(wl_train_config_check(&j->config, &err));
}

static void run(struct job *j, int ranks)
{
	if (ranks == 1)
		OK(rank_main(NULL, j, &err));
	else
		OK(wl_comm_simulate(ranks, rank_main, j, &err));
}

/* The plain run at a stage on 2 or 4 ranks, which several tests look at. */
static const struct job *plain_job(int ranks, int zero)
{
	static struct job jobs[2][4];
	struct job *j = &jobs[ranks == 4][zero];

	if (!j->steps) {
		prepare(j, zero);
		run(j, ranks);
	}
	return j;
}

static void same_bits(const struct job *a, const struct job *b)
{
	assert_memory_equal(a->loss, b->loss, sizeof a->loss);
	assert_memory_equal(a->norm, b->norm, sizeof a->norm);
	assert_memory_equal(a->tau, b->tau, sizeof a->tau);
	assert_true(a->hash == b->hash);
}

/* --- tests --- */

static void stages_and_ranks_agree(void **state)
{
	static struct job one;

	(void)state;
	prepare(&one, 0);
	run(&one, 1);
	for (int ranks = 2; ranks <= MAX_RANKS; ranks += 2) {
		const struct job *first = plain_job(ranks, 0);

		for (int zero = 1; zero <= 3; zero++)
			same_bits(first, plain_job(ranks, zero));
		for (int s = 0; s < STEPS; s++) {
			assert_true(fabs(one.loss[s] - first->loss[s]) < 1e-4 * one.loss[s]);
			assert_true(fabs(one.norm[s] - first->norm[s]) < 1e-3 * one.norm[s]);
		}
	}
}

/* A step in parts: the same rules, with no gradients kept whole at stages 2 and 3. */
static void parts_agree(void **state)
{
	static struct job one, first, other, once;

	(void)state;
	for (int clip = 0; clip < 2; clip++) {
		prepare(&one, 0);
		one.config.moco.accumulate = 2;
		one.config.objective = clip ? "clip" : "moco";
		OK(wl_train_config_check(&one.config, &err));
		for (int zero = 0; zero <= 3; zero++) {
			other = one;
			other.config.dist.zero = zero;
			run(&other, 2);
			if (zero == 0)
				first = other;
			same_bits(&first, &other);
#if !defined(__SANITIZE_ADDRESS__)
			for (int r = 0; r < 2; r++) {
				double all = (double)other.weights * sizeof(float);
				double want = zero >= 2 ? all / 2 : all;

				if (fabs(other.between[r] - want) > 0.03 * want + 32768)
					fail_msg("zero %d, rank %d: %.0f bytes of gradients lie "
						"between two parts, expected %.0f", zero, r,
						other.between[r], want);
			}
#endif
		}
		once = one;
		once.config.dist.each_part = false;
		run(&once, 2);
		run(&one, 1);
		for (int s = 0; s < STEPS; s++) {
			assert_true(fabs(one.loss[s] - first.loss[s]) < 1e-4 * one.loss[s]);
			assert_true(fabs(one.norm[s] - first.norm[s]) < 1e-3 * one.norm[s]);
			assert_true(fabs(once.loss[s] - first.loss[s]) < 1e-4 * one.loss[s]);
			assert_true(fabs(once.norm[s] - first.norm[s]) < 1e-3 * one.norm[s]);
		}
	}
}

/* With in_batch the keys of all ranks are negatives. */
static void in_batch_negatives_are_all_ranks(void **state)
{
	static struct job one, two;

	(void)state;
	prepare(&one, 0);
	one.config.moco.in_batch = true;
	run(&one, 1);
	for (int ranks = 2; ranks <= MAX_RANKS; ranks += 2) {
		prepare(&two, 2);
		two.config.moco.in_batch = true;
		run(&two, ranks);
		for (int s = 0; s < STEPS; s++)
			assert_true(fabs(one.loss[s] - two.loss[s]) < 1e-4 * one.loss[s]);
	}
}

/* A run that stops after half of its steps and goes on at another stage: the losses, and at the end
 * every weight, momentum weight and so moment, are those of a run that never stopped. */
static void stages_go_on_from_each_other(void **state)
{
	static struct job half;

	(void)state;
	for (int from = 0; from <= 3; from++) {
		char dir[] = "/tmp/wl-stages-XXXXXX";

		assert_non_null(mkdtemp(dir));
		prepare(&half, from);
		half.run = dir;
		half.save = true;
		half.steps = STEPS / 2;
		run(&half, 2);
		half.save = false;
		half.steps = STEPS;
		for (int to = 0; to <= 3; to++) {
			half.config.dist.zero = to;
			for (int s = STEPS / 2; s < STEPS; s++)
				half.loss[s] = half.norm[s] = half.tau[s] = 0;
			half.hash = 0;
			run(&half, 2);
			if (half.hash != plain_job(2, 1)->hash)
				fail_msg("stage %d to %d: the weights differ", from, to);
			same_bits(plain_job(2, 1), &half);
		}
		OK(wl_remove_tree(dir, &err));
	}
}

/* fp16 with a scale that overflows at first: all ranks halve it together at every stage. */
static void loss_scale_is_the_same_everywhere(void **state)
{
	static struct job first, other;

	(void)state;
	for (int zero = 0; zero <= 3; zero++) {
		prepare(&other, zero);
		other.config.precision = "fp16";
		other.config.loss_scale = 0x1p100;
		other.config.loss_scale_interval = 100;
		OK(wl_train_config_check(&other.config, &err));
		run(&other, 3);
		if (zero == 0)
			first = other;
		assert_false(isfinite(other.norm[0]));
		assert_true(isfinite(other.loss[0]));
		assert_memory_equal(first.loss, other.loss, sizeof first.loss);
		assert_true(first.hash == other.hash);
		other.config.loss_scale = 16;
		run(&other, 3);
		assert_true(isfinite(other.norm[0]) && isfinite(other.norm[STEPS - 1]));
	}
}

/* CLIP over the embeddings of all ranks. */
static void clip_agrees(void **state)
{
	static struct job one, two;

	(void)state;
	prepare(&one, 0);
	one.config.objective = "clip";
	OK(wl_train_config_check(&one.config, &err));
	two = one;
	run(&one, 1);
	for (int zero = 0; zero <= 3; zero += 3) {
		two.config.dist.zero = zero;
		two.steps = STEPS;
		/* no momentum store to collect: losses say enough */
		two.hash = 0;
		OK(wl_comm_simulate(2, rank_main, &two, &err));
		for (int s = 0; s < STEPS; s++) {
			assert_true(fabs(one.loss[s] - two.loss[s]) < 1e-4 * one.loss[s]);
			assert_true(fabs(one.norm[s] - two.norm[s]) < 1e-3 * one.norm[s]);
		}
	}
}

/* What each class takes, by page, against the plan of --dry-run. */
static void memory_is_as_planned(void **state)
{
#if defined(__SANITIZE_ADDRESS__)
	(void)state;
	SKIP("the sanitizer's memory is not given back page by page");
#else
	static const char *const names[5] = {"weights", "gradients", "m", "v", "momentum"};

	(void)state;
	for (int ranks = 2; ranks <= MAX_RANKS; ranks += 2)
		for (int zero = 0; zero <= 3; zero++) {
			const struct job *j = plain_job(ranks, zero);
			struct wl_dist_plan plan;
			double want[5];

			wl_dist_plan(&j->config.dist, ranks, j->config.moco.accumulate, j->weights,
				j->weights, 8, &plan);
			want[0] = plan.weights;
			want[1] = plan.gradients;
			want[2] = want[3] = plan.adam / 2;
			want[4] = plan.momentum;
			for (int r = 0; r < ranks; r++)
				for (int i = 0; i < 5; i++)
					if (fabs(j->resident[r][i] - want[i]) >
						0.03 * want[i] + 32768)
						fail_msg("zero %d, rank %d of %d, %s: %.0f bytes, "
							"planned %.0f", zero, r, ranks, names[i],
							j->resident[r][i], want[i]);
			print_message("zero %d, %d ranks: %.2f MiB a rank (weights %.2f, gradients "
				"%.2f, Adam %.2f, momentum %.2f)\n", zero, ranks,
				(j->resident[0][0] + j->resident[0][1] + j->resident[0][2] +
					j->resident[0][3] + j->resident[0][4]) / 1048576,
				j->resident[0][0] / 1048576, j->resident[0][1] / 1048576,
				(j->resident[0][2] + j->resident[0][3]) / 1048576,
				j->resident[0][4] / 1048576);
		}
#endif
}

static void delays_change_nothing(void **state)
{
	struct wl_comm_faults late = {.delay_us = 300, .kill_rank = -1, .drop_rank = -1,
		.timeout_s = 600};
	static struct job plain, delayed;

	(void)state;
	prepare(&plain, 3);
	run(&plain, 3);
	for (late.seed = 1; late.seed <= 2; late.seed++) {
		prepare(&delayed, 3);
		OK(wl_comm_simulate_faults(3, rank_main, &delayed, &late, &err));
		assert_memory_equal(plain.loss, delayed.loss, sizeof plain.loss);
		assert_true(plain.hash == delayed.hash);
	}
}

/* Whichever rank dies, at whichever exchange: the others end by the limit, an hour here, which the
 * simulator does not wait for when only a clock could end the wait. */
static void lost_ranks_end_the_run(void **state)
{
	struct wl_comm_faults f = {.drop_rank = -1, .timeout_s = 3600};
	static struct job j;

	(void)state;
	for (int i = 0; i < 5; i++) {
		f.kill_rank = i % 3;
		f.kill_at = 3 + 37 * i;
		prepare(&j, i % 4);
		j.steps = 1000;
		FAILS(WL_EFAIL, "is killed in exchange",
			wl_comm_simulate_faults(3, rank_main, &j, &f, &err));
	}
	f.kill_rank = -1;
	for (int i = 0; i < 2; i++) { /* a message that never arrives */
		f.drop_rank = i % 3;
		f.drop_at = 10 + 50 * i;
		prepare(&j, i % 4);
		j.steps = 1000;
		FAILS(WL_ERETRY, "rank", wl_comm_simulate_faults(3, rank_main, &j, &f, &err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stages_and_ranks_agree),
		cmocka_unit_test(parts_agree),
		cmocka_unit_test(in_batch_negatives_are_all_ranks),
		cmocka_unit_test(stages_go_on_from_each_other),
		cmocka_unit_test(loss_scale_is_the_same_everywhere),
		cmocka_unit_test(clip_agrees),
		cmocka_unit_test(memory_is_as_planned),
		cmocka_unit_test(delays_change_nothing),
		cmocka_unit_test(lost_ranks_end_the_run),
	};

	/* Memory is counted by page: where all of it comes in huge ones, a share would not show. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
