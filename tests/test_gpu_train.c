/*
 * Training through the CUDA backend: the trainer and all that is under it, against the same on the
 * processor.  The kernels run emulated (tests/support/emulated.h), with the device's memory taken
 * away from the host between kernels, and several ranks meet through the emulation of NCCL; under
 * `make test-gpu` the first half runs on the GPU.
 */
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/tiny_rig.h"
#include "tests/support/wide_towers.h"
#include "train/checkpoint/ckpt.h"
#include "train/trainer.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The emulation's, absent where the backend is a GPU's or none was built. */
struct wl_backend *wl_backend_cuda_open(int device, struct wl_err *err) __attribute__((weak));
void emulated_apart(bool yes) __attribute__((weak));
void emulated_stuck(bool yes) __attribute__((weak));
int64_t emulated_replayed(void) __attribute__((weak));
int64_t emulated_parts(void) __attribute__((weak));
void emulated_nccl_fails(int code) __attribute__((weak));

enum { STEPS = 10, RANK_STEPS = 3 };

static struct wl_err err;

static struct wl_backend *open_device(bool gpu, struct wl_err *e)
{
	return gpu ? wl_backend_cuda_open(0, e) : wl_backend_cpu_open(1, e);
}

static bool have_device;

static void find_device(void)
{
	struct wl_backend *be = wl_backend_cuda_open ? wl_backend_cuda_open(0, &err) : NULL;

	have_device = be != NULL;
	wl_backend_close(be);
	if (have_device && emulated_apart)
		emulated_apart(true);
}

#define NEEDS_DEVICE                                                                               \
	do {                                                                                       \
		if (!have_device)                                                                  \
			SKIP("no CUDA backend in this build, or no GPU");                          \
	} while (0)

/* Loss, norm and tau of each step. */
struct course {
	double loss[2 * STEPS], norm[2 * STEPS], tau[2 * STEPS];
};

static void steps(struct tiny_rig *r, int n, struct course *to)
{
	for (int i = 0; i < n; i++) {
		struct wl_step_report report;
		int64_t s = r->t.step;

		OK(wl_trainer_step(&r->t, tiny_batch(s), &report, &err));
		assert_int_equal(report.verdict, WL_GUARD_OK);
		to->loss[s] = report.moco.loss;
		to->norm[s] = report.grad_norm;
		to->tau[s] = report.tau;
	}
}

static void run(const struct wl_train_config *c, bool gpu, int n, struct course *to)
{
	struct tiny_rig r;

	tiny_rig_open(&r, c, open_device(gpu, &err), 100);
	steps(&r, n, to);
	tiny_rig_close(&r);
}

/* Rounding, and what ten steps make of it. */
static void close_courses(const struct course *a, const struct course *b, int n, double bound)
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

static void ten_steps_are_the_processors(void **state)
{
	static struct course cpu, gpu;
	struct wl_train_config c;

	(void)state;
	NEEDS_DEVICE;
	for (int kind = 0; kind < 5; kind++) {
		c = tiny_config(2e-3);
		c.moco.in_batch = kind == 1;
		c.moco.accumulate = kind == 2 ? 2 : 1;
		c.optim_state = kind == 2 ? "bf16" : "fp32";
		c.moco.extra_positives = kind == 3 ? 2 : 0;
		c.objective = kind == 4 ? "clip" : "moco";
		OK(wl_train_config_check(&c, &err));
		run(&c, false, STEPS, &cpu);
		run(&c, true, STEPS, &gpu);
		close_courses(&cpu, &gpu, STEPS, kind == 2 ? 1e-3 : 1e-5);
	}
}

static void recorded_steps_are_the_same(void **state)
{
	static struct course plain, recorded;
	struct wl_train_config c = tiny_config(2e-3);
	int64_t before;

	(void)state;
	NEEDS_DEVICE;
	c.moco.record = false;
	run(&c, true, STEPS, &plain);
	c.moco.record = true;
	before = emulated_replayed ? emulated_replayed() : 0;
	run(&c, true, STEPS, &recorded);
	assert_memory_equal(&plain, &recorded, sizeof plain);
	if (emulated_replayed) /* three halves of two graphs, all steps but the first */
		assert_int_equal(emulated_replayed() - before, 3 * (STEPS - 1));
	c.moco.record = true; /* and once more, with CLIP, whose graphs bind other arrays */
	c.objective = "clip";
	c.moco.accumulate = 2;
	OK(wl_train_config_check(&c, &err));
	before = emulated_replayed ? emulated_replayed() : 0;
	run(&c, true, STEPS, &recorded);
	if (emulated_replayed) /* of a step: each part forward twice and back, the loss' halves */
		assert_int_equal(emulated_replayed() - before, 8 * STEPS - 4);
	c.moco.record = false;
	run(&c, true, STEPS, &plain);
	assert_memory_equal(&plain, &recorded, sizeof plain);
}

