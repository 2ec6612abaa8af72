/*
 * The dedup stage: which pairs say what another one says already.
 *
 *   signatures   of every pair, kept per partition as they are computed (an interrupted run
 *                goes on; a later generation takes over what the last one knew)
 *   image sets   pictures with equal pixels, or whose perceptual hashes are within the radius
 *                and which look alike (clean/phash.h); transitive
 *   policy       what is a duplicate: image (same image set), text (same captions' key), or
 *                pair (both).  The best of each set is kept: most pixels, then longest caption,
 *                then fetched first, then smallest id.  The others get `duplicate-image`,
 *                `duplicate-text` or `duplicate-pair`, with the kept pair's name as detail.
 *   evaluation   pairs whose input says val or test are never dropped; whoever is in their
 *                image set is (`near-test`, `near-val`, before any duplicate-...), whatever the
 *                policy.
 *   split groups pairs in one image set or with the same text, transitively: a split must not
 *                cut through them.
 *
 * A picture that cannot be decoded gets `bad-image`; its text still counts for split groups.
 * The result is a function of the corpus and the options alone.
 */
#ifndef WL_CLEAN_DEDUP_H
#define WL_CLEAN_DEDUP_H

#include "clean/phash.h"
#include "ingest/corpus.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

enum wl_dedup_policy { WL_DEDUP_IMAGE, WL_DEDUP_TEXT, WL_DEDUP_PAIR };
/* "image", "text" or "pair"; WL_EUSAGE otherwise. */
WL_MUST_CHECK int wl_dedup_policy_parse(
	const char *s, enum wl_dedup_policy *out, struct wl_err *err);

struct wl_dedup_options {
	enum wl_dedup_policy policy;
	int image_radius; /* bits of 64, 0..WL_NEAR_RADIUS_MAX; -1: exact pixels only */
	int threads;	  /* 0: one per core */
};

struct wl_dedup_counts {
	int64_t pairs, bad_images, duplicates, near_eval, kept;
	int64_t image_sets;	     /* with two members or more */
	int64_t candidates, refused; /* near by hash, and those that do not look alike */
	int64_t cut;		     /* pictures with more near hashes than are looked at */
};

/* Runs the stage.  1: nothing to do, the published generation is of the same corpus and
 * options (counts as then); 0: done and published, or stopped on request with the work so far
 * kept (wl_stop_requested says which). */
WL_MUST_CHECK int wl_dedup(struct wl_corpus *c, const struct wl_dedup_options *o,
	struct wl_dedup_counts *counts, struct wl_err *err);

/* What dedup has seen of the pictures of a partition, so that the filter need not decode them
 * again: the same as decoding them gives.  For one thread. */
struct wl_known_looks;
/* One that knows nothing where dedup has not run.  NULL on failure. */
struct wl_known_looks *wl_known_looks_open(struct wl_corpus *c, int partition, struct wl_err *err);
void wl_known_looks_close(struct wl_known_looks *k);
/* 1: *look is filled, or *broken says why the picture cannot be decoded (to be freed); 0: not
 * known. */
WL_MUST_CHECK int wl_known_look(struct wl_known_looks *k, int64_t pair_id, struct wl_look *look,
	char **broken, struct wl_err *err);

/* As JSON, a new reference; NULL when out of memory. */
json_t *wl_dedup_counts_json(const struct wl_dedup_counts *c);

#endif
