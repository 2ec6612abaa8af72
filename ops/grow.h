/*
 * Arrays that grow one element at a time:
 *
 *	WL_TRY(WL_GROW(l->v, l->n, l->cap, "a list of files", err));
 *	l->v[l->n++] = path;
 */
#ifndef WL_OPS_GROW_H
#define WL_OPS_GROW_H

#include "ops/arena.h"

/* Room in v, which has `cap` elements of memory, for one more than its n; doubled when it is full.
 * v and cap: a pointer (from malloc, or NULL) and a size_t that are changed; what: for the message
 * when there is no memory, on which both are as they were.  0 or -1. */
#define WL_GROW(v, n, cap, what, err)                                                              \
	((n) < (cap) ? 0 : wl_grow(&(v), &(cap), sizeof *(v), (what), (err)))

/* The same of an array in an arena, where the old one stays until the arena goes. */
#define WL_GROW_IN(arena, v, n, cap, err)                                                          \
	((n) < (cap) ? 0 : wl_grow_in((arena), &(v), (n), &(cap), sizeof *(v), (err)))

/* Twice `cap` elements of `size` bytes each, for WL_GROW.  array: where the pointer is. */
WL_MUST_CHECK int wl_grow(
	void *array, size_t *cap, size_t size, const char *what, struct wl_err *err);
WL_MUST_CHECK int wl_grow_in(struct wl_arena *arena, void *array, size_t n, size_t *cap,
	size_t size, struct wl_err *err);

#endif
