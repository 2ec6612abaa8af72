/*
 * What computes: a table of function pointers, one per kind of device.  A graph
 * (train/nn/graph.h) is a list of `struct wl_op`; the backend plans each once
 * (choice of kernel, scratch size) and then runs it any number of times without
 * allocating.  Layers never name a backend, and nothing outside train/backend
 * knows what an operation is made of.
 */
#ifndef WL_TRAIN_BACKEND_BACKEND_H
#define WL_TRAIN_BACKEND_BACKEND_H

#include "ops/err.h"
#include "train/tensor/rng.h"
#include "train/tensor/tensor.h"

/* Activations fused into the operation before them. */
enum wl_act {
	WL_ACT_NONE,
	WL_ACT_RELU,
	WL_ACT_RELU6,
	WL_ACT_SILU,
	WL_ACT_GELU, /* the erf form, as BERT */
	WL_ACT_SIGMOID,
	WL_ACT_TANH,
};

/*
 * The operations.  After each: in[] slots -> out[] slots; an operand in
 * parentheses may be absent (NULL).  "g_x" is the gradient of the loss by x.
 * Gradients of parameters are always added to; every other output is written,
 * or added to when its bit in wl_op.acc is set.
 *
 * (norm): three operands gamma, beta [C] and saved [2,C] of a batch norm whose result x would be,
 * with attr.act behind it: the operation reads act(gamma (x - mean) / std + beta) in x's place (and
 * g_x is the gradient by that).  Only given to backends whose `fuses` says so.
 */
