/*
 * Pictures on many pages of a site (ingest/furniture.h), as people meet the rule: pages of two
 * hosts over several files and lanes, run in every way, killed, and added to.
 */
#include "ops/file.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_dump.h"
#include "tests/support/ingest_run.h"
#include "tests/support/kills.h"

#include <stdlib.h>
#include <string.h>

static struct tmp_dir tmp;
static struct wl_err err;
static char sources[2048];
static char *reference;

enum { DIRS = 4, MOST = 5, MANY = 40, FEW = 5 };

/* A page of a host with a picture of its own, and one of the whole site. */
static void make_page(const char *host, int i, const char *shared)
{
	char name[64], path[512];
	snprintf(name, sizeof name, "d%d/%s-%03d.html", i % DIRS, host, i);
	char *page = wl_strf(&err,
		"<title>第%d页的标题_某某网</title><link rel=canonical href='http://%s/p/%d.html'>"
		"<p>这是第%d页的第一段文字，写得并不长，可是够长了。</p><p><img src='/own/%d.jpg'></p>"
		"<p>这是第%d页的第二段文字，也写得不长，不过够用。</p><p><img src='%s'></p>"
		"<p>这是第%d页的最后一段文字，写得也不长，但够了。</p>",
		i, host, i, i, i, i, shared, i);
	assert_non_null(page);
	tmp_write(tmp_path(&tmp, name, path), page);
	free(page);
}

/* Host a's pages have one picture too often; host b's have the same one exactly as often as is
 * allowed, and a.cn's other one stands on that many pages too. */
static int setup(void **state)
{
	char path[512], name[16];
	(void)state;
	tmp = tmp_make();
	for (int i = 0; i < DIRS; i++) {
		snprintf(name, sizeof name, "d%d", i);
		OK(wl_mkdir_p(tmp_path(&tmp, name, path), &err));
		size_t n = strlen(sources);
		snprintf(sources + n, sizeof sources - n,
			" 'html:%s/d%d?profile=%s/few.yaml'", tmp.path, i, tmp.path);
	}
	tmp_write(tmp_path(&tmp, "few.yaml", path),
		"extends: news\nname: few\nuse: [easy]\nmax_pages: 5\n");
	for (int i = 0; i < MANY; i++)
		make_page("a.cn", i, i < FEW ? "http://i.cn/often.jpg" : "http://i.cn/all.jpg");
	for (int i = 0; i < FEW; i++)
		make_page("b.cn", i, "http://i.cn/all.jpg");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(reference);
	tmp_remove(&tmp);
	return 0;
}

static json_t *ingest(const char *corpus, const char *options)
{
	char args[4096];
	snprintf(args, sizeof args, "%s %s", options, sources);
	return ingest_run(&tmp, "--quiet --no-fetch", corpus, args, 0, NULL);
}

static size_t times(const char *text, const char *part)
{
	size_t n = 0;
	for (; (text = strstr(text, part)) != NULL; text++)
		n++;
	return n;
}

#define PASSED "picture left out, on many pages"

static void test_rule(void **state)
{
	char args[600], path[512];
	(void)state;
	snprintf(args, sizeof args, "--report %s/in.html", tmp.path);
	json_t *v = ingest("ref", args);
	assert_int_equal(ingest_count(v, "pending"), 2 * (MANY + FEW));
	assert_int_equal(ingest_count(json_object_get(v, "passed"), PASSED), MANY - FEW);
	assert_int_equal(ingest_count(v, "corpus.left_out"), MANY - FEW);
	assert_int_equal(ingest_count(v, "corpus.pending"), MANY + 3 * FEW);
	json_decref(v);
	reference = ingest_dump(&tmp, "ref");
	assert_int_equal(times(reference, "|http://i.cn/all.jpg|"), MANY);
	assert_int_equal(times(reference, "P-|"), MANY - FEW);
	assert_int_equal(times(reference, "|http://i.cn/often.jpg|"), FEW);
	char *page = tmp_read(tmp_path(&tmp, "in.html", path), NULL);
	assert_non_null(strstr(page, PASSED));
	free(page);
	/* Again: nothing is new, nothing counts twice. */
	v = ingest("ref", "");
	assert_null(json_object_get(json_object_get(v, "passed"), PASSED));
	assert_int_equal(ingest_count(v, "corpus.left_out"), MANY - FEW);
	json_decref(v);
	corpus_is(&tmp, "ref", reference, "run twice");
}

static void test_same_whatever_the_lanes(void **state)
{
	static const char *const options[] = {"--workers 1 --commit-every 1", "--partitions 3",
		"--partitions 7 --workers 3 --commit-every 5"};
	(void)state;
	for (int i = 0; i < 3; i++) {
		char name[16];
		snprintf(name, sizeof name, "w%d", i);
		json_decref(ingest(name, options[i]));
		corpus_is(&tmp, name, reference, options[i]);
	}
}

static void test_kills(void **state)
{
	char *cmd = wl_strf(&err,
		"exec %s/wenlan-ingest --quiet --no-fetch --corpus %s/killed --partitions 3 "
		"--commit-every 2 %s",
		tmp_bin(), tmp.path, sources);
	char *begin = wl_strf(&err, "rm -rf %s/killed", tmp.path);
	(void)state;
	assert_true(begin && cmd);
	kill_until_done(begin, cmd, 3);
	corpus_is(&tmp, "killed", reference, "killed again and again");
	free(begin);
	free(cmd);
}

/* One page more, and the picture of host b is too many too; what was known stays known. */
static void test_growth(void **state)
{
	(void)state;
	json_decref(ingest("grown", "--partitions 2"));
	make_page("b.cn", MANY, "http://i.cn/all.jpg");
	json_t *v = ingest("grown", "");
	assert_int_equal(ingest_count(v, "pending"), 2);
	assert_int_equal(ingest_count(json_object_get(v, "passed"), PASSED), FEW + 1);
	assert_int_equal(ingest_count(v, "corpus.left_out"), MANY + 1);
	json_decref(v);
	json_decref(ingest("at-once", ""));
	char *want = ingest_dump(&tmp, "at-once");
	corpus_is(&tmp, "grown", want, "in two steps");
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rule), /* first: it makes the reference */
		cmocka_unit_test(test_same_whatever_the_lanes),
		cmocka_unit_test(test_kills),
		cmocka_unit_test(test_growth),
	};
	return cmocka_run_group_tests_name("furniture", tests, setup, teardown);
}
