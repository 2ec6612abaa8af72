/*
 * What the kernels of the convolutional tower share (depthwise.cu, norm.cu, pool.cu): batch norm
 * applied where a tensor is read, and copies that run ahead of the arithmetic.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_IMAGE_H
#define WL_TRAIN_BACKEND_CUDA_IMAGE_H

#include "train/backend/cuda/cuda.h"

/* Loops over registers must be unrolled by nvcc, or the registers become memory. */
#ifdef WL_CUDA_EMULATED
struct __attribute__((aligned(8))) uint2 {
	uint32_t x, y;
};
struct __attribute__((aligned(8))) float2 {
	float x, y;
};
#define __launch_bounds__(...)
#define CUDA_UNROLL
#define CUDA_ROLLED
#define CUDA_INLINE static inline __attribute__((always_inline))
#define CUDA_CALL static __attribute__((noinline))
#else
#include <cuda_pipeline_primitives.h>
#define CUDA_UNROLL _Pragma("unroll")
#define CUDA_ROLLED _Pragma("unroll 1")
#define CUDA_INLINE static __device__ __forceinline__
#define CUDA_CALL static __device__ __noinline__
#endif

/* --- 16 bytes from global to shared memory behind the thread's back --- */

CUDA_INLINE void ahead_copy(uint4 *shared, const void *from)
{
#ifdef WL_CUDA_EMULATED
	emulated_ahead_copy(shared, from, sizeof *shared);
#else
	__pipeline_memcpy_async(shared, from, sizeof *shared);
#endif
}

/* Closes a group of copies; each thread waits for its own. */
CUDA_INLINE void ahead_commit(void)
{
#ifdef WL_CUDA_EMULATED
	emulated_ahead_commit();
#else
	__pipeline_commit();
#endif
}

/* Until at most `groups` of the last groups are under way. */
#ifdef WL_CUDA_EMULATED
#define AHEAD_WAIT(groups) emulated_ahead_wait(groups)
#else
#define AHEAD_WAIT(groups) __pipeline_wait_prior(groups)
#endif

/* --- eight values at once --- */

/* Eight values as they lie: hi is used by f32 alone. */
struct raw8 {
	uint4 lo, hi;
};

CUDA_INLINE void raw8_floats(struct raw8 r, enum wl_dtype type, float v[8])
{
	uint32_t lo[4] = {r.lo.x, r.lo.y, r.lo.z, r.lo.w};
	uint32_t hi[4] = {r.hi.x, r.hi.y, r.hi.z, r.hi.w};

	if (is_half(type)) {
		halves_to_floats(lo, type, v);
		return;
	}
	CUDA_UNROLL
	for (int k = 0; k < 4; k++) {
		v[k] = wl_float_of_bits(lo[k]);
		v[4 + k] = wl_float_of_bits(hi[k]);
	}
}

/* To shared memory, 16 bytes aligned. */
CUDA_INLINE void store_floats8(float *to, const float v[8])
{
	struct cuda_act a = {to, WL_F32};

	act_store8(a, 0, v);
}

/* Two values at i, a multiple of 2, as they lie. */
CUDA_INLINE uint2 act_raw2(struct cuda_act a, int64_t i)
{
	uint2 u;

	u.x = u.y = 0;
	if (is_half(a.type))
		u.x = *(const uint32_t *)((const uint16_t *)a.p + i);
	else
		u = *(const uint2 *)((const float *)a.p + i);
	return u;
}

/* One value, in x. */
CUDA_INLINE uint2 act_raw1(struct cuda_act a, int64_t i)
{
	uint2 u;

	u.x = is_half(a.type) ? ((const uint16_t *)a.p)[i] : ((const uint32_t *)a.p)[i];
	u.y = 0;
	return u;
}

CUDA_INLINE float raw1_float(uint2 u, enum wl_dtype type)
{
	return is_half(type) ? half_to_float(u.x, type) : wl_float_of_bits(u.x);
}

CUDA_INLINE void raw2_floats(uint2 u, enum wl_dtype type, float v[2])
{
	v[0] = is_half(type) ? half_to_float(u.x & 0xffffu, type) : wl_float_of_bits(u.x);
	v[1] = is_half(type) ? half_to_float(u.x >> 16, type) : wl_float_of_bits(u.y);
}

