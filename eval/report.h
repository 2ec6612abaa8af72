/*
 * The page about a training run: loss and R@K over the steps, R@K of a split beside chance, some
 * retrieved examples as pictures in both directions, configuration and counts.
 */
#ifndef WL_EVAL_REPORT_H
#define WL_EVAL_REPORT_H

#include "ops/err.h"

#include <stdint.h>

struct wl_report_opts {
	const char *run;        /* directory with metrics.jsonl and checkpoints */
	const char *shards;     /* directory of the shard set; NULL: no examples */
	const char *split;      /* whose samples the embeddings are */
	const char *embeddings; /* file of wenlan-embed; NULL: no R@K and no examples */
	const char *out;        /* the page */
	const char *title;      /* NULL: the run's name */
	int64_t examples;       /* queries shown a direction */
	int64_t top;            /* answers shown a query */
};

/* Counts the steps and says what was left out when a file is not there; WL_EDATA for
 * what is damaged. */
WL_MUST_CHECK int wl_report_write(const struct wl_report_opts *o, struct wl_err *err);

#endif
