/* Element-wise operations, copies and sums. */
#include "train/backend/cuda/cuda.h"

/* Eight elements a thread: 16 bytes of bf16. */
static int64_t eights(int64_t n)
{
	return cuda_ceil_div(n, 8);
}

static __global__ void k_add(int64_t m, int64_t n, struct cuda_act a, struct cuda_act b,
	struct cuda_act y, bool wide)
{
	EACH(j, m)
	{
		float u[8], v[8];
		act_get8(a, 8 * j, n, wide, u);
		act_get8(b, 8 * j, n, wide, v);
		for (int k = 0; k < 8; k++)
			u[k] += v[k];
		act_put8(y, 8 * j, n, wide, u);
	}
}

CUDA_RUN(wl_cuda_add)
{
	(void)run;
	(void)err;
	int64_t n = cuda_count(op->out[0]);
	struct cuda_act a = cuda_act_of(op->in[0]), b = cuda_act_of(op->in[1]);
	struct cuda_act y = cuda_act_of(op->out[0]);
	CUDA_EACH(c, eights(n), k_add, n, a, b, y,
		act_wide(a, n) && act_wide(b, n) && act_wide(y, n));
	return 0;
}

/* y [+]= s * x + t; x may be absent. */
static __global__ void k_scale(int64_t m, int64_t n, struct cuda_act x, float s, float t,
	struct cuda_act y, bool acc, bool wide)
{
	EACH(j, m)
	{
		float v[8] = {0}, w[8] = {0};
		if (x.p)
			act_get8(x, 8 * j, n, wide, v);
		if (acc)
			act_get8(y, 8 * j, n, wide, w);
		for (int k = 0; k < 8; k++)
			w[k] += s * v[k] + t;
		act_put8(y, 8 * j, n, wide, w);
	}
}

static int scale(struct cuda *c, const struct wl_op *op, float s, float t)
{
	int64_t n = cuda_count(op->out[0]);
	struct cuda_act x = cuda_act_of(op->in[0]), y = cuda_act_of(op->out[0]);
	CUDA_EACH(c, eights(n), k_scale, n, x, s, t, y, cuda_acc(op, 0),
		act_wide(x, n) && act_wide(y, n));
	return 0;
}

CUDA_RUN(wl_cuda_scale)
{
	(void)run;
	(void)err;
	return scale(c, op, op->attr.scale, 0);
}

CUDA_RUN(wl_cuda_fill)
{
	(void)run;
	(void)err;
	return scale(c, op, 0, op->attr.scale);
}

CUDA_RUN(wl_cuda_copy)
{
	(void)run;
	(void)err;
	return scale(c, op, 1, 0);
}

static __global__ void k_act(int64_t m, int64_t n, enum wl_act act, struct cuda_act x,
	struct cuda_act y, bool wide)
{
	EACH(j, m)
	{
		float v[8];
		act_get8(x, 8 * j, n, wide, v);
		for (int k = 0; k < 8; k++)
			v[k] = wl_act_value(act, v[k]);
		act_put8(y, 8 * j, n, wide, v);
	}
}

void wl_cuda_apply(
	struct cuda *c, enum wl_act act, struct cuda_act x, struct cuda_act y, int64_t n)
{
	CUDA_EACH(c, eights(n), k_act, n, act, x, y, act_wide(x, n) && act_wide(y, n));
}

CUDA_RUN(wl_cuda_act)
{
	(void)run;
	(void)err;
	wl_cuda_apply(c, op->attr.act, cuda_act_of(op->in[0]), cuda_act_of(op->out[0]),
		cuda_count(op->out[0]));
	return 0;
}

static __global__ void k_act_bwd(int64_t m, int64_t n, enum wl_act act, struct cuda_act x,
	struct cuda_act gy, struct cuda_act gx, bool acc, bool wide)
{
	EACH(j, m)
	{
		float v[8], d[8], w[8] = {0};
		act_get8(x, 8 * j, n, wide, v);
		act_get8(gy, 8 * j, n, wide, d);
		if (acc)
			act_get8(gx, 8 * j, n, wide, w);
		for (int k = 0; k < 8; k++)
			w[k] += d[k] * wl_act_grad(act, v[k]);
		act_put8(gx, 8 * j, n, wide, w);
	}
}

