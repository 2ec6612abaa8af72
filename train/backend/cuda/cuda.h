/*
 * What the CUDA backend's files share; nothing outside this folder includes it.  The files are C as
 * nvcc takes it.  Compiled by a C++ compiler with tests/support/emulated.h before them (which
 * defines WL_CUDA_EMULATED), the same kernels run on the processor, block by block, for the tests.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_CUDA_H
#define WL_TRAIN_BACKEND_CUDA_CUDA_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef WL_CUDA_EMULATED
#include <cuda_runtime.h>
#endif

#define noreturn __attribute__((noreturn)) /* <stdnoreturn.h> has none for C++ */
extern "C" {
#include "train/backend/backend.h"
#include "train/backend/elementwise.h"
#include "train/backend/judge.h"
}
#undef noreturn

enum { CUDA_THREADS = 256, CUDA_REDUCE_BLOCKS = 1024 };

/*
 * What changes from step to step, in the device's memory, so that launches do not: a step that was
 * recorded as a CUDA graph runs again with other values here.  Written by wl_cuda_at_step.
 */
struct cuda_step {
	uint64_t of_step; /* wl_rng_of_step */
};

struct cuda {
	struct wl_backend be;
	int device;
	cudaStream_t stream;
	struct cuda_step *step; /* on the device */
	uint64_t seed_now, step_now; /* what it was made of; valid once has_step */
	bool has_step;
	void *blas;	/* the library's handle, see nvidia.cu */
	void *dnn;	/* cuDNN's, see cudnn.cu; NULL until a convolution is planned */
	struct cuda_memory *memory; /* what be.alloc gave, see weights.cu */
	struct cuda_weight *weights;
	struct cuda_fetch *fetch; /* copies to the host, see fetch.cu; NULL until the first */
	struct cuda_mail *mail; /* pinned memory of uploads, see mail.cu; NULL until the first */
	struct cuda_mapped *mapped; /* what be.reserve gave, see mapped.cu */
	struct cuda_recording *recordings; /* see stream.cu */
	bool recording; /* what is given now is kept, see stream.cu */
	bool managed; /* WL_CUDA_MANAGED: the host writes the device's memory in place */
	double *reduce; /* [CUDA_REDUCE_BLOCKS + 1] on the device: partial sums and their total */
};

/* What was decided of the present step, in device memory (judge.cu): what the rest of it reads. */
struct cuda_verdict {
	int verdict;	    /* enum wl_guard_verdict */
	float factor;	    /* of the gradients; NaN: nothing is updated */
	int64_t updates;    /* with this one */
	double c1;	    /* 1 - beta1^updates */
	float root;	    /* sqrt(1 - beta2^updates) */
	int64_t push_at[2]; /* rows of the queues, -1: no key enters */
};
struct wl_judge;
const struct cuda_verdict *wl_cuda_verdict(const struct wl_judge *j);
extern "C" const struct wl_judge_ops *wl_cuda_judges(void);
extern "C" const struct wl_rank_ops *wl_cuda_ranks(void); /* ranks.cu */

/* mail.cu: the table's send. */
void wl_cuda_send(struct wl_backend *be, void *dst, const void *src, size_t bytes);
void wl_cuda_mail_close(struct cuda *c);

/* fetch.cu: the table's fetch, hold and fetched. */
void wl_cuda_fetch_table(struct wl_backend *be);
void wl_cuda_fetch_close(struct cuda *c);

struct cuda_act;

/* Puts a seed and a step where kernels find them (wl_run.at_step), in the stream's order and with
 * no host memory behind it.  Nothing when they are there already. */
void wl_cuda_at_step(struct cuda *c, uint64_t seed, uint64_t step);

/*
 * Copies of weights in a half type (weights.cu).  declare: when an operation is planned;
 * weight_half: the copy while it runs, made in the stream if it is stale, NULL where w is in
 * nothing that be.alloc gave, or has copies of the other type.  touched: p changed, so copies of it
 * are stale; whoever writes to what be.alloc gave says so.  A pass over a store may write the
 * copies itself at wl_cuda_shadow(c, w) (absent: there are none), element i of w at i, and then
 * says so by shadow_written.  weights_ready: before and after what is recorded or given again; a
 * recording then holds the making of those copies alone whose weights come (by collectives) in it.
 */
int wl_cuda_weight_declare(
	struct cuda *c, const float *w, int64_t n, enum wl_dtype type, struct wl_err *err);
const uint16_t *wl_cuda_weight_half(
	struct cuda *c, const float *w, int64_t n, enum wl_dtype type);
void wl_cuda_touched(struct cuda *c, const void *p, size_t bytes);
void wl_cuda_weights_ready(struct cuda *c);
struct cuda_act wl_cuda_shadow(struct cuda *c, const float *w);
void wl_cuda_shadow_written(struct cuda *c, const float *w, int64_t n);
/* What be.alloc gave; whether a and b are in the same piece of it. */
int wl_cuda_memory_add(struct cuda *c, void *base, size_t bytes, struct wl_err *err);
void wl_cuda_memory_drop(struct cuda *c, const void *base);
void wl_cuda_memory_release(struct cuda *c);
bool wl_cuda_in_one(struct cuda *c, const void *a, const void *b);

