/*
 * Checks one operation of train/nn/graph.h against a naive double-precision
 * reference of its forward pass: the value directly, the gradients by central
 * differences of the reference (so no gradient is written down twice).
 */
#ifndef WL_TESTS_SUPPORT_OPCHECK_H
#define WL_TESTS_SUPPORT_OPCHECK_H

#include "train/nn/graph.h"

enum { OPCHECK_IN = 8 };

struct opcheck {
	const char *name;
	int n_in;
	/* Operands that get gradients; shape as PyTorch's where layout says so. */
	struct wl_shape shape[OPCHECK_IN];
	enum wl_layout layout[OPCHECK_IN];
	float offset[OPCHECK_IN]; /* values are normal * scale + offset; scale 0 means 1 */
	float scale[OPCHECK_IN];
	unsigned buffers; /* bit i: operand i is a buffer (no gradient, may change) */
	bool infer;	  /* graph not in training mode */
	bool bf16;	  /* products of bf16 operands */
	bool fp16;	  /* products of fp16 operands; on processors only */
	/* Also on the GPU's backend with activations stored in bf16, then in fp16: the operand and
	 * the result, and the gradients by both, are such tensors (operands' values are rounded
	 * first, so that only what the operation itself rounds counts).  Bit i of acts: operand i
	 * is an activation; operand 0 where acts is 0. */
	bool store_bf16;
	unsigned acts;
	double store_tolerance; /* 3e-5 when 0: two roundings of 2^-9, with room for a sum */
	/* Of fp16: store_tolerance / 32 when 0 (roundings of 2^-12 would be a 64th). */
	double f16_tolerance;
	/* The operation on the operands; may add inputs of its own through `more`. */
	wl_tid (*build)(struct wl_graph *g, const wl_tid *in, const void *ctx);
	/* The value in double; operands in the library's layout. */
	void (*ref)(const double *const *in, double *out, const void *ctx);
	/* Fills the inputs that build added; may be NULL. */
	void (*fill)(struct wl_graph *g, const void *ctx);
	const void *ctx;
	double tolerance; /* of the normalised mean squared error; 1e-7 when 0 */
};

/* Asserts; fails the running cmocka test with a message that names the operand. */
void opcheck(const struct opcheck *c);

/* The GPU's backend, emulated or itself; where the program has none the running test is skipped. */
struct wl_backend *opcheck_gpu(void);

/* sum (a - b)^2 / sum b^2 */
double opcheck_nmse(const double *a, const double *b, int64_t n);

/* Deterministic test data: normals of a seed. */
void opcheck_normals(uint64_t seed, float *to, int64_t n, float scale, float offset);

/* An activation, in double. */
double opcheck_act(enum wl_act a, double x);

#endif
