/* What moco.c and clip.c share. */
#ifndef WL_TRAIN_MOCO_INTERNAL_H
#define WL_TRAIN_MOCO_INTERNAL_H

#include "train/moco/moco.h"

/* The log scale of the temperature as a parameter of g's store. */
wl_tid wl_moco_scale_param(struct wl_graph *g, const struct wl_moco_config *c);
/* Backward of g starts at `loss` [1] with this weight, the same for every loss of g; where
 * config.scaled, with the loss scale that wl_moco_fill_seed puts before each run. */
void wl_moco_seed_loss(struct wl_moco *m, struct wl_graph *g, wl_tid loss, float weight);
void wl_moco_fill_seed(struct wl_moco *m, struct wl_graph *g);
/* The next backward of the query graph is part p's. */
void wl_moco_part(struct wl_moco *m, int64_t p);
/* Part p of the batch into the query graph's inputs. */
void wl_moco_fill(struct wl_moco *m, const struct wl_moco_batch *b, int64_t p);
/* The batch's identities [batch,2], none of them 0, into ids of the backend's memory. */
void wl_moco_fill_ids(struct wl_moco *m, const struct wl_moco_batch *b, int64_t *ids);
/* Puts the losses and accuracies that lie in g aside, as those of part p. */
void wl_moco_score(const struct wl_moco *m, struct wl_graph *g, int64_t p);
/* The mean of the first `parts` of them, and the loss; with a judge, nothing. */
WL_MUST_CHECK int wl_moco_read_scores(const struct wl_moco *m, int64_t parts,
	struct wl_moco_result *r, struct wl_err *err);
/* `bytes` from each rank, by rank, into `to`, both backend memory that does not overlap. */
WL_MUST_CHECK int wl_moco_gather(const struct wl_moco *m, const void *from, size_t bytes, void *to,
	struct wl_err *err);
/* Allocates n arrays of these bytes into *at; those of 0 bytes are left NULL. */
struct wl_moco_room {
	void **at;
	size_t bytes;
};
WL_MUST_CHECK int wl_moco_alloc(const struct wl_moco *m, const struct wl_moco_room *v, size_t n,
	struct wl_err *err);

/* FACTS, Decisions: CLIP's clamp of the scale to 100 */
#define WL_TAU_MIN 0.01

/* after.c: */
/* Running statistics to m->stats, before a step; and back, whatever is judged. */
void wl_moco_keep_stats(struct wl_moco *m);
void wl_moco_back_stats(struct wl_moco *m);
/* Reads, and with `set` first writes, the one float of the log scale. */
float wl_moco_scale_value(const struct wl_moco *m, const float *set);
/* The keys of all ranks are in-batch negatives of each. */
bool wl_moco_all_negatives(const struct wl_moco *m);
/* Keys and identities of all ranks. */
WL_MUST_CHECK int wl_moco_gather_keys(struct wl_moco *m, struct wl_err *err);

/* CLIP's parts of init (after the query graph's towers), start (after its compile) and step. */
WL_MUST_CHECK int wl_clip_init(struct wl_moco *m, struct wl_err *err);
WL_MUST_CHECK int wl_clip_start(struct wl_moco *m, struct wl_err *err);
WL_MUST_CHECK int wl_clip_step(struct wl_moco *m, const struct wl_moco_batch *b, uint64_t seed,
	uint64_t step, struct wl_moco_result *out, struct wl_err *err);

#endif
