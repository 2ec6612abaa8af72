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
	struct cuda_act f32 = {(void *)x, false};
	wl_cuda_colsum_act(c, f32, rows, cols, out, scratch);
}

void wl_cuda_colsum_act(struct cuda *c, struct cuda_act x, int64_t rows, int64_t cols, float *out,
	void *scratch)
{
	struct columns v = columns_of(rows, cols);
	float *partial = (float *)scratch;
	CUDA_BLOCKS(c, v.chunks * v.tiles, k_colsum, v, x, partial);
	wl_cuda_colsum_end(c, partial, v.chunks, cols, out);
}

/* --- an operation's products ---
 *
 * Each operation is walked twice by the same function: once to plan (its products are planned, its
 * scratch is measured, nothing is launched), and at each run.  Activations lie in the type that the
 * products take wherever the graph stores them so; what does not (a picture, the gradient by an
 * output) is converted into scratch.
 */

struct dense_plan {
	void *product[2];
	void *conv[2]; /* by what: CUDA_CONV_Y or _X, CUDA_CONV_W */
	size_t conv_bytes[2];
};

struct dense {
	struct cuda *c;
	const struct wl_op *op;
	struct dense_plan *plan;
	bool planning, half; /* half: products of bf16 */
	int next;	     /* product */
	char *scratch;
	size_t used, most;
	void *workspace;
};

/* While planning scratch is nowhere, at an address as aligned as it will be. */
enum { NOWHERE = 1 << 20 };

static void *lend(struct dense *d, size_t bytes)
{
	void *p = d->scratch + d->used;
	d->used += cuda_round(bytes);
	d->most = d->used > d->most ? d->used : d->most;
	return p;
}

static struct cuda_act lend_act(struct dense *d, int64_t n, bool half)
{
	struct cuda_act a = {lend(d, (size_t)n * (half ? 2 : 4)), half};
	return a;
}

static struct dense dense_of(struct cuda *c, const struct wl_op *op, void *scratch)
{
	struct dense d = {c, op, (struct dense_plan *)op->plan, !scratch,
		op->attr.compute == WL_BF16, 0, scratch ? (char *)scratch : (char *)NOWHERE, 0, 0,
		NULL};
	d.workspace = lend(&d, CUDA_WORKSPACE);
	return d;
}

/* x as products take it. */
static struct cuda_act typed(struct dense *d, struct cuda_act x, int64_t n)
{
	struct cuda_act to;
	if (x.half == d->half)
		return x;
	to = lend_act(d, n, d->half);
	if (!d->planning)
		wl_cuda_convert(d->c, x, to, n);
	return to;
}

/*
 * A parameter as products take it: its kept bf16 copy.  What lies with the activations (a weight
 * that is computed) changes unseen and is converted each time.
 */
static int weight(struct dense *d, const struct wl_tensor *w, const struct wl_tensor *beside,
	bool half, struct cuda_act *out, struct wl_err *err)
{
	struct cuda_act x = {w ? w->data : NULL, false};
	int64_t n = w ? cuda_count(w) : 0;
	*out = x;
	if (!w || !half)
		return 0;
	if (!wl_cuda_in_one(d->c, x.p, beside->data)) {
		if (d->planning)
			WL_TRY(wl_cuda_weight_declare(d->c, (const float *)x.p, n, err));
		out->p = (void *)wl_cuda_weight_bf16(d->c, (const float *)x.p, n);
		out->half = true;
		if (out->p)
			return 0;
	}
	*out = lend_act(d, n, true);
	if (!d->planning)
		wl_cuda_convert(d->c, x, *out, n);
	return 0;
}

static int multiply(struct dense *d, const struct cuda_product *p, struct wl_err *err)
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

