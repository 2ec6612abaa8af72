/*
 * The dictionary: edges in one open-addressed table, so that users' words can be added.  Cutting
 * asks mostly for pairs of characters that no word has, and would wait for memory: a bit filter
 * that fits the cache answers those, and weights are kept once for each frequency.  Nodes are
 * exactly the keys of jieba's FREQ (every word and every prefix of one), because jieba's add_word
 * asks whether a key is there.
 */
#include "clean/segment_priv.h"

#include "clean/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* For Debian's half million edges one bit in nine is set. */
enum { FILTER_LOG2 = 22, SMALL = 1 << 16 };

int dict_init(struct dict *d, struct wl_err *err)
{
	memset(d, 0, sizeof(*d));
	d->slots = 1 << 20;
	d->cap_nodes = 1 << 19;
	d->n_nodes = 1;
	d->root = calloc(DICT_ROOTS, sizeof(*d->root));
	d->edges = calloc(d->slots, sizeof(*d->edges));
	d->freq = calloc(d->cap_nodes, sizeof(*d->freq));
	d->force = calloc(d->cap_nodes, sizeof(*d->force));
	if (d->root && d->edges && d->freq && d->force)
		return 0;
	dict_release(d);
	return wl_err_nomem(err, "the dictionary", d->slots * sizeof(*d->edges));
}

void dict_release(struct dict *d)
{
	free(d->root);
	free(d->edges);
	free(d->filter);
	free(d->weight);
	free(d->freq);
	free(d->force);
	d->root = NULL;
	d->edges = NULL;
	d->filter = NULL;
	d->weight = NULL;
	d->freq = NULL;
	d->force = NULL;
}

/* ---- edges ---- */

static inline uint64_t hash_of(uint64_t key)
{
	return key * 0x9e3779b97f4a7c15u;
}

static inline struct dict_edge *slot_of(struct dict_edge *edges, size_t slots, uint64_t key)
{
	size_t i = (size_t)(hash_of(key) >> 20) & (slots - 1);

	while (edges[i].key && edges[i].key != key)
		i = (i + 1) & (slots - 1);
	return &edges[i];
}

/* Never 0, the free key: the root's characters of the BMP are not kept here. */
static inline uint64_t key_of(uint32_t node, uint32_t c)
{
	return (uint64_t)node << 21 | c;
}

wl_ref dict_find_edge(const struct dict *d, uint32_t node, uint32_t c)
{
	return slot_of(d->edges, d->slots, key_of(node, c))->at.ref;
}

wl_ref dict_find(const struct dict *d, const uint32_t *c, size_t n)
{
	wl_ref ref = n ? dict_first(d, c[0]) : 0;

	for (size_t i = 1; i < n && ref; i++)
		ref = dict_next(d, ref, c[i]);
	return ref;
}

static int grow_edges(struct dict *d, struct wl_err *err)
{
	size_t slots = 2 * d->slots;
	struct dict_edge *bigger = calloc(slots, sizeof(*bigger));

	if (!bigger)
		return wl_err_nomem(err, "the dictionary", slots * sizeof(*bigger));
	for (size_t i = 0; i < d->slots; i++)
		if (d->edges[i].key)
			*slot_of(bigger, slots, d->edges[i].key) = d->edges[i];
	free(d->edges);
	d->edges = bigger;
	d->slots = slots;
	return 0;
}

static int grow_nodes(struct dict *d, struct wl_err *err)
{
	size_t cap = 2 * d->cap_nodes;
	int64_t *freq = realloc(d->freq, cap * sizeof(*freq));
	bool *force;

	if (freq)
		d->freq = freq;
	force = freq ? realloc(d->force, cap * sizeof(*force)) : NULL;
	if (!force || cap > WL_REF_NODE)
		return wl_err_nomem(err, "the dictionary", cap * sizeof(*freq));
	d->force = force;
	memset(freq + d->cap_nodes, 0, d->cap_nodes * sizeof(*freq));
	memset(force + d->cap_nodes, 0, d->cap_nodes * sizeof(*force));
	d->cap_nodes = cap;
	return 0;
}

/* The reference of the first n code points, made with all its prefixes when not there;
 * valid until the next node is made. */
