/* Between pack.c and pack_facts.c only. */
#ifndef WL_SHARDS_PACK_PRIV_H
#define WL_SHARDS_PACK_PRIV_H

#include "ops/pool.h"
#include "ops/progress.h"
#include "shards/hasher.h"
#include "shards/manifest.h"
#include "shards/pack.h"
#include "shards/pack_job.h"

/* Shards that are filled side by side, since a hasher takes as many faster than one. */
enum { WL_PACK_BESIDE = WL_SHA256_STREAMS };

/* A walk over the samples that are to be packed: it goes round a group of shards, a batch to each
 * in turn.  Those who submit batches and those who take them walk alike. */
struct wl_pack_turns {
	size_t next;					       /* the first shard after the group */
	size_t shard[WL_PACK_BESIDE], done[WL_PACK_BESIDE], n; /* samples done of each */
	size_t at;					       /* whose turn */
};

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
	struct wl_pack_batch **idle; /* batches not in flight, a stack */
	size_t n_idle;
	int64_t in_flight_bytes;    /* as received, of submitted pairs */
	struct wl_hasher *hasher;   /* of all tars */
	struct wl_pack_turns ahead; /* of the next batch to submit */
	/* Being sealed while the next ones are filled. */
	struct wl_shard_writer *previous[WL_PACK_BESIDE];
	size_t previous_shard[WL_PACK_BESIDE], n_previous;
	struct wl_progress *progress;
};

/* Whether the shard is one of the part that is packed (all are, where there are no parts). */
bool wl_pack_is_mine(const struct wl_packing *p, size_t shard);
/* Starts the threads, and makes the batches that they work on. */
WL_MUST_CHECK int wl_pack_workers(struct wl_packing *p, struct wl_err *err);
void wl_pack_workers_release(struct wl_packing *p);
/* Packs the shards that are not sealed; at a signal, fewer. */
WL_MUST_CHECK int wl_pack_missing(struct wl_packing *p, struct wl_err *err);

/* plan.json: the options and what they made of the corpus. */
WL_MUST_CHECK int wl_pack_write_plan(const struct wl_packing *p, struct wl_err *err);
/* The index files and manifest.db, once all shards are sealed. */
WL_MUST_CHECK int wl_pack_write_manifest(const struct wl_packing *p, struct wl_err *err);

#endif
