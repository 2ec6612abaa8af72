/* The curves of a training: see report_priv.h. */
#include "eval/report_priv.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A curve that grows. */
struct curve {
	const char *path[3]; /* keys down into the line's object, NULL-terminated when shorter */
	const char *name;
	double *x, *y;
	size_t n, cap;
};

/* What is drawn: charts of up to six curves each. */
struct chart {
	const char *title, *y_label;
	bool log_y;
	struct curve curve[6];
};

enum { CHARTS = 4 };

#define CURVE(label, ...)                                                                          \
	{                                                                                          \
		.path = {__VA_ARGS__}, .name = label                                               \
	}

static const struct chart chart_table[CHARTS] = {
	{"Loss", "loss", false,
		{CURVE("loss", "loss"), CURVE("image to text", "loss_i2t"),
			CURVE("text to image", "loss_t2i")}},
	{"R@K on the validation pairs", "%", false,
		{CURVE("i2t R@1", "val", "i2t", "r1"), CURVE("i2t R@5", "val", "i2t", "r5"),
			CURVE("i2t R@10", "val", "i2t", "r10"),
			CURVE("t2i R@1", "val", "t2i", "r1"), CURVE("t2i R@5", "val", "t2i", "r5"),
			CURVE("t2i R@10", "val", "t2i", "r10")}},
	{"Learning rate", "rate", false, {CURVE("lr", "lr")}},
	{"Speed", "pairs per second", false, {CURVE("pairs/s", "pairs_per_s")}},
};

struct history {
	struct chart chart[CHARTS];
	int64_t lines;
};

static int curve_add(struct curve *c, double x, double y, struct wl_err *err)
{
	if (c->n == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 256;
		double *nx = realloc(c->x, cap * sizeof *nx), *ny;

		if (nx)
			c->x = nx;
		ny = nx ? realloc(c->y, cap * sizeof *ny) : NULL;
		if (!ny)
			return wl_err_nomem(err, "a curve", cap * sizeof *ny);
		c->y = ny;
		c->cap = cap;
	}
	c->x[c->n] = x;
	c->y[c->n++] = y;
	return 0;
}

/* One line of metrics.jsonl; a number that is null was not finite: a gap in the curve. */
static int history_line(json_t *o, size_t line, void *user, struct wl_err *err)
{
	struct history *h = user;
	double step = json_number_value(json_object_get(o, "step"));

	(void)line;
	h->lines++;
	for (size_t i = 0; i < CHARTS; i++)
		for (size_t k = 0; k < 6 && h->chart[i].curve[k].name; k++) {
			struct curve *c = &h->chart[i].curve[k];
			const json_t *v = o;

			for (size_t d = 0; d < 3 && c->path[d]; d++)
				v = json_object_get(v, c->path[d]);
			if (v)
				WL_TRY(curve_add(c, step,
					json_is_number(v) ? json_number_value(v) : NAN, err));
		}
	return 0;
}

static void history_release(struct history *h)
{
	for (size_t i = 0; i < CHARTS; i++)
		for (size_t k = 0; k < 6; k++) {
			free(h->chart[i].curve[k].x);
			free(h->chart[i].curve[k].y);
		}
}

static int put_charts(struct wl_html *h, const struct history *past, struct wl_err *err)
{
	for (size_t i = 0; i < CHARTS; i++) {
		const struct chart *c = &past->chart[i];
		struct wl_series s[6];
		size_t n = 0;

		for (size_t k = 0; k < 6 && c->curve[k].name; k++)
			if (c->curve[k].n)
				s[n++] = (struct wl_series){c->curve[k].name, c->curve[k].x,
					c->curve[k].y, c->curve[k].n};
		if (n)
			WL_TRY(wl_html_chart(h, c->title, "step", c->y_label, s, n, c->log_y, err));
	}
	return 0;
}

/* Where the curves end, for Markdown and JSON. */
static int put_last(struct wl_report_out *out, const struct history *past, struct wl_err *err)
{
	const struct curve *loss = &past->chart[0].curve[0];
	char text[200];

	if (!loss->n)
		return 0;
	snprintf(text, sizeof text, "%lld lines of metrics; at step %.0f the loss was %.4f.",
		(long long)past->lines, loss->x[loss->n - 1], loss->y[loss->n - 1]);
	return wl_report_para(out, text, err);
}

int wl_report_history(
	struct wl_report_out *out, const char *run, const char *heading, struct wl_err *err)
{
	char *path = wl_path_join(run, "metrics.jsonl", err);
	struct history past = {.lines = 0};
	int ret = -1;

	memcpy(past.chart, chart_table, sizeof chart_table);
	if (!path)
		return -1;
	if (!wl_exists(path)) {
		wl_warn("%s is not there: the page has no curves", path);
		ret = 0;
		goto out;
	}
	WL_TRY_OUT(wl_jsonl_read(path, history_line, &past, err));
	ret = 0;
	if (past.lines) {
		ret = -1;
		WL_TRY_OUT(wl_report_heading(out, 2, heading, err));
		WL_TRY_OUT(put_last(out, &past, err));
		ret = put_charts(&out->html, &past, err);
	}
out:
	history_release(&past);
	free(path);
	return ret;
}
