/*
 * Retrieval on the validation split: embeds it with the online towers and
 * counts exact ranks.  The full evaluation is wenlan-eval's.
 */
#ifndef WL_TRAIN_VALIDATE_H
#define WL_TRAIN_VALIDATE_H

#include "train/encode.h"

#include <jansson.h>

/* {"i2t":{"r1","r5","r10","median_rank"},"t2i":{...},"mean_recall","images","texts"}, recalls in
 * percent: any hit counts; rank = 1 + better ones + equal ones of smaller index.  A new
 * reference, NULL without memory.  be: where it is counted; NULL: the processor. */
json_t *wl_retrieval_json(
	const struct wl_embeddings *v, struct wl_backend *be, struct wl_err *err);

/* Runs the feed from its start to its end.  With dist every rank calls it, each with its share
 * in its feed. *out: a new reference on rank 0, NULL on others. */
WL_MUST_CHECK int wl_validate(struct wl_encoder *e, struct wl_feed *f, struct wl_dist *dist,
	json_t **out, struct wl_err *err);

#endif
