/*
 * A page as a tree, by libgumbo (an HTML5 parser), made safe for hostile pages.
 *
 * All memory of a parse comes from one bounded heap that is dropped whole: libgumbo frees
 * recursively and does not check for the end of memory, so neither is left to it.  It is given a
 * page made small (ingest/skim.h), whose text comes back through wl_dom_piece.
 */
#ifndef WL_INGEST_DOM_H
#define WL_INGEST_DOM_H

#include "ingest/skim.h"

#include <gumbo.h>
#include <stdbool.h>
#include <stddef.h>

struct wl_dom_block;

struct wl_dom {
	const GumboNode *root; /* <html> */
	bool cut;              /* the page was read up to a limit of depth only */
	struct wl_skim skim;
	struct wl_dom_block *blocks;
	size_t used_bytes, max_bytes;
};

enum {
	WL_DOM_MAX_DEPTH = 512,                /* open elements, as in Chromium's parser */
	WL_DOM_MAX_BYTES = 256 * 1024 * 1024, /* of memory, for one page */
};

/* Parses UTF-8 text, which must live as long as the tree.  WL_EDATA: it needs more memory than
 * the limit. */
WL_MUST_CHECK int wl_dom_parse(struct wl_dom *d, const char *text, size_t n, struct wl_err *err);
/* The same of the whole page, nothing left out: slower; tests compare. */
WL_MUST_CHECK int wl_dom_parse_all(struct wl_dom *d, const char *text, size_t n,
	struct wl_err *err);
void wl_dom_release(struct wl_dom *d);

/* The value of an attribute, "" when it is there without one; NULL: none.  name in lower case. */
const char *wl_dom_attr(const GumboNode *element, const char *name);
bool wl_dom_is(const GumboNode *node, GumboTag tag); /* an HTML element with this tag */

#endif
