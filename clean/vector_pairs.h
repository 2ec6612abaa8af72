/*
 * All pairs of vectors whose cosine is at least so much: what is alike by embeddings.
 *
 *   exact   every vector with every other, in tiles of fp32 products (ops/score.h): n^2 D / 2
 *           multiply-adds
 *   near    pairs that are near in one of a few random hashes (clean/sketch.h), which finds 99 %
 *           of the pairs at the bound itself, and more of those above; time goes with n, not n^2
 *
 * Either way a pair is given only if the cosine of its two rows as they are in the files, in
 * double precision, reaches the bound: so results depend neither on threads, ranks nor machine,
 * and a pair is found or not whatever others there are.  Every rank reads the files; only indices
 * are exchanged.
 */
#ifndef WL_CLEAN_VECTOR_PAIRS_H
#define WL_CLEAN_VECTOR_PAIRS_H

#include "clean/bygroup.h"
#include "clean/pairvectors.h"

#include <stdbool.h>

struct wl_vector_search {
	const char *what; /* for progress and errors: "embeddings of pictures" */
	const struct wl_pair_vectors *v;
	const uint32_t *idx; /* [n] ascending; what is given are pairs of these */
	const uint32_t *row; /* by idx: its row of v */
	size_t n;
	double cosine;
	bool exact;
	/* Pairs in which both are old are left out; NULL: none is old. */
	bool (*old)(const void *ctx, uint32_t idx);
	const void *ctx;
	const char *dir; /* for what does not fit into memory */
	/* out: */
	struct wl_values *edges; /* this rank's: smaller idx << 32 | larger; not sorted */
	uint64_t cut;		 /* near: hashes of this rank in groups over WL_NEAR_GROUP */
	uint64_t candidates;	 /* near: pairs compared on this rank */
};

/* Whether comparing all with all is affordable: 2^42 multiply-adds, some two minutes of a core.
 * A function of what is compared alone. */
bool wl_vector_search_affordable(uint64_t n, int64_t dim);

/* memory: bytes for hashes and groups.  Collective.  Fails with WL_ERETRY on all ranks where one
 * is asked to stop. */
WL_MUST_CHECK int wl_vector_search_run(struct wl_vector_search *s, struct wl_comm *comm,
	struct wl_pool *pool, size_t memory, struct wl_err *err);

/* How many pairs a near search that found edges[from, to) should have found, by the chance that
 * each of these had (Horvitz and Thompson 1952): the number of edges by this sum is the recall. */
WL_MUST_CHECK int wl_vector_search_estimate(const struct wl_vector_search *s,
	const struct wl_values *edges, size_t from, size_t to, double *sum, struct wl_err *err);

#endif
