/* See warc_make.h. */
#include "tests/support/warc_make.h"

#include "tests/support/cm.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static struct wl_err err;

void warc_record(struct wl_buf *out, const char *version, const char *type, const char *uri,
	const void *block, size_t n, long long length)
{
	OK(wl_buf_printf(out, &err,
		"WARC/%s\r\nWARC-Type: %s\r\nWARC-Date: 2024-01-31T12:00:00Z\r\n", version, type));
	if (uri)
		OK(wl_buf_printf(out, &err, "WARC-Target-URI: %s\r\n", uri));
	if (strcmp(type, "response") == 0)
		OK(wl_buf_puts(out, "Content-Type: application/http; msgtype=response\r\n", &err));
	if (length != -2)
		OK(wl_buf_printf(out, &err, "Content-Length: %lld\r\n",
			length >= 0 ? length : (long long)n));
	OK(wl_buf_puts(out, "\r\n", &err));
	OK(wl_buf_add(out, block, n, &err));
	OK(wl_buf_puts(out, "\r\n\r\n", &err));
}

void warc_http(struct wl_buf *out, int status, const char *headers, const void *body, size_t n)
{
	OK(wl_buf_printf(out, &err, "HTTP/1.1 %d OK\r\n%s\r\n", status, headers));
	OK(wl_buf_add(out, body, n, &err));
}

void warc_gzip(struct wl_buf *out, const void *p, size_t n)
{
	z_stream z = {.next_in = (unsigned char *)p, .avail_in = (uInt)n};

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	size_t room = deflateBound(&z, n) + 64;
	OK(wl_buf_reserve(out, room, &err));
	z.next_out = (unsigned char *)out->data + out->len;
	z.avail_out = (uInt)room;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	out->len += z.total_out;
	deflateEnd(&z);
}

void warc_zstd(struct wl_buf *out, const void *p, size_t n, const void *dict, size_t dict_n)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t room = ZSTD_compressBound(n), made;

	assert_non_null(c);
	OK(wl_buf_reserve(out, room, &err));
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1); /* as the zstd command does */
	assert_false(ZSTD_isError(ZSTD_CCtx_loadDictionary(c, dict, dict_n)));
	made = ZSTD_compress2(c, out->data + out->len, room, p, n);
	assert_false(ZSTD_isError(made));
	out->len += made;
	ZSTD_freeCCtx(c);
}

void warc_zstd_skip(struct wl_buf *out, unsigned magic, const void *p, size_t n)
{
	for (int i = 0; i < 4; i++)
		OK(wl_buf_putc(out, (char)(magic >> 8 * i & 0xff), &err));
	for (int i = 0; i < 4; i++)
		OK(wl_buf_putc(out, (char)(n >> 8 * i & 0xff), &err));
	OK(wl_buf_add(out, p, n, &err));
}
