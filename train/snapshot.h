/*
 * What a checkpoint holds, taken out of a trainer so that training may go on
 * while it is written.  Of several ranks, rank 0 writes the model, the queues and
 * state.json, rank 1 the momentum towers, and each its share of the moments; what
 * lies in pieces comes by files (taken.h).
 */
#ifndef WL_TRAIN_SNAPSHOT_H
#define WL_TRAIN_SNAPSHOT_H

#include "ops/file.h"
#include "train/optim_state.h"
#include "train/taken.h"
#include "train/trainer.h"

struct wl_snapshot {
	const struct wl_trainer *t; /* borrowed, for tables that do not change */
	/* Copies' memory is kept from one snapshot to the next. */
	struct wl_taken model, momentum;
	struct wl_moments moments;
	struct wl_queue image_queue, text_queue;
	json_t *state; /* rank 0: state.json to be; owned */
	int64_t step;
	bool copied;   /* the arrays are copies, owned */
};

/* Where copies come from a device: their (pinned) memory now, which takes seconds, instead of in
 * the middle of training.  Before the first take, or never. */
WL_MUST_CHECK int wl_snapshot_reserve(struct wl_snapshot *s, struct wl_trainer *t,
	struct wl_err *err);
/* Takes the state as it stands; every rank calls it, and nothing is exchanged.  copy: training may
 * go on before it is written (with several ranks, or a device, it is always copied): copies from a
 * device are under way then, and wl_snapshot_share and wl_snapshot_write wait for them. extra: see
 * wl_trainer_save. */
WL_MUST_CHECK int wl_snapshot_take(struct wl_snapshot *s, struct wl_trainer *t, bool copy,
	json_t *extra, struct wl_err *err);
/* Whether ranks have something to share before any can write: the same on all. */
bool wl_snapshot_shares(const struct wl_snapshot *s);
/* Leaves in dir what other ranks want of this one for their files, where there is such. */
WL_MUST_CHECK int wl_snapshot_share(const struct wl_snapshot *s, const char *dir,
	struct wl_err *err);
/* Once all ranks have shared: writes this rank's files into dir; their names are added to names. */
WL_MUST_CHECK int wl_snapshot_write(const struct wl_snapshot *s, const char *dir,
	struct wl_names *names, struct wl_err *err);
/* Gives the memory of copies back; the next take brings new contents. */
void wl_snapshot_drop(struct wl_snapshot *s);
void wl_snapshot_release(struct wl_snapshot *s);

/* The inverse: everything but state.json's own keys. */
WL_MUST_CHECK int wl_snapshot_load(struct wl_trainer *t, const char *dir, const json_t *files,
	struct wl_err *err);

#endif
