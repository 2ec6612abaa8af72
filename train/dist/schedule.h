/*
 * When a graph needs which buckets, read off its list of operations once: the
 * part of train/dist that is neither exchange nor arithmetic.
 */
#ifndef WL_TRAIN_DIST_SCHEDULE_H
#define WL_TRAIN_DIST_SCHEDULE_H

#include "train/dist/cut.h"
#include "train/nn/graph.h"

struct wl_event {
	int op, bucket;
};

/* Each list is ascending by operation, then bucket.  Forward and backward are apart: a bucket may
 * come and go in both. */
struct wl_schedule_of_buckets {
	struct wl_event *come, *go; /* before op; after op. owned */
	int n_come, n_go;
	/* Gradients of the bucket are first added to by op; and complete after it. owned */
	struct wl_event *begin, *ready;
	int n_begin, n_ready;
};

/* once: buckets come before their first use in the graph and never go. */
WL_MUST_CHECK int wl_schedule_make(struct wl_schedule_of_buckets *s, const struct wl_graph *g,
	const struct wl_params *store, const struct wl_cut *cut, bool once, struct wl_err *err);
void wl_schedule_release(struct wl_schedule_of_buckets *s);

#endif
