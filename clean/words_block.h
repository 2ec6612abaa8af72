/*
 * The two loops of the pass over a text (words_scan.c), for what the processor has: 64 bytes or 16
 * letters at once with AVX-512, 12 bytes or 8 letters with AVX2, else one after the other.  All
 * give the same.  Neither branches on what the text says, but for what is rare in it.
 */
#ifndef WL_CLEAN_WORDS_BLOCK_H
#define WL_CLEAN_WORDS_BLOCK_H

#include "clean/words_priv.h"

#if defined(__AVX512VBMI2__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define WL_WORDS_WIDE 1
#else
#define WL_WORDS_WIDE 0
#endif
#ifdef __AVX2__
#include <immintrin.h>
#endif

enum {
	BLOCK = 1024,
	BLOCK_BYTES = 1 << 24,
	SUB_BITS = 5,
	AHEAD = 2, /* letters that a look at a letter sees behind it */
	LANES = WL_WORDS_WIDE ? 16 : 8,
	STEP = 64, /* bytes at most that one step takes */
};

/* A stretch of the text as numbers of letters. */
struct block {
	uint32_t sym[BLOCK + STEP + WL_FOLD_MAX + AHEAD + LANES];
	uint32_t place[BLOCK + STEP + WL_FOLD_MAX + LANES]; /* byte behind base << SUB_BITS, and
							     * which letter of it */
	uint32_t hit[BLOCK + STEP + WL_FOLD_MAX];	    /* letters with which words may begin */
	const struct edge *to[BLOCK + STEP + WL_FOLD_MAX];  /* of each the second letter's edge */
	uint32_t n, n_hits;
	size_t base;
};

#if WL_WORDS_WIDE

/* Of characters of a byte each lane (b0, and the three behind it): the code points; *bad gets the
 * lanes whose sequence says too little, or a surrogate. */
static inline __m512i code_points(__m128i b0, __m128i b1, __m128i b2, __m128i b3, __mmask16 *bad)
{
	const __m512i low = _mm512_set1_epi32(63);
	__m512i x = _mm512_cvtepu8_epi32(b0);
	__m512i x1 = _mm512_and_si512(_mm512_cvtepu8_epi32(b1), low);
	__m512i x2 = _mm512_and_si512(_mm512_cvtepu8_epi32(b2), low);
	__m512i x3 = _mm512_and_si512(_mm512_cvtepu8_epi32(b3), low);
	__mmask16 two = _mm512_cmpge_epu32_mask(x, _mm512_set1_epi32(0xc0));
	__mmask16 three = _mm512_cmpge_epu32_mask(x, _mm512_set1_epi32(0xe0));
	__mmask16 four = _mm512_cmpge_epu32_mask(x, _mm512_set1_epi32(0xf0));
	__m512i least = _mm512_maskz_set1_epi32(two, 0x80), c = x;

	c = _mm512_mask_and_epi32(c, two, x, _mm512_set1_epi32(31));
	c = _mm512_mask_and_epi32(c, three, x, _mm512_set1_epi32(15));
	c = _mm512_mask_and_epi32(c, four, x, _mm512_set1_epi32(7));
	c = _mm512_mask_or_epi32(c, two, _mm512_slli_epi32(c, 6), x1);
	c = _mm512_mask_or_epi32(c, three, _mm512_slli_epi32(c, 6), x2);
	c = _mm512_mask_or_epi32(c, four, _mm512_slli_epi32(c, 6), x3);
	least = _mm512_mask_set1_epi32(least, three, 0x800);
	least = _mm512_mask_set1_epi32(least, four, 0x10000);
	*bad = _mm512_cmplt_epu32_mask(c, least) |
	       _mm512_cmpgt_epu32_mask(c, _mm512_set1_epi32(0x10ffff)) |
	       _mm512_cmpeq_epi32_mask(_mm512_and_si512(c, _mm512_set1_epi32(0x7ffff800)),
		       _mm512_set1_epi32(0xd800));
	return c;
}

/* What a look at 64 bytes says of them. */
struct stretch {
	__m512i v[4];	 /* the bytes, and those one, two and three behind each */
	uint64_t starts; /* of the characters that are whole in it */
	uint32_t bytes;	 /* of these characters */
};

static inline uint64_t bytes_over(__m512i v, unsigned char c)
{
	return _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8((char)c));
}

