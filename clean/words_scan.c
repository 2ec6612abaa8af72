/*
 * The pass over a text: blocks of letters' numbers, a bitmap, the trie by numbers, and only then
 * the word itself.
 */
#include "clean/words_priv.h"

#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

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

/* Reports the words that end with letter `last`; false: stop. */
static bool report(struct walk *k, uint32_t node, size_t last)
{
	for (uint32_t i = k->w->ends[node]; i; i = k->w->words[i].next) {
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
		node = edge_of(k->w->edges, k->w->slots, node, num)->child;
		if (!node)
			return true;
		if (k->w->ends[node] && !report(k, node, depth))
			return false;
		depth++;
	}
	return true;
}

/* ---- the pass ---- */

enum { BLOCK = 1024, BLOCK_BYTES = 1 << 24, SUB_BITS = 5, AHEAD = 2, LANES = 8 };

/* A stretch of the text as numbers of letters.  Both loops over it hardly branch on what the
 * text says, which is what makes the pass fast; with AVX2 they take several letters at once. */
struct block {
	uint32_t sym[BLOCK + WL_FOLD_MAX + AHEAD + LANES];
	uint32_t place[BLOCK + WL_FOLD_MAX + AHEAD]; /* byte behind base, and which letter of it */
	uint32_t n;
	size_t base;
};

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

/* Four characters of three bytes each at byte i, where the machine does that at once: how many
 * bytes that were (12), or 0. */
static inline uint32_t fill_four(const struct walk *k, struct block *b, size_t i, uint32_t *at)
{
#ifdef __AVX2__
	const __m128i is = _mm_setr_epi8(
		-32, -128, -128, -32, -128, -128, -32, -128, -128, -32, -128, -128, 0, 0, 0, 0);
	const __m128i of = _mm_setr_epi8(
		-16, -64, -64, -16, -64, -64, -16, -64, -64, -16, -64, -64, 0, 0, 0, 0);
	const __m128i order = _mm_setr_epi8(2, 1, 0, -1, 5, 4, 3, -1, 8, 7, 6, -1, 11, 10, 9, -1);
	const uint16_t *table = k->w->table;
	uint32_t c[4], s[4], m = *at, place = (uint32_t)(i - b->base) << SUB_BITS;
	__m128i v;

	if (k->n - i < 16 || m + 4 > BLOCK)
		return 0;
	v = _mm_loadu_si128((const __m128i *)(k->text + i));
	if (_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_and_si128(v, of), is)) != 0xffff)
		return 0;
	/* The low bits of the bytes, put together as b2 + 64 b1 and 16 b0. */
	v = _mm_and_si128(_mm_shuffle_epi8(v, order), _mm_set1_epi32(0x0f3f3f));
	v = _mm_maddubs_epi16(v, _mm_set1_epi32(0x104001));
	v = _mm_madd_epi16(v, _mm_set1_epi32(0x1000001));
	_mm_storeu_si128((__m128i *)c, v);
	/* Under U+0800 three bytes are one too many. */
	if (_mm_movemask_epi8(_mm_cmplt_epi32(v, _mm_set1_epi32(0x800))))
		return 0;
	for (int j = 0; j < 4; j++)
		s[j] = table[c[j]];
	if (s[0] == SYM_SEVERAL || s[1] == SYM_SEVERAL || s[2] == SYM_SEVERAL ||
		s[3] == SYM_SEVERAL)
		return 0;
	for (uint32_t j = 0; j < 4; j++) {
		b->sym[m] = s[j];
		b->place[m] = place + (3 * j << SUB_BITS);
		m += s[j] != SYM_SKIP;
	}
	*at = m;
	return 12;
#else
	(void)k, (void)b, (void)i, (void)at;
	return 0;
#endif
}

