/* See report.h.  report_sample.c looks at single pairs; this file counts and lays out. */
#include "ingest/report_priv.h"

#include "ingest/furniture.h"
#include "ops/file.h"

#include <stdlib.h>
#include <string.h>

/* ---- counting with SQL, added up over the lanes ---- */

static int by_count(const void *a, const void *b)
{
	const struct tally_row *x = a, *y = b;
	if (x->n != y->n)
		return x->n < y->n ? 1 : -1;
	return strcmp(x->key, y->key);
}

static int add_row(struct tally_rows *t, const char *key, int64_t n, int64_t m, struct wl_err *err)
{
	for (size_t i = 0; i < t->n; i++) {
		if (strcmp(t->v[i].key, key) == 0) {
			t->v[i].n += n;
			t->v[i].m += m;
			return 0;
		}
	}
	struct tally_row *grown = realloc(t->v, (t->n + 1) * sizeof *grown);
	if (!grown)
		return wl_err_nomem(err, "rows of the report", (t->n + 1) * sizeof *grown);
	t->v = grown;
	grown[t->n] = (struct tally_row){.key = wl_strf(err, "%s", key), .n = n, .m = m};
	if (!grown[t->n].key)
		return -1;
	t->n++;
	return 0;
}

void tally_release(struct tally_rows *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i].key);
	free(t->v);
	*t = (struct tally_rows){0};
}

static int tally_lane(struct wl_db *db, const char *sql, struct tally_rows *out, struct wl_err *err)
{
	sqlite3_stmt *s = NULL;
	int row = wl_db_prepare(db, &s, sql, err);
	while (row >= 0 && (row = wl_db_step(db, s, err)) > 0) {
		const char *key = (const char *)sqlite3_column_text(s, 0);
		if (add_row(out, key ? key : "", sqlite3_column_int64(s, 1),
			    sqlite3_column_int64(s, 2), err) < 0)
			row = -1;
	}
	sqlite3_finalize(s);
	return row;
}

/* sql gives rows of key, n, m. */
static int tally(struct wl_corpus *c, const char *sql, struct tally_rows *out, struct wl_err *err)
{
	int ret = 0;
	for (int p = 0; p < wl_corpus_partitions(c) && ret == 0; p++) {
		struct wl_db db;
		ret = wl_catalog_open(c, p, &db, err);
		if (ret == 0 && db.h)
			ret = tally_lane(&db, sql, out, err);
		wl_db_close(&db);
	}
	if (ret == 0 && out->n)
		qsort(out->v, out->n, sizeof *out->v, by_count);
	return ret;
}

/* ---- laying out ---- */

static int bars(
	struct wl_html *h, const char *title, const struct tally_rows *t, struct wl_err *err)
{
	enum { MOST = 30 };
	const char *names[MOST + 1];
	double values[MOST + 1];
	size_t n = 0;
	if (!t->n)
		return 0;
	for (size_t i = 0; i < t->n; i++) {
		if (n < MOST) {
			names[n] = t->v[i].key;
			values[n++] = (double)t->v[i].n;
		} else {
			names[MOST] = "all others";
			values[MOST] = (n == MOST ? 0 : values[MOST]) + (double)t->v[i].n;
			n = MOST + 1;
		}
	}
	return wl_html_bars(h, title, names, values, n, err);
}

int report_bars(struct wl_html *h, const char *title, const char *const *names,
	const int64_t *counts, size_t n, struct wl_err *err)
{
	double values[64];
	for (size_t i = 0; i < n; i++)
		values[i] = (double)counts[i];
	return wl_html_bars(h, title, names, values, n, err);
}

static int totals(struct wl_html *h, struct wl_corpus *c, struct wl_err *err)
{
	struct wl_corpus_counts n;
	char text[5][32];
	WL_TRY(wl_corpus_count(c, &n, err));
	snprintf(text[0], 32, "%lld", (long long)n.pairs);
	snprintf(text[1], 32, "%lld", (long long)n.pending);
	snprintf(text[2], 32, "%lld", (long long)n.quarantined);
	snprintf(text[3], 32, "%.1f", (double)n.bytes / 1e6);
	snprintf(text[4], 32, "%d", wl_corpus_partitions(c));
	const char *cells[] = {"What", "How many", "pairs", text[0],
		"records that wait for their picture", text[1], "records in quarantine", text[2],
		"megabytes of images as received", text[3], "lanes", text[4]};
	return wl_html_table(h, 6, 2, cells, NULL, err);
}

