/* See trainrig.h. */
#include "tests/support/trainrig.h"

#include "tests/support/cm.h"
#include "tests/support/shardset.h"

#include "ops/buf.h"
#include "ops/file.h"
#include "ops/metrics.h"
#include "tests/preload/halt.h"
#include "train/checkpoint/ckpt.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct wl_err err;

const char rig_model[] =
	"{preset: small, dim: 16, image: {px: 64, width: 0.25, depth: 0.3, head: 32, grid: 2, "
	"regions: 5, attention: {layers: 1, heads: 2, ffn: 16}}, text: {hidden: 16, layers: 1, "
	"heads: 2, ffn: 32, positions: 16, length: 14, attention: {layers: 1, heads: 2, ffn: 16}}}";

/* The page in ROOT/halt. */
static int make_halt(struct train_rig *r)
{
	char path[96];
	void *p;
	int fd;

	snprintf(path, sizeof path, "%s/halt", r->root);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof *r->halt) < 0)
		return -1;
	p = mmap(NULL, sizeof *r->halt, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	r->halt = p == MAP_FAILED ? NULL : p;
	return r->halt ? 0 : -1;
}

int rig_make(struct train_rig *r)
{
	struct wl_toy_set set = {.dir = r->shards, .split = "train", .samples = RIG_SAMPLES,
		.per_shard = 16, .captions = 3, .bad_jpeg = -1, .bad_text = -1, .boxes = true};

	snprintf(r->root, sizeof r->root, "/tmp/wl-train-run-XXXXXX");
	if (!mkdtemp(r->root))
		return -1;
	snprintf(r->shards, sizeof r->shards, "%s/shards", r->root);
	snprintf(r->vocab, sizeof r->vocab, "%s/vocab.txt", r->root);
	if (wl_mkdir_p(r->shards, &err) < 0 ||
		wl_write_file(r->vocab, wl_toy_words, strlen(wl_toy_words), &err) < 0)
		return -1;
	wl_toy_set_write(&set);
	return make_halt(r);
}

int rig_remove(struct train_rig *r)
{
	munmap(r->halt, sizeof *r->halt);
	return wl_remove_tree(r->root, &err);
}

/* --- programs --- */

/* halt.so lies beside the test's own program. */
static void preload(const struct train_rig *r)
{
	char path[4096], *slash;
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 16);

	path[n < 0 ? 0 : n] = 0;
	slash = strrchr(path, '/');
	if (slash)
		strcpy(slash + 1, "halt.so");
	setenv("LD_PRELOAD", path, 1);
	snprintf(path, sizeof path, "%s/halt", r->root);
	setenv("WL_HALT", path, 1);
}

/* Appends to what a person may have set. */
static void add_asan_option(const char *option)
{
	const char *had = getenv("ASAN_OPTIONS");
	char all[1024];

	snprintf(all, sizeof all, "%s%s%s", had ? had : "", had && *had ? ":" : "", option);
	setenv("ASAN_OPTIONS", all, 1);
}

/* Runs are side by side with other tests: ranks do not fight for the first cores, nor spin while
 * they wait; what mpirun keeps lies in the rig's directory, and the ranks that are left when one
 * has ended are killed at once. */
static void prepare_environment(const struct train_rig *r, const char *program)
{
	setenv("OMP_NUM_THREADS", "1", 1);
	setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 1);
	setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
	setenv("OMPI_MCA_orte_tmpdir_base", r->root, 1);
	setenv("OMPI_MCA_odls_base_sigkill_timeout", "0", 1);
	/* MPI has leaks of its own, and a rank that lost another ends as it stands. */
	if (strcmp(program, "wenlan-train") || getenv("WL_RANK"))
		add_asan_option("detect_leaks=0");
	if (r->halt->lines > 0) {
		add_asan_option("verify_asan_link_order=0");
		preload(r);
	}
}

pid_t rig_start(const struct train_rig *r, const char *program, const char *const *argv)
{
	const char *bin = getenv("WL_BIN");
	char path[512], log[96];
	pid_t pid = fork();
	int fd;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	setpgid(0, 0);
	snprintf(path, sizeof path, "%s/%s", bin ? bin : "build/release/bin", program);
	snprintf(log, sizeof log, "%s/log", r->root);
	fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
	dup2(fd, 1);
	dup2(fd, 2);
	prepare_environment(r, program);
	if (strcmp(program, "mpirun"))
		execv(path, (char *const *)argv);
	else
		execvp(program, (char *const *)argv);
	_exit(127);
}

int rig_finish(pid_t pid)
{
	int status;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* --- halting --- */

void rig_halt_after(struct train_rig *r, int lines)
{
	r->halt->pid = 0;
	r->halt->lines = lines;
}

/* Whether all of the process stands, by its state in /proc. */
static bool stands(pid_t pid)
{
	char path[64], text[512] = "", *end;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (f && !fgets(text, sizeof text, f))
		*text = 0;
	if (f)
		fclose(f);
	end = strrchr(text, ')');
	return end && end[1] == ' ' && end[2] == 'T';
}

pid_t rig_halted(struct train_rig *r, pid_t program)
{
	enum { MINUTES = 5 };

	for (int i = 0; i < MINUTES * 60 * 500; i++) {
		siginfo_t info = {0};

		if (r->halt->pid && stands(r->halt->pid))
			return r->halt->pid;
		assert_int_equal(waitid(P_PID, (id_t)program, &info, WEXITED | WNOHANG | WNOWAIT),
			0);
		if (info.si_pid) {
			r->halt->lines = 0;
			return 0;
		}
		usleep(2000);
	}
	fail_msg("the run does nothing for %d minutes: %s", MINUTES, rig_log(r));
	return 0;
}

void rig_hurry(struct train_rig *r, bool yes)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	r->halt->fast_since = yes ? (int64_t)t.tv_sec * 1000000000 + t.tv_nsec : 0;
}

const char *rig_log(const struct train_rig *r)
{
	static struct wl_buf b;
	char path[96];

	wl_buf_release(&b);
	wl_buf_init(&b, 1 << 20);
	snprintf(path, sizeof path, "%s/log", r->root);
	OK(wl_read_file(path, &b, &err));
	return b.data ? b.data : "";
}

static int keep_line(json_t *o, size_t line, void *user, struct wl_err *e)
{
	static const char *const timings[] = {"step_s", "data_wait_s", "pairs_per_s",
		"mfu_image", "mfu_text", "rss_gib", "exchange_wait_s"};
	size_t i;

	(void)line;
	(void)e;
	for (i = 0; i < sizeof timings / sizeof *timings; i++)
		json_object_del(o, timings[i]);
	json_array_append(user, o);
	return 0;
}

json_t *rig_metrics(const struct train_rig *r, const char *run)
{
	json_t *lines = json_array();
	char path[160];

	snprintf(path, sizeof path, "%s/%s/metrics.jsonl", r->root, run);
	OK(wl_jsonl_read(path, keep_line, lines, &err));
	return lines;
}

json_t *rig_files(const struct train_rig *r, const char *run, int64_t step)
{
	char path[160], *dir;
	json_t *state, *files;

	snprintf(path, sizeof path, "%s/%s", r->root, run);
	OK(wl_ckpt_load(path, &dir, &state, &err));
	assert_int_equal(json_integer_value(json_object_get(state, "step")), step);
	files = json_incref(json_object_get(state, "files"));
	json_decref(state);
	free(dir);
	return files;
}
