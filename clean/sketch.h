/*
 * Vectors to 64-bit hashes such that those with a small angle between them are near by Hamming
 * distance: each bit says on which side of a random plane through the origin a vector lies, so a
 * bit differs with chance angle / pi (Goemans and Williamson 1995; Charikar 2002).  Planes are the
 * rows of H D H D H D (H: Hadamard's matrix, D: random signs; Andoni et al. 2015), which takes
 * P log P additions instead of P D products.
 *
 * How many hashes, and within which radius one of them must agree (clean/near.h finds all such
 * pairs exactly), follows from the cosine that pairs are wanted from.  Planes do not depend on
 * the vectors: so a pair's chance of being found is known, being a function of its cosine alone,
 * and whether it is found does not depend on which others are there.
 */
#ifndef WL_CLEAN_SKETCH_H
#define WL_CLEAN_SKETCH_H

#include "ops/err.h"

#include <stdint.h>

enum { WL_SKETCH_HASHES_MAX = 64 };

struct wl_sketch {
	int hashes, radius;
	int64_t dim, padded; /* a power of 2 */
	uint64_t *signs;     /* [blocks, 3, padded / 64]: a bit says minus; owned */
	int blocks;	     /* of `padded` planes */
};

/* The cheapest hashes by which a pair of exactly this cosine is found with a chance of 99 %, or the
 * best of WL_SKETCH_HASHES_MAX. */
WL_MUST_CHECK int wl_sketch_init(
	struct wl_sketch *s, double cosine, int64_t dim, struct wl_err *err);
void wl_sketch_release(struct wl_sketch *s);

/* The chance that a pair of this cosine is near in one hash at least. */
double wl_sketch_chance(const struct wl_sketch *s, double cosine);

/* v [dim] to out [hashes]; scratch [padded]. */
void wl_sketch_make(const struct wl_sketch *s, const float *v, float *scratch, uint64_t *out);

#endif
