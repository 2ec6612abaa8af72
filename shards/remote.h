/*
 * A shard set on a web server or an S3-style store (web.h), as the reader of shards sees it.
 *
 * The manifest is fetched when the set is opened, unless its ETag is that of the copy in the cache.
 * A shard that is read for the first time is wanted whole: a thread fetches it in ranges of 8 MiB,
 * four at a time, compares its SHA-256 with the manifest and puts it into the cache (cache.h),
 * where it is read like a local file.  Until it is there, or where the cache has no room for it,
 * its samples are fetched by ranges of their own: a set need not fit into the cache, nor the first
 * batch wait.
 *
 * What is read by such a range is compared with its key by the reader, but not hashed.
 */
#ifndef WL_SHARDS_REMOTE_H
#define WL_SHARDS_REMOTE_H

#include "ops/buf.h"
#include "ops/err.h"
#include "shards/manifest.h"
#include "shards/shard.h"

struct wl_remote;

/* Fetches the manifest.  WL_EDATA when there is none at that address, WL_ERETRY when nobody
 * answers. */
struct wl_remote *wl_remote_open(const struct wl_shard_place *at, struct wl_err *err);
/* Nothing may be read meanwhile or after. */
void wl_remote_close(struct wl_remote *r);
/* Readers that wait for the network end soon, with an error. */
void wl_remote_stop(struct wl_remote *r);
/* The local folder that has manifest.db. */
const char *wl_remote_dir(const struct wl_remote *r);

/* Says which shards will be read, by their numbers from now on: infos[n] is copied. */
WL_MUST_CHECK int wl_remote_start(
	struct wl_remote *r, const struct wl_shard_info *infos, size_t n, struct wl_err *err);
/* Where shard k lies whole, to be freed, or NULL: it is not here (but wanted from now on). */
char *wl_remote_path(struct wl_remote *r, size_t k);
/* That file could not be opened: another process made room. */
void wl_remote_forget(struct wl_remote *r, size_t k);
/* Bytes of shard k's tar, added to out. */
WL_MUST_CHECK int wl_remote_range(struct wl_remote *r, size_t k, int64_t from, int64_t n,
	struct wl_buf *out, struct wl_err *err);
/* Where shard k's samples lie (places.h), from its NAME.tar.idx. */
uint32_t *wl_remote_places(struct wl_remote *r, size_t k, struct wl_err *err);
/* Fetches shard k's NAME.db into wl_remote_dir, unless it is there. */
WL_MUST_CHECK int wl_remote_db(struct wl_remote *r, size_t k, struct wl_err *err);

#endif
