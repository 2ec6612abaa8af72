/* R@K of runs: tables, chart, comparison.  See report_priv.h. */
#include "eval/commands.h"
#include "eval/protocol.h"
#include "eval/report_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHART_K = 100 };

void wl_report_run_name(const char *dir, char *name, size_t size)
{
	size_t n = strlen(dir), start;

	while (n > 1 && dir[n - 1] == '/')
		n--;
	for (start = n; start > 0 && dir[start - 1] != '/'; start--)
		;
	snprintf(name, size, "%.*s", (int)(n - start), dir + start);
}

void wl_report_run_release(struct wl_report_run *r)
{
	wl_vectors_release(&r->v);
	free(r->image_rank);
	free(r->text_rank);
}

int wl_report_run_load(
	struct wl_report_run *r, const struct wl_report_opts *o, size_t i, struct wl_err *err)
{
	const struct wl_protocol *p = NULL;
	struct wl_retrieval_in in;

	r->dir = o->runs.v[i];
	wl_report_run_name(r->dir, r->name, sizeof r->name);
	if (o->protocol && !(p = wl_protocol_find(o->protocol, err)))
		return -1;
	if (i >= o->embeddings.n)
		return 0;
	WL_TRY(wl_vectors_load(&r->v, o->embeddings.v[i], err));
	in = wl_vectors_in(&r->v);
	if (p)
		WL_TRY(wl_protocol_check(p, &in, err));
	wl_retrieval_normalize(r->v.images, r->v.n_images, r->v.dim);
	wl_retrieval_normalize(r->v.texts, r->v.n_texts, r->v.dim);
	r->image_rank = calloc((size_t)r->v.n_images + 1, sizeof *r->image_rank);
	r->text_rank = calloc((size_t)r->v.n_texts + 1, sizeof *r->text_rank);
	if (!r->image_rank || !r->text_rank)
		return wl_err_nomem(err, "ranks", (size_t)(r->v.n_images + r->v.n_texts) * 8);
	WL_TRY(wl_retrieval_ranks(&in, r->image_rank, r->text_rank, err));
	WL_TRY(wl_retrieval_from_ranks(&in, r->image_rank, r->text_rank, &r->recall, err));
	WL_TRY(wl_retrieval_chance(&in, &r->chance, err));
	return wl_retrieval_bootstrap(
		&in, r->image_rank, r->text_rank, (int)o->bootstrap, 1, &r->boot, err);
}

/* --- tables ------------------------------------------------------------------------- */

static int row(struct wl_cells *c, const char *name, const struct wl_recall *r,
	const struct wl_boot *b, int first, struct wl_err *err)
{
	const double v[3] = {r->r1, r->r5, r->r10};

	WL_TRY(wl_cell(c, err, "%s", name));
	for (int k = 0; k < 3; k++) {
		if (b)
			WL_TRY(wl_cell(c, err, "%.2f (%.1f\xe2\x80\x93%.1f)", v[k],
				b->lo[first + k], b->hi[first + k]));
		else
			WL_TRY(wl_cell(c, err, "%.2f", v[k]));
	}
	WL_TRY(wl_cell(c, err, "%.1f", r->median_rank));
	return wl_cell(c, err, "%.1f", r->mean_rank);
}

static int fill_recall(struct wl_cells *c, const struct wl_report_run *run, struct wl_err *err)
{
	static const char *const head[] = {
		"direction", "R@1 %", "R@5 %", "R@10 %", "median rank", "mean rank"};

	for (size_t i = 0; i < 6; i++)
		WL_TRY(wl_cell(c, err, "%s", head[i]));
	WL_TRY(row(c, "image to text", &run->recall.i2t, &run->boot, 0, err));
	WL_TRY(row(c, "by chance", &run->chance.i2t, NULL, 0, err));
	WL_TRY(row(c, "text to image", &run->recall.t2i, &run->boot, 3, err));
	return row(c, "by chance", &run->chance.t2i, NULL, 0, err);
}

static int put_line(struct wl_report_out *out, const struct wl_report_opts *o, struct wl_err *err)
{
	const struct wl_protocol *p = o->protocol ? wl_protocol_find(o->protocol, err) : NULL;
	char line[700];

	snprintf(line, sizeof line,
		"Protocol: %s. Rank = 1 + candidates with a higher score + those"
		" with the same score that stand earlier. In brackets: 95 %% of %lld bootstrap "
		"rounds over"
		" images.",
		p ? p->line
		  : "a pool of one's own, not comparable with published numbers; all"
		    " pictures and all texts of the split are candidates, any right answer counts",
		(long long)o->bootstrap);
	return wl_report_para(out, line, err);
}

