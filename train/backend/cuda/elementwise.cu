/* Element-wise operations, copies and sums. */
#include "train/backend/cuda/cuda.h"

static __global__ void k_add(int64_t n, const float *a, const float *b, float *y)
{
	EACH(i, n)
	y[i] = a[i] + b[i];
}

CUDA_RUN(wl_cuda_add)
{
	(void)run;
	(void)err;
	int64_t n = cuda_count(op->out[0]);
	CUDA_EACH(c, n, k_add, cuda_f32(op->in[0]), cuda_f32(op->in[1]), cuda_f32(op->out[0]));
	return 0;
}

/* y [+]= s * x + t; x may be NULL. */
static __global__ void k_scale(int64_t n, const float *x, float s, float t, float *y, bool acc)
{
	EACH(i, n)
	y[i] = old(y, i, acc) + (x ? s * x[i] : t);
}

CUDA_RUN(wl_cuda_scale)
{
	(void)run;
	(void)err;
	int64_t n = cuda_count(op->out[0]);
	CUDA_EACH(c, n, k_scale, cuda_f32(op->in[0]), op->attr.scale, 0.0f, cuda_f32(op->out[0]),
		cuda_acc(op, 0));
	return 0;
}

CUDA_RUN(wl_cuda_fill)
{
	(void)run;
	(void)err;
	int64_t n = cuda_count(op->out[0]);
	CUDA_EACH(c, n, k_scale, (const float *)NULL, 0.0f, op->attr.scale, cuda_f32(op->out[0]),
		cuda_acc(op, 0));
	return 0;
}

CUDA_RUN(wl_cuda_copy)
{
	(void)run;
	(void)err;
	int64_t n = cuda_count(op->out[0]);
	CUDA_EACH(c, n, k_scale, cuda_f32(op->in[0]), 1.0f, 0.0f, cuda_f32(op->out[0]),
		cuda_acc(op, 0));
	return 0;
}

static __global__ void k_act(int64_t n, enum wl_act act, const float *x, float *y)
{
	EACH(i, n)
	y[i] = wl_act_value(act, x[i]);
}

CUDA_RUN(wl_cuda_act)
{
	(void)run;
	(void)err;
	int64_t n = cuda_count(op->out[0]);
	CUDA_EACH(c, n, k_act, op->attr.act, cuda_f32(op->in[0]), cuda_f32(op->out[0]));
	return 0;
}

static __global__ void k_act_bwd(
	int64_t n, enum wl_act act, const float *x, const float *gy, float *gx, bool acc)
{
	EACH(i, n)
	gx[i] = old(gx, i, acc) + gy[i] * wl_act_grad(act, x[i]);
}

CUDA_RUN(wl_cuda_act_bwd)
{
	(void)run;
	(void)err;
	int64_t n = cuda_count(op->out[0]);
	CUDA_EACH(c, n, k_act_bwd, op->attr.act, cuda_f32(op->in[0]), cuda_f32(op->in[1]),
		cuda_f32(op->out[0]), cuda_acc(op, 0));
	return 0;
}

static __global__ void k_dropout(
	int64_t n, const float *x, float *y, struct cuda_draw draw, bool acc)
{
	EACH(i, n)
	y[i] = old(y, i, acc) + x[i] * draw_keep(draw, i);
}

CUDA_RUN(wl_cuda_dropout)
{
	(void)err;
	int64_t n = cuda_count(op->out[0]), samples = op->out[0]->shape.dim[0];
	CUDA_EACH(c, n, k_dropout, cuda_f32(op->in[0]), cuda_f32(op->out[0]),
		cuda_draw_of(op, run, n / (samples > 0 ? samples : 1)), cuda_acc(op, 0));
	return 0;
}

/* --- slices: tensors seen as [outer, n, inner] about an axis --- */

struct split {
	int64_t outer, n, inner;
};

static struct split split_of(const struct wl_tensor *t, int axis)
{
	struct split s = {1, t->shape.dim[axis], 1};
	for (int i = 0; i < t->shape.rank; i++) {
		if (i < axis)
			s.outer *= t->shape.dim[i];
		if (i > axis)
			s.inner *= t->shape.dim[i];
	}
	return s;
}

/* y [outer, len] [+]= x [outer, row] from column `at`. */
static __global__ void k_slice(
	int64_t n, const float *x, int64_t row, int64_t at, int64_t len, float *y, bool acc)
{
	EACH(i, n)
	y[i] = old(y, i, acc) + x[i / len * row + at + i % len];
}

