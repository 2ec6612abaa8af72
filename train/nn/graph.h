/*
 * A network as a static list of operations, built once and run every step.
 *
 * Build: wl_graph_new, then one call per operation.  A call returns a tensor id
 * (wl_tid), or -1 after the first failure; -1 is accepted everywhere and passed
 * on, and wl_graph_compile reports the first failure's sentence.  So a model
 * reads as its formula, without a check per line.  An operand that is optional
 * is left out with WL_NONE.
 *
 * Compile: finds what needs a gradient (whatever a trainable parameter or a
 * tensor marked with wl_g_want_grad reaches), appends the backward operations,
 * plans the memory of all activations by their lifetimes into one allocation,
 * and lets the backend plan each operation.  Afterwards nothing is allocated.
 *
 * Run: fill the inputs, wl_graph_run, read the outputs.  Gradients of parameters
 * are added to the store's (wl_params_zero_grad first).
 *
 * A graph belongs to one batch size and one mode; several graphs share a store.
 * Not safe for use by several threads at once (it uses all threads itself).
 * Activations are [.., channels last], images [N,H,W,C]; f32 to whoever builds a graph and at its
 * ends, and inside it in memory as options.store says.
 */
#ifndef WL_TRAIN_NN_GRAPH_H
#define WL_TRAIN_NN_GRAPH_H

#include "train/nn/params.h"

typedef int32_t wl_tid;
enum { WL_NONE = 0 }; /* an optional operand that is absent: what a zeroed struct has */

struct wl_graph;

struct wl_graph_options {
	/* true: batch statistics in batch norm (running ones updated), dropout active.
	 * false: running statistics, no dropout. */
	bool train;
	/* WL_F32, WL_BF16, or WL_F16: matrix products and dense convolutions round their operands
	 * to it and sum in f32 (bf16: f32 altogether on a processor without AMX; fp16 on a GPU:
	 * attention's own products take bf16, and the loss f32).  Everything else, the loss
	 * included, stays f32. */
	enum wl_dtype compute_dtype;
	/* WL_F32, or WL_BF16 or WL_F16 where the backend can (GPUs; refused otherwise), as
	 * compute_dtype: how activations and
	 * gradients by them lie in memory.  Computed in f32 and rounded when written.  What lasts
	 * (inputs, outputs, wanted gradients), parameters, their gradients, statistics and what a
	 * loss touches stay f32. */
	enum wl_dtype store;
	/* Blocks (wl_g_block) keep only what goes in and out of them; backward runs each forward
	 * once more, to the same bits, before it goes through it (Chen et al., arXiv
	 * 1604.06174). Less memory for a third more work. */
	bool recompute;
	/* A run returns once all is given to the backend; who reads results waits (a download does,
	 * wl_backend.sync does). false: it returns when all is computed. */
	bool no_wait;
	/* Debug: every byte whose lifetime ended is filled with NaN, so that a wrong
	 * plan shows itself. Slow. */
	bool poison;
};

/* A graph over a store (sealed or not; it must be sealed before compile). The name is
 * used in messages and to tell random numbers of different graphs apart. The store must
 * outlive the graph. NULL on failure. */
struct wl_graph *wl_graph_new(const char *name, struct wl_params *params,
	const struct wl_graph_options *opts, struct wl_err *err);
/* Accepts NULL. */
void wl_graph_free(struct wl_graph *g);

/* Whether it was made with the option train. */
bool wl_graph_training(const struct wl_graph *g);
/* The shape of a tensor; rank 0 for -1. */
struct wl_shape wl_g_shape(const struct wl_graph *g, wl_tid t);
/* For model code: records a failure of its own, as the builders do; returns -1. */
wl_tid wl_g_fail(struct wl_graph *g, const char *fmt, ...) WL_PRINTF(2, 3);

/* Operations built from now on, and their backward, belong to this part of the model (0 at first):
 * time and work are counted by part. */
