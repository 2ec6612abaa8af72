/*
 * The streaming loader: shards in, batches out.
 *
 * Order: which sample position p of epoch e holds is a function of (seed, epoch, position)
 * alone (loader/order.h); ranks take positions rank, rank + world, ...; so the global order is
 * the same for any number of ranks and workers, and a saved position resumes exactly, on
 * another number of ranks too.  A batch may end one epoch and begin the next: every epoch
 * shows every sample once, whatever the batch.
 * Augmentation parameters come from a counter-based generator keyed by (seed, epoch, sample).
 * A sample that cannot be read or decoded is skipped in the same way by everybody, named and
 * counted: with shuffle its row takes the sample half an epoch further on (or the next good one
 * after that), without shuffle the batch is shorter.  Over max_bad_rate (of the samples seen, or
 * of the split while fewer were seen) the loader stops with WL_EDATA.
 *
 * Worker threads read, decode, crop, resize, augment and tokenise; batches come out in order.
 * Memory: (prefetch + hold + 1) batches, allocated once.
 */
#ifndef WL_LOADER_LOADER_H
#define WL_LOADER_LOADER_H

#include "loader/planes.h"
#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct wl_loader;
struct wl_vocab;

/* Augmentation; probabilities in [0,1].  Fields as in the config mapping `augment`. */
struct wl_augment {
	double crop_scale_min, crop_scale_max; /* share of the area; 1,1: no crop */
	double crop_ratio_min, crop_ratio_max; /* 3/4, 4/3 */
	double flip;                           /* probability of a horizontal flip */
	double jitter;                         /* probability of colour jitter */
	double brightness, contrast, saturation, hue; /* strengths: 0.4 0.4 0.4 0.1 */
	double grey;                           /* probability of graying */
	double blur;                           /* probability of Gaussian blur */
	double blur_sigma_min, blur_sigma_max; /* 0.1 .. 2.0: in pixels of a picture of 224 px, so
	                                        * it is scaled by S / 224 */
};

/* none: all probabilities 0, crop 1; paper: the paper's five (MoCo-v2's strengths); public: the
 * box-mode list (FACTS 5).  WL_EUSAGE for another name. */
WL_MUST_CHECK int wl_augment_preset(const char *name, struct wl_augment *out,
	struct wl_err *err);
/* From a string (preset) or a mapping {preset, field: value, ...}. */
WL_MUST_CHECK int wl_augment_parse(const json_t *v, struct wl_augment *out, struct wl_err *err);

/* Where areas lie, such as memory that a GPU can fetch from while computing. */
struct wl_loader_memory {
	/* NULL on failure; free takes what alloc gave. */
	void *(*alloc)(void *user, size_t bytes, struct wl_err *err);
	void (*free)(void *user, void *p);
	void *user;
};

struct wl_loader_opts {
	const char *dir, *split; /* dir: may be a URL (shards/shard.h) */
	const char *cache;       /* of a URL: the folder for whole shards; NULL: the user's */
	int64_t cache_bytes;     /* of a URL: the most that it may hold; 0: 20 GB */
	int64_t batch;    /* samples a batch, per rank */
	int image_px;     /* square output side S */
	int regions;      /* rows of boxes a sample: boxes (or grid) + the whole image */
	int grid;         /* cells a side when a sample has no boxes (6: 6x6 + whole image) */
	bool use_boxes;   /* false: always the grid */
	int text_len;     /* ids a caption, padded */
	const struct wl_vocab *vocab; /* borrowed */
	float mean[3], std[3];        /* normalisation of RGB in [0,1] */
	struct wl_augment augment;
	bool shuffle;      /* false: samples in shard order, the last batch may be short */
	bool all_captions; /* evaluation: every caption of a sample (else one, drawn per epoch) */
	uint64_t seed;
	int rank, world;     /* 0, 1 */
	int threads;         /* workers; 0: one per core */
	int prefetch;        /* batches ahead; 0: 2 */
	double max_bad_rate; /* 0: 0.01 */
	const json_t *mix;   /* {source: weight} (loader/order.h); NULL: all as they are; borrowed
	                      * while opening */
	int64_t limit;       /* use only the first `limit` samples of the split; 0: all */
	bool crops_only;     /* for a GPU that does the rest: crops + params instead of pixels */
	bool planes_only;    /* for a GPU that resizes too: stored samples (loader/planes.h) */
	bool jpegs;          /* with planes_only: JPEGs as they are, where a GPU may decode them */
	struct wl_loader_memory memory; /* for the areas of planes_only; zero: malloc's */
	int hold;            /* batches given that stay valid; 0: 1, the last */
};

