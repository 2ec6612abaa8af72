/*
 * The types that tensors are kept in.  Builders know f32 alone; once all operations are there, a
 * tensor is narrowed when every operation that touches it takes a half type in that place and
 * nobody outside the graph sees it.  Kernels read the type of each operand, so narrow and wide
 * ones mix, and an operation that knows f32 only costs its neighbours nothing but bandwidth.
 */
#include "train/nn/internal.h"

#include <stdlib.h>

void wl_graph_store_for(struct wl_graph *g, const struct wl_backend *be)
{
	g->opts.store = wl_backend_store(be, g->opts.compute_dtype);
}

static void mark(const struct wl_graph *g, const struct gop *op, bool out, int slot, bool *wide)
{
	wl_tid t = out ? op->out[slot] : op->in[slot];

	if (t <= 0)
		return;
	if (!wl_op_activation(op->op.kind, out, slot) ||
		!g->be->stores(op->op.kind, g->opts.store))
		wide[wl_gi_root(g, t)] = true;
}

/* What must stay f32, by root. */
static void find_wide(const struct wl_graph *g, bool *wide)
{
	for (int i = 0; i < g->n_ops; i++) {
		for (int k = 0; k < WL_OP_IN; k++)
			mark(g, &g->op[i], false, k, wide);
		for (int k = 0; k < WL_OP_OUT; k++)
			mark(g, &g->op[i], true, k, wide);
	}
	for (wl_tid t = 1; t < g->n; t++)
		if (g->node[t].keep || g->node[t].want_grad)
			wide[wl_gi_root(g, t)] = true;
}

/* Both are wide when one is; whether that changed anything. */
static bool couple(bool *wide, wl_tid a, wl_tid b)
{
	bool differ = a > 0 && b > 0 && wide[a] != wide[b];

	if (differ)
		wide[a] = wide[b] = true;
	return differ;
}

/*
 * What is computed again must be rounded as the first time, so that the bits are the same: the
 * copies of a tensor have its type, and so has what a linear layer keeps from before its activation
 * (where nothing is kept, that is rounded to the type of the result).
 */
static void spread(const struct wl_graph *g, bool *wide)
{
	bool again = true;

	while (again) {
		again = false;
		for (wl_tid t = 1; t < g->n; t++)
			again |= couple(wide, t, g->node[t].origin);
		for (int i = 0; i < g->n_ops; i++)
			if (g->op[i].op.kind == WL_OP_LINEAR)
				again |= couple(wide, g->op[i].out[0], g->op[i].out[1]);
	}
}

int wl_gi_store(struct wl_graph *g, struct wl_err *err)
{
	enum wl_dtype store = g->opts.store;
	bool *wide;

	if (store == WL_F32)
		return 0;
	if (!g->be->stores || !g->be->stores(WL_OP_LINEAR, store))
		return wl_err_set(err, WL_EUSAGE, "graph %s stores activations in %s, which the %s "
			"backend does not: expected f32, or bf16 or fp16 on a GPU", g->name,
			wl_dtype_name(store), g->be->name);
	wide = calloc((size_t)g->n, sizeof *wide);
	if (!wide)
		return wl_err_nomem(err, "the types of a graph's tensors", (size_t)g->n);
	find_wide(g, wide);
	spread(g, wide);
	for (wl_tid t = 1; t < g->n; t++)
		if (g->node[t].kind == NODE_ACT && g->node[t].t.dtype == WL_F32 && !wide[t])
			g->node[t].t.dtype = store;
	for (wl_tid t = 1; t < g->n; t++)
		if (g->node[t].kind == NODE_VIEW)
			g->node[t].t.dtype = g->node[wl_gi_root(g, t)].t.dtype;
	free(wide);
	return 0;
}
