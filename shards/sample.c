/*
 * KEY.json: see write.h.  Written straight into a buffer, since building a tree of values first
 * takes as long as all else that is done for a small picture; the bytes are those that jansson
 * gives for the tree (compact, sorted keys), which a test compares.
 */
#include "shards/write.h"

#include "clean/utf8.h"
#include "ops/buf.h"
#include "ops/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_MAX = 256 << 20, JSON_USUAL = 1000 };

/* The escape of a byte that cannot stand in a JSON string as it is; its length. */
static size_t escape(unsigned char c, char out[8])
{
	static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
	const char *at = c ? strchr(plain, c) : NULL;

	out[0] = '\\';
	if (at) {
		out[1] = letter[at - plain];
		return 2;
	}
	return (size_t)snprintf(out + 1, 7, "u%04X", c) + 1;
}

/* Adds s in quotes: 0; -1 with err: no memory; 1: it is not UTF-8. */
static int add_string(struct wl_buf *b, const char *s, struct wl_err *err)
{
	size_t n = strlen(s), i = 0, from = 0;
	char esc[8];
	bool ok = true;

	WL_TRY(wl_buf_putc(b, '"', err));
	while (i < n) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x80) {
			wl_utf8_next(s, n, &i, &ok);
			continue;
		}
		if (c >= 0x20 && c != '"' && c != '\\') {
			i++;
			continue;
		}
		WL_TRY(wl_buf_add(b, s + from, i - from, err));
		WL_TRY(wl_buf_add(b, esc, escape(c, esc), err));
		from = ++i;
	}
	WL_TRY(wl_buf_add(b, s + from, n - from, err));
	WL_TRY(wl_buf_putc(b, '"', err));
	return ok ? 0 : 1;
}

/* ,"key":"s" ; NULL is stored as "". */
static int add_text(
	struct wl_buf *b, const char *key, const char *s, int64_t pair_id, struct wl_err *err)
{
	int rc;

	WL_TRY(wl_buf_puts(b, ",\"", err));
	WL_TRY(wl_buf_puts(b, key, err));
	WL_TRY(wl_buf_puts(b, "\":", err));
	WL_TRY(rc = add_string(b, s ? s : "", err));
	return !rc ? 0
		   : wl_err_set(err, WL_EDATA,
			     "pair %lld: its %s is not valid UTF-8, so no shard can hold it",
			     (long long)pair_id, key);
}

static int add_int(struct wl_buf *b, const char *key, int64_t v, struct wl_err *err)
{
	uint64_t rest = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
	char digits[24], *p = digits + sizeof digits;

	do
		*--p = (char)('0' + rest % 10);
	while (rest /= 10);
	if (v < 0)
		*--p = '-';
	WL_TRY(wl_buf_puts(b, ",\"", err));
	WL_TRY(wl_buf_puts(b, key, err));
	WL_TRY(wl_buf_puts(b, "\":", err));
	return wl_buf_add(b, p, (size_t)(digits + sizeof digits - p), err);
}

static int add_boxes(struct wl_buf *b, const struct wl_sample_facts *f, struct wl_err *err)
{
	char what[64], *text;
	json_t *boxes;
	int rc;

	if (!f->boxes || !*f->boxes)
		return wl_buf_puts(b, "{\"boxes\":null", err);
	snprintf(what, sizeof what, "boxes of pair %lld", (long long)f->pair_id);
	boxes = wl_json_parse(f->boxes, strlen(f->boxes), what, err);
	text = boxes ? wl_json_text(boxes, err) : NULL;
	rc = text ? wl_buf_puts(b, "{\"boxes\":", err) : -1;
	if (rc == 0)
		rc = wl_buf_puts(b, text, err);
	json_decref(boxes);
	free(text);
	return rc;
}

static int add_captions(struct wl_buf *b, const struct wl_sample_facts *f, struct wl_err *err)
{
	WL_TRY(wl_buf_puts(b, ",\"captions\":[", err));
	for (size_t i = 0; i < f->n_captions; i++) {
		int rc;

		if (i)
			WL_TRY(wl_buf_putc(b, ',', err));
		WL_TRY(rc = add_string(b, f->captions[i], err));
		if (rc)
			return wl_err_set(err, WL_EDATA,
				"pair %lld: its caption %zu is not valid UTF-8, so no shard can "
				"hold it",
				(long long)f->pair_id, i);
	}
	return wl_buf_putc(b, ']', err);
}

/* In the order of the keys. */
static int fill(struct wl_buf *b, const struct wl_sample_facts *f, struct wl_err *err)
{
	WL_TRY(add_boxes(b, f, err));
	WL_TRY(add_captions(b, f, err));
	if (f->category)
		WL_TRY(add_text(b, "category", f->category, f->pair_id, err));
	WL_TRY(add_int(b, "height", f->height, err));
	WL_TRY(add_text(b, "page_url", f->page_url, f->pair_id, err));
	WL_TRY(add_int(b, "pair_id", f->pair_id, err));
	WL_TRY(add_text(b, "source", f->source, f->pair_id, err));
	WL_TRY(add_int(b, "split_group", f->split_group, err));
	WL_TRY(add_text(b, "title", f->title, f->pair_id, err));
	if (f->topic < 0)
		WL_TRY(wl_buf_puts(b, ",\"topic\":null", err));
	else
		WL_TRY(add_int(b, "topic", f->topic, err));
	WL_TRY(add_text(b, "url", f->url, f->pair_id, err));
	WL_TRY(add_int(b, "width", f->width, err));
	return wl_buf_putc(b, '}', err);
}

char *wl_sample_json(const struct wl_sample_facts *f, struct wl_err *err)
{
	struct wl_buf b;

	if (!f->n_captions) {
		wl_err_set(err, WL_EDATA, "pair %lld has no caption, so it cannot be a sample",
			(long long)f->pair_id);
		return NULL;
	}
	wl_buf_init(&b, JSON_MAX);
	if (wl_buf_reserve(&b, JSON_USUAL, err) == 0 && fill(&b, f, err) == 0)
		return b.data;
	wl_buf_release(&b);
	return NULL;
}
