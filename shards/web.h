/*
 * Files of one folder on a web server or an S3-style store, by ranged requests; from any thread.
 *
 * http://HOST/PATH, https://HOST/PATH, or s3://BUCKET/PREFIX.  The last is signed with AWS
 * Signature Version 4 when AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and, for temporary ones,
 * AWS_SESSION_TOKEN) are set; AWS_REGION (us-east-1) and AWS_ENDPOINT_URL say where it is.
 *
 * A request that fails in a way that may pass (connection, stall, 408, 429, 5xx) is made again
 * after 0.2 s, then twice as long up to 10 s, or as Retry-After says, and goes on behind the bytes
 * that came already; after the seventh in a row without a byte the error says so.
 */
#ifndef WL_SHARDS_WEB_H
#define WL_SHARDS_WEB_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

struct wl_web;

bool wl_web_is_url(const char *s);
/* base: the folder; a closing slash or "/manifest.db" is dropped.  stall_s: seconds without a byte
 * after which a connection is given up; 0: 20. */
struct wl_web *wl_web_open(const char *base, int stall_s, struct wl_err *err);
/* Requests that run or wait end soon, with an error; for a thread that is to be joined. */
void wl_web_stop(struct wl_web *w);
void wl_web_close(struct wl_web *w);
/* The folder's URL as it is asked for (s3:// resolved), without a closing slash. */
const char *wl_web_base(const struct wl_web *w);

enum { WL_ETAG_MAX = 128 };
struct wl_web_answer {
	int64_t total;		/* bytes of the whole file */
	char etag[WL_ETAG_MAX]; /* "" when there is none */
	bool unchanged;		/* it still has the ETag that was given */
};

/* Bytes [from, from + n) of the file `name`, added to out.  WL_EDATA: it is not there, is shorter,
 * or may not be read; WL_EUSAGE: the server does not serve ranges, so nothing can be read from it;
 * WL_ERETRY: it cannot be reached, or fails. */
WL_MUST_CHECK int wl_web_range(struct wl_web *w, const char *name, int64_t from, int64_t n,
	struct wl_buf *out, struct wl_web_answer *a, struct wl_err *err);
/* The whole file into out; known: an ETag that makes it say `unchanged` and send nothing, or "". */
WL_MUST_CHECK int wl_web_file(struct wl_web *w, const char *name, const char *known,
	struct wl_buf *out, struct wl_web_answer *a, struct wl_err *err);

#endif
