/*
 * HTTP's content codings over whole buffers: gzip, deflate (with and without zlib's wrapper), br,
 * zstd.  What a server sent is often cut off; what can be decoded of it comes out all the same.
 */
#ifndef WL_INGEST_CODING_H
#define WL_INGEST_CODING_H

#include "ingest/fields.h"
#include "ops/buf.h"

enum wl_coding {
	WL_CODING_IDENTITY,
	WL_CODING_GZIP,
	WL_CODING_DEFLATE,
	WL_CODING_BR,
	WL_CODING_ZSTD,
	WL_CODING_UNKNOWN,
};

/* By the name in a Content-Encoding header, "x-gzip" and an empty name included. */
enum wl_coding wl_coding_find(struct wl_slice name);

/* Decodes n bytes into *out (reset first; its max is the limit).  1: whole; 0: cut off or damaged,
 * *out has what came before; -1: WL_EDATA, not of this coding at all (nothing came out), or more
 * than *out may hold. */
WL_MUST_CHECK int wl_coding_decode(enum wl_coding c, const void *bytes, size_t n,
	struct wl_buf *out, struct wl_err *err);

#endif