enum wl_section { WL_SECTION_REST, WL_SECTION_IMAGE, WL_SECTION_TEXT, WL_SECTIONS };
void wl_g_section(struct wl_graph *g, enum wl_section section);
/* What the graph's runs so far have spent there; flops: of matrix products and convolutions. */
void wl_graph_spent(const struct wl_graph *g, enum wl_section section, double *seconds,
	double *flops);

/* --- leaves --- */

/* An input to be filled before each run. */
wl_tid wl_g_input(struct wl_graph *g, const char *name, enum wl_dtype dtype, struct wl_shape shape);
/* An input whose bytes belong to the caller: wl_graph_bind before the first run (a MoCo
 * queue, another graph's output). */
wl_tid wl_g_external(
	struct wl_graph *g, const char *name, enum wl_dtype dtype, struct wl_shape shape);
/* The parameter of this name; added to the store where it is not there yet. The tensor's
 * shape is the store's own (wl_param.shape), not PyTorch's. */
wl_tid wl_g_param(struct wl_graph *g, const char *name, enum wl_layout layout,
	struct wl_shape torch_shape, unsigned flags);

/* Begins a block: the unit that options.recompute computes again. It ends where the next one
 * begins or at wl_g_block_end. Blocks are what repeats in a model: a residual block, a layer. */
void wl_g_block(struct wl_graph *g);
void wl_g_block_end(struct wl_graph *g);

/* --- convolution --- */

/* Dense convolution with TensorFlow's SAME padding (FACTS section 9), any stride.
 * x [N,H,W,I], w [O,kh,kw,I] (WL_LAYOUT_CONV), bias [O] or WL_NONE
 * -> [N,ceil(H/stride),ceil(W/stride),O]. 1x1 with stride 1 is a matrix product. */
wl_tid wl_g_conv2d(struct wl_graph *g, wl_tid x, wl_tid w, wl_tid bias, int stride);

/* Depthwise, the same padding. x [N,H,W,C], w [kh,kw,C] (WL_LAYOUT_DEPTHWISE). */
wl_tid wl_g_depthwise(struct wl_graph *g, wl_tid x, wl_tid w, int stride);

struct wl_bn {
	wl_tid gamma, beta, mean, var; /* [C]; mean, var: buffers, updated when training */
	float eps;		       /* 1e-3 in EfficientNet */
	float momentum; /* running = (1 - momentum) * running + momentum * batch; 0.1 */
	enum wl_act act;
	wl_tid residual;  /* WL_NONE, or [N,H,W,C] added after the activation */
	float drop_path;  /* probability that the branch of a sample is dropped (training) */
	bool use_running; /* running statistics even when training; they are not updated */
};
/* Batch norm, activation, drop path and residual in one: act(bn(x)) [* keep] [+ residual].
 * Batch variance is biased for normalising, unbiased in the running one, as PyTorch. */
wl_tid wl_g_batch_norm(struct wl_graph *g, wl_tid x, const struct wl_bn *bn);

/* Global mean over H and W: [N,H,W,C] -> [N,C]. */
wl_tid wl_g_mean_hw(struct wl_graph *g, wl_tid x);
/* Squeeze-excite gate: x [N,H,W,C] * sigmoid(s [N,C]). */
wl_tid wl_g_channel_scale(struct wl_graph *g, wl_tid x, wl_tid s);

/* --- transformer --- */

/* act(x w^T + bias): x [...,I], w [O,I] (or a 1x1 convolution's [O,1,1,I]), bias [O] or
 * WL_NONE -> [...,O]. */
wl_tid wl_g_linear(struct wl_graph *g, wl_tid x, wl_tid w, wl_tid bias, enum wl_act act);

struct wl_ln {
	wl_tid gamma, beta; /* [C] */
	float eps;
	wl_tid residual; /* WL_NONE, or [...,C] added to x before the norm (post-norm layers) */
	float dropout;	 /* on x, before the residual is added */
};
/* LayerNorm(dropout(x) + residual) over the last dimension. */
wl_tid wl_g_layer_norm(struct wl_graph *g, wl_tid x, const struct wl_ln *ln);

