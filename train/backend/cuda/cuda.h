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
	struct cuda_mail *mail; /* pinned memory of uploads, see mail.cu; NULL until the first */
	struct cuda_mapped *mapped; /* what be.reserve gave, see mapped.cu */
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

struct cuda_act;

/* Puts a seed and a step where kernels find them (wl_run.at_step), in the stream's order and with
 * no host memory behind it.  Nothing when they are there already. */
void wl_cuda_at_step(struct cuda *c, uint64_t seed, uint64_t step);

/*
 * Copies of weights in a half type (weights.cu).  declare: when an operation is planned; weight_half:
 * the copy while it runs, made in the stream if it is stale, NULL where w is in nothing that
 * be.alloc gave, or has copies of the other type.  touched: p changed by other means than upload,
 * zero and the optimiser (a collective), so copies of it are stale; all_touched: all are (before a
 * capture, after a replay, at a new step).  A pass over a store may write the copies itself at
 * wl_cuda_shadow(c, w) (absent: there are none), element i of w at i, and then says so by
 * shadow_written.
 */
int wl_cuda_weight_declare(
	struct cuda *c, const float *w, int64_t n, unsigned char half, struct wl_err *err);
const uint16_t *wl_cuda_weight_half(
	struct cuda *c, const float *w, int64_t n, unsigned char half);
void wl_cuda_touched(struct cuda *c, const void *p, size_t bytes);
void wl_cuda_all_touched(struct cuda *c);
struct cuda_act wl_cuda_shadow(struct cuda *c, const float *w);
void wl_cuda_shadow_written(struct cuda *c, const float *w, int64_t n);
/* What be.alloc gave; whether a and b are in the same piece of it. */
int wl_cuda_memory_add(struct cuda *c, void *base, size_t bytes, struct wl_err *err);
void wl_cuda_memory_drop(struct cuda *c, const void *base);
void wl_cuda_memory_release(struct cuda *c);
bool wl_cuda_in_one(struct cuda *c, const void *a, const void *b);

/* mapped.cu: arrays in parts.  shadow_make: memory for bf16 copies of what lies at base, in the same
 * parts where it is in parts, NULL: there is none; unmap: false where base is no such array. */
void wl_cuda_mapped_table(struct wl_backend *be);
void *wl_cuda_reserve(struct wl_backend *be, size_t bytes, struct wl_err *err);
int wl_cuda_place(struct wl_backend *be, void *base, const struct wl_part *part, int n,
	struct wl_err *err);
uint16_t *wl_cuda_shadow_make(struct cuda *c, void *base, size_t bytes);
bool wl_cuda_unmap(struct cuda *c, void *base);

/* stream.cu: the table's entries for copies, pinned memory, recordings; nccl.cu: for ranks. */
void wl_cuda_stream_table(struct wl_backend *be);
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
	((void)(c), emulate(cuda_blocks(n), false, kernel, n, __VA_ARGS__))
#define CUDA_BLOCKS(c, blocks, kernel, ...)                                                        \
	((void)(c), emulate(blocks, true, kernel, __VA_ARGS__))
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

/*
 * An activation or its gradient as it lies in memory, f32, bf16 or fp16 (the tensor's type).  Kernels
 * compute in f32 and go through these; what else they touch (weights, their gradients, statistics,
 * masks, boxes) is f32 always.
 */
#ifdef WL_CUDA_EMULATED
struct uint4 {
	uint32_t x, y, z, w;
};
#endif

/* Types of activations.  fp16 has three more bits of fraction than bf16, and nothing above 65504:
 * gradients in it want a loss scale. */
enum { CUDA_F32, CUDA_BF16, CUDA_F16 };

struct cuda_act {
	void *p;	    /* NULL: absent */
	unsigned char half; /* which of them; two bytes each but for CUDA_F32 */
};

