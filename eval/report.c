/* The page about runs: see report.h. */
#include "eval/report.h"
#include "eval/commands.h"
#include "eval/report_priv.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "shards/manifest.h"
#include "shards/shard.h"
#include "train/checkpoint/ckpt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line for each split, in the order of the manifest (by name). */
static int fill_counts(struct wl_cells *c, const struct wl_manifest *m, struct wl_err *err)
{
	static const char *const head[] = {"split", "shards", "samples", "MB", "rejected"};

	for (size_t i = 0; i < 5; i++)
		WL_TRY(wl_cell(c, err, "%s", head[i]));
	for (size_t i = 0; i < m->n;) {
		int64_t samples = 0, bytes = 0, rejected = 0;
		size_t k = i;

		for (; k < m->n && !strcmp(m->shards[k].split, m->shards[i].split); k++) {
			samples += m->shards[k].samples;
			bytes += m->shards[k].bytes;
			rejected += m->shards[k].rejected;
		}
		WL_TRY(wl_cell(c, err, "%s", m->shards[i].split));
		WL_TRY(wl_cell(c, err, "%zu", k - i));
		WL_TRY(wl_cell(c, err, "%lld", (long long)samples));
		WL_TRY(wl_cell(c, err, "%.1f", (double)bytes * 1e-6));
		WL_TRY(wl_cell(c, err, "%lld", (long long)rejected));
		i = k;
	}
	return 0;
}

static int put_counts(struct wl_report_out *h, const struct wl_report_opts *o, struct wl_err *err)
{
	struct wl_cells c = {.cols = 5};
	struct wl_manifest m = {0};
	char caption[400];
	int ret = -1;

	WL_TRY(wl_shard_manifest(&(struct wl_shard_place){.at = o->shards}, &m, err));
	WL_TRY_OUT(wl_report_heading(h, 2, "The data", err));
	if (fill_counts(&c, &m, err) < 0) {
		wl_arena_release(&c.arena);
		goto out;
	}
	snprintf(caption, sizeof caption, "%.250s; %zu samples taken down since", o->shards,
		m.n_tombstones);
	ret = wl_report_table(h, &c, caption, err);
out:
	wl_manifest_release(&m);
	return ret;
}

/* Every scalar below `v` as a row "a.b.c | value". */
static int flatten(struct wl_cells *c, const char *prefix, const json_t *v, struct wl_err *err)
{
	const char *key;
	char *text;
	json_t *m;
	int ret;

	if (json_is_object(v)) {
		json_object_foreach((json_t *)v, key, m)
		{
			char name[300];

			snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", key);
			WL_TRY(flatten(c, name, m, err));
		}
		return 0;
	}
	if (json_is_null(v))
		return 0;
	if (json_is_string(v))
		return wl_cell(c, err, "%s", prefix) < 0 ||
				       wl_cell(c, err, "%s", json_string_value(v)) < 0
			       ? -1
			       : 0;
	text = wl_json_text(v, err);
	ret = !text || wl_cell(c, err, "%s", prefix) < 0 || wl_cell(c, err, "%s", text) < 0 ? -1
											    : 0;
	free(text);
	return ret;
}

/* The settings that the newest checkpoint was trained with. */
static int put_settings(struct wl_report_out *h, const char *run, struct wl_err *err)
{
	struct wl_cells c = {.cols = 2};
	json_t *state = NULL;
	char *dir = NULL;
	int ret = -1;

	if (wl_ckpt_newest(run, NULL) < 0) {
		wl_warn("%s has no complete checkpoint: the page has no settings", run);
		return 0;
	}
	WL_TRY(wl_ckpt_load(run, &dir, &state, err));
	if (wl_cell(&c, err, "setting") < 0 || wl_cell(&c, err, "value") < 0 ||
		flatten(&c, "", json_object_get(state, "settings"), err) < 0) {
		wl_arena_release(&c.arena);
		goto out;
	}
	if (wl_html_raw(&h->html, "<details><summary>Settings</summary>\n", err) < 0) {
		wl_arena_release(&c.arena);
		goto out;
	}
	WL_TRY_OUT(wl_report_table(h, &c, dir, err));
	ret = wl_html_raw(&h->html, "</details>\n", err);
out:
	json_decref(state);
	free(dir);
	return ret;
}

/* --- our rows among published ones ---------------------------------------------------- */

enum { ROWS_MAX = 200 };

struct rows {
	struct wl_own_row v[ROWS_MAX];
	char name[ROWS_MAX][80];
	size_t n;
};

/* The two directions of a ranking are one row. */
static bool merge(struct rows *r, const struct wl_own_row *row, const char *name)
{
	for (size_t i = 0; i < r->n; i++) {
		bool free_cells = !strcmp(r->v[i].table, row->table) && !strcmp(r->name[i], name);

		for (size_t k = 0; k < WL_PUBLISHED_COLUMNS; k++)
			free_cells &= isnan(r->v[i].value[k]) || isnan(row->value[k]);
		if (!free_cells)
			continue;
		for (size_t k = 0; k < WL_PUBLISHED_COLUMNS; k++)
			if (!isnan(row->value[k]))
				r->v[i].value[k] = row->value[k];
		return true;
	}
	return false;
}

