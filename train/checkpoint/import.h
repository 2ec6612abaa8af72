/*
 * Weights from a file into a model: safetensors or .pth, in the names of BriVL,
 * timm, EfficientNet-PyTorch or Hugging Face (names.h tells which).  What fits
 * is copied; what does not is listed, never silently dropped.
 */
#ifndef WL_TRAIN_CHECKPOINT_IMPORT_H
#define WL_TRAIN_CHECKPOINT_IMPORT_H

#include "train/checkpoint/names.h"

/* Either kind of file, told apart by its first bytes. */
struct wl_weights;
struct wl_weights *wl_weights_open(const char *path, struct wl_err *err);
const struct wl_saved_list *wl_weights_list(const struct wl_weights *w);
void wl_weights_close(struct wl_weights *w); /* accepts NULL */

struct wl_import_names {
	char **v; /* owned */
	int n;
};

struct wl_import_report {
	enum wl_names_style style;
	int matched;                      /* tensors copied */
	int unused;                       /* in the file, and of no use to any tower by design */
	struct wl_import_names missing;   /* of the part of the model that the file is about */
	struct wl_import_names unexpected; /* in the file, and not in the model */
	struct wl_import_names resampled; /* position embeddings of another grid, interpolated */
	struct wl_import_names reshaped;  /* in both with another shape: not copied; with shapes */
};

/* Copies into the sealed store p. Position embeddings of a longer table are cut to the model's
 * length, those of another grid of patches interpolated (positions.h). only: NULL, or the beginning
 * of the names that may be set ("textencoder."). Fails with WL_ECKPT when the file is damaged,
 * holds NaN or infinity, or matches nothing; the store may then be half-filled. The report is valid
 * on success; release it. */
WL_MUST_CHECK int wl_import(struct wl_params *p, const char *path, const char *only,
	struct wl_import_report *r, struct wl_err *err);
/* Lines for people, through ops/log: a summary, and warnings for what did not fit. */
void wl_import_log(const char *path, const struct wl_import_report *r);
void wl_import_report_release(struct wl_import_report *r);

#endif
