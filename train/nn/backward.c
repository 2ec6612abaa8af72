/*
 * The backward operations, appended to the list in reverse order of the forward.
 *
 * A gradient is a node of its own.  The first operation that contributes to it
 * writes, later ones add (wl_op.acc), so nothing is zeroed and no sums are
 * materialised.  Where a gradient is the same numbers as another one (both
 * operands of an addition), the node is shared instead of copied; `holders`
 * counts the tensors that still need the shared bytes as they are, and adding
 * to a shared gradient copies it first.
 */
#include "train/nn/internal.h"

/* gid under the shape of `like`. */
static wl_tid as_shape(struct wl_graph *g, wl_tid gid, wl_tid like)
{
	struct wl_shape shape = g->node[like].t.shape;
	if (gid <= 0 || wl_shape_equal(&g->node[gid].t.shape, &shape))
		return gid;
	wl_tid root = wl_gi_root(g, gid), v = wl_gi_node(g, NODE_VIEW, WL_F32, shape);
	if (v > 0)
		g->node[v].root = root;
	return v;
}

/* Whose gradient is meant by t: the tensor's that a view shows or a replay computed again. */
static wl_tid owner(const struct wl_graph *g, wl_tid t)
{
	wl_tid root = wl_gi_root(g, t);
	return root > 0 && g->node[root].origin > 0 ? g->node[root].origin : root;
}

/* The gradient by y as it stands, in y's shape; WL_NONE when there is none. */
static wl_tid grad_of(struct wl_graph *g, wl_tid y)
{
	if (y <= 0)
		return WL_NONE;
	wl_tid gid = g->node[owner(g, y)].grad;
	return gid > 0 ? as_shape(g, gid, y) : WL_NONE;
}

static wl_tid copy_of(struct wl_graph *g, wl_tid gid)
{
	wl_tid fresh = wl_gi_node(g, NODE_ACT, WL_F32, g->node[gid].t.shape);
	struct gop *op = wl_gi_op(g, WL_OP_COPY, "shared gradient");
	if (!op)
		return -1;
	op->in[0] = gid;
	op->out[0] = fresh;
	return fresh;
}

/*
 * Where an operation puts its contribution to the gradient by x: WL_NONE when
 * nobody needs it; sets bit `slot` of *acc when it must be added. May append a copy,
 * so it is called before the operation is made.
 */
static wl_tid contribute(struct wl_graph *g, wl_tid x, int slot, unsigned *acc)
{
	if (x <= 0 || g->failed)
		return WL_NONE;
	wl_tid root = owner(g, x);
	struct node *n = &g->node[root];
	if (!n->needs_grad)
		return WL_NONE;
	if (n->kind == NODE_PARAM) {
		*acc |= 1u << slot;
		if (n->grad <= 0) {
			wl_tid p = wl_gi_node(g, NODE_GRAD, WL_F32, n->t.shape);
			if (p < 0)
				return WL_NONE;
			g->node[p].param = g->node[root].param;
			g->node[root].grad = p;
		}
		return as_shape(g, g->node[root].grad, x);
	}
	if (n->grad <= 0) {
		wl_tid fresh = wl_gi_node(g, NODE_ACT, WL_F32, n->t.shape);
		if (fresh < 0)
			return WL_NONE;
		g->node[fresh].holders = 1;
		g->node[root].grad = fresh;
		return as_shape(g, fresh, x);
	}
	*acc |= 1u << slot;
	wl_tid held = wl_gi_root(g, n->grad);
	if (g->node[held].holders > 1) {
		wl_tid own = copy_of(g, n->grad);
		if (own < 0)
			return WL_NONE;
		g->node[held].holders--;
		g->node[own].holders = 1;
		g->node[root].grad = own;
	}
	return as_shape(g, g->node[root].grad, x);
}

/* The gradient by x gains gy itself: shared where it is the first, else added. */
static void contribute_same(struct wl_graph *g, wl_tid x, wl_tid gy)
{
	if (x <= 0 || g->failed)
		return;
	wl_tid root = owner(g, x);
	if (!g->node[root].needs_grad)
		return;
	if (g->node[root].kind != NODE_PARAM && g->node[root].grad <= 0) {
		g->node[root].grad = gy;
		g->node[wl_gi_root(g, gy)].holders++;
		return;
	}
	unsigned acc = 0;
	wl_tid to = contribute(g, x, 0, &acc);
	struct gop *op = wl_gi_op(g, WL_OP_COPY, "added gradient");
	if (!op)
		return;
	op->in[0] = gy;
	op->out[0] = to;
	op->op.acc = acc;
}

