/*
 * The gradient of a 1x1 convolution's weights by an operand that was never written: gw += gy' z,
 * where z is batch norm, activation and gate of x, made again as x is read.  A block has a tile of
 * gw and a run of rows, 32 at a step, and leaves its tile's sums; a second pass adds those of all
 * runs in their order.
 *
 * Bytes: x once for each tile of gw's rows (one up to 128 output channels), g_y once for each tile
 * of its columns, of which all but the first come from the L2 cache, and 8 i o a run of rows.
 */
#include "train/backend/cuda/pointwise.h"

enum {
	STEP = 32,  /* rows of x and of g_y */
	COLS = 128, /* of gw: input channels */
	OUTS_MOST = 128,
	STAGES = 3, /* of g_y */
	COL_CHUNKS = COLS / 8,
};
#ifdef WL_CUDA_EMULATED
enum { BLOCKS = 6, LEAST = 2 }; /* so that tests have several steps in a run */
#else
enum { BLOCKS = 528, LEAST = 16 }; /* four for each of 132 multiprocessors; steps of a run */
#endif

struct weights {
	struct pointwise_read in;
	struct cuda_act gy;
	int n, outs, tiles, tiles_i; /* o; of a tile; tiles of gw, in a row of it */
	int per, chunks;	     /* rows of a run; runs */
	float *partial;		     /* [chunks, o, i] */
};

static int outs_of(int64_t o)
{
	return o <= 32 ? 32 : o <= 64 ? 64 : OUTS_MOST;
}

static struct weights cut_of(const struct pointwise *p)
{
	struct weights f;
	int64_t steps = cuda_ceil_div(p->rows > 0 ? p->rows : 1, STEP), per;

	memset(&f, 0, sizeof f);
	f.n = (int)p->o;
	f.outs = outs_of(p->o);
	f.tiles_i = (int)cuda_ceil_div(p->i, COLS);
	f.tiles = f.tiles_i * (int)cuda_ceil_div(p->o, f.outs);
	per = cuda_ceil_div(steps, cuda_ceil_div(BLOCKS, f.tiles));
	if (per < LEAST)
		per = LEAST;
	f.per = (int)per * STEP;
	f.chunks = (int)cuda_ceil_div(steps, per);
	return f;
}

struct shared_weights {
	char z[2][STEP * COLS * 2], gy[STAGES][STEP * OUTS_MOST * 2];
};

/* Where 16 bytes lie: ldmatrix takes the same chunk of eight rows, which are in different banks. */
CUDA_INLINE int place_at(int row, int chunk, const int CHUNKS)
{
	const int TURN = CHUNKS < 8 ? CHUNKS - 1 : 7;

	return (row * CHUNKS + (chunk ^ ((CHUNKS < 8 ? row * CHUNKS / 8 : row) & TURN))) * 16;
}

/* A thread's two chunks of a step: rows threadIdx.x / 16 and 16 more. */
struct fetched {
	uint4 v[2];
};

CUDA_INLINE void fetch_x(
	const struct pointwise_read *f, int row0, int end, int col0, struct fetched *to)
{
	int ch = col0 + (int)threadIdx.x % COL_CHUNKS * 8;

	CUDA_UNROLL
	for (int i = 0; i < 2; i++) {
		int row = row0 + (int)threadIdx.x / COL_CHUNKS + i * STEP / 2;
		const uint16_t *at = (const uint16_t *)f->x.p + (int64_t)row * f->c + ch;

		to->v[i].x = to->v[i].y = to->v[i].z = to->v[i].w = 0;
		if (row < end && ch < f->c)
			to->v[i] = *(const uint4 *)at;
	}
}

CUDA_INLINE void put_x(const struct pointwise_read *f, int row0, int end, int col0,
	const struct fetched *from, char *to)
{
	int ch = col0 + (int)threadIdx.x % COL_CHUNKS * 8;
	int first = (int)threadIdx.x / COL_CHUNKS;
	const int row[2] = {row0 + first, row0 + first + STEP / 2};
	uint4 u[2] = {from->v[0], from->v[1]};

	if (f->lines)
		pointwise_turn(f, row, end, ch, u);
	CUDA_UNROLL
	for (int i = 0; i < 2; i++)
		*(uint4 *)(to + place_at(first + i * STEP / 2, (int)threadIdx.x % COL_CHUNKS,
				       COL_CHUNKS)) = u[i];
}

