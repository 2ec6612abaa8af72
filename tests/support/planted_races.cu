/* See planted_races.h. */
#include "tests/support/planted_races.h"

#include "train/backend/cuda/image.h"
#include "train/backend/cuda/tile.h"

enum { N = 4 * CUDA_THREADS, ROWS = 8, AHEAD = 2 };

/* The block's sum; from `last` threads on no barrier follows, but __syncwarp if `warps`. */
static __device__ inline float tree(float v, unsigned last, bool warps)
{
	__shared__ float part[CUDA_THREADS];

	part[threadIdx.x] = v;
	__syncthreads();
	for (unsigned w = CUDA_THREADS / 2; w > 0; w /= 2) {
		if (threadIdx.x < w)
			part[threadIdx.x] += part[threadIdx.x + w];
		if (w > last)
			__syncthreads();
		else if (warps)
			__syncwarp();
	}
	__syncthreads();
	return part[0];
}

static __global__ void k_tree(const float *x, float *y, unsigned last, bool warps)
{
	float s = tree(x[blockIdx.x * CUDA_THREADS + threadIdx.x], last, warps);

	if (threadIdx.x == 0)
		y[blockIdx.x] = s;
}

/* The left neighbour's value, by shared memory. */
static __global__ void k_neighbour(const float *x, float *y, bool shuffled, unsigned mask)
{
	__shared__ float part[CUDA_THREADS];
	unsigned e = threadIdx.x, lane = e % WARP;
	float v = x[e];

	part[e] = v;
	if (shuffled)
		v = __shfl_sync(0xffffffffu, v, 0);
	else if (mask == 0xffffffffu)
		__syncwarp();
	else
		__syncwarp(lane < 16 ? mask : ~mask);
	y[e] = v + part[lane ? e - 1 : e];
}

/* What pairs of lanes of the same half show each other. */
static __global__ void k_halves(const float *x, float *y)
{
	__shared__ float part[CUDA_THREADS];
	unsigned e = threadIdx.x;

	part[e] = x[e];
	__syncwarp(e % WARP < 16 ? 0xffffu : 0xffff0000u);
	y[e] = part[e ^ 1];
}

static __global__ void k_shuffles(const float *x, float *y)
{
	float s = warp_sum(x[blockIdx.x * CUDA_THREADS + threadIdx.x]);

	if (threadIdx.x % WARP == 0)
		y[(blockIdx.x * CUDA_THREADS + threadIdx.x) / WARP] = s;
}

/* Rounds through one buffer. */
static __global__ void k_rounds(const float *x, float *y, bool last_barrier)
{
	__shared__ float row[CUDA_THREADS];
	float s = 0;

	for (int r = 0; r < ROWS; r++) {
		row[threadIdx.x] = x[threadIdx.x];
		__syncthreads();
		s += row[CUDA_THREADS - 1 - threadIdx.x];
		if (last_barrier)
			__syncthreads();
	}
	y[blockIdx.x * CUDA_THREADS + threadIdx.x] = s;
}

/* Two threads a byte of shared memory, beside others' bytes. */
static __global__ void k_bytes(float *y)
{
	__shared__ unsigned char b[CUDA_THREADS];

	b[threadIdx.x] = 0;
	__syncthreads();
	b[threadIdx.x / 2] = (unsigned char)threadIdx.x;
	__syncthreads();
	y[threadIdx.x] = b[threadIdx.x];
}

static __global__ void k_one_element(float *y, int64_t each)
{
	if (threadIdx.x == 0)
		y[blockIdx.x / each] = 1;
}

static __global__ void k_next_block(float *y)
{
	if (threadIdx.x == 0)
		y[blockIdx.x] = y[blockIdx.x + 1] + 1;
}

static __global__ void k_each(int64_t n, float *y, int64_t from)
{
	EACH(i, n)
	y[i] += y[i + from < n ? i + from : i];
}

static __global__ void k_atomics(const float *x, int *count, int *seen)
{
	if (x[threadIdx.x] < 2)
		atomicAdd(count, 1);
	if (seen)
		seen[blockIdx.x * CUDA_THREADS + threadIdx.x] = *count;
}

/* Reads of shared memory: never written, or by the block before. */
static __global__ void k_unwritten(float *y, bool once)
{
	__shared__ float part[CUDA_THREADS];

	if (once && blockIdx.x == 0)
		part[threadIdx.x] = 1;
	__syncthreads();
	y[blockIdx.x * CUDA_THREADS + threadIdx.x] = part[threadIdx.x];
}

static __global__ void k_copy(const float *x, float *y, int64_t shift)
{
	y[threadIdx.x] = x[(int64_t)threadIdx.x + shift];
}

static __global__ void k_load8(const float *x, float *y, int64_t shift)
{
	struct cuda_act a = {(void *)x, WL_F32};
	float v[8];

	act_load8(a, 8 * (threadIdx.x % 64) + shift, v);
	y[threadIdx.x] = v[0] + v[7];
}

