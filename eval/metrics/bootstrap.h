/*
 * How sure a recall is, and whether two runs differ: the bootstrap (Efron 1979), percentile method.
 * What is drawn with replacement are images with all their texts, since five captions of one
 * picture are not five independent queries.  Draws are a function of seed and round, so the
 * result is the same for any number of threads.
 */
#ifndef WL_EVAL_METRICS_BOOTSTRAP_H
#define WL_EVAL_METRICS_BOOTSTRAP_H

#include "eval/metrics/retrieval.h"

/* i2t R@1, R@5, R@10, t2i R@1, R@5, R@10, mean recall (of the directions that have queries). */
enum { WL_BOOT_STATS = 7 };

struct wl_boot {
	double value[WL_BOOT_STATS], lo[WL_BOOT_STATS], hi[WL_BOOT_STATS]; /* percent; 95 % */
};

/* Ranks as wl_retrieval_ranks gives them (0: no right answer); either may be NULL. */
WL_MUST_CHECK int wl_retrieval_bootstrap(const struct wl_retrieval_in *in,
	const int64_t *image_rank, const int64_t *text_rank, int rounds, uint64_t seed,
	struct wl_boot *out, struct wl_err *err);

struct wl_boot_difference {
	struct wl_boot d;        /* b - a */
	double p[WL_BOOT_STATS]; /* two-sided; at least 1 / rounds */
};

/* Paired: the same images are drawn for both runs, which must have ranked the same queries. */
WL_MUST_CHECK int wl_retrieval_compare(const struct wl_retrieval_in *in, const int64_t *image_a,
	const int64_t *text_a, const int64_t *image_b, const int64_t *text_b, int rounds,
	uint64_t seed, struct wl_boot_difference *out, struct wl_err *err);

#endif
