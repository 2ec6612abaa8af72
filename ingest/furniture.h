/*
 * Pictures that stand on many pages of a site: furniture that nothing on a single page tells.
 *
 * A picture that stands on more than max_pages pages of one host (the profile's number, kept in
 * each pair's meta) is left out with all its pairs that still wait for it, so it is not fetched
 * either.  The rule looks at the whole corpus once everything is read and before anything is
 * fetched; pages only ever add to the counts, so the outcome depends neither on their order, nor on
 * lanes, nor on kills.  What came with its picture, or was fetched in an earlier run, stays a pair:
 * wenlan-dedup --banner-texts tells those.
 *
 * A pair that was left out keeps its row in `pending` (failed = 2): it is known, and counted.
 */
#ifndef WL_INGEST_FURNITURE_H
#define WL_INGEST_FURNITURE_H

#include "ingest/corpus.h"

#define WL_FURNITURE_REASON "picture left out, on many pages"

/* Applies the rule to what waits; *left_out: pairs that it took away now.  Lanes that another
 * process writes are left to it.  Takes some 30 bytes a row of
 * temporary files. */
WL_MUST_CHECK int wl_furniture_pass(
	struct wl_corpus *c, int64_t *left_out, struct wl_err *err);

#endif
