/*
 * Checkpoints and sudden ends: the writer is stopped at 1,000 seeded points, in the middle of any
 * write, and with it what was not synced yet is lost, cut or garbled, and renames that were not
 * synced are undone, as a power failure may do it.  What is then found must load, and be the old
 * state or the new one to the bit.
 *
 * The C library's functions that change files are replaced here; each counts, and the k-th is the
 * last that the process does.
 */
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/tiny_towers.h"
#include "train/checkpoint/ckpt.h"
#include "train/saver.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct wl_err err;

/* --- the disk that fails --- */

enum { FILES = 64, POINTS = 1000 };

struct unsynced {
	char path[300];
	int fd;
};

static struct {
	bool armed;
	long count, last; /* operations so far; the one at which the power goes (-1: never) */
	uint64_t seed;
	struct unsynced dirty[FILES];
	int n_dirty;
	char from[FILES][300], to[FILES][300]; /* renames whose directory was not synced */
	int n_renames;
	long *counted; /* shared with the parent */
} disk = {.last = -1};

static uint64_t draw(uint64_t what, uint64_t i)
{
	return wl_rand64(disk.seed, what, i);
}

/* What was not synced, as the platter may have it. */
static void lose_power(void)
{
	int i;

	for (i = disk.n_renames - 1; i >= 0; i--)
		if (draw(1, (uint64_t)i) % 2)
			syscall(SYS_rename, disk.to[i], disk.from[i]);
	for (i = 0; i < disk.n_dirty; i++) {
		struct stat st;
		const char *path = disk.dirty[i].path;
		uint64_t how = draw(2, (uint64_t)i) % 3;
		long fd;
		char garbage[512];

		if (how == 0 || stat(path, &st) < 0 || st.st_size == 0)
			continue;
		if (how == 1) {
			syscall(SYS_truncate, path, (long)(draw(3, (uint64_t)i) %
				(uint64_t)st.st_size));
			continue;
		}
		memset(garbage, (int)draw(4, (uint64_t)i), sizeof garbage);
		fd = syscall(SYS_open, path, O_WRONLY, 0);
		syscall(SYS_pwrite64, fd, garbage, sizeof garbage,
			(long)(draw(5, (uint64_t)i) % (uint64_t)st.st_size));
		syscall(SYS_close, fd);
	}
	_exit(99);
}

/* Counts an operation; true: it is the last. */
static bool tick(void)
{
	long now;

	if (!disk.armed)
		return false;
	now = __atomic_fetch_add(&disk.count, 1, __ATOMIC_SEQ_CST);
	if (disk.counted)
		*disk.counted = now + 1;
	return now == disk.last;
}

static void path_of(int fd, char out[300])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, out, 299);
	out[n < 0 ? 0 : n] = 0;
}

static void mark_dirty(int fd)
{
	if (!disk.armed || fd < 0)
		return;
	for (int i = 0; i < disk.n_dirty; i++)
		if (disk.dirty[i].fd == fd)
			return;
	if (disk.n_dirty == FILES)
		abort();
	disk.dirty[disk.n_dirty].fd = fd;
	path_of(fd, disk.dirty[disk.n_dirty++].path);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (tick()) {
		mark_dirty(fd);
		syscall(SYS_pwrite64, fd, p, n ? draw(6, 0) % n : 0, at);
		lose_power();
	}
	mark_dirty(fd);
	return syscall(SYS_pwrite64, fd, p, n, at);
}

/* Syncing costs nothing here: the disk above is what forgets. */
int fsync(int fd)
{
	char path[300];
	struct stat st;

	if (tick())
		lose_power();
	path_of(fd, path);
	if (disk.armed && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		size_t n = strlen(path);
		int i, kept = 0;

		for (i = 0; i < disk.n_renames; i++) {
			const char *slash = strrchr(disk.to[i], '/');

			if ((size_t)(slash - disk.to[i]) == n && !strncmp(disk.to[i], path, n))
				continue;
			memmove(disk.to[kept], disk.to[i], sizeof disk.to[0]);
			memmove(disk.from[kept++], disk.from[i], sizeof disk.from[0]);
		}
		disk.n_renames = kept;
	}
	for (int i = 0; i < disk.n_dirty; i++)
		if (!strcmp(disk.dirty[i].path, path))
			disk.dirty[i--] = disk.dirty[--disk.n_dirty];
	return 0;
}

