/*
 * A tensor of a backend beside its values in double precision, for tests that give an operation its
 * operands themselves.  Values are rounded as they are stored, so that a reference made from `v` is
 * of the very numbers that the operation reads.  Types: f32, bf16, fp16.  What fails ends the
 * running cmocka test.
 */
#ifndef WL_TESTS_SUPPORT_HELD_H
#define WL_TESTS_SUPPORT_HELD_H

#include "train/backend/backend.h"

struct held {
	struct wl_tensor t;
	int64_t n; /* elements */
	double *v; /* [n]: what was put there */
};

/* The nearest number of the type, ties to even. */
float held_round(enum wl_dtype type, float v);

size_t held_bytes(const struct held *h);

/* Of the seed's normals * scale + offset, in memory of exactly its size, so that a touch beyond it
 * is found.  held_release gives it back. */
struct held held_make(struct wl_backend *be, enum wl_dtype type, struct wl_shape shape,
	uint64_t seed, float scale, float offset);
void held_release(struct wl_backend *be, struct held *h);

/* v to the backend; v itself is rounded as it is stored. */
void held_put(struct wl_backend *be, struct held *h);
/* What the backend holds there now, to [n]; v stays. */
void held_get(struct wl_backend *be, const struct held *h, double *to);

/* Plans the operation, runs it once with scratch of the size it wants, and waits for it. */
void held_run(struct wl_backend *be, struct wl_op *op, struct wl_run run);

#endif
