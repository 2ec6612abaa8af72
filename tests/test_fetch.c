/*
 * Fetching from a server that misbehaves in every way we know: each URL gets the outcome that it
 * should, once, whatever the number of workers and partitions and however often the run is killed.
 */
#include "ingest/corpus.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_dump.h"
#include "tests/support/kills.h"
#include "tests/support/webrig.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct wl_err err;

static int64_t reason(const json_t *v, const char *class)
{
	return json_integer_value(
		json_object_get(json_object_get(json_object_get(v, "fetch"), "reasons"), class));
}

#define REASON(v, class, want)                                                                     \
	do {                                                                                       \
		if (reason(v, class) != (want))                                                    \
			fail_msg("\"%s\": %lld times, expected %d: %s", class,                     \
				(long long)reason(v, class), (want),                               \
				json_dumps(v, JSON_SORT_KEYS));                                    \
	} while (0)

/* ---- every kind of answer ---- */

static const char mixed[] = "/img/1.jpg\t甲\n/img/2.jpg\t乙\n/img/1.jpg\t甲 again\n"
			    "/nameless/3\t三\n/hop/3/4\t四\n/otherbot/5\t五\n/busy/6\t六\n"
			    "/denied/but-this/7\t七\n/referer/8\t八\n"
			    "/text/20.jpg\tx\n/lying/21.jpg\tx\n/loop/22\tx\n/inward/23\tx\n"
			    "/file/24\tx\n/cut/27\tx\n/short/28\tx\n"
			    "/reset/29\tx\n/endless/30\tx\n/huge/31\tx\n/error/32\tx\n"
			    "/missing/33\tx\n/noai/34\tx\n/denied/35\tx\n/hop/9/36\tx\n";
enum { MIXED = 24, MIXED_OK = 8 };

static void test_outcomes(void **state)
{
	struct web_rig *rig = *state;
	char args[1024];
	web_list(rig, "mixed.txt", rig->web.port, mixed);
	snprintf(args, sizeof args, "urls:%s/mixed.txt", rig->tmp.path);
	json_t *v = web_ingest(rig, "mixed", 0, "%s", args);
	INGEST_IS(v, "records", MIXED);
	INGEST_IS(v, "pending", MIXED);
	/* Two lines name one picture, one picture wants a Referer that a bare list cannot give. */
	INGEST_IS(v, "fetch.ok", MIXED_OK - 1);
	INGEST_IS(v, "fetch.pairs", MIXED_OK);
	INGEST_IS(v, "fetch.quarantined", MIXED - MIXED_OK);
	INGEST_IS(v, "fetch.waiting", 0);
	INGEST_IS(v, "corpus.pairs", MIXED_OK);
	INGEST_IS(v, "corpus.quarantined", MIXED - MIXED_OK);
	INGEST_IS(v, "corpus.pending", 0);
	REASON(v, "this is no image that we know", 2);
	REASON(v, "too many redirects", 2);
	REASON(v, "the address is not public", 1);
	REASON(v, "the redirect leads nowhere", 1);
	REASON(v, "the answer was cut off", 2);
	REASON(v, "the JPEG is damaged", 1);
	REASON(v, "the image file is too large", 2);
	REASON(v, "the server answered 500", 1);
	REASON(v, "the server answered 404", 1);
	REASON(v, "the server answered 403", 1);
	REASON(v, "X-Robots-Tag forbids it", 1);
	REASON(v, "robots.txt forbids it", 1);
	json_decref(v);
	/* One request for each, but for what is tried again. */
	assert_int_equal(httpd_hits(&rig->web, "/img/1.jpg"), 1);
	assert_int_equal(httpd_hits(&rig->web, "/missing/33"), 1);
	assert_int_equal(httpd_hits(&rig->web, "/denied/35"), 0);
	assert_int_equal(httpd_hits(&rig->web, "/busy/6"), 3);
	assert_int_equal(httpd_hits(&rig->web, "/error/32"), 4);
	assert_int_equal(httpd_hits(&rig->web, "/robots.txt"), 1);
	/* Again: nothing is asked for again. */
	int hits = rig->web.shared->hits;
	v = web_ingest(rig, "mixed", 0, "%s", args);
	INGEST_IS(v, "records", 0);
	INGEST_IS(v, "fetch.requests", 0);
	json_decref(v);
	assert_int_equal(rig->web.shared->hits, hits);
	/* New pairs of known URLs need no request either. */
	web_list(rig, "more.txt", rig->web.port, "/img/2.jpg\tnew\n/missing/33\tnew\n");
	v = web_ingest(rig, "mixed", 0, "urls:%s/more.txt", rig->tmp.path);
	INGEST_IS(v, "fetch.requests", 0);
	INGEST_IS(v, "fetch.pairs", 1);
	INGEST_IS(v, "fetch.quarantined", 1);
	INGEST_IS(v, "corpus.pairs", MIXED_OK + 1);
	json_decref(v);
	assert_int_equal(rig->web.shared->hits, hits);
	/* The bytes are those that were sent; one picture lies there once. */
	char *d = ingest_dump(&rig->tmp, "mixed");
	assert_non_null(strstr(d, "[[\"caption\",\"甲 again\"]]"));
	free(d);
}

