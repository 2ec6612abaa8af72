/* A graph's life: making, compiling, running, asking. */
#include "train/nn/internal.h"

#include "ops/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct wl_graph *wl_graph_new(const char *name, struct wl_params *params,
	const struct wl_graph_options *opts, struct wl_err *err)
{
	struct wl_graph *g = calloc(1, sizeof(*g));
	if (!g) {
		wl_err_nomem(err, "a graph", sizeof(*g));
		return NULL;
	}
	g->opts = *opts;
	g->params = params;
	g->name = wl_arena_strdup(&g->mem, name, err);
	if (!g->name) {
		wl_graph_free(g);
		return NULL;
	}
	/* Operations of graphs with different names draw different numbers. */
	struct wl_rng_key key = wl_rng_key_name(0, name);
	g->rng_base = (uint64_t)key.a << 32;
	wl_gi_node(g, NODE_EXTERNAL, WL_F32, WL_SHAPE(0)); /* id 0 is WL_NONE */
	return g;
}

void wl_graph_free(struct wl_graph *g)
{
	if (!g)
		return;
	if (g->be)
		wl_graph_record(g, false);
	for (int i = 0; g->be && i < g->n_ops; i++)
		g->be->release_op(g->be, &g->op[i].op);
	if (g->be) {
		g->be->free_mem(g->be, g->arena);
		g->be->free_mem(g->be, g->run.scratch);
	}
	free(g->node);
	free(g->op);
	free(g->seed);
	wl_arena_release(&g->mem);
	free(g);
}

bool wl_graph_training(const struct wl_graph *g)
{
	return g->opts.train;
}

double wl_gi_op_flops(const struct wl_op *op)
{
	double n = 0, grads = 0;
	switch (op->kind) {
	case WL_OP_CONV:
	case WL_OP_LINEAR:
		return 2.0 * (double)wl_shape_count(&op->out[0]->shape) *
		       (double)wl_shape_count(&op->in[1]->shape) / (double)op->in[1]->shape.dim[0];
	case WL_OP_CONV_BWD:
	case WL_OP_LINEAR_BWD:
		n = 2.0 *
		    (double)wl_shape_count(&op->in[op->kind == WL_OP_CONV_BWD ? 2 : 4]->shape) *
		    (double)wl_shape_count(&op->in[1]->shape) / (double)op->in[1]->shape.dim[0];
		return n * ((op->out[0] ? 1 : 0) + (op->out[1] ? 1 : 0));
	case WL_OP_DEPTHWISE:
		return 2.0 * (double)wl_shape_count(&op->out[0]->shape) * op->attr.kh * op->attr.kw;
	case WL_OP_DEPTHWISE_BWD:
		n = 2.0 * (double)wl_shape_count(&op->in[2]->shape) * op->attr.kh * op->attr.kw;
		return n * ((op->out[0] ? 1 : 0) + (op->out[1] ? 1 : 0));
	case WL_OP_ATTENTION:
		return 4.0 * (double)wl_shape_count(&op->out[0]->shape) *
		       (double)op->out[0]->shape.dim[1];
	case WL_OP_ATTENTION_BWD:
		return 8.0 * (double)wl_shape_count(&op->in[4]->shape) *
		       (double)op->in[4]->shape.dim[1];
	case WL_OP_INFONCE:
	case WL_OP_INFONCE_BWD:
		n = 2.0 * (double)wl_shape_count(&op->in[0]->shape) *
		    (double)((op->in[2] ? op->in[2]->shape.dim[0] : 0) +
			     (op->attr.in_batch ? op->in[0]->shape.dim[0] : 0));
		grads = op->kind == WL_OP_INFONCE_BWD ? 2 : 1;
		return n * grads;
	default:
		return 0;
	}
}

int wl_graph_compile(struct wl_graph *g, struct wl_backend *be, struct wl_err *err)
{
	if (g->failed) {
		if (err)
			*err = g->first_err;
		return -1;
	}
	if (g->compiled)
		return wl_err_set(err, WL_EUSAGE, "graph %s is already compiled", g->name);
	if (!g->params->sealed)
		return wl_err_set(err, WL_EUSAGE,
			"graph %s cannot be compiled before its parameter "
			"store is sealed",
			g->name);
	g->be = be;
	WL_TRY(wl_gi_backward(g, err));
	wl_gi_fuse(g);
	WL_TRY(wl_gi_store(g, err));
	WL_TRY(wl_gi_plan(g, err));
	for (int i = 0; i < g->n_ops; i++)
		*(i < g->n_forward ? &g->flops_forward : &g->flops_backward) +=
			wl_gi_op_flops(&g->op[i].op);
	g->compiled = true;
	return 0;
}

