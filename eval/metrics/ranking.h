/*
 * Metrics of graded rankings: the paper's user study (section 3.4) and trec_eval's definitions.
 *
 *   DCG@k = sum over ranks i = 1..k of gain(grade_i) / log2(i + 1); NDCG = DCG / the ideal's DCG
 *   AP = mean over the relevant ones of (relevant up to its rank) / rank
 *
 * The ideal order is made of `ideal`: the same list sorted (the paper's study judges the first 30
 * results and nothing else), or all judged documents (trec_eval).
 *
 * Pure: no files, no threads.
 */
#ifndef WL_EVAL_METRICS_RANKING_H
#define WL_EVAL_METRICS_RANKING_H

#include "ops/err.h"

#include <stddef.h>
#include <stdint.h>

enum wl_gain {
	WL_GAIN_EXPONENTIAL, /* 2^grade - 1 (Burges et al. 2005), the default (FACTS 16) */
	WL_GAIN_LINEAR,      /* grade, as trec_eval */
};

/* grade [n] in the order of the ranking; ideal [n_ideal] in descending order; k: cut-off, 0 for
 * none.  A grade of 0 or less gains nothing; 0 when the ideal has no gain. */
double wl_ndcg(const int32_t *grade, size_t n, const int32_t *ideal, size_t n_ideal, size_t k,
	enum wl_gain gain);

/* Relevant are grades above `above`; relevant: how many there are to be found, those that the
 * ranking misses included.  0 when there are none. */
double wl_average_precision(const int32_t *grade, size_t n, int32_t above, size_t relevant);

/* How far raters agree about items (Fleiss 1971): kappa = (P - Pe) / (1 - Pe). */
struct wl_agreement {
	double kappa;    /* 1 when all agree on everything */
	double observed; /* P: mean share of agreeing pairs of raters */
	double expected; /* Pe: by the categories' frequencies alone */
	size_t items, raters;
};

/* grade [items][raters].  WL_EDATA for fewer than two raters or no items. */
WL_MUST_CHECK int wl_fleiss(const int32_t *grade, size_t items, size_t raters,
	struct wl_agreement *out, struct wl_err *err);

#endif
