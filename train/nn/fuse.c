/*
 * Operations taken into their neighbours, where the backend says that it can (wl_backend.fuses).
 * Runs once all operations are there; what it changes is where numbers are computed, never which.
 *
 * Batch norm on load: a normalised tensor whose every reader can normalise for itself is never
 * written.  Readers get the norm's input in its place, and gamma, beta and the statistics; backward
 * recomputes it from what backward of the norm needs anyway, so it takes no memory either.  In an
 * EfficientNet that is the expanded tensor before each depthwise convolution, and the one behind it
 * that the squeeze-excite mean and gate read.
 *
 * The gate's gradient: where g_y of a batch norm is the gradient by x of a squeeze-excite gate plus
 * that of its mean, batch norm's backward makes it as it reads.
 *
 * The gate on load: a 1x1 convolution behind a squeeze-excite gate (an EfficientNet's projection)
 * reads what the gate reads, and its backward too, so the gated tensor is never written.  Only
 * where the backend has such a product for the shape (wl_backend.pointwise).
 *
 * Sums on store: the statistics of a batch norm by the convolution before it, the sums of its
 * backward by the gate's backward, which reads the same, or by the depthwise convolution's, which
 * writes its g_y and reads its x.  With running statistics, which are there before x is, the
 * squeeze-excite mean by the depthwise convolution too.
 */
#include "train/nn/internal.h"

#include <stdlib.h>
#include <string.h>

/* The first of the three slots for a norm before in[0]; 0: this operation has none. */
static int norm_slots(enum wl_op_kind kind)
{
	switch (kind) {
	case WL_OP_MEAN_HW:
		return 1;
	case WL_OP_DEPTHWISE:
	case WL_OP_CHANNEL_SCALE:
		return 2;
	case WL_OP_DEPTHWISE_BWD:
	case WL_OP_CHANNEL_SCALE_BWD:
	case WL_OP_CONV:
	case WL_OP_CONV_BWD:
		return 3;
	default:
		return 0;
	}
}

/* A tensor of the graph's own that nobody outside sees and that no view shows. */
static bool is_hidden(const struct wl_graph *g, wl_tid t)
{
	const struct node *n = &g->node[t];

	if (t <= 0 || n->kind != NODE_ACT || n->keep || n->want_grad)
		return false;
	for (wl_tid v = 1; v < g->n; v++)
		if (g->node[v].kind == NODE_VIEW && g->node[v].root == t)
			return false;
	return true;
}

static bool reads(const struct gop *op, wl_tid t)
{
	for (int k = 0; k < WL_OP_IN; k++)
		if (op->in[k] == t)
			return true;
	return false;
}

static bool writes(const struct wl_graph *g, const struct gop *op, wl_tid root)
{
	for (int k = 0; k < WL_OP_OUT; k++)
		if (op->out[k] > 0 && wl_gi_root(g, op->out[k]) == root)
			return true;
	return false;
}

/* Whether this is a 1x1 convolution, or its backward, of which the backend has a product of its own
 * that takes a norm with this activation. */
static bool is_pointwise(const struct wl_graph *g, const struct gop *op, enum wl_act act)
{
	const struct wl_op_attr *a = &op->op.attr;
	const struct wl_shape *x, *w;

	if ((op->op.kind != WL_OP_CONV && op->op.kind != WL_OP_CONV_BWD) || a->kh != 1 ||
		a->kw != 1 || a->stride != 1 || !g->be->pointwise)
		return false;
	x = &g->node[op->in[0]].t.shape;
	w = &g->node[op->in[1]].t.shape;
	return g->be->pointwise(g->be, wl_shape_rows(x), wl_shape_last(x), w->dim[0], act,
		a->compute, g->opts.store);
}

static bool is_conv(enum wl_op_kind kind)
{
	return kind == WL_OP_CONV || kind == WL_OP_CONV_BWD;
}

