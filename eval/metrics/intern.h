/*
 * Strings as small numbers, exactly (no hash collisions pass for equality).
 */
#ifndef WL_EVAL_METRICS_INTERN_H
#define WL_EVAL_METRICS_INTERN_H

#include "ops/arena.h"
#include "ops/err.h"

#include <stdint.h>

struct wl_intern {
	struct wl_arena text;
	const char **name; /* [n], with a 0 after each */
	uint64_t *key;     /* [n]: hashes */
	uint32_t *len;     /* [n] */
	uint32_t *slot;    /* open addressing: number + 1 */
	uint32_t n, cap, slots;
};

/* Frees all names; accepts NULL and a zeroed table. */
void wl_intern_release(struct wl_intern *t);
/* The number of these bytes: 0, 1, 2... in order of first sight; -1 when memory ran out. */
WL_MUST_CHECK int64_t wl_intern_str(struct wl_intern *t, const char *s, size_t n,
	struct wl_err *err);

#endif
