/* Building a graph: every function checks shapes, adds one operation, returns its output. */
#include "train/backend/elementwise.h"
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

wl_tid graph_node(struct wl_graph *g, enum node_kind kind, enum wl_dtype dtype,
	struct wl_shape shape)
{
	if (g->failed)
		return -1;
	if (g->compiled)
		return wl_g_fail(g, "nothing can be added after compiling");
	if (!grow(g, (void **)&g->node, g->n, &g->cap, sizeof(*g->node)))
		return -1;
	g->node[g->n] = (struct node){.t = {dtype, shape, NULL}, .kind = kind, .param = -1,
		.root = -1, .grad = -1, .first = -1, .last = -1};
	return g->n++;
}

struct gop *graph_op(struct wl_graph *g, enum wl_op_kind kind, const char *label)
{
	if (g->failed || !grow(g, (void **)&g->op, g->n_ops, &g->cap_ops, sizeof(*g->op)))
		return NULL;
	struct gop *op = &g->op[g->n_ops];
	memset(op, 0, sizeof(*op));
	op->op.kind = kind;
	op->op.label = label;
	op->op.attr.compute = g->opts.compute_dtype;
	op->op.attr.rng_op = g->rng_base + (uint64_t)g->n_ops++;
	return op;
}

wl_tid graph_root(const struct wl_graph *g, wl_tid t)
{
	while (t > 0 && g->node[t].kind == NODE_VIEW)
		t = g->node[t].root;
	return t;
}

struct wl_shape wl_g_shape(const struct wl_graph *g, wl_tid t)
{
	return t > 0 && t < g->n ? g->node[t].t.shape : (struct wl_shape){0};
}

static bool valid(const struct wl_graph *g, wl_tid t)
{
	return !g->failed && t > 0 && t < g->n;
}

/* An operand that must be there, with this type and, where rank >= 0, rank. */
static bool operand(struct wl_graph *g, const char *op, const char *what, wl_tid t,
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
		wl_dtype_name(x->dtype), wl_shape_text(&x->shape, text), wl_dtype_name(dtype), rank);
	return false;
}

/* An operand of exactly this shape. */
static bool shaped(struct wl_graph *g, const char *op, const char *what, wl_tid t,
	enum wl_dtype dtype, struct wl_shape shape)
{
	char found[WL_SHAPE_TEXT], want[WL_SHAPE_TEXT];
	if (!operand(g, op, what, t, dtype, -1))
		return false;
	if (wl_shape_equal(&g->node[t].t.shape, &shape))
		return true;
	wl_g_fail(g, "operand %s of %s has shape %s, expected %s", what, op,
		wl_shape_text(&g->node[t].t.shape, found), wl_shape_text(&shape, want));
	return false;
}

static bool optional(struct wl_graph *g, const char *op, const char *what, wl_tid t,
	enum wl_dtype dtype, struct wl_shape shape)
{
	return t == WL_NONE ? !g->failed : shaped(g, op, what, t, dtype, shape);
}

static int64_t *dims(struct wl_graph *g, wl_tid t)
{
	return g->node[t].t.shape.dim;
}

/* What names an operation in messages: the parameter that it uses. */
static const char *label_of(struct wl_graph *g, wl_tid t)
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
	wl_tid t = graph_node(g, NODE_INPUT, dtype, shape);
	if (t < 0)
		return -1;
	g->node[t].name = copy_name(g, name);
	g->node[t].keep = true;
	return g->failed ? -1 : t;
}

