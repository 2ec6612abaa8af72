/*
 * Byte-pair merging.  Every word is a list of symbols, at first its characters; the most
 * frequent pair of neighbours becomes a symbol of its own, everywhere, again and again.
 *
 * A heap holds (count, pair) entries that may be out of date: a count that has fallen since is
 * put back with its present value when it comes up.  Ties go to the smaller symbol numbers;
 * first symbols are numbered by their text, later ones as they are made, so that the result does
 * not depend on the order in which words were counted.
 */
#include "loader/vocab_priv.h"

#include "clean/utf8.h"
#include "ops/grow.h"
#include "ops/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_MAX_BYTES = 64 };

struct word {
	uint32_t *sym; /* n symbols */
	uint32_t n;
	int64_t count;
};

struct pair {
	uint32_t a, b;
	int64_t count;	 /* 0 and no words: a free slot */
	uint32_t *words; /* where it stood when it was counted; may name a word twice */
	uint32_t n_words, cap_words;
};

struct entry {
	int64_t count;
	uint32_t a, b;
};

struct merger {
	struct word *words;
	size_t n_words;
	char **text; /* of each symbol, "##" included; in the arena */
	size_t n_syms, cap_syms;
	struct counts first; /* symbol numbers of characters, as counts */
	struct pair *pairs;  /* open addressing */
	size_t slots, n_pairs;
	struct entry *heap;
	size_t n_heap, cap_heap;
	uint32_t *fresh; /* pairs that the current merge made: a, b, a, b, ... */
	size_t n_fresh, cap_fresh;
	struct wl_arena arena;
};

/* ---- the heap ---- */

static bool above(const struct entry *x, const struct entry *y)
{
	if (x->count != y->count)
		return x->count > y->count;
	return x->a != y->a ? x->a < y->a : x->b < y->b;
}

