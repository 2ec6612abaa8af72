/*
 * A page as a tree, by MyHTML (an HTML5 parser, of Debian's libmodest), made safe for hostile
 * pages: it is given a page made small (ingest/skim.h), whose text comes back through
 * wl_skim_piece, and makes a bounded number of nodes.
 *
 * A struct wl_dom parses one page after the other; making a parser costs about as much as parsing
 * a page, so it is kept.
 */
#ifndef WL_INGEST_DOM_H
#define WL_INGEST_DOM_H

#include "ingest/skim.h"

#include <myhtml/myhtml.h>
#include <myhtml/tree.h>
#include <stdbool.h>
#include <stddef.h>

/* MyHTML's, with tag_id (MyHTML_TAG_DIV, ...), parent, child (the first) and next. */
typedef struct myhtml_tree_node wl_node;

struct wl_dom {
	const wl_node *root; /* <html>; until the next parse */
	bool cut;            /* the page was read up to a limit of depth only */
	struct wl_skim skim;
	struct myhtml *parser; /* both kept from page to page; NULL: not made yet */
	struct myhtml_tree *tree;
	size_t nodes; /* of the tree */
};

enum {
	WL_DOM_MAX_DEPTH = 512,     /* open elements, as in Chromium's parser */
	WL_DOM_MAX_NODES = 1 << 20, /* for one page: some 300 MB; real ones have thousands */
};

/* No memory yet: {0} is the same. */
void wl_dom_init(struct wl_dom *d);
/* Parses UTF-8 text, which must live as long as the tree.  WL_EDATA: it makes more nodes than the
 * limit. */
WL_MUST_CHECK int wl_dom_parse(struct wl_dom *d, const char *text, size_t n, struct wl_err *err);
/* The same of the whole page, nothing left out: slower; tests compare. */
WL_MUST_CHECK int wl_dom_parse_all(struct wl_dom *d, const char *text, size_t n,
	struct wl_err *err);
void wl_dom_release(struct wl_dom *d);

/* The value of an attribute, "" when it is there without one; NULL: none.  name in lower case. */
const char *wl_dom_attr(const wl_node *element, const char *name);
/* An element whose tag MyHTML does not know, as <picture> and <amp-img>; name in lower case. */
bool wl_dom_is_named(const struct wl_dom *d, const wl_node *node, const char *name);

static inline bool wl_node_is_text(const wl_node *n)
{
	return n->tag_id == MyHTML_TAG__TEXT;
}

static inline bool wl_node_is_element(const wl_node *n)
{
	return n->tag_id > MyHTML_TAG__DOCTYPE;
}

/* The characters of a text node. */
static inline const char *wl_node_text(const wl_node *n)
{
	return n->token && n->token->str.data ? n->token->str.data : "";
}

#endif