wl_tid wl_g_external(struct wl_graph *g, const char *name, enum wl_dtype dtype,
	struct wl_shape shape)
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
	wl_tid t = graph_node(g, NODE_PARAM, WL_F32, g->params->item[i].shape);
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
	if (!operand(g, "conv2d", "x", x, WL_F32, 4) || !operand(g, "conv2d", "w", w, WL_F32, 4))
		return -1;
	int64_t o = dims(g, w)[0], kh = dims(g, w)[1], kw = dims(g, w)[2];
	if (!shaped(g, "conv2d", "w", w, WL_F32, WL_SHAPE(o, kh, kw, dims(g, x)[3])) ||
		!optional(g, "conv2d", "bias", bias, WL_F32, WL_SHAPE(o)))
		return -1;
	if (stride < 1)
		return wl_g_fail(g, "conv2d has stride %d, expected at least 1", stride);
	struct wl_shape out = WL_SHAPE(dims(g, x)[0], (dims(g, x)[1] + stride - 1) / stride,
		(dims(g, x)[2] + stride - 1) / stride, o);
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, out);
	struct gop *op = graph_op(g, WL_OP_CONV, label_of(g, w));
	if (!op)
		return -1;
	conv_attr(&op->op.attr, dims(g, x), (int)kh, (int)kw, stride);
	op->in[0] = x;
	op->in[1] = w;
	op->in[2] = bias;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_depthwise(struct wl_graph *g, wl_tid x, wl_tid w, int stride)
{
	if (!operand(g, "depthwise", "x", x, WL_F32, 4) ||
		!operand(g, "depthwise", "w", w, WL_F32, 3))
		return -1;
	int64_t k = dims(g, w)[0], c = dims(g, x)[3];
	if (!shaped(g, "depthwise", "w", w, WL_F32, WL_SHAPE(k, k, c)))
		return -1;
	if (stride < 1)
		return wl_g_fail(g, "depthwise has stride %d, expected at least 1", stride);
	struct wl_shape out = WL_SHAPE(dims(g, x)[0], (dims(g, x)[1] + stride - 1) / stride,
		(dims(g, x)[2] + stride - 1) / stride, c);
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, out);
	struct gop *op = graph_op(g, WL_OP_DEPTHWISE, label_of(g, w));
	if (!op)
		return -1;
	conv_attr(&op->op.attr, dims(g, x), (int)k, (int)k, stride);
	op->in[0] = x;
	op->in[1] = w;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_batch_norm(struct wl_graph *g, wl_tid x, const struct wl_bn *bn)
{
	static const char me[] = "batch_norm";
	if (!operand(g, me, "x", x, WL_F32, -1))
		return -1;
	struct wl_shape shape = g->node[x].t.shape;
	struct wl_shape c = WL_SHAPE(wl_shape_last(&shape));
	if (!shaped(g, me, "gamma", bn->gamma, WL_F32, c) ||
		!shaped(g, me, "beta", bn->beta, WL_F32, c) ||
		!shaped(g, me, "mean", bn->mean, WL_F32, c) ||
		!shaped(g, me, "var", bn->var, WL_F32, c) ||
		!optional(g, me, "residual", bn->residual, WL_F32, shape))
		return -1;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, shape);
	wl_tid saved = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(2, c.dim[0]));
	struct gop *op = graph_op(g, WL_OP_BATCH_NORM, label_of(g, bn->gamma));
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
	if (!operand(g, "mean_hw", "x", x, WL_F32, 4))
		return -1;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(dims(g, x)[0], dims(g, x)[3]));
	struct gop *op = graph_op(g, WL_OP_MEAN_HW, "");
	if (!op)
		return -1;
	op->in[0] = x;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_channel_scale(struct wl_graph *g, wl_tid x, wl_tid s)
{
	if (!operand(g, "channel_scale", "x", x, WL_F32, 4) ||
		!shaped(g, "channel_scale", "s", s, WL_F32,
			WL_SHAPE(dims(g, x)[0], dims(g, x)[3])))
		return -1;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, g->node[x].t.shape);
	struct gop *op = graph_op(g, WL_OP_CHANNEL_SCALE, "");
	if (!op)
		return -1;
	op->in[0] = x;
	op->in[1] = s;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_linear(struct wl_graph *g, wl_tid x, wl_tid w, wl_tid bias, enum wl_act act)
{
	if (!operand(g, "linear", "x", x, WL_F32, -1) || !operand(g, "linear", "w", w, WL_F32, -1))
		return -1;
	struct wl_shape y_shape = g->node[x].t.shape, w_shape = g->node[w].t.shape;
	int64_t i = wl_shape_last(&y_shape), o = w_shape.dim[0];
	char text[WL_SHAPE_TEXT];
	if (y_shape.rank < 1 || w_shape.rank < 2 || wl_shape_last(&w_shape) != i ||
		wl_shape_count(&w_shape) != o * i)
		return wl_g_fail(g, "linear: the weight %s has shape %s, which does not take rows "
			"of %lld", label_of(g, w), wl_shape_text(&w_shape, text), (long long)i);
	if (!optional(g, "linear", "bias", bias, WL_F32, WL_SHAPE(o)))
		return -1;
	y_shape.dim[y_shape.rank - 1] = o;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, y_shape), z = WL_NONE;
	if (g->opts.train && !wl_act_grad_from_y(act))
		z = graph_node(g, NODE_ACT, WL_F32, y_shape);
	struct gop *op = graph_op(g, WL_OP_LINEAR, label_of(g, w));
	if (!op)
		return -1;
	op->op.attr.act = act;
	op->in[0] = x;
	op->in[1] = w;
	op->in[2] = bias;
	op->out[0] = y;
	op->out[1] = z;
	return y;
}

