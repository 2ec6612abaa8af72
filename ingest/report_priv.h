/* Between the files of the report. */
#ifndef WL_INGEST_REPORT_PRIV_H
#define WL_INGEST_REPORT_PRIV_H

#include "ingest/corpus_priv.h"
#include "ingest/report.h"
#include "ops/html.h"

struct tally_row {
	char *key;
	int64_t n, m;
};
struct tally_rows {
	struct tally_row *v; /* most first */
	size_t n;
};
void tally_release(struct tally_rows *t);

/* Bars of at most 64 counts. */
WL_MUST_CHECK int report_bars(struct wl_html *h, const char *title, const char *const *names,
	const int64_t *counts, size_t n, struct wl_err *err);

/* ---- report_sample.c ---- */

struct report_sample;
struct report_sample *report_sample_take(struct wl_corpus *c, struct wl_err *err);
void report_sample_free(struct report_sample *s);
WL_MUST_CHECK int report_sample_charts(const struct report_sample *s, struct wl_html *h,
	struct wl_err *err);
WL_MUST_CHECK int report_sample_kept(const struct report_sample *s, struct wl_corpus *c,
	struct wl_html *h, struct wl_err *err);
WL_MUST_CHECK int report_sample_refused(struct wl_corpus *c, struct wl_html *h,
	struct wl_err *err);

#endif
