/* Index files for other people's readers: see index.h. */
#include "shards/index.h"

#include "ops/file.h"
#include "ops/json.h"
#include "shards/shard_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "v1.2 SAMPLES", then a line a sample of "ext offset size name" groups. */
static int write_dali(const char *dir, const struct wl_shard_info *s, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/%s.idx", dir, s->name);
	struct wl_shard_rows rows = {0};
	struct wl_outfile out = {0};
	struct wl_shard_row r;
	int rc, ret = -1;

	if (!path || wl_exists(path)) {
		ret = path ? 0 : -1;
		goto out;
	}
	WL_TRY_OUT(wl_shard_rows_open(&rows, dir, s->name, err));
	WL_TRY_OUT(wl_outfile_open(&out, path, err));
	fprintf(out.fp, "v1.2 %lld\n", (long long)s->samples);
	while ((rc = wl_shard_rows_next(&rows, &r, err)) > 0) {
		for (int m = 0; m < WL_MEMBERS; m++)
			fprintf(out.fp, "%s%s %lld %lld %s.%s", m ? " " : "", wl_member_ext[m],
				(long long)r.offset[m], (long long)r.length[m], r.key,
				wl_member_ext[m]);
		fputc('\n', out.fp);
	}
	WL_TRY_OUT(rc);
	ret = wl_outfile_commit(&out, err);
out:
	wl_outfile_discard(&out);
	wl_shard_rows_close(&rows);
	free(path);
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
		WL_TRY_OUT(write_dali(dir, v[i], err));
		if (!i || strcmp(v[i]->split, v[i - 1]->split))
			WL_TRY_OUT(write_wids(dir, v[i]->split, v, n, err));
	}
	ret = 0;
out:
	free(v);
	return ret;
}
