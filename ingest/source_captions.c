/*
 * aic: and coco: caption annotations that come as one JSON file beside a folder or a tar of
 * pictures, as ready-made splits.
 *
 *   aic:FILE   AI Challenger's form: [{"image_id": NAME, "caption": [TEXT, ...], "url"}, ...]
 *   coco:FILE  COCO's: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]};
 *              or Karpathy's: {"images": [{"filename", "filepath", "split",
 *              "sentences": [{"raw": TEXT}]}]}
 *
 * The split is what ?split= says, or the image itself (Karpathy), or what the file is called:
 * train, val or test in its name.  An item becomes the JSON record that jsonl: would have read, so
 * that captions, pictures and what is wrong with them are treated alike; one that is not of the
 * form is quarantined under its number.  The file is held whole: some 8 times its size in memory.
 *
 * A position is "ITEMS of ALL".
 */
#include "ingest/source_jsonl.h"

#include "ops/file.h"
#include "ops/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct captions_source {
	struct wl_source base;
	struct wl_source *images; /* looks pictures up (source_jsonl.h) */
	json_t *file;		  /* the whole annotation file */
	const json_t *items;	  /* of it: what becomes records, in order */
	json_t *by_image;	  /* coco: {"ID": [caption, ...]} */
	json_t *strays;		  /* coco: annotations without an image */
	const char *split;	  /* of the whole file; "": none */
	size_t next, n;		  /* items, then strays */
};

static void captions_close(struct wl_source *base)
{
	struct captions_source *s = (struct captions_source *)base;

	if (s->images)
		wl_source_jsonl.close(s->images);
	json_decref(s->file);
	json_decref(s->by_image);
	json_decref(s->strays);
	free(s);
}

/* What the file's name says of its split. */
static const char *split_in_name(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	if (strcasestr(name, "val"))
		return "val";
	if (strcasestr(name, "test"))
		return "test";
	return strcasestr(name, "train") ? "train" : "";
}

static int pick_split(struct captions_source *s, struct wl_err *err)
{
	static const char *const known[] = {"train", "val", "test"};
	const char *asked = s->base.origin->split;

	s->split = split_in_name(s->base.origin->path);
	for (size_t i = 0; asked && i < 3; i++)
		if (!strcmp(asked, known[i])) {
			s->split = known[i];
			return 0;
		}
	if (asked)
		return wl_err_set(err, WL_EUSAGE, "%s: split=%s: expected train, val or test",
			s->base.origin->name, asked);
	return 0;
}

/* ---- COCO's two lists made one ---- */

/* An id as a key: they are numbers, but some sets write them as strings. */
static bool id_key(const json_t *id, char out[64])
{
	if (json_is_integer(id))
		snprintf(out, 64, "%lld", (long long)json_integer_value(id));
	else if (json_is_string(id) && json_string_length(id) < 64)
		snprintf(out, 64, "%s", json_string_value(id));
	else
		return false;
	return true;
}

static int list_images(struct captions_source *s, struct wl_err *err)
{
	const json_t *image;
	char key[64];
	size_t i;

	json_array_foreach(
		s->items, i, image) if (id_key(json_object_get(image, "id"), key) &&
					json_object_set_new(s->by_image, key, json_array()) <
						0) return wl_err_nomem(err, "the annotations", 0);
	return 0;
}

static int join_annotations(struct captions_source *s, const json_t *list, struct wl_err *err)
{
	const json_t *a;
	size_t i;

	s->by_image = json_object();
	s->strays = json_array();
	if (!s->by_image || !s->strays)
		return wl_err_nomem(err, "the annotations", 0);
	WL_TRY(list_images(s, err));
	json_array_foreach(list, i, a)
	{
		char key[64];
		json_t *of = id_key(json_object_get(a, "image_id"), key)
				     ? json_object_get(s->by_image, key)
				     : NULL;
		json_t *caption = json_object_get(a, "caption");
		bool good = of && json_is_string(caption);

		if (json_array_append(good ? of : s->strays, good ? caption : (json_t *)a) < 0)
			return wl_err_nomem(err, "the annotations", 0);
	}
	return 0;
}

static int take_file(struct captions_source *s, struct wl_err *err)
{
	const char *path = s->base.origin->path;
	const json_t *list;

	s->file = wl_json_load(path, err);
	if (!s->file)
		return -1;
	if (s->base.ops == &wl_source_aic) {
		s->items = s->file;
		if (!json_is_array(s->file))
			return wl_err_set(err, WL_EDATA,
				"%s: expected a list of {\"image_id\", \"caption\"}, as AI "
				"Challenger's annotations are; is it a coco: file?",
				path);
	} else {
		s->items = json_object_get(s->file, "images");
		list = json_object_get(s->file, "annotations");
		if (!json_is_array(s->items) || (list && !json_is_array(list)))
			return wl_err_set(err, WL_EDATA,
				"%s: expected {\"images\": [...], \"annotations\": [...]}, as "
				"COCO's "
				"captions are; is it an aic: file?",
				path);
		if (list)
			WL_TRY(join_annotations(s, list, err));
	}
	s->n = json_array_size(s->items) + json_array_size(s->strays);
	return 0;
}