static int sources(struct wl_html *h, struct wl_corpus *c, struct wl_err *err)
{
	struct tally_rows pairs = {0}, pending = {0};
	const char **cells = NULL;
	char(*text)[32] = NULL;
	int ret = -1;
	WL_TRY_OUT(tally(
		c, "SELECT source, count(*), sum(length) FROM pair GROUP BY source", &pairs, err));
	WL_TRY_OUT(
		tally(c,
		"SELECT source, count(*), 0 FROM pending WHERE failed = 0 GROUP BY source",
		&pending, err));
	for (size_t i = 0; i < pending.n; i++)
		WL_TRY_OUT(add_row(&pairs, pending.v[i].key, 0, 0, err));
	cells = calloc((pairs.n + 1) * 4, sizeof *cells);
	text = calloc((pairs.n + 1) * 3, sizeof *text);
	if (!cells || !text) {
		wl_err_nomem(err, "rows of the report", pairs.n);
		goto out;
	}
	memcpy(cells, (const char *[]){"Source", "Pairs", "Megabytes", "Waiting"},
		4 * sizeof *cells);
	for (size_t i = 0; i < pairs.n; i++) {
		int64_t waiting = 0;
		for (size_t k = 0; k < pending.n; k++)
			if (strcmp(pending.v[k].key, pairs.v[i].key) == 0)
				waiting = pending.v[k].n;
		snprintf(text[3 * i], 32, "%lld", (long long)pairs.v[i].n);
		snprintf(text[3 * i + 1], 32, "%.1f", (double)pairs.v[i].m / 1e6);
		snprintf(text[3 * i + 2], 32, "%lld", (long long)waiting);
		const char **row = cells + 4 * (i + 1);
		row[0] = pairs.v[i].key;
		for (size_t k = 0; k < 3; k++)
			row[k + 1] = text[3 * i + k];
	}
	ret = wl_html_table(h, pairs.n + 1, 4, cells, "By source", err);
out:
	free(cells);
	free(text);
	tally_release(&pairs);
	tally_release(&pending);
	return ret;
}

/* One query, one set of bars. */
static int section(struct wl_html *h, struct wl_corpus *c, const char *title, const char *sql,
	struct wl_err *err)
{
	struct tally_rows t = {0};
	int ret = tally(c, sql, &t, err);
	if (ret == 0)
		ret = bars(h, title, &t, err);
	tally_release(&t);
	return ret;
}

static int outcomes(struct wl_html *h, struct wl_corpus *c, struct wl_err *err)
{
	WL_TRY(wl_html_heading(h, 2, "What became of it", err));
	WL_TRY(section(h, c, "By outcome",
		"SELECT 'pair', count(*), 0 FROM pair UNION ALL"
		" SELECT 'waits for its picture', count(*), 0 FROM pending WHERE failed = 0 UNION "
		"ALL"
		" SELECT 'quarantined', count(*), 0 FROM quarantine",
		err));
	WL_TRY(section(h, c, "In quarantine, by reason",
		"SELECT substr(reason, 1, CASE instr(reason, ':') WHEN 0 THEN 80"
		" ELSE min(80, instr(reason, ':') - 1) END), count(*), 0 FROM quarantine GROUP BY "
		"1",
		err));
	WL_TRY(section(h, c, "In quarantine, by origin",
		"SELECT origin, count(*), 0 FROM quarantine GROUP BY 1", err));
	WL_TRY(section(h, c, "Passed over on purpose",
		"SELECT class, sum(n), 0 FROM tally GROUP BY 1 UNION ALL"
		" SELECT '" WL_FURNITURE_REASON "', count(*), 0 FROM pending WHERE failed = 2"
		" HAVING count(*) > 0",
		err));
	return section(h, c, "URLs tried, by outcome",
		"SELECT CASE outcome WHEN 1 THEN 'fetched' WHEN 2 THEN 'failed' ELSE 'to be tried "
		"again' END || CASE WHEN status > 0 THEN ', HTTP ' || status ELSE '' END,"
		" count(*), 0 FROM fetch GROUP BY 1",
		err);
}

int wl_ingest_report(struct wl_corpus *c, const char *path, struct wl_err *err)
{
	struct wl_html h = {0};
	struct report_sample *s = NULL;
	int ret = -1;
	WL_TRY_OUT(wl_html_init(&h, "What wenlan-ingest has taken in", err));
	WL_TRY_OUT(totals(&h, c, err));
	WL_TRY_OUT(sources(&h, c, err));
	WL_TRY_OUT(
		section(&h, c, "Formats", "SELECT format, count(*), 0 FROM pair GROUP BY 1", err));
	WL_TRY_OUT(outcomes(&h, c, err));
	s = report_sample_take(c, err);
	if (!s)
		goto out;
	WL_TRY_OUT(report_sample_charts(s, &h, err));
	WL_TRY_OUT(report_sample_kept(s, c, &h, err));
	WL_TRY_OUT(report_sample_refused(c, &h, err));
	ret = wl_html_save(&h, path, err);
out:
	report_sample_free(s);
	wl_html_release(&h);
	return ret;
}
