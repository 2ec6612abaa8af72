/*
 * What a person is told of a path that is wrong (ops/path.h), and by every program: the option, the
 * path, what is wrong with it and what to do.
 */
#include "ops/file.h"
#include "ops/opt.h"
#include "ops/path.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct tmp_dir dir;
static struct wl_err err;
static char path[512];

/* A file, an empty one, a directory, a link to nothing, a pipe (which stands for all devices: were
 * they not refused, /dev/null would be a file from then on). */
static int set_up(void **state)
{
	char link[512];

	(void)state;
	dir = tmp_make();
	err = (struct wl_err)WL_ERR_INIT;
	tmp_write(tmp_path(&dir, "file", path), "a line\n");
	tmp_write(tmp_path(&dir, "empty", path), "");
	assert_int_equal(mkdir(tmp_path(&dir, "dir", path), 0777), 0);
	assert_int_equal(symlink("nothing", tmp_path(&dir, "link", link)), 0);
	assert_int_equal(mkfifo(tmp_path(&dir, "pipe", path), 0666), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	tmp_remove(&dir);
	return 0;
}

static void good(const char *name, enum wl_path_want want)
{
	OK(wl_path_check(tmp_path(&dir, name, path), want, NULL, &err));
}

static void bad(const char *name, enum wl_path_want want, const char *what)
{
	FAILS(WL_EFAIL, what, wl_path_check(tmp_path(&dir, name, path), want, "MEND", &err));
	assert_memory_equal(err.msg, path, strlen(path));
	err = (struct wl_err)WL_ERR_INIT;
}

static void inputs(void **state)
{
	(void)state;
	good("file", WL_PATH_FILE);
	good("empty", WL_PATH_FILE);
	good("file", WL_PATH_ANY);
	good("dir", WL_PATH_ANY);
	good("dir", WL_PATH_DIR);
	OK(wl_path_check("/dev/null", WL_PATH_FILE, NULL, &err));
	bad("none", WL_PATH_FILE, "cannot be opened: there is no such file; MEND");
	bad("none", WL_PATH_ANY, "there is no such file or directory; MEND");
	bad("none/file", WL_PATH_FILE, "there is no directory");
	bad("none/file", WL_PATH_FILE, "/none; MEND");
	bad("file/file", WL_PATH_FILE, "/file is a file, not a directory; MEND");
	bad("file/a/b", WL_PATH_FILE, "/file is a file, not a directory; MEND");
	bad("link", WL_PATH_FILE, "a link to what is not there; MEND");
	bad("dir", WL_PATH_FILE, "it is a directory, and a file is expected; MEND");
	bad("file", WL_PATH_DIR, "it is a file, not a directory; MEND");
	FAILS(WL_EFAIL, "check the path", wl_path_check("none", WL_PATH_FILE, NULL, &err));
	FAILS(WL_EFAIL, "an empty name", wl_path_check("", WL_PATH_FILE, NULL, &err));
}

static void outputs(void **state)
{
	(void)state;
	good("new", WL_PATH_OUTPUT);
	good("file", WL_PATH_OUTPUT);
	good("link", WL_PATH_OUTPUT);
	good("dir", WL_PATH_OUTPUT_DIR);
	good("a/b/c", WL_PATH_OUTPUT_DIR);
	bad("dir", WL_PATH_OUTPUT, "it is a directory; name a file: MEND");
	bad("new/", WL_PATH_OUTPUT, "it is a directory");
	bad("a/b/c", WL_PATH_OUTPUT, "make it first (mkdir -p ");
	bad("file/new", WL_PATH_OUTPUT, "/file is a file, not a directory");
	bad("file", WL_PATH_OUTPUT_DIR, "is a file, and a directory is to be written");
	bad("file/new/er", WL_PATH_OUTPUT_DIR, "/file is a file, not a directory");
	FAILS(WL_EFAIL, "a device or a pipe",
		wl_path_check("/dev/null", WL_PATH_OUTPUT, NULL, &err));
	FAILS(WL_EFAIL, "an empty name", wl_path_check("", WL_PATH_OUTPUT, NULL, &err));
	/* Relative names: the directory is the current one. */
	OK(wl_path_check("test-paths-new", WL_PATH_OUTPUT, NULL, &err));
	OK(wl_path_check("test-paths-new", WL_PATH_OUTPUT_DIR, NULL, &err));
}

/* Of another user; the superuser may do all. */
static void what_is_not_allowed(void **state)
{
	(void)state;
	if (geteuid() == 0) {
		assert_int_equal(chmod(dir.path, 0755), 0);
		if (seteuid(65534)) {
			print_message("SKIPPED: no other user to be (seteuid)\n");
			skip();
		}
	} else {
		assert_int_equal(chmod(dir.path, 0555), 0);
		assert_int_equal(chmod(tmp_path(&dir, "file", path), 0), 0);
	}
	if (getuid() == 0 && seteuid(0) == 0) {
		assert_int_equal(chmod(tmp_path(&dir, "file", path), 0600), 0);
		assert_int_equal(seteuid(65534), 0);
	}
	bad("file", WL_PATH_FILE, "may not; have its owner allow it");
	bad("new", WL_PATH_OUTPUT, "may not write into");
	bad("new", WL_PATH_OUTPUT_DIR, "may not write into");
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	else
		assert_int_equal(chmod(dir.path, 0755), 0);
}

static void errno_in_words(void **state)
{
	(void)state;
	errno = ENOENT;
	assert_int_equal(wl_path_failed("no-such/x", "opened", "MEND", &err), -1);
	assert_non_null(strstr(err.msg, "no-such/x cannot be opened: there is no directory no-such;"
					" MEND"));
	errno = EISDIR;
	assert_int_equal(wl_path_failed("x", "read", NULL, &err), -1);
	assert_non_null(strstr(err.msg, "x cannot be read: it is a directory"));
	errno = EIO;
	assert_int_equal(wl_path_failed("x", "read", NULL, &err), -1);
	assert_non_null(strstr(err.msg, strerror(EIO)));
	errno = ENOENT;
	assert_int_equal(wl_path_failed("x", "read", NULL, NULL), -1);
}

/* A pipe keeps its name, a link leads on. */
static void outfiles(void **state)
{
	struct wl_outfile f;
	char link[512], *text;
	struct stat st;

	(void)state;
	tmp_path(&dir, "pipe", path);
	FAILS(WL_EFAIL, "a device or a pipe", wl_outfile_open(&f, path, &err));
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	FAILS(WL_EFAIL, "it is a directory",
		wl_write_file(tmp_path(&dir, "dir", path), "x", 1, &err));
	tmp_path(&dir, "to-file", link);
	assert_int_equal(symlink("file", link), 0);
	OK(wl_write_file(link, "new", 3, &err));
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	text = tmp_read(tmp_path(&dir, "file", path), NULL);
	assert_string_equal(text, "new");
	free(text);
}

/* --- the programs --- */

/* Runs one in the directory: its code, and all these words in what it says. */
static void says(int code, const char *words[], const char *args)
{
	char *out, *bin = realpath(tmp_bin(), NULL);
	int rc;

	assert_non_null(bin);
	rc = tmp_run(&out, "cd %s && %s/wenlan-%s </dev/null", dir.path, bin, args);
	if (rc != code)
		fail_msg("%s: exit code %d where %d was expected: %s", args, rc, code, out);
	for (size_t i = 0; words[i]; i++)
		if (!strstr(out, words[i]))
			fail_msg("%s: no \"%s\" in: %s", args, words[i], out);
	free(out);
	free(bin);
}
#define SAYS(code, args, ...) says(code, (const char *[]){__VA_ARGS__, NULL}, args)

static void missing_inputs_are_named(void **state)
{
	static const char *const programs[] = {"dedup", "embed", "eval retrieval", "filter",
		"filter topics train", "ingest", "load", "run", "shard", "shard verify", "train",
		"vocab", "weights"};
	char args[128];

	(void)state;
	for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
		snprintf(args, sizeof args, "%s --config none.yaml", programs[i]);
		SAYS(2, args, "--config none.yaml cannot be opened", "--print-config");
	}
	SAYS(1, "load --shards s --vocab none", "--vocab none cannot", "wenlan-vocab --corpus");
	SAYS(1, "load --shards s --vocab dir", "--vocab dir cannot", "it is a directory");
	SAYS(3, "load --shards s --vocab empty", "--vocab empty", "[PAD]");
	SAYS(1, "train --shards s --run r --data.vocab none", "--data.vocab none", "wenlan-vocab");
	SAYS(1, "eval retrieval --embeddings none", "--embeddings none", "wenlan-embed --ckpt");
	SAYS(1, "eval retrieval --images none --texts none.npy", "--images none", "A.npz[:NAME]");
	SAYS(1, "eval caption --refs none --hyps file", "--refs none", "COCO");
	SAYS(1, "eval ranking --lists dir", "--lists dir", "it is a directory", "CSV");
	SAYS(2, "eval report --run none --out x.html", "--run none", "wenlan-train --run");
	SAYS(4, "embed --ckpt none --texts file --out x", "--ckpt none", "wenlan-train --run");
	SAYS(4, "embed --ckpt file --texts empty --out x", "--ckpt file", "not a directory");
	SAYS(4, "embed --ckpt dir --texts file --out x", "--ckpt dir", "state.json",
		"wenlan-train");
	SAYS(1, "embed --ckpt none --texts none --out x", "--texts none", "one a line");
	SAYS(1, "weights --from none", "--from none", "wenlan-train --run");
	SAYS(1, "run none.yaml", "none.yaml cannot be opened", "ops/plans/demo.yaml");
	SAYS(2, "run", "wenlan-run ops/plans/demo.yaml");
	SAYS(1, "filter --corpus c --scores none", "--scores none", "wenlan-embed --corpus");
	SAYS(1, "filter --corpus c --rules ./none", "--rules ./none", "wukong");
	SAYS(1, "shard repair --shards none", "--shards none", "wenlan-shard --out");
	SAYS(1, "filter topics train --corpus c --out o --stop none", "--stop none",
		"one word a line");
}

