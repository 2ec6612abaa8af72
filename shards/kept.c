/*
 * One SQLite handle with the published database of each stage attached; a stage that never
 * ran is stood in for by empty tables in memory, so that every query is the same.
 */
#include "shards/kept.h"

#include "ops/file.h"

#include <stdlib.h>
#include <string.h>

const char *const wl_kept_stage_names[WL_KEPT_STAGES] = {"dedup", "filter"};

struct wl_kept {
	struct wl_db db;
	sqlite3_stmt *fate, *texts;
};

static const char *const empty_tables[WL_KEPT_STAGES] = {
	"CREATE TABLE dedup.examined(pair_id INTEGER PRIMARY KEY);"
	"CREATE TABLE dedup.verdict(pair_id, reason);"
	"CREATE TABLE dedup.cluster(pair_id INTEGER PRIMARY KEY, split_group INTEGER)",
	"CREATE TABLE filter.examined(pair_id INTEGER PRIMARY KEY);"
	"CREATE TABLE filter.verdict(pair_id, reason);"
	"CREATE TABLE filter.clean(pair_id INTEGER PRIMARY KEY, texts TEXT, topic INTEGER,"
	" category TEXT)",
};

static int attach(
	struct wl_kept *k, struct wl_corpus *c, int partition, int stage, struct wl_err *err)
{
	const char *name = wl_kept_stage_names[stage];
	int generation = wl_corpus_generation(c, name);
	sqlite3_stmt *st = NULL;
	char *path = NULL, *sql;
	int ret = -1;

	sql = wl_strf(err, "ATTACH ? AS %s", name);
	if (!sql)
		return -1;
	if (generation) {
		path = wl_corpus_stage_path(c, name, generation, partition, err);
		if (!path)
			goto out;
		if (!wl_exists(path)) { /* ATTACH would make an empty one */
			wl_err_set(err, WL_EDATA,
				"%s is missing, though corpus.json says that %s has run: run "
				"wenlan-%s again",
				path, name, name);
			goto out;
		}
	}
	WL_TRY_OUT(wl_db_prepare(&k->db, &st, sql, err));
	if (wl_db_run(&k->db, st, err, "s", path ? path : ":memory:") < 0) {
		wl_err_prefix(err, "%s", path ? path : name);
		goto out;
	}
	ret = path ? 0 : wl_db_exec(&k->db, empty_tables[stage], err);
out:
	sqlite3_finalize(st);
	free(path);
	free(sql);
	return ret;
}

struct wl_kept *wl_kept_open(struct wl_corpus *c, int partition, struct wl_err *err)
{
	const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
	struct wl_kept *k = calloc(1, sizeof *k);

	if (!k) {
		wl_err_nomem(err, "a partition's verdicts", sizeof *k);
		return NULL;
	}
	k->db.path = wl_strf(err, "stages of partition %d", partition);
	if (!k->db.path || sqlite3_open_v2(":memory:", &k->db.h, flags, NULL) != SQLITE_OK)
		goto fail;
	sqlite3_busy_timeout(k->db.h, 10000);
	for (int s = 0; s < WL_KEPT_STAGES; s++)
		if (attach(k, c, partition, s, err) < 0)
			goto fail;
	if (wl_db_prepare(&k->db, &k->fate,
		    "SELECT EXISTS(SELECT 1 FROM dedup.examined WHERE pair_id=?1),"
		    " EXISTS(SELECT 1 FROM filter.examined WHERE pair_id=?1),"
		    " EXISTS(SELECT 1 FROM dedup.verdict WHERE pair_id=?1),"
		    " EXISTS(SELECT 1 FROM filter.verdict WHERE pair_id=?1),"
		    " (SELECT split_group FROM dedup.cluster WHERE pair_id=?1)",
		    err) < 0)
		goto fail;
	if (wl_db_prepare(&k->db, &k->texts,
		    "SELECT texts, ifnull(topic,-1), ifnull(category,'') FROM filter.clean"
		    " WHERE pair_id=?", err) < 0)
		goto fail;
	/* Stages never write to what they have published, so it may as well be held. */
	if (wl_db_exec(&k->db, "BEGIN", err) < 0)
		goto fail;
	return k;
fail:
	wl_kept_close(k);
	return NULL;
}

void wl_kept_close(struct wl_kept *k)
{
	if (!k)
		return;
	sqlite3_finalize(k->fate);
	sqlite3_finalize(k->texts);
	wl_db_close(&k->db);
	free(k);
}

int wl_kept_fate(struct wl_kept *k, int64_t pair_id, struct wl_fate *out, struct wl_err *err)
{
	WL_TRY(wl_db_bind(&k->db, k->fate, err, "i", pair_id));
	WL_TRY(wl_db_step(&k->db, k->fate, err)); /* always one row */
	for (int s = 0; s < WL_KEPT_STAGES; s++) {
		out->examined[s] = sqlite3_column_int(k->fate, s) != 0;
		out->verdict[s] = sqlite3_column_int(k->fate, WL_KEPT_STAGES + s) != 0;
	}
	out->group = sqlite3_column_type(k->fate, 4) == SQLITE_NULL
			     ? pair_id
			     : sqlite3_column_int64(k->fate, 4);
	return 0;
}

int wl_kept_texts(struct wl_kept *k, int64_t pair_id, struct wl_buf *texts, int64_t *topic,
	struct wl_buf *category, struct wl_err *err)
{
	const char *s;
	int rc;

	WL_TRY(wl_db_bind(&k->db, k->texts, err, "i", pair_id));
	WL_TRY(rc = wl_db_step(&k->db, k->texts, err));
	if (!rc)
		return 0;
	s = (const char *)sqlite3_column_text(k->texts, 0);
	wl_buf_reset(texts);
	WL_TRY(wl_buf_puts(texts, s ? s : "[]", err));
	*topic = sqlite3_column_int64(k->texts, 1);
	if (!category)
		return 1;
	wl_buf_reset(category);
	WL_TRY(wl_buf_puts(category, (const char *)sqlite3_column_text(k->texts, 2), err));
	return 1;
}

int wl_kept_count_reasons(struct wl_kept *k, json_t *out, struct wl_err *err)
{
	for (int s = 0; s < WL_KEPT_STAGES; s++) {
		const char *name = wl_kept_stage_names[s];
		json_t *reasons = json_object_get(out, name);
		sqlite3_stmt *st;
		char sql[96];
		int rc;

		if (!reasons) {
			reasons = json_object();
			json_object_set_new(out, name, reasons);
		}
		snprintf(sql, sizeof sql, "SELECT reason, count(*) FROM %s.verdict GROUP BY reason",
			name);
		WL_TRY(wl_db_prepare(&k->db, &st, sql, err));
		while ((rc = wl_db_step(&k->db, st, err)) > 0) {
			const char *reason = (const char *)sqlite3_column_text(st, 0);
			json_int_t n = sqlite3_column_int64(st, 1);

			reason = reason ? reason : "";
			n += json_integer_value(json_object_get(reasons, reason));
			json_object_set_new(reasons, reason, json_integer(n));
		}
		sqlite3_finalize(st);
		WL_TRY(rc);
	}
	return 0;
}