/* mapped.cu: arrays in parts. shadow_make: memory for bf16 copies of what lies at base, in
 * parts where that is in parts, NULL: there is none; unmap, in_parts: false where base is
 * no such array. */
void wl_cuda_mapped_table(struct wl_backend *be);
void *wl_cuda_reserve(struct wl_backend *be, size_t bytes, struct wl_err *err);
int wl_cuda_place(struct wl_backend *be, void *base, const struct wl_part *part, int n,
	struct wl_err *err);
uint16_t *wl_cuda_shadow_make(struct cuda *c, void *base, size_t bytes);
bool wl_cuda_unmap(struct cuda *c, void *base);
bool wl_cuda_in_parts(struct cuda *c, const void *base);

/* stream.cu: the table's entries for copies, pinned memory, recordings; nccl.cu: for ranks. */
void wl_cuda_stream_table(struct wl_backend *be);
/* Before the end of a wire: no recording refers to it any more, nor can be given again. */
void wl_cuda_recordings_end(struct cuda *c);
int wl_cuda_wire_id(struct wl_backend *be, char id[WL_WIRE_ID], struct wl_err *err);
struct wl_wire *wl_cuda_wire(struct wl_backend *be, int rank, int world, const char id[WL_WIRE_ID],
	double timeout_s, struct wl_err *err);

struct cuda_kernel {
	/* Bytes of scratch that a run needs; NULL for none. */
	size_t (*scratch)(const struct wl_op *op);
	int (*run)(struct cuda *c, const struct wl_op *op, const struct wl_run *run,
		struct wl_err *err);
	bool half; /* activations in half types too: they go through act_load, act_store */
	/* In place of scratch: sets op->plan and op->scratch_bytes; release frees the plan. */
	int (*plan)(struct cuda *c, struct wl_op *op, struct wl_err *err);
	void (*release)(struct cuda *c, struct wl_op *op);
};

/*
 * Launches.  CUDA_EACH: a thread an element, for kernels that begin with EACH(i, n) and have no
 * barrier.  CUDA_BLOCKS: `blocks` blocks of CUDA_THREADS threads that may use barriers.
 */
#ifdef WL_CUDA_EMULATED
#define CUDA_EACH(c, n, kernel, ...)                                                               \
	(emulated_on((c)->stream), emulate(cuda_blocks(n), false, kernel, n, __VA_ARGS__))
#define CUDA_BLOCKS(c, blocks, kernel, ...)                                                        \
	(emulated_on((c)->stream), emulate(blocks, true, kernel, __VA_ARGS__))
#else
#define CUDA_EACH(c, n, kernel, ...)                                                               \
	kernel<<<(unsigned)cuda_blocks(n), CUDA_THREADS, 0, (c)->stream>>>(n, __VA_ARGS__)
#define CUDA_BLOCKS(c, blocks, kernel, ...)                                                        \
	kernel<<<(unsigned)(blocks), CUDA_THREADS, 0, (c)->stream>>>(__VA_ARGS__)
#endif
#define EACH(i, n)                                                                                 \
	for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                  \
		i += (int64_t)gridDim.x * blockDim.x)

static inline int64_t cuda_ceil_div(int64_t a, int64_t b)
{
	return (a + b - 1) / b;
}

static inline int64_t cuda_blocks(int64_t n)
{
	int64_t blocks = cuda_ceil_div(n > 0 ? n : 1, CUDA_THREADS);

	return blocks < 1 << 20 ? blocks : 1 << 20;
}

static inline float *cuda_f32(const struct wl_tensor *t)
{
	return t ? (float *)t->data : NULL;
}

static inline int64_t cuda_count(const struct wl_tensor *t)
{
	return wl_shape_count(&t->shape);
}

static inline bool cuda_acc(const struct wl_op *op, int out)
{
	return (op->acc >> out) & 1;
}

/* Each piece of a scratch buffer begins at a multiple of 256 bytes. */
static inline size_t cuda_round(size_t bytes)
{
	return (bytes + 255) / 256 * 256;
}

/* --- device helpers --- */

/* The sum over the block's threads, in the order of a tree: the same bits in every run. */
static __device__ inline double block_sum(double v)
{
	__shared__ double part[CUDA_THREADS];

	part[threadIdx.x] = v;
	__syncthreads();
	for (unsigned w = CUDA_THREADS / 2; w > 0; w /= 2) {
		if (threadIdx.x < w)
			part[threadIdx.x] += part[threadIdx.x + w];
		__syncthreads();
	}
	v = part[0];
	__syncthreads();
	return v;
}

