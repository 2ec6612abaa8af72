/*
 * CUDA on the processor, for tests: enough of the runtime that train/backend/cuda/ (but its
 * nvidia.cu) compiles with a C++ compiler and this file before it, and every kernel runs as
 * written, a block at a time; the threads of a block that meet at barriers are fibers.  Memory is
 * the host's, a stream is nothing, and a product is three loops.  `make test-race` compiles the
 * kernels so that every access to memory is checked (racecheck.h).  WL_EMULATED_ORDER, one of
 * forward, reverse and random:SEED, is the order in which blocks, and threads between barriers,
 * run.  What this cannot show: limits of the hardware, speed.
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
#include "tests/support/racecheck.h"

struct emulated_index {
	unsigned x;
};

#ifdef __cplusplus
extern "C" {
#endif
extern struct emulated_index threadIdx, blockIdx, blockDim, gridDim;
/* Runs fn(arg) as every thread of `blocks` blocks; fibers: the threads may meet at barriers. */
void emulated_run(int64_t blocks, bool fibers, void (*fn)(void *arg), void *arg);
/* Waits for the threads of the block, or for those lanes of the warp that the mask names, which all
 * say the same mask; those that have returned do not count.  A thread that never comes ends the
 * program. */
void emulated_barrier(void);
void emulated_warp(unsigned mask);
/* One half of a shuffle: lanes meet, which orders nothing but the shuffle. */
void emulated_meet_lanes(unsigned mask);
/* The lane whose value is asked for takes part; else it is undefined and the program ends. */
void emulated_source(unsigned mask, unsigned lane);
/* cp.async: at once, or under WL_RACE when a wait covers them. */
void emulated_ahead_copy(void *shared, const void *from, size_t bytes);
void emulated_ahead_commit(void);
void emulated_ahead_wait(int groups);
extern double emulated_lane[1024]; /* what lanes show each other */
struct wl_err;
struct wl_backend *wl_backend_cuda_open(int device, struct wl_err *err);
#ifdef __cplusplus
}

#define __global__
#define __device__
#define __host__
#ifdef WL_RACE
#define __shared__ static __attribute__((section("emulated_shared")))
#define EMULATED_STATIC static __attribute__((section("emulated_own")))
#else
#define __shared__ static
#define EMULATED_STATIC static /* what an emulated instruction keeps, which no kernel sees */
#endif
#define __syncthreads emulated_barrier

static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
	emulated_warp(mask);
}

/* Not the kernel's accesses, but the emulation's. */
#define EMULATED_OWN __attribute__((no_sanitize("thread")))

template <typename T> EMULATED_OWN static inline T __shfl_sync(unsigned mask, T v, int lane)
{
	T got;

	__builtin_memcpy(&emulated_lane[threadIdx.x], &v, sizeof v);
	emulated_meet_lanes(mask);
	emulated_source(mask, (unsigned)lane % 32);
	__builtin_memcpy(
		&got, &emulated_lane[threadIdx.x / 32 * 32 + (unsigned)lane % 32], sizeof got);
	emulated_meet_lanes(mask);
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

template <typename T> EMULATED_OWN static inline T atomicAdd(T *p, T v)
{
	T was;

#ifdef WL_RACE
	race_atomic(p, sizeof *p);
#endif
	was = *p;
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

#ifdef WL_RACE
		race_argument(&run, sizeof run);
		race_argument(&kernel, sizeof kernel);
		(race_argument(&args, sizeof args), ...);
#endif
		emulated_run(
			blocks, fibers, [](void *arg) { (*(decltype(run) *)arg)(); }, &run);
	});
}

#if defined(WL_RACE) && defined(__SANITIZE_THREAD__)
#define memcpy(to, from, bytes) race_memcpy(to, from, bytes)
#define memset(p, value, bytes) race_memset(p, value, bytes)
#endif
#endif

#endif
