/*
 * 16 x 16 tiles of matrix products on the tensor cores, and sums over a warp.  A product takes two
 * operands of one half type, bf16 or fp16, and adds in f32.  Operands lie in shared memory at
 * multiples of 16 bytes, rows `ld` elements apart, ld a multiple of 8; sums at any float.  All 32
 * lanes of a warp call these together.
 *
 * What a lane holds is what mma.m16n8k16 wants of it (PTX ISA, "Matrix Fragments for
 * mma.m16n8k16"), the same for both types: with g = lane / 4, t = lane % 4 * 2, two neighbours a
 * register, of the left operand rows g, g + 8 and columns t, t + 8; of the right one, of each half
 * of its columns, column g and rows t, t + 8; of the sum rows g, g + 8 and columns t, t + 1.
 * ldmatrix brings the operands so.  Under WL_CUDA_EMULATED both instructions are done lane by lane
 * in just this layout, products exact and added in f32.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_TILE_H
#define WL_TRAIN_BACKEND_CUDA_TILE_H

#include "train/backend/cuda/image.h"

enum { TILE = 16, WARP = 32 };

struct tile_left {
	uint32_t r[4];
};
struct tile_right {
	uint32_t r[4]; /* two of the left eight columns, two of the right */
};
struct tile_sum {
	float v[8];
};

#ifdef WL_CUDA_EMULATED

enum { TILE_WARPS = CUDA_THREADS / WARP };

EMULATED_STATIC const uint16_t *tile_shown[CUDA_THREADS];
EMULATED_STATIC float tile_a[TILE_WARPS][TILE][TILE], tile_b[TILE_WARPS][TILE][TILE];

/* ldmatrix.x4: lane 8 m + i shows row i of matrix m, 8 x 8. */
static inline void tile_matrices(uint32_t r[4], const uint16_t *row, bool turned)
{
	unsigned lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4 * 2;

	tile_shown[threadIdx.x] = row;
	emulated_meet_lanes(0xffffffffu); /* orders no memory */
	for (unsigned m = 0; m < 4; m++) {
		const uint16_t **at = tile_shown + threadIdx.x / WARP * WARP + 8 * m;

		r[m] = turned ? at[t][g] | (uint32_t)at[t + 1][g] << 16
			      : at[g][t] | (uint32_t)at[g][t + 1] << 16;
	}
	emulated_meet_lanes(0xffffffffu);
}

static inline void tile_add(struct tile_sum *c, const struct tile_left *a,
	const struct tile_right *b, enum wl_dtype type)
{
	unsigned w = threadIdx.x / WARP, g = threadIdx.x % WARP / 4, t = threadIdx.x % 4 * 2;

	for (unsigned i = 0; i < 8; i++) {
		unsigned r = i / 2, half = i % 2 * 16;

		tile_a[w][g + r % 2 * 8][t + r / 2 * 8 + i % 2] =
			half_to_float(a->r[r] >> half & 0xffffu, type);
		tile_b[w][t + r % 2 * 8 + i % 2][g + r / 2 * 8] =
			half_to_float(b->r[r] >> half & 0xffffu, type);
	}
	emulated_meet_lanes(0xffffffffu);
	for (unsigned i = 0; i < 8; i++)
		for (unsigned k = 0; k < TILE; k++)
			c->v[i] += tile_a[w][g + i / 2 % 2 * 8][k] *
				   tile_b[w][k][t + i / 4 * 8 + i % 2];
	emulated_meet_lanes(0xffffffffu);
}

#else

static __device__ inline void tile_matrices(uint32_t r[4], const uint16_t *row, bool turned)
{
	unsigned at = (unsigned)__cvta_generic_to_shared(row);

	if (turned)
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
			     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
			     : "r"(at)
			     : "memory");
	else
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
			     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
			     : "r"(at)
			     : "memory");
}

#define TILE_MMA(type)                                                                             \
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                \
		     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                       \
		     : "+f"(v[0]), "+f"(v[1]), "+f"(v[2]), "+f"(v[3])                              \
		     : "r"(a->r[0]), "r"(a->r[1]), "r"(a->r[2]), "r"(a->r[3]), "r"(b->r[2 * h]),   \
		     "r"(b->r[2 * h + 1]))

static __device__ inline void tile_add(struct tile_sum *c, const struct tile_left *a,
	const struct tile_right *b, enum wl_dtype type)
{
	CUDA_UNROLL
	for (int h = 0; h < 2; h++) {
		float *v = c->v + 4 * h;

		if (type == WL_F16)
			TILE_MMA("f16");
		else
			TILE_MMA("bf16");
	}
}
#undef TILE_MMA

#endif

/* Left operands by rows; right ones by rows, or by columns: element (k, n) at n * ld + k. */
static __device__ inline void tile_load_left(struct tile_left *a, const uint16_t *p, int ld)
{
	int lane = (int)threadIdx.x % WARP;

	tile_matrices(a->r, p + lane % 16 * ld + lane / 16 * 8, false);
}

static __device__ inline void tile_load_right(struct tile_right *b, const uint16_t *p, int ld)
{
	int lane = (int)threadIdx.x % WARP;

	tile_matrices(b->r, p + lane % 16 * ld + lane / 16 * 8, true);
}

static __device__ inline void tile_load_turned(struct tile_right *b, const uint16_t *p, int ld)
{
	int lane = (int)threadIdx.x % WARP;

	tile_matrices(b->r, p + (lane % 8 + lane / 16 * 8) * ld + lane / 8 % 2 * 8, false);
}

static __device__ inline void tile_zero(struct tile_sum *c)
{
	CUDA_UNROLL
	for (int i = 0; i < 8; i++)
		c->v[i] = 0.0f;
}

static __device__ inline void tile_store(float *p, const struct tile_sum *c, int ld)
{
	int lane = (int)threadIdx.x % WARP;

	p += lane / 4 * ld + lane % 4 * 2;
	CUDA_UNROLL
	for (int i = 0; i < 4; i++) { /* row 8 (i % 2), column 8 (i / 2) */
		float *to = p + i % 2 * 8 * ld + i / 2 * 8;

		to[0] = c->v[2 * i];
		to[1] = c->v[2 * i + 1];
	}
}

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