static void sources_of_the_wrong_sort(void **state)
{
	(void)state;
	SAYS(2, "ingest --corpus c jsonl:dir", "source jsonl:dir", "it is a directory", "dir:");
	SAYS(2, "ingest --corpus c dir:file", "source dir:file", "not a directory", "jsonl:");
	SAYS(2, "ingest --corpus c tar:none", "source tar:none", "there is no such file");
	SAYS(2, "ingest --corpus c 'html:dir?index=none'", "none cannot be opened", "?index=");
	SAYS(2, "ingest --corpus c 'jsonl:file?root=file'", "not a directory", "?root=");
	SAYS(0, "ingest --corpus c jsonl:empty", "not one record was found", "--help");
}

/* Before the work, not after it; and a directory that the run makes will be there. */
static void outputs_are_looked_at_first(void **state)
{
	(void)state;
	SAYS(1, "eval retrieval --embeddings file --out no/x", "--out no/x", "mkdir -p no");
	SAYS(1, "vocab --corpus c --out dir", "--out dir", "it is a directory");
	SAYS(1, "embed --ckpt none --texts file --out pipe", "--out pipe", "a device or a pipe");
	SAYS(1, "embed --ckpt none --corpus c --vectors --out file", "--out file",
		"a directory is to be written");
	SAYS(1, "weights --from dir --out file/x", "--out file/x", "file is a file");
	SAYS(1, "filter --corpus c --report no/x.html", "--report no/x.html", "mkdir -p no");
	SAYS(1, "shard --corpus c --out file", "--out file", "a directory is to be written");
	SAYS(1, "ingest --corpus new --report no/x.html jsonl:file", "--report no/x.html");
	SAYS(0, "ingest --corpus new --report new/x.html jsonl:empty", "");
	assert_true(wl_exists(tmp_path(&dir, "new/x.html", path)));
}

static void commands_are_listed(void **state)
{
	(void)state;
	SAYS(2, "shard frobnicate", "command 'frobnicate' is unknown", "verify, repair, audit, ls");
	SAYS(2, "shard verfy", "did you mean 'verify'?", "tombstone");
	SAYS(2, "eval frobnicate", "retrieval, caption, ranking, classify, report");
	SAYS(2, "eval --json", "a command is expected first, found --json", "retrieval, caption");
	SAYS(2, "filter frobnicate", "the commands are topics");
	SAYS(2, "filter topics frob", "train, select, show, report");
	SAYS(2, "shard", "--corpus DIR is required");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(inputs),
		TEST(outputs),
		TEST(what_is_not_allowed),
		TEST(errno_in_words),
		TEST(outfiles),
		TEST(missing_inputs_are_named),
		TEST(sources_of_the_wrong_sort),
		TEST(outputs_are_looked_at_first),
		TEST(commands_are_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
