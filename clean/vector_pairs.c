/* See vector_pairs.h. */
#include "clean/vector_pairs.h"

#include "clean/near.h"
#include "clean/rows.h"
#include "clean/sketch.h"
#include "ops/progress.h"
#include "ops/score.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	TILE = 288,   /* rows: a multiple of all register tiles of ops/score */
	LEFTS = 4,    /* tiles that a tile on the right is loaded for */
	BATCH = 4096, /* rows sketched at a time */
	BLOCK = 64,   /* of rows, or of candidates, for a thread at a time */
};
static const double SLACK = 1e-9; /* of cosines: that of two equal rows may be a bit below 1 */

bool wl_vector_search_affordable(uint64_t n, int64_t dim)
{
	return (double)n * (double)n / 2 * (double)dim <= 0x1p42;
}

static bool both_old(const struct wl_vector_search *s, uint32_t a, uint32_t b)
{
	return s->old && s->old(s->ctx, a) && s->old(s->ctx, b);
}

/* a, b [dim] are filled with the two rows. */
static double cosine_of(
	const struct wl_vector_search *s, uint32_t i, uint32_t k, float *a, float *b)
{
	wl_pair_vectors_row(s->v, s->row[i], a);
	wl_pair_vectors_row(s->v, s->row[k], b);
	return wl_cosine(a, b, wl_pair_vectors_dim(s->v));
}

/* ---- exact ---- */

/* What a thread works with. */
struct worker {
	float *rows, *packed; /* [TILE, dim] of the right side */
	float *c;	      /* [TILE, TILE] */
	float *a, *b;	      /* [dim] */
	struct wl_values edges;
};

struct tiles {
	struct wl_vector_search *s;
	struct worker *w;
	size_t workers, blocks, left; /* the first of the blocks on the left */
	float *rows, *packed;	      /* [TILE, dim]; [LEFTS, TILE, dim] of the left side */
	bool *old;		      /* [blocks] all rows of it are */
	atomic_size_t next;	      /* block of the right side */
};

static size_t rows_of(const struct wl_vector_search *s, size_t block)
{
	return s->n - block * TILE < TILE ? s->n - block * TILE : TILE;
}

static void load_block(
	const struct wl_vector_search *s, size_t block, int64_t width, float *rows, float *packed)
{
	int64_t dim = wl_pair_vectors_dim(s->v);
	size_t n = rows_of(s, block);

	for (size_t i = 0; i < n; i++)
		wl_pair_vectors_unit(
			s->v, s->row[s->idx[block * TILE + i]], rows + i * (size_t)dim);
	memset(packed, 0, TILE * (size_t)dim * sizeof(*packed));
	wl_score_pack(rows, (int64_t)n, dim, width, packed);
}

/* Products below this cannot be of a pair that is wanted: rounding of n products and sums, and of
 * the two rows to unit length. */
static float lowest(const struct wl_vector_search *s)
{
	return (float)(s->cosine - 1e-6 - (double)wl_pair_vectors_dim(s->v) * 0x1p-23);
}

static void look_through(
	const struct wl_vector_search *s, struct worker *w, size_t left, size_t right)
{
	const float least = lowest(s);
	size_t m = rows_of(s, left), n = rows_of(s, right);

	for (size_t i = 0; i < m; i++) {
		uint32_t a = s->idx[left * TILE + i];
		for (size_t k = right == left ? i + 1 : 0; k < n; k++) {
			uint32_t b;
			if (w->c[i * TILE + k] < least)
				continue;
			b = s->idx[right * TILE + k];
			if (both_old(s, a, b))
				continue;
			if (cosine_of(s, a, b, w->a, w->b) >= s->cosine - SLACK)
				wl_values_add(&w->edges, (uint64_t)a << 32 | b);
		}
	}
}

static void work(void *ctx, size_t i)
{
	struct tiles *t = ctx;
	struct worker *w = &t->w[i];
	int64_t dim = wl_pair_vectors_dim(t->s->v);
	size_t right;

	while ((right = atomic_fetch_add(&t->next, 1)) < t->blocks) {
		bool loaded = false;
		for (size_t k = 0; k < LEFTS && t->left + k <= right; k++) {
			if (t->old[t->left + k] && t->old[right])
				continue;
			if (!loaded)
				load_block(t->s, right, wl_score_nr(), w->rows, w->packed);
			loaded = true;
			wl_score_tile(t->packed + k * TILE * (size_t)dim, w->packed, TILE, TILE,
				dim, w->c, TILE);
			look_through(t->s, w, t->left + k, right);
		}
	}
}