/* y's producer is done: its gradient is no longer needed as it is. */
static void consumed(struct wl_graph *g, wl_tid y)
{
	if (y <= 0)
		return;
	const struct node *n = &g->node[owner(g, y)];
	if (n->grad > 0 && !n->want_grad)
		g->node[wl_gi_root(g, n->grad)].holders--;
}

/* An operation with f's settings and random numbers, the given operands. */
static void emit(struct wl_graph *g, const struct gop *f, enum wl_op_kind kind, const wl_tid *in,
	int n_in, const wl_tid *out, int n_out, unsigned acc)
{
	bool any = false;
	for (int i = 0; i < n_out; i++)
		any |= out[i] > 0;
	struct gop *op = any ? wl_gi_op(g, kind, f->op.label) : NULL;
	if (!op)
		return;
	op->op.attr = f->op.attr;
	op->op.acc = acc;
	memcpy(op->in, in, (size_t)n_in * sizeof(*in));
	memcpy(op->out, out, (size_t)n_out * sizeof(*out));
}
#define EMIT(g, f, kind, in, out, acc)                                                             \
	emit(g, f, kind, in, (int)(sizeof(in) / sizeof(*(in))), out,                               \
		(int)(sizeof(out) / sizeof(*(out))), acc)

/* Layer norm: the gradient of the sum goes to the residual and, through the dropout, to x. */
static void layer_norm_bwd(struct wl_graph *g, const struct gop *f, wl_tid gy)
{
	unsigned acc = 0;
	wl_tid x = f->in[0], residual = f->in[3], sum = f->out[2];
	wl_tid g_sum = contribute(g, residual > 0 ? residual : sum > 0 ? WL_NONE : x, 0, &acc);
	bool share = residual > 0 && f->op.attr.p <= 0 && g_sum > 0 && !(acc & 1);
	wl_tid g_x = sum > 0 && !share ? contribute(g, x, 3, &acc) : WL_NONE;
	const wl_tid in[] = {sum > 0 ? sum : x, f->in[1], f->out[1], gy};
	const wl_tid out[] = {
		g_sum, contribute(g, f->in[1], 1, &acc), contribute(g, f->in[2], 2, &acc), g_x};
	EMIT(g, f, WL_OP_LAYER_NORM_BWD, in, out, acc);
	if (share)
		contribute_same(g, x, g_sum);
}

static void infonce_bwd(struct wl_graph *g, const struct gop *f, wl_tid gy)
{
	unsigned acc = 0;
	const wl_tid in[] = {f->in[0], f->in[1], f->in[2], f->in[3], f->in[4], f->in[5], f->out[2],
		f->out[3], gy, f->in[6]};
	const wl_tid out[] = {contribute(g, f->in[0], 0, &acc), contribute(g, f->in[3], 1, &acc),
		contribute(g, f->in[1], 2, &acc)};
	EMIT(g, f, WL_OP_INFONCE_BWD, in, out, acc);
}

static void concat_bwd(struct wl_graph *g, const struct gop *f, wl_tid gy)
{
	struct gop part = *f;
	int axis = f->op.attr.axis;
	for (int i = 0; i < 2; i++) {
		unsigned acc = 0;
		const wl_tid in[] = {gy}, out[] = {contribute(g, f->in[i], 0, &acc)};
		part.op.attr.begin = i ? g->node[f->in[0]].t.shape.dim[axis] : 0;
		part.op.attr.len = g->node[f->in[i]].t.shape.dim[axis];
		EMIT(g, &part, WL_OP_SLICE, in, out, acc);
	}
}

