/*
 * Index files of the public readers: wids-SPLIT.json (the `wids` half of webdataset: random
 * access by shard and count), NAME.idx beside each tar (DALI's fn.readers.webdataset, "v1.2" as
 * its wds2idx writes), and what Megatron-Energon reads: .nv-meta/ and NAME.tar.idx.
 *
 * NAME.tar.idx is the offsets of the samples' first headers and of the tar's closing blocks, as
 * 64-bit little-endian numbers.  Our own reader (shard.h) finds samples by it too.
 */
#ifndef WL_SHARDS_INDEX_H
#define WL_SHARDS_INDEX_H

#include "ops/err.h"
#include "shards/manifest.h"

#include <stddef.h>

/* Writes wids-SPLIT.json, NAME.idx and NAME.tar.idx of these shards, each file atomically; those
 * beside a tar are kept when both are there. */
WL_MUST_CHECK int wl_index_write(
	const char *dir, const struct wl_shard_info *shards, size_t n, struct wl_err *err);

/* Energon's .nv-meta/ for the set as its manifest says, so after that; and after every take-down,
 * which split.yaml names. */
WL_MUST_CHECK int wl_index_energon(const char *dir, struct wl_err *err);

#endif
