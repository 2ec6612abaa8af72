/* What report.c and report_examples.c share. */
#ifndef WL_EVAL_REPORT_PRIV_H
#define WL_EVAL_REPORT_PRIV_H

#include "eval/report.h"
#include "eval/vectors.h"
#include "ops/html.h"

/* Pictures found by texts and texts found by pictures, for a few queries spread over the
 * split, right answers marked. */
WL_MUST_CHECK int wl_report_examples(struct wl_html *h, const struct wl_report_opts *o,
	const struct wl_vectors *v, struct wl_err *err);

#endif
