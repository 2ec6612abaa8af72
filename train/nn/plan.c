/*
 * Memory: every activation and gradient lives from the operation that first
 * writes it to the last that touches it; those that never live together share
 * bytes.  Placing the largest first at the lowest free offset (as TFLite's
 * greedy-by-size planner, Pisarchyk and Lee 2020) comes within a few per cent of
 * the lower bound.
 */
#include "train/nn/internal.h"

#include <stdlib.h>

enum { ALIGN = 64 };

static void touch(struct wl_graph *g, wl_tid t, int op)
{
	if (t <= 0)
		return;
	struct node *n = &g->node[wl_gi_root(g, t)];
	if (n->first < 0)
		n->first = op;
	n->last = op;
}

static void lifetimes(struct wl_graph *g)
{
	for (int i = 0; i < g->n_ops; i++) {
		for (int k = 0; k < WL_OP_IN; k++)
			touch(g, g->op[i].in[k], i);
		for (int k = 0; k < WL_OP_OUT; k++)
			touch(g, g->op[i].out[k], i);
	}
	for (wl_tid t = 1; t < g->n; t++) {
		struct node *n = &g->node[t];
		if (n->kind == NODE_INPUT)
			n->first = 0;
		if (n->kind == NODE_INPUT || (n->keep && n->first >= 0))
			n->last = g->n_ops;
	}
}

static size_t padded(const struct node *n)
{
	return (wl_tensor_bytes(&n->t) + ALIGN - 1) / ALIGN * ALIGN;
}

struct place {
	const struct wl_graph *g;
	wl_tid t;
	size_t bytes;
};

/* Largest first; equal ones in the order of ids, so that the plan is always the same. */
static int by_size(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? 1 : -1;
	return x->t - y->t;
}

static int by_offset(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	size_t ox = x->g->node[x->t].offset, oy = y->g->node[y->t].offset;
	return ox < oy ? -1 : ox > oy;
}

/* The lowest offset where n fits between those of placed[0..count) alive at the same time.
 * `busy` has room for count. */
static size_t lowest(const struct place *placed, int count, const struct node *n, size_t bytes,
	struct place *busy)
{
	int k = 0;
	for (int i = 0; i < count; i++) {
		const struct node *o = &placed[i].g->node[placed[i].t];
		if (o->first <= n->last && n->first <= o->last)
			busy[k++] = placed[i];
	}
	qsort(busy, (size_t)k, sizeof(*busy), by_offset);
	size_t at = 0;
	for (int i = 0; i < k; i++) {
		size_t from = busy[i].g->node[busy[i].t].offset;
		if (from >= at + bytes)
			break;
		at = at > from + busy[i].bytes ? at : from + busy[i].bytes;
	}
	return at;
}

static int offsets(struct wl_graph *g, struct wl_err *err)
{
	struct place *all = calloc(2 * (size_t)g->n, sizeof(*all));
	if (!all)
		return wl_err_nomem(err, "the memory plan", 2 * (size_t)g->n * sizeof(*all));
	struct place *busy = all + g->n;
	int count = 0;
	for (wl_tid t = 1; t < g->n; t++) {
		struct node *n = &g->node[t];
		if ((n->kind == NODE_ACT || n->kind == NODE_INPUT) && n->first >= 0)
			all[count++] = (struct place){g, t, padded(n)};
	}
	qsort(all, (size_t)count, sizeof(*all), by_size);
	for (int i = 0; i < count; i++) {
		struct node *n = &g->node[all[i].t];
		n->offset = lowest(all, i, n, all[i].bytes, busy);
		size_t end = n->offset + all[i].bytes;
		g->arena_bytes = end > g->arena_bytes ? end : g->arena_bytes;
		g->unshared_bytes += all[i].bytes;
	}
	free(all);
	return 0;
}

/* Every node's pointer; externals keep NULL until they are bound. */
static void pointers(struct wl_graph *g)
{
	for (wl_tid t = 1; t < g->n; t++) {
		struct node *n = &g->node[t];
		if ((n->kind == NODE_ACT || n->kind == NODE_INPUT) && n->first >= 0)
			n->t.data = g->arena + n->offset;
		else if (n->kind == NODE_PARAM)
			n->t.data = g->params->value + g->params->item[n->param].offset;
		else if (n->kind == NODE_GRAD)
			n->t.data = g->params->grad + g->params->item[n->param].offset;
	}
	for (wl_tid t = 1; t < g->n; t++)
		if (g->node[t].kind == NODE_VIEW)
			g->node[t].t.data = g->node[g->node[t].root].t.data;
	for (int i = 0; i < g->n_ops; i++) {
		struct gop *op = &g->op[i];
		for (int k = 0; k < WL_OP_IN; k++)
			op->op.in[k] = op->in[k] > 0 ? &g->node[op->in[k]].t : NULL;
		for (int k = 0; k < WL_OP_OUT; k++)
			op->op.out[k] = op->out[k] > 0 ? &g->node[op->out[k]].t : NULL;
	}
}

int wl_gi_plan(struct wl_graph *g, struct wl_err *err)
{
	lifetimes(g);
	WL_TRY(offsets(g, err));
	g->arena = g->be->alloc(g->be, g->arena_bytes, err);
	if (!g->arena)
		return wl_err_prefix(err, "graph %s, activations", g->name);
	pointers(g);
	for (int i = 0; i < g->n_ops; i++) {
		struct wl_op *op = &g->op[i].op;
		if (g->be->plan_op(g->be, op, err) < 0)
			return wl_err_prefix(
				err, "graph %s, %s %s", g->name, wl_op_name(op->kind), op->label);
		if (op->scratch_bytes > g->scratch_bytes)
			g->scratch_bytes = op->scratch_bytes;
	}
	g->run.scratch = g->be->alloc(g->be, g->scratch_bytes, err);
	if (!g->run.scratch)
		return wl_err_prefix(err, "graph %s, scratch", g->name);
	return 0;
}
