/*
 * The JSON form of a record, in both dialects.  Written for hostile input: whatever is not of
 * the expected form rejects the record with the member's name; nothing is guessed.  Most records
 * never come here: record_flat.c takes them.
 */
#include "ingest/record_priv.h"

#include "ops/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A string member into the arena; absent or null leaves *out alone. */
static int take_str(
	struct wl_record *r, const json_t *o, const char *key, const char **out, struct wl_err *err)
{
	const json_t *v = json_object_get(o, key);
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v))
		return wl_record_reject(r, err, "wrong JSON: \"%s\" is not a string", key);
	*out = wl_arena_strdup(&r->mem, json_string_value(v), err);
	return *out ? 0 : -1;
}

/* A tree as compact text in the arena. */
static int take_tree(struct wl_record *r, const json_t *v, const char **out, struct wl_err *err)
{
	char *s = wl_json_text(v, err);
	if (!s)
		return -1;
	*out = wl_arena_strdup(&r->mem, s, err);
	free(s);
	return *out ? 0 : -1;
}

/* ---- texts ---- */

static bool is_blank(const char *s)
{
	return s[strspn(s, " \t\r\n\v\f")] == '\0';
}

static int add_text(json_t *texts, const char *kind, const json_t *text, struct wl_err *err)
{
	if (is_blank(json_string_value(text)))
		return 0;
	json_t *pair = json_pack("[s, O]", kind, text);
	if (!pair || json_array_append_new(texts, pair) < 0)
		return wl_err_nomem(err, "a text", 0);
	return 0;
}

/* One element of a list: "text" or ["kind", "text"]. */
static int add_element(
	struct wl_record *r, json_t *texts, const char *key, const json_t *v, struct wl_err *err)
{
	const json_t *kind = json_array_get(v, 0), *text = json_array_get(v, 1);
	if (json_is_string(v))
		return add_text(texts, "caption", v, err);
	if (json_array_size(v) == 2 && json_is_string(kind) && json_is_string(text))
		return add_text(texts, json_string_value(kind), text, err);
	return wl_record_reject(r, err,
		"wrong JSON: \"%s\" holds something that is neither a text nor [kind, text]", key);
}

static int add_texts(
	struct wl_record *r, json_t *texts, const json_t *o, const char *key, struct wl_err *err)
{
	const json_t *v = json_object_get(o, key);
	size_t i;
	json_t *e;
	if (!v || json_is_null(v))
		return 0;
	if (json_is_string(v))
		return add_text(texts, strcmp(key, "title") == 0 ? "title" : "caption", v, err);
	if (!json_is_array(v) || strcmp(key, "title") == 0)
		return wl_record_reject(r, err, "wrong JSON: \"%s\" is not text", key);
	json_array_foreach(v, i, e) WL_TRY(add_element(r, texts, key, e, err));
	return 0;
}

static int take_texts(struct wl_record *r, const json_t *o, struct wl_err *err)
{
	/* Captions first: the title is the weakest text. */
	static const char *const keys[] = {"captions", "caption", "text", "sentences", "title"};
	json_t *texts = json_array();
	int ret = -1;
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		WL_TRY_OUT(add_texts(r, texts, o, keys[i], err));
	if (json_array_size(texts))
		WL_TRY_OUT(take_tree(r, texts, &r->pair.texts, err));
	ret = 0;
out:
	json_decref(texts);
	return ret;
}

/* ---- boxes, split, meta ---- */

static bool is_box(const json_t *b)
{
	if (json_array_size(b) != 4)
		return false;
	for (size_t i = 0; i < 4; i++) {
		const json_t *v = json_array_get(b, i);
		if (!json_is_number(v) || !isfinite(json_number_value(v)))
			return false;
	}
	return json_number_value(json_array_get(b, 0)) <= json_number_value(json_array_get(b, 2)) &&
	       json_number_value(json_array_get(b, 1)) <= json_number_value(json_array_get(b, 3));
}

static int take_boxes(struct wl_record *r, const json_t *o, struct wl_err *err)
{
	const json_t *v = json_object_get(o, "boxes");
	size_t i;
	json_t *b;
	if (!v)
		v = json_object_get(o, "bbox");
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_array(v))
		return wl_record_reject(r, err, "wrong JSON: boxes are not a list");
	json_array_foreach(v, i, b) if (!is_box(b)) return wl_record_reject(r, err,
		"wrong JSON: box %zu is not [x1, y1, x2, y2] with x1 <= x2 and y1 <= y2", i);
	return take_tree(r, v, &r->pair.boxes, err);
}

