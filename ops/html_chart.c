/* Line charts as inline SVG: wl_html_chart of html.h. */
#include "ops/html.h"

#include <math.h>
#include <stdlib.h>

/* The drawing area in SVG units; the page scales the whole. */
enum { WIDTH = 720, HEIGHT = 320, LEFT = 64, RIGHT = 16, TOP = 36, BOTTOM = 44, COLORS = 6 };
/* A line of more points than this says nothing more at this width. */
enum { MAX_POINTS = 1500 };

struct axis {
	double lo, hi;
	bool log;
	double from, to; /* SVG coordinates of lo and hi */
};

static double scale(const struct axis *a, double v)
{
	double lo = a->lo, hi = a->hi;

	if (a->log) {
		lo = log10(lo);
		hi = log10(hi);
		v = log10(v);
	}
	return a->from + (v - lo) / (hi - lo) * (a->to - a->from);
}

/* A value that has a place on the axis. */
static bool drawable(const struct axis *a, double v)
{
	return isfinite(v) && (!a->log || v > 0);
}

/* Smallest and largest of the values, made an interval that is not empty. */
static void fit(struct axis *a, const struct wl_series *s, size_t n, bool is_x)
{
	a->lo = INFINITY;
	a->hi = -INFINITY;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < s[i].n; k++) {
			double v = is_x ? s[i].x[k] : s[i].y[k];

			if (!drawable(a, v))
				continue;
			a->lo = v < a->lo ? v : a->lo;
			a->hi = v > a->hi ? v : a->hi;
		}
	if (!(a->lo <= a->hi)) {
		a->lo = a->log ? 0.1 : 0;
		a->hi = 1;
	}
	if (a->lo == a->hi) {
		double pad = a->lo != 0 ? fabs(a->lo) * 0.5 : 0.5;

		a->hi += pad;
		a->lo -= a->log ? a->lo * 0.5 : pad;
	}
}

/* 1, 2 or 5 times a power of ten, about a fifth of the span. */
static double nice_step(double span)
{
	double raw = span / 5, unit = pow(10, floor(log10(raw))), f = raw / unit;

	return unit * (f < 1.5 ? 1 : f < 3.5 ? 2 : f < 7.5 ? 5 : 10);
}

static int tick(struct wl_html *h, const struct axis *a, bool is_x, double v, struct wl_err *err)
{
	double at = scale(a, v);

	if (is_x)
		return wl_buf_printf(&h->b, err,
			"<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
			"<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n",
			at, at, TOP, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 16, v);
	return wl_buf_printf(&h->b, err,
		"<line class=\"g\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
		"<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n",
		LEFT, WIDTH - RIGHT, at, at, LEFT - 6, at + 4, v);
}

static int ticks(struct wl_html *h, const struct axis *a, bool is_x, struct wl_err *err)
{
	if (a->log && a->hi / a->lo >= 10) {
		for (double v = pow(10, ceil(log10(a->lo))); v <= a->hi * 1.0000001; v *= 10)
			WL_TRY(tick(h, a, is_x, v, err));
		return 0;
	}
	double step = nice_step(a->hi - a->lo);

	for (double k = ceil(a->lo / step - 1e-9); k * step <= a->hi + step * 1e-9; k++)
		WL_TRY(tick(h, a, is_x, k * step == 0 ? 0 : k * step, err));
	return 0;
}

/* One point of a path; returns with the pen down. */
static int point(struct wl_html *h, const struct wl_series *s, size_t k, const struct axis *x,
	const struct axis *y, bool *down, struct wl_err *err)
{
	WL_TRY(wl_buf_printf(&h->b, err, "%c%.1f %.1f", *down ? 'L' : 'M', scale(x, s->x[k]),
		scale(y, s->y[k])));
	/* A lone point shows as a dot. */
	if (!*down)
		WL_TRY(wl_buf_puts(&h->b, "l0 0", err));
	*down = true;
	return 0;
}

/* One path; a value that cannot be drawn lifts the pen.  A long series is drawn by the
 * lowest and the highest value of each run of points, so that no spike is lost. */
