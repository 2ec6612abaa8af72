/*
 * Dedup's databases: signatures in and out, verdicts and groups out.
 *
 * Beside the contract's tables (ingest/corpus.h) there are look (the second opinion's bytes),
 * near (window hashes, and the captions' key), bad (why a picture could not be decoded) and edge
 * (which pairs are alike, so that a later run need not compare old ones again).  The database of
 * --against has the same tables, and item (the names).
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

/* ---- reading back ---- */

static uint64_t first64(const void *blob, int bytes)
{
	const uint8_t *b = blob;
	uint64_t v = 0;

	for (int i = 0; i < 8 && i < bytes; i++)
		v = v << 8 | b[i];
	return v;
}

struct member *dedup_add_member(struct dedup *d, struct wl_err *err)
{
	if (d->n == d->cap) {
		size_t cap = d->cap ? d->cap + d->cap / 8 + 1024 : 1024;
		struct member *v = realloc(d->m, cap * sizeof(*v));
		if (!v) {
			wl_err_nomem(err, "the pairs of a corpus", cap * sizeof(*v));
			return NULL;
		}
		d->m = v;
		d->cap = cap;
	}
	memset(&d->m[d->n], 0, sizeof(*d->m));
	return &d->m[d->n++];
}

/* Columns: pair_id, phash, text_hash, pixel_hash, words, windows, minhash, text_key. */
static const char select_members[] =
	"SELECT pair_id, phash, text_hash, pixel_hash, words, windows, minhash, text_key"
	" FROM signature JOIN look USING(pair_id) JOIN near USING(pair_id) ORDER BY pair_id";

static int add_rows(struct dedup *d, sqlite3_stmt *st, bool has_text, struct wl_err *err)
{
	struct wl_windows w = {0};
	const void *mins = sqlite3_column_blob(st, 6);
	struct text_row *t;
	int ret;

	if (sqlite3_column_bytes(st, 5) == sizeof(w))
		memcpy(&w, sqlite3_column_blob(st, 5), sizeof(w));
	WL_TRY(wl_rows_add(&d->windows, &w, err));
	if (!dedup_text_near(d))
		return 0;
	t = calloc(1, d->texts.width);
	if (!t)
		return wl_err_nomem(err, "a row of keys", d->texts.width);
	if (sqlite3_column_bytes(st, 6) == WL_MINHASH * sizeof(uint32_t)) {
		t->n = (uint32_t)d->bands.bands;
		for (int k = 0; k < d->bands.bands; k++)
			t->key[k] = wl_band_key(mins, d->bands, k);
	} else if (has_text) {
		t->n = (uint32_t)wl_key_variants(sqlite3_column_blob(st, 7),
			(size_t)sqlite3_column_bytes(st, 7), t->key);
	}
	ret = wl_rows_add(&d->texts, t, err);
	free(t);
	return ret;
}

static uint8_t prefer_of(const struct dedup *d, const char *source)
{
	size_t i = 0;

	while (i < d->o->n_prefer && strcmp(d->o->prefer[i], source) != 0)
		i++;
	return (uint8_t)(i < UINT8_MAX ? i : UINT8_MAX);
}

static int add_member(struct dedup *d, int p, const struct wl_pair *pair, sqlite3_stmt *st,
	struct wl_err *err)
{
	struct member *x = dedup_add_member(d, err);

	if (!x)
		return -1;
	x->id = sqlite3_column_int64(st, 0);
	x->partition = p;
	x->eval = EVAL_AGAINST;
	if (pair) {
		x->area = (int64_t)pair->width * pair->height;
		x->fetched_at = pair->fetched_at;
		x->prefer = prefer_of(d, pair->source);
		x->eval = strcmp(pair->split_hint, "test") == 0	 ? EVAL_TEST
			  : strcmp(pair->split_hint, "val") == 0 ? EVAL_VAL
								 : EVAL_NONE;
	}
	x->has_image = sqlite3_column_type(st, 1) != SQLITE_NULL;
	x->phash = (uint64_t)sqlite3_column_int64(st, 1);
	x->has_text = sqlite3_column_bytes(st, 2) > 0;
	x->text = first64(sqlite3_column_blob(st, 2), sqlite3_column_bytes(st, 2));
	x->pixels = first64(sqlite3_column_blob(st, 3), sqlite3_column_bytes(st, 3));
	x->words = sqlite3_column_int(st, 4);
	return add_rows(d, st, x->has_text, err);
}