/* Whether this operation can take the norm that makes t into its reading of t. */
static bool takes_norm(
	const struct wl_graph *g, const struct gop *op, wl_tid t, enum wl_act act)
{
	if (!norm_slots(op->op.kind) || op->in[0] != t)
		return false;
	if (is_conv(op->op.kind) ? !is_pointwise(g, op, act) : !g->be->fuses(op->op.kind))
		return false;
	for (int k = 1; k < WL_OP_IN; k++)
		if (op->in[k] == t)
			return false;
	return op->in[norm_slots(op->op.kind)] <= 0;
}

/* Whether all that read the result of batch norm `at` can do without it. */
static bool norm_can_go(const struct wl_graph *g, int at)
{
	const struct gop *bn = &g->op[at];
	wl_tid z = bn->out[0];
	int readers = 0;

	if (bn->in[5] > 0 || bn->op.attr.p > 0 || (bn->op.acc & 1) || !is_hidden(g, z))
		return false;
	for (int i = 0; i < g->n_ops; i++) {
		const struct gop *op = &g->op[i];

		if (i != at && writes(g, op, z))
			return false;
		if (!reads(op, z))
			continue;
		if (!takes_norm(g, op, z, bn->op.attr.act))
			return false;
		readers++;
	}
	return readers > 0;
}

static void norm_on_load(struct wl_graph *g, int at)
{
	struct gop *bn = &g->op[at];
	wl_tid z = bn->out[0];

	for (int i = 0; i < g->n_ops; i++) {
		struct gop *op = &g->op[i];
		int slot = norm_slots(op->op.kind);

		if (!reads(op, z))
			continue;
		op->in[0] = bn->in[0];
		op->in[slot] = bn->in[1];
		op->in[slot + 1] = bn->in[2];
		op->in[slot + 2] = bn->out[1];
		op->op.attr.act = bn->op.attr.act;
	}
	bn->out[0] = WL_NONE;
}

/* Whether t has the same value before operations `from` and `to`. */
static bool unchanged(const struct wl_graph *g, wl_tid t, int from, int to)
{
	for (int i = from; i < to; i++)
		if (writes(g, &g->op[i], wl_gi_root(g, t)))
			return false;
	return true;
}

/* The slot of the gate behind a 1x1 convolution's norm. */
enum { GATE_SLOT = 6 };

/* Whether operation i can read what gate `at` reads in place of its product. */
static bool takes_gate(const struct wl_graph *g, int at, int i)
{
	const struct gop *gate = &g->op[at], *op = &g->op[i];

	if (!is_pointwise(g, op, gate->op.attr.act) || op->in[0] != gate->out[0] || op->in[3] > 0 ||
		op->in[GATE_SLOT] > 0)
		return false;
	for (int k = 1; k < WL_OP_IN; k++)
		if (op->in[k] == gate->out[0])
			return false;
	for (int k = 0; k < 5; k++)
		if (gate->in[k] > 0 && !unchanged(g, gate->in[k], at, i))
			return false;
	return true;
}

/* Operation `at` is a gate: goes where all that read its product can do without it. */
static void gate_into_products(struct wl_graph *g, int at)
{
	struct gop *gate = &g->op[at];
	wl_tid z = gate->out[0];
	int readers = 0;

	if ((gate->op.acc & 1) || !is_hidden(g, z))
		return;
	for (int i = 0; i < g->n_ops; i++) {
		if (i != at && writes(g, &g->op[i], z))
			return;
		if (!reads(&g->op[i], z))
			continue;
		if (i < at || !takes_gate(g, at, i))
			return;
		readers++;
	}
	for (int i = at; i < g->n_ops && readers; i++) {
		struct gop *op = &g->op[i];

		if (!reads(op, z))
			continue;
		op->in[0] = gate->in[0];
		op->in[GATE_SLOT] = gate->in[1];
		for (int k = 0; k < 3; k++)
			op->in[3 + k] = gate->in[2 + k];
		op->op.attr.act = gate->in[2] > 0 ? gate->op.attr.act : WL_ACT_NONE;
	}
	if (readers)
		gate->out[0] = WL_NONE;
}

/* The first operation after `at` that reads or writes t; -1: none. */
static int next_touch(const struct wl_graph *g, wl_tid t, int at)
{
	for (int i = at + 1; i < g->n_ops; i++)
		if (reads(&g->op[i], t) || writes(g, &g->op[i], t))
			return i;
	return -1;
}