const char *wl_record_split(const char *s, size_t n)
{
	static const struct {
		const char *name, *split;
	} known[] = {{"train", "train"}, {"val", "val"}, {"test", "test"}, {"", ""}, {"dev", "val"},
		{"valid", "val"}, {"validation", "val"}, {"restval", "train"}};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strlen(known[i].name) == n && memcmp(s, known[i].name, n) == 0)
			return known[i].split;
	return NULL;
}

static int take_split(struct wl_record *r, const json_t *o, struct wl_err *err)
{
	const char *s = "";
	WL_TRY(take_str(r, o, "split", &s, err));
	const char *split = wl_record_split(s, strlen(s));
	if (!split)
		return wl_record_reject(
			r, err, "wrong JSON: split \"%.40s\" is not train, val or test", s);
	r->pair.split_hint = split;
	return 0;
}

static int take_fetched(struct wl_record *r, const json_t *o, struct wl_err *err)
{
	const json_t *v = json_object_get(o, "fetched_at");
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_integer(v))
		return wl_record_reject(
			r, err, "wrong JSON: \"fetched_at\" is not a whole number of seconds");
	r->pair.fetched_at = json_integer_value(v);
	return 0;
}

/* The object's own meta, and every member that means nothing here: nothing is lost. */
static int take_meta(struct wl_record *r, json_t *o, struct wl_err *err)
{
	static const char *const used[] = {"source", "url", "page_url", "title", "text", "captions",
		"caption", "image", "image_b64", "image_url", "boxes", "split", "fetched_at",
		"meta", "image_id", "sentences", "bbox"};
	json_t *meta = json_object_get(o, "meta");
	int ret = 0;
	if (meta && !json_is_null(meta) && !json_is_object(meta))
		return wl_record_reject(r, err, "wrong JSON: \"meta\" is not an object");
	meta = json_is_object(meta) ? json_incref(meta) : json_object();
	for (size_t i = 0; i < sizeof used / sizeof *used; i++)
		json_object_del(o, used[i]);
	if (json_object_update_missing(meta, o) < 0)
		ret = wl_err_nomem(err, "meta", 0);
	if (ret == 0 && json_object_size(meta))
		ret = take_tree(r, meta, &r->pair.meta, err);
	json_decref(meta);
	return ret;
}

/* ---- the image ---- */

/* The value of each base64 digit, of RFC 4648's standard and URL-safe alphabets; -1: it is none. */
static const int8_t b64_value[256] = {
#define NONE8 -1, -1, -1, -1, -1, -1, -1, -1
#define NONE32 NONE8, NONE8, NONE8, NONE8
	NONE32,								/* control characters */
	NONE8, -1, -1, -1, 62, -1, 62, -1, 63,				/* + - / */
	52, 53, 54, 55, 56, 57, 58, 59, 60, 61, -1, -1, -1, -1, -1, -1, /* 0-9 */
	-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
	24, 25, -1, -1, -1, -1, 63, /* A-Z _ */
	-1, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
	48, 49, 50, 51, -1, -1, -1, -1, -1, /* a-z */
	NONE32, NONE32, NONE32, NONE32,	    /* not ASCII */
#undef NONE8
#undef NONE32
};

/* Whole groups of four digits, as far as there are any; gives how many characters those are. */
static size_t b64_groups(const char *s, size_t n, char **out)
{
	size_t i = 0;
	char *w = *out;
	for (; n - i >= 4; i += 4, w += 3) {
		int a = b64_value[(uint8_t)s[i]], b = b64_value[(uint8_t)s[i + 1]],
		    c = b64_value[(uint8_t)s[i + 2]], d = b64_value[(uint8_t)s[i + 3]];
		if ((a | b | c | d) < 0)
			break;
		unsigned v = (unsigned)a << 18 | (unsigned)b << 12 | (unsigned)c << 6 | (unsigned)d;
		w[0] = (char)(v >> 16);
		w[1] = (char)(v >> 8);
		w[2] = (char)v;
	}
	*out = w;
	return i;
}

/* What follows "data:image/png;base64,", or all of it. */
static const char *skip_data_prefix(const char *s, size_t *n)
{
	const char *comma = *n > 5 && memcmp(s, "data:", 5) == 0 ? memchr(s, ',', *n) : NULL;
	if (!comma)
		return s;
	*n -= (size_t)(comma + 1 - s);
	return comma + 1;
}

