/*
 * Training through the CUDA backend: the trainer and all that is under it, against the same on the
 * processor.  The kernels run emulated (tests/support/emulated.h), with the device's memory taken
 * away from the host between kernels, and several ranks meet through the emulation of NCCL; under
 * `make test-gpu` the first half runs on the GPU.
 */
#include "ops/file.h"
#include "tests/preload/fast_clock.h"
#include "tests/support/cm.h"
#include "tests/support/gpu_ranks.h"
#include "train/checkpoint/ckpt.h"
#include "train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 10, RANK_STEPS = 3 };

static struct wl_err err;

static void steps(struct tiny_rig *r, int n, struct course_numbers *to)
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

static void run(const struct wl_train_config *c, bool gpu, int n, struct course_numbers *to)
{
	struct tiny_rig r;

	tiny_rig_open(&r, c, course_device(gpu), 100);
	steps(&r, n, to);
	tiny_rig_close(&r);
}

static void ten_steps_are_the_processors(void **state)
{
	static struct course_numbers cpu, gpu;
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
		course_numbers_close(&cpu, &gpu, STEPS, kind == 2 ? 1e-3 : 1e-5);
	}
}

static void recorded_steps_are_the_same(void **state)
{
	static struct course_numbers plain, recorded;
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
	static struct course_numbers straight, resumed;
	struct wl_train_config c = tiny_config(2e-3);
	char run_dir[] = "/tmp/wl-gpu-train-XXXXXX", *dir;
	struct tiny_rig r;
	json_t *found;

	(void)state;
	NEEDS_DEVICE;
	assert_non_null(mkdtemp(run_dir));
	run(&c, true, 2 * STEPS, &straight);
	tiny_rig_open(&r, &c, course_device(true), 100);
	steps(&r, STEPS, &resumed);
	OK(wl_trainer_save(&r.t, run_dir, NULL, NULL, NULL, &err));
	tiny_rig_close(&r);
	tiny_rig_open(&r, &c, course_device(true), 100);
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
	struct course_numbers *seen)
{
	char run_dir[] = "/tmp/wl-gpu-train-XXXXXX", *dir;
	struct tiny_rig r;
	json_t *found;

	assert_non_null(mkdtemp(run_dir));
	c.queue_type = from;
	tiny_rig_open(&r, &c, course_device(gpu), 100);
	steps(&r, STEPS, seen);
	OK(wl_trainer_save(&r.t, run_dir, NULL, NULL, NULL, &err));
	tiny_rig_close(&r);
	c.queue_type = to;
	tiny_rig_open(&r, &c, course_device(gpu), 100);
	OK(wl_ckpt_load(run_dir, &dir, &found, &err));
	OK(wl_trainer_load(&r.t, dir, found, &err));
	json_decref(found);
	free(dir);
	steps(&r, STEPS, seen);
	tiny_rig_close(&r);
	OK(wl_remove_tree(run_dir, &err));
}

/* Where products take bf16 the queue's type changes no bit, in a checkpoint's resume neither; in
 * f32 keys are off by 2^-9 of each number, which logits of D of them are by less. */
static void queues_may_be_bf16(void **state)
{
	static struct course_numbers whole, half, changed;
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
	course_numbers_close(&whole, &half, STEPS, 2e-3);
	run(&c, true, STEPS, &changed);
	course_numbers_close(&half, &changed, STEPS, 1e-5);
	change_queues(c, false, "bf16", "fp32", &changed);
	course_numbers_close(&whole, &changed, STEPS, 2e-3);
}

