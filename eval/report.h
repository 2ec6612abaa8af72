/*
 * The page about one run or several: R@K beside chance with intervals, a comparison of two runs,
 * our rows among published ones, curves of the training, retrieved examples as pictures, the data,
 * the settings.  As HTML without outside files, and as Markdown and JSON beside it.
 */
#ifndef WL_EVAL_REPORT_H
#define WL_EVAL_REPORT_H

#include "ops/opt.h"

#include <stdint.h>

struct wl_report_opts {
	struct wl_strs runs; /* directories with metrics.jsonl and checkpoints; one or more */
	const char *shards;  /* directory of the shard set; NULL: no examples */
	const char *split;   /* whose samples the embeddings are */
	struct wl_strs
		embeddings;	/* files of wenlan-embed, run by run; none: no R@K, no examples */
	struct wl_strs results; /* more JSON results; those in the runs are found anyway */
	const char *protocol;	/* of the embeddings (eval/protocol.h); NULL: a pool of one's own */
	const char *out;	/* the page */
	const char *title;	/* NULL: the first run's name */
	int64_t examples;  /* queries shown a direction: best, median and worst, a third each */
	int64_t top;	   /* answers shown a query */
	int64_t bootstrap; /* rounds */
};

/* Counts the steps and says what was left out when a file is not there; WL_EDATA for
 * what is damaged, and for runs that cannot be compared. */
WL_MUST_CHECK int wl_report_write(const struct wl_report_opts *o, struct wl_err *err);

#endif