/* gw [o,i] += gz^T x, and gb [o] += the sums of gz's columns, in one pass where the library can. */
static int weight_grads(struct dense *d, struct cuda_act gz, struct cuda_act x, int64_t rows,
	int64_t i, int64_t o, float *gw, float *gb, struct wl_err *err)
{
	struct cuda_act to = {gw, false};
	struct cuda_product p = {o, i, rows, gz, 1, o, x, i, 1, to, i, true, {NULL, false}, false,
		NULL};
	bool summed = false;
	if (gw) {
		p.rowsum = gb ? (float *)lend(d, (size_t)o * sizeof *gb) : NULL;
		WL_TRY(multiply(d, &p, err));
		summed = gb && wl_cuda_product_sums(d->plan->product[d->next - 1]);
	}
	if (summed && !d->planning)
		CUDA_EACH(d->c, o, k_gain, p.rowsum, gb);
	if (gb && !summed) {
		void *scratch = lend(d, wl_cuda_colsum_scratch(rows, o));
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
	struct cuda_product p = {rows, o, i, typed(d, cuda_act_of(op->in[0]), rows * i), i, 1,
		{NULL, false}, 1, i, to, o, false, {NULL, false}, act == WL_ACT_RELU && !apart,
		NULL};
	WL_TRY(weight(d, op->in[1], op->out[0], d->half, &p.b, err));
	WL_TRY(weight(d, op->in[2], op->out[0], to.half, &p.bias, err));
	WL_TRY(multiply(d, &p, err));
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
		return typed(d, gy, n);
	gz = lend_act(d, n, d->half);
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
		x = typed(d, x, rows * i);
	WL_TRY(weight_grads(d, gz, x, rows, i, o, gw, gb, err));
	if (op->out[0]) {
		struct cuda_product p = {rows, i, o, gz, o, 1, {NULL, false}, i, 1, gx, i,
			cuda_acc(op, 0), {NULL, false}, false, NULL};
		WL_TRY(weight(d, op->in[1], op->in[4], d->half, &p.b, err));
		WL_TRY(multiply(d, &p, err));
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
static __global__ void k_gather(int64_t n, struct conv v, struct cuda_act x, struct cuda_act out)
{
	EACH(e, n)
	{
		int64_t r = e / v.patch, t = e % v.patch, ch = t % v.i, kw = t / v.i % v.kw;
		int64_t ow = r % v.ow, oh = r / v.ow % v.oh, img = r / (v.ow * v.oh);
		int64_t ih = oh * v.stride - v.pt + t / (v.i * v.kw);
		int64_t iw = ow * v.stride - v.pl + kw;
		bool inside = ih >= 0 && ih < v.h && iw >= 0 && iw < v.w;
		int64_t at = ((img * v.h + ih) * v.w + iw) * v.i + ch;
		act_store(out, e, inside ? act_load(x, at) : 0.0f);
	}
}

/* gx [+]= every patch element that came from it, in the order of the kernel's taps. */
static __global__ void k_scatter(
	int64_t n, struct conv v, const float *patches, struct cuda_act gx, bool acc)
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
		act_store(gx, e, (acc ? act_load(gx, e) : 0.0f) + s);
	}
}

/* x inside zeros: out [n, h, w, i] of v's measures, the image from pt, pl on. */
static __global__ void k_frame(int64_t n, struct conv v, int64_t h, int64_t w, struct cuda_act x,
	struct cuda_act out)
{
	EACH(e, n)
	{
		int64_t ch = e % v.i, iw = e / v.i % w - v.pl, ih = e / (v.i * w) % h - v.pt;
		int64_t img = e / (v.i * w * h);
		bool inside = ih >= 0 && ih < v.h && iw >= 0 && iw < v.w;
		int64_t at = ((img * v.h + ih) * v.w + iw) * v.i + ch;
		act_store(out, e, inside ? act_load(x, at) : 0.0f);
	}
}

/* Back: gx [+]= what lies inside the frame. */
static __global__ void k_unframe(int64_t n, struct conv v, int64_t h, int64_t w,
	struct cuda_act framed, struct cuda_act gx, bool acc)
{
	EACH(e, n)
	{
		int64_t ch = e % v.i, iw = e / v.i % v.w, ih = e / (v.i * v.w) % v.h;
		int64_t img = e / (v.i * v.w * v.h);
		float s = act_load(framed, ((img * h + ih + v.pt) * w + iw + v.pl) * v.i + ch);
		act_store(gx, e, (acc ? act_load(gx, e) : 0.0f) + s);
	}
}

/* What the library is asked for: the image as it lies where its padding is symmetric, else one that
 * is framed with zeros in scratch (TensorFlow pads 3x3 with stride 2 on one side only). */
static struct cuda_conv library_conv(const struct conv *v, bool half, bool *framed)
{
	struct cuda_conv q = {v->n, v->h, v->w, v->i, v->oh, v->ow, v->o, v->kh, v->kw, v->stride,
		v->pt, v->pl, half};
	int64_t more_h = (v->oh - 1) * v->stride + v->kh - v->h;
	int64_t more_w = (v->ow - 1) * v->stride + v->kw - v->w;
	more_h = more_h > 0 ? more_h : 0;
	more_w = more_w > 0 ? more_w : 0;
	*framed = more_h != 2 * v->pt || more_w != 2 * v->pl;
	if (*framed) {
		q.h += more_h;
		q.w += more_w;
		q.pad_h = q.pad_w = 0;
	}
	return q;
}

static struct cuda_act framed_input(struct dense *d, const struct conv *v,
	const struct cuda_conv *q, bool framed, struct cuda_act x)
{
	int64_t n = q->n * q->h * q->w * q->i;
	struct cuda_act to;
	if (!framed)
		return typed(d, x, n);
	to = lend_act(d, n, d->half);
	if (!d->planning)
		CUDA_EACH(d->c, n, k_frame, *v, q->h, q->w, x, to);
	return to;
}

/* Plans the library's convolution; whether it does it. */
static int library_does(struct dense *d, const struct cuda_conv *q, enum cuda_conv_what what,
	bool *does, struct wl_err *err)
{
	int k = what == CUDA_CONV_W;
	if (d->planning)
		WL_TRY(wl_cuda_conv_plan(d->c, q, what, &d->plan->conv[k],
			&d->plan->conv_bytes[k], err));
	*does = d->plan->conv[k] != NULL;
	return 0;
}

static int library_run(struct dense *d, enum cuda_conv_what what, struct cuda_act x,
	struct cuda_act w, struct cuda_act y, struct wl_err *err)
{
	int k = what == CUDA_CONV_W;
	void *workspace = lend(d, d->plan->conv_bytes[k]);
	return d->planning ? 0
			   : wl_cuda_conv_run(d->c, d->plan->conv[k], x.p, w.p, y.p, workspace, err);
}

static __global__ void k_bias(
	int64_t n, struct cuda_act from, const float *bias, int64_t o, struct cuda_act y)
{
	EACH(i, n)
	act_store(y, i, act_load(from, i) + bias[i % o]);
}

static int library_conv_y(struct dense *d, const struct conv *v, bool *does, struct wl_err *err)
{
	const struct wl_op *op = d->op;
	bool framed;
	struct cuda_conv q = library_conv(v, d->half, &framed);
	struct cuda_act y = cuda_act_of(op->out[0]), to = y, x, w;
	int64_t n = v->rows * v->o;
	WL_TRY(library_does(d, &q, CUDA_CONV_Y, does, err));
	if (!*does)
		return 0;
	x = framed_input(d, v, &q, framed, cuda_act_of(op->in[0]));
	if (y.half != d->half)
		to = lend_act(d, n, d->half);
	WL_TRY(weight(d, op->in[1], op->out[0], d->half, &w, err));
	WL_TRY(library_run(d, CUDA_CONV_Y, x, w, to, err));
	if (op->in[2] && !d->planning)
		CUDA_EACH(d->c, n, k_bias, to, cuda_f32(op->in[2]), v->o, y);
	else if (to.p != y.p && !d->planning)
		wl_cuda_convert(d->c, to, y, n);
	return 0;
}

static __global__ void k_gain_act(int64_t n, struct cuda_act x, float *y)
{
	EACH(i, n)
	y[i] += act_load(x, i);
}

static int library_conv_w(struct dense *d, const struct conv *v, struct cuda_act gy, bool *does,
	struct wl_err *err)
{
	const struct wl_op *op = d->op;
	float *gw = cuda_f32(op->out[1]), *gb = cuda_f32(op->out[2]);
	int64_t n = v->o * v->patch;
	bool framed;
	struct cuda_conv q = library_conv(v, d->half, &framed);
	struct cuda_act x, to;
	*does = false;
	if (gw)
		WL_TRY(library_does(d, &q, CUDA_CONV_W, does, err));
	if (!*does)
		return 0;
	x = framed_input(d, v, &q, framed, cuda_act_of(op->in[0]));
	to = lend_act(d, n, d->half);
	WL_TRY(library_run(d, CUDA_CONV_W, x, to, gy, err));
	if (!d->planning)
		CUDA_EACH(d->c, n, k_gain_act, to, gw);
	return weight_grads(d, gy, x, v->rows, v->patch, v->o, NULL, gb, err);
}

static int library_conv_x(struct dense *d, const struct conv *v, struct cuda_act gy, bool *does,
	struct wl_err *err)
{
	const struct wl_op *op = d->op;
	struct cuda_act gx = cuda_act_of(op->out[0]), to = gx, w;
	bool framed, direct;
	struct cuda_conv q = library_conv(v, d->half, &framed);
	WL_TRY(library_does(d, &q, CUDA_CONV_X, does, err));
	if (!*does)
		return 0;
	direct = !framed && gx.half == d->half && !cuda_acc(op, 0);
	if (!direct)
		to = lend_act(d, q.n * q.h * q.w * q.i, d->half);
	WL_TRY(weight(d, op->in[1], op->in[2], d->half, &w, err));
	WL_TRY(library_run(d, CUDA_CONV_X, to, w, gy, err));
	if (!direct && !d->planning) {
		struct conv u = *v;
		if (!framed)
			u.pt = u.pl = 0;
		CUDA_EACH(d->c, v->n * v->h * v->w * v->i, k_unframe, u, q.h, q.w, to, gx,
			cuda_acc(op, 0));
	}
	return 0;
}

/* The patches of x as products take them: x itself, or gathered. */
static struct cuda_act patches_of(struct dense *d, const struct conv *v, struct cuda_act x)
{
	int64_t n = v->rows * v->patch;
	struct cuda_act to;
	if (is_product(v))
		return typed(d, x, n);
	to = lend_act(d, n, d->half);
	if (!d->planning)
		CUDA_EACH(d->c, n, k_gather, *v, x, to);
	return to;
}

static int conv(struct dense *d, struct wl_err *err)
{
	const struct wl_op *op = d->op;
	struct conv v = conv_of(op, op->in[0], op->out[0]);
	struct cuda_act y = cuda_act_of(op->out[0]);
	struct cuda_product p = {v.rows, v.o, v.patch, {NULL, false}, v.patch, 1, {NULL, false}, 1,
		v.patch, y, v.o, false, {NULL, false}, false, NULL};
	bool done = false;
	if (!is_product(&v))
		WL_TRY(library_conv_y(d, &v, &done, err));
	if (done)
		return 0;
	p.a = patches_of(d, &v, cuda_act_of(op->in[0]));
	WL_TRY(weight(d, op->in[1], op->out[0], d->half, &p.b, err));
	WL_TRY(weight(d, op->in[2], op->out[0], y.half, &p.bias, err));
	return multiply(d, &p, err);
}

static int conv_bwd_w(
	struct dense *d, const struct conv *v, struct cuda_act gy, struct wl_err *err)
{
	const struct wl_op *op = d->op;
	struct cuda_act x = {NULL, d->half};
	float *gw = cuda_f32(op->out[1]), *gb = cuda_f32(op->out[2]);
	bool done = false;
	if (!is_product(v))
		WL_TRY(library_conv_w(d, v, gy, &done, err));
	if (done)
		return 0;
	if (gw)
		x = patches_of(d, v, cuda_act_of(op->in[0]));
	return weight_grads(d, gy, x, v->rows, v->patch, v->o, gw, gb, err);
}

static int conv_bwd_x(
	struct dense *d, const struct conv *v, struct cuda_act gy, struct wl_err *err)
{
	const struct wl_op *op = d->op;
	bool direct = is_product(v), done = false;
	int64_t n = v->n * v->h * v->w * v->i;
	struct cuda_act gx = cuda_act_of(op->out[0]), to = gx;
	struct cuda_product p = {v->rows, v->patch, v->o, gy, v->o, 1, {NULL, false}, v->patch, 1,
		gx, v->patch, direct && cuda_acc(op, 0), {NULL, false}, false, NULL};
	if (!direct)
		WL_TRY(library_conv_x(d, v, gy, &done, err));
	if (done)
		return 0;
	if (!direct)
		p.c = to = lend_act(d, v->rows * v->patch, false);
	WL_TRY(weight(d, op->in[1], op->in[2], d->half, &p.b, err));
	WL_TRY(multiply(d, &p, err));
	if (!direct && !d->planning)
		CUDA_EACH(d->c, n, k_scatter, *v, (const float *)to.p, gx, cuda_acc(op, 0));
	return 0;
}

static int conv_bwd(struct dense *d, struct wl_err *err)
{
	struct conv v = conv_of(d->op, d->op->in[0], d->op->in[2]);
	struct cuda_act gy = typed(d, cuda_act_of(d->op->in[2]), v.rows * v.o);
	size_t mark = d->used;
	WL_TRY(conv_bwd_w(d, &v, gy, err));
	d->used = mark; /* x's patches are done with */
	return d->op->out[0] ? conv_bwd_x(d, &v, gy, err) : 0;
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
		return conv(d, err);
	default:
		return conv_bwd(d, err);
	}
}

/* f32 products would want every bf16 activation converted up and down again: nobody asks for it. */
static bool mixed(const struct wl_op *op)
{
	bool half = false;
	for (int k = 0; k < WL_OP_IN; k++)
		half |= op->in[k] && op->in[k]->dtype == WL_BF16;
	for (int k = 0; k < WL_OP_OUT; k++)
		half |= op->out[k] && op->out[k]->dtype == WL_BF16;
	return half && op->attr.compute != WL_BF16;
}

int wl_cuda_dense_plan(struct cuda *c, struct wl_op *op, struct wl_err *err)
{
	struct dense d;
	if (mixed(op))
		return wl_err_set(err, WL_EUSAGE, "activations are stored in bf16 and products "
			"take f32: expected compute_dtype bf16 where store is bf16");
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
