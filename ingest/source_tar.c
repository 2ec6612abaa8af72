/*
 * tar: and zip:.  Either WebDataset's form, where KEY.jpg, KEY.txt and KEY.json stand together (a
 * key ends at the first dot of the file's name), or images beside one .jsonl that names them.
 *
 * A position is the number of members consumed; of the second form, jsonl:'s.  A zip is of the
 * first form; a member of it that is damaged costs its record only, since the next one is found
 * without it.
 */
#include "ingest/source.h"
#include "ingest/source_jsonl.h"

#include "ops/file.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BLOCK = 1 << 20, HEADER_BLOCK = 1 << 14 };

struct tar_source {
	struct wl_source base;
	struct wl_source *lines; /* the second form; then nothing below is used */
	struct archive *a;
	struct archive_entry *entry; /* read but not consumed; NULL: the next header is due */
	bool at_end;
	int64_t members; /* consumed */
	/* A plain tar, for the pool to read pictures from; fd -1: they are read here. */
	struct wl_tarindex plain;
	int64_t file_size;
};

static void tar_close(struct wl_source *base)
{
	struct tar_source *s = (struct tar_source *)base;
	if (s->lines)
		s->lines->ops->close(s->lines);
	archive_read_free(s->a);
	wl_tarindex_close(&s->plain);
	free(s);
}

static int damaged(const struct tar_source *s, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA,
		"%s is damaged at member %lld: %s; get it again, what came before is kept",
		s->base.origin->path, (long long)s->members + 1,
		archive_error_string(s->a) ? archive_error_string(s->a) : "it cannot be read");
}

/* Makes s->entry the next member, unless it is there already.  1: there is one. */
static int peek(struct tar_source *s, struct wl_err *err)
{
	if (s->entry)
		return 1;
	if (s->at_end)
		return 0;
	int rc = archive_read_next_header(s->a, &s->entry);
	if (rc == ARCHIVE_OK || rc == ARCHIVE_WARN)
		return 1;
	s->entry = NULL;
	s->at_end = true;
	return rc == ARCHIVE_EOF ? 0 : damaged(s, err);
}

static void consume(struct tar_source *s)
{
	s->entry = NULL;
	s->members++;
}

static int skip_members(struct tar_source *s, const char *position, struct wl_err *err)
{
	char *end;
	long long n = strtoll(position, &end, 10);
	if (*end || n < 0)
		return wl_err_set(err, WL_EDATA,
			"the catalog's position of %s is \"%s\", expected a number of members",
			s->base.origin->name, position);
	while (s->members < n) {
		int more = peek(s, err);
		WL_TRY(more);
		if (!more)
			return wl_err_set(err, WL_EDATA,
				"%s is not the file that was read before: it has %lld members, "
				"%lld "
				"were read; give a new file a new name",
				s->base.origin->path, (long long)s->members, n);
		consume(s);
	}
	return 0;
}

static int open_groups(struct tar_source *s, const char *position, struct wl_err *err)
{
	s->a = archive_read_new();
	if (!s->a)
		return wl_err_nomem(err, "an archive reader", 0);
	if (s->base.ops == &wl_source_zip) {
		archive_read_support_format_zip(s->a);
	} else {
		archive_read_support_filter_all(s->a);
		archive_read_support_format_tar(s->a);
		archive_read_support_format_empty(s->a);
	}
	/* Where pictures are passed over, a large block would read them after all. */
	size_t block = s->plain.fd < 0 ? BLOCK : HEADER_BLOCK;
	if (archive_read_open_filename(s->a, s->base.origin->path, block) != ARCHIVE_OK)
		return damaged(s, err);
	return skip_members(s, position, err);
}

static bool ends_in(const char *name, const char *ext)
{
	size_t n = strlen(name), m = strlen(ext);
	return n > m && strcasecmp(name + n - m, ext) == 0;
}

/* The one .jsonl of the index; NULL: none.  Two: which one names the images is unknown. */
static int find_jsonl(
	const struct wl_tarindex *x, const struct wl_tar_member **out, struct wl_err *err)
{
	*out = NULL;
	for (size_t i = 0; i < x->n; i++) {
		if (!ends_in(x->v[i].name, ".jsonl"))
			continue;
		if (*out)
			return wl_err_set(err, WL_EDATA,
				"%s holds %s and %s; at most one .jsonl is expected: unpack it and "
				"give "
				"each as jsonl:",
				x->path, (*out)->name, x->v[i].name);
		*out = &x->v[i];
	}
	return 0;
}

