/*
 * 1x1 convolutions as products of our own, for what a library's product cannot do: batch norm,
 * activation and squeeze-excite gate on the operand as it is read, and the mean and variance of
 * each channel as the result is written.  Operands of bf16 or fp16, channels in multiples of 8.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_POINTWISE_H
#define WL_TRAIN_BACKEND_CUDA_POINTWISE_H

#include "train/backend/cuda/mma.h"

/* z = act(a x + b) gate, never written: how a product reads x [rows, c]. */
struct pointwise_read {
	struct cuda_act x;
	int rows, c, image_rows;
	enum wl_act act;
	const float *lines; /* [2, c]: a and b; NULL: z is x itself */
	const float *gates; /* [images, c], sigmoids; NULL: 1 */
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
bool wl_cuda_pointwise(struct wl_backend *be, int64_t rows, int64_t i, int64_t o,
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

/* Where a hardware's approximations (relative error below 1e-6) are as good as the exact functions
 * once the result is rounded to a half type.  SiLU by wl_act_value is 30 instructions. */
CUDA_INLINE float pointwise_act(enum wl_act act, float v)
{
#ifdef __CUDA_ARCH__
	if (act == WL_ACT_SILU)
		return __fdividef(v, 1.0f + __expf(-v));
#endif
	return norm_act(act, v);
}

/* Eight numbers from memory whose address is a multiple of 16. */
CUDA_INLINE void load_floats8(const float *from, float v[8])
{
	struct cuda_act a = {(void *)from, CUDA_F32};

	act_load8(a, 0, v);
}

/* Eight channels from ch on of a row, as they lie, to what the product takes; a, b: their lines. */
CUDA_INLINE uint4 pointwise_turn(const struct pointwise_read *f, uint4 u, int image, int ch,
	const float a[8], const float b[8])
{
	struct raw8 raw;
	struct cuda_act to;
	float v[8], gate[8];

	raw.lo = raw.hi = u;
	raw8_floats(raw, f->x.half, v);
	if (f->gates)
		load_floats8(f->gates + (int64_t)image * f->c + ch, gate);
	CUDA_UNROLL
	for (int k = 0; k < 8; k++) {
		v[k] = pointwise_act(f->act, v[k] * a[k] + b[k]);
		v[k] = f->gates ? v[k] * gate[k] : v[k];
	}
	to.p = &u;
	to.half = f->x.half;
	act_store8(to, 0, v);
	return u;
}

#endif
