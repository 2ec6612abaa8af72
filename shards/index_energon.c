/*
 * What Megatron-Energon asks for beside tars and their NAME.tar.idx (index.c): .nv-meta/ with
 * .info.json, split.yaml (take-downs are its excludes) and dataset.yaml.  Its optional
 * index.sqlite, a row a sample over all shards, is not written: it serves joins between data
 * sets, and is the wall that it hits itself.
 */
#include "shards/index.h"

#include "ops/file.h"
#include "ops/json.h"
#include "shards/shard_db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* "NAME.tar/KEY" of every sample that was taken down. */
static int add_excludes(json_t *list, const char *dir, const struct wl_manifest *m,
	const struct wl_shard_info *s, struct wl_err *err)
{
	struct wl_shard_rows rows = {0};
	struct wl_shard_row r;
	int rc;

	WL_TRY(wl_shard_rows_open(&rows, dir, s->name, err));
	while ((rc = wl_shard_rows_next(&rows, &r, err)) > 0) {
		char name[WL_SHARD_NAME_MAX + WL_KEY_MAX + 8];

		if (!bsearch(&r.pair_id, m->tombstones, m->n_tombstones, sizeof *m->tombstones,
			    wl_by_id))
			continue;
		snprintf(name, sizeof name, "%s.tar/%s", s->name, r.key);
		json_array_append_new(list, json_string(name));
	}
	wl_shard_rows_close(&rows);
	return rc;
}

/* JSON is YAML, so one writer serves all three files. */
static int save(const char *dir, const char *name, json_t *v, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/.nv-meta/%s", dir, name);
	int ret = path ? 0 : -1;

	if (path && !v)
		ret = wl_err_nomem(err, "an Energon index", 0);
	if (ret == 0)
		ret = wl_json_save(path, v, err);
	json_decref(v);
	free(path);
	return ret;
}

static int write_splits(const char *dir, const struct wl_manifest *m, struct wl_err *err)
{
	json_t *counts = json_object(), *parts = json_object(), *excludes = json_array();
	int ret = -1;

	for (size_t i = 0; i < m->n; i++) {
		const struct wl_shard_info *s = &m->shards[i];
		char tar[WL_SHARD_NAME_MAX + 8];

		/* Energon refuses a shard without samples. */
		if (!s->samples)
			continue;
		snprintf(tar, sizeof tar, "%s.tar", s->name);
		json_object_set_new(counts, tar, json_integer(s->samples));
		if (!json_object_get(parts, s->split))
			json_object_set_new(parts, s->split, json_array());
		json_array_append_new(json_object_get(parts, s->split), json_string(tar));
		if (m->n_tombstones)
			WL_TRY_OUT(add_excludes(excludes, dir, m, s, err));
	}
	WL_TRY_OUT(save(dir, ".info.json",
		json_pack("{s:s, s:O}", "energon_version", "7.4.1", "shard_counts", counts), err));
	ret = save(dir, "split.yaml",
		json_pack("{s:O, s:O}", "split_parts", parts, "exclude", excludes), err);
out:
	json_decref(counts);
	json_decref(parts);
	json_decref(excludes);
	return ret;
}

int wl_index_energon(const char *dir, struct wl_err *err)
{
	char *meta = wl_strf(err, "%s/.nv-meta", dir);
	struct wl_manifest m = {0};
	int ret = -1;

	if (!meta)
		return -1;
	if (mkdir(meta, 0777) < 0 && errno != EEXIST) {
		wl_err_errno(err, "%s cannot be created", meta);
		goto out;
	}
	WL_TRY_OUT(wl_manifest_read(&m, dir, err));
	WL_TRY_OUT(save(dir, "dataset.yaml",
		json_pack("{s:s, s:s, s:{s:s, s:s}}", "__module__", "megatron.energon", "__class__",
			"CaptioningWebdataset", "field_map", "image", "jpg", "caption", "txt"),
		err));
	ret = write_splits(dir, &m, err);
out:
	wl_manifest_release(&m);
	free(meta);
	return ret;
}
