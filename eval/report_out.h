/* A report in its three forms at once: a page, Markdown, and JSON. */
#ifndef WL_EVAL_REPORT_OUT_H
#define WL_EVAL_REPORT_OUT_H

#include "ops/arena.h"
#include "ops/html.h"

#include <jansson.h>

struct wl_report_out {
	struct wl_html html;
	struct wl_buf md;
	json_t *json; /* an object that the parts add to; owned */
};

/* An empty report: page, Markdown and JSON; to be released, also when it failed. */
WL_MUST_CHECK int wl_report_out_init(struct wl_report_out *r, const char *title,
	struct wl_err *err);
void wl_report_out_release(struct wl_report_out *r);

/* Into page and Markdown. */
WL_MUST_CHECK int wl_report_heading(struct wl_report_out *r, int level, const char *text,
	struct wl_err *err);
WL_MUST_CHECK int wl_report_para(struct wl_report_out *r, const char *text, struct wl_err *err);

/* A table made cell by cell, row by row; the first row is the header. */
struct wl_cells {
	struct wl_arena arena;
	const char **v;
	size_t n, cap, cols;
};
WL_MUST_CHECK int wl_cell(struct wl_cells *c, struct wl_err *err, const char *fmt, ...)
	WL_PRINTF(3, 4);
/* Writes the table and releases the cells, whether it succeeds or not. */
WL_MUST_CHECK int wl_report_table(struct wl_report_out *r, struct wl_cells *c,
	const char *caption, struct wl_err *err);

/* path "x.html": writes it, and x.md and x.json beside it. */
WL_MUST_CHECK int wl_report_out_save(struct wl_report_out *r, const char *path,
	struct wl_err *err);

#endif