/* Whether the x of a gate's or a depthwise convolution's backward is what this batch norm's
 * backward would normalise again. */
static bool same_norm(const struct gop *op, const struct gop *bn)
{
	bool same = op->op.attr.act == bn->op.attr.act && bn->op.attr.p <= 0 &&
		    op->in[0] == bn->in[0];

	for (int k = 0; k < 3; k++)
		same = same && op->in[3 + k] == bn->in[1 + k];
	return same;
}

/* Operation `at` is the gate's backward: takes its g_x, and the mean's, into batch norm's. */
static void gate_on_load(struct wl_graph *g, int at)
{
	struct gop *gate = &g->op[at], *mean, *bn;
	wl_tid gz = gate->out[0];
	int i, j;

	if ((gate->op.acc & 1) || !is_hidden(g, gz))
		return;
	i = next_touch(g, gz, at);
	j = i < 0 ? -1 : next_touch(g, gz, i);
	if (j < 0 || next_touch(g, gz, j) >= 0)
		return;
	mean = &g->op[i];
	bn = &g->op[j];
	if (mean->op.kind != WL_OP_MEAN_HW_BWD || mean->out[0] != gz || !(mean->op.acc & 1) ||
		bn->op.kind != WL_OP_BATCH_NORM_BWD || bn->in[4] != gz || writes(g, bn, gz) ||
		bn->in[5] > 0)
		return;
	if (!unchanged(g, gate->in[1], at, j) || !unchanged(g, gate->in[2], at, j) ||
		!unchanged(g, mean->in[0], i, j))
		return;
	bn->in[4] = gate->in[2];
	bn->in[5] = gate->in[1];
	bn->in[6] = mean->in[0];
	gate->out[0] = WL_NONE;
	mean->out[0] = WL_NONE;
	if (g->be->sums && g->be->sums(WL_OP_CHANNEL_SCALE_BWD) && same_norm(gate, bn)) {
		const int64_t *d = wl_gi_dims(g, gate->in[0]);

		gate->out[2] = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(d[0], 4, d[3]));
		bn->in[7] = gate->out[2];
	}
}

/* Operation `at` is a depthwise convolution's backward: it makes the sums of the batch norm's that
 * takes its g_x, if that is all of the gradient. */
static void grad_sums_on_store(struct wl_graph *g, int at)
{
	struct gop *dw = &g->op[at], *bn;
	wl_tid gz = dw->out[0];
	int to = gz > 0 ? next_touch(g, gz, at) : -1;

	if (to < 0 || g->node[gz].kind != NODE_ACT)
		return;
	bn = &g->op[to];
	if (bn->op.kind != WL_OP_BATCH_NORM_BWD || bn->in[4] != gz || bn->in[5] > 0 ||
		bn->in[7] > 0 || !same_norm(dw, bn))
		return;
	dw->out[2] = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(2, wl_gi_dims(g, dw->in[0])[3]));
	bn->in[7] = dw->out[2];
}

/* The last operation before `at` that writes t; -1: none. */
static int last_writer(const struct wl_graph *g, wl_tid t, int at)
{
	while (--at >= 0 && !writes(g, &g->op[at], wl_gi_root(g, t)))
		;
	return at;
}

/* Mean `at` is of a depthwise convolution's y under running statistics: the convolution makes it,
 * and the norm, which does not read its x, goes before. */
static void mean_on_store(struct wl_graph *g, int at)
{
	struct gop *mean = &g->op[at], *dw, norm;
	int from, bn;

	if (mean->in[1] <= 0 || (mean->op.acc & 1))
		return;
	from = last_writer(g, mean->in[0], at);
	bn = last_writer(g, mean->in[3], at);
	if (from < 0 || bn < from || g->op[from].op.kind != WL_OP_DEPTHWISE ||
		g->op[bn].op.kind != WL_OP_BATCH_NORM)
		return;
	dw = &g->op[from];
	norm = g->op[bn];
	if (dw->out[0] != mean->in[0] || (dw->op.acc & 1) || dw->out[1] > 0 || dw->out[2] > 0 ||
		!norm.op.attr.use_running || norm.op.attr.replay || norm.out[0] > 0 ||
		norm.out[1] != mean->in[3] ||
		(dw->in[2] > 0 && dw->op.attr.act != mean->op.attr.act))
		return;
	for (int k = 0; k < 3; k++)
		dw->in[5 + k] = mean->in[1 + k];
	dw->op.attr.act = mean->op.attr.act;
	dw->out[2] = mean->out[0];
	mean->out[0] = WL_NONE;
	norm.in[0] = dw->in[0]; /* as many channels, and there already */
	memmove(dw + 1, dw, (size_t)(bn - from) * sizeof *dw);
	*dw = norm;
}

