/*
 * Named counters and gauges, served as Prometheus text on --metrics-port and
 * appended as JSON lines to a file.
 */
#ifndef WL_OPS_METRICS_H
#define WL_OPS_METRICS_H

#include "ops/buf.h"
#include "ops/err.h"

#include <jansson.h>
#include <stdint.h>

/* Sets a gauge / adds to a counter; the name is a Prometheus name ("wenlan_pairs_total"),
 * help may be NULL after the first call.  Created on first use; safe from any thread. */
void wl_metric_set(const char *name, const char *help, double value);
void wl_metric_add(const char *name, const char *help, double value);

/* Serves GET /metrics on 127.0.0.1:port (or the address in WENLAN_METRICS_ADDRESS) from a
 * thread of its own until the process ends. */
WL_MUST_CHECK int wl_metrics_serve(int64_t port, struct wl_err *err);

/* The Prometheus text of all metrics, in order of first use, added to out. */
WL_MUST_CHECK int wl_metrics_text(struct wl_buf *out, struct wl_err *err);

/* metrics.jsonl: one object a line, whole lines only. */
struct wl_jsonl {
	int fd;
	char *path;
};
/* Opens for appending; a torn last line left by a kill is cut off first. */
WL_MUST_CHECK int wl_jsonl_open(struct wl_jsonl *f, const char *path, struct wl_err *err);
/* Appends the object (not stolen) as one line with one write. */
WL_MUST_CHECK int wl_jsonl_add(struct wl_jsonl *f, const json_t *o, struct wl_err *err);
void wl_jsonl_close(struct wl_jsonl *f);
/* Calls fn for each line's object in order; a torn last line (no newline) is skipped. */
WL_MUST_CHECK int wl_jsonl_read(const char *path,
	int (*fn)(json_t *o, size_t line, void *user, struct wl_err *err), void *user,
	struct wl_err *err);

#endif