enum wl_op_kind {
	/* x [N,H,W,I], w [O,kh,kw,I], (b [O]), (norm), (s [N,I]) -> y [N,OH,OW,O], (moments [2,O]:
	 * y's mean and variance of a channel); norm, s and moments where the backend's `pointwise`
	 * says so; with s, which comes behind the norm, x sigmoid(s) is read in x's place */
	WL_OP_CONV,
	/* x, w, g_y, (norm), (s) -> (g_x), (g_w), (g_b); g_x is the gradient by what is read in x's
	 * place */
	WL_OP_CONV_BWD,
	/* x [N,H,W,C], w [kh,kw,C], (norm), (norm behind y) -> y [N,OH,OW,C]; where the backend's
	 * `sums` says so, (moments [2,C]: y's mean and variance of a channel) or (mean [N,C] over
	 * an image of y under the norm behind it) */
	WL_OP_DEPTHWISE,
	/* x, w, g_y, (norm) -> (g_x), (g_w), (sums [2,C], with norm: over all rows of g_x a, of
	 * g_x a u, where act is of gamma u + beta and a its derivative) */
	WL_OP_DEPTHWISE_BWD,
	/* x [...,C], gamma, beta, run_mean, run_var [C], (residual [...,C]), (moments of x)
	 * -> (y), saved [2,C] (mean, 1/std); the running statistics are updated in place
	 * y = act(bn(x)) * keep(n) + residual; keep: drop path of the sample */
	WL_OP_BATCH_NORM,
	/* x, gamma, beta, saved, g_y, (s [N,C], g_m [N,C]), (sums) -> (g_x), (g_gamma), (g_beta);
	 * with s, where the backend fuses it, the gradient by y is g_y * sigmoid(s) + g_m / (H W);
	 * sums: with s [N,4,C] of the gate's backward, else [2,C] of the depthwise one's */
	WL_OP_BATCH_NORM_BWD,
	/* x [...,I], w [O,I], (b [O]) -> y [...,O], (z: the value before the activation) */
	WL_OP_LINEAR,
	/* x, w, y, (z), g_y -> (g_x), (g_w), (g_b) */
	WL_OP_LINEAR_BWD,
	/* x [...,C], gamma, beta [C], (residual [...,C])
	 * -> y, saved [rows,2], (sum = dropout(x) + residual) */
	WL_OP_LAYER_NORM,
	/* sum (x where no residual), gamma, saved, g_y -> (g_sum), (g_gamma), (g_beta), (g_x) */
	WL_OP_LAYER_NORM_BWD,
	/* q, k, v [B,S,*], (key mask [B,S] f32) -> o [B,S,D], p [B,heads,S,S]: what backward wants,
	 * probabilities or, at its beginning, the log-sum-exp of rows */
	WL_OP_ATTENTION,
	/* q, k, v, p, g_o, (key mask) -> g_q, g_k, g_v (the same tensor thrice when packed) */
	WL_OP_ATTENTION_BWD,
	/* ids [B,S] i32, word [V,D], (pos [P,D]), (type [T,D]) -> y [B,S,D] */
	WL_OP_EMBED,
	/* ids, g_y -> (g_word), (g_pos), (g_type) */
	WL_OP_EMBED_BWD,
	/* x [N,H,W,C], (norm) -> y [N,C] */
	WL_OP_MEAN_HW,
	/* g_y -> g_x [N,H,W,C] */
	WL_OP_MEAN_HW_BWD,
	/* x [N,H,W,C], s [N,C], (norm) -> y = x * sigmoid(s) */
	WL_OP_CHANNEL_SCALE,
	/* x, s, g_y, (norm) -> (g_x), (g_s), (sums [N,4,C], with norm: over an image of g_y a, of
	 * a, of g_y a u, of a u, where act is of gamma u + beta and a its derivative) */
	WL_OP_CHANNEL_SCALE_BWD,
	/* a, b -> a + b */
	WL_OP_ADD,
	/* x -> y = scale * x */
	WL_OP_SCALE,
	/* x -> y: act(x) */
	WL_OP_ACT,
	/* x, g_y -> g_x */
	WL_OP_ACT_BWD,
	/* x -> y: 0 with probability p, else x / (1 - p); its own backward */
	WL_OP_DROPOUT,
	/* x [...,D] -> y = x / max(|x|, eps), norm [rows] */
	WL_OP_L2NORM,
	/* y, norm, g_y -> g_x */
	WL_OP_L2NORM_BWD,
	/* x [B,S,D], cls [D], pos [S+1,D] -> y [B,S+1,D]: cls before x, pos added */
	WL_OP_TOKENS,
	/* g_y -> (g_x), (g_cls), (g_pos) */
	WL_OP_TOKENS_BWD,
	/* x [N,H,W,C], boxes [N,R,4] -> y [N,R,C]; attr.align: RoIAlign's samples */
	WL_OP_ROI_GRID,
	/* boxes, g_y -> g_x */
	WL_OP_ROI_GRID_BWD,
	/* x [B,S,D], mask [B,S] -> y [B,D] */
	WL_OP_MASKED_MEAN,
	/* mask, g_y -> g_x */
	WL_OP_MASKED_MEAN_BWD,
	/* x [outer,n,inner] -> y: n from attr.begin, attr.len of them */
	WL_OP_SLICE,
	/* g_y -> g_x (rows outside the slice: 0, or untouched when added to) */
	WL_OP_SLICE_BWD,
	/* a, b -> y, joined along an axis */
	WL_OP_CONCAT,
	/* q [B,D], k [N,D], (queue [K,D]), log_scale [1], (row ids [N,I] i64), (queue ids [K,I]),
	 * (extra [B,T] i32) -> loss [1], accuracy [1], lse [B], pos [B] (logits); attr.begin: query
	 * b's key is row begin + b of k; queues, here and below, are f32 or bf16 */
	WL_OP_INFONCE,
	/* q, k, queue, log_scale, row ids, queue ids, lse, pos, g_loss [1], extra
	 * -> (g_q), (g_log_scale), (g_k) */
	WL_OP_INFONCE_BWD,
	/* a [B,D], queue a [K,D], b [B,D], queue b [K,D] -> y i32 [B,T]: the rows of the queues
	 * that are among the T nearest of a and among those of b, elsewhere -1; no gradient */
	WL_OP_BOTH_NEAR,
	/* x, y -> sum(x * y) [1] */
	WL_OP_DOT,
	/* x, y, g [1] -> (g_x), (g_y) */
	WL_OP_DOT_BWD,
	/* -> y filled with attr.scale */
	WL_OP_FILL,
	/* x -> y, the same bytes */
	WL_OP_COPY,
	WL_OP_KINDS
};

