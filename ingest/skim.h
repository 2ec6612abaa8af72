/*
 * A page made small before it is parsed: what says nothing about pictures and their texts is left
 * out (scripts, styles, comments, most attributes), and long runs of text are replaced by marks
 * that lead back to them.  The tree that the parser makes of the rest is the same, sooner, since
 * its tokeniser works character by character.
 *
 * Tokens are told as the HTML standard's tokeniser does (WHATWG 13.2.5).  What would nest deeper
 * than a limit is cut off: the parser's work grows with the square of the depth.
 */
#ifndef WL_INGEST_SKIM_H
#define WL_INGEST_SKIM_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stdbool.h>

struct wl_span {
	const char *p; /* in the page's text */
	size_t n;
};

struct wl_skim {
	struct wl_buf text; /* the small page */
	struct wl_span *spans;
	size_t n, cap;
	size_t cut_at; /* where the page was cut for its depth; its length: nowhere */
};

/* text is UTF-8 and must live as long as the skim.  all: leave nothing out (tests compare).  *s is
 * {0}, or a skim whose memory is used again. */
WL_MUST_CHECK int wl_skim_page(struct wl_skim *s, const char *text, size_t n, size_t max_depth,
	bool all, struct wl_err *err);
void wl_skim_release(struct wl_skim *s);

/* The next piece of a text node at *at (which moves on): characters of its own, or a run that a
 * mark stands for.  false: the end. */
bool wl_skim_piece(const struct wl_skim *s, const char **at, struct wl_span *piece);

#endif