wl_tid wl_g_layer_norm(struct wl_graph *g, wl_tid x, const struct wl_ln *ln)
{
	static const char me[] = "layer_norm";
	if (!operand(g, me, "x", x, WL_F32, -1))
		return -1;
	struct wl_shape shape = g->node[x].t.shape, c = WL_SHAPE(wl_shape_last(&shape));
	if (!shaped(g, me, "gamma", ln->gamma, WL_F32, c) ||
		!shaped(g, me, "beta", ln->beta, WL_F32, c) ||
		!optional(g, me, "residual", ln->residual, WL_F32, shape))
		return -1;
	float p = g->opts.train ? ln->dropout : 0;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, shape), sum = WL_NONE;
	wl_tid saved = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(wl_shape_rows(&shape), 2));
	if (p > 0 || ln->residual != WL_NONE)
		sum = graph_node(g, NODE_ACT, WL_F32, shape);
	struct gop *op = graph_op(g, WL_OP_LAYER_NORM, label_of(g, ln->gamma));
	if (!op)
		return -1;
	op->op.attr.eps = ln->eps;
	op->op.attr.p = p;
	op->in[0] = x;
	op->in[1] = ln->gamma;
	op->in[2] = ln->beta;
	op->in[3] = ln->residual;
	op->out[0] = y;
	op->out[1] = saved;
	op->out[2] = sum;
	return y;
}

wl_tid wl_g_attention(struct wl_graph *g, const struct wl_attn *at)
{
	static const char me[] = "attention";
	if (!operand(g, me, "q", at->q, WL_F32, 3) || !operand(g, me, "k", at->k, WL_F32, 3) ||
		!operand(g, me, "v", at->v, WL_F32, 3))
		return -1;
	bool packed = at->q == at->k && at->k == at->v;
	int64_t b = dims(g, at->q)[0], s = dims(g, at->q)[1], d = dims(g, at->q)[2];
	if (packed && d % 3)
		return wl_g_fail(g, "attention: packed rows of %lld are not three of equal length",
			(long long)d);
	d = packed ? d / 3 : d;
	if (at->heads < 1 || d % at->heads)
		return wl_g_fail(g, "attention: width %lld is not a multiple of %d heads",
			(long long)d, at->heads);
	if (!packed && (!shaped(g, me, "k", at->k, WL_F32, WL_SHAPE(b, s, d)) ||
			       !shaped(g, me, "v", at->v, WL_F32, WL_SHAPE(b, s, d))))
		return -1;
	if (!optional(g, me, "mask", at->mask, WL_F32, WL_SHAPE(b, s)))
		return -1;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(b, s, d));
	wl_tid p = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(b, at->heads, s, s));
	struct gop *op = graph_op(g, WL_OP_ATTENTION, "");
	if (!op)
		return -1;
	op->op.attr.heads = at->heads;
	op->op.attr.p = g->opts.train ? at->dropout : 0;
	if (packed) {
		op->op.attr.k_col = (int)d;
		op->op.attr.v_col = 2 * (int)d;
	}
	op->in[0] = at->q;
	op->in[1] = at->k;
	op->in[2] = at->v;
	op->in[3] = at->mask;
	op->out[0] = y;
	op->out[1] = p;
	return y;
}

