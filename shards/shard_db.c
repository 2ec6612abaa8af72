/* NAME.db: see shard_db.h. */
#include "shards/shard_db.h"

#include "ops/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *const wl_member_ext[WL_MEMBERS] = {"jpg", "txt", "json"};

static const char tables[] =
	"CREATE TABLE sample(idx INTEGER PRIMARY KEY, key TEXT, pair_id INTEGER,"
	" jpg_offset INTEGER, jpg_length INTEGER, txt_offset INTEGER, txt_length INTEGER,"
	" json_offset INTEGER, json_length INTEGER, sha256 BLOB, width INTEGER, height INTEGER,"
	" source TEXT, topic INTEGER, url TEXT);"
	"CREATE TABLE rejected(pair_id INTEGER PRIMARY KEY, reason TEXT);"
	"CREATE TABLE shard(name TEXT, split TEXT, bytes INTEGER, samples INTEGER, sha256 TEXT,"
	" rejected INTEGER, plan TEXT);";

int wl_key_parse(const char *key, char name[WL_SHARD_NAME_MAX], int64_t *index, struct wl_err *err)
{
	const char *mark = strrchr(key, '_'), *dash = strchr(key, '-');
	char split[WL_SPLIT_MAX] = "";

	if (mark && dash && dash - key < (long)sizeof split && mark - key < WL_SHARD_NAME_MAX &&
		strlen(mark + 1) == 6 && strspn(mark + 1, "0123456789") == 6) {
		memcpy(split, key, (size_t)(dash - key));
		snprintf(name, WL_SHARD_NAME_MAX, "%.*s", (int)(mark - key), key);
		*index = atoll(mark + 1);
		if (wl_shard_name_ok(name, split))
			return 0;
	}
	return wl_err_set(err, WL_EUSAGE,
		"\"%s\" is no key: expected SPLIT-NNNNNN_NNNNNN, as in train-000000_000123", key);
}

/* ---- writing ---- */

int wl_shard_db_create(struct wl_shard_db *d, const char *tmp, struct wl_err *err)
{
	*d = (struct wl_shard_db){0};
	WL_TRY(wl_newdb_open(&d->db, tmp, tables, err));
	if (wl_db_prepare(&d->db, &d->insert,
		    "INSERT INTO sample VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", err) < 0) {
		wl_shard_db_release(d);
		return -1;
	}
	return 0;
}

int wl_shard_db_add(struct wl_shard_db *d, const struct wl_shard_row *r, struct wl_err *err)
{
	WL_TRY(wl_db_bind(&d->db, d->insert, err, "isiiiiiiibiisis", r->index, r->key, r->pair_id,
		r->offset[0], r->length[0], r->offset[1], r->length[1], r->offset[2], r->length[2],
		r->sha256, sizeof r->sha256, r->width, r->height, r->source ? r->source : "",
		r->topic, r->url ? r->url : ""));
	if (r->topic < 0)
		sqlite3_bind_null(d->insert, 14);
	return wl_db_step(&d->db, d->insert, err);
}

int wl_shard_db_reject(
	struct wl_shard_db *d, int64_t pair_id, const char *reason, struct wl_err *err)
{
	sqlite3_stmt *st;
	int rc;

	WL_TRY(wl_db_prepare(&d->db, &st, "INSERT INTO rejected VALUES(?,?)", err));
	rc = wl_db_run(&d->db, st, err, "is", pair_id, reason);
	sqlite3_finalize(st);
	return rc;
}

int wl_shard_db_finish(struct wl_shard_db *d, const struct wl_shard_info *info, const char *plan,
	struct wl_err *err)
{
	sqlite3_stmt *st;
	int rc;

	sqlite3_finalize(d->insert);
	d->insert = NULL;
	WL_TRY(wl_db_prepare(&d->db, &st, "INSERT INTO shard VALUES(?,?,?,?,?,?,?)", err));
	rc = wl_db_run(&d->db, st, err, "ssiisis", info->name, info->split, info->bytes,
		info->samples, info->sha256, info->rejected, plan);
	sqlite3_finalize(st);
	WL_TRY(rc);
	return wl_newdb_finish(&d->db, err);
}

void wl_shard_db_release(struct wl_shard_db *d)
{
	sqlite3_finalize(d->insert);
	wl_db_close(&d->db);
	*d = (struct wl_shard_db){0};
}

/* ---- reading ---- */

