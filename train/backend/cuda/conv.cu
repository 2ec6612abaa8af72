/*
 * Dense convolution.  One of 1x1 with stride 1 (nearly all of an EfficientNet) is a product of the
 * activation as it lies: the library's, or our own (pointwise.h) where the graph has put a
 * neighbour into it.  Any other (the stem, a ViT's patches) is cuDNN's where that is installed,
 * else a product over patches gathered first.
 */
#include "train/backend/cuda/dense.h"
#include "train/backend/cuda/pointwise.h"

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
static struct cuda_conv library_conv(const struct conv *v, enum wl_dtype type, bool *framed)
{
	struct cuda_conv q = {v->n, v->h, v->w, v->i, v->oh, v->ow, v->o, v->kh, v->kw, v->stride,
		v->pt, v->pl, type};
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
		return wl_dense_typed(d, x, n);
	to = wl_dense_lend_act(d, n, d->type);
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
	void *workspace = wl_dense_lend(d, d->plan->conv_bytes[k]);
	if (d->planning)
		return 0;
	return wl_cuda_conv_run(d->c, d->plan->conv[k], x.p, w.p, y.p, workspace, err);
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
	struct cuda_conv q = library_conv(v, d->type, &framed);
	struct cuda_act y = cuda_act_of(op->out[0]), to = y, x, w;
	int64_t n = v->rows * v->o;
	WL_TRY(library_does(d, &q, CUDA_CONV_Y, does, err));
	if (!*does)
		return 0;
	x = framed_input(d, v, &q, framed, cuda_act_of(op->in[0]));
	if (y.type != d->type)
		to = wl_dense_lend_act(d, n, d->type);
	WL_TRY(wl_dense_weight(d, op->in[1], op->out[0], d->type, &w, err));
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
	struct cuda_conv q = library_conv(v, d->type, &framed);
	struct cuda_act x, to;
	*does = false;
	if (gw)
		WL_TRY(library_does(d, &q, CUDA_CONV_W, does, err));
	if (!*does)
		return 0;
	x = framed_input(d, v, &q, framed, cuda_act_of(op->in[0]));
	to = wl_dense_lend_act(d, n, d->type);
	WL_TRY(library_run(d, CUDA_CONV_W, x, to, gy, err));
	if (!d->planning)
		CUDA_EACH(d->c, n, k_gain_act, to, gw);
	return wl_dense_weight_grads(d, gy, x, v->rows, v->patch, v->o, NULL, gb, err);
}

static int library_conv_x(struct dense *d, const struct conv *v, struct cuda_act gy, bool *does,
	struct wl_err *err)
{
	const struct wl_op *op = d->op;
	struct cuda_act gx = cuda_act_of(op->out[0]), to = gx, w;
	bool framed, direct;
	struct cuda_conv q = library_conv(v, d->type, &framed);
	WL_TRY(library_does(d, &q, CUDA_CONV_X, does, err));
	if (!*does)
		return 0;
	direct = !framed && gx.type == d->type && !cuda_acc(op, 0);
	if (!direct)
		to = wl_dense_lend_act(d, q.n * q.h * q.w * q.i, d->type);
	WL_TRY(wl_dense_weight(d, op->in[1], op->in[2], d->type, &w, err));
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
		return wl_dense_typed(d, x, n);
	to = wl_dense_lend_act(d, n, d->type);
	if (!d->planning)
		CUDA_EACH(d->c, n, k_gather, *v, x, to);
	return to;
}

/* --- our own products --- */

static bool reads_neighbours(const struct wl_op *op)
{
	return op->in[3] || op->in[6];
}

static struct pointwise own_product(struct dense *d, const struct conv *v)
{
	struct pointwise p;
	memset(&p, 0, sizeof p);
	p.rows = v->rows;
	p.image_rows = v->oh * v->ow;
	p.i = v->i;
	p.o = v->o;
	p.x = wl_dense_typed(d, cuda_act_of(d->op->in[0]), v->rows * v->i);
	p.norm = cuda_norm_of(d->op, 3);
	p.gate = cuda_act_of(d->op->in[6]);
	return p;
}