void *wl_graph_data(struct wl_graph *g, wl_tid t)
{
	if (t <= 0 || t >= g->n)
		return NULL;
	const struct node *n = &g->node[t], *root = &g->node[wl_gi_root(g, t)];
	if (root->kind == NODE_ACT && !root->keep)
		return NULL;
	return n->t.data;
}

float *wl_graph_grad(struct wl_graph *g, wl_tid t)
{
	if (t <= 0 || t >= g->n)
		return NULL;
	const struct node *root = &g->node[wl_gi_root(g, t)];
	bool lasting = root->want_grad || root->kind == NODE_PARAM;
	return lasting && root->grad > 0 ? g->node[root->grad].t.data : NULL;
}

static void forget(struct wl_graph *g);

void wl_graph_bind(struct wl_graph *g, wl_tid t, void *data)
{
	WL_ASSERT(t > 0 && t < g->n && g->node[t].kind == NODE_EXTERNAL);
	if (g->node[t].t.data == data)
		return;
	forget(g); /* recordings hold pointers */
	g->node[t].t.data = data;
	for (wl_tid v = 1; v < g->n; v++)
		if (g->node[v].kind == NODE_VIEW && g->node[v].root == t)
			g->node[v].t.data = data;
}

wl_tid wl_graph_find(const struct wl_graph *g, const char *name)
{
	for (wl_tid t = 1; t < g->n; t++)
		if (g->node[t].name && strcmp(g->node[t].name, name) == 0)
			return t;
	return -1;
}

/* Fills a node's bytes with NaN (all ones) when its lifetime is over. */
static void poison(struct wl_graph *g, const struct node *n)
{
	unsigned char block[4096];
	memset(block, 0xff, sizeof(block));
	size_t bytes = wl_tensor_bytes(&n->t);
	for (size_t at = 0; at < bytes; at += sizeof(block))
		g->be->upload(g->be, (char *)n->t.data + at, block,
			bytes - at < sizeof(block) ? bytes - at : sizeof(block));
}

/* after: the operation that was just run; -1 before the first. */
static void poison_dead(struct wl_graph *g, int after)
{
	for (wl_tid t = 1; t < g->n; t++) {
		const struct node *n = &g->node[t];
		if (n->kind == NODE_ACT && n->first >= 0 && (after < 0 || n->last == after))
			poison(g, n);
	}
}

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Operation `op` begins (-1: none does): the time since *since was that of section *now. */
static void spend(struct wl_graph *g, int op, int *now, double *since)
{
	int next = op < 0 ? -1 : (int)g->op[op].section;
	if (op >= 0)
		g->spent_flops[next] += wl_gi_op_flops(&g->op[op].op);
	if (next == *now)
		return;
	double t = now_ms();
	if (*now >= 0)
		g->spent_s[*now] += 1e-3 * (t - *since);
	*now = next;
	*since = t;
}

static int run_range(struct wl_graph *g, int from, int to, bool timed, struct wl_err *err)
{
	int section = -1;
	double since = 0;
	if (g->hooks.begin)
		g->hooks.begin(g->hooks.peers, from, to);
	for (int i = from; i < to; i++) {
		spend(g, i, &section, &since);
		double start = timed ? now_ms() : 0;
		struct wl_op *op = &g->op[i].op;
		if (g->hooks.before)
			WL_TRY(g->hooks.before(g->hooks.peers, i, err));
		if (g->be->run_op(g->be, op, &g->run, err) < 0)
			return wl_err_prefix(
				err, "graph %s, %s %s", g->name, wl_op_name(op->kind), op->label);
		if (g->hooks.after)
			WL_TRY(g->hooks.after(g->hooks.peers, i, err));
		if (g->opts.poison)
			poison_dead(g, i);
		if (timed) {
			WL_TRY(g->be->sync(g->be, err));
			g->op[i].ms = now_ms() - start;
		}
	}
	spend(g, -1, &section, &since);
	return 0;
}

void wl_g_section(struct wl_graph *g, enum wl_section section)
{
	g->section = section;
}

void wl_graph_spent(const struct wl_graph *g, enum wl_section section, double *seconds,
	double *flops)
{
	*seconds = g->spent_s[section];
	*flops = g->spent_flops[section];
}

void wl_graph_hook(struct wl_graph *g, const struct wl_graph_hooks *hooks)
{
	g->hooks = *hooks;
	g->run.rank = hooks->rank;
	g->run.world = hooks->world;
	g->run.sum = hooks->sum;
	g->run.peers = hooks->peers;
}

int wl_graph_ops(const struct wl_graph *g, int *forward)
{
	WL_ASSERT(g->compiled);
	*forward = g->n_forward;
	return g->n_ops;
}

