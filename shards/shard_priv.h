/* An open set, as shard.c (opening, facts) and shard_read.c (samples) share it. */
#ifndef WL_SHARDS_SHARD_PRIV_H
#define WL_SHARDS_SHARD_PRIV_H

#include "shards/ahead.h"
#include "shards/foreign.h"
#include "shards/manifest.h"
#include "shards/remote.h"
#include "shards/shard.h"

#include <pthread.h>

struct wl_set_shard {
	struct wl_shard_info info;
	int64_t first;	  /* number of its sample 0 in the split */
	uint32_t *places; /* [samples + 1] (places.h); NULL: not read yet */
	int fd;		  /* -1: not open */
	int readers;
	uint64_t used; /* clock of the last use */
};

struct wl_shardset {
	char *dir, *at;		  /* where its databases lie; as it was named */
	struct wl_remote *remote; /* NULL: all of it is in dir */
	struct wl_ahead *ahead;	  /* with remote */
	char split[WL_SPLIT_MAX];
	char fingerprint[65];
	struct wl_foreign *foreign;  /* tars without a manifest; then there are no shards */
	struct wl_set_shard *shards; /* [n_shards] by name */
	size_t n_shards, n_open;
	int64_t n;
	int64_t *dead; /* [n_dead] samples taken down, ascending */
	int64_t n_dead;
	pthread_mutex_t lock; /* places, fd, readers, used, n_open, clock */
	uint64_t clock;
};

/* The shard that holds sample i: the last one that begins at or before it and is not empty. */
struct wl_set_shard *wl_shard_of(const struct wl_shardset *s, int64_t i);
/* Why a set has no such split, as WL_EDATA that names those that it has. */
WL_MUST_CHECK int wl_shard_no_split(const struct wl_manifest *m, const char *dir,
	const char *split, struct wl_err *err);
/* What wl_ahead_new calls: all that the tar has of a sample of the set `ctx`. */
WL_MUST_CHECK int wl_shard_fetch_ahead(
	void *ctx, int64_t number, struct wl_buf *out, struct wl_err *err);

#endif