static int line(struct wl_html *h, const struct wl_series *s, size_t color, const struct axis *x,
	const struct axis *y, struct wl_err *err)
{
	size_t run = s->n > MAX_POINTS ? (2 * s->n + MAX_POINTS - 1) / MAX_POINTS : 1;
	bool down = false;

	WL_TRY(wl_buf_printf(&h->b, err,
		"<path fill=\"none\" stroke-width=\"1.8\" stroke-linejoin=\"round\" "
		"stroke-linecap=\"round\" stroke=\"var(--s%zu)\" d=\"", color));
	for (size_t i = 0; i < s->n; i += run) {
		size_t end = i + run < s->n ? i + run : s->n, lo = end, hi = end;
		bool gap = false;

		for (size_t k = i; k < end; k++) {
			if (!drawable(x, s->x[k]) || !drawable(y, s->y[k])) {
				gap = true;
				continue;
			}
			lo = lo == end || s->y[k] < s->y[lo] ? k : lo;
			hi = hi == end || s->y[k] > s->y[hi] ? k : hi;
		}
		if (lo < end)
			WL_TRY(point(h, s, lo < hi ? lo : hi, x, y, &down, err));
		if (lo != hi)
			WL_TRY(point(h, s, lo < hi ? hi : lo, x, y, &down, err));
		if (gap)
			down = false;
	}
	return wl_buf_puts(&h->b, "\"/>\n", err);
}

static int legend(struct wl_html *h, const struct wl_series *s, size_t n, struct wl_err *err)
{
	for (size_t i = 0; i < n; i++) {
		int at = LEFT + (int)(i % COLORS) * 108;

		WL_TRY(wl_buf_printf(&h->b, err,
			"<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"3\" fill=\"var(--s%zu)\"/>"
			"<text x=\"%d\" y=\"%d\">", at, TOP - 15, i % COLORS, at + 16, TOP - 10));
		WL_TRY(wl_html_text(h, s[i].name ? s[i].name : "", err));
		WL_TRY(wl_buf_puts(&h->b, "</text>\n", err));
	}
	return 0;
}

int wl_html_chart(struct wl_html *h, const char *title, const char *x_label, const char *y_label,
	const struct wl_series *series, size_t n_series, bool log_y, struct wl_err *err)
{
	struct axis x = {.from = LEFT, .to = WIDTH - RIGHT};
	struct axis y = {.log = log_y, .from = HEIGHT - BOTTOM, .to = TOP};

	fit(&x, series, n_series, true);
	fit(&y, series, n_series, false);
	WL_TRY(wl_buf_printf(&h->b, err,
		"<svg viewBox=\"0 0 %d %d\" role=\"img\">\n<title>", WIDTH, HEIGHT));
	WL_TRY(wl_html_text(h, title, err));
	WL_TRY(wl_buf_printf(&h->b, err, "</title>\n<text x=\"%d\" y=\"14\" font-weight=\"bold\">",
		LEFT));
	WL_TRY(wl_html_text(h, title, err));
	WL_TRY(wl_buf_puts(&h->b, "</text>\n", err));
	WL_TRY(ticks(h, &x, true, err));
	WL_TRY(ticks(h, &y, false, err));
	for (size_t i = 0; i < n_series; i++)
		WL_TRY(line(h, &series[i], i % COLORS, &x, &y, err));
	WL_TRY(legend(h, series, n_series, err));
	WL_TRY(wl_buf_printf(&h->b, err, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">",
		WIDTH - RIGHT, HEIGHT - 8));
	WL_TRY(wl_html_text(h, x_label, err));
	WL_TRY(wl_buf_printf(&h->b, err,
		"</text>\n<text transform=\"translate(14 %d) rotate(-90)\" text-anchor=\"middle\">",
		(TOP + HEIGHT - BOTTOM) / 2));
	WL_TRY(wl_html_text(h, y_label, err));
	return wl_buf_puts(&h->b, "</text>\n</svg>\n", err);
}
