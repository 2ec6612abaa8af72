/* Builders of the transformer, of glue, and of losses. */
#include "train/backend/elementwise.h"
#include "train/nn/internal.h"

wl_tid wl_g_linear(struct wl_graph *g, wl_tid x, wl_tid w, wl_tid bias, enum wl_act act)
{
	if (!wl_gi_operand(g, "linear", "x", x, WL_F32, -1) ||
		!wl_gi_operand(g, "linear", "w", w, WL_F32, -1))
		return -1;
	struct wl_shape y_shape = g->node[x].t.shape, w_shape = g->node[w].t.shape;
	int64_t i = wl_shape_last(&y_shape), o = w_shape.dim[0];
	char text[WL_SHAPE_TEXT];
	if (y_shape.rank < 1 || w_shape.rank < 2 || wl_shape_last(&w_shape) != i ||
		wl_shape_count(&w_shape) != o * i)
		return wl_g_fail(g,
			"linear: the weight %s has shape %s, which does not take rows "
			"of %lld",
			wl_gi_label(g, w), wl_shape_text(&w_shape, text), (long long)i);
	if (!wl_gi_optional(g, "linear", "bias", bias, WL_F32, WL_SHAPE(o)))
		return -1;
	y_shape.dim[y_shape.rank - 1] = o;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, y_shape), z = WL_NONE;
	if (g->opts.train && !wl_act_grad_from_y(act))
		z = wl_gi_node(g, NODE_ACT, WL_F32, y_shape);
	struct gop *op = wl_gi_op(g, WL_OP_LINEAR, wl_gi_label(g, w));
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
	if (!wl_gi_operand(g, me, "x", x, WL_F32, -1))
		return -1;
	struct wl_shape shape = g->node[x].t.shape, c = WL_SHAPE(wl_shape_last(&shape));
	if (!wl_gi_shaped(g, me, "gamma", ln->gamma, WL_F32, c) ||
		!wl_gi_shaped(g, me, "beta", ln->beta, WL_F32, c) ||
		!wl_gi_optional(g, me, "residual", ln->residual, WL_F32, shape))
		return -1;
	float p = g->opts.train ? ln->dropout : 0;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, shape), sum = WL_NONE;
	wl_tid saved = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(wl_shape_rows(&shape), 2));
	if (p > 0 || ln->residual != WL_NONE)
		sum = wl_gi_node(g, NODE_ACT, WL_F32, shape);
	struct gop *op = wl_gi_op(g, WL_OP_LAYER_NORM, wl_gi_label(g, ln->gamma));
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
	if (!wl_gi_operand(g, me, "q", at->q, WL_F32, 3) ||
		!wl_gi_operand(g, me, "k", at->k, WL_F32, 3) ||
		!wl_gi_operand(g, me, "v", at->v, WL_F32, 3))
		return -1;
	bool packed = at->q == at->k && at->k == at->v;
	int64_t b = wl_gi_dims(g, at->q)[0], s = wl_gi_dims(g, at->q)[1],
		d = wl_gi_dims(g, at->q)[2];
	if (packed && d % 3)
		return wl_g_fail(g, "attention: packed rows of %lld are not three of equal length",
			(long long)d);
	d = packed ? d / 3 : d;
	if (at->heads < 1 || d % at->heads)
		return wl_g_fail(g, "attention: width %lld is not a multiple of %d heads",
			(long long)d, at->heads);
	if (!packed && (!wl_gi_shaped(g, me, "k", at->k, WL_F32, WL_SHAPE(b, s, d)) ||
			       !wl_gi_shaped(g, me, "v", at->v, WL_F32, WL_SHAPE(b, s, d))))
		return -1;
	if (!wl_gi_optional(g, me, "mask", at->mask, WL_F32, WL_SHAPE(b, s)))
		return -1;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(b, s, d));
	wl_tid p = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(b, at->heads, s, s));
	struct gop *op = wl_gi_op(g, WL_OP_ATTENTION, "");
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
	if (!wl_gi_operand(g, me, "ids", ids, WL_I32, 2) ||
		!wl_gi_operand(g, me, "word", word, WL_F32, 2))
		return -1;
	int64_t b = wl_gi_dims(g, ids)[0], s = wl_gi_dims(g, ids)[1], d = wl_gi_dims(g, word)[1];
	if (pos != WL_NONE && (!wl_gi_operand(g, me, "pos", pos, WL_F32, 2) ||
				      !wl_gi_shaped(g, me, "pos", pos, WL_F32,
					      WL_SHAPE(wl_gi_dims(g, pos)[0], d))))
		return -1;
	if (type != WL_NONE && (!wl_gi_operand(g, me, "type", type, WL_F32, 2) ||
				       !wl_gi_shaped(g, me, "type", type, WL_F32,
					       WL_SHAPE(wl_gi_dims(g, type)[0], d))))
		return -1;
	if (pos != WL_NONE && wl_gi_dims(g, pos)[0] < s)
		return wl_g_fail(g, "embedding: %lld tokens, but the position table has %lld rows",
			(long long)s, (long long)wl_gi_dims(g, pos)[0]);
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(b, s, d));
	struct gop *op = wl_gi_op(g, WL_OP_EMBED, wl_gi_label(g, word));
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
	if (!wl_gi_operand(g, name, "x", x, WL_F32, -1))
		return -1;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, g->node[x].t.shape);
	struct gop *op = wl_gi_op(g, kind, "");
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
	if (!wl_gi_operand(g, "add", "a", a, WL_F32, -1) ||
		!wl_gi_shaped(g, "add", "b", b, WL_F32, g->node[a].t.shape))
		return -1;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, g->node[a].t.shape);
	struct gop *op = wl_gi_op(g, WL_OP_ADD, "");
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
	if (!wl_gi_operand(g, "l2_normalize", "x", x, WL_F32, -1))
		return -1;
	struct wl_shape shape = g->node[x].t.shape;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, shape);
	wl_tid norm = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(wl_shape_rows(&shape)));
	struct gop *op = wl_gi_op(g, WL_OP_L2NORM, "");
	if (!op)
		return -1;
	op->op.attr.eps = eps;
	op->in[0] = x;
	op->out[0] = y;
	op->out[1] = norm;
	return y;
}

