/*
 * Arenas: many allocations, one release.  Memory comes from blocks; a reset
 * keeps the blocks, so a steady loop stops allocating after its first round.
 * Not safe for use by several threads at once.
 */
#ifndef WL_OPS_ARENA_H
#define WL_OPS_ARENA_H

#include "ops/err.h"

#include <stdint.h>

struct wl_arena_block;

struct wl_arena {
	struct wl_arena_block *first, *current;
	size_t block_bytes; /* size of a new block; 64 KiB when 0 */
	size_t used_bytes;  /* handed out since init or reset */
};

#define WL_ARENA_INIT {0}

/* Zeroed memory aligned to 64 bytes, valid until reset or release; NULL when
 * the machine has no more (err says so).  bytes == 0 gives a valid pointer. */
void *wl_arena_alloc(struct wl_arena *a, size_t bytes, struct wl_err *err);

/* As wl_arena_alloc for count * size bytes, with the product checked. */
void *wl_arena_calloc(struct wl_arena *a, size_t count, size_t size, struct wl_err *err);

/* A copy of the n bytes at s, with a 0 after them. */
char *wl_arena_strndup(struct wl_arena *a, const char *s, size_t n, struct wl_err *err);
char *wl_arena_strdup(struct wl_arena *a, const char *s, struct wl_err *err);

/* All that was handed out is invalid: reset keeps the blocks for what comes, release frees them. */
void wl_arena_reset(struct wl_arena *a);
void wl_arena_release(struct wl_arena *a);

#endif
