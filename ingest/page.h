/*
 * HTML pages into image-text pairs: the one way for every source that meets pages (html:, warc:,
 * kafka:).
 *
 * A page's bytes are decoded (ingest/charset.h), parsed by MyHTML, and each content image comes
 * out with its texts by kind as in the public BriVL data:
 *   caption   written for the picture: figcaption, or the short paragraph under or over it
 *   alt_text  the alt attribute, or the title attribute when there is no alt
 *   sur_text  the paragraphs nearest to it
 *   easy      the one paragraph nearest to it
 *   first     the first sentence of the page's first paragraph
 *   content   the text of the post that it belongs to (elements named by the profile)
 *   title     the page's title, without the site's name
 * Site furniture (icons, trackers, advertisements, avatars, ...) is left out and counted by
 * reason.  A profile says which kinds become the pair's text and what furniture looks like.
 *
 * The result is a function of the page and the profile alone: no state is kept between pages,
 * any number of threads may call at once, and page order does not matter.
 */
#ifndef WL_INGEST_PAGE_H
#define WL_INGEST_PAGE_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- profiles ---- */

struct wl_profile; /* read-only once loaded; shared by threads */

/* Loads a profile: "news", "baike", "weibo" (ingest/profiles/NAME.yaml, found as all shared
 * files are) or the path of a YAML file (what has a '/' or ends in ".yaml").  NULL or "" means
 * "news".  NULL on failure: WL_EUSAGE names an unknown profile or key with the nearest valid
 * one. */
struct wl_profile *wl_profile_load(const char *name_or_path, struct wl_err *err);
void wl_profile_free(struct wl_profile *p);
/* "news": also what a pair's source is called when nobody gave a label. */
const char *wl_profile_name(const struct wl_profile *p);

/* ---- pages ---- */

struct wl_page {
	const char *url;          /* absolute; NULL or "": taken from the page (canonical link,
				   * og:url, <base>), else relative image URLs are left out */
	const void *bytes;        /* the body, transfer and content encodings already undone */
	size_t n;
	const char *content_type; /* the HTTP header's value, or NULL */
	bool fetched; /* just now: its pictures are not counted over pages (ingest/furniture.h),
		       * since the order of fetches is no one's */
};

/* One content image.  Strings live until the callback returns. */
struct wl_page_pair {
	const char *image_url; /* absolute, http or https, no fragment, never empty */
	const char *page_url;  /* absolute, or "" when it is not known at all */
	const char *texts;     /* JSON [[kind, text], ...]: what the profile chose first, then
				* the kinds it wants besides; never [] */
	const char *meta;      /* JSON object: "texts" the kinds that were not chosen, "alt_url"
				* other sizes of the image (srcset), "charset" of the page,
				* "max_pages" of its host that it may stand on */
	int64_t ordinal;       /* which <img> of the page it is, from 0, furniture included: the
				* same whatever the profile */
	int width, height;     /* by the attributes or the style; 0 unknown */
};

/* Why an image of a page was left out. */
enum wl_page_skip {
	WL_SKIP_NO_URL,      /* no attribute names a usable URL */
	WL_SKIP_DATA_URL,    /* only a data: placeholder */
	WL_SKIP_BAD_URL,     /* not http(s), or relative on a page whose address is unknown */
	WL_SKIP_TRACKER,     /* counters and beacons: 1x1, known hosts */
	WL_SKIP_ICON,        /* icons, logos, buttons, emoticons, spacers */
	WL_SKIP_AVATAR,
	WL_SKIP_QR_CODE,
	WL_SKIP_ADVERT,
	WL_SKIP_CHROME,      /* inside header, nav, footer, aside, or a list of other articles */
	WL_SKIP_TINY,        /* smaller than the profile's min_side by its attributes */
	WL_SKIP_RATIO,       /* longer than the profile's max_ratio by its attributes */
	WL_SKIP_REPEATED,    /* the same URL stood in the page before */
	WL_SKIP_NO_TEXT,     /* none of the kinds that the profile asks for is there */
	WL_SKIP_TOO_MANY,    /* past the profile's max_images */
	WL_SKIP_COUNT
};
const char *wl_page_skip_name(enum wl_page_skip s); /* "no-url", "tracker", ... */

/* images = pairs + sum of skipped, always. */
struct wl_page_counts {
	int64_t pages;   /* pages looked at */
	int64_t images;  /* <img> elements (and what stands for them) */
	int64_t pairs;   /* emitted */
	int64_t skipped[WL_SKIP_COUNT];
	int64_t cut;     /* pages nested or long past the limits: read up to there */
};

enum {
	WL_PAGE_MAX_BYTES = 16 * 1024 * 1024, /* larger pages are WL_EDATA */
	WL_PAGE_MAX_DEPTH = 512,              /* open elements, as in Chromium's parser */
};

/*
 * Calls emit for each content image, in document order.  counts are added to (zero it first).
 * A page without images is no error.  WL_EDATA: this is not a page that can be read (empty,
 * binary, an encoding that no converter knows, too large): the caller quarantines it.  A
 * negative result of emit ends the walk and is returned as -1 (emit has set *err itself).
 */
WL_MUST_CHECK int wl_page_pairs(const struct wl_profile *profile, const struct wl_page *page,
	int (*emit)(void *ctx, const struct wl_page_pair *pair), void *ctx,
	struct wl_page_counts *counts, struct wl_err *err);

/* Whether a Content-Type header (NULL: unknown) or, without one, the bytes look like HTML. */
int wl_page_is_html(const char *content_type, const void *bytes, size_t n);

#endif
