/* Index files for other people's readers: see index.h. */
#include "shards/index.h"

#include "ops/file.h"
#include "ops/json.h"
#include "shards/shard_db.h"
#include "shards/tar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The two files beside a tar: NAME.idx for DALI ("v1.2 SAMPLES", then a line a sample of "ext
 * offset size name" groups) and NAME.tar.idx for Energon and ourselves (index.h). */
struct pair_of_files {
	struct wl_outfile dali, offsets;
};

static void put_u64(FILE *fp, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		fputc((int)(v >> 8 * i & 255), fp);
}

static void put_row(struct pair_of_files *f, const struct wl_shard_row *r)
{
	for (int m = 0; m < WL_MEMBERS; m++)
		fprintf(f->dali.fp, "%s%s %lld %lld %s.%s", m ? " " : "", wl_member_ext[m],
			(long long)r->offset[m], (long long)r->length[m], r->key, wl_member_ext[m]);
	fputc('\n', f->dali.fp);
	put_u64(f->offsets.fp, (uint64_t)(r->offset[0] - WL_TAR_BLOCK));
}

static int write_rows(
	struct pair_of_files *f, const char *dir, const struct wl_shard_info *s, struct wl_err *err)
{
	struct wl_shard_rows rows;
	struct wl_shard_row r;
	int64_t end = 0;
	int rc;

	WL_TRY(wl_shard_rows_open(&rows, dir, s->name, err));
	fprintf(f->dali.fp, "v1.2 %lld\n", (long long)s->samples);
	while ((rc = wl_shard_rows_next(&rows, &r, err)) > 0) {
		put_row(f, &r);
		end = r.offset[WL_MEMBERS - 1] + wl_tar_padded(r.length[WL_MEMBERS - 1]);
	}
	put_u64(f->offsets.fp, (uint64_t)end);
	wl_shard_rows_close(&rows);
	return rc;
}

static int write_beside(const char *dir, const struct wl_shard_info *s, struct wl_err *err)
{
	char *dali = wl_strf(err, "%s/%s.idx", dir, s->name);
	char *offsets = wl_strf(err, "%s/%s.tar.idx", dir, s->name);
	struct pair_of_files f = {0};
	int ret = -1;

	if (!dali || !offsets)
		goto out;
	if (wl_exists(dali) && wl_exists(offsets)) {
		ret = 0;
		goto out;
	}
	WL_TRY_OUT(wl_outfile_open(&f.dali, dali, err));
	WL_TRY_OUT(wl_outfile_open(&f.offsets, offsets, err));
	WL_TRY_OUT(write_rows(&f, dir, s, err));
	WL_TRY_OUT(wl_outfile_commit(&f.dali, err));
	ret = wl_outfile_commit(&f.offsets, err);
out:
	wl_outfile_discard(&f.dali);
	wl_outfile_discard(&f.offsets);
	free(dali);
	free(offsets);
	return ret;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct wl_shard_info *const *)a)->name,
		(*(const struct wl_shard_info *const *)b)->name);
}

/* One list a split, shards in the order of their names; URLs are relative to the file. */
static int write_wids(const char *dir, const char *split, const struct wl_shard_info **v, size_t n,
	struct wl_err *err)
{
	json_t *list = json_array(), *root;
	char *path;
	int ret = -1;

	for (size_t i = 0; i < n; i++) {
		char url[WL_SHARD_NAME_MAX + 8];

		if (strcmp(v[i]->split, split))
			continue;
		snprintf(url, sizeof url, "%s.tar", v[i]->name);
		json_array_append_new(list,
			json_pack("{s:s, s:I, s:I}", "url", url, "nsamples",
				(json_int_t)v[i]->samples, "filesize", (json_int_t)v[i]->bytes));
	}
	root = json_pack("{s:s, s:i, s:s, s:o}", "__kind__", "wids-shard-index-v1", "wids_version",
		1, "name", split, "shardlist", list);
	path = wl_strf(err, "%s/wids-%s.json", dir, split);
	if (path && !root)
		wl_err_nomem(err, "a wids index", 0);
	else if (path)
		ret = wl_json_save(path, root, err);
	json_decref(root);
	free(path);
	return ret;
}

int wl_index_write(
	const char *dir, const struct wl_shard_info *shards, size_t n, struct wl_err *err)
{
	const struct wl_shard_info **v = malloc((n ? n : 1) * sizeof *v);
	int ret = -1;

	if (!v)
		return wl_err_nomem(err, "the shard index", n * sizeof *v);
	for (size_t i = 0; i < n; i++)
		v[i] = &shards[i];
	qsort(v, n, sizeof *v, by_name);
	for (size_t i = 0; i < n; i++) {
		WL_TRY_OUT(write_beside(dir, v[i], err));
		if (!i || strcmp(v[i]->split, v[i - 1]->split))
			WL_TRY_OUT(write_wids(dir, v[i]->split, v, n, err));
	}
	ret = 0;
out:
	free(v);
	return ret;
}
