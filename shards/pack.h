/*
 * Packing: a corpus's kept pairs into a shard set.
 *
 * The plan (plan.h) is made first.  Pairs that are neighbours in a shard go to a worker as a batch:
 * it reads their pictures, converts those that are no plain JPEG and compares the bytes with the
 * catalog's SHA-256 (of many pictures at once: wl_sha256_many).  One thread takes the batches in
 * the order of submission and fills three shards by turns, whose tars one thread hashes side by
 * side (hasher.h); each shard's own thread writes and seals it (write.h).  A kill loses at most the
 * shards that were not sealed, six: the same command finds the sealed ones by the plan's hash in
 * NAME.db, checks their bytes and goes on.  The manifest comes last.
 *
 * In flight: two batches a worker thread and two more, of at most 32 samples and 8 MiB as received
 * (or one sample: at most 64 MiB), 128 MiB in all; six shards' chunks of 16 MiB.
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
	/* Only shards part-1, part-1+parts, ... of the plan, so that several machines pack one set
	 * (0, 0: all).  No part writes the manifest: the same call without parts does, once all
	 * shards are there, and compares every byte with its hash. */
	int64_t part, parts;
	/* A finished set is looked at byte by byte too, and what is damaged is packed again. */
	bool recheck;
	/* `out` is a finished set, and stays as it is: pairs that it neither has nor rejected are
	 * added in shards with higher numbers. */
	bool append;
};

/* What a run did; also in the manifest's meta. */
struct wl_pack_result {
	int64_t shards, kept_shards; /* in the set; of these found sealed already */
	int64_t samples, bytes, rejected;
	int64_t in_split[WL_SPLITS]; /* samples */
	int64_t old_shards;	     /* append: of these in the set that was added to */
	bool unfinished;	     /* parts: shards of other parts are to come, or the manifest */
	bool nothing_to_do;	     /* the set was finished already */
	bool stopped;		     /* a signal came first: run again */
};

WL_MUST_CHECK int wl_pack(
	const struct wl_pack_opts *o, struct wl_pack_result *out, struct wl_err *err);

#endif