/* Operations with the pattern (operands..., g_y) -> gradients of the first operands. */
static void plain_bwd(struct wl_graph *g, const struct gop *f, enum wl_op_kind kind,
	const wl_tid *before, int n_before, wl_tid gy, int n_grads)
{
	unsigned acc = 0;
	wl_tid in[WL_OP_IN], out[WL_OP_OUT];
	memcpy(in, before, (size_t)n_before * sizeof(*in));
	in[n_before] = gy;
	for (int i = 0; i < n_grads; i++)
		out[i] = contribute(g, f->in[i], i, &acc);
	emit(g, f, kind, in, n_before + 1, out, n_grads, acc);
}
#define PLAIN(kind, n_grads, ...)                                                                  \
	plain_bwd(g, f, kind, (const wl_tid[]){__VA_ARGS__},                                       \
		(int)(sizeof((wl_tid[]){__VA_ARGS__}) / sizeof(wl_tid)), gy, n_grads)

/* Operations whose backward needs g_y alone. */
static void from_gy(struct wl_graph *g, const struct gop *f, enum wl_op_kind kind, wl_tid gy)
{
	unsigned acc = 0;
	const wl_tid in[] = {gy}, out[] = {contribute(g, f->in[0], 0, &acc)};
	EMIT(g, f, kind, in, out, acc);
}

/* Packed: one gradient, three ranges of columns. */
static void attention_bwd(struct wl_graph *g, const struct gop *f, wl_tid gy)
{
	const wl_tid *in = f->in, from[] = {in[0], in[1], in[2], f->out[1], gy, in[3]};
	bool packed = in[0] == in[1];
	unsigned acc = 0;
	wl_tid to[3];

	for (int i = 0; i < 3; i++)
		to[i] = packed && i ? to[0] : contribute(g, in[i], i, &acc);
	EMIT(g, f, WL_OP_ATTENTION_BWD, from, to, packed && acc ? 7u : acc);
}

static void embed_bwd(struct wl_graph *g, const struct gop *f, wl_tid gy)
{
	unsigned acc = 0;
	const wl_tid from[] = {f->in[0], gy};
	const wl_tid to[] = {contribute(g, f->in[1], 0, &acc), contribute(g, f->in[2], 1, &acc),
		contribute(g, f->in[3], 2, &acc)};
	EMIT(g, f, WL_OP_EMBED_BWD, from, to, acc);
}

static void tokens_bwd(struct wl_graph *g, const struct gop *f, wl_tid gy)
{
	unsigned acc = 0;
	const wl_tid from[] = {gy};
	const wl_tid to[] = {contribute(g, f->in[0], 0, &acc), contribute(g, f->in[1], 1, &acc),
		contribute(g, f->in[2], 2, &acc)};
	EMIT(g, f, WL_OP_TOKENS_BWD, from, to, acc);
}

static void op_bwd(struct wl_graph *g, const struct gop *f, wl_tid gy)
{
	const wl_tid *in = f->in, *out = f->out;
	switch (f->op.kind) {
	case WL_OP_CONV:
		PLAIN(WL_OP_CONV_BWD, 3, in[0], in[1]);
		break;
	case WL_OP_DEPTHWISE:
		PLAIN(WL_OP_DEPTHWISE_BWD, 2, in[0], in[1]);
		break;
	case WL_OP_BATCH_NORM:
		PLAIN(WL_OP_BATCH_NORM_BWD, 3, in[0], in[1], in[2], out[1]);
		contribute_same(g, in[5], gy);
		break;
	case WL_OP_LINEAR:
		PLAIN(WL_OP_LINEAR_BWD, 3, in[0], in[1], out[0], out[1]);
		break;
	case WL_OP_LAYER_NORM:
		layer_norm_bwd(g, f, gy);
		break;
	case WL_OP_ATTENTION:
		attention_bwd(g, f, gy);
		break;
	case WL_OP_EMBED:
		embed_bwd(g, f, gy);
		break;
	case WL_OP_MEAN_HW:
		from_gy(g, f, WL_OP_MEAN_HW_BWD, gy);
		break;
	case WL_OP_CHANNEL_SCALE:
		PLAIN(WL_OP_CHANNEL_SCALE_BWD, 2, in[0], in[1]);
		break;
	case WL_OP_ADD:
		contribute_same(g, in[0], gy);
		contribute_same(g, in[1], gy);
		break;
	case WL_OP_SCALE:
	case WL_OP_DROPOUT: /* the same factors again */
		from_gy(g, f, f->op.kind, gy);
		break;
	case WL_OP_ACT:
		PLAIN(WL_OP_ACT_BWD, 1, in[0]);
		break;
	case WL_OP_L2NORM:
		PLAIN(WL_OP_L2NORM_BWD, 1, out[0], out[1]);
		break;
	case WL_OP_TOKENS:
		tokens_bwd(g, f, gy);
		break;
	case WL_OP_ROI_GRID:
		PLAIN(WL_OP_ROI_GRID_BWD, 1, in[1]);
		break;
	case WL_OP_MASKED_MEAN:
		PLAIN(WL_OP_MASKED_MEAN_BWD, 1, in[1]);
		break;
	case WL_OP_SLICE:
		from_gy(g, f, WL_OP_SLICE_BWD, gy);
		break;
	case WL_OP_CONCAT:
		concat_bwd(g, f, gy);
		break;
	case WL_OP_INFONCE:
		infonce_bwd(g, f, gy);
		break;
	case WL_OP_DOT:
		PLAIN(WL_OP_DOT_BWD, 2, in[0], in[1]);
		break;
	default:
		WL_BUG("operation %s has no backward", wl_op_name(f->op.kind));
	}
}

