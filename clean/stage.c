/* See stage.h. */
#include "clean/stage.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int hash_json(const json_t *v, char hex[65], struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	char *text = wl_json_text(v, err);

	if (!text)
		return -1;
	wl_sha256(text, strlen(text), digest);
	wl_hex(digest, sizeof(digest), hex);
	free(text);
	return 0;
}

static bool fact_is(const json_t *facts, const char *key, const char *value)
{
	const char *s = json_string_value(json_object_get(facts, key));

	return s && strcmp(s, value) == 0;
}

int wl_stage_begin(struct wl_stage *s, struct wl_corpus *c, const char *name, const json_t *params,
	struct wl_err *err)
{
	const json_t *facts = wl_corpus_stage_facts(c, name);
	char *path;

	memset(s, 0, sizeof(*s));
	s->corpus = c;
	s->name = name;
	path = wl_strf(err, "%s/%s.lock", wl_corpus_dir(c), name);
	s->lock = path ? wl_lock_file(path, err) : -1;
	free(path);
	if (s->lock < 0)
		return -1;
	s->generation = wl_corpus_generation(c, name) + 1;
	WL_TRY(hash_json(params, s->params_hash, err));
	WL_TRY(wl_corpus_fingerprint(c, s->fingerprint, err));
	return fact_is(facts, "params_hash", s->params_hash) &&
	       fact_is(facts, "fingerprint", s->fingerprint);
}

int wl_stage_begin_on(struct wl_stage *s, struct wl_comm *comm, struct wl_corpus *c,
	const char *name, const json_t *params, struct wl_err *err)
{
	struct told {
		int ret, generation;
		char fingerprint[65], params_hash[65];
		struct wl_err err;
	} t = {0};

	if (wl_comm_rank(comm) == 0) {
		t.ret = wl_stage_begin(s, c, name, params, &t.err);
		t.generation = s->generation;
		memcpy(t.fingerprint, s->fingerprint, sizeof(t.fingerprint));
		memcpy(t.params_hash, s->params_hash, sizeof(t.params_hash));
	}
	WL_TRY(wl_comm_broadcast(comm, &t, sizeof(t), 0, err));
	if (wl_comm_rank(comm) != 0) {
		*s = (struct wl_stage){c, name, t.generation, -1, {0}, {0}};
		memcpy(s->fingerprint, t.fingerprint, sizeof(t.fingerprint));
		memcpy(s->params_hash, t.params_hash, sizeof(t.params_hash));
	}
	if (t.ret < 0 && err)
		*err = t.err;
	return t.ret;
}

void wl_stage_end(struct wl_stage *s)
{
	if (s->corpus && s->lock >= 0)
		close(s->lock);
	memset(s, 0, sizeof(*s));
	s->lock = -1;
}

static const char common_schema[] =
	"CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS examined(pair_id INTEGER PRIMARY KEY);"
	"CREATE TABLE IF NOT EXISTS verdict(pair_id INTEGER, reason TEXT, detail TEXT,"
	" PRIMARY KEY(pair_id, reason)) WITHOUT ROWID;";

/* Whether the database was begun under `key`; a fresh one gets it. */
static int same_key(struct wl_db *db, const char *key, bool *same, struct wl_err *err)
{
	sqlite3_stmt *st = NULL;
	int row, ret = -1;

	WL_TRY_OUT(wl_db_prepare(db, &st, "INSERT OR IGNORE INTO meta VALUES('key', ?)", err));
	WL_TRY_OUT(wl_db_run(db, st, err, "s", key));
	sqlite3_finalize(st);
	WL_TRY_OUT(wl_db_prepare(db, &st, "SELECT value FROM meta WHERE key = 'key'", err));
	WL_TRY_OUT(row = wl_db_step(db, st, err));
	*same = row && strcmp((const char *)sqlite3_column_text(st, 0), key) == 0;
	ret = 0;
out:
	sqlite3_finalize(st);
	return ret;
}

static int remove_db(const char *path, struct wl_err *err)
{
	static const char *const suffixes[] = {"-wal", "-shm", ""};

	for (int i = 0; i < 3; i++) {
		char *p = wl_strf(err, "%s%s", path, suffixes[i]);
		int ret = p ? wl_remove_tree(p, err) : -1;
		free(p);
		WL_TRY(ret);
	}
	return 0;
}

