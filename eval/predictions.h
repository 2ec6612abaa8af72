/*
 * Chinese-CLIP's files (FACTS 6.4): answers as JSON lines {"text_id", "text", "image_ids"}, and
 * predictions {"text_id", "image_ids": [ten, best first]} for text to image or {"image_id",
 * "text_ids": [...]} for image to text.  R@K as its evaluator has it: any hit; MR is the mean of
 * the three.
 */
#ifndef WL_EVAL_PREDICTIONS_H
#define WL_EVAL_PREDICTIONS_H

#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

struct wl_predicted {
	double r1, r5, r10, mean_recall; /* percent */
	int64_t queries;
	bool image_to_text;
};

/* The direction is the predictions' own.  WL_EDATA with counts and the first offenders for queries
 * without a prediction, predictions of unknown queries, queries that come twice and lists that
 * are shorter than ten or name a candidate twice. */
WL_MUST_CHECK int wl_predictions_measure(const char *answers, const char *predictions,
	struct wl_predicted *out, struct wl_err *err);

#endif
