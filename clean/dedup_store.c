/*
 * Dedup's databases: signatures in and out, verdicts and groups out.
 *
 * Beside the contract's tables (ingest/corpus.h) there are look (the second opinion's bytes)
 * and bad (why a picture could not be decoded).
 */
#include "clean/dedup_priv.h"

#include "ops/file.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 256 };

static const char schema[] =
	"CREATE TABLE IF NOT EXISTS signature(pair_id INTEGER PRIMARY KEY, phash INTEGER,"
	" text_hash BLOB, pixel_hash BLOB, minhash BLOB);"
	"CREATE TABLE IF NOT EXISTS look(pair_id INTEGER PRIMARY KEY, aspect INTEGER,"
	" words INTEGER, grey BLOB, colour BLOB);"
	"CREATE TABLE IF NOT EXISTS bad(pair_id INTEGER PRIMARY KEY, why TEXT);"
	"CREATE TABLE IF NOT EXISTS cluster(pair_id INTEGER PRIMARY KEY, split_group INTEGER);";

/* What holds of a pair whatever else is in the corpus. */
static const char *const lasting[] = {"signature", "look", "bad", NULL};

static int open_db(struct wl_stage *s, int p, struct wl_db *db, struct wl_err *err)
{
	return wl_stage_db(s, p, schema, WL_SIGNATURE_KEY, db, err);
}

/* ---- signing ---- */

struct job {
	struct wl_corpus *corpus;
	const struct wl_text *tx;
	struct wl_pair pair; /* strings below are its own */
	char *source, *texts;
	struct wl_signature sig;
	bool bad; /* the picture; err says why */
	int ret;
	struct wl_err err;
};

static void sign(void *arg)
{
	struct job *j = arg;
	struct wl_buf b;
	char name[WL_PAIR_NAME];

	wl_pair_name(j->pair.partition, j->pair.id, name);
	wl_buf_init(&b, WL_IMAGE_MAX_BYTES);
	j->ret = wl_signature_text(&j->sig, j->tx, j->source, j->texts, name, &j->err);
	if (j->ret == 0)
		j->ret = wl_corpus_image(j->corpus, &j->pair, &b, &j->err);
	if (j->ret == 0 && wl_signature_image(&j->sig, b.data, b.len, &j->err) < 0) {
		j->bad = j->err.code == WL_EDATA;
		j->ret = j->bad ? 0 : -1;
	}
	wl_buf_release(&b);
}

struct signer {
	struct wl_db db;
	sqlite3_stmt *has, *sig, *look, *bad;
	struct job jobs[BATCH];
	size_t n;
};

static int store(struct signer *w, struct job *j, struct wl_err *err)
{
	const struct wl_signature *s = &j->sig;
	const struct wl_look *l = &s->look;

	if (j->ret < 0) {
		if (err)
			*err = j->err;
		return -1;
	}
	if (j->bad) {
		WL_TRY(wl_db_run(&w->db, w->bad, err, "is", j->pair.id, j->err.msg));
		WL_TRY(wl_db_run(&w->db, w->sig, err, "inbn", j->pair.id, s->text_hash,
			s->has_text ? sizeof(s->text_hash) : (size_t)0));
	} else {
		WL_TRY(wl_db_run(&w->db, w->sig, err, "iibb", j->pair.id, (int64_t)l->phash,
			s->text_hash, s->has_text ? sizeof(s->text_hash) : (size_t)0, s->pixel_hash,
			sizeof(s->pixel_hash)));
	}
	return wl_db_run(&w->db, w->look, err, "iiibb", j->pair.id, (int64_t)l->aspect_1024,
		(int64_t)s->words, l->grey, j->bad ? (size_t)0 : sizeof(l->grey), l->colour,
		j->bad ? (size_t)0 : sizeof(l->colour));
}

static void job_clear(struct job *j)
{
	free(j->source);
	free(j->texts);
	memset(j, 0, sizeof(*j));
}

static void sign_nth(void *ctx, size_t i)
{
	struct signer *w = ctx;

	sign(&w->jobs[i]);
}

static int store_nth(void *ctx, size_t i, struct wl_err *err)
{
	struct signer *w = ctx;

	return store(w, &w->jobs[i], err);
}

/* Computes the batch on all threads and commits it: the unit of progress. */
static int flush(
	struct signer *w, struct wl_pool *pool, struct wl_progress *progress, struct wl_err *err)
{
	int ret;

