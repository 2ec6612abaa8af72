/*
 * What Kafka's messages are made of: addresses of pictures that are fetched while messages come,
 * whole pages with their pictures, real pages.  See test_kafka.c for what happens to runs.
 */
#include "ops/file.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_dump.h"
#include "tests/support/httpd.h"
#include "tests/support/ingest_run.h"
#include "tests/support/kafka_mock.h"
#include "tests/support/pictures.h"
#include "tests/support/tmp.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS = 5 };

static struct tmp_dir tmp;
static struct wl_err err;
static struct kafka_mock mock;

#define ingestf(corpus, want_code, ...)                                                            \
	ingest_runf(&tmp, "--quiet --no-fetch", corpus, want_code, __VA_ARGS__)

static int setup(void **state)
{
	(void)state;
	tmp = tmp_make();
	mock = kafka_mock_start(2);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kafka_mock_stop(&mock);
	tmp_remove(&tmp);
	return 0;
}

/* A run without an end fetches by itself, while messages keep coming; killed, it goes on. */
static void test_fetch_meanwhile(void **state)
{
	enum { EACH = 40, ROUNDS = 3 };
	char u[400], args[1000];
	struct httpd web = httpd_start();

	(void)state;
	kafka_mock_topic(&mock, "addresses", PARTS);
	snprintf(args, sizeof args,
		"--partitions 2 --commit-every 3 --allow-net 127.0.0.1/32 --fetch-retry-seconds "
		"0.01 %s",
		kafka_url(u, mock.brokers, "addresses", ""));
	pid_t pid = ingest_start(&tmp, "", "addresses", args);
	for (int round = 0; round < ROUNDS; round++) {
		struct kafka_producer *p = kafka_producer_new(mock.brokers, NULL);
		for (int i = round * EACH; i < (round + 1) * EACH; i++) {
			/* Every fifth is missing. */
			char *s = wl_strf(&err,
				"{\"text\":\"%d\",\"image_url\":\"http://127.0.0.1:%d/%s/%d.jpg\"}",
				i, web.port, i % 5 ? "img" : "missing", i);
			kafka_produce(p, "addresses", i % PARTS, s, strlen(s));
			free(s);
		}
		kafka_producer_close(p);
		int64_t want = (round + 1) * EACH;
		if (round == 1) { /* in the middle of it, when the first are there */
			ingest_wait_for_rows(&tmp, "addresses", EACH + 1);
			kill(pid, SIGKILL);
			assert_int_equal(ingest_reap(pid, 60), -SIGKILL);
			pid = ingest_start(&tmp, "", "addresses", args);
		}
		ingest_wait_for_rows(&tmp, "addresses", want);
	}
	ingest_stop(pid);
	assert_int_equal(ingest_reap(pid, 60), 75);
	assert_int_equal(ingest_rows(&tmp, "addresses"), ROUNDS * EACH);
	/* Nothing waits any more, and nothing is there twice. */
	json_t *v = ingestf("addresses", 0, "--until-end %s",
		kafka_url(u, mock.brokers, "addresses", ""));
	assert_int_equal(ingest_count(v, "corpus.pending"), 0);
	assert_int_equal(ingest_count(v, "corpus.pairs"), ROUNDS * EACH * 4 / 5);
	assert_int_equal(ingest_count(v, "corpus.quarantined"), ROUNDS * EACH / 5);
	json_decref(v);
	httpd_stop(&web);
}