CUDA_INLINE void act_store2(struct cuda_act a, int64_t i, float v0, float v1)
{
	if (is_half(a.type)) {
		*(uint32_t *)((uint16_t *)a.p + i) = half2_of_floats(v0, v1, a.type);
		return;
	}
	uint2 u;

	u.x = wl_bits_of_float(v0), u.y = wl_bits_of_float(v1);
	*(uint2 *)((float *)a.p + i) = u;
}

/* --- batch norm where a tensor is read --- */

/* z = act(gamma (x - mean) / std + beta), never written; gamma NULL: z is x itself. */
struct cuda_norm {
	const float *gamma, *beta;
	const float *saved; /* [2, c]: mean, 1/std */
	enum wl_act act;
};

/* in[at..at+2]: the batch norm before an operation's x, or none. */
static inline struct cuda_norm cuda_norm_of(const struct wl_op *op, int at)
{
	struct cuda_norm n = {cuda_f32(op->in[at]), cuda_f32(op->in[at + 1]),
		cuda_f32(op->in[at + 2]), op->attr.act};

	return n;
}

/* z = act(a x + b) of channel j of c. */
CUDA_INLINE void norm_line(struct cuda_norm n, int64_t c, int64_t j, float *a, float *b)
{
	*a = n.gamma[j] * n.saved[c + j];
	*b = n.beta[j] - n.saved[j] * *a;
}

/* One call for the activations that no network of ours has in a hot place. */
CUDA_CALL float norm_act_any(enum wl_act act, float v)
{
	return wl_act_value(act, v);
}

/*
 * 1 / (1 + e^-v).  On a GPU by the units that it has for 2^x and 1 / x: four instructions, where
 * wl_sigmoidf takes 35 or so, more than an element's bytes leave time for at 3.4 TB/s.  Relative
 * error below 2^-21 + |v| 2^-24 (PTX ISA: ex2.approx 2^-22, rcp.approx 2^-23); 0 and 1 at the ends.
 */
CUDA_INLINE float norm_sigmoid(float v)
{
#ifdef __CUDA_ARCH__
	float e, s;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(v * -1.44269504f));
	asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(s) : "f"(1.0f + e));
	return s;
#else
	return wl_sigmoidf(v);
#endif
}

CUDA_INLINE float norm_act(enum wl_act act, float v)
{
	if (act == WL_ACT_SILU)
		return v * norm_sigmoid(v);
	return act == WL_ACT_NONE ? v : norm_act_any(act, v);
}

CUDA_CALL float norm_act_grad_any(enum wl_act act, float v)
{
	return wl_act_grad(act, v);
}

CUDA_INLINE float norm_act_grad(enum wl_act act, float v)
{
	if (act == WL_ACT_SILU) {
		float s = norm_sigmoid(v);

		return s * (1.0f + v * (1.0f - s));
	}
	return act == WL_ACT_NONE ? 1.0f : norm_act_grad_any(act, v);
}

/* v: SiLU of W values z, d: its derivatives; either may be left out, v may be z. */
CUDA_INLINE void norm_silus(const int W, const float z[], float *v, float *d)
{
	CUDA_UNROLL
	for (int k = 0; k < W; k++) {
		float at = z[k], s = norm_sigmoid(at);

		if (v)
			v[k] = at * s;
		if (d)
			d[k] = s * (1.0f + at * (1.0f - s));
	}
}

/* The same of any activation, with one branch for all of a thread's channels. */
CUDA_INLINE void norm_acts(enum wl_act act, const int W, const float z[8], float *v, float *d)
{
	if (act == WL_ACT_SILU) {
		norm_silus(W, z, v, d);
		return;
	}
	CUDA_UNROLL
	for (int k = 0; k < W; k++) {
		float at = z[k];

		if (v)
			v[k] = norm_act(act, at);
		if (d)
			d[k] = norm_act_grad(act, at);
	}
}

/* The same for single values of kernels that need no speed. */
CUDA_INLINE float norm_load(struct cuda_norm n, struct cuda_act x, int64_t i, int64_t c, int64_t j)
{
	float v = act_load(x, i), a, b;

	if (!n.gamma)
		return v;
	norm_line(n, c, j, &a, &b);
	return norm_act(n.act, v * a + b);
}

