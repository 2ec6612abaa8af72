/*
 * Everything that wenlan-train can be told: one struct, one table of options
 * (each is a flag and a YAML key), one check.
 */
#ifndef WL_TRAIN_CONFIG_H
#define WL_TRAIN_CONFIG_H

#include "ops/opt.h"
#include "train/moco/moco.h"
#include "train/optim/guard.h"
#include "train/optim/optim.h"
#include "train/optim/schedule.h"

enum { WL_TRAINER_RANKS = 1024 }; /* at most */

struct wl_train_config {
	const char *shards, *cache, *run, *device, *precision;
	struct wl_strs init; /* files of weights: FILE or PREFIX=FILE */
	bool dry_run;
	int64_t threads, seed;
	json_t *model;       /* see train/model/config.h */

	const char *vocab, *train_split, *val_split;
	int64_t cache_size, batch, loader_threads, prefetch, limit;
	double max_bad_rate;
	json_t *augment, *mix;
	bool use_boxes, gpu_augment, nvjpeg;

	struct wl_moco_config moco;
	const char *objective, *positive, *queue_type;

	struct wl_optim_config optim;
	const char *optim_state;
	json_t *groups;
	struct wl_schedule schedule;
	double spike_z, loss_scale;
	int64_t loss_scale_interval;
	int64_t max_bad_steps;

	struct wl_dist_config dist;
	const char *rendezvous; /* of ranks without MPI; NULL: by the environment */
	double dist_timeout; /* seconds */
	int64_t plan_ranks;  /* of --dry-run */

	int64_t epochs, max_steps;
	bool ckpt_wait;
	int64_t ckpt_every, ckpt_keep, ckpt_keep_every, val_every, val_limit, log_every;
	double peak_gflops;
};

enum { WL_TRAIN_OPTIONS = 80 };

/* Of the queues, once it is checked. auto: where products take bf16 on a GPU, the loss rounds keys
 * to it anyway; a processor, and fp16, keep f32. */
enum wl_dtype wl_train_queue_type(const struct wl_train_config *c, bool gpu);
/* Sets the defaults and fills table[WL_TRAIN_OPTIONS] with options that write into c. */
void wl_train_config_init(struct wl_train_config *c, struct wl_opt *table);

/* What can be checked before anything is opened; settles the fields that follow from others. */
WL_MUST_CHECK int wl_train_config_check(struct wl_train_config *c, struct wl_err *err);

#endif
