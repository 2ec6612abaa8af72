/*
 * What wenlan-load does with an open loader: show what a training run would see, or measure.
 * Both print to standard output, text or (json) one JSON object.
 */
#ifndef WL_LOADER_INSPECT_H
#define WL_LOADER_INSPECT_H

#include "loader/loader.h"

struct wl_inspect {
	const struct wl_loader_opts *o; /* as given to wl_loader_open; mean 0 and std 1 */
	bool with_ids;                  /* a real vocabulary: show token ids */
	bool json;
	int64_t samples;   /* how many to show; over how many to measure speed */
	const char *sheet; /* contact sheet to write, or NULL */
};

/* Counts of the split, then the next samples: key, caption, ids, boxes, augmentation. */
WL_MUST_CHECK int wl_inspect_show(struct wl_loader *l, const struct wl_inspect *w,
	struct wl_err *err);

/* Runs over w->samples samples (at least one batch) after one batch to warm up, then decodes
 * the same regions of the same pictures by libjpeg-turbo alone: images/s, where the time went,
 * and, by CPU time (so that a busy machine does not matter), how much of the bare decoder's
 * speed is left. */
WL_MUST_CHECK int wl_inspect_bench(struct wl_loader *l, const struct wl_inspect *w,
	struct wl_err *err);

#endif