static inline unsigned char cuda_half_of(enum wl_dtype t)
{
	return (unsigned char)(t == WL_BF16 ? CUDA_BF16 : t == WL_F16 ? CUDA_F16 : CUDA_F32);
}

static inline struct cuda_act cuda_act_of(const struct wl_tensor *t)
{
	struct cuda_act a = {t ? t->data : NULL, cuda_half_of(t ? t->dtype : WL_F32)};

	return a;
}

static __host__ __device__ inline float bf16_to_float(uint32_t bits)
{
	return wl_float_of_bits(bits << 16);
}

/* Rounds to nearest, ties to even; a NaN stays one. */
static __host__ __device__ inline uint32_t bf16_of_float(float f)
{
	uint32_t u = wl_bits_of_float(f);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (u >> 16) | 0x40u;
	return (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
}

/* The same of fp16; what is too large becomes infinite, what is too small denormal or 0. */
static __host__ __device__ inline float f16_to_float(uint32_t bits)
{
#ifdef __CUDA_ARCH__
	float f;

	asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"((unsigned short)bits));
	return f;
#else
	uint32_t sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;

	if (rest < 0x400u) /* 2^-24 each */
		return (sign ? -0x1p-24f : 0x1p-24f) * (float)rest;
	return wl_float_of_bits(sign | (rest >= 0x7c00u ? 0x7f800000u | (rest & 0x3ffu) << 13
							: (rest << 13) + 0x38000000u));
#endif
}

static __host__ __device__ inline uint32_t f16_of_float(float f)
{
#ifdef __CUDA_ARCH__
	unsigned short h;

	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
	return h;
#else
	uint32_t u = wl_bits_of_float(f), sign = (u >> 16) & 0x8000u, v = u & 0x7fffffffu;

	if (v > 0x7f800000u)
		return sign | 0x7e00u;
	if (v >= 0x477ff000u) /* 65520 and more */
		return sign | 0x7c00u;
	if (v < 0x38800000u) /* below 2^-14: the addition rounds */
		return sign | (wl_bits_of_float(wl_float_of_bits(v) + 0.5f) - 0x3f000000u);
	return sign | (v + 0xfffu + ((v >> 13) & 1u) - 0x38000000u) >> 13;
#endif
}

static __host__ __device__ inline float half_to_float(uint32_t bits, unsigned char half)
{
	return half == CUDA_F16 ? f16_to_float(bits) : bf16_to_float(bits);
}

static __host__ __device__ inline uint32_t half_of_float(float f, unsigned char half)
{
	return half == CUDA_F16 ? f16_of_float(f) : bf16_of_float(f);
}

static __device__ inline float act_load(struct cuda_act a, int64_t i)
{
	return a.half ? half_to_float(((const uint16_t *)a.p)[i], a.half)
		      : ((const float *)a.p)[i];
}

static __device__ inline void act_store(struct cuda_act a, int64_t i, float v)
{
	if (a.half)
		((uint16_t *)a.p)[i] = (uint16_t)half_of_float(v, a.half);
	else
		((float *)a.p)[i] = v;
}

/* Elements i..i+7, i a multiple of 8: one transaction of 16 bytes in a half type, two in f32. */
static __device__ inline void act_load8(struct cuda_act a, int64_t i, float v[8])
{
	if (a.half) {
		uint4 u = *(const uint4 *)((const uint16_t *)a.p + i);
		uint32_t w[4] = {u.x, u.y, u.z, u.w};

		for (int k = 0; k < 4; k++) {
			v[2 * k] = half_to_float(w[k] & 0xffffu, a.half);
			v[2 * k + 1] = half_to_float(w[k] >> 16, a.half);
		}
		return;
	}
	for (int k = 0; k < 2; k++) {
		uint4 u = *(const uint4 *)((const float *)a.p + i + 4 * k);

		v[4 * k] = wl_float_of_bits(u.x);
		v[4 * k + 1] = wl_float_of_bits(u.y);
		v[4 * k + 2] = wl_float_of_bits(u.z);
		v[4 * k + 3] = wl_float_of_bits(u.w);
	}
}

static __device__ inline void act_store8(struct cuda_act a, int64_t i, const float v[8])
{
	if (a.half) {
		uint32_t w[4];
		uint4 u;

		for (int k = 0; k < 4; k++)
			w[k] = half_of_float(v[2 * k], a.half) |
			       half_of_float(v[2 * k + 1], a.half) << 16;
		u.x = w[0], u.y = w[1], u.z = w[2], u.w = w[3];
		*(uint4 *)((uint16_t *)a.p + i) = u;
		return;
	}
	for (int k = 0; k < 2; k++) {
		uint4 u;

		u.x = wl_bits_of_float(v[4 * k]), u.y = wl_bits_of_float(v[4 * k + 1]);
		u.z = wl_bits_of_float(v[4 * k + 2]), u.w = wl_bits_of_float(v[4 * k + 3]);
		*(uint4 *)((float *)a.p + i + 4 * k) = u;
	}
}

/* The old value where the output is added to. */
static __device__ inline float old(const float *y, int64_t i, bool acc)
{
	return acc ? y[i] : 0.0f;
}

/*
 * Elements i..i+7 of n, i a multiple of 8, in f32.  wide (act_wide of all operands): at once; else
 * one by one, and those from n on are 0 and never written.
 */
static inline bool act_wide(struct cuda_act a, int64_t n)
{
	return n % 8 == 0 && (uintptr_t)a.p % 16 == 0;
}

static __device__ inline void act_get8(
	struct cuda_act a, int64_t i, int64_t n, bool wide, float v[8])
{
	if (wide)
		act_load8(a, i, v);
	else
		for (int k = 0; k < 8; k++)
			v[k] = i + k < n ? act_load(a, i + k) : 0.0f;
}

static __device__ inline void act_put8(
	struct cuda_act a, int64_t i, int64_t n, bool wide, const float v[8])
{
	if (wide)
		act_store8(a, i, v);
	else
		for (int k = 0; k < 8 && i + k < n; k++)
			act_store(a, i + k, v[k]);
}

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

/* --- matrix products --- */

/* c(i,j) [+]= sum_p a(i,p) b(p,j), as in the CPU backend. */
struct cuda_gemm {
	int64_t m, n, k;
	const float *a;
	int64_t a_row, a_col; /* a(i,p) is a[i * a_row + p * a_col]; one of them is 1 */
	const float *b;
	int64_t b_row, b_col;
	float *c;
	int64_t ldc;
	bool add;
	bool bf16; /* operands rounded to bf16, which needs cuda_gemm_scratch bytes */
};
int wl_cuda_gemm(struct cuda *c, const struct cuda_gemm *g, void *scratch, struct wl_err *err);
static inline size_t wl_cuda_gemm_scratch(int64_t m, int64_t n, int64_t k)
{
	return cuda_round((size_t)(m * k) * 2) + cuda_round((size_t)(k * n) * 2);
}

/* The library: row-major c [m,n], operands of `bf16` or f32. nvidia.cu, or the tests' own. */
extern "C" {
int wl_cuda_blas_open(struct cuda *c, struct wl_err *err);
void wl_cuda_blas_close(struct cuda *c);
int wl_cuda_blas(struct cuda *c, const struct cuda_gemm *g, const void *a, const void *b,
	struct wl_err *err);
}

/*
 * Products planned once, of operands as they lie (of one type; summed in f32), with what
 * the library can do on the way out: c [+]= a b, then + bias, then ReLU; rowsum[i] = sum of a(i,p)
 * over p.  plan: shapes, types and alignments of p count, its memory is not touched.
 */
struct cuda_product {
	int64_t m, n, k;
	struct cuda_act a;
	int64_t a_row, a_col; /* as in struct cuda_gemm */
	struct cuda_act b;
	int64_t b_row, b_col;
	struct cuda_act c;
	int64_t ldc;
	bool add;
	struct cuda_act bias; /* [n], of c's type; absent: none */
	bool relu;
	float *rowsum; /* [m], or NULL */
};
#ifdef WL_CUDA_EMULATED
enum { CUDA_WORKSPACE = 256 };
#else
enum { CUDA_WORKSPACE = 32 << 20 }; /* bytes that a product may need */
#endif
extern "C" {
int wl_cuda_product_plan(
	struct cuda *c, const struct cuda_product *p, void **plan, struct wl_err *err);
int wl_cuda_product(struct cuda *c, const void *plan, const struct cuda_product *p,
	void *workspace, struct wl_err *err);
/* Whether the library does rowsum; the caller sums where not. */
bool wl_cuda_product_sums(const void *plan);
void wl_cuda_product_release(struct cuda *c, void *plan); /* accepts NULL */
}

/*
 * Dense convolutions by cuDNN where it is installed (cudnn.cu): x [n,h,w,i], w [o,kh,kw,i],
 * y [n,oh,ow,o], all of one type, with as many rows of zeros after the image as before it.
 * plan: *plan stays NULL where there is no cuDNN, or none of its algorithms will do; *bytes: of
 * workspace.  run: writes the one of x, w, y that `what` says, from the two others.
 */
struct cuda_conv {
	int64_t n, h, w, i, oh, ow, o;
	int kh, kw, stride, pad_h, pad_w;
	unsigned char half; /* type of all three */
};
enum cuda_conv_what { CUDA_CONV_Y, CUDA_CONV_X, CUDA_CONV_W };
enum { CUDA_CONV_WORKSPACE = 256 << 20 };
extern "C" {
int wl_cuda_conv_plan(struct cuda *c, const struct cuda_conv *v, enum cuda_conv_what what,
	void **plan, size_t *bytes, struct wl_err *err);
int wl_cuda_conv_run(struct cuda *c, const void *plan, const void *x, const void *w, const void *y,
	void *workspace, struct wl_err *err);
void wl_cuda_conv_release(struct cuda *c, void *plan); /* accepts NULL */
void wl_cuda_dnn_close(struct cuda *c);
}

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

/* --- kernels, by file --- */
#define CUDA_RUN(name)                                                                             \
	int name(struct cuda *c, const struct wl_op *op, const struct wl_run *run,                 \
		struct wl_err *err)
#define CUDA_SCRATCH(name) size_t name(const struct wl_op *op)

/* augment.cu: the making of pictures, train/backend/pictures.h */
extern "C" const struct wl_picture_ops *wl_cuda_pictures(void);

/* nvJPEG, loaded when it is asked for: nvjpeg.cu, or the tests' own.  decode: n <= batch whole
 * baseline JPEGs on the host, their planes to device memory, in order on the stream. */
struct cuda_jpeg {
	const unsigned char *bytes;
	size_t n;
	unsigned char *plane[3];
	size_t pitch[3];
	int planes;
};
struct cuda_jpegs;
extern "C" {
int wl_cuda_jpegs_open(struct cuda_jpegs **to, int64_t batch, struct wl_err *err);
void wl_cuda_jpegs_close(struct cuda_jpegs *j); /* accepts NULL */
int wl_cuda_jpegs_decode(struct cuda_jpegs *j, const struct cuda_jpeg *list, int64_t n,
	cudaStream_t stream, struct wl_err *err);
}

/* elementwise.cu */
CUDA_RUN(wl_cuda_add);
CUDA_RUN(wl_cuda_scale);
CUDA_RUN(wl_cuda_act);
CUDA_RUN(wl_cuda_act_bwd);
CUDA_RUN(wl_cuda_dropout);
CUDA_RUN(wl_cuda_fill);
CUDA_RUN(wl_cuda_copy);
CUDA_RUN(wl_cuda_slice);
CUDA_RUN(wl_cuda_slice_bwd);
CUDA_RUN(wl_cuda_concat);
CUDA_RUN(wl_cuda_dot);
CUDA_RUN(wl_cuda_dot_bwd);
/* optim.cu */
void wl_cuda_adamw(struct wl_backend *be, float *w, const float *grad, void *m, void *v,
	const struct wl_adamw_range *ranges, int n_ranges, const struct wl_adamw *how);
void wl_cuda_ema(struct wl_backend *be, float *k, const float *q, int64_t n, float momentum);
double wl_cuda_sum_squares(struct wl_backend *be, const float *x, int64_t n);
void wl_cuda_squares(struct wl_backend *be, const float *x, int64_t n, double *to, bool add);
/* dense.cu */
int wl_cuda_dense_plan(struct cuda *c, struct wl_op *op, struct wl_err *err);
void wl_cuda_dense_release(struct cuda *c, struct wl_op *op);
CUDA_RUN(wl_cuda_linear);
CUDA_RUN(wl_cuda_linear_bwd);
CUDA_RUN(wl_cuda_conv);
CUDA_RUN(wl_cuda_conv_bwd);
/* depthwise.cu */
CUDA_SCRATCH(wl_cuda_depthwise_scratch);
CUDA_SCRATCH(wl_cuda_depthwise_bwd_scratch);
CUDA_RUN(wl_cuda_depthwise);
CUDA_RUN(wl_cuda_depthwise_bwd);
/* norm.cu */
CUDA_SCRATCH(wl_cuda_bn_scratch);
CUDA_RUN(wl_cuda_bn);
CUDA_RUN(wl_cuda_bn_bwd);
/* layer_norm.cu */
CUDA_SCRATCH(wl_cuda_ln_bwd_scratch);
CUDA_RUN(wl_cuda_ln);
CUDA_RUN(wl_cuda_ln_bwd);
CUDA_RUN(wl_cuda_l2norm);
CUDA_RUN(wl_cuda_l2norm_bwd);
/* attention.cu */
CUDA_SCRATCH(wl_cuda_attention_scratch);
CUDA_SCRATCH(wl_cuda_attention_bwd_scratch);
CUDA_RUN(wl_cuda_attention);
CUDA_RUN(wl_cuda_attention_bwd);
/* embed.cu */
CUDA_SCRATCH(wl_cuda_embed_bwd_scratch);
CUDA_RUN(wl_cuda_embed);
CUDA_RUN(wl_cuda_embed_bwd);
CUDA_RUN(wl_cuda_tokens);
CUDA_RUN(wl_cuda_tokens_bwd);
/* pool.cu */
CUDA_SCRATCH(wl_cuda_pool_scratch);
CUDA_SCRATCH(wl_cuda_roi_bwd_scratch);
CUDA_RUN(wl_cuda_mean_hw);
CUDA_RUN(wl_cuda_mean_hw_bwd);
CUDA_RUN(wl_cuda_channel_scale);
CUDA_RUN(wl_cuda_channel_scale_bwd);
CUDA_RUN(wl_cuda_roi);
CUDA_RUN(wl_cuda_roi_bwd);
CUDA_RUN(wl_cuda_masked_mean);
CUDA_RUN(wl_cuda_masked_mean_bwd);
/* infonce.cu */
CUDA_SCRATCH(wl_cuda_infonce_scratch);
CUDA_RUN(wl_cuda_infonce);
int wl_cuda_infonce_bwd_plan(struct cuda *c, struct wl_op *op, struct wl_err *err);
void wl_cuda_infonce_bwd_release(struct cuda *c, struct wl_op *op);
CUDA_RUN(wl_cuda_infonce_bwd);
/* near.cu */
CUDA_SCRATCH(wl_cuda_both_near_scratch);
CUDA_RUN(wl_cuda_both_near);

#endif
