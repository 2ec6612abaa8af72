/*
 * warc: as a source, as people run it: pages whose pictures stand before them, after them or
 * nowhere in the archive, in all forms that archives come in, and the promise that the corpus is
 * the same for any number of workers and after any history of kills.
 */
#include "ingest/image.h"
#include "ingest/warc_images.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/ingest_run.h"
#include "tests/support/kills.h"
#include "tests/support/tmp.h"
#include "tests/support/warc_make.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct tmp_dir tmp;
static struct wl_err err;
static char *reference; /* of an undisturbed run over all forms */
static char sources[4096];

/* ---- an archive ---- */

enum { PAGES = 60, CUT = 7, MISSING = 11, FORBIDDEN = 13, ELSEWHERE = 17, DAMAGED = 23 };

static struct wl_buf jpeg(int seed)
{
	struct wl_image im = {.width = 240, .height = 200 + seed, .channels = 3};
	size_t n = (size_t)im.width * (size_t)im.height * 3;
	struct wl_buf b;

	im.data = malloc(n);
	assert_non_null(im.data);
	for (size_t i = 0; i < n; i++)
		im.data[i] = (uint8_t)(i / 700 * (size_t)(seed + 3) +
				       wl_rand64((uint64_t)seed, 0, i / 90) % 40);
	wl_buf_init(&b, 1 << 20);
	OK(wl_image_encode_jpeg(&im, 80, &b, &err));
	wl_image_release(&im);
	return b;
}

enum form { PLAIN, GZ, GZ_ONE, ZST, FORMS };
static const char *const FORM_NAMES[FORMS] = {"a.warc", "b.warc.gz", "c-one.warc.gz", "d.warc.zst"};

/* Puts `one` into the file in its form, and empties it. */
static void put(struct wl_buf *file, struct wl_buf *one, enum form form)
{
	if (form == GZ)
		warc_gzip(file, one->data, one->len);
	else if (form == ZST)
		warc_zstd(file, one->data, one->len, NULL, 0);
	else
		OK(wl_buf_add(file, one->data, one->len, &err));
	wl_buf_reset(one);
}

static void put_picture(struct wl_buf *file, struct wl_buf *one, enum form form, int i)
{
	struct wl_buf b = jpeg(i), http;
	char uri[128];

	/* An archive may spell an address in another way than the page does. */
	snprintf(uri, sizeof uri,
		i % 2 ? "https://NEWS.example.cn/img/%%e5%%9b%%be%d.jpg"
		      : "http://news.example.cn:80/img/%%E5%%9B%%BE%d.jpg",
		i);
	wl_buf_init(&http, 1 << 20);
	warc_http(&http, 200,
		i == FORBIDDEN ? "Content-Type: image/jpeg\r\nX-Robots-Tag: noai\r\n"
		: i % 3	       ? "Content-Type: image/jpeg\r\n"
			       : "Content-Type: application/octet-stream\r\n",
		b.data, i == CUT ? b.len / 2 : b.len);
	warc_record(one, "1.0", "response", uri, http.data, http.len, -1);
	put(file, one, form);
	wl_buf_release(&http);
	wl_buf_release(&b);
}

static void put_page(struct wl_buf *file, struct wl_buf *one, enum form form, int i)
{
	struct wl_buf html, http, z;
	char uri[128];

	wl_buf_init(&html, 1 << 20);
	wl_buf_init(&http, 1 << 20);
	wl_buf_init(&z, 1 << 20);
	OK(wl_buf_printf(&html, &err,
		"<html><head><meta charset=\"utf-8\"><title>新闻第 %d 条_某网</title></head><body>"
		"<article><p>这是第 %d 条新闻的第一段，讲的是今天发生的事情。</p>"
		"<figure><img src=\"/img/图%d.jpg\" width=\"240\" height=\"200\" alt=\"图 %d\">"
		"<figcaption>图为第 %d 条新闻的现场照片</figcaption></figure>"
		"<p>第二段文字在图片的后面，也讲这件事情。</p></article>"
		"<img src=\"/icons/logo.png\" width=\"16\" height=\"16\"></body></html>",
		i, i, i, i, i));
	warc_gzip(&z, html.data, html.len);
	if (i % 4 == 1)
		warc_http(&http, 200, "Content-Type: text/html\r\nContent-Encoding: gzip\r\n",
			z.data, z.len);
	else
		warc_http(&http, 200,
			i % 4 == 2 ? "" : "Content-Type: text/html; charset=utf-8\r\n", html.data,
			html.len);
	snprintf(uri, sizeof uri, "http://news.example.cn/2024/%d.html", i);
	warc_record(one, "1.0", "request", uri, "GET / HTTP/1.1\r\n\r\n", 18, -1);
	put(file, one, form);
	if (i % 4 == 3)
		warc_record(one, "1.1", "resource", uri, html.data, html.len, -1);
	else
		warc_record(one, "1.1", "response", uri, http.data, http.len, -1);
	size_t at = one->len;
	put(file, one, form);
	if (i == DAMAGED) /* plain: the head; else the middle of a member */
		memset(file->data + file->len - (form == PLAIN || form == GZ_ONE ? at : at / 8),
			'x', 6);
	wl_buf_release(&html);
	wl_buf_release(&http);
	wl_buf_release(&z);
}

