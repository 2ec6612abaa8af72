/* Blocks in a list, bump allocation inside each: see arena.h. */
#include "ops/arena.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, DEFAULT_BLOCK = 64 * 1024 };

struct wl_arena_block {
	struct wl_arena_block *next;
	size_t size, used; /* of the bytes behind this header */
};

/* The header's size rounded up, so that the bytes behind it are aligned. */
static size_t header_bytes(void)
{
	return (sizeof(struct wl_arena_block) + ALIGN - 1) / ALIGN * ALIGN;
}

static struct wl_arena_block *block_new(size_t size, struct wl_err *err)
{
	struct wl_arena_block *b = aligned_alloc(ALIGN, header_bytes() + size);

	if (!b) {
		wl_err_nomem(err, "an arena block", size);
		return NULL;
	}
	b->next = NULL;
	b->size = size;
	b->used = 0;
	return b;
}

/* Moves to a block with room for `bytes`: one kept from before a reset, or a new one. */
static struct wl_arena_block *block_with_room(struct wl_arena *a, size_t bytes, struct wl_err *err)
{
	size_t want = a->block_bytes ? a->block_bytes : DEFAULT_BLOCK;
	struct wl_arena_block *b;

	for (b = a->current; b; b = b->next) {
		if (b->size - b->used >= bytes)
			return a->current = b;
		if (!b->next)
			break;
	}
	if (want < bytes)
		want = bytes;
	want = (want + ALIGN - 1) / ALIGN * ALIGN;
	struct wl_arena_block *fresh = block_new(want, err);
	if (!fresh)
		return NULL;
	if (b)
		b->next = fresh;
	else
		a->first = fresh;
	return a->current = fresh;
}

void *wl_arena_alloc(struct wl_arena *a, size_t bytes, struct wl_err *err)
{
	size_t rounded;
	struct wl_arena_block *b;
	char *p;

	if (bytes > SIZE_MAX / 2) {
		wl_err_nomem(err, "an arena", bytes);
		return NULL;
	}
	rounded = (bytes + ALIGN - 1) / ALIGN * ALIGN;
	if (!rounded)
		rounded = ALIGN;
	b = block_with_room(a, rounded, err);
	if (!b)
		return NULL;
	p = (char *)b + header_bytes() + b->used;
	b->used += rounded;
	a->used_bytes += rounded;
	return memset(p, 0, rounded);
}

void *wl_arena_calloc(struct wl_arena *a, size_t count, size_t size, struct wl_err *err)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		wl_err_nomem(err, "an arena", SIZE_MAX);
		return NULL;
	}
	return wl_arena_alloc(a, bytes, err);
}

char *wl_arena_strndup(struct wl_arena *a, const char *s, size_t n, struct wl_err *err)
{
	char *p = wl_arena_alloc(a, n + 1, err);

	return p ? memcpy(p, s, n) : NULL;
}

char *wl_arena_strdup(struct wl_arena *a, const char *s, struct wl_err *err)
{
	return wl_arena_strndup(a, s, strlen(s), err);
}

void wl_arena_reset(struct wl_arena *a)
{
	for (struct wl_arena_block *b = a->first; b; b = b->next)
		b->used = 0;
	a->current = a->first;
	a->used_bytes = 0;
}

void wl_arena_release(struct wl_arena *a)
{
	if (!a)
		return;
	for (struct wl_arena_block *b = a->first, *next; b; b = next) {
		next = b->next;
		free(b);
	}
	a->first = a->current = NULL;
	a->used_bytes = 0;
}