/* Pages: text and base64 in another encoding, pictures that came with them and others. */
static void test_pages(void **state)
{
	static const char page[] =
		"<html><head><title>标题</title></head><body><article><h1>新闻</"
		"h1><p>这是一段足够长的"
		"正文，说的是今天城里的花开了，很多人去看。</p><figure><img "
		"src='/a.jpg'><figcaption>"
		"城里的花开了</figcaption></"
		"figure><p>这是另一段足够长的正文，说的是河边的树也绿了。</p>"
		"<img src='http://img.example/b.jpg' alt='河边的树绿了'></article></body></html>";
	char u[400], p[512];
	char *pic = pictures_in_message(7), *html64 = pictures_base64(page, sizeof page - 1);
	json_t *m[5] = {
		json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "url", "http://n.example/x/1.html", "html",
			page, "images", "url", "http://N.example:80/a.jpg", "b64", pic),
		json_pack("{s:s, s:s, s:{s:s}, s:s, s:[{s:s, s:s}, {s:s, s:s}]}", "url",
			"http://n.example/x/2.html", "html", html64, "headers", "content-TYPE",
			"text/html; charset=utf-8", "source", "baike", "images", "url", "../a.jpg",
			"b64", "bm8=", "url", "http://img.example/b.jpg", "b64", pic),
		json_pack("{s:s, s:s, s:[{s:s, s:s}, s, {s:s}]}", "url", "http://n.example/3",
			"html", "<p>没有图", "images", "url", "http://n.example/z.jpg", "b64", pic,
			"not an object", "url", "x"),
		json_pack("{s:s, s:s}", "url", "http://n.example/4", "html", "!!!"),
		json_pack("{s:s, s:s, s:s}", "url", "http://n.example/5", "html", "<p>", "headers",
			"none")};
	struct kafka_producer *k = kafka_producer_new(mock.brokers, NULL);

	(void)state;
	kafka_mock_topic(&mock, "html", 1);
	for (int i = 0; i < 5; i++) {
		assert_non_null(m[i]);
		char *s = json_dumps(m[i], 0);
		kafka_produce(k, "html", 0, s, strlen(s));
		free(s);
		json_decref(m[i]);
	}
	kafka_producer_close(k);
	free(pic);
	free(html64);
	json_t *v = ingestf("html", 0, "--until-end --source-name web %s",
		kafka_url(u, mock.brokers, "html", "?profile=news"));
	char *d = corpus_dump(tmp_path(&tmp, "html", p), NULL);
	/* 1: one with its picture, one to fetch; 2: one broken, one with its picture; 3: passed
	 * over; 4: no page; 5: wrong headers. */
	if (ingest_count(v, "kept") != 2 || ingest_count(v, "pending") != 1 ||
		ingest_count(v, "quarantined") != 3 || ingest_count(v, "opened") != 3 ||
		ingest_count(v, "yielded") != 4)
		fail_msg("not what was expected: %s\n%s", json_dumps(v, 0), d);
	assert_int_equal(ingest_count(json_object_get(v, "passed"), "pages read"), 3);
	assert_int_equal(ingest_count(json_object_get(v, "passed"),
				 "pictures of messages that no pair of the page uses"),
		1);
	assert_int_equal(ingest_count(json_object_get(v, "passed"),
				 "pictures of messages without url or b64"),
		2);
	assert_non_null(
		strstr(d, "Q|kafka:html/0|offset 4|wrong JSON: \"headers\" is not an object"));
	assert_non_null(strstr(d, "|web|http://n.example/a.jpg|http://n.example/x/1.html|[[\""));
	assert_non_null(strstr(d, "城里的花开了"));
	assert_non_null(strstr(d, "|baike|http://img.example/b.jpg|"));
	assert_non_null(strstr(d, "Q|kafka:html/0|offset 1, item 1|"));
	assert_non_null(strstr(d, "Q|kafka:html/0|offset 3|html is not base64"));
	json_decref(v);
	free(d);
}

/* Real pages, when they are here: as text they are what they are as bytes. */
static void test_real_pages(void **state)
{
	static const char dir[] = "../shared/data/web/html";
	char u[400], p[512];
	struct wl_names names;
	int64_t yielded[2];

	(void)state;
	if (!wl_exists(dir))
		SKIP("%s is not here", dir);
	OK(wl_list_dir(dir, "*.html", &names, &err));
	struct kafka_producer *k = kafka_producer_new(mock.brokers, NULL);
	kafka_mock_topic(&mock, "real", 16); /* the mock keeps 5 MB in each */
	for (size_t i = 0; i < names.n; i++) {
		size_t n;
		snprintf(p, sizeof p, "%s/%s", dir, names.v[i]);
		char *bytes = tmp_read(p, &n), *b64 = pictures_base64(bytes, n);
		json_t *text =
			json_pack("{s:s, s:s%}", "url", "http://n.example/p/", "html", bytes, n);
		json_t *raw =
			json_pack("{s:s, s:s}", "url", "http://n.example/p/", "html_b64", b64);
		for (int way = 0; way < 2 && text; way++) { /* NULL: not UTF-8 */
			char *s = json_dumps(way ? raw : text, 0);
			kafka_produce(k, "real", 8 * way + (int)i % 8, s, strlen(s));
			free(s);
		}
		json_decref(text);
		json_decref(raw);
		free(bytes);
		free(b64);
	}
	wl_names_release(&names);
	kafka_producer_close(k);
	for (int way = 0; way < 2; way++) {
		char name[32], q[64];
		snprintf(name, sizeof name, "real-%d", way);
		snprintf(q, sizeof q, "?partitions=%s", way ? "8-15" : "0-7");
		json_t *v = ingestf(
			name, 0, "--until-end %s", kafka_url(u, mock.brokers, "real", q));
		yielded[way] = ingest_count(v, "yielded");
		assert_true(ingest_count(v, "opened") >= 20);
		json_decref(v);
	}
	assert_true(yielded[0] > 50);
	assert_int_equal(yielded[0], yielded[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fetch_meanwhile),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_real_pages),
	};
	if (argc > 1 && strcmp(argv[1], KAFKA_MOCK_ARG) == 0)
		return kafka_mock_main();
	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* one of them, by its name */
	return cmocka_run_group_tests_name("kafka_pages", tests, setup, teardown);
}
