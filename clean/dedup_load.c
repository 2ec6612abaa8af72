/* Dedup's databases: signatures, and what the last run knew, out of them. */
#include "clean/dedup_priv.h"

#include "ops/file.h"

#include <stdlib.h>
#include <string.h>

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

/* Where edges of this kind go. */
static struct wl_values *edges_of(struct dedup *d, int kind)
{
	switch (kind) {
	case KIND_PICTURE:
		return &d->image_edges;
	case KIND_TEXT:
		return &d->text_edges;
	default:
		return &d->vectors[(kind - EDGE_VECTORS) & 1].edges;
	}
}

static int read_old(struct dedup *d, int p, struct wl_db *db, struct wl_err *err)
{
	bool vectors = d->vectors[0].v || d->vectors[1].v;
	sqlite3_stmt *st = NULL;
	int row, ret = -1;

	WL_TRY_OUT(wl_db_prepare(db, &st,
		vectors ? "SELECT pair_id, image, text FROM examined "
			  "LEFT JOIN vector USING(pair_id)"
			: "SELECT pair_id FROM examined",
		err));
	while ((row = wl_db_step(db, st, err)) != 0) {
		uint32_t i;
		WL_TRY_OUT(row);
		i = index_of(d, p, sqlite3_column_int64(st, 0));
		if (i == NOBODY)
			continue;
		d->m[i].old = true;
		for (int side = 0; side < 2 && vectors; side++)
			if ((uint64_t)sqlite3_column_int64(st, 1 + side) !=
				dedup_vector_hash(d, (enum wl_vector_side)side, i))
				d->vectors_changed = true;
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
		wl_values_add(edges_of(d, sqlite3_column_int(st, 0)), (uint64_t)a << 32 | b);
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