	if (!w->n)
		return 0;
	ret = wl_stage_batch(&w->db, pool, w->n, sign_nth, store_nth, w, err);
	if (ret == 0)
		wl_progress_add(progress, w->n);
	for (size_t i = 0; i < w->n; i++)
		job_clear(&w->jobs[i]);
	w->n = 0;
	return ret;
}

static int signer_open(struct signer *w, struct wl_stage *s, int p, struct wl_err *err)
{
	WL_TRY(open_db(s, p, &w->db, err));
	WL_TRY(wl_stage_take_over(s, p, &w->db, lasting, err));
	WL_TRY(wl_db_prepare(&w->db, &w->has, "SELECT 1 FROM look WHERE pair_id = ?", err));
	WL_TRY(wl_db_prepare(&w->db, &w->sig,
		"INSERT INTO signature(pair_id, phash, text_hash, pixel_hash) VALUES(?,?,?,?)",
		err));
	WL_TRY(wl_db_prepare(&w->db, &w->look, "INSERT INTO look VALUES(?,?,?,?,?)", err));
	return wl_db_prepare(&w->db, &w->bad, "INSERT INTO bad VALUES(?,?)", err);
}

static void signer_close(struct signer *w)
{
	for (size_t i = 0; i < w->n; i++)
		job_clear(&w->jobs[i]);
	sqlite3_finalize(w->has);
	sqlite3_finalize(w->sig);
	sqlite3_finalize(w->look);
	sqlite3_finalize(w->bad);
	wl_db_close(&w->db);
	free(w);
}

static int enqueue(struct signer *w, struct wl_stage *s, const struct wl_text *tx,
	const struct wl_pair *pair, struct wl_err *err)
{
	struct job *j = &w->jobs[w->n];

	j->corpus = s->corpus;
	j->tx = tx;
	j->pair = *pair;
	j->source = strdup(pair->source);
	j->texts = strdup(pair->texts);
	w->n++;
	return j->source && j->texts ? 0 : wl_err_nomem(err, "a pair", strlen(pair->texts));
}

int dedup_sign(struct wl_stage *s, const struct wl_text *tx, struct wl_pool *pool, int p,
	struct wl_progress *progress, struct wl_err *err)
{
	struct signer *w = calloc(1, sizeof(*w));
	struct wl_pair_cursor *cur = NULL;
	struct wl_pair pair;
	int row, known, ret = -1;

	if (!w)
		return wl_err_nomem(err, "a batch of pairs", sizeof(*w));
	WL_TRY_OUT(signer_open(w, s, p, err));
	cur = wl_pairs_open(s->corpus, p, err);
	if (!cur)
		goto out;
	while (!wl_stop_requested() && (row = wl_pairs_next(cur, &pair, err)) != 0) {
		WL_TRY_OUT(row);
		WL_TRY_OUT(wl_db_bind(&w->db, w->has, err, "i", pair.id));
		WL_TRY_OUT(known = wl_db_step(&w->db, w->has, err));
		sqlite3_reset(w->has);
		if (known) {
			wl_progress_add(progress, 1);
			continue;
		}
		WL_TRY_OUT(enqueue(w, s, tx, &pair, err));
		if (w->n == BATCH)
			WL_TRY_OUT(flush(w, pool, progress, err));
	}
	WL_TRY_OUT(flush(w, pool, progress, err));
	ret = 0;
out:
	wl_pairs_close(cur);
	signer_close(w);
	return ret;
}

/* ---- reading back ---- */

static uint64_t first64(const void *blob, int bytes)
{
	const uint8_t *b = blob;
	uint64_t v = 0;

	for (int i = 0; i < 8 && i < bytes; i++)
		v = v << 8 | b[i];
	return v;
}

static int add_member(
	struct members *m, const struct wl_pair *p, sqlite3_stmt *st, struct wl_err *err)
{
	struct member *x;

	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap + m->cap / 2 : 1024;
		struct member *v = realloc(m->v, cap * sizeof(*v));
		if (!v)
			return wl_err_nomem(err, "the pairs of a corpus", cap * sizeof(*v));
		m->v = v;
		m->cap = cap;
	}
	x = &m->v[m->n++];
	memset(x, 0, sizeof(*x));
	x->id = p->id;
	x->partition = p->partition;
	x->area = (int64_t)p->width * p->height;
	x->fetched_at = p->fetched_at;
	x->eval = strcmp(p->split_hint, "test") == 0  ? EVAL_TEST
		  : strcmp(p->split_hint, "val") == 0 ? EVAL_VAL
						      : EVAL_NONE;
	x->has_image = sqlite3_column_type(st, 1) != SQLITE_NULL;
	x->phash = (uint64_t)sqlite3_column_int64(st, 1);
	x->has_text = sqlite3_column_bytes(st, 2) > 0;
	x->text = first64(sqlite3_column_blob(st, 2), sqlite3_column_bytes(st, 2));
	x->pixels = first64(sqlite3_column_blob(st, 3), sqlite3_column_bytes(st, 3));
	x->words = sqlite3_column_int(st, 4);
	return 0;
}

