/*
 * jsonl: one record a line, its image in a file, in a tar (?images=TAR), or in the line.
 *
 * A position is "BYTES LINES": how much was consumed, decompressed, so a file that grows is
 * continued where it was left.  Lines are numbered from 1 and are the ordinal of a pair's id.
 */
#include "ingest/source_jsonl.h"

#include "ingest/lines.h"
#include "ops/file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct jsonl_source {
	struct wl_source base;
	struct wl_lines lines;
	struct wl_tarindex images; /* path NULL: images are files */
	char *dir; /* what relative image paths are relative to; "" the tar's root */
};

static void jsonl_close(struct wl_source *base)
{
	struct jsonl_source *s = (struct jsonl_source *)base;
	wl_lines_close(&s->lines);
	wl_tarindex_close(&s->images);
	free(s->dir);
	free(s);
}

/* "a/b/c.jsonl" -> "a/b", "c.jsonl" -> `none`. */
static char *dir_of(const char *path, const char *none, struct wl_err *err)
{
	const char *slash = strrchr(path, '/');
	if (!slash)
		return wl_strf(err, "%s", none);
	return wl_strf(err, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static struct jsonl_source *new_source(const struct wl_origin *o, struct wl_err *err)
{
	struct jsonl_source *s = wl_source_new(o, sizeof *s, err);

	if (!s)
		return NULL;
	s->base.ops = &wl_source_jsonl; /* tar: opens one too, as a member */
	s->lines.fd = s->images.fd = -1;
	return s;
}

/* Where pictures are looked up: a directory, or a tar and the place in it. */
static int open_images(struct jsonl_source *s, const struct wl_origin *o, struct wl_err *err)
{
	struct stat st;
	bool folder = o->images && stat(o->images, &st) == 0 && S_ISDIR(st.st_mode);

	if (folder || o->root)
		s->dir = wl_strf(err, "%s", folder ? o->images : o->root);
	else
		s->dir = dir_of(o->path, ".", err);
	if (!s->dir)
		return -1;
	if (!o->images || folder)
		return 0;
	WL_TRY(wl_tarindex_open(&s->images, o->images, err));
	if (s->images.compressed)
		return wl_err_set(err, WL_EUSAGE,
			"%s is compressed, so its images cannot be looked up: decompress it",
			o->images);
	s->dir[0] = '\0';
	return 0;
}

struct wl_source *wl_jsonl_open_images(const struct wl_origin *o, struct wl_err *err)
{
	struct jsonl_source *s = new_source(o, err);

	if (!s || open_images(s, o, err) == 0)
		return s ? &s->base : NULL;
	jsonl_close(&s->base);
	return NULL;
}

static struct wl_source *jsonl_open(
	const struct wl_origin *o, const char *position, struct wl_err *err)
{
	struct jsonl_source *s = new_source(o, err);
	int64_t offset = 0, line = 0;
	if (!s)
		return NULL;
	WL_TRY_OUT(wl_lines_parse_position(position, o->name, &offset, &line, err));
	WL_TRY_OUT(open_images(s, o, err));
	WL_TRY_OUT(wl_lines_open(&s->lines, o->path, offset, line, err));
	return &s->base;
out:
	jsonl_close(&s->base);
	return NULL;
}

struct wl_source *wl_jsonl_open_member(const struct wl_origin *o, struct wl_tarindex *x,
	const struct wl_tar_member *m, const char *position, struct wl_err *err)
{
	struct jsonl_source *s = new_source(o, err);
	int64_t offset = 0, line = 0;
	struct archive *a;
	char *path = NULL;
	if (!s) {
		wl_tarindex_close(x);
		return NULL;
	}
	s->images = *x;
	*x = (struct wl_tarindex){.fd = -1};
	WL_TRY_OUT(wl_lines_parse_position(position, o->name, &offset, &line, err));
	s->dir = dir_of(m->name, "", err);
	path = wl_strf(err, "%s, member %s", o->path, m->name);
	if (!s->dir || !path)
		goto out;
	a = wl_tarindex_stream(&s->images, m, err);
	if (!a)
		goto out;
	WL_TRY_OUT(wl_lines_open_entry(&s->lines, a, path, offset, line, err));
	free(path);
	return &s->base;
out:
	free(path);
	jsonl_close(&s->base);
	return NULL;
}

static int jsonl_next(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct jsonl_source *s = (struct jsonl_source *)base;
	int more = wl_lines_next_record(&s->lines, r, err);
	if (more > 0)
		WL_TRY(wl_lines_end_record(&s->lines, r, err));
	return more;
}

/* "../x/y" -> "x/y", NULL at the end. */
static const char *drop_first(const char *path)
{
	const char *slash = strchr(path, '/');
	return slash && slash[1] ? slash + 1 : NULL;
}

/* A data set that was moved: with ?root=DIR the leading directories of a path that is not
 * there are left out one after the other (BriVL's own sample says ../data/imgs/X). */
static char *resolve(const struct jsonl_source *s, const char *path, struct wl_err *err)
{
	for (const char *p = path; s->base.origin->root && p; p = drop_first(p)) {
		char *full = wl_path_join(s->dir, p, err);
		if (!full || wl_exists(full))
			return full;
		free(full);
	}
	return wl_path_join(s->dir, path, err);
}

static int load_member(
	const struct jsonl_source *s, struct wl_record *r, const char *path, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	const struct wl_tar_member *m;
	char *full = *s->dir ? wl_path_join(s->dir, path, err) : wl_strf(err, "%s", path);
	if (!full)
		return -1;
	m = wl_tarindex_find(&s->images, full);
	if (!m)
		m = wl_tarindex_find(&s->images, path);
	free(full);
	if (!m)
		return wl_record_reject(r, err,
			"the image file cannot be read: %s has no member %s", s->images.path, path);
	if ((uint64_t)m->size > r->image.max)
		return wl_record_reject(r, err,
			"the image file is too large: %lld bytes, at most %zu", (long long)m->size,
			r->image.max);
	if (wl_tarindex_read(&s->images, m, &r->image, &why) < 0)
		return why.code == WL_EDATA ? wl_record_reject(r, err,
						      "the image file cannot be read: %s", why.msg)
					    : wl_err_set(err, why.code, "%s", why.msg);
	r->has_image = true;
	return 0;
}

static int load_file(
	const struct jsonl_source *s, struct wl_record *r, const char *path, struct wl_err *err)
{
	char *full = resolve(s, path, err);
	int ret = full ? wl_record_load(r, full, "image", &r->image, err) : -1;
	r->has_image = ret == 0;
	free(full);
	return ret;
}

/* The image is named by the record's own words, so the name stays when the files move. */
static int name_image(
	const struct jsonl_source *s, struct wl_record *r, const char *path, struct wl_err *err)
{
	char *origin = wl_strf(err, "%s#%s", s->base.origin->name, path ? path : r->pair.url);
	r->image_origin = origin ? wl_arena_strdup(&r->mem, origin, err) : NULL;
	free(origin);
	return r->image_origin ? 0 : -1;
}

static int jsonl_prepare(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct jsonl_source *s = (struct jsonl_source *)base;
	struct wl_image_ref ref = {0};
	r->pair.source = base->origin->source;
	if (!r->reason)
		WL_TRY(wl_record_json(r, wl_buf_str(&r->json), r->json.len, &ref, err));
	if (!r->reason && !r->has_image && !ref.path && ref.url)
		WL_TRY(wl_record_image_url(r, ref.url, err));
	WL_TRY(name_image(s, r, ref.path, err));
	if (!r->reason && !r->has_image) {
		if (ref.path && s->images.path)
			WL_TRY(load_member(s, r, ref.path, err));
		else if (ref.path)
			WL_TRY(load_file(s, r, ref.path, err));
	}
	return wl_record_finish(r, err);
}

static int64_t jsonl_recall(const char *place)
{
	return wl_place_number(place, "line");
}

const struct wl_source_ops wl_source_jsonl = {
	.kind = "jsonl",
	.about = "jsonl:FILE[?images=DIR|TAR|?root=DIR]  one JSON record a line, .gz and .zst too",
	.params = "images root",
	.open = jsonl_open,
	.next = jsonl_next,
	.prepare = jsonl_prepare,
	.recall = jsonl_recall,
	.close = jsonl_close,
};
