/*
 * Scores of image-text agreement by a model of ours: wenlan-embed as a child process, since what
 * runs models comes later in the order of folders.  What it has scored it does not score again.
 */
#ifndef WL_CLEAN_SCORE_MODEL_H
#define WL_CLEAN_SCORE_MODEL_H

#include "ops/err.h"

#include <stdint.h>

/* Scores every pair of the corpus that this model has not scored yet, into the file
 * CORPUS/agreement.csv (clean/scores.h reads it; what was scored by another model is replaced),
 * the child's messages in CORPUS/agreement.log.  *path: the file, to be freed.  0 done; 1: stopped
 * on request.  Fails with the child's own code (WL_ECKPT for a checkpoint that does not fit). */
WL_MUST_CHECK int wl_score_by_model(
	const char *corpus, const char *ckpt, int64_t threads, char **path, struct wl_err *err);

#endif
