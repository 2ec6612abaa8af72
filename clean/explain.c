/* For people: why a pair was kept or not, and a page of what was dropped. */
#include "clean/filter.h"

#include "clean/funnel.h"
#include "clean/pairtext.h"
#include "clean/subject.h"
#include "ops/file.h"
#include "ops/html.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>

static const char *const stages[] = {"dedup", "filter"};

/* A published database of a stage; 0 opened, 1 the stage has not run. */
static int open_stage(
	struct wl_corpus *c, const char *stage, int p, struct wl_db *db, struct wl_err *err)
{
	int generation = wl_corpus_generation(c, stage), ret;
	char *path;

	*db = (struct wl_db){0};
	if (!generation)
		return 1;
	path = wl_corpus_stage_path(c, stage, generation, p, err);
	ret = path ? wl_db_open(db, path, WL_DB_READ, err) : -1;
	free(path);
	return ret;
}

/* ---- explain ---- */

/* "PPPPP-ID" or "ID": finds the pair; the cursor is the caller's. */
static int find_pair(struct wl_corpus *c, const char *name, struct wl_pair_cursor **cur,
	struct wl_pair *pair, struct wl_err *err)
{
	int from = 0, to = wl_corpus_partitions(c);
	const char *digits = name, *dash = strchr(name, '-');
	long long id;
	char *end;

	if (dash) {
		from = (int)strtol(name, &end, 10);
		to = end == dash && from >= 0 && from < to ? from + 1 : from;
		digits = dash + 1;
	}
	id = strtoll(digits, &end, 10);
	if (*end || end == digits || to <= from)
		return wl_err_set(err, WL_EUSAGE,
			"--explain %s: expected PARTITION-ID as the reports "
			"show it (00001-123), of %d partitions, or the id alone.",
			name, wl_corpus_partitions(c));
	for (int p = from; p < to; p++) {
		int found;
		*cur = wl_pairs_open(c, p, err);
		if (!*cur)
			return -1;
		found = wl_pairs_find(*cur, id, pair, err);
		if (found)
			return found < 0 ? -1 : 0;
		wl_pairs_close(*cur);
		*cur = NULL;
	}
	return wl_err_set(err, WL_EDATA, "The corpus %s has no pair %s.", wl_corpus_dir(c), name);
}

static int print_stage(struct wl_corpus *c, const char *stage, const struct wl_pair *p, FILE *to,
	struct wl_err *err)
{
	struct wl_db db;
	sqlite3_stmt *st = NULL;
	int ret = open_stage(c, stage, p->partition, &db, err), row, n = 0;

	if (ret) {
		if (ret > 0)
			fprintf(to, "%s: has not run yet\n", stage);
		return ret < 0 ? -1 : 0;
	}
	ret = -1;
	WL_TRY_OUT(wl_db_prepare(
		&db, &st, "SELECT reason, detail FROM verdict WHERE pair_id = ?", err));
	WL_TRY_OUT(wl_db_bind(&db, st, err, "i", p->id));
	while ((row = wl_db_step(&db, st, err)) != 0) {
		WL_TRY_OUT(row);
		fprintf(to, "%s: dropped, %s: %s\n", stage, sqlite3_column_text(st, 0),
			sqlite3_column_text(st, 1));
		n++;
	}
	if (!n)
		fprintf(to, "%s: kept (generation %d)\n", stage, wl_corpus_generation(c, stage));
	ret = 0;
out:
	sqlite3_finalize(st);
	wl_db_close(&db);
	return ret;
}

static int print_texts(const struct wl_outcome *o, const char *texts, const char *name, FILE *to,
	struct wl_err *err)
{
	struct wl_pairtext p;
	json_t *e;
	size_t i;

	WL_TRY(wl_pairtext_parse(&p, texts, name, err));
	for (i = 0; i < p.n; i++)
		fprintf(to, "raw %s: %s\n", p.v[i].kind, p.v[i].text);
	wl_pairtext_release(&p);
	json_array_foreach(o->texts, i, e) fprintf(to, "clean %s: %s\n",
		json_string_value(json_array_get(e, 0)), json_string_value(json_array_get(e, 1)));
	return 0;
}

int wl_filter_explain(struct wl_corpus *c, const struct wl_rules *r, const char *name, FILE *to,
	struct wl_err *err)
{
	struct wl_pair_cursor *cur = NULL;
	struct subject_job j = {0};
	struct wl_pair pair;
	char full[WL_PAIR_NAME], *scores = NULL;
	int ret = -1;