static void load_lefts(struct tiles *t)
{
	size_t side = TILE * (size_t)wl_pair_vectors_dim(t->s->v);

	for (size_t k = 0; k < LEFTS && t->left + k < t->blocks; k++)
		load_block(t->s, t->left + k, wl_score_mr(), t->rows, t->packed + k * side);
}

static void tiles_release(struct tiles *t)
{
	for (size_t i = 0; t->w && i < t->workers; i++) {
		free(t->w[i].rows);
		free(t->w[i].packed);
		free(t->w[i].c);
		free(t->w[i].a);
		free(t->w[i].b);
		wl_values_release(&t->w[i].edges);
	}
	free(t->w);
	free(t->rows);
	free(t->packed);
	free(t->old);
}

static int tiles_init(struct tiles *t, struct wl_vector_search *s, struct wl_pool *pool,
	struct wl_err *err)
{
	size_t dim = (size_t)wl_pair_vectors_dim(s->v), side = TILE * dim * sizeof(float);
	bool whole;

	memset(t, 0, sizeof(*t));
	t->s = s;
	t->workers = wl_pool_threads(pool);
	t->blocks = (s->n + TILE - 1) / TILE;
	t->w = calloc(t->workers, sizeof(*t->w));
	t->rows = malloc(side);
	t->packed = malloc(LEFTS * side);
	t->old = calloc(t->blocks + 1, sizeof(*t->old));
	whole = t->w && t->rows && t->packed && t->old;
	for (size_t i = 0; whole && i < t->workers; i++) {
		struct worker *w = &t->w[i];
		w->rows = malloc(side);
		w->packed = malloc(side);
		w->c = malloc(TILE * TILE * sizeof(float));
		w->a = malloc(dim * sizeof(float));
		w->b = malloc(dim * sizeof(float));
		whole = w->rows && w->packed && w->c && w->a && w->b;
	}
	if (!whole)
		return wl_err_nomem(err, "tiles of embeddings", 2 * side * (t->workers + 3));
	for (size_t b = 0; b < t->blocks; b++) {
		t->old[b] = s->old != NULL;
		for (size_t i = 0; i < rows_of(s, b) && t->old[b]; i++)
			t->old[b] = s->old(s->ctx, s->idx[b * TILE + i]);
	}
	return 0;
}

static int take_edges(struct tiles *t, struct wl_err *err)
{
	for (size_t i = 0; i < t->workers; i++) {
		struct wl_values *e = &t->w[i].edges;
		for (size_t k = 0; k < e->n; k++)
			wl_values_add(t->s->edges, e->v[k]);
		if (e->no_memory || t->s->edges->no_memory)
			return wl_err_nomem(err, "pairs that are alike", e->cap * sizeof(*e->v));
		e->n = 0;
	}
	return 0;
}

static int run_exact(struct wl_vector_search *s, struct wl_comm *comm, struct wl_pool *pool,
	struct wl_err *err)
{
	size_t ranks = (size_t)wl_comm_size(comm), steps, done;
	struct wl_progress *progress = NULL;
	struct tiles t;
	int ret = -1;

	WL_TRY_OUT(tiles_init(&t, s, pool, err));
	steps = (t.blocks + LEFTS * ranks - 1) / (LEFTS * ranks);
	if (wl_comm_rank(comm) == 0)
		progress = wl_progress_new(s->what, "rows", s->n);
	for (size_t k = 0; k < steps; k++) {
		WL_TRY_OUT(wl_bygroup_go_on(s->what, comm, err));
		t.left = (k * ranks + (size_t)wl_comm_rank(comm)) * LEFTS;
		if (t.left < t.blocks) {
			load_lefts(&t);
			atomic_store(&t.next, t.left);
			wl_pool_for(pool, t.workers, work, &t);
			WL_TRY_OUT(take_edges(&t, err));
		}
		done = (k + 1) * ranks * LEFTS * TILE;
		wl_progress_set(progress, done < s->n ? done : s->n, NULL);
	}
	ret = 0;
out:
	wl_progress_free(progress);
	tiles_release(&t);
	return ret;
}

/* ---- near ---- */

struct hashing {
	struct wl_vector_search *s;
	struct wl_near_search near;
	struct wl_sketch sketch;
	struct wl_rows hash[WL_SKETCH_HASHES_MAX]; /* of idx[from, to) */
	size_t from, to;			   /* this rank's */
	int now;				   /* which hash is searched by */
	struct wl_values waiting;		   /* candidates */
	size_t waiting_max;
	struct wl_pool *pool;
	atomic_bool no_memory;
	size_t at, n;	/* a batch of rows, or of candidates */
	uint64_t *out;	/* [BATCH, hashes] */
	double *cosine; /* of candidates */
};