/* What a server does not end by itself is ended, after one more try. */
static void test_too_long(void **state)
{
	struct web_rig *rig = *state;
	web_list(rig, "long.txt", rig->web.port, "/slow/25\tx\n/hang/26\tx\n");
	json_t *v = web_ingest(rig, "long", 0,
		"--no-robots --fetch-timeout 1 --fetch-retries 1 urls:%s/long.txt", rig->tmp.path);
	INGEST_IS(v, "fetch.quarantined", 2);
	INGEST_IS(v, "fetch.requests", 4);
	REASON(v, "it took too long", 2);
	json_decref(v);
}

/* Everything that decides over a corpus: the same bytes whatever the run is like. */
static void test_workers_and_partitions(void **state)
{
	struct web_rig *rig = *state;
	static const char *const options[] = {"--workers 1 --fetch-connections 1",
		"--partitions 4 --commit-every 1", "--workers 3 --fetch-per-host 50"};
	char name[16];
	memset(rig->web.shared->counter, 0, sizeof rig->web.shared->counter);
	json_decref(web_ingest(rig, "again", 0, "urls:%s/mixed.txt", rig->tmp.path));
	char *want = ingest_dump(&rig->tmp, "again");
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof name, "wp%d", i);
		memset(rig->web.shared->counter, 0, sizeof rig->web.shared->counter);
		json_decref(web_ingest(rig, name, 0, "%s urls:%s/mixed.txt", options[i],
			rig->tmp.path));
		corpus_is(&rig->tmp, name, want, options[i]);
	}
	free(want);
}

/* Lists in different lanes name the same URLs: each is fetched once. */
static void test_across_lanes(void **state)
{
	struct web_rig *rig = *state;
	char args[2048] = "--partitions 5", name[32];
	memset(rig->web.shared->counter, 0, sizeof rig->web.shared->counter);
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof name, "across%d.txt", i);
		web_list(rig, name, rig->web.port,
			"/img/40.jpg\tx\n/missing/41\tx\n/img/42.jpg\ty\n");
		snprintf(args + strlen(args), sizeof args - strlen(args), " urls:%s/%s",
			rig->tmp.path, name);
	}
	json_t *v = web_ingest(rig, "across", 0, "%s", args);
	INGEST_IS(v, "corpus.pairs", 12);
	INGEST_IS(v, "corpus.quarantined", 6);
	json_decref(v);
	assert_int_equal(httpd_hits(&rig->web, "/img/40.jpg"), 1);
	assert_int_equal(httpd_hits(&rig->web, "/missing/41"), 1);
	free(ingest_dump(&rig->tmp, "across")); /* every pair has its bytes */
}

