/*
 * The towers in inference mode (running statistics, no dropout): pictures and
 * texts to unit vectors, in chunks of one batch size; and the embeddings of a
 * whole split.  Validation and wenlan-embed use it.
 */
#ifndef WL_TRAIN_ENCODE_H
#define WL_TRAIN_ENCODE_H

#include "train/dist/dist.h"
#include "train/feed.h"
#include "train/moco/moco.h"

struct wl_encoder {
	struct wl_towers towers;
	struct wl_backend *backend; /* borrowed */
	struct wl_graph *image, *text;
	wl_tid image_out, text_out;
	int64_t batch, dim;
};

/* Over a sealed store that holds the towers' parameters, as they are at each call (training
 * may go on between calls).  params must outlive e. */
WL_MUST_CHECK int wl_encoder_init(struct wl_encoder *e, const struct wl_towers *towers,
	struct wl_params *params, int64_t batch, enum wl_dtype compute, struct wl_err *err);
/* The same over a store not sealed yet: declares, then after seal wl_encoder_start. */
WL_MUST_CHECK int wl_encoder_declare(struct wl_encoder *e, const struct wl_towers *towers,
	struct wl_params *params, int64_t batch, enum wl_dtype compute, struct wl_err *err);
WL_MUST_CHECK int wl_encoder_start(struct wl_encoder *e, struct wl_backend *be,
	struct wl_err *err);
void wl_encoder_release(struct wl_encoder *e);

/* n pictures (any n): images [n,S,S,3] (in the host's memory or the backend's), boxes [n,R,4],
 * mask [n,R] -> out [n,D]. */
WL_MUST_CHECK int wl_encoder_images(struct wl_encoder *e, const float *images,
	const float *boxes, const float *mask, int64_t n, float *out, struct wl_err *err);
/* n texts: ids [n,L], mask [n,L] -> out [n,D]. */
WL_MUST_CHECK int wl_encoder_texts(struct wl_encoder *e, const int32_t *ids, const float *mask,
	int64_t n, float *out, struct wl_err *err);

/* The embeddings of many samples; all owned. */
struct wl_embeddings {
	int64_t dim, n_images, n_texts;
	float *images, *texts;         /* [n_images,D], [n_texts,D] */
	int64_t *image_ids;            /* [n_images] pair ids */
	int64_t *text_ids;             /* [n_texts] pair id of the picture each belongs to */
	int64_t *text_image;           /* [n_texts] row of images each belongs to */
	int64_t image_cap, text_cap;
};
/* Room for that many more rows. */
WL_MUST_CHECK int wl_embeddings_reserve(struct wl_embeddings *v, int64_t images, int64_t texts,
	struct wl_err *err);
void wl_embeddings_release(struct wl_embeddings *v);

/* Everything that the feed still gives (shuffle off), appended to *out.  With stoppable, a stop
 * asked for by signal ends it early: 1; else 0. */
WL_MUST_CHECK int wl_encode_split(struct wl_encoder *e, struct wl_feed *f, bool stoppable,
	struct wl_embeddings *out, struct wl_err *err);

/* The same on several ranks, each of which has its share of the split in its feed: every rank
 * runs the graphs equally often, since weights may have to come from the others. */
WL_MUST_CHECK int wl_encode_share(struct wl_encoder *e, struct wl_feed *f, struct wl_dist *dist,
	struct wl_embeddings *out, struct wl_err *err);
/* What all ranks have, by rank, in place of this one's. */
WL_MUST_CHECK int wl_embeddings_join(struct wl_embeddings *v, struct wl_comm *comm,
	struct wl_err *err);

#endif