int dedup_load(struct wl_stage *s, int p, struct members *m, struct wl_err *err)
{
	struct wl_db db = {0};
	struct wl_pair_cursor *cur = NULL;
	sqlite3_stmt *st = NULL;
	struct wl_pair pair;
	int row, have, ret = -1;

	WL_TRY_OUT(open_db(s, p, &db, err));
	WL_TRY_OUT(wl_db_prepare(&db, &st,
		"SELECT pair_id, phash, text_hash, pixel_hash, words"
		" FROM signature JOIN look USING(pair_id) ORDER BY pair_id",
		err));
	cur = wl_pairs_open(s->corpus, p, err);
	if (!cur)
		goto out;
	/* Both walk in order of id, and both hold the same pairs. */
	while ((row = wl_pairs_next(cur, &pair, err)) != 0) {
		WL_TRY_OUT(row);
		WL_TRY_OUT(have = wl_db_step(&db, st, err));
		if (!have || sqlite3_column_int64(st, 0) != pair.id) {
			wl_err_set(err, WL_EFAIL,
				"%s: pair %lld has no signature; was the corpus "
				"changed while dedup ran?  Run it again.",
				db.path, (long long)pair.id);
			goto out;
		}
		WL_TRY_OUT(add_member(m, &pair, st, err));
	}
	ret = 0;
out:
	sqlite3_finalize(st);
	wl_pairs_close(cur);
	wl_db_close(&db);
	return ret;
}

int dedup_looks(struct wl_stage *s, int p, const struct members *m, const uint32_t *slot,
	struct wl_look *looks, struct wl_err *err)
{
	struct wl_db db = {0};
	sqlite3_stmt *st = NULL;
	int row, ret = -1;

	WL_TRY_OUT(open_db(s, p, &db, err));
	WL_TRY_OUT(wl_db_prepare(
		&db, &st, "SELECT aspect, grey, colour FROM look WHERE pair_id = ?", err));
	for (size_t i = 0; i < m->n; i++) {
		struct wl_look *l;
		if (m->v[i].partition != p || slot[i] == UINT32_MAX)
			continue;
		l = &looks[slot[i]];
		WL_TRY_OUT(wl_db_bind(&db, st, err, "i", m->v[i].id));
		WL_TRY_OUT(row = wl_db_step(&db, st, err));
		if (!row || sqlite3_column_bytes(st, 1) != sizeof(l->grey) ||
			sqlite3_column_bytes(st, 2) != sizeof(l->colour)) {
			wl_err_set(err, WL_EDATA,
				"%s: the look of pair %lld is missing or of the "
				"wrong size; remove the file and run dedup again.",
				db.path, (long long)m->v[i].id);
			goto out;
		}
		l->phash = m->v[i].phash;
		l->aspect_1024 = (uint32_t)sqlite3_column_int64(st, 0);
		memcpy(l->grey, sqlite3_column_blob(st, 1), sizeof(l->grey));
		memcpy(l->colour, sqlite3_column_blob(st, 2), sizeof(l->colour));
		sqlite3_reset(st);
	}
	ret = 0;
out:
	sqlite3_finalize(st);
	wl_db_close(&db);
	return ret;
}

/* ---- for the filter ---- */

struct wl_known_looks {
	struct wl_db db;
	sqlite3_stmt *st;
};

struct wl_known_looks *wl_known_looks_open(struct wl_corpus *c, int p, struct wl_err *err)
{
	struct wl_known_looks *k = calloc(1, sizeof(*k));
	int generation = wl_corpus_generation(c, "dedup");
	char *path = generation ? wl_corpus_stage_path(c, "dedup", generation, p, err) : NULL;

	if (!k) {
		wl_err_nomem(err, "the looks of pictures", sizeof(*k));
		goto bad;
	}
	if (path && wl_exists(path)) {
		if (wl_db_open(&k->db, path, WL_DB_READ, err) < 0 ||
			wl_db_prepare(&k->db, &k->st,
				"SELECT aspect, grey, colour, phash, why FROM look"
				" JOIN signature USING(pair_id) LEFT JOIN bad USING(pair_id)"
				" WHERE pair_id = ? AND (SELECT value FROM meta WHERE key = 'key')"
				" = '" WL_SIGNATURE_KEY "'",
				err) < 0)
			goto bad;
	}
	free(path);
	return k;
bad:
	free(path);
	wl_known_looks_close(k);
	return NULL;
}

