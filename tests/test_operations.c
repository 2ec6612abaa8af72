/*
 * What people who run crawls beg for: a source that is plainly wrong is given up, only what failed
 * is taken up again, a full disk loses nothing, a run that hangs says at what, totals are right
 * after a relaunch, and a report shows it all.
 */
#include "ingest/corpus.h"
#include "ingest/image.h"
#include "ingest/report.h"
#include "ingest/watch.h"
#include "ops/clock.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_dump.h"
#include "tests/support/ingest_run.h"
#include "tests/support/tmp.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct tmp_dir tmp;
static struct wl_err err;

static int setup(void **state)
{
	(void)state;
	tmp = tmp_make();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tmp_remove(&tmp);
	return 0;
}

static void write_jpeg(const char *path, uint32_t seed, int side)
{
	struct wl_image im = {.width = side, .height = side, .channels = 3};
	size_t n = (size_t)side * (size_t)side * 3;
	struct wl_buf b;

	im.data = malloc(n);
	assert_non_null(im.data);
	for (size_t i = 0; i < n; i++)
		im.data[i] = (uint8_t)wl_rand64(seed, 0, i);
	wl_buf_init(&b, 1 << 22);
	OK(wl_image_encode_jpeg(&im, 90, &b, &err));
	tmp_write_bytes(path, b.data, b.len);
	wl_image_release(&im);
	wl_buf_release(&b);
}

/* n records with pictures of their own in DIR; those that `missing` divides lack theirs. */
static void make(const char *dir, int n, int missing, int side)
{
	char p[600];
	struct wl_buf b;

	OK(wl_mkdir_p(dir, &err));
	wl_buf_init(&b, 1 << 20);
	for (int i = 1; i <= n; i++) {
		snprintf(p, sizeof p, "%s/%d.jpg", dir, i);
		if (!missing || i % missing)
			write_jpeg(p, (uint32_t)i, side);
		OK(wl_buf_printf(&b, &err, "{\"image\":\"%d.jpg\",\"text\":\"%s %d\"}\n", i,
			i % 4 ? "花开了" : "flowers", i));
	}
	snprintf(p, sizeof p, "%s/a.jsonl", dir);
	tmp_write_bytes(p, b.data, b.len);
	wl_buf_release(&b);
}

static json_t *ingest(const char *corpus, const char *args, int want, char **said)
{
	return ingest_run(&tmp, "--progress none --no-fetch", corpus, args, want, said);
}

static void says(const char *said, const char *what)
{
	if (!strstr(said, what))
		fail_msg("nobody says \"%s\": %.3000s", what, said);
}

static void same_corpus(const char *a, const char *b)
{
	char *x = ingest_dump(&tmp, a);
	corpus_is(&tmp, b, x, b);
	free(x);
}

/* ---- tests ---- */

static void test_error_rate(void **state)
{
	char p[512], args[2048], *said;
	struct wl_buf b;

	(void)state;
	wl_buf_init(&b, 1 << 20);
	for (int i = 0; i < 1000; i++)
		OK(wl_buf_printf(&b, &err, "this is no JSON %d\n", i));
	tmp_write_bytes(tmp_path(&tmp, "bad.jsonl", p), b.data, b.len);
	wl_buf_release(&b);
	make(tmp_path(&tmp, "good", p), 150, 3, 16);
	/* How many records are under way when it is left hangs on the workers. */
	snprintf(args, sizeof args,
		"--workers 2 --max-error-rate 0.5 jsonl:%s/bad.jsonl jsonl:%s/good/a.jsonl",
		tmp.path, tmp.path);
	json_t *v = ingest("rate", args, 3, &said);
	says(said, "--max-error-rate");
	says(said, "wrong JSON");
	says(said, "bad.jsonl");
	/* The wrong one was left early, the other (a third is bad) was read. */
	assert_int_equal(ingest_count(v, "kept"), 100);
	assert_true(ingest_count(v, "records") < 500 + 150);
	assert_true(ingest_count(v, "records") >= 100 + 150);
	json_decref(v);
	free(said);
	/* Without the option all of it goes to quarantine. */
	snprintf(args, sizeof args, "jsonl:%s/bad.jsonl", tmp.path);
	v = ingest("norate", args, 0, NULL);
	assert_int_equal(ingest_count(v, "quarantined"), 1000);
	json_decref(v);
	json_decref(ingest("norate", "--max-error-rate 0 jsonl:x", 2, NULL));
}

