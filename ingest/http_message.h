/*
 * An HTTP response as an archive keeps it: status line, header, body with its transfer and
 * content codings undone.
 *
 * Archives hold what servers sent, and what crawlers made of it: bodies that are not chunked or
 * not compressed although the header says so, chunks with wrong sizes, bodies cut off.  The rule
 * is that of browsers: what can be read is read, and `cut` tells that something was missing.
 */
#ifndef WL_INGEST_HTTP_MESSAGE_H
#define WL_INGEST_HTTP_MESSAGE_H

#include "ingest/coding.h"
#include "ingest/fields.h"
#include "ops/buf.h"

struct wl_http {
	int status; /* 200; 0 for a record without an HTTP head */
	struct wl_fields fields;
	const char *raw; /* the body as it is in the message */
	size_t raw_n;
};

/* Reads the head; *h points into p.  0, or -1 with WL_EDATA when it does not begin with a status
 * line.  A head without an end is all head: the body is empty. */
WL_MUST_CHECK int wl_http_parse(struct wl_http *h, const char *p, size_t n, struct wl_err *err);

/* A body decoded. */
struct wl_http_body {
	const char *p; /* in the message itself when nothing had to be undone, else in buf */
	size_t n;
	bool cut;      /* chunks or compressed bytes are missing at the end */
	bool plain;    /* the header names codings that the body does not have */
	struct wl_buf buf, other; /* owned */
};
/* max: the most bytes that any step may give. */
void wl_http_body_init(struct wl_http_body *b, size_t max);
void wl_http_body_release(struct wl_http_body *b);
/* Undoes Transfer-Encoding: chunked and Content-Encoding.  WL_EDATA: a coding that is not known,
 * a body that is none of what its header says and no text either, or more than max. */
WL_MUST_CHECK int wl_http_body_decode(struct wl_http_body *b, const struct wl_http *h,
	struct wl_err *err);

/* Whether an X-Robots-Tag header forbids the use as training data (ingest/robots.h says which
 * words do), to all crawlers or to ours. */
bool wl_http_forbids_use(const struct wl_http *h);

#endif
