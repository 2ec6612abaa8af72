/*
 * Recall at K in both directions, exactly.
 *
 * Given N images and M texts as vectors of D numbers and which text belongs to which image,
 * the rank of a query is the best position that one of its right answers takes when all
 * candidates are ordered by score (any-hit, as the retrieval papers count when an image
 * has five captions).  No candidate is left out and no N x M matrix is stored.
 *
 * Ties: a candidate with the same score stands before the right answer if its index is
 * smaller, so rank = 1 + #(score > s) + #(score == s and index < i).  A model that gives
 * every pair the same score gets the ranks of a list in arbitrary order, not rank 1.
 *
 * Scores are fp32 sums in ascending order of the dimension, one fused or plain
 * multiply-add each, whatever the blocking; so ranks are the same for any number of threads, and
 * on a GPU, where the processor fuses them too.
 *
 * Pure: no input or output, so that training may measure with it too.
 */
#ifndef WL_EVAL_METRICS_RETRIEVAL_H
#define WL_EVAL_METRICS_RETRIEVAL_H

#include "ops/err.h"

#include <stdint.h>

struct wl_backend;

struct wl_retrieval_in {
	const float *images; /* [n_images, dim], borrowed */
	const float *texts;  /* [n_texts, dim], borrowed */
	int64_t n_images, n_texts, dim;
	/* Right answers: text pair_text[p] belongs to image pair_image[p].  A text with one
	 * image needs one entry; any relation is allowed, in any order. */
	const int64_t *pair_image, *pair_text; /* [n_pairs] */
	int64_t n_pairs;
	int threads; /* 0: as OpenMP says */
	/* Where the product is done, borrowed; NULL, or one without wl_rank_ops: the processor. */
	struct wl_backend *backend;
	size_t device_bytes; /* of embeddings there at a time; 0: as many as it has room for */
};

/* Scales every row to length 1 (sums in double); a row of zeros stays.  rows [n, dim]. */
void wl_retrieval_normalize(float *rows, int64_t n, int64_t dim);

/* The rank (from 1) of the first right answer of each query: image_rank [n_images] over the
 * texts, text_rank [n_texts] over the images; either may be NULL.  0 for a query
 * without any right answer.  WL_EDATA when a number is not finite or an index is outside. */
WL_MUST_CHECK int wl_retrieval_ranks(const struct wl_retrieval_in *in, int64_t *image_rank,
	int64_t *text_rank, struct wl_err *err);

/* One direction.  Percentages of the queries that have a right answer. */
struct wl_recall {
	double r1, r5, r10;
	double median_rank, mean_rank; /* median of an even number: mean of the middle two */
	int64_t queries;
};

/* From ranks as above (zeros are left out). */
WL_MUST_CHECK int wl_recall_from_ranks(const int64_t *ranks, int64_t n, struct wl_recall *out,
	struct wl_err *err);

struct wl_retrieval {
	struct wl_recall i2t, t2i;
	double mean_recall; /* mean of the six R@K */
	int64_t images, texts;
};

/* Both directions from ranks that are known already. */
WL_MUST_CHECK int wl_retrieval_from_ranks(const struct wl_retrieval_in *in,
	const int64_t *image_rank, const int64_t *text_rank, struct wl_retrieval *out,
	struct wl_err *err);
WL_MUST_CHECK int wl_retrieval_measure(const struct wl_retrieval_in *in,
	struct wl_retrieval *out, struct wl_err *err);

/* What random scores give on average, by the same definitions: for a query with c right
 * answers among n, P(rank <= K) = 1 - prod_{t<K} (n-c-t)/(n-t), and the mean rank is
 * (n+1)/(c+1); median_rank is the median over the queries of their own median ranks. */
WL_MUST_CHECK int wl_retrieval_chance(const struct wl_retrieval_in *in, struct wl_retrieval *out,
	struct wl_err *err);

/* The k candidates with the highest scores for one query [dim], best first, ties by index:
 * index [k] and score [k]; entries past n are -1. */
WL_MUST_CHECK int wl_retrieval_top(const float *query, const float *candidates, int64_t n,
	int64_t dim, int64_t k, int64_t *index, float *score, struct wl_err *err);

#endif