struct wl_attn {
	wl_tid q, k, v; /* [B,S,D] each; or q = k = v = one packed [B,S,3D] (torch's in_proj) */
	wl_tid mask;	/* f32 [B,S], 1 = attend to this key, 0 = padding; or WL_NONE */
	int heads;	/* D must be a multiple; scores are scaled by 1/sqrt(D / heads) */
	float dropout;	/* on the probabilities */
};
/* Softmax attention -> [B,S,D], heads side by side. A row whose keys are all masked gives 0. */
wl_tid wl_g_attention(struct wl_graph *g, const struct wl_attn *at);

/* word[ids] + pos[s] + type[0]: ids i32 [B,S], word [V,D], pos [P>=S,D] or WL_NONE,
 * type [T,D] or WL_NONE -> [B,S,D]. Ids outside [0,V) read row 0: check them before. */
wl_tid wl_g_embedding(struct wl_graph *g, wl_tid ids, wl_tid word, wl_tid pos, wl_tid type);

/* --- the rest --- */

wl_tid wl_g_add(struct wl_graph *g, wl_tid a, wl_tid b); /* equal shapes */
wl_tid wl_g_scale(struct wl_graph *g, wl_tid x, float factor); /* x factor */
wl_tid wl_g_act(struct wl_graph *g, wl_tid x, enum wl_act act); /* element by element */
wl_tid wl_g_dropout(struct wl_graph *g, wl_tid x, float p); /* nothing when not training */
/* x / max(|x|, eps) over the last dimension; eps 1e-12 as torch's F.normalize. */
wl_tid wl_g_l2_normalize(struct wl_graph *g, wl_tid x, float eps);

/* The RoI pooling of BriVL (FACTS section 2): 4x4 bilinear samples a box, 0 outside the
 * map, averaged. map [N,H,W,C]; boxes f32 [N,R,4], x1 y1 x2 y2 in pixels of the image_w x
 * image_h network input -> [N,R,C]. The reference's per-sample 1x1 convolution commutes
 * with the mean: apply wl_g_linear to the result. */
wl_tid wl_g_roi_grid(struct wl_graph *g, wl_tid map, wl_tid boxes, float image_w, float image_h);

/* The same region by torchvision's roi_align (4x4 bins, 2x2 samples each, aligned), averaged over
 * the bins. */
wl_tid wl_g_roi_align(struct wl_graph *g, wl_tid map, wl_tid boxes, float image_w, float image_h);

/* What a vision transformer starts from: cls [1,1,D] before the rows of x [B,S,D], then
 * pos [1,S+1,D] added -> [B,S+1,D]. */
wl_tid wl_g_tokens(struct wl_graph *g, wl_tid x, wl_tid cls, wl_tid pos);

/* Mean of the rows whose mask is 1: x [B,S,D], mask f32 [B,S] or WL_NONE -> [B,D]; 0 where
 * no row counts. */
wl_tid wl_g_masked_mean(struct wl_graph *g, wl_tid x, wl_tid mask);

/* len entries from begin along an axis; a copy. */
wl_tid wl_g_slice(struct wl_graph *g, wl_tid x, int axis, int64_t begin, int64_t len);
/* a then b along an axis; the other dimensions equal. */
wl_tid wl_g_concat(struct wl_graph *g, wl_tid a, wl_tid b, int axis);
/* The same elements under another shape of as many; free of cost. */
wl_tid wl_g_reshape(struct wl_graph *g, wl_tid x, struct wl_shape shape);

/* --- losses --- */