static void sketch_block(void *ctx, size_t block)
{
	struct hashing *h = ctx;
	size_t to = (block + 1) * BLOCK < h->n ? (block + 1) * BLOCK : h->n;
	float *v = malloc((size_t)(h->sketch.dim + h->sketch.padded) * sizeof(*v));

	if (!v)
		h->no_memory = true;
	for (size_t i = block * BLOCK; v && i < to; i++) {
		wl_pair_vectors_unit(h->s->v, h->s->row[h->s->idx[h->at + i]], v);
		wl_sketch_make(&h->sketch, v, v + h->sketch.dim,
			h->out + i * (size_t)h->sketch.hashes);
	}
	free(v);
}

static int keep_hashes(struct hashing *h, struct wl_err *err)
{
	size_t hashes = (size_t)h->sketch.hashes;

	for (size_t k = 0; k < hashes; k++)
		for (size_t i = 0; i < h->n; i++)
			WL_TRY(wl_rows_add(&h->hash[k], &h->out[i * hashes + k], err));
	return 0;
}

static int sketch_all(struct hashing *h, struct wl_comm *comm, struct wl_err *err)
{
	size_t bytes = BATCH * (size_t)h->sketch.hashes * sizeof(*h->out), steps;
	size_t all = (size_t)wl_comm_size(comm);
	struct wl_progress *progress = NULL;
	int ret = -1;

	h->out = malloc(bytes);
	if (!h->out)
		return wl_err_nomem(err, "hashes of embeddings", bytes);
	if (wl_comm_rank(comm) == 0)
		progress = wl_progress_new("hashes of embeddings", "rows", h->to - h->from);
	steps = (h->s->n / all + 1 + BATCH - 1) / BATCH; /* as many on every rank */
	h->at = h->from;
	for (size_t k = 0; k < steps; k++, h->at += h->n) {
		WL_TRY_OUT(wl_bygroup_go_on(h->s->what, comm, err));
		h->n = h->to - h->at < BATCH ? h->to - h->at : BATCH;
		wl_pool_for(h->pool, (h->n + BLOCK - 1) / BLOCK, sketch_block, h);
		if (h->no_memory) {
			wl_err_nomem(err, "an embedding", (size_t)h->sketch.padded * 8);
			goto out;
		}
		WL_TRY_OUT(keep_hashes(h, err));
		wl_progress_add(progress, h->n);
	}
	ret = 0;
out:
	wl_progress_free(progress);
	free(h->out);
	h->out = NULL;
	return ret;
}

static int each_hash(void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *err)
{
	struct hashing *h = ctx;
	size_t n = h->to - h->from, from = n * part / parts, to = n * (part + 1) / parts;
	uint64_t room[BATCH / 8];

	for (; from < to; from += BATCH / 8) {
		size_t m = to - from < BATCH / 8 ? to - from : BATCH / 8;
		const void *at;
		const uint64_t *v;
		WL_TRY(wl_rows_read(&h->hash[h->now], from, m, room, &at, err));
		v = at;
		for (size_t i = 0; i < m; i++)
			wl_near_put(&h->near, e, v[i], h->s->idx[h->from + from + i], 0);
	}
	return 0;
}

static void compare_block(void *ctx, size_t block)
{
	struct hashing *h = ctx;
	size_t to = (block + 1) * BLOCK < h->n ? (block + 1) * BLOCK : h->n;
	size_t dim = (size_t)h->sketch.dim;
	float *a = malloc(2 * dim * sizeof(*a));

	if (!a)
		h->no_memory = true;
	for (size_t i = block * BLOCK; a && i < to; i++) {
		uint64_t pair = h->waiting.v[h->at + i];
		h->cosine[i] = cosine_of(h->s, (uint32_t)(pair >> 32), (uint32_t)pair, a, a + dim);
	}
	free(a);
}

/* Candidates to edges; this rank alone. */
static int compare_waiting(struct hashing *h, struct wl_err *err)
{
	struct wl_vector_search *s = h->s;

	wl_values_unique(&h->waiting);
	for (h->at = 0; h->at < h->waiting.n; h->at += BATCH) {
		h->n = h->waiting.n - h->at < BATCH ? h->waiting.n - h->at : BATCH;
		wl_pool_for(h->pool, (h->n + BLOCK - 1) / BLOCK, compare_block, h);
		if (h->no_memory)
			return wl_err_nomem(err, "two embeddings", (size_t)h->sketch.dim * 8);
		for (size_t i = 0; i < h->n; i++)
			if (h->cosine[i] >= s->cosine - SLACK)
				wl_values_add(s->edges, h->waiting.v[h->at + i]);
		if (s->edges->no_memory)
			return wl_err_nomem(err, "pairs that are alike", s->edges->cap * 8);
	}
	s->candidates += h->waiting.n;
	h->waiting.n = 0;
	return 0;
}