static wl_tid roi(struct wl_graph *g, wl_tid map, wl_tid boxes, float image_w, float image_h,
	bool align)
{
	if (!wl_gi_operand(g, "roi_grid", "map", map, WL_F32, 4) ||
		!wl_gi_operand(g, "roi_grid", "boxes", boxes, WL_F32, 3) ||
		!wl_gi_shaped(g, "roi_grid", "boxes", boxes, WL_F32,
			WL_SHAPE(wl_gi_dims(g, map)[0], wl_gi_dims(g, boxes)[1], 4)))
		return -1;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32,
		WL_SHAPE(wl_gi_dims(g, map)[0], wl_gi_dims(g, boxes)[1], wl_gi_dims(g, map)[3]));
	struct gop *op = wl_gi_op(g, WL_OP_ROI_GRID, "");
	if (!op)
		return -1;
	op->op.attr.align = align;
	op->op.attr.image_w = image_w;
	op->op.attr.image_h = image_h;
	op->in[0] = map;
	op->in[1] = boxes;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_roi_grid(struct wl_graph *g, wl_tid map, wl_tid boxes, float image_w, float image_h)
{
	return roi(g, map, boxes, image_w, image_h, false);
}

wl_tid wl_g_roi_align(struct wl_graph *g, wl_tid map, wl_tid boxes, float image_w, float image_h)
{
	return roi(g, map, boxes, image_w, image_h, true);
}

wl_tid wl_g_tokens(struct wl_graph *g, wl_tid x, wl_tid cls, wl_tid pos)
{
	if (!wl_gi_operand(g, "tokens", "x", x, WL_F32, 3))
		return -1;
	int64_t b = wl_gi_dims(g, x)[0], s = wl_gi_dims(g, x)[1], d = wl_gi_dims(g, x)[2];
	if (!wl_gi_shaped(g, "tokens", "cls", cls, WL_F32, WL_SHAPE(1, 1, d)) ||
		!wl_gi_shaped(g, "tokens", "pos", pos, WL_F32, WL_SHAPE(1, s + 1, d)))
		return -1;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(b, s + 1, d));
	struct gop *op = wl_gi_op(g, WL_OP_TOKENS, wl_gi_label(g, pos));
	if (!op)
		return -1;
	op->in[0] = x;
	op->in[1] = cls;
	op->in[2] = pos;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_masked_mean(struct wl_graph *g, wl_tid x, wl_tid mask)
{
	if (!wl_gi_operand(g, "masked_mean", "x", x, WL_F32, 3) ||
		!wl_gi_optional(g, "masked_mean", "mask", mask, WL_F32,
			WL_SHAPE(wl_gi_dims(g, x)[0], wl_gi_dims(g, x)[1])))
		return -1;
	wl_tid y =
		wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(wl_gi_dims(g, x)[0], wl_gi_dims(g, x)[2]));
	struct gop *op = wl_gi_op(g, WL_OP_MASKED_MEAN, "");
	if (!op)
		return -1;
	op->in[0] = x;
	op->in[1] = mask;
	op->out[0] = y;
	return y;
}

