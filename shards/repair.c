/*
 * Databases from tars: a shard's tar says everything about its samples, so NAME.db and the
 * manifest can be lost.  What only they knew (pairs that were rejected, tombstones) is taken from
 * the old files where these can still be read.
 */
#include "shards/check.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "shards/index.h"
#include "shards/manifest.h"
#include "shards/sample_walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Rejected pairs of the old database; nothing when it cannot be read. */
static int keep_rejected(
	struct wl_shard_db *to, const char *old, struct wl_shard_info *info, struct wl_err *err)
{
	sqlite3_stmt *st = NULL;
	struct wl_db db = {0};
	int ret = 0;

	if (wl_exists(old) && wl_db_open(&db, old, WL_DB_READ, NULL) == 0 &&
		wl_db_prepare(&db, &st, "SELECT pair_id, ifnull(reason,'') FROM rejected", NULL) ==
			0)
		while (ret == 0 && wl_db_step(&db, st, NULL) > 0) {
			ret = wl_shard_db_reject(to, sqlite3_column_int64(st, 0),
				(const char *)sqlite3_column_text(st, 1), err);
			info->rejected++;
		}
	sqlite3_finalize(st);
	wl_db_close(&db);
	return ret;
}

static int copy_samples(
	struct wl_shard_db *to, const char *dir, struct wl_shard_info *info, struct wl_err *err)
{
	struct wl_sample_walk w;
	struct wl_shard_row row;
	int rc;

	WL_TRY(wl_sample_walk_open(&w, dir, info->name, err));
	info->bytes = w.tar.size;
	while ((rc = wl_sample_walk_next(&w, &row, err)) > 0)
		if ((rc = wl_shard_db_add(to, &row, err)) < 0)
			break;
	info->samples = w.index;
	wl_sample_walk_close(&w);
	return rc;
}

static int hash_tar(const char *dir, struct wl_shard_info *info, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	char *tar = wl_strf(err, "%s/%s.tar", dir, info->name);
	int rc = tar ? wl_sha256_file(tar, digest, err) : -1;

	free(tar);
	WL_TRY(rc);
	wl_hex(digest, sizeof digest, info->sha256);
	return 0;
}

/* A tar whose bytes changed after it was sealed must not be made the truth: some record of its
 * hash that is left (of its database `db`, of the old manifest; "" and NULL: none) must agree. */
static int check_sealed(const char *dir, const struct wl_shard_info *info, const char *db,
	const struct wl_manifest *old, struct wl_err *err)
{
	const char *known = *db ? db : NULL;

	if (!strcmp(db, info->sha256))
		return 0;
	for (size_t i = 0; i < old->n; i++) {
		if (strcmp(old->shards[i].name, info->name))
			continue;
		if (!strcmp(old->shards[i].sha256, info->sha256))
			return 0;
		known = old->shards[i].sha256;
	}
	if (!known)
		return 0;
	return wl_err_set(err, WL_EDATA,
		"%s/%s.tar: its bytes are not those that were sealed (SHA-256 %.16s..., expected "
		"%.16s...), so the tar is damaged; wenlan-shard repair --shards %s --corpus DIR "
		"packs it again, --trust-tars takes it as it is",
		dir, info->name, info->sha256, known, dir);
}

/* db_sha256: of the tar, by the database that is replaced; "": not known. */
static int repair_shard(const char *dir, struct wl_shard_info *info, const char *plan,
	const char *db_sha256, const struct wl_manifest *old, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/%s.db", dir, info->name);
	char *tmp = wl_strf(err, "%s/%s.db.tmp", dir, info->name);
	struct wl_shard_db db = {0};
	int ret = -1;

	if (!path || !tmp)
		goto out;
	WL_TRY_OUT(wl_shard_db_create(&db, tmp, err));
	WL_TRY_OUT(copy_samples(&db, dir, info, err));
	WL_TRY_OUT(keep_rejected(&db, path, info, err));
	WL_TRY_OUT(hash_tar(dir, info, err));
	if (old)
		WL_TRY_OUT(check_sealed(dir, info, db_sha256, old, err));
	WL_TRY_OUT(wl_shard_db_finish(&db, info, plan, err));
	if (rename(tmp, path) < 0)
		wl_err_errno(err, "%s: renaming it to %s failed", tmp, path);
	else
		ret = wl_fsync_dir(dir, err);
out:
	wl_shard_db_release(&db);
	if (ret < 0 && tmp)
		unlink(tmp);
	free(path);
	free(tmp);
	return ret;
}

/* The set's facts: from the old manifest, else from plan.json, else next to none.  *m: the old
 * manifest, empty where there is none. */
