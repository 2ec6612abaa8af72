/*
 * Pairs that wait for their picture, and what came of fetching it: see corpus.h.
 *
 * A URL's outcome and everything that follows from it (pairs completed, or put into quarantine)
 * are rows of one transaction, with the bytes synced before, as for any other pair.  A pair that
 * was given up keeps its row in `pending` (failed = 1), so that it can be tried again without its
 * source; it is counted as quarantined.  One that was left out as furniture keeps it too
 * (failed = 2), so that it is known.
 */
#include "ingest/corpus_priv.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>

const char wl_lane_fetch_schema[] =
	"CREATE TABLE IF NOT EXISTS pending(id INTEGER NOT NULL, failed INTEGER NOT NULL,"
	" image_url TEXT NOT NULL, origin TEXT NOT NULL, place TEXT NOT NULL,"
	" source TEXT NOT NULL, url TEXT NOT NULL, page_url TEXT NOT NULL, texts TEXT NOT NULL,"
	" split_hint TEXT NOT NULL, boxes TEXT, fetched_at INTEGER NOT NULL, meta TEXT NOT NULL);"
	"CREATE INDEX IF NOT EXISTS pending_url ON pending(image_url);"
	"CREATE INDEX IF NOT EXISTS pending_failed ON pending(failed) WHERE failed = 1;"
	"CREATE TABLE IF NOT EXISTS fetch(url TEXT PRIMARY KEY, outcome INTEGER NOT NULL,"
	" status INTEGER NOT NULL, tries INTEGER NOT NULL, next_try INTEGER NOT NULL,"
	" fetched_at INTEGER NOT NULL, etag TEXT NOT NULL, last_modified TEXT NOT NULL,"
	" reason TEXT NOT NULL, sha256 BLOB, segment INTEGER NOT NULL, \"offset\" INTEGER NOT NULL,"
	" length INTEGER NOT NULL, format TEXT NOT NULL, width INTEGER NOT NULL,"
	" height INTEGER NOT NULL) WITHOUT ROWID;";

enum {
	STMT_STATE,
	STMT_PEND,
	STMT_DROP,
	STMT_GET,
	STMT_PUT,
	STMT_NEXT,
	STMT_OF_URL,
	STMT_FAIL,
	STMT_FAILED,
	STMT_REVIVE,
	STMT_FORGET,
	STMT_COUNT,
	STMT_STALE,
	STMT_HAVING,
	STMT_PAGE,
	STMT_LEAVE,
	N_STMT
};
#define PENDING_COLUMNS                                                                            \
	"SELECT id, image_url, origin, place, source, url, page_url, texts, split_hint, boxes,"    \
	" fetched_at, meta FROM pending "
#define FETCH_COLUMNS                                                                              \
	"outcome, status, tries, next_try, fetched_at, etag, last_modified, reason, sha256,"       \
	" segment, \"offset\", length, format, width, height"
static const char *const STMT_SQL[N_STMT] = {
	[STMT_STATE] = "SELECT origin, place, failed FROM pending WHERE id = ?",
	[STMT_PEND] = "INSERT INTO pending VALUES(?,0,?,?,?,?,?,?,?,?,?,?,?)"
		      " ON CONFLICT(id) DO NOTHING",
	[STMT_DROP] = "DELETE FROM pending WHERE id = ?",
	[STMT_GET] = "SELECT " FETCH_COLUMNS " FROM fetch WHERE url = ?",
	[STMT_PUT] = "INSERT OR REPLACE INTO fetch VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
	[STMT_NEXT] = "SELECT id, image_url, page_url FROM pending WHERE id > ? AND failed = 0 "
		      "ORDER BY id",
	[STMT_OF_URL] = PENDING_COLUMNS "WHERE image_url = ? AND failed = 0 LIMIT 1",
	[STMT_FAIL] = "UPDATE pending SET failed = 1 WHERE id = ?",
	[STMT_FAILED] = PENDING_COLUMNS "WHERE failed = 1 LIMIT 1",
	[STMT_REVIVE] = "UPDATE pending SET failed = 0 WHERE id = ?",
	[STMT_FORGET] = "DELETE FROM fetch WHERE url = ? AND outcome = 2",
	[STMT_STALE] = "SELECT " FETCH_COLUMNS ", url FROM fetch WHERE url > ? AND fetched_at < ?"
		       " AND outcome = 1 AND format != 'html' ORDER BY url",
	[STMT_HAVING] = "SELECT id, source, url, page_url, texts, split_hint, boxes, fetched_at,"
			" meta FROM pair WHERE url = ? AND image_sha256 = ? AND id > ?"
			" ORDER BY id",
	[STMT_PAGE] = PENDING_COLUMNS
	"WHERE image_url = ? AND failed = 0 AND texts = '[]' AND id > ? ORDER BY id LIMIT 1",
	[STMT_LEAVE] = "UPDATE pending SET failed = 2 WHERE id = ? AND failed = 0",
	[STMT_COUNT] = "SELECT count(*) FROM pending WHERE failed = 0",
};
_Static_assert((int)N_STMT <= (int)WL_LANE_FETCH_STMTS, "corpus_priv.h has room");
_Static_assert(WL_FETCH_OK == 1 && WL_FETCH_FAILED == 2, "STMT_STALE and STMT_FORGET say so");

