/*
 * A loader's batches with their pictures where the backend computes.
 *
 * On a backend that makes pictures (train/backend/pictures.h) the loader only decodes, into pinned
 * memory, and the next batch's upload and augmentation run beside the step; elsewhere the loader's
 * own floats are handed on.  Batches, their order and positions are the same either way, pictures
 * to within float rounding.
 */
#ifndef WL_TRAIN_FEED_H
#define WL_TRAIN_FEED_H

#include "loader/loader.h"
#include "train/backend/backend.h"

struct wl_feed;

/* o as for the loader; jpegs counts only with pictures made on the device.  backend (borrowed, must
 * outlive the feed) may be NULL: floats.  NULL on failure. */
struct wl_feed *wl_feed_open(const struct wl_loader_opts *o, struct wl_backend *backend,
	struct wl_err *err);
void wl_feed_close(struct wl_feed *f);
/* For its size and statistics; batches and positions go through the feed. */
struct wl_loader *wl_feed_loader(struct wl_feed *f);
/* As wl_loader_next.  *pictures [n,S,S,3]: where upload of the backend may take them from (the
 * host's memory or its own); valid, like *b, until the next call. */
WL_MUST_CHECK int wl_feed_next(struct wl_feed *f, const struct wl_batch **b,
	const float **pictures, struct wl_err *err);
/* As the loader's: where the batch after the one given last starts. */
void wl_feed_tell(const struct wl_feed *f, struct wl_loader_pos *pos);
WL_MUST_CHECK int wl_feed_seek(struct wl_feed *f, const struct wl_loader_pos *pos,
	struct wl_err *err);

#endif
