/* Walking a tar's samples: see sample_walk.h. */
#include "shards/sample_walk.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/path.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a member may hold: the picture's bound is ingest's, texts are far smaller. */
enum { JPG_MAX = 64 << 20, TEXT_MAX = 16 << 20 };

int wl_sample_walk_open_fd(
	struct wl_sample_walk *w, int fd, const char *path, const char *name, struct wl_err *err)
{
	*w = (struct wl_sample_walk){.fd = fd};
	for (int m = 0; m < WL_MEMBERS; m++)
		wl_buf_init(&w->bytes[m], m == WL_MEMBER_JPG ? JPG_MAX : TEXT_MAX);
	w->path = wl_strf(err, "%s", path);
	w->name = wl_strf(err, "%s", name);
	if (w->path && w->name && wl_tar_walk_init(&w->tar, fd, w->path, err) == 0)
		return 0;
	wl_sample_walk_close(w);
	return -1;
}

int wl_sample_walk_open(
	struct wl_sample_walk *w, const char *dir, const char *name, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/%s.tar", dir, name);
	int fd, ret = -1;

	*w = (struct wl_sample_walk){.fd = -1};
	if (!path)
		return -1;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		wl_path_failed(path, "opened", NULL, err);
	else
		ret = wl_sample_walk_open_fd(w, fd, path, name, err);
	free(path);
	return ret;
}

void wl_sample_walk_close(struct wl_sample_walk *w)
{
	for (int m = 0; m < WL_MEMBERS; m++)
		wl_buf_release(&w->bytes[m]);
	json_decref(w->json);
	if (w->fd >= 0)
		close(w->fd);
	free(w->path);
	free(w->name);
	*w = (struct wl_sample_walk){.fd = -1};
}

static int bad(
	const struct wl_sample_walk *w, const char *key, struct wl_err *err, const char *what)
{
	return wl_err_set(err, WL_EDATA,
		"%s, sample %s: %s; the shard is damaged: remove it and run wenlan-shard "
		"--corpus again, which packs only what is missing",
		w->path, key, what);
}

/* One member's contents; 0 only for the first member, at the end of the tar. */
static int read_member(
	struct wl_sample_walk *w, int m, struct wl_shard_row *row, struct wl_err *err)
{
	struct wl_tar_member tm;
	char want[WL_KEY_MAX + 8];
	size_t padded;
	int rc;

	WL_TRY(rc = wl_tar_walk_next(&w->tar, &tm, err));
	snprintf(want, sizeof want, "%s.%s", row->key, wl_member_ext[m]);
	if (!rc && m == 0)
		return 0;
	if (!rc || strcmp(tm.name, want))
		return wl_err_set(err, WL_EDATA,
			"%s, offset %lld: expected member %s, found %s; a member is missing, or "
			"another program wrote the tar: remove it and run wenlan-shard --corpus "
			"again, which packs only what is missing",
			w->path, (long long)w->tar.pos, want, rc ? tm.name : "the end");
	wl_buf_reset(&w->bytes[m]);
	if (tm.length > (int64_t)w->bytes[m].max)
		return bad(
			w, row->key, err, "a member is larger than any that wenlan-shard writes");
	padded = (size_t)wl_tar_padded(tm.length);
	if (!w->whole)
		padded = (size_t)tm.length;
	w->bytes[m].max += WL_TAR_BLOCK; /* the padding is not the member's */
	rc = wl_buf_reserve(&w->bytes[m], padded, err);
	w->bytes[m].max -= WL_TAR_BLOCK;
	WL_TRY(rc);
	WL_TRY(wl_pread_full(w->fd, w->bytes[m].data, padded, tm.offset, w->path, err));
	if (w->whole)
		wl_sha256_add(w->whole, w->bytes[m].data, padded);
	w->bytes[m].len = (size_t)tm.length;
	w->bytes[m].data[tm.length] = 0;
	row->offset[m] = tm.offset;
	row->length[m] = tm.length;
	return 1;
}

static int read_fields(struct wl_sample_walk *w, struct wl_shard_row *row, struct wl_err *err)
{
	const struct wl_buf *txt = &w->bytes[WL_MEMBER_TXT], *json = &w->bytes[WL_MEMBER_JSON];
	const json_t *caption;

	json_decref(w->json);
	w->json = wl_json_parse(json->data, json->len, row->key, err);
	if (!w->json)
		return wl_err_prefix(err, "%s", w->path);
	caption = json_array_get(json_object_get(w->json, "captions"), 0);
	if (!json_is_string(caption) || json_string_length(caption) != txt->len ||
		memcmp(json_string_value(caption), txt->data, txt->len))
		return bad(w, row->key, err, "its .txt is not the first caption of its .json");
	if (wl_json_int(w->json, "pair_id", row->key, &row->pair_id, err) < 0 ||
		wl_json_int(w->json, "width", row->key, &row->width, err) < 0 ||
		wl_json_int(w->json, "height", row->key, &row->height, err) < 0 ||
		wl_json_int_or(w->json, "topic", row->key, -1, &row->topic, err) < 0 ||
		wl_json_str_or(w->json, "source", row->key, "", &row->source, err) < 0 ||
		wl_json_str_or(w->json, "url", row->key, "", &row->url, err) < 0)
		return wl_err_prefix(err, "%s", w->path);
	return 0;
}

void wl_sample_walk_hash(struct wl_sample_walk *w, struct wl_sha256 *whole)
{
	w->whole = w->tar.sha = whole;
}

int wl_sample_walk_next(struct wl_sample_walk *w, struct wl_shard_row *row, struct wl_err *err)
{
	if (w->index >= WL_SHARD_SAMPLES_MAX)
		return wl_err_set(err, WL_EDATA, "%s has more samples than a shard may have (%d)",
			w->path, WL_SHARD_SAMPLES_MAX);
	*row = (struct wl_shard_row){.index = w->index};
	snprintf(row->key, sizeof row->key, "%.40s_%06d", w->name, (int)w->index);
	for (int m = 0; m < WL_MEMBERS; m++) {
		int rc = read_member(w, m, row, err);

		if (rc <= 0)
			return rc;
	}
	WL_TRY(read_fields(w, row, err));
	if (!w->no_picture_hash)
		wl_sha256(w->bytes[WL_MEMBER_JPG].data, w->bytes[WL_MEMBER_JPG].len, row->sha256);
	w->index++;
	return 1;
}