static void add_row(struct rows *r, const struct wl_own_row *row, const char *name)
{
	if (merge(r, row, name) || r->n == ROWS_MAX)
		return;
	r->v[r->n] = *row;
	snprintf(r->name[r->n], sizeof *r->name, "%.79s", name);
	r->v[r->n].name = r->name[r->n];
	r->n++;
}

static int add_file(struct rows *r, const char *path, const char *name, struct wl_err *err)
{
	struct wl_own_row row;
	json_t *o = wl_json_load(path, err);

	if (!o)
		return -1;
	if (wl_own_row_from_json(o, path, &row))
		add_row(r, &row, name);
	json_decref(o);
	return 0;
}

/* Results kept in a run: retrieval-*.json, caption-*.json, ranking-*.json. */
static int add_run(struct rows *r, const struct wl_report_run *run, struct wl_err *err)
{
	static const char *const patterns[] = {
		"retrieval-*.json", "caption-*.json", "ranking-*.json"};

	for (size_t p = 0; p < 3; p++) {
		struct wl_names names;
		int ret = 0;

		WL_TRY(wl_list_dir(run->dir, patterns[p], &names, err));
		for (size_t i = 0; !ret && i < names.n; i++) {
			char *path = wl_path_join(run->dir, names.v[i], err);

			ret = path ? add_file(r, path, run->name, err) : -1;
			free(path);
		}
		wl_names_release(&names);
		WL_TRY(ret);
	}
	return 0;
}

/* What was measured for this page, when its protocol has a table. */
static int add_measured(struct rows *r, const struct wl_report_opts *o,
	const struct wl_report_run *run, struct wl_err *err)
{
	json_t *json;
	struct wl_own_row row;

	if (!o->protocol || !run->v.n_images)
		return 0;
	json = wl_retrieval_to_json(&run->recall);
	if (!json || json_object_set_new(json, "protocol", json_string(o->protocol))) {
		json_decref(json);
		return wl_err_nomem(err, "a row", 0);
	}
	if (wl_own_row_from_json(json, "", &row))
		add_row(r, &row, run->name);
	json_decref(json);
	return 0;
}

static int put_published(struct wl_report_out *out, const struct wl_report_opts *o,
	const struct wl_report_run *runs, struct wl_err *err)
{
	struct rows *r = calloc(1, sizeof *r);
	int ret = -1;

	if (!r)
		return wl_err_nomem(err, "the tables", sizeof *r);
	for (size_t i = 0; i < o->runs.n; i++) {
		WL_TRY_OUT(add_measured(r, o, &runs[i], err));
		WL_TRY_OUT(add_run(r, &runs[i], err));
	}
	for (size_t i = 0; i < o->results.n; i++) {
		char name[80];

		wl_report_run_name(o->results.v[i], name, sizeof name);
		WL_TRY_OUT(add_file(r, o->results.v[i], name, err));
	}
	ret = wl_published_tables(out, r->v, r->n, err);
out:
	free(r);
	return ret;
}

/* --- the whole --------------------------------------------------------------------------- */

static int fill(struct wl_report_out *out, const struct wl_report_opts *o,
	const struct wl_report_run *runs, struct wl_err *err)
{
	char heading[200];

	if (o->embeddings.n)
		WL_TRY(wl_report_recall(out, o, runs, o->runs.n, err));
	WL_TRY(put_published(out, o, runs, err));
	for (size_t i = 0; i < o->runs.n; i++) {
		snprintf(heading, sizeof heading, "The training%s%s", o->runs.n > 1 ? " of " : "",
			o->runs.n > 1 ? runs[i].name : "");
		WL_TRY(wl_report_history(out, runs[i].dir, heading, err));
	}
	if (runs->v.n_images && o->shards && o->examples)
		WL_TRY(wl_report_examples(&out->html, o, &runs[0], err));
	if (o->shards)
		WL_TRY(put_counts(out, o, err));
	for (size_t i = 0; i < o->runs.n; i++)
		WL_TRY(put_settings(out, runs[i].dir, err));
	return 0;
}

int wl_report_write(const struct wl_report_opts *o, struct wl_err *err)
{
	struct wl_report_run *runs = calloc(o->runs.n + 1, sizeof *runs);
	struct wl_report_out out = {0};
	int ret = -1;

	if (!runs)
		return wl_err_nomem(err, "the runs", o->runs.n * sizeof *runs);
	for (size_t i = 0; i < o->runs.n; i++)
		WL_TRY_OUT(wl_report_run_load(&runs[i], o, i, err));
	WL_TRY_OUT(wl_report_out_init(&out, o->title ? o->title : runs[0].name, err));
	WL_TRY_OUT(fill(&out, o, runs, err));
	ret = wl_report_out_save(&out, o->out, err);
out:
	for (size_t i = 0; i < o->runs.n; i++)
		wl_report_run_release(&runs[i]);
	free(runs);
	wl_report_out_release(&out);
	return ret;
}
