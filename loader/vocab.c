/* Counting words and laying out the vocabulary; merging is in vocab_merge.c. */
#include "loader/vocab.h"

#include "clean/utf8.h"
#include "clean/wordpiece.h"
#include "loader/vocab_priv.h"
#include "ops/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>

/* ---- counts of strings ---- */

static struct counted *slot_of(struct counted *v, size_t slots, const char *s, size_t n)
{
	size_t i = (size_t)wl_hash64(s, n, 0) & (slots - 1);

	while (v[i].s && (strlen(v[i].s) != n || memcmp(v[i].s, s, n) != 0))
		i = (i + 1) & (slots - 1);
	return &v[i];
}

static int grow(struct counts *c, struct wl_err *err)
{
	size_t slots = c->slots ? 2 * c->slots : 1024;
	struct counted *v = calloc(slots, sizeof(*v));

	if (!v)
		return wl_err_nomem(err, "word counts", slots * sizeof(*v));
	for (size_t i = 0; i < c->slots; i++)
		if (c->v[i].s)
			*slot_of(v, slots, c->v[i].s, strlen(c->v[i].s)) = c->v[i];
	free(c->v);
	c->v = v;
	c->slots = slots;
	return 0;
}

int counts_add(struct counts *c, const char *s, size_t n, int64_t times, struct wl_err *err)
{
	struct counted *e;

	if (2 * (c->n + 1) > c->slots)
		WL_TRY(grow(c, err));
	e = slot_of(c->v, c->slots, s, n);
	if (!e->s) {
		e->s = wl_arena_strndup(&c->strings, s, n, err);
		if (!e->s)
			return -1;
		c->n++;
	}
	e->count += times;
	return 0;
}

static int by_string(const void *p, const void *q)
{
	return strcmp(((const struct counted *)p)->s, ((const struct counted *)q)->s);
}

static int by_count(const void *p, const void *q)
{
	const struct counted *a = p, *b = q;

	if (a->count != b->count)
		return a->count > b->count ? -1 : 1;
	return strcmp(a->s, b->s);
}

int counts_sorted(const struct counts *c, struct counted **out, struct wl_err *err)
{
	size_t n = 0;

	*out = malloc((c->n + 1) * sizeof(**out));
	if (!*out)
		return wl_err_nomem(err, "word counts", c->n * sizeof(**out));
	for (size_t i = 0; i < c->slots; i++)
		if (c->v[i].s)
			(*out)[n++] = c->v[i];
	qsort(*out, n, sizeof(**out), by_string);
	return 0;
}

void counts_release(struct counts *c)
{
	free(c->v);
	wl_arena_release(&c->strings);
	memset(c, 0, sizeof(*c));
}

/* ---- texts in ---- */

struct wl_vocab_builder {
	struct wl_vocab *rules; /* a vocabulary of specials: for its character tables */
	struct counts words;
};

