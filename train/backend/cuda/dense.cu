/*
 * Linear layers and dense convolution, both as matrix products of the library.  A 1x1 convolution
 * with stride 1 (nearly all of an EfficientNet) is one as it lies; any other (the stem, a ViT's
 * patches) is one over patches gathered first.
 */
#include "train/backend/cuda/cuda.h"

/* --- products --- */

#ifdef WL_CUDA_EMULATED
typedef uint16_t bf16_bits;
#else
typedef unsigned short bf16_bits;
#endif

/* Rounds to nearest, ties to even. */
static __global__ void k_bf16(int64_t n, const float *x, bf16_bits *y)
{
	EACH(i, n)
	{
		uint32_t u = wl_bits_of_float(x[i]);
		bool nan = (u & 0x7fffffffu) > 0x7f800000u;
		y[i] = (bf16_bits)(nan ? (u >> 16) | 0x40u
				       : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
	}
}

/* Floats from the first to the last that a matrix's rows and columns touch. */
static int64_t extent(int64_t rows, int64_t cols, int64_t row, int64_t col)
{
	return rows && cols ? (rows - 1) * row + (cols - 1) * col + 1 : 0;
}

int wl_cuda_gemm(struct cuda *c, const struct cuda_gemm *g, void *scratch, struct wl_err *err)
{
	const void *a = g->a, *b = g->b;
	if (!g->m || !g->n)
		return 0;
	if (g->bf16) {
		int64_t na = extent(g->m, g->k, g->a_row, g->a_col);
		int64_t nb = extent(g->k, g->n, g->b_row, g->b_col);
		bf16_bits *to_a = (bf16_bits *)scratch;
		bf16_bits *to_b = to_a + cuda_round((size_t)na * 2) / 2;
		CUDA_EACH(c, na, k_bf16, g->a, to_a);
		CUDA_EACH(c, nb, k_bf16, g->b, to_b);
		a = to_a;
		b = to_b;
	}
	return wl_cuda_blas(c, g, a, b, err);
}

static __global__ void k_epilogue(
	int64_t n, float *y, const float *bias, enum wl_act act, float *z, int64_t cols)
{
	EACH(i, n)
	{
		float v = y[i] + (bias ? bias[i % cols] : 0.0f);
		if (z)
			z[i] = v;
		y[i] = wl_act_value(act, v);
	}
}

void wl_cuda_epilogue(struct cuda *c, float *y, const float *bias, enum wl_act act, float *z,
	int64_t rows, int64_t cols)
{
	int64_t n = rows * cols;
	if (bias || z || act != WL_ACT_NONE)
		CUDA_EACH(c, n, k_epilogue, y, bias, act, z, cols);
}

/* --- sums of columns --- */

static __global__ void k_colsum(struct columns v, const float *x, float *partial)
{
	COLUMN_PLACE(v);
	float s = 0;
	for (int64_t r = row_first; r < row_end; r += COLUMN_LANES)
		s += x[r * v.cols + col];
	s = lane_sum(s);
	if (threadIdx.x < COLUMN_WIDTH && col < v.cols)
		partial[chunk * v.cols + col] = s;
}

static __global__ void k_colsum_end(int64_t n, const float *partial, int64_t chunks, float *out)
{
	EACH(j, n)
	{
		double s = 0;
		for (int64_t k = 0; k < chunks; k++)
			s += (double)partial[k * n + j];
		out[j] += (float)s;
	}
}

void wl_cuda_colsum_end(
	struct cuda *c, const float *partial, int64_t chunks, int64_t n, float *out)
{
	CUDA_EACH(c, n, k_colsum_end, partial, chunks, out);
}

size_t wl_cuda_colsum_scratch(int64_t rows, int64_t cols)
{
	struct columns v = columns_of(rows, cols);
	return (size_t)(v.chunks * cols) * sizeof(float);
}

void wl_cuda_colsum(
	struct cuda *c, const float *x, int64_t rows, int64_t cols, float *out, void *scratch)
{
	struct columns v = columns_of(rows, cols);
	float *partial = (float *)scratch;
	CUDA_BLOCKS(c, v.chunks * v.tiles, k_colsum, v, x, partial);
	wl_cuda_colsum_end(c, partial, v.chunks, cols, out);
}

/* --- linear --- */

static bool in_bf16(const struct wl_op *op)
{
	return op->attr.compute == WL_BF16;
}

size_t wl_cuda_linear_scratch(const struct wl_op *op)
{
	const struct wl_shape *x = &op->in[0]->shape, *y = &op->out[0]->shape;
	return in_bf16(op) ? wl_cuda_gemm_scratch(wl_shape_rows(x), wl_shape_last(y),
				     wl_shape_last(x))
			   : 0;
}

CUDA_RUN(wl_cuda_linear)
{
	const struct wl_shape *x = &op->in[0]->shape, *y = &op->out[0]->shape;
	int64_t rows = wl_shape_rows(x), i = wl_shape_last(x), o = wl_shape_last(y);
	struct cuda_gemm g = {rows, o, i, cuda_f32(op->in[0]), i, 1, cuda_f32(op->in[1]), 1, i,
		cuda_f32(op->out[0]), o, false, in_bf16(op)};
	WL_TRY(wl_cuda_gemm(c, &g, run->scratch, err));
	wl_cuda_epilogue(c, cuda_f32(op->out[0]), cuda_f32(op->in[2]), op->attr.act,
		cuda_f32(op->out[1]), rows, o);
	return 0;
}

static __global__ void k_act_grad(int64_t n, enum wl_act act, const float *y, const float *z,
	const float *gy, float *gz)
{
	EACH(i, n)
	gz[i] = gy[i] * (wl_act_grad_from_y(act) ? wl_act_grad_y(act, y[i])
						 : wl_act_grad(act, z[i]));
}

/* Scratch: gz [rows,O] where there is an activation, then what the largest step needs. */
static size_t gz_bytes(const struct wl_op *op)
{
	return op->attr.act == WL_ACT_NONE ? 0 : cuda_round(wl_tensor_bytes(op->in[4]));
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

size_t wl_cuda_linear_bwd_scratch(const struct wl_op *op)
{
	int64_t rows = wl_shape_rows(&op->in[0]->shape), i = wl_shape_last(&op->in[0]->shape);
	int64_t o = wl_shape_last(&op->in[4]->shape);
	size_t most = wl_cuda_colsum_scratch(rows, o);
	if (in_bf16(op))
		most = larger(most, larger(wl_cuda_gemm_scratch(o, i, rows),
					    wl_cuda_gemm_scratch(rows, i, o)));
	return gz_bytes(op) + most;
}

CUDA_RUN(wl_cuda_linear_bwd)
{
	int64_t rows = wl_shape_rows(&op->in[0]->shape), i = wl_shape_last(&op->in[0]->shape);
	int64_t o = wl_shape_last(&op->in[4]->shape), n = rows * o;
	const float *x = cuda_f32(op->in[0]), *w = cuda_f32(op->in[1]), *gz = cuda_f32(op->in[4]);
	float *gx = cuda_f32(op->out[0]), *gw = cuda_f32(op->out[1]), *gb = cuda_f32(op->out[2]);
	void *scratch = (char *)run->scratch + gz_bytes(op);
	if (op->attr.act != WL_ACT_NONE) {
		float *own = (float *)run->scratch;
		CUDA_EACH(c, n, k_act_grad, op->attr.act, cuda_f32(op->in[2]), cuda_f32(op->in[3]),
			gz, own);
		gz = own;
	}
	if (gw) {
		struct cuda_gemm g = {
			o, i, rows, gz, 1, o, x, i, 1, gw, i, true, in_bf16(op)};
		WL_TRY(wl_cuda_gemm(c, &g, scratch, err));
	}
	if (gb)
		wl_cuda_colsum(c, gz, rows, o, gb, scratch);
	if (gx) {
		struct cuda_gemm g = {
			rows, i, o, gz, o, 1, w, i, 1, gx, i, cuda_acc(op, 0), in_bf16(op)};
		WL_TRY(wl_cuda_gemm(c, &g, scratch, err));
	}
	return 0;
}

/* --- convolution --- */

struct conv {
	int64_t n, h, w, i, oh, ow, o;
	int64_t patch, rows; /* kh * kw * i; n * oh * ow */
	int kh, kw, stride, pt, pl;
};

static struct conv conv_of(
	const struct wl_op *op, const struct wl_tensor *x, const struct wl_tensor *y)
{
	const struct wl_op_attr *a = &op->attr;
	struct conv v = {x->shape.dim[0], x->shape.dim[1], x->shape.dim[2], x->shape.dim[3],
		y->shape.dim[1], y->shape.dim[2], y->shape.dim[3], 0, 0, a->kh, a->kw, a->stride,
		a->pad_top, a->pad_left};
	v.patch = v.i * v.kh * v.kw;
	v.rows = v.n * v.oh * v.ow;
	return v;
}

static bool is_product(const struct conv *v)
{
	return v->kh == 1 && v->kw == 1 && v->stride == 1;
}

/* out [rows, patch]; zeros outside the image. */
static __global__ void k_gather(int64_t n, struct conv v, const float *x, float *out)
{
	EACH(e, n)
	{
		int64_t r = e / v.patch, t = e % v.patch, ch = t % v.i, kw = t / v.i % v.kw;
		int64_t ow = r % v.ow, oh = r / v.ow % v.oh, img = r / (v.ow * v.oh);
		int64_t ih = oh * v.stride - v.pt + t / (v.i * v.kw);
		int64_t iw = ow * v.stride - v.pl + kw;
		bool inside = ih >= 0 && ih < v.h && iw >= 0 && iw < v.w;
		out[e] = inside ? x[((img * v.h + ih) * v.w + iw) * v.i + ch] : 0.0f;
	}
}

/* gx [+]= every patch element that came from it, in the order of the kernel's taps. */
static __global__ void k_scatter(
	int64_t n, struct conv v, const float *patches, float *gx, bool acc)
{
	EACH(e, n)
	{
		int64_t ch = e % v.i, iw = e / v.i % v.w, ih = e / (v.i * v.w) % v.h;
		int64_t img = e / (v.i * v.w * v.h);
		float s = 0;
		for (int kh = (int)((ih + v.pt) % v.stride); kh < v.kh; kh += v.stride) {
			int64_t oh = (ih + v.pt - kh) / v.stride;
			if (ih + v.pt < kh || oh >= v.oh)
				continue;
			for (int kw = (int)((iw + v.pl) % v.stride); kw < v.kw; kw += v.stride) {
				int64_t ow = (iw + v.pl - kw) / v.stride;
				if (iw + v.pl < kw || ow >= v.ow)
					continue;
				s += patches[((img * v.oh + oh) * v.ow + ow) * v.patch +
					     (kh * v.kw + kw) * v.i + ch];
			}
		}
		gx[e] = old(gx, e, acc) + s;
	}
}

static size_t patch_bytes(const struct conv *v)
{
	return is_product(v) ? 0 : cuda_round((size_t)(v->rows * v->patch) * sizeof(float));
}

size_t wl_cuda_conv_scratch(const struct wl_op *op)
{
	struct conv v = conv_of(op, op->in[0], op->out[0]);
	return patch_bytes(&v) + (in_bf16(op) ? wl_cuda_gemm_scratch(v.rows, v.o, v.patch) : 0);
}

/* The patches of x: x itself, or gathered at the beginning of the scratch. */
static const float *patches_of(
	struct cuda *c, const struct conv *v, const float *x, void *scratch)
{
	int64_t n = v->rows * v->patch;
	float *patches = (float *)scratch;
	if (is_product(v))
		return x;
	CUDA_EACH(c, n, k_gather, *v, x, patches);
	return patches;
}

CUDA_RUN(wl_cuda_conv)
{
	struct conv v = conv_of(op, op->in[0], op->out[0]);
	const float *x = patches_of(c, &v, cuda_f32(op->in[0]), run->scratch);
	struct cuda_gemm g = {v.rows, v.o, v.patch, x, v.patch, 1, cuda_f32(op->in[1]), 1, v.patch,
		cuda_f32(op->out[0]), v.o, false, in_bf16(op)};
	WL_TRY(wl_cuda_gemm(c, &g, (char *)run->scratch + patch_bytes(&v), err));
	wl_cuda_epilogue(c, cuda_f32(op->out[0]), cuda_f32(op->in[2]), WL_ACT_NONE, NULL, v.rows,
		v.o);
	return 0;
}

size_t wl_cuda_conv_bwd_scratch(const struct wl_op *op)
{
	struct conv v = conv_of(op, op->in[0], op->in[2]);
	size_t most = wl_cuda_colsum_scratch(v.rows, v.o);
	if (in_bf16(op))
		most = larger(most, larger(wl_cuda_gemm_scratch(v.o, v.patch, v.rows),
					    wl_cuda_gemm_scratch(v.rows, v.patch, v.o)));
	return patch_bytes(&v) + most;
}

CUDA_RUN(wl_cuda_conv_bwd)
{
	struct conv v = conv_of(op, op->in[0], op->in[2]);
	const float *w = cuda_f32(op->in[1]), *gy = cuda_f32(op->in[2]);
	float *gx = cuda_f32(op->out[0]), *gw = cuda_f32(op->out[1]), *gb = cuda_f32(op->out[2]);
	void *rest = (char *)run->scratch + patch_bytes(&v);
	if (gw) {
		const float *x = patches_of(c, &v, cuda_f32(op->in[0]), run->scratch);
		struct cuda_gemm g = {v.o, v.patch, v.rows, gy, 1, v.o, x, v.patch, 1, gw, v.patch,
			true, in_bf16(op)};
		WL_TRY(wl_cuda_gemm(c, &g, rest, err));
	}
	if (gx) {
		bool direct = is_product(&v);
		float *patches = direct ? gx : (float *)run->scratch;
		int64_t n = v.n * v.h * v.w * v.i;
		struct cuda_gemm g = {v.rows, v.patch, v.o, gy, v.o, 1, w, v.patch, 1, patches,
			v.patch, direct && cuda_acc(op, 0), in_bf16(op)};
		WL_TRY(wl_cuda_gemm(c, &g, rest, err));
		if (!direct)
			CUDA_EACH(c, n, k_scatter, v, patches, gx, cuda_acc(op, 0));
	}
	if (gb)
		wl_cuda_colsum(c, gy, v.rows, v.o, gb, rest);
	return 0;
}
