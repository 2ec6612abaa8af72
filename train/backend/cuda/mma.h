/*
 * Products of 16 x 16 by 16 x 8 on the tensor cores, by the fragments that PTX documents
 * (mma.sync.m16n8k16 and ldmatrix, PTX ISA 7.0, sections "Warp Level Matrix Instructions"): of bf16
 * or fp16, added in f32.  All 32 lanes of a warp call these together.  Lane l is g = l / 4,
 * t = l % 4 below.
 *
 * Under WL_CUDA_EMULATED lanes show each other what they hold, as the hardware does, so that a wrong
 * address or a wrong place of a number in a fragment is found.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_MMA_H
#define WL_TRAIN_BACKEND_CUDA_MMA_H

#include "train/backend/cuda/image.h"

enum { MMA_LANES = 32 };

#ifdef WL_CUDA_EMULATED

struct mma_shown {
	const uint16_t *row;
	uint32_t a[4], b[2];
};
static struct mma_shown mma_shown[CUDA_THREADS];

static inline struct mma_shown *mma_warp(void)
{
	return mma_shown + threadIdx.x / MMA_LANES * MMA_LANES;
}

/* Four 8 x 8 matrices; lane 8 i + j gives the address of row j of matrix i, 16 bytes. */
static inline void mma_load(uint32_t r[4], const void *row)
{
	unsigned lane = threadIdx.x % MMA_LANES;

	mma_shown[threadIdx.x].row = (const uint16_t *)row;
	__syncwarp();
	for (unsigned i = 0; i < 4; i++) {
		const uint16_t *at = mma_warp()[8 * i + lane / 4].row + lane % 4 * 2;

		r[i] = at[0] | (uint32_t)at[1] << 16;
	}
	__syncwarp();
}

static inline void mma_load_turned(uint32_t r[4], const void *row)
{
	unsigned lane = threadIdx.x % MMA_LANES;

	mma_shown[threadIdx.x].row = (const uint16_t *)row;
	__syncwarp();
	for (unsigned i = 0; i < 4; i++) {
		const struct mma_shown *at = mma_warp() + 8 * i + lane % 4 * 2;

		r[i] = at[0].row[lane / 4] | (uint32_t)at[1].row[lane / 4] << 16;
	}
	__syncwarp();
}

/* Number k of 16 in a lane's quarter of a row: of registers {0..7} and {8..15}. */
static inline float mma_number(uint32_t lo, uint32_t hi, int k, enum wl_dtype type)
{
	return half_to_float((k < 8 ? lo : hi) >> 16 * (k % 2) & 0xffffu, type);
}

static inline void mma_add(
	float c[4], const uint32_t a[4], const uint32_t b[2], enum wl_dtype type)
{
	unsigned lane = threadIdx.x % MMA_LANES;
	struct mma_shown *w = mma_warp();

	memcpy(w[lane].a, a, sizeof w[lane].a);
	memcpy(w[lane].b, b, sizeof w[lane].b);
	__syncwarp();
	for (unsigned e = 0; e < 4; e++) {
		unsigned row = lane / 4, col = lane % 4 * 2 + e % 2;

		for (int k = 0; k < 16; k++) {
			const struct mma_shown *x = w + row * 4 + k % 8 / 2;
			const struct mma_shown *y = w + col * 4 + k % 8 / 2;

			c[e] += mma_number(x->a[e / 2], x->a[2 + e / 2], k, type) *
				mma_number(y->b[0], y->b[1], k, type);
		}
	}
	__syncwarp();
}

#else

/* Four 8 x 8 matrices from shared memory; lane 8 i + j gives the address of row j of matrix i, 16
 * bytes aligned.  r[i]: numbers (g, 2t) and (g, 2t+1) of matrix i; turned: (2t, g), (2t+1, g). */
static __device__ __forceinline__ void mma_load(uint32_t r[4], const void *row)
{
	uint32_t at = (uint32_t)__cvta_generic_to_shared(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(at)
		     : "memory");
}

static __device__ __forceinline__ void mma_load_turned(uint32_t r[4], const void *row)
{
	uint32_t at = (uint32_t)__cvta_generic_to_shared(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(at)
		     : "memory");
}

/*
 * c += a b.  a [16, 16]: registers (g, 2t), (g+8, 2t), (g, 2t+8), (g+8, 2t+8), each with its right
 * neighbour; b [16, 8]: (2t, g), (2t+8, g), each with the one below; c [16, 8]: (g, 2t), (g, 2t+1),
 * (g+8, 2t), (g+8, 2t+1).
 */
static __device__ __forceinline__ void mma_add(
	float c[4], const uint32_t a[4], const uint32_t b[2], enum wl_dtype type)
{
	if (type == WL_F16)
		asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
		    "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
	else
		asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
		    "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
#endif
