/*
 * A whole training run: shards in, RUN/ckpt-STEP, RUN/metrics.jsonl and a log out.
 *
 * The same command again continues from the newest checkpoint.  metrics.jsonl is cut back to
 * the line of that checkpoint first, so a run that was killed any number of times ends with
 * the lines of one that was not (but for the timings in them).
 */
#ifndef WL_TRAIN_LOOP_H
#define WL_TRAIN_LOOP_H

#include "clean/wordpiece.h"
#include "ops/ram.h"
#include "train/config.h"
#include "train/towers.h"

struct wl_trainer;

/* The BriVL model of a configuration, ready for the loop. */
struct wl_train_job {
	struct wl_train_config *config; /* borrowed, checked; its model becomes the whole mapping */
	struct wl_model_config model;
	struct wl_towers towers;
	struct wl_vocab *vocab;         /* owned */
	json_t *model_json, *preprocess; /* owned: what checkpoints carry */
};

/* Checks the configuration, reads the vocabulary and settles the model. */
WL_MUST_CHECK int wl_train_job_open(struct wl_train_job *job, struct wl_train_config *config,
	struct wl_err *err);
void wl_train_job_close(struct wl_train_job *job);

/* Copies each file of weights into the sealed store: "FILE", or "PREFIX=FILE" with a PREFIX such as
 * textencoder. to limit the names that may be set; says what fitted in the log. */
WL_MUST_CHECK int wl_train_import(struct wl_params *params, const struct wl_strs *files,
	struct wl_err *err);

/* Trains to the end, or until a stop was asked for (a checkpoint is written first).  A rank that
 * fails leaves threads behind that use the job: nothing of it may go before the process ends
 * (wl_main_end_at_once is asked for). */
WL_MUST_CHECK int wl_train_run(const struct wl_train_job *job, struct wl_err *err);

/* Prints parameters, memory and FLOPs to standard output without touching RUN. */
WL_MUST_CHECK int wl_train_plan(const struct wl_train_job *job, struct wl_err *err);

/* Whether the memory that is there holds what a rank of this training will use on the processor:
 * WL_EFAIL with both figures and the options that help.  t: built for this configuration. */
WL_MUST_CHECK int wl_train_fits(const struct wl_trainer *t, int ranks, struct wl_ram there,
	struct wl_err *err);

#endif