static void test_retry(void **state)
{
	char p[512], q[600], args[1024], *said;

	(void)state;
	make(tmp_path(&tmp, "part", p), 40, 4, 16);
	snprintf(args, sizeof args, "jsonl:%s/part/a.jsonl", tmp.path);
	json_t *v = ingest("retry", args, 0, NULL);
	assert_int_equal(ingest_count(v, "quarantined"), 10);
	json_decref(v);
	/* Half of the missing ones appear; one of them is no picture. */
	for (int i = 4; i <= 20; i += 4) {
		snprintf(q, sizeof q, "%s/%d.jpg", p, i);
		write_jpeg(q, (uint32_t)i, 16);
	}
	snprintf(q, sizeof q, "%s/12.jpg", p);
	tmp_write(q, "not a picture");
	/* Without the option they stay where they are. */
	v = ingest("retry", args, 0, NULL);
	assert_int_equal(ingest_count(v, "records"), 0);
	json_decref(v);
	snprintf(args, sizeof args, "--retry-quarantine jsonl:%s/part/a.jsonl", tmp.path);
	v = ingest("retry", args, 0, &said);
	assert_int_equal(ingest_count(v, "kept"), 4);
	assert_int_equal(ingest_count(json_object_get(v, "corpus"), "quarantined"), 6);
	says(said, "10 records of the quarantine tried again, 4 of them good now");
	json_decref(v);
	free(said);
	for (int i = 4; i <= 40; i += 4) {
		snprintf(q, sizeof q, "%s/%d.jpg", p, i);
		write_jpeg(q, (uint32_t)i, 16);
	}
	v = ingest("retry", args, 0, NULL);
	assert_int_equal(ingest_count(json_object_get(v, "corpus"), "quarantined"), 0);
	assert_int_equal(ingest_count(json_object_get(v, "corpus"), "pairs"), 40);
	json_decref(v);
	/* It is the corpus of a run that found everything at once. */
	snprintf(args, sizeof args, "jsonl:%s/part/a.jsonl", tmp.path);
	json_decref(ingest("retry-ref", args, 0, NULL));
	same_corpus("retry", "retry-ref");
}

/* No file may be larger than this: to the programs a disk that fills up in the middle. */
static void test_file_limit(void **state)
{
	char p[512], args[1024];
	static const int limits[] = {40, 150, 400, 0}; /* blocks of 512 bytes */

	(void)state;
	make(tmp_path(&tmp, "large", p), 60, 0, 64);
	snprintf(args, sizeof args, "--commit-every 5 jsonl:%s/large/a.jsonl", tmp.path);
	json_decref(ingest("limit-ref", args, 0, NULL));
	for (int i = 0; i < 4; i++) {
		char *out, limit[64] = "";
		if (limits[i])
			snprintf(limit, sizeof limit, "trap '' XFSZ; ulimit -f %d;", limits[i]);
		int code = tmp_run(&out, "%s %s/wenlan-ingest --quiet --corpus %s/limit %s", limit,
			tmp_bin(), tmp.path, args);
		if (code != (limits[i] ? 1 : 0))
			fail_msg("limit %d: exit code %d: %s", limits[i], code, out);
		free(out);
	}
	same_corpus("limit", "limit-ref");
}

