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

template <typename F> static inline void emulate(int64_t blocks, bool fibers, F f)
{
	emulated_run(blocks, fibers, [](void *arg) { (*(F *)arg)(); }, &f);
}

typedef void *cudaStream_t;
typedef enum { cudaSuccess, cudaErrorMemoryAllocation } cudaError_t;
typedef void *cudaEvent_t;
enum { cudaMemcpyDefault, cudaStreamNonBlocking, cudaEventDisableTiming };

static inline cudaError_t cudaMalloc(void **p, size_t bytes)
{
	*p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
	return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
static inline cudaError_t cudaMallocManaged(void **p, size_t bytes)
{
	return cudaMalloc(p, bytes);
}
static inline cudaError_t cudaFree(void *p)
{
	free(p);
	return cudaSuccess;
}
static inline cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
	memset(p, value, bytes);
	return cudaSuccess;
}
static inline cudaError_t cudaMemcpyAsync(
	void *to, const void *from, size_t bytes, int, cudaStream_t)
{
	memcpy(to, from, bytes);
	return cudaSuccess;
}
static inline cudaError_t cudaStreamCreate(cudaStream_t *s)
{
	*s = NULL;
	return cudaSuccess;
}
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, int)
{
	return cudaStreamCreate(s);
}
/* Everything is done when it is called, so that an event has always come. */
static inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, int)
{
	*e = NULL;
	return cudaSuccess;
}
static inline cudaError_t cudaEventDestroy(cudaEvent_t)
{
	return cudaSuccess;
}
static inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t)
{
	return cudaSuccess;
}
static inline cudaError_t cudaEventSynchronize(cudaEvent_t)
{
	return cudaSuccess;
}
static inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned)
{
	return cudaSuccess;
}
static inline cudaError_t cudaMallocHost(void **p, size_t bytes)
{
	return cudaMalloc(p, bytes);
}
static inline cudaError_t cudaFreeHost(void *p)
{
	return cudaFree(p);
}
static inline cudaError_t cudaStreamDestroy(cudaStream_t)
{
	return cudaSuccess;
}
static inline cudaError_t cudaStreamSynchronize(cudaStream_t)
{
	return cudaSuccess;
}
static inline cudaError_t cudaSetDevice(int)
{
	return cudaSuccess;
}
static inline cudaError_t cudaGetDeviceCount(int *n)
{
	*n = 1;
	return cudaSuccess;
}
static inline cudaError_t cudaGetLastError(void)
{
	return cudaSuccess;
}
static inline const char *cudaGetErrorString(cudaError_t)
{
	return "no memory";
}
#endif

#endif
