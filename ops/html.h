/*
 * Self-contained HTML reports: text, tables, inline SVG line charts, images as
 * data URIs.  No script, no outside file; light and dark by the reader's setting.
 */
#ifndef WL_OPS_HTML_H
#define WL_OPS_HTML_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

struct wl_html {
	struct wl_buf b;
};

/* A page with style sheet and title, in h->b; to be released, also when it failed. */
WL_MUST_CHECK int wl_html_init(struct wl_html *h, const char *title, struct wl_err *err);
void wl_html_release(struct wl_html *h);
/* Text is escaped; *_raw is not. */
WL_MUST_CHECK int wl_html_heading(struct wl_html *h, int level, const char *text,
	struct wl_err *err);
WL_MUST_CHECK int wl_html_para(struct wl_html *h, const char *text, struct wl_err *err);
WL_MUST_CHECK int wl_html_raw(struct wl_html *h, const char *html, struct wl_err *err);
WL_MUST_CHECK int wl_html_text(struct wl_html *h, const char *text, struct wl_err *err);

/* cells: rows*cols strings row by row, the first row is the header; numbers align right. */
WL_MUST_CHECK int wl_html_table(struct wl_html *h, size_t rows, size_t cols,
	const char *const *cells, const char *caption, struct wl_err *err);

/* A line chart; every series has n points.  NaN breaks a line. */
struct wl_series {
	const char *name;
	const double *x, *y;
	size_t n;
};
WL_MUST_CHECK int wl_html_chart(struct wl_html *h, const char *title, const char *x_label,
	const char *y_label, const struct wl_series *series, size_t n_series, bool log_y,
	struct wl_err *err);

/* Horizontal bars, one a line: name, bar (the longest fills its column), value and share of the
 * sum.  values >= 0. */
WL_MUST_CHECK int wl_html_bars(struct wl_html *h, const char *title, const char *const *names,
	const double *values, size_t n, struct wl_err *err);

/* <img> with the bytes inline; mime "image/jpeg"; alt is escaped; width_px 0: natural. */
WL_MUST_CHECK int wl_html_image(struct wl_html *h, const void *bytes, size_t n, const char *mime,
	const char *alt, int width_px, struct wl_err *err);

/* Closes the page and writes it atomically. */
WL_MUST_CHECK int wl_html_save(struct wl_html *h, const char *path, struct wl_err *err);

#endif
