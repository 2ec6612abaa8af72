/*
 * html: as people run it: saved pages into a corpus, the same whatever the number of workers and
 * partitions and however often the run was killed.
 */
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/ingest_run.h"
#include "tests/support/kills.h"
#include "tests/support/tmp.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WEB "../shared/data/web/html"

static struct tmp_dir tmp;
static struct wl_err err;

enum { PAGES = 60, BAD = 2 };

/* PAGES pages: in a third the address comes from the index, in a third from a canonical link, in
 * a third from nowhere; 4 pictures each, of them one without an address of its own host, one
 * furniture, one twice.  BAD more that are none. */
static void make_page(int i)
{
	char name[64], path[512];
	snprintf(name, sizeof name, "pages/%s/%d.html", i % 2 ? "a" : "b", i);
	char *page = wl_strf(&err,
		"%s<title>第%d页_某某网</title><p>这是第%d页的第一段文字，写得并不长。</p>"
		"<p><img src=pic%d.jpg></p><p>图为第%d页的照片</p><p><img src='http://i.cn/%d.jpg'"
		" alt='第%d页的插图'><img src='http://i.cn/%d.jpg'><img src=/logo.png></p>"
		"<p>这是第%d页的最后一段文字，写得也不长。</p>",
		i % 3 == 1 ? "<link rel=canonical href='http://canon.cn/p/'>" : "", i, i, i, i, i,
		i, i, i);
	assert_non_null(page);
	tmp_write(tmp_path(&tmp, name, path), page);
	free(page);
}

static int setup(void **state)
{
	char path[512];
	struct wl_buf index;
	(void)state;
	tmp = tmp_make();
	wl_buf_init(&index, 1 << 20);
	OK(wl_mkdir_p(tmp_path(&tmp, "pages/a", path), &err));
	OK(wl_mkdir_p(tmp_path(&tmp, "pages/b", path), &err));
	for (int i = 0; i < PAGES; i++) {
		make_page(i);
		if (i % 3 == 0)
			OK(wl_buf_printf(&index, &err,
				"{\"file\":\"%s/%d.html\",\"url\":\"http://known.cn/%d/"
				"x.html-->\"}\n",
				i % 2 ? "a" : "b", i, i));
	}
	tmp_write(tmp_path(&tmp, "pages/a/empty.html", path), "");
	tmp_write_bytes(tmp_path(&tmp, "pages/b/binary.htm", path), "\1\2\3\4\5\6\7\0\0\0\0\0", 12);
	tmp_write(tmp_path(&tmp, "pages/b/notes.txt", path), "no page");
	tmp_write(tmp_path(&tmp, "index.jsonl", path), wl_buf_str(&index));
	wl_buf_release(&index);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tmp_remove(&tmp);
	return 0;
}

static json_t *ingest(const char *corpus, const char *options, const char *query, int want_code)
{
	char args[1600];
	snprintf(args, sizeof args, "%s 'html:%s/pages%s'", options, tmp.path, query);
	return ingest_run(&tmp, "--quiet --no-fetch", corpus, args, want_code, NULL);
}

static char *query(void)
{
	char *q = wl_strf(&err, "?profile=news&index=%s/index.jsonl", tmp.path);
	assert_non_null(q);
	return q;
}

/* Every picture of every page ends as a pair to fetch or left out for a reason. */
static void test_counts(void **state)
{
	(void)state;
	char *q = query();
	json_t *v = ingest("ref", "--workers 2", q, 0);
	/* In a third of the pages pic%d.jpg and /logo.png have no address. */
	assert_int_equal(ingest_count(v, "records"), PAGES + BAD);
	assert_int_equal(ingest_count(v, "quarantined"), BAD);
	assert_int_equal(ingest_count(v, "pending"), PAGES + PAGES * 2 / 3);
	const json_t *passed = json_object_get(v, "passed");
	assert_int_equal(ingest_count(passed, "pages read"), PAGES);
	assert_int_equal(ingest_count(passed, "picture left out, repeated"), PAGES);
	assert_int_equal(ingest_count(passed, "picture left out, icon"), PAGES * 2 / 3);
	assert_int_equal(ingest_count(passed, "picture left out, bad-url"), 2 * PAGES / 3);
	json_decref(v);
	char *d = ingest_dump(&tmp, "ref");
	assert_non_null(strstr(d, "http://known.cn/3/pic3.jpg"));
	assert_non_null(strstr(d, "http://canon.cn/p/pic4.jpg"));
	assert_non_null(strstr(d, "图为第3页的照片"));
	assert_null(strstr(d, "-->"));
	free(d);
	/* Again: nothing new. */
	v = ingest("ref", "", q, 0);
	assert_int_equal(ingest_count(v, "records"), 0);
	json_decref(v);
	free(q);
}