/* Both walk in order of id, and both hold the same pairs. */
static int load_pairs(
	struct dedup *d, int p, struct wl_db *db, sqlite3_stmt *st, struct wl_err *err)
{
	struct wl_pair_cursor *cur = wl_pairs_open(d->stage.corpus, p, err);
	struct wl_pair pair;
	int row, have, ret = -1;

	if (!cur)
		return -1;
	while ((row = wl_pairs_next(cur, &pair, err)) != 0) {
		WL_TRY_OUT(row);
		WL_TRY_OUT(have = wl_db_step(db, st, err));
		if (!have || sqlite3_column_int64(st, 0) != pair.id) {
			wl_err_set(err, WL_EFAIL,
				"%s: pair %lld has no signature; was the corpus "
				"changed while dedup ran?  Run it again.",
				db->path, (long long)pair.id);
			goto out;
		}
		WL_TRY_OUT(add_member(d, p, &pair, st, err));
	}
	ret = 0;
out:
	wl_pairs_close(cur);
	return ret;
}

int dedup_load(struct dedup *d, int p, struct wl_err *err)
{
	struct wl_db db = {0};
	sqlite3_stmt *st = NULL;
	int row, ret = -1;

	WL_TRY_OUT(dedup_db(d, p, &db, err));
	WL_TRY_OUT(wl_db_prepare(&db, &st, select_members, err));
	if (p < d->partitions) {
		ret = load_pairs(d, p, &db, st, err);
		goto out;
	}
	while ((row = wl_db_step(&db, st, err)) != 0) {
		WL_TRY_OUT(row);
		WL_TRY_OUT(add_member(d, p, NULL, st, err));
	}
	ret = 0;
out:
	sqlite3_finalize(st);
	wl_db_close(&db);
	return ret;
}

/* ---- what the last run knew ---- */

/* Index of a pair by name; NOBODY: it is not there any more. */
static uint32_t index_of(const struct dedup *d, int64_t partition, int64_t id)
{
	size_t from, to;

	if (partition < 0 || partition >= d->partitions)
		return NOBODY;
	from = d->base[partition];
	to = d->base[partition + 1];
	while (from < to) {
		size_t mid = from + (to - from) / 2;
		if (d->m[mid].id < id)
			from = mid + 1;
		else
			to = mid;
	}
	return from < d->base[partition + 1] && d->m[from].id == id ? (uint32_t)from : NOBODY;
}

static int read_old(struct dedup *d, int p, struct wl_db *db, struct wl_err *err)
{
	sqlite3_stmt *st = NULL;
	int row, ret = -1;

	WL_TRY_OUT(wl_db_prepare(db, &st, "SELECT pair_id FROM examined", err));
	while ((row = wl_db_step(db, st, err)) != 0) {
		uint32_t i;
		WL_TRY_OUT(row);
		i = index_of(d, p, sqlite3_column_int64(st, 0));
		if (i != NOBODY)
			d->m[i].old = true;
	}
	sqlite3_finalize(st);
	WL_TRY_OUT(wl_db_prepare(db, &st, "SELECT kind, a, b_partition, b FROM edge", err));
	while ((row = wl_db_step(db, st, err)) != 0) {
		uint32_t a, b;
		WL_TRY_OUT(row);
		a = index_of(d, p, sqlite3_column_int64(st, 1));
		b = index_of(d, sqlite3_column_int64(st, 2), sqlite3_column_int64(st, 3));
		if (a == NOBODY || b == NOBODY)
			continue;
		wl_values_add(sqlite3_column_int(st, 0) == KIND_TEXT ? &d->text_edges
								      : &d->image_edges,
			(uint64_t)a << 32 | b);
	}
	ret = 0;
out:
	sqlite3_finalize(st);
	return ret;
}

