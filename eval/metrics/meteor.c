/*
 * The aligner and the score: see meteor.h.
 *
 * The search goes over the reference from left to right with 40 partial alignments.  They are
 * ordered by matches (more), chunks (fewer), distance (less), then age, and what is not among the
 * first 40 is lost, so the order decides the result and is reproduced with its quirk: the
 * distance of a choice is charged to the path that does not take it.  As only exact matches of
 * single words exist, a path is small: which words of the hypothesis it used, where its
 * last match ended, and three numbers, which one key holds.
 */
#include "eval/metrics/meteor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { BEAM = 40, MAX_TOKENS = 1 << 16 };

/* Smaller is better: (all ones - matches) 16 bits, chunks 16 bits, distance 32 bits. */
static const uint64_t one_match = (uint64_t)1 << 48, one_chunk = (uint64_t)1 << 32;

struct path {
	uint64_t key;
	uint64_t *used; /* [words]: bits of the hypothesis's tokens */
	int32_t last;	/* after the last match's place in the hypothesis; -1: no open chunk */
};

/* Up to BEAM paths in order. */
struct beam {
	struct path path[BEAM];
	size_t n;
};

struct aligner {
	const struct wl_caption *hyp, *ref;
	size_t words;	/* of a bit set */
	int32_t *next;	/* [hyp.n]: the next place with the same token, or -1 */
	int32_t *first; /* [ref.n]: its token's first place in the hypothesis, or -1 */
	int32_t *fixed; /* [ref.n]: the only possible match, or -1 */
	uint64_t *bits; /* of both beams */
	size_t cap_hyp, cap_ref, cap_bits;
	struct beam beam[2];
	struct path scratch;
};

struct stats {
	double test_len, ref_len, test_function, ref_function;
	double content, function; /* matched words; the same on both sides */
	double chunks;
};

struct wl_meteor_params wl_meteor_english(void)
{
	return (struct wl_meteor_params){0.85, 0.20, 0.60, 0.75};
}

struct wl_meteor_params wl_meteor_other(void)
{
	return (struct wl_meteor_params){0.75, 1.40, 0.70, 0.50};
}

static void aligner_release(struct aligner *a)
{
	free(a->next);
	free(a->first);
	free(a->fixed);
	free(a->bits);
}

static int grow(int32_t **p, size_t n, struct wl_err *err)
{
	int32_t *fresh = realloc(*p, n * sizeof **p);

	if (!fresh)
		return wl_err_nomem(err, "METEOR's alignment", n * sizeof **p);
	*p = fresh;
	return 0;
}

static int aligner_reserve(struct aligner *a, size_t hyp, size_t ref, struct wl_err *err)
{
	size_t bits;

	if (hyp >= MAX_TOKENS || ref >= MAX_TOKENS)
		return wl_err_set(err, WL_EDATA,
			"a caption has %zu tokens; METEOR takes fewer than %d (is it a whole "
			"document?)",
			hyp > ref ? hyp : ref, MAX_TOKENS);
	if (hyp > a->cap_hyp) {
		WL_TRY(grow(&a->next, 2 * hyp, err));
		a->cap_hyp = 2 * hyp;
	}
	if (ref > a->cap_ref) {
		WL_TRY(grow(&a->first, 2 * ref, err));
		WL_TRY(grow(&a->fixed, 2 * ref, err));
		a->cap_ref = 2 * ref;
	}
	a->words = hyp / 64 + 1;
	bits = (2 * BEAM + 1) * a->words;
	if (bits > a->cap_bits) {
		free(a->bits);
		a->cap_bits = 0;
		a->bits = malloc(bits * sizeof *a->bits);
		if (!a->bits)
			return wl_err_nomem(err, "METEOR's beam", bits * sizeof *a->bits);
		a->cap_bits = bits;
	}
	for (size_t i = 0; i < BEAM; i++) {
		a->beam[0].path[i].used = a->bits + i * a->words;
		a->beam[1].path[i].used = a->bits + (BEAM + i) * a->words;
	}
	a->scratch.used = a->bits + 2 * BEAM * a->words;
	return 0;
}

/* Bits of the places among the first 64 tokens of c that hold t. */
static uint64_t places(const struct wl_caption *c, uint32_t t)
{
	uint64_t found = 0;

#ifdef __AVX512F__
	__m512i want = _mm512_set1_epi32((int)t);

	for (size_t i = 0; i < c->n && i < 64; i += 16) {
		unsigned lanes = c->n - i < 16 ? (1u << (c->n - i)) - 1 : 0xffffu;
		__mmask16 in = (__mmask16)lanes;
		__m512i have = _mm512_maskz_loadu_epi32(in, c->token + i);

		found |= (uint64_t)_mm512_mask_cmpeq_epi32_mask(in, have, want) << i;
	}
#else
	for (size_t i = 0; i < c->n && i < 64; i++)
		found |= (uint64_t)(c->token[i] == t) << i;
#endif
	return found;
}

