/*
 * Evaluation sets given by --against: a corpus, a directory with shards (any tars with pictures),
 * or a directory of pictures with texts beside them.  Their items are signed into a database of
 * their own, CORPUS/dedup-against.db, which is made anew when the sets change.
 */
#include "clean/dedup_priv.h"

#include "ingest/source.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/log.h"
#include "ops/signals.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 32 };

char *dedup_against_path(const struct dedup *d, struct wl_err *err)
{
	return wl_path_join(wl_corpus_dir(d->stage.corpus), "dedup-against.db", err);
}

/* ---- what a set is ---- */

static int hash_tree(struct wl_sha256 *h, const char *dir, int depth, struct wl_err *err)
{
	struct wl_names names = {0};
	int ret = -1;

	if (depth > DEPTH_MAX)
		return wl_err_set(err, WL_EDATA,
			"%s: --against goes %d directories deep, expected at most %d.", dir, depth,
			DEPTH_MAX);
	WL_TRY(wl_list_dir(dir, "*", &names, err));
	for (size_t i = 0; i < names.n; i++) {
		char *path = wl_path_join(dir, names.v[i], err), line[64];
		struct stat st;
		int failed;
		if (!path)
			goto out;
		failed = stat(path, &st) != 0
				 ? wl_err_errno(err, "%s: cannot be looked at for --against", path)
				 : 0;
		if (!failed && S_ISDIR(st.st_mode))
			failed = hash_tree(h, path, depth + 1, err);
		free(path);
		WL_TRY_OUT(failed);
		snprintf(line, sizeof(line), "/%lld/%lld", (long long)st.st_size,
			(long long)st.st_mtime);
		wl_sha256_add(h, names.v[i], strlen(names.v[i]) + 1);
		wl_sha256_add(h, line, strlen(line) + 1);
	}
	ret = 0;
out:
	wl_names_release(&names);
	return ret;
}

static bool has_file(const char *dir, const char *pattern)
{
	struct wl_names names = {0};
	bool has = wl_list_dir(dir, pattern, &names, NULL) == 0 && names.n > 0;

	wl_names_release(&names);
	return has;
}

/* A corpus by what is in it: its files change when it is only opened. */
static int hash_set(struct wl_sha256 *h, const char *dir, struct wl_err *err)
{
	struct wl_corpus *c;
	char hex[65] = "";
	int ret;

	wl_sha256_add(h, dir, strlen(dir) + 1);
	if (!has_file(dir, "corpus.json"))
		return hash_tree(h, dir, 0, err);
	c = wl_corpus_open(dir, false, 0, err);
	ret = c ? wl_corpus_fingerprint(c, hex, err) : -1;
	wl_corpus_close(c);
	wl_sha256_add(h, hex, sizeof(hex));
	return ret;
}

int dedup_against_hash(const struct wl_dedup_options *o, char hex[65], struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_sha256 h;
	int ret = 0;

	hex[0] = 0;
	if (!o->n_against)
		return 0;
	WL_TRY(wl_sha256_init(&h, err));
	for (size_t i = 0; i < o->n_against && ret == 0; i++) {
		struct stat st;
		if (stat(o->against[i], &st) != 0 || !S_ISDIR(st.st_mode))
			ret = wl_err_set(err, WL_EUSAGE,
				"--against %s: there is no such directory; give a corpus, a "
				"directory "
				"of shards, or one of pictures with .txt files beside them.",
				o->against[i]);
		else
			ret = hash_set(&h, o->against[i], err);
	}
	wl_sha256_add(&h, WL_SIGNATURE_KEY, strlen(WL_SIGNATURE_KEY));
	wl_sha256_add(&h, o->small_decode ? "small" : "whole", 5);
	wl_sha256_final(&h, digest);
	wl_sha256_release(&h);
	wl_hex(digest, sizeof(digest), hex);
	return ret;
}

/* ---- signing ---- */

struct against {
	struct wl_db db;
	struct signer *signer;
	sqlite3_stmt *item;
	struct wl_progress *progress;
	int64_t n;
};

