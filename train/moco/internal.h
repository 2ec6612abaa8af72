/* What moco.c and clip.c share. */
#ifndef WL_TRAIN_MOCO_INTERNAL_H
#define WL_TRAIN_MOCO_INTERNAL_H

#include "train/moco/moco.h"

/* The log scale of the temperature as a parameter of g's store. */
wl_tid wl_moco_scale_param(struct wl_graph *g, const struct wl_moco_config *c);
/* Part p of the batch into the query graph's inputs. */
void wl_moco_fill(struct wl_moco *m, const struct wl_moco_batch *b, int64_t p);
/* The batch's identities [batch,2], none of them 0. */
void wl_moco_fill_ids(const struct wl_moco *m, const struct wl_moco_batch *b, int64_t *ids);
/* Adds the losses and accuracies that lie in g, weighted. */
void wl_moco_add_result(const struct wl_moco *m, struct wl_graph *g, double weight,
	struct wl_moco_result *r);

/* CLIP's parts of init (after the query graph's towers), start (after its compile) and step. */
WL_MUST_CHECK int wl_clip_init(struct wl_moco *m, struct wl_err *err);
WL_MUST_CHECK int wl_clip_start(struct wl_moco *m, struct wl_err *err);
WL_MUST_CHECK int wl_clip_step(struct wl_moco *m, const struct wl_moco_batch *b, uint64_t seed,
	uint64_t step, struct wl_moco_result *out, struct wl_err *err);

#endif
