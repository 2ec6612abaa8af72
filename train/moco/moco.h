/*
 * The contrastive objectives: cross-modal MoCo, and plain CLIP as the baseline
 * that the paper compares with.
 *
 * Cross-modal MoCo (FACTS section 4): two towers, their momentum copies, two
 * queues, InfoNCE from image to text and from text to image, summed.
 *
 * Two graphs make a step.  The key graph runs the momentum towers forward, with
 * batch statistics, over the batch; its outputs are the positives and, later,
 * the queue's new rows.  The query graph runs the online towers on the same
 * inputs, both losses, and backward.
 *
 *   k = m k + (1 - m) q            momentum update, before the keys are computed
 *   keys = momentum(images, texts)
 *   loss = InfoNCE(image, text keys, text queue) + InfoNCE(text, image keys, image queue)
 *   (the caller judges the loss and the gradients and updates)
 *   wl_moco_push: the keys enter the queues
 *
 * CLIP (Radford et al., arXiv 2103.00020, figure 3): one batch, each text against all pictures
 * and each picture against all texts, the mean of the two losses.  No momentum towers and no
 * queues exist then.  Over several ranks a rank's queries meet the keys of all ranks, and the
 * keys' gradients go back to where they came from (open_clip's local loss with gathered
 * gradients).
 *
 * MoCo over several ranks: every rank pushes the keys of all, and with in_batch meets those of all
 * as negatives, so that W ranks are one rank with W times the batch (not with parts, extra
 * positives or online keys: then in-batch negatives are a rank's own).
 *
 * A step's pairs may be taken in several parts (accumulate), each as large as the graphs.  MoCo's
 * parts are independent: with in_batch a part's negatives are its own.  CLIP's are not: all
 * embeddings are found first, then each part is run again with the gradient of the whole
 * batch's loss (Gao et al., arXiv 2101.06983), so parts cost a second forward pass and change
 * nothing but batch norm's statistics, which are each part's.
 *
 * Any model fits that can build its two embeddings on a graph (struct wl_towers).
 */
#ifndef WL_TRAIN_MOCO_MOCO_H
#define WL_TRAIN_MOCO_MOCO_H

#include "ops/comm.h"
#include "train/backend/judge.h"
#include "train/dist/dist.h"
#include "train/moco/queue.h"
#include "train/nn/graph.h"

/* A model as MoCo and validation see it. */
struct wl_towers {
	const void *model; /* passed on; must outlive the graphs' building */
	/* images f32 [B,S,S,3], boxes f32 [B,R,4], mask f32 [B,R] -> unit rows [B,D] */
	wl_tid (*image)(struct wl_graph *g, const void *model, wl_tid images, wl_tid boxes,
		wl_tid mask);
	/* ids i32 [B,L], mask f32 [B,L] -> unit rows [B,D] */
	wl_tid (*text)(struct wl_graph *g, const void *model, wl_tid ids, wl_tid mask);
	/* Initial values of every parameter that the two declare, from the seed. */
	int (*init)(struct wl_params *params, const void *model, uint64_t seed,
		struct wl_err *err);
	/* Clears the TRAINABLE flag of what the model's settings freeze; NULL: nothing is. */
	int (*freeze)(struct wl_params *params, const void *model, struct wl_err *err);
	int64_t image_px, regions, text_len; /* S, R, L */
};

enum wl_objective { WL_OBJECTIVE_MOCO, WL_OBJECTIVE_CLIP };

struct wl_moco_config {
	enum wl_objective objective;
	int64_t accumulate;    /* parts that a step's batch is taken in; 0 is 1 */
	int64_t queue;         /* K as asked; wl_queue_clamp'ed by the caller */
	enum wl_dtype queue_dtype; /* how keys lie in the queues: WL_F32 or WL_BF16 */
	double momentum;       /* m: 0.99 in the paper */
	double tau;            /* temperature at the start: 0.05 in the paper */
	bool learn_tau;        /* it is a parameter, as a log scale, kept at tau >= 0.01 */
	bool in_batch;         /* the other keys of the batch are negatives as well */
	bool online_positive;  /* positive = the other modality's online embedding, as the paper's
	                        * equations (3) and (4) write it; false: its momentum key, as the
	                        * published code and MoCo do */
	int64_t extra_positives; /* T: queue rows among the T nearest of both keys of a sample are
	                        * its positives too (the published code's "multi-label"); 0: none */
	enum wl_dtype compute_dtype;
	bool scaled;           /* gradients are of loss_scale times the loss */
	bool recompute;        /* see wl_graph_options */
	bool record;           /* see wl_graph_record */
	/* The ranks that share a step, borrowed, NULL: alone.  With dist (whose comm it then is)
	 * the stores are shared out; the caller starts it after wl_moco_start. */
	struct wl_comm *comm;
	struct wl_dist *dist;
};

/* The name of the log scale in stores and checkpoints (CLIP's, holding log(1 / tau)). */
#define WL_MOCO_SCALE "logit_scale"

/* One batch in host memory (images: or in the backend's), the loader's layout. */
struct wl_moco_batch {
	const float *images, *boxes, *region_mask; /* [B,S,S,3], [B,R,4], [B,R] */
	const int32_t *ids;                        /* [B,L] */
	const float *text_mask;                    /* [B,L] */
	const int64_t *pair_ids;                   /* [B] */
	const uint64_t *text_hash;                 /* [B]: equal for equal captions */
};

