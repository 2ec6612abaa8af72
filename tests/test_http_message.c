/* HTTP responses as archives keep them: heads, chunks and codings, right and wrong. */
#include "ingest/http_message.h"

#include "tests/support/cm.h"
#include "tests/support/warc_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static struct wl_err err;
static struct wl_http h;
static struct wl_http_body b;

enum { MAX = 1 << 20 };

static int setup(void **state)
{
	(void)state;
	wl_http_body_init(&b, MAX);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	wl_http_body_release(&b);
	return 0;
}

/* The message must decode to this. */
static void decodes(
	const void *msg, size_t n, const void *want, size_t want_n, bool cut, bool plain)
{
	/* In fresh memory of exactly its size, so that the sanitizer sees every step outside. */
	char *copy = malloc(n ? n : 1);
	memcpy(copy, msg, n);
	OK(wl_http_parse(&h, copy, n, &err));
	OK(wl_http_body_decode(&b, &h, &err));
	assert_int_equal(b.n, want_n);
	assert_memory_equal(b.p, want, want_n);
	assert_int_equal(b.cut, cut);
	assert_int_equal(b.plain, plain);
	free(copy);
}

#define DECODES(msg, want, cut, plain)                                                             \
	decodes(msg, sizeof(msg) - 1, want, sizeof(want) - 1, cut, plain)

static void test_head(void **state)
{
	static const struct {
		const char *text;
		int status;
	} good[] = {{"HTTP/1.1 200 OK\r\n\r\n", 200}, {"HTTP/1.0 404 Not Found\n\n", 404},
		{"HTTP/2 301\r\nLocation: x\r\n\r\n", 301}, {"HTTP/1.1  200\r\n\r\n", 200},
		{"HTTP/1.1 200 OK", 200}};
	static const char *const bad[] = {"", "<html>", "HTTP", "HTTP/1.1\r\n\r\n",
		"HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		OK(wl_http_parse(&h, good[i].text, strlen(good[i].text), &err));
		assert_int_equal(h.status, good[i].status);
		assert_int_equal(h.raw_n, 0);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		FAILS(WL_EDATA, "HTTP", wl_http_parse(&h, bad[i], strlen(bad[i]), &err));
}

static void test_fields(void **state)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nContent-Type:text/html;\r\n\tcharset=gbk\r\n"
				   "no colon here\r\nX-A :  b  \nCONTENT-length: 5\r\n"
				   "Empty:\r\n\r\nbody";

	(void)state;
	OK(wl_http_parse(&h, text, sizeof text - 1, &err));
	assert_int_equal(h.raw_n, 4);
	struct wl_slice v = wl_fields_get(&h.fields, "content-type");
	assert_int_equal(v.n, strlen("text/html;\r\n\tcharset=gbk"));
	assert_true(wl_slice_begins(v, "TEXT/html"));
	assert_true(wl_slice_is(wl_fields_get(&h.fields, "x-a"), "b"));
	int64_t n;
	assert_true(wl_slice_number(wl_fields_get(&h.fields, "Content-Length"), &n));
	assert_int_equal(n, 5);
	v = wl_fields_get(&h.fields, "empty");
	assert_non_null(v.p);
	assert_int_equal(v.n, 0);
	assert_null(wl_fields_get(&h.fields, "absent").p);
	static const char *const no[] = {"", "-1", "1x", "99999999999999999999", "1 2", "0x10"};
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		assert_false(wl_slice_number((struct wl_slice){no[i], strlen(no[i])}, &n));
	/* More fields than are kept: the head still ends where it ends. */
	struct wl_buf big;
	wl_buf_init(&big, 1 << 20);
	OK(wl_buf_puts(&big, "HTTP/1.1 200 OK\r\n", &err));
	for (int i = 0; i < 3 * WL_FIELDS_MAX; i++)
		OK(wl_buf_printf(&big, &err, "F%d: %d\r\n", i, i));
	OK(wl_buf_puts(&big, " folded\r\n\r\nrest", &err));
	OK(wl_http_parse(&h, big.data, big.len, &err));
	assert_int_equal(h.fields.n, WL_FIELDS_MAX);
	assert_true(wl_slice_is(h.fields.v[WL_FIELDS_MAX - 1].value, "127"));
	assert_int_equal(h.raw_n, 4);
	wl_buf_release(&big);
}

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static void test_chunks(void **state)
{
	(void)state;
	DECODES(CHUNKED "5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\nTrailer: 1\r\n\r\n", "hello, world",
		false, false);
	DECODES(CHUNKED "5 \r\nhello\r\n0\r\n\r\n", "hello", false, false);
	DECODES(CHUNKED "5\nhello\n0\n\n", "hello", false, false);
	DECODES(CHUNKED "0\r\n\r\n", "", false, false);
	/* Not chunked at all. */
	DECODES(CHUNKED "<html>hello</html>", "<html>hello</html>", false, true);
	DECODES(CHUNKED "", "", false, false);
	/* Cut off inside a chunk, before the size, in the size. */
	DECODES(CHUNKED "5\r\nhello\r\n10\r\nabc", "helloabc", true, false);
	DECODES(CHUNKED "5\r\nhello\r\n", "hello", true, false);
	/* Only its beginning was chunked: the rest is content. */
	DECODES(CHUNKED "5\r\nhello\r\n<p>more</p>", "hello<p>more</p>", true, false);
	/* A size that no body has. */
	DECODES(CHUNKED "ffffffff\r\nhello", "hello", true, false);
	DECODES(CHUNKED "fffffffffffffffff\r\nhello", "fffffffffffffffff\r\nhello", false, true);
}

