/*
 * Dedup's databases: what is in them, and signatures into them.
 *
 * Beside the contract's tables (ingest/corpus.h) there are look (the second opinion's bytes),
 * near (window hashes, and the captions' key), bad (why a picture could not be decoded) and edge
 * (which pairs are alike, so that a later run need not compare old ones again) and vector (hashes
 * of the embeddings that this was found by).  The database of --against has the same tables, and
 * item (the names).
 */
#include "clean/dedup_priv.h"

#include "ops/file.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 256 };

const char dedup_schema[] =
	"CREATE TABLE IF NOT EXISTS signature(pair_id INTEGER PRIMARY KEY, phash INTEGER,"
	" text_hash BLOB, pixel_hash BLOB, minhash BLOB);"
	"CREATE TABLE IF NOT EXISTS look(pair_id INTEGER PRIMARY KEY, aspect INTEGER,"
	" words INTEGER, grey BLOB, colour BLOB);"
	"CREATE TABLE IF NOT EXISTS near(pair_id INTEGER PRIMARY KEY, windows BLOB, text_key BLOB);"
	"CREATE TABLE IF NOT EXISTS bad(pair_id INTEGER PRIMARY KEY, why TEXT);"
	"CREATE TABLE IF NOT EXISTS cluster(pair_id INTEGER PRIMARY KEY, split_group INTEGER);"
	"CREATE TABLE IF NOT EXISTS edge(kind INTEGER, a INTEGER, b_partition INTEGER, b INTEGER);"
	"CREATE TABLE IF NOT EXISTS vector("
	"pair_id INTEGER PRIMARY KEY, image INTEGER, text INTEGER);"
	"CREATE TABLE IF NOT EXISTS item(pair_id INTEGER PRIMARY KEY, name TEXT);";

/* What holds of a pair whatever else is in the corpus. */
static const char *const lasting[] = {"signature", "look", "near", "bad", NULL};

int dedup_db(struct dedup *d, int p, struct wl_db *db, struct wl_err *err)
{
	char *path;
	int ret;

	if (p < d->partitions)
		return wl_stage_db(&d->stage, p, dedup_schema,
			d->o->small_decode ? WL_SIGNATURE_KEY_SMALL : WL_SIGNATURE_KEY, db, err);
	path = dedup_against_path(d, err);
	ret = path ? wl_db_open(db, path, WL_DB_WRITE, err) : -1;
	free(path);
	return ret;
}

/* ---- signing ---- */

struct job {
	struct wl_corpus *corpus; /* NULL: the picture is in image */
	const struct wl_text *tx;
	bool small;
	struct wl_pair pair; /* strings below are its own */
	char *source, *texts;
	struct wl_buf image;
	struct wl_signature sig;
	bool bad; /* the picture; err says why */
	int ret;
	struct wl_err err;
};

static void sign(struct job *j)
{
	char name[WL_PAIR_NAME];

	wl_pair_name(j->pair.partition, j->pair.id, name);
	j->ret = wl_signature_text(&j->sig, j->tx, j->source, j->texts, name, &j->err);
	if (j->ret == 0 && j->corpus)
		j->ret = wl_corpus_image(j->corpus, &j->pair, &j->image, &j->err);
	if (j->ret == 0 &&
		wl_signature_image(
			&j->sig, j->image.data, j->image.len, j->small, &j->err) < 0) {
		j->bad = j->err.code == WL_EDATA;
		j->ret = j->bad ? 0 : -1;
	}
	wl_buf_release(&j->image);
}

struct signer {
	struct wl_db *db;
	const struct wl_text *tx;
	struct wl_pool *pool;
	bool small;
	sqlite3_stmt *sig, *look, *near, *bad;
	struct job jobs[BATCH];
	size_t n;
};

static int store_picture(struct signer *w, struct job *j, struct wl_err *err)
{
	const struct wl_signature *s = &j->sig;
	const struct wl_look *l = &s->picture.look;
	size_t text = s->has_text ? sizeof(s->text_hash) : 0;
	size_t mins = s->has_minhash ? sizeof(s->minhash) : 0;

	WL_TRY(wl_db_run(w->db, w->look, err, "iiibb", j->pair.id, (int64_t)l->aspect_1024,
		(int64_t)s->words, l->grey, j->bad ? (size_t)0 : sizeof(l->grey), l->colour,
		j->bad ? (size_t)0 : sizeof(l->colour)));
	WL_TRY(wl_db_run(w->db, w->near, err, "ibb", j->pair.id, &s->picture.windows,
		j->bad ? (size_t)0 : sizeof(s->picture.windows), s->key, s->key_len));
	if (!j->bad)
		return wl_db_run(w->db, w->sig, err, "iibbb", j->pair.id, (int64_t)l->phash,
			s->text_hash, text, s->pixel_hash, sizeof(s->pixel_hash), s->minhash,
			mins);
	WL_TRY(wl_db_run(w->db, w->bad, err, "is", j->pair.id, j->err.msg));
	return wl_db_run(
		w->db, w->sig, err, "inbnb", j->pair.id, s->text_hash, text, s->minhash, mins);
}

