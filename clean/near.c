/* See near.h. */
#include "clean/near.h"

#include "ops/progress.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__BMI2__) || defined(__AVX512DQ__)
#include <immintrin.h>
#endif

enum {
	BLOCKS_MAX = 25,
	LINES_MAX = 30,	  /* of the largest plane */
	NEIGHBOURS = 128, /* that a hash of too large a group is compared with */
	LANES = 16,	  /* hashes compared at once */
};

/* One choice of blocks. */
struct wl_near_table {
	uint64_t mask; /* the chosen blocks' bits */
	int bits;      /* how many */
	/* In permuted hashes: what a pair that is found under an earlier choice agrees in. */
	uint64_t earlier[LINES_MAX];
	int n_earlier;
};

/* Which choices there are: any c of the blocks (plane 0), or the lines of a plane. */
struct design {
	int blocks, c, plane;
};

static uint64_t extract(uint64_t v, uint64_t mask)
{
#if defined(__BMI2__)
	return _pext_u64(v, mask);
#else
	uint64_t out = 0;
	for (int k = 0; mask; mask &= mask - 1, k++)
		out |= (uint64_t)((v & (mask & -mask)) != 0) << k;
	return out;
#endif
}

/* The chosen bits first, the others behind: a permutation, so distances stay. */
static uint64_t permute(const struct wl_near_table *t, uint64_t v)
{
	return extract(v, t->mask) << (64 - t->bits) | extract(v, ~t->mask);
}

/* Which slice of the hashes one belongs to: of its chosen bits where they stand, so that the many
 * hashes of other slices are left out before anything else is done with them. */
enum { SPREAD_FROM = 32 };
static const uint64_t SPREAD = 0xd1342543de82ef95u; /* odd; not what wl_place multiplies by */

static inline uint32_t slice_of(uint64_t chosen, uint32_t slices)
{
	return (uint32_t)((chosen * SPREAD >> SPREAD_FROM) * slices >> 32);
}

void wl_near_put(const struct wl_near_search *s, struct wl_emitter *e, uint64_t hash, uint32_t idx,
	uint32_t aux)
{
	const struct wl_pass *p = wl_emitter_pass(e);

	if (p->slices == 1 || slice_of(hash & s->table->mask, p->slices) == p->slice)
		wl_emit(e, permute(s->table, hash), idx, aux);
}

/* Bit i: hash i is of the slice. */
static uint32_t in_slice(const uint64_t *hash, size_t n, uint64_t mask, const struct wl_pass *p)
{
	uint32_t in = 0;
	size_t i = 0;

#if defined(__AVX512DQ__)
	const __m512i chosen = _mm512_set1_epi64((long long)mask);
	const __m512i spread = _mm512_set1_epi64((long long)SPREAD);
	const __m512i slices = _mm512_set1_epi64(p->slices), slice = _mm512_set1_epi64(p->slice);
	for (; i + 8 <= n; i += 8) {
		__m512i v = _mm512_and_si512(_mm512_loadu_si512(hash + i), chosen);
		v = _mm512_srli_epi64(_mm512_mullo_epi64(v, spread), SPREAD_FROM);
		v = _mm512_srli_epi64(_mm512_mul_epu32(v, slices), 32);
		in |= (uint32_t)_mm512_cmpeq_epi64_mask(v, slice) << i;
	}
#endif
	for (; i < n; i++)
		in |= (uint32_t)(slice_of(hash[i] & mask, p->slices) == p->slice) << i;
	return in;
}

void wl_near_put_row(const struct wl_near_search *s, struct wl_emitter *e, const uint64_t *hash,
	size_t n, uint32_t present, uint32_t idx)
{
	const struct wl_pass *p = wl_emitter_pass(e);

	if (p->slices > 1)
		present &= in_slice(hash, n, s->table->mask, p);
	for (; present; present &= present - 1) {
		uint32_t i = (uint32_t)__builtin_ctz(present);
		wl_emit(e, permute(s->table, hash[i]), idx, i);
	}
}

struct group_ctx {
	struct wl_near_search *s;
	atomic_uint_fast64_t cut;
};

static void consider(const struct wl_near_search *s, struct wl_values *out, const struct wl_rec *a,
	const struct wl_rec *b)
{
	uint64_t diff = a->key ^ b->key;

	if (a->idx == b->idx || (s->meet && !s->meet(a->aux, b->aux)))
		return;
	if (s->old && s->old(s->ctx, a->idx) && s->old(s->ctx, b->idx))
		return;
	for (int i = 0; i < s->table->n_earlier; i++)
		if (!(diff & s->table->earlier[i]))
			return;
	wl_values_add(out, a->idx < b->idx ? (uint64_t)a->idx << 32 | b->idx
					   : (uint64_t)b->idx << 32 | a->idx);
}