static struct wl_buf text;

/* A message of `coding` with these bytes; chunked besides when wanted. */
static struct wl_buf message(const char *coding, const void *p, size_t n, bool chunked)
{
	struct wl_buf m, body;
	char head[256];

	wl_buf_init(&m, 8 << 20);
	wl_buf_init(&body, 8 << 20);
	if (chunked) {
		size_t half = n / 2;
		OK(wl_buf_printf(&body, &err, "%zx\r\n", half));
		OK(wl_buf_add(&body, p, half, &err));
		OK(wl_buf_printf(&body, &err, "\r\n%zx\r\n", n - half));
		OK(wl_buf_add(&body, (const char *)p + half, n - half, &err));
		OK(wl_buf_puts(&body, "\r\n0\r\n\r\n", &err));
	} else {
		OK(wl_buf_add(&body, p, n, &err));
	}
	snprintf(head, sizeof head, "Content-Encoding: %s\r\n%s", coding,
		chunked ? "Transfer-Encoding: chunked\r\n" : "");
	warc_http(&m, 200, head, body.data, body.len);
	wl_buf_release(&body);
	return m;
}

/* zlib's (wrapped) or bare deflate of the text. */
static struct wl_buf deflated(int window_bits)
{
	struct wl_buf out;
	z_stream z = {.next_in = (unsigned char *)text.data, .avail_in = (uInt)text.len};

	wl_buf_init(&out, 8 << 20);
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, window_bits, 8, 0), Z_OK);
	OK(wl_buf_reserve(&out, 1 << 19, &err));
	z.next_out = (unsigned char *)out.data;
	z.avail_out = 1 << 19;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	out.len = z.total_out;
	deflateEnd(&z);
	return out;
}

/* brotli 1.1 of page(20) below, as Python's brotli.compress made it. */
static const unsigned char BROTLI[] = {0x1b, 0x81, 0x01, 0x40, 0x45, 0x27, 0x07, 0xac, 0xdf, 0xf9,
	0x02, 0x97, 0xc4, 0xba, 0x51, 0xc5, 0xc1, 0x06, 0x1c, 0xb8, 0x94, 0x5a, 0x34, 0x09, 0x9f,
	0x28, 0xce, 0xcc, 0x01, 0x0d, 0x64, 0xba, 0xf1, 0x55, 0xbe, 0x25, 0xfa, 0x10, 0x03, 0xf6,
	0x00, 0x00};

static void page(int times)
{
	wl_buf_reset(&text);
	OK(wl_buf_puts(&text, "<html><body>", &err));
	for (int i = 0; i < times; i++)
		OK(wl_buf_puts(&text, "你好，世界。", &err));
	OK(wl_buf_puts(&text, "</body></html>", &err));
}

static void check_coding(const char *name, const void *p, size_t n)
{
	for (int chunked = 0; chunked < 2; chunked++) {
		struct wl_buf m = message(name, p, n, chunked);
		decodes(m.data, m.len, text.data, text.len, false, false);
		wl_buf_release(&m);
	}
}

static void test_codings(void **state)
{
	struct wl_buf z, zz;

	(void)state;
	wl_buf_init(&text, 8 << 20);
	page(5000);
	wl_buf_init(&z, 8 << 20);
	warc_gzip(&z, text.data, text.len);
	check_coding("gzip", z.data, z.len);
	check_coding("X-GZIP", z.data, z.len);
	check_coding("identity, gzip", z.data, z.len);
	wl_buf_init(&zz, 8 << 20);
	warc_gzip(&zz, z.data, z.len);
	check_coding("gzip, gzip", zz.data, zz.len);
	wl_buf_reset(&zz);
	warc_zstd(&zz, text.data, text.len, NULL, 0);
	check_coding("zstd", zz.data, zz.len);
	wl_buf_reset(&zz);
	warc_zstd(&zz, z.data, z.len, NULL, 0);
	check_coding("gzip, zstd", zz.data, zz.len);
	wl_buf_release(&z);
	z = deflated(15);
	check_coding("deflate", z.data, z.len);
	wl_buf_release(&z);
	z = deflated(-15);
	check_coding("deflate", z.data, z.len);
	page(20);
	check_coding("br", BROTLI, sizeof BROTLI);
	check_coding("", text.data, text.len);
	wl_buf_release(&z);
	wl_buf_release(&zz);
	wl_buf_release(&text);
}