static void test_same_whatever_the_workers(void **state)
{
	static const char *const options[] = {
		"--workers 1 --commit-every 1", "--workers 4 --partitions 3 --commit-every 7"};
	char *want = ingest_dump(&tmp, "ref"), *q = query();
	(void)state;
	for (int i = 0; i < 2; i++) {
		char name[16];
		snprintf(name, sizeof name, "w%d", i);
		json_decref(ingest(name, options[i], q, 0));
		corpus_is(&tmp, name, want, options[i]);
	}
	free(want);
	free(q);
}

static void test_kills(void **state)
{
	char *q = query(), *want = ingest_dump(&tmp, "ref");
	char *cmd = wl_strf(&err,
		"exec %s/wenlan-ingest --quiet --no-fetch --corpus %s/killed --commit-every 2 "
		"'html:%s/pages%s'",
		tmp_bin(), tmp.path, tmp.path, q);
	char *begin = wl_strf(&err, "rm -rf %s/killed", tmp.path);
	(void)state;
	kill_until_done(begin, cmd, 3);
	corpus_is(&tmp, "killed", want, "killed again and again");
	free(begin);
	free(cmd);
	free(q);
	free(want);
}

/* New pages in the folder: only they are taken. */
static void test_growth(void **state)
{
	char *q = query();
	(void)state;
	json_decref(ingest("grown", "", q, 0));
	make_page(PAGES + 1);
	json_t *v = ingest("grown", "", q, 0);
	assert_int_equal(ingest_count(v, "pending"), 2);
	json_decref(v);
	char path[512];
	assert_int_equal(unlink(tmp_path(&tmp, "pages/a/61.html", path)), 0);
	free(q);
}

static void test_bad_arguments(void **state)
{
	static const char *const bad[][2] = {{"?profile=newz", "news"}, {"?profil=news", "profile"},
		{"?index=/nowhere/index.jsonl", "/nowhere"}};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char *out;
		int code = tmp_run(&out,
			"%s/wenlan-ingest --no-fetch --corpus %s/bad 'html:%s/pages%s'", tmp_bin(),
			tmp.path, tmp.path, bad[i][0]);
		if (code == 0 || !strstr(out, bad[i][1]))
			fail_msg("%s: exit code %d: %s", bad[i][0], code, out);
		free(out);
	}
	char path[512], *out;
	tmp_write(tmp_path(&tmp, "broken.jsonl", path), "{\"file\":\"a\"}\n\n[1]\n");
	int code = tmp_run(&out,
		"%s/wenlan-ingest --no-fetch --corpus %s/bad 'html:%s/pages?index=%s'", tmp_bin(),
		tmp.path, tmp.path, path);
	assert_int_equal(code, 2);
	assert_non_null(strstr(out, "line 3"));
	free(out);
}

static void test_saved_pages(void **state)
{
	(void)state;
	if (!wl_exists(WEB))
		SKIP(WEB " is not here");
	json_t *v = ingest_run(&tmp, "--quiet --no-fetch", "web",
		"'html:" WEB "?profile=news&index=" WEB "/index.jsonl' 'html:" WEB
		"-goose/test_bbc_chinese.html'",
		0, NULL);
	assert_int_equal(ingest_count(v, "records"), 46);
	assert_int_equal(ingest_count(v, "quarantined"), 0);
	assert_in_range(ingest_count(v, "pending"), 250, 450);
	json_decref(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts), /* first: it makes the reference */
		cmocka_unit_test(test_same_whatever_the_workers),
		cmocka_unit_test(test_kills),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_bad_arguments),
		cmocka_unit_test(test_saved_pages),
	};
	return cmocka_run_group_tests_name("html source", tests, setup, teardown);
}
