/*
 * Training on several ranks: data parallel, with the state of the optimiser,
 * the gradients and the weights shared out over the ranks as ZeRO does
 * (Rajbhandari et al., arXiv 1910.02054; ENGINEERING-FACTS B4).
 *
 *   zero   a rank keeps for itself              whole on every rank
 *   0      -                                    weights, momentum, gradients, Adam
 *   1      Adam, momentum                       weights, gradients
 *   2      Adam, momentum, gradients            weights
 *   3      Adam, momentum, gradients, weights   -
 *
 * Stores are cut into buckets and pieces (cut.h), and every array keeps its full
 * extent in the address space: what a rank does not keep takes no memory, because
 * its pages are given back.  So nothing moves, a graph's pointers stay, and all
 * stages sum in the same order: their losses are equal to the bit.
 *
 *   backward   a bucket whose gradients are complete is reduced (averaged) by the
 *              courier while backward goes on; of a step in parts after each part,
 *              to a sum that the bucket's owner adds the next part to
 *   update     each rank updates the pieces that it owns
 *   gathering  weights (stages 1 and 2 after the update, stage 3 around their use)
 *              and momentum weights (stages 1 to 3, around their use) come back
 *              bucket by bucket, a few ahead of the operation that needs them
 *
 * On GPUs the same jobs go to the backend's wire (NCCL), which orders them against the work of the
 * step by events, and nobody waits on the host.  There what comes and goes has the memory of a few
 * slots (place.c), each at the addresses of many buckets.
 *
 * Running statistics of batch norm are in no piece: with sync_bn they are equal on
 * all ranks anyway, without it they are averaged after each step.
 */
#ifndef WL_TRAIN_DIST_DIST_H
#define WL_TRAIN_DIST_DIST_H

#include "ops/comm.h"
#include "train/dist/cut.h"
#include "train/nn/graph.h"

struct wl_dist;

struct wl_dist_config {
	int64_t zero;      /* 0 .. 3 */
	bool sync_bn;      /* batch norm over all ranks' samples */
	int64_t bucket_mb; /* size of a bucket */
	double timeout_s;  /* of exchanges between devices; 0: for ever (comm has its own) */
	/* Gradients of a step in parts are reduced after each, without which stages 2 and 3 would
	 * keep them whole (they need it).  false: once a step, which sends less and adds up in
	 * another order. */
	bool each_part;
};

/* For a world of more than one rank; comm is borrowed, and nobody else's until close.  WL_EUSAGE
 * for a stage that does not exist.  NULL on failure. */
struct wl_dist *wl_dist_open(struct wl_comm *comm, const struct wl_dist_config *config,
	struct wl_err *err);
/* On success only: it waits for exchanges under way.  Accepts NULL. */
void wl_dist_close(struct wl_dist *d);

/* For plain exchanges, in line with those of weights and gradients; NULL: NULL. */
struct wl_comm *wl_dist_comm(struct wl_dist *d);
int wl_dist_rank(const struct wl_dist *d);   /* NULL: 0 */
int wl_dist_world(const struct wl_dist *d);  /* NULL: 1 */
int wl_dist_stage(const struct wl_dist *d);  /* NULL: 0 */

/* Before the online store is sealed on this backend: how it is to be laid out, and what of it in
 * parts. */
void wl_dist_shape(struct wl_dist *d, struct wl_backend *be, struct wl_params *online);
/* Once both stores are sealed; momentum may be NULL. */
WL_MUST_CHECK int wl_dist_start(struct wl_dist *d, struct wl_params *online,
	struct wl_params *momentum, struct wl_err *err);
/* How the stores are cut. */
const struct wl_cut *wl_dist_cut(const struct wl_dist *d);
/* A compiled graph over one of the two stores: its weights come before they are needed and, with
 * grads, gradients are reduced where its backward has completed them (one graph only: the last
 * of a step).  g must outlive d or be detached. */
WL_MUST_CHECK int wl_dist_attach(struct wl_dist *d, struct wl_graph *g, struct wl_params *store,
	bool grads, struct wl_err *err);
