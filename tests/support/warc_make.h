/* WARC archives for tests and benchmarks, made without the code under test. */
#ifndef WL_TESTS_WARC_MAKE_H
#define WL_TESTS_WARC_MAKE_H

#include "ops/buf.h"

/* Appends a record: "WARC/<version>", its type, a URI (NULL: none) and the block.  length: what
 * Content-Length says; -1: the truth; -2: there is none. */
void warc_record(struct wl_buf *out, const char *version, const char *type, const char *uri,
	const void *block, size_t n, long long length);
/* Appends "HTTP/1.1 <status> OK", the header lines (each ended by \r\n) and the body. */
void warc_http(struct wl_buf *out, int status, const char *headers, const void *body, size_t n);

/* Appends a gzip member, a zstd frame (dict NULL: none). */
void warc_gzip(struct wl_buf *out, const void *p, size_t n);
void warc_zstd(struct wl_buf *out, const void *p, size_t n, const void *dict, size_t dict_n);
/* Appends a skippable zstd frame, which holds a dictionary in front of a .warc.zst. */
void warc_zstd_skip(struct wl_buf *out, unsigned magic, const void *p, size_t n);

#endif
