/*
 * The logits of a block of infonce.cu: ROWS queries times COLS negatives, in shared memory, of bf16
 * on tensor cores or of f32; and which of them count.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_INFONCE_H
#define WL_TRAIN_BACKEND_CUDA_INFONCE_H

#include "train/backend/cuda/image.h"
#include "train/backend/cuda/tile.h"
#include "train/backend/negatives.h"

enum {
	ROWS = 128, COLS = 64, /* queries and negatives of a block */
	HALF_WIDTH = 64,       /* numbers of a row that are staged at once, in bf16 */
	FLOAT_WIDTH = 16,      /* the same in f32, turned: [number][row] */
	LD_HALF = HALF_WIDTH + 8,
	LD_ROWS = ROWS + 4,
	LD_COLS = COLS + 4,
	LD_LOGITS = COLS + 4,
	WARPS = CUDA_THREADS / WARP,
	THREAD_ROWS = 8, THREAD_COLS = 4, /* of a thread, in f32 */
	STAGED = ROWS * LD_LOGITS * 4,	  /* bytes: the logits, and before them what is staged */
	PARTS = 3,			  /* of a row and a block: largest, sum, extra */
};
#ifdef WL_CUDA_EMULATED
enum { BLOCKS_AT_ONCE = 3 };
#else
enum { BLOCKS_AT_ONCE = 264 }; /* two for each of 132 multiprocessors */
#endif

struct nce {
	int64_t b, d, keys, neg; /* N; columns of logits: K, and the keys with in_batch */
	struct wl_negatives who;
	int64_t row_tiles, queue_tiles, tiles; /* of queries; of the queue's columns, of all */
	const float *query, *key, *log_scale;
	struct cuda_act queue; /* f32 or bf16 */
	bool half, wide; /* products of bf16; rows are eight numbers at a time */
	/* Scratch. */
	uint16_t *query_half; /* [B, D] where half */
	float *parts;	      /* [B, PARTS, tiles] */
	double *row_sum, *row_extra; /* [B] */
	/* Backward, of a block of columns: slopes [B, ld], and where they are of another type their
	 * negatives [columns, D] in the slopes' own. */
	struct cuda_act slopes, kept;
	int64_t ld, at_once; /* at_once: tiles of columns in a block */
};

/* --- a block's logits --- */

static inline __host__ __device__ int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* A block's queries and negatives; a tile of columns lies in the queue or in the keys. */
struct spot {
	int64_t tile, b0, j0;
	int rows, cols;
	const float *query; /* their first rows */
	struct cuda_act negative;
};

/* Row i of rows of d numbers, and on. */
static inline __host__ __device__ struct cuda_act rows_from(struct cuda_act a, int64_t i, int64_t d)
{
	if (a.p)
		a.p = (char *)a.p + i * d * (is_half(a.type) ? 2 : 4);
	return a;
}

static __device__ inline struct spot spot_at(const struct nce *v, int64_t tile, int64_t row_tile)
{
	struct spot s;
	int64_t end;

	s.tile = tile;
	s.b0 = row_tile * ROWS;
	s.j0 = s.tile < v->queue_tiles ? s.tile * COLS
				       : v->who.k + (s.tile - v->queue_tiles) * COLS;
	end = s.tile < v->queue_tiles ? v->who.k : v->neg;
	s.rows = (int)least(ROWS, v->b - s.b0);
	s.cols = (int)least(COLS, end - s.j0);
	s.query = v->query + s.b0 * v->d;
	s.negative = v->queue;
	if (s.j0 >= v->who.k) {
		s.negative.p = (void *)v->key;
		s.negative.type = WL_F32;
	}
	s.negative = rows_from(s.negative, s.j0 < v->who.k ? s.j0 : s.j0 - v->who.k, v->d);
	return s;
}

static __device__ inline struct spot spot_of(const struct nce *v, int64_t first_tile)
{
	return spot_at(v, first_tile + blockIdx.x / v->row_tiles, blockIdx.x % v->row_tiles);
}

/* Numbers t..t+7 of row r, 0 beyond the last row and number. */
CUDA_INLINE void take8(
	const struct nce *v, struct cuda_act from, int r, int rows, int64_t t, float to[8])
{
	int64_t i = r * v->d + t;

	if (r < rows && v->wide && t < v->d) {
		act_load8(from, i, to);
		return;
	}
	CUDA_UNROLL
	for (int k = 0; k < 8; k++)
		to[k] = r < rows && t + k < v->d ? act_load(from, i + k) : 0.0f;
}

enum {
	HALF_GROUPS = HALF_WIDTH / 8,
	HALF_QUERIES = ROWS * HALF_GROUPS / CUDA_THREADS,
	HALF_NEGATIVES = COLS * HALF_GROUPS / CUDA_THREADS,
	FLOAT_GROUPS = FLOAT_WIDTH / 8
};

/* A thread's share of what is staged next, on its way while the last is multiplied. */
struct ahead {
	uint4 query[HALF_QUERIES]; /* eight bf16 each */
	float negative[HALF_NEGATIVES][8];
};