struct wl_vocab_builder *wl_vocab_builder_new(struct wl_err *err)
{
	static const char specials[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n";
	struct wl_vocab_builder *b = calloc(1, sizeof(*b));

	if (!b) {
		wl_err_nomem(err, "a vocabulary", sizeof(*b));
		return NULL;
	}
	b->rules = wl_vocab_parse(specials, sizeof(specials) - 1, "the special tokens", err);
	if (b->rules)
		return b;
	wl_vocab_builder_free(b);
	return NULL;
}

void wl_vocab_builder_free(struct wl_vocab_builder *b)
{
	if (!b)
		return;
	wl_vocab_free(b->rules);
	counts_release(&b->words);
	free(b);
}

static int count_word(void *ctx, const char *word, size_t n, struct wl_err *err)
{
	struct wl_vocab_builder *b = ctx;

	return counts_add(&b->words, word, n, 1, err);
}

int wl_vocab_builder_add(
	struct wl_vocab_builder *b, const char *text, size_t len, struct wl_err *err)
{
	return wl_wordpiece_words(b->rules, text, len, count_word, b, err);
}

/* ---- the layout ---- */

struct layout {
	struct wl_buf *out;
	struct counts have; /* tokens that are in */
	size_t size;
	struct wl_vocab_counts *n;
};

/* Adds a token unless it is there; past the size it counts as left out. */
static int put(struct layout *l, const char *token, struct wl_err *err)
{
	size_t before = l->have.n, n = strlen(token);

	if (before == l->size) {
		/* Looking up must not add. */
		l->n->left_out += !slot_of(l->have.v, l->have.slots, token, n)->s;
		return 0;
	}
	WL_TRY(counts_add(&l->have, token, n, 1, err));
	if (l->have.n == before)
		return 0;
	WL_TRY(wl_buf_puts(l->out, token, err));
	return wl_buf_putc(l->out, '\n', err);
}

static int put_fixed(struct layout *l, struct wl_err *err)
{
	static const char *const specials[] = {"[UNK]", "[CLS]", "[SEP]", "[MASK]"};
	char token[16];

	WL_TRY(put(l, "[PAD]", err));
	for (int i = 1; i < 100; i++) {
		snprintf(token, sizeof(token), "[unused%d]", i);
		WL_TRY(put(l, token, err));
	}
	for (int i = 0; i < 4; i++)
		WL_TRY(put(l, specials[i], err));
	for (int c = 33; c < 127; c++) {
		snprintf(token, sizeof(token), "%c", c);
		if (c < 'A' || c > 'Z')
			WL_TRY(put(l, token, err));
	}
	for (int c = '0'; c <= 'z'; c++) {
		snprintf(token, sizeof(token), "##%c", c);
		if (c <= '9' || c >= 'a')
			WL_TRY(put(l, token, err));
	}
	return 0;
}

static size_t first_char(const char *s, uint32_t *c)
{
	size_t i = 0;

	*c = wl_utf8_next(s, strlen(s), &i, NULL);
	return i;
}

/* Whether a word is one Chinese character or one sign: it never has pieces. */
static bool stands_alone(const char *s)
{
	uint32_t c;
	size_t n = first_char(s, &c);

	return !s[n] &&
	       (wl_is_cjk(c) || u_ispunct((UChar32)c) || (c < 128 && !u_isalnum((UChar32)c)));
}

/* The characters of a word as tokens: the first plain, the others with ##. */
static int count_chars(struct counts *c, const struct counted *word, struct wl_err *err)
{
	const char *s = word->s;

	while (*s) {
		char token[2 + WL_UTF8_MAX + 1];
		uint32_t ch;
		size_t n = first_char(s, &ch);
		snprintf(token, sizeof(token), "%s%.*s", s == word->s ? "" : "##", (int)n, s);
		WL_TRY(counts_add(c, token, strlen(token), word->count, err));
		s += n;
	}
	return 0;
}

/* Characters seen, those that stand alone first, each group in byte order; when there is no room
 * for all, the most frequent ones. */
static int put_chars(struct layout *l, const struct counts *words, struct wl_err *err)
{
	struct counts chars = {0};
	struct counted *v = NULL;
	size_t room = l->size - l->have.n, n;
	int ret = -1;

	for (size_t i = 0; i < words->slots; i++)
		if (words->v[i].s)
			WL_TRY_OUT(count_chars(&chars, &words->v[i], err));
	WL_TRY_OUT(counts_sorted(&chars, &v, err));
	n = chars.n;
	if (n > room) {
		qsort(v, n, sizeof(*v), by_count);
		l->n->left_out += (int64_t)(n - room);
		n = room;
		qsort(v, n, sizeof(*v), by_string);
	}
	for (int alone = 1; alone >= 0; alone--)
		for (size_t i = 0; i < n; i++)
			if (stands_alone(v[i].s) == alone)
				WL_TRY_OUT(put(l, v[i].s, err));
	for (size_t i = 0; i < n; i++) {
		uint32_t c;
		first_char(v[i].s, &c);
		l->n->chinese += wl_is_cjk(c);
	}
	ret = 0;
out:
	free(v);
	counts_release(&chars);
	return ret;
}

static int put_piece(void *ctx, const char *piece, struct wl_err *err)
{
	struct layout *l = ctx;

	size_t before = l->have.n;

	if (before == l->size)
		return 1;
	WL_TRY(put(l, piece, err)); /* two ways to the same piece count once */
	l->n->pieces += l->have.n > before;
	return 0;
}

int wl_vocab_builder_make(struct wl_vocab_builder *b, size_t size, int64_t min_count,
	struct wl_buf *out, struct wl_vocab_counts *counts, struct wl_err *err)
{
	struct layout l = {.out = out, .size = size, .n = counts};
	struct wl_vocab *check;
	int ret = -1;

	memset(counts, 0, sizeof(*counts));
	if (size < WL_VOCAB_MIN_SIZE)
		return wl_err_set(err, WL_EUSAGE,
			"A vocabulary of %zu tokens does not hold the special "
			"tokens and ASCII; the smallest has %d.",
			size, WL_VOCAB_MIN_SIZE);
	wl_buf_reset(out);
	WL_TRY_OUT(put_fixed(&l, err));
	WL_TRY_OUT(put_chars(&l, &b->words, err));
	WL_TRY_OUT(vocab_merge(&b->words, stands_alone, min_count, put_piece, &l, err));
	counts->tokens = (int64_t)l.have.n;
	/* What is written must be what the tokeniser reads. */
	check = wl_vocab_parse(out->data, out->len, "the new vocabulary", err);
	if (check && wl_vocab_size(check) == l.have.n)
		ret = 0;
	wl_vocab_free(check);
out:
	counts_release(&l.have);
	return ret;
}
