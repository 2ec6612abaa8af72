/*
 * One training run's state and its step: parameters, MoCo, optimiser, schedule,
 * guard.  It knows batches, not files of data; the loop (train/loop.h) feeds it.
 *
 * The state after step s is a function of the start, the seed and the batches
 * alone; saved and loaded it continues to the last bit.
 */
#ifndef WL_TRAIN_TRAINER_H
#define WL_TRAIN_TRAINER_H

#include "train/config.h"
#include "train/moco/moco.h"
#include "train/optim/scaler.h"

struct wl_trainer {
	const struct wl_train_config *config; /* borrowed */
	struct wl_backend *backend;           /* borrowed */
	struct wl_dist *dist;                 /* borrowed, NULL: one rank */
	struct wl_params params;              /* the online towers and the log scale */
	struct wl_moco moco;
	struct wl_optim optim;
	struct wl_guard guard;
	struct wl_scaler scaler; /* scale 0 unless the precision is fp16 */
	struct wl_schedule schedule;
	uint64_t seed;
	int64_t step; /* done so far, skipped ones included */
};

struct wl_step_report {
	struct wl_moco_result moco;
	double lr, grad_norm, tau; /* the same on every rank, as moco (means over the ranks) */
	double loss_scale;         /* that this step had; 1 but in fp16 */
	enum wl_guard_verdict verdict; /* not WL_GUARD_OK: nothing was updated */
};

/* Builds everything for batches of config->batch (a rank); values are all zero afterwards: follow
 * with wl_trainer_start or wl_trainer_load.  pairs: training samples, for the queue's size (a
 * smaller queue than configured is said in the log).  dist: the ranks that train together, NULL:
 * alone; it is started here, and every function below is then called on every rank.  config,
 * backend and dist must outlive t. */
WL_MUST_CHECK int wl_trainer_init(struct wl_trainer *t, const struct wl_train_config *config,
	const struct wl_towers *towers, struct wl_backend *backend, struct wl_dist *dist,
	int64_t total_steps, int64_t pairs, struct wl_err *err);
void wl_trainer_release(struct wl_trainer *t);

/* The momentum towers become copies of the online ones and tau the configured one: after the
 * online values were set (on every rank, whole and equal), at the start of a run. */
void wl_trainer_start(struct wl_trainer *t);

/* One step.  A loss or gradient that is not finite, or a spike, updates nothing and is said in
 * the log with the tensor's name; WL_ENUMERIC after too many in a row.  Gradients that overflow
 * for their loss scale update nothing either, halve it, and do not count among those. */
WL_MUST_CHECK int wl_trainer_step(struct wl_trainer *t, const struct wl_moco_batch *batch,
	struct wl_step_report *out, struct wl_err *err);

/* Writes a checkpoint RUN/ckpt-STEP of the whole state; `extra` (an object, borrowed) goes into
 * state.json under "run" for the loop; the file vocab is copied into it as vocab.txt and
 * `preprocess` saved as preprocess.json (each may be NULL).  A checkpoint of this step that
 * exists is left as it is. */
WL_MUST_CHECK int wl_trainer_save(struct wl_trainer *t, const char *run_dir,
	json_t *extra, const char *vocab, const json_t *preprocess, struct wl_err *err);

/* Loads the checkpoint at `dir` whose state.json is `state` (wl_ckpt_load gives both).
 * WL_ECKPT when it does not fit; settings that differ from those it was trained with are said
 * in the log, and the configuration's win. */
WL_MUST_CHECK int wl_trainer_load(struct wl_trainer *t, const char *dir, const json_t *state,
	struct wl_err *err);

#endif