struct wl_infonce {
	wl_tid query;	  /* [B,D], unit length; gets a gradient */
	wl_tid key;	  /* [N,D], row first + b is query b's positive, N >= first + B; a gradient
			   * where it needs one. N > B: keys gathered from several ranks */
	int64_t first;
	wl_tid queue;	  /* [K,D] negatives, f32 or bf16, or WL_NONE; never a gradient */
	wl_tid log_scale; /* [1]: logits are exp(log_scale) * dot, so tau = exp(-log_scale) */
	/* i64 [N,I] (of the keys) and [K,I], or WL_NONE both: a negative is left out for a row
	 * when they are equal in any of the I columns (the same pair, the same caption). */
	wl_tid row_ids, queue_ids;
	bool in_batch; /* the other rows' keys are negatives too */
	/* i32 [B,T], rows of the queue that are positives of query b too, -1: none; or WL_NONE.
	 * Each adds a term -log softmax at its place (the published code's "multi-label"). */
	wl_tid extra;
};
/* i32 [B,top]: rows of two queues (f32, or bf16 both), parallel as MoCo's are, that are among the
 * `top` nearest of a [B,D] in queue_a [K,D] and of b in queue_b; -1 elsewhere. top <= K and 64. No
 * gradient. */
wl_tid wl_g_both_near(struct wl_graph *g, wl_tid a, wl_tid queue_a, wl_tid b, wl_tid queue_b,
	int64_t top);
/* Mean over rows of -log softmax at the positive (FACTS section 4) -> loss [1].
 * accuracy (may be NULL): the share of rows whose positive has the largest logit, [1]. */
wl_tid wl_g_infonce(struct wl_graph *g, const struct wl_infonce *in, wl_tid *accuracy);

/* sum(x * y) -> [1]: a loss for tests and probes. */
wl_tid wl_g_dot(struct wl_graph *g, wl_tid x, wl_tid y);

/* weight * t [1] is a term of the loss that backward starts from. */
void wl_g_loss(struct wl_graph *g, wl_tid t, float weight);
/* Backward also starts at t with the gradient that lies in `grad` (an input or external of
 * t's shape): for towers whose loss is in another graph. */
void wl_g_seed(struct wl_graph *g, wl_tid t, wl_tid grad);

/* Keeps t's value until the end of a run and gives it a name. */
void wl_g_output(struct wl_graph *g, wl_tid t, const char *name);
/* Keeps the gradient by t (an input or any tensor on the way to a loss). */
void wl_g_want_grad(struct wl_graph *g, wl_tid t);

/* --- compile and run --- */

/* Before compile: options.store as wl_backend_store finds best for the graph's compute_dtype. */
void wl_graph_store_for(struct wl_graph *g, const struct wl_backend *be);

/* Once, after building. Reports the first failure of the builders. */
WL_MUST_CHECK int wl_graph_compile(struct wl_graph *g, struct wl_backend *be, struct wl_err *err);

/* The memory of an input, output, or tensor made by wl_g_want_grad, to be read or written on
 * the CPU backend directly; NULL for tensors without lasting memory (not marked). */
void *wl_graph_data(struct wl_graph *g, wl_tid t);
/* The gradient by t after a run, NULL when t needed none or was not marked. */
float *wl_graph_grad(struct wl_graph *g, wl_tid t);
/* Points an external at the caller's memory (backend memory, aligned to 4 bytes). */
void wl_graph_bind(struct wl_graph *g, wl_tid t, void *data);
/* By name: inputs, externals and outputs; -1 when there is none. */
wl_tid wl_graph_find(const struct wl_graph *g, const char *name);

/* --- several ranks --- */

/* A recording of a run: it begins, and ends (before and after are called in between, and what they
 * give to the backend is a part of it); it is about to be given again, and was. */
enum wl_recording { WL_RECORD, WL_RECORDED, WL_REPLAY, WL_REPLAYED };

/* What is recorded by itself: forward, backward, or both in one; and each variant of the latter. */
enum { WL_HALF_FORWARD, WL_HALF_BACKWARD, WL_HALF_BOTH, WL_HALVES };
enum { WL_GRAPH_VARIANTS = 3, WL_GRAPH_RECORDINGS = WL_GRAPH_VARIANTS * WL_HALVES };