enum { WL_OP_IN = 10, WL_OP_OUT = 4 };
enum { WL_TOP_MAX = 64 }; /* the largest T of WL_OP_BOTH_NEAR */

/* The settings of an operation; each kind reads those that it has. */
struct wl_op_attr {
	int kh, kw, stride, pad_top, pad_left;
	enum wl_act act;
	int heads, q_col, k_col, v_col; /* attention: first column of q, k, v in their rows */
	int axis;
	int64_t begin, len;
	float eps, momentum, p, scale;
	float image_w, image_h; /* RoI: pixels that the boxes are measured in */
	bool align;
	bool use_running;	/* batch norm: running statistics instead of the batch's */
	bool replay;		/* batch norm: `saved` holds this run's statistics already */
	bool in_batch;		/* InfoNCE: keys of other rows are negatives too */
	enum wl_dtype compute;	/* what matrix products take as inputs: WL_F32, WL_BF16, WL_F16 */
	uint64_t rng_op;	/* number of the operation for the random generator */
};

struct wl_op {
	enum wl_op_kind kind;
	const char *label; /* for messages: a parameter's name or the operation's */
	struct wl_tensor *in[WL_OP_IN];
	struct wl_tensor *out[WL_OP_OUT];
	unsigned acc; /* bit i: out[i] is added to */
	struct wl_op_attr attr;
	size_t scratch_bytes; /* set by plan_op; the graph lends the largest of all to each */
	void *plan;	      /* the backend's own, freed by release_op */
};

/* What is the same for all operations of a run. */
struct wl_run {
	uint64_t seed, step;
	void *scratch;
	/* Of several ranks (world > 1), sample i here is sample i * world + rank of the whole
	 * batch: random numbers are those of one rank that holds all of it. */
	int64_t rank, world;
	/* Sums v[n], of the backend's memory, over the ranks, in order with the work given to it,
	 * for batch norm over the whole batch; NULL: each for itself.  What fails in it shows in
	 * the graph's hooks. */
	void (*sum)(void *peers, double *v, size_t n);
	void *peers;
	/* A backend's own, for its kernels: where seed and step are in its memory. */
	const void *at_step;
};

/* AdamW over flat ranges of a store; see wl_backend.adamw. */
struct wl_adamw {
	float beta1, beta2, eps;
	int64_t step;	  /* 1 for the first update: bias correction */
	float grad_scale; /* gradients are multiplied by it first (clipping, unscaling) */
	/* Type of m and v: WL_F32, or WL_BF16 with stochastic rounding, because a plainly rounded v
	 * never moves once beta2 is close to 1.  The rounding of element j of the store is a
	 * function of seed, step and j alone. */
	enum wl_dtype state;
	uint64_t seed;
	/* Where the backend decides (judge.h): step and grad_scale are what it decided, and w, m
	 * and v stay where the step does not count.  NULL: they are those above. */
	const struct wl_judge *judge;
	/* In the same pass over the ranges, once w is new: k = momentum * k + (1 - momentum) * w,
	 * the bits of ema() after this.  NULL: none. */
	float *k;
	float momentum;
	/* bf16 copies of w and k (rounded to nearest), written in the same pass; NULL: none. */
	uint16_t *w_half, *k_half;
};
struct wl_adamw_range {
	int64_t begin, end;	/* floats of the store */
	float lr, weight_decay; /* decoupled: w -= lr * decay * w, as torch.optim.AdamW */
};

