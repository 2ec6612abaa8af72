/* What the files of a graph share: build.c, build_more.c, backward.c, plan.c, graph.c. */
#ifndef WL_TRAIN_NN_INTERNAL_H
#define WL_TRAIN_NN_INTERNAL_H

#include "train/nn/graph.h"

/* Where a tensor's bytes come from. */
enum node_kind {
	NODE_ACT,      /* an operation's output, planned in the arena */
	NODE_INPUT,    /* in the arena for the whole run */
	NODE_EXTERNAL, /* the caller's */
	NODE_PARAM,    /* the store's value */
	NODE_GRAD,     /* the store's gradient; always added to */
	NODE_VIEW,     /* another node's bytes under another shape */
};

struct node {
	struct wl_tensor t;
	enum node_kind kind;
	const char *name; /* of inputs, externals, outputs; NULL otherwise */
	int param;	  /* index in the store; -1 */
	wl_tid root;	  /* of a view; -1 */
	wl_tid origin;	  /* of a tensor that is computed again: the first one; else 0 */
	bool keep;	  /* lives to the end of a run */
	bool want_grad, needs_grad;
	wl_tid grad; /* its gradient; -1 */
	/* Of a gradient: how many tensors whose producer has not run backward yet have it as
	 * theirs. One that is shared is copied before something is added to it. */
	int holders;
	int first, last; /* operations between which its bytes are needed; -1: never */
	size_t offset;	 /* in the arena */
};

/* An operation with ids in place of pointers until the tensors stand still. */
struct gop {
	struct wl_op op;
	wl_tid in[WL_OP_IN], out[WL_OP_OUT];
	int block;   /* number of its block, 0: in none */
	bool replay; /* a forward operation run again for backward */
	double ms; /* of the last profiled run */
	enum wl_section section;
};

struct seed {
	wl_tid t, grad; /* grad: -1 for a loss of weight */
	float weight;
};

struct wl_graph {
	const char *name;
	struct wl_params *params;
	struct wl_graph_options opts;
	struct wl_backend *be;
	struct wl_arena mem; /* names */
	struct node *node;
	int n, cap;
	struct gop *op;
	int n_ops, cap_ops, n_forward;
	struct seed *seed;
	int n_seeds, cap_seeds;
	int block, n_blocks; /* the one that operations are added to, 0: none; begun so far */
	bool failed, compiled;
	struct wl_err first_err;
	uint64_t rng_base;
	char *arena; /* activations */
	size_t arena_bytes, unshared_bytes, scratch_bytes;
	struct wl_run run;
	struct wl_graph_hooks hooks;
	enum wl_section section; /* of what is being built */
	double spent_s[WL_SECTIONS], spent_flops[WL_SECTIONS];
	double flops_forward, flops_backward;
	/* Of halves and variants: the backend's recording, NULL: none yet; whether the half ran. */
	int variant;
	void *recording[WL_GRAPH_RECORDINGS];
	bool record, ran[WL_HALVES];
	double half_flops[WL_HALVES][WL_SECTIONS]; /* of a recording */
};

/* A new node of a kind; -1 and the graph's error on failure. */
wl_tid wl_gi_node(
	struct wl_graph *g, enum node_kind kind, enum wl_dtype dtype, struct wl_shape shape);
/* A new operation with all operands absent; NULL on failure. Valid until the next one. */
struct gop *wl_gi_op(struct wl_graph *g, enum wl_op_kind kind, const char *label);
/* Recomputation (recompute.c): NULL unless the graph asks for it, or on failure. */
struct replays *wl_gi_replays_new(struct wl_graph *g);
/* f, an operation of a block, with its operands as backward must read them: the block is computed
 * again first where that has not happened yet. */
void wl_gi_replay(struct wl_graph *g, struct replays *r, struct gop *f);
/* Drops replayed operations that nobody reads; frees r (may be NULL). */
void wl_gi_replays_free(struct wl_graph *g, struct replays *r);

/* The node whose bytes a view shows, or t itself. */
wl_tid wl_gi_root(const struct wl_graph *g, wl_tid t);
/* What builders check; each records the graph's failure and returns false. */
bool wl_gi_valid(const struct wl_graph *g, wl_tid t);
/* An operand that must be there, with this type and, where rank >= 0, rank. */
bool wl_gi_operand(struct wl_graph *g, const char *op, const char *what, wl_tid t,
	enum wl_dtype dtype, int rank);
/* An operand of exactly this shape; wl_gi_optional: or none. */
bool wl_gi_shaped(struct wl_graph *g, const char *op, const char *what, wl_tid t,
	enum wl_dtype dtype, struct wl_shape shape);
bool wl_gi_optional(struct wl_graph *g, const char *op, const char *what, wl_tid t,
	enum wl_dtype dtype, struct wl_shape shape);
int64_t *wl_gi_dims(struct wl_graph *g, wl_tid t);
/* What names an operation in messages: the parameter that it uses. */
const char *wl_gi_label(struct wl_graph *g, wl_tid t);
/* Multiplications and additions of an operation's matrix products. */
double wl_gi_op_flops(const struct wl_op *op);

int wl_gi_backward(struct wl_graph *g, struct wl_err *err); /* appends the backward operations */
/* Takes operations into their neighbours where the backend can (fuse.c). */
void wl_gi_fuse(struct wl_graph *g);
int wl_gi_store(struct wl_graph *g, struct wl_err *err); /* the types that tensors are kept in */
int wl_gi_plan(struct wl_graph *g, struct wl_err *err);	    /* lifetimes, offsets, allocation */

#endif
