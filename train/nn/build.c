/* Building a graph: its leaves and ends, what builders check, and the image tower's
 * operations. Every builder checks shapes, adds one operation and returns its output. */
#include "train/nn/internal.h"

#include <stdarg.h>
#include <stdlib.h>

wl_tid wl_g_fail(struct wl_graph *g, const char *fmt, ...)
{
	if (!g->failed) {
		va_list ap;
		va_start(ap, fmt);
		wl_err_setv(&g->first_err, WL_EUSAGE, fmt, ap);
		va_end(ap);
		wl_err_prefix(&g->first_err, "graph %s", g->name);
		g->failed = true;
	}
	return -1;
}

/* Doubles an array when it is full. */
static bool grow(struct wl_graph *g, void **items, int n, int *cap, size_t size)
{
	if (n < *cap)
		return true;
	int more = *cap ? 2 * *cap : 256;
	void *p = realloc(*items, (size_t)more * size);
	if (!p) {
		wl_g_fail(g, "out of memory for %d operations", more);
		return false;
	}
	*items = p;
	*cap = more;
	return true;
}

wl_tid wl_gi_node(
	struct wl_graph *g, enum node_kind kind, enum wl_dtype dtype, struct wl_shape shape)
{
	if (g->failed)
		return -1;
	if (g->compiled)
		return wl_g_fail(g, "nothing can be added after compiling");
	if (!grow(g, (void **)&g->node, g->n, &g->cap, sizeof(*g->node)))
		return -1;
	g->node[g->n] = (struct node){.t = {dtype, shape, NULL},
		.kind = kind,
		.param = -1,
		.root = -1,
		.grad = -1,
		.first = -1,
		.last = -1};
	return g->n++;
}

struct gop *wl_gi_op(struct wl_graph *g, enum wl_op_kind kind, const char *label)
{
	if (g->failed || !grow(g, (void **)&g->op, g->n_ops, &g->cap_ops, sizeof(*g->op)))
		return NULL;
	struct gop *op = &g->op[g->n_ops];
	memset(op, 0, sizeof(*op));
	op->op.kind = kind;
	op->section = g->section;
	op->op.label = label;
	op->op.attr.compute = g->opts.compute_dtype;
	op->block = g->block;
	op->op.attr.rng_op = g->rng_base + (uint64_t)g->n_ops++;
	return op;
}

void wl_g_block(struct wl_graph *g)
{
	g->block = ++g->n_blocks;
}

void wl_g_block_end(struct wl_graph *g)
{
	g->block = 0;
}

wl_tid wl_gi_root(const struct wl_graph *g, wl_tid t)
{
	while (t > 0 && g->node[t].kind == NODE_VIEW)
		t = g->node[t].root;
	return t;
}

struct wl_shape wl_g_shape(const struct wl_graph *g, wl_tid t)
{
	return t > 0 && t < g->n ? g->node[t].t.shape : (struct wl_shape){0};
}

bool wl_gi_valid(const struct wl_graph *g, wl_tid t)
{
	return !g->failed && t > 0 && t < g->n;
}

/* An operand that must be there, with this type and, where rank >= 0, rank. */
bool wl_gi_operand(struct wl_graph *g, const char *op, const char *what, wl_tid t,
	enum wl_dtype dtype, int rank)
{
	char text[WL_SHAPE_TEXT];
	if (g->failed)
		return false;
	if (t <= 0 || t >= g->n) {
		wl_g_fail(g, "operand %s of %s is missing", what, op);
		return false;
	}
	const struct wl_tensor *x = &g->node[t].t;
	if (x->dtype == dtype && (rank < 0 || x->shape.rank == rank))
		return true;
	wl_g_fail(g, "operand %s of %s is %s %s, expected %s of rank %d", what, op,
		wl_dtype_name(x->dtype), wl_shape_text(&x->shape, text), wl_dtype_name(dtype),
		rank);
	return false;
}

/* An operand of exactly this shape. */
bool wl_gi_shaped(struct wl_graph *g, const char *op, const char *what, wl_tid t,
	enum wl_dtype dtype, struct wl_shape shape)
{
	char found[WL_SHAPE_TEXT], want[WL_SHAPE_TEXT];
	if (!wl_gi_operand(g, op, what, t, dtype, -1))
		return false;
	if (wl_shape_equal(&g->node[t].t.shape, &shape))
		return true;
	wl_g_fail(g, "operand %s of %s has shape %s, expected %s", what, op,
		wl_shape_text(&g->node[t].t.shape, found), wl_shape_text(&shape, want));
	return false;
}

bool wl_gi_optional(struct wl_graph *g, const char *op, const char *what, wl_tid t,
	enum wl_dtype dtype, struct wl_shape shape)
{
	return t == WL_NONE ? !g->failed : wl_gi_shaped(g, op, what, t, dtype, shape);
}