/* False where it must be read byte by byte: bad sequences, or signs that may be letters. */
static inline bool look_at_bytes(const char *text, size_t n, size_t i, struct stretch *t)
{
	size_t left = n - i, end;
	uint64_t cont, want, sign, latin, in;

	for (uint32_t k = 0; k < 4; k++) {
		uint64_t mask =
			left <= k ? 0 : _bzhi_u64(~0ull, left - k > 64 ? 64 : (uint32_t)(left - k));
		t->v[k] = _mm512_maskz_loadu_epi8(mask, text + i + k);
	}
	cont = _mm512_cmpeq_epi8_mask(_mm512_and_si512(t->v[0], _mm512_set1_epi8((char)0xc0)),
		_mm512_set1_epi8((char)0x80));
	want = bytes_over(t->v[0], 0xc0) << 1 | bytes_over(t->v[0], 0xe0) << 2 |
	       bytes_over(t->v[0], 0xf0) << 3;
	/* The last character counts when all of it is here. */
	end = left < 64 ? left : 64;
	if (end == 64 && left > 64) {
		uint32_t last = 63 - (uint32_t)__builtin_clzll(~cont | 1);
		unsigned char c = (unsigned char)text[i + last];
		if (last + 1 + (c >= 0xc0) + (c >= 0xe0) + (c >= 0xf0) > 64)
			end = last;
	}
	in = _bzhi_u64(~0ull, (uint32_t)end);
	if (end < 4 || ((cont ^ want) & in) || (bytes_over(t->v[0], 0xf5) & in) ||
		(end == left && end < 64 && want >> end & 1))
		return false;
	sign = _mm512_cmpeq_epi8_mask(t->v[0], _mm512_set1_epi8('@')) |
	       _mm512_cmpeq_epi8_mask(t->v[0], _mm512_set1_epi8('$')) |
	       _mm512_cmpeq_epi8_mask(t->v[0], _mm512_set1_epi8('!'));
	latin = _mm512_cmplt_epu8_mask(
		_mm512_sub_epi8(
			_mm512_or_si512(t->v[0], _mm512_set1_epi8(32)), _mm512_set1_epi8('a')),
		_mm512_set1_epi8(26));
	/* Letters that stand outside are taken for there. */
	if (sign & (latin << 1 | 1) & (latin >> 1 | 1ull << 63) & in)
		return false;
	t->starts = ~cont & in;
	t->bytes = (uint32_t)end;
	return true;
}

/* Appends the letters of the next 64 bytes or fewer to the block: how many bytes these were; 0
 * where they must be read plainly. */
static inline size_t wl_block_step(
	struct block *b, const uint16_t *table, const char *text, size_t n, size_t i)
{
	const __m512i skip = _mm512_set1_epi32(SYM_SKIP);
	const __m512i iota = _mm512_set_epi8(63, 62, 61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50,
		49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29,
		28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7,
		6, 5, 4, 3, 2, 1, 0);
	_Alignas(64) uint8_t bytes[5][64];
	struct stretch t;
	uint32_t count, m = b->n, at = (uint32_t)(i - b->base);

	if (!look_at_bytes(text, n, i, &t))
		return 0;
	for (int k = 0; k < 4; k++)
		_mm512_store_si512(bytes[k], _mm512_maskz_compress_epi8(t.starts, t.v[k]));
	_mm512_store_si512(bytes[4], _mm512_maskz_compress_epi8(t.starts, iota));
	count = (uint32_t)__builtin_popcountll(t.starts);
	for (uint32_t g = 0; g < count; g += 16) {
		__mmask16 there = (__mmask16)_bzhi_u32(0xffff, count - g), bad, known, keep;
		__m128i p = _mm_load_si128((const __m128i *)(bytes[4] + g));
		__m512i c = code_points(_mm_load_si128((const __m128i *)(bytes[0] + g)),
			_mm_load_si128((const __m128i *)(bytes[1] + g)),
			_mm_load_si128((const __m128i *)(bytes[2] + g)),
			_mm_load_si128((const __m128i *)(bytes[3] + g)), &bad);
		__m512i sym, place;
		known = _mm512_mask_cmplt_epu32_mask(there, c, _mm512_set1_epi32(TABLE_END));
		sym = _mm512_mask_i32gather_epi32(skip, known, c, table, 2);
		sym = _mm512_and_si512(sym, _mm512_set1_epi32(0xffff));
		bad |= _mm512_cmpeq_epi32_mask(sym, _mm512_set1_epi32(SYM_SEVERAL));
		if (bad & there)
			return 0;
		keep = _mm512_mask_cmplt_epu32_mask(there, sym, _mm512_set1_epi32(SYM_SIGN));
		place = _mm512_add_epi32(_mm512_cvtepu8_epi32(p), _mm512_set1_epi32((int)at));
		place = _mm512_slli_epi32(place, SUB_BITS);
		_mm512_storeu_si512(b->sym + m, _mm512_maskz_compress_epi32(keep, sym));
		_mm512_storeu_si512(b->place + m, _mm512_maskz_compress_epi32(keep, place));
		m += (uint32_t)__builtin_popcount(keep);
	}
	b->n = m;
	return t.bytes;
}