static void resumes_to_the_last_bit(void **state)
{
	static struct course straight, resumed;
	struct wl_train_config c = tiny_config(2e-3);
	char run_dir[] = "/tmp/wl-gpu-train-XXXXXX", *dir;
	struct tiny_rig r;
	json_t *found;

	(void)state;
	NEEDS_DEVICE;
	assert_non_null(mkdtemp(run_dir));
	run(&c, true, 2 * STEPS, &straight);
	tiny_rig_open(&r, &c, open_device(true, &err), 100);
	steps(&r, STEPS, &resumed);
	OK(wl_trainer_save(&r.t, run_dir, NULL, NULL, NULL, &err));
	tiny_rig_close(&r);
	tiny_rig_open(&r, &c, open_device(true, &err), 100);
	OK(wl_ckpt_load(run_dir, &dir, &found, &err));
	OK(wl_trainer_load(&r.t, dir, found, &err));
	json_decref(found);
	free(dir);
	steps(&r, STEPS, &resumed);
	tiny_rig_close(&r);
	assert_memory_equal(&straight, &resumed, sizeof straight);
	OK(wl_remove_tree(run_dir, &err));
}

/* --- queues in bf16 --- */

/* STEPS of them with one type of queue, then from their checkpoint as many with the other. */
static void change_queues(struct wl_train_config c, bool gpu, const char *from, const char *to,
	struct course *seen)
{
	char run_dir[] = "/tmp/wl-gpu-train-XXXXXX", *dir;
	struct tiny_rig r;
	json_t *found;

	assert_non_null(mkdtemp(run_dir));
	c.queue_type = from;
	tiny_rig_open(&r, &c, open_device(gpu, &err), 100);
	steps(&r, STEPS, seen);
	OK(wl_trainer_save(&r.t, run_dir, NULL, NULL, NULL, &err));
	tiny_rig_close(&r);
	c.queue_type = to;
	tiny_rig_open(&r, &c, open_device(gpu, &err), 100);
	OK(wl_ckpt_load(run_dir, &dir, &found, &err));
	OK(wl_trainer_load(&r.t, dir, found, &err));
	json_decref(found);
	free(dir);
	steps(&r, STEPS, seen);
	tiny_rig_close(&r);
	OK(wl_remove_tree(run_dir, &err));
}

/* Where products take bf16 the queue's type changes no bit, in a checkpoint's resume neither; in f32
 * keys are off by 2^-9 of each number, which logits of D of them are by less. */
static void queues_may_be_bf16(void **state)
{
	static struct course whole, half, changed;
	struct wl_train_config c = tiny_config(2e-3);

	(void)state;
	NEEDS_DEVICE;
	c.precision = "bf16";
	c.queue_type = "fp32";
	OK(wl_train_config_check(&c, &err));
	assert_int_equal(wl_train_queue_type(&c, true), WL_F32);
	run(&c, true, 2 * STEPS, &whole);
	c.queue_type = "auto";
	assert_int_equal(wl_train_queue_type(&c, true), WL_BF16);
	assert_int_equal(wl_train_queue_type(&c, false), WL_F32);
	run(&c, true, 2 * STEPS, &half);
	assert_memory_equal(&whole, &half, sizeof whole);
	change_queues(c, true, "fp32", "bf16", &changed);
	assert_memory_equal(&whole, &changed, sizeof whole);
	change_queues(c, true, "bf16", "fp32", &changed);
	assert_memory_equal(&whole, &changed, sizeof whole);
	c = tiny_config(2e-3);
	assert_int_equal(wl_train_queue_type(&c, true), WL_F32);
	run(&c, false, STEPS, &whole);
	c.queue_type = "bf16";
	run(&c, false, STEPS, &half);
	assert_memory_not_equal(&whole, &half, sizeof whole);
	close_courses(&whole, &half, STEPS, 2e-3);
	run(&c, true, STEPS, &changed);
	close_courses(&half, &changed, STEPS, 1e-5);
	change_queues(c, false, "bf16", "fp32", &changed);
	close_courses(&whole, &changed, STEPS, 2e-3);
}

