/*
 * A crawled page as one JSON object, as crawlers put it on a topic:
 *
 *   {"url": "http://...", "html": TEXT or BASE64, "headers": {"Content-Type": "..."},
 *    "images": [{"url": "...", "b64": "..."}], "source": "...", "fetched_at": SECONDS}
 *
 * html is base64 (the bytes as received, in any encoding) when "encoding" is "base64", when it
 * comes as "html_b64", or when it has no '<' in it; else text, which in JSON is UTF-8 whatever
 * the page says of itself.  Pictures that the object brings are matched by URL; the others wait
 * for the fetch.  Pictures that are brought and not used are counted, by why; a member of another
 * type than above rejects the message.
 */
#ifndef WL_INGEST_PAGE_MESSAGE_H
#define WL_INGEST_PAGE_MESSAGE_H

#include "ingest/page.h"
#include "ingest/record.h"

#include <stdbool.h>

/* Whether a JSON value is such an object. */
bool wl_is_page_message(const json_t *o);
/* Yields a record for each content picture of the page (record.h), finished.  origin: names the
 * source in the pairs' ids ("kafka:news/3").  Any thread. */
WL_MUST_CHECK int wl_page_message(const struct wl_profile *profile, struct wl_record *r,
	const json_t *o, const char *origin, struct wl_err *err);

#endif
