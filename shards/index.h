/*
 * Index files of the public readers: wids-SPLIT.json (the `wids` half of webdataset: random
 * access by shard and count) and NAME.idx beside each tar (DALI's fn.readers.webdataset,
 * "v1.2" as its wds2idx writes).  And what Megatron-Energon reads: NAME.tar.idx and .nv-meta/.
 */
#ifndef WL_SHARDS_INDEX_H
#define WL_SHARDS_INDEX_H

#include "ops/err.h"
#include "shards/manifest.h"

#include <stddef.h>

/* Writes both for these shards, each file atomically; NAME.idx that is there is kept. */
WL_MUST_CHECK int wl_index_write(
	const char *dir, const struct wl_shard_info *shards, size_t n, struct wl_err *err);

/* Energon's files for the set as its manifest says, so after that; and after every take-down,
 * which they name.  NAME.tar.idx that is there is kept. */
WL_MUST_CHECK int wl_index_energon(const char *dir, struct wl_err *err);

#endif
