/* The page about a run: see report.h. */
#include "eval/report.h"
#include "eval/commands.h"
#include "eval/report_priv.h"
#include "ops/arena.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/metrics.h"
#include "shards/manifest.h"
#include "train/checkpoint/ckpt.h"

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

#define CURVE(label, ...) {.path = {__VA_ARGS__}, .name = label}

static const struct chart chart_table[CHARTS] = {
	{"Loss", "loss", false, {CURVE("loss", "loss"), CURVE("image to text", "loss_i2t"),
		CURVE("text to image", "loss_t2i")}},
	{"R@K on the validation pairs", "%", false, {
		CURVE("i2t R@1", "val", "i2t", "r1"), CURVE("i2t R@5", "val", "i2t", "r5"),
		CURVE("i2t R@10", "val", "i2t", "r10"), CURVE("t2i R@1", "val", "t2i", "r1"),
		CURVE("t2i R@5", "val", "t2i", "r5"), CURVE("t2i R@10", "val", "t2i", "r10")}},
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
				WL_TRY(curve_add(c, step, json_is_number(v) ? json_number_value(v) : NAN, err));
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
	WL_TRY(wl_html_heading(h, 2, "The training", err));
	for (size_t i = 0; i < CHARTS; i++) {
		const struct chart *c = &past->chart[i];
		struct wl_series s[6];
		size_t n = 0;

		for (size_t k = 0; k < 6 && c->curve[k].name; k++)
			if (c->curve[k].n)
				s[n++] = (struct wl_series){c->curve[k].name, c->curve[k].x, c->curve[k].y,
					c->curve[k].n};
		if (n)
			WL_TRY(wl_html_chart(h, c->title, "step", c->y_label, s, n, c->log_y, err));
	}
	return 0;
}

static int put_history(struct wl_html *h, const struct wl_report_opts *o, struct wl_err *err)
{
	char *path = wl_path_join(o->run, "metrics.jsonl", err);
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
	ret = past.lines ? put_charts(h, &past, err) : 0;
out:
	history_release(&past);
	free(path);
	return ret;
}

/* --- tables ------------------------------------------------------------------------- */

/* Cells made one by one, in an arena. */
struct cells {
	struct wl_arena arena;
	const char **v;
	size_t n, cap, cols;
};

static int cell(struct cells *c, struct wl_err *err, const char *fmt, ...) WL_PRINTF(3, 4);
static int cell(struct cells *c, struct wl_err *err, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (c->n == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 64;
		const char **v = wl_arena_calloc(&c->arena, cap, sizeof *v, err);

		if (!v)
			return -1;
		if (c->n)
			memcpy(v, c->v, c->n * sizeof *v);
		c->v = v;
		c->cap = cap;
	}
	c->v[c->n] = wl_arena_strdup(&c->arena, text, err);
	return c->v[c->n++] ? 0 : -1;
}

static int row(struct cells *c, const char *name, const struct wl_recall *r, struct wl_err *err)
{
	WL_TRY(cell(c, err, "%s", name));
	WL_TRY(cell(c, err, "%.2f", r->r1));
	WL_TRY(cell(c, err, "%.2f", r->r5));
	WL_TRY(cell(c, err, "%.2f", r->r10));
	WL_TRY(cell(c, err, "%.1f", r->median_rank));
	return cell(c, err, "%.1f", r->mean_rank);
}

static int put_cells(struct wl_html *h, struct cells *c, const char *caption, struct wl_err *err)
{
	int ret = wl_html_table(h, c->n / c->cols, c->cols, c->v, caption, err);

	wl_arena_release(&c->arena);
	return ret;
}

static int fill_recall(struct cells *c, const struct wl_retrieval *r,
	const struct wl_retrieval *chance, struct wl_err *err)
{
	static const char *const head[] = {"direction", "R@1 %", "R@5 %", "R@10 %", "median rank",
		"mean rank"};

	for (size_t i = 0; i < 6; i++)
		WL_TRY(cell(c, err, "%s", head[i]));
	WL_TRY(row(c, "image to text", &r->i2t, err));
	WL_TRY(row(c, "by chance", &chance->i2t, err));
	WL_TRY(row(c, "text to image", &r->t2i, err));
	return row(c, "by chance", &chance->t2i, err);
}

static int put_recall(struct wl_html *h, const struct wl_report_opts *o,
	const struct wl_vectors *v, struct wl_err *err)
{
	struct wl_retrieval_in in = wl_vectors_in(v);
	struct cells c = {.cols = 6};
	struct wl_retrieval r, chance;
	char caption[300];

	WL_TRY(wl_retrieval_measure(&in, &r, err));
	WL_TRY(wl_retrieval_chance(&in, &chance, err));
	WL_TRY(wl_html_heading(h, 2, "How often the right one is found", err));
	if (fill_recall(&c, &r, &chance, err) < 0) {
		wl_arena_release(&c.arena);
		return -1;
	}
	snprintf(caption, sizeof caption,
		"Split %.60s: %lld pictures, %lld texts, all of them candidates; mean recall %.2f %%,"
		" by chance %.2f %%", o->split, (long long)v->n_images, (long long)v->n_texts,
		r.mean_recall, chance.mean_recall);
	return put_cells(h, &c, caption, err);
}