/* Bytes of an array that lies in parts.  slot: -1, it has memory of its own; else all parts of this
 * slot, of equal size, have the same memory, which is what one of them wrote last. */
struct wl_part {
	size_t begin, end;
	int slot;
};

struct wl_picture_ops;
struct wl_judge;
struct wl_judge_ops;
struct wl_rank_ops;

enum { WL_WIRE_ID = 128 }; /* bytes that name a meeting of ranks */

/*
 * Exchanges between ranks whose memory is on devices (NCCL), given in the background and not waited
 * for: what stands between begin and end is one job, which comes after all work that the backend
 * had been given; work given after a wait comes after that job.  Every rank gives the same jobs
 * in the same order.  A rank that is lost ends the process with WL_ERETRY's exit code: the others
 * cannot be waited for any more.
 */
struct wl_wire {
	void *impl;
	int (*begin)(struct wl_wire *w, struct wl_err *err);
	/* v[world * n]: rank r's part, at r * n, becomes the mean over the ranks (else the sum). */
	int (*reduce_scatter)(struct wl_wire *w, float *v, size_t n, bool mean, struct wl_err *err);
	/* out[world * bytes] by rank; in may stand at its place in out. */
	int (*all_gather)(struct wl_wire *w, const void *in, void *out, size_t bytes,
		struct wl_err *err);
	/* Of floats, their mean; of doubles, their sum. */
	int (*all_mean)(struct wl_wire *w, float *v, size_t n, struct wl_err *err);
	int (*all_sum)(struct wl_wire *w, double *v, size_t n, struct wl_err *err);
	/* The job's number. */
	int (*end)(struct wl_wire *w, uint64_t *job, struct wl_err *err);
	int (*wait)(struct wl_wire *w, uint64_t job, struct wl_err *err);
	/* Between wl_backend.record and recorded jobs are a part of what is recorded:
	 * recording(true) before the first, after all earlier ones were waited for;
	 * recording(false) after the last was. mark: a job that is done when the backend's work so
	 * far is, recorded jobs in it included, so that ranks which are lost in those are found
	 * out. */
	void (*recording)(struct wl_wire *w, bool yes);
	int (*mark)(struct wl_wire *w, uint64_t *job, struct wl_err *err);
	/* Asks now and then, in a thread of its own, whether a rank is known to be gone by other
	 * means (true, and which), which then ends the process as a loss that it finds itself. */
	void (*watch)(struct wl_wire *w, bool (*lost)(const void *peers, int *rank),
		const void *peers);
	/* Accepts jobs under way: it waits for them. */
	void (*close)(struct wl_wire *w);
};

struct wl_backend {
	const char *name; /* "cpu", "cuda" */
	void *impl;	  /* the backend's own state */

	/* Memory aligned to 64 bytes at least, zeroed.  What was never written takes none where the
	 * device can give pages late, and then starts at a page. */
	void *(*alloc)(struct wl_backend *be, size_t bytes, struct wl_err *err);
	void (*free_mem)(struct wl_backend *be, void *p);
	/* Between host memory and the backend's; plain copies on the CPU. */
	void (*upload)(struct wl_backend *be, void *dst, const void *host, size_t bytes);
	void (*download)(struct wl_backend *be, void *host, const void *src, size_t bytes);
	/* As upload, or as copy where src is the backend's memory, and nobody waits: host memory is
	 * the caller's again at once. */
	void (*send)(struct wl_backend *be, void *dst, const void *src, size_t bytes);
	void (*zero)(struct wl_backend *be, void *p, size_t bytes);
	/* Zero as well, and whole pages of it take no memory until they are written again. */
	void (*discard)(struct wl_backend *be, void *p, size_t bytes);