static int own_conv(struct dense *d, const struct conv *v, struct wl_err *err)
{
	const struct wl_op *op = d->op;
	struct pointwise p = own_product(d, v);
	struct cuda_act w;
	void *scratch;
	WL_TRY(wl_dense_weight(d, op->in[1], op->out[0], d->type, &w, err));
	p.w = (const uint16_t *)w.p;
	p.y = cuda_act_of(op->out[0]);
	p.bias = cuda_f32(op->in[2]);
	p.moments = cuda_f32(op->out[1]);
	scratch = wl_dense_lend(d, wl_cuda_pointwise_scratch(&p));
	if (!d->planning)
		wl_cuda_pointwise_run(d->c, &p, scratch);
	return 0;
}

static void own_weights(struct dense *d, const struct conv *v, struct cuda_act gy)
{
	struct pointwise p = own_product(d, v);
	void *scratch;
	p.gy = gy;
	p.gw = cuda_f32(d->op->out[1]);
	scratch = wl_dense_lend(d, wl_cuda_pointwise_weights_scratch(&p));
	if (!d->planning)
		wl_cuda_pointwise_weights(d->c, &p, scratch);
}

int wl_dense_conv(struct dense *d, struct wl_err *err)
{
	const struct wl_op *op = d->op;
	struct conv v = conv_of(op, op->in[0], op->out[0]);
	struct cuda_act y = cuda_act_of(op->out[0]);
	struct cuda_product p = {v.rows, v.o, v.patch, {NULL, WL_F32}, v.patch, 1, {NULL, WL_F32},
		1, v.patch, y, v.o, false, {NULL, WL_F32}, false, NULL};
	bool done = false;
	if (reads_neighbours(op) || op->out[1])
		return own_conv(d, &v, err);
	if (!is_product(&v))
		WL_TRY(library_conv_y(d, &v, &done, err));
	if (done)
		return 0;
	p.a = patches_of(d, &v, cuda_act_of(op->in[0]));
	WL_TRY(wl_dense_weight(d, op->in[1], op->out[0], d->type, &p.b, err));
	WL_TRY(wl_dense_weight(d, op->in[2], op->out[0], y.type, &p.bias, err));
	return wl_dense_multiply(d, &p, err);
}

static int conv_bwd_w(
	struct dense *d, const struct conv *v, struct cuda_act gy, struct wl_err *err)
{
	const struct wl_op *op = d->op;
	struct cuda_act x = {NULL, d->type};
	float *gw = cuda_f32(op->out[1]), *gb = cuda_f32(op->out[2]);
	bool done = false;
	if (!is_product(v))
		WL_TRY(library_conv_w(d, v, gy, &done, err));
	if (done)
		return 0;
	if (gw && reads_neighbours(op)) {
		own_weights(d, v, gy);
		gw = NULL;
	}
	if (gw)
		x = patches_of(d, v, cuda_act_of(op->in[0]));
	return wl_dense_weight_grads(d, gy, x, v->rows, v->patch, v->o, gw, gb, err);
}

static int conv_bwd_x(
	struct dense *d, const struct conv *v, struct cuda_act gy, struct wl_err *err)
{
	const struct wl_op *op = d->op;
	bool direct = is_product(v), done = false;
	int64_t n = v->n * v->h * v->w * v->i;
	struct cuda_act gx = cuda_act_of(op->out[0]), to = gx;
	struct cuda_product p = {v->rows, v->patch, v->o, gy, v->o, 1, {NULL, WL_F32}, v->patch, 1,
		gx, v->patch, direct && cuda_acc(op, 0), {NULL, WL_F32}, false, NULL};
	if (!direct)
		WL_TRY(library_conv_x(d, v, gy, &done, err));
	if (done)
		return 0;
	if (!direct)
		p.c = to = wl_dense_lend_act(d, v->rows * v->patch, WL_F32);
	WL_TRY(wl_dense_weight(d, op->in[1], op->in[2], d->type, &p.b, err));
	WL_TRY(wl_dense_multiply(d, &p, err));
	if (!direct && !d->planning)
		CUDA_EACH(d->c, n, k_scatter, *v, (const float *)to.p, gx, cuda_acc(op, 0));
	return 0;
}

int wl_dense_conv_bwd(struct dense *d, struct wl_err *err)
{
	struct conv v = conv_of(d->op, d->op->in[0], d->op->in[2]);
	struct cuda_act gy = wl_dense_typed(d, cuda_act_of(d->op->in[2]), v.rows * v.o);
	size_t mark = d->used;
	WL_TRY(conv_bwd_w(d, &v, gy, err));
	d->used = mark; /* x's patches are done with */
	return d->op->out[0] ? conv_bwd_x(d, &v, gy, err) : 0;
}