/* Compares hash i with those behind it: many at a time, for nearly none is near.  low: the last
 * 32 bits of each, which are those that may differ, or most of them; LANES more may be read. */
static void compare(const struct wl_near_search *s, struct wl_values *out, const struct wl_rec *r,
	const uint32_t *low, size_t i, size_t to)
{
	for (size_t k = i + 1; k < to; k += LANES) {
		uint32_t near = 0;
#if defined(__AVX512VPOPCNTDQ__)
		__m512i v = _mm512_xor_si512(
			_mm512_loadu_si512(low + k), _mm512_set1_epi32((int)low[i]));
		near = _mm512_cmple_epu32_mask(
			_mm512_popcnt_epi32(v), _mm512_set1_epi32(s->radius));
#else
		for (uint32_t j = 0; j < LANES; j++)
			near |= (uint32_t)(__builtin_popcount(low[k + j] ^ low[i]) <= s->radius)
				<< j;
#endif
		if (to - k < LANES)
			near &= (1u << (to - k)) - 1;
		for (; near; near &= near - 1) {
			const struct wl_rec *other = &r[k + (size_t)__builtin_ctz(near)];
			if (__builtin_popcountll(r[i].key ^ other->key) <= s->radius)
				consider(s, out, &r[i], other);
		}
	}
}

static void compare_group(void *ctx, struct wl_values *out, const struct wl_rec *r, size_t n)
{
	struct group_ctx *g = ctx;
	uint32_t low[WL_NEAR_GROUP + LANES];

	if (n <= WL_NEAR_GROUP) {
		for (size_t i = 0; i < n; i++)
			low[i] = (uint32_t)r[i].key;
		memset(low + n, 0, LANES * sizeof(*low));
		for (size_t i = 0; i + 1 < n; i++)
			compare(g->s, out, r, low, i, n);
		return;
	}
	/* Sorted: equal hashes stand side by side, and near ones often do. */
	atomic_fetch_add(&g->cut, n);
	for (size_t from = 0; from < n; from += WL_NEAR_GROUP - NEIGHBOURS) {
		const struct wl_rec *part = r + from;
		size_t m = n - from < WL_NEAR_GROUP ? n - from : WL_NEAR_GROUP;
		for (size_t i = 0; i < m; i++)
			low[i] = (uint32_t)part[i].key;
		memset(low + m, 0, LANES * sizeof(*low));
		for (size_t i = 0; i < m && i < WL_NEAR_GROUP - NEIGHBOURS; i++)
			compare(g->s, out, part, low, i,
				i + 1 + NEIGHBOURS < m ? i + 1 + NEIGHBOURS : m);
	}
}

static int emit_all(void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *err)
{
	struct group_ctx *g = ctx;

	return g->s->each(g->s->ctx, e, part, parts, err);
}

static int take_pairs(void *ctx, const uint64_t *v, size_t n, struct wl_err *err)
{
	struct group_ctx *g = ctx;

	return g->s->take(g->s->ctx, v, n, err);
}

/* ---- which blocks ---- */

static double choose(int n, int k)
{
	double c = 1;

	for (int i = 0; i < k; i++)
		c = c * (n - i) / (i + 1);
	return c;
}

static int choices(const struct design *d)
{
	return d->plane ? d->plane * (d->plane + 1) : (int)choose(d->blocks, d->c);
}

/* The design by which bringing together for every choice and comparing within the groups cost
 * least: about 20 ns to bring a record to its group, and so much to compare two. */
static struct design design_for(int radius, double n)
{
#if defined(__AVX512VPOPCNTDQ__)
	const double each = .08;
#else
	const double each = .5;
#endif
	const double room = WL_NEAR_GROUP / 8; /* groups of real pictures are not even */
	struct design best = {radius + 1, 1, 0};
	double least = INFINITY;

	for (int k = -3; k <= 5; k++) {
		int q = 2 - k; /* 5, 4, 3 */
		struct design d =
			k > 0 ? (struct design){radius + k, k, 0} : (struct design){q * q, q, q};
		double group = n / exp2(64.0 * d.c / d.blocks), cost;
		if (k == 0 || d.blocks > BLOCKS_MAX || (d.plane && radius > 2 * d.plane - 2))
			continue;
		cost = choices(&d) * (20 + each * group / 2) * (1 + group / room);
		if (cost < least) {
			least = cost;
			best = d;
		}
	}
	return best;
}

static uint64_t block_mask(int blocks, int i)
{
	int from = 64 * i / blocks, to = 64 * (i + 1) / blocks;

	return (to - from == 64 ? ~0ull : (1ull << (to - from)) - 1) << from;
}

