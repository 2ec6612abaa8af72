/* What each rank of a simulated dedup does. */
#ifndef WL_TESTS_DEDUP_RANK_H
#define WL_TESTS_DEDUP_RANK_H

#include "clean/dedup.h"
#include "ops/comm.h"

struct on_ranks {
	const char *dir; /* the corpus */
	struct wl_dedup_options o;
	struct wl_dedup_counts n; /* of rank 0 */
};

/* For wl_comm_simulate; user: struct on_ranks. */
int dedup_rank(struct wl_comm *comm, void *user, struct wl_err *e);

#endif
