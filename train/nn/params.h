/*
 * The parameters and buffers of a model, in the order in which they were added,
 * under exactly the names that PyTorch, timm or Hugging Face give them.  All
 * values lie in one allocation, all gradients in another; entry i occupies
 * [offset, offset + count) floats of both.  Offsets are multiples of 16 floats
 * and stand from seal on: weights first, then the buffers, so that the weights
 * can be cut into equal pieces (train/dist).  The gaps are zero and stay zero.
 *
 * Life: init, add (the model's build functions do it through wl_g_param), seal,
 * then use.  The momentum towers' store is made by wl_params_clone_layout: the
 * same table, the same offsets, other memory, so an EMA over the whole
 * allocation is one loop.
 *
 * Values are kept in the layout the kernels read; wl_param_to_torch and
 * wl_param_from_torch give PyTorch's.
 */
#ifndef WL_TRAIN_NN_PARAMS_H
#define WL_TRAIN_NN_PARAMS_H

#include "ops/arena.h"
#include "train/backend/backend.h"

enum wl_layout {
	WL_LAYOUT_PLAIN,     /* as in PyTorch */
	WL_LAYOUT_CONV,	     /* torch [O,I,kh,kw], here [O,kh,kw,I] */
	WL_LAYOUT_DEPTHWISE, /* torch [C,1,kh,kw], here [kh,kw,C] */
};

enum {
	WL_PARAM_TRAINABLE = 1, /* gets gradients and updates; clear it to freeze */
	WL_PARAM_DECAY = 2,	/* weight decay applies (weights, not gains and biases) */
	WL_PARAM_BUFFER = 4,	/* running statistics: no gradient, never in the EMA */
};
/* The usual sets. */
enum {
	WL_PARAM_WEIGHT = WL_PARAM_TRAINABLE | WL_PARAM_DECAY,
	WL_PARAM_GAIN = WL_PARAM_TRAINABLE, /* gains, biases, scales */
};

struct wl_param {
	const char *name; /* owned by the store */
	enum wl_layout layout;
	unsigned flags;
	struct wl_shape shape;	     /* as kept here */
	struct wl_shape torch_shape; /* as in a checkpoint */
	int64_t offset, count;	     /* floats */
};

struct wl_params {
	/* Read these; change them only through the functions below (flags of an entry
	 * may be changed directly until a graph that uses it is compiled). */
	struct wl_param *item;
	int n;
	int64_t floats;	 /* of the whole allocation */
	int64_t weights; /* floats before the first buffer, a multiple of unit; from seal on */
	int64_t unit;	 /* set before seal to a multiple of 16; 0: 16 */
	bool sparse_grad; /* zero_grad gives the memory of gradients back */
	/* Set before seal: the backend reserves values or gradients, and gives them memory later
	 * (wl_backend.place; train/dist does).  zero: what zero_grad zeroes then, of floats,
	 * owned. */
	bool value_parts, grad_parts;
	struct wl_part *zero;
	int n_zero;
	float *value;	/* [floats], in backend memory; NULL until sealed */
	float *grad;	/* [floats], or NULL when sealed without gradients */
	struct wl_backend *backend;
	bool sealed;

	struct wl_arena names;
	int cap;
	int *hash; /* open addressing, name -> index + 1 */
	int hash_cap;
};

/* An empty store, to which builders add; memory for values comes when it is sealed. */
void wl_params_init(struct wl_params *p);
/* Frees everything, values included. Accepts NULL and a zeroed store. */
void wl_params_release(struct wl_params *p);

/* Declares an entry and returns its index. A second add of a name returns the first
 * one's index when layout and shape are equal and fails otherwise; on a sealed store
 * an unknown name fails. torch_shape is copied. */
WL_MUST_CHECK int wl_params_add(struct wl_params *p, const char *name, enum wl_layout layout,
	const struct wl_shape *torch_shape, unsigned flags, struct wl_err *err);

/* The index of a name, -1 when there is none. */
int wl_params_find(const struct wl_params *p, const char *name);

/* Allocates zeroed values (and gradients) in the backend's memory. */
WL_MUST_CHECK int wl_params_seal(
	struct wl_params *p, struct wl_backend *be, bool with_grad, struct wl_err *err);

/* dst becomes an unsealed store with src's table: names, flags, offsets. */
WL_MUST_CHECK int wl_params_clone_layout(
	struct wl_params *dst, const struct wl_params *src, struct wl_err *err);

/* Copies all values (both sealed, the same layout). */
void wl_params_copy_values(struct wl_params *dst, const struct wl_params *src);

/* Sets all gradients to 0; backward passes add. Call it before each optimiser step's
 * first backward. */
void wl_params_zero_grad(struct wl_params *p);

/* k = m * k + (1 - m) * q for every entry that is not a buffer. */
void wl_params_ema(struct wl_params *k, const struct wl_params *q, float m);

/* Reads or writes entry i in PyTorch's element order; the host array holds `count`. */
void wl_param_to_torch(const struct wl_params *p, int i, float *host);
void wl_param_from_torch(struct wl_params *p, int i, const float *host);
/* The gradient of entry i in PyTorch's order. */
void wl_param_grad_to_torch(const struct wl_params *p, int i, float *host);

/* The same permutations for any host array that goes with an entry (Adam's moments). */
void wl_layout_to_torch(const struct wl_param *e, const float *own, float *torch);
void wl_layout_from_torch(const struct wl_param *e, const float *torch, float *own);

/* Elements of the trainable entries (buffers and frozen ones left out). */
int64_t wl_params_trainable_count(const struct wl_params *p);

#endif
