/*
 * The plan of a shard set: which pairs are packed, in which split, in which order, in which
 * shard.  A function of the corpus, the published verdicts and the options alone, so that a run
 * that was killed, or has another number of threads, makes the same shards.
 *
 * Memory: 24 bytes a kept pair (30 M pairs: 720 MB), and while test and val are drawn about 200
 * bytes a pair asked for.
 */
#ifndef WL_SHARDS_PLAN_H
#define WL_SHARDS_PLAN_H

#include "ingest/corpus.h"
#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum wl_split { WL_SPLIT_NONE, WL_SPLIT_TEST, WL_SPLIT_VAL, WL_SPLIT_TRAIN, WL_SPLITS };
extern const char *const wl_split_names[WL_SPLITS];

struct wl_shard_plan_opts {
	int64_t test, val;     /* pairs to draw; 0: none */
	int64_t shard_bytes;   /* aim for a shard's size */
	int64_t shard_samples; /* most samples in a shard; 0: no limit but the format's */
	uint64_t seed;
	int quality;		/* of JPEGs made from other formats */
	bool draw_beside_hints; /* draw test/val although the input names some itself */
	bool ignore_hints;	/* draw as if the input named no splits */
	bool allow_unfiltered;	/* pack what dedup or filter have not examined */
	/* Of a set that is added to (pack.h): */
	const int64_t *skip; /* [n_skip] ascending: pairs that are in it already */
	size_t n_skip;
	int64_t first[WL_SPLITS]; /* numbers of the first new shards */
	const char *base;	  /* its fingerprint; NULL: a set of its own */
};

struct wl_shard_plan_pair {
	int64_t id, group;
	uint32_t bytes;		 /* in the shard, estimated from the catalog alone */
	uint32_t partition : 24; /* of the corpus */
	uint32_t split : 8;	 /* enum wl_split */
};

struct wl_planned_shard {
	enum wl_split split;
	int64_t number;
	size_t first, n; /* of the plan's pairs */
};

struct wl_shard_plan {
	struct wl_shard_plan_pair *pairs; /* [n] by split, then in shuffled order */
	size_t n, cap;
	struct wl_planned_shard *shards; /* [n_shards] */
	size_t n_shards;
	int64_t in_split[WL_SPLITS];
	int64_t hinted[WL_SPLITS]; /* pairs whose split the input named */
	int64_t seen, dropped;	   /* pairs in the catalog; with a verdict */
	int64_t skipped;	   /* kept, but in the set already */
	int64_t leaks;		   /* train pairs in the group of a pair hinted test or val */
	char hash[65];		   /* names the plan: options, corpus, verdicts, pairs */
	char corpus[65];	   /* the corpus's fingerprint */
	json_t *verdicts;	   /* {stage: {reason: n}} */
};

/* Splits: a pair whose split_hint is test, val or train goes there (not with ignore_hints).  If
 * --test N is given and no pair is hinted test (or draw_beside_hints), whole split groups without
 * any hint are drawn in seeded order, each taken when it still fits, until there are exactly N
 * pairs; likewise val after it.  WL_EDATA when N cannot be met exactly; everything else is train.
 *
 * WL_EDATA when dedup or filter has not examined every pair (unless allow_unfiltered), or when
 * there is nothing to pack; when a set is added to, that is no error, and p->n is 0. */
WL_MUST_CHECK int wl_shard_plan_make(struct wl_shard_plan *p, struct wl_corpus *c,
	const struct wl_shard_plan_opts *o, struct wl_err *err);
void wl_shard_plan_release(struct wl_shard_plan *p);

#endif
