/*
 * Addresses of pictures, made comparable: two spellings of one address that differ in nothing a
 * server could see are one URL, so that it is fetched once.
 */
#ifndef WL_INGEST_URL_H
#define WL_INGEST_URL_H

#include "ops/err.h"

#include <stdbool.h>

/* No URL is longer, in bytes, after normalisation. */
enum { WL_URL_MAX = 8192 };

struct wl_url {
	char *text; /* scheme and host in lower case; blanks, control characters and non-ASCII
		     * bytes of path and query escaped; default port, user and fragment left out */
	char *site; /* "http://host" or "http://host:8080": whom robots.txt speaks for */
	char *host; /* "host", without port and brackets */
	char *path; /* path and query as they go into the request: "/a?b" */
};

/* Takes http and https; "//host/x" is https.  WL_EDATA says what is wrong with any other. */
WL_MUST_CHECK int wl_url_parse(struct wl_url *u, const char *text, struct wl_err *err);
/* The address that a server's Location: means when it stands in an answer from `base`. */
WL_MUST_CHECK int wl_url_resolve(struct wl_url *u, const char *base, const char *location,
	struct wl_err *err);
void wl_url_release(struct wl_url *u);

/* Whether wl_url_parse would give the very same text: it is written as simply as URLs mostly are.
 * False says nothing. */
bool wl_url_is_plain(const char *text);

#endif