static __device__ inline float block_max(float v)
{
	__shared__ float part[CUDA_THREADS];

	part[threadIdx.x] = v;
	__syncthreads();
	for (unsigned w = CUDA_THREADS / 2; w > 0; w /= 2) {
		if (threadIdx.x < w && part[threadIdx.x + w] > part[threadIdx.x])
			part[threadIdx.x] = part[threadIdx.x + w];
		__syncthreads();
	}
	v = part[0];
	__syncthreads();
	return v;
}

#include "train/backend/cuda/act.h"

/* The random numbers of an operation; see cpu_rng_index in the CPU backend.  The key is made on the
 * device, from what the step's values there are. */
struct cuda_draw {
	const struct cuda_step *at;
	uint64_t op;
	int64_t each, rank, world;
	float p;
};

static inline struct cuda_draw cuda_draw_of(
	const struct wl_op *op, const struct wl_run *run, int64_t each)
{
	struct cuda_draw d;

	d.at = (const struct cuda_step *)run->at_step;
	d.op = op->attr.rng_op;
	d.each = each > 0 ? each : 1;
	d.rank = run->rank;
	d.world = run->world;
	d.p = op->attr.p;
	return d;
}

static __device__ inline float draw_keep(struct cuda_draw d, int64_t i)
{
	if (d.world > 1)
		i += (i / d.each * (d.world - 1) + d.rank) * d.each;
	return wl_keep_scale(wl_rng_key_of_step(d.at->of_step, d.op), (uint64_t)i, d.p);
}

/*
 * Column sums: a block takes 32 columns of a chunk of rows, eight rows at a time, so that reads lie
 * side by side; what the eight lanes found is added in their order.
 */
enum { COLUMN_WIDTH = 32, COLUMN_LANES = CUDA_THREADS / COLUMN_WIDTH };

struct columns {
	int64_t rows, cols, per, chunks, tiles;
};

static inline struct columns columns_of(int64_t rows, int64_t cols)
{
	struct columns v = {rows, cols, 0, 0, cuda_ceil_div(cols, COLUMN_WIDTH)};
	int64_t wanted = cuda_ceil_div(2048, v.tiles);

	v.per = cuda_ceil_div(rows, wanted);
	v.per = v.per < 64 ? 64 : v.per > 2048 ? 2048 : v.per;
	v.chunks = cuda_ceil_div(rows > 0 ? rows : 1, v.per);
	return v;
}

/* Of the block: its chunk and tile; of the thread: its column and first row. */
#define COLUMN_PLACE(v)                                                                            \
	int64_t chunk = blockIdx.x / (v).tiles;                                                    \
	int64_t col = blockIdx.x % (v).tiles * COLUMN_WIDTH + threadIdx.x % COLUMN_WIDTH;          \
	int64_t row_end =                                                                          \
		(chunk + 1) * (v).per < (v).rows ? (chunk + 1) * (v).per : (v).rows;               \
	int64_t row_first = col < (v).cols ? chunk * (v).per + threadIdx.x / COLUMN_WIDTH : row_end

/* The sum over the lanes of the thread's column; all threads of the block call it. */
static __device__ inline float lane_sum(float v)
{
	__shared__ float part[CUDA_THREADS];
	float s = 0;

	part[threadIdx.x] = v;
	__syncthreads();
	for (int l = 0; l < COLUMN_LANES; l++)
		s += part[l * COLUMN_WIDTH + threadIdx.x % COLUMN_WIDTH];
	__syncthreads();
	return s;
}

/* Two sums of the thread's column over its block's lanes, to partial [chunks, 2, cols]; all threads
 * of the block call it. */
static __device__ inline void put_sums(
	struct columns v, int64_t chunk, int64_t col, float s1, float s2, float *partial)
{
	s1 = lane_sum(s1);
	s2 = lane_sum(s2);
	if (threadIdx.x < COLUMN_WIDTH && col < v.cols) {
		partial[2 * chunk * v.cols + col] = s1;
		partial[(2 * chunk + 1) * v.cols + col] = s2;
	}
}

#include "train/backend/cuda/product.h"

/* y = act(x), n elements (elementwise.cu); y = x in y's type (weights.cu). */
void wl_cuda_apply(
	struct cuda *c, enum wl_act act, struct cuda_act x, struct cuda_act y, int64_t n);
void wl_cuda_convert(struct cuda *c, struct cuda_act from, struct cuda_act to, int64_t n);
/* out[c] += sum over rows of x [rows, cols], f32. */
void wl_cuda_colsum(struct cuda *c, const float *x, int64_t rows, int64_t cols, float *out,
	void *scratch);
/* The same of x in either type. */
void wl_cuda_colsum_act(struct cuda *c, struct cuda_act x, int64_t rows, int64_t cols, float *out,
	void *scratch);
size_t wl_cuda_colsum_scratch(int64_t rows, int64_t cols);

#include "train/backend/cuda/kernels.h"

#endif