static wl_ref *make_path(struct dict *d, const uint32_t *c, size_t n, struct wl_err *err)
{
	wl_ref *at = NULL;
	uint32_t node = 0;

	/* No growing on the way: `at` would move. */
	while (2 * (d->n_edges + n) > d->slots)
		if (grow_edges(d, err) < 0)
			return NULL;
	while (d->n_nodes + n > d->cap_nodes)
		if (grow_nodes(d, err) < 0)
			return NULL;
	for (size_t i = 0; i < n; i++) {
		wl_ref *child;
		if (i == 0 && c[0] < DICT_ROOTS) {
			child = &d->root[c[0]].ref;
		} else {
			struct dict_edge *e = slot_of(d->edges, d->slots, key_of(node, c[i]));
			d->n_edges += !e->key;
			e->key = key_of(node, c[i]);
			child = &e->at.ref;
		}
		if (!*child)
			*child = (wl_ref)d->n_nodes++;
		if (at)
			*at |= WL_REF_KIDS;
		at = child;
		node = *child & WL_REF_NODE;
	}
	return at;
}

/* FREQ[word] = freq; total += freq. */
static int set_word(struct dict *d, const uint32_t *c, size_t n, int64_t freq, struct wl_err *err)
{
	wl_ref *at = make_path(d, c, n, err);

	if (!at)
		return -1;
	d->freq[*at & WL_REF_NODE] = freq;
	d->total += freq;
	*at = freq ? *at | WL_REF_WORD : *at & ~WL_REF_WORD;
	return 0;
}

/* ---- routes ---- */

/* The edge, NULL: none.  Most that are asked for are not there. */
static inline const struct dict_at *edge_at(
	const struct dict *d, wl_ref ref, uint32_t c, bool frozen)
{
	uint64_t key = key_of(ref & WL_REF_NODE, c), bit = hash_of(key) >> (64 - FILTER_LOG2);
	const struct dict_edge *e;

	if (!(ref & WL_REF_KIDS) || (frozen && !(d->filter[bit / 64] >> bit % 64 & 1)))
		return NULL;
	e = slot_of(d->edges, d->slots, key);
	return e->key ? &e->at : NULL;
}

static inline double weight_of(const struct dict *d, const struct dict_at *at, bool frozen)
{
	return frozen ? d->weight[at->rank]
		      : log((double)d->freq[at->ref & WL_REF_NODE]) - d->log_total;
}

/* Of equal sums the later end wins, as in Python's max over (sum, end). */
static inline void route(const struct dict *d, const uint32_t *c, size_t n, double *score,
	uint32_t *next, bool frozen)
{
	double unknown = 0.0 - d->log_total;

	score[n] = 0;
	for (size_t i = n; i-- > 0;) {
		/* What stands in a block is of the BMP. */
		const struct dict_at *at = &d->root[c[i]];
		double best = unknown + score[i + 1];
		size_t end = i + 1, j = i + 1;
		bool any = false;
		while (at) {
			if (at->ref & WL_REF_WORD) {
				double s = weight_of(d, at, frozen) + score[j];
				if (!any || s >= best) {
					best = s;
					end = j;
				}
				any = true;
			}
			at = j < n ? edge_at(d, at->ref, c[j++], frozen) : NULL;
		}
		score[i] = best;
		next[i] = (uint32_t)end;
	}
}

void dict_route(const struct dict *d, const uint32_t *c, size_t n, double *score, uint32_t *next)
{
	if (d->frozen)
		route(d, c, n, score, next, true);
	else
		route(d, c, n, score, next, false);
}

/* ---- freezing ---- */

static int by_value(const void *p, const void *q)
{
	const int64_t *a = p, *b = q;

	return (*a > *b) - (*a < *b);
}

/* The frequencies that occur, without repeats: the first n_small below SMALL, where nearly all are,
 * and the larger ones sorted. */
struct ranks {
	int64_t *values; /* as long as there are nodes */
	size_t n, n_small;
	uint32_t small[SMALL]; /* the place of a frequency in values */
};

static void rank(const struct dict *d, struct dict_at *at, const struct ranks *r)
{
	const int64_t *freq = &d->freq[at->ref & WL_REF_NODE], *v;

	if (*freq >= 0 && *freq < SMALL) {
		at->rank = r->small[*freq];
		return;
	}
	v = bsearch(freq, r->values + r->n_small, r->n - r->n_small, sizeof(*v), by_value);
	at->rank = v ? (uint32_t)(v - r->values) : 0;
}

