/*
 * Ranks of a retrieval pool counted on a device (eval/metrics/retrieval.h says what a rank is): all
 * pictures against all texts, of which no matrix of scores is ever written.  A score is a chain of
 * fused multiply-adds in ascending order of the dimension, from 0, wherever it is computed: the
 * bits of the processor's where that has such instructions, and so its ranks.
 */
#ifndef WL_TRAIN_BACKEND_RANKS_H
#define WL_TRAIN_BACKEND_RANKS_H

#include "train/backend/backend.h"

/* The best right answer of a query; index -1: it has none. */
struct wl_rank_target {
	float score;
	int32_t index;
};

struct wl_ranks; /* the backend's own */

struct wl_rank_ops {
	/* images [n, dim], texts [m, dim] in the host's memory, borrowed until close.  What the
	 * device has no room for, or `most` bytes of both (0: no limit), goes through it in blocks,
	 * to the same bits.  NULL and WL_EFAIL where even small ones do not fit. */
	struct wl_ranks *(*open)(struct wl_backend *be, const float *images, int64_t n,
		const float *texts, int64_t m, int64_t dim, size_t most, struct wl_err *err);
	void (*close)(struct wl_ranks *r); /* accepts NULL */
	/* score[p] of image[p] and text[p], count of them. */
	int (*pairs)(struct wl_ranks *r, const int64_t *image, const int64_t *text, int64_t count,
		float *score, struct wl_err *err);
	/* image_above[i]: texts that stand before image i's target, by a higher score, or an equal
	 * one and a smaller index; text_above likewise.  0 where there is no target. */
	int (*above)(struct wl_ranks *r, const struct wl_rank_target *image,
		const struct wl_rank_target *text, int64_t *image_above, int64_t *text_above,
		struct wl_err *err);
};

#endif