static int heap_push(struct merger *m, struct entry e, struct wl_err *err)
{
	size_t i = m->n_heap;

	WL_TRY(WL_GROW(m->heap, m->n_heap, m->cap_heap, "pairs of word pieces", err));
	m->n_heap++;
	for (; i > 0 && above(&e, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
		m->heap[i] = m->heap[(i - 1) / 2];
	m->heap[i] = e;
	return 0;
}

static struct entry heap_pop(struct merger *m)
{
	struct entry top = m->heap[0], last = m->heap[--m->n_heap];
	size_t i = 0;

	for (;;) {
		size_t k = 2 * i + 1;
		if (k >= m->n_heap)
			break;
		if (k + 1 < m->n_heap && above(&m->heap[k + 1], &m->heap[k]))
			k++;
		if (!above(&m->heap[k], &last))
			break;
		m->heap[i] = m->heap[k];
		i = k;
	}
	m->heap[i] = last;
	return top;
}

/* ---- pairs ---- */

static struct pair *pair_slot(struct pair *v, size_t slots, uint32_t a, uint32_t b)
{
	size_t i = (size_t)wl_mix64((uint64_t)a << 32 | b) & (slots - 1);

	while (v[i].cap_words && (v[i].a != a || v[i].b != b))
		i = (i + 1) & (slots - 1);
	return &v[i];
}

static int grow_pairs(struct merger *m, struct wl_err *err)
{
	size_t slots = m->slots ? 2 * m->slots : 4096;
	struct pair *v = calloc(slots, sizeof(*v));

	if (!v)
		return wl_err_nomem(err, "pairs of word pieces", slots * sizeof(*v));
	for (size_t i = 0; i < m->slots; i++)
		if (m->pairs[i].cap_words)
			*pair_slot(v, slots, m->pairs[i].a, m->pairs[i].b) = m->pairs[i];
	free(m->pairs);
	m->pairs = v;
	m->slots = slots;
	return 0;
}

/* Grows an array of uint32_t by one. */
static int append(uint32_t **v, size_t n, size_t *cap, uint32_t x, struct wl_err *err)
{
	if (n == *cap) {
		size_t more = *cap ? 2 * *cap : 4;
		uint32_t *p = realloc(*v, more * sizeof(*p));
		if (!p)
			return wl_err_nomem(err, "pairs of word pieces", more * sizeof(*p));
		*v = p;
		*cap = more;
	}
	(*v)[n] = x;
	return 0;
}

/* The pair (a, b) stands `count` times more in word w. */
static int pair_add(
	struct merger *m, uint32_t a, uint32_t b, uint32_t w, int64_t count, struct wl_err *err)
{
	struct pair *p;
	size_t cap;

	if (2 * (m->n_pairs + 1) > m->slots)
		WL_TRY(grow_pairs(m, err));
	p = pair_slot(m->pairs, m->slots, a, b);
	if (!p->cap_words) {
		m->n_pairs++;
		p->a = a;
		p->b = b;
	}
	cap = p->cap_words;
	WL_TRY(append(&p->words, p->n_words, &cap, w, err));
	p->cap_words = (uint32_t)cap;
	p->n_words++;
	p->count += count;
	WL_TRY(append(&m->fresh, m->n_fresh, &m->cap_fresh, a, err));
	m->n_fresh++;
	WL_TRY(append(&m->fresh, m->n_fresh, &m->cap_fresh, b, err));
	m->n_fresh++;
	return 0;
}

static void pair_drop(struct merger *m, uint32_t a, uint32_t b, int64_t count)
{
	struct pair *p = pair_slot(m->pairs, m->slots, a, b);

	if (p->cap_words)
		p->count -= count;
}

/* Pairs whose counts have grown since the last call go into the heap with what they have now; a
 * second entry of the same pair comes up out of date and is dropped. */
static int push_fresh(struct merger *m, struct wl_err *err)
{
	for (size_t i = 0; i < m->n_fresh; i += 2) {
		uint32_t a = m->fresh[i], b = m->fresh[i + 1];
		struct pair *p = pair_slot(m->pairs, m->slots, a, b);
		if (i >= 2 && m->fresh[i - 2] == a && m->fresh[i - 1] == b)
			continue;
		WL_TRY(heap_push(m, (struct entry){p->count, a, b}, err));
	}
	m->n_fresh = 0;
	return 0;
}

/* ---- symbols and words ---- */

static int new_symbol(struct merger *m, const char *text, uint32_t *sym, struct wl_err *err)
{
	WL_TRY(WL_GROW(m->text, m->n_syms, m->cap_syms, "word pieces", err));
	m->text[m->n_syms] = wl_arena_strdup(&m->arena, text, err);
	if (!m->text[m->n_syms])
		return -1;
	*sym = (uint32_t)m->n_syms++;
	return 0;
}

/* The i-th character of s as a token; moves *i. */
static void char_token(const char *s, size_t *i, char token[8])
{
	size_t from = *i;

	wl_utf8_next(s, strlen(s), i, NULL);
	snprintf(token, 8, "%s%.*s", from ? "##" : "", (int)(*i - from), s + from);
}

static int by_text(const void *key, const void *symbol)
{
	return strcmp(key, *(char *const *)symbol);
}

/* Numbers all characters by their text. */
static int number_chars(struct merger *m, const struct counted *words, size_t n, struct wl_err *err)
{
	struct counted *v;
	int ret = 0;

	for (size_t w = 0; w < n; w++)
		for (size_t i = 0; words[w].s[i];) {
			char token[8];
			char_token(words[w].s, &i, token);
			WL_TRY(counts_add(&m->first, token, strlen(token), 1, err));
		}
	WL_TRY(counts_sorted(&m->first, &v, err));
	for (size_t i = 0; i < m->first.n && ret == 0; i++) {
		uint32_t sym;
		ret = new_symbol(m, v[i].s, &sym, err);
	}
	free(v);
	return ret;
}

static int spell_word(struct merger *m, struct word *w, const char *s, struct wl_err *err)
{
	w->sym = wl_arena_calloc(&m->arena, strlen(s), sizeof(*w->sym), err);
	if (!w->sym)
		return -1;
	for (size_t i = 0; s[i];) {
		char token[8];
		char **at;
		char_token(s, &i, token);
		at = bsearch(token, m->text, m->first.n, sizeof(*m->text), by_text);
		w->sym[w->n++] = (uint32_t)(at - m->text);
	}
	return 0;
}

static int load_words(struct merger *m, const struct counts *words, bool (*skip)(const char *),
	struct wl_err *err)
{
	struct counted *v;
	size_t n = 0;
	int ret = -1;

	WL_TRY(counts_sorted(words, &v, err));
	for (size_t i = 0; i < words->n; i++)
		if (!skip(v[i].s))
			v[n++] = v[i];
	m->words = calloc(n + 1, sizeof(*m->words));
	if (!m->words) {
		wl_err_nomem(err, "words", n * sizeof(*m->words));
		goto out;
	}
	WL_TRY_OUT(number_chars(m, v, n, err));
	for (size_t w = 0; w < n; w++) {
		struct word *x = &m->words[w];
		x->count = v[w].count;
		WL_TRY_OUT(spell_word(m, x, v[w].s, err));
		for (uint32_t i = 0; i + 1 < x->n; i++)
			WL_TRY_OUT(
				pair_add(m, x->sym[i], x->sym[i + 1], (uint32_t)w, x->count, err));
		m->n_words++;
	}
	ret = push_fresh(m, err);
out:
	free(v);
	return ret;
}

/* ---- merging ---- */

/* Replaces (a, b) by c in one word and counts its neighbours anew. */
static int merge_in_word(
	struct merger *m, uint32_t w, uint32_t a, uint32_t b, uint32_t c, struct wl_err *err)
{
	struct word *x = &m->words[w];
	uint32_t to = 0;
	bool here = false;

	for (uint32_t i = 0; i + 1 < x->n && !here; i++)
		here = x->sym[i] == a && x->sym[i + 1] == b;
	if (!here) /* listed twice, or gone with an earlier merge */
		return 0;
	for (uint32_t i = 0; i + 1 < x->n; i++)
		pair_drop(m, x->sym[i], x->sym[i + 1], x->count);
	for (uint32_t i = 0; i < x->n; i++) {
		if (i + 1 < x->n && x->sym[i] == a && x->sym[i + 1] == b) {
			x->sym[to++] = c;
			i++;
		} else {
			x->sym[to++] = x->sym[i];
		}
	}
	x->n = to;
	for (uint32_t i = 0; i + 1 < x->n; i++) {
		bool changed = x->sym[i] == c || x->sym[i + 1] == c;
		struct pair *p = pair_slot(m->pairs, m->slots, x->sym[i], x->sym[i + 1]);
		if (changed || !p->cap_words)
			WL_TRY(pair_add(m, x->sym[i], x->sym[i + 1], w, x->count, err));
		else
			p->count += x->count;
	}
	return 0;
}

/* Takes the best pair that is up to date; false: none is left. */
static bool best_pair(
	struct merger *m, int64_t min_count, struct entry *best, int *ret, struct wl_err *err)
{
	while (m->n_heap) {
		struct pair *p;
		*best = heap_pop(m);
		p = pair_slot(m->pairs, m->slots, best->a, best->b);
		if (best->count < min_count)
			return false;
		if (p->count == best->count)
			return true;
		/* It has fallen; what has grown was pushed with its new count. */
		if (p->count < best->count && p->count >= min_count) {
			best->count = p->count;
			*ret = heap_push(m, *best, err);
			if (*ret < 0)
				return false;
		}
	}
	return false;
}

static int merge(struct merger *m, const struct entry *e, const char *text, struct wl_err *err)
{
	struct pair p = *pair_slot(m->pairs, m->slots, e->a, e->b);
	uint32_t c, *words;
	int ret = 0;

	WL_TRY(new_symbol(m, text, &c, err));
	/* The pair's own list may move while pairs are added. */
	words = malloc((p.n_words + 1) * sizeof(*words));
	if (!words)
		return wl_err_nomem(err, "words", p.n_words * sizeof(*words));
	memcpy(words, p.words, p.n_words * sizeof(*words));
	for (uint32_t i = 0; i < p.n_words && ret == 0; i++)
		ret = merge_in_word(m, words[i], e->a, e->b, c, err);
	free(words);
	return ret < 0 ? -1 : push_fresh(m, err);
}

static void merger_release(struct merger *m)
{
	for (size_t i = 0; i < m->slots; i++)
		free(m->pairs[i].words);
	free(m->pairs);
	free(m->words);
	free(m->text);
	free(m->heap);
	free(m->fresh);
	counts_release(&m->first);
	wl_arena_release(&m->arena);
}

int vocab_merge(const struct counts *words, bool (*skip)(const char *word), int64_t min_count,
	int (*put)(void *ctx, const char *piece, struct wl_err *err), void *ctx, struct wl_err *err)
{
	struct merger m = {0};
	struct entry e;
	int ret = -1;

	if (min_count < 1)
		min_count = 1;
	if (!words->n)
		return 0;
	WL_TRY_OUT(load_words(&m, words, skip, err));
	ret = 0;
	while (ret == 0 && m.slots && best_pair(&m, min_count, &e, &ret, err)) {
		char text[2 * PIECE_MAX_BYTES];
		const char *b = m.text[e.b];
		snprintf(text, sizeof(text), "%s%s", m.text[e.a],
			strncmp(b, "##", 2) == 0 ? b + 2 : b);
		if (strlen(text) >= PIECE_MAX_BYTES) {
			pair_drop(&m, e.a, e.b, e.count);
			continue;
		}
		ret = put(ctx, text, err);
		if (ret == 0)
			ret = merge(&m, &e, text, err);
	}
out:
	merger_release(&m);
	return ret < 0 ? -1 : 0;
}
