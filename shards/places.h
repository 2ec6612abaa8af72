/*
 * Where the samples of one shard lie: from NAME.tar.idx, 8 bytes a sample (index.h), or from
 * NAME.db when there is none.  Four bytes a sample in memory, so that all of 30 M samples are 120
 * MB.
 *
 * Nothing here is trusted for more than where to look: whoever reads a sample compares the tar's
 * own headers with its key.
 */
#ifndef WL_SHARDS_PLACES_H
#define WL_SHARDS_PLACES_H

#include "ops/err.h"
#include "shards/manifest.h"

#include <stddef.h>
#include <stdint.h>

/* Bytes of NAME.tar.idx for a shard of that many samples. */
static inline int64_t wl_places_bytes(int64_t samples)
{
	return (samples + 1) * 8;
}

/* Both give a malloc'ed [samples + 1]: the sample's first block of 512 bytes in the tar, and the
 * block after the last one.  NULL: WL_EDATA naming the file and what in it is wrong. */
uint32_t *wl_places_parse(const void *bytes, size_t n, const struct wl_shard_info *s,
	const char *path, struct wl_err *err);
uint32_t *wl_places_read(const char *dir, const struct wl_shard_info *s, struct wl_err *err);

/* pair_id of each of the shard's samples, from NAME.db. */
WL_MUST_CHECK int wl_places_pair_ids(
	const char *dir, const struct wl_shard_info *s, int64_t *out, struct wl_err *err);

/* The pairs of the shard's table `rejected`, s->rejected at most, into out; how many, or -1. */
WL_MUST_CHECK int64_t wl_places_rejected(
	const char *dir, const struct wl_shard_info *s, int64_t *out, struct wl_err *err);

#endif