/* What a walk over rows may forget. */
struct walk {
	int left;	 /* groups that may be under way when a row is used */
	bool barriers;	 /* others' rows are read after one */
	bool last;	 /* and a barrier before a row is fetched in its place */
	unsigned wanted; /* of the neighbour's row */
	int64_t shift;
};

static __device__ inline void fetch(uint4 *row, const float *x, int r, int64_t shift)
{
	ahead_copy(row + threadIdx.x, x + 4 * (((int64_t)r + threadIdx.x) % (N / 4 - 1)) + shift);
	ahead_commit();
}

static __global__ void k_walk(const float *x, float *y, struct walk w)
{
	__shared__ uint4 row[AHEAD][CUDA_THREADS];
	float s = 0;

	for (int r = 0; r < AHEAD; r++)
		fetch(row[r], x, r, w.shift);
	for (int r = 0; r < ROWS; r++) {
		AHEAD_WAIT(w.left);
		if (w.barriers)
			__syncthreads();
		s += wl_float_of_bits(row[r % AHEAD][threadIdx.x ^ w.wanted].x);
		if (w.last)
			__syncthreads();
		fetch(row[r % AHEAD], x, r + AHEAD, w.shift);
	}
	y[blockIdx.x * CUDA_THREADS + threadIdx.x] = s;
}

static __global__ void k_barrier_apart(float *y)
{
	if (threadIdx.x < 16)
		__syncthreads();
	else
		__syncwarp();
	y[threadIdx.x] = 1;
}

static __global__ void k_shuffle_mask(float *y, unsigned mask, unsigned gone)
{
	if (threadIdx.x % WARP == gone)
		return;
	if (mask >> threadIdx.x % WARP & 1)
		y[threadIdx.x] = __shfl_sync(mask, 1.0f, 31);
}

/* --- */

static struct cuda here; /* of it the launches take the stream */

static void walk(const float *x, float *y, struct walk w)
{
	CUDA_BLOCKS(&here, 2, k_walk, x, y, w);
}

static void clean(enum planted_race which, const float *x, float *y)
{
	const struct walk right = {AHEAD - 1, true, true, 1, 0};

	switch (which) {
	case PLANTED_TREE:
		CUDA_BLOCKS(&here, 4, k_tree, x, y, 0u, false);
		break;
	case PLANTED_WARP_TREE:
		CUDA_BLOCKS(&here, 4, k_tree, x, y, 16u, true);
		break;
	case PLANTED_SHUFFLES:
		CUDA_BLOCKS(&here, 4, k_shuffles, x, y);
		CUDA_BLOCKS(&here, 1, k_neighbour, x, y, false, 0xffffffffu);
		break;
	case PLANTED_ROUNDS:
		CUDA_BLOCKS(&here, 4, k_rounds, x, y, true);
		break;
	case PLANTED_HALVES:
		CUDA_BLOCKS(&here, 1, k_halves, x, y);
		break;
	case PLANTED_EACH:
		CUDA_EACH(&here, N, k_each, y, (int64_t)0);
		break;
	case PLANTED_ATOMICS:
		CUDA_BLOCKS(&here, 4, k_atomics, x, (int *)y, (int *)NULL);
		break;
	case PLANTED_COPIES:
		walk(x, y, right);
		CUDA_BLOCKS(&here, 1, k_load8, x, y, (int64_t)0);
		break;
	default:
		break;
	}
}

static void between_threads(enum planted_race which, const float *x, float *y)
{
	const struct walk no_barrier = {AHEAD - 1, false, true, 1, 0};

	switch (which) {
	case PLANTED_NO_BARRIER:
		CUDA_BLOCKS(&here, 1, k_tree, x, y, 64u, false);
		break;
	case PLANTED_NO_SYNCWARP:
		CUDA_BLOCKS(&here, 1, k_tree, x, y, 16u, false);
		break;
	case PLANTED_BY_SHUFFLE:
		CUDA_BLOCKS(&here, 1, k_neighbour, x, y, true, 0u);
		break;
	case PLANTED_NO_LAST_BARRIER:
		CUDA_BLOCKS(&here, 1, k_rounds, x, y, false);
		break;
	case PLANTED_WRONG_MASK:
		CUDA_BLOCKS(&here, 1, k_neighbour, x, y, false, 0xffffu);
		break;
	case PLANTED_NO_BARRIER_AFTER_COPY:
		walk(x, y, no_barrier);
		break;
	case PLANTED_BYTES:
		CUDA_BLOCKS(&here, 1, k_bytes, y);
		break;
	case PLANTED_BLOCKS_WRITE:
		CUDA_BLOCKS(&here, 4, k_one_element, y, (int64_t)2);
		break;
	case PLANTED_BLOCKS_READ:
		CUDA_BLOCKS(&here, 4, k_next_block, y);
		break;
	case PLANTED_EACH_NEIGHBOUR:
		CUDA_EACH(&here, N, k_each, y, (int64_t)1);
		break;
	case PLANTED_BESIDE_ATOMICS:
		CUDA_BLOCKS(&here, 1, k_atomics, x, (int *)y, (int *)y + 1);
		break;
	default:
		break;
	}
}