struct wl_batch {
	int64_t n;           /* samples */
	int64_t n_texts;     /* == n unless all_captions */
	float *pixels;       /* [n, S, S, 3] normalised, NHWC; NULL with crops_only, planes_only */
	uint8_t *crops;      /* [n, S, S, 3] cropped, resized, flipped; NULL without crops_only */
	uint8_t *areas;      /* [batch][area_bytes] with planes_only, else NULL: pixels is too */
	size_t area_bytes;
	struct wl_planes *planes; /* [n] with planes_only */
	struct wl_augment_params *params; /* [n] what was (or, with crops_only, is to be) done */
	float *boxes;        /* [n, R, 4] x1 y1 x2 y2 in pixels of the S x S picture */
	float *region_mask;  /* [n, R] 1 real, 0 padding; the whole image is the last real one */
	int32_t *ids;        /* [n_texts, L] */
	int32_t *lens;       /* [n_texts] ids before the padding */
	float *text_mask;    /* [n_texts, L] 1 for the first lens */
	int64_t *pair_ids;   /* [n] */
	int64_t *samples;    /* [n] sample numbers in the split */
	uint64_t *text_hash; /* [n_texts] hash of the caption's bytes: equal captions are equal */
	int64_t *text_image; /* [n_texts] index in this batch of the picture */
	int64_t epoch, position; /* of the first sample */
};

/* NULL on failure.  WL_EUSAGE when the split holds fewer samples than one global batch and
 * shuffle is on. */
struct wl_loader *wl_loader_open(const struct wl_loader_opts *o, struct wl_err *err);
void wl_loader_close(struct wl_loader *l);
/* Samples of the split that count (not tombstoned, within limit), over all ranks. */
int64_t wl_loader_size(const struct wl_loader *l);
/* Whole global batches that fit into an epoch (shuffle), or batches in all. */
int64_t wl_loader_batches(const struct wl_loader *l);
/* 1: *b is valid until the next call (or the hold-th from now); 0: the end (never with shuffle:
 * epochs follow each other); -1.  The batch belongs to the loader. */
WL_MUST_CHECK int wl_loader_next(struct wl_loader *l, const struct wl_batch **b,
	struct wl_err *err);

/* Whether wl_loader_next would give its batch, or the end, without waiting for it. */
bool wl_loader_ready(struct wl_loader *l);

/* The split's samples, for keys and members of what a batch holds (shards/shard.h). */
struct wl_shardset;
struct wl_shardset *wl_loader_shards(const struct wl_loader *l);

/* Where the next batch starts, and going back there: exact, mid-epoch, for any number of
 * threads. */
struct wl_loader_pos {
	int64_t epoch;
	int64_t position; /* sample positions consumed in this epoch, over all ranks */
	int64_t skipped;  /* bad samples so far */
};
void wl_loader_tell(const struct wl_loader *l, struct wl_loader_pos *pos);
WL_MUST_CHECK int wl_loader_seek(struct wl_loader *l, const struct wl_loader_pos *pos,
	struct wl_err *err);

struct wl_loader_stats {
	int64_t samples, bad;
	double read_s, decode_s, augment_s, text_s; /* summed over workers */
	double wait_s;                              /* the consumer's wait in wl_loader_next */
};
/* Since the loader was opened; may be called at any time by the consumer. */
void wl_loader_stats(const struct wl_loader *l, struct wl_loader_stats *out);

#endif
