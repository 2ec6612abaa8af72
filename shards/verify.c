/* Every byte of a shard set against what was written down about it: see check.h. */
#include "shards/check.h"

#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/pool.h"
#include "ops/progress.h"
#include "ops/signals.h"
#include "shards/count.h"
#include "shards/manifest.h"
#include "shards/sample_walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verify {
	const char *dir;
	bool deep;
	struct wl_manifest m;
	struct wl_err *errs; /* [m.n] code WL_OK: sound */
	struct wl_progress *progress;
};

static int differs(const char *path, const char *key, const char *what, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA,
		"%s, sample %s: its %s is not what the shard's database says; the tar or the "
		"database is damaged",
		path, key, what);
}

static int compare_rows(const char *path, const struct wl_shard_row *tar,
	const struct wl_shard_row *db, struct wl_err *err)
{
	if (strcmp(tar->key, db->key) || tar->index != db->index)
		return differs(path, tar->key, "key", err);
	for (int m = 0; m < WL_MEMBERS; m++)
		if (tar->offset[m] != db->offset[m] || tar->length[m] != db->length[m])
			return differs(path, tar->key, "place in the tar", err);
	if (tar->pair_id != db->pair_id || tar->width != db->width || tar->height != db->height ||
		tar->topic != db->topic || strcmp(tar->source, db->source ? db->source : "") ||
		strcmp(tar->url, db->url ? db->url : ""))
		return differs(path, tar->key, "description in KEY.json", err);
	return 0;
}

static int decode(
	const struct wl_sample_walk *w, const struct wl_shard_row *row, struct wl_err *err)
{
	const struct wl_buf *jpg = &w->bytes[WL_MEMBER_JPG];
	struct wl_image im = {0};
	int rc = wl_image_decode(jpg->data, jpg->len, &im, err);

	if (rc < 0)
		wl_err_prefix(err, "%s, sample %s", w->path, row->key);
	else if (im.width != row->width || im.height != row->height)
		rc = wl_err_set(err, WL_EDATA,
			"%s, sample %s: the picture has %d x %d pixels, KEY.json says %lld x %lld",
			w->path, row->key, im.width, im.height, (long long)row->width,
			(long long)row->height);
	wl_image_release(&im);
	return rc;
}

/* Pictures that wait for being hashed side by side (wl_sha256_many). */
enum { BATCH = 32, BATCH_BYTES = 16 << 20 };
struct pictures {
	struct wl_buf jpg[BATCH];
	uint8_t want[BATCH][WL_SHA256_BYTES];
	char key[BATCH][WL_KEY_MAX];
	size_t n, bytes;
};

static int check_pictures(struct pictures *b, const char *path, struct wl_err *err)
{
	uint8_t digest[BATCH][WL_SHA256_BYTES];
	const void *bytes[BATCH] = {NULL};
	size_t len[BATCH] = {0}, n = b->n;

	for (size_t i = 0; i < n; i++) {
		bytes[i] = b->jpg[i].data;
		len[i] = b->jpg[i].len;
	}
	wl_sha256_many(bytes, len, n, digest);
	b->n = b->bytes = 0;
	for (size_t i = 0; i < n; i++)
		if (memcmp(digest[i], b->want[i], sizeof digest[i]))
			return differs(path, b->key[i], "picture (SHA-256)", err);
	return 0;
}

/* Takes the walk's picture over, for the next batch. */
static int add_picture(struct pictures *b, struct wl_sample_walk *w, const struct wl_shard_row *db,
	struct wl_err *err)
{
	struct wl_buf was = b->jpg[b->n];

	b->jpg[b->n] = w->bytes[WL_MEMBER_JPG];
	w->bytes[WL_MEMBER_JPG] = was;
	memcpy(b->want[b->n], db->sha256, sizeof b->want[0]);
	memcpy(b->key[b->n], db->key, sizeof b->key[0]);
	b->bytes += b->jpg[b->n++].len;
	return b->n == BATCH || b->bytes >= BATCH_BYTES ? check_pictures(b, w->path, err) : 0;
}

static int walk_rows(const struct verify *v, const struct wl_shard_info *s,
	struct wl_sample_walk *w, struct wl_shard_rows *rows, struct pictures *b,
	struct wl_err *err)
{
	struct wl_shard_row tar, db;
	int rc, more;

	while ((rc = wl_sample_walk_next(w, &tar, err)) > 0) {
		WL_TRY(more = wl_shard_rows_next(rows, &db, err));
		if (!more)
			return wl_err_set(err, WL_EDATA,
				"%s, sample %s: the shard's database has no row for it; run "
				"wenlan-shard repair",
				w->path, tar.key);
		WL_TRY(compare_rows(w->path, &tar, &db, err));
		if (v->deep)
			WL_TRY(decode(w, &tar, err));
		WL_TRY(add_picture(b, w, &db, err));
		wl_progress_add(v->progress, 1);
	}
	WL_TRY(rc);
	WL_TRY(check_pictures(b, w->path, err));
	WL_TRY(more = wl_shard_rows_next(rows, &db, err));
	if (more || w->index != s->samples)
		return wl_err_set(err, WL_EDATA, "%s holds %s, the manifest says %lld%s",
			w->path, wl_count(w->index, "sample").s, (long long)s->samples,
			more ? ", and its database has rows for more" : "");
	return 0;
}