/* --- passes over rows of channels --- */

/*
 * A block has `groups` threads side by side, each with `width` channels (8: one access of 16 bytes
 * in bf16), and `lanes` rows of them; it takes a chunk of `per` rows of one image.  So what belongs
 * to a channel, or to a channel of an image, stays in registers over the chunk.  The cut depends on
 * the shape alone.
 */
struct rows8 {
	int64_t images, rows, c; /* rows: of an image */
	int width, groups, lanes;
	int64_t tiles, chunks, per; /* chunks of an image */
};

enum { ROWS8_BLOCKS = 2048, ROWS8_LEAST = 16, ROWS8_MOST = 256 /* rows of a thread */ };

static inline struct rows8 rows8_of(int64_t images, int64_t rows, int64_t c)
{
	struct rows8 v = {images, rows, c, c % 8 == 0 ? 8 : 1, 1, 0, 0, 0, 0};
	int64_t wanted;

	while (v.groups < 32 && v.groups * v.width < c)
		v.groups *= 2;
	v.lanes = CUDA_THREADS / v.groups;
	v.tiles = cuda_ceil_div(c, v.groups * v.width);
	wanted = cuda_ceil_div(ROWS8_BLOCKS, v.tiles * (images > 0 ? images : 1));
	v.per = cuda_ceil_div(rows, wanted);
	v.per = v.per < ROWS8_LEAST * v.lanes ? ROWS8_LEAST * v.lanes : v.per;
	v.per = v.per > ROWS8_MOST * v.lanes ? ROWS8_MOST * v.lanes : v.per;
	v.chunks = cuda_ceil_div(rows > 0 ? rows : 1, v.per);
	return v;
}

static inline int64_t rows8_blocks(const struct rows8 *v)
{
	return v->tiles * v->chunks * v->images;
}

/* Of a block, and of a thread in it; first == end where it has no channels or rows. */
struct place8 {
	int64_t image, part; /* part: number of the chunk among those of all images */
	int64_t ch, first, end;
	int lane;
};

CUDA_INLINE struct place8 place8_of(struct rows8 v)
{
	struct place8 p;
	int64_t chunk = blockIdx.x / v.tiles % v.chunks, end = (chunk + 1) * v.per;

	p.image = blockIdx.x / v.tiles / v.chunks;
	p.part = blockIdx.x / v.tiles;
	p.lane = (int)threadIdx.x / v.groups;
	p.ch = (blockIdx.x % v.tiles * v.groups + threadIdx.x % v.groups) * v.width;
	p.end = p.image * v.rows + (end < v.rows ? end : v.rows);
	p.first = p.ch < v.c ? p.image * v.rows + chunk * v.per + p.lane : p.end;
	return p;
}

CUDA_INLINE void load_wide(struct cuda_act a, int64_t i, const int W, float v[8])
{
	if (W == 8)
		act_load8(a, i, v);
	else
		v[0] = act_load(a, i);
}

CUDA_INLINE void store_wide(struct cuda_act a, int64_t i, const int W, const float v[8])
{
	if (W == 8)
		act_store8(a, i, v);
	else
		act_store(a, i, v[0]);
}

/* v[k] = f[k] for the thread's channels, or `none` where f is NULL. */
CUDA_INLINE void load_f32(const float *f, const int W, float none, float v[8])
{
	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		v[k] = f ? f[k] : none;
}

/* The lines a x + b of the thread's channels. */
CUDA_INLINE void load_lines(
	struct cuda_norm n, int64_t c, int64_t ch, const int W, float a[8], float b[8])
{
	CUDA_UNROLL
	for (int k = 0; k < W; k++) {
		a[k] = 1, b[k] = 0;
		if (n.gamma && ch < c)
			norm_line(n, c, ch + k, &a[k], &b[k]);
	}
}