	WL_TRY_OUT(find_pair(c, name, &cur, &pair, err));
	wl_pair_name(pair.partition, pair.id, full);
	fprintf(to, "pair %s from %s, %s %dx%d, %lld bytes%s%s\nimage %s\npage %s\n", full,
		pair.source, pair.format, pair.width, pair.height, (long long)pair.length,
		*pair.split_hint ? ", split " : "", pair.split_hint, pair.url, pair.page_url);
	WL_TRY_OUT(subject_init(&j, c, r, &pair, err));
	subject_judge(&j);
	if (j.ret < 0) {
		if (err)
			*err = j.err;
		goto out;
	}
	WL_TRY_OUT(print_texts(&j.out, pair.texts, full, to, err));
	scores = wl_json_text(j.out.scores, err);
	if (!scores)
		goto out;
	fprintf(to, "measures: %s\n", scores);
	for (size_t i = 0; i < j.out.n; i++)
		fprintf(to, "these rules: drop, %s: %s\n", j.out.v[i].reason, j.out.v[i].detail);
	if (!j.out.n)
		fprintf(to, "these rules: keep\n");
	for (int i = 0; i < 2; i++)
		WL_TRY_OUT(print_stage(c, stages[i], &pair, to, err));
	ret = 0;
out:
	free(scores);
	subject_clear(&j);
	wl_pairs_close(cur);
	return ret;
}

/* ---- report ---- */

enum { EXAMPLES = 6, THUMB_PX = 120, REASONS_MAX = 64 };

struct reason {
	const char *stage;
	char name[WL_REASON_MAX];
	int64_t n;
};

static int by_count(const void *p, const void *q)
{
	const struct reason *a = p, *b = q;

	if (a->n != b->n)
		return a->n > b->n ? -1 : 1;
	return strcmp(a->name, b->name);
}

/* Adds up the reasons of all partitions. */
static int collect(
	struct wl_corpus *c, const char *stage, struct reason *v, size_t *n, struct wl_err *err)
{
	for (int p = 0; p < wl_corpus_partitions(c); p++) {
		struct wl_db db;
		sqlite3_stmt *st = NULL;
		int row = open_stage(c, stage, p, &db, err);
		if (row)
			return row < 0 ? -1 : 0;
		row = wl_db_prepare(
			&db, &st, "SELECT reason, count(*) FROM verdict GROUP BY reason", err);
		while (row == 0 && (row = wl_db_step(&db, st, err)) > 0) {
			const char *name = (const char *)sqlite3_column_text(st, 0);
			size_t k = 0;
			while (k < *n && (v[k].stage != stage || strcmp(v[k].name, name) != 0))
				k++;
			row = 0;
			if (k == *n && *n == REASONS_MAX)
				continue;
			if (k == *n) {
				v[(*n)++].stage = stage;
				snprintf(v[k].name, sizeof(v[k].name), "%s", name);
			}
			v[k].n += sqlite3_column_int64(st, 1);
		}
		sqlite3_finalize(st);
		wl_db_close(&db);
		WL_TRY(row);
	}
	return 0;
}

/* The picture small, with what was said of it. */
static int add_example(struct wl_html *h, struct wl_corpus *c, const struct wl_pair *p,
	const char *detail, struct wl_err *err)
{
	struct wl_image im = {0}, small = {0};
	struct wl_buf b, jpeg;
	char name[WL_PAIR_NAME];
	int ret = -1, w, hgt;

	wl_buf_init(&b, WL_IMAGE_MAX_BYTES);
	wl_buf_init(&jpeg, 1 << 20);
	wl_pair_name(p->partition, p->id, name);
	WL_TRY_OUT(wl_html_raw(h,
		"<figure style=\"display:inline-block;max-width:15em;"
		"vertical-align:top;margin:.5em\">",
		err));
	WL_TRY_OUT(wl_corpus_image(c, p, &b, err));
	if (wl_image_decode(b.data, b.len, &im, NULL) == 0) {
		int high = im.width > im.height ? im.width : im.height;
		w = im.width * THUMB_PX / high;
		hgt = im.height * THUMB_PX / high;
		WL_TRY_OUT(wl_image_resize_lanczos(&im, w ? w : 1, hgt ? hgt : 1, &small, err));
		WL_TRY_OUT(wl_image_encode_jpeg(&small, 75, &jpeg, err));
		WL_TRY_OUT(wl_html_image(h, jpeg.data, jpeg.len, "image/jpeg", name, 0, err));
	}
	WL_TRY_OUT(wl_html_raw(h, "<figcaption><small>", err));
	WL_TRY_OUT(wl_html_text(h, name, err));
	WL_TRY_OUT(wl_html_raw(h, "<br>", err));
	WL_TRY_OUT(wl_html_text(h, detail, err));
	WL_TRY_OUT(wl_html_raw(h, "<br>", err));
	WL_TRY_OUT(wl_html_text(h, p->texts, err));
	ret = wl_html_raw(h, "</small></figcaption></figure>", err);
out:
	wl_image_release(&im);
	wl_image_release(&small);
	wl_buf_release(&b);
	wl_buf_release(&jpeg);
	return ret;
}