static int open_db(const char *path, const char *schema, const char *key, struct wl_db *db,
	bool *same, struct wl_err *err)
{
	WL_TRY(wl_db_open(db, path, WL_DB_WRITE, err));
	if (wl_db_exec(db, common_schema, err) < 0 || wl_db_exec(db, schema, err) < 0 ||
		same_key(db, key, same, err) < 0) {
		wl_db_close(db);
		return -1;
	}
	return 0;
}

int wl_stage_db(struct wl_stage *s, int partition, const char *schema, const char *key,
	struct wl_db *db, struct wl_err *err)
{
	char *path = wl_corpus_stage_path(s->corpus, s->name, s->generation, partition, err);
	char *dir = path ? wl_strf(err, "%s", path) : NULL;
	bool same = false;
	int ret = -1;

	if (!dir)
		goto out;
	/* A lane that no origin fell into has no directory yet. */
	*strrchr(dir, '/') = 0;
	WL_TRY_OUT(wl_mkdir_p(dir, err));
	WL_TRY_OUT(open_db(path, schema, key, db, &same, err));
	if (!same) {
		wl_db_close(db);
		WL_TRY_OUT(remove_db(path, err));
		WL_TRY_OUT(open_db(path, schema, key, db, &same, err));
	}
	ret = 0;
out:
	free(dir);
	free(path);
	return ret;
}

static int copy_tables(struct wl_db *db, const char *const *tables, struct wl_err *err)
{
	int64_t same;

	WL_TRY(wl_db_int(db, 0, &same, err,
		"SELECT (SELECT value FROM old.meta WHERE key = 'key')"
		" = (SELECT value FROM main.meta WHERE key = 'key')"));
	if (!same)
		return 0;
	WL_TRY(wl_db_begin(db, err));
	for (; *tables; tables++) {
		char *sql = wl_strf(err, "INSERT OR IGNORE INTO main.%s SELECT * FROM old.%s",
			*tables, *tables);
		int ret = sql ? wl_db_exec(db, sql, err) : -1;
		free(sql);
		if (ret < 0) {
			wl_db_rollback(db);
			return -1;
		}
	}
	return wl_db_commit(db, err);
}

int wl_stage_take_over(struct wl_stage *s, int partition, struct wl_db *db,
	const char *const *tables, struct wl_err *err)
{
	char *path = wl_corpus_stage_path(s->corpus, s->name, s->generation - 1, partition, err);
	sqlite3_stmt *st = NULL;
	int ret = -1;

	if (!path)
		return -1;
	if (s->generation < 2 || !wl_exists(path)) {
		free(path);
		return 0;
	}
	WL_TRY_OUT(wl_db_prepare(db, &st, "ATTACH ? AS old", err));
	WL_TRY_OUT(wl_db_run(db, st, err, "s", path));
	ret = copy_tables(db, tables, err);
	if (ret == 0)
		ret = wl_db_exec(db, "DETACH old", err);
out:
	sqlite3_finalize(st);
	free(path);
	return ret;
}

int wl_stage_publish(struct wl_stage *s, json_t *counts, struct wl_err *err)
{
	json_t *facts = json_pack("{s:s, s:s, s:O}", "params_hash", s->params_hash, "fingerprint",
		s->fingerprint, "counts", counts);
	int ret;

	if (!facts)
		return wl_err_nomem(err, "a stage's facts", 0);
	ret = wl_corpus_publish(s->corpus, s->name, s->generation, facts, err);
	json_decref(facts);
	return ret;
}

int wl_stage_batch(struct wl_db *db, struct wl_pool *pool, size_t n,
	void (*work)(void *ctx, size_t i), int (*store)(void *ctx, size_t i, struct wl_err *err),
	void *ctx, struct wl_err *err)
{
	wl_pool_for(pool, n, work, ctx);
	WL_TRY(wl_db_begin(db, err));
	for (size_t i = 0; i < n; i++)
		WL_TRY_OUT(store(ctx, i, err));
	WL_TRY_OUT(wl_db_commit(db, err));
	return 0;
out:
	wl_db_rollback(db);
	return -1;
}