static void put_others(struct wl_buf *file, struct wl_buf *one, enum form form)
{
	struct wl_buf http;

	wl_buf_init(&http, 4096);
	warc_record(one, "1.0", "warcinfo", NULL, "software: test\r\n", 16, -1);
	put(file, one, form);
	warc_http(&http, 404, "Content-Type: text/html\r\n", "<p>gone</p>", 11);
	warc_record(one, "1.0", "response", "http://news.example.cn/x", http.data, http.len, -1);
	put(file, one, form);
	wl_buf_reset(&http);
	warc_http(&http, 200, "Content-Type: text/css\r\n", "p{}", 3);
	warc_record(one, "1.0", "response", "http://news.example.cn/y", http.data, http.len, -1);
	put(file, one, form);
	warc_record(one, "1.0", "revisit", "http://news.example.cn/z", "HTTP/1.1 200 OK\r\n\r\n",
		19, -1);
	put(file, one, form);
	warc_record(one, "1.0", "response", "dns:example.cn", "example.cn. A 1.2.3.4", 21, -1);
	put(file, one, form);
	wl_buf_reset(&http);
	warc_http(&http, 200, "Content-Type: text/html\r\nX-Robots-Tag: noai\r\n", "<p>no</p>", 9);
	warc_record(one, "1.0", "response", "http://news.example.cn/w", http.data, http.len, -1);
	put(file, one, form);
	wl_buf_release(&http);
}

/* The picture of page i stands before it (even), after it (odd), or nowhere. */
static void make_archive(const char *name, enum form form)
{
	struct wl_buf file, one;
	char path[512];

	wl_buf_init(&file, 1 << 28);
	wl_buf_init(&one, 1 << 24);
	put_others(&file, &one, form);
	for (int i = 0; i < PAGES; i += 2)
		if (i != MISSING)
			put_picture(&file, &one, form, i);
	for (int i = 0; i < PAGES; i++)
		put_page(&file, &one, form, i);
	for (int i = 1; i < PAGES; i += 2)
		if (i != MISSING)
			put_picture(&file, &one, form, i);
	if (form == GZ_ONE) {
		warc_gzip(&one, file.data, file.len);
		tmp_write_bytes(tmp_path(&tmp, name, path), one.data, one.len);
	} else {
		tmp_write_bytes(tmp_path(&tmp, name, path), file.data, file.len);
	}
	wl_buf_release(&file);
	wl_buf_release(&one);
}

/* ---- runs ---- */

static json_t *ingest(const char *corpus, const char *args)
{
	return ingest_run(&tmp, "--quiet --no-fetch", corpus, args, 0, NULL);
}

static void expect(const json_t *v, const char *key, int64_t n)
{
	if (json_integer_value(json_object_get(v, key)) != n) {
		char *s = json_dumps(v, JSON_INDENT(1));
		fail_msg("%s is not %lld: %s", key, (long long)n, s);
	}
}

/* Each form gives the same: every page is read, every picture found. */
static void test_counts(void **state)
{
	(void)state;
	for (int form = 0; form < FORMS; form++) {
		char args[512], name[32];
		snprintf(name, sizeof name, "one%d", form);
		snprintf(
			args, sizeof args, "'warc:%s/%s?profile=news'", tmp.path, FORM_NAMES[form]);
		json_t *v = ingest(name, args);
		json_t *passed = json_object_get(v, "passed"), *why = json_object_get(v, "reasons");
		/* 60 requests, 60 pages, 59 pictures, 6 others; the damaged page yields nothing. */
		expect(v, "records", 60 + 60 + 59 + 6);
		expect(v, "yielded", PAGES - 1);
		expect(v, "kept", PAGES - 1 - 3);
		expect(v, "pending", 1);
		expect(v, "quarantined", 3);
		expect(passed, "request records", PAGES);
		expect(passed, "pages read", PAGES - 1);
		expect(passed, "pictures of the archive", 59 - 20);
		expect(passed, "revisit records", 1);
		expect(passed, "warcinfo records", 1);
		expect(passed, "responses of status 4xx", 1);
		expect(passed, "responses of other types", 1 + 20);
		expect(passed, "responses that are no HTTP", 1);
		expect(passed, "pages whose server forbids this use", 1);
		expect(why, "the picture's server forbids this use", 1);
		assert_int_equal(json_object_size(why), 3);
		json_decref(v);
		/* Nothing is new, nothing is read twice. */
		v = ingest(name, args);
		expect(v, "records", 0);
		json_decref(v);
	}
}

