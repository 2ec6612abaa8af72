/*
 * What a tensor is: a type, a shape and a place.  Dense and row-major (the last
 * dimension runs fastest), images NHWC, aligned to 64 bytes.  A tensor does not
 * own its bytes: a graph's arena, a parameter store or the caller does.
 */
#ifndef WL_TRAIN_TENSOR_TENSOR_H
#define WL_TRAIN_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum wl_dtype { WL_F32, WL_BF16, WL_F16, WL_I32, WL_I64, WL_U8 };

enum { WL_MAX_RANK = 5 };

struct wl_shape {
	int rank; /* 0: a scalar of one element */
	int64_t dim[WL_MAX_RANK];
};

struct wl_tensor {
	enum wl_dtype dtype;
	struct wl_shape shape;
	void *data; /* in the memory of the backend that computes on it */
};

/* Shapes written where they are used: WL_SHAPE(n, h, w, c). */
#define WL_SHAPE(...)                                                                              \
	((struct wl_shape){                                                                        \
		(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})

/* Bytes of an element; elements of a shape; equal in rank and dimensions; bytes of a tensor. */
static inline size_t wl_dtype_bytes(enum wl_dtype t)
{
	static const unsigned char bytes[] = {4, 2, 2, 4, 8, 1};
	return bytes[t];
}

static inline int64_t wl_shape_count(const struct wl_shape *s)
{
	int64_t n = 1;
	for (int i = 0; i < s->rank; i++)
		n *= s->dim[i];
	return n;
}

/* The last dimension, 1 for a scalar. */
static inline int64_t wl_shape_last(const struct wl_shape *s)
{
	return s->rank ? s->dim[s->rank - 1] : 1;
}

/* Elements before the last dimension: the rows of the matrix that a [..., C] tensor is. */
static inline int64_t wl_shape_rows(const struct wl_shape *s)
{
	int64_t n = 1;
	for (int i = 0; i + 1 < s->rank; i++)
		n *= s->dim[i];
	return n;
}

static inline bool wl_shape_equal(const struct wl_shape *a, const struct wl_shape *b)
{
	return a->rank == b->rank &&
	       memcmp(a->dim, b->dim, sizeof(a->dim[0]) * (size_t)a->rank) == 0;
}

static inline size_t wl_tensor_bytes(const struct wl_tensor *t)
{
	return (size_t)wl_shape_count(&t->shape) * wl_dtype_bytes(t->dtype);
}

enum { WL_SHAPE_TEXT = 128 };
/* "[32,64,64,16]" into text, which is returned. */
const char *wl_shape_text(const struct wl_shape *s, char text[WL_SHAPE_TEXT]);

const char *wl_dtype_name(enum wl_dtype t); /* "f32", "bf16", ... */

#endif