/* What a trainable parameter or a wanted gradient reaches. */
static void mark_needs(struct wl_graph *g)
{
	for (wl_tid t = 1; t < g->n; t++) {
		struct node *n = &g->node[t];
		if (n->kind == NODE_PARAM) {
			unsigned flags = g->params->item[n->param].flags;
			n->needs_grad = g->params->grad && (flags & WL_PARAM_TRAINABLE) &&
					!(flags & WL_PARAM_BUFFER);
		}
		if (n->want_grad) {
			g->node[wl_gi_root(g, t)].want_grad = true;
			g->node[wl_gi_root(g, t)].needs_grad = true;
		}
	}
	for (int i = 0; i < g->n_forward; i++) {
		const struct gop *op = &g->op[i];
		bool needs = false;
		for (int k = 0; k < WL_OP_IN; k++)
			needs |= op->in[k] > 0 && g->node[wl_gi_root(g, op->in[k])].needs_grad;
		for (int k = 0; k < WL_OP_OUT; k++)
			if (op->out[k] > 0)
				g->node[op->out[k]].needs_grad |= needs;
	}
}

/* The gradients that backward starts from. */
static void start(struct wl_graph *g)
{
	for (int i = 0; i < g->n_seeds; i++) {
		const struct seed *s = &g->seed[i];
		if (s->grad > 0) {
			/* The caller's bytes: held for ever, so that nothing is added to them. */
			g->node[wl_gi_root(g, s->grad)].holders++;
			contribute_same(g, s->t, s->grad);
			continue;
		}
		unsigned acc = 0;
		wl_tid to = contribute(g, s->t, 0, &acc);
		struct gop *op = to > 0 ? wl_gi_op(g, WL_OP_FILL, "loss") : NULL;
		if (!op)
			continue;
		op->op.attr.scale = s->weight;
		op->op.acc = acc;
		op->out[0] = to;
	}
}

int wl_gi_backward(struct wl_graph *g, struct wl_err *err)
{
	struct replays *again = NULL;
	g->n_forward = g->n_ops;
	g->block = 0;
	if (g->n_seeds) {
		mark_needs(g);
		start(g);
		again = wl_gi_replays_new(g);
	}
	for (int i = g->n_forward - 1; i >= 0 && !g->failed; i--) {
		wl_tid gy = grad_of(g, g->op[i].out[0]);
		if (gy > 0) {
			struct gop f = g->op[i]; /* the list may move while it grows */
			g->section = f.section;
			if (again && f.block)
				wl_gi_replay(g, again, &f);
			op_bwd(g, &f, gy);
			consumed(g, f.out[0]);
		} else if (g->op[i].op.kind == WL_OP_LINEAR) {
			g->op[i].out[1] = WL_NONE; /* kept for backward only */
		}
	}
	wl_gi_replays_free(g, again);
	if (g->failed) {
		if (err)
			*err = g->first_err;
		return -1;
	}
	for (wl_tid t = 1; t < g->n; t++)
		if (g->node[t].want_grad && g->node[wl_gi_root(g, t)].grad > 0)
			g->node[wl_gi_root(g, g->node[wl_gi_root(g, t)].grad)].keep = true;
	return 0;
}