int fdatasync(int fd)
{
	return fsync(fd);
}

int rename(const char *from, const char *to)
{
	if (tick())
		lose_power();
	if (disk.armed) {
		if (disk.n_renames == FILES)
			abort();
		snprintf(disk.from[disk.n_renames], 300, "%s", from);
		snprintf(disk.to[disk.n_renames++], 300, "%s", to);
		for (int i = 0; i < disk.n_dirty; i++)
			if (!strcmp(disk.dirty[i].path, from))
				snprintf(disk.dirty[i].path, 300, "%s", to);
	}
	return (int)syscall(SYS_rename, from, to);
}

int mkdir(const char *path, mode_t mode)
{
	if (tick())
		lose_power();
	return (int)syscall(SYS_mkdir, path, mode);
}

int unlink(const char *path)
{
	if (tick())
		lose_power();
	return (int)syscall(SYS_unlink, path);
}

int rmdir(const char *path)
{
	if (tick())
		lose_power();
	return (int)syscall(SYS_rmdir, path);
}

int unlinkat(int dir, const char *path, int flags)
{
	if (tick())
		lose_power();
	return (int)syscall(SYS_unlinkat, dir, path, flags);
}

int symlink(const char *to, const char *path)
{
	if (tick())
		lose_power();
	return (int)syscall(SYS_symlink, to, path);
}

int close(int fd)
{
	if (tick())
		lose_power();
	for (int i = 0; disk.armed && i < disk.n_dirty; i++)
		if (disk.dirty[i].fd == fd)
			disk.dirty[i].fd = -1; /* still dirty under its path */
	return (int)syscall(SYS_close, fd);
}

/* stdio writes inside the C library; what it wrote is known only as "not synced yet". */
FILE *fdopen(int fd, const char *mode)
{
	FILE *(*real)(int fd, const char *mode);

	*(void **)&real = dlsym(RTLD_NEXT, "fdopen");
	mark_dirty(fd);
	return real(fd, mode);
}

/* --- the state --- */

struct rig {
	struct wl_train_config config;
	struct wl_backend *be;
	struct wl_trainer t;
};

static char root[] = "/tmp/wl-crash-XXXXXX", base[64], work[64];
static struct rig old, new, found;

static void open_rig(struct rig *r, int64_t steps)
{
	struct wl_opt table[WL_TRAIN_OPTIONS];
	struct wl_step_report report;
	struct wl_towers towers;

	tiny_towers(&towers);
	wl_train_config_init(&r->config, table);
	r->config.batch = TINY_BATCH;
	r->config.moco.queue = 24;
	r->config.schedule.warmup_steps = 1;
	OK(wl_train_config_check(&r->config, &err));
	r->be = wl_backend_cpu_open(1, &err);
	assert_non_null(r->be);
	OK(wl_trainer_init(&r->t, &r->config, &towers, r->be, NULL, 10, TINY_PAIRS, &err));
	OK(towers.init(&r->t.params, NULL, r->t.seed, &err));
	wl_trainer_start(&r->t);
	while (r->t.step < steps)
		OK(wl_trainer_step(&r->t, tiny_batch(r->t.step), &report, &err));
}

static void close_rig(struct rig *r)
{
	wl_trainer_release(&r->t);
	wl_backend_close(r->be);
}

static bool equal(const struct wl_trainer *a, const struct wl_trainer *b)
{
	size_t bytes = (size_t)a->params.floats * sizeof(float);
	const struct wl_queue *x = &a->moco.image_queue, *y = &b->moco.image_queue;

	return a->step == b->step && a->optim.updates == b->optim.updates &&
		!memcmp(a->params.value, b->params.value, bytes) &&
		!memcmp(a->moco.momentum.value, b->moco.momentum.value, bytes) &&
		!memcmp(a->optim.m, b->optim.m, bytes) && !memcmp(a->optim.v, b->optim.v, bytes) &&
		x->next == y->next &&
		!memcmp(x->keys, y->keys, x->size * x->dim * sizeof *x->keys);
}

