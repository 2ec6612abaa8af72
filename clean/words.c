/*
 * Letters are numbered (16 bits), those that people swap (o and 0, i, l and 1) share a number:
 * so the table, the bitmap and the trie see all disguises at once, and what the trie finds is
 * compared with the word itself at the end (words_scan.c).
 */
#include "clean/words_priv.h"

#include <stdlib.h>
#include <string.h>

struct wl_words *wl_words_new(const struct wl_fold *fold, struct wl_err *err)
{
	struct wl_words *w = calloc(1, sizeof(*w));

	if (w) {
		w->fold = fold;
		w->number = calloc(TABLE_END, sizeof(*w->number));
		w->slots = 1024;
		w->edges = calloc(w->slots, sizeof(*w->edges));
		w->cap_nodes = w->cap_words = 256;
		w->cap_letters = 1024;
		w->ends = calloc(w->cap_nodes, sizeof(*w->ends));
		w->words = calloc(w->cap_words, sizeof(*w->words));
		w->letters = calloc(w->cap_letters, sizeof(*w->letters));
	}
	if (!w || !w->number || !w->edges || !w->ends || !w->words || !w->letters) {
		wl_words_free(w);
		wl_err_nomem(err, "a word list", sizeof(*w));
		return NULL;
	}
	w->n_nodes = 1;
	return w;
}

void wl_words_free(struct wl_words *w)
{
	if (!w)
		return;
	free(w->number);
	free(w->table);
	free(w->words);
	free(w->letters);
	free(w->ends);
	free(w->edges);
	free(w->begins);
	free(w->again);
	free(w->first_child);
	free(w);
}

/* Makes room for `want` more elements behind `n`. */
static int grow(void *array, size_t size, size_t n, size_t want, size_t *cap, struct wl_err *err)
{
	void **p = array, *q;
	size_t to = *cap;

	if (n + want <= *cap)
		return 0;
	while (to < n + want)
		to *= 2;
	q = realloc(*p, to * size);
	if (!q)
		return wl_err_nomem(err, "a word list", to * size);
	memset((char *)q + *cap * size, 0, (to - *cap) * size);
	*p = q;
	*cap = to;
	return 0;
}

static int grow_edges(struct wl_words *w, struct wl_err *err)
{
	struct edge *p;

	if (2 * (w->n_edges + 1) <= w->slots)
		return 0;
	p = calloc(2 * w->slots, sizeof(*p));
	if (!p)
		return wl_err_nomem(err, "a word list", 2 * w->slots * sizeof(*p));
	for (size_t i = 0; i < w->slots; i++)
		if (w->edges[i].child)
			*edge_of(p, 2 * w->slots, w->edges[i].node, w->edges[i].sym) = w->edges[i];
	free(w->edges);
	w->edges = p;
	w->slots *= 2;
	return 0;
}

/* The node behind `node` by the letter, made when it is not there. */
static int step_into(struct wl_words *w, uint32_t *node, uint32_t c, struct wl_err *err)
{
	uint32_t k = class_of(c);
	struct edge *e;

	if (k >= TABLE_END)
		WL_BUG("the folded letter U+%04X is past the table", (unsigned)k);
	if (!w->number[k] && w->symbols + 1 >= SYM_MAX)
		return wl_err_set(err, WL_EUSAGE,
			"The word lists have more than %d different characters; split them into "
			"several runs.",
			SYM_MAX);
	if (!w->number[k])
		w->number[k] = (uint16_t)++w->symbols;
	WL_TRY(grow_edges(w, err));
	e = edge_of(w->edges, w->slots, *node, w->number[k]);
	if (!e->child) {
		WL_TRY(grow(&w->ends, sizeof(*w->ends), w->n_nodes, 1, &w->cap_nodes, err));
		*e = (struct edge){*node, (uint32_t)w->n_nodes++, 0, w->number[k]};
		w->n_edges++;
	}
	*node = e->child;
	return 0;
}

