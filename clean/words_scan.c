/*
 * The pass over a text: blocks of letters' numbers, how words begin, the trie by numbers, and only
 * then the word itself.
 */
#include "clean/words_block.h"
#include "clean/words_priv.h"

#include <string.h>

/* ---- matching ---- */

struct walk {
	const struct wl_words *w;
	const char *text;
	size_t n;
	unsigned flags;
	bool (*found)(void *ctx, const struct wl_match *m);
	void *ctx;
	struct letter *l; /* [WL_WORDS_LETTERS_MAX], filled as far as the walk came */
};

/* Whether the letters read are the word's, some of them as digits or signs. */
static bool letters_agree(const struct walk *k, const struct word *x)
{
	const uint32_t *letters = k->w->letters + x->at;
	uint32_t swapped = 0;

	for (uint32_t i = 0; i < x->n; i++) {
		uint32_t want = letters[i] & ~GAP, c = k->l[i].c;
		if (want == c)
			continue;
		if (!latin(want) || latin(c) || c >= 0x80)
			return false;
		swapped++;
	}
	return swapped == 0 || (x->latin >= LEET_MIN && 2 * swapped <= x->latin);
}

/* See words.h; separators that the word itself has do not count. */
static bool gaps_agree(const struct walk *k, const struct word *x)
{
	const uint32_t *letters = k->w->letters + x->at;
	uint32_t gaps = 0, hard = 0, own = 0, own_met = 0;

	for (uint32_t i = 1; i < x->n; i++) {
		bool gap = k->l[i].soft + k->l[i].hard > 0;
		if (k->l[i].soft + k->l[i].hard > WL_WORDS_GAP_MAX)
			return false;
		gaps += gap;
		own += (letters[i] & GAP) != 0;
		own_met += gap && (letters[i] & GAP);
		hard += k->l[i].hard > 0 && !(letters[i] & GAP);
	}
	if (!x->spaced)
		return hard == 0 || (x->n >= SPELLED_MIN && gaps == x->n - 1);
	if (gaps == own_met && (own_met == own || own_met == 0))
		return true; /* as listed, or written together */
	return hard == 0 && x->n >= SPELLED_MIN && gaps == x->n - 1;
}

/* Whether a letter that a word of this kind must not touch ends before `at`, or begins there. */
static bool touched_before(const struct walk *k, size_t at)
{
	size_t i = at;
	uint32_t f;

	if (!at)
		return false;
	do
		i--;
	while (i > 0 && at - i < 4 && ((unsigned char)k->text[i] & 0xc0) == 0x80);
	f = wl_fold_at(k->w->fold, wl_utf8_next(k->text, at, &i, NULL));
	return i == at && f != WL_FOLD_SOFT && f != WL_FOLD_HARD && !wl_fold_unspaced(f);
}

static bool touched_behind(const struct walk *k, size_t at)
{
	bool ok = true;
	uint32_t f;

	if (at >= k->n)
		return false;
	f = wl_fold_at(k->w->fold, wl_utf8_next(k->text, k->n, &at, &ok));
	return ok && f != WL_FOLD_SOFT && f != WL_FOLD_HARD && !wl_fold_unspaced(f);
}

/* Reports the words that end with letter `last`, the first of them given; false: stop. */
static bool report(struct walk *k, uint32_t end, size_t last)
{
	for (uint32_t i = end; i; i = k->w->words[i].next) {
		const struct word *x = &k->w->words[i];
		struct wl_match m = {x->tag, k->l[0].at, k->l[last].end - k->l[0].at};
		if ((k->flags & WL_WORDS_SPACED) && !x->spaced)
			continue;
		if (!letters_agree(k, x) || !gaps_agree(k, x))
			continue;
		if (x->spaced && (k->l[0].inside || k->l[last].more || touched_before(k, m.at) ||
					 touched_behind(k, m.at + m.len)))
			continue;
		if (!k->found(k->ctx, &m))
			return false;
	}
	return true;
}