static void save(struct rig *r, const char *dir, bool wait)
{
	struct wl_saver_config c = {.run_dir = dir, .vocab = "tests/golden/optim.json", .keep = 1,
		.wait = wait};
	struct wl_saver *s = wl_saver_open(&r->t, &c, &err);

	assert_non_null(s);
	OK(wl_saver_save(s, NULL, false, &err));
	OK(wl_saver_finish(s, &err));
	wl_saver_close(s);
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(root))
		return -1;
	snprintf(base, sizeof base, "%s/base", root);
	snprintf(work, sizeof work, "%s/work", root);
	open_rig(&old, 1);
	open_rig(&new, 2);
	open_rig(&found, 0);
	OK(wl_mkdir_p(base, &err));
	save(&old, base, true);
	disk.counted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return disk.counted == MAP_FAILED ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	close_rig(&old);
	close_rig(&new);
	close_rig(&found);
	return wl_remove_tree(root, &err);
}

/* A run's directory with the old checkpoint alone. */
static void fresh_work(void)
{
	struct wl_names names = {0};
	char from[400], to[400], dir[200];
	struct wl_buf b;

	OK(wl_remove_tree(work, &err));
	snprintf(from, sizeof from, "%s/ckpt-00000001", base);
	snprintf(dir, sizeof dir, "%s/ckpt-00000001", work);
	OK(wl_mkdir_p(dir, &err));
	OK(wl_list_dir(from, "*", &names, &err));
	for (size_t i = 0; i < names.n; i++) {
		snprintf(from, sizeof from, "%s/ckpt-00000001/%s", base, names.v[i]);
		snprintf(to, sizeof to, "%s/%s", dir, names.v[i]);
		wl_buf_init(&b, 1 << 22);
		OK(wl_read_file(from, &b, &err));
		OK(wl_write_file(to, b.data, b.len, &err));
		wl_buf_release(&b);
	}
	wl_names_release(&names);
}

/* Saves in a process of its own, which ends at that operation; its exit code. */
static int save_until(long last, uint64_t seed, bool wait)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		disk.armed = true;
		disk.last = last;
		disk.seed = seed;
		save(&new, work, wait);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* 1: the old state is there, 2: the new one. */
static int what_is_there(long point)
{
	json_t *state;
	char *dir;

	if (wl_ckpt_load(work, &dir, &state, &err) < 0)
		fail_msg("point %ld: %s", point, err.msg);
	if (wl_trainer_load(&found.t, dir, state, &err) < 0)
		fail_msg("point %ld: %s", point, err.msg);
	json_decref(state);
	free(dir);
	if (equal(&found.t, &old.t))
		return 1;
	if (!equal(&found.t, &new.t))
		fail_msg("point %ld: step %lld loaded, and it is neither state", point,
			(long long)found.t.step);
	return 2;
}

static void no_point_leaves_one_that_loads_wrong(void **state)
{
	long ops, before = 0, after = 0;

	(void)state;
	for (int wait = 0; wait < 2; wait++) {
		fresh_work();
		assert_int_equal(save_until(-1, 0, wait), 0);
		assert_int_equal(what_is_there(-1), 2);
		ops = *disk.counted;
		assert_true(ops > 50);
		for (long i = wait; i < POINTS; i += 2) {
			long last = (long)(wl_rand64(7, 0, (uint64_t)i) % (uint64_t)ops);

			fresh_work();
			assert_int_equal(save_until(last, (uint64_t)i, wait), 99);
			*(what_is_there(i) == 1 ? &before : &after) += 1;
			if (i % 20 >= 2)
				continue;
			save(&new, work, true); /* what was left does not stand in the way */
			assert_int_equal(what_is_there(i), 2);
		}
	}
	print_message("%ld operations a checkpoint; of %d ends %ld left the old one, %ld the new\n",
		ops, POINTS, before, after);
	assert_true(before > POINTS / 4 && after > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_point_leaves_one_that_loads_wrong),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