/* What CUDA forbids while a stream is captured ends the recording with a sentence, and no more. */
static void a_recording_that_cannot_be(void **state)
{
	struct wl_backend *be;
	float from[64], back[64] = {0}, *on;

	(void)state;
	NEEDS_DEVICE;
	be = open_device(true, &err);
	assert_non_null(be);
	on = be->alloc(be, sizeof from, &err);
	assert_non_null(on);
	for (int i = 0; i < 64; i++)
		from[i] = (float)i;
	for (int what = 0; what < 3; what++) {
		struct wl_err why = {0};

		OK(be->record(be, 1, 1, &err));
		if (what == 0)
			be->upload(be, on, from, sizeof from); /* from memory that is not pinned */
		if (what == 1)
			(void)be->sync(be, &why);
		if (what == 2)
			be->free_mem(be, be->alloc(be, 64, &why));
		assert_null(be->recorded(be, &why));
		assert_non_null(strstr(why.msg, "capturing") ? why.msg : strstr(why.msg, "capture"));
	}
	be->upload(be, on, from, sizeof from);
	OK(be->sync(be, &err));
	be->download(be, back, on, sizeof back);
	assert_memory_equal(from, back, sizeof from);
	be->free_mem(be, on);
	wl_backend_close(be);
}

static int exchange(struct wl_wire *w, float *v, uint64_t *job)
{
	WL_TRY(w->begin(w, &err));
	WL_TRY(w->all_mean(w, v, 4, &err));
	WL_TRY(w->reduce_scatter(w, v, 4, true, &err));
	WL_TRY(w->all_gather(w, v, v, 4 * sizeof *v, &err));
	WL_TRY(w->end(w, job, &err));
	return w->wait(w, *job, &err);
}

/* One rank alone, on a GPU too: exchanges given and recorded, and the wire closed while there is
 * still a recording of them, which NCCL would wait for. */
static void a_wire_closes_before_its_recordings(void **state)
{
	float from[4] = {1, 2, 3, 4}, back[4] = {0}, *v;
	struct wl_backend *be;
	char id[WL_WIRE_ID];
	struct wl_wire *w;
	uint64_t job;
	void *r;

	(void)state;
	NEEDS_DEVICE;
	be = open_device(true, &err);
	assert_non_null(be);
	if (be->wire_id(be, id, &err) < 0) {
		wl_backend_close(be);
		SKIP("NCCL is not here");
	}
	w = be->wire(be, 0, 1, id, 60, &err);
	assert_non_null(w);
	v = be->alloc(be, sizeof from, &err);
	assert_non_null(v);
	be->upload(be, v, from, sizeof from);
	OK(exchange(w, v, &job));
	OK(be->sync(be, &err));
	OK(be->record(be, 1, 1, &err));
	w->recording(w, true);
	OK(exchange(w, v, &job));
	w->recording(w, false);
	r = be->recorded(be, &err);
	assert_non_null(r);
	for (int i = 0; i < 2; i++) {
		OK(be->replay(be, r, 1, (uint64_t)i, &err));
		OK(w->mark(w, &job, &err));
	}
	OK(be->sync(be, &err));
	be->download(be, back, v, sizeof back);
	assert_memory_equal(from, back, sizeof from);
	w->close(w);
	be->forget(be, r);
	be->free_mem(be, v);
	wl_backend_close(be);
}

/* --- ranks --- */

struct job {
	struct wl_train_config config;
	bool gpu;
	bool deep; /* a model of ten times the size */
	double planned; /* bytes of all ranks that lie in parts, by the plan */
	int64_t lies;	/* and in the device's memory */
	double whole;	/* the same arrays on one rank that keeps all */
	struct course course;
	uint64_t hash;
};

static int rank_steps(struct job *j, struct wl_trainer *t, struct wl_err *e)
{
	const struct tiny_course seen = {j->course.loss, j->course.norm, j->course.tau, RANK_STEPS};

	return tiny_rank_steps(t, RANK_STEPS, &seen, e);
}

