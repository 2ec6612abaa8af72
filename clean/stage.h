/*
 * What dedup and filter have in common as stages over a corpus: one run at a time, nothing to
 * do when nothing changed, work kept per partition in STAGE-G.db, published at the end.
 */
#ifndef WL_CLEAN_STAGE_H
#define WL_CLEAN_STAGE_H

#include "ingest/corpus.h"
#include "ops/comm.h"
#include "ops/db.h"
#include "ops/err.h"
#include "ops/pool.h"

#include <jansson.h>

struct wl_stage {
	struct wl_corpus *corpus;
	const char *name;
	int generation; /* the one being written */
	int lock;
	char fingerprint[65], params_hash[65];
};

/* params: everything that the results depend on but the corpus itself.  1: the published
 * generation was made of the same; 0: go on; -1.  wl_stage_end must follow in all cases. */
WL_MUST_CHECK int wl_stage_begin(struct wl_stage *s, struct wl_corpus *c, const char *name,
	const json_t *params, struct wl_err *err);
/* The same on every rank of comm (NULL: alone): rank 0 locks and looks, the others are told.
 * Collective; a failure of rank 0 is one of all. */
WL_MUST_CHECK int wl_stage_begin_on(struct wl_stage *s, struct wl_comm *comm, struct wl_corpus *c,
	const char *name, const json_t *params, struct wl_err *err);
void wl_stage_end(struct wl_stage *s);

/* Opens this generation's database of a partition, with the common tables (examined, verdict)
 * and those of `schema`.  What an interrupted run left there is kept iff it was written under
 * the same `key`. */
WL_MUST_CHECK int wl_stage_db(struct wl_stage *s, int partition, const char *schema,
	const char *key, struct wl_db *db, struct wl_err *err);

/* Copies the rows of these tables (NULL ends the list) from the published generation, when it
 * was written under the same key: what is known of a pair stays true, for pairs never change.
 * Rows that are here already stay. */
WL_MUST_CHECK int wl_stage_take_over(struct wl_stage *s, int partition, struct wl_db *db,
	const char *const *tables, struct wl_err *err);

/* The unit of progress: work(ctx, i) for i in [0, n) on all threads, then store(ctx, i) in order
 * in one transaction of db; a failure leaves none of it. */
WL_MUST_CHECK int wl_stage_batch(struct wl_db *db, struct wl_pool *pool, size_t n,
	void (*work)(void *ctx, size_t i), int (*store)(void *ctx, size_t i, struct wl_err *err),
	void *ctx, struct wl_err *err);

/* Makes this generation the one that readers see; counts are kept in corpus.json. */
WL_MUST_CHECK int wl_stage_publish(struct wl_stage *s, json_t *counts, struct wl_err *err);

#endif
