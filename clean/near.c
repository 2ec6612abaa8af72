/* See near.h. */
#include "clean/near.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNKS_MAX = 8, BLOCK = 2048 };

struct chunk {
	int shift, bits;
	uint32_t *start; /* [2^bits + 1] where a bucket begins in items */
	uint32_t *items; /* [n] indices by (bucket, index) */
};

struct block {
	struct wl_near *v;
	size_t n, cap, cut;
	bool no_memory;
};

struct index {
	const uint64_t *hashes;
	size_t n;
	int radius, m, sub; /* sub: bits that may differ in the chunk that matches */
	struct chunk chunks[CHUNKS_MAX];
	struct block *blocks;
};

static uint32_t chunk_of(const struct chunk *c, uint64_t h)
{
	return (uint32_t)(h >> c->shift) & (uint32_t)((1ull << c->bits) - 1);
}

/* Chunks of about log2(n) bits: buckets hold about one hash each then. */
static int chunk_count(size_t n)
{
	int log = 1, m;

	while (log < 63 && (size_t)1 << log < n)
		log++;
	m = (64 + log / 2) / log;
	return m < 3 ? 3 : m > CHUNKS_MAX ? CHUNKS_MAX : m;
}

static int chunk_build(struct chunk *c, const uint64_t *h, size_t n, struct wl_err *err)
{
	size_t buckets = (size_t)1 << c->bits;

	c->start = calloc(buckets + 1, sizeof(*c->start));
	c->items = malloc((n ? n : 1) * sizeof(*c->items));
	if (!c->start || !c->items)
		return wl_err_nomem(
			err, "an index of image hashes", (buckets + n) * sizeof(*c->items));
	for (size_t i = 0; i < n; i++)
		c->start[chunk_of(c, h[i]) + 1]++;
	for (size_t b = 0; b < buckets; b++)
		c->start[b + 1] += c->start[b];
	/* Filling moves each bucket's start to its end, that is one bucket on. */
	for (size_t i = 0; i < n; i++)
		c->items[c->start[chunk_of(c, h[i])]++] = (uint32_t)i;
	memmove(c->start + 1, c->start, buckets * sizeof(*c->start));
	c->start[0] = 0;
	return 0;
}

static void block_add(struct block *b, uint32_t i, uint32_t j)
{
	if (b->n == b->cap) {
		size_t cap = b->cap ? 2 * b->cap : 64;
		struct wl_near *v = realloc(b->v, cap * sizeof(*v));
		if (!v) {
			b->no_memory = true;
			return;
		}
		b->v = v;
		b->cap = cap;
	}
	b->v[b->n++] = (struct wl_near){i, j};
}

/* Whether an earlier chunk has shown this pair already. */
static bool seen_before(const struct index *x, int k, uint64_t diff)
{
	for (int e = 0; e < k; e++)
		if (__builtin_popcount(chunk_of(&x->chunks[e], diff)) <= x->sub)
			return true;
	return false;
}

static void look_in_bucket(
	const struct index *x, struct block *b, uint32_t i, int k, uint32_t bucket, size_t *found)
{
	const struct chunk *c = &x->chunks[k];

	for (uint32_t at = c->start[bucket]; at < c->start[bucket + 1]; at++) {
		uint32_t j = c->items[at];
		uint64_t diff;
		if (j <= i)
			continue;
		diff = x->hashes[i] ^ x->hashes[j];
		if (__builtin_popcountll(diff) > x->radius || seen_before(x, k, diff))
			continue;
		if ((*found)++ < WL_NEAR_MAX)
			block_add(b, i, j);
	}
}

/* Every bucket whose number differs from `value` in at most `left` bits from `from` on. */
static void look_around(const struct index *x, struct block *b, uint32_t i, int k, uint32_t value,
	int from, int left, size_t *found)
{
	look_in_bucket(x, b, i, k, value, found);
	if (!left)
		return;
	for (int bit = from; bit < x->chunks[k].bits; bit++)
		look_around(x, b, i, k, value ^ 1u << bit, bit + 1, left - 1, found);
}

static int by_pair(const void *p, const void *q)
{
	const struct wl_near *a = p, *b = q;

	if (a->a != b->a)
		return a->a < b->a ? -1 : 1;
	return (a->b > b->b) - (a->b < b->b);
}

static void search_block(void *ctx, size_t block)
{
	struct index *x = ctx;
	struct block *b = &x->blocks[block];
	size_t to = (block + 1) * BLOCK < x->n ? (block + 1) * BLOCK : x->n;

	for (size_t i = block * BLOCK; i < to && !b->no_memory; i++) {
		size_t found = 0;
		for (int k = 0; k < x->m; k++)
			look_around(x, b, (uint32_t)i, k, chunk_of(&x->chunks[k], x->hashes[i]), 0,
				x->sub, &found);
		b->cut += found > WL_NEAR_MAX;
	}
	if (b->n)
		qsort(b->v, b->n, sizeof(*b->v), by_pair);
}

static int gather(struct index *x, size_t blocks, struct wl_near_list *out, struct wl_err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < blocks; i++) {
		if (x->blocks[i].no_memory)
			return wl_err_nomem(err, "near image pairs", x->blocks[i].cap * 16);
		n += x->blocks[i].n;
	}
	out->v = malloc((n ? n : 1) * sizeof(*out->v));
	if (!out->v)
		return wl_err_nomem(err, "near image pairs", n * sizeof(*out->v));
	for (size_t i = 0; i < blocks; i++) {
		if (x->blocks[i].n)
			memcpy(out->v + out->n, x->blocks[i].v, x->blocks[i].n * sizeof(*out->v));
		out->n += x->blocks[i].n;
		out->cut += x->blocks[i].cut;
	}
	return 0;
}

int wl_near_find(const uint64_t *hashes, size_t n, int radius, struct wl_pool *pool,
	struct wl_near_list *out, struct wl_err *err)
{
	struct index x = {.hashes = hashes, .n = n, .radius = radius, .m = chunk_count(n)};
	size_t blocks = (n + BLOCK - 1) / BLOCK;
	int shift = 0, ret = -1;

	memset(out, 0, sizeof(*out));
	WL_ASSERT(radius >= 0 && radius <= WL_NEAR_RADIUS_MAX && n < UINT32_MAX);
	x.sub = radius / x.m;
	x.blocks = calloc(blocks ? blocks : 1, sizeof(*x.blocks));
	if (!x.blocks) {
		wl_err_nomem(err, "near image pairs", blocks * sizeof(*x.blocks));
		goto out;
	}
	for (int k = 0; k < x.m; k++) {
		x.chunks[k].shift = shift;
		x.chunks[k].bits = (64 - shift) / (x.m - k);
		shift += x.chunks[k].bits;
		WL_TRY_OUT(chunk_build(&x.chunks[k], hashes, n, err));
	}
	wl_pool_for(pool, blocks, search_block, &x);
	ret = gather(&x, blocks, out, err);
out:
	for (int k = 0; k < x.m; k++) {
		free(x.chunks[k].start);
		free(x.chunks[k].items);
	}
	for (size_t i = 0; x.blocks && i < blocks; i++)
		free(x.blocks[i].v);
	free(x.blocks);
	return ret;
}

void wl_near_release(struct wl_near_list *l)
{
	free(l->v);
	memset(l, 0, sizeof(*l));
}

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
