/*
 * A page that a source met, as records: one for each pair, the page itself passed over and what
 * was left out of it counted.
 */
#ifndef WL_INGEST_PAGE_RECORD_H
#define WL_INGEST_PAGE_RECORD_H

#include "ingest/page.h"
#include "ingest/record.h"

/*
 * Reads the page and yields its pairs from r (source label and fetched_at as r's).  A page that
 * cannot be read rejects r.  origin: the source's name, which with r->place and the picture's
 * URL makes a pair's image_origin.
 *
 * find (may be NULL) may bring the picture: sets y->image and y->has_image, or rejects y, or
 * leaves it alone: then it waits for the fetch.
 */
WL_MUST_CHECK int wl_record_page(struct wl_record *r, const struct wl_profile *profile,
	const struct wl_page *page, const char *origin,
	int (*find)(void *ctx, struct wl_record *y, const char *url, struct wl_err *err), void *ctx,
	struct wl_err *err);

#endif