/* take8's numbers of bf16 as they lie. */
CUDA_INLINE uint4 take8_raw(const struct nce *v, struct cuda_act from, int r, int rows, int64_t t)
{
	struct cuda_act to;
	float f[8];
	uint4 u;

	if (r < rows && v->wide && t < v->d)
		return *(const uint4 *)((const uint16_t *)from.p + r * v->d + t);
	take8(v, from, r, rows, t, f);
	to.p = &u;
	to.type = WL_BF16;
	act_store8(to, 0, f);
	return u;
}

CUDA_INLINE void fetch_half(
	const struct nce *v, const struct spot *s, int64_t t0, struct ahead *a)
{
	struct cuda_act q = {v->query_half + s->b0 * v->d, WL_BF16};

	CUDA_UNROLL
	for (int i = 0; i < HALF_QUERIES; i++) {
		int u = (int)threadIdx.x + i * CUDA_THREADS;

		a->query[i] = take8_raw(
			v, q, u / HALF_GROUPS, s->rows, t0 + u % HALF_GROUPS * 8);
	}
	CUDA_UNROLL
	for (int i = 0; i < HALF_NEGATIVES; i++) {
		int u = (int)threadIdx.x + i * CUDA_THREADS;

		take8(v, s->negative, u / HALF_GROUPS, s->cols, t0 + u % HALF_GROUPS * 8,
			a->negative[i]);
	}
}

/* Eight numbers of a negative in the slopes' type, for the gradient of the queries. */
CUDA_INLINE void keep8(const struct nce *v, const struct spot *s, int r, int64_t t,
	const float f[8], int64_t first_tile)
{
	struct cuda_act to = v->kept;
	int64_t i = ((s->tile - first_tile) * COLS + r) * v->d + t;

	if (r >= s->cols || t >= v->d)
		return;
	if (v->wide) {
		act_store8(to, i, f);
		return;
	}
	for (int k = 0; k < 8 && t + k < v->d; k++)
		act_store(to, i + k, f[k]);
}

CUDA_INLINE void put_half(const struct nce *v, const struct spot *s, int64_t t0, bool keeps,
	int64_t first_tile, const struct ahead *a, char *mem)
{
	struct cuda_act n = {mem + ROWS * LD_HALF * 2, WL_BF16};

	CUDA_UNROLL
	for (int i = 0; i < HALF_QUERIES; i++) {
		int u = (int)threadIdx.x + i * CUDA_THREADS;

		*(uint4 *)(mem + (u / HALF_GROUPS * LD_HALF + u % HALF_GROUPS * 8) * 2) =
			a->query[i];
	}
	CUDA_UNROLL
	for (int i = 0; i < HALF_NEGATIVES; i++) {
		int u = (int)threadIdx.x + i * CUDA_THREADS, r = u / HALF_GROUPS;

		act_store8(n, r * LD_HALF + u % HALF_GROUPS * 8, a->negative[i]);
		if (keeps)
			keep8(v, s, r, t0 + u % HALF_GROUPS * 8, a->negative[i], first_tile);
	}
}

/* A warp has 32 x 32 logits. */
CUDA_INLINE void half_logits(const struct nce *v, const struct spot *s, bool keeps,
	int64_t first_tile, char *mem)
{
	const uint16_t *q = (const uint16_t *)mem, *n = q + ROWS * LD_HALF;
	int warp = (int)threadIdx.x / WARP;
	int down = warp % 4 * 2 * TILE, across = warp / 4 * 2 * TILE;
	struct tile_sum sum[2][2];
	struct ahead a;

	CUDA_UNROLL
	for (int i = 0; i < 4; i++)
		tile_zero(&sum[i / 2][i % 2]);
	fetch_half(v, s, 0, &a);
	for (int64_t t0 = 0; t0 < v->d; t0 += HALF_WIDTH) {
		__syncthreads(); /* the last is used */
		put_half(v, s, t0, keeps, first_tile, &a, mem);
		if (t0 + HALF_WIDTH < v->d)
			fetch_half(v, s, t0 + HALF_WIDTH, &a);
		__syncthreads();
		CUDA_UNROLL
		for (int k = 0; k < HALF_WIDTH; k += TILE) {
			struct tile_left l[2];
			struct tile_right r[2];

			if (down >= s->rows || across >= s->cols || t0 + k >= v->d)
				continue;
			CUDA_UNROLL
			for (int i = 0; i < 2; i++) {
				tile_load_left(&l[i], q + (down + i * TILE) * LD_HALF + k, LD_HALF);
				tile_load_turned(
					&r[i], n + (across + i * TILE) * LD_HALF + k, LD_HALF);
			}
			CUDA_UNROLL
			for (int i = 0; i < 4; i++)
				tile_add(&sum[i / 2][i % 2], &l[i / 2], &r[i % 2], WL_BF16);
		}
	}
	__syncthreads();
	CUDA_UNROLL
	for (int i = 0; i < 4; i++)
		tile_store((float *)mem + (down + i / 2 * TILE) * LD_LOGITS + across + i % 2 * TILE,
			&sum[i / 2][i % 2], LD_LOGITS);
}