static void distinct(const int64_t *freq, size_t n, struct ranks *r)
{
	int64_t *v = r->values;
	size_t large = 0, k = 0;

	for (size_t i = 0; i < n; i++)
		if (freq[i] >= 0 && freq[i] < SMALL)
			r->small[freq[i]] = 1;
		else
			v[large++] = freq[i];
	qsort(v, large, sizeof(*v), by_value);
	for (size_t i = 0; i < large; i++)
		if (i == 0 || v[i] != v[k - 1])
			v[k++] = v[i];
	for (size_t f = 0; f < SMALL; f++)
		r->n_small += r->small[f];
	r->n = r->n_small + k;
	memmove(v + r->n_small, v, k * sizeof(*v));
	k = 0;
	for (size_t f = 0; f < SMALL; f++)
		if (r->small[f]) {
			r->small[f] = (uint32_t)k;
			v[k++] = (int64_t)f;
		}
}

int dict_freeze(struct dict *d, struct wl_err *err)
{
	size_t bytes = d->n_nodes * sizeof(int64_t);
	struct ranks *r = calloc(1, sizeof(*r));

	d->log_total = log((double)d->total);
	d->weight = malloc(d->n_nodes * sizeof(*d->weight));
	d->filter = calloc((size_t)1 << (FILTER_LOG2 - 6), sizeof(*d->filter));
	if (r)
		r->values = malloc(bytes);
	if (!r || !r->values || !d->weight || !d->filter) {
		free(r ? r->values : NULL);
		free(r);
		return wl_err_nomem(err, "the dictionary", 2 * bytes);
	}
	distinct(d->freq, d->n_nodes, r);
	for (size_t i = 0; i < r->n; i++)
		d->weight[i] = log((double)r->values[i]) - d->log_total;
	for (size_t i = 0; i < DICT_ROOTS; i++)
		rank(d, &d->root[i], r);
	for (size_t i = 0; i < d->slots; i++) {
		uint64_t bit = hash_of(d->edges[i].key) >> (64 - FILTER_LOG2);
		if (!d->edges[i].key)
			continue;
		rank(d, &d->edges[i].at, r);
		d->filter[bit / 64] |= (uint64_t)1 << bit % 64;
	}
	free(r->values);
	free(r);
	d->frozen = true;
	return 0;
}

/* ---- files ---- */

struct line {
	const char *s;
	size_t n, number;
	const char *what; /* path */
};

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next line, stripped as Python strips bytes; false at the end. */
static bool next_line(const struct wl_buf *b, size_t *at, struct line *l)
{
	const char *nl;
	size_t start = *at, end;

	if (start >= b->len)
		return false;
	nl = memchr(b->data + start, '\n', b->len - start);
	end = nl ? (size_t)(nl - b->data) : b->len;
	*at = end + 1;
	while (start < end && is_space(b->data[start]))
		start++;
	while (end > start && is_space(b->data[end - 1]))
		end--;
	l->s = b->data + start;
	l->n = end - start;
	l->number++;
	return true;
}

/* Frequencies of at most 15 digits are exact in a double, as their logarithm wants them. */
static int read_freq(
	const struct line *l, const char *s, size_t n, int64_t *out, struct wl_err *err)
{
	*out = 0;
	for (size_t i = 0; i < n; i++) {
		if (i == 15 || !seg_is_digit((unsigned char)s[i]))
			return wl_err_set(err, WL_EDATA,
				"%s, line %zu: the frequency is \"%.*s\", expected up to 15 "
				"digits.",
				l->what, l->number, (int)(n < 40 ? n : 40), s);
		*out = 10 * *out + (s[i] - '0');
	}
	return 0;
}

static int read_word(
	const struct line *l, const char *s, size_t n, uint32_t *c, size_t *len, struct wl_err *err)
{
	bool ok = true;
	size_t i = 0;

	*len = 0;
	while (i < n && *len < DICT_MAX_WORD)
		c[(*len)++] = wl_utf8_next(s, n, &i, &ok);
	if (!ok)
		return wl_err_set(err, WL_EDATA, "%s, line %zu is not UTF-8.", l->what, l->number);
	if (i < n)
		return wl_err_set(err, WL_EDATA,
			"%s, line %zu: a word of more than %d characters; is this a dictionary?",
			l->what, l->number, DICT_MAX_WORD);
	return 0;
}

