/* wl_dedup as tests run it, on a corpus in a directory, and what it left there. */
#ifndef WL_TESTS_DEDUP_RUN_H
#define WL_TESTS_DEDUP_RUN_H

#include "clean/dedup.h"
#include "ops/comm.h"

/* wl_dedup on the corpus in dir: its result, -1 with *err. */
int dedup_run(const char *dir, const struct wl_dedup_options *o, struct wl_dedup_counts *n,
	struct wl_err *err);

struct on_ranks {
	const char *dir; /* the corpus */
	struct wl_dedup_options o;
	struct wl_dedup_counts n; /* of rank 0 */
};

/* What each simulated rank does, for wl_comm_simulate; user: struct on_ranks. */
int dedup_rank(struct wl_comm *comm, void *user, struct wl_err *e);

/* Fails the running test unless the pair has this verdict (NULL: none, it is kept), which names
 * the pair `kept` (0: whichever). */
void dedup_expect(const char *dir, int64_t id, const char *reason, int64_t kept);
/* Fails the running test unless dedup left the same in every table of both corpora. */
void dedup_same(const char *a, const char *b);

#endif
