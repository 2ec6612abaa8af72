/* Arrays that grow: see grow.h. */
#include "ops/grow.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int wl_grow(void *array, size_t *cap, size_t size, const char *what, struct wl_err *err)
{
	size_t more = *cap ? 2 * *cap : 16, bytes;
	void *v;

	if (__builtin_mul_overflow(more, size, &bytes))
		return wl_err_nomem(err, what, SIZE_MAX);
	memcpy(&v, array, sizeof v);
	v = realloc(v, bytes);
	if (!v)
		return wl_err_nomem(err, what, bytes);
	memcpy(array, &v, sizeof v);
	*cap = more;
	return 0;
}

int wl_grow_in(struct wl_arena *arena, void *array, size_t n, size_t *cap, size_t size,
	struct wl_err *err)
{
	size_t more = *cap ? 2 * *cap : 8;
	void *old, *v = wl_arena_calloc(arena, more, size, err);

	if (!v)
		return -1;
	memcpy(&old, array, sizeof old);
	if (n)
		memcpy(v, old, n * size);
	memcpy(array, &v, sizeof v);
	*cap = more;
	return 0;
}