static void fails(const char *coding, const void *p, size_t n, const char *part)
{
	struct wl_buf m = message(coding, p, n, false);

	OK(wl_http_parse(&h, m.data, m.len, &err));
	FAILS(WL_EDATA, part, wl_http_body_decode(&b, &h, &err));
	wl_buf_release(&m);
}

/* Codings that a body has not, cut ones, and what decompresses without end. */
static void test_wrong_codings(void **state)
{
	static const char *const names[] = {"gzip", "deflate", "br", "zstd"};
	struct wl_buf z, m;

	(void)state;
	wl_buf_init(&text, 8 << 20);
	wl_buf_init(&z, 8 << 20);
	page(300);
	/* A crawler decoded it and left the header: text and pictures are taken as they are. */
	for (size_t i = 0; i < 4; i++) {
		m = message(names[i], text.data, text.len, false);
		decodes(m.data, m.len, text.data, text.len, false, true);
		wl_buf_release(&m);
		static const char jpeg[] = "\xff\xd8\xff\xe0\0\x10JFIF\0";
		m = message(names[i], jpeg, sizeof jpeg - 1, false);
		decodes(m.data, m.len, jpeg, sizeof jpeg - 1, false, true);
		wl_buf_release(&m);
		/* deflate and brotli have no mark: almost any bytes begin like them. */
		if (i == 0 || i == 3)
			fails(names[i], "\1\2\3\4\5\6\7\0\0\0\0\0\0\0\0\0", 16, "body");
	}
	fails("compress", "\x1f\x9d\x90", 3, "not known");
	/* Cut anywhere, the beginning comes out. */
	for (int i = 0; i < 4; i++) {
		size_t full = 0;
		wl_buf_reset(&z);
		if (i == 0)
			warc_gzip(&z, text.data, text.len);
		else if (i == 1)
			warc_zstd(&z, text.data, text.len, NULL, 0);
		else if (i == 2)
			OK(wl_buf_add(&z, BROTLI, sizeof BROTLI, &err));
		else {
			wl_buf_release(&z);
			z = deflated(-15);
		}
		for (size_t n = 1; n < z.len; n++) {
			m = message(i == 0   ? "gzip"
				    : i == 1 ? "zstd"
				    : i == 2 ? "br"
					     : "deflate",
				z.data, n, false);
			OK(wl_http_parse(&h, m.data, m.len, &err));
			if (wl_http_body_decode(&b, &h, &err) == 0 && !b.plain) {
				assert_true(b.cut);
				assert_true(b.n <= text.len);
				assert_memory_equal(b.p, text.data, b.n < 100 ? b.n : 100);
				full = b.n > full ? b.n : full;
			}
			wl_buf_release(&m);
		}
		if (i != 1) /* a zstd block comes out whole or not at all */
			assert_true(full > 100);
	}
	/* 4 MB of one letter in a few kB: over the limit of 1 MB. */
	wl_buf_reset(&text);
	OK(wl_buf_reserve(&text, 4 << 20, &err));
	memset(text.data, 'x', 4 << 20);
	text.len = 4 << 20;
	wl_buf_reset(&z);
	warc_gzip(&z, text.data, text.len);
	fails("gzip", z.data, z.len, "more than 1048576 bytes");
	wl_buf_reset(&z);
	warc_zstd(&z, text.data, text.len, NULL, 0);
	fails("zstd", z.data, z.len, "more than 1048576 bytes");
	wl_buf_release(&z);
	wl_buf_release(&text);
}

static void test_forbidden(void **state)
{
	static const struct {
		const char *header;
		bool noai;
	} cases[] = {{"X-Robots-Tag: noai\r\n", true},
		{"x-robots-tag: noindex, NoImageAI\r\n", true},
		{"X-Robots-Tag: noindex\r\nX-Robots-Tag: noai\r\n", true},
		{"X-Robots-Tag: noindex\r\n", true}, {"X-Robots-Tag: nofollow\r\n", false},
		{"X-Robots-Tag: noaix\r\n", false}, {"X-Robots-Tag: somebot: noai\r\n", false},
		{"", false}, {"X-Robots: noai\r\n", false}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_buf m;
		wl_buf_init(&m, 4096);
		warc_http(&m, 200, cases[i].header, "", 0);
		OK(wl_http_parse(&h, m.data, m.len, &err));
		if (wl_http_forbids_use(&h) != cases[i].noai)
			fail_msg("%s", cases[i].header);
		wl_buf_release(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_codings),
		cmocka_unit_test(test_wrong_codings),
		cmocka_unit_test(test_forbidden),
	};
	return cmocka_run_group_tests_name("http_message", tests, setup, teardown);
}
