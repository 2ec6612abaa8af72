/* Embeddings for tests: files as wenlan-embed writes them, and vectors of a known cosine. */
#ifndef WL_TESTS_VECTORS_MAKE_H
#define WL_TESTS_VECTORS_MAKE_H

#include "ops/saved.h"

#include <stdint.h>

/* What is in a file; a side without rows has NULLs.  Texts' rows are of the same dimension. */
struct vectors_file {
	const int64_t *image_ids, *text_ids;
	const float *images, *texts; /* [n, dim] */
	int64_t n_images, n_texts, dim;
	int partition; /* -1: none is said */
	enum wl_saved_dtype dtype;
};
/* Fails the running test on error. */
void vectors_write(const char *path, const struct vectors_file *f);

/* A vector of unit length that is a function of seed, everywhere alike likely. */
void vectors_random(uint64_t seed, int64_t dim, float *out);
/* One whose cosine with the unit vector v is this, to fp32's precision. */
void vectors_at(const float *v, double cosine, uint64_t seed, int64_t dim, float *out);

#endif
