/*
 * Checkpoints of several ranks that are written beside their steps, on the processor and on GPUs
 * (emulated: ranks are threads): the bytes are those of checkpoints for which everybody waits, and
 * of stores that are collected bucket by bucket; on GPUs copies are held back until the very
 * moment at which something may change what they read; and a kill at any operation on the disk
 * leaves a checkpoint that training goes on from to the same bits.
 */
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/emulation.h"
#include "tests/support/tiny_rig.h"
#include "tests/support/wide_towers.h"
#include "train/checkpoint/ckpt.h"
#include "train/checkpoint/store.h"
#include "train/saver.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RANKS = 4, COPIES = 512, BEFORE = 2, AFTER = 4, POINTS = 30, PATIENCE_S = 120 };

static const struct wide wide = {300, 4}; /* of buckets of 1 MiB */
static struct wl_err err;

/* --- a disk that stops the process at its k-th operation --- */

enum fault { SOUND, FULL, CUT };

static struct {
	_Atomic bool armed;
	_Atomic long count;
	long last;
	_Atomic enum fault fault; /* of files of pieces */
} disk; /* of all ranks, which are threads */

static void tick(void)
{
	if (disk.armed && disk.count++ == disk.last)
		_exit(99);
}

static bool is_piece(int fd)
{
	char link[64], path[300] = "";

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	return readlink(link, path, sizeof path - 1) > 0 && strstr(path, "/pieces-");
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	tick();
	if (disk.fault && is_piece(fd)) {
		if (disk.fault == CUT && syscall(SYS_pwrite64, fd, p, n - 4, at) == (long)n - 4)
			return (ssize_t)n; /* and what it did not write is lost */
		errno = ENOSPC;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, p, n, at);
}

int rename(const char *from, const char *to)
{
	tick();
	return (int)syscall(SYS_rename, from, to);
}

int unlink(const char *path)
{
	tick();
	return (int)syscall(SYS_unlink, path);
}

int fsync(int fd)
{
	(void)fd;
	tick();
	return 0;
}

/* --- a backend whose copies to the host are as late as they may be --- */

struct copy {
	void *host;
	const void *src;
	size_t bytes;
};