CUDA_RUN(wl_cuda_act_bwd)
{
	(void)run;
	(void)err;
	int64_t n = cuda_count(op->out[0]);
	struct cuda_act x = cuda_act_of(op->in[0]), gy = cuda_act_of(op->in[1]);
	struct cuda_act gx = cuda_act_of(op->out[0]);
	CUDA_EACH(c, eights(n), k_act_bwd, n, op->attr.act, x, gy, gx, cuda_acc(op, 0),
		act_wide(x, n) && act_wide(gy, n) && act_wide(gx, n));
	return 0;
}

static __global__ void k_dropout(int64_t m, int64_t n, struct cuda_act x, struct cuda_act y,
	struct cuda_draw draw, bool acc, bool wide)
{
	EACH(j, m)
	{
		float v[8], w[8] = {0};
		act_get8(x, 8 * j, n, wide, v);
		if (acc)
			act_get8(y, 8 * j, n, wide, w);
		for (int k = 0; k < 8; k++)
			w[k] += v[k] * draw_keep(draw, 8 * j + k);
		act_put8(y, 8 * j, n, wide, w);
	}
}

CUDA_RUN(wl_cuda_dropout)
{
	(void)err;
	int64_t n = cuda_count(op->out[0]), samples = op->out[0]->shape.dim[0];
	struct cuda_act x = cuda_act_of(op->in[0]), y = cuda_act_of(op->out[0]);
	CUDA_EACH(c, eights(n), k_dropout, n, x, y,
		cuda_draw_of(op, run, n / (samples > 0 ? samples : 1)), cuda_acc(op, 0),
		act_wide(x, n) && act_wide(y, n));
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
static __global__ void k_slice(int64_t n, struct cuda_act x, int64_t row, int64_t at, int64_t len,
	struct cuda_act y, bool acc)
{
	EACH(i, n)
	act_store(y, i, (acc ? act_load(y, i) : 0.0f) + act_load(x, i / len * row + at + i % len));
}

CUDA_RUN(wl_cuda_slice)
{
	(void)run;
	(void)err;
	struct split s = split_of(op->in[0], op->attr.axis);
	int64_t len = op->attr.len * s.inner, n = s.outer * len;
	CUDA_EACH(c, n, k_slice, cuda_act_of(op->in[0]), s.n * s.inner, op->attr.begin * s.inner,
		len, cuda_act_of(op->out[0]), cuda_acc(op, 0));
	return 0;
}

/* gx [outer, row]: gy [outer, len] from column `at`, elsewhere 0 or what was there. */
static __global__ void k_slice_bwd(int64_t n, struct cuda_act gy, int64_t row, int64_t at,
	int64_t len, struct cuda_act gx, bool acc)
{
	EACH(i, n)
	{
		int64_t j = i % row - at;
		float v = acc ? act_load(gx, i) : 0.0f;
		act_store(gx, i, v + (j >= 0 && j < len ? act_load(gy, i / row * len + j) : 0.0f));
	}
}

CUDA_RUN(wl_cuda_slice_bwd)
{
	(void)run;
	(void)err;
	struct split s = split_of(op->out[0], op->attr.axis);
	int64_t row = s.n * s.inner, n = s.outer * row;
	CUDA_EACH(c, n, k_slice_bwd, cuda_act_of(op->in[0]), row, op->attr.begin * s.inner,
		op->attr.len * s.inner, cuda_act_of(op->out[0]), cuda_acc(op, 0));
	return 0;
}

static __global__ void k_concat(int64_t n, struct cuda_act a, int64_t la, struct cuda_act b,
	int64_t lb, struct cuda_act y)
{
	EACH(i, n)
	{
		int64_t o = i / (la + lb), j = i % (la + lb);
		act_store(y, i, j < la ? act_load(a, o * la + j) : act_load(b, o * lb + j - la));
	}
}

CUDA_RUN(wl_cuda_concat)
{
	(void)run;
	(void)err;
	struct split a = split_of(op->in[0], op->attr.axis), b = split_of(op->in[1], op->attr.axis);
	int64_t la = a.n * a.inner, lb = b.n * b.inner, n = a.outer * (la + lb);
	CUDA_EACH(c, n, k_concat, cuda_act_of(op->in[0]), la, cuda_act_of(op->in[1]), lb,
		cuda_act_of(op->out[0]));
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