/* The next numbers of the rows, turned: one group of eight a thread. */
CUDA_INLINE void put_float(const float f[8], float *to, int ld)
{
	int r = (int)threadIdx.x / FLOAT_GROUPS, t = (int)threadIdx.x % FLOAT_GROUPS * 8;

	CUDA_UNROLL
	for (int k = 0; k < 8; k++)
		to[(t + k) * ld + r] = f[k];
}

CUDA_INLINE void fetch_float(
	const struct nce *v, const struct spot *s, int64_t t0, float query[8], float negative[8])
{
	struct cuda_act q = {(void *)s->query, WL_F32};
	int r = (int)threadIdx.x / FLOAT_GROUPS;
	int64_t t = t0 + (int)threadIdx.x % FLOAT_GROUPS * 8;

	take8(v, q, r, s->rows, t, query);
	take8(v, s->negative, r, s->cols, t, negative);
}

/* A thread has 8 x 4 logits. */
CUDA_INLINE void float_logits(const struct nce *v, const struct spot *s, bool keeps,
	int64_t first_tile, char *mem)
{
	float *q = (float *)mem, *n = q + FLOAT_WIDTH * LD_ROWS, query[8], negative[8];
	int down = (int)threadIdx.x / (COLS / THREAD_COLS) * THREAD_ROWS;
	int across = (int)threadIdx.x % (COLS / THREAD_COLS) * THREAD_COLS;
	float sum[THREAD_ROWS][THREAD_COLS];

	CUDA_UNROLL
	for (int i = 0; i < THREAD_ROWS * THREAD_COLS; i++)
		sum[i / THREAD_COLS][i % THREAD_COLS] = 0;
	fetch_float(v, s, 0, query, negative);
	for (int64_t t0 = 0; t0 < v->d; t0 += FLOAT_WIDTH) {
		__syncthreads(); /* the last is used */
		put_float(query, q, LD_ROWS);
		if (threadIdx.x < COLS * FLOAT_GROUPS) {
			put_float(negative, n, LD_COLS);
			if (keeps)
				keep8(v, s, (int)threadIdx.x / FLOAT_GROUPS,
					t0 + (int)threadIdx.x % FLOAT_GROUPS * 8, negative,
					first_tile);
		}
		if (t0 + FLOAT_WIDTH < v->d)
			fetch_float(v, s, t0 + FLOAT_WIDTH, query, negative);
		__syncthreads();
		if (down >= s->rows || across >= s->cols)
			continue;
		CUDA_UNROLL
		for (int t = 0; t < FLOAT_WIDTH; t++)
			CUDA_UNROLL
			for (int i = 0; i < THREAD_ROWS; i++)
				CUDA_UNROLL
				for (int k = 0; k < THREAD_COLS; k++)
					sum[i][k] += q[t * LD_ROWS + down + i] *
						     n[t * LD_COLS + across + k];
	}
	__syncthreads();
	CUDA_UNROLL
	for (int i = 0; i < THREAD_ROWS; i++)
		CUDA_UNROLL
		for (int k = 0; k < THREAD_COLS; k++)
			((float *)mem)[(down + i) * LD_LOGITS + across + k] = sum[i][k];
}

/* The block's products in mem [ROWS, LD_LOGITS]; all threads, ends with a barrier. */
CUDA_INLINE void block_products(const struct nce *v, const struct spot *s, bool keeps,
	int64_t first_tile, char *mem)
{
	keeps = keeps && s->negative.type != v->kept.type;
	if (v->half)
		half_logits(v, s, keeps, first_tile, mem);
	else
		float_logits(v, s, keeps, first_tile, mem);
	__syncthreads();
}

/* A warp's row r: two columns a lane as logits, -inf where ignored, but not where a positive. */
CUDA_INLINE void row_logits(const struct nce *v, const struct spot *s, const float *mem, int r,
	float scale, float l[2], bool extra[2])
{
	int64_t b = s->b0 + r;

	CUDA_UNROLL
	for (int i = 0; i < 2; i++) {
		int c = (int)threadIdx.x % WARP + i * WARP;

		extra[i] = false;
		for (int64_t t = 0; t < v->who.top; t++)
			extra[i] |= v->who.extra[b * v->who.top + t] == (int32_t)(s->j0 + c);
		if (c >= s->cols || (!extra[i] && wl_negatives_ignore(&v->who, b, s->j0 + c)))
			l[i] = -INFINITY;
		else
			l[i] = mem[r * LD_LOGITS + c] * scale;
		extra[i] = extra[i] && c < s->cols;
	}
}

static __device__ inline float *parts_of(const struct nce *v, int64_t b, int which)
{
	return v->parts + (b * PARTS + which) * v->tiles;
}

#endif
