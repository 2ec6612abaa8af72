/* Between trainer_state.c and snapshot.c. */
#ifndef WL_TRAIN_STATE_H
#define WL_TRAIN_STATE_H

#include "train/trainer.h"

/* What state.json says of the trainer, `extra` under "run"; a new reference, NULL without
 * memory. */
json_t *wl_trainer_state(const struct wl_trainer *t, json_t *extra);

/* The result of something that every rank did for itself: fails everywhere when it failed
 * anywhere ("rank 1 could not WHAT"). */
WL_MUST_CHECK int wl_trainer_agree(const struct wl_trainer *t, int mine, const char *what,
	struct wl_err *err);

#endif
