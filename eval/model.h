/*
 * A trained model out of a checkpoint, ready to embed: towers, vocabulary and
 * the preparation of pictures and texts, all from the checkpoint's directory.
 */
#ifndef WL_EVAL_MODEL_H
#define WL_EVAL_MODEL_H

#include "clean/wordpiece.h"
#include "train/encode.h"
#include "train/model/config.h"

struct wl_decoder;
struct wl_resizer;
struct wl_pixels;

struct wl_eval_model {
	char *dir;                  /* of the checkpoint; owned */
	struct wl_model_config config;
	bool use_boxes;             /* training took the samples' boxes */
	struct wl_vocab *vocab;
	struct wl_backend *backend;
	struct wl_params params;
	struct wl_encoder encoder;
	struct wl_decoder *decoder; /* of wl_eval_model_image: one picture at a time */
	struct wl_resizer *resizer;
	struct wl_pixels *pixels;
};

/* path: a checkpoint, or a run's directory (its newest complete one).  batch: rows that the
 * encoder computes at once.  device, threads: as of wl_backend_open.  Every file is verified;
 * WL_ECKPT when one is damaged or does not fit. */
WL_MUST_CHECK int wl_eval_model_open(struct wl_eval_model *m, const char *path, int64_t batch,
	const char *device, int threads, enum wl_dtype compute, struct wl_err *err);
void wl_eval_model_close(struct wl_eval_model *m);

/* A picture's bytes (JPEG, PNG, WebP) as the encoder's row: pixels [S,S,3], the grid's boxes
 * [R,4] and mask [R].  WL_EDATA when it cannot be decoded.  One thread at a time. */
WL_MUST_CHECK int wl_eval_model_image(struct wl_eval_model *m, const void *bytes, size_t n,
	float *pixels, float *boxes, float *mask, struct wl_err *err);
/* A text as the encoder's row: ids [L], mask [L]. */
void wl_eval_model_text(const struct wl_eval_model *m, const char *text, size_t len,
	int32_t *ids, float *mask);

/* Loader options for a split of shards as this model reads it: all captions, no shuffle, no
 * augmentation; dir, split, batch and threads are the caller's. */
WL_MUST_CHECK int wl_eval_model_loader_opts(const struct wl_eval_model *m,
	struct wl_loader_opts *o, struct wl_err *err);

#endif
