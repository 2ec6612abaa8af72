/*
 * Between the files of the ingest run; not for others.
 *
 * A flow is an origin being read; a batch is what one lane will commit next, of one flow (files)
 * or of several (partitions of a topic that share a lane): rows, tallies and the positions of all
 * its flows in one transaction.
 */
#ifndef WL_INGEST_INGEST_PRIV_H
#define WL_INGEST_INGEST_PRIV_H

#include "ingest/ingest.h"
#include "ingest/page.h"
#include "ingest/watch.h"
#include "ops/pool.h"
#include "ops/progress.h"

struct wl_batch {
	struct wl_lane *lane;  /* NULL: closed */
	struct wl_flow *flows; /* linked by next_flow */
	int64_t records, bytes; /* since the last commit */
};

struct wl_flow {
	struct wl_source *source;
	struct wl_batch *batch;
	struct wl_flow *next_flow;
	struct wl_buf position; /* of the last settled record, when `moved` since the last commit */
	bool moved;
	json_t *tally;  /* class -> count since the last commit */
	int64_t seen, refused;     /* records settled in this run, of them quarantined */
	char last_reason[160];     /* why the last one was */
};
WL_MUST_CHECK int wl_flow_init(struct wl_flow *f, struct wl_source *s, struct wl_batch *b,
	struct wl_err *err);
/* Out of its batch; what was settled but not committed is forgotten. */
void wl_flow_release(struct wl_flow *f);

/* A record on its way. */
struct wl_item {
	struct wl_flow *flow;
	struct wl_record rec;
	struct wl_err err;
	int ret;
};

/* What the pool works on at a time: some records, so that small ones do not cost more in handing
 * over than in work. */
enum { WL_JOB_ITEMS = 32, WL_JOB_BYTES = 2 << 20 };
struct wl_job {
	struct wl_run *run;
	struct wl_item item[WL_JOB_ITEMS];
	size_t n, bytes;
	int64_t took_ns;
	size_t slot; /* of the watch */
};

struct wl_run {
	const struct wl_ingest *in;
	struct wl_ingest_counts *out;
	struct wl_pool *pool;
	struct wl_progress *progress;
	struct wl_watch *watch; /* slots: the jobs, then the main thread's */
	struct wl_job *jobs, **idle; /* idle[n_idle]: not in the pool; the last is being filled */
	size_t n_jobs, n_idle;
	size_t job_items; /* records a job, by how long the last ones took */
};

/* ---- settle.c ---- */

/* Takes over what became of a prepared record.  Commits when the batch is full. */
WL_MUST_CHECK int wl_settle(struct wl_run *run, struct wl_item *it, struct wl_err *err);
WL_MUST_CHECK int wl_flow_set_position(struct wl_flow *f, const char *position,
	struct wl_err *err);
/* Harmless when nothing was settled since the last one. */
WL_MUST_CHECK int wl_batch_commit(struct wl_run *run, struct wl_batch *b, struct wl_err *err);
/* -1 with WL_EDATA once more of the flow's records were refused than --max-error-rate allows. */
WL_MUST_CHECK int wl_flow_check_rate(const struct wl_run *run, const struct wl_flow *f,
	struct wl_err *err);

/* ---- ingest.c ---- */

/* The main thread's slot of the watch. */
size_t wl_run_slot(const struct wl_run *run);
bool wl_run_may_read(const struct wl_run *run);
/* The next record to be filled in, cleared; NULL when all jobs are in the pool.  Filling it in vain
 * does no harm. */
struct wl_record *wl_run_next(struct wl_run *run, struct wl_flow *f);
/* It is filled in: goes to the pool once there are enough of them. */
void wl_run_accept(struct wl_run *run);
/* What was accepted goes to the pool now. */
void wl_run_flush(struct wl_run *run);
/* Whether anything was accepted that is not settled. */
bool wl_run_is_busy(const struct wl_run *run);
/* Settles the job that was submitted first; 0 when there is none in the pool, else 1. */
WL_MUST_CHECK int wl_run_settle_one(struct wl_run *run, struct wl_err *err);
/* Empties the pool; after an error, or when not `settling`, nothing more is settled. */
WL_MUST_CHECK int wl_run_drain(struct wl_run *run, bool settling, struct wl_err *err);

/* ---- source_kafka.c ---- */

/* A partition as wl_kafka_prepare knows it. */
struct wl_kafka_source {
	struct wl_source base;
	const struct wl_profile *profile; /* how pages are read */
};
/* A message (r->json) into a pair, or what a page yields. */
WL_MUST_CHECK int wl_kafka_prepare(struct wl_source *s, struct wl_record *r, struct wl_err *err);

int64_t wl_kafka_recall(const char *place);

/* ---- retry.c ---- */

/* Takes up again what the quarantine keeps of the flow's origin (--retry-quarantine): what is a
 * pair now becomes one, all else stays, with the reason of now. */
WL_MUST_CHECK int wl_retry_quarantine(struct wl_run *run, struct wl_flow *f,
	const char *position, struct wl_err *err);

/* ---- ingest_aside.c ---- */

/* Fetches what waits in the lanes of a topic beside reading it. */
struct wl_aside;
struct wl_aside *wl_aside_new(struct wl_run *run, struct wl_err *err);
void wl_aside_free(struct wl_aside *a);
/* A little of it, in the lane of `b`, whose open batch commits first: 1: more is under way in this
 * lane; 0: nothing is to be done there for now.  Waits for the network for most_ms at most. */
WL_MUST_CHECK int wl_aside_step(struct wl_aside *a, struct wl_batch *b, int most_ms,
	struct wl_err *err);
/* The lane is about to close: requests under way in it are dropped, outcomes committed. */
WL_MUST_CHECK int wl_aside_leave(struct wl_aside *a, struct wl_batch *b, struct wl_err *err);

/* ---- ingest_kafka.c ---- */

/* Reads a topic.  As for files: 0 done or stopped; -1 the source has failed (*src_err); -2 the
 * run has (*err). */
WL_MUST_CHECK int wl_ingest_kafka(struct wl_run *run, const struct wl_origin *o,
	struct wl_err *src_err, struct wl_err *err);

#endif
