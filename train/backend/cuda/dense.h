/*
 * What dense.cu (linear layers) and conv.cu (convolutions) share: an operation as a few products.
 *
 * Each operation is walked twice by the same function: once to plan (its products are planned, its
 * scratch is measured, nothing is launched), and at each run.  Activations lie in the type that the
 * products take wherever the graph stores them so; what does not (a picture, the gradient by an
 * output) is converted into scratch.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_DENSE_H
#define WL_TRAIN_BACKEND_CUDA_DENSE_H

#include "train/backend/cuda/cuda.h"

struct dense_plan {
	void *product[2];
	void *conv[2]; /* by what: CUDA_CONV_Y or _X, CUDA_CONV_W */
	size_t conv_bytes[2];
};

struct dense {
	struct cuda *c;
	const struct wl_op *op;
	struct dense_plan *plan;
	bool planning;
	enum wl_dtype type; /* type of the products' operands, see struct cuda_act */
	int next;	     /* product */
	char *scratch;
	size_t used, most;
	void *workspace;
};

/* The next bytes of the scratch; while planning an address as aligned as it will be, of nothing. */
void *wl_dense_lend(struct dense *d, size_t bytes);
struct cuda_act wl_dense_lend_act(struct dense *d, int64_t n, enum wl_dtype type);
/* x as products take it: itself, or converted. */
struct cuda_act wl_dense_typed(struct dense *d, struct cuda_act x, int64_t n);
/*
 * A parameter as products take it: its kept copy in a half type.  What lies with the activations
 * (`beside`; a weight that is computed) changes unseen and is converted each time.  w may be NULL.
 */
int wl_dense_weight(struct dense *d, const struct wl_tensor *w, const struct wl_tensor *beside,
	enum wl_dtype type, struct cuda_act *out, struct wl_err *err);
/* Plans the operation's next product, or runs it. */
int wl_dense_multiply(struct dense *d, const struct cuda_product *p, struct wl_err *err);
/* gw [o,i] += gz^T x, and gb [o] += the sums of gz's columns, in one pass where the library can;
 * either may be NULL. */
int wl_dense_weight_grads(struct dense *d, struct cuda_act gz, struct cuda_act x, int64_t rows,
	int64_t i, int64_t o, float *gw, float *gb, struct wl_err *err);

/* conv.cu: the walks of WL_OP_CONV and its backward. */
int wl_dense_conv(struct dense *d, struct wl_err *err);
int wl_dense_conv_bwd(struct dense *d, struct wl_err *err);

#endif