bool wl_base64_plain(const char *s, size_t n, struct wl_buf *out, struct wl_err *err)
{
	s = skip_data_prefix(s, &n);
	wl_buf_reset(out);
	if (n / 4 * 3 > out->max || wl_buf_reserve(out, n / 4 * 3 + 3, err) < 0)
		return false;
	char *w = out->data;
	size_t i = b64_groups(s, n, &w), left = n - i;
	/* The last group: two digits and "==", or three and "=". */
	if (left) {
		int a = left == 4 ? b64_value[(uint8_t)s[i]] : -1,
		    b = left == 4 ? b64_value[(uint8_t)s[i + 1]] : -1,
		    c = left == 4 && s[i + 2] != '=' ? b64_value[(uint8_t)s[i + 2]] : 0;
		if ((a | b | c) < 0 || s[i + 3] != '=')
			return false;
		*w++ = (char)(a << 2 | b >> 4);
		if (s[i + 2] != '=')
			*w++ = (char)(b << 4 | c >> 2);
	}
	*w = '\0';
	out->len = (size_t)(w - out->data);
	return true;
}

int wl_record_base64(struct wl_record *r, const char *s, const char *what, struct wl_buf *out,
	struct wl_err *err)
{
	uint32_t acc = 0;
	int bits = 0;
	size_t n = strlen(s), i = 0;
	s = skip_data_prefix(s, &n);
	if (n / 4 * 3 > out->max)
		return wl_record_reject(r, err, "%s is too large: %zu characters", what, n);
	wl_buf_reset(out);
	WL_TRY(wl_buf_reserve(out, n / 4 * 3 + 3, err));
	char *w = out->data;
	for (; i < n && s[i] != '='; i++) {
		if (!bits)
			i += b64_groups(s + i, n - i, &w);
		if (i == n || s[i] == '=')
			break;
		int v = b64_value[(uint8_t)s[i]];
		if (v < 0 && strchr(" \r\n\t", s[i]))
			continue;
		if (v < 0)
			return wl_record_reject(r, err,
				"%s is not base64: character %zu is byte 0x%02x", what, i,
				(unsigned char)s[i]);
		acc = acc << 6 | (uint32_t)v;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			*w++ = (char)(acc >> bits & 0xff);
		}
	}
	*w = '\0';
	out->len = (size_t)(w - out->data);
	if (s[i + strspn(s + i, "= \r\n\t")] != '\0' || bits == 6)
		return wl_record_reject(r, err, "%s is not base64: it ends wrongly", what);
	return 0;
}

static int take_image(
	struct wl_record *r, const json_t *o, struct wl_image_ref *ref, struct wl_err *err)
{
	const char *b64 = NULL, *id = NULL;
	const json_t *v = json_object_get(o, "image_b64");
	WL_TRY(take_str(r, o, "image", &ref->path, err));
	WL_TRY(take_str(r, o, "image_id", &id, err));
	WL_TRY(take_str(r, o, "image_url", &ref->url, err));
	if (v && !json_is_null(v) && !r->has_image) {
		b64 = json_string_value(v); /* megabytes: decoded in place, not copied */
		if (!b64)
			return wl_record_reject(
				r, err, "wrong JSON: \"image_b64\" is not a string");
		WL_TRY(wl_record_base64(r, b64, "image_b64", &r->image, err));
		r->has_image = !r->reason;
		return 0;
	}
	if (!ref->path)
		ref->path = id;
	return 0;
}

int wl_record_object(struct wl_record *r, json_t *o, struct wl_image_ref *ref, struct wl_err *err)
{
	*ref = (struct wl_image_ref){0};
	if (!json_is_object(o))
		return wl_record_reject(r, err, "wrong JSON: it is not an object");
	/* Who it is comes first: a record that is rejected later has its id all the same. */
	WL_TRY(take_str(r, o, "source", &r->pair.source, err));
	WL_TRY(take_str(r, o, "url", &r->pair.url, err));
	WL_TRY(take_str(r, o, "page_url", &r->pair.page_url, err));
	WL_TRY(take_texts(r, o, err));
	WL_TRY(take_boxes(r, o, err));
	WL_TRY(take_split(r, o, err));
	WL_TRY(take_fetched(r, o, err));
	WL_TRY(take_image(r, o, ref, err));
	if (ref->url && !*r->pair.url)
		r->pair.url = ref->url;
	return take_meta(r, o, err);
}

int wl_record_parse(
	struct wl_record *r, const char *text, size_t n, json_t **out, struct wl_err *err)
{
	json_error_t why;
	*out = json_loadb(text, n, 0, &why);
	if (*out)
		return 0;
	return wl_record_reject(
		r, err, "wrong JSON: %s (byte %d of %zu)", why.text, why.position, n);
}

int wl_record_json(struct wl_record *r, const char *text, size_t n, struct wl_image_ref *ref,
	struct wl_err *err)
{
	json_t *o;
	*ref = (struct wl_image_ref){0};
	int flat = wl_record_flat(r, text, n, ref, err);
	if (flat)
		return flat < 0 ? -1 : 0;
	WL_TRY(wl_record_parse(r, text, n, &o, err));
	if (!o)
		return 0;
	int ret = wl_record_object(r, o, ref, err);
	json_decref(o);
	return ret;
}
