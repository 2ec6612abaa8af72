/*
 * RUN/report.html while a run goes on: what metrics.jsonl says, as charts.  It
 * is written anew every so many seconds, atomically, and reloads itself in a
 * browser.  Beside it RUN/metrics.prom holds the counters for Prometheus' text
 * file collector.
 */
#ifndef WL_TRAIN_REPORT_H
#define WL_TRAIN_REPORT_H

#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct wl_train_report;

/* about: one sentence on the model and the run, copied.  NULL without memory. */
struct wl_train_report *wl_train_report_open(const char *run_dir, const char *about,
	int64_t total_steps, struct wl_err *err);
void wl_train_report_close(struct wl_train_report *r);
/* The lines of metrics.jsonl that are there already (a resumed run). */
WL_MUST_CHECK int wl_train_report_read(struct wl_train_report *r, const char *path,
	struct wl_err *err);
/* One more line.  Of many, some are kept for the charts: memory is bounded. */
void wl_train_report_add(struct wl_train_report *r, const json_t *line);
/* Writes both files if the last time was long enough ago, or now. */
WL_MUST_CHECK int wl_train_report_write(struct wl_train_report *r, bool now, struct wl_err *err);

#endif
