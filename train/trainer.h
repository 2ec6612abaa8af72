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

enum { WL_TRAINER_LATE = 2 }; /* steps that may be under way while the next one is given */

struct wl_step_report {
	struct wl_moco_result moco;
	int64_t step;              /* steps done with this one */
	double lr, grad_norm, tau; /* the same on every rank, as moco (means over the ranks) */
	double loss_scale;         /* that this step had; 1 but in fp16 */
	enum wl_guard_verdict verdict; /* not WL_GUARD_OK: nothing was updated */
	const char *blame; /* not finite: the first tensor of this rank's gradients, or NULL */
};

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
	int64_t step; /* given so far, skipped ones included */
	/* The backend's, which decides without the host; NULL: the host does. */
	struct wl_judge *judge;
	/* Of the steps that were given and not taken, step s at s % (WL_TRAINER_LATE + 1). */
	struct wl_step_report given[WL_TRAINER_LATE + 1];
	int64_t taken;
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

/*
 * Steps.  A loss or gradient that is not finite, or a spike, updates nothing; nor do gradients that
 * overflow for their loss scale, which halve it.
 *
 * give begins one.  On the processor it is done then.  On a GPU the device decides whether the step
 * counts (train/judged.h), and nobody waits: at most WL_TRAINER_LATE steps may be given and not
 * taken (wl_trainer_late; 0 on the processor) when the next is given.  batch is the caller's again
 * after it, but pictures in the backend's memory must stay until work given later overwrites them.
 *
 * take waits for the oldest step given and not taken, and reports it; a skipped one is said in the
 * log, with the tensor's name.  WL_ENUMERIC after too many in a row that were not finite or spikes
 * (overflows do not count among those): then *out is that step, and steps given since are of no
 * account.  On several ranks all give and take in the same order.
 */
WL_MUST_CHECK int wl_trainer_give(struct wl_trainer *t, const struct wl_moco_batch *batch,
	struct wl_err *err);
WL_MUST_CHECK int wl_trainer_take(struct wl_trainer *t, struct wl_step_report *out,
	struct wl_err *err);
int64_t wl_trainer_untaken(const struct wl_trainer *t);
int64_t wl_trainer_late(const struct wl_trainer *t);
/* Both at once: no other step may be untaken. */
WL_MUST_CHECK int wl_trainer_step(struct wl_trainer *t, const struct wl_moco_batch *batch,
	struct wl_step_report *out, struct wl_err *err);
/* Waits for all steps given; guard, scaler, optim.updates and the queues' places are then those
 * after the last, which between steps only the device knows.  What is untaken stays so.  Loading
 * and checkpoints do it themselves. */
WL_MUST_CHECK int wl_trainer_settle(struct wl_trainer *t, struct wl_err *err);

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