/* Walks the trie from the letter at byte `at` (its sub-th when it unfolds); false: stop. */
static bool walk_from(struct walk *k, size_t at, size_t sub)
{
	struct reader r = {.fold = k->w->fold, .text = k->text, .n = k->n, .i = at};
	const struct edge *e;
	uint32_t node = 0;
	size_t depth = 0;

	while (sub-- > 0)
		if (!read_letter(&r, &k->l[0]))
			return true;
	while (depth < WL_WORDS_LETTERS_MAX && read_letter(&r, &k->l[depth])) {
		const struct letter *l = &k->l[depth];
		uint32_t kind = class_of(l->c), num = kind < TABLE_END ? k->w->number[kind] : 0;
		if (!num || (depth && l->soft + l->hard > WL_WORDS_GAP_MAX))
			return true;
		e = edge_of(k->w->edges, k->w->slots, node, num);
		node = e->child;
		if (!node)
			return true;
		if (e->end && !report(k, e->end, depth))
			return false;
		depth++;
	}
	return true;
}

/* ---- the pass ---- */

/* What needs a closer look: signs, and characters that unfold to several letters. */
static void put_special(struct walk *k, struct block *b, uint32_t sym, uint32_t c, size_t at)
{
	uint32_t several[WL_FOLD_MAX], place = (uint32_t)(at - b->base) << SUB_BITS;
	size_t n;

	if (sym == SYM_SIGN) {
		b->sym[b->n] = k->w->number[class_of(c)];
		b->place[b->n] = place;
		b->n += sign_is_letter(k->text, k->n, at);
		return;
	}
	n = wl_fold_several(k->w->fold, c, several);
	for (uint32_t i = 0; i < n; i++) {
		b->sym[b->n] = k->w->number[class_of(several[i])];
		b->place[b->n++] = place | i;
	}
}

/* Fills the block from byte i to `stop`, as far as it has room, character by character. */
static size_t fill_plainly(struct walk *k, struct block *b, size_t i, size_t stop)
{
	const uint8_t *p = (const uint8_t *)k->text;
	const uint16_t *table = k->w->table;
	uint32_t m = b->n;

	while (i < stop && m < BLOCK) {
		size_t at = i;
		uint32_t c = p[i], sym;
		bool ok = true;
		if (c < 0x80)
			i++;
		else
			c = wl_utf8_next(k->text, k->n, &i, &ok);
		sym = ok && c < TABLE_END ? table[c] : SYM_SKIP;
		if (sym == SYM_SIGN || sym == SYM_SEVERAL) {
			b->n = m;
			put_special(k, b, sym, c, at);
			m = b->n;
			continue;
		}
		b->sym[m] = sym;
		b->place[m] = (uint32_t)(at - b->base) << SUB_BITS;
		m += sym != SYM_SKIP;
	}
	b->n = m;
	return i;
}

/* Fills the block from byte i on; returns where it ended. */
static size_t fill(struct walk *k, struct block *b, size_t i)
{
	size_t stop = k->n - i > BLOCK_BYTES ? i + BLOCK_BYTES : k->n;

	while (i < stop && b->n < BLOCK) {
		size_t by = wl_block_step(b, k->w->table, k->text, k->n, i);
		if (by)
			i += by;
		else
			i = fill_plainly(k, b, i, stop - i > STEP ? i + STEP : stop);
	}
	return i;
}

/* Where words may begin among the first `n` letters: what stands behind them in the array may be
 * anything.  A look at memory that is not near costs more than all else, so each step asks for
 * what the next one reads, for all places first. */
static void find_hits(const struct wl_words *w, struct block *b, uint32_t n)
{
	uint32_t all = 0, m = 0;

	for (uint32_t i = 0; i < n; i += LANES) {
		uint32_t hits = wl_block_hits(w->begins, w->shift, b->sym + i);
		for (; hits; hits &= hits - 1)
			b->hit[all++] = i + (uint32_t)__builtin_ctz(hits);
	}
	while (all > 0 && b->hit[all - 1] >= n)
		all--;
	for (uint32_t i = 0; i < all; i++) {
		const uint32_t *s = b->sym + b->hit[i];
		__builtin_prefetch(&w->again[again_bit(s[0], s[1], 0, w->again_shift) / 32]);
		__builtin_prefetch(&w->again[again_bit(s[0], s[1], s[2], w->again_shift) / 32]);
	}
	for (uint32_t i = 0; i < all; i++) {
		const uint32_t *s = b->sym + b->hit[i];
		uint32_t node = w->first_child[s[0]];
		if (!node || !begins_again(w, s[0], s[1], s[2]))
			continue;
		b->hit[m] = b->hit[i];
		b->to[m] = &w->edges[edge_slot(w->slots, node, s[1])];
		__builtin_prefetch(b->to[m++]);
	}
	b->n_hits = m;
}