int dedup_load_old(struct dedup *d, int p, struct wl_err *err)
{
	char *path = wl_corpus_stage_path(
		d->stage.corpus, "dedup", d->stage.generation - 1, p, err);
	char *key = dedup_edges_key(d, err), *sql = NULL;
	struct wl_db db = {0};
	int64_t same = 0;
	int ret = -1;

	if (!path || !key)
		goto out;
	if (d->stage.generation < 2 || !wl_exists(path)) {
		ret = 0;
		goto out;
	}
	sql = wl_strf(err, "SELECT count(*) FROM meta WHERE key = 'edges' AND value = '%s'", key);
	if (!sql)
		goto out;
	WL_TRY_OUT(wl_db_open(&db, path, WL_DB_READ, err));
	WL_TRY_OUT(wl_db_int(&db, 0, &same, err, sql));
	ret = same ? read_old(d, p, &db, err) : 0;
out:
	wl_db_close(&db);
	free(path);
	free(key);
	free(sql);
	return ret;
}

/* ---- one pair's picture or key ---- */

static int prepare_get(struct dedup *d, int p, enum dedup_kind kind, struct wl_err *err)
{
	static const char *const sql[] = {
		[KIND_PICTURE] = "SELECT phash, aspect, grey, colour, windows FROM look"
				 " JOIN signature USING(pair_id) JOIN near USING(pair_id)"
				 " WHERE pair_id = ?",
		[KIND_TEXT] = "SELECT text_key FROM near WHERE pair_id = ?"};

	if (!d->db[p].h)
		WL_TRY(dedup_db(d, p, &d->db[p], err));
	return wl_db_prepare(&d->db[p], &d->get[2 * p + (int)kind], sql[kind], err);
}

static int put_picture(sqlite3_stmt *st, struct wl_buf *out, bool *fits, struct wl_err *err)
{
	struct wl_view x;

	memset(&x, 0, sizeof(x));
	*fits = sqlite3_column_bytes(st, 2) == sizeof(x.look.grey) &&
		sqlite3_column_bytes(st, 3) == sizeof(x.look.colour) &&
		sqlite3_column_bytes(st, 4) == sizeof(x.windows);
	if (!*fits)
		return 0;
	x.look.phash = (uint64_t)sqlite3_column_int64(st, 0);
	x.look.aspect_1024 = (uint32_t)sqlite3_column_int64(st, 1);
	memcpy(x.look.grey, sqlite3_column_blob(st, 2), sizeof(x.look.grey));
	memcpy(x.look.colour, sqlite3_column_blob(st, 3), sizeof(x.look.colour));
	memcpy(&x.windows, sqlite3_column_blob(st, 4), sizeof(x.windows));
	return wl_buf_add(out, &x, sizeof(x), err);
}

int dedup_read(struct dedup *d, uint32_t i, enum dedup_kind kind, struct wl_buf *out,
	struct wl_err *err)
{
	const struct member *x = &d->m[i];
	int p = x->partition, row, ret = 0;
	sqlite3_stmt **st = &d->get[2 * p + (int)kind];
	bool fits = true;

	if (!*st)
		WL_TRY(prepare_get(d, p, kind, err));
	WL_TRY(wl_db_bind(&d->db[p], *st, err, "i", x->id));
	WL_TRY(row = wl_db_step(&d->db[p], *st, err));
	if (row && kind == KIND_PICTURE)
		ret = put_picture(*st, out, &fits, err);
	else if (row && sqlite3_column_bytes(*st, 0))
		ret = wl_buf_add(out, sqlite3_column_blob(*st, 0),
			(size_t)sqlite3_column_bytes(*st, 0), err);
	sqlite3_reset(*st);
	if (!row || !fits)
		return wl_err_set(err, WL_EDATA,
			"%s: the look of pair %lld is missing or of the "
			"wrong size; remove the file and run dedup again.",
			d->db[p].path, (long long)x->id);
	return ret;
}

void dedup_close_dbs(struct dedup *d)
{
	for (int p = 0; d->get && p < 2 * (d->partitions + 1); p++) {
		sqlite3_finalize(d->get[p]);
		d->get[p] = NULL;
	}
	for (int p = 0; d->db && p <= d->partitions; p++)
		wl_db_close(&d->db[p]);
}

/* ---- writing ---- */

struct writer {
	sqlite3_stmt *verdict, *cluster, *bad, *edge, *meta;
};

static int write_verdict(
	struct dedup *d, struct wl_db *db, struct writer *w, size_t i, struct wl_err *err)
{
	const struct member *x = &d->m[i], *kept = &d->m[x->kept];
	char detail[WL_PAIR_NAME + 64];