/* An operation of x to the first half of y, whose second half is another's or, `scratch`, its
 * scratch. */
static void operate(const float *x, float *y, bool scratch)
{
	struct wl_tensor in = {WL_F32, {1, {N}}, (void *)x}, out = {WL_F32, {1, {N / 2}}, y};
	struct wl_op op = {};
	struct wl_run run = {};

	op.in[0] = &in;
	op.out[0] = &out;
	op.scratch_bytes = scratch ? N / 2 * sizeof *y : 0;
	run.scratch = y + N / 2;
	race_operation(&op, &run);
	CUDA_BLOCKS(&here, 1, k_copy, scratch ? y + N / 2 : x, y, (int64_t)0);
	CUDA_BLOCKS(&here, 1, k_copy, x, y + (scratch ? 0 : N / 2 - 1), (int64_t)0);
	race_operation(NULL, NULL);
}

static void memory(enum planted_race which, const float *x, float *y)
{
	float host[CUDA_THREADS] = {0};
	void *fresh;

	cudaMalloc(&fresh, CUDA_THREADS * sizeof(float));
	switch (which) {
	case PLANTED_SHARED_UNWRITTEN:
		CUDA_BLOCKS(&here, 1, k_unwritten, y, false);
		break;
	case PLANTED_LEFT_BY_BLOCK:
		CUDA_BLOCKS(&here, 2, k_unwritten, y, true);
		break;
	case PLANTED_DEVICE_UNWRITTEN:
		CUDA_BLOCKS(&here, 1, k_copy, (const float *)fresh, y, (int64_t)0);
		break;
	case PLANTED_PAST_END:
		CUDA_BLOCKS(&here, 1, k_copy, x, y, (int64_t)(N - CUDA_THREADS + 1));
		break;
	case PLANTED_BEFORE_BEGIN:
		CUDA_BLOCKS(&here, 1, k_copy, x, y, (int64_t)-1);
		break;
	case PLANTED_SCRATCH_UNWRITTEN:
	case PLANTED_OTHER_TENSOR:
		operate(x, y, which == PLANTED_SCRATCH_UNWRITTEN);
		break;
	case PLANTED_HOST:
		CUDA_BLOCKS(&here, 1, k_copy, (const float *)host, y, (int64_t)0);
		break;
	case PLANTED_FREED:
		cudaFree(fresh);
		CUDA_BLOCKS(&here, 1, k_copy, (const float *)fresh, y, (int64_t)0);
		return;
	default:
		break;
	}
	cudaFree(fresh);
}

static void others(enum planted_race which, const float *x, float *y)
{
	const struct walk misaligned = {0, true, true, 0, 1}, no_wait = {AHEAD, true, true, 0, 0};
	const struct walk wrong = {AHEAD - 1 + 1, false, false, 0, 0};
	const struct walk refilled = {AHEAD - 1, true, false, 1, 0};

	switch (which) {
	case PLANTED_MISALIGNED:
		CUDA_BLOCKS(&here, 1, k_load8, x, y, (int64_t)1);
		break;
	case PLANTED_MISALIGNED_COPY:
		walk(x, y, misaligned);
		break;
	case PLANTED_NO_WAIT:
		walk(x, y, no_wait);
		break;
	case PLANTED_WRONG_GROUP:
		walk(x, y, wrong);
		break;
	case PLANTED_REFILLED:
		walk(x, y, refilled);
		break;
	case PLANTED_BARRIER_APART:
		CUDA_BLOCKS(&here, 1, k_barrier_apart, y);
		break;
	case PLANTED_SHUFFLE_OF_NOBODY:
		CUDA_BLOCKS(&here, 1, k_shuffle_mask, y, 0xffffffffu, 31u);
		break;
	case PLANTED_SHUFFLE_OUTSIDE:
		CUDA_BLOCKS(&here, 1, k_shuffle_mask, y, 0xffffu, 99u);
		break;
	default:
		break;
	}
}

extern "C" void planted_run(enum planted_race which)
{
	float zeros[N] = {0};
	void *x, *y;

	cudaSetDevice(0);
	cudaStreamCreateWithFlags(&here.stream, cudaStreamNonBlocking);
	cudaMalloc(&x, sizeof zeros);
	cudaMalloc(&y, sizeof zeros);
	cudaMemcpyAsync(x, zeros, sizeof zeros, cudaMemcpyDefault, here.stream);
	cudaMemcpyAsync(y, zeros, sizeof zeros, cudaMemcpyDefault, here.stream);
	clean(which, (const float *)x, (float *)y);
	between_threads(which, (const float *)x, (float *)y);
	memory(which, (const float *)x, (float *)y);
	others(which, (const float *)x, (float *)y);
	cudaFree(x);
	cudaFree(y);
	cudaStreamDestroy(here.stream);
}