/* Statements are made when they are first needed: most lanes never fetch. */
static sqlite3_stmt *stmt(struct wl_lane *l, int i, struct wl_err *err)
{
	if (!l->fetch_stmt[i] && wl_db_prepare(&l->db, &l->fetch_stmt[i], STMT_SQL[i], err) < 0)
		return NULL;
	return l->fetch_stmt[i];
}

void wl_lane_fetch_reset(struct wl_lane *l)
{
	for (int i = 0; i < N_STMT; i++)
		sqlite3_reset(l->fetch_stmt[i]);
}

void wl_lane_fetch_release(struct wl_lane *l)
{
	for (int p = 0; l->others && p < l->c->partitions; p++) {
		sqlite3_finalize(l->others[p].get);
		wl_db_close(&l->others[p].db);
	}
	free(l->others);
	for (int i = 0; i < N_STMT; i++)
		sqlite3_finalize(l->fetch_stmt[i]);
}

/* ---- waiting ---- */

/* 1: a row of `pending` has this id, and it is taken away with its quarantine row; 0: none. */
int wl_lane_forget_pending(struct wl_lane *l, int64_t id, struct wl_err *err)
{
	sqlite3_stmt *s = stmt(l, STMT_STATE, err), *drop = s ? stmt(l, STMT_DROP, err) : NULL;
	if (!drop)
		return -1;
	WL_TRY(wl_db_bind(&l->db, s, err, "i", id));
	int row = wl_db_step(&l->db, s, err);
	if (row > 0 && sqlite3_column_int(s, 2) == 1) {
		char *place = wl_strf(
			err, "%s (pair %lld)", wl_corpus_text(s, 1), (long long)id);
		row = place ? wl_lane_unquarantine(l, wl_corpus_text(s, 0), place, err) : -1;
		free(place);
		row = row < 0 ? -1 : 1;
	}
	sqlite3_reset(s);
	if (row > 0)
		WL_TRY(wl_db_run(&l->db, drop, err, "i", id));
	return row;
}

int wl_lane_pend(struct wl_lane *l, const struct wl_pair *p, const char *image_url,
	const char *origin, const char *place, struct wl_err *err)
{
	sqlite3_stmt *pend = stmt(l, STMT_PEND, err);
	if (!pend)
		return -1;
	WL_TRY(wl_lane_begin(l, err));
	int has = l->may_have ? wl_lane_has(l, p->id, err) : 0;
	WL_TRY(has);
	if (has)
		return 0;
	WL_TRY(wl_db_run(&l->db, pend, err, "isssssssssis", p->id, image_url, origin, place,
		p->source, p->url, p->page_url, p->texts, p->split_hint, p->boxes, p->fetched_at,
		p->meta));
	l->may_wait = true;
	return sqlite3_changes(l->db.h) > 0;
}

int wl_lane_waiting(struct wl_lane *l, int64_t after, int64_t *id, const char **url,
	const char **page_url, struct wl_err *err)
{
	sqlite3_stmt *s = stmt(l, STMT_NEXT, err);
	if (!s)
		return -1;
	WL_TRY(wl_db_bind(&l->db, s, err, "i", after));
	int row = wl_db_step(&l->db, s, err);
	if (row > 0) {
		*id = sqlite3_column_int64(s, 0);
		*url = wl_corpus_text(s, 1);
		*page_url = wl_corpus_text(s, 2);
	}
	return row;
}