/* The index tells which form it is.  A damaged tar is read as far as it goes, as groups; one
 * that is compressed has no index, and must be of the first form. */
static int open_either(struct tar_source *s, const char *position, struct wl_err *err)
{
	struct wl_tarindex x;
	const struct wl_tar_member *jsonl = NULL;
	if (s->base.ops == &wl_source_zip || wl_tarindex_open(&x, s->base.origin->path, NULL) < 0)
		return open_groups(s, position, err);
	if (find_jsonl(&x, &jsonl, err) < 0) {
		wl_tarindex_close(&x);
		return -1;
	}
	if (!jsonl) {
		if (x.compressed) {
			wl_tarindex_close(&x);
			return open_groups(s, position, err);
		}
		wl_tarindex_forget(&x);
		s->plain = x;
		s->file_size = wl_file_size(x.path, err);
		return s->file_size < 0 ? -1 : open_groups(s, position, err);
	}
	s->lines = wl_jsonl_open_member(s->base.origin, &x, jsonl, position, err);
	return s->lines ? 0 : -1;
}

static struct wl_source *tar_open(
	const struct wl_origin *o, const char *position, struct wl_err *err)
{
	struct tar_source *s = wl_source_new(o, sizeof *s, err);

	if (!s)
		return NULL;
	s->plain.fd = -1;
	if (open_either(s, position, err) < 0) {
		tar_close(&s->base);
		return NULL;
	}
	return &s->base;
}

/* "a/b.c.jpg" -> "a/b" in the arena; a hidden file has no key. */
static char *key_of(struct wl_record *r, const char *name, struct wl_err *err)
{
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
	const char *dot = strchr(base, '.');
	size_t n = dot == base ? 0 : dot ? (size_t)(dot - name) : strlen(name);
	return wl_arena_strndup(&r->mem, name, n, err);
}

static int read_into(
	struct tar_source *s, struct wl_record *r, struct wl_buf *out, struct wl_err *err)
{
	int64_t size = archive_entry_size(s->entry);
	if (size < 0 || (uint64_t)size > out->max)
		return wl_record_reject(r, err,
			"a member is too large: %s has %lld bytes, at most %zu",
			wl_tar_name(archive_entry_pathname(s->entry)), (long long)size, out->max);
	wl_buf_reset(out);
	WL_TRY(wl_buf_reserve(out, (size_t)size, err));
	la_ssize_t got = archive_read_data(s->a, out->data, (size_t)size);
	/* A zip's checksum is looked at only when its end is asked for. */
	char beyond;
	if (got == size && s->base.ops == &wl_source_zip) {
		la_ssize_t more = archive_read_data(s->a, &beyond, 1);
		got = more < 0 ? more : got + more;
	}
	if (got < 0 && got != ARCHIVE_FATAL && s->base.ops == &wl_source_zip)
		return wl_record_reject(r, err, "a member is damaged: %s: %s",
			wl_tar_name(archive_entry_pathname(s->entry)),
			archive_error_string(s->a) ? archive_error_string(s->a)
						   : "it cannot be read");
	if (got != size)
		return damaged(s, err);
	out->len = (size_t)got;
	out->data[out->len] = '\0';
	return 0;
}

/* The bytes of a picture: from a plain tar by the pool, which has more hands. */
static int take_image(struct tar_source *s, struct wl_record *r, struct wl_err *err)
{
	int64_t size = archive_entry_size(s->entry);
	if (s->plain.fd < 0 || size <= 0 || (uint64_t)size > r->image.max ||
		archive_entry_hardlink(s->entry))
		return read_into(s, r, &r->image, err);
	r->image_start = archive_read_header_position(s->a);
	r->image_size = size;
	return 0;
}

static int load_image(struct tar_source *s, struct wl_record *r, struct wl_err *err)
{
	struct wl_tar_member m = {.name = r->file,
		.start = r->image_start,
		.end = s->file_size,
		.size = r->image_size};
	struct wl_err why = WL_ERR_INIT;
	if (wl_tarindex_read(&s->plain, &m, &r->image, &why) == 0)
		return 0;
	if (why.code != WL_EDATA)
		return wl_err_set(err, why.code, "%s", why.msg);
	return wl_record_reject(r, err, "the image file cannot be read: %s", why.msg);
}

