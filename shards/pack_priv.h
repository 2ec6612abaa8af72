/* Between pack.c and pack_facts.c only. */
#ifndef WL_SHARDS_PACK_PRIV_H
#define WL_SHARDS_PACK_PRIV_H

#include "ops/pool.h"
#include "ops/progress.h"
#include "shards/manifest.h"
#include "shards/pack.h"
#include "shards/pack_job.h"

struct wl_packing {
	const struct wl_pack_opts *o;
	struct wl_corpus *corpus;
	struct wl_shard_plan plan;
	struct wl_manifest base; /* append: the set as it was */
	struct wl_shard_plan_opts plan_opts;
	int64_t *base_ids;	     /* append: its pairs, ascending */
	struct wl_shard_info *infos; /* [plan.n_shards] */
	bool *sealed;		     /* [plan.n_shards] infos[i] is final */
	struct wl_kept **kept;	     /* [partitions], opened on first use */
	struct wl_pair_cursor **cursors;
	struct wl_pool *pool;
	struct wl_pack_job **idle; /* jobs not in flight, a stack */
	size_t n_idle, n_jobs;
	int64_t in_flight_bytes;	  /* as received, of submitted pairs */
	size_t next_shard, next_pair;	  /* the next pair to submit */
	struct wl_shard_writer *previous; /* being sealed while the next is filled */
	size_t previous_shard;
	struct wl_progress *progress;
};

/* plan.json: the options and what they made of the corpus. */
WL_MUST_CHECK int wl_pack_write_plan(const struct wl_packing *p, struct wl_err *err);
/* The index files and manifest.db, once all shards are sealed. */
WL_MUST_CHECK int wl_pack_write_manifest(const struct wl_packing *p, struct wl_err *err);

#endif