static int add_item(struct against *a, const char *set, const char *name, struct wl_corpus *corpus,
	const struct wl_pair *pair, const struct wl_buf *image, struct wl_err *err)
{
	struct wl_pair p = *pair;
	char *full = wl_strf(err, "%s:%s", set, name);
	int ret;

	if (!full)
		return -1;
	ret = wl_db_run(&a->db, a->item, err, "is", ++a->n, full);
	free(full);
	WL_TRY(ret);
	/* The name above commits with what was there before; a kill leaves both half done, and
	 * the whole is made anew then. */
	if (!corpus) {
		p.id = a->n;
		p.partition = 0;
		return signer_add(a->signer, NULL, &p, image, a->progress, err);
	}
	/* The pair is read from its own corpus, but filed under the item's number. */
	struct wl_buf bytes;
	wl_buf_init(&bytes, WL_IMAGE_MAX_BYTES);
	ret = wl_corpus_image(corpus, pair, &bytes, err);
	p.id = a->n;
	if (ret == 0)
		ret = signer_add(a->signer, NULL, &p, &bytes, a->progress, err);
	wl_buf_release(&bytes);
	return ret;
}

static int add_corpus(struct against *a, const char *dir, struct wl_err *err)
{
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, err);
	struct wl_pair_cursor *cur = NULL;
	struct wl_pair pair;
	int row, ret = -1;

	if (!c)
		return -1;
	for (int p = 0; p < wl_corpus_partitions(c); p++) {
		cur = wl_pairs_open(c, p, err);
		if (!cur)
			goto out;
		while (!wl_stop_requested() && (row = wl_pairs_next(cur, &pair, err)) != 0) {
			char name[WL_PAIR_NAME];
			WL_TRY_OUT(row);
			wl_pair_name(p, pair.id, name);
			WL_TRY_OUT(add_item(a, dir, name, c, &pair, NULL, err));
		}
		wl_pairs_close(cur);
		cur = NULL;
	}
	ret = 0;
out:
	wl_pairs_close(cur);
	wl_corpus_close(c);
	return ret;
}

/* A tar or a directory, as ingest reads it. */
static int add_source(struct against *a, const char *set, const char *spec, struct wl_err *err)
{
	struct wl_origins origins = {0};
	struct wl_source *s = NULL;
	struct wl_record r;
	int row, ret = -1;

	wl_record_init(&r);
	WL_TRY_OUT(wl_origins_parse(&origins, &spec, 1, NULL, err));
	for (size_t i = 0; i < origins.n; i++) {
		const struct wl_origin *o = &origins.v[i];
		s = o->ops->open(o, "", err);
		if (!s)
			goto out;
		while (!wl_stop_requested() && (row = o->ops->next(s, &r, err)) != 0) {
			WL_TRY_OUT(row);
			WL_TRY_OUT(o->ops->prepare(s, &r, err));
			if (r.reason)
				wl_warn("--against %s: %s: %s; it is left out", set, r.place,
					r.reason);
			else if (r.has_image && r.pair.texts)
				WL_TRY_OUT(add_item(a, set, r.place, NULL, &r.pair, &r.image, err));
			wl_record_clear(&r);
		}
		o->ops->close(s);
		s = NULL;
	}
	ret = 0;
out:
	if (s)
		s->ops->close(s);
	wl_record_release(&r);
	wl_origins_release(&origins);
	return ret;
}

static int add_set(struct against *a, const char *dir, struct wl_err *err)
{
	const char *kind = has_file(dir, "*.tar") ? "tar:%s/*.tar" : "dir:%s";
	int64_t before = a->n;
	char *spec;
	int ret;

	if (has_file(dir, "corpus.json"))
		return add_corpus(a, dir, err);
	spec = kind[0] == 't' ? wl_strf(err, "tar:%s/*.tar", dir) : wl_strf(err, "dir:%s", dir);
	ret = spec ? add_source(a, dir, spec, err) : -1;
	free(spec);
	if (ret == 0 && a->n == before && !wl_stop_requested())
		return wl_err_set(err, WL_EDATA,
			"--against %s: it has no corpus.json, no .tar and no pictures with .txt "
			"files "
			"beside them; give the directory that has.",
			dir);
	return ret;
}

static int begin(struct dedup *d, struct against *a, const struct wl_text *tx, bool *same,
	struct wl_err *err)
{
	char *path = dedup_against_path(d, err), *sql = NULL;
	int64_t known = 0;
	int ret = -1;

