/* See ingest_run.h. */
#include "tests/support/ingest_run.h"

#include "ingest/corpus.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_dump.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

json_t *ingest_run(const struct tmp_dir *dir, const char *options, const char *corpus,
	const char *args, int want_code, char **said)
{
	char *out;
	int code = tmp_run(&out, "%s/wenlan-ingest %s --json --corpus %s/%s %s", tmp_bin(), options,
		dir->path, corpus, args);
	if (code != want_code)
		fail_msg("ingest %s: exit code %d, expected %d: %s", args, code, want_code, out);
	const char *brace = strstr(out, "{\"corpus\"");
	json_t *v = brace ? json_loads(brace, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
	if (!v && want_code == 0)
		fail_msg("ingest %s: no result: %s", args, out);
	if (said)
		*said = out;
	else
		free(out);
	return v;
}

json_t *ingest_runf(const struct tmp_dir *dir, const char *options, const char *corpus,
	int want_code, const char *fmt, ...)
{
	char args[2048];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(args, sizeof args, fmt, ap);
	va_end(ap);
	assert_in_range(n, 0, sizeof args - 1);
	return ingest_run(dir, options, corpus, args, want_code, NULL);
}

int64_t ingest_count(const json_t *v, const char *key)
{
	const char *dot = strchr(key, '.');
	const json_t *m = dot ? json_object_getn(v, key, (size_t)(dot - key))
			      : json_object_get(v, key);
	if (dot)
		return ingest_count(m, dot + 1);
	if (!json_is_integer(m))
		fail_msg("the result has no %s", key);
	return json_integer_value(m);
}

char *ingest_dump(const struct tmp_dir *dir, const char *corpus)
{
	char path[512];
	return corpus_dump(tmp_path(dir, corpus, path), NULL);
}

void dumps_equal(const char *want, const char *got, const char *what)
{
	size_t i = 0, line = 0;
	if (strcmp(want, got) == 0)
		return;
	for (; want[i] && want[i] == got[i]; i++)
		line = want[i] == '\n' ? i + 1 : line;
	fail_msg("%s: the corpora differ:\n  %.400s\n  %.400s", what, want + line, got + line);
}

void corpus_is(const struct tmp_dir *dir, const char *corpus, const char *want, const char *what)
{
	char *got = ingest_dump(dir, corpus);
	dumps_equal(want, got, what);
	free(got);
}

pid_t ingest_start(const struct tmp_dir *dir, const char *options, const char *corpus,
	const char *args)
{
	char cmd[2048];
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	snprintf(cmd, sizeof cmd, "exec %s/wenlan-ingest --quiet %s --corpus %s/%s %s", tmp_bin(),
		options, dir->path, corpus, args);
	execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
	_exit(127);
}

/* Whether the process has a handler for that signal. */
static bool catches(pid_t pid, int signal)
{
	char path[64], line[256];
	unsigned long long caught = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		sscanf(line, "SigCgt: %llx", &caught);
	if (f)
		fclose(f);
	return caught >> (signal - 1) & 1;
}

void ingest_stop(pid_t pid)
{
	for (int64_t since = 0; !catches(pid, SIGTERM);)
		assert_true(tmp_wait(&since));
	kill(pid, SIGTERM);
}

int ingest_reap(pid_t pid, int seconds)
{
	int status;

	for (int i = 0; i < seconds * 100; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
		tmp_nap_ms(10);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1000;
}

int64_t ingest_rows(const struct tmp_dir *dir, const char *corpus)
{
	struct wl_corpus_counts n = {0};
	struct wl_err err = WL_ERR_INIT;
	char p[512];
	struct wl_corpus *c = wl_corpus_open(tmp_path(dir, corpus, p), false, 0, &err);

	if (!c)
		return 0;
	if (wl_corpus_count(c, &n, &err) < 0)
		n = (struct wl_corpus_counts){0};
	wl_corpus_close(c);
	return n.pairs + n.quarantined;
}

void ingest_wait_for_rows(const struct tmp_dir *dir, const char *corpus, int64_t want)
{
	int64_t since = 0, before = 0, rows;

	while ((rows = ingest_rows(dir, corpus)) < want) {
		if (rows > before)
			since = 0;
		before = rows;
		if (!tmp_wait(&since))
			fail_msg("%s: %lld rows, expected %lld", corpus, (long long)rows,
				(long long)want);
	}
}
