/*
 * Blocks computed again: when backward reaches a block, the block's forward
 * operations are appended once more with fresh outputs, and its backward reads
 * those.  What the first pass wrote inside the block is then last read inside
 * it, and the memory plan frees it at once; what other blocks read stays.
 *
 * The copies have the attributes of the first ones, random numbers included, so
 * the bits are the same.  Small side results (statistics of a norm, lengths) are
 * kept from the first pass instead; batch norm must not move its running
 * statistics twice and takes the kept ones.  A copy that nobody reads (the end of
 * a block, mostly) is dropped.
 */
#include "train/nn/internal.h"

#include <stdlib.h>

enum { SMALL = 8 }; /* a side result of less than 1/SMALL of the main one is kept */

struct replays {
	int n;         /* nodes of the forward pass */
	wl_tid *now;   /* [n] what backward reads in place of a tensor; 0: itself */
	int *last_use; /* [n] by root: the last forward operation that reads it */
	bool *done;    /* [n_blocks + 1] */
};

struct replays *wl_gi_replays_new(struct wl_graph *g)
{
	if (!g->opts.recompute || g->failed || !g->n_blocks)
		return NULL;
	struct replays *r = calloc(1, sizeof(*r));
	if (r) {
		r->n = g->n;
		r->now = calloc((size_t)g->n, sizeof(*r->now));
		r->last_use = calloc((size_t)g->n, sizeof(*r->last_use));
		r->done = calloc((size_t)g->n_blocks + 1, sizeof(*r->done));
	}
	if (!r || !r->now || !r->last_use || !r->done) {
		wl_g_fail(g, "out of memory for the plan of recomputation");
		wl_gi_replays_free(g, r); /* of a failed graph: frees only */
		return NULL;
	}
	for (int i = 0; i < g->n_forward; i++)
		for (int k = 0; k < WL_OP_IN; k++)
			if (g->op[i].in[k] > 0)
				r->last_use[wl_gi_root(g, g->op[i].in[k])] = i;
	return r;
}

/* What stands for t now; a view of a replaced tensor becomes a view of the new one. */
static wl_tid now_of(struct wl_graph *g, struct replays *r, wl_tid t)
{
	if (t <= 0 || t >= r->n)
		return t;
	if (r->now[t])
		return r->now[t];
	if (g->node[t].kind != NODE_VIEW)
		return t;
	wl_tid root = wl_gi_root(g, t), fresh = r->now[root];
	if (!fresh)
		return t;
	wl_tid v = wl_gi_node(g, NODE_VIEW, g->node[t].t.dtype, g->node[t].t.shape);
	if (v < 0)
		return -1;
	g->node[v].root = fresh;
	r->now[t] = v;
	return v;
}

/* Where the copy of an operation writes its k-th result; last: the block's last operation. */
static wl_tid replay_out(struct wl_graph *g, struct replays *r, const struct gop *f, int k,
	int last)
{
	wl_tid t = f->out[k];
	if (t <= 0)
		return WL_NONE;
	const struct node *n = &g->node[t];
	if (k > 0 && wl_tensor_bytes(&n->t) * SMALL <= wl_tensor_bytes(&g->node[f->out[0]].t))
		return t;
	bool stays = n->keep || n->want_grad || r->last_use[t] > last;
	wl_tid fresh = wl_gi_node(g, NODE_ACT, n->t.dtype, n->t.shape);
	if (fresh > 0 && !stays) {
		g->node[fresh].origin = t;
		r->now[t] = fresh;
	}
	return fresh;
}

static void replay_op(struct wl_graph *g, struct replays *r, int i, int last)
{
	struct gop f = g->op[i]; /* the list may move while it grows */
	wl_tid in[WL_OP_IN], out[WL_OP_OUT];
	for (int k = 0; k < WL_OP_IN; k++)
		in[k] = now_of(g, r, f.in[k]);
	for (int k = 0; k < WL_OP_OUT; k++)
		out[k] = replay_out(g, r, &f, k, last);
	struct gop *op = wl_gi_op(g, f.op.kind, f.op.label);
	if (!op)
		return;
	op->op.attr = f.op.attr;
	op->op.attr.replay = true;
	op->replay = true;
	memcpy(op->in, in, sizeof(in));
	memcpy(op->out, out, sizeof(out));
}

void wl_gi_replay(struct wl_graph *g, struct replays *r, struct gop *f)
{
	if (!r->done[f->block]) {
		int first = 0, last = g->n_forward - 1;
		while (g->op[first].block != f->block)
			first++;
		while (g->op[last].block != f->block)
			last--;
		r->done[f->block] = true;
		for (int i = first; i <= last; i++)
			replay_op(g, r, i, last);
	}
	for (int k = 0; k < WL_OP_IN; k++)
		f->in[k] = now_of(g, r, f->in[k]);
	for (int k = 0; k < WL_OP_OUT; k++)
		f->out[k] = now_of(g, r, f->out[k]);
}

/* Removes replayed operations none of whose results from node `fresh` on is read after them. */
static void drop_unread(struct wl_graph *g, wl_tid fresh, bool *read)
{
	int kept = g->n_ops;
	for (int i = g->n_ops - 1; i >= g->n_forward; i--) {
		const struct gop *op = &g->op[i];
		bool needed = !op->replay;
		for (int k = 0; k < WL_OP_OUT; k++)
			needed |= op->out[k] >= fresh && read[op->out[k]];
		if (!needed)
			continue;
		for (int k = 0; k < WL_OP_IN; k++)
			if (op->in[k] > 0)
				read[wl_gi_root(g, op->in[k])] = true;
		g->op[--kept] = *op;
	}
	memmove(g->op + g->n_forward, g->op + kept,
		(size_t)(g->n_ops - kept) * sizeof(*g->op));
	g->n_ops = g->n_forward + g->n_ops - kept;
}

void wl_gi_replays_free(struct wl_graph *g, struct replays *r)
{
	if (!r)
		return;
	/* The value before a linear layer's activation is for backward alone. */
	for (int i = 0; i < g->n_forward && !g->failed; i++)
		if (g->op[i].op.kind == WL_OP_LINEAR && g->op[i].out[1] > 0 &&
			r->now[g->op[i].out[1]])
			g->op[i].out[1] = WL_NONE;
	bool *read = calloc((size_t)g->n, sizeof(*read));
	if (read && !g->failed)
		drop_unread(g, r->n, read);
	else if (!read)
		wl_g_fail(g, "out of memory for the plan of recomputation");
	free(read);
	free(r->now);
	free(r->last_use);
	free(r->done);
	free(r);
}
