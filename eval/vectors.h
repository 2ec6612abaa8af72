/*
 * Embeddings as the evaluations want them: both sides as fp32 matrices, and which text
 * belongs to which image.
 */
#ifndef WL_EVAL_VECTORS_H
#define WL_EVAL_VECTORS_H

#include "eval/metrics/retrieval.h"
#include "ops/err.h"

#include <stdint.h>

struct wl_vectors {
	float *images, *texts; /* [n_images, dim], [n_texts, dim]; owned */
	int64_t n_images, n_texts, dim;
	int64_t *image_ids, *text_ids;		  /* names from outside, or 0, 1, ...; owned */
	int64_t *pair_image, *pair_text, n_pairs; /* owned */
};

/* A file of wenlan-embed (eval/embed.h says what is in it).  WL_EDATA when tensors are
 * missing or do not fit together. */
WL_MUST_CHECK int wl_vectors_load(struct wl_vectors *v, const char *path, struct wl_err *err);

/* Foreign features: two matrices (eval/matrix.h).  pairs: NULL when there are as many texts as
 * images and they belong together in order; a .npy of integers, [M] (the image of each text) or
 * [P,2] (image, text); or a text file with an image and a text per line.  Counted from 0. */
WL_MUST_CHECK int wl_vectors_load_npy(struct wl_vectors *v, const char *images, const char *texts,
	const char *pairs, struct wl_err *err);

/* Images alone: a matrix as matrix.h reads it, or a file of wenlan-embed, whose image_ids are
 * taken; else ids are row numbers.  Into v->images, n_images, dim and image_ids. */
WL_MUST_CHECK int wl_vectors_load_images(
	struct wl_vectors *v, const char *spec, struct wl_err *err);

void wl_vectors_release(struct wl_vectors *v);

/* The same as the input of the metrics; borrows v's memory. */
struct wl_retrieval_in wl_vectors_in(const struct wl_vectors *v);

#endif