/* What CUDA forbids while a stream is captured ends the recording with a sentence, and no more. */
static void a_recording_that_cannot_be(void **state)
{
	struct wl_backend *be;
	float from[64], back[64] = {0}, *on;

	(void)state;
	NEEDS_DEVICE;
	be = course_device(true);
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
		assert_non_null(strstr(why.msg, "captur"));
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
	be = course_device(true);
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

static const struct wide five = {300, 5}, deep = {300, 20};

/* Two ranks at a stage, each with a GPU, or on the processor. */
static void run_ranks(struct gpu_ranks *j, const struct wl_train_config *c, bool gpu, int zero)
{
	j->config = *c;
	j->gpu = gpu;
	j->wide = j->wide ? j->wide : &five;
	j->steps = RANK_STEPS;
	gpu_ranks_run(j, 2, zero);
}

/* To the last bit. */
static void same_ranks(const struct gpu_ranks *a, const struct gpu_ranks *b)
{
	assert_memory_equal(&a->course, &b->course, sizeof a->course);
	assert_true(a->hash == b->hash);
}

static void memory_is_as_planned(const struct gpu_ranks *j, int zero)
{
	if ((double)j->lies != j->planned || (zero > 0) != (j->lies > 0))
		fail_msg("zero %d: %lld bytes lie in parts, planned %.0f", zero,
			(long long)j->lies, j->planned);
}

/* All stages give the same bits, and the processor's ranks the same course. */
static void ranks_meet_on_devices(void **state)
{
	static struct gpu_ranks cpu, first, other;
	struct wl_train_config c = tiny_config(2e-3);
	int64_t before;

	(void)state;
	NEEDS_RANKS;
	for (int sync = 0; sync < 2; sync++) {
		c.dist.sync_bn = sync;
		c.moco.in_batch = sync;
		run_ranks(&cpu, &c, false, 1);
		for (int zero = sync ? 0 : 2; zero <= 3; zero++) {
			emulated_apart(sync && zero == 3);
			run_ranks(&other, &c, true, zero);
			emulated_apart(false);
			if (zero == (sync ? 0 : 2))
				first = other;
			same_ranks(&first, &other);
			memory_is_as_planned(&other, zero);
		}
		course_numbers_close(&cpu.course, &first.course, RANK_STEPS, 1e-5);
	}
	before = emulated_replayed();
	for (int zero = 0; zero <= 3; zero += 3) { /* and all were recorded, but these are not */
		c.moco.record = false;
		run_ranks(&other, &c, true, zero);
		same_ranks(&first, &other);
		assert_int_equal(emulated_replayed(), before);
	}
	c.moco.record = true;
	run_ranks(&other, &c, true, 3);
	/* Both graphs, on both ranks, but for the first step. */
	assert_int_equal(emulated_replayed() - before, 2 * 2 * (RANK_STEPS - 1));
	c.precision = "bf16"; /* copies of weights come and go with them */
	c.optim_state = "bf16";
	c.moco.accumulate = 2;
	c.dist.sync_bn = false;
	OK(wl_train_config_check(&c, &err));
	run_ranks(&first, &c, true, 0);
	run_ranks(&other, &c, true, 3);
	same_ranks(&first, &other);
}

/* Steps in parts and CLIP's, whose forward and backward are apart: no gradients are kept whole for
 * them, all of it is recorded, and the bits are those of operations one by one. */
static void ranks_take_steps_in_parts(void **state)
{
	static struct gpu_ranks cpu, first, other;
	struct wl_train_config c = tiny_config(2e-3);

	(void)state;
	NEEDS_RANKS;
	for (int clip = 0; clip < 2; clip++) {
		c.objective = clip ? "clip" : "moco";
		c.moco.accumulate = clip ? 2 : 4;
		c.moco.record = false;
		OK(wl_train_config_check(&c, &err));
		run_ranks(&cpu, &c, false, 2);
		run_ranks(&first, &c, true, 1);
		course_numbers_close(&cpu.course, &first.course, RANK_STEPS, 1e-5);
		c.moco.record = true;
		for (int zero = 0; zero <= 3; zero++) {
			int64_t before = emulated_replayed();

			run_ranks(&other, &c, true, zero);
			same_ranks(&first, &other);
			if (!clip)
				memory_is_as_planned(&other, zero);
			/* Two graphs of four parts; or those of two parts forward twice and back,
			 * and the losses. */
			assert_int_equal(emulated_replayed() - before,
				2 * (clip ? 7 * RANK_STEPS - 3 : 8 * RANK_STEPS - 2));
		}
	}
}

/* Weights, gradients, momentum weights and both moments, shared out: half of each, and the few
 * buckets that are here at a time. */
static void stage_3_frees_memory(void **state)
{
	static struct gpu_ranks whole, parts;
	struct wl_train_config c = tiny_config(2e-3);

	(void)state;
	NEEDS_RANKS;
	whole.wide = parts.wide = &deep;
	whole.frozen = parts.frozen = true;
	run_ranks(&whole, &c, true, 0);
	run_ranks(&parts, &c, true, 3);
	same_ranks(&whole, &parts);
	memory_is_as_planned(&parts, 3);
	print_message("a rank of 2 keeps %.1f MiB of %.1f\n", (double)parts.lies / 2 / 1048576,
		parts.whole / 1048576);
	assert_true((double)parts.lies / 2 < 0.75 * parts.whole);
}

static bool third_is_gone(const void *peers, int *rank)
{
	(void)peers;
	*rank = 3;
	return true;
}

/* How an exchange goes wrong, and what the process that waits for it says. */
struct loss {
	bool stuck; /* nothing that is given is ever done */
	int code;   /* NCCL's */
	bool gone;  /* hosts have lost each other */
	int world;  /* ranks that are to meet, of which only this one comes */
	const char *says;
};

/* The steady clock, once it hurries a thousand times as fast: ten minutes pass in 0.6 s, and never
 * before they may. */
static _Atomic int64_t fast_since;

int clock_gettime(clockid_t clock, struct timespec *t)
{
	return fast_clock(clock, t, fast_since);
}

int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until)
{
	return fast_wait(c, m, until, fast_since);
}

