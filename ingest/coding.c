/* Content codings: see coding.h. */
#include "ingest/coding.h"

#include <brotli/decode.h>
#include <libdeflate.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { STEP = 64 << 10 };

enum wl_coding wl_coding_find(struct wl_slice name)
{
	static const struct {
		const char *name;
		enum wl_coding c;
	} known[] = {{"gzip", WL_CODING_GZIP}, {"x-gzip", WL_CODING_GZIP},
		{"deflate", WL_CODING_DEFLATE}, {"br", WL_CODING_BR}, {"zstd", WL_CODING_ZSTD},
		{"identity", WL_CODING_IDENTITY}, {"none", WL_CODING_IDENTITY},
		{"utf-8", WL_CODING_IDENTITY}, /* servers do send it */
		{"", WL_CODING_IDENTITY}};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (wl_slice_is(name, known[i].name))
			return known[i].c;
	return name.p ? WL_CODING_UNKNOWN : WL_CODING_IDENTITY;
}

/* Room for a piece; -1 WL_EDATA when the limit is reached. */
static int grow(struct wl_buf *out, size_t *room, struct wl_err *err)
{
	size_t left = out->max - out->len, want = out->len > STEP ? out->len : STEP;
	if (!left)
		return wl_err_set(
			err, WL_EDATA, "the body decompresses to more than %zu bytes", out->max);
	*room = want < left ? want : left;
	return wl_buf_reserve(out, *room, err);
}

/* What came out decides whether bytes that end in an error were cut off or never of the kind. */
static int verdict(const struct wl_buf *out, const char *what, struct wl_err *err)
{
	if (out->len)
		return 0;
	return wl_err_set(err, WL_EDATA, "the body is not %s, though its header says so", what);
}

/* ---- deflate and its wrappers ---- */

/* All at once by libdeflate, when the room is enough; 1: done. */
static int inflate_whole(
	const void *bytes, size_t n, int window_bits, struct wl_buf *out, struct wl_err *err)
{
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	size_t made = 0, room = 8 * n + STEP;
	enum libdeflate_result rc = LIBDEFLATE_BAD_DATA;
	if (room > out->max)
		room = out->max;
	if (!d)
		return wl_err_nomem(err, "a decompressor", 0);
	if (wl_buf_reserve(out, room, err) < 0) {
		libdeflate_free_decompressor(d);
		return -1;
	}
	if (window_bits == 15 + 16)
		rc = libdeflate_gzip_decompress(d, bytes, n, out->data, room, &made);
	else if (window_bits == 15)
		rc = libdeflate_zlib_decompress(d, bytes, n, out->data, room, &made);
	else
		rc = libdeflate_deflate_decompress(d, bytes, n, out->data, room, &made);
	libdeflate_free_decompressor(d);
	if (rc != LIBDEFLATE_SUCCESS)
		return 0;
	out->len = made;
	out->data[made] = '\0';
	return 1;
}

static int inflate_pieces(
	const void *bytes, size_t n, int window_bits, struct wl_buf *out, struct wl_err *err)
{
	z_stream z = {.next_in = (unsigned char *)bytes, .avail_in = (uInt)n};
	int rc = Z_OK, ret = -1;
	if (inflateInit2(&z, window_bits) != Z_OK)
		return wl_err_nomem(err, "zlib", 0);
	while (rc == Z_OK) {
		size_t room = 0;
		WL_TRY_OUT(grow(out, &room, err));
		z.next_out = (unsigned char *)out->data + out->len;
		z.avail_out = (uInt)room;
		rc = inflate(&z, Z_NO_FLUSH);
		out->len += room - z.avail_out;
		out->data[out->len] = '\0';
		/* gzip allows members one after the other. */
		if (rc == Z_STREAM_END && window_bits == 15 + 16 && z.avail_in > 18 &&
			z.next_in[0] == 0x1f && z.next_in[1] == 0x8b)
			rc = inflateReset(&z);
	}
	ret = rc == Z_STREAM_END ? 1 : 0;
out:
	inflateEnd(&z);
	return ret;
}

static int try_inflate(
	const void *bytes, size_t n, int window_bits, struct wl_buf *out, struct wl_err *err)
{
	int done = inflate_whole(bytes, n, window_bits, out, err);
	if (done)
		return done;
	wl_buf_reset(out);
	return inflate_pieces(bytes, n, window_bits, out, err);
}

