/*
 * All pairs of 64-bit hashes within a Hamming radius, exactly, by multi-index hashing (Norouzi,
 * Punjani, Fleet 2012): cut into m chunks; two hashes within r agree in some chunk up to
 * floor(r / m) bits, so only those buckets are looked into.
 */
#ifndef WL_CLEAN_NEAR_H
#define WL_CLEAN_NEAR_H

#include "ops/err.h"
#include "ops/pool.h"

#include <stddef.h>
#include <stdint.h>

struct wl_near {
	uint32_t a, b; /* a < b, indices of hashes */
};

struct wl_near_list {
	struct wl_near *v; /* n, by (a, b); owned */
	size_t n;
	size_t cut; /* hashes that had more than WL_NEAR_MAX neighbours: some are left out */
};

enum { WL_NEAR_MAX = 4096, WL_NEAR_RADIUS_MAX = 16 };

/* The same list whatever the number of threads. */
WL_MUST_CHECK int wl_near_find(const uint64_t *hashes, size_t n, int radius, struct wl_pool *pool,
	struct wl_near_list *out, struct wl_err *err);
void wl_near_release(struct wl_near_list *l);

/* Union-find with the smallest index as a set's root, so that roots do not depend on the order
 * of the unions. */
void wl_sets_init(uint32_t *parent, size_t n);
uint32_t wl_sets_root(uint32_t *parent, uint32_t i);
void wl_sets_join(uint32_t *parent, uint32_t a, uint32_t b);

#endif
