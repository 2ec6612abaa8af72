/* Pairs on their way into a shard; between pack_fill.c and pack_job.c only. */
#ifndef WL_SHARDS_PACK_JOB_H
#define WL_SHARDS_PACK_JOB_H

#include "ingest/corpus.h"
#include "ops/arena.h"
#include "ops/buf.h"
#include "ops/err.h"
#include "shards/kept.h"
#include "shards/write.h"

struct wl_pack_job {
	/* in, set by wl_pack_job_fill: */
	struct wl_corpus *corpus;
	int quality;
	struct wl_pair pair; /* strings in the arena */
	int64_t group, topic;
	char *texts;	/* JSON [[kind, text], ...], in the arena */
	char *category; /* of the topic, in the arena; NULL: none */
	struct wl_arena arena;
	/* out, set by wl_pack_job_run: */
	struct wl_buf raw, jpg;
	const struct wl_buf *out; /* one of them: what goes into the shard */
	uint8_t sha256[32];	  /* of *out */
	bool unchecked;		  /* *out are the corpus's bytes; sha256 is what they must have */
	char *json, *txt;	  /* KEY.json (malloc), captions[0] (arena) */
	bool rejected;		  /* the picture cannot be packed; err says why */
	bool failed;		  /* the corpus or this machine is broken; err says why */
	struct wl_err err;
};

struct wl_pack_job *wl_pack_job_new(struct wl_corpus *c, int quality, struct wl_err *err);
void wl_pack_job_free(struct wl_pack_job *j);
/* Looks the pair up; its buffers keep their memory from the last use.  Not thread-safe. */
WL_MUST_CHECK int wl_pack_job_fill(struct wl_pack_job *j, struct wl_pair_cursor *cur,
	struct wl_kept *k, int64_t id, int64_t group, struct wl_err *err);

/* Pairs that are neighbours in a shard.  They go to a worker together: handing each over by itself
 * costs as much as its work where pictures are small, and hashes of many come faster than of
 * one. */
enum { WL_PACK_BATCH = 32 };
struct wl_pack_batch {
	struct wl_corpus *corpus;
	struct wl_pack_job *job[WL_PACK_BATCH];
	size_t n;      /* of them filled */
	int64_t bytes; /* of their pictures, as received */
};
struct wl_pack_batch *wl_pack_batch_new(struct wl_corpus *c, int quality, struct wl_err *err);
void wl_pack_batch_free(struct wl_pack_batch *b);
/* Reads, converts, and compares with the catalog; what is wrong is said in each job.  Runs on any
 * thread. */
void wl_pack_batch_run(void *batch);

#endif