int dict_read(struct dict *d, const struct wl_buf *b, const char *what, struct wl_err *err)
{
	struct line l = {.what = what};
	uint32_t c[DICT_MAX_WORD];
	size_t at = 0, n;

	while (next_line(b, &at, &l)) {
		const char *sp = memchr(l.s, ' ', l.n), *end;
		int64_t freq;
		if (!sp)
			return wl_err_set(err, WL_EDATA,
				"%s, line %zu: \"%.*s\" is no dictionary entry, expected a word, a "
				"space and its frequency.",
				what, l.number, (int)(l.n < 80 ? l.n : 80), l.s);
		end = memchr(sp + 1, ' ', l.n - (size_t)(sp + 1 - l.s));
		if (!end)
			end = l.s + l.n;
		WL_TRY(read_freq(&l, sp + 1, (size_t)(end - sp - 1), &freq, err));
		WL_TRY(read_word(&l, l.s, (size_t)(sp - l.s), c, &n, err));
		WL_TRY(set_word(d, c, n, freq, err));
	}
	if (!d->total)
		return wl_err_set(err, WL_EDATA, "%s has no words with a frequency.", what);
	return 0;
}

/* ---- users' words ---- */

/* FREQ.get(word, 1) / total */
static double chance(const struct dict *d, const uint32_t *c, size_t n)
{
	wl_ref ref = dict_find(d, c, n);

	return (ref ? (double)d->freq[ref & WL_REF_NODE] : 1.0) / (double)d->total;
}

/* jieba's suggest_freq: as frequent as its parts are together by chance, and one more.  The
 * parts are those of jieba's cut without the model. */
static int64_t suggest(const struct dict *d, const uint32_t *c, size_t n)
{
	double score[DICT_MAX_WORD + 1], p = 1;
	uint32_t next[DICT_MAX_WORD];
	wl_ref whole = dict_find(d, c, n);
	int64_t was = whole ? d->freq[whole & WL_REF_NODE] : 1, freq;
	size_t i = 0;

	while (i < n) {
		size_t start = i;
		while (i < n && seg_in_block(c[i]))
			i++;
		if (i == start) { /* a sign */
			p *= chance(d, c + i++, 1);
			continue;
		}
		dict_route(d, c + start, i - start, score, next);
		for (size_t k = 0, end; k < i - start; k = end) {
			end = dict_plain_end(c + start, i - start, next, k);
			p *= chance(d, c + start + k, end - k);
		}
	}
	freq = (int64_t)(p * (double)d->total) + 1;
	return freq > was ? freq : was;
}

/* Matches ' [0-9]+' (digit) or ' [a-z]+' at s[0 .. n); returns its length or 0. */
static size_t field(const char *s, size_t n, bool digit)
{
	size_t i = 1;

	if (n < 2 || s[0] != ' ')
		return 0;
	while (i < n && (digit ? s[i] >= '0' && s[i] <= '9' : s[i] >= 'a' && s[i] <= 'z'))
		i++;
	return i > 1 ? i : 0;
}

/* jieba's '^(.+?)( [0-9]+)?( [a-z]+)?$': the shortest word that leaves a frequency, a tag, both
 * or nothing. */
static void split_entry(const char *s, size_t n, size_t *word, size_t *digits)
{
	for (*word = 1; *word < n; ++*word) {
		size_t a = field(s + *word, n - *word, true), b;
		*digits = a;
		b = field(s + *word + a, n - *word - a, false);
		if (*word + a + b == n)
			return;
	}
	*digits = 0;
}

int dict_read_user(struct dict *d, const struct wl_buf *b, const char *what, struct wl_err *err)
{
	struct line l = {.what = what};
	uint32_t c[DICT_MAX_WORD];
	size_t at = 0, n, word, digits;
	int64_t freq;

	while (next_line(b, &at, &l)) {
		while (l.n >= 3 && memcmp(l.s, "\xef\xbb\xbf", 3) == 0) { /* byte order mark */
			l.s += 3;
			l.n -= 3;
		}
		if (!l.n)
			continue;
		split_entry(l.s, l.n, &word, &digits);
		WL_TRY(read_word(&l, l.s, word, c, &n, err));
		d->log_total = log((double)d->total);
		freq = suggest(d, c, n);
		if (digits)
			WL_TRY(read_freq(&l, l.s + word + 1, digits - 1, &freq, err));
		WL_TRY(set_word(d, c, n, freq, err));
		if (!freq) {
			bool *f = &d->force[dict_find(d, c, n) & WL_REF_NODE];
			d->n_force += !*f;
			*f = true;
		}
	}
	return 0;
}