static void hurry(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	fast_since = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The watch ends the process; when nothing is wrong it looks on, for more than ten minutes. */
static void wait_for_end(const struct loss *l)
{
	struct wl_backend *be = wl_backend_cuda_open(0, NULL);
	char id[WL_WIRE_ID];
	struct wl_wire *w;
	int64_t looks;
	uint64_t job;

	alarm(60);
	if (l->world > 1)
		hurry();
	if (!be || be->wire_id(be, id, NULL) < 0 ||
		!(w = be->wire(be, 0, l->world, id, 600, NULL)))
		_exit(99);
	emulated_stuck(l->stuck);
	if (l->gone)
		w->watch(w, third_is_gone, NULL);
	emulated_nccl_fails(l->code);
	if (w->begin(w, NULL) < 0 || w->end(w, &job, NULL) < 0)
		_exit(98);
	if (l->stuck || !l->says)
		hurry();
	looks = emulated_nccl_asked();
	while (l->says || emulated_nccl_asked() < looks + 6)
		usleep(10000);
	_exit(97);
}

/* The exit code of a process of its own, which must have said that. */
static int lost(const struct loss *l)
{
	char said[2000] = "";
	size_t n = 0;
	ssize_t got;
	int status, fd[2];
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	pid = fork();
	if (pid == 0) {
		dup2(fd[1], 2);
		close(fd[0]);
		wait_for_end(l);
	}
	close(fd[1]);
	while (n < sizeof said - 1 && (got = read(fd[0], said + n, sizeof said - 1 - n)) > 0)
		n += (size_t)got;
	close(fd[0]);
	waitpid(pid, &status, 0);
	if (l->says && !strstr(said, l->says))
		fail_msg("status %d: \"%s\" does not contain \"%s\"", status, said, l->says);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_lost_peer_ends_the_process(void **state)
{
	static const struct loss losses[] = {
		{.stuck = true, .world = 1, .says = "an exchange has lasted"},
		{.code = 6, .world = 1, .says = "another rank is lost (NCCL: remote process"},
		{.gone = true, .world = 1, .says = "rank 3 is lost"},
		{.world = 2, .says = "GPUs have not met within 600 s"},
	};
	const struct loss none = {.world = 1};

	(void)state;
	NEEDS_RANKS;
	for (size_t i = 0; i < sizeof losses / sizeof *losses; i++)
		assert_int_equal(lost(&losses[i]), WL_ERETRY);
	assert_int_equal(lost(&none), 97);
}

/* Device memory is taken from the host between kernels; slow where it lies in many parts. */
static int memory_is_apart(void **state)
{
	(void)state;
	if (emulated_apart)
		emulated_apart(true);
	return 0;
}

static int memory_is_here(void **state)
{
	(void)state;
	if (emulated_apart)
		emulated_apart(false);
	return 0;
}

#define APART(test) cmocka_unit_test_setup(test, memory_is_apart)
#define HERE(test) cmocka_unit_test_setup(test, memory_is_here)

int main(void)
{
	const struct CMUnitTest tests[] = {
		APART(ten_steps_are_the_processors),
		APART(recorded_steps_are_the_same),
		APART(resumes_to_the_last_bit),
		APART(a_recording_that_cannot_be),
		APART(a_wire_closes_before_its_recordings),
		APART(queues_may_be_bf16),
		HERE(ranks_meet_on_devices),
		HERE(ranks_take_steps_in_parts),
		HERE(stage_3_frees_memory),
		APART(a_lost_peer_ends_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