wl_tid wl_g_slice(struct wl_graph *g, wl_tid x, int axis, int64_t begin, int64_t len)
{
	if (!wl_gi_operand(g, "slice", "x", x, WL_F32, -1))
		return -1;
	struct wl_shape shape = g->node[x].t.shape;
	if (axis < 0 || axis >= shape.rank || begin < 0 || len < 1 || begin + len > shape.dim[axis])
		return wl_g_fail(g,
			"slice: %lld entries from %lld along axis %d do not fit the "
			"operand",
			(long long)len, (long long)begin, axis);
	shape.dim[axis] = len;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, shape);
	struct gop *op = wl_gi_op(g, WL_OP_SLICE, "");
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
	if (!wl_gi_operand(g, "concat", "a", a, WL_F32, -1) ||
		!wl_gi_operand(g, "concat", "b", b, WL_F32, -1))
		return -1;
	struct wl_shape shape = g->node[a].t.shape;
	if (axis < 0 || axis >= shape.rank || g->node[b].t.shape.rank != shape.rank)
		return wl_g_fail(g, "concat: there is no axis %d in both operands", axis);
	int64_t na = shape.dim[axis], nb = wl_gi_dims(g, b)[axis];
	shape.dim[axis] = nb;
	if (!wl_gi_shaped(g, "concat", "b", b, WL_F32, shape))
		return -1;
	shape.dim[axis] = na + nb;
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_F32, shape);
	struct gop *op = wl_gi_op(g, WL_OP_CONCAT, "");
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
	if (!wl_gi_valid(g, x))
		return wl_g_fail(g, "operand x of reshape is missing");
	if (wl_shape_count(&shape) != wl_shape_count(&g->node[x].t.shape))
		return wl_g_fail(g, "reshape from %s to %s changes the number of elements",
			wl_shape_text(&g->node[x].t.shape, from), wl_shape_text(&shape, to));
	wl_tid y = wl_gi_node(g, NODE_VIEW, g->node[x].t.dtype, shape);
	if (y >= 0)
		g->node[y].root = wl_gi_root(g, x);
	return y;
}

/* Queues are f32 or bf16. */
static enum wl_dtype queue_type(const struct wl_graph *g, wl_tid t)
{
	return t > 0 && t < g->n && g->node[t].t.dtype == WL_BF16 ? WL_BF16 : WL_F32;
}