/* Takes what a pair is made of; members of other kinds are passed over. */
static int take_member(
	struct tar_source *s, struct wl_record *r, const char *name, struct wl_err *err)
{
	if (ends_in(name, ".jsonl"))
		return wl_err_set(err, WL_EUSAGE,
			"%s is compressed and holds %s: %s it, so that images can be "
			"looked up",
			s->base.origin->path, name,
			s->base.ops == &wl_source_zip ? "unpack" : "decompress");
	if (wl_is_image_name(name) && !r->has_image) {
		r->has_image = true;
		r->file = wl_arena_strdup(&r->mem, name, err);
		return r->file ? take_image(s, r, err) : -1;
	}
	if (ends_in(name, ".txt") && !r->has_text) {
		r->has_text = true;
		return read_into(s, r, &r->text, err);
	}
	if (ends_in(name, ".json") && !r->has_json) {
		r->has_json = true;
		return read_into(s, r, &r->json, err);
	}
	return 0;
}

static bool is_something(const struct wl_record *r)
{
	return r->has_image || r->has_text || r->has_json;
}

/* Gathers members as long as they have the key of the first. */
static int gather(struct tar_source *s, struct wl_record *r, const char **key, struct wl_err *err)
{
	int more;
	*key = NULL;
	while ((more = peek(s, err)) > 0) {
		const char *path = archive_entry_pathname(s->entry);
		const char *name = wl_tar_name(path ? path : "");
		char *k = key_of(r, name, err);
		if (!k)
			return -1;
		if (archive_entry_filetype(s->entry) == AE_IFREG && *k) {
			if (*key && strcmp(k, *key) != 0) {
				if (is_something(r))
					return 1;
				/* The group before held nothing for us. */
			}
			*key = k;
			WL_TRY(take_member(s, r, name, err));
		}
		consume(s);
	}
	return more < 0 ? -1 : is_something(r);
}

static int tar_next(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct tar_source *s = (struct tar_source *)base;
	const char *key;
	char text[32];
	if (s->lines)
		return s->lines->ops->next(s->lines, r, err);
	r->ordinal = s->members;
	int more = gather(s, r, &key, err);
	if (more <= 0)
		return more;
	snprintf(text, sizeof text, "%lld", (long long)s->members);
	r->position = wl_arena_strdup(&r->mem, text, err);
	char *place = wl_strf(err, "%s (member %lld)", key, (long long)r->ordinal + 1);
	r->place = place ? wl_arena_strdup(&r->mem, place, err) : NULL;
	free(place);
	char *origin = wl_strf(err, "%s/%s", base->origin->name, r->file ? r->file : key);
	r->image_origin = origin ? wl_arena_strdup(&r->mem, origin, err) : NULL;
	free(origin);
	return r->position && r->place && r->image_origin ? 1 : -1;
}

static int tar_prepare(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct tar_source *s = (struct tar_source *)base;
	struct wl_image_ref ref = {0};
	if (s->lines)
		return s->lines->ops->prepare(s->lines, r, err);
	r->pair.source = base->origin->source;
	if (r->image_size)
		WL_TRY(load_image(s, r, err));
	if (r->has_json && !r->reason)
		WL_TRY(wl_record_json(r, wl_buf_str(&r->json), r->json.len, &ref, err));
	if (r->has_text && !r->reason && strcmp(r->pair.texts, "[]") == 0)
		WL_TRY(wl_record_captions(r, wl_buf_str(&r->text), r->text.len, err));
	if (!r->reason && !r->has_image && ref.url)
		WL_TRY(wl_record_image_url(r, ref.url, err));
	if (r->file)
		WL_TRY(wl_record_meta_file(r, r->file, err));
	return wl_record_finish(r, err);
}

const struct wl_source_ops wl_source_tar = {
	.kind = "tar",
	.about = "tar:FILE  KEY.jpg beside KEY.txt or KEY.json, or images beside one .jsonl",
	.open = tar_open,
	.next = tar_next,
	.prepare = tar_prepare,
	.close = tar_close,
};

const struct wl_source_ops wl_source_zip = {
	.kind = "zip",
	.about = "zip:FILE  KEY.jpg beside KEY.txt or KEY.json",
	.open = tar_open,
	.next = tar_next,
	.prepare = tar_prepare,
	.close = tar_close,
};
