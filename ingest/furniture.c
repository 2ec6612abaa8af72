/* See furniture.h. */
#include "ingest/furniture.h"

#include "ingest/corpus_priv.h"
#include "ops/file.h"
#include "ops/grow.h"
#include "ops/hash.h"
#include "ops/log.h"

#include <stdlib.h>
#include <string.h>

/* A picture on a host's pages by a hash of both, and how many pages those are. */
struct spot {
	int64_t key, pages;
};

struct pass {
	struct wl_corpus *c;
	struct wl_db scratch;
	sqlite3_stmt *add;
	struct spot *spots; /* those on too many pages, by key */
	size_t n_spots, cap_spots;
	int64_t left_out;
};

#define HAS_LIMIT "page_url != '' AND instr(meta, '\"max_pages\":') > 0"
#define LIMIT "CAST(json_extract(meta, '$.max_pages') AS INTEGER)"

/* ---- the rows of all lanes ---- */

/* The picture as it stands on the page's host. */
static int64_t spot_key(const char *page_url, const char *image_url)
{
	const char *host = strstr(page_url, "//");
	host = host ? host + 2 : page_url;
	uint64_t h = wl_hash64(host, strcspn(host, "/?#"), 11);
	return (int64_t)wl_hash64(image_url, strlen(image_url), h);
}

static int add_rows(struct pass *p, struct wl_db *db, struct wl_err *err)
{
	static const char sql[] =
		"SELECT page_url, image_url, " LIMIT " FROM pending WHERE " HAS_LIMIT " UNION ALL "
		"SELECT page_url, url, " LIMIT " FROM pair WHERE " HAS_LIMIT;
	sqlite3_stmt *s = NULL;
	int row = wl_db_prepare(db, &s, sql, err);
	while (row >= 0 && (row = wl_db_step(db, s, err)) > 0) {
		const char *page = wl_corpus_text(s, 0), *image = wl_corpus_text(s, 1);
		int64_t limit = sqlite3_column_int64(s, 2);
		if (limit > 0 && wl_db_run(&p->scratch, p->add, err, "iii", spot_key(page, image),
					 (int64_t)wl_hash64(page, strlen(page), 12), limit) < 0)
			row = -1;
	}
	sqlite3_finalize(s);
	return row < 0 ? -1 : 0;
}

static int count_pages(struct pass *p, struct wl_err *err)
{
	sqlite3_stmt *s = NULL;
	WL_TRY(wl_db_begin(&p->scratch, err));
	for (int i = 0; i < wl_corpus_partitions(p->c); i++) {
		struct wl_db db;
		WL_TRY(wl_catalog_open(p->c, i, &db, err));
		int ret = db.h ? add_rows(p, &db, err) : 0;
		wl_db_close(&db);
		WL_TRY(ret);
	}
	WL_TRY(wl_db_commit(&p->scratch, err));
	/* SQLite sorts in files when there is much. */
	int row = wl_db_prepare(&p->scratch, &s,
		"SELECT k, count(DISTINCT page) AS n FROM seen GROUP BY k HAVING n > max(most) "
		"ORDER BY k",
		err);
	while (row >= 0 && (row = wl_db_step(&p->scratch, s, err)) > 0) {
		row = WL_GROW(p->spots, p->n_spots, p->cap_spots, "pictures on many pages", err);
		if (row < 0)
			break;
		p->spots[p->n_spots++] = (struct spot){
			.key = sqlite3_column_int64(s, 0), .pages = sqlite3_column_int64(s, 1)};
	}
	sqlite3_finalize(s);
	return row < 0 ? -1 : 0;
}

/* ---- leaving out ---- */

static int by_key(const void *a, const void *b)
{
	const struct spot *x = a, *y = b;
	return x->key < y->key ? -1 : x->key > y->key;
}

