/*
 * What a training run is made of: the ranks, the backend, the data and the model, opened in that
 * order before its first step (training.c) and used by the loop (loop.c).
 */
#ifndef WL_TRAIN_TRAINING_H
#define WL_TRAIN_TRAINING_H

#include "ops/err.h"
#include "train/feed.h"
#include "train/loop.h"
#include "train/saver.h"
#include "train/teller.h"
#include "train/trainer.h"
#include "train/validate.h"

struct wl_training {
	const struct wl_train_job *job;
	const struct wl_train_config *config;
	struct wl_comm *comm; /* alone: a world of one */
	struct wl_dist *dist; /* NULL: alone */
	struct wl_backend *backend;
	struct wl_trainer trainer;
	struct wl_saver *saver;
	struct wl_encoder encoder;
	struct wl_feed *train, *val; /* val NULL: no validation */
	struct wl_teller teller;
	char *metrics_path, fingerprint[65]; /* of the shards */
	int lock;
	int64_t total_steps, epoch_steps, val_every;
	struct wl_spent spent[WL_TRAINER_LATE + 1]; /* of step s at s % (WL_TRAINER_LATE + 1) */
};

/* The ranks meet, and the backend, the splits and the model are there; job, config and lock (-1)
 * are set before.  Whatever the result, wl_training_close gives back what was opened. */
WL_MUST_CHECK int wl_training_open(struct wl_training *r, struct wl_err *err);
/* Not by one of several ranks that fails: threads may still be at work in what would be freed. */
void wl_training_close(struct wl_training *r);
/* The rank that writes what all share: metrics, reports, the checkpoint's description. */
bool wl_training_first(const struct wl_training *r);

#endif