/* Fills the block from byte i on; returns where it ended. */
static size_t fill(struct walk *k, struct block *b, size_t i)
{
	const uint8_t *p = (const uint8_t *)k->text;
	const uint16_t *table = k->w->table;
	size_t n = k->n, stop = n - i > BLOCK_BYTES ? i + BLOCK_BYTES : n;
	uint32_t m = b->n;

	while (i < stop && m < BLOCK) {
		size_t at = i;
		uint32_t c = p[i], sym;
		bool ok = true;
		if (c >= 0xe1 && (sym = fill_four(k, b, i, &m))) {
			i += sym;
			continue;
		}
		if (c < 0x80) {
			i++;
		} else if (c > 0xe0 && c < 0xf0 && c != 0xed && n - i >= 3 &&
			   (p[i + 1] & 0xc0) == 0x80 && (p[i + 2] & 0xc0) == 0x80) {
			c = (c & 15) << 12 | (uint32_t)(p[i + 1] & 63) << 6 | (p[i + 2] & 63);
			i += 3;
		} else {
			c = wl_utf8_next(k->text, n, &i, &ok);
		}
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

/* Whether words may begin at each of the eight letters from s on, a bit for each. */
static inline uint32_t eight_hits(const uint32_t *bits, const uint32_t *s, unsigned shift)
{
	uint32_t hits = 0;
#ifdef __AVX2__
	const __m256i low = _mm256_set1_epi32(31), last = _mm256_set1_epi32(0x27d4eb2f);
	__m128i by = _mm_cvtsi32_si128((int)shift);
	__m256i a = _mm256_loadu_si256((const __m256i *)s);
	__m256i b = _mm256_loadu_si256((const __m256i *)(s + 1));
	__m256i c = _mm256_loadu_si256((const __m256i *)(s + 2));
	__m256i two = _mm256_xor_si256(_mm256_mullo_epi32(a, _mm256_set1_epi32((int)0x9e3779b1)),
		_mm256_mullo_epi32(b, _mm256_set1_epi32((int)0x85ebca77)));
	__m256i more =
		_mm256_add_epi32(two, _mm256_mullo_epi32(c, _mm256_set1_epi32((int)0xc2b2ae3d)));
	__m256i x, y;

	two = _mm256_srl_epi32(_mm256_mullo_epi32(two, last), by);
	more = _mm256_srl_epi32(_mm256_mullo_epi32(more, last), by);
	x = _mm256_i32gather_epi32((const int *)bits, _mm256_srli_epi32(two, 5), 4);
	y = _mm256_i32gather_epi32((const int *)bits, _mm256_srli_epi32(more, 5), 4);
	x = _mm256_srlv_epi32(x, _mm256_and_si256(two, low));
	y = _mm256_srlv_epi32(y, _mm256_and_si256(more, low));
	x = _mm256_slli_epi32(_mm256_or_si256(x, y), 31);
	hits = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(x));
#else
	for (uint32_t i = 0; i < LANES; i++) {
		uint32_t two = slot_of(s[i], s[i + 1], 0, shift);
		uint32_t more = slot_of(s[i], s[i + 1], s[i + 2], shift);
		hits |= ((bits[two / 32] >> two % 32 | bits[more / 32] >> more % 32) & 1) << i;
	}
#endif
	return hits;
}

/* Whether a word may really begin at letter j: the trie is followed by the numbers alone, until
 * it ends, a word ends, or the block does. */
static bool promising(const struct wl_words *w, const struct block *b, uint32_t j)
{
	const uint32_t *s = b->sym + j;
	uint32_t node;

	if (!marked(w->second, slot_again(s[0], s[1], 0, w->shift)) &&
		!marked(w->second, slot_again(s[0], s[1], s[2], w->shift)))
		return false;
	node = w->first_child[s[0]];
	while (node) {
		if (w->ends[node] || ++j >= b->n)
			return true;
		node = edge_of(w->edges, w->slots, node, b->sym[j])->child;
	}
	return false;
}

/* Walks from the first `n` letters of the block; false: stop.  What stands behind them in the
 * array may be anything. */
static bool walk_block(struct walk *k, struct block *b, uint32_t n)
{
	const uint32_t *s = b->sym;

	for (uint32_t i = 0; i < n; i += LANES) {
		uint32_t hits = eight_hits(k->w->first, s + i, k->w->shift);
		for (; hits; hits &= hits - 1) {
			uint32_t j = i + (uint32_t)__builtin_ctz(hits), place;
			if (j >= n)
				break;
			place = b->place[j];
			if (promising(k->w, b, j) && !walk_from(k, b->base + (place >> SUB_BITS),
							     place & ((1 << SUB_BITS) - 1)))
				return false;
		}
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