int64_t *wl_gi_dims(struct wl_graph *g, wl_tid t)
{
	return g->node[t].t.shape.dim;
}

/* What names an operation in messages: the parameter that it uses. */
const char *wl_gi_label(struct wl_graph *g, wl_tid t)
{
	return t > 0 && g->node[t].param >= 0 ? g->params->item[g->node[t].param].name : "";
}

static char *copy_name(struct wl_graph *g, const char *name)
{
	char *s = wl_arena_strdup(&g->mem, name, NULL);
	if (!s)
		wl_g_fail(g, "out of memory for a name");
	return s;
}

wl_tid wl_g_input(struct wl_graph *g, const char *name, enum wl_dtype dtype, struct wl_shape shape)
{
	wl_tid t = wl_gi_node(g, NODE_INPUT, dtype, shape);
	if (t < 0)
		return -1;
	g->node[t].name = copy_name(g, name);
	g->node[t].keep = true;
	return g->failed ? -1 : t;
}

wl_tid wl_g_external(
	struct wl_graph *g, const char *name, enum wl_dtype dtype, struct wl_shape shape)
{
	wl_tid t = wl_g_input(g, name, dtype, shape);
	if (t >= 0)
		g->node[t].kind = NODE_EXTERNAL;
	return t;
}

wl_tid wl_g_param(struct wl_graph *g, const char *name, enum wl_layout layout,
	struct wl_shape torch_shape, unsigned flags)
{
	struct wl_err err = WL_ERR_INIT;
	if (g->failed)
		return -1;
	int i = wl_params_add(g->params, name, layout, &torch_shape, flags, &err);
	if (i < 0)
		return wl_g_fail(g, "%s", err.msg);
	for (wl_tid t = 0; t < g->n; t++) /* one node a parameter, however often it is used */
		if (g->node[t].param == i)
			return t;
	wl_tid t = wl_gi_node(g, NODE_PARAM, WL_F32, g->params->item[i].shape);
	if (t >= 0)
		g->node[t].param = i;
	return t;
}

/* TensorFlow's SAME padding before the first element (FACTS section 9). */
static int same_pad(int64_t n, int k, int stride)
{
	int64_t total = ((n + stride - 1) / stride - 1) * stride + k - n;
	return total > 0 ? (int)(total / 2) : 0;
}

static void conv_attr(struct wl_op_attr *a, const int64_t *x, int kh, int kw, int stride)
{
	a->kh = kh;
	a->kw = kw;
	a->stride = stride;
	a->pad_top = same_pad(x[1], kh, stride);
	a->pad_left = same_pad(x[2], kw, stride);
}

wl_tid wl_g_conv2d(struct wl_graph *g, wl_tid x, wl_tid w, wl_tid bias, int stride)
{
	if (!wl_gi_operand(g, "conv2d", "x", x, WL_F32, 4) ||
		!wl_gi_operand(g, "conv2d", "w", w, WL_F32, 4))
		return -1;
	int64_t o = wl_gi_dims(g, w)[0], kh = wl_gi_dims(g, w)[1], kw = wl_gi_dims(g, w)[2];
	if (!wl_gi_shaped(g, "conv2d", "w", w, WL_F32, WL_SHAPE(o, kh, kw, wl_gi_dims(g, x)[3])) ||
		!wl_gi_optional(g, "conv2d", "bias", bias, WL_F32, WL_SHAPE(o)))
		return -1;
	if (stride < 1)
		return wl_g_fail(g, "conv2d has stride %d, expected at least 1", stride);
	struct wl_shape out =
		WL_SHAPE(wl_gi_dims(g, x)[0], (wl_gi_dims(g, x)[1] + stride - 1) / stride,
			(wl_gi_dims(g, x)[2] + stride - 1) / stride, o);
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, out);
	struct gop *op = wl_gi_op(g, WL_OP_CONV, wl_gi_label(g, w));
	if (!op)
		return -1;
	conv_attr(&op->op.attr, wl_gi_dims(g, x), (int)kh, (int)kw, stride);
	op->in[0] = x;
	op->in[1] = w;
	op->in[2] = bias;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_depthwise(struct wl_graph *g, wl_tid x, wl_tid w, int stride)
{
	if (!wl_gi_operand(g, "depthwise", "x", x, WL_F32, 4) ||
		!wl_gi_operand(g, "depthwise", "w", w, WL_F32, 3))
		return -1;
	int64_t k = wl_gi_dims(g, w)[0], c = wl_gi_dims(g, x)[3];
	if (!wl_gi_shaped(g, "depthwise", "w", w, WL_F32, WL_SHAPE(k, k, c)))
		return -1;
	if (stride < 1)
		return wl_g_fail(g, "depthwise has stride %d, expected at least 1", stride);
	struct wl_shape out =
		WL_SHAPE(wl_gi_dims(g, x)[0], (wl_gi_dims(g, x)[1] + stride - 1) / stride,
			(wl_gi_dims(g, x)[2] + stride - 1) / stride, c);
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, out);
	struct gop *op = wl_gi_op(g, WL_OP_DEPTHWISE, wl_gi_label(g, w));
	if (!op)
		return -1;
	conv_attr(&op->op.attr, wl_gi_dims(g, x), (int)k, (int)k, stride);
	op->in[0] = x;
	op->in[1] = w;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_batch_norm(struct wl_graph *g, wl_tid x, const struct wl_bn *bn)
{
	static const char me[] = "batch_norm";
	if (!wl_gi_operand(g, me, "x", x, WL_F32, -1))
		return -1;
	struct wl_shape shape = g->node[x].t.shape;
	struct wl_shape c = WL_SHAPE(wl_shape_last(&shape));
	if (!wl_gi_shaped(g, me, "gamma", bn->gamma, WL_F32, c) ||
		!wl_gi_shaped(g, me, "beta", bn->beta, WL_F32, c) ||
		!wl_gi_shaped(g, me, "mean", bn->mean, WL_F32, c) ||
		!wl_gi_shaped(g, me, "var", bn->var, WL_F32, c) ||
		!wl_gi_optional(g, me, "residual", bn->residual, WL_F32, shape))
		return -1;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, shape);
	wl_tid saved = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(2, c.dim[0]));
	struct gop *op = wl_gi_op(g, WL_OP_BATCH_NORM, wl_gi_label(g, bn->gamma));
	if (!op)
		return -1;
	op->op.attr.eps = bn->eps;
	op->op.attr.momentum = bn->momentum;
	op->op.attr.act = bn->act;
	op->op.attr.p = g->opts.train ? bn->drop_path : 0;
	op->op.attr.use_running = bn->use_running || !g->opts.train;
	const wl_tid in[] = {x, bn->gamma, bn->beta, bn->mean, bn->var, bn->residual};
	memcpy(op->in, in, sizeof(in));
	op->out[0] = y;
	op->out[1] = saved;
	return y;
}