void wl_dist_detach(struct wl_dist *d, struct wl_graph *g);
/* After the graphs that train are attached, before anything touches the stores: gives memory to
 * what lies in parts.  Graphs that are attached later must hold no more at a time than these do. */
WL_MUST_CHECK int wl_dist_place(struct wl_dist *d, struct wl_err *err);

/* --- the step --- */

/*
 * Part `part` of `parts` of a step comes next.  Where each part is reduced, the sums' order is:
 * over a part on each rank; then over the ranks, in their order, with what its owner has of the
 * parts before added to the owner's term; then the next part.  The last one's are averages.
 */
void wl_dist_part(struct wl_dist *d, int64_t part, int64_t parts);
/* The graph variant (wl_graph_variant) of this part's backward. */
int wl_dist_variant(const struct wl_dist *d);
/* Waits until all gradients are averages over the ranks: in the pieces of this rank, and
 * everywhere at stage 0. */
WL_MUST_CHECK int wl_dist_reduced(struct wl_dist *d, struct wl_err *err);
/* The weights that this rank owns have changed (update, start, load): the others get them. */
WL_MUST_CHECK int wl_dist_updated(struct wl_dist *d, struct wl_err *err);
/* Averages running statistics over the ranks, unless they are equal already. */
WL_MUST_CHECK int wl_dist_mean_stats(struct wl_dist *d, struct wl_err *err);
/* Gives back what this rank does not keep of both stores' values. */
void wl_dist_shed(struct wl_dist *d);

/* As wl_comm_all_gather and wl_comm_reduce_scatter (of floats; `in` is used up), between arrays of
 * the backend's memory, in order with the work given to it. */
WL_MUST_CHECK int wl_dist_gather(struct wl_dist *d, const void *in, size_t bytes, void *out,
	struct wl_err *err);
WL_MUST_CHECK int wl_dist_scatter(struct wl_dist *d, float *in, float *out, size_t n,
	struct wl_err *err);

/* Whether this rank has only its pieces of the store's weights, and the rest while it is used.  d
 * NULL: no. */
bool wl_dist_in_pieces(const struct wl_dist *d, const struct wl_params *store);
/* Work given to the backend from now on comes after all exchanges given so far. d NULL: nothing. */
WL_MUST_CHECK int wl_dist_catch_up(struct wl_dist *d, struct wl_err *err);
/* A store's values, whole, into out[floats] where out is not NULL: every rank calls it, and waits
 * for them bucket by bucket.  Checkpoints do without (train/taken.h). */
WL_MUST_CHECK int wl_dist_collect(struct wl_dist *d, struct wl_params *store, float *out,
	struct wl_err *err);

struct wl_dist_stats {
	double busy_s, waited_s; /* exchanging; of it, with the main thread waiting */
	double sent_bytes;       /* by this rank, of weights and gradients */
};
/* Since the ranks met. */
void wl_dist_stats(struct wl_dist *d, struct wl_dist_stats *out);

/* --- what it takes, for --dry-run --- */

struct wl_dist_plan {
	double weights, gradients, adam, momentum; /* bytes that stay with a rank */
	double coming; /* bytes of buckets that come and go: the most at one time */
	double sent;   /* bytes that a rank sends in a step, weights and gradients */
	double parts;  /* on GPUs: bytes of the above that lie in parts */
};
/* From the layout alone: floats of weights, trainable ones, bytes of Adam's state a float; parts:
 * of a step. */
void wl_dist_plan(const struct wl_dist_config *c, int world, int64_t parts, int64_t weights,
	int64_t trainable, double adam_bytes, struct wl_dist_plan *out);
/* The same to the byte for GPUs, whose parts are multiples of part_bytes, from the graphs that
 * train (as attached: online says which store, grads as there); adam_bytes: as above. */
struct wl_dist_planned {
	struct wl_graph *graph;
	bool online, grads;
};
WL_MUST_CHECK int wl_dist_plan_parts(const struct wl_dist_config *c, int world, size_t part_bytes,
	const struct wl_dist_planned *graphs, int n, struct wl_params *online,
	struct wl_params *momentum, int64_t parts, double adam_bytes, struct wl_dist_plan *out,
	struct wl_err *err);

#endif