/* One of each rank; be NULL: free. */
static struct late {
	struct wl_backend *be;
	void (*fetch)(struct wl_backend *be, void *host, const void *src, size_t bytes);
	void (*hold)(struct wl_backend *be);
	int (*fetched)(struct wl_backend *be, struct wl_err *err);
	void (*download)(struct wl_backend *be, void *host, const void *src, size_t bytes);
	pthread_t gives; /* the thread that gives work */
	struct copy copy[COPIES];
	int n, held; /* waiting; done by a hold */
	size_t downloaded;
} lates[RANKS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;

static struct late *late_of(const struct wl_backend *be)
{
	for (int i = 0; i < RANKS; i++)
		if (lates[i].be == be)
			return &lates[i];
	return NULL;
}

static void fetch_late(struct wl_backend *be, void *host, const void *src, size_t bytes)
{
	struct late *l = late_of(be);

	pthread_mutex_lock(&lock);
	if (l->n == COPIES)
		abort();
	l->copy[l->n++] = (struct copy){host, src, bytes};
	pthread_mutex_unlock(&lock);
}

/* With the lock. */
static void do_copies(struct late *l)
{
	for (int i = 0; i < l->n; i++)
		l->fetch(l->be, l->copy[i].host, l->copy[i].src, l->copy[i].bytes);
	l->n = 0;
	pthread_cond_broadcast(&done);
}

static void hold_late(struct wl_backend *be)
{
	struct late *l = late_of(be);

	pthread_mutex_lock(&lock);
	l->held += l->n;
	do_copies(l);
	pthread_mutex_unlock(&lock);
	l->hold(be);
}

/* The thread that writes waits for the other's hold. */
static int fetched_late(struct wl_backend *be, struct wl_err *e)
{
	struct late *l = late_of(be);
	struct timespec until;
	int ret = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	pthread_mutex_lock(&lock);
	if (pthread_equal(l->gives, pthread_self()))
		do_copies(l);
	while (l->n && ret == 0)
		ret = pthread_cond_timedwait(&done, &lock, &until);
	pthread_mutex_unlock(&lock);
	return ret ? wl_err_set(e, WL_EFAIL, "nothing holds for the copies of a checkpoint")
		   : l->fetched(be, e);
}

static void download_counted(struct wl_backend *be, void *host, const void *src, size_t bytes)
{
	struct late *l = late_of(be);

	l->downloaded += bytes;
	l->download(be, host, src, bytes);
}

static struct late *make_late(struct wl_backend *be, int rank)
{
	struct late *l = &lates[rank];

	*l = (struct late){.be = be, .fetch = be->fetch, .hold = be->hold, .fetched = be->fetched,
		.download = be->download, .gives = pthread_self()};
	be->fetch = fetch_late;
	be->hold = hold_late;
	be->fetched = fetched_late;
	be->download = download_counted;
	return l;
}

/* --- ranks --- */

struct job {
	struct wl_train_config config;
	bool gpu;
	/* Where checkpoints go: for which all wait, beside the next steps, of collected stores. */
	const char *waiting, *beside, *collected;
	/* In place of these: a run that saves after BEFORE and AFTER steps, and dies in the
	 * second, or whose disk has a fault then. */
	bool killed;
	enum fault fault;
	int beside_steps[RANKS]; /* copies of each rank that a step's update waited for */
	size_t downloaded[RANKS], stats;
};

static int steps_to(struct wl_trainer *t, int64_t n, struct wl_err *e)
{
	double unused[3][16];
	const struct tiny_course seen = {unused[0], unused[1], unused[2], 16};

	return tiny_rank_steps(t, n, &seen, e);
}

static struct wl_saver *open_saver(struct wl_trainer *t, const char *run, bool wait,
	struct wl_err *e)
{
	struct wl_saver_config c = {.run_dir = run, .keep = 9, .wait = wait};

	return wl_saver_open(t, &c, e);
}

/* As the loop does between two steps. */
static int meet(struct wl_trainer *t, struct wl_saver *s, struct wl_err *e)
{
	int64_t worst = wl_saver_state(s);

	if (t->dist)
		WL_TRY(wl_comm_all_reduce(wl_dist_comm(t->dist), &worst, 1, WL_COMM_I64,
			WL_COMM_MAX, e));
	return wl_saver_advance(s, worst, e);
}

static int save_waiting(struct job *j, struct wl_trainer *t, struct wl_err *e)
{
	struct wl_saver *s = open_saver(t, j->waiting, true, e);

	if (!s || wl_saver_save(s, NULL, false, e) < 0)
		return -1;
	wl_saver_close(s);
	return 0;
}

static int collect(struct job *j, struct wl_trainer *t, struct wl_params *store, const char *name,
	struct wl_err *e)
{
	float *whole = calloc((size_t)store->floats, sizeof *whole);
	struct wl_store_array all = {.prefix = "", .data = whole, .host = true};
	bool mine = wl_dist_rank(t->dist) == 0;
	char path[200];
	int ret = 0;

	if (t->dist)
		ret = wl_dist_collect(t->dist, store, mine ? whole : NULL, e);
	else
		store->backend->download(store->backend, whole, store->value,
			(size_t)store->floats * sizeof *whole);
	snprintf(path, sizeof path, "%s/%s", j->collected, name);
	if (ret == 0 && mine)
		ret = wl_store_save(path, store, &all, 1, e);
	free(whole);
	return ret;
}

/* A checkpoint is under way while steps go on. */
static int save_beside(struct job *j, struct wl_trainer *t, struct late *l, struct wl_err *e)
{
	struct wl_saver *s = open_saver(t, j->beside, false, e);
	int rank = wl_dist_rank(t->dist);

	if (l)
		l->held = 0, l->downloaded = 0;
	if (!s || wl_saver_save(s, NULL, false, e) < 0)
		return -1;
	if (l)
		j->downloaded[rank] = l->downloaded;
	for (int64_t n = BEFORE + 1; n <= AFTER; n++) {
		WL_TRY(steps_to(t, n, e));
		WL_TRY(meet(t, s, e));
	}
	if (l)
		j->beside_steps[rank] = l->held;
	WL_TRY(wl_saver_finish(s, e));
	wl_saver_close(s);
	return 0;
}

static int compare(struct job *j, struct wl_trainer *t, struct late *l, struct wl_err *e)
{
	WL_TRY(steps_to(t, BEFORE, e));
	WL_TRY(save_waiting(j, t, e));
	WL_TRY(collect(j, t, &t->params, "model.safetensors", e));
	if (t->moco.key)
		WL_TRY(collect(j, t, &t->moco.momentum, "momentum.safetensors", e));
	if (wl_dist_rank(t->dist) == 0)
		j->stats = 2 * (size_t)(t->params.floats - t->params.weights) * sizeof(float);
	return save_beside(j, t, l, e);
}

/* On from the newest checkpoint, saving beside steps. */
static int go_on(struct job *j, struct wl_trainer *t, struct wl_err *e)
{
	int64_t newest = wl_ckpt_newest(j->beside, e);
	struct wl_saver *s = open_saver(t, j->beside, false, e);
	char dir[200];
	json_t *state;
	int ret = 0;

	if (newest >= 0) {
		snprintf(dir, sizeof dir, "%s/ckpt-%08lld", j->beside, (long long)newest);
		state = wl_ckpt_state(dir, e);
		ret = state ? wl_trainer_load(t, dir, state, e) : -1;
		json_decref(state);
	}
	if (!s || ret < 0)
		return -1;
	if (t->dist)
		WL_TRY(wl_comm_barrier(wl_dist_comm(t->dist), e));
	while (t->step <= AFTER) { /* and a step beside the last one */
		WL_TRY(steps_to(t, t->step + 1, e));
		WL_TRY(meet(t, s, e));
		if (t->step != BEFORE && t->step != AFTER)
			continue;
		disk.armed = t->step == AFTER && j->killed;
		disk.fault = t->step == AFTER ? j->fault : SOUND;
		WL_TRY(wl_saver_save(s, NULL, false, e));
	}
	WL_TRY(wl_saver_finish(s, e));
	wl_saver_close(s);
	return 0;
}

static int rank_main(struct wl_comm *comm, void *user, struct wl_err *e)
{
	struct job *j = user;
	int rank = comm ? wl_comm_rank(comm) : 0, world = comm ? wl_comm_size(comm) : 1, ret = -1;
	struct wl_backend *be = j->gpu ? wl_backend_cuda_open(rank, e) : wl_backend_cpu_open(1, e);
	struct wl_train_config c = j->config;
	struct wl_dist *dist = world > 1 ? wl_dist_open(comm, &c.dist, e) : NULL;
	struct late *l = be && j->gpu ? make_late(be, rank) : NULL;
	struct wl_towers towers;
	struct wl_trainer t;

	wide_towers(&towers, &wide);
	c.batch = TINY_BATCH / world;
	if (!be || (world > 1 && !dist) ||
		wl_trainer_init(&t, &c, &towers, be, dist, 100, TINY_PAIRS, e) < 0)
		return -1;
	if (towers.init(&t.params, towers.model, t.seed, e) == 0) {
		wl_trainer_start(&t);
		ret = j->waiting ? compare(j, &t, l, e) : go_on(j, &t, e);
	}
	if (ret < 0) /* other ranks may wait for this one: as the loop, it frees nothing */
		return -1;
	wl_dist_close(dist);
	wl_trainer_release(&t);
	wl_backend_close(be);
	return 0;
}

static int run(struct job *j, int ranks)
{
	return ranks == 1 ? rank_main(NULL, j, &err) : wl_comm_simulate(ranks, rank_main, j, &err);
}

/* GPUs in bf16: each use of a weight's half copy is checked there too (cuda/weights.cu). */
static struct wl_train_config config_of(bool gpu, int zero, const char *objective)
{
	struct wl_train_config c = tiny_config(2e-3);

	c.objective = objective;
	c.precision = gpu ? "bf16" : "fp32";
	c.dist.zero = zero;
	c.dist.bucket_mb = 1;
	OK(wl_train_config_check(&c, &err));
	return c;
}

/* --- files --- */

static void read_whole(const char *dir, const char *name, struct wl_buf *b)
{
	char path[300];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	wl_buf_init(b, SIZE_MAX);
	OK(wl_read_file(path, b, &err));
}

/* The files of `a`, and no other, are in b and equal. */
static void same_files(const char *a, const char *b, bool all)
{
	struct wl_names in_a = {0}, in_b = {0};

	OK(wl_list_dir(a, "*", &in_a, &err));
	OK(wl_list_dir(b, "*", &in_b, &err));
	assert_true(in_a.n > 0 && (!all || in_a.n == in_b.n));
	for (size_t i = 0; i < in_a.n; i++) {
		struct wl_buf x, y;

		read_whole(a, in_a.v[i], &x);
		read_whole(b, in_a.v[i], &y);
		if (x.len != y.len || memcmp(x.data, y.data, x.len))
			fail_msg("%s of %s and %s differ", in_a.v[i], a, b);
		wl_buf_release(&x);
		wl_buf_release(&y);
	}
	wl_names_release(&in_a);
	wl_names_release(&in_b);
}

static void step_dir(char out[200], const char *run, int64_t step)
{
	snprintf(out, 200, "%s/ckpt-%08lld", run, (long long)step);
}

static void same_checkpoints(const char *a, const char *b, int64_t step)
{
	char x[200], y[200];

	step_dir(x, a, step);
	step_dir(y, b, step);
	same_files(x, y, true);
}

/* --- tests --- */

static void one_case(bool gpu, int ranks, int zero, const char *objective)
{
	char root[] = "/tmp/wl-rank-ckpt-XXXXXX", dir[3][64], made[200];
	struct job j = {.config = config_of(gpu, zero, objective), .gpu = gpu, .waiting = dir[0],
		.beside = dir[1], .collected = dir[2]};

	assert_non_null(mkdtemp(root));
	for (int i = 0; i < 3; i++) {
		snprintf(dir[i], sizeof dir[i], "%s/%d", root, i);
		OK(wl_mkdir_p(dir[i], &err));
	}
	if (run(&j, ranks) < 0)
		fail_msg("%s, %d ranks, stage %d, %s: %s", gpu ? "gpu" : "cpu", ranks, zero,
			objective, err.msg);
	same_checkpoints(j.waiting, j.beside, BEFORE);
	step_dir(made, j.waiting, BEFORE);
	same_files(j.collected, made, false);
	for (int r = 0; gpu && r < ranks; r++) {
		assert_true(j.beside_steps[r] >= 2); /* moments at least; nothing waited before */
		if (j.downloaded[r] > j.stats)
			fail_msg("rank %d of %d, stage %d: %zu bytes were waited for", r, ranks,
				zero, j.downloaded[r]);
	}
	OK(wl_remove_tree(root, &err));
}

static void every_case(bool gpu)
{
	for (int zero = 0; zero <= 3; zero++)
		for (int ranks = zero ? 2 : 1; ranks <= RANKS; ranks *= 2)
			if (zero != 1 || ranks == 2)
				one_case(gpu, ranks, zero, "moco");
	one_case(gpu, 2, 3, "clip");
}

static void the_processors_bytes_are_the_waiting_ways(void **state)
{
	(void)state;
	every_case(false);
}

static void the_gpus_bytes_are_the_waiting_ways(void **state)
{
	(void)state;
	if (!emulated_nccl_fails)
		SKIP("ranks as threads need the emulation of NCCL");
	emulated_idle(true); /* the copies' stream does nothing before somebody waits for it */
	every_case(true);
	emulated_idle(false);
}

/* Runs in a process of its own, which ends at that operation of the last save: its exit code.  The
 * operations that were counted come by a pipe. */
static int run_until(struct job *j, int ranks, long last, long *counted)
{
	int ends[2], status;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		disk.last = last;
		if (run(j, ranks) < 0) {
			fprintf(stderr, "%s\n", err.msg);
			_exit(1);
		}
		_exit(write(ends[1], &disk.count, sizeof disk.count) != sizeof disk.count);
	}
	close(ends[1]);
	if (read(ends[0], counted, sizeof *counted) != (ssize_t)sizeof *counted)
		*counted = -1;
	close(ends[0]);
	assert_true(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void copy_checkpoint(const char *from_run, const char *to_run)
{
	struct wl_names names = {0};
	char from[200], to[200], path[300];

	OK(wl_remove_tree(to_run, &err));
	step_dir(from, from_run, BEFORE);
	step_dir(to, to_run, BEFORE);
	OK(wl_mkdir_p(to, &err));
	OK(wl_list_dir(from, "*", &names, &err));
	for (size_t i = 0; i < names.n; i++) {
		struct wl_buf b;

		read_whole(from, names.v[i], &b);
		snprintf(path, sizeof path, "%s/%s", to, names.v[i]);
		OK(wl_write_file(path, b.data, b.len, &err));
		wl_buf_release(&b);
	}
	wl_names_release(&names);
}

/* Killed at POINTS of its operations: the old checkpoint is there or the new one, whole, and what
 * is left of the killed one stands in nobody's way. */
static void a_kill_leaves_the_last_checkpoint(void **state)
{
	char root[] = "/tmp/wl-rank-kill-XXXXXX", whole[64], work[64];
	struct job j = {.config = config_of(false, 3, "moco"), .beside = whole};
	int old = 0, new = 0;
	long ops, unused;

	(void)state;
	assert_non_null(mkdtemp(root));
	snprintf(whole, sizeof whole, "%s/whole", root);
	snprintf(work, sizeof work, "%s/work", root);
	OK(wl_mkdir_p(whole, &err));
	j.killed = true;
	assert_int_equal(run_until(&j, 2, -1, &ops), 0);
	assert_true(ops > POINTS / 2);
	j.beside = work;
	for (int i = 0; i < POINTS; i++) {
		char *dir;
		json_t *found;
		int64_t step;
		int code;

		copy_checkpoint(whole, work);
		code = run_until(&j, 2, i * ops / POINTS, &unused);
		if (code != 99 && code != 0) /* 0: threads took turns otherwise, and it was over */
			fail_msg("point %d: exit code %d", i, code);
		OK(wl_ckpt_load(work, &dir, &found, &err));
		json_decref(found);
		free(dir);
		step = wl_ckpt_newest(work, &err);
		same_checkpoints(whole, work, step);
		*(step == BEFORE ? &old : &new) += 1;
		if (i % 6)
			continue;
		j.killed = false;
		OK(run(&j, 2));
		j.killed = true;
		if (step == BEFORE)
			same_checkpoints(whole, work, AFTER);
	}
	print_message("%ld operations a checkpoint; of %d ends %d left the old one, %d the new\n",
		ops, POINTS, old, new);
	assert_true(old > POINTS / 3);
	OK(wl_remove_tree(root, &err));
}

/* A disk that is full, or loses the end of a file of pieces: the run ends, and its last checkpoint
 * is the one before. */
static void bad_pieces_end_the_run(void **state)
{
	char root[] = "/tmp/wl-rank-bad-XXXXXX", work[64];
	struct job j = {.config = config_of(false, 2, "moco"), .beside = work};
	struct wl_names left = {0};
	long unused;

	(void)state;
	assert_non_null(mkdtemp(root));
	for (j.fault = FULL; j.fault <= CUT; j.fault++) {
		snprintf(work, sizeof work, "%s/%d", root, j.fault);
		OK(wl_mkdir_p(work, &err));
		assert_int_equal(run_until(&j, 2, -1, &unused), 1);
		assert_int_equal(wl_ckpt_newest(work, &err), BEFORE);
	}
	j.fault = SOUND; /* and the same run goes on */
	OK(run(&j, 2));
	assert_int_equal(wl_ckpt_newest(work, &err), AFTER);
	OK(wl_list_dir(work, ".ckpt-*", &left, &err));
	assert_int_equal(left.n, 0);
	wl_names_release(&left);
	OK(wl_remove_tree(root, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_processors_bytes_are_the_waiting_ways),
		cmocka_unit_test(the_gpus_bytes_are_the_waiting_ways),
		cmocka_unit_test(a_kill_leaves_the_last_checkpoint),
		cmocka_unit_test(bad_pieces_end_the_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
