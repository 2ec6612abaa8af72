/*
 * Tensors as they lie in a file, whatever the file's format: what the readers
 * of safetensors and of PyTorch's .pth have in common.
 *
 * A wl_saved_tensor points into bytes that its owner (the opened file) keeps
 * mapped; nothing is copied until a caller asks for the values.  Files come
 * from outside, so the readers check every bound before a tensor gets here:
 * each element that shape and stride can reach lies inside the file.
 */
#ifndef WL_OPS_SAVED_H
#define WL_OPS_SAVED_H

#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { WL_SAVED_RANK_MAX = 8 };

/* The types of elements that can be converted; all little-endian in a file. */
enum wl_saved_dtype {
	WL_SAVED_F64,
	WL_SAVED_F32,
	WL_SAVED_F16,
	WL_SAVED_BF16,
	WL_SAVED_I64,
	WL_SAVED_I32,
	WL_SAVED_I16,
	WL_SAVED_I8,
	WL_SAVED_U8,
	WL_SAVED_BOOL,
	WL_SAVED_OTHER, /* known to the format, not convertible here (fp8, complex, ...) */
};

struct wl_saved_tensor {
	const char *name; /* UTF-8, owned by the file that was opened */
	enum wl_saved_dtype dtype;
	int rank;                           /* 0 for a scalar */
	int64_t shape[WL_SAVED_RANK_MAX];   /* in PyTorch's order */
	int64_t strides[WL_SAVED_RANK_MAX]; /* in elements; C order unless a .pth says otherwise */
	int64_t count;                      /* product of shape */
	const uint8_t *data;                /* first element, unaligned perhaps; NULL if none */
};

/* A list of tensors sorted by name; names are unique. */
struct wl_saved_list {
	struct wl_saved_tensor *items;
	size_t count;
};

/* Bytes of an element, 0 for WL_SAVED_OTHER. */
size_t wl_saved_dtype_bytes(enum wl_saved_dtype dtype);
/* The name that safetensors uses: "F32", "BF16", ... */
const char *wl_saved_dtype_name(enum wl_saved_dtype dtype);

/* The tensor of that name, or NULL. */
const struct wl_saved_tensor *wl_saved_find(const struct wl_saved_list *list, const char *name);
/* Sorts by name. Fails with WL_ECKPT, naming `path`, when a name occurs twice. */
WL_MUST_CHECK int wl_saved_sort(struct wl_saved_list *list, const char *path, struct wl_err *err);

/* Sets strides to C order and count to the product of the shape; -1 on overflow or
 * a negative dimension, without a message. */
WL_MUST_CHECK int wl_saved_set_dense(struct wl_saved_tensor *t);

/* True when the elements lie one after the other in C order. */
bool wl_saved_is_dense(const struct wl_saved_tensor *t);

/* Writes t->count values in C order, converted to f32 (integers and doubles are rounded to
 * nearest). Fails with WL_ECKPT for WL_SAVED_OTHER. */
WL_MUST_CHECK int wl_saved_to_f32(const struct wl_saved_tensor *t, float *out, struct wl_err *err);
/* The same for integers; fails with WL_ECKPT when the tensor holds floating point. */
WL_MUST_CHECK int wl_saved_to_i64(const struct wl_saved_tensor *t, int64_t *out,
	struct wl_err *err);

/* IEEE half and bfloat16 to f32 and back (round to nearest, ties to even). */
float wl_f32_from_f16(uint16_t half);
uint16_t wl_f16_from_f32(float value);
float wl_f32_from_bf16(uint16_t half);
uint16_t wl_bf16_from_f32(float value);

/* "[64, 3, 3, 3]" into text, for messages; returns text. */
const char *wl_saved_shape_text(int rank, const int64_t *shape, char *text, size_t size);

#endif