wl_tid wl_g_mean_hw(struct wl_graph *g, wl_tid x)
{
	if (!wl_gi_operand(g, "mean_hw", "x", x, WL_F32, 4))
		return -1;
	wl_tid y =
		wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(wl_gi_dims(g, x)[0], wl_gi_dims(g, x)[3]));
	struct gop *op = wl_gi_op(g, WL_OP_MEAN_HW, "");
	if (!op)
		return -1;
	op->in[0] = x;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_channel_scale(struct wl_graph *g, wl_tid x, wl_tid s)
{
	if (!wl_gi_operand(g, "channel_scale", "x", x, WL_F32, 4) ||
		!wl_gi_shaped(g, "channel_scale", "s", s, WL_F32,
			WL_SHAPE(wl_gi_dims(g, x)[0], wl_gi_dims(g, x)[3])))
		return -1;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, g->node[x].t.shape);
	struct gop *op = wl_gi_op(g, WL_OP_CHANNEL_SCALE, "");
	if (!op)
		return -1;
	op->in[0] = x;
	op->in[1] = s;
	op->out[0] = y;
	return y;
}

static void add_seed(struct wl_graph *g, struct seed s)
{
	if (!g->failed && grow(g, (void **)&g->seed, g->n_seeds, &g->cap_seeds, sizeof(*g->seed)))
		g->seed[g->n_seeds++] = s;
}

void wl_g_loss(struct wl_graph *g, wl_tid t, float weight)
{
	if (!wl_gi_shaped(g, "loss", "t", t, WL_F32, WL_SHAPE(1)))
		return;
	g->node[wl_gi_root(g, t)].keep = true;
	add_seed(g, (struct seed){t, -1, weight});
}

void wl_g_seed(struct wl_graph *g, wl_tid t, wl_tid grad)
{
	if (!wl_gi_operand(g, "seed", "t", t, WL_F32, -1) ||
		!wl_gi_shaped(g, "seed", "grad", grad, WL_F32, g->node[t].t.shape))
		return;
	add_seed(g, (struct seed){t, grad, 1});
}

void wl_g_output(struct wl_graph *g, wl_tid t, const char *name)
{
	if (!wl_gi_valid(g, t)) {
		wl_g_fail(g, "output %s is missing", name);
		return;
	}
	g->node[wl_gi_root(g, t)].keep = true;
	g->node[t].keep = true;
	g->node[t].name = copy_name(g, name);
}

void wl_g_want_grad(struct wl_graph *g, wl_tid t)
{
	if (!wl_gi_valid(g, t)) {
		wl_g_fail(g, "the tensor whose gradient is wanted is missing");
		return;
	}
	g->node[t].want_grad = true;
}