/* A line for each split, in the order of the manifest (by name). */
static int fill_counts(struct cells *c, const struct wl_manifest *m, struct wl_err *err)
{
	static const char *const head[] = {"split", "shards", "samples", "MB", "rejected"};

	for (size_t i = 0; i < 5; i++)
		WL_TRY(cell(c, err, "%s", head[i]));
	for (size_t i = 0; i < m->n;) {
		int64_t samples = 0, bytes = 0, rejected = 0;
		size_t k = i;

		for (; k < m->n && !strcmp(m->shards[k].split, m->shards[i].split); k++) {
			samples += m->shards[k].samples;
			bytes += m->shards[k].bytes;
			rejected += m->shards[k].rejected;
		}
		WL_TRY(cell(c, err, "%s", m->shards[i].split));
		WL_TRY(cell(c, err, "%zu", k - i));
		WL_TRY(cell(c, err, "%lld", (long long)samples));
		WL_TRY(cell(c, err, "%.1f", (double)bytes * 1e-6));
		WL_TRY(cell(c, err, "%lld", (long long)rejected));
		i = k;
	}
	return 0;
}

static int put_counts(struct wl_html *h, const struct wl_report_opts *o, struct wl_err *err)
{
	struct cells c = {.cols = 5};
	struct wl_manifest m = {0};
	char caption[400];
	int ret = -1;

	WL_TRY(wl_manifest_read(&m, o->shards, err));
	WL_TRY_OUT(wl_html_heading(h, 2, "The data", err));
	if (fill_counts(&c, &m, err) < 0) {
		wl_arena_release(&c.arena);
		goto out;
	}
	snprintf(caption, sizeof caption, "%.250s; %zu samples taken down since", o->shards,
		m.n_tombstones);
	ret = put_cells(h, &c, caption, err);
out:
	wl_manifest_release(&m);
	return ret;
}

/* Every scalar below `v` as a row "a.b.c | value". */
static int flatten(struct cells *c, const char *prefix, const json_t *v, struct wl_err *err)
{
	const char *key;
	char *text;
	json_t *m;
	int ret;

	if (json_is_object(v)) {
		json_object_foreach ((json_t *)v, key, m) {
			char name[300];

			snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", key);
			WL_TRY(flatten(c, name, m, err));
		}
		return 0;
	}
	if (json_is_null(v))
		return 0;
	if (json_is_string(v))
		return cell(c, err, "%s", prefix) < 0 ||
			cell(c, err, "%s", json_string_value(v)) < 0 ? -1 : 0;
	text = wl_json_text(v, err);
	ret = !text || cell(c, err, "%s", prefix) < 0 || cell(c, err, "%s", text) < 0 ? -1 : 0;
	free(text);
	return ret;
}

/* The settings that the newest checkpoint was trained with. */
static int put_settings(struct wl_html *h, const struct wl_report_opts *o, struct wl_err *err)
{
	struct cells c = {.cols = 2};
	json_t *state = NULL;
	char *dir = NULL;
	int ret = -1;

	if (wl_ckpt_newest(o->run, NULL) < 0) {
		wl_warn("%s has no complete checkpoint: the page has no settings", o->run);
		return 0;
	}
	WL_TRY(wl_ckpt_load(o->run, &dir, &state, err));
	if (cell(&c, err, "setting") < 0 || cell(&c, err, "value") < 0 ||
		flatten(&c, "", json_object_get(state, "settings"), err) < 0) {
		wl_arena_release(&c.arena);
		goto out;
	}
	if (wl_html_raw(h, "<details><summary>Settings</summary>\n", err) < 0) {
		wl_arena_release(&c.arena);
		goto out;
	}
	WL_TRY_OUT(put_cells(h, &c, dir, err));
	ret = wl_html_raw(h, "</details>\n", err);
out:
	json_decref(state);
	free(dir);
	return ret;
}

static int fill(struct wl_html *h, const struct wl_report_opts *o, struct wl_err *err)
{
	struct wl_vectors v = {0};
	int ret = -1;

	if (o->embeddings) {
		WL_TRY(wl_vectors_load(&v, o->embeddings, err));
		wl_retrieval_normalize(v.images, v.n_images, v.dim);
		wl_retrieval_normalize(v.texts, v.n_texts, v.dim);
		WL_TRY_OUT(put_recall(h, o, &v, err));
	}
	WL_TRY_OUT(put_history(h, o, err));
	if (o->embeddings && o->shards)
		WL_TRY_OUT(wl_report_examples(h, o, &v, err));
	if (o->shards)
		WL_TRY_OUT(put_counts(h, o, err));
	ret = put_settings(h, o, err);
out:
	wl_vectors_release(&v);
	return ret;
}

int wl_report_write(const struct wl_report_opts *o, struct wl_err *err)
{
	const char *slash = strrchr(o->run, '/');
	struct wl_html h = {0};
	int ret = -1;

	WL_TRY_OUT(wl_html_init(&h, o->title ? o->title : slash && slash[1] ? slash + 1 : o->run, err));
	WL_TRY_OUT(fill(&h, o, err));
	ret = wl_html_save(&h, o->out, err);
out:
	wl_html_release(&h);
	return ret;
}
