/*
 * A whole training run: shards in, RUN/ckpt-STEP, RUN/metrics.jsonl and a log out.
 *
 * The same command again continues from the newest checkpoint.  metrics.jsonl is cut back to
 * the line of that checkpoint first, so a run that was killed any number of times ends with
 * the lines of one that was not (but for the timings in them).
 */
#ifndef WL_TRAIN_LOOP_H
#define WL_TRAIN_LOOP_H

#include "train/config.h"
#include "train/moco/moco.h"

struct wl_vocab;

/* What the loop needs to know of the model. */
struct wl_train_job {
	const struct wl_train_config *config; /* checked */
	struct wl_towers towers;
	const struct wl_vocab *vocab;
	int64_t grid; /* cells a side where a sample has no boxes */
	/* Loads config->init into the fresh parameters; NULL when there are no files. */
	int (*import)(struct wl_params *params, const struct wl_train_job *job,
		struct wl_err *err);
};

/* Trains to the end, or until a stop was asked for (a checkpoint is written first). */
WL_MUST_CHECK int wl_train_run(const struct wl_train_job *job, struct wl_err *err);

/* Prints parameters, memory and FLOPs to standard output without touching RUN. */
WL_MUST_CHECK int wl_train_plan(const struct wl_train_job *job, struct wl_err *err);

#endif