/* The place of t in c from `from` on, or -1. */
static int32_t place_of(const struct wl_caption *c, uint32_t t, int32_t from)
{
	if (c->n <= 64) {
		uint64_t found = from < 64 ? places(c, t) & ~(uint64_t)0 << from : 0;

		return found ? __builtin_ctzll(found) : -1;
	}
	for (int32_t i = from; i < (int32_t)c->n; i++)
		if (c->token[i] == t)
			return i;
	return -1;
}

/* Where a hypothesis has the same token again: once for all its references. */
static void find_repeats(struct aligner *a)
{
	for (int32_t i = 0; i < (int32_t)a->hyp->n; i++)
		a->next[i] = place_of(a->hyp, a->hyp->token[i], i + 1);
}

/* Places of a reference's tokens, and the matches that have no rival on either side.  Those are
 * marked in `used`. */
static void find_matches(struct aligner *a, uint64_t *used)
{
	const struct wl_caption *r = a->ref;

	for (int32_t j = 0; j < (int32_t)r->n; j++) {
		uint32_t t = r->token[j];
		int32_t i = place_of(a->hyp, t, 0);

		a->first[j] = i;
		a->fixed[j] = -1;
		if (i >= 0 && a->next[i] < 0 && place_of(r, t, 0) == j &&
			place_of(r, t, j + 1) < 0) {
			a->fixed[j] = i;
			used[i / 64] |= (uint64_t)1 << (i % 64);
		}
	}
}

/* One word nearly always, for which a call would cost more than the copy. */
static inline void copy_bits(uint64_t *to, const uint64_t *from, size_t words)
{
	to[0] = from[0];
	for (size_t i = 1; i < words; i++)
		to[i] = from[i];
}

/* Puts a copy of p behind all that are as good; the worst falls out of a full beam. */
static void insert(struct beam *b, const struct path *p, size_t words)
{
	size_t at = b->n;
	struct path slot;

	if (b->n == BEAM && p->key >= b->path[BEAM - 1].key)
		return;
	if (b->n < BEAM)
		b->n++;
	else
		at = BEAM - 1;
	slot = b->path[at];
	while (at > 0 && b->path[at - 1].key > p->key) {
		b->path[at] = b->path[at - 1];
		at--;
	}
	slot.key = p->key;
	slot.last = p->last;
	copy_bits(slot.used, p->used, words);
	b->path[at] = slot;
}

/* Saturates, so that no distance reads as a chunk. */
static void add_distance(struct path *p, int32_t d)
{
	uint64_t low = (p->key & 0xffffffff) + (uint64_t)abs(d);

	p->key = (p->key & ~(uint64_t)0xffffffff) | (low > 0xffffffff ? 0xffffffff : low);
}

static void take(struct path *p, int32_t i)
{
	p->key -= one_match;
	if (p->last != -1 && i != p->last)
		p->key += one_chunk;
	p->last = i + 1;
}

/* All that a path can become at place j of the reference, which leaves it a choice. */
static void extend(struct aligner *a, struct path *p, int32_t j, struct beam *to)
{
	for (int32_t i = a->first[j]; i >= 0; i = a->next[i]) {
		uint64_t bit = (uint64_t)1 << (i % 64);
		struct path *q = &a->scratch;

		if (p->used[i / 64] & bit)
			continue;
		q->key = p->key;
		q->last = p->last;
		copy_bits(q->used, p->used, a->words);
		q->used[i / 64] |= bit;
		take(q, i);
		add_distance(p, j - i); /* the parent's, as the jar has it */
		insert(to, q, a->words);
	}
	if (p->last != -1)
		p->key += one_chunk;
	p->last = -1;
	insert(to, p, a->words);
}

/* Place j of the reference where it leaves a path no choice. */
static void follow(const struct aligner *a, struct path *p, int32_t j)
{
	if (a->fixed[j] >= 0) {
		take(p, a->fixed[j]);
		add_distance(p, j - a->fixed[j]);
		return;
	}
	if (p->last != -1)
		p->key += one_chunk;
	p->last = -1;
}

/* Equal paths keep their order, as when they are inserted one after the other. */
static void restore_order(struct beam *b)
{
	for (size_t i = 1; i < b->n; i++) {
		struct path p = b->path[i];
		size_t k = i;

		for (; k > 0 && b->path[k - 1].key > p.key; k--)
			b->path[k] = b->path[k - 1];
		b->path[k] = p;
	}
}