/* The ids of a lane's rows that wait and are furniture, in *ids (to be freed). */
static int find_rows(
	struct pass *p, struct wl_db *db, int64_t **ids, size_t *n, struct wl_err *err)
{
	sqlite3_stmt *s = NULL;
	size_t cap = 0;
	int row = wl_db_prepare(db, &s,
		"SELECT id, page_url, image_url FROM pending WHERE failed = 0 AND " HAS_LIMIT, err);
	while (row >= 0 && (row = wl_db_step(db, s, err)) > 0) {
		struct spot of = {.key = spot_key(wl_corpus_text(s, 1), wl_corpus_text(s, 2))};
		if (!bsearch(&of, p->spots, p->n_spots, sizeof of, by_key))
			continue;
		row = WL_GROW(*ids, *n, cap, "pairs to leave out", err);
		if (row < 0)
			break;
		(*ids)[(*n)++] = sqlite3_column_int64(s, 0);
	}
	sqlite3_finalize(s);
	return row < 0 ? -1 : 0;
}

static int mark_rows(
	struct pass *p, int partition, const int64_t *ids, size_t n, struct wl_err *err)
{
	struct wl_lane *lane;
	int got = wl_lane_try_open(p->c, partition, &lane, err);
	if (got == 0)
		wl_warn("partition %d is being written by another process; its pictures on many "
			"pages are left to it",
			partition);
	if (got <= 0)
		return got;
	int ret = 0;
	for (size_t i = 0; i < n && ret == 0; i++)
		ret = wl_lane_leave_out(lane, ids[i], err);
	if (ret == 0)
		ret = wl_lane_commit_fetches(lane, err);
	wl_lane_close(lane);
	p->left_out += ret == 0 ? (int64_t)n : 0;
	return ret;
}

static int leave_out(struct pass *p, int partition, struct wl_err *err)
{
	int64_t *ids = NULL;
	size_t n = 0;
	struct wl_db db;
	WL_TRY(wl_catalog_open(p->c, partition, &db, err));
	int ret = db.h ? find_rows(p, &db, &ids, &n, err) : 0;
	wl_db_close(&db);
	if (ret == 0 && n)
		ret = mark_rows(p, partition, ids, n, err);
	free(ids);
	return ret;
}

/* ---- the pass ---- */

static int waits(struct wl_corpus *c, struct wl_err *err)
{
	int64_t any = 0;
	for (int i = 0; i < wl_corpus_partitions(c) && !any; i++) {
		struct wl_db db;
		WL_TRY(wl_catalog_open(c, i, &db, err));
		int ret = db.h ? wl_db_int(&db, 0, &any, err,
					 "SELECT 1 FROM pending WHERE failed = 0 AND " HAS_LIMIT
					 " LIMIT 1")
			       : 0;
		wl_db_close(&db);
		WL_TRY(ret);
	}
	return any != 0;
}

/* A database without a name: SQLite keeps it in a file of its own (SQLITE_TMPDIR, else /var/tmp),
 * which goes away with the process, however that ends. */
static int open_scratch(struct pass *p, struct wl_err *err)
{
	WL_TRY(wl_db_open(&p->scratch, "", WL_DB_WRITE, err));
	WL_TRY(wl_db_exec(&p->scratch,
		"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
		"CREATE TABLE seen(k INTEGER NOT NULL, page INTEGER NOT NULL, most INTEGER NOT "
		"NULL)",
		err));
	return wl_db_prepare(&p->scratch, &p->add, "INSERT INTO seen VALUES(?, ?, ?)", err);
}

int wl_furniture_pass(struct wl_corpus *c, int64_t *left_out, struct wl_err *err)
{
	struct pass p = {.c = c};
	int some = waits(c, err), ret = -1;
	*left_out = 0;
	if (some <= 0)
		return some;
	WL_TRY_OUT(open_scratch(&p, err));
	WL_TRY_OUT(count_pages(&p, err));
	for (int i = 0; i < wl_corpus_partitions(c) && p.n_spots; i++)
		WL_TRY_OUT(leave_out(&p, i, err));
	ret = 0;
out:
	*left_out = p.left_out;
	sqlite3_finalize(p.add);
	wl_db_close(&p.scratch);
	free(p.spots);
	return ret;
}
