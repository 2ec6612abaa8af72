/* Caption files of the forms that are about: see captions.h. */
#include "eval/captions.h"
#include "eval/trouble.h"
#include "ops/file.h"
#include "ops/grow.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = INT32_MAX };

uint64_t wl_aic_image_hash(const char *name)
{
	const uint64_t m = ((uint64_t)1 << 63) - 1;
	const char *dot = strrchr(name, '.');
	uint8_t sha[WL_SHA256_BYTES];
	uint64_t r = 0;

	wl_sha256(name, dot && dot > name ? (size_t)(dot - name) : strlen(name), sha);
	for (size_t i = 0; i < sizeof sha; i++)
		/* 2^63 is 1 here, so the bits that leave on the left come back on the right. */
		r = ((r << 8 & m) + (r >> 55) + sha[i]) % m;
	return r;
}

enum { NO_HYP, UNKNOWN, TWICE, EMPTY_HYP, EMPTY_REF, KINDS };

struct reader {
	struct wl_caption_files *f;
	const char *path;
	enum wl_caption_level level;
	bool is_refs, allow_empty;
	struct wl_trouble trouble[KINDS];
};

/* image_id or image: a string, or a number in decimal. */
static int read_id(
	struct reader *r, const json_t *o, size_t place, char id[512], struct wl_err *err)
{
	const json_t *v = json_object_get(o, "image_id");

	if (!v)
		v = json_object_get(o, "image");
	if (!v)
		v = json_object_get(o, "id");
	if (json_is_integer(v))
		snprintf(id, 512, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else if (json_is_string(v) && json_string_length(v) < 500)
		snprintf(id, 512, "%s", json_string_value(v));
	else
		return wl_err_set(err, WL_EDATA,
			"%s: entry %zu has no image_id (a number or a string) but %s", r->path,
			place, v ? "something else" : "nothing");
	return 0;
}

/* The name under which both files must agree; AI Challenger's reference file has hashes. */
static void agreed_name(const struct reader *r, char id[512])
{
	if (r->level == WL_LEVEL_AIC && (!r->is_refs || !r->f->refs_segmented) && *id)
		snprintf(id, 512, "%" PRIu64, wl_aic_image_hash(id));
}

static bool is_blank_text(const char *s)
{
	return !s[strspn(s, " \t\r\n\v\f")];
}

static int add_image(struct wl_caption_files *f, const char *name, struct wl_err *err)
{
	WL_TRY(WL_GROW(f->image, f->n, f->cap, "captions", err));
	f->image[f->n] = (struct wl_caption_image){.id = wl_arena_strdup(&f->arena, name, err)};
	return f->image[f->n++].id ? 0 : -1;
}

static int add_ref(struct reader *r, const char *id, const char *text, struct wl_err *err)
{
	struct wl_caption_files *f = r->f;
	struct wl_caption_image *im;
	char name[512];
	int64_t k;

	if (is_blank_text(text) && !r->allow_empty) {
		wl_trouble_note(&r->trouble[EMPTY_REF], id);
		return 0;
	}
	snprintf(name, sizeof name, "%s", id);
	agreed_name(r, name);
	k = wl_intern_str(&f->ids, name, strlen(name), err);
	if (k < 0 || (k == (int64_t)f->n && add_image(f, id, err) < 0))
		return -1;
	im = &f->image[k];
	WL_TRY(WL_GROW_IN(&f->arena, im->refs, im->n_refs, im->cap_refs, err));
	im->refs[im->n_refs] = wl_arena_strdup(&f->arena, text, err);
	return im->refs[im->n_refs++] ? 0 : -1;
}

static int add_hyp(struct reader *r, const char *id, const char *text, struct wl_err *err)
{
	struct wl_caption_files *f = r->f;
	char name[512];
	uint32_t known = f->ids.n;
	int64_t k;

	if (!*id || (is_blank_text(text) && !r->allow_empty))
		wl_trouble_note(&r->trouble[*id ? EMPTY_HYP : UNKNOWN], id);
	if (!*id)
		return 0;
	snprintf(name, sizeof name, "%s", id);
	agreed_name(r, name);
	k = wl_intern_str(&f->ids, name, strlen(name), err);
	if (k < 0)
		return -1;
	if (k >= (int64_t)f->n) { /* new numbers are past the images: not in the references */
		wl_trouble_note(&r->trouble[k == known ? UNKNOWN : TWICE], id);
		return 0;
	}
	if (f->image[k].hyp) {
		wl_trouble_note(&r->trouble[TWICE], id);
		return 0;
	}
	f->image[k].id = wl_arena_strdup(&f->arena, id, err);
	f->image[k].hyp = wl_arena_strdup(&f->arena, text, err);
	return f->image[k].id && f->image[k].hyp ? 0 : -1;
}

static int add_text(
	struct reader *r, const char *id, const json_t *text, size_t place, struct wl_err *err)
{
	if (!json_is_string(text))
		return wl_err_set(err, WL_EDATA,
			"%s: entry %zu (image %.80s) has no caption that is a"
			" string",
			r->path, place, id);
	return r->is_refs ? add_ref(r, id, json_string_value(text), err)
			  : add_hyp(r, id, json_string_value(text), err);
}

static int read_entry(struct reader *r, const json_t *o, size_t place, struct wl_err *err)
{
	static const char *const keys[2][3] = {
		{"caption", "candidate", "hypothesis"}, {"references", "captions", "caption"}};
	const json_t *text = NULL;
	char id[512];

	if (!json_is_object(o))
		return wl_err_set(err, WL_EDATA, "%s: entry %zu is not an object", r->path, place);
	WL_TRY(read_id(r, o, place, id, err));
	/* A line may hold candidate and references both (../shared's fakecap.jsonl). */
	for (size_t i = 0; i < 3 && !text; i++)
		text = json_object_get(o, keys[r->is_refs][i]);
	if (!r->is_refs || !json_is_array(text))
		return add_text(r, id, text, place, err);
	for (size_t i = 0; i < json_array_size(text); i++)
		WL_TRY(add_text(r, id, json_array_get(text, i), place, err));
	return 0;
}

static int read_list(struct reader *r, const json_t *list, struct wl_err *err)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		WL_TRY(read_entry(r, json_array_get(list, i), i, err));
	return 0;
}

