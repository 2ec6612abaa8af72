/*
 * CUDA on the processor, for tests: enough of the runtime that train/backend/cuda/ (but its
 * nvidia.cu) compiles with a C++ compiler and this file before it, and every kernel runs as
 * written, a block at a time; the threads of a block that meet at barriers are fibers.  Memory is
 * the host's, a stream is nothing, and a product is three loops.  What this cannot show: races
 * within a warp, limits of the hardware, speed.
 */
#ifndef WL_TESTS_SUPPORT_EMULATED_H
#define WL_TESTS_SUPPORT_EMULATED_H

#define WL_CUDA_EMULATED 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/emulated_runtime.h"

struct emulated_index {
	unsigned x;
};

#ifdef __cplusplus
extern "C" {
#endif
extern struct emulated_index threadIdx, blockIdx, blockDim, gridDim;
/* Runs fn(arg) as every thread of `blocks` blocks; fibers: the threads may meet at barriers. */
void emulated_run(int64_t blocks, bool fibers, void (*fn)(void *arg), void *arg);
/* Waits for the threads of the block, or of the warp, that have not returned; a thread that never
 * comes ends the program. */
void emulated_barrier(void);
void emulated_warp(void);
extern double emulated_lane[1024]; /* what lanes show each other */
struct wl_err;
struct wl_backend *wl_backend_cuda_open(int device, struct wl_err *err);
#ifdef __cplusplus
}

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __syncthreads emulated_barrier
#define __syncwarp emulated_warp

template <typename T> static inline T __shfl_sync(unsigned, T v, int lane)
{
	T got;

	memcpy(&emulated_lane[threadIdx.x], &v, sizeof v);
	emulated_warp();
	memcpy(&got, &emulated_lane[threadIdx.x / 32 * 32 + (unsigned)lane % 32], sizeof got);
	emulated_warp();
	return got;
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int by)
{
	return __shfl_sync(mask, v, (int)(threadIdx.x % 32) ^ by);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by)
{
	unsigned lane = threadIdx.x % 32;

	return __shfl_sync(mask, v, (int)(lane + by < 32 ? lane + by : lane));
}

template <typename T> static inline T atomicAdd(T *p, T v)
{
	T was = *p;

	*p += v;
	return was;
}

/* A launch: its arguments are those of this moment, whenever it runs. */
template <typename... P, typename... A>
static inline void emulate(int64_t blocks, bool fibers, void (*kernel)(P...), A... args)
{
	if (!emulated_grid(blocks))
		return;
	emulated_give([=] {
		auto run = [&] { kernel((P)args...); };

		emulated_run(
			blocks, fibers, [](void *arg) { (*(decltype(run) *)arg)(); }, &run);
	});
}
#endif

#endif
