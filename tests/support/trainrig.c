/* See trainrig.h. */
#include "tests/support/trainrig.h"

#include "tests/support/cm.h"
#include "tests/support/shardset.h"

#include "ops/buf.h"
#include "ops/file.h"
#include "ops/metrics.h"
#include "train/checkpoint/ckpt.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct wl_err err;

const char rig_model[] =
	"{preset: small, dim: 16, image: {px: 64, width: 0.25, depth: 0.3, head: 32, grid: 2, "
	"regions: 5, attention: {layers: 1, heads: 2, ffn: 16}}, text: {hidden: 16, layers: 1, "
	"heads: 2, ffn: 32, positions: 16, length: 14, attention: {layers: 1, heads: 2, ffn: 16}}}";

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
	return 0;
}

int rig_remove(struct train_rig *r)
{
	return wl_remove_tree(r->root, &err);
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
	setenv("OMP_NUM_THREADS", "1", 1);
	/* MPI has leaks of its own, and a rank that lost another ends as it stands. */
	if (getenv("ASAN_OPTIONS") && (strcmp(program, "wenlan-train") || getenv("WL_RANK")))
		setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
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