static int read_lines(struct reader *r, char *text, struct wl_err *err)
{
	size_t number = 0;

	for (char *line = text, *end; *line; line = end) {
		char what[400];
		json_t *o;
		int ret;

		number++;
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = 0;
		if (is_blank_text(line))
			continue;
		snprintf(what, sizeof what, "%.300s, line %zu", r->path, number);
		o = wl_json_parse(line, strlen(line), what, err);
		if (!o)
			return -1;
		ret = read_entry(r, o, number, err);
		json_decref(o);
		WL_TRY(ret);
	}
	return 0;
}

/* AI Challenger's reference file: COCO's object with captions in words and hashed ids. */
static bool looks_aic(const json_t *o)
{
	const json_t *first = json_array_get(json_object_get(o, "annotations"), 0);
	const char *s = json_string_value(json_object_get(first, "caption"));

	return s && strchr(s, ' ') && json_is_integer(json_object_get(first, "image_id")) &&
	       json_integer_value(json_object_get(first, "image_id")) > (json_int_t)1 << 40;
}

static int read_text(struct reader *r, struct wl_buf *b, struct wl_err *err)
{
	const char *s = wl_buf_str(b);
	json_t *o;
	int ret = -1;

	s += strspn(s, " \t\r\n");
	if (*s != '[' && *s != '{')
		return wl_err_set(err, WL_EDATA,
			"%s holds neither a JSON list, nor an object, nor JSON"
			" lines",
			r->path);
	o = json_loadb(s, strlen(s), 0, NULL);
	if (!o && *s == '{')
		return read_lines(r, b->data + (s - b->data), err);
	json_decref(o);
	o = wl_json_parse(s, strlen(s), r->path, err);
	if (!o)
		return -1;
	if (json_is_array(json_object_get(o, "annotations"))) {
		if (r->is_refs)
			r->f->refs_segmented = r->level == WL_LEVEL_AIC || looks_aic(o);
		ret = read_list(r, json_object_get(o, "annotations"), err);
	} else {
		ret = json_is_array(o) ? read_list(r, o, err) : read_entry(r, o, 1, err);
	}
	json_decref(o);
	return ret;
}