wl_tid wl_g_infonce(struct wl_graph *g, const struct wl_infonce *in, wl_tid *accuracy)
{
	static const char me[] = "infonce";
	if (accuracy)
		*accuracy = -1;
	if (!wl_gi_operand(g, me, "query", in->query, WL_F32, 2))
		return -1;
	int64_t b = wl_gi_dims(g, in->query)[0], d = wl_gi_dims(g, in->query)[1];
	if (!wl_gi_operand(g, me, "key", in->key, WL_F32, 2))
		return -1;
	int64_t keys = wl_gi_dims(g, in->key)[0];
	if (in->first < 0 || keys < in->first + b)
		return wl_g_fail(g, "infonce has %lld queries from key %lld on, but %lld keys",
			(long long)b, (long long)in->first, (long long)keys);
	if (!wl_gi_shaped(g, me, "key", in->key, WL_F32, WL_SHAPE(keys, d)) ||
		!wl_gi_shaped(g, me, "log_scale", in->log_scale, WL_F32, WL_SHAPE(1)))
		return -1;
	if (in->queue == WL_NONE && !in->in_batch)
		return wl_g_fail(g, "infonce has neither a queue nor in-batch negatives");
	int64_t k = 0;
	if (in->queue != WL_NONE) {
		enum wl_dtype type = queue_type(g, in->queue);

		if (!wl_gi_operand(g, me, "queue", in->queue, type, 2))
			return -1;
		k = wl_gi_dims(g, in->queue)[0];
		if (!wl_gi_shaped(g, me, "queue", in->queue, type, WL_SHAPE(k, d)))
			return -1;
	}
	if (in->row_ids != WL_NONE) {
		if (!wl_gi_operand(g, me, "row_ids", in->row_ids, WL_I64, 2))
			return -1;
		int64_t ids = wl_gi_dims(g, in->row_ids)[1];
		if (!wl_gi_shaped(g, me, "row_ids", in->row_ids, WL_I64, WL_SHAPE(keys, ids)) ||
			!wl_gi_optional(
				g, me, "queue_ids", in->queue_ids, WL_I64, WL_SHAPE(k, ids)))
			return -1;
	}
	if (in->extra != WL_NONE && (!wl_gi_operand(g, me, "extra", in->extra, WL_I32, 2) ||
			!wl_gi_shaped(g, me, "extra", in->extra, WL_I32,
				WL_SHAPE(b, wl_gi_dims(g, in->extra)[1]))))
		return -1;
	wl_tid loss = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(1));
	wl_tid acc = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(1));
	wl_tid lse = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(b));
	wl_tid pos = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(b));
	struct gop *op = wl_gi_op(g, WL_OP_INFONCE, "");
	if (!op)
		return -1;
	op->op.attr.in_batch = in->in_batch;
	op->op.attr.begin = in->first;
	const wl_tid ins[] = {in->query, in->key, in->queue, in->log_scale, in->row_ids,
		in->row_ids == WL_NONE ? WL_NONE : in->queue_ids, in->extra};
	memcpy(op->in, ins, sizeof(ins));
	op->out[0] = loss;
	op->out[1] = acc;
	op->out[2] = lse;
	op->out[3] = pos;
	if (accuracy)
		*accuracy = acc;
	return loss;
}

wl_tid wl_g_both_near(struct wl_graph *g, wl_tid a, wl_tid queue_a, wl_tid b, wl_tid queue_b,
	int64_t top)
{
	static const char me[] = "both_near";
	enum wl_dtype type = queue_type(g, queue_a);
	if (!wl_gi_operand(g, me, "a", a, WL_F32, 2) ||
		!wl_gi_operand(g, me, "queue_a", queue_a, type, 2))
		return -1;
	int64_t rows = wl_gi_dims(g, a)[0], d = wl_gi_dims(g, a)[1];
	int64_t k = wl_gi_dims(g, queue_a)[0];
	if (!wl_gi_shaped(g, me, "queue_a", queue_a, type, WL_SHAPE(k, d)) ||
		!wl_gi_shaped(g, me, "b", b, WL_F32, WL_SHAPE(rows, d)) ||
		!wl_gi_shaped(g, me, "queue_b", queue_b, type, WL_SHAPE(k, d)))
		return -1;
	if (top < 1 || top > k || top > WL_TOP_MAX)
		return wl_g_fail(g, "the %lld nearest of a queue of %lld: expected 1 to %d, and no "
			"more than the queue holds", (long long)top, (long long)k, WL_TOP_MAX);
	wl_tid y = wl_gi_node(g, NODE_ACT, WL_I32, WL_SHAPE(rows, top));
	struct gop *op = wl_gi_op(g, WL_OP_BOTH_NEAR, "");
	if (!op)
		return -1;
	const wl_tid ins[] = {a, queue_a, b, queue_b};
	memcpy(op->in, ins, sizeof(ins));
	op->out[0] = y;
	return y;
}

wl_tid wl_g_dot(struct wl_graph *g, wl_tid x, wl_tid y)
{
	if (!wl_gi_operand(g, "dot", "x", x, WL_F32, -1) ||
		!wl_gi_shaped(g, "dot", "y", y, WL_F32, g->node[x].t.shape))
		return -1;
	wl_tid out = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(1));
	struct gop *op = wl_gi_op(g, WL_OP_DOT, "");
	if (!op)
		return -1;
	op->in[0] = x;
	op->in[1] = y;
	op->out[0] = out;
	return out;
}