/* URLs without a caption: pages, whose pictures are then fetched; a bare picture has no text. */
static void test_pages(void **state)
{
	struct web_rig *rig = *state;
	char name[16];
	web_list(rig, "pages.txt", rig->web.port,
		"/page/1\n/page/2\n/page/1\n/img/9.jpg\n/page/2\tcaption\n/missing/77\n/text/5\n");
	memset(rig->web.shared->counter, 0, sizeof rig->web.shared->counter);
	json_t *v = web_ingest(rig, "pages", 0, "'urls:%s/pages.txt?profile=baike'", rig->tmp.path);
	INGEST_IS(v, "records", 7);
	INGEST_IS(v, "fetch.pages", 4); /* three lines, and one page without pictures */
	INGEST_IS(v, "fetch.found", 9);
	INGEST_IS(v, "fetch.pairs", 6);
	/* Three missing pictures and a missing page, a bare picture, a page with a caption. */
	INGEST_IS(v, "fetch.quarantined", 6);
	INGEST_IS(v, "corpus.pairs", 6);
	INGEST_IS(v, "corpus.pending", 0);
	INGEST_IS(v, "corpus.quarantined", 6);
	json_decref(v);
	assert_int_equal(httpd_hits(&rig->web, "/page/1"), 1);
	assert_int_equal(httpd_hits(&rig->web, "/img/2.jpg"), 1);
	char *want = ingest_dump(&rig->tmp, "pages");
	assert_non_null(strstr(want, "|baike|"));
	assert_non_null(strstr(want, "湖边的白房子"));
	assert_non_null(strstr(want, "|no text|"));
	assert_non_null(strstr(want, "|it is a page, not a picture|"));
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof name, "pages%d", i);
		json_decref(web_ingest(rig, name, 0, "%s 'urls:%s/pages.txt?profile=baike'",
			i ? "--partitions 3 --commit-every 1" : "--fetch-connections 1 --workers 1",
			rig->tmp.path));
		corpus_is(&rig->tmp, name, want, "pages");
	}
	free(want);
	json_decref(web_ingest(rig, "pagesbad", 2, "'urls:%s/pages.txt?profile=nothing'",
		rig->tmp.path));
}

/* ---- manners ---- */

static void test_robots(void **state)
{
	struct web_rig *rig = *state;
	char args[1024];
	web_list(rig, "robots.txt", rig->web.port, "/denied/1\tx\n/noai/2\tx\n/img/3.jpg\tx\n");
	snprintf(args, sizeof args, "urls:%s/robots.txt", rig->tmp.path);
	/* No robots.txt: nothing is forbidden by it. */
	rig->web.shared->robots = 404;
	json_t *v = web_ingest(rig, "robots404", 0, "%s", args);
	INGEST_IS(v, "fetch.ok", 2);
	REASON(v, "X-Robots-Tag forbids it", 1);
	json_decref(v);
	/* One that cannot be read forbids everything, for now. */
	rig->web.shared->robots = 503;
	v = web_ingest(rig, "robots503", 0, "%s", args);
	INGEST_IS(v, "fetch.ok", 0);
	INGEST_IS(v, "fetch.later", 3);
	INGEST_IS(v, "corpus.pending", 3);
	INGEST_IS(v, "corpus.quarantined", 0);
	json_decref(v);
	assert_int_equal(httpd_hits(&rig->web, "/denied/1"), 1);
	/* Who says so may do as he likes. */
	rig->web.shared->robots = 200;
	int before = httpd_hits(&rig->web, "/robots.txt");
	v = web_ingest(rig, "norobots", 0, "--no-robots urls:%s/robots.txt", rig->tmp.path);
	INGEST_IS(v, "fetch.ok", 3);
	json_decref(v);
	assert_int_equal(httpd_hits(&rig->web, "/robots.txt"), before);
}