static void job_clear(struct job *j)
{
	free(j->source);
	free(j->texts);
	wl_buf_release(&j->image);
	wl_signature_release(&j->sig);
	memset(j, 0, sizeof(*j));
}

static void sign_nth(void *ctx, size_t i)
{
	sign(&((struct signer *)ctx)->jobs[i]);
}

static int store_nth(void *ctx, size_t i, struct wl_err *err)
{
	struct signer *w = ctx;

	if (w->jobs[i].ret < 0) {
		if (err)
			*err = w->jobs[i].err;
		return -1;
	}
	return store_picture(w, &w->jobs[i], err);
}

/* Computes the batch on all threads and commits it: the unit of progress. */
int signer_flush(struct signer *w, struct wl_progress *progress, struct wl_err *err)
{
	int ret;

	if (!w->n)
		return 0;
	ret = wl_stage_batch(w->db, w->pool, w->n, sign_nth, store_nth, w, err);
	if (ret == 0)
		wl_progress_add(progress, w->n);
	for (size_t i = 0; i < w->n; i++)
		job_clear(&w->jobs[i]);
	w->n = 0;
	return ret;
}

struct signer *signer_open(
	struct wl_db *db, const struct wl_text *tx, const struct dedup *d, struct wl_err *err)
{
	struct signer *w = calloc(1, sizeof(*w));

	if (!w) {
		wl_err_nomem(err, "a batch of pairs", sizeof(*w));
		return NULL;
	}
	w->db = db;
	w->tx = tx;
	w->pool = d->pool;
	w->small = d->o->small_decode;
	if (wl_db_prepare(db, &w->sig,
		    "INSERT INTO signature(pair_id, phash, text_hash, pixel_hash, minhash)"
		    " VALUES(?,?,?,?,?)",
		    err) < 0 ||
		wl_db_prepare(db, &w->look, "INSERT INTO look VALUES(?,?,?,?,?)", err) < 0 ||
		wl_db_prepare(db, &w->near, "INSERT INTO near VALUES(?,?,?)", err) < 0 ||
		wl_db_prepare(db, &w->bad, "INSERT INTO bad VALUES(?,?)", err) < 0) {
		signer_close(w);
		return NULL;
	}
	return w;
}

void signer_close(struct signer *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->n; i++)
		job_clear(&w->jobs[i]);
	sqlite3_finalize(w->sig);
	sqlite3_finalize(w->look);
	sqlite3_finalize(w->near);
	sqlite3_finalize(w->bad);
	free(w);
}

int signer_add(struct signer *w, struct wl_corpus *corpus, const struct wl_pair *pair,
	const struct wl_buf *image, struct wl_progress *progress, struct wl_err *err)
{
	struct job *j = &w->jobs[w->n++];

	j->corpus = corpus;
	j->tx = w->tx;
	j->small = w->small;
	j->pair = *pair;
	wl_buf_init(&j->image, WL_IMAGE_MAX_BYTES);
	j->source = strdup(pair->source);
	j->texts = strdup(pair->texts);
	if (!j->source || !j->texts)
		return wl_err_nomem(err, "a pair", strlen(pair->texts));
	if (!corpus)
		WL_TRY(wl_buf_add(&j->image, image->data, image->len, err));
	return w->n == BATCH ? signer_flush(w, progress, err) : 0;
}

static int sign_pairs(struct dedup *d, struct signer *w, sqlite3_stmt *has, int p,
	struct wl_progress *progress, struct wl_err *err)
{
	struct wl_pair_cursor *cur = wl_pairs_open(d->stage.corpus, p, err);
	struct wl_pair pair;
	int row, known, ret = -1;

	if (!cur)
		return -1;
	while (!wl_stop_requested() && (row = wl_pairs_next(cur, &pair, err)) != 0) {
		WL_TRY_OUT(row);
		WL_TRY_OUT(wl_db_bind(w->db, has, err, "i", pair.id));
		WL_TRY_OUT(known = wl_db_step(w->db, has, err));
		sqlite3_reset(has);
		if (known)
			wl_progress_add(progress, 1);
		else
			WL_TRY_OUT(signer_add(w, d->stage.corpus, &pair, NULL, progress, err));
	}
	ret = signer_flush(w, progress, err);
out:
	wl_pairs_close(cur);
	return ret;
}

int dedup_sign(struct dedup *d, const struct wl_text *tx, int p, struct wl_progress *progress,
	struct wl_err *err)
{
	struct signer *w = NULL;
	sqlite3_stmt *has = NULL;
	struct wl_db db = {0};
	int ret = -1;

	WL_TRY_OUT(dedup_db(d, p, &db, err));
	WL_TRY_OUT(wl_stage_take_over(&d->stage, p, &db, lasting, err));
	WL_TRY_OUT(wl_db_prepare(&db, &has, "SELECT 1 FROM near WHERE pair_id = ?", err));
	w = signer_open(&db, tx, d, err);
	if (w)
		ret = sign_pairs(d, w, has, p, progress, err);
out:
	signer_close(w);
	sqlite3_finalize(has);
	wl_db_close(&db);
	return ret;
}
