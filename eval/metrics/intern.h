/*
 * Strings and pairs of numbers as small numbers, exactly (no hash collisions pass for
 * equality).  A pair (n-gram so far, next token) interned again and again names an n-gram.
 */
#ifndef WL_EVAL_METRICS_INTERN_H
#define WL_EVAL_METRICS_INTERN_H

#include "ops/arena.h"
#include "ops/err.h"

#include <stdint.h>

struct wl_intern {
	struct wl_arena text;
	const char **name; /* [n], for strings */
	uint64_t *key;     /* [n]: a string's hash, or the pair */
	uint32_t *len;     /* [n] */
	uint32_t *slot;    /* open addressing: number + 1 */
	uint32_t n, cap, slots;
};

void wl_intern_release(struct wl_intern *t);
/* The number of these bytes: 0, 1, 2... in order of first sight; -1 when memory ran out. */
WL_MUST_CHECK int64_t wl_intern_str(struct wl_intern *t, const char *s, size_t n,
	struct wl_err *err);
/* The number of the pair (a, b).  A table holds strings or pairs, never both. */
WL_MUST_CHECK int64_t wl_intern_pair(struct wl_intern *t, uint32_t a, uint32_t b,
	struct wl_err *err);

#endif
