/*
 * Writes checkpoints while training goes on: a save takes a copy of the state
 * (which on a device is itself under way while the next step is computed, up to
 * its update) and leaves it to a thread; a later step finds the files of all ranks written
 * and lets rank 0 complete the checkpoint, in that thread too.  A second save
 * waits for the first.  Whatever happens between, RUN holds its last complete
 * checkpoint.
 *
 * Every rank has one and calls its functions after the same steps.
 */
#ifndef WL_TRAIN_SAVER_H
#define WL_TRAIN_SAVER_H

#include "train/snapshot.h"

struct wl_saver;

struct wl_saver_config {
	const char *run_dir;
	const char *vocab;          /* copied into checkpoints; NULL: none */
	const json_t *preprocess;   /* borrowed; NULL: none */
	int64_t keep, keep_every;   /* see wl_ckpt_prune */
	bool wait;                  /* write before save returns; alone, that copies nothing */
};

/* NULL on failure.  t and what config points at must outlive it. */
struct wl_saver *wl_saver_open(struct wl_trainer *t, const struct wl_saver_config *config,
	struct wl_err *err);
/* Abandons what is not complete; accepts NULL. */
void wl_saver_close(struct wl_saver *s);

/* Takes the state; extra: see wl_trainer_save.  last: nothing comes after it, so it is complete on
 * return.  A checkpoint of this step that exists is left as it is. */
WL_MUST_CHECK int wl_saver_save(struct wl_saver *s, json_t *extra, bool last,
	struct wl_err *err);
/* What a step must bring together for the saver; see wl_saver_advance. 0: nothing under way. */
int64_t wl_saver_state(struct wl_saver *s);
/* Goes on where all ranks are ready; worst: the largest wl_saver_state of all ranks. */
WL_MUST_CHECK int wl_saver_advance(struct wl_saver *s, int64_t worst, struct wl_err *err);
/* Until nothing is under way. */
WL_MUST_CHECK int wl_saver_finish(struct wl_saver *s, struct wl_err *err);

#endif