static int put_table(struct wl_report_out *out, const struct wl_report_opts *o,
	const struct wl_report_run *run, json_t *list, struct wl_err *err)
{
	struct wl_cells c = {.cols = 6};
	char caption[400], text[100];
	json_t *json = wl_retrieval_to_json(&run->recall);

	if (!json || json_object_set_new(json, "name", json_string(run->name)) ||
		json_object_set_new(json, "chance", wl_retrieval_to_json(&run->chance)) ||
		json_object_set_new(json, "mean_recall_95",
			json_pack("[ff]", run->boot.lo[6], run->boot.hi[6])) ||
		json_array_append(list, json)) {
		json_decref(json);
		return wl_err_nomem(err, "a table", 0);
	}
	json_decref(json);
	if (fill_recall(&c, run, err) < 0) {
		wl_arena_release(&c.arena);
		return -1;
	}
	snprintf(text, sizeof text, "%s%s", o->runs.n > 1 ? run->name : "",
		o->runs.n > 1 ? ". " : "");
	snprintf(caption, sizeof caption,
		"%sSplit %.60s: %lld pictures, %lld texts, all of them candidates; mean recall "
		"%.2f %%"
		" (%.1f\xe2\x80\x93%.1f), by chance %.2f %%",
		text, o->split, (long long)run->v.n_images, (long long)run->v.n_texts,
		run->recall.mean_recall, run->boot.lo[6], run->boot.hi[6], run->chance.mean_recall);
	return wl_report_table(out, &c, caption, err);
}

/* --- the chart ---------------------------------------------------------------------- */

/* Percent of the queries that have a right answer within the first 1..CHART_K. */
static void curve_of(const int64_t *rank, int64_t n, double *y)
{
	int64_t hits[CHART_K + 1] = {0}, queries = 0, sum = 0;

	for (int64_t i = 0; i < n; i++) {
		queries += rank[i] > 0;
		if (rank[i] > 0 && rank[i] <= CHART_K)
			hits[rank[i]]++;
	}
	for (int k = 1; k <= CHART_K; k++) {
		sum += hits[k];
		y[k - 1] = queries ? 100.0 * (double)sum / (double)queries : 0;
	}
}

static int put_chart(
	struct wl_report_out *out, const struct wl_report_run *runs, size_t n, struct wl_err *err)
{
	double x[CHART_K], y[6][CHART_K];
	char names[6][110];
	struct wl_series s[6];
	size_t have = 0;

	for (int k = 0; k < CHART_K; k++)
		x[k] = k + 1;
	for (size_t i = 0; i < n && i < 3; i++) {
		if (!runs[i].v.n_images)
			continue;
		curve_of(runs[i].image_rank, runs[i].v.n_images, y[have]);
		curve_of(runs[i].text_rank, runs[i].v.n_texts, y[have + 1]);
		for (int d = 0; d < 2; d++, have++) {
			snprintf(names[have], sizeof *names, "%s%s%s",
				d ? "text to image" : "image to text", n > 1 ? ", " : "",
				n > 1 ? runs[i].name : "");
			s[have] = (struct wl_series){names[have], x, y[have], CHART_K};
		}
	}
	return wl_html_chart(&out->html, "R@K over K", "K", "%", s, have, false, err);
}

/* --- two runs ----------------------------------------------------------------------- */

static int check_same(
	const struct wl_report_run *a, const struct wl_report_run *b, struct wl_err *err)
{
	const struct wl_vectors *x = &a->v, *y = &b->v;

	if (x->n_images != y->n_images || x->n_texts != y->n_texts)
		return wl_err_set(err, WL_EDATA,
			"%s and %s cannot be compared: %lld and %lld images, %lld and %lld texts",
			a->name, b->name, (long long)x->n_images, (long long)y->n_images,
			(long long)x->n_texts, (long long)y->n_texts);
	for (int64_t i = 0; i < x->n_images; i++)
		if (x->image_ids[i] != y->image_ids[i])
			return wl_err_set(err, WL_EDATA,
				"%s and %s cannot be compared: image %lld is %lld in one and %lld "
				"in the other",
				a->name, b->name, (long long)i, (long long)x->image_ids[i],
				(long long)y->image_ids[i]);
	for (int64_t j = 0; j < x->n_texts; j++)
		if (x->text_ids[j] != y->text_ids[j])
			return wl_err_set(err, WL_EDATA,
				"%s and %s cannot be compared: text %lld is of %lld in one and "
				"%lld in the other",
				a->name, b->name, (long long)j, (long long)x->text_ids[j],
				(long long)y->text_ids[j]);
	return 0;
}