CUDA_RUN(wl_cuda_slice)
{
	(void)run;
	(void)err;
	struct split s = split_of(op->in[0], op->attr.axis);
	int64_t len = op->attr.len * s.inner, n = s.outer * len;
	CUDA_EACH(c, n, k_slice, cuda_f32(op->in[0]), s.n * s.inner, op->attr.begin * s.inner, len,
		cuda_f32(op->out[0]), cuda_acc(op, 0));
	return 0;
}

/* gx [outer, row]: gy [outer, len] from column `at`, elsewhere 0 or what was there. */
static __global__ void k_slice_bwd(
	int64_t n, const float *gy, int64_t row, int64_t at, int64_t len, float *gx, bool acc)
{
	EACH(i, n)
	{
		int64_t j = i % row - at;
		gx[i] = old(gx, i, acc) + (j >= 0 && j < len ? gy[i / row * len + j] : 0.0f);
	}
}

CUDA_RUN(wl_cuda_slice_bwd)
{
	(void)run;
	(void)err;
	struct split s = split_of(op->out[0], op->attr.axis);
	int64_t row = s.n * s.inner, n = s.outer * row;
	CUDA_EACH(c, n, k_slice_bwd, cuda_f32(op->in[0]), row, op->attr.begin * s.inner,
		op->attr.len * s.inner, cuda_f32(op->out[0]), cuda_acc(op, 0));
	return 0;
}

static __global__ void k_concat(
	int64_t n, const float *a, int64_t la, const float *b, int64_t lb, float *y)
{
	EACH(i, n)
	{
		int64_t o = i / (la + lb), j = i % (la + lb);
		y[i] = j < la ? a[o * la + j] : b[o * lb + j - la];
	}
}

CUDA_RUN(wl_cuda_concat)
{
	(void)run;
	(void)err;
	struct split a = split_of(op->in[0], op->attr.axis), b = split_of(op->in[1], op->attr.axis);
	int64_t la = a.n * a.inner, lb = b.n * b.inner, n = a.outer * (la + lb);
	CUDA_EACH(c, n, k_concat, cuda_f32(op->in[0]), la, cuda_f32(op->in[1]), lb,
		cuda_f32(op->out[0]));
	return 0;
}

/* --- sums --- */

/* partial[block] = the sum of x * y over the block's share, which depends on n alone. */
static __global__ void k_dot(int64_t n, const float *x, const float *y, double *partial)
{
	double s = 0;
	EACH(i, n)
	s += (double)x[i] * (double)y[i];
	s = block_sum(s);
	if (threadIdx.x == 0)
		partial[blockIdx.x] = s;
}

/* The partial sums to *total, and to *to where wanted. */
static __global__ void k_total(int64_t n, const double *partial, double *total, float *to)
{
	double s = 0;
	for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
		s += partial[i];
	s = block_sum(s);
	if (threadIdx.x == 0) {
		*total = s;
		if (to)
			*to = (float)s;
	}
}

static void dot(struct cuda *c, const float *x, const float *y, int64_t n, float *to)
{
	int64_t blocks = cuda_blocks(n);
	if (blocks > CUDA_REDUCE_BLOCKS)
		blocks = CUDA_REDUCE_BLOCKS;
	CUDA_BLOCKS(c, blocks, k_dot, n, x, y, c->reduce);
	CUDA_BLOCKS(c, 1, k_total, blocks, c->reduce, c->reduce + CUDA_REDUCE_BLOCKS, to);
}

CUDA_RUN(wl_cuda_dot)
{
	(void)run;
	(void)err;
	dot(c, cuda_f32(op->in[0]), cuda_f32(op->in[1]), cuda_count(op->in[0]),
		cuda_f32(op->out[0]));
	return 0;
}

static __global__ void k_times(int64_t n, const float *g, const float *x, float *to, bool acc)
{
	EACH(i, n)
	to[i] = old(to, i, acc) + *g * x[i];
}

CUDA_RUN(wl_cuda_dot_bwd)
{
	(void)run;
	(void)err;
	int64_t n = cuda_count(op->in[0]);
	for (int k = 0; k < 2; k++)
		if (op->out[k])
			CUDA_EACH(c, n, k_times, cuda_f32(op->in[2]), cuda_f32(op->in[1 - k]),
				cuda_f32(op->out[k]), cuda_acc(op, k));
	return 0;
}

double wl_cuda_sum_squares(struct wl_backend *be, const float *x, int64_t n)
{
	struct cuda *c = (struct cuda *)be->impl;
	double total = NAN; /* stays where the device fails, which sync reports */
	dot(c, x, x, n, NULL);
	be->download(be, &total, c->reduce + CUDA_REDUCE_BLOCKS, sizeof total);
	return total;
}