/* Whether the moments of what operation i writes come from it. */
static bool leaves_moments(const struct wl_graph *g, int i)
{
	const struct gop *op = &g->op[i];

	return op->out[1] <= 0 && !(op->op.acc & 1) &&
	       (op->op.kind == WL_OP_DEPTHWISE
			       ? g->be->sums(WL_OP_DEPTHWISE)
			       : op->op.kind == WL_OP_CONV &&
				     is_pointwise(g, op, op->op.attr.act));
}

/* Batch norm `at` takes its statistics from the convolution that makes its x. */
static void moments_on_store(struct wl_graph *g, int at)
{
	struct gop *bn = &g->op[at];
	int from;

	if (bn->replay || bn->op.attr.replay || bn->op.attr.use_running || bn->in[6] > 0)
		return;
	from = last_writer(g, bn->in[0], at);
	if (from < 0 || g->op[from].out[0] != bn->in[0] || !leaves_moments(g, from))
		return;
	bn->in[6] = wl_gi_node(g, NODE_ACT, WL_F32, WL_SHAPE(2, wl_gi_dims(g, bn->in[0])[3]));
	g->op[from].out[1] = bn->in[6];
}

/* Operations that were left without a result go. */
static void drop_empty(struct wl_graph *g)
{
	int kept = 0, forward = 0;

	for (int i = 0; i < g->n_ops; i++) {
		bool any = false;

		for (int k = 0; k < WL_OP_OUT; k++)
			any |= g->op[i].out[k] > 0;
		/* A replayed norm has nothing to do but its result. */
		if (g->op[i].replay && g->op[i].op.kind == WL_OP_BATCH_NORM)
			any = g->op[i].out[0] > 0;
		if (!any)
			continue;
		forward += i < g->n_forward;
		g->op[kept++] = g->op[i];
	}
	g->n_ops = kept;
	g->n_forward = forward;
}

void wl_gi_fuse(struct wl_graph *g)
{
	if (!g->be->fuses)
		return;
	if (g->be->fuses(WL_OP_BATCH_NORM))
		for (int i = 0; i < g->n_ops; i++)
			if (g->op[i].op.kind == WL_OP_BATCH_NORM && norm_can_go(g, i))
				norm_on_load(g, i);
	for (int i = 0; i < g->n_ops && g->be->pointwise; i++)
		if (g->op[i].op.kind == WL_OP_CHANNEL_SCALE && g->op[i].out[0] > 0)
			gate_into_products(g, i);
	if (g->be->sums)
		for (int i = 0; i < g->n_forward; i++)
			if (g->op[i].op.kind == WL_OP_BATCH_NORM)
				moments_on_store(g, i);
	if (g->be->sums && g->be->sums(WL_OP_MEAN_HW))
		for (int i = 0; i < g->n_forward; i++)
			if (g->op[i].op.kind == WL_OP_MEAN_HW)
				mean_on_store(g, i);
	if (g->be->fuses(WL_OP_BATCH_NORM_BWD))
		for (int i = g->n_forward; i < g->n_ops; i++)
			if (g->op[i].op.kind == WL_OP_CHANNEL_SCALE_BWD && g->op[i].out[0] > 0)
				gate_on_load(g, i);
	if (g->be->sums && g->be->sums(WL_OP_DEPTHWISE_BWD))
		for (int i = g->n_forward; i < g->n_ops; i++)
			if (g->op[i].op.kind == WL_OP_DEPTHWISE_BWD)
				grad_sums_on_store(g, i);
	drop_empty(g);
}