int wl_words_add(struct wl_words *w, const char *word, size_t n, int32_t tag, struct wl_err *err)
{
	struct reader r = {.fold = w->fold, .text = word, .n = n};
	struct word x = {.at = (uint32_t)w->n_letters, .tag = tag, .spaced = true};
	struct letter l;
	uint32_t node = 0;

	WL_ASSERT(tag >= 0 && !w->table);
	for (; read_letter(&r, &l); x.n++) {
		if (x.n == WL_WORDS_LETTERS_MAX || (x.n && l.soft + l.hard > WL_WORDS_GAP_MAX))
			return 0;
		WL_TRY(grow(&w->letters, sizeof(*w->letters), w->n_letters + x.n, 1,
			&w->cap_letters, err));
		w->letters[w->n_letters + x.n] = l.c | (x.n && (l.soft || l.hard) ? GAP : 0);
		x.spaced = x.spaced && !wl_fold_unspaced(l.c);
		x.latin = (uint16_t)(x.latin + latin(l.c));
	}
	if (x.n < 2)
		return 0;
	for (uint32_t i = 0; i < x.n; i++)
		WL_TRY(step_into(w, &node, w->letters[x.at + i] & ~GAP, err));
	for (uint32_t k = w->ends[node]; k; k = w->words[k].next)
		if (memcmp(w->letters + w->words[k].at, w->letters + x.at,
			    x.n * sizeof(*w->letters)) == 0)
			return 1;
	WL_TRY(grow(&w->words, sizeof(*w->words), w->n_words + 1, 1, &w->cap_words, err));
	x.next = w->ends[node];
	w->words[++w->n_words] = x;
	w->ends[node] = (uint32_t)w->n_words;
	w->n_letters += x.n;
	return 1;
}

size_t wl_words_count(const struct wl_words *w)
{
	return w->n_words;
}

/* Four cells or more for each word, so that four in five are empty, and 4 KB at least; eight times
 * as many bits of the other hash. */
static int build_begins(struct wl_words *w, struct wl_err *err)
{
	size_t cells = 1 << 10;

	w->shift = 32 - 10;
	for (; cells < 4 * w->n_words && w->shift > 8; cells *= 2)
		w->shift--;
	w->begins = calloc(cells, sizeof(*w->begins));
	w->again_shift = w->shift - 3;
	w->again = calloc(cells / 4, sizeof(*w->again));
	w->first_child = calloc(1 << 16, sizeof(*w->first_child));
	if (!w->begins || !w->again || !w->first_child)
		return wl_err_nomem(err, "a word list", cells * sizeof(*w->begins));
	for (size_t i = 0; i < w->slots; i++) {
		struct edge *e = &w->edges[i];
		e->end = w->ends[e->child]; /* of free ones the root's, where no word ends */
		if (e->child && e->node == 0)
			w->first_child[e->sym] = e->child;
	}
	for (size_t i = 1; i <= w->n_words; i++) {
		const uint32_t *l = w->letters + w->words[i].at;
		uint32_t n[3] = {0}, hash, bit;
		for (uint32_t k = 0; k < 3 && k < w->words[i].n; k++)
			n[k] = w->number[class_of(l[k] & ~GAP)];
		hash = begin_hash(n[0], n[1]);
		w->begins[hash >> w->shift] |=
			1u << (w->words[i].n == 2 ? two_bit(hash) : three_bit(hash, n[2]));
		bit = again_bit(n[0], n[1], n[2], w->again_shift);
		w->again[bit / 32] |= 1u << bit % 32;
	}
	return 0;
}

int wl_words_build(struct wl_words *w, struct wl_err *err)
{
	WL_ASSERT(!w->table);
	w->table = calloc(TABLE_END + 1, sizeof(*w->table));
	if (!w->table)
		return wl_err_nomem(err, "a word list", TABLE_END * sizeof(*w->table));
	for (uint32_t c = 0; c < TABLE_END; c++) {
		uint32_t f = wl_fold_at(w->fold, c);
		if (sign(c))
			w->table[c] = SYM_SIGN;
		else if (f == WL_FOLD_SOFT || f == WL_FOLD_HARD)
			w->table[c] = SYM_SKIP;
		else
			w->table[c] = f ? w->number[class_of(f)] : SYM_SEVERAL;
	}
	return build_begins(w, err);
}
