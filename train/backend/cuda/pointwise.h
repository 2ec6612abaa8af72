/*
 * 1x1 convolutions as products of our own, for what a library's product cannot do: batch norm,
 * activation and squeeze-excite gate on the operand as it is read, and the mean and variance of
 * each channel as the result is written.  Operands of bf16 or fp16, channels in multiples of 8.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_POINTWISE_H
#define WL_TRAIN_BACKEND_CUDA_POINTWISE_H

#include "train/backend/cuda/tile.h"

/* z = act(a x + b) gate, never written: how a product reads x [rows, c]. */
struct pointwise_read {
	struct cuda_act x;
	int rows, c, image_rows;
	enum wl_act act;
	const float *lines; /* [3, c]: a, b and 1; NULL: z is x itself */
	const float *gates; /* [images, c], sigmoids; NULL: the lines' 1 */
};

/* What is asked for, of a planned operation's operands. */
struct pointwise {
	int64_t rows, image_rows, i, o;
	struct cuda_act x;     /* [rows, i], of a half type */
	struct cuda_norm norm; /* of x; gamma NULL: none */
	struct cuda_act gate;  /* [images, i], before the sigmoid; NULL: none */
	/* Forward: y [rows, o] = z w' (+ bias). */
	struct cuda_act y;
	const uint16_t *w; /* [o, i], of x's type */
	const float *bias;
	float *moments; /* [2, o]: mean and variance of y as it is stored; NULL: not wanted */
	/* Backward: gw [o, i] += gy' z. */
	struct cuda_act gy;
	float *gw;
};

/* Whether an operation of these measures is ours: wl_backend.pointwise. */
bool wl_cuda_pointwise(struct wl_backend *be, int64_t rows, int64_t i, int64_t o, enum wl_act act,
	enum wl_dtype compute, enum wl_dtype store);
size_t wl_cuda_pointwise_scratch(const struct pointwise *p);
void wl_cuda_pointwise_run(struct cuda *c, const struct pointwise *p, void *scratch);
/* pointwise_weights.cu */
size_t wl_cuda_pointwise_weights_scratch(const struct pointwise *p);
void wl_cuda_pointwise_weights(struct cuda *c, const struct pointwise *p, void *scratch);

/* Tables of how p reads x, at the beginning of its scratch. */
size_t wl_cuda_pointwise_tables(const struct pointwise *p);
struct pointwise_read wl_cuda_pointwise_read(
	struct cuda *c, const struct pointwise *p, void *scratch);

/* --- for the kernels --- */

/* The activations that wl_cuda_pointwise says yes to; others want calls, which cost registers. */
CUDA_INLINE float pointwise_act(enum wl_act act, float v)
{
	if (act == WL_ACT_SILU)
		return v * norm_sigmoid(v);
	if (act == WL_ACT_RELU || act == WL_ACT_RELU6)
		v = v > 0 ? v : 0.0f;
	return act == WL_ACT_RELU6 && v > 6.0f ? 6.0f : v;
}

CUDA_INLINE float2 load_floats2(const float *from)
{
	return *(const float2 *)from;
}

/*
 * Eight channels from ch on of two rows, as they lie, to what the product takes; 0 where a row is
 * not in the block's or the channels are none.  Two channels at a time: registers are few.
 */
CUDA_INLINE void pointwise_turn_by(const struct pointwise_read *f, const enum wl_act act,
	const int row[2], int end, int ch, uint4 v[2])
{
	uint32_t u[2][4] = {{v[0].x, v[0].y, v[0].z, v[0].w}, {v[1].x, v[1].y, v[1].z, v[1].w}};
	const float *line = f->lines + (ch < f->c ? ch : 0), *gate[2];
	bool in[2];

	CUDA_UNROLL
	for (int i = 0; i < 2; i++) {
		in[i] = row[i] < end && ch < f->c;
		gate[i] = f->gates ? f->gates : line + 2 * f->c;
		if (f->gates && in[i])
			gate[i] += (int64_t)(row[i] / f->image_rows) * f->c + ch;
	}
	CUDA_UNROLL
	for (int k = 0; k < 4; k++) {
		float2 a = load_floats2(line + 2 * k), b = load_floats2(line + f->c + 2 * k);

		CUDA_UNROLL
		for (int i = 0; i < 2; i++) {
			float lo = half_to_float(u[i][k] & 0xffffu, f->x.type);
			float hi = half_to_float(u[i][k] >> 16, f->x.type);

			float2 g = load_floats2(gate[i] + 2 * k);

			lo = pointwise_act(act, lo * a.x + b.x) * g.x;
			hi = pointwise_act(act, hi * a.y + b.y) * g.y;
			u[i][k] = in[i] ? half2_of_floats(lo, hi, f->x.type) : 0;
		}
	}
	CUDA_UNROLL
	for (int i = 0; i < 2; i++)
		v[i].x = u[i][0], v[i].y = u[i][1], v[i].z = u[i][2], v[i].w = u[i][3];
}

/* No branches but this one. */
CUDA_INLINE void pointwise_turn(
	const struct pointwise_read *f, const int row[2], int end, int ch, uint4 v[2])
{
	if (f->act == WL_ACT_SILU)
		pointwise_turn_by(f, WL_ACT_SILU, row, end, ch, v);
	else
		pointwise_turn_by(f, f->act, row, end, ch, v);
}

/*
 * The kernels of a walk, one for each half type that x may have, and name_WIDTH, which launches the
 * one of f.in.x's type.  WIDTH is the tile's size that the compiler is to know; RECORD what is
 * walked, with a struct pointwise_read `in`.  Two blocks on a multiprocessor: while one puts x or
 * ends a tile the other multiplies.
 */
#define POINTWISE_KERNEL(kernel, RECORD, WALK, WIDTH, TYPE)                                        \
	static __global__ void __launch_bounds__(CUDA_THREADS, 2) kernel(RECORD f)                 \
	{                                                                                          \
		WALK(f, WIDTH, TYPE);                                                              \
	}
#define POINTWISE_KERNELS(name, RECORD, WALK, WIDTH)                                               \
	POINTWISE_KERNEL(k_##name##_bf16_##WIDTH, RECORD, WALK, WIDTH, WL_BF16)                    \
	POINTWISE_KERNEL(k_##name##_f16_##WIDTH, RECORD, WALK, WIDTH, WL_F16)                      \
	static void name##_##WIDTH(struct cuda *c, RECORD f, int64_t blocks)                       \
	{                                                                                          \
		if (f.in.x.type == WL_BF16)                                                        \
			CUDA_BLOCKS(c, blocks, k_##name##_bf16_##WIDTH, f);                        \
		else                                                                               \
			CUDA_BLOCKS(c, blocks, k_##name##_f16_##WIDTH, f);                         \
	}

#endif
