/*
 * What the stages before packing say of the pairs of one partition.
 */
#ifndef WL_SHARDS_KEPT_H
#define WL_SHARDS_KEPT_H

#include "ingest/corpus.h"
#include "ops/buf.h"
#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* The stages that a kept pair has passed. */
enum wl_kept_stage { WL_KEPT_DEDUP, WL_KEPT_FILTER, WL_KEPT_STAGES };
extern const char *const wl_kept_stage_names[WL_KEPT_STAGES];

struct wl_fate {
	bool examined[WL_KEPT_STAGES]; /* the stage has seen the pair */
	bool verdict[WL_KEPT_STAGES];  /* and objects to it */
	int64_t group;		       /* split group; the pair's own id when it has none */
};

struct wl_kept; /* the open STAGE-G.db files of a partition; for one thread */

/* A stage that never ran counts as one that has examined nothing. */
struct wl_kept *wl_kept_open(struct wl_corpus *c, int partition, struct wl_err *err);
void wl_kept_close(struct wl_kept *k);
WL_MUST_CHECK int wl_kept_fate(
	struct wl_kept *k, int64_t pair_id, struct wl_fate *out, struct wl_err *err);
/* The filter's cleaned texts (JSON [[kind, text], ...], the caption first), topic (-1:
 * none) and its category ("": none; may be NULL);
 * 1 found, 0 not. */
WL_MUST_CHECK int wl_kept_texts(struct wl_kept *k, int64_t pair_id, struct wl_buf *texts,
	int64_t *topic, struct wl_buf *category, struct wl_err *err);
/* Adds the number of verdicts by stage and reason to the object {stage: {reason: n}}. */
WL_MUST_CHECK int wl_kept_count_reasons(struct wl_kept *k, json_t *out, struct wl_err *err);

#endif