CUDA_INLINE void copy_gy(
	const struct weights *f, int row0, int end, int out0, const int OUTS, char *to)
{
	const int CHUNKS = OUTS / 8;

	CUDA_UNROLL
	for (int i = 0; i < (STEP * CHUNKS + CUDA_THREADS - 1) / CUDA_THREADS; i++) {
		int e = (int)threadIdx.x + i * CUDA_THREADS, r = e / CHUNKS;
		int row = row0 + r, out = out0 + e % CHUNKS * 8;
		uint4 *at = (uint4 *)(to + place_at(r, e % CHUNKS, CHUNKS));

		if (e >= STEP * CHUNKS)
			continue;
		if (row < end && out < f->n)
			ahead_copy(at, (const uint16_t *)f->gy.p + (int64_t)row * f->n + out);
		else
			at->x = at->y = at->z = at->w = 0;
	}
	ahead_commit();
}

/* A warp has 32 rows of the tile; DOWN of them stand below each other. */
struct warp_part {
	int row, col;
};

enum { ACROSS_MOST = 4 }; /* tiles of 16 x 16 */

CUDA_INLINE void load(uint32_t r[4], const char *row)
{
	tile_matrices(r, (const uint16_t *)row, true);
}

CUDA_INLINE void multiply(const char *gy, const char *z, struct warp_part p, enum wl_dtype type,
	const int OUTS, struct tile_sum sum[2][ACROSS_MOST])
{
	const int ACROSS = OUTS / 32;
	int lane = (int)threadIdx.x % WARP, i = lane / 8;
	struct tile_left a[2];
	struct tile_right b;

	CUDA_UNROLL
	for (int k = 0; k < STEP; k += 16) {
		CUDA_UNROLL
		for (int d = 0; d < 2; d++)
			load(a[d].r, gy + place_at(k + lane % 8 + i / 2 * 8,
						 (p.row + d * 16) / 8 + i % 2, OUTS / 8));
		CUDA_UNROLL
		for (int j = 0; j < ACROSS; j++) {
			load(b.r, z + place_at(k + lane % 8 + i % 2 * 8,
					     p.col / 8 + 2 * j + i / 2, COL_CHUNKS));
			CUDA_UNROLL
			for (int d = 0; d < 2; d++)
				tile_add(&sum[d][j], &a[d], &b, type);
		}
	}
}

CUDA_INLINE void store_tile(const struct weights *f, struct warp_part p, int chunk, int out0,
	int col0, const int OUTS, struct tile_sum sum[2][ACROSS_MOST])
{
	float *to = f->partial + (int64_t)chunk * f->n * f->in.c;
	int lane = (int)threadIdx.x % WARP;

	CUDA_UNROLL
	for (int d = 0; d < 2; d++)
		CUDA_UNROLL
		for (int j = 0; j < OUTS / 16; j++)
			CUDA_UNROLL
			for (int e = 0; e < 2; e++) {
				int out = out0 + p.row + d * 16 + e * 8 + lane / 4;
				int col = col0 + p.col + j * 8 + lane % 4 * 2;
				struct cuda_act at = {to, WL_F32};

				if (out < f->n && col < f->in.c)
					act_store2(at, (int64_t)out * f->in.c + col,
						sum[d][j / 2].v[j % 2 * 4 + 2 * e],
						sum[d][j / 2].v[j % 2 * 4 + 2 * e + 1]);
			}
}