/* Sums over the block's lanes of each channel, in their order, to out[channel]; all threads. */
CUDA_INLINE void put_lanes(struct rows8 v, const int W, const float s[8], float *out)
{
	__shared__ float part[CUDA_THREADS * 8];
	int64_t first = blockIdx.x % v.tiles * v.groups * v.width;
	int e = (int)threadIdx.x, n = v.groups * v.width;
	float sum = 0;

	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		part[e * W + k] = s[k];
	__syncthreads();
	if (e < n && first + e < v.c) {
		for (int l = 0; l < v.lanes; l++)
			sum += part[l * n + e];
		out[first + e] = sum;
	}
	__syncthreads();
}

/* The end of sums by column: a block has END_COLS columns and END_LANES lanes of parts. */
enum { END_COLS = 8, END_LANES = CUDA_THREADS / END_COLS };

CUDA_INLINE int64_t end_col(void)
{
	return (int64_t)blockIdx.x * END_COLS + threadIdx.x % END_COLS;
}

/* The lanes' sums added in their order, for threads below END_COLS.  All threads. */
CUDA_INLINE void sum_lanes(double *s1, double *s2)
{
	__shared__ double lanes[2][CUDA_THREADS];

	lanes[0][threadIdx.x] = *s1;
	lanes[1][threadIdx.x] = *s2;
	__syncthreads();
	if (threadIdx.x >= END_COLS)
		return;
	for (int l = 1; l < END_LANES; l++) {
		*s1 += lanes[0][l * END_COLS + threadIdx.x];
		*s2 += lanes[1][l * END_COLS + threadIdx.x];
	}
}

/* The sums over the parts of partial [parts, 2, n] of the block's columns.  All threads. */
CUDA_INLINE void sum_parts(
	int64_t n, int64_t parts, const float *partial, int64_t col, double *s1, double *s2)
{
	*s1 = *s2 = 0;
	for (int64_t k = threadIdx.x / END_COLS; col < n && k < parts; k += END_LANES) {
		*s1 += (double)partial[2 * k * n + col];
		*s2 += (double)partial[(2 * k + 1) * n + col];
	}
	sum_lanes(s1, s2);
}

/*
 * norm.cu: mean and variance of each channel of x [n, c], to moments [2, c].  Of partial
 * [parts, 2, c], sums of x - shift and its square, or of x itself, which it reads.
 */
void wl_cuda_moments_of(struct cuda *c, int64_t ch, int64_t parts, int64_t n, const float *shift,
	const float *partial, float *moments);
void wl_cuda_moments(
	struct cuda *c, struct cuda_act x, int64_t ch, int64_t n, void *scratch, float *moments);
size_t wl_cuda_moments_scratch(int64_t ch, int64_t n);

/* norm.cu: sums [2, c] over the rows of x, g [rows, c] of g a and g a (x - mean) / std, where a is
 * the derivative of norm's activation; scratch of wl_cuda_norm_sums_scratch bytes. */
void wl_cuda_norm_sums(struct cuda *c, struct cuda_act x, struct cuda_act g, struct cuda_norm norm,
	int64_t ch, int64_t rows, void *scratch, float *sums);
size_t wl_cuda_norm_sums_scratch(int64_t ch, int64_t rows);

/* pool.cu: y [images, c] = the mean over the rows of an image of x [images, rows, c]; scratch of
 * wl_cuda_mean_scratch bytes. */
void wl_cuda_mean(struct cuda *c, struct cuda_act x, struct rows8 at, struct cuda_norm norm,
	struct cuda_act y, void *scratch);
size_t wl_cuda_mean_scratch(const struct rows8 *at);

/* Two kernels of one body: of eight channels a thread, and of one.  Three blocks on a
 * multiprocessor, so that enough reads are under way. */
#define KERNEL_8_1(name, body, type)                                                               \
	static __global__ void __launch_bounds__(CUDA_THREADS, 3) name##_8(type f)                 \
	{                                                                                          \
		body(f, 8);                                                                        \
	}                                                                                          \
	static __global__ void name##_1(type f)                                                    \
	{                                                                                          \
		body(f, 1);                                                                        \
	}
#define RUN_8_1(c, v, name, f)                                                                     \
	do {                                                                                       \
		if ((v).width == 8)                                                                \
			CUDA_BLOCKS(c, rows8_blocks(&(v)), name##_8, f);                           \
		else                                                                               \
			CUDA_BLOCKS(c, rows8_blocks(&(v)), name##_1, f);                           \
	} while (0)

#endif