static void test_full_disk(void **state)
{
	char p[512], q[512], args[2048], *out;

	(void)state;
	OK(wl_mkdir_p(tmp_path(&tmp, "disk", q), &err));
	if (mount("none", q, "tmpfs", 0, "size=600k"))
		SKIP("a small file system cannot be mounted here (needs root)");
	tmp_path(&tmp, "large", p);
	snprintf(args, sizeof args,
		"%s/wenlan-ingest --quiet --commit-every 5 --corpus %s/c "
		"jsonl:%s/a.jsonl",
		tmp_bin(), q, p);
	int first = tmp_run(&out, "%s", args);
	bool said = strstr(out, "is full") != NULL;
	char *text = out;
	int grown = mount("none", q, "tmpfs", MS_REMOUNT, "size=64m");
	int second = tmp_run(NULL, "%s", args);
	snprintf(args, sizeof args, "cp -r %s/c %s/from-disk", q, tmp.path);
	int copied = tmp_run(NULL, "%s", args);
	umount(q);
	assert_int_equal(grown, 0);
	if (first != 1 || !said)
		fail_msg("on a full disk: exit code %d: %s", first, text);
	free(text);
	assert_int_equal(second, 0);
	assert_int_equal(copied, 0);
	same_corpus("from-disk", "limit-ref");
}

static void test_watch(void **state)
{
	enum { LIMIT = 100000 }; /* seconds, that its own thread is silent throughout */
	const int64_t s = 1000;
	struct wl_watch *w = wl_watch_new(3, LIMIT, &err);
	char text[900] = "";
	int64_t then;

	(void)state;
	assert_non_null(w);
	wl_watch_begin(w, 0, "preparing", "jsonl:a", "line 1");
	wl_watch_end(w, 0);
	wl_watch_begin(w, 1, "reading", "jsonl:b", NULL);
	wl_watch_begin(w, 2, "preparing", "jsonl:b", "line 7");
	then = wl_now_ms();
	assert_false(wl_watch_stalled(w, then + (LIMIT - 5000) * s, text, sizeof text));
	assert_true(wl_watch_stalled(w, then + (LIMIT + 1) * s, text, sizeof text));
	says(text, "nothing was finished for 100");
	says(text, "busy: reading jsonl:b (100");
	says(text, "; preparing jsonl:b, line 7 (100");
	assert_null(strstr(text, "jsonl:a"));
	/* Said once, and again after twice the time. */
	assert_false(wl_watch_stalled(w, then + (LIMIT + 3) * s, text, sizeof text));
	assert_false(wl_watch_stalled(w, then + (2 * LIMIT - 5000) * s, text, sizeof text));
	assert_true(wl_watch_stalled(w, then + (2 * LIMIT + 5000) * s, text, sizeof text));
	/* A sign of life, after which it waits as long as at first. */
	wl_watch_end(w, 1);
	then = wl_now_ms();
	assert_false(wl_watch_stalled(w, then + (LIMIT - 5000) * s, text, sizeof text));
	assert_true(wl_watch_stalled(w, then + (LIMIT + 1) * s, text, sizeof text));
	says(text, "busy: preparing jsonl:b, line 7 (");
	wl_watch_alive(w);
	assert_false(wl_watch_stalled(w, wl_now_ms() + (LIMIT - 5000) * s, text, sizeof text));
	wl_watch_free(w);
	w = wl_watch_new(1, 0, &err); /* never */
	wl_watch_begin(w, 0, "reading", "x", NULL);
	assert_false(wl_watch_stalled(w, wl_now_ms() + LIMIT * s, text, sizeof text));
	wl_watch_free(w);
}

