/*
 * The ingest run: origins in, lanes of a corpus out.
 *
 * One thread reads records in order and writes lanes; a pool prepares (parses, loads, decodes)
 * what lies between, and gives it back in order.  So what ends up in the corpus does not depend
 * on the number of threads, and an origin's position always covers exactly what came before.
 */
#ifndef WL_INGEST_INGEST_H
#define WL_INGEST_INGEST_H

#include "ingest/corpus.h"
#include "ingest/fetch.h"
#include "ingest/kafka.h"
#include "ingest/source.h"

struct wl_ingest {
	struct wl_corpus *corpus;
	const struct wl_origins *origins;
	size_t workers;	      /* threads of the pool; 0: one per core */
	int64_t max_records;  /* read at most so many in this run; 0: all */
	int64_t commit_every; /* records in one transaction; 0: 1000 (or 64 MB, what comes first) */
	double max_error_rate; /* a source of which more than this part is quarantined (after 100
				* records) is given up with WL_EDATA; 0 or 1: never */
	int64_t stall_s; /* silence after which the stall detector speaks; 0: 60; < 0: never */
	enum wl_image_level
		check;	       /* of pictures that come with their record; by itself: structure */
	bool retry_quarantine; /* take up again what the quarantine keeps of the sources */
	bool until_end;	       /* a topic is left at its end, instead of waiting for more */
	struct wl_kafka_conf kafka;
	/* A topic without an end fetches what waits in its lanes while it reads; NULL: it does not.
	 * What it did is added up in *fetched. */
	const struct wl_fetch_opts *fetch;
	struct wl_fetch_counts *fetched;
};

struct wl_ingest_counts {
	/* records - opened + yielded = kept + known + quarantined + pending */
	int64_t records; /* input items read in this run */
	int64_t opened;	 /* of them no pairs themselves: pages, archive records */
	int64_t yielded; /* what came out of those */
	int64_t kept;	 /* new pairs */
	int64_t known;	 /* pairs that the catalog had already */
	int64_t quarantined;
	int64_t pending;     /* new pairs that wait for their picture */
	int64_t image_bytes; /* of the kept ones */
	int64_t origins;     /* finished in this run */
	json_t *reasons;     /* class of reason -> count; owned */
	json_t *passed;	     /* class of what was passed over on purpose -> count; owned */
};

/* Runs until the sources end, max_records, or a stop is asked for (then 0 too; see
 * ops/signals.h).  A damaged source does not stop the others: it is logged, and the first such
 * error is the result at the end.  *out is filled in any case; release it. */
WL_MUST_CHECK int wl_ingest_run(
	const struct wl_ingest *in, struct wl_ingest_counts *out, struct wl_err *err);
void wl_ingest_counts_release(struct wl_ingest_counts *c);

#endif