CUDA_INLINE void weights_walk(struct weights f, const int OUTS, const enum wl_dtype TYPE)
{
	const int DOWN = OUTS / 32;
	__shared__ struct shared_weights m __attribute__((aligned(128)));
	int chunk = (int)blockIdx.x / f.tiles, tile = (int)blockIdx.x % f.tiles;
	int out0 = tile / f.tiles_i * OUTS, col0 = tile % f.tiles_i * COLS;
	int row = chunk * f.per, end = row + f.per < f.in.rows ? row + f.per : f.in.rows;
	int warp = (int)threadIdx.x / WARP, stage = 0;
	struct warp_part p = {warp % DOWN * 32, warp / DOWN * (COLS * DOWN / 8)};
	struct fetched x[2];
	struct tile_sum sum[2][ACROSS_MOST];

	f.in.x.type = TYPE; /* known where it is compiled */
	CUDA_UNROLL
	for (int i = 0; i < 2 * ACROSS_MOST; i++)
		tile_zero(&sum[i / ACROSS_MOST][i % ACROSS_MOST]);
	copy_gy(&f, row, end, out0, OUTS, m.gy[0]);
	copy_gy(&f, row + STEP, end, out0, OUTS, m.gy[1]);
	fetch_x(&f.in, row, end, col0, &x[0]);
	fetch_x(&f.in, row + STEP, end, col0, &x[1]);
	put_x(&f.in, row, end, col0, &x[0], m.z[0]);
	fetch_x(&f.in, row + 2 * STEP, end, col0, &x[0]);
	for (; row < end; row += 2 * STEP)
		CUDA_UNROLL
		for (int u = 0; u < 2; u++) {
			int at = row + u * STEP;

			if (at >= end)
				break;
			AHEAD_WAIT(1);
			__syncthreads();
			copy_gy(&f, at + 2 * STEP, end, out0, OUTS,
				m.gy[stage ? stage - 1 : STAGES - 1]);
			multiply(m.gy[stage], m.z[u], p, f.in.x.type, OUTS, sum);
			put_x(&f.in, at + STEP, end, col0, &x[1 - u], m.z[1 - u]);
			fetch_x(&f.in, at + 3 * STEP, end, col0, &x[1 - u]);
			stage = stage + 1 < STAGES ? stage + 1 : 0;
		}
	store_tile(&f, p, chunk, out0, col0, OUTS, sum);
}

POINTWISE_KERNELS(product_weights, struct weights, weights_walk, 32)
POINTWISE_KERNELS(product_weights, struct weights, weights_walk, 64)
POINTWISE_KERNELS(product_weights, struct weights, weights_walk, 128)

/* gw [n] += the runs' sums; eight lanes of runs. */
static __global__ void k_weights_end(int64_t n, int64_t chunks, const float *partial, float *gw)
{
	int64_t i = (int64_t)blockIdx.x * COLUMN_WIDTH + threadIdx.x % COLUMN_WIDTH;
	float s = 0;

	for (int64_t k = threadIdx.x / COLUMN_WIDTH; i < n && k < chunks; k += COLUMN_LANES)
		s += partial[k * n + i];
	s = lane_sum(s);
	if (threadIdx.x < COLUMN_WIDTH && i < n)
		gw[i] += s;
}

size_t wl_cuda_pointwise_weights_scratch(const struct pointwise *p)
{
	struct weights f = cut_of(p);

	return wl_cuda_pointwise_tables(p) +
	       (size_t)f.chunks * (size_t)(p->o * p->i) * sizeof(float);
}

void wl_cuda_pointwise_weights(struct cuda *c, const struct pointwise *p, void *scratch)
{
	struct weights f = cut_of(p);
	int64_t blocks = (int64_t)f.chunks * f.tiles, n = p->o * p->i;

	if (!p->rows)
		return;
	f.in = wl_cuda_pointwise_read(c, p, scratch);
	f.gy = p->gy;
	f.partial = (float *)((char *)scratch + wl_cuda_pointwise_tables(p));
	if (f.outs == 32)
		product_weights_32(c, f, blocks);
	else if (f.outs == 64)
		product_weights_64(c, f, blocks);
	else
		product_weights_128(c, f, blocks);
	CUDA_BLOCKS(c, cuda_ceil_div(n, COLUMN_WIDTH), k_weights_end, n, (int64_t)f.chunks,
		f.partial, p->gw);
}