int wl_lane_count_waiting(struct wl_lane *l, int64_t *out, struct wl_err *err)
{
	sqlite3_stmt *s = stmt(l, STMT_COUNT, err);
	if (!s)
		return -1;
	WL_TRY(wl_db_bind(&l->db, s, err, ""));
	WL_TRY(wl_db_step(&l->db, s, err));
	*out = sqlite3_column_int64(s, 0);
	sqlite3_reset(s);
	return 0;
}

/* ---- what is known of a URL ---- */

static void read_fetch(sqlite3_stmt *s, struct wl_fetch *out)
{
	out->outcome = (enum wl_fetch_outcome)sqlite3_column_int(s, 0);
	out->status = sqlite3_column_int(s, 1);
	out->tries = sqlite3_column_int64(s, 2);
	out->next_try = sqlite3_column_int64(s, 3);
	out->fetched_at = sqlite3_column_int64(s, 4);
	out->etag = wl_corpus_text(s, 5);
	out->last_modified = wl_corpus_text(s, 6);
	out->reason = wl_corpus_text(s, 7);
	if (sqlite3_column_bytes(s, 8) == (int)sizeof out->sha256)
		memcpy(out->sha256, sqlite3_column_blob(s, 8), sizeof out->sha256);
	WL_READ_STORED(out, s, 9);
}

int wl_lane_fetch_get(struct wl_lane *l, const char *url, struct wl_fetch *out, struct wl_err *err)
{
	sqlite3_stmt *s = stmt(l, STMT_GET, err);
	if (!s)
		return -1;
	*out = (struct wl_fetch){
		.url = url, .etag = "", .last_modified = "", .reason = "", .format = ""};
	WL_TRY(wl_db_bind(&l->db, s, err, "s", url));
	int row = wl_db_step(&l->db, s, err);
	if (row > 0)
		read_fetch(s, out);
	return row;
}

/* ---- the same URL in other lanes ---- */

enum { OTHERS_MAX = 64 };

/* Opens the catalogs that have outcomes. */
static int open_others(struct wl_lane *l, struct wl_err *err)
{
	int64_t has;
	l->others = calloc((size_t)l->c->partitions, sizeof *l->others);
	if (!l->others)
		return wl_err_nomem(err, "the other lanes", 0);
	for (int p = 0; p < l->c->partitions; p++) {
		struct wl_lane_other *o = &l->others[p];
		char *path =
			p == l->partition ? NULL : wl_corpus_part_file(l->c, p, "catalog.db", err);
		bool there = path && wl_exists(path);
		int ret = there			      ? wl_db_open(&o->db, path, WL_DB_READ, err)
			  : path || p == l->partition ? 0
						      : -1;
		free(path);
		WL_TRY(ret);
		if (!there)
			continue;
		WL_TRY(wl_db_int(&o->db, 0, &has, err,
			"SELECT count(*) FROM sqlite_master WHERE name = 'fetch'"));
		if (has)
			WL_TRY(wl_db_prepare(&o->db, &o->get, STMT_SQL[STMT_GET], err));
	}
	return 0;
}

int wl_lane_fetch_elsewhere(struct wl_lane *l, const char *url, struct wl_fetch *out,
	int *partition, struct wl_err *err)
{
	if (l->c->partitions == 1 || l->c->partitions > OTHERS_MAX)
		return 0;
	if (!l->others)
		WL_TRY(open_others(l, err));
	for (int p = 0; p < l->c->partitions; p++) {
		struct wl_lane_other *o = &l->others[p];
		if (!o->get)
			continue;
		*out = (struct wl_fetch){.url = url};
		WL_TRY(wl_db_bind(&o->db, o->get, err, "s", url));
		int row = wl_db_step(&o->db, o->get, err);
		WL_TRY(row);
		if (!row)
			continue;
		read_fetch(o->get, out);
		if ((out->outcome == WL_FETCH_OK && strcmp(out->format, "html") != 0) ||
			out->outcome == WL_FETCH_FAILED) {
			*partition = p;
			return 1;
		}
	}
	return 0;
}