/* A number that stands for all values of the store, the same on every rank. */
static int hash_values(struct job *j, struct wl_trainer *t, struct wl_err *e)
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
static int compare_parts(struct job *j, struct wl_trainer *t, struct wl_err *e)
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
	struct wide wide = {300, ((struct job *)user)->deep ? 20 : 5}; /* of buckets of 1 MiB */
	struct job *j = user;
	struct wl_towers towers;
	struct wl_trainer t;
	int world = wl_comm_size(comm), ret = -1;
	/* A GPU a rank. */
	struct wl_backend *be = j->gpu && comm ? wl_backend_cuda_open(wl_comm_rank(comm), e)
					       : open_device(j->gpu, e);
	struct wl_train_config c = j->config;
	struct wl_dist *dist = world > 1 ? wl_dist_open(comm, &c.dist, e) : NULL;

	wide_towers(&towers, &wide);
	towers.freeze = j->deep ? freeze_some : NULL;
	c.batch = TINY_BATCH / world;
	if (!be || (world > 1 && !dist) ||
		wl_trainer_init(&t, &c, &towers, be, dist, 100, TINY_PAIRS, e) < 0)
		return -1;
	if (towers.init(&t.params, towers.model, t.seed, e) == 0 &&
		(!dist || !j->gpu || !t.moco.key || compare_parts(j, &t, e) == 0)) {
		wl_trainer_start(&t);
		ret = rank_steps(j, &t, e);
	}
	if (ret == 0 && dist)
		ret = hash_values(j, &t, e);
	wl_dist_close(dist);
	wl_trainer_release(&t);
	wl_backend_close(be);
	return ret;
}

static void run_ranks(struct job *j, const struct wl_train_config *c, bool gpu, int ranks, int zero)
{
	j->lies = 0;
	j->config = *c;
	j->config.dist.zero = zero;
	j->config.dist.bucket_mb = 1;
	j->gpu = gpu;
	if (ranks == 1)
		OK(rank_main(NULL, j, &err));
	else
		OK(wl_comm_simulate(ranks, rank_main, j, &err));
}

static void memory_is_as_planned(const struct job *j, int zero)
{
	if ((double)j->lies != j->planned || (zero > 0) != (j->lies > 0))
		fail_msg("zero %d: %lld bytes lie in parts, planned %.0f", zero,
			(long long)j->lies, j->planned);
}

/* All stages give the same bits, and the processor's ranks the same course. */
static void ranks_meet_on_devices(void **state)
{
	static struct job cpu, first, other;
	struct wl_train_config c = tiny_config(2e-3);
	int64_t before;

	(void)state;
	NEEDS_DEVICE;
	if (!emulated_nccl_fails)
		SKIP("ranks as threads need the emulation of NCCL");
	for (int sync = 0; sync < 2; sync++) {
		c.dist.sync_bn = sync;
		c.moco.in_batch = sync;
		run_ranks(&cpu, &c, false, 2, 1);
		for (int zero = sync ? 0 : 2; zero <= 3; zero++) {
			/* Slow where memory lies in many parts, so once. */
			emulated_apart(sync && zero == 3);
			run_ranks(&other, &c, true, 2, zero);
			emulated_apart(false);
			if (zero == (sync ? 0 : 2))
				first = other;
			assert_memory_equal(&first.course, &other.course, sizeof first.course);
			assert_true(first.hash == other.hash);
			memory_is_as_planned(&other, zero);
		}
		close_courses(&cpu.course, &first.course, RANK_STEPS, 1e-5);
	}
	before = emulated_replayed();
	for (int zero = 0; zero <= 3; zero += 3) { /* and all were recorded, but these are not */
		c.moco.record = false;
		run_ranks(&other, &c, true, 2, zero);
		assert_memory_equal(&first.course, &other.course, sizeof first.course);
		assert_true(first.hash == other.hash);
		assert_int_equal(emulated_replayed(), before);
	}
	c.moco.record = true;
	run_ranks(&other, &c, true, 2, 3);
	/* Both graphs, on both ranks, but for the first step. */
	assert_int_equal(emulated_replayed() - before, 2 * 2 * (RANK_STEPS - 1));
	c.precision = "bf16"; /* copies of weights come and go with them */
	c.optim_state = "bf16";
	c.moco.accumulate = 2;
	c.dist.sync_bn = false;
	OK(wl_train_config_check(&c, &err));
	run_ranks(&first, &c, true, 2, 0);
	run_ranks(&other, &c, true, 2, 3);
	assert_memory_equal(&first.course, &other.course, sizeof first.course);
	assert_true(first.hash == other.hash);
	emulated_apart(true);
}

/* Steps in parts and CLIP's, whose forward and backward are apart: no gradients are kept whole for
 * them, all of it is recorded, and the bits are those of operations one by one. */
