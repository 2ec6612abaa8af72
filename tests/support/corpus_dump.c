/* See corpus_dump.h. */
#include "tests/support/corpus_dump.h"

#include "ingest/corpus.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/support/cm.h"

#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct rows {
	char **v;
	size_t n;
};

static void rows_add(struct rows *r, char *row)
{
	r->v = realloc(r->v, (r->n + 1) * sizeof *r->v);
	assert_non_null(r->v);
	assert_non_null(row);
	r->v[r->n++] = row;
}

static void dump_pairs(struct wl_corpus *c, int partition, struct rows *rows)
{
	struct wl_pair_cursor *cur = wl_pairs_open(c, partition, &err);
	struct wl_pair p;
	struct wl_buf b;
	int more;

	assert_non_null(cur);
	wl_buf_init(&b, 1 << 20);
	while ((more = wl_pairs_next(cur, &p, &err)) > 0) {
		char sha[65];
		OK(wl_corpus_image(c, &p, &b, &err)); /* the bytes are where the row says */
		wl_hex(p.image_sha256, 32, sha);
		rows_add(rows, wl_strf(&err, "%020lld|%s|%s|%s|%s|%s|%s|%s|%dx%d|%s|%lld|%s",
				       (long long)p.id, p.source, p.url, p.page_url, p.texts,
				       p.split_hint, sha, p.format, p.width, p.height,
				       p.boxes ? p.boxes : "-", (long long)p.fetched_at, p.meta));
	}
	OK(more);
	wl_buf_release(&b);
	wl_pairs_close(cur);
}

static void dump_others(struct wl_corpus *c, int partition, struct rows *rows)
{
	struct wl_db db;
	sqlite3_stmt *s;
	char p[600];

	snprintf(p, sizeof p, "%s/part-%05d/catalog.db", wl_corpus_dir(c), partition);
	if (!wl_exists(p))
		return;
	OK(wl_db_open(&db, p, WL_DB_READ, &err));
	OK(wl_db_prepare(
		&db, &s, "SELECT origin, position, reason, hex(bytes) FROM quarantine", &err));
	while (wl_db_step(&db, s, &err) > 0)
		rows_add(rows, wl_strf(&err, "Q|%s|%s|%s|%s", sqlite3_column_text(s, 0),
				       sqlite3_column_text(s, 1), sqlite3_column_text(s, 2),
				       sqlite3_column_text(s, 3)));
	sqlite3_finalize(s);
	OK(wl_db_prepare(&db, &s, "SELECT origin, class, n FROM tally", &err));
	while (wl_db_step(&db, s, &err) > 0)
		rows_add(rows, wl_strf(&err, "T|%s|%s|%s", sqlite3_column_text(s, 0),
				       sqlite3_column_text(s, 1), sqlite3_column_text(s, 2)));
	sqlite3_finalize(s);
	wl_db_close(&db);
}

/* What waits (0) and what was left out (2); what was given up is in the quarantine. */
static void dump_pending(struct wl_corpus *c, int partition, struct rows *rows)
{
	struct wl_db db;
	sqlite3_stmt *s;
	char p[600];

	snprintf(p, sizeof p, "%s/part-%05d/catalog.db", wl_corpus_dir(c), partition);
	if (!wl_exists(p))
		return;
	OK(wl_db_open(&db, p, WL_DB_READ, &err));
	OK(wl_db_prepare(&db, &s,
		"SELECT id, image_url, origin, place, texts, meta, failed FROM pending "
		"WHERE failed != 1",
		&err));
	while (wl_db_step(&db, s, &err) > 0)
		rows_add(rows, wl_strf(&err, "P%s|%s|%s|%s|%s|%s|%s",
				       sqlite3_column_int(s, 6) ? "-" : "",
				       sqlite3_column_text(s, 0),
				       sqlite3_column_text(s, 1), sqlite3_column_text(s, 2),
				       sqlite3_column_text(s, 3), sqlite3_column_text(s, 4),
				       sqlite3_column_text(s, 5)));
	sqlite3_finalize(s);
	wl_db_close(&db);
}

char *corpus_dump(const char *dir, size_t *n_rows)
{
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, &err);
	struct rows rows = {0};
	struct wl_buf all;

	if (!c)
		fail_msg("%s", err.msg);
	for (int p = 0; p < wl_corpus_partitions(c); p++) {
		dump_pairs(c, p, &rows);
		dump_others(c, p, &rows);
		dump_pending(c, p, &rows);
	}
	wl_corpus_close(c);
	if (rows.n)
		qsort(rows.v, rows.n, sizeof *rows.v, by_text);
	wl_buf_init(&all, 64 << 20);
	for (size_t i = 0; i < rows.n; i++) {
		OK(wl_buf_printf(&all, &err, "%s\n", rows.v[i]));
		free(rows.v[i]);
	}
	free(rows.v);
	if (n_rows)
		*n_rows = rows.n;
	return all.data ? all.data : strdup("");
}