static void test_limits_per_host(void **state)
{
	struct web_rig *rig = *state;
	struct wl_buf b;
	wl_buf_init(&b, 1 << 20);
	for (int i = 0; i < 60; i++)
		OK(wl_buf_printf(&b, &err, "/img/%d.jpg\tx\n", i));
	web_list(rig, "sixty.txt", rig->web.port, b.data);
	wl_buf_release(&b);
	rig->web.shared->most_at_once = 0;
	json_t *v = web_ingest(rig, "sixty", 0, "--fetch-per-host 3 urls:%s/sixty.txt",
		rig->tmp.path);
	INGEST_IS(v, "fetch.ok", 60);
	json_decref(v);
	assert_true(rig->web.shared->most_at_once <= 3);
	/* A pause between two requests: 8 of them take 7 pauses at least. */
	struct timespec a, z;
	web_list(rig, "eight.txt", rig->web.port,
		"/img/1.jpg\tx\n/img/2.jpg\tx\n/img/3.jpg\tx\n/img/4.jpg\tx\n/img/5.jpg\tx\n"
		"/img/6.jpg\tx\n/img/7.jpg\tx\n");
	clock_gettime(CLOCK_MONOTONIC, &a);
	v = web_ingest(rig, "eight", 0, "--fetch-delay-ms 40 urls:%s/eight.txt", rig->tmp.path);
	clock_gettime(CLOCK_MONOTONIC, &z);
	INGEST_IS(v, "fetch.ok", 7);
	json_decref(v);
	assert_true((z.tv_sec - a.tv_sec) * 1000 + (z.tv_nsec - a.tv_nsec) / 1000000 >= 280);
}

/* What the server puts off waits in the catalog, and is not asked for before its time. */
static void test_later(void **state)
{
	struct web_rig *rig = *state;
	char args[1024];
	web_list(rig, "later.txt", rig->web.port, "/later/1\tx\n/img/2.jpg\tx\n");
	snprintf(args, sizeof args, "--fetch-wait 1 urls:%s/later.txt", rig->tmp.path);
	json_t *v = web_ingest(rig, "later", 0, "%s", args);
	INGEST_IS(v, "fetch.later", 1);
	INGEST_IS(v, "fetch.pairs", 1);
	INGEST_IS(v, "corpus.pending", 1);
	INGEST_IS(v, "corpus.quarantined", 0);
	json_decref(v);
	int hits = rig->web.shared->hits;
	v = web_ingest(rig, "later", 0, "%s", args);
	INGEST_IS(v, "fetch.requests", 0);
	INGEST_IS(v, "fetch.waiting", 1);
	json_decref(v);
	assert_int_equal(rig->web.shared->hits, hits);
}

/* A site that does not answer is left alone; the others are not held up. */
static void test_dead_site(void **state)
{
	struct web_rig *rig = *state;
	char p[512];
	struct wl_buf b;
	int dead = httpd_dead_port();
	wl_buf_init(&b, 1 << 20);
	for (int i = 0; i < 100; i++)
		OK(wl_buf_printf(&b, &err, "http://127.0.0.1:%d/%d\tx\n", dead, i));
	for (int i = 0; i < 5; i++)
		OK(wl_buf_printf(&b, &err, "http://127.0.0.1:%d/img/%d.jpg\tx\n",
			rig->web.port, i));
	tmp_path(&rig->tmp, "dead.txt", p);
	tmp_write_bytes(p, b.data, b.len);
	wl_buf_release(&b);
	json_t *v = web_ingest(rig, "dead", 0, "--no-robots --fetch-retries 20 urls:%s", p);
	INGEST_IS(v, "fetch.ok", 5);
	INGEST_IS(v, "fetch.later", 100);
	INGEST_IS(v, "corpus.pending", 100);
	INGEST_IS(v, "corpus.quarantined", 0);
	json_decref(v);
}

