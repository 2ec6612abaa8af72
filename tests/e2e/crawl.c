/*
 * A small crawl to be taken in: a Kafka cluster (librdkafka's mock, in a process of its own), a web
 * server that misbehaves (another), a WARC archive and a list of URLs.
 *
 *   crawl serve DIR     makes DIR/crawl.warc.gz and DIR/list.tsv, fills the topic "pages", writes
 *                       the brokers into DIR/brokers when all is ready, and stays until it is
 * killed crawl dump CORPUS   prints all that a corpus holds, sorted, so that two can be compared
 */
#include "ingest/image.h"
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_dump.h"
#include "tests/support/httpd.h"
#include "tests/support/kafka_mock.h"
#include "tests/support/warc_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTS = 5, MESSAGES = 240, PAGES = 60, URLS = 120 };

static struct wl_err err;

static void must(int rc)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "crawl: %s\n", err.msg);
	exit(1);
}

static char *base64(const struct wl_buf *b)
{
	static const char digit[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *p = (const uint8_t *)b->data;
	char *out = malloc((b->len + 2) / 3 * 4 + 1), *w = out;

	for (size_t n = b->len; out && n; n -= n < 3 ? n : 3, p += 3) {
		unsigned v = (unsigned)p[0] << 16 | (n > 1 ? (unsigned)p[1] << 8 : 0) |
			     (n > 2 ? (unsigned)p[2] : 0);
		*w++ = digit[v >> 18];
		*w++ = digit[v >> 12 & 63];
		*w++ = n > 1 ? digit[v >> 6 & 63] : '=';
		*w++ = n > 2 ? digit[v & 63] : '=';
	}
	if (!out)
		exit(1);
	*w = '\0';
	return out;
}

/* An article with a picture of its own and one of the web server's. */
static char *article(int port, int i)
{
	return wl_strf(&err,
		"<html><head><title>新闻第 %d 条</title></head><body><article><p>这是第 %d "
		"条新闻的第一段，讲的是今天发生的事情，很多人都去看了。</p><figure>"
		"<img src='http://127.0.0.1:%d/img/%d.jpg' width='240' height='200'>"
		"<figcaption>图为第 %d 条新闻的现场照片</figcaption></figure><p>第二段文字在图片的"
		"后面，也讲这件事情，而且讲得更长一些。</p>"
		"<img src='http://127.0.0.1:%d/%s/%d' width='300' height='200' alt='另一张 "
		"%d'></article></body></html>",
		i, i, port, i % 50, i, port, i % 3 ? "missing" : "hop/1", i, i);
}

/* Pictures in the message or at an address, pages, and what is no message at all. */
static char *message(int port, int i)
{
	struct wl_buf b;
	char *s, *b64;

	if (i % 17 == 3)
		return wl_strf(&err, "{\"text\":\"%d\",\"image_b64\":\"bm8=\"", i);
	if (i % 7 == 1)
		return wl_strf(&err,
			"{\"text\":\"第 %d 条\",\"image_url\":\"http://127.0.0.1:%d/%s/%d\"}", i,
			port, i % 2 ? "busy" : "cut", i);
	if (i % 7 == 2) {
		char *html = article(port, i);
		s = wl_strf(&err, "{\"url\":\"http://127.0.0.1:%d/p/%d\",\"html\":\"%s\"}", port, i,
			html);
		free(html);
		return s;
	}
	httpd_picture((uint32_t)i, &b);
	b64 = base64(&b);
	s = wl_strf(&err,
		"{\"source\":\"weibo\",\"page_url\":\"http://n.example/%d\",\"text\":\"第 %d "
		"条\",\"image_b64\":\"%s\"}",
		i, i, b64);
	free(b64);
	wl_buf_release(&b);
	return s;
}

static void fill_topic(const char *brokers, int port)
{
	struct kafka_producer *p = kafka_producer_new(brokers, NULL);

	for (int i = 0; i < MESSAGES; i++) {
		char *s = message(port, i);
		if (!s)
			must(-1);
		kafka_produce(p, "pages", i % PARTS, s, strlen(s));
		free(s);
	}
	kafka_producer_close(p);
}

/* Each record a gzip member; every second picture is in the archive, each tenth cut off. */
static void make_warc(const char *path, int port)
{
	struct wl_buf all, one, http, pic;
	char uri[200];

	wl_buf_init(&all, 64 << 20);
	wl_buf_init(&one, 8 << 20);
	wl_buf_init(&http, 8 << 20);
	for (int i = 0; i < PAGES; i++) {
		char *html = article(port, 100 + i);
		snprintf(uri, sizeof uri, "http://127.0.0.1:%d/p/%d", port, 100 + i);
		warc_http(&http, 200, "Content-Type: text/html; charset=utf-8\r\n", html,
			strlen(html));
		warc_record(&one, "1.1", "response", uri, http.data, http.len, -1);
		warc_gzip(&all, one.data, one.len);
		wl_buf_reset(&one);
		wl_buf_reset(&http);
		free(html);
		if (i % 2)
			continue;
		snprintf(uri, sizeof uri, "http://127.0.0.1:%d/img/%d.jpg", port, (100 + i) % 50);
		httpd_picture((uint32_t)i, &pic);
		warc_http(&http, 200, "Content-Type: image/jpeg\r\n", pic.data,
			i % 10 ? pic.len : pic.len / 2);
		warc_record(&one, "1.0", "response", uri, http.data, http.len, -1);
		warc_gzip(&all, one.data, one.len);
		wl_buf_reset(&one);
		wl_buf_reset(&http);
		wl_buf_release(&pic);
	}
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(all.data, 1, all.len, f) != all.len || fclose(f))
		exit(1);
	wl_buf_release(&all);
	wl_buf_release(&one);
	wl_buf_release(&http);
}

static void make_list(const char *path, int port)
{
	static const char *const kinds[] = {
		"img", "hop/2", "missing", "text", "cut", "busy", "img"};
	FILE *f = fopen(path, "w");

	if (!f)
		exit(1);
	for (int i = 0; i < URLS; i++) {
		if (i % 11 == 5)
			fprintf(f, "http://127.0.0.1:%d/page/%d\n", port, i % 20);
		else
			fprintf(f, "http://127.0.0.1:%d/%s/%d%s\t第 %d 张\n", port, kinds[i % 7],
				i % 50, i % 7 % 6 ? "" : ".jpg", i);
	}
	if (fclose(f))
		exit(1);
}

static int serve(const char *dir)
{
	struct kafka_mock mock = kafka_mock_start(2);
	struct httpd web = httpd_start();
	char path[600], ready[600];

	kafka_mock_topic(&mock, "pages", PARTS);
	fill_topic(mock.brokers, web.port);
	snprintf(path, sizeof path, "%s/crawl.warc.gz", dir);
	make_warc(path, web.port);
	snprintf(path, sizeof path, "%s/list.tsv", dir);
	make_list(path, web.port);
	snprintf(path, sizeof path, "%s/brokers.tmp", dir);
	snprintf(ready, sizeof ready, "%s/brokers", dir);
	FILE *f = fopen(path, "w");
	if (!f || fputs(mock.brokers, f) < 0 || fclose(f) || rename(path, ready))
		return 1;
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], KAFKA_MOCK_ARG) == 0)
		return kafka_mock_main();
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve(argv[2]);
	if (argc != 3 || strcmp(argv[1], "dump") != 0)
		return fprintf(stderr, "usage: crawl serve DIR | crawl dump CORPUS\n"), 2;
	char *text = corpus_dump(argv[2], NULL);
	fputs(text, stdout);
	free(text);
	return 0;
}