	switch (x->reason) {
	case REASON_NONE:
		return 0;
	case REASON_BAD_IMAGE:
		return wl_db_run(db, w->bad, err, "i", x->id);
	case REASON_NEAR_AGAINST:
		return wl_db_run(db, w->verdict, err, "iss", x->id, dedup_reason(d, x),
			d->names[kept->id - 1]);
	case REASON_BANNER:
		snprintf(detail, sizeof(detail), "%u texts", x->kept);
		break;
	case REASON_TEMPLATE:
		snprintf(detail, sizeof(detail), "%u images", x->kept);
		break;
	default:
		wl_pair_name(kept->partition, kept->id, detail);
	}
	return wl_db_run(db, w->verdict, err, "iss", x->id, dedup_reason(d, x), detail);
}

/* The edges whose smaller end is in p; what is of --against is not kept. */
static int write_edges(struct dedup *d, int p, struct wl_db *db, struct writer *w,
	const struct wl_values *edges, enum dedup_kind kind, struct wl_err *err)
{
	size_t low = 0, high = edges->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (edges->v[mid] >> 32 < d->base[p])
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < edges->n && edges->v[low] >> 32 < d->base[p + 1]; low++) {
		const struct member *a = &d->m[edges->v[low] >> 32];
		const struct member *b = &d->m[(uint32_t)edges->v[low]];
		if (b->partition == d->partitions)
			continue;
		WL_TRY(wl_db_run(db, w->edge, err, "iiii", (int64_t)kind, a->id,
			(int64_t)b->partition, b->id));
	}
	return 0;
}

static int writer_open(struct writer *w, struct wl_db *db, struct wl_err *err)
{
	WL_TRY(wl_db_prepare(db, &w->verdict, "INSERT INTO verdict VALUES(?,?,?)", err));
	WL_TRY(wl_db_prepare(db, &w->cluster, "INSERT INTO cluster VALUES(?,?)", err));
	WL_TRY(wl_db_prepare(db, &w->edge, "INSERT INTO edge VALUES(?,?,?,?)", err));
	WL_TRY(wl_db_prepare(
		db, &w->meta, "INSERT OR REPLACE INTO meta(key, value) VALUES('edges', ?)", err));
	return wl_db_prepare(db, &w->bad,
		"INSERT INTO verdict"
		" SELECT pair_id, 'bad-image', why FROM bad WHERE pair_id = ?",
		err);
}

static int write_all(
	struct dedup *d, int p, struct wl_db *db, struct writer *w, struct wl_err *err)
{
	char *key = d->counts->cut ? wl_strf(err, "cut") : dedup_edges_key(d, err);
	int ret = key ? wl_db_run(db, w->meta, err, "s", key) : -1;

	free(key);
	WL_TRY(ret);
	for (size_t i = d->base[p]; i < d->base[p + 1]; i++) {
		WL_TRY(wl_db_run(
			db, w->cluster, err, "ii", d->m[i].id, d->m[d->group[i]].id));
		WL_TRY(write_verdict(d, db, w, i, err));
	}
	WL_TRY(write_edges(d, p, db, w, &d->image_edges, KIND_PICTURE, err));
	return write_edges(d, p, db, w, &d->text_edges, KIND_TEXT, err);
}

int dedup_write(struct dedup *d, int p, struct wl_err *err)
{
	struct writer w = {0};
	struct wl_db db = {0};
	int ret = -1;

	WL_TRY_OUT(dedup_db(d, p, &db, err));
	WL_TRY_OUT(writer_open(&w, &db, err));
	WL_TRY_OUT(wl_db_begin(&db, err));
	WL_TRY_OUT(wl_db_exec(&db,
		"DELETE FROM verdict; DELETE FROM cluster; DELETE FROM examined; DELETE FROM edge;"
		"INSERT INTO examined SELECT pair_id FROM signature",
		err));
	WL_TRY_OUT(write_all(d, p, &db, &w, err));
	WL_TRY_OUT(wl_db_commit(&db, err));
	ret = 0;
out:
	if (ret < 0)
		wl_db_rollback(&db);
	sqlite3_finalize(w.verdict);
	sqlite3_finalize(w.cluster);
	sqlite3_finalize(w.bad);
	sqlite3_finalize(w.edge);
	sqlite3_finalize(w.meta);
	wl_db_close(&db);
	return ret;
}
