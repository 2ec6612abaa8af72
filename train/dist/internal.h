/* What the files of train/dist share: dist.c and exchange.c. */
#ifndef WL_TRAIN_DIST_INTERNAL_H
#define WL_TRAIN_DIST_INTERNAL_H

#include "ops/courier.h"
#include "train/dist/dist.h"
#include "train/dist/slots.h"

/* Buckets that are asked for before the operation that needs them. */
enum { WL_DIST_AHEAD = 2, WL_DIST_GRAPHS = 8 };

/* One store's values and how much of them is here. */
struct wl_share {
	struct wl_dist *d;
	struct wl_params *params;
	bool comes; /* buckets come around their use and go again */
	bool *coming; /* [n] asked for, perhaps here already */
	int *users;   /* [n] uses that have come and not gone */
	uint64_t *job; /* [n] of the last gathering */
	/* Where values lie in parts; else of is NULL. */
	struct wl_slots slots;
	int *holder; /* [slots.n] the bucket that has a slot's memory now, -1: none */
};

struct wl_attached {
	struct wl_dist *d;
	struct wl_graph *graph;
	struct wl_share *share;
	bool grads; /* buckets are reduced when they are ready here */
	double sent[WL_GRAPH_RECORDINGS]; /* bytes that a recording of the graph sends */
	struct wl_schedule_of_buckets schedule;
	int came, needed, gone, begun, ready; /* next event of each list; needed <= came */
	int to; /* of the operations that are being run: nothing is asked for beyond */
};

struct wl_dist {
	struct wl_courier *courier;
	struct wl_comm *comm; /* through the courier */
	struct wl_wire *wire; /* where stores are on devices; NULL: the courier does all */
	uint64_t last;        /* job given to the wire */
	bool given;           /* one was */
	struct wl_dist_config config;
	struct wl_backend *be; /* of the stores; borrowed */
	struct wl_cut cut;
	struct wl_share online, momentum;
	struct wl_attached at[WL_DIST_GRAPHS];
	float *piece; /* what a reduction gives; one piece of a bucket */
	bool averages; /* running statistics, after each step */
	float *stats;  /* of both stores, on the way to the other ranks */
	size_t n_stats;
	bool *trains; /* [n] the bucket holds something trainable */
	bool *reduced; /* [n] in this part */
	uint64_t *reduction; /* [n] the bucket's last */
	/* Of a step's parts, this one: adds to sums of earlier ones (again), is the last, and its
	 * gradients are reduced. */
	bool again, last_part, reduce;
	int variant;
	bool failed;
	uint64_t settled; /* jobs before it are done before what the backend is given now */
	/* Before a graph was recorded. */
	bool had_failed;
	double had_sent;
	int64_t page; /* of the cut */
	/* Where gradients lie in parts on a device: each slot's last reduction. */
	struct wl_slots grad_slots;
	uint64_t *grad_job; /* [grad_slots.n], of those that are used */
	bool *grad_used;
	struct wl_err err; /* of a sum inside an operation */
	double sent;
};

/* The hook of graphs for recordings (recorded.c). */
int wl_dist_recording(void *user, enum wl_recording what, int which, struct wl_err *err);
/* Fills in trains[], fresh memory. */
int wl_dist_mark_trained(struct wl_dist *d, struct wl_err *err);
/* Whether a graph attached after wl_dist_place can do with its slots. */
int wl_dist_fits(const struct wl_dist *d, const struct wl_attached *a, struct wl_err *err);
/* Before anything of a part is added to a bucket's gradients. */
int wl_dist_begin_gradients(struct wl_dist *d, int bucket, struct wl_err *err);

/* Waits for a job: of the wire, as below, or of the courier. */
int wl_dist_wait_for(struct wl_dist *d, uint64_t job, struct wl_err *err);
/* Work given to the backend from now on comes after this job of the wire. */
int wl_dist_wire_wait(struct wl_dist *d, uint64_t job, struct wl_err *err);
/* The ranks' devices meet, where the backend is one that meets by itself. */
int wl_dist_open_wire(struct wl_dist *d, struct wl_err *err);

/* One bucket of a store comes (and is waited for), and goes again where it does not stay. */
int wl_share_hold(struct wl_share *s, int bucket, struct wl_err *err);
void wl_share_drop(struct wl_share *s, int bucket);

#endif
