/*
 * Packing: a corpus's kept pairs into a shard set.
 *
 * The plan (plan.h) is made first.  Workers read pictures and convert those that are no plain
 * JPEG; one thread takes their results in plan order, compares the bytes with the catalog's
 * SHA-256 (of many pictures at once: wl_sha256_many) and fills shards; each shard's own threads
 * hash, write and seal it (write.h).  A kill loses at most the shards that were not sealed: the same command finds
 * the sealed ones by the plan's hash in NAME.db, checks their bytes and goes on.  The
 * manifest comes last.
 *
 * In flight: at most 32 samples a worker thread and 128 MiB as received, or one sample (at most
 * 64 MiB); 32 samples and 32 MiB, or one, that are checked together; two shards' chunks of 16 MiB.
 */
#ifndef WL_SHARDS_PACK_H
#define WL_SHARDS_PACK_H

#include "ops/err.h"
#include "shards/plan.h"

#include <jansson.h>
#include <stdbool.h>

struct wl_pack_opts {
	const char *corpus, *out;
	struct wl_shard_plan_opts plan;
	int64_t threads; /* 0: one per core */
	bool replace;	 /* shards of another plan in `out` are removed */
};

/* What a run did; also in the manifest's meta. */
struct wl_pack_result {
	int64_t shards, kept_shards; /* in the set; of these found sealed already */
	int64_t samples, bytes, rejected;
	int64_t in_split[WL_SPLITS]; /* samples */
	bool nothing_to_do;	     /* the set was finished already */
	bool stopped;		     /* a signal came first: run again */
};

WL_MUST_CHECK int wl_pack(
	const struct wl_pack_opts *o, struct wl_pack_result *out, struct wl_err *err);

#endif
