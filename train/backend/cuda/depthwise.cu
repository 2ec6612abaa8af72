/*
 * Depthwise convolution, NHWC: a thread an output (or an input, backward), neighbours in a warp
 * being neighbouring channels.  The weight gradient keeps all taps of a channel in registers and
 * sums over chunks of outputs in a fixed order.
 */
#include "train/backend/cuda/cuda.h"


struct dw {
	int64_t n, h, w, oh, ow, c;
	int k, stride, pt, pl;
};

static struct dw dw_of(const struct wl_op *op, const struct wl_tensor *x, const struct wl_tensor *y)
{
	const struct wl_op_attr *a = &op->attr;
	struct dw d = {x->shape.dim[0], x->shape.dim[1], x->shape.dim[2], y->shape.dim[1],
		y->shape.dim[2], x->shape.dim[3], a->kh, a->stride, a->pad_top, a->pad_left};
	return d;
}

static __global__ void k_forward(
	int64_t n, struct dw d, const float *x, const float *w, float *y)
{
	EACH(e, n)
	{
		int64_t ch = e % d.c, ow = e / d.c % d.ow, oh = e / (d.c * d.ow) % d.oh;
		int64_t ih = oh * d.stride - d.pt, iw = ow * d.stride - d.pl;
		const float *at = x + e / (d.c * d.ow * d.oh) * d.h * d.w * d.c + ch;
		float s = 0;
		for (int i = 0; i < d.k; i++) {
			if (ih + i < 0 || ih + i >= d.h)
				continue;
			for (int j = 0; j < d.k; j++)
				if (iw + j >= 0 && iw + j < d.w)
					s += at[((ih + i) * d.w + iw + j) * d.c] *
					     w[(i * d.k + j) * d.c + ch];
		}
		y[e] = s;
	}
}

CUDA_RUN(wl_cuda_depthwise)
{
	(void)run;
	(void)err;
	struct dw d = dw_of(op, op->in[0], op->out[0]);
	int64_t n = cuda_count(op->out[0]);
	CUDA_EACH(c, n, k_forward, d, cuda_f32(op->in[0]), cuda_f32(op->in[1]),
		cuda_f32(op->out[0]));
	return 0;
}

/* Gathers the outputs that an input went into. */
static __global__ void k_data(
	int64_t n, struct dw d, const float *gy, const float *w, float *gx, bool acc)
{
	EACH(e, n)
	{
		int64_t ch = e % d.c, iw = e / d.c % d.w, ih = e / (d.c * d.w) % d.h;
		const float *at = gy + e / (d.c * d.w * d.h) * d.oh * d.ow * d.c + ch;
		float s = 0;
		for (int i = (int)((ih + d.pt) % d.stride); i < d.k; i += d.stride) {
			int64_t oh = (ih + d.pt - i) / d.stride;
			if (ih + d.pt < i || oh >= d.oh)
				continue;
			for (int j = (int)((iw + d.pl) % d.stride); j < d.k; j += d.stride) {
				int64_t ow = (iw + d.pl - j) / d.stride;
				if (iw + d.pl >= j && ow < d.ow)
					s += at[(oh * d.ow + ow) * d.c] *
					     w[(i * d.k + j) * d.c + ch];
			}
		}
		gx[e] = old(gx, e, acc) + s;
	}
}

/* partial [chunk, tap, channel] of chunks of output positions. */
template <int K>
static __global__ void k_weights(
	struct columns v, struct dw d, const float *x, const float *gy, float *partial)
{
	COLUMN_PLACE(v);
	float s[K * K];
	for (int t = 0; t < K * K; t++)
		s[t] = 0;
	for (int64_t r = row_first; r < row_end; r += COLUMN_LANES) {
		int64_t ih = r / d.ow % d.oh * d.stride - d.pt, iw = r % d.ow * d.stride - d.pl;
		const float *at = x + r / (d.ow * d.oh) * d.h * d.w * d.c + col;
		float g = gy[r * d.c + col];
		for (int i = 0; i < K; i++)
			for (int j = 0; j < K; j++)
				if (ih + i >= 0 && ih + i < d.h && iw + j >= 0 && iw + j < d.w)
					s[i * K + j] += g * at[((ih + i) * d.w + iw + j) * d.c];
	}
	for (int t = 0; t < K * K; t++) {
		float sum = lane_sum(s[t]);
		if (threadIdx.x < COLUMN_WIDTH && col < d.c)
			partial[(chunk * K * K + t) * d.c + col] = sum;
	}
}

size_t wl_cuda_depthwise_bwd_scratch(const struct wl_op *op)
{
	struct dw d = dw_of(op, op->in[0], op->in[2]);
	struct columns v = columns_of(d.n * d.oh * d.ow, d.c);
	return (size_t)(v.chunks * d.k * d.k * d.c) * sizeof(float);
}

CUDA_RUN(wl_cuda_depthwise_bwd)
{
	struct dw d = dw_of(op, op->in[0], op->in[2]);
	struct columns v = columns_of(d.n * d.oh * d.ow, d.c);
	const float *x = cuda_f32(op->in[0]), *gy = cuda_f32(op->in[2]);
	float *gx = cuda_f32(op->out[0]), *gw = cuda_f32(op->out[1]);
	float *partial = (float *)run->scratch;
	int64_t n = d.n * d.h * d.w * d.c, taps = (int64_t)d.k * d.k * d.c;
	if (gx)
		CUDA_EACH(c, n, k_data, d, gy, cuda_f32(op->in[1]), gx, cuda_acc(op, 0));
	if (!gw)
		return 0;
	switch (d.k) {
	case 1:
		CUDA_BLOCKS(c, v.chunks * v.tiles, k_weights<1>, v, d, x, gy, partial);
		break;
	case 3:
		CUDA_BLOCKS(c, v.chunks * v.tiles, k_weights<3>, v, d, x, gy, partial);
		break;
	case 5:
		CUDA_BLOCKS(c, v.chunks * v.tiles, k_weights<5>, v, d, x, gy, partial);
		break;
	case 7:
		CUDA_BLOCKS(c, v.chunks * v.tiles, k_weights<7>, v, d, x, gy, partial);
		break;
	default:
		return wl_err_set(err, WL_EUSAGE,
			"the CUDA backend has depthwise kernels of 1, 3, 5"
			" and 7, not %d",
			d.k);
	}
	wl_cuda_colsum_end(c, partial, v.chunks, taps, gw);
	return 0;
}