/* The best alignment found. */
static void align(struct aligner *a, struct path *best)
{
	struct beam *from = &a->beam[0], *to = &a->beam[1];
	struct path *start;

	start = &from->path[0];
	memset(start->used, 0, a->words * sizeof *start->used);
	find_matches(a, start->used);
	start->key = ~(uint64_t)0 << 48;
	start->last = -1;
	from->n = 1;
	for (int32_t j = 0; j < (int32_t)a->ref->n; j++) {
		struct beam *swap = from;

		if (a->fixed[j] >= 0 || a->first[j] < 0) {
			for (size_t k = 0; k < from->n; k++)
				follow(a, &from->path[k], j);
			restore_order(from);
			continue;
		}
		to->n = 0;
		for (size_t k = 0; k < from->n; k++)
			extend(a, &from->path[k], j, to);
		from = to;
		to = swap;
	}
	/* The first of the best once the last chunk is closed. */
	for (size_t k = 0; k < from->n; k++)
		if (from->path[k].last != -1)
			from->path[k].key += one_chunk;
	*best = from->path[0];
	for (size_t k = 1; k < from->n; k++)
		if (from->path[k].key < best->key)
			*best = from->path[k];
}

static void count(
	const struct aligner *a, const struct path *best, const bool *function, struct stats *s)
{
	*s = (struct stats){.test_len = (double)a->hyp->n,
		.ref_len = (double)a->ref->n,
		.chunks = (double)((best->key >> 32) & 0xffff)};
	for (size_t i = 0; i < a->hyp->n; i++) {
		bool f = function && function[a->hyp->token[i]];

		s->test_function += f;
		if (best->used[i / 64] >> (i % 64) & 1)
			*(f ? &s->function : &s->content) += 1;
	}
	for (size_t j = 0; function && j < a->ref->n; j++)
		s->ref_function += function[a->ref->token[j]];
}

/* Everything matched in one piece: no fragmentation. */
static bool is_whole(const struct stats *s)
{
	double matches = s->content + s->function;

	return matches == s->test_len && matches == s->ref_len && s->chunks == 1;
}

static double score(const struct stats *s, const struct wl_meteor_params *p)
{
	double other = 1.0 - p->delta, matched = s->content * p->delta + s->function * other;
	double test = p->delta * (s->test_len - s->test_function) + other * s->test_function;
	double ref = p->delta * (s->ref_len - s->ref_function) + other * s->ref_function;
	double words = s->content + s->function, precision, recall, mean, frag;

	if (words <= 0)
		return 0;
	precision = matched / test;
	recall = matched / ref;
	mean = 1.0 / ((1.0 - p->alpha) / precision + p->alpha / recall);
	frag = is_whole(s) ? 0 : s->chunks / words;
	mean *= 1.0 - p->gamma * pow(frag, p->beta);
	return mean > 0 ? mean : 0; /* NaN too */
}

static void add(struct stats *sum, const struct stats *s)
{
	sum->test_len += s->test_len;
	sum->ref_len += s->ref_len;
	sum->test_function += s->test_function;
	sum->ref_function += s->ref_function;
	sum->content += s->content;
	sum->function += s->function;
	if (!is_whole(s))
		sum->chunks += s->chunks;
}

/* The statistics of the reference that scores best; the first of equals. */
static int score_image(struct aligner *a, const struct wl_captioned *im,
	const struct wl_meteor_params *p, const bool *function, struct stats *best, double *out,
	struct wl_err *err)
{
	size_t longest = 0;

	*out = -1;
	a->hyp = &im->hyp;
	for (size_t r = 0; r < im->n_refs; r++)
		longest = im->refs[r].n > longest ? im->refs[r].n : longest;
	WL_TRY(aligner_reserve(a, a->hyp->n, longest, err));
	find_repeats(a);
	for (size_t r = 0; r < im->n_refs; r++) {
		struct path path;
		struct stats s;
		double x;

		a->ref = &im->refs[r];
		align(a, &path);
		count(a, &path, function, &s);
		x = score(&s, p);
		if (x > *out) {
			*out = x;
			*best = s;
		}
	}
	return 0;
}

int wl_meteor(const struct wl_captioned *im, size_t n, const struct wl_meteor_params *p,
	const bool *function, double *corpus, double *per_image, struct wl_err *err)
{
	struct aligner *a = calloc(1, sizeof *a);
	struct stats sum = {0}, best = {0};
	int ret = -1;

	if (!a)
		return wl_err_nomem(err, "METEOR's aligner", sizeof *a);
	for (size_t i = 0; i < n; i++) {
		double x;

		WL_TRY_OUT(score_image(a, &im[i], p, function, &best, &x, err));
		add(&sum, &best);
		if (per_image)
			per_image[i] = x;
	}
	*corpus = score(&sum, p);
	ret = 0;
out:
	aligner_release(a);
	free(a);
	return ret;
}
