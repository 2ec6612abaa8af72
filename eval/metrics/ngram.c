/*
 * An n-gram is the pair (number of its first n-1 tokens, last token); a table gives every pair a
 * number, exactly.  The table is larger than the caches, so the pairs of a caption's order
 * are all prefetched before the first is looked up.
 */
#include "eval/metrics/ngram.h"
#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

/* key 0 is an empty slot: the stored key is the pair + 1. */
struct slot {
	uint64_t key;
	uint32_t id;
};

struct table {
	struct slot *slot;
	size_t slots, used; /* a power of two; at most half are used */
	uint32_t next;      /* the number of the next new pair */
	/* of the caption at hand */
	uint32_t *at;       /* [cap] the n-gram that ends at each place */
	uint64_t *key;      /* [cap] */
	size_t cap;
};

static size_t place(const struct table *t, uint64_t key)
{
	return (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & (t->slots - 1);
}

static int rehash(struct table *t, size_t slots, struct wl_err *err)
{
	struct table old = *t;

	t->slot = calloc(slots, sizeof *t->slot);
	if (!t->slot) {
		t->slot = old.slot;
		return wl_err_nomem(err, "a table of n-grams", slots * sizeof *t->slot);
	}
	t->slots = slots;
	for (size_t i = 0; i < old.slots; i++) {
		size_t k;

		if (!old.slot[i].key)
			continue;
		for (k = place(t, old.slot[i].key); t->slot[k].key; k = (k + 1) & (slots - 1))
			;
		t->slot[k] = old.slot[i];
	}
	free(old.slot);
	return 0;
}

/* Room for `more` new pairs, and for a caption of `tokens` tokens. */
static int reserve(struct table *t, size_t more, struct wl_err *err)
{
	if (t->next > INT32_MAX - more)
		return wl_err_set(err, WL_EDATA, "the captions have more than 2^31 different n-grams");
	if (2 * (t->used + more) > t->slots) {
		size_t slots = t->slots ? t->slots : 4096;

		while (2 * (t->used + more) > slots)
			slots *= 2;
		WL_TRY(rehash(t, slots, err));
	}
	if (more > t->cap) {
		uint32_t *at = realloc(t->at, 2 * more * sizeof *at);
		uint64_t *key;

		if (at)
			t->at = at;
		key = at ? realloc(t->key, 2 * more * sizeof *key) : NULL;
		if (!key)
			return wl_err_nomem(err, "a caption's n-grams", more * 24);
		t->key = key;
		t->cap = 2 * more;
	}
	return 0;
}

static uint32_t number(struct table *t, uint64_t key)
{
	size_t k = place(t, key);

	while (t->slot[k].key && t->slot[k].key != key)
		k = (k + 1) & (t->slots - 1);
	if (!t->slot[k].key) {
		t->slot[k] = (struct slot){key, t->next++};
		t->used++;
	}
	return t->slot[k].id;
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = ((const struct wl_ngram_count *)a)->id;
	uint32_t y = ((const struct wl_ngram_count *)b)->id;

	return (x > y) - (x < y);
}

/* Sorts and folds equal neighbours into counts; captions are short. */
static void fold(struct wl_ngram_list *l)
{
	size_t kept = 0;

	if (l->n > 64)
		qsort(l->v, l->n, sizeof *l->v, by_id);
	for (size_t i = 1; l->n <= 64 && i < l->n; i++) {
		struct wl_ngram_count x = l->v[i];
		size_t k = i;

		for (; k > 0 && l->v[k - 1].id > x.id; k--)
			l->v[k] = l->v[k - 1];
		l->v[k] = x;
	}
	for (size_t i = 0; i < l->n; i++) {
		if (kept && l->v[kept - 1].id == l->v[i].id)
			l->v[kept - 1].count++;
		else
			l->v[kept++] = l->v[i];
	}
	l->n = kept;
}

static int lists_of(struct table *t, struct wl_arena *a, const struct wl_caption *c,
	struct wl_ngram_list out[WL_NGRAM_MAX], struct wl_err *err)
{
	struct wl_ngram_count *v;

	WL_TRY(reserve(t, WL_NGRAM_MAX * c->n + 1, err));
	v = wl_arena_calloc(a, WL_NGRAM_MAX * c->n + 1, sizeof *v, err);
	if (!v)
		return -1;
	for (size_t i = 0; i < c->n; i++)
		t->at[i] = c->token[i];
	for (size_t k = 0; k < WL_NGRAM_MAX; k++) {
		size_t n = c->n > k ? c->n - k : 0;

		for (size_t i = 0; k && i < n; i++) {
			t->key[i] = ((uint64_t)t->at[i] << 32 | c->token[i + k]) + 1;
			__builtin_prefetch(&t->slot[place(t, t->key[i])]);
		}
		for (size_t i = 0; k && i < n; i++)
			t->at[i] = number(t, t->key[i]);
		for (size_t i = 0; i < n; i++)
			v[i] = (struct wl_ngram_count){t->at[i], 1};
		out[k] = (struct wl_ngram_list){v, n};
		fold(&out[k]);
		v += n;
	}
	return 0;
}

static uint32_t largest_token(const struct wl_captioned *im, size_t n)
{
	uint32_t max = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t r = 0; r <= im[i].n_refs; r++) {
			const struct wl_caption *c = r ? &im[i].refs[r - 1] : &im[i].hyp;

			for (size_t k = 0; k < c->n; k++)
				max = c->token[k] > max ? c->token[k] : max;
		}
	return max;
}

int wl_ngram_set_make(struct wl_ngram_set *s, const struct wl_captioned *im, size_t n,
	struct wl_err *err)
{
	struct table t = {.next = largest_token(im, n) + 1};
	size_t refs = 0;
	int ret = -1;

	*s = (struct wl_ngram_set){.arena = {.block_bytes = (size_t)1 << 20}};
	for (size_t i = 0; i < n; i++)
		refs += im[i].n_refs;
	s->first_ref = calloc(n + 1, sizeof *s->first_ref);
	s->hyp = calloc(n + 1, sizeof *s->hyp);
	s->ref = calloc(refs + 1, sizeof *s->ref);
	if (!s->first_ref || !s->hyp || !s->ref) {
		wl_err_nomem(err, "n-grams", (n + refs) * sizeof *s->hyp);
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		size_t first = s->first_ref[i];

		WL_TRY_OUT(lists_of(&t, &s->arena, &im[i].hyp, s->hyp[i], err));
		for (size_t r = 0; r < im[i].n_refs; r++)
			WL_TRY_OUT(lists_of(&t, &s->arena, &im[i].refs[r], s->ref[first + r], err));
		s->first_ref[i + 1] = first + im[i].n_refs;
	}
	s->ids = t.next;
	ret = 0;
out:
	free(t.slot);
	free(t.at);
	free(t.key);
	if (ret)
		wl_ngram_set_release(s);
	return ret;
}

void wl_ngram_set_release(struct wl_ngram_set *s)
{
	if (!s)
		return;
	wl_arena_release(&s->arena);
	free(s->hyp);
	free(s->ref);
	free(s->first_ref);
	*s = (struct wl_ngram_set){0};
}
