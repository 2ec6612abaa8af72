/* Lists through a pipe, whose bytes come once and when they like: what it gives is what the file of
 * that name has, and a run that waits for it is stopped between two records. */
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/ingest_run.h"
#include "tests/support/pictures.h"
#include "tests/support/tmp.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUIET "--quiet --no-fetch"

enum { LINES = 60 };

static struct tmp_dir tmp;
static struct wl_err err;

/* jsonl/: a list of pictures, plain and compressed; one picture is missing. */
static int setup(void **state)
{
	char p[512], name[64];
	struct wl_buf lines;

	(void)state;
	tmp = tmp_make();
	OK(wl_mkdir_p(tmp_path(&tmp, "jsonl/img", p), &err));
	wl_buf_init(&lines, 1 << 20);
	for (int i = 0; i < LINES; i++) {
		struct wl_buf b = pictures_seeded(24, 20, (uint32_t)i, 90);
		snprintf(name, sizeof name, "jsonl/img/%d.jpg", i);
		if (i != 10)
			tmp_write_bytes(tmp_path(&tmp, name, p), b.data, b.len);
		wl_buf_release(&b);
		OK(wl_buf_printf(&lines, &err, "{\"image\":\"img/%d.jpg\",\"text\":\"第 %d 张\"}\n",
			i, i));
	}
	tmp_write_bytes(tmp_path(&tmp, "jsonl/a.jsonl", p), lines.data, lines.len);
	wl_buf_release(&lines);
	assert_int_equal(tmp_run(NULL, "gzip -k '%s'", p), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tmp_remove(&tmp);
	return 0;
}

static void ingest_items(const char *corpus, const char *kind, const char *path, int items)
{
	json_t *v = ingest_runf(&tmp, QUIET, corpus, 0, "%s:%s", kind, path);

	assert_int_equal(ingest_count(v, "records"), items);
	json_decref(v);
}

/* Lines into fd; the place behind them. */
static const char *write_lines(int fd, const char *from, int lines)
{
	const char *end = from;

	while (lines--) {
		end = strchr(end, '\n');
		assert_non_null(end++);
	}
	assert_int_equal(write(fd, from, (size_t)(end - from)), end - from);
	return end;
}

/* A signal in the middle, which is certain since the rest of the lines waits for it: exit code 75,
 * what was read is committed, and the next run goes on. */
static void test_signal(void **state)
{
	enum { AT_FIRST = 20 }; /* more than one worker takes before anything is committed */
	char from[512], pipe[512], args[1200], *lines;
	const char *rest;
	int fd;
	size_t n;
	pid_t pid;

	(void)state;
	tmp_path(&tmp, "jsonl/a.jsonl", from);
	lines = tmp_read(from, &n);
	tmp_path(&tmp, "signal.jsonl", pipe);
	assert_int_equal(mkfifo(pipe, 0600), 0);
	fd = open(pipe, O_RDWR | O_CLOEXEC); /* so that it has an end only when we say so */
	assert_true(fd >= 0);
	rest = write_lines(fd, lines, AT_FIRST);
	snprintf(args, sizeof args, "--workers 1 --commit-every 1 'jsonl:%s?images=%s/jsonl'", pipe,
		tmp.path);
	pid = ingest_start(&tmp, "--no-fetch", "signal", args);
	for (int64_t since = 0; ingest_rows(&tmp, "signal") == 0 && tmp_wait(&since);)
		;
	assert_int_equal(kill(pid, SIGTERM), 0);
	write_lines(fd, rest, 1); /* what it waits for */
	assert_int_equal(ingest_reap(pid, 60), 75);
	close(fd);
	assert_in_range(ingest_rows(&tmp, "signal"), 1, AT_FIRST + 1);
	unlink(pipe);
	tmp_write_bytes(pipe, lines, n);
	json_decref(ingest_run(&tmp, QUIET, "signal", args, 0, NULL));
	json_decref(ingest_run(&tmp, QUIET, "no-signal", args, 0, NULL));
	free(lines);
	char *want = ingest_dump(&tmp, "no-signal");
	corpus_is(&tmp, "signal", want, "stopped by a signal");
	free(want);
}

/* What comes through a pipe is what the file of that name has. */
static void test_pipes(void **state)
{
	static const struct {
		const char *kind, *file, *text; /* text NULL: it is there already */
		int items;
	} cases[] = {{"jsonl", "jsonl/a.jsonl", NULL, LINES},
		{"jsonl", "jsonl/a.jsonl.gz", NULL, LINES},
		{"urls", "p/a.txt", "\n \nhttp://x.cn/1\t一\nhttp://x.cn/2\t二\n", 2},
		{"urls", "p/a.csv", "\xef\xbb\xbfurl,caption\nhttp://x.cn/1,\"一\n二\"\n", 1},
		{"urls", "p/b.jsonl", "{\"url\":\"http://x.cn/1\",\"caption\":\"一\"}\n", 1},
		{"urls", "p/empty", "", 0}, {"jsonl", "p/empty", "", 0},
		{"jsonl", "p/empty.gz", NULL, 0}};
	char p[512], piped[16], plain[16];

	(void)state;
	tmp_path(&tmp, "p", p);
	OK(wl_mkdir_p(p, &err));
	assert_int_equal(tmp_run(NULL, "gzip </dev/null >%s/empty.gz", p), 0);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		tmp_path(&tmp, cases[i].file, p);
		if (cases[i].text)
			tmp_write(p, cases[i].text);
		snprintf(piped, sizeof piped, "piped%d", (int)i);
		snprintf(plain, sizeof plain, "plain%d", (int)i);
		ingest_items(plain, cases[i].kind, p, cases[i].items);
		assert_int_equal(tmp_run(NULL, "mv %s %s.file && mkfifo %s", p, p, p), 0);
		pid_t writer = fork();
		assert_true(writer >= 0);
		if (writer == 0) {
			execlp("timeout", "timeout", "60", "sh", "-c", "cat \"$0.file\" >\"$0\"", p,
				(char *)NULL);
			_exit(127);
		}
		ingest_items(piped, cases[i].kind, p, cases[i].items);
		assert_int_equal(waitpid(writer, NULL, 0), writer);
		assert_int_equal(tmp_run(NULL, "mv %s.file %s", p, p), 0);
		char *want = ingest_dump(&tmp, plain);
		corpus_is(&tmp, piped, want, p);
		free(want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signal),
		cmocka_unit_test(test_pipes),
	};
	return cmocka_run_group_tests_name("pipes", tests, setup, teardown);
}