static json_t *old_meta(
	const char *dir, struct wl_manifest *m, struct wl_repair_result *out, struct wl_err *err)
{
	char *path = wl_path_join(dir, "manifest.db", err);
	char *aside = wl_strf(err, "%s/manifest.db.damaged", dir);
	char *plan = wl_path_join(dir, "plan.json", err);
	struct wl_err why = WL_ERR_INIT;
	json_t *meta = NULL;

	if (!path || !aside || !plan)
		goto out;
	if (wl_exists(path) && wl_manifest_read(m, dir, &why) == 0) {
		meta = json_incref(m->meta);
	} else {
		if (wl_exists(path)) {
			if (rename(path, aside) < 0) {
				wl_err_errno(err, "%s: renaming it to %s failed", path, aside);
				goto out;
			}
			out->tombstones_lost = true;
			wl_warn("%s; it is kept as %s, and its tombstones must be given again",
				why.msg, aside);
		} else {
			wl_warn("%s was lost: what had been taken down is not known any more, and "
				"must be given again (wenlan-shard tombstone)",
				path);
		}
		meta = wl_exists(plan) ? wl_json_load(plan, err) : json_object();
	}
	if (meta && !json_is_object(meta)) {
		wl_err_set(err, WL_EDATA, "%s: expected a JSON object; move it away", plan);
		json_decref(meta);
		meta = NULL;
	}
out:
	free(path);
	free(aside);
	free(plan);
	return meta;
}

/* SPLIT-NNNNNN.tar -> its info's name and split; false for another name. */
static bool parse_name(const char *file, struct wl_shard_info *info)
{
	const char *dash = strchr(file, '-');
	size_t n = dash ? (size_t)(dash - file) : 0;

	if (!n || n >= sizeof info->split || strlen(dash) != 11 || strcmp(dash + 7, ".tar"))
		return false;
	memcpy(info->split, file, n);
	memcpy(info->name, file, n + 7);
	return wl_shard_name_ok(info->name, info->split);
}

/* It is made again from the new database. */
static void remove_index(const char *dir, const char *name, const char *ext)
{
	char *path = wl_strf(NULL, "%s/%s%s", dir, name, ext);

	if (path)
		unlink(path);
	free(path);
}

static int repair_all(const char *dir, const struct wl_names *names, const json_t *meta,
	const struct wl_manifest *sealed, struct wl_repair_result *out, struct wl_err *err)
{
	const char *plan = json_string_value(json_object_get(meta, "plan"));
	struct wl_shard_info *infos = calloc(names->n, sizeof *infos);
	struct wl_shard_info old;
	size_t n = 0;
	int ret = -1;

	if (!infos)
		return wl_err_nomem(err, "repairing", names->n * sizeof *infos);
	for (size_t i = 0; i < names->n; i++) {
		struct wl_shard_info *s = &infos[n];

		char own[65];

		if (!parse_name(names->v[i], s))
			continue;
		/* A set that was added to has shards of several plans. */
		if (wl_shard_info_read(&old, own, dir, s->name, NULL) < 0)
			*own = *old.sha256 = '\0';
		if (!*own)
			snprintf(own, sizeof own, "%s", plan ? plan : "");
		WL_TRY_OUT(repair_shard(dir, s, own, old.sha256, sealed, err));
		remove_index(dir, s->name, ".idx");
		remove_index(dir, s->name, ".tar.idx");
		s->sealed_at = wl_shard_sealed_at(dir, s->name);
		out->samples += s->samples;
		n++;
	}
	out->shards = (int64_t)n;
	WL_TRY_OUT(wl_index_write(dir, infos, n, err));
	WL_TRY_OUT(wl_manifest_write(dir, infos, n, meta, err));
	ret = wl_index_energon(dir, err);
out:
	free(infos);
	return ret;
}

int wl_shards_repair(
	const char *dir, bool trust_tars, struct wl_repair_result *out, struct wl_err *err)
{
	struct wl_manifest old = {0};
	struct wl_names names = {0};
	json_t *meta = NULL;
	int ret = -1;

	*out = (struct wl_repair_result){0};
	WL_TRY(wl_list_dir(dir, "*-[0-9][0-9][0-9][0-9][0-9][0-9].tar", &names, err));
	if (!names.n) {
		wl_err_set(err, WL_EDATA,
			"%s holds no shard (SPLIT-NNNNNN.tar), so there is nothing to repair "
			"from",
			dir);
		goto out;
	}
	meta = old_meta(dir, &old, out, err);
	if (meta)
		ret = repair_all(dir, &names, meta, trust_tars ? NULL : &old, out, err);
out:
	wl_manifest_release(&old);
	json_decref(meta);
	wl_names_release(&names);
	return ret;
}
