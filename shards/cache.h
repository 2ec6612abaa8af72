/*
 * A bounded folder of whole shards, named by their SHA-256: shared by all sets and processes of a
 * machine, so a shard is fetched once, and one that changed is another file.
 *
 *   CACHE/shards/SHA256.tar        complete; its bytes had this hash when it came
 *   CACHE/shards/SHA256.idx        where its samples lie (NAME.tar.idx)
 *   CACHE/shards/SHA256-BYTES.part being fetched, locked by who does; counts as BYTES
 *   CACHE/sets/HASH/               manifest.db of a set, and what else of it was asked for
 *
 * Room is made by removing what was used longest ago.
 */
#ifndef WL_SHARDS_CACHE_H
#define WL_SHARDS_CACHE_H

#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

struct wl_cache {
	char *dir; /* owned: CACHE/shards */
	int64_t max_bytes;
};

/* dir NULL: $WENLAN_CACHE, $XDG_CACHE_HOME/wenlan, or ~/.cache/wenlan; max_bytes 0: 20 GB. */
WL_MUST_CHECK int wl_cache_open(
	struct wl_cache *c, const char *dir, int64_t max_bytes, struct wl_err *err);
void wl_cache_release(struct wl_cache *c);
/* Where that shard lies or would lie; to be freed. */
char *wl_cache_path(
	const struct wl_cache *c, const char *sha256, const char *ext, struct wl_err *err);
/* True when it is there in full; it then counts as used now. */
bool wl_cache_has(const struct wl_cache *c, const char *sha256, int64_t bytes);
/* The folder of the set at that URL, made when missing; to be freed. */
char *wl_cache_set_dir(const struct wl_cache *c, const char *url, struct wl_err *err);

/* Begins or goes on fetching a shard: 1: *fd is its .part, locked, *have bytes of it there already;
 * 0: another process fetches it, or there is no room beside the shards for which keep(ctx, sha256)
 * says true; -1. */
WL_MUST_CHECK int wl_cache_begin(const struct wl_cache *c, const char *sha256, int64_t bytes,
	bool (*keep)(void *ctx, const char *sha256), void *ctx, int *fd, int64_t *have,
	struct wl_err *err);
/* The .part, synced, becomes the shard; or is removed.  Closes fd. */
WL_MUST_CHECK int wl_cache_commit(
	const struct wl_cache *c, const char *sha256, int64_t bytes, int fd, struct wl_err *err);
void wl_cache_drop(const struct wl_cache *c, const char *sha256, int64_t bytes, int fd);

#endif
