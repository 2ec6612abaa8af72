/*
 * The n-grams of captions as sorted lists of (number, count): what BLEU and CIDEr compare.
 */
#ifndef WL_EVAL_METRICS_NGRAM_H
#define WL_EVAL_METRICS_NGRAM_H

#include "eval/metrics/caption.h"

enum { WL_NGRAM_MAX = 4 };

/* One interner an order, so that an n-gram is the pair (n-1-gram, token). */
struct wl_ngrams {
	struct wl_intern order[WL_NGRAM_MAX - 1]; /* 2-, 3- and 4-grams; a 1-gram is its token */
};
void wl_ngrams_release(struct wl_ngrams *g);

struct wl_ngram_count {
	uint32_t id, count;
};
struct wl_ngram_list {
	struct wl_ngram_count *v; /* sorted by id; in the arena given */
	size_t n;
};

/* The lists of orders 1..4 of a caption. */
WL_MUST_CHECK int wl_ngrams_of(struct wl_ngrams *g, const struct wl_caption *c,
	struct wl_arena *a, struct wl_ngram_list out[WL_NGRAM_MAX], struct wl_err *err);

/* The count of id in a list, 0 when it is not there. */
uint32_t wl_ngram_find(const struct wl_ngram_list *l, uint32_t id);

#endif
