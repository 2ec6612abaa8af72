/*
 * The half of a training step that depends on its verdict, where the backend judges
 * (train/backend/judge.h): all of it is given to the device whatever becomes of the step, and the
 * host hears of it later.  Between trainer.c and the backend; see trainer.h for what it means.
 */
#ifndef WL_TRAIN_JUDGED_H
#define WL_TRAIN_JUDGED_H

#include "train/trainer.h"

/* After everything else of t was built: t->judge, NULL where the host judges. */
WL_MUST_CHECK int wl_judged_open(struct wl_trainer *t, struct wl_err *err);
void wl_judged_close(struct wl_trainer *t);
/* The device goes on from the host's guard, scaler, updates and queues. */
void wl_judged_put(struct wl_trainer *t);
/* After the step's gradients were given: judges, updates, fills the queues; r->lr is the step's. */
WL_MUST_CHECK int wl_judged_finish(struct wl_trainer *t, const struct wl_step_report *r,
	struct wl_err *err);
/* Waits for step number `step` (one of the last WL_JUDGE_SLOTS): fills r, and the host's guard,
 * scaler, updates and queues become what they were after it. */
WL_MUST_CHECK int wl_judged_hear(struct wl_trainer *t, int64_t step, struct wl_step_report *r,
	struct wl_err *err);

#endif
