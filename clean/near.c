/* See near.h. */
#include "clean/near.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__BMI2__)
#include <immintrin.h>
#endif

enum {
	BLOCKS_MAX = 24,
	NEIGHBOURS = 128, /* that a hash of too large a group is compared with */
};

/* One choice of blocks. */
struct wl_near_table {
	uint64_t mask; /* the chosen blocks' bits */
	int bits;      /* how many */
	/* In permuted hashes: the blocks not chosen that come before the last one chosen.  A pair
	 * that agrees in one of them is found under an earlier choice. */
	uint64_t earlier[BLOCKS_MAX];
	int n_earlier;
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

void wl_near_put(const struct wl_near_search *s, struct wl_emitter *e, uint64_t hash, uint32_t idx,
	uint32_t aux)
{
	wl_emit(e, permute(s->table, hash), idx, aux);
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

/* Compares key with those of r[from .. to): eight at a time, for nearly none is near. */
static void compare(const struct wl_near_search *s, struct wl_values *out, const struct wl_rec *r,
	const uint64_t *keys, size_t i, size_t to)
{
	enum { STEP = 8 };
	uint64_t key = keys[i];
	size_t k = i + 1;

	for (; k + STEP <= to; k += STEP) {
		int near = 0;
		for (int j = 0; j < STEP; j++)
			near += __builtin_popcountll(keys[k + j] ^ key) <= s->radius;
		for (int j = 0; near && j < STEP; j++)
			if (__builtin_popcountll(keys[k + j] ^ key) <= s->radius)
				consider(s, out, &r[i], &r[k + j]);
	}
	for (; k < to; k++)
		if (__builtin_popcountll(keys[k] ^ key) <= s->radius)
			consider(s, out, &r[i], &r[k]);
}

static void compare_group(void *ctx, struct wl_values *out, const struct wl_rec *r, size_t n)
{
	struct group_ctx *g = ctx;
	uint64_t keys[WL_NEAR_GROUP];

	if (n <= WL_NEAR_GROUP) {
		for (size_t i = 0; i < n; i++)
			keys[i] = r[i].key;
		for (size_t i = 0; i + 1 < n; i++)
			compare(g->s, out, r, keys, i, n);
		return;
	}
	/* Sorted: equal hashes stand side by side, and near ones often do. */
	atomic_fetch_add(&g->cut, n);
	for (size_t from = 0; from < n; from += WL_NEAR_GROUP - NEIGHBOURS) {
		const struct wl_rec *part = r + from;
		size_t m = n - from < WL_NEAR_GROUP ? n - from : WL_NEAR_GROUP;
		for (size_t i = 0; i < m; i++)
			keys[i] = part[i].key;
		for (size_t i = 0; i < m && i < WL_NEAR_GROUP - NEIGHBOURS; i++)
			compare(g->s, out, part, keys, i,
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

/* How many blocks must agree, so that sorting for every choice and comparing within the groups
 * cost least: about 20 ns to bring a record to its group, 0.3 to compare two. */
static int blocks_agreeing(int radius, double n)
{
	double best = INFINITY;
	int c = 1;

	for (int k = 1; k <= 5 && radius + k <= BLOCKS_MAX; k++) {
		double bits = 64.0 * k / (radius + k);
		double cost = choose(radius + k, k) * n * (20 + .3 * n / exp2(bits + 1));
		if (cost < best) {
			best = cost;
			c = k;
		}
	}
	return c;
}

static uint64_t block_mask(int blocks, int i)
{
	int from = 64 * i / blocks, to = 64 * (i + 1) / blocks;

	return (to - from == 64 ? ~0ull : (1ull << (to - from)) - 1) << from;
}

static void table_make(struct wl_near_table *t, const int *chosen, int c, int blocks)
{
	memset(t, 0, sizeof(*t));
	for (int i = 0; i < c; i++)
		t->mask |= block_mask(blocks, chosen[i]);
	t->bits = __builtin_popcountll(t->mask);
	for (int b = 0; b < chosen[c - 1]; b++)
		if (!(t->mask & block_mask(blocks, b)))
			t->earlier[t->n_earlier++] = permute(t, block_mask(blocks, b));
}

/* The next choice in lexicographic order; false after the last. */
static bool next_choice(int *chosen, int c, int blocks)
{
	int i = c - 1;

	while (i >= 0 && chosen[i] == blocks - c + i)
		i--;
	if (i < 0)
		return false;
	chosen[i]++;
	for (int k = i + 1; k < c; k++)
		chosen[k] = chosen[k - 1] + 1;
	return true;
}

int wl_near_run(struct wl_near_search *s, struct wl_comm *comm, struct wl_pool *pool, size_t memory,
	struct wl_err *err)
{
	uint64_t n = s->records;
	int chosen[BLOCKS_MAX], c, blocks;
	struct wl_near_table *t = malloc(sizeof *t);
	int rc = 0;
	struct group_ctx g = {.s = s};
	struct wl_bygroup job = {.what = "image hashes",
		.records = s->records,
		.emit = emit_all,
		.group = compare_group,
		.sort_from = WL_NEAR_GROUP + 1,
		.take = take_pairs,
		.ctx = &g};

	WL_ASSERT(s->radius >= 0 && s->radius <= WL_NEAR_RADIUS_MAX);
	if (!t)
		return wl_err_nomem(err, "a search of hashes", sizeof *t);
	rc = wl_comm_all_reduce(comm, &n, 1, WL_COMM_U64, WL_COMM_SUM, err);
	c = blocks_agreeing(s->radius, (double)n);
	blocks = s->radius + c;
	for (int i = 0; i < c; i++)
		chosen[i] = i;
	s->table = t;
	do {
		table_make(t, chosen, c, blocks);
		job.bits = t->bits;
		if (rc == 0)
			rc = wl_bygroup(&job, comm, pool, memory, err);
	} while (rc == 0 && next_choice(chosen, c, blocks));
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