static void test_pairs(void **state)
{
	char *d = ingest_dump(&tmp, "one1");

	(void)state;
	/* Source, picture and page, the texts by kind, the size and the date of the capture. */
	const char *row = strstr(d, "http://news.example.cn/2024/4.html");
	assert_non_null(row);
	char *line = strndup(row, strcspn(row, "\n"));
	assert_non_null(strstr(line, "图为第 4 条新闻的现场照片"));
	assert_non_null(strstr(line, "新闻第 4 条"));
	assert_non_null(strstr(line, "240x204"));
	assert_non_null(strstr(line, "|1706702400|"));
	free(line);
	assert_non_null(strstr(d, "|news|http://news.example.cn/img/"));
	free(d);
}

static void test_workers(void **state)
{
	static const char *const args[] = {"--workers 1", "--workers 5 --commit-every 1",
		"--workers 3 --commit-every 7 --partitions 5"};
	char all[5000];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char name[32];
		snprintf(name, sizeof name, "w%zu", i);
		snprintf(all, sizeof all, "%s %s", args[i], sources);
		json_decref(ingest(name, all));
		char *d = ingest_dump(&tmp, name);
		if (!reference) {
			reference = d;
			continue;
		}
		/* Partitions are part of a pair's name, not of its row. */
		dumps_equal(reference, d, args[i]);
		free(d);
	}
}

static void test_kills(void **state)
{
	char begin[512], cmd[6144];

	(void)state;
	assert_non_null(reference);
	snprintf(begin, sizeof begin, "rm -rf %s/killed", tmp.path);
	snprintf(cmd, sizeof cmd,
		"exec %s/wenlan-ingest --quiet --no-fetch --corpus %s/killed --partitions 3 "
		"--commit-every 3 %s",
		tmp_bin(), tmp.path, sources);
	kill_until_done(begin, cmd, 5);
	corpus_is(&tmp, "killed", reference, "killed again and again");
}

static void test_wrong_use(void **state)
{
	static const struct {
		const char *arg, *part;
	} cases[] = {{"'warc:%s/a.warc?profile=nwes'", "news"},
		{"'warc:%s/a.warc?images=x'", "warc: takes profile"},
		{"'warc:%s/none.warc'", "there is no"}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *out, args[512];
		snprintf(args, sizeof args, cases[i].arg, tmp.path);
		int code = tmp_run(&out, "%s/wenlan-ingest --no-fetch --corpus %s/bad %s",
			tmp_bin(), tmp.path, args);
		assert_int_equal(code, 2);
		if (!strstr(out, cases[i].part))
			fail_msg("%s: %s", args, out);
		free(out);
	}
}

/* The real ones, whatever is wrong with them: all are read to their ends. */
static void test_real(void **state)
{
	(void)state;
	if (!wl_exists("../shared/data/web/warc"))
		SKIP("../shared/data/web/warc is absent");
	json_t *v = ingest("real", "'warc:../shared/data/web/warc/*'");
	expect(v, "origins", 10);
	expect(v, "records", 111);
	json_t *passed = json_object_get(v, "passed");
	expect(passed, "request records", 42);
	expect(passed, "metadata records", 12);
	expect(passed, "warcinfo records", 14);
	expect(passed, "revisit records", 5);
	expect(passed, "pages read", 21);
	expect(json_object_get(v, "reasons"), "a WARC record cut off", 1);
	/* Pictures of stormcrawler.net that stand in the archive. */
	assert_true(json_integer_value(json_object_get(v, "kept")) >= 3);
	json_decref(v);
}

static int setup(void **state)
{
	(void)state;
	tmp = tmp_make();
	for (int form = 0; form < FORMS; form++) {
		make_archive(FORM_NAMES[form], (enum form)form);
		snprintf(sources + strlen(sources), sizeof sources - strlen(sources),
			" 'warc:%s/%s?profile=news'", tmp.path, FORM_NAMES[form]);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(reference);
	tmp_remove(&tmp);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_workers),
		cmocka_unit_test(test_kills),
		cmocka_unit_test(test_wrong_use),
		cmocka_unit_test(test_real),
	};
	return cmocka_run_group_tests_name("warc_source", tests, setup, teardown);
}