static int seek(struct captions_source *s, const char *position, struct wl_err *err)
{
	unsigned long long at, all;

	if (!*position)
		return 0;
	if (sscanf(position, "%llu of %llu", &at, &all) != 2 || all != s->n || at > all)
		return wl_err_set(err, WL_EDATA,
			"%s has %zu annotations, but an earlier run stopped at %s: give a file "
			"that "
			"changed another name",
			s->base.origin->name, s->n, position);
	s->next = (size_t)at;
	return 0;
}

static struct wl_source *captions_open(
	const struct wl_origin *o, const char *position, struct wl_err *err)
{
	struct captions_source *s = wl_source_new(o, sizeof *s, err);

	if (!s)
		return NULL;
	s->images = wl_jsonl_open_images(o, err);
	if (s->images && pick_split(s, err) == 0 && take_file(s, err) == 0 &&
		seek(s, position, err) == 0)
		return &s->base;
	captions_close(&s->base);
	return NULL;
}

/* ---- items as records ---- */

/* Captions out of Karpathy's sentences. */
static json_t *raw_sentences(const json_t *list)
{
	json_t *out = json_array();
	const json_t *v;
	size_t i;

	json_array_foreach(list, i, v)
	{
		json_t *raw = json_object_get(v, "raw");

		json_array_append(out, raw ? raw : (json_t *)v);
	}
	return out;
}

/* The item in jsonl:'s form, or NULL: it has no picture's name or no captions. */
static json_t *as_record(const struct captions_source *s, const json_t *item)
{
	bool aic = s->base.ops == &wl_source_aic;
	const char *name = json_string_value(json_object_get(item, aic ? "image_id" : "file_name"));
	const char *folder = NULL, *split = s->split;
	json_t *captions = json_incref(json_object_get(item, "caption")), *record = NULL;
	json_t *id = json_object_get(item, aic ? "url" : "id");
	char key[64], path[1024];

	if (!aic && s->by_image) {
		captions = id_key(id, key) ? json_incref(json_object_get(s->by_image, key)) : NULL;
	} else if (!aic) {
		name = json_string_value(json_object_get(item, "filename"));
		folder = json_string_value(json_object_get(item, "filepath"));
		captions = raw_sentences(json_object_get(item, "sentences"));
		id = json_object_get(item, "imgid");
		if (!*split && json_is_string(json_object_get(item, "split")))
			split = json_string_value(json_object_get(item, "split"));
	}
	if (name && *name && json_is_array(captions)) {
		snprintf(
			path, sizeof path, "%s%s%s", folder ? folder : "", folder ? "/" : "", name);
		record = json_pack("{s:s, s:O, s:s, s:{s:O?}}", "image", path, "captions", captions,
			"split", split, "meta", aic ? "url" : "id", id);
	}
	json_decref(captions);
	return record;
}

static int put_json(struct wl_record *r, const json_t *v, struct wl_err *err)
{
	char *text = wl_json_text(v, err);
	int rc = text ? wl_buf_puts(&r->json, text, err) : -1;

	free(text);
	r->has_json = rc == 0;
	return rc;
}

static int captions_next(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct captions_source *s = (struct captions_source *)base;
	size_t items = json_array_size(s->items), i = s->next;
	const json_t *item;
	json_t *record;
	char text[64];
	int rc;

	if (i == s->n)
		return 0;
	s->next++;
	item = i < items ? json_array_get(s->items, i) : json_array_get(s->strays, i - items);
	r->ordinal = (int64_t)i + 1;
	snprintf(text, sizeof text, "%s %zu", i < items ? "item" : "annotation",
		(i < items ? i : i - items) + 1);
	r->place = wl_arena_strdup(&r->mem, text, err);
	snprintf(text, sizeof text, "%zu of %zu", s->next, s->n);
	r->position = wl_arena_strdup(&r->mem, text, err);
	if (!r->place || !r->position)
		return -1;
	record = i < items ? as_record(s, item) : NULL;
	rc = put_json(r, record ? record : item, err);
	if (rc == 0 && !record)
		rc = wl_record_reject(r, err, "%s",
			i < items
				? "wrong annotation: it has no image's name or no list of captions"
				: "wrong annotation: its image is not in the list of images, or "
				  "its "
				  "caption is no text");
	json_decref(record);
	return rc < 0 ? -1 : 1;
}

static int captions_prepare(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	return wl_source_jsonl.prepare(((struct captions_source *)base)->images, r, err);
}

const struct wl_source_ops wl_source_aic = {
	.kind = "aic",
	.about = "aic:FILE.json?images=DIR|TAR[&split=NAME]  AI Challenger's caption annotations",
	.params = "images split",
	.open = captions_open,
	.next = captions_next,
	.prepare = captions_prepare,
	.close = captions_close,
};

const struct wl_source_ops wl_source_coco = {
	.kind = "coco",
	.about =
		"coco:FILE.json?images=DIR|TAR[&split=NAME]  COCO's captions, or Karpathy's splits",
	.params = "images split",
	.open = captions_open,
	.next = captions_next,
	.prepare = captions_prepare,
	.close = captions_close,
};
