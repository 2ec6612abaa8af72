/* Every byte of a shard set against what was written down about it: see check.h. */
#include "shards/check.h"

#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/pool.h"
#include "ops/progress.h"
#include "ops/signals.h"
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
	if (memcmp(tar->sha256, db->sha256, sizeof tar->sha256))
		return differs(path, tar->key, "picture (SHA-256)", err);
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

static int walk_samples(const struct verify *v, const struct wl_shard_info *s, struct wl_err *err)
{
	struct wl_shard_row tar, db;
	struct wl_shard_rows rows = {0};
	struct wl_sample_walk w;
	int rc, more, ret = -1;

	WL_TRY(wl_sample_walk_open(&w, v->dir, s->name, err));
	WL_TRY_OUT(wl_shard_rows_open(&rows, v->dir, s->name, err));
	while ((rc = wl_sample_walk_next(&w, &tar, err)) > 0) {
		WL_TRY_OUT(more = wl_shard_rows_next(&rows, &db, err));
		if (!more) {
			wl_err_set(err, WL_EDATA,
				"%s, sample %s: the shard's database has no row for it; run "
				"wenlan-shard repair",
				w.path, tar.key);
			goto out;
		}
		WL_TRY_OUT(compare_rows(w.path, &tar, &db, err));
		if (v->deep)
			WL_TRY_OUT(decode(&w, &tar, err));
		wl_progress_add(v->progress, 1);
	}
	WL_TRY_OUT(rc);
	WL_TRY_OUT(more = wl_shard_rows_next(&rows, &db, err));
	if (more || w.index != s->samples)
		wl_err_set(err, WL_EDATA, "%s holds %lld samples, the manifest says %lld%s", w.path,
			(long long)w.index, (long long)s->samples,
			more ? ", and its database has rows for more" : "");
	else
		ret = 0;
out:
	wl_shard_rows_close(&rows);
	wl_sample_walk_close(&w);
	return ret;
}

/* The whole file's hash, for what lies between the members. */
static int check_hash(const struct verify *v, const struct wl_shard_info *s, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	char hex[WL_SHA256_HEX], plan[65];
	char *tar = wl_strf(err, "%s/%s.tar", v->dir, s->name);
	struct wl_shard_info own;
	int ret = -1;

	if (!tar || wl_sha256_file(tar, digest, err) < 0)
		goto out;
	wl_hex(digest, sizeof digest, hex);
	if (strcmp(hex, s->sha256))
		wl_err_set(err, WL_EDATA,
			"%s: its SHA-256 is %s, the manifest says %s; remove it and run "
			"wenlan-shard --corpus again, which packs only what is missing",
			tar, hex, s->sha256);
	else if (wl_shard_info_read(&own, plan, v->dir, s->name, err) == 0) {
		if (!strcmp(own.sha256, s->sha256) && own.samples == s->samples &&
			own.bytes == s->bytes && own.rejected == s->rejected)
			ret = 0;
		else
			wl_err_set(err, WL_EDATA,
				"%s/%s.db says other things of its tar than the manifest: run "
				"wenlan-shard repair",
				v->dir, s->name);
	}
out:
	free(tar);
	return ret;
}

static void verify_shard(void *ctx, size_t i)
{
	struct verify *v = ctx;
	struct wl_err *err = &v->errs[i];

	if (wl_stop_requested())
		return;
	if (walk_samples(v, &v->m.shards[i], err) == 0 && check_hash(v, &v->m.shards[i], err) == 0)
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
		return wl_err_set(err, WL_EDATA, "%s (%lld of %lld shards are bad)", first->msg,
			(long long)out->bad_shards, (long long)out->shards);
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