/* What was given up is tried again when asked for, and only that. */
static void test_retry_failed(void **state)
{
	struct web_rig *rig = *state;
	memset(rig->web.shared->counter, 0, sizeof rig->web.shared->counter);
	web_list(rig, "retry.txt", rig->web.port, "/busy/1\tx\n/img/2.jpg\tx\n/missing/3\tx\n");
	json_t *v = web_ingest(rig, "retry", 0, "--fetch-retries 0 urls:%s/retry.txt",
		rig->tmp.path);
	INGEST_IS(v, "fetch.ok", 1);
	INGEST_IS(v, "corpus.quarantined", 2);
	json_decref(v);
	v = web_ingest(rig, "retry", 0, "--retry-failed");
	INGEST_IS(v, "fetch.ok", 1);
	INGEST_IS(v, "fetch.pairs", 1);
	INGEST_IS(v, "corpus.pairs", 2);
	INGEST_IS(v, "corpus.quarantined", 1);
	json_decref(v);
	assert_int_equal(httpd_hits(&rig->web, "/img/2.jpg"), 1);
	assert_int_equal(httpd_hits(&rig->web, "/missing/3"), 2);
}

/* ---- refreshing ---- */

/* "0 seconds ago" is before this second. */
static void next_second(void)
{
	for (time_t now = time(NULL); time(NULL) == now;)
		tmp_nap_ms(5);
}

static void test_refresh(void **state)
{
	struct web_rig *rig = *state;
	rig->web.shared->version = 0;
	web_list(rig, "refresh.txt", rig->web.port, "/change/1\t甲\n/img/2.jpg\t乙\n/change/1\t丙\n");
	json_t *v = web_ingest(rig, "refresh", 0, "urls:%s/refresh.txt", rig->tmp.path);
	INGEST_IS(v, "fetch.pairs", 3);
	json_decref(v);
	char *before = ingest_dump(&rig->tmp, "refresh");
	rig->web.shared->conditional = 0;
	v = web_ingest(rig, "refresh", 0, "--refresh-older-than -5");
	json_decref(v);
	assert_int_equal(rig->web.shared->conditional, 0);
	v = web_ingest(rig, "refresh", 0, "--refresh-older-than 100000");
	INGEST_IS(v, "fetch.requests", 0);
	json_decref(v);
	next_second();
	v = web_ingest(rig, "refresh", 0, "--refresh-older-than 0");
	INGEST_IS(v, "fetch.unchanged", 2);
	INGEST_IS(v, "fetch.changed", 0);
	json_decref(v);
	assert_int_equal(rig->web.shared->conditional, 2);
	char *after = ingest_dump(&rig->tmp, "refresh");
	dumps_equal(before, after, "nothing changed");
	free(after);
	/* One picture is another now: the old pairs stay, new ones come. */
	rig->web.shared->version = 1;
	next_second();
	v = web_ingest(rig, "refresh", 0, "--refresh-older-than 0");
	INGEST_IS(v, "fetch.changed", 1);
	INGEST_IS(v, "fetch.unchanged", 1);
	INGEST_IS(v, "corpus.pairs", 5);
	json_decref(v);
	next_second();
	v = web_ingest(rig, "refresh", 0, "--refresh-older-than 0");
	INGEST_IS(v, "fetch.changed", 0);
	INGEST_IS(v, "corpus.pairs", 5);
	json_decref(v);
	rig->web.shared->version = 0;
	free(before);
}

/* ---- addresses ---- */