/* A pipe into which nobody writes until that was said; then all of it is read. */
static void test_stall(void **state)
{
	enum { LINES = 30 };
	char p[512], *said;

	(void)state;
	make(tmp_path(&tmp, "slow", p), LINES, 0, 16);
	tmp_path(&tmp, "slow/pipe", p);
	assert_int_equal(mkfifo(p, 0600), 0);
	int code = tmp_run(&said,
		"cd %s; { timeout 60 sh -c 'exec 3>slow/pipe\n"
		"until grep -q \"nothing was finished\" log; do sleep .02; done\n"
		"cat slow/a.jsonl >&3' & } 2>&1\n"
		"timeout 90 %s/wenlan-ingest --progress none --stall-seconds 1 --corpus stall "
		"jsonl:%s 2>log; code=$?; cat log; wait; exit $code",
		tmp.path, tmp_bin(), p);
	if (code != 0)
		fail_msg("exit code %d: %s", code, said);
	says(said, "nothing was finished for ");
	says(said, p);
	free(said);
	assert_int_equal(ingest_rows(&tmp, "stall"), LINES);
}

static void test_script(void **state)
{
	static const struct {
		const char *text;
		enum wl_script script;
	} cases[] = {{"花开了", WL_SCRIPT_CHINESE}, {"一只 cat 在睡觉", WL_SCRIPT_CHINESE},
		{"flowers", WL_SCRIPT_LATIN}, {"これは花です", WL_SCRIPT_JAPANESE},
		{"꽃이 피었다", WL_SCRIPT_KOREAN}, {"цветы", WL_SCRIPT_OTHER},
		{"123, ...", WL_SCRIPT_NONE}, {"", WL_SCRIPT_NONE},
		{"\xff\xe8\x8a", WL_SCRIPT_NONE}, {"\xed\xa0\x80 \xc0\x80", WL_SCRIPT_NONE},
		{"iPhone 手机", WL_SCRIPT_CHINESE}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (wl_script_of(cases[i].text) != cases[i].script)
			fail_msg("\"%s\" is %s, expected %s", cases[i].text,
				wl_script_name(wl_script_of(cases[i].text)),
				wl_script_name(cases[i].script));
}

static void test_report(void **state)
{
	char p[512], args[2048];
	size_t n;

	(void)state;
	make(tmp_path(&tmp, "rep", p), 80, 8, 40);
	snprintf(args, sizeof args, "%s/bad<b>.jpg", p);
	tmp_write(args, "<script>alert(1)</script>");
	snprintf(args, sizeof args, "%s/bad<b>.txt", p);
	tmp_write(args, "<b>");
	snprintf(args, sizeof args,
		"--partitions 3 --max-records 30 --source-name news --report %s/r.html "
		"jsonl:%s/a.jsonl",
		tmp.path, p);
	json_decref(ingest("rep", args, 0, NULL));
	/* A relaunch: totals are of the whole corpus. */
	snprintf(args, sizeof args, "--source-name news --report %s/r.html jsonl:%s/a.jsonl dir:%s",
		tmp.path, p, p);
	json_t *v = ingest("rep", args, 0, NULL);
	assert_int_equal(ingest_count(json_object_get(v, "corpus"), "pairs"), 70);
	json_decref(v);
	char *html = tmp_read(tmp_path(&tmp, "r.html", args), &n);
	says(html, "<td>pairs</td><td class=\"n\">70</td>");
	says(html, "<tr><td>news</td><td class=\"n\">70</td>");
	says(html, "the image file cannot be read");
	says(html, "no text");
	says(html, "Chinese");
	says(html, "data:image/jpeg;base64,");
	says(html, "&lt;script&gt;");
	if (strstr(html, "<script") || strstr(html, "src=\"http"))
		fail_msg("the page is not self-contained");
	free(html);
	/* Without any source, later. */
	snprintf(args, sizeof args, "--report %s/again.html", tmp.path);
	json_decref(ingest("rep", args, 0, NULL));
	assert_true(wl_exists(tmp_path(&tmp, "again.html", args)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error_rate),
		cmocka_unit_test(test_retry),
		cmocka_unit_test(test_file_limit), /* makes what the next compares with */
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_stall),
		cmocka_unit_test(test_script),
		cmocka_unit_test(test_report),
	};

	return cmocka_run_group_tests_name("operations", tests, setup, teardown);
}