int wl_lane_stale(struct wl_lane *l, const char *after, int64_t cutoff, struct wl_fetch *out,
	struct wl_err *err)
{
	sqlite3_stmt *s = stmt(l, STMT_STALE, err);
	if (!s)
		return -1;
	*out = (struct wl_fetch){0};
	WL_TRY(wl_db_bind(&l->db, s, err, "si", after, cutoff));
	int row = wl_db_step(&l->db, s, err);
	if (row > 0) {
		read_fetch(s, out);
		out->url = wl_corpus_text(s, 15);
	}
	return row;
}

int wl_lane_fetch_put(struct wl_lane *l, const struct wl_fetch *f, struct wl_err *err)
{
	sqlite3_stmt *s = stmt(l, STMT_PUT, err);
	if (!s)
		return -1;
	WL_TRY(wl_lane_begin(l, err));
	return wl_db_run(&l->db, s, err, "siiiiisssbiiisii", f->url, (int64_t)f->outcome,
		(int64_t)f->status, f->tries, f->next_try, f->fetched_at, f->etag, f->last_modified,
		f->reason, (const void *)f->sha256, sizeof f->sha256, (int64_t)f->segment,
		f->offset, f->length, f->format, (int64_t)f->width, (int64_t)f->height);
}

/* ---- outcomes ---- */

/* A row of PENDING_COLUMNS; strings live until the statement moves on. */
struct waiting {
	struct wl_pair pair;
	const char *image_url, *origin, *place;
};

static void read_waiting(sqlite3_stmt *s, struct waiting *w)
{
	*w = (struct waiting){.image_url = wl_corpus_text(s, 1),
		.origin = wl_corpus_text(s, 2),
		.place = wl_corpus_text(s, 3)};
	w->pair.id = sqlite3_column_int64(s, 0);
	w->pair.source = wl_corpus_text(s, 4);
	w->pair.url = wl_corpus_text(s, 5);
	w->pair.page_url = wl_corpus_text(s, 6);
	w->pair.texts = wl_corpus_text(s, 7);
	w->pair.split_hint = wl_corpus_text(s, 8);
	w->pair.boxes = (const char *)sqlite3_column_text(s, 9);
	w->pair.fetched_at = sqlite3_column_int64(s, 10);
	w->pair.meta = wl_corpus_text(s, 11);
}

/* The next pair that waits for url: 1, 0 none. */
static int next_of_url(
	struct wl_lane *l, const char *url, struct waiting *w, sqlite3_stmt **s, struct wl_err *err)
{
	*s = stmt(l, STMT_OF_URL, err);
	if (!*s)
		return -1;
	WL_TRY(wl_db_bind(&l->db, *s, err, "s", url));
	int row = wl_db_step(&l->db, *s, err);
	if (row > 0)
		read_waiting(*s, w);
	return row;
}

/* Writes the bytes under the name of the first pair that waits for them. */
static int write_once(struct wl_lane *l, struct wl_fetch *f, int64_t id, const void *image,
	size_t n, struct wl_err *err)
{
	struct wl_pair p = {.id = id, .format = f->format};
	WL_TRY(wl_lane_write_image(l, &p, image, n, err));
	memcpy(f->sha256, p.image_sha256, sizeof f->sha256);
	f->segment = p.segment;
	f->offset = p.offset;
	f->length = p.length;
	return 0;
}

/* One origin may have several pairs at one place, so the pair's number is part of the key. */
static int quarantine_one(
	struct wl_lane *l, const struct waiting *w, const char *reason, struct wl_err *err);

static int complete_one(
	struct wl_lane *l, struct waiting *w, const struct wl_fetch *f, struct wl_err *err)
{
	struct wl_pair *p = &w->pair;
	p->partition = l->partition;
	memcpy(p->image_sha256, f->sha256, sizeof p->image_sha256);
	p->segment = f->segment;
	p->offset = f->offset;
	p->length = f->length;
	p->format = f->format;
	p->width = f->width;
	p->height = f->height;
	return wl_lane_insert(l, p, err);
}