wl_tid wl_g_embedding(struct wl_graph *g, wl_tid ids, wl_tid word, wl_tid pos, wl_tid type)
{
	static const char me[] = "embedding";
	if (!operand(g, me, "ids", ids, WL_I32, 2) || !operand(g, me, "word", word, WL_F32, 2))
		return -1;
	int64_t b = dims(g, ids)[0], s = dims(g, ids)[1], d = dims(g, word)[1];
	if (pos != WL_NONE && (!operand(g, me, "pos", pos, WL_F32, 2) ||
				      !shaped(g, me, "pos", pos, WL_F32, WL_SHAPE(dims(g, pos)[0], d))))
		return -1;
	if (type != WL_NONE &&
		(!operand(g, me, "type", type, WL_F32, 2) ||
			!shaped(g, me, "type", type, WL_F32, WL_SHAPE(dims(g, type)[0], d))))
		return -1;
	if (pos != WL_NONE && dims(g, pos)[0] < s)
		return wl_g_fail(g, "embedding: %lld tokens, but the position table has %lld rows",
			(long long)s, (long long)dims(g, pos)[0]);
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(b, s, d));
	struct gop *op = graph_op(g, WL_OP_EMBED, label_of(g, word));
	if (!op)
		return -1;
	op->in[0] = ids;
	op->in[1] = word;
	op->in[2] = pos;
	op->in[3] = type;
	op->out[0] = y;
	return y;
}

/* An operation of one operand whose result has the same shape. */
static wl_tid unary(struct wl_graph *g, const char *name, enum wl_op_kind kind, wl_tid x,
	struct wl_op_attr attr)
{
	if (!operand(g, name, "x", x, WL_F32, -1))
		return -1;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, g->node[x].t.shape);
	struct gop *op = graph_op(g, kind, "");
	if (!op)
		return -1;
	attr.rng_op = op->op.attr.rng_op;
	attr.compute = op->op.attr.compute;
	op->op.attr = attr;
	op->in[0] = x;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_add(struct wl_graph *g, wl_tid a, wl_tid b)
{
	if (!operand(g, "add", "a", a, WL_F32, -1) ||
		!shaped(g, "add", "b", b, WL_F32, g->node[a].t.shape))
		return -1;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, g->node[a].t.shape);
	struct gop *op = graph_op(g, WL_OP_ADD, "");
	if (!op)
		return -1;
	op->in[0] = a;
	op->in[1] = b;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_scale(struct wl_graph *g, wl_tid x, float factor)
{
	return unary(g, "scale", WL_OP_SCALE, x, (struct wl_op_attr){.scale = factor});
}

wl_tid wl_g_act(struct wl_graph *g, wl_tid x, enum wl_act act)
{
	return unary(g, "act", WL_OP_ACT, x, (struct wl_op_attr){.act = act});
}

wl_tid wl_g_dropout(struct wl_graph *g, wl_tid x, float p)
{
	if (!g->opts.train || p <= 0)
		return x;
	return unary(g, "dropout", WL_OP_DROPOUT, x, (struct wl_op_attr){.p = p});
}

wl_tid wl_g_l2_normalize(struct wl_graph *g, wl_tid x, float eps)
{
	if (!operand(g, "l2_normalize", "x", x, WL_F32, -1))
		return -1;
	struct wl_shape shape = g->node[x].t.shape;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, shape);
	wl_tid norm = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(wl_shape_rows(&shape)));
	struct gop *op = graph_op(g, WL_OP_L2NORM, "");
	if (!op)
		return -1;
	op->op.attr.eps = eps;
	op->in[0] = x;
	op->out[0] = y;
	op->out[1] = norm;
	return y;
}