static void param_of(const struct wl_graph *g, wl_tid t,
	void (*fn)(void *ctx, int index, bool grad), void *ctx)
{
	const struct node *n = t > 0 ? &g->node[wl_gi_root(g, t)] : NULL;
	if (n && (n->kind == NODE_PARAM || n->kind == NODE_GRAD))
		fn(ctx, n->param, n->kind == NODE_GRAD);
}

void wl_graph_op_params(const struct wl_graph *g, int op,
	void (*fn)(void *ctx, int index, bool grad), void *ctx)
{
	WL_ASSERT(op >= 0 && op < g->n_ops);
	for (int k = 0; k < WL_OP_IN; k++)
		param_of(g, g->op[op].in[k], fn, ctx);
	for (int k = 0; k < WL_OP_OUT; k++)
		param_of(g, g->op[op].out[k], fn, ctx);
}

static int check_ready(const struct wl_graph *g, struct wl_err *err)
{
	if (!g->compiled)
		return wl_err_set(err, WL_EUSAGE, "graph %s is run before it is compiled", g->name);
	for (wl_tid t = 1; t < g->n; t++)
		if (g->node[t].kind == NODE_EXTERNAL && !g->node[t].t.data)
			return wl_err_set(err, WL_EUSAGE,
				"graph %s is run before its external %s "
				"is bound",
				g->name, g->node[t].name);
	return 0;
}

/* --- recordings --- */

static void forget(struct wl_graph *g)
{
	for (int i = 0; i < WL_GRAPH_RECORDINGS; i++) {
		if (g->recording[i])
			g->be->forget(g->be, g->recording[i]);
		g->recording[i] = NULL;
		g->ran[i % WL_HALVES] = false;
	}
}

void wl_graph_record(struct wl_graph *g, bool yes)
{
	g->record = yes;
	if (!yes && g->be)
		forget(g);
}

static bool hooked(const struct wl_graph *g)
{
	return g->hooks.before || g->hooks.after;
}

/* Tells the hooks, where they are part of what is recorded. */
static int tell(struct wl_graph *g, enum wl_recording what, int which, struct wl_err *err)
{
	return hooked(g) ? g->hooks.recording(g->hooks.peers, what, which, err) : 0;
}

void wl_graph_variant(struct wl_graph *g, int variant)
{
	WL_ASSERT(variant >= 0 && variant < WL_GRAPH_VARIANTS);
	g->variant = variant;
}

/* Nothing that a variant differs by stands in forward. */
static int recording_of(const struct wl_graph *g, int half)
{
	return half == WL_HALF_FORWARD ? half : g->variant * WL_HALVES + half;
}

/* The half's operations are kept by the backend; false: it cannot, and is not asked again. */
static bool make_recording(struct wl_graph *g, int which, int from, int to)
{
	int half = which % WL_HALVES;
	struct wl_err why = {0};
	double spent[WL_SECTIONS], flops[WL_SECTIONS];
	int ret;

	memcpy(spent, g->spent_s, sizeof spent);
	memcpy(flops, g->spent_flops, sizeof flops);
	ret = tell(g, WL_RECORD, which, &why);
	if (ret == 0)
		ret = g->be->record(g->be, g->run.seed, g->run.step, &why);
	if (ret == 0) {
		ret = run_range(g, from, to, false, &why);
		if (tell(g, WL_RECORDED, which, ret < 0 ? NULL : &why) < 0)
			ret = -1;
		g->recording[which] = g->be->recorded(g->be, ret < 0 ? NULL : &why);
	}
	for (int i = 0; i < WL_SECTIONS; i++) { /* nothing was computed */
		g->half_flops[half][i] = g->spent_flops[i] - flops[i];
		g->spent_s[i] = spent[i];
		g->spent_flops[i] = flops[i];
	}
	if (g->recording[which] && ret == 0)
		return true;
	wl_info("graph %s is not recorded, its operations are given one by one: %s", g->name,
		why.msg);
	wl_graph_record(g, false);
	return false;
}

/* Forward, backward or both, from a recording from the second time on: the first one lets libraries
 * make what they need. */
static int run_half(struct wl_graph *g, int half, struct wl_err *err)
{
	int from = half == WL_HALF_BACKWARD ? g->n_forward : 0;
	int to = half == WL_HALF_FORWARD ? g->n_forward : g->n_ops, which = recording_of(g, half);
	bool may = g->record && g->be->record && (!hooked(g) || g->hooks.recording) &&
		   !g->opts.poison && from < to;

	if (may && g->ran[half] && !g->recording[which])
		may = make_recording(g, which, from, to);
	if (!may || !g->recording[which]) {
		g->ran[half] = true;
		return run_range(g, from, to, false, err);
	}
	for (int i = 0; i < WL_SECTIONS; i++)
		g->spent_flops[i] += g->half_flops[half][i];
	WL_TRY(tell(g, WL_REPLAY, which, err));
	if (g->be->replay(g->be, g->recording[which], g->run.seed, g->run.step, err) < 0)
		return wl_err_prefix(err, "graph %s", g->name);
	return tell(g, WL_REPLAYED, which, err);
}