void wl_known_looks_close(struct wl_known_looks *k)
{
	if (!k)
		return;
	sqlite3_finalize(k->st);
	wl_db_close(&k->db);
	free(k);
}

int wl_known_look(struct wl_known_looks *k, int64_t id, struct wl_look *look, char **broken,
	struct wl_err *err)
{
	const char *why;
	int row, ret = -1;

	if (!k->st)
		return 0;
	WL_TRY(wl_db_bind(&k->db, k->st, err, "i", id));
	WL_TRY(row = wl_db_step(&k->db, k->st, err));
	why = row ? (const char *)sqlite3_column_text(k->st, 4) : NULL;
	if (why) {
		*broken = strdup(why);
		ret = *broken ? 1 : wl_err_nomem(err, "a message", strlen(why));
	} else if (row && sqlite3_column_bytes(k->st, 1) == sizeof(look->grey) &&
		   sqlite3_column_bytes(k->st, 2) == sizeof(look->colour)) {
		look->aspect_1024 = (uint32_t)sqlite3_column_int64(k->st, 0);
		look->phash = (uint64_t)sqlite3_column_int64(k->st, 3);
		memcpy(look->grey, sqlite3_column_blob(k->st, 1), sizeof(look->grey));
		memcpy(look->colour, sqlite3_column_blob(k->st, 2), sizeof(look->colour));
		ret = 1;
	} else {
		ret = 0;
	}
	sqlite3_reset(k->st);
	return ret;
}

/* ---- writing ---- */

struct writer {
	sqlite3_stmt *verdict, *cluster, *bad;
};

static int write_verdict(struct wl_db *db, struct writer *w, const struct members *m, size_t i,
	const char *duplicate_reason, struct wl_err *err)
{
	const struct member *x = &m->v[i], *kept = &m->v[x->kept];
	char name[WL_PAIR_NAME];
	const char *reason = x->reason == REASON_NEAR_TEST  ? "near-test"
			     : x->reason == REASON_NEAR_VAL ? "near-val"
							    : duplicate_reason;

	if (x->reason == REASON_NONE)
		return 0;
	if (x->reason == REASON_BAD_IMAGE)
		return wl_db_run(db, w->bad, err, "i", x->id);
	wl_pair_name(kept->partition, kept->id, name);
	return wl_db_run(db, w->verdict, err, "iss", x->id, reason, name);
}

int dedup_write(struct wl_stage *s, int p, const struct members *m, const uint32_t *group,
	const char *duplicate_reason, struct wl_err *err)
{
	struct writer w = {0};
	struct wl_db db = {0};
	int ret = -1;

	WL_TRY_OUT(open_db(s, p, &db, err));
	WL_TRY_OUT(wl_db_prepare(&db, &w.verdict, "INSERT INTO verdict VALUES(?,?,?)", err));
	WL_TRY_OUT(wl_db_prepare(&db, &w.cluster, "INSERT INTO cluster VALUES(?,?)", err));
	WL_TRY_OUT(wl_db_prepare(&db, &w.bad,
		"INSERT INTO verdict"
		" SELECT pair_id, 'bad-image', why FROM bad WHERE pair_id = ?",
		err));
	WL_TRY_OUT(wl_db_begin(&db, err));
	WL_TRY_OUT(wl_db_exec(&db,
		"DELETE FROM verdict; DELETE FROM cluster; DELETE FROM examined;"
		"INSERT INTO examined SELECT pair_id FROM signature",
		err));
	for (size_t i = 0; i < m->n; i++) {
		if (m->v[i].partition != p)
			continue;
		WL_TRY_OUT(wl_db_run(&db, w.cluster, err, "ii", m->v[i].id, m->v[group[i]].id));
		WL_TRY_OUT(write_verdict(&db, &w, m, i, duplicate_reason, err));
	}
	WL_TRY_OUT(wl_db_commit(&db, err));
	ret = 0;
out:
	if (ret < 0)
		wl_db_rollback(&db);
	sqlite3_finalize(w.verdict);
	sqlite3_finalize(w.cluster);
	sqlite3_finalize(w.bad);
	wl_db_close(&db);
	return ret;
}