static int examples_of_partition(struct wl_html *h, struct wl_corpus *c, const struct reason *r,
	int p, int *left, struct wl_err *err)
{
	struct wl_pair_cursor *cur = wl_pairs_open(c, p, err);
	sqlite3_stmt *st = NULL;
	struct wl_pair pair;
	struct wl_db db = {0};
	int row, ret = -1;

	if (!cur)
		return -1;
	WL_TRY_OUT(open_stage(c, r->stage, p, &db, err));
	WL_TRY_OUT(wl_db_prepare(&db, &st,
		"SELECT pair_id, detail FROM verdict WHERE reason = ? ORDER BY pair_id LIMIT ?",
		err));
	WL_TRY_OUT(wl_db_bind(&db, st, err, "si", r->name, (int64_t)*left));
	while ((row = wl_db_step(&db, st, err)) != 0) {
		WL_TRY_OUT(row);
		WL_TRY_OUT(row = wl_pairs_find(cur, sqlite3_column_int64(st, 0), &pair, err));
		if (!row)
			continue;
		WL_TRY_OUT(add_example(h, c, &pair, (const char *)sqlite3_column_text(st, 1), err));
		--*left;
	}
	ret = 0;
out:
	sqlite3_finalize(st);
	wl_db_close(&db);
	wl_pairs_close(cur);
	return ret;
}

static int reasons_table(struct wl_html *h, const struct reason *v, size_t n, struct wl_err *err)
{
	const char *cells[(REASONS_MAX + 1) * 3] = {"stage", "reason", "pairs"};
	char counts[REASONS_MAX][24];

	for (size_t i = 0; i < n; i++) {
		snprintf(counts[i], sizeof(counts[i]), "%lld", (long long)v[i].n);
		cells[3 * (i + 1)] = v[i].stage;
		cells[3 * (i + 1) + 1] = v[i].name;
		cells[3 * (i + 1) + 2] = counts[i];
	}
	return wl_html_table(
		h, n + 1, 3, cells, "Verdicts by reason (a pair may have several)", err);
}

/* Steps that drop nothing are left out. */
static int funnel_table(struct wl_html *h, struct wl_corpus *c, struct wl_err *err)
{
	const char *cells[(WL_STEPS + 2) * 4] = {"step", "dropped", "left", "share of all"};
	char text[WL_STEPS + 1][3][24];
	struct wl_funnel f;
	size_t n = 1;
	int64_t left;

	WL_TRY(wl_funnel_read(c, &f, err));
	left = f.pairs;
	for (int i = -1; i < WL_STEPS; i++) {
		int64_t dropped = i < 0 ? 0 : f.dropped[i];
		if (i >= 0 && !dropped)
			continue;
		left -= dropped;
		snprintf(text[n - 1][0], 24, "%lld", (long long)dropped);
		snprintf(text[n - 1][1], 24, "%lld", (long long)left);
		snprintf(text[n - 1][2], 24, "%.1f %%",
			f.pairs ? 100.0 * (double)left / (double)f.pairs : 0);
		cells[4 * n] = i < 0 ? "examined" : wl_step_names[i];
		for (int k = 0; k < 3; k++)
			cells[4 * n + 1 + k] = text[n - 1][k];
		n++;
	}
	return wl_html_table(
		h, n, 4, cells, "The funnel: each pair where it is dropped first", err);
}

static int write_report(
	struct wl_html *h, struct wl_corpus *c, const char *path, struct wl_err *err)
{
	struct reason v[REASONS_MAX] = {0};
	struct wl_corpus_counts total;
	char line[160];
	size_t n = 0;

	WL_TRY(wl_corpus_count(c, &total, err));
	snprintf(line, sizeof(line), "%lld pairs, %lld records in quarantine.",
		(long long)total.pairs, (long long)total.quarantined);
	WL_TRY(wl_html_para(h, line, err));
	WL_TRY(funnel_table(h, c, err));
	for (int i = 0; i < 2; i++)
		WL_TRY(collect(c, stages[i], v, &n, err));
	qsort(v, n, sizeof(*v), by_count);
	WL_TRY(reasons_table(h, v, n, err));
	for (size_t i = 0; i < n; i++) {
		int left = EXAMPLES;
		WL_TRY(wl_html_heading(h, 2, v[i].name, err));
		for (int p = 0; p < wl_corpus_partitions(c) && left > 0; p++)
			WL_TRY(examples_of_partition(h, c, &v[i], p, &left, err));
	}
	return wl_html_save(h, path, err);
}

int wl_filter_report(struct wl_corpus *c, const char *path, struct wl_err *err)
{
	struct wl_html h;
	int ret;

	WL_TRY(wl_html_init(&h, "What cleaning dropped", err));
	ret = write_report(&h, c, path, err);
	wl_html_release(&h);
	return ret;
}
