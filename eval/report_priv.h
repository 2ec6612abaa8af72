/* What the report_*.c files share. */
#ifndef WL_EVAL_REPORT_PRIV_H
#define WL_EVAL_REPORT_PRIV_H

#include "eval/metrics/bootstrap.h"
#include "eval/published.h"
#include "eval/report.h"
#include "eval/report_out.h"
#include "eval/vectors.h"

/* A run with its embeddings, if there are any, and what was measured on them. */
struct wl_report_run {
	const char *dir;
	char name[80];
	struct wl_vectors v; /* unit length; n_images 0: none */
	struct wl_retrieval recall, chance;
	struct wl_boot boot;
	int64_t *image_rank, *text_rank; /* [n_images], [n_texts]; owned */
};

/* The last part of a path. */
void wl_report_run_name(const char *dir, char *name, size_t size);
WL_MUST_CHECK int wl_report_run_load(struct wl_report_run *r, const struct wl_report_opts *o,
	size_t i, struct wl_err *err);
void wl_report_run_release(struct wl_report_run *r);

/* Tables of R@K, the chart of R@K over K, and for two runs their difference. */
WL_MUST_CHECK int wl_report_recall(struct wl_report_out *out, const struct wl_report_opts *o,
	const struct wl_report_run *runs, size_t n, struct wl_err *err);

/* Loss and R@K over the steps of a run. */
WL_MUST_CHECK int wl_report_history(struct wl_report_out *out, const char *run,
	const char *heading, struct wl_err *err);

/* Pictures found by texts and texts found by pictures, for the queries that did best, middling
 * and worst, right answers marked. */
WL_MUST_CHECK int wl_report_examples(struct wl_html *h, const struct wl_report_opts *o,
	const struct wl_report_run *run, struct wl_err *err);

#endif