/* What a run calls on the way; all may be NULL. */
struct wl_graph_hooks {
	void *peers; /* given to all of them */
	/* This graph holds samples rank, rank + world, ... of the whole batch: see wl_run. */
	int rank, world;
	void (*sum)(void *peers, double *v, size_t n); /* batch norm over all ranks; see wl_run */
	/* Operations [from, to) begin: a half, or both. */
	void (*begin)(void *peers, int from, int to);
	/* Around operation `op` (0 .. wl_graph_ops - 1): parameters may come and go here. */
	int (*before)(void *peers, int op, struct wl_err *err);
	int (*after)(void *peers, int op, struct wl_err *err);
	/* Around recordings, `which` of them (below WL_GRAPH_RECORDINGS; which % WL_HALVES is the
	 * half); NULL: with before and after, runs are not recorded. */
	int (*recording)(void *peers, enum wl_recording what, int which, struct wl_err *err);
};
void wl_graph_hook(struct wl_graph *g, const struct wl_graph_hooks *hooks);

/* Which of a few ways the next backward goes by what its hooks do, 0 (at first) to
 * WL_GRAPH_VARIANTS - 1: each has its own recording. */
void wl_graph_variant(struct wl_graph *g, int variant);

/* Of a compiled graph: its operations, those from *forward on being backward. */
int wl_graph_ops(const struct wl_graph *g, int *forward);
/* Calls fn for every parameter whose value (or, with grad, whose gradient) the operation
 * touches; index: of the store. */
void wl_graph_op_params(const struct wl_graph *g, int op,
	void (*fn)(void *ctx, int index, bool grad), void *ctx);

/* Forward, then backward where there is a loss or a seed. seed and step select the random
 * numbers: the same two give the same bits. */
WL_MUST_CHECK int wl_graph_run(
	struct wl_graph *g, uint64_t seed, uint64_t step, struct wl_err *err);
/* The halves, for graphs that are seeded. backward must follow its forward. */
WL_MUST_CHECK int wl_graph_forward(
	struct wl_graph *g, uint64_t seed, uint64_t step, struct wl_err *err);
WL_MUST_CHECK int wl_graph_backward(struct wl_graph *g, struct wl_err *err);

/* Runs are recorded and given as one piece of work where the backend can, as soon as nothing but
 * the contents of memory and seed and step change from one to the next (no external bound anew, and
 * hooks that know of recordings).  The same bits; where it fails a line in the log says why. */
void wl_graph_record(struct wl_graph *g, bool yes);

struct wl_graph_stats {
	int ops_forward, ops_backward, tensors;
	size_t arena_bytes;    /* activations and gradients as planned */
	size_t unshared_bytes; /* what they would take without reuse */
	size_t scratch_bytes;
	double flops_forward, flops_backward; /* of matrix products and convolutions, 2 per MAC */
};
/* Of a compiled graph. */
void wl_graph_stats(const struct wl_graph *g, struct wl_graph_stats *out);

/* One line per operation on standard error: name, shapes, milliseconds of the last
 * wl_graph_profile'd run. */
WL_MUST_CHECK int wl_graph_profile(
	struct wl_graph *g, uint64_t seed, uint64_t step, struct wl_err *err);

/* What one operation of a compiled graph costs. */
struct wl_graph_cost {
	enum wl_op_kind kind;
	const char *label; /* the graph's */
	struct wl_shape shape; /* of its result, or its gradient's */
	double flops;  /* as in wl_graph_stats */
	double bytes;  /* of its operands, each read or written once; what is added to, read too */
	double ms;     /* of the last wl_graph_profile'd run */
};
/* op: below wl_graph_ops. */
void wl_graph_cost(const struct wl_graph *g, int op, struct wl_graph_cost *out);

#endif