/* The pair in the row at which s stands goes into quarantine; its row is kept, as failed. */
static int give_up_one(struct wl_lane *l, sqlite3_stmt *s, const struct waiting *w,
	const char *reason, struct wl_err *err)
{
	sqlite3_stmt *fail = stmt(l, STMT_FAIL, err);
	int64_t id = w->pair.id;
	if (!fail)
		return -1;
	WL_TRY(quarantine_one(l, w, reason, err));
	sqlite3_reset(s);
	return wl_db_run(&l->db, fail, err, "i", id);
}

int64_t wl_lane_complete(struct wl_lane *l, struct wl_fetch *f, const void *image, size_t n,
	int64_t *bare, struct wl_err *err)
{
	sqlite3_stmt *s, *drop = stmt(l, STMT_DROP, err);
	struct waiting w;
	int64_t pairs = 0;
	int row;
	*bare = 0;
	if (!drop)
		return -1;
	WL_TRY(wl_lane_begin(l, err));
	while ((row = next_of_url(l, f->url, &w, &s, err)) > 0) {
		int64_t id = w.pair.id;
		if (strcmp(w.pair.texts, "[]") == 0) {
			WL_TRY(give_up_one(l, s, &w, "no text", err));
			++*bare;
			continue;
		}
		if (image && pairs == 0)
			WL_TRY(write_once(l, f, id, image, n, err));
		WL_TRY(complete_one(l, &w, f, err));
		sqlite3_reset(s);
		WL_TRY(wl_db_run(&l->db, drop, err, "i", id));
		pairs++;
	}
	WL_TRY(row);
	f->outcome = WL_FETCH_OK;
	f->reason = "";
	WL_TRY(wl_lane_fetch_put(l, f, err));
	return pairs;
}

/* The sibling of the pair in the row of STMT_HAVING. */
static int add_sibling(
	struct wl_lane *l, sqlite3_stmt *s, const struct wl_fetch *f, struct wl_err *err)
{
	struct waiting w = {.pair = {.source = wl_corpus_text(s, 1),
				    .url = wl_corpus_text(s, 2),
				    .page_url = wl_corpus_text(s, 3),
				    .texts = wl_corpus_text(s, 4),
				    .split_hint = wl_corpus_text(s, 5),
				    .boxes = (const char *)sqlite3_column_text(s, 6),
				    .fetched_at = sqlite3_column_int64(s, 7),
				    .meta = wl_corpus_text(s, 8)}};
	char hex[WL_SHA256_HEX], origin[128];
	wl_hex(f->sha256, sizeof f->sha256, hex);
	snprintf(origin, sizeof origin, "refresh of %lld#%s", (long long)sqlite3_column_int64(s, 0),
		hex);
	w.pair.id = wl_pair_id(w.pair.source, w.pair.page_url, origin, 0);
	int has = wl_lane_has(l, w.pair.id, err);
	return has ? has : complete_one(l, &w, f, err);
}

int64_t wl_lane_changed(
	struct wl_lane *l, struct wl_fetch *f, const void *image, size_t n, struct wl_err *err)
{
	sqlite3_stmt *s;
	uint8_t old[WL_SHA256_BYTES];
	int64_t pairs = 0, id = -1;
	/* Made when first needed: only refreshing looks for pairs by URL. */
	WL_TRY(wl_lane_begin(l, err));
	WL_TRY(wl_db_exec(&l->db, "CREATE INDEX IF NOT EXISTS pair_url ON pair(url)", err));
	s = stmt(l, STMT_HAVING, err);
	if (!s)
		return -1;
	memcpy(old, f->sha256, sizeof old);
	for (;;) {
		WL_TRY(wl_db_bind(
			&l->db, s, err, "sbi", f->url, (const void *)old, sizeof old, id));
		int row = wl_db_step(&l->db, s, err);
		WL_TRY(row);
		if (!row)
			break;
		id = sqlite3_column_int64(s, 0);
		if (pairs++ == 0)
			WL_TRY(write_once(l, f, id, image, n, err));
		WL_TRY(add_sibling(l, s, f, err));
		sqlite3_reset(s);
	}
	f->outcome = WL_FETCH_OK;
	WL_TRY(wl_lane_fetch_put(l, f, err));
	return pairs;
}

