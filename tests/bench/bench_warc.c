/*
 * Reading WARC archives (bench_warc.sh runs it beside FastWARC).
 *
 *   bench_warc make DIR MB   DIR/pages.warc of about so many MB, and DIR/pages.warc.gz with a gzip
 *                            member for each record: the Chinese pages of ../shared/data/web/html
 *                            over and over, or made ones where those are absent
 *   bench_warc read FILE     reads every record, parses its HTTP head, copies its body out, and
 *                            prints {"records", "bytes", "mb_per_cpu_s"}
 */
#include "ingest/http_message.h"
#include "ingest/warc.h"
#include "ops/clock.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int rc, const struct wl_err *err)
{
	if (rc < 0) {
		fprintf(stderr, "bench_warc: %s\n", err->msg);
		exit(1);
	}
}

/* ---- make ---- */

/* A page of about 20 kB, when there are no real ones. */
static void make_page(struct wl_buf *b, uint64_t seed)
{
	struct wl_err err = WL_ERR_INIT;
	must(wl_buf_puts(b, "<html><head><meta charset=utf-8></head><body>", &err), &err);
	while (b->len < 20000) {
		must(wl_buf_printf(b, &err, "<div class=\"c%d\"><p>", (int)(b->len % 97)), &err);
		for (int i = 0; i < 60; i++) {
			uint64_t x = 0x4e00 + wl_rand64(seed, b->len, (uint64_t)i) % 600;
			char c[] = {(char)(0xe0 | x >> 12), (char)(0x80 | (x >> 6 & 63)),
				(char)(0x80 | (x & 63))};
			must(wl_buf_add(b, c, 3, &err), &err);
		}
		must(wl_buf_puts(b, "</p></div>\n", &err), &err);
	}
}

static size_t load_pages(struct wl_buf *pages, size_t most)
{
	static const char dir[] = "../shared/data/web/html";
	struct wl_err err = WL_ERR_INIT;
	struct wl_names names = {0};
	size_t n = 0;
	if (wl_exists(dir))
		must(wl_list_dir(dir, "*.html", &names, &err), &err);
	for (; n < most && (n < names.n || (!names.n && n < 20)); n++) {
		char path[512];
		wl_buf_init(&pages[n], 1 << 24);
		if (!names.n) {
			make_page(&pages[n], n);
			continue;
		}
		snprintf(path, sizeof path, "%s/%s", dir, names.v[n]);
		must(wl_read_file(path, &pages[n], &err), &err);
	}
	wl_names_release(&names);
	return n;
}

static void one_record(struct wl_buf *out, const struct wl_buf *page, int i)
{
	struct wl_err err = WL_ERR_INIT;
	char http[256];
	int n = snprintf(http, sizeof http,
		"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\nX-Page: %d\r\n"
		"Content-Length: %zu\r\nConnection: close\r\nVary: Accept-Encoding\r\n\r\n",
		i, page->len);
	wl_buf_reset(out);
	must(wl_buf_printf(out, &err,
		     "WARC/1.0\r\nWARC-Type: response\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
		     "WARC-Record-ID: <urn:uuid:%032x>\r\n"
		     "WARC-Target-URI: http://news.example.cn/2024/%d.html\r\n"
		     "WARC-Payload-Digest: sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n"
		     "Content-Type: application/http; msgtype=response\r\n"
		     "Content-Length: %zu\r\n\r\n%s",
		     (unsigned)i, i, (size_t)n + page->len, http),
		&err);
	must(wl_buf_add(out, page->data, page->len, &err), &err);
	must(wl_buf_puts(out, "\r\n\r\n", &err), &err);
}

static int make(const char *dir, double mb)
{
	struct wl_buf pages[64], rec, z;
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
	struct wl_err err = WL_ERR_INIT;
	char path[512];
	size_t n = load_pages(pages, 64);
	double bytes = 0;
	wl_buf_init(&rec, 1 << 25);
	wl_buf_init(&z, 1 << 25);
	snprintf(path, sizeof path, "%s/pages.warc", dir);
	FILE *plain = fopen(path, "wb");
	snprintf(path, sizeof path, "%s/pages.warc.gz", dir);
	FILE *gz = fopen(path, "wb");
	if (!plain || !gz || !c)
		return 1;
	for (int i = 0; bytes < mb * 1e6; i++) {
		one_record(&rec, &pages[(size_t)i % n], i);
		wl_buf_reset(&z);
		must(wl_buf_reserve(&z, libdeflate_gzip_compress_bound(c, rec.len), &err), &err);
		z.len = libdeflate_gzip_compress(c, rec.data, rec.len, z.data, z.cap);
		if (fwrite(rec.data, 1, rec.len, plain) != rec.len ||
			fwrite(z.data, 1, z.len, gz) != z.len)
			return 1;
		bytes += (double)rec.len;
	}
	libdeflate_free_compressor(c);
	wl_buf_release(&rec);
	wl_buf_release(&z);
	while (n--)
		wl_buf_release(&pages[n]);
	return fclose(plain) || fclose(gz);
}

/* ---- read ---- */

static int read_all(const char *path)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_http *h = malloc(sizeof *h);
	struct wl_warc_record r;
	struct wl_warc w;
	struct wl_buf body;
	double t = wl_cpu_s(), bytes = 0;
	long records = 0;
	int more;
	if (!h)
		return 1;
	wl_buf_init(&body, WL_WARC_MAX_BODY);
	must(wl_warc_open(&w, path, 0, 0, &err), &err);
	while ((more = wl_warc_next(&w, &r, &err)) > 0) {
		const char *p = r.body;
		size_t n = r.n;
		if (r.type == WL_WARC_RESPONSE && wl_http_parse(h, p, n, &err) == 0) {
			p = h->raw;
			n = h->raw_n;
		}
		wl_buf_reset(&body);
		must(wl_buf_add(&body, p, n, &err), &err);
		bytes += (double)n;
		records++;
	}
	must(more, &err);
	t = wl_cpu_s() - t;
	printf("{\"records\": %ld, \"bytes\": %.0f, \"mb_per_cpu_s\": %.1f}\n", records, bytes,
		bytes / 1e6 / t);
	wl_warc_close(&w);
	wl_buf_release(&body);
	free(h);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "make") == 0)
		return make(argv[2], atof(argv[3]));
	if (argc == 3 && strcmp(argv[1], "read") == 0)
		return read_all(argv[2]);
	fprintf(stderr, "usage: bench_warc make DIR MB | read FILE\n");
	return 2;
}
