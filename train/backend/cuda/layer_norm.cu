/*
 * Layer norm with dropout and residual before it, and L2 normalisation: a block a row.
 */
#include "train/backend/cuda/cuda.h"

/* --- layer norm: a block a row --- */

struct ln {
	int64_t n; /* columns */
	const float *x, *gamma, *beta, *residual;
	float *y, *saved, *sum;
	float eps;
};

static __global__ void k_ln(struct ln v, struct cuda_draw draw)
{
	int64_t at = (int64_t)blockIdx.x * v.n;
	const float *s = v.x + at;
	double total = 0, square = 0;
	if (v.sum) {
		for (int64_t j = threadIdx.x; j < v.n; j += blockDim.x)
			v.sum[at + j] =
				v.x[at + j] * (draw.p > 0 ? draw_keep(draw, at + j) : 1.0f) +
				(v.residual ? v.residual[at + j] : 0.0f);
		s = v.sum + at;
	}
	for (int64_t j = threadIdx.x; j < v.n; j += blockDim.x)
		total += (double)s[j];
	float mean = (float)(block_sum(total) / (double)v.n);
	for (int64_t j = threadIdx.x; j < v.n; j += blockDim.x)
		square += (double)((s[j] - mean) * (s[j] - mean));
	float rstd = 1.0f / sqrtf((float)(block_sum(square) / (double)v.n) + v.eps);
	for (int64_t j = threadIdx.x; j < v.n; j += blockDim.x)
		v.y[at + j] = (s[j] - mean) * rstd * v.gamma[j] + v.beta[j];
	if (threadIdx.x == 0) {
		v.saved[2 * blockIdx.x] = mean;
		v.saved[2 * blockIdx.x + 1] = rstd;
	}
}

CUDA_RUN(wl_cuda_ln)
{
	(void)err;
	const struct wl_shape *x = &op->in[0]->shape;
	int64_t rows = wl_shape_rows(x);
	struct ln v = {wl_shape_last(x), cuda_f32(op->in[0]), cuda_f32(op->in[1]),
		cuda_f32(op->in[2]), cuda_f32(op->in[3]), cuda_f32(op->out[0]),
		cuda_f32(op->out[1]), cuda_f32(op->out[2]), op->attr.eps};
	CUDA_BLOCKS(c, rows, k_ln, v, cuda_draw_of(op, run, rows * v.n / x->dim[0]));
	return 0;
}

struct ln_bwd {
	int64_t n;
	const float *sum, *gamma, *saved, *gy;
	float *g_sum, *g_x;
	bool acc_sum, acc_x;
};

/* gs = rstd (h - mean(h) - xhat mean(h xhat)), h = g_y gamma; g_x = gs under x's dropout. */
static __global__ void k_ln_bwd(struct ln_bwd v, struct cuda_draw draw)
{
	int64_t at = (int64_t)blockIdx.x * v.n;
	float mean = v.saved[2 * blockIdx.x], rstd = v.saved[2 * blockIdx.x + 1];
	double m1 = 0, m2 = 0;
	for (int64_t j = threadIdx.x; j < v.n; j += blockDim.x) {
		float h = v.gy[at + j] * v.gamma[j];
		m1 += (double)h;
		m2 += (double)(h * (v.sum[at + j] - mean) * rstd);
	}
	float a = (float)(block_sum(m1) / (double)v.n), b = (float)(block_sum(m2) / (double)v.n);
	for (int64_t j = threadIdx.x; j < v.n; j += blockDim.x) {
		float d = rstd * (v.gy[at + j] * v.gamma[j] - a -
					 (v.sum[at + j] - mean) * rstd * b);
		/* Both may be the memory of gy, which this thread alone reads there. */
		if (v.g_sum)
			v.g_sum[at + j] = old(v.g_sum, at + j, v.acc_sum) + d;
		if (v.g_x)
			v.g_x[at + j] = old(v.g_x, at + j, v.acc_x) +
					d * (draw.p > 0 ? draw_keep(draw, at + j) : 1.0f);
	}
}

static __global__ void k_ln_params(struct columns v, const float *sum, const float *saved,
	const float *gy, float *partial)
{
	COLUMN_PLACE(v);
	float s1 = 0, s2 = 0;
	for (int64_t r = row_first; r < row_end; r += COLUMN_LANES) {
		float g = gy[r * v.cols + col];
		s1 += g;
		s2 += g * (sum[r * v.cols + col] - saved[2 * r]) * saved[2 * r + 1];
	}
	put_sums(v, chunk, col, s1, s2, partial);
}