/* Of these the places whose first two letters are on the trie. */
static void follow_hits(const struct wl_words *w, struct block *b)
{
	uint32_t m = 0;

	for (uint32_t i = 0; i < b->n_hits; i++) {
		const uint32_t *s = b->sym + b->hit[i];
		const struct edge *e = edge_of(w->edges, w->slots, w->first_child[s[0]], s[1]);
		if (!e->child)
			continue;
		b->hit[m] = b->hit[i];
		b->to[m++] = e;
		__builtin_prefetch(&w->edges[edge_slot(w->slots, e->child, s[2])]);
	}
	b->n_hits = m;
}

/* Whether a word may really begin at letter j, whose second one's edge is e: the trie is followed
 * by the numbers alone, until it ends, a word ends, or the block does. */
static bool promising(
	const struct wl_words *w, const struct block *b, uint32_t j, const struct edge *e)
{
	for (j += 2; e->child; j++) {
		if (e->end || j >= b->n)
			return true;
		e = edge_of(w->edges, w->slots, e->child, b->sym[j]);
	}
	return false;
}

/* Walks from the first `n` letters of the block; false: stop. */
static bool walk_block(struct walk *k, struct block *b, uint32_t n)
{
	find_hits(k->w, b, n);
	follow_hits(k->w, b);
	for (uint32_t i = 0; i < b->n_hits; i++) {
		uint32_t j = b->hit[i], place = b->place[j];
		if (promising(k->w, b, j, b->to[i]) &&
			!walk_from(k, b->base + (place >> SUB_BITS), place & ((1 << SUB_BITS) - 1)))
			return false;
	}
	return true;
}

void wl_words_scan(const struct wl_words *w, const char *text, size_t n, unsigned flags,
	bool (*found)(void *ctx, const struct wl_match *m), void *ctx)
{
	struct letter letters[WL_WORDS_LETTERS_MAX];
	struct walk k = {w, text, n, flags, found, ctx, letters};
	struct block b;
	size_t i = 0;

	WL_ASSERT(w->table);
	if (!w->n_words)
		return;
	b.n = 0;
	b.base = 0;
	while (i < n) {
		uint32_t keep;
		i = fill(&k, &b, i);
		keep = i < n && b.n >= AHEAD ? AHEAD : i < n ? b.n : 0;
		if (keep && i - b.base - (b.place[b.n - keep] >> SUB_BITS) > BLOCK_BYTES)
			keep = 0; /* a gap that no word spans; places must stay small */
		memset(b.sym + b.n, 0, LANES * sizeof(*b.sym));
		if (!walk_block(&k, &b, b.n - keep))
			return;
		/* The last letters wait for those that follow them; their bytes stay near. */
		memmove(b.sym, b.sym + b.n - keep, keep * sizeof(*b.sym));
		memmove(b.place, b.place + b.n - keep, keep * sizeof(*b.place));
		b.n = keep;
		if (keep) {
			uint32_t by = b.place[0] >> SUB_BITS;
			b.base += by;
			for (uint32_t j = 0; j < keep; j++)
				b.place[j] -= by << SUB_BITS;
		} else {
			b.base = i;
		}
	}
}

static bool take_first(void *ctx, const struct wl_match *m)
{
	*(struct wl_match *)ctx = *m;
	return false;
}

bool wl_words_find(
	const struct wl_words *w, const char *text, size_t n, unsigned flags, struct wl_match *m)
{
	m->tag = -1;
	wl_words_scan(w, text, n, flags, take_first, m);
	return m->tag >= 0;
}