struct wl_moco {
	struct wl_moco_config config;
	struct wl_params *online;    /* borrowed */
	struct wl_params momentum;   /* the same layout, own running statistics; CLIP: not sealed */
	struct wl_queue image_queue, text_queue; /* CLIP: empty */
	struct wl_graph *key, *query; /* CLIP: no key graph, and query ends at the embeddings */
	struct wl_graph *loss;       /* CLIP: both losses over the embeddings of all ranks */
	bool followed;               /* the momentum weights are those of the next step already */
	int64_t batch, part;         /* pairs of a step on this rank, and of a graph */
	int64_t dim;                 /* D */
	int64_t *host_ids;           /* [batch,2] of this rank's batch, owned */
	/* The rest, is backend memory, owned. */
	int64_t *row_ids;            /* [batch,2]; CLIP: [ranks * batch,2], all ranks' */
	int64_t *part_ids;           /* MoCo in parts: those of the present one, [part,2] */
	/* MoCo: the keys of the last step.  CLIP: the embeddings of all ranks, [ranks * batch, D],
	 * this rank's at rank * batch, then their gradients. */
	float *image_keys, *text_keys; /* [batch,D] */
	float *image_grad, *text_grad;
	float *part_grad;            /* CLIP in parts: both of the present one, [2,part,D] */
	/* MoCo on several ranks: keys of all, [ranks * batch, D], and identities,
	 * [ranks * batch, 2], by rank; mixed: one array of them in the order of the whole batch. */
	float *peer_image, *peer_text, *mixed;
	int64_t *peer_ids, *mixed_ids;
	double loss_scale;           /* of the next step, where config.scaled; set by the caller */
	float loss_weight;           /* of each of the two losses */
	float *stats;                /* running statistics of both stores before the step */
	float *scores;               /* [accumulate,4] losses and accuracies of the step */
	/* tensors of the query graph (losses with CLIP: of the loss graph), then of the key
	 * graph */
	wl_tid images, boxes, region_mask, ids, text_mask, image, text;
	wl_tid loss_of[2], accuracy[2]; /* image to text, text to image */
	wl_tid image_key, text_key;
	wl_tid loss_seed;               /* with scaled: [1], what backward starts from */
	/* Of a backend that judges steps itself, borrowed, set by the caller after wl_moco_start;
	 * NULL: the caller judges.  With it nothing here waits for the device: results stay in
	 * `scores`, the loss scale is the judge's, and what depends on the verdict is the backend's
	 * to leave out. */
	struct wl_judge *judge;
};

struct wl_moco_result {
	double loss, loss_i2t, loss_t2i; /* loss: MoCo's sum, CLIP's mean of the two */
	double acc_i2t, acc_t2i; /* share of queries whose positive beat every negative */
};

/* Declares the model's parameters and the log scale in `online` (not sealed yet) by building
 * both graphs.  Follow with wl_moco_start. */
WL_MUST_CHECK int wl_moco_init(struct wl_moco *m, const struct wl_towers *towers,
	const struct wl_moco_config *config, struct wl_params *online, int64_t batch,
	uint64_t seed, struct wl_err *err);
/* After online was sealed with gradients and the TRAINABLE flags were settled: makes the momentum
 * store and compiles.  Then set the online values, and wl_moco_copy. */
WL_MUST_CHECK int wl_moco_start(struct wl_moco *m, struct wl_err *err);
/* The momentum towers become equal to the online ones, and the log scale takes config.tau:
 * the start of training (not of a resumed one). */
void wl_moco_copy(struct wl_moco *m);
void wl_moco_release(struct wl_moco *m);

/* True when there are momentum towers and queues. */
bool wl_moco_has_keys(const struct wl_moco *m);

/* Momentum update (unless m->followed: the optimiser did it in its pass), keys, losses, gradients
 * (the store's are zeroed first).  Nothing is updated but the momentum parameters and running
 * statistics.  With a judge, out is zero. */
WL_MUST_CHECK int wl_moco_step(struct wl_moco *m, const struct wl_moco_batch *b, uint64_t seed,
	uint64_t step, struct wl_moco_result *out, struct wl_err *err);
/* Running statistics become what they were before the last step, whose activations were not
 * finite: a NaN there would stay for ever.  With a judge: where it undoes the step. */
void wl_moco_undo_stats(struct wl_moco *m);
/* Puts the keys of the last step into the queues, those of all ranks in the order of one rank
 * that holds the whole batch, so that queues are equal everywhere; nothing with CLIP. */
WL_MUST_CHECK int wl_moco_push(struct wl_moco *m, struct wl_err *err);

/* The temperature that the next step uses. */
double wl_moco_tau(const struct wl_moco *m);
/* Keeps tau >= 0.01: after each update.  With a judge, it takes the log scale down as well: only
 * where that is owned. */
void wl_moco_clamp_tau(struct wl_moco *m);
/* Where the store has the log scale. */
int64_t wl_moco_scale_at(const struct wl_moco *m);
/* Of the loss by both directions' sum: 1, with CLIP 0.5. */
double wl_moco_loss_weight(const struct wl_moco *m);

#endif