/* The same pair is often found by several hashes; so they wait as long as memory lasts. */
static int take_candidates(void *ctx, const uint64_t *v, size_t n, struct wl_err *err)
{
	struct hashing *h = ctx;

	for (size_t i = 0; i < n; i++)
		wl_values_add(&h->waiting, v[i]);
	if (h->waiting.no_memory)
		return wl_err_nomem(err, "pairs to compare", h->waiting.cap * sizeof(*v));
	if (h->waiting.n > h->waiting_max)
		wl_values_unique(&h->waiting);
	return 0;
}

static bool is_old(void *ctx, uint32_t idx)
{
	const struct wl_vector_search *s = ((struct hashing *)ctx)->s;

	return s->old && s->old(s->ctx, idx);
}

static int search_all(struct hashing *h, struct wl_comm *comm, size_t memory, struct wl_err *err)
{
	for (h->now = 0; h->now < h->sketch.hashes; h->now++) {
		h->near = (struct wl_near_search){.what = h->s->what,
			.radius = h->sketch.radius,
			.records = h->to - h->from,
			.each = each_hash,
			.old = is_old,
			.take = take_candidates,
			.ctx = h};
		WL_TRY(wl_near_run(&h->near, comm, h->pool, memory, err));
		h->s->cut += h->near.cut;
		if (h->waiting.n > h->waiting_max)
			WL_TRY(compare_waiting(h, err));
	}
	return compare_waiting(h, err);
}

static int run_near(struct wl_vector_search *s, struct wl_comm *comm, struct wl_pool *pool,
	size_t memory, struct wl_err *err)
{
	size_t ranks = (size_t)wl_comm_size(comm), rank = (size_t)wl_comm_rank(comm);
	struct hashing *h = calloc(1, sizeof(*h));
	int ret = -1;

	if (!h)
		return wl_err_nomem(err, "a search of embeddings", sizeof(*h));
	h->s = s;
	h->pool = pool;
	h->from = s->n * rank / ranks;
	h->to = s->n * (rank + 1) / ranks;
	h->waiting_max = memory / 4 / sizeof(uint64_t);
	for (int k = 0; k < WL_SKETCH_HASHES_MAX; k++)
		wl_rows_init(&h->hash[k], sizeof(uint64_t), 0, s->dir);
	WL_TRY_OUT(wl_sketch_init(&h->sketch, s->cosine, wl_pair_vectors_dim(s->v), err));
	for (int k = 0; k < h->sketch.hashes; k++)
		h->hash[k].memory = memory / 4 / (size_t)h->sketch.hashes;
	h->cosine = malloc(BATCH * sizeof(*h->cosine));
	if (!h->cosine) {
		wl_err_nomem(err, "a search of embeddings", BATCH * sizeof(*h->cosine));
		goto out;
	}
	WL_TRY_OUT(sketch_all(h, comm, err));
	ret = search_all(h, comm, memory / 2, err);
out:
	for (int k = 0; k < WL_SKETCH_HASHES_MAX; k++)
		wl_rows_release(&h->hash[k]);
	wl_sketch_release(&h->sketch);
	wl_values_release(&h->waiting);
	free(h->cosine);
	free(h);
	return ret;
}

int wl_vector_search_run(struct wl_vector_search *s, struct wl_comm *comm, struct wl_pool *pool,
	size_t memory, struct wl_err *err)
{
	s->cut = s->candidates = 0;
	return s->exact ? run_exact(s, comm, pool, err) : run_near(s, comm, pool, memory, err);
}

int wl_vector_search_estimate(const struct wl_vector_search *s, const struct wl_values *edges,
	size_t from, size_t to, double *sum, struct wl_err *err)
{
	int64_t dim = wl_pair_vectors_dim(s->v);
	float *a = malloc(2 * (size_t)dim * sizeof(*a));
	struct wl_sketch k;
	int ret;

	*sum = 0;
	if (!a)
		return wl_err_nomem(err, "two embeddings", 2 * (size_t)dim * sizeof(*a));
	ret = wl_sketch_init(&k, s->cosine, dim, err);
	for (size_t i = from; i < to && ret == 0; i++) {
		uint64_t pair = edges->v[i];
		*sum += 1 / wl_sketch_chance(&k,
				cosine_of(s, (uint32_t)(pair >> 32), (uint32_t)pair, a, a + dim));
	}
	wl_sketch_release(&k);
	free(a);
	return ret;
}