int wl_shard_rows_open(
	struct wl_shard_rows *r, const char *dir, const char *name, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/%s.db", dir, name);
	int ret = -1;

	*r = (struct wl_shard_rows){0};
	if (path && !wl_exists(path))
		wl_err_set(err, WL_EDATA,
			"%s is missing: the file was lost, or the set's manifest.db is another "
			"set's; wenlan-shard repair --shards %s makes both again from the tars",
			path, dir);
	else if (path && wl_db_open(&r->db, path, WL_DB_READ, err) == 0)
		ret = wl_db_prepare(&r->db, &r->st,
			"SELECT idx, key, pair_id, jpg_offset, jpg_length, txt_offset, txt_length,"
			" json_offset, json_length, sha256, width, height, ifnull(topic,-1), "
			"source, url FROM sample WHERE idx >= ?1 ORDER BY idx",
			err);
	if (ret == 0)
		ret = wl_db_bind(&r->db, r->st, err, "i", (int64_t)0);
	if (ret < 0)
		wl_shard_rows_close(r);
	free(path);
	return ret;
}

int wl_shard_rows_next(struct wl_shard_rows *r, struct wl_shard_row *row, struct wl_err *err)
{
	const char *key;
	int rc = wl_db_step(&r->db, r->st, err);

	if (rc <= 0)
		return rc;
	row->index = sqlite3_column_int64(r->st, 0);
	key = (const char *)sqlite3_column_text(r->st, 1);
	snprintf(row->key, sizeof row->key, "%s", key ? key : "");
	row->pair_id = sqlite3_column_int64(r->st, 2);
	for (int m = 0; m < WL_MEMBERS; m++) {
		row->offset[m] = sqlite3_column_int64(r->st, 3 + 2 * m);
		row->length[m] = sqlite3_column_int64(r->st, 4 + 2 * m);
	}
	if (sqlite3_column_bytes(r->st, 9) != (int)sizeof row->sha256)
		return wl_err_set(err, WL_EDATA,
			"%s, table sample, row %lld: its sha256 is not %zu bytes; the index is "
			"damaged: run wenlan-shard repair",
			r->db.path, (long long)row->index, sizeof row->sha256);
	memcpy(row->sha256, sqlite3_column_blob(r->st, 9), sizeof row->sha256);
	row->width = sqlite3_column_int64(r->st, 10);
	row->height = sqlite3_column_int64(r->st, 11);
	row->topic = sqlite3_column_int64(r->st, 12);
	row->source = (const char *)sqlite3_column_text(r->st, 13);
	row->url = (const char *)sqlite3_column_text(r->st, 14);
	return 1;
}

int wl_shard_rows_seek(
	struct wl_shard_rows *r, int64_t index, struct wl_shard_row *row, struct wl_err *err)
{
	int rc;

	WL_TRY(wl_db_bind(&r->db, r->st, err, "i", index));
	rc = wl_shard_rows_next(r, row, err);
	return rc > 0 ? row->index == index : rc;
}

void wl_shard_rows_close(struct wl_shard_rows *r)
{
	sqlite3_finalize(r->st);
	wl_db_close(&r->db);
	*r = (struct wl_shard_rows){0};
}

int64_t wl_shard_sealed_at(const char *dir, const char *name)
{
	char *path = wl_strf(NULL, "%s/%s.tar", dir, name);
	struct stat st;
	int64_t t = path && stat(path, &st) == 0 ? (int64_t)st.st_mtime : 0;

	free(path);
	return t;
}

int wl_shard_info_read(struct wl_shard_info *out, char plan[65], const char *dir, const char *name,
	struct wl_err *err)
{
	char *path = wl_strf(err, "%s/%s.db", dir, name);
	sqlite3_stmt *st = NULL;
	struct wl_db db = {0};
	int rc = -1;

	if (!path)
		return -1;
	WL_TRY_OUT(wl_db_open(&db, path, WL_DB_READ, err));
	WL_TRY_OUT(wl_db_prepare(&db, &st,
		"SELECT split, bytes, samples, ifnull(sha256,''), rejected, ifnull(plan,'') "
		"FROM shard",
		err));
	WL_TRY_OUT(rc = wl_db_step(&db, st, err));
	*out = (struct wl_shard_info){0};
	if (rc == 1) {
		snprintf(out->name, sizeof out->name, "%s", name);
		snprintf(out->split, sizeof out->split, "%s", sqlite3_column_text(st, 0));
		out->bytes = sqlite3_column_int64(st, 1);
		out->samples = sqlite3_column_int64(st, 2);
		snprintf(out->sha256, sizeof out->sha256, "%s", sqlite3_column_text(st, 3));
		out->rejected = sqlite3_column_int64(st, 4);
		snprintf(plan, 65, "%s", sqlite3_column_text(st, 5));
		out->sealed_at = wl_shard_sealed_at(dir, name);
	}
	if (rc != 1 || !wl_shard_name_ok(out->name, out->split))
		rc = wl_err_set(err, WL_EDATA,
			"%s, table shard: expected one row naming %s; the file is damaged: run "
			"wenlan-shard repair",
			path, name);
	else
		rc = 0;
out:
	sqlite3_finalize(st);
	wl_db_close(&db);
	free(path);
	return rc < 0 ? -1 : 0;
}