/* Whether words may begin at each of the LANES letters from s on, a bit for each. */
static inline uint32_t wl_block_hits(const uint32_t *begins, unsigned shift, const uint32_t *s)
{
	const __m512i low = _mm512_set1_epi32(31);
	__m512i a = _mm512_loadu_si512(s), b = _mm512_loadu_si512(s + 1);
	__m512i c = _mm512_loadu_si512(s + 2), hash, two, three, cell;

	hash = _mm512_or_si512(a, _mm512_slli_epi32(b, 16));
	hash = _mm512_mullo_epi32(hash, _mm512_set1_epi32((int)0x9e3779b1));
	cell = _mm512_srl_epi32(hash, _mm_cvtsi32_si128((int)shift));
	cell = _mm512_i32gather_epi32(cell, begins, 4);
	two = _mm512_srli_epi32(_mm512_xor_si512(hash, _mm512_srli_epi32(hash, 7)), 4);
	three = _mm512_mullo_epi32(c, _mm512_set1_epi32((int)0xc2b2ae3d));
	three = _mm512_xor_si512(three, hash);
	three = _mm512_srli_epi32(
		_mm512_mullo_epi32(three, _mm512_set1_epi32((int)0x27d4eb2f)), 27);
	two = _mm512_srlv_epi32(cell, _mm512_and_si512(two, low));
	three = _mm512_srlv_epi32(cell, three);
	return _mm512_test_epi32_mask(_mm512_or_si512(two, three), _mm512_set1_epi32(1));
}

#else

/* The same for four characters of three bytes each: 12, or 0. */
static inline size_t wl_block_step(
	struct block *b, const uint16_t *table, const char *text, size_t n, size_t i)
{
#ifdef __AVX2__
	const __m128i is = _mm_setr_epi8(
		-32, -128, -128, -32, -128, -128, -32, -128, -128, -32, -128, -128, 0, 0, 0, 0);
	const __m128i of = _mm_setr_epi8(
		-16, -64, -64, -16, -64, -64, -16, -64, -64, -16, -64, -64, 0, 0, 0, 0);
	const __m128i order = _mm_setr_epi8(2, 1, 0, -1, 5, 4, 3, -1, 8, 7, 6, -1, 11, 10, 9, -1);
	uint32_t c[4], s[4], m = b->n, place = (uint32_t)(i - b->base) << SUB_BITS;
	__m128i v;

	if (n - i < 16)
		return 0;
	v = _mm_loadu_si128((const __m128i *)(text + i));
	if (_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_and_si128(v, of), is)) != 0xffff)
		return 0;
	/* The low bits of the bytes, put together as b2 + 64 b1 and 16 b0. */
	v = _mm_and_si128(_mm_shuffle_epi8(v, order), _mm_set1_epi32(0x0f3f3f));
	v = _mm_maddubs_epi16(v, _mm_set1_epi32(0x104001));
	v = _mm_madd_epi16(v, _mm_set1_epi32(0x1000001));
	_mm_storeu_si128((__m128i *)c, v);
	for (int j = 0; j < 4; j++) {
		s[j] = table[c[j]];
		/* Three bytes are one too many for it, or a surrogate, or to be unfolded. */
		if (c[j] < 0x800 || (c[j] & 0xf800) == 0xd800 || s[j] == SYM_SEVERAL)
			return 0;
	}
	for (uint32_t j = 0; j < 4; j++) {
		b->sym[m] = s[j];
		b->place[m] = place + (3 * j << SUB_BITS);
		m += s[j] != SYM_SKIP;
	}
	b->n = m;
	return 12;
#else
	(void)b, (void)table, (void)text, (void)n, (void)i;
	return 0;
#endif
}

static inline uint32_t wl_block_hits(const uint32_t *begins, unsigned shift, const uint32_t *s)
{
	uint32_t hits = 0;
#ifdef __AVX2__
	const __m256i low = _mm256_set1_epi32(31);
	__m256i a = _mm256_loadu_si256((const __m256i *)s);
	__m256i b = _mm256_loadu_si256((const __m256i *)(s + 1));
	__m256i c = _mm256_loadu_si256((const __m256i *)(s + 2));
	__m256i hash = _mm256_or_si256(a, _mm256_slli_epi32(b, 16)), two, three, cell;

	hash = _mm256_mullo_epi32(hash, _mm256_set1_epi32((int)0x9e3779b1));
	cell = _mm256_srl_epi32(hash, _mm_cvtsi32_si128((int)shift));
	cell = _mm256_i32gather_epi32((const int *)begins, cell, 4);
	two = _mm256_srli_epi32(_mm256_xor_si256(hash, _mm256_srli_epi32(hash, 7)), 4);
	three = _mm256_mullo_epi32(c, _mm256_set1_epi32((int)0xc2b2ae3d));
	three = _mm256_xor_si256(three, hash);
	three = _mm256_srli_epi32(
		_mm256_mullo_epi32(three, _mm256_set1_epi32((int)0x27d4eb2f)), 27);
	two = _mm256_srlv_epi32(cell, _mm256_and_si256(two, low));
	three = _mm256_srlv_epi32(cell, three);
	two = _mm256_slli_epi32(_mm256_or_si256(two, three), 31);
	hits = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(two));
#else
	for (uint32_t i = 0; i < LANES; i++) {
		uint32_t hash = begin_hash(s[i], s[i + 1]), cell = begins[hash >> shift];
		hits |= ((cell >> two_bit(hash) | cell >> three_bit(hash, s[i + 2])) & 1) << i;
	}
#endif
	return hits;
}

#endif
#endif
