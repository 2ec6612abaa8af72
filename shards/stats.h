/*
 * What is in a shard set: counts and sizes by split, source and topic, of every sample; pictures,
 * captions and languages, of a random sample; and a page that shows it.
 */
#ifndef WL_SHARDS_STATS_H
#define WL_SHARDS_STATS_H

#include "ops/err.h"

#include <jansson.h>

/* {"fingerprint", "tombstones", "splits": {NAME: {"shards", "samples", "bytes", "rejected",
 * "mean_jpg_bytes", "max_jpg_bytes", "mean_megapixels", "shorter_side": {RANGE: n},
 * "jpg_bytes": {RANGE: n}}}, "sources", "topics", "meta"}; NULL on failure. */
json_t *wl_shards_stats(const char *dir, struct wl_err *err);

/* The same as a self-contained page, with languages, lengths of captions and pictures to look at
 * from the first samples of each split (which are a random sample: plan.h).  stats: from above. */
WL_MUST_CHECK int wl_shards_stats_page(
	const char *dir, const json_t *stats, const char *path, struct wl_err *err);

#endif
