/* What is brought together (clean/bygroup.h), and what comes of it: records, and lists of 64-bit
 * values, mostly pairs of indices, that threads and ranks gather. */
#ifndef WL_CLEAN_VALUES_H
#define WL_CLEAN_VALUES_H

#include "ops/comm.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_rec {
	uint64_t key;
	uint32_t idx, aux;
};
/* By key, idx, aux. */
void wl_recs_sort(struct wl_rec *r, size_t n);

/* A growing list of values; add is for one thread. */
struct wl_values {
	uint64_t *v;
	size_t n, cap;
	bool no_memory; /* sticky: what was added after is lost */
};
void wl_values_add_slow(struct wl_values *l, uint64_t v);
static inline void wl_values_add(struct wl_values *l, uint64_t v)
{
	if (l->n < l->cap)
		l->v[l->n++] = v;
	else
		wl_values_add_slow(l, v);
}
/* Sorts, and leaves each value once. */
void wl_values_unique(struct wl_values *l);
void wl_values_release(struct wl_values *l);
/* Every rank gets the sorted union of all ranks' lists, in place. */
WL_MUST_CHECK int wl_values_gather(struct wl_values *l, struct wl_comm *c, struct wl_err *err);

#endif
