/* KEY.json: see write.h. */
#include "shards/write.h"

#include "ops/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A string member; a NULL from jansson is text that is not UTF-8. */
static int set_text(json_t *o, const char *key, const char *s, int64_t pair_id, struct wl_err *err)
{
	if (json_object_set_new(o, key, json_string(s ? s : "")) < 0)
		return wl_err_set(err, WL_EDATA,
			"pair %lld: its %s is not valid UTF-8, so no shard can hold it",
			(long long)pair_id, key);
	return 0;
}

static int set_json(json_t *o, const char *key, json_t *value, struct wl_err *err)
{
	if (json_object_set_new(o, key, value) < 0)
		return wl_err_nomem(err, "a sample's JSON", 0);
	return 0;
}

static int set_boxes(json_t *o, const struct wl_sample_facts *f, struct wl_err *err)
{
	char what[64];
	json_t *boxes;

	if (!f->boxes || !*f->boxes)
		return set_json(o, "boxes", json_null(), err);
	snprintf(what, sizeof what, "boxes of pair %lld", (long long)f->pair_id);
	boxes = wl_json_parse(f->boxes, strlen(f->boxes), what, err);
	if (!boxes)
		return -1;
	return set_json(o, "boxes", boxes, err);
}

static int fill(json_t *o, const struct wl_sample_facts *f, struct wl_err *err)
{
	json_t *captions = json_array();

	WL_TRY(set_json(o, "captions", captions, err));
	for (size_t i = 0; i < f->n_captions; i++)
		if (json_array_append_new(captions, json_string(f->captions[i])) < 0)
			return wl_err_set(err, WL_EDATA,
				"pair %lld: its caption %zu is not valid UTF-8, so no shard can "
				"hold it",
				(long long)f->pair_id, i);
	WL_TRY(set_json(o, "pair_id", json_integer(f->pair_id), err));
	WL_TRY(set_json(o, "split_group", json_integer(f->split_group), err));
	WL_TRY(set_json(o, "width", json_integer(f->width), err));
	WL_TRY(set_json(o, "height", json_integer(f->height), err));
	WL_TRY(set_json(o, "topic", f->topic < 0 ? json_null() : json_integer(f->topic), err));
	if (f->category)
		WL_TRY(set_text(o, "category", f->category, f->pair_id, err));
	WL_TRY(set_text(o, "source", f->source, f->pair_id, err));
	WL_TRY(set_text(o, "url", f->url, f->pair_id, err));
	WL_TRY(set_text(o, "page_url", f->page_url, f->pair_id, err));
	WL_TRY(set_text(o, "title", f->title, f->pair_id, err));
	return set_boxes(o, f, err);
}

char *wl_sample_json(const struct wl_sample_facts *f, struct wl_err *err)
{
	json_t *o;
	char *text = NULL;

	if (!f->n_captions) {
		wl_err_set(err, WL_EDATA, "pair %lld has no caption, so it cannot be a sample",
			(long long)f->pair_id);
		return NULL;
	}
	o = json_object();
	if (!o) {
		wl_err_nomem(err, "a sample's JSON", 0);
		return NULL;
	}
	if (fill(o, f, err) == 0)
		text = wl_json_text(o, err);
	json_decref(o);
	return text;
}