	if (!path)
		return -1;
	sql = wl_strf(err, "SELECT count(*) FROM meta WHERE key = 'sets' AND value = '%s'",
		d->against_hash);
	if (!sql)
		goto out;
	WL_TRY_OUT(wl_db_open(&a->db, path, WL_DB_WRITE, err));
	WL_TRY_OUT(wl_db_exec(
		&a->db, "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT);", err));
	WL_TRY_OUT(wl_db_exec(&a->db, dedup_schema, err));
	WL_TRY_OUT(wl_db_int(&a->db, 0, &known, err, sql));
	*same = known != 0;
	ret = 0;
	if (*same)
		goto out;
	WL_TRY_OUT(ret = wl_db_exec(&a->db,
			   "DELETE FROM meta; DELETE FROM signature; DELETE FROM look; DELETE FROM "
			   "near;"
			   "DELETE FROM bad; DELETE FROM item;",
			   err));
	ret = wl_db_prepare(&a->db, &a->item, "INSERT INTO item VALUES(?,?)", err);
	if (ret == 0) {
		a->signer = signer_open(&a->db, tx, d, err);
		ret = a->signer ? 0 : -1;
	}
out:
	free(sql);
	free(path);
	return ret;
}

static int sign_sets(struct dedup *d, const struct wl_text *tx, struct wl_err *err)
{
	struct against a = {0};
	sqlite3_stmt *done = NULL;
	bool same = false;
	int ret = -1;

	WL_TRY_OUT(begin(d, &a, tx, &same, err));
	ret = 0;
	if (same)
		goto out;
	ret = -1;
	a.progress = wl_progress_new("against", "items", 0);
	for (size_t i = 0; i < d->o->n_against; i++)
		WL_TRY_OUT(add_set(&a, d->o->against[i], err));
	WL_TRY_OUT(signer_flush(a.signer, a.progress, err));
	WL_TRY_OUT(wl_db_prepare(&a.db, &done, "INSERT INTO meta VALUES('sets', ?)", err));
	ret = wl_stop_requested() ? 0 : wl_db_run(&a.db, done, err, "s", d->against_hash);
out:
	sqlite3_finalize(done);
	sqlite3_finalize(a.item);
	signer_close(a.signer);
	wl_progress_free(a.progress);
	wl_db_close(&a.db);
	return ret;
}

/* ---- names ---- */

static int read_names(struct dedup *d, struct wl_buf *b, struct wl_err *err)
{
	struct wl_db db = {0};
	sqlite3_stmt *st = NULL;
	int row, ret = -1;

	WL_TRY_OUT(dedup_db(d, d->partitions, &db, err));
	WL_TRY_OUT(wl_db_prepare(&db, &st, "SELECT name FROM item ORDER BY pair_id", err));
	while ((row = wl_db_step(&db, st, err)) != 0) {
		const char *s;
		WL_TRY_OUT(row);
		s = (const char *)sqlite3_column_text(st, 0);
		WL_TRY_OUT(wl_buf_add(b, s ? s : "", (s ? strlen(s) : 0) + 1, err));
	}
	ret = 0;
out:
	sqlite3_finalize(st);
	wl_db_close(&db);
	return ret;
}

static int share_names(struct dedup *d, struct wl_err *err)
{
	struct wl_buf b;
	uint64_t bytes = 0;
	int ret = -1;

	wl_buf_init(&b, SIZE_MAX / 2);
	if (wl_comm_rank(d->comm) == 0)
		WL_TRY_OUT(read_names(d, &b, err));
	bytes = b.len;
	WL_TRY_OUT(wl_comm_broadcast(d->comm, &bytes, sizeof(bytes), 0, err));
	d->names_block = malloc(bytes + 1);
	if (!d->names_block) {
		wl_err_nomem(err, "names of evaluation items", bytes);
		goto out;
	}
	if (b.len)
		memcpy(d->names_block, b.data, b.len);
	WL_TRY_OUT(wl_comm_broadcast(d->comm, d->names_block, bytes, 0, err));
	for (size_t i = 0; i < bytes; i++)
		d->n_names += d->names_block[i] == 0;
	d->names = malloc((d->n_names + 1) * sizeof(*d->names));
	if (!d->names) {
		wl_err_nomem(err, "names of evaluation items", d->n_names * sizeof(*d->names));
		goto out;
	}
	for (size_t i = 0, at = 0; i < d->n_names; i++) {
		d->names[i] = d->names_block + at;
		at += strlen(d->names[i]) + 1;
	}
	ret = 0;
out:
	wl_buf_release(&b);
	return ret;
}

int dedup_against_sign(struct dedup *d, const struct wl_text *tx, struct wl_err *err)
{
	if (!d->o->n_against)
		return 0;
	if (wl_comm_rank(d->comm) == 0)
		WL_TRY(sign_sets(d, tx, err));
	return share_names(d, err);
}
