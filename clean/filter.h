/*
 * The filter stage: the rules (clean/rules.h) over every pair of a corpus.  Writes the cleaned
 * texts of each pair and a verdict for each rule that it fails.  The result is a function of
 * the corpus and the rules alone; a pair that was judged under the same rules is not looked at
 * again.
 */
#ifndef WL_CLEAN_FILTER_H
#define WL_CLEAN_FILTER_H

#include "clean/rules.h"
#include "ingest/corpus.h"
#include "ops/comm.h"
#include "ops/err.h"

#include <stdio.h>

struct wl_filter_counts {
	int64_t pairs, kept;
	json_t *reasons; /* {reason: pairs}; a pair with two counts in both; owned */
};
/* Frees the reasons; a zeroed one has none. */
void wl_filter_counts_release(struct wl_filter_counts *n);

/* 1: nothing to do, the published generation is of the same corpus and rules; 0: done and
 * published, or stopped on request with the work so far kept (wl_stop_requested says which).
 * threads 0: one per core. */
WL_MUST_CHECK int wl_filter(struct wl_corpus *c, const struct wl_rules *r, int threads,
	struct wl_filter_counts *counts, struct wl_err *err);

/* The same on every rank of comm, each with its partitions, of whatever number of ranks the result
 * does not depend.  Collective; counts are rank 0's (the others get zeros). */
WL_MUST_CHECK int wl_filter_on(struct wl_comm *comm, struct wl_corpus *c, const struct wl_rules *r,
	int threads, struct wl_filter_counts *counts, struct wl_err *err);

/* Judges one pair ("PPPPP-ID" or the id alone) again and prints what each stage says of it. */
WL_MUST_CHECK int wl_filter_explain(struct wl_corpus *c, const struct wl_rules *r, const char *name,
	FILE *to, struct wl_err *err);

/* Prints up to `max` pairs with that reason of the filter's or of dedup's ("kept": without any),
 * picked by a hash of seed and id.  WL_EUSAGE, naming what there is, for a reason that no pair
 * has; WL_EFAIL when the filter has not run. */
WL_MUST_CHECK int wl_filter_sample(struct wl_corpus *c, const char *reason, size_t max,
	uint64_t seed, FILE *to, struct wl_err *err);

/* A page with the counts of both stages per reason, and a few pairs of each as pictures. */
WL_MUST_CHECK int wl_filter_report(struct wl_corpus *c, const char *path, struct wl_err *err);

#endif