static int fill_difference(struct wl_cells *c, const struct wl_report_run *a,
	const struct wl_report_run *b, const struct wl_boot_difference *d, struct wl_err *err)
{
	static const char *const names[WL_BOOT_STATS] = {"image to text R@1", "image to text R@5",
		"image to text R@10", "text to image R@1", "text to image R@5",
		"text to image R@10", "mean recall"};

	WL_TRY(wl_cell(c, err, "measure"));
	WL_TRY(wl_cell(c, err, "%s", a->name));
	WL_TRY(wl_cell(c, err, "%s", b->name));
	WL_TRY(wl_cell(c, err, "difference"));
	WL_TRY(wl_cell(c, err, "95 %%"));
	WL_TRY(wl_cell(c, err, "p"));
	for (int k = 0; k < WL_BOOT_STATS; k++) {
		WL_TRY(wl_cell(c, err, "%s", names[k]));
		WL_TRY(wl_cell(c, err, "%.2f", a->boot.value[k]));
		WL_TRY(wl_cell(c, err, "%.2f", b->boot.value[k]));
		WL_TRY(wl_cell(c, err, "%+.2f", d->d.value[k]));
		WL_TRY(wl_cell(c, err, "%+.2f to %+.2f", d->d.lo[k], d->d.hi[k]));
		WL_TRY(wl_cell(c, err, "%.4f", d->p[k]));
	}
	return 0;
}

static int put_difference(struct wl_report_out *out, const struct wl_report_opts *o,
	const struct wl_report_run *a, const struct wl_report_run *b, struct wl_err *err)
{
	struct wl_retrieval_in in = wl_vectors_in(&a->v);
	struct wl_cells c = {.cols = 6};
	struct wl_boot_difference d;

	WL_TRY(check_same(a, b, err));
	WL_TRY(wl_retrieval_compare(&in, a->image_rank, a->text_rank, b->image_rank, b->text_rank,
		(int)o->bootstrap, 1, &d, err));
	if (fill_difference(&c, a, b, &d, err) < 0) {
		wl_arena_release(&c.arena);
		return -1;
	}
	json_object_set_new(out->json, "comparison",
		json_pack("{s:s,s:s,s:f,s:[ff],s:f}", "a", a->name, "b", b->name,
			"mean_recall_difference", d.d.value[6], "interval_95", d.d.lo[6], d.d.hi[6],
			"p", d.p[6]));
	WL_TRY(wl_report_heading(out, 2, "Two runs compared", err));
	WL_TRY(wl_report_table(
		out, &c, "Paired bootstrap: the same images are drawn for both", err));
	return wl_report_para(out,
		"p: two-sided, the share of rounds on the other side of no"
		" difference, doubled. Seven measures are tested: small p values of single ones "
		"are to be"
		" read with that in mind.",
		err);
}

int wl_report_recall(struct wl_report_out *out, const struct wl_report_opts *o,
	const struct wl_report_run *runs, size_t n, struct wl_err *err)
{
	json_t *list = json_array();
	size_t measured = 0;

	if (!list || json_object_set_new(out->json, "retrieval", list))
		return wl_err_nomem(err, "the report", 0);
	WL_TRY(wl_report_heading(out, 2, "How often the right one is found", err));
	for (size_t i = 0; i < n; i++) {
		if (!runs[i].v.n_images)
			continue;
		WL_TRY(put_table(out, o, &runs[i], list, err));
		measured++;
	}
	WL_TRY(put_line(out, o, err));
	WL_TRY(put_chart(out, runs, n, err));
	for (size_t i = 1; i < measured; i++)
		WL_TRY(put_difference(out, o, &runs[0], &runs[i], err));
	return 0;
}