wl_tid wl_g_roi_grid(struct wl_graph *g, wl_tid map, wl_tid boxes, float image_w, float image_h)
{
	if (!operand(g, "roi_grid", "map", map, WL_F32, 4) ||
		!operand(g, "roi_grid", "boxes", boxes, WL_F32, 3) ||
		!shaped(g, "roi_grid", "boxes", boxes, WL_F32,
			WL_SHAPE(dims(g, map)[0], dims(g, boxes)[1], 4)))
		return -1;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32,
		WL_SHAPE(dims(g, map)[0], dims(g, boxes)[1], dims(g, map)[3]));
	struct gop *op = graph_op(g, WL_OP_ROI_GRID, "");
	if (!op)
		return -1;
	op->op.attr.image_w = image_w;
	op->op.attr.image_h = image_h;
	op->in[0] = map;
	op->in[1] = boxes;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_masked_mean(struct wl_graph *g, wl_tid x, wl_tid mask)
{
	if (!operand(g, "masked_mean", "x", x, WL_F32, 3) ||
		!optional(g, "masked_mean", "mask", mask, WL_F32,
			WL_SHAPE(dims(g, x)[0], dims(g, x)[1])))
		return -1;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(dims(g, x)[0], dims(g, x)[2]));
	struct gop *op = graph_op(g, WL_OP_MASKED_MEAN, "");
	if (!op)
		return -1;
	op->in[0] = x;
	op->in[1] = mask;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_slice(struct wl_graph *g, wl_tid x, int axis, int64_t begin, int64_t len)
{
	if (!operand(g, "slice", "x", x, WL_F32, -1))
		return -1;
	struct wl_shape shape = g->node[x].t.shape;
	if (axis < 0 || axis >= shape.rank || begin < 0 || len < 1 || begin + len > shape.dim[axis])
		return wl_g_fail(g, "slice: %lld entries from %lld along axis %d do not fit the "
			"operand", (long long)len, (long long)begin, axis);
	shape.dim[axis] = len;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, shape);
	struct gop *op = graph_op(g, WL_OP_SLICE, "");
	if (!op)
		return -1;
	op->op.attr.axis = axis;
	op->op.attr.begin = begin;
	op->op.attr.len = len;
	op->in[0] = x;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_concat(struct wl_graph *g, wl_tid a, wl_tid b, int axis)
{
	if (!operand(g, "concat", "a", a, WL_F32, -1) || !operand(g, "concat", "b", b, WL_F32, -1))
		return -1;
	struct wl_shape shape = g->node[a].t.shape;
	if (axis < 0 || axis >= shape.rank || g->node[b].t.shape.rank != shape.rank)
		return wl_g_fail(g, "concat: there is no axis %d in both operands", axis);
	int64_t na = shape.dim[axis], nb = dims(g, b)[axis];
	shape.dim[axis] = nb;
	if (!shaped(g, "concat", "b", b, WL_F32, shape))
		return -1;
	shape.dim[axis] = na + nb;
	wl_tid y = graph_node(g, NODE_ACT, WL_F32, shape);
	struct gop *op = graph_op(g, WL_OP_CONCAT, "");
	if (!op)
		return -1;
	op->op.attr.axis = axis;
	op->in[0] = a;
	op->in[1] = b;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_reshape(struct wl_graph *g, wl_tid x, struct wl_shape shape)
{
	char from[WL_SHAPE_TEXT], to[WL_SHAPE_TEXT];
	if (!valid(g, x))
		return wl_g_fail(g, "operand x of reshape is missing");
	if (wl_shape_count(&shape) != wl_shape_count(&g->node[x].t.shape))
		return wl_g_fail(g, "reshape from %s to %s changes the number of elements",
			wl_shape_text(&g->node[x].t.shape, from), wl_shape_text(&shape, to));
	wl_tid y = graph_node(g, NODE_VIEW, g->node[x].t.dtype, shape);
	if (y >= 0)
		g->node[y].root = graph_root(g, x);
	return y;
}

wl_tid wl_g_infonce(struct wl_graph *g, const struct wl_infonce *in, wl_tid *accuracy)
{
	static const char me[] = "infonce";
	if (accuracy)
		*accuracy = -1;
	if (!operand(g, me, "query", in->query, WL_F32, 2))
		return -1;
	int64_t b = dims(g, in->query)[0], d = dims(g, in->query)[1];
	if (!shaped(g, me, "key", in->key, WL_F32, WL_SHAPE(b, d)) ||
		!shaped(g, me, "log_scale", in->log_scale, WL_F32, WL_SHAPE(1)))
		return -1;
	if (in->queue == WL_NONE && !in->in_batch)
		return wl_g_fail(g, "infonce has neither a queue nor in-batch negatives");
	int64_t k = 0;
	if (in->queue != WL_NONE) {
		if (!operand(g, me, "queue", in->queue, WL_F32, 2))
			return -1;
		k = dims(g, in->queue)[0];
		if (!shaped(g, me, "queue", in->queue, WL_F32, WL_SHAPE(k, d)))
			return -1;
	}
	if (in->row_ids != WL_NONE) {
		if (!operand(g, me, "row_ids", in->row_ids, WL_I64, 2))
			return -1;
		int64_t ids = dims(g, in->row_ids)[1];
		if (!shaped(g, me, "row_ids", in->row_ids, WL_I64, WL_SHAPE(b, ids)) ||
			!optional(g, me, "queue_ids", in->queue_ids, WL_I64, WL_SHAPE(k, ids)))
			return -1;
	}
	wl_tid loss = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(1));
	wl_tid acc = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(1));
	wl_tid lse = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(b));
	wl_tid pos = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(b));
	struct gop *op = graph_op(g, WL_OP_INFONCE, "");
	if (!op)
		return -1;
	op->op.attr.in_batch = in->in_batch;
	const wl_tid ins[] = {in->query, in->key, in->queue, in->log_scale, in->row_ids,
		in->row_ids == WL_NONE ? WL_NONE : in->queue_ids};
	memcpy(op->in, ins, sizeof(ins));
	op->out[0] = loss;
	op->out[1] = acc;
	op->out[2] = lse;
	op->out[3] = pos;
	if (accuracy)
		*accuracy = acc;
	return loss;
}