/* The field of q elements: addition and multiplication modulo q, of polynomials for 4. */
static int field_add(int q, int a, int b)
{
	return q == 4 ? a ^ b : (a + b) % q;
}

static int field_times(int q, int a, int b)
{
	static const int four[4][4] = {{0, 0, 0, 0}, {0, 1, 2, 3}, {0, 2, 3, 1}, {0, 3, 1, 2}};

	return q == 4 ? four[a][b] : a * b % q;
}

/* Bits of the blocks on a line: q slopes of q lines y = slope x + at, then the lines x = at. */
static uint64_t line_mask(int q, int line)
{
	int slope = line / q, at = line % q;
	uint64_t mask = 0;

	for (int x = 0; x < q; x++) {
		int y = slope < q ? field_add(q, field_times(q, slope, x), at) : x;
		mask |= block_mask(q * q, (slope < q ? x : at) * q + y);
	}
	return mask;
}

static void table_of_line(struct wl_near_table *t, int q, int line)
{
	memset(t, 0, sizeof(*t));
	t->mask = line_mask(q, line);
	t->bits = __builtin_popcountll(t->mask);
	for (int i = 0; i < line; i++)
		t->earlier[t->n_earlier++] = permute(t, line_mask(q, i));
}

/* A pair that agrees in one of the blocks not chosen that come before the last one chosen is
 * found under an earlier choice. */
static void table_of_blocks(struct wl_near_table *t, const int *chosen, int c, int blocks)
{
	memset(t, 0, sizeof(*t));
	for (int i = 0; i < c; i++)
		t->mask |= block_mask(blocks, chosen[i]);
	t->bits = __builtin_popcountll(t->mask);
	for (int b = 0; b < chosen[c - 1]; b++)
		if (!(t->mask & block_mask(blocks, b)))
			t->earlier[t->n_earlier++] = permute(t, block_mask(blocks, b));
}

/* The next choice in lexicographic order. */
static void next_choice(int *chosen, int c, int blocks)
{
	int i = c - 1;

	while (i >= 0 && chosen[i] == blocks - c + i)
		i--;
	if (i < 0)
		return;
	chosen[i]++;
	for (int k = i + 1; k < c; k++)
		chosen[k] = chosen[k - 1] + 1;
}

int wl_near_run(struct wl_near_search *s, struct wl_comm *comm, struct wl_pool *pool, size_t memory,
	struct wl_err *err)
{
	uint64_t n = s->records;
	struct wl_near_table *t = malloc(sizeof *t);
	int chosen[BLOCKS_MAX], rc = 0;
	struct design d;
	struct group_ctx g = {.s = s};
	struct wl_progress *progress = NULL;
	struct wl_bygroup job = {.what = s->what,
		.records = s->records,
		.emit = emit_all,
		.sliced = true,
		.group = compare_group,
		.sort_from = WL_NEAR_GROUP + 1,
		.take = take_pairs,
		.ctx = &g};

	WL_ASSERT(s->radius >= 0 && s->radius <= WL_NEAR_RADIUS_MAX);
	if (!t)
		return wl_err_nomem(err, "a search of hashes", sizeof *t);
	rc = wl_comm_all_reduce(comm, &n, 1, WL_COMM_U64, WL_COMM_SUM, err);
	d = design_for(s->radius, (double)n);
	for (int i = 0; i < d.c; i++)
		chosen[i] = i;
	s->table = t;
	if (wl_comm_rank(comm) == 0)
		progress = wl_progress_new(s->what, "choices", (uint64_t)choices(&d));
	for (int i = 0; rc == 0 && i < choices(&d); i++) {
		if (d.plane) {
			table_of_line(t, d.plane, i);
		} else {
			table_of_blocks(t, chosen, d.c, d.blocks);
			next_choice(chosen, d.c, d.blocks);
		}
		job.bits = t->bits;
		rc = wl_bygroup(&job, comm, pool, memory, err);
		wl_progress_add(progress, rc == 0);
	}
	wl_progress_free(progress);
	s->table = NULL;
	free(t);
	s->cut = atomic_load(&g.cut);
	return rc;
}

/* ---- sets ---- */

void wl_sets_init(uint32_t *parent, size_t n)
{
	for (size_t i = 0; i < n; i++)
		parent[i] = (uint32_t)i;
}

uint32_t wl_sets_root(uint32_t *parent, uint32_t i)
{
	while (parent[i] != i) {
		parent[i] = parent[parent[i]]; /* halving: as good as full compression */
		i = parent[i];
	}
	return i;
}

void wl_sets_join(uint32_t *parent, uint32_t a, uint32_t b)
{
	a = wl_sets_root(parent, a);
	b = wl_sets_root(parent, b);
	if (a < b)
		parent[b] = a;
	else
		parent[a] = b;
}
