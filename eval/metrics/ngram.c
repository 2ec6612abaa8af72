/* Gather, sort, count: captions are short, so a sort of some ten numbers is all it takes. */
#include "eval/metrics/ngram.h"

#include <stdlib.h>

void wl_ngrams_release(struct wl_ngrams *g)
{
	for (int k = 0; g && k < WL_NGRAM_MAX - 1; k++)
		wl_intern_release(&g->order[k]);
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = ((const struct wl_ngram_count *)a)->id;
	uint32_t y = ((const struct wl_ngram_count *)b)->id;

	return (x > y) - (x < y);
}

/* Sorts and folds equal neighbours into counts. */
static void fold(struct wl_ngram_list *l)
{
	size_t kept = 0;

	qsort(l->v, l->n, sizeof *l->v, by_id);
	for (size_t i = 0; i < l->n; i++) {
		if (kept && l->v[kept - 1].id == l->v[i].id)
			l->v[kept - 1].count++;
		else
			l->v[kept++] = l->v[i];
	}
	l->n = kept;
}

int wl_ngrams_of(struct wl_ngrams *g, const struct wl_caption *c, struct wl_arena *a,
	struct wl_ngram_list out[WL_NGRAM_MAX], struct wl_err *err)
{
	uint32_t *id = wl_arena_calloc(a, c->n, sizeof *id, err); /* the n-gram at each place */

	if (!id)
		return -1;
	for (size_t k = 0; k < WL_NGRAM_MAX; k++) {
		struct wl_ngram_list *l = &out[k];
		l->n = c->n > k ? c->n - k : 0;
		l->v = wl_arena_calloc(a, l->n, sizeof *l->v, err);
		if (!l->v)
			return -1;
		for (size_t i = 0; i < l->n; i++) {
			int64_t x = k ? wl_intern_pair(&g->order[k - 1], id[i], c->token[i + k], err)
				      : c->token[i];
			if (x < 0)
				return -1;
			id[i] = (uint32_t)x;
			l->v[i] = (struct wl_ngram_count){(uint32_t)x, 1};
		}
		fold(l);
	}
	return 0;
}

uint32_t wl_ngram_find(const struct wl_ngram_list *l, uint32_t id)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (l->v[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < l->n && l->v[lo].id == id ? l->v[lo].count : 0;
}