/* What was known of the pair, as the JSON that it would have come as. */
static char *evidence(const struct waiting *w, struct wl_err *err)
{
	json_t *texts = json_loads(w->pair.texts, 0, NULL),
	       *meta = json_loads(w->pair.meta, 0, NULL);
	json_t *o = json_pack("{s:s, s:s, s:s, s:o?, s:o?}", "image_url", w->image_url, "source",
		w->pair.source, "page_url", w->pair.page_url, "captions", texts, "meta", meta);
	char *s = o ? wl_json_text(o, err) : NULL;
	if (!o)
		wl_err_nomem(err, "a record for quarantine", 0);
	json_decref(o);
	return s;
}

static int quarantine_one(
	struct wl_lane *l, const struct waiting *w, const char *reason, struct wl_err *err)
{
	char *place = wl_strf(err, "%s (pair %lld)", w->place, (long long)w->pair.id);
	char *bytes = place ? evidence(w, err) : NULL;
	int ret = bytes ? wl_lane_quarantine(l, w->origin, place, reason, bytes, strlen(bytes), err)
			: -1;
	free(place);
	free(bytes);
	return ret;
}

int wl_lane_page_row(struct wl_lane *l, const char *url, int64_t after, struct wl_page_row *out,
	struct wl_err *err)
{
	sqlite3_stmt *s = stmt(l, STMT_PAGE, err);
	struct waiting w;
	if (!s)
		return -1;
	WL_TRY(wl_db_bind(&l->db, s, err, "si", url, after));
	int row = wl_db_step(&l->db, s, err);
	if (row <= 0)
		return row;
	read_waiting(s, &w);
	*out = (struct wl_page_row){.id = w.pair.id,
		.fetched_at = w.pair.fetched_at,
		.origin = w.origin,
		.place = w.place,
		.source = w.pair.source,
		.meta = w.pair.meta};
	return 1;
}

int wl_lane_drop_pending(struct wl_lane *l, int64_t id, struct wl_err *err)
{
	sqlite3_stmt *drop = stmt(l, STMT_DROP, err);
	if (!drop)
		return -1;
	WL_TRY(wl_lane_begin(l, err));
	return wl_db_run(&l->db, drop, err, "i", id);
}

int64_t wl_lane_give_up(struct wl_lane *l, struct wl_fetch *f, struct wl_err *err)
{
	sqlite3_stmt *s;
	struct waiting w;
	int64_t pairs = 0;
	int row;
	WL_TRY(wl_lane_begin(l, err));
	while ((row = next_of_url(l, f->url, &w, &s, err)) > 0) {
		WL_TRY(give_up_one(l, s, &w, f->reason, err));
		pairs++;
	}
	WL_TRY(row);
	f->outcome = WL_FETCH_FAILED;
	WL_TRY(wl_lane_fetch_put(l, f, err));
	return pairs;
}

int64_t wl_lane_retry_failed(struct wl_lane *l, struct wl_err *err)
{
	sqlite3_stmt *s = stmt(l, STMT_FAILED, err), *revive = s ? stmt(l, STMT_REVIVE, err) : NULL,
		     *forget = revive ? stmt(l, STMT_FORGET, err) : NULL;
	int64_t pairs = 0;
	int row;
	if (!forget)
		return -1;
	WL_TRY(wl_lane_begin(l, err));
	for (;;) {
		struct waiting w;
		WL_TRY(wl_db_bind(&l->db, s, err, ""));
		row = wl_db_step(&l->db, s, err);
		if (row <= 0)
			break;
		read_waiting(s, &w);
		int64_t id = w.pair.id;
		char *place = wl_strf(err, "%s (pair %lld)", w.place, (long long)id);
		int ret = place ? wl_lane_unquarantine(l, w.origin, place, err) : -1;
		free(place);
		WL_TRY(ret);
		WL_TRY(wl_db_run(&l->db, forget, err, "s", w.image_url));
		sqlite3_reset(s);
		WL_TRY(wl_db_run(&l->db, revive, err, "i", id));
		pairs++;
	}
	return row < 0 ? -1 : pairs;
}

int wl_lane_leave_out(struct wl_lane *l, int64_t id, struct wl_err *err)
{
	sqlite3_stmt *s = stmt(l, STMT_LEAVE, err);
	if (!s)
		return -1;
	WL_TRY(wl_lane_begin(l, err));
	return wl_db_run(&l->db, s, err, "i", id);
}
