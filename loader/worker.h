/*
 * One sample from shard to rows of a batch: read, choose a caption, crop and decode, augment,
 * tokenise.  A worker belongs to one thread and keeps all its buffers between samples.  What
 * it makes is a function of (options, epoch, sample) alone.
 */
#ifndef WL_LOADER_WORKER_H
#define WL_LOADER_WORKER_H

#include "loader/augment.h"
#include "shards/shard.h"

/* Token rows of one sample. */
struct wl_texts {
	int32_t *ids;   /* [cap, L] */
	int32_t *lens;  /* [cap] */
	uint64_t *hash; /* [cap] */
	int64_t n, cap;
	bool borrowed; /* the arrays are another's, cap cannot grow */
};
void wl_texts_release(struct wl_texts *t);

/* Where one sample goes; pointers to the sample's own row. */
struct wl_row {
	float *pixels;  /* [S,S,3], or NULL with crops_only */
	uint8_t *crops; /* [S,S,3], or NULL */
	uint8_t *area;  /* [wl_planes_area(S)] and its picture with planes_only, or NULL */
	struct wl_planes *planes;
	struct wl_augment_params *params;
	float *boxes;       /* [R,4] */
	float *region_mask; /* [R] */
	int64_t *pair_id;
	struct wl_texts *texts;
};

struct wl_worker_times {
	double read_s, decode_s, augment_s, text_s;
};

struct wl_worker;
/* The options and the shard set are kept by reference. */
struct wl_worker *wl_worker_new(const struct wl_loader_opts *o, struct wl_shardset *shards,
	struct wl_err *err);
void wl_worker_free(struct wl_worker *w);

/* Fills the row.  WL_EDATA: this sample is bad (the row is then undefined); any other code
 * means that the machine failed. */
WL_MUST_CHECK int wl_worker_sample(struct wl_worker *w, int64_t epoch, int64_t sample,
	struct wl_row *row, struct wl_err *err);
/* Adds the seconds spent since the last call to *t. */
void wl_worker_times(struct wl_worker *w, struct wl_worker_times *t);

#endif
