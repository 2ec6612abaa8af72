/*
 * dir: and stamps:, pictures in a directory tree, each beside a .txt (or .json) of the same
 * name.
 *
 * The tree is listed first and walked in byte order of the paths (ingest/listing.h).
 */
#include "ingest/listing.h"
#include "ingest/source.h"

#include "ops/file.h"

#include <stdlib.h>
#include <string.h>

struct dir_source {
	struct wl_source base;
	struct wl_tree_walk walk;
};

/* The length of a path without its extension ("a.b/c.png" -> "a.b/c"). */
static size_t stem_len(const char *path)
{
	const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
	return dot && dot > (slash ? slash : path) ? (size_t)(dot - path) : strlen(path);
}

/* Whether STEM.* has a picture. */
static bool has_picture(const struct wl_listing *l, const char *path)
{
	size_t len = stem_len(path) + 1;
	char *stem = strndup(path, len); /* with its dot */
	bool found = false;
	if (!stem)
		return true;
	for (size_t i = wl_listing_at(l, stem); i < l->n && strncmp(l->v[i], stem, len) == 0; i++)
		found = found || (stem_len(l->v[i]) + 1 == len && wl_is_image_name(l->v[i]));
	free(stem);
	return found;
}

static bool ends_in(const char *path, const char *ext)
{
	size_t n = strlen(path), m = strlen(ext);
	return n > m && strcmp(path + n - m, ext) == 0;
}

/* Pictures are items, and texts that lack one. */
static bool is_item(const void *ctx, const char *path)
{
	const struct dir_source *s = ctx;
	return wl_is_image_name(path) ||
	       (ends_in(path, ".txt") && !has_picture(&s->walk.files, path));
}

static void dir_close(struct wl_source *base)
{
	struct dir_source *s = (struct dir_source *)base;
	wl_listing_release(&s->walk.files);
	free(s);
}

static struct wl_source *dir_open(
	const struct wl_origin *o, const char *position, struct wl_err *err)
{
	struct dir_source *s = wl_source_new(o, sizeof *s, err);

	if (!s)
		return NULL;
	if (wl_listing_read(&s->walk.files, o->path, err) < 0) {
		dir_close(&s->base);
		return NULL;
	}
	wl_tree_walk_start(&s->walk, position);
	return &s->base;
}

static int dir_next(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct dir_source *s = (struct dir_source *)base;
	return wl_tree_walk_next(&s->walk, is_item, s, r, err);
}

static const char *dir_end(struct wl_source *base)
{
	return ((struct dir_source *)base)->walk.digest;
}

/* Loads STEM.ext into `out` when it is listed; 1: it was. */
static int load_beside(const struct dir_source *s, struct wl_record *r, const char *ext,
	struct wl_buf *out, struct wl_err *err)
{
	int ret = -1;
	char *path = wl_strf(err, "%.*s%s", (int)stem_len(r->file), r->file, ext), *full = NULL;
	if (!path)
		return -1;
	if (!wl_listing_has(&s->walk.files, path)) {
		ret = 0;
		goto out;
	}
	full = wl_path_join(s->base.origin->path, path, err);
	if (full && wl_record_load(r, full, "text", out, err) == 0)
		ret = 1;
out:
	free(full);
	free(path);
	return ret;
}

static int load_image(const struct dir_source *s, struct wl_record *r, struct wl_err *err)
{
	if (!wl_is_image_name(r->file))
		return wl_record_reject(r, err, "no image beside the text");
	char *full = wl_path_join(s->base.origin->path, r->file, err);
	int ret = full ? wl_record_load(r, full, "image", &r->image, err) : -1;
	r->has_image = ret == 0;
	free(full);
	return ret;
}

static int begin(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	r->pair.source = base->origin->source;
	char *origin = wl_strf(err, "%s/%s", base->origin->name, r->file);
	r->image_origin = origin ? wl_arena_strdup(&r->mem, origin, err) : NULL;
	free(origin);
	return r->image_origin ? 0 : -1;
}

static int dir_prepare(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct dir_source *s = (struct dir_source *)base;
	struct wl_image_ref ref;
	WL_TRY(begin(base, r, err));
	WL_TRY(load_image(s, r, err));
	int json = load_beside(s, r, ".json", &r->json, err);
	WL_TRY(json);
	if (json && !r->reason)
		WL_TRY(wl_record_json(r, wl_buf_str(&r->json), r->json.len, &ref, err));
	/* In the shards' form KEY.txt repeats the first of KEY.json's captions. */
	if (!r->reason && strcmp(r->pair.texts, "[]") == 0) {
		int text = load_beside(s, r, ".txt", &r->text, err);
		WL_TRY(text);
		if (text && !r->reason)
			WL_TRY(wl_record_captions(r, wl_buf_str(&r->text), r->text.len, err));
	}
	WL_TRY(wl_record_meta_file(r, r->file, err));
	return wl_record_finish(r, err);
}

static int stamps_prepare(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct dir_source *s = (struct dir_source *)base;
	WL_TRY(begin(base, r, err));
	WL_TRY(load_image(s, r, err));
	int text = load_beside(s, r, ".txt", &r->text, err);
	WL_TRY(text);
	WL_TRY(wl_record_stamp(r, wl_buf_str(&r->text), r->text.len, err));
	WL_TRY(wl_record_meta_file(r, r->file, err));
	return wl_record_finish(r, err);
}

const struct wl_source_ops wl_source_dir = {
	.kind = "dir",
	.about = "dir:DIR  pictures, each beside a .txt (a caption a line) or .json of its name",
	.open = dir_open,
	.next = dir_next,
	.prepare = dir_prepare,
	.end = dir_end,
	.close = dir_close,
	.walks_again = true,
};

const struct wl_source_ops wl_source_stamps = {
	.kind = "stamps",
	.about = "stamps:DIR  Tux Paint stamps: pictures beside a .txt with a zh_CN.utf8= line",
	.open = dir_open,
	.next = dir_next,
	.prepare = stamps_prepare,
	.end = dir_end,
	.close = dir_close,
	.walks_again = true,
};