static int decode_gzip(const void *bytes, size_t n, struct wl_buf *out, struct wl_err *err)
{
	int whole = try_inflate(bytes, n, 15 + 16, out, err);
	return whole ? whole : verdict(out, "gzip", err);
}

/* RFC 9110 means zlib's wrapper by "deflate"; servers send bare deflate as often. */
static int decode_deflate(const void *bytes, size_t n, struct wl_buf *out, struct wl_err *err)
{
	const unsigned char *p = bytes;
	bool wrapped = n >= 2 && (p[0] & 0x0f) == 8 && (p[0] << 8 | p[1]) % 31 == 0;
	int whole = try_inflate(bytes, n, wrapped ? 15 : -15, out, err);
	if (whole == 0 && wrapped && !out->len)
		whole = try_inflate(bytes, n, -15, out, err);
	return whole ? whole : verdict(out, "deflate", err);
}

/* ---- brotli and zstd ---- */

static int decode_br(const void *bytes, size_t n, struct wl_buf *out, struct wl_err *err)
{
	BrotliDecoderState *d = BrotliDecoderCreateInstance(NULL, NULL, NULL);
	BrotliDecoderResult rc = BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT;
	const uint8_t *in = bytes;
	int ret = -1;
	if (!d)
		return wl_err_nomem(err, "a brotli decoder", 0);
	while (rc == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT) {
		size_t room = 0, left;
		WL_TRY_OUT(grow(out, &room, err));
		uint8_t *to = (uint8_t *)out->data + out->len;
		left = room;
		rc = BrotliDecoderDecompressStream(d, &n, &in, &left, &to, NULL);
		out->len += room - left;
		out->data[out->len] = '\0';
	}
	/* Bytes after the end: it was no brotli, which has no mark to be told by. */
	if (rc == BROTLI_DECODER_RESULT_SUCCESS && !n)
		ret = 1;
	else
		ret = rc == BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT
			      ? verdict(out, "brotli", err)
			      : wl_err_set(err, WL_EDATA,
					"the body is not brotli, though its header "
					"says so");
out:
	BrotliDecoderDestroyInstance(d);
	return ret;
}

static int decode_zstd(const void *bytes, size_t n, struct wl_buf *out, struct wl_err *err)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	ZSTD_inBuffer in = {bytes, n, 0};
	size_t rc = 1;
	int ret = -1;
	if (!d)
		return wl_err_nomem(err, "a zstd decoder", 0);
	/* RFC 8878 3.1.1.1.2 lets a client refuse windows of more than 8 MB; web servers keep to
	 * it. */
	ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, 23);
	for (;;) {
		size_t room = 0, was = in.pos;
		WL_TRY_OUT(grow(out, &room, err));
		ZSTD_outBuffer o = {out->data + out->len, room, 0};
		rc = ZSTD_decompressStream(d, &o, &in);
		out->len += o.pos;
		out->data[out->len] = '\0';
		if (ZSTD_isError(rc) || (rc == 0 && in.pos == n) || (in.pos == was && !o.pos))
			break;
	}
	ret = rc == 0 ? 1 : verdict(out, "zstd", err);
out:
	ZSTD_freeDCtx(d);
	return ret;
}

int wl_coding_decode(
	enum wl_coding c, const void *bytes, size_t n, struct wl_buf *out, struct wl_err *err)
{
	wl_buf_reset(out);
	if (n > UINT32_MAX / 2)
		return wl_err_set(err, WL_EDATA, "the body is too large: %zu bytes", n);
	switch (c) {
	case WL_CODING_IDENTITY:
		return wl_buf_add(out, bytes, n, err) < 0 ? -1 : 1;
	case WL_CODING_GZIP:
		return decode_gzip(bytes, n, out, err);
	case WL_CODING_DEFLATE:
		return decode_deflate(bytes, n, out, err);
	case WL_CODING_BR:
		return decode_br(bytes, n, out, err);
	case WL_CODING_ZSTD:
		return decode_zstd(bytes, n, out, err);
	case WL_CODING_UNKNOWN:
		break;
	}
	return wl_err_set(err, WL_EDATA, "the body is in a content coding that is not known here");
}