/* Every sample, and the whole file's hash, from one reading. */
static int walk_samples(const struct verify *v, const struct wl_shard_info *s,
	uint8_t digest[WL_SHA256_BYTES], struct wl_err *err)
{
	struct pictures *b = calloc(1, sizeof *b);
	struct wl_shard_rows rows = {0};
	struct wl_sha256 whole = {0};
	struct wl_sample_walk w;
	int ret = -1;

	if (!b)
		return wl_err_nomem(err, "verifying", sizeof *b);
	if (wl_sha256_init(&whole, err) < 0 || wl_sample_walk_open(&w, v->dir, s->name, err) < 0) {
		wl_sha256_release(&whole);
		free(b);
		return -1;
	}
	for (size_t i = 0; i < BATCH; i++)
		wl_buf_init(&b->jpg[i], w.bytes[WL_MEMBER_JPG].max);
	wl_sample_walk_hash(&w, &whole);
	w.no_picture_hash = true;
	WL_TRY_OUT(wl_shard_rows_open(&rows, v->dir, s->name, err));
	WL_TRY_OUT(walk_rows(v, s, &w, &rows, b, err));
	wl_sha256_final(&whole, digest);
	ret = 0;
out:
	for (size_t i = 0; i < BATCH; i++)
		wl_buf_release(&b->jpg[i]);
	wl_sha256_release(&whole);
	wl_shard_rows_close(&rows);
	wl_sample_walk_close(&w);
	free(b);
	return ret;
}

/* The whole file's hash, for what lies between the members, and what the database says of it. */
static int check_hash(const struct verify *v, const struct wl_shard_info *s,
	const uint8_t digest[WL_SHA256_BYTES], struct wl_err *err)
{
	char hex[WL_SHA256_HEX], plan[65];
	struct wl_shard_info own;

	wl_hex(digest, WL_SHA256_BYTES, hex);
	if (strcmp(hex, s->sha256))
		return wl_err_set(err, WL_EDATA,
			"%s/%s.tar: its SHA-256 is %s, the manifest says %s; run wenlan-shard "
			"repair --corpus, which packs it again",
			v->dir, s->name, hex, s->sha256);
	WL_TRY(wl_shard_info_read(&own, plan, v->dir, s->name, err));
	if (!strcmp(own.sha256, s->sha256) && own.samples == s->samples && own.bytes == s->bytes &&
		own.rejected == s->rejected)
		return 0;
	return wl_err_set(err, WL_EDATA,
		"%s/%s.db says other things of its tar than the manifest: run wenlan-shard repair",
		v->dir, s->name);
}

static void verify_shard(void *ctx, size_t i)
{
	struct verify *v = ctx;
	struct wl_err *err = &v->errs[i];
	uint8_t digest[WL_SHA256_BYTES];

	if (wl_stop_requested())
		return;
	if (walk_samples(v, &v->m.shards[i], digest, err) == 0 &&
		check_hash(v, &v->m.shards[i], digest, err) == 0)
		return;
	if (err->code != WL_EDATA) /* whatever failed, this input file is not usable */
		err->code = WL_EDATA;
}

/* A tar that no manifest row names would silently be left out of training. */
static int check_strays(const struct verify *v, struct wl_err *err)
{
	struct wl_names names = {0};
	int ret = 0;

	WL_TRY(wl_list_dir(v->dir, "*-[0-9][0-9][0-9][0-9][0-9][0-9].tar", &names, err));
	for (size_t i = 0; i < names.n && ret == 0; i++) {
		bool known = false;

		for (size_t k = 0; k < v->m.n; k++) {
			size_t n = strlen(v->m.shards[k].name);

			known |= !strncmp(names.v[i], v->m.shards[k].name, n) &&
				 !strcmp(names.v[i] + n, ".tar");
		}
		if (!known)
			ret = wl_err_set(err, WL_EDATA,
				"%s/%s is not in the manifest: remove it, or run wenlan-shard "
				"repair to take it in",
				v->dir, names.v[i]);
	}
	wl_names_release(&names);
	return ret;
}

static int report(const struct verify *v, struct wl_verify_result *out, struct wl_err *err)
{
	const struct wl_err *first = NULL;

	for (size_t i = 0; i < v->m.n; i++) {
		out->shards++;
		out->samples += v->m.shards[i].samples;
		out->bytes += v->m.shards[i].bytes;
		if (v->errs[i].code != WL_OK) {
			out->bad_shards++;
			if (!first)
				first = &v->errs[i];
		}
	}
	if (first)
		return wl_err_set(err, WL_EDATA,
			"%s (of %s %lld %s bad; wenlan-shard repair --shards %s --corpus DIR packs "
			"such shards again)",
			first->msg, wl_count(out->shards, "shard").s, (long long)out->bad_shards,
			out->bad_shards == 1 ? "is" : "are", v->dir);
	return check_strays(v, err);
}

int wl_shards_verify(const char *dir, bool deep, int64_t threads, struct wl_verify_result *out,
	struct wl_err *err)
{
	struct verify v = {.dir = dir, .deep = deep};
	struct wl_pool *pool = NULL;
	uint64_t samples = 0;
	int ret = -1;

	*out = (struct wl_verify_result){0};
	WL_TRY(wl_manifest_read(&v.m, dir, err));
	v.errs = calloc(v.m.n ? v.m.n : 1, sizeof *v.errs);
	if (!v.errs) {
		wl_err_nomem(err, "verifying", v.m.n * sizeof *v.errs);
		goto out;
	}
	pool = wl_pool_new((size_t)threads, 0, err);
	if (!pool)
		goto out;
	for (size_t i = 0; i < v.m.n; i++)
		samples += (uint64_t)v.m.shards[i].samples;
	v.progress = wl_progress_new("verifying", "samples", samples);
	wl_pool_for(pool, v.m.n, verify_shard, &v);
	wl_progress_free(v.progress);
	ret = wl_stop_requested() ? 0 : report(&v, out, err);
out:
	wl_pool_free(pool);
	free(v.errs);
	wl_manifest_release(&v.m);
	return ret;
}