static int read_bytes(
	struct reader *r, const char *path, struct wl_buf *b, bool is_refs, struct wl_err *err)
{
	r->path = path;
	r->is_refs = is_refs;
	if (b->len && memchr(b->data, 0, b->len))
		return wl_err_set(err, WL_EDATA, "%s holds a zero byte: it is no JSON text", path);
	return read_text(r, b, err);
}

/* One sentence with all the kinds of trouble, how many of each, and the first of them. */
static int complain(const struct reader *r, const char *refs, const char *hyps, struct wl_err *err)
{
	char text[900];

	return wl_trouble_text(r->trouble, KINDS, text, sizeof text)
		       ? wl_err_set(err, WL_EDATA, "%s cannot be scored against %s: %s", hyps, refs,
				 text)
		       : 0;
}

static int parse(struct reader *r, const char *refs, struct wl_buf *ref_bytes, const char *hyps,
	struct wl_buf *hyp_bytes, struct wl_err *err)
{
	struct wl_caption_files *f = r->f;

	WL_TRY(read_bytes(r, refs, ref_bytes, true, err));
	if (!f->n)
		return wl_err_set(err, WL_EDATA, "%s holds no references", refs);
	/* AI Challenger's own data has empty references: they are left out, with the rest. */
	if (r->level == WL_LEVEL_AIC && !f->refs_segmented)
		r->trouble[EMPTY_REF].n = 0;
	WL_TRY(read_bytes(r, hyps, hyp_bytes, false, err));
	for (size_t i = 0; i < f->n; i++)
		if (!f->image[i].hyp)
			wl_trouble_note(&r->trouble[NO_HYP], f->image[i].id);
	return complain(r, refs, hyps, err);
}

int wl_caption_files_parse(struct wl_caption_files *f, const char *refs, struct wl_buf *ref_bytes,
	const char *hyps, struct wl_buf *hyp_bytes, enum wl_caption_level level, bool allow_empty,
	struct wl_err *err)
{
	struct reader r = {.f = f,
		.level = level,
		.allow_empty = allow_empty,
		.trouble = {{.what = "images have no caption"},
			{.what = "captions are of unknown images"},
			{.what = "images are captioned twice"}, {.what = "captions are empty"},
			{.what = "references are empty"}}};

	*f = (struct wl_caption_files){0};
	if (!parse(&r, refs, ref_bytes, hyps, hyp_bytes, err))
		return 0;
	wl_caption_files_release(f);
	return -1;
}

int wl_caption_files_load(struct wl_caption_files *f, const char *refs, const char *hyps,
	enum wl_caption_level level, bool allow_empty, struct wl_err *err)
{
	struct wl_buf a, b;
	int ret = -1;

	*f = (struct wl_caption_files){0};
	wl_buf_init(&a, FILE_MAX_BYTES);
	wl_buf_init(&b, FILE_MAX_BYTES);
	WL_TRY_OUT(wl_read_file(refs, &a, err));
	WL_TRY_OUT(wl_read_file(hyps, &b, err));
	ret = wl_caption_files_parse(f, refs, &a, hyps, &b, level, allow_empty, err);
out:
	wl_buf_release(&a);
	wl_buf_release(&b);
	return ret;
}

void wl_caption_files_release(struct wl_caption_files *f)
{
	if (!f)
		return;
	wl_arena_release(&f->arena);
	wl_intern_release(&f->ids);
	free(f->image);
	*f = (struct wl_caption_files){0};
}
