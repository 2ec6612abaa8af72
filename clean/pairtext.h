/*
 * The texts of a pair: JSON [[kind, text], ...], best kind first.
 */
#ifndef WL_CLEAN_PAIRTEXT_H
#define WL_CLEAN_PAIRTEXT_H

#include "clean/text.h"
#include "ops/err.h"

#include <jansson.h>
#include <stddef.h>

struct wl_caption {
	const char *kind, *text; /* borrowed from the struct's JSON */
	size_t len;
};

struct wl_pairtext {
	json_t *root;
	struct wl_caption *v; /* by rank of the kind, then in the input's order */
	size_t n;
	size_t first_kind; /* v[0 .. first_kind) share the best kind: the pair's captions */
};

/* What: the pair's name, for errors (WL_EDATA when it is not such a list). */
WL_MUST_CHECK int wl_pairtext_parse(
	struct wl_pairtext *p, const char *texts, const char *what, struct wl_err *err);
void wl_pairtext_release(struct wl_pairtext *p);

/* 0 caption (written for the picture), 1 alt_text, 2 sur_text (text around it), 3 any other kind,
 * 4 title (of the page). */
int wl_text_kind_rank(const char *kind);

#endif