	/* Address space for arrays of which this rank keeps parts; NULL: alloc's pages come late by
	 * themselves, and discard gives them back.  Nothing may touch what has no memory. */
	void *(*reserve)(struct wl_backend *be, size_t bytes, struct wl_err *err);
	/* Gives zeroed memory to parts of what reserve gave, once. */
	int (*place)(struct wl_backend *be, void *base, const struct wl_part *parts, int n,
		struct wl_err *err);
	size_t part_bytes; /* parts, and halves of them, begin and end at multiples of it */

	/* The processor cannot reach alloc's memory in place: everything goes through upload,
	 * download and what follows. */
	bool apart;
	/* Host memory between which and the device's copies run at full speed (pinned); where
	 * nothing is apart, alloc's. */
	void *(*alloc_host)(struct wl_backend *be, size_t bytes, struct wl_err *err);
	void (*free_host)(struct wl_backend *be, void *p);
	/* Copies to memory of alloc_host's that nobody waits for: they come after all work given so
	 * far, and beside what is given later.  hold: work given from now on comes after them; the
	 * caller puts it before what changes what they read.  fetched: waits until those given so
	 * far are done, in any thread. */
	void (*fetch)(struct wl_backend *be, void *host, const void *src, size_t bytes);
	void (*hold)(struct wl_backend *be);
	int (*fetched)(struct wl_backend *be, struct wl_err *err);
	/* Rows of `bytes` within the backend's memory, one every `step` bytes on each side, in
	 * order with the work given to it; the sides do not overlap. */
	void (*copy)(struct wl_backend *be, void *dst, size_t dst_step, const void *src,
		size_t src_step, size_t bytes, size_t rows);
	/* y = y + x over n floats. */
	void (*add)(struct wl_backend *be, float *y, const float *x, int64_t n);

	/* Checks the operands, chooses kernels, sets scratch_bytes. Fails with WL_EUSAGE
	 * and a sentence on shapes or types that it cannot do. */
	int (*plan_op)(struct wl_backend *be, struct wl_op *op, struct wl_err *err);
	/* Whether this operation reads and writes activations (wl_op_activation) of a type other
	 * than f32; NULL: none does. */
	bool (*stores)(enum wl_op_kind kind, enum wl_dtype dtype);
	/* Whether this operation takes the operands that stand for a neighbour: (norm) where it has
	 * them, batch norm the absence of y, its backward s and g_m; NULL: none does. */
	bool (*fuses)(enum wl_op_kind kind);
	/* Whether the sums that the batch norm beside it wants come from this operation (moments of
	 * DEPTHWISE, sums of DEPTHWISE_BWD and of CHANNEL_SCALE_BWD); of MEAN_HW: whether DEPTHWISE
	 * makes it where the norm between them does not depend on y.  NULL: none does. */
	bool (*sums)(enum wl_op_kind kind);
	/* Whether a 1x1 convolution with stride 1 of `rows` pixels, i to o channels, and its
	 * backward take (norm) with this activation and s, and leave moments.  Of the shape alone,
	 * so that all ranks have the same graph. compute: of its products; store: of the graph's
	 * activations. NULL: none does. */
	bool (*pointwise)(struct wl_backend *be, int64_t rows, int64_t i, int64_t o,
		enum wl_act act, enum wl_dtype compute, enum wl_dtype store);
	/* Computes. Allocates nothing. Fails only when the device does. */
	int (*run_op)(struct wl_backend *be, const struct wl_op *op, const struct wl_run *run,
		struct wl_err *err);
	void (*release_op)(struct wl_backend *be, struct wl_op *op);
	/* Waits until everything given so far is done. */
	int (*sync)(struct wl_backend *be, struct wl_err *err);