static __global__ void k_ln_params_end(
	int64_t n, const float *partial, int64_t chunks, float *g_gamma, float *g_beta)
{
	EACH(j, n)
	{
		double s1 = 0, s2 = 0;
		for (int64_t k = 0; k < chunks; k++) {
			s1 += (double)partial[2 * k * n + j];
			s2 += (double)partial[(2 * k + 1) * n + j];
		}
		if (g_gamma)
			g_gamma[j] += (float)s2;
		if (g_beta)
			g_beta[j] += (float)s1;
	}
}

size_t wl_cuda_ln_bwd_scratch(const struct wl_op *op)
{
	const struct wl_shape *x = &op->in[0]->shape;
	struct columns v = columns_of(wl_shape_rows(x), wl_shape_last(x));
	return (size_t)(2 * v.chunks * v.cols) * sizeof(float);
}

CUDA_RUN(wl_cuda_ln_bwd)
{
	(void)err;
	const struct wl_shape *x = &op->in[0]->shape;
	struct columns p = columns_of(wl_shape_rows(x), wl_shape_last(x));
	float *partial = (float *)run->scratch;
	struct ln_bwd v = {p.cols, cuda_f32(op->in[0]), cuda_f32(op->in[1]), cuda_f32(op->in[2]),
		cuda_f32(op->in[3]), cuda_f32(op->out[0]), cuda_f32(op->out[3]), cuda_acc(op, 0),
		cuda_acc(op, 3)};
	/* The parameters first: g_sum and g_x may overwrite gy. */
	CUDA_BLOCKS(c, p.chunks * p.tiles, k_ln_params, p, v.sum, v.saved, v.gy, partial);
	CUDA_EACH(c, p.cols, k_ln_params_end, partial, p.chunks, cuda_f32(op->out[1]),
		cuda_f32(op->out[2]));
	if (v.g_sum || v.g_x)
		CUDA_BLOCKS(c, p.rows, k_ln_bwd, v,
			cuda_draw_of(op, run, p.rows * v.n / x->dim[0]));
	return 0;
}

/* --- L2 normalisation: a block a row --- */

static __global__ void k_l2norm(int64_t n, const float *x, float eps, float *y, float *norms)
{
	int64_t at = (int64_t)blockIdx.x * n;
	double s = 0;
	for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
		s += (double)(x[at + j] * x[at + j]);
	float norm = sqrtf((float)block_sum(s)), by = norm > eps ? norm : eps;
	for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
		y[at + j] = x[at + j] / by;
	/* Negative where eps ruled: the divisor was then a constant. */
	if (threadIdx.x == 0)
		norms[blockIdx.x] = norm > eps ? norm : -by;
}

CUDA_RUN(wl_cuda_l2norm)
{
	(void)run;
	(void)err;
	const struct wl_shape *x = &op->in[0]->shape;
	CUDA_BLOCKS(c, wl_shape_rows(x), k_l2norm, wl_shape_last(x), cuda_f32(op->in[0]),
		op->attr.eps, cuda_f32(op->out[0]), cuda_f32(op->out[1]));
	return 0;
}

/* gx = (gy - y (y . gy)) / |x| */
static __global__ void k_l2norm_bwd(
	int64_t n, const float *y, const float *norms, const float *gy, float *gx, bool acc)
{
	int64_t at = (int64_t)blockIdx.x * n;
	float norm = fabsf(norms[blockIdx.x]);
	double s = 0;
	for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
		s += (double)(y[at + j] * gy[at + j]);
	float dot = (float)block_sum(s);
	if (norms[blockIdx.x] < 0)
		dot = 0;
	for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
		gx[at + j] = old(gx, at + j, acc) + (gy[at + j] - y[at + j] * dot) / norm;
}

CUDA_RUN(wl_cuda_l2norm_bwd)
{
	(void)run;
	(void)err;
	const struct wl_shape *y = &op->in[0]->shape;
	CUDA_BLOCKS(c, wl_shape_rows(y), k_l2norm_bwd, wl_shape_last(y), cuda_f32(op->in[0]),
		cuda_f32(op->in[1]), cuda_f32(op->in[2]), cuda_f32(op->out[0]), cuda_acc(op, 0));
	return 0;
}