wl_tid wl_g_dot(struct wl_graph *g, wl_tid x, wl_tid y)
{
	if (!operand(g, "dot", "x", x, WL_F32, -1) ||
		!shaped(g, "dot", "y", y, WL_F32, g->node[x].t.shape))
		return -1;
	wl_tid out = graph_node(g, NODE_ACT, WL_F32, WL_SHAPE(1));
	struct gop *op = graph_op(g, WL_OP_DOT, "");
	if (!op)
		return -1;
	op->in[0] = x;
	op->in[1] = y;
	op->out[0] = out;
	return out;
}

static void add_seed(struct wl_graph *g, struct seed s)
{
	if (!g->failed && grow(g, (void **)&g->seed, g->n_seeds, &g->cap_seeds, sizeof(*g->seed)))
		g->seed[g->n_seeds++] = s;
}

void wl_g_loss(struct wl_graph *g, wl_tid t, float weight)
{
	if (!shaped(g, "loss", "t", t, WL_F32, WL_SHAPE(1)))
		return;
	g->node[graph_root(g, t)].keep = true;
	add_seed(g, (struct seed){t, -1, weight});
}

void wl_g_seed(struct wl_graph *g, wl_tid t, wl_tid grad)
{
	if (!operand(g, "seed", "t", t, WL_F32, -1) ||
		!shaped(g, "seed", "grad", grad, WL_F32, g->node[t].t.shape))
		return;
	add_seed(g, (struct seed){t, grad, 1});
}

void wl_g_output(struct wl_graph *g, wl_tid t, const char *name)
{
	if (!valid(g, t)) {
		wl_g_fail(g, "output %s is missing", name);
		return;
	}
	g->node[graph_root(g, t)].keep = true;
	g->node[t].keep = true;
	g->node[t].name = copy_name(g, name);
}

void wl_g_want_grad(struct wl_graph *g, wl_tid t)
{
	if (!valid(g, t)) {
		wl_g_fail(g, "the tensor whose gradient is wanted is missing");
		return;
	}
	g->node[t].want_grad = true;
}