	/* torch.optim.AdamW's update of w in place; m and v have the elements of w. */
	void (*adamw)(struct wl_backend *be, float *w, const float *grad, void *m, void *v,
		const struct wl_adamw_range *ranges, int n_ranges, const struct wl_adamw *how);
	/* k = momentum * k + (1 - momentum) * q over n floats. */
	void (*ema)(struct wl_backend *be, float *k, const float *q, int64_t n, float momentum);
	/* Sum of squares in double, in a fixed order: the same bits for any thread count.
	 * A NaN or infinity anywhere makes the result not finite. */
	double (*sum_squares)(struct wl_backend *be, const float *x, int64_t n);
	/* The same of `rows` rows of n floats, one every `step`, into *to, or added to it: backend
	 * memory, so that nobody waits. */
	void (*squares)(struct wl_backend *be, const float *x, int64_t n, int64_t step,
		int64_t rows, double *to, bool add);

	/* Pictures made on the device (train/backend/pictures.h); NULL: there is no such thing. */
	const struct wl_picture_ops *pictures;
	/* Decisions of a step made on the device (train/backend/judge.h); NULL: the host makes
	 * them. */
	const struct wl_judge_ops *judges;
	/* Ranks of a retrieval pool counted on the device (train/backend/ranks.h); NULL: the
	 * processor counts. */
	const struct wl_rank_ops *ranks;

	/* --- several ranks on devices; NULL: ranks meet in the host's memory --- */

	/* Rank 0 makes an id and gives it to all by other means; then all open the wire with it
	 * (which waits for all).  timeout_s: how long a job may take, 0: for ever. */
	int (*wire_id)(struct wl_backend *be, char id[WL_WIRE_ID], struct wl_err *err);
	struct wl_wire *(*wire)(struct wl_backend *be, int rank, int world,
		const char id[WL_WIRE_ID], double timeout_s, struct wl_err *err);

	/* --- recordings: work that is given again as one; NULL: the backend has none --- */

	/* Between record and recorded nothing is computed: operations (run with this seed and
	 * step), copies and zeroes are kept. recorded gives them as one piece of work, or NULL and
	 * why. */
	int (*record)(struct wl_backend *be, uint64_t seed, uint64_t step, struct wl_err *err);
	void *(*recorded)(struct wl_backend *be, struct wl_err *err);
	/* Does it, with the random numbers of this seed and step. */
	int (*replay)(struct wl_backend *be, void *recording, uint64_t seed, uint64_t step,
		struct wl_err *err);
	void (*forget)(struct wl_backend *be, void *recording);

	void (*close)(struct wl_backend *be);
};

/* The processor. threads: 0 for OpenMP's own choice (OMP_NUM_THREADS or all cores).
 * Results do not depend on the number. NULL on failure. Close with wl_backend_close. */
struct wl_backend *wl_backend_cpu_open(int threads, struct wl_err *err);
/* Whether this processor multiplies bf16 (AMX); without it WL_BF16 computes in f32. */
bool wl_backend_cpu_has_bf16(void);

/* First in the main() of a program that computes: lets idle threads sleep instead of spin,
 * for which the program is started anew once (see cpu/wait.c). */
void wl_backend_cpu_prepare(char **argv);

/* How many GPUs the driver shows (0 in a build without nvcc), and number `device` of them.  NULL on
 * failure. */
int wl_backend_cuda_count(void);
struct wl_backend *wl_backend_cuda_open(int device, struct wl_err *err);

/* device: "cpu", "cuda", or "auto": a GPU where there is one, said in the log where not.  which:
 * number of this rank on its machine, to share out the GPUs.  threads: as for the processor. */
struct wl_backend *wl_backend_open(const char *device, int which, int threads, struct wl_err *err);

/* Accepts NULL. */
void wl_backend_close(struct wl_backend *be);

/* Whether an operand (in[slot], or with `out` out[slot]) is an activation or the gradient by one,
 * which a graph may store in a half type; all others are of the type written above. */
bool wl_op_activation(enum wl_op_kind kind, bool out, int slot);
/* How a graph whose products take `compute` best stores its activations on this backend. */
enum wl_dtype wl_backend_store(const struct wl_backend *be, enum wl_dtype compute);

const char *wl_op_name(enum wl_op_kind kind); /* "conv", "batch_norm_bwd", ... */

#endif