static void test_private(void **state)
{
	struct web_rig *rig = *state;
	char p[512], line[256];
	int hits = rig->web.shared->hits;
	tmp_path(&rig->tmp, "private.txt", p);
	/* By number, by a name that leads here, and in odd spellings of the number. */
	snprintf(line, sizeof line,
		"http://127.0.0.1:%d/img/1.jpg\tx\nhttp://localhost:%d/img/1.jpg\tx\n"
		"http://2130706433:%d/img/1.jpg\tx\nhttp://[::ffff:127.0.0.1]:%d/img/1.jpg\tx\n",
		rig->web.port, rig->web.port, rig->web.port, rig->web.port);
	tmp_write(p, line);
	json_t *v = ingest_runf(&rig->tmp, "--log-level error", "private", 0,
		"--fetch-retry-seconds 0.01 urls:%s", p);
	INGEST_IS(v, "fetch.ok", 0);
	REASON(v, "the address is not public", 3); /* two spellings are one URL */
	INGEST_IS(v, "corpus.quarantined", 4);
	json_decref(v);
	assert_int_equal(rig->web.shared->hits, hits);
	v = ingest_runf(&rig->tmp, "--log-level error", "private2", 0,
		"--fetch-retry-seconds 0.01 --allow-private urls:%s", p);
	assert_true(ingest_count(v, "fetch.ok") >= 2);
	json_decref(v);
}

static void test_usage(void **state)
{
	struct web_rig *rig = *state;
	static const char *const bad[] = {"--fetch-connections 0", "--fetch-user-agent 1x",
		"--fetch-retries -1", "--allow-net 300.0.0.0/8", "--fetch-max-bytes 1Gi"};
	web_list(rig, "one.txt", rig->web.port, "/img/1.jpg\tx\n");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		json_decref(ingest_runf(&rig->tmp, "--log-level error", "usage", 2,
			"%s urls:%s/one.txt", bad[i], rig->tmp.path));
	}
}

/* ---- kills ---- */

static char *kill_list(void)
{
	struct wl_buf b;
	wl_buf_init(&b, 1 << 20);
	for (int i = 0; i < 120; i++) {
		static const char *const kinds[] = {
			"/img/", "/img/", "/hop/2/", "/missing/", "/text/", "/cut/", "/busy/"};
		if (i % 11 == 5)
			OK(wl_buf_printf(&b, &err, "/page/%d\n", i % 20));
		else
			OK(wl_buf_printf(&b, &err, "%s%d%s\t第 %d 张\n", kinds[i % 7], i % 50,
				i % 7 < 2 ? ".jpg" : "", i));
	}
	return b.data;
}

static void test_kills(void **state)
{
	struct web_rig *rig = *state;
	char begin[512], cmd[2048];
	char *list = kill_list();
	web_list(rig, "kill.txt", rig->web.port, list);
	free(list);
	memset(rig->web.shared->counter, 0, sizeof rig->web.shared->counter);
	json_decref(web_ingest(rig, "whole", 0, "urls:%s/kill.txt", rig->tmp.path));
	char *want = ingest_dump(&rig->tmp, "whole");
	snprintf(begin, sizeof begin, "rm -rf %s/killed", rig->tmp.path);
	snprintf(cmd, sizeof cmd,
		"exec %s/wenlan-ingest --quiet --corpus %s/killed --partitions 2 --commit-every "
		"3 " HTTPD_QUICK "urls:%s/kill.txt",
		tmp_bin(), rig->tmp.path, rig->tmp.path);
	kill_until_done(begin, cmd, 5);
	corpus_is(&rig->tmp, "killed", want, "killed again and again");
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_workers_and_partitions), cmocka_unit_test(test_across_lanes),
		cmocka_unit_test(test_pages), cmocka_unit_test(test_robots),
		cmocka_unit_test(test_limits_per_host),
		cmocka_unit_test(test_later), cmocka_unit_test(test_dead_site),
		cmocka_unit_test(test_retry_failed), cmocka_unit_test(test_refresh),
		cmocka_unit_test(test_private), cmocka_unit_test(test_usage),
		cmocka_unit_test(test_kills)};
	return cmocka_run_group_tests(tests, web_rig_start, web_rig_stop);
}