static int settle(struct wl_graph *g, struct wl_err *err)
{
	return g->opts.no_wait ? 0 : g->be->sync(g->be, err);
}

static int prepare(struct wl_graph *g, uint64_t seed, uint64_t step, struct wl_err *err)
{
	WL_TRY(check_ready(g, err));
	g->run.seed = seed;
	g->run.step = step;
	if (g->opts.poison)
		poison_dead(g, -1);
	return 0;
}

int wl_graph_forward(struct wl_graph *g, uint64_t seed, uint64_t step, struct wl_err *err)
{
	WL_TRY(prepare(g, seed, step, err));
	WL_TRY(run_half(g, WL_HALF_FORWARD, err));
	return settle(g, err);
}

int wl_graph_backward(struct wl_graph *g, struct wl_err *err)
{
	WL_TRY(run_half(g, WL_HALF_BACKWARD, err));
	return settle(g, err);
}

int wl_graph_run(struct wl_graph *g, uint64_t seed, uint64_t step, struct wl_err *err)
{
	if (hooked(g) && g->hooks.recording) { /* in one: weights for backward come ahead of it */
		WL_TRY(prepare(g, seed, step, err));
		WL_TRY(run_half(g, WL_HALF_BOTH, err));
		return settle(g, err);
	}
	WL_TRY(wl_graph_forward(g, seed, step, err));
	return wl_graph_backward(g, err);
}

void wl_graph_stats(const struct wl_graph *g, struct wl_graph_stats *out)
{
	*out = (struct wl_graph_stats){.ops_forward = g->n_forward,
		.ops_backward = g->n_ops - g->n_forward,
		.tensors = g->n - 1,
		.arena_bytes = g->arena_bytes,
		.unshared_bytes = g->unshared_bytes,
		.scratch_bytes = g->scratch_bytes,
		.flops_forward = g->flops_forward,
		.flops_backward = g->flops_backward};
}

/* The shape that an operation's cost depends on: its result's, or its gradient's. */
static const struct wl_shape *main_shape(const struct wl_op *op)
{
	for (int k = 0; k < WL_OP_OUT; k++)
		if (op->out[k])
			return &op->out[k]->shape;
	return &op->in[0]->shape;
}

static bool named_before(struct wl_tensor *const *list, int k)
{
	for (int i = 0; i < k; i++)
		if (list[i] == list[k])
			return true;
	return false;
}

void wl_graph_cost(const struct wl_graph *g, int op, struct wl_graph_cost *out)
{
	WL_ASSERT(g->compiled && op >= 0 && op < g->n_ops);
	const struct wl_op *o = &g->op[op].op;
	*out = (struct wl_graph_cost){.kind = o->kind, .label = o->label,
		.shape = *main_shape(o), .flops = wl_gi_op_flops(o), .ms = g->op[op].ms};
	for (int k = 0; k < WL_OP_IN; k++)
		if (o->in[k] && !named_before(o->in, k))
			out->bytes += (double)wl_tensor_bytes(o->in[k]);
	for (int k = 0; k < WL_OP_OUT; k++)
		if (o->out[k] && !named_before(o->out, k))
			out->bytes += (double)wl_tensor_bytes(o->out[k]) *
				      ((o->acc >> k) & 1 ? 2 : 1);
}

int wl_graph_profile(struct wl_graph *g, uint64_t seed, uint64_t step, struct wl_err *err)
{
	WL_TRY(check_ready(g, err));
	g->run.seed = seed;
	g->run.step = step;
	WL_TRY(run_range(g, 0, g->n_ops, true, err));
	double by_kind[WL_OP_KINDS] = {0}, total = 0;
	for (int i = 0; i < g->n_ops; i++) {
		const struct wl_op *op = &g->op[i].op;
		char text[WL_SHAPE_TEXT];
		double ms = g->op[i].ms;
		fprintf(stderr, "%4d %-18s %9.3f ms %7.1f GFLOP/s  %s %s\n", i,
			wl_op_name(op->kind), ms, wl_gi_op_flops(op) / (ms * 1e6 + 1e-9),
			wl_shape_text(main_shape(op), text), op->label);
		by_kind[op->kind] += ms;
		total += ms;
	}
	for (int k = 0; k < WL_OP_KINDS; k++)
		if (by_kind[k] > 0)
			fprintf(stderr, "%-18s %9.3f ms %5.1f %%\n", wl_op_name((enum wl_op_kind)k),
				by_kind[k], 100 * by_kind[k] / total);
	fprintf(stderr, "%-18s %9.3f ms\n", "total", total);
	return 0;
}
