/*
 * Linear layers as products of the library, and the products that conv.cu is made of too.
 *
 * Bytes that a linear layer moves at least, with e bytes an element (2 in bf16): forward
 * e (rows i + o i + rows o), 2 rows i o operations; an activation that the library does not do
 * (GELU, SiLU) writes z as well and reads it back, 2 e rows o more.  Backward e (2 rows i + 2 o i +
 * 2 rows o) + 8 o i (gradients of weights are added to, in f32) for twice the operations, and
 * 3 e rows o for the derivative of an activation.  The bias' gradient costs nothing where the
 * library sums it on the way, else e rows o.
 */
#include "train/backend/cuda/dense.h"

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

/* --- sums of columns --- */

static __global__ void k_colsum(struct columns v, struct cuda_act x, float *partial)
{
	COLUMN_PLACE(v);
	float s = 0;
	for (int64_t r = row_first; r < row_end; r += COLUMN_LANES)
		s += act_load(x, r * v.cols + col);
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

size_t wl_cuda_colsum_scratch(int64_t rows, int64_t cols)
{
	struct columns v = columns_of(rows, cols);
	return (size_t)(v.chunks * cols) * sizeof(float);
}

void wl_cuda_colsum(
	struct cuda *c, const float *x, int64_t rows, int64_t cols, float *out, void *scratch)
{
	struct cuda_act f32 = {(void *)x, WL_F32};
	wl_cuda_colsum_act(c, f32, rows, cols, out, scratch);
}

void wl_cuda_colsum_act(struct cuda *c, struct cuda_act x, int64_t rows, int64_t cols, float *out,
	void *scratch)
{
	struct columns v = columns_of(rows, cols);
	float *partial = (float *)scratch;
	CUDA_BLOCKS(c, v.chunks * v.tiles, k_colsum, v, x, partial);
	CUDA_EACH(c, cols, k_colsum_end, partial, v.chunks, out);
}

/* --- an operation's products --- */

/* While planning scratch is nowhere, at an address as aligned as it will be. */
enum { NOWHERE = 1 << 20 };

void *wl_dense_lend(struct dense *d, size_t bytes)
{
	void *p = d->scratch + d->used;
	d->used += cuda_round(bytes);
	d->most = d->used > d->most ? d->used : d->most;
	return p;
}

struct cuda_act wl_dense_lend_act(struct dense *d, int64_t n, enum wl_dtype type)
{
	struct cuda_act a = {wl_dense_lend(d, (size_t)n * (is_half(type) ? 2 : 4)), type};
	return a;
}

static struct dense dense_of(struct cuda *c, const struct wl_op *op, void *scratch)
{
	struct dense d = {c, op, (struct dense_plan *)op->plan, !scratch,
		op->attr.compute, 0, scratch ? (char *)scratch : (char *)NOWHERE, 0, 0,
		NULL};
	d.workspace = wl_dense_lend(&d, CUDA_WORKSPACE);
	return d;
}

struct cuda_act wl_dense_typed(struct dense *d, struct cuda_act x, int64_t n)
{
	struct cuda_act to;
	if (x.type == d->type)
		return x;
	to = wl_dense_lend_act(d, n, d->type);
	if (!d->planning)
		wl_cuda_convert(d->c, x, to, n);
	return to;
}

int wl_dense_weight(struct dense *d, const struct wl_tensor *w, const struct wl_tensor *beside,
	enum wl_dtype type, struct cuda_act *out, struct wl_err *err)
{
	struct cuda_act x = {w ? w->data : NULL, WL_F32};
	int64_t n = w ? cuda_count(w) : 0;
	*out = x;
	if (!w || !is_half(type))
		return 0;
	if (!wl_cuda_in_one(d->c, x.p, beside->data)) {
		if (d->planning)
			WL_TRY(wl_cuda_weight_declare(
				d->c, (const float *)x.p, n, type, err));
		*out = wl_cuda_shadow(d->c, (const float *)x.p);
		if (!d->planning)
			out->p = (void *)wl_cuda_weight_half(
				d->c, (const float *)x.p, n, type);
		if (out->p && out->type == type)
			return 0;
	}
	*out = wl_dense_lend_act(d, n, type);
	if (!d->planning)
		wl_cuda_convert(d->c, x, *out, n);
	return 0;
}

int wl_dense_multiply(struct dense *d, const struct cuda_product *p, struct wl_err *err)
{
	void **plan = &d->plan->product[d->next++];
	if (d->planning)
		return wl_cuda_product_plan(d->c, p, plan, err);
	return p->m && p->n ? wl_cuda_product(d->c, *plan, p, d->workspace, err) : 0;
}

static __global__ void k_gain(int64_t n, const float *x, float *y)
{
	EACH(i, n)
	y[i] += x[i];
}

int wl_dense_weight_grads(struct dense *d, struct cuda_act gz, struct cuda_act x, int64_t rows,
	int64_t i, int64_t o, float *gw, float *gb, struct wl_err *err)
{
	struct cuda_act to = {gw, WL_F32};
	struct cuda_product p = {o, i, rows, gz, 1, o, x, i, 1, to, i, true, {NULL, WL_F32}, false,
		NULL};
	bool summed = false;
	if (gw) {
		p.rowsum = gb ? (float *)wl_dense_lend(d, (size_t)o * sizeof *gb) : NULL;
		WL_TRY(wl_dense_multiply(d, &p, err));
		summed = gb && wl_cuda_product_sums(d->plan->product[d->next - 1]);
	}
	if (summed && !d->planning)
		CUDA_EACH(d->c, o, k_gain, p.rowsum, gb);
	if (gb && !summed) {
		void *scratch = wl_dense_lend(d, wl_cuda_colsum_scratch(rows, o));
		if (!d->planning)
			wl_cuda_colsum_act(d->c, gz, rows, o, gb, scratch);
	}
	return 0;
}

/* --- linear --- */

/*
 * The library adds the bias and does ReLU; its GELU is the tanh form and ours erf's, so that and
 * the others are a pass of their own over what it wrote.
 */
static int linear(struct dense *d, struct wl_err *err)
{
	const struct wl_op *op = d->op;
	int64_t rows = wl_shape_rows(&op->in[0]->shape), i = wl_shape_last(&op->in[0]->shape);
	int64_t o = wl_shape_last(&op->out[0]->shape);
	enum wl_act act = op->attr.act;
	struct cuda_act y = cuda_act_of(op->out[0]), z = cuda_act_of(op->out[1]), to = z.p ? z : y;
	bool apart = z.p || (act != WL_ACT_NONE && act != WL_ACT_RELU);
	struct cuda_act x = wl_dense_typed(d, cuda_act_of(op->in[0]), rows * i);
	struct cuda_product p = {rows, o, i, x, i, 1, {NULL, WL_F32}, 1, i, to, o, false,
		{NULL, WL_F32}, act == WL_ACT_RELU && !apart, NULL};
	WL_TRY(wl_dense_weight(d, op->in[1], op->out[0], d->type, &p.b, err));
	WL_TRY(wl_dense_weight(d, op->in[2], op->out[0], to.type, &p.bias, err));
	WL_TRY(wl_dense_multiply(d, &p, err));
	if (apart && !d->planning)
		wl_cuda_apply(d->c, act, to, y, rows * o);
	return 0;
}

/* gz = gy * act', with what act' needs: y or z. */
static __global__ void k_act_grad(int64_t m, int64_t n, enum wl_act act, struct cuda_act yz,
	struct cuda_act gy, struct cuda_act gz, bool wide)
{
	EACH(j, m)
	{
		float v[8], g[8];
		act_get8(yz, 8 * j, n, wide, v);
		act_get8(gy, 8 * j, n, wide, g);
		for (int k = 0; k < 8; k++)
			g[k] *= wl_act_grad_from_y(act) ? wl_act_grad_y(act, v[k])
							: wl_act_grad(act, v[k]);
		act_put8(gz, 8 * j, n, wide, g);
	}
}

static struct cuda_act act_grad(struct dense *d, int64_t n)
{
	const struct wl_op *op = d->op;
	enum wl_act act = op->attr.act;
	struct cuda_act gy = cuda_act_of(op->in[4]), gz;
	struct cuda_act yz = cuda_act_of(op->in[wl_act_grad_from_y(act) ? 2 : 3]);
	if (act == WL_ACT_NONE)
		return wl_dense_typed(d, gy, n);
	gz = wl_dense_lend_act(d, n, d->type);
	if (!d->planning)
		CUDA_EACH(d->c, cuda_ceil_div(n, 8), k_act_grad, n, act, yz, gy, gz,
			act_wide(yz, n) && act_wide(gy, n) && act_wide(gz, n));
	return gz;
}

static int linear_bwd(struct dense *d, struct wl_err *err)
{
	const struct wl_op *op = d->op;
	int64_t rows = wl_shape_rows(&op->in[0]->shape), i = wl_shape_last(&op->in[0]->shape);
	int64_t o = wl_shape_last(&op->in[4]->shape);
	float *gw = cuda_f32(op->out[1]), *gb = cuda_f32(op->out[2]);
	struct cuda_act gx = cuda_act_of(op->out[0]), gz = act_grad(d, rows * o);
	struct cuda_act x = cuda_act_of(op->in[0]);
	if (gw)
		x = wl_dense_typed(d, x, rows * i);
	WL_TRY(wl_dense_weight_grads(d, gz, x, rows, i, o, gw, gb, err));
	if (op->out[0]) {
		struct cuda_product p = {rows, i, o, gz, o, 1, {NULL, WL_F32}, i, 1, gx, i,
			cuda_acc(op, 0), {NULL, WL_F32}, false, NULL};
		WL_TRY(wl_dense_weight(d, op->in[1], op->in[4], d->type, &p.b, err));
		WL_TRY(wl_dense_multiply(d, &p, err));
	}
	return 0;
}

/* --- the table's functions --- */

static int walk(struct dense *d, struct wl_err *err)
{
	switch (d->op->kind) {
	case WL_OP_LINEAR:
		return linear(d, err);
	case WL_OP_LINEAR_BWD:
		return linear_bwd(d, err);
	case WL_OP_CONV:
		return wl_dense_conv(d, err);
	default:
		return wl_dense_conv_bwd(d, err);
	}
}

/* Other products would want every half activation converted up and down again: nobody asks. */
static enum wl_dtype unlike(const struct wl_op *op)
{
	const struct wl_tensor *t;
	for (int k = 0; k < WL_OP_IN + WL_OP_OUT; k++) {
		t = k < WL_OP_IN ? op->in[k] : op->out[k - WL_OP_IN];
		if (t && is_half(t->dtype) && t->dtype != op->attr.compute)
			return t->dtype;
	}
	return WL_F32;
}

int wl_cuda_dense_plan(struct cuda *c, struct wl_op *op, struct wl_err *err)
{
	struct dense d;
	enum wl_dtype stored = unlike(op);
	if (stored != WL_F32)
		return wl_err_set(err, WL_EUSAGE, "activations are stored in %s and products take "
			"%s: expected compute_dtype %s where store is %s", wl_dtype_name(stored),
			wl_dtype_name(op->attr.compute), wl_dtype_name(stored),
			wl_dtype_name(stored));
	op->plan = calloc(1, sizeof(struct dense_plan));
	if (!op->plan)
		return wl_err_nomem(err, "the plan of a product", sizeof(struct dense_plan));
	d = dense_of(c, op, NULL);
	WL_TRY(walk(&d, err));
	op->scratch_bytes = d.most;
	return 0;
}

void wl_cuda_dense_release(struct cuda *c, struct wl_op *op)
{
	struct dense_plan *plan = (struct dense_plan *)op->plan;
	for (int k = 0; plan && k < 2; k++) {
		wl_cuda_product_release(c, plan->product[k]);
		wl_cuda_conv_release(c, plan->conv[k]);
	}
	free(plan);
}

static int run_dense(
	struct cuda *c, const struct wl_op *op, const struct wl_run *run, struct wl_err *err)
{
	struct dense d = dense_of(c, op, run->scratch);
	return walk(&d, err);
}

CUDA_RUN(wl_cuda_linear)
{
	return run_dense(c, op, run, err);
}

CUDA_RUN(wl_cuda_linear_bwd)
{
	return run_dense(c, op, run, err);
}

CUDA_RUN(wl_cuda_conv)
{
	return run_dense(c, op, run, err);
}

CUDA_RUN(wl_cuda_conv_bwd)
{
	return run_dense(c, op, run, err);
}
