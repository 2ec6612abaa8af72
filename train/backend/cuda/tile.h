/*
 * 16 x 16 tiles of matrix products on the tensor cores, and sums over a warp.  A product takes bf16
 * and adds in f32; tiles lie in shared memory at multiples of 32 bytes, rows `ld` elements apart,
 * ld a multiple of 8 (of 4 for f32).  All 32 lanes of a warp call these together.
 *
 * Under WL_CUDA_EMULATED lane 0 holds the whole tile and multiplies as the hardware does: exact
 * products of bf16, added in f32.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_TILE_H
#define WL_TRAIN_BACKEND_CUDA_TILE_H

#include "train/backend/cuda/cuda.h"

enum { TILE = 16, WARP = 32 };

#ifdef WL_CUDA_EMULATED

struct tile {
	float v[TILE * TILE];
};
/* Left operands by rows; right ones by rows, or by columns: element (k, n) at n * ld + k. */
struct tile_left {
	struct tile t;
};
struct tile_right {
	struct tile t;
};
struct tile_right_turned {
	struct tile t;
};
struct tile_sum {
	struct tile t;
};

static inline void tile_take(struct tile *t, const uint16_t *p, int row, int col)
{
	for (int i = 0; i < TILE && threadIdx.x % WARP == 0; i++)
		for (int j = 0; j < TILE; j++)
			t->v[i * TILE + j] = bf16_to_float(p[i * row + j * col]);
}

static inline void tile_load_left(struct tile_left *a, const uint16_t *p, int ld)
{
	tile_take(&a->t, p, ld, 1);
}

static inline void tile_load_right(struct tile_right *b, const uint16_t *p, int ld)
{
	tile_take(&b->t, p, ld, 1);
}

static inline void tile_load_turned(struct tile_right_turned *b, const uint16_t *p, int ld)
{
	tile_take(&b->t, p, 1, ld);
}

static inline void tile_zero(struct tile_sum *c)
{
	memset(c, 0, sizeof *c);
}

static inline void tile_mul(struct tile *c, const struct tile *a, const struct tile *b)
{
	for (int i = 0; i < TILE && threadIdx.x % WARP == 0; i++)
		for (int k = 0; k < TILE; k++)
			for (int j = 0; j < TILE; j++)
				c->v[i * TILE + j] += a->v[i * TILE + k] * b->v[k * TILE + j];
}
#define TILE_ADD(c, a, b) tile_mul(&(c).t, &(a).t, &(b).t)

static inline void tile_store(float *p, const struct tile_sum *c, int ld)
{
	for (int i = 0; i < TILE && threadIdx.x % WARP == 0; i++)
		memcpy(p + i * ld, c->t.v + i * TILE, TILE * sizeof *p);
}

#else

#include <cuda_bf16.h>
#include <mma.h>

struct tile_left {
	nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, TILE, TILE, TILE, __nv_bfloat16,
		nvcuda::wmma::row_major>
		t;
};
struct tile_right {
	nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, TILE, TILE, TILE, __nv_bfloat16,
		nvcuda::wmma::row_major>
		t;
};
struct tile_right_turned {
	nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, TILE, TILE, TILE, __nv_bfloat16,
		nvcuda::wmma::col_major>
		t;
};
struct tile_sum {
	nvcuda::wmma::fragment<nvcuda::wmma::accumulator, TILE, TILE, TILE, float> t;
};

static __device__ inline void tile_load_left(struct tile_left *a, const uint16_t *p, int ld)
{
	nvcuda::wmma::load_matrix_sync(a->t, (const __nv_bfloat16 *)p, (unsigned)ld);
}

static __device__ inline void tile_load_right(struct tile_right *b, const uint16_t *p, int ld)
{
	nvcuda::wmma::load_matrix_sync(b->t, (const __nv_bfloat16 *)p, (unsigned)ld);
}

static __device__ inline void tile_load_turned(
	struct tile_right_turned *b, const uint16_t *p, int ld)
{
	nvcuda::wmma::load_matrix_sync(b->t, (const __nv_bfloat16 *)p, (unsigned)ld);
}

static __device__ inline void tile_zero(struct tile_sum *c)
{
	nvcuda::wmma::fill_fragment(c->t, 0.0f);
}
#define TILE_ADD(c, a, b) nvcuda::wmma::mma_sync((c).t, (a).t, (b).t, (c).t)

static __device__ inline void tile_store(float *p, const struct tile_sum *c, int ld)
{
	nvcuda::wmma::store_matrix_sync(p, c->t, (unsigned)ld, nvcuda::wmma::mem_row_major);
}

#endif

/* The sum (largest) over the lanes of a warp, in all of them and in a fixed order. */
static __device__ inline float warp_sum(float v)
{
	for (int w = WARP / 2; w > 0; w /= 2)
		v += __shfl_xor_sync(0xffffffffu, v, w);
	return v;
}

static __device__ inline float warp_max(float v)
{
	for (int w = WARP / 2; w > 0; w /= 2) {
		float o = __shfl_xor_sync(0xffffffffu, v, w);

		v = o > v ? o : v;
	}
	return v;
}

#endif
