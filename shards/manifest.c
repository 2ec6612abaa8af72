/*
 * manifest.db: small (one row a shard), rewritten whole and renamed, so a reader sees the old
 * set or the new one.  What it says is checked before anyone trusts it: names become paths.
 */
#include "shards/manifest.h"

#include "ops/file.h"
#include "ops/hash.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where a tombstone's pair lies; shard '': nowhere in this set.  Without it, a reader would have to
 * look through every sample for a single take-down. */
#define PLACE_TABLE "CREATE TABLE IF NOT EXISTS place(pair_id INTEGER, shard TEXT, idx INTEGER);"

#define MANIFEST_TABLES                                                                            \
	"CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"                       \
	"CREATE TABLE shard(name TEXT PRIMARY KEY, split TEXT, bytes INTEGER, samples INTEGER,"    \
	" sha256 TEXT, sealed_at INTEGER, rejected INTEGER) WITHOUT ROWID;"                        \
	"CREATE TABLE tombstone(pair_id INTEGER PRIMARY KEY, reason TEXT, at "                     \
	"INTEGER);" PLACE_TABLE

int wl_by_id(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static bool split_ok(const char *split)
{
	size_t n = strspn(split, "abcdefghijklmnopqrstuvwxyz");

	return n > 0 && n < WL_SPLIT_MAX && !split[n];
}

int wl_shard_name(
	char out[WL_SHARD_NAME_MAX], const char *split, int64_t number, struct wl_err *err)
{
	if (!split_ok(split))
		return wl_err_set(err, WL_EUSAGE,
			"split \"%s\": expected 1 to %d letters a-z (train, val, test)", split,
			WL_SPLIT_MAX - 1);
	if (number < 0 || number > WL_SHARD_NUMBER_MAX)
		return wl_err_set(err, WL_EUSAGE,
			"shard number %lld is not in 0..%d: choose a larger --shard-size",
			(long long)number, WL_SHARD_NUMBER_MAX);
	snprintf(out, WL_SHARD_NAME_MAX, "%s-%06d", split, (int)number);
	return 0;
}

bool wl_shard_name_ok(const char *name, const char *split)
{
	size_t n = strlen(split);

	return split_ok(split) && !strncmp(name, split, n) && name[n] == '-' &&
	       strlen(name + n + 1) == 6 && strspn(name + n + 1, "0123456789") == 6;
}

/* ---- databases that are written once ---- */

/* Rollback journal: unlike WAL it leaves a file that a read-only medium can serve.  For one thread
 * at a time: SQLite takes no locks of its own. */
static int open_plain(
	struct wl_db *db, const char *path, int flags, const char *pragmas, struct wl_err *err)
{
	*db = (struct wl_db){0};
	db->path = wl_strf(err, "%s", path);
	if (!db->path)
		return -1;
	flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
	if (sqlite3_open_v2(path, &db->h, flags, NULL) != SQLITE_OK ||
		sqlite3_exec(db->h, pragmas, NULL, NULL, NULL) != SQLITE_OK) {
		wl_db_err(db, err, "opening");
		wl_db_close(db);
		return -1;
	}
	sqlite3_busy_timeout(db->h, 10000);
	return 0;
}

int wl_newdb_open(struct wl_db *db, const char *tmp, const char *sql, struct wl_err *err)
{
	unlink(tmp); /* of a run that was killed */
	/* No journal: a file that is not finished is thrown away, never repaired. */
	WL_TRY(open_plain(db, tmp, SQLITE_OPEN_CREATE,
		"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE",
		err));
	if (wl_db_begin(db, err) < 0 || wl_db_exec(db, sql, err) < 0) {
		wl_db_close(db);
		return -1;
	}
	return 0;
}

int wl_newdb_finish(struct wl_db *db, struct wl_err *err)
{
	char *path;
	int fd, ret = -1;

	WL_TRY(wl_db_commit(db, err));
	path = wl_strf(err, "%s", db->path);
	if (!path)
		return -1;
	wl_db_close(db);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		wl_err_errno(err, "%s: syncing it to the disk failed", path);
	else
		ret = 0;
	if (fd >= 0)
		close(fd);
	free(path);
	return ret;
}

/* ---- reading ---- */

bool wl_manifest_exists(const char *dir)
{
	char *path = wl_path_join(dir, "manifest.db", NULL);
	bool there = path && wl_exists(path);

	free(path);
	return there;
}

static const char *column(sqlite3_stmt *st, int i)
{
	const char *s = (const char *)sqlite3_column_text(st, i);

	return s ? s : "";
}

static int grow(void **v, size_t n, size_t size, struct wl_err *err)
{
	size_t cap = n ? n * 2 : 16;
	void *p;

	if (n & (n - 1) || (n && n < 16)) /* not full: capacities are 16, 32, 64, ... */
		return 0;
	p = realloc(*v, cap * size);
	if (!p)
		return wl_err_nomem(err, "a manifest", cap * size);
	*v = p;
	return 0;
}

static int read_shards(struct wl_manifest *m, struct wl_db *db, struct wl_err *err)
{
	sqlite3_stmt *st;
	int rc;

	WL_TRY(wl_db_prepare(db, &st,
		"SELECT name, split, bytes, samples, sha256, sealed_at, rejected FROM shard "
		"ORDER BY name",
		err));
	while ((rc = wl_db_step(db, st, err)) > 0) {
		struct wl_shard_info s = {.bytes = sqlite3_column_int64(st, 2),
			.samples = sqlite3_column_int64(st, 3),
			.sealed_at = sqlite3_column_int64(st, 5),
			.rejected = sqlite3_column_int64(st, 6)};
		const char *name = column(st, 0), *split = column(st, 1), *sha = column(st, 4);

		if (!wl_shard_name_ok(name, split) || s.bytes <= 0 || s.samples < 0 ||
			s.samples > WL_SHARD_SAMPLES_MAX || strlen(sha) != 64 ||
			strspn(sha, "0123456789abcdef") != 64) {
			rc = wl_err_set(err, WL_EDATA,
				"%s, table shard, row \"%.64s\": expected a name SPLIT-NNNNNN, "
				"sizes and a SHA-256; the manifest is damaged: run wenlan-shard "
				"repair",
				db->path, name);
			break;
		}
		snprintf(s.name, sizeof s.name, "%s", name);
		snprintf(s.split, sizeof s.split, "%s", split);
		memcpy(s.sha256, sha, 65);
		if ((rc = grow((void **)&m->shards, m->n, sizeof s, err)) < 0)
			break;
		m->shards[m->n++] = s;
	}
	sqlite3_finalize(st);
	return rc;
}

static int read_meta(struct wl_manifest *m, struct wl_db *db, struct wl_err *err)
{
	const char *version;
	sqlite3_stmt *st;
	int rc;

	m->meta = json_object();
	if (!m->meta)
		return wl_err_nomem(err, "a manifest", 0);
	WL_TRY(wl_db_prepare(db, &st, "SELECT key, value FROM meta", err));
	while ((rc = wl_db_step(db, st, err)) > 0)
		if (json_object_set_new(m->meta, column(st, 0), json_string(column(st, 1))) < 0) {
			rc = wl_err_set(
				err, WL_EDATA, "%s, table meta: a value is not UTF-8", db->path);
			break;
		}
	sqlite3_finalize(st);
	WL_TRY(rc);
	version = json_string_value(json_object_get(m->meta, "version"));
	if (!version || atoi(version) != WL_SHARDS_VERSION)
		return wl_err_set(err, WL_EDATA,
			"%s is of version %s; this program reads version %d: use the program "
			"that wrote it, or pack the corpus again",
			db->path, version ? version : "(none)", WL_SHARDS_VERSION);
	return 0;
}

static int read_tombstones(struct wl_manifest *m, struct wl_db *db, struct wl_err *err)
{
	sqlite3_stmt *st;
	int rc;

	WL_TRY(wl_db_prepare(db, &st, "SELECT pair_id FROM tombstone ORDER BY pair_id", err));
	while ((rc = wl_db_step(db, st, err)) > 0) {
		if ((rc = grow((void **)&m->tombstones, m->n_tombstones, sizeof(int64_t), err)) < 0)
			break;
		m->tombstones[m->n_tombstones++] = sqlite3_column_int64(st, 0);
	}
	sqlite3_finalize(st);
	return rc;
}

static int add_dead(struct wl_manifest *m, int64_t pair_id, const char *shard, int64_t index,
	struct wl_err *err)
{
	struct wl_dead *d;

	WL_TRY(grow((void **)&m->dead, m->n_dead, sizeof *m->dead, err));
	d = &m->dead[m->n_dead++];
	snprintf(d->shard, sizeof d->shard, "%s", shard);
	d->pair_id = pair_id;
	d->index = index;
	return 0;
}

/* Looks for the pairs ids[n] (ascending) in the samples of all shards; to m->dead. */
static int look_for(struct wl_manifest *m, const char *dir, const struct wl_shard_info *shards,
	size_t n_shards, const int64_t *ids, size_t n, struct wl_err *err)
{
	int rc = 0;

	for (size_t i = 0; n && i < n_shards && rc == 0; i++) {
		char *path = wl_strf(err, "%s/%s.db", dir, shards[i].name);
		sqlite3_stmt *st = NULL;
		struct wl_db db = {0};

		rc = -1;
		if (path && wl_db_open(&db, path, WL_DB_READ, err) == 0 &&
			wl_db_prepare(
				&db, &st, "SELECT pair_id, idx FROM sample ORDER BY idx", err) == 0)
			while ((rc = wl_db_step(&db, st, err)) > 0) {
				int64_t id = sqlite3_column_int64(st, 0);

				if (bsearch(&id, ids, n, sizeof *ids, wl_by_id) &&
					(rc = add_dead(m, id, shards[i].name,
						 sqlite3_column_int64(st, 1), err)) < 0)
					break;
			}
		sqlite3_finalize(st);
		wl_db_close(&db);
		free(path);
	}
	return rc;
}

/* Tombstones without a row in `place` come from other programs. */
static int read_places(struct wl_manifest *m, struct wl_db *db, const char *dir, struct wl_err *err)
{
	int64_t *lost = NULL;
	size_t n = 0;
	sqlite3_stmt *st;
	int rc;

	if (!m->n_tombstones)
		return 0;
	WL_TRY(wl_db_prepare(
		db, &st, "SELECT count(*) FROM sqlite_master WHERE name='place'", err));
	rc = wl_db_step(db, st, err) > 0 && sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	WL_TRY(wl_db_prepare(db, &st,
		rc ? "SELECT t.pair_id, p.shard, p.idx FROM tombstone t LEFT JOIN place p"
		     " USING (pair_id) ORDER BY 1"
		   : "SELECT pair_id, NULL, NULL FROM tombstone ORDER BY 1",
		err));
	while ((rc = wl_db_step(db, st, err)) > 0) {
		const char *shard = (const char *)sqlite3_column_text(st, 1);

		if (shard && *shard)
			rc = add_dead(m, sqlite3_column_int64(st, 0), shard,
				sqlite3_column_int64(st, 2), err);
		else if (!shard && (rc = grow((void **)&lost, n, sizeof *lost, err)) == 0)
			lost[n++] = sqlite3_column_int64(st, 0);
		if (rc < 0)
			break;
	}
	sqlite3_finalize(st);
	if (rc == 0)
		rc = look_for(m, dir, m->shards, m->n, lost, n, err);
	free(lost);
	return rc;
}

static int fingerprint(struct wl_manifest *m, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_sha256 h;
	char line[256];

	WL_TRY(wl_sha256_init(&h, err));
	for (size_t i = 0; i < m->n; i++) {
		const struct wl_shard_info *s = &m->shards[i];
		int n = snprintf(line, sizeof line, "%s %s %lld %lld %s\n", s->name, s->split,
			(long long)s->bytes, (long long)s->samples, s->sha256);

		wl_sha256_add(&h, line, (size_t)n);
	}
	wl_sha256_final(&h, digest);
	wl_sha256_release(&h);
	wl_hex(digest, sizeof digest, m->fingerprint);
	return 0;
}

int wl_manifest_read(struct wl_manifest *m, const char *dir, struct wl_err *err)
{
	struct wl_db db = {0};
	char *path;
	int ret = -1;

	*m = (struct wl_manifest){0};
	path = wl_path_join(dir, "manifest.db", err);
	if (!path)
		return -1;
	if (!wl_exists(path)) {
		wl_err_set(err, WL_EDATA,
			"%s is missing: %s holds no finished shard set; run wenlan-shard "
			"--corpus to its end (or wenlan-shard repair when only the manifest was "
			"lost; tars of other writers are read by wenlan-load and wenlan-train as "
			"they are)",
			path, dir);
		goto out;
	}
	if (wl_db_open(&db, path, WL_DB_READ, err) < 0 || read_meta(m, &db, err) < 0 ||
		read_shards(m, &db, err) < 0 || read_tombstones(m, &db, err) < 0 ||
		read_places(m, &db, dir, err) < 0) {
		/* A manifest without its tables is bad input whatever SQLite calls it. */
		if (err && err->code == WL_EFAIL)
			err->code = WL_EDATA;
		goto out;
	}
	ret = fingerprint(m, err);
out:
	if (ret < 0)
		wl_manifest_release(m);
	wl_db_close(&db);
	free(path);
	return ret;
}

void wl_manifest_release(struct wl_manifest *m)
{
	if (!m)
		return;
	free(m->shards);
	free(m->tombstones);
	free(m->dead);
	json_decref(m->meta);
	*m = (struct wl_manifest){0};
}

/* ---- writing ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(
		((const struct wl_shard_info *)a)->name, ((const struct wl_shard_info *)b)->name);
}

static int put_shards(
	struct wl_db *db, const struct wl_shard_info *shards, size_t n, struct wl_err *err)
{
	struct wl_shard_info *v = malloc((n ? n : 1) * sizeof *v);
	sqlite3_stmt *st = NULL;
	int ret = -1;

	if (!v)
		return wl_err_nomem(err, "a manifest", n * sizeof *v);
	if (n)
		memcpy(v, shards, n * sizeof *v);
	qsort(v, n, sizeof *v, by_name);
	WL_TRY_OUT(wl_db_prepare(db, &st, "INSERT INTO shard VALUES(?,?,?,?,?,?,?)", err));
	for (size_t i = 0; i < n; i++)
		WL_TRY_OUT(wl_db_run(db, st, err, "ssiisii", v[i].name, v[i].split, v[i].bytes,
			v[i].samples, v[i].sha256, v[i].sealed_at, v[i].rejected));
	ret = 0;
out:
	sqlite3_finalize(st);
	free(v);
	return ret;
}

static int put_meta(struct wl_db *db, const json_t *meta, struct wl_err *err)
{
	char version[16];
	const char *key;
	json_t *value;
	sqlite3_stmt *st;
	int ret;

	WL_TRY(wl_db_prepare(db, &st, "INSERT OR REPLACE INTO meta VALUES(?,?)", err));
	snprintf(version, sizeof version, "%d", WL_SHARDS_VERSION);
	ret = wl_db_run(db, st, err, "ss", "version", version);
	json_object_foreach((json_t *)meta, key, value)
	{
		char *text = NULL;

		if (ret < 0)
			break;
		if (!json_is_string(value)) {
			text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
			if (!text)
				ret = wl_err_nomem(err, "a manifest", 0);
		}
		if (ret == 0)
			ret = wl_db_run(
				db, st, err, "ss", key, text ? text : json_string_value(value));
		free(text);
	}
	sqlite3_finalize(st);
	return ret;
}

/* Take-downs outlive a re-cut: they are copied from the manifest that is replaced. */
static int keep_tombstones(struct wl_db *db, const char *old, struct wl_err *err)
{
	sqlite3_stmt *from = NULL, *to = NULL;
	struct wl_db o = {0};
	int rc = -1, ret = -1;

	if (!wl_exists(old))
		return 0;
	WL_TRY(wl_db_open(&o, old, WL_DB_READ, err));
	WL_TRY_OUT(wl_db_prepare(&o, &from, "SELECT pair_id, reason, at FROM tombstone", err));
	WL_TRY_OUT(wl_db_prepare(db, &to, "INSERT INTO tombstone VALUES(?,?,?)", err));
	while ((rc = wl_db_step(&o, from, err)) > 0)
		WL_TRY_OUT(wl_db_run(db, to, err, "isi", (int64_t)sqlite3_column_int64(from, 0),
			column(from, 1), (int64_t)sqlite3_column_int64(from, 2)));
	ret = rc;
out:
	sqlite3_finalize(from);
	sqlite3_finalize(to);
	wl_db_close(&o);
	if (ret < 0)
		wl_err_prefix(err,
			"%s cannot be replaced, because its tombstones cannot be read (move it "
			"away if they do not matter)",
			old);
	return ret;
}

/* The rows of `place` for the pairs ids[n] (ascending) in these shards. */
static int put_places(struct wl_db *db, const char *dir, const struct wl_shard_info *shards,
	size_t n_shards, const int64_t *ids, size_t n, struct wl_err *err)
{
	struct wl_manifest found = {0};
	sqlite3_stmt *st = NULL;
	int ret = -1;

	WL_TRY_OUT(look_for(&found, dir, shards, n_shards, ids, n, err));
	/* '' says that it was looked for; it does no harm beside a real place. */
	WL_TRY_OUT(wl_db_prepare(db, &st, "INSERT INTO place VALUES(?,'',NULL)", err));
	for (size_t i = 0; i < n; i++)
		WL_TRY_OUT(wl_db_run(db, st, err, "i", ids[i]));
	sqlite3_finalize(st);
	st = NULL;
	WL_TRY_OUT(wl_db_prepare(db, &st, "INSERT INTO place VALUES(?,?,?)", err));
	for (size_t i = 0; i < found.n_dead; i++)
		WL_TRY_OUT(wl_db_run(db, st, err, "isi", found.dead[i].pair_id, found.dead[i].shard,
			found.dead[i].index));
	ret = 0;
out:
	sqlite3_finalize(st);
	wl_manifest_release(&found);
	return ret;
}

/* The places of all tombstones in the database that is being written. */
static int put_all_places(struct wl_db *db, const char *dir, const struct wl_shard_info *shards,
	size_t n, struct wl_err *err)
{
	struct wl_manifest down = {0};
	int rc = read_tombstones(&down, db, err);

	if (rc == 0)
		rc = put_places(db, dir, shards, n, down.tombstones, down.n_tombstones, err);
	wl_manifest_release(&down);
	return rc;
}

/* Held while a manifest is replaced or changed, so that no tombstone falls between. */
static int lock_manifest(const char *dir, struct wl_err *err)
{
	char *path = wl_path_join(dir, ".manifest.lock", err);
	int fd = path ? wl_lock_file(path, err) : -1;

	free(path);
	return fd;
}

int wl_manifest_write(const char *dir, const struct wl_shard_info *shards, size_t n,
	const json_t *meta, struct wl_err *err)
{
	char *path = wl_path_join(dir, "manifest.db", err);
	char *tmp = wl_path_join(dir, "manifest.db.tmp", err);
	struct wl_db db = {0};
	int ret = -1, lock = -1;

	if (!path || !tmp)
		goto out;
	WL_TRY_OUT(lock = lock_manifest(dir, err));
	WL_TRY_OUT(wl_newdb_open(&db, tmp, MANIFEST_TABLES, err));
	WL_TRY_OUT(put_meta(&db, meta, err));
	WL_TRY_OUT(put_shards(&db, shards, n, err));
	WL_TRY_OUT(keep_tombstones(&db, path, err));
	WL_TRY_OUT(put_all_places(&db, dir, shards, n, err));
	WL_TRY_OUT(wl_newdb_finish(&db, err));
	if (rename(tmp, path) < 0) {
		wl_err_errno(err, "%s: renaming it to %s failed", tmp, path);
		goto out;
	}
	ret = wl_fsync_dir(dir, err);
out:
	wl_db_close(&db);
	if (ret < 0 && tmp)
		unlink(tmp);
	if (lock >= 0)
		close(lock);
	free(path);
	free(tmp);
	return ret;
}

int64_t wl_manifest_tombstone(
	const char *dir, const int64_t *pair_ids, size_t n, const char *reason, struct wl_err *err)
{
	char *path = wl_path_join(dir, "manifest.db", err);
	struct wl_manifest m = {0};
	struct wl_db db = {0};
	sqlite3_stmt *st = NULL;
	int64_t *fresh = NULL, added = 0, ret = -1;
	int lock = -1;

	if (!path)
		return -1;
	WL_TRY_OUT(wl_manifest_read(&m, dir, err)); /* the checks */
	WL_TRY_OUT(lock = lock_manifest(dir, err));
	WL_TRY_OUT(open_plain(&db, path, 0, "PRAGMA synchronous=FULL", err));
	WL_TRY_OUT(wl_db_begin(&db, err));
	WL_TRY_OUT(wl_db_prepare(
		&db, &st, "INSERT OR IGNORE INTO tombstone VALUES(?,?,unixepoch())", err));
	fresh = malloc((n ? n : 1) * sizeof *fresh);
	if (!fresh) {
		wl_err_nomem(err, "a list of take-downs", n * sizeof *fresh);
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		WL_TRY_OUT(wl_db_run(&db, st, err, "is", pair_ids[i], reason));
		if (sqlite3_changes(db.h))
			fresh[added++] = pair_ids[i];
	}
	qsort(fresh, (size_t)added, sizeof *fresh, wl_by_id);
	WL_TRY_OUT(wl_db_exec(&db, PLACE_TABLE, err));
	WL_TRY_OUT(put_places(&db, dir, m.shards, m.n, fresh, (size_t)added, err));
	WL_TRY_OUT(wl_db_commit(&db, err));
	ret = added;
out:
	sqlite3_finalize(st);
	wl_db_rollback(&db);
	wl_db_close(&db);
	wl_manifest_release(&m);
	if (lock >= 0)
		close(lock);
	free(fresh);
	free(path);
	return ret;
}