static void ranks_take_steps_in_parts(void **state)
{
	static struct job cpu, first, other;
	struct wl_train_config c = tiny_config(2e-3);

	(void)state;
	NEEDS_DEVICE;
	if (!emulated_nccl_fails)
		SKIP("ranks as threads need the emulation of NCCL");
	emulated_apart(false);
	for (int clip = 0; clip < 2; clip++) {
		c.objective = clip ? "clip" : "moco";
		c.moco.accumulate = clip ? 2 : 4;
		c.moco.record = false;
		OK(wl_train_config_check(&c, &err));
		run_ranks(&cpu, &c, false, 2, 2);
		run_ranks(&first, &c, true, 2, 1);
		close_courses(&cpu.course, &first.course, RANK_STEPS, 1e-5);
		c.moco.record = true;
		for (int zero = 0; zero <= 3; zero++) {
			int64_t before = emulated_replayed();

			run_ranks(&other, &c, true, 2, zero);
			assert_memory_equal(&first.course, &other.course, sizeof first.course);
			assert_true(first.hash == other.hash);
			if (!clip)
				memory_is_as_planned(&other, zero);
			/* Two graphs of four parts; or those of two parts forward twice and back,
			 * and the losses. */
			assert_int_equal(emulated_replayed() - before,
				2 * (clip ? 7 * RANK_STEPS - 3 : 8 * RANK_STEPS - 2));
		}
	}
	emulated_apart(true);
}

/* Weights, gradients, momentum weights and both moments, shared out: half of each, and the few
 * buckets that are here at a time. */
static void stage_3_frees_memory(void **state)
{
	static struct job whole, parts;
	struct wl_train_config c = tiny_config(2e-3);

	(void)state;
	NEEDS_DEVICE;
	if (!emulated_nccl_fails)
		SKIP("ranks as threads need the emulation of NCCL");
	emulated_apart(false);
	whole.deep = parts.deep = true;
	run_ranks(&whole, &c, true, 2, 0);
	run_ranks(&parts, &c, true, 2, 3);
	assert_memory_equal(&whole.course, &parts.course, sizeof whole.course);
	assert_true(whole.hash == parts.hash);
	memory_is_as_planned(&parts, 3);
	print_message("a rank of 2 keeps %.1f MiB of %.1f\n", (double)parts.lies / 2 / 1048576,
		parts.whole / 1048576);
	assert_true((double)parts.lies / 2 < 0.75 * parts.whole);
	emulated_apart(true);
}

static bool third_is_gone(const void *peers, int *rank)
{
	(void)peers;
	*rank = 3;
	return true;
}

/* The exit code of a process that waits for an exchange that goes wrong in this way; world: of
 * ranks that are to meet, of which only this one comes. */
static int lost(bool stuck, int code, bool gone, int world)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct wl_backend *be = wl_backend_cuda_open(0, NULL);
		char id[WL_WIRE_ID];
		struct wl_wire *w;
		uint64_t job;

		fclose(stderr);
		if (!be || be->wire_id(be, id, NULL) < 0 ||
			!(w = be->wire(be, 0, world, id, 0.3, NULL)))
			_exit(99);
		emulated_stuck(stuck);
		if (gone)
			w->watch(w, third_is_gone, NULL);
		emulated_nccl_fails(code);
		if (w->begin(w, NULL) < 0 || w->end(w, &job, NULL) < 0)
			_exit(98);
		sleep(2);
		_exit(97);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_lost_peer_ends_the_process(void **state)
{
	(void)state;
	NEEDS_DEVICE;
	if (!emulated_nccl_fails)
		SKIP("a peer is lost in the emulation only");
	assert_int_equal(lost(true, 0, false, 1), WL_ERETRY);
	assert_int_equal(lost(false, 6, false, 1), WL_ERETRY);
	assert_int_equal(lost(false, 0, true, 1), WL_ERETRY);
	assert_int_equal(lost(false, 0, false, 2), WL_ERETRY);
	assert_int_equal(lost(false, 0, false, 1), 97);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ten_steps_are_the_processors),
		cmocka_unit_test(recorded_steps_are_the_same),
		cmocka_unit_test(resumes_to_the_last_bit),
		cmocka_unit_test(a_recording_that_cannot_be),
		cmocka_unit_test(a_wire_closes_before_its_recordings),
		cmocka_unit_test(queues_may_be_bf16),
		cmocka_unit_test(ranks_meet_on_devices),
		cmocka_unit_test(ranks_take_steps_in_parts),
		cmocka_unit_test(stage_3_frees_memory),
		cmocka_unit_test(a_lost_peer_ends_the_process),
	};

	find_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
