/* The page of wenlan-shard stats: see stats.h. */
#include "shards/stats.h"

#include "ingest/image.h"
#include "ingest/report.h"
#include "ops/html.h"
#include "ops/json.h"
#include "shards/count.h"
#include "shards/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOKED_AT = 2000, SHOWN = 12, JSON_MAX = 16 << 20, MOST = 24 };

/* Lengths of captions in characters; the last range is open. */
static const char *const length_names[] = {
	"1 to 5", "6 to 10", "11 to 20", "21 to 40", "41 to 80", "81 and more"};
static const size_t length_ends[] = {5, 10, 20, 40, 80};
enum { LENGTHS = 6 };

struct seen { /* in the samples that were looked at */
	double lengths[LENGTHS], scripts[WL_SCRIPT_COUNT], captions, boxes;
	int64_t samples;
};

/* ---- tables and bars ---- */

static const char *text_of(char (*cells)[64], size_t *n, const char *fmt, double v)
{
	snprintf(cells[*n], sizeof *cells, fmt, v);
	return cells[(*n)++];
}

static int put_splits(struct wl_html *h, const json_t *splits, struct wl_err *err)
{
	static const char *const head[] = {"split", "shards", "samples", "GB", "left out",
		"mean JPEG, bytes", "mean megapixels"};
	enum { COLS = sizeof head / sizeof *head, ROWS = 33 };
	const char *cells[ROWS * COLS];
	char text[ROWS * COLS][64];
	const char *name;
	size_t row = 1, n = 0;
	const json_t *t;

	memcpy(cells, head, sizeof head);
	json_object_foreach((json_t *)splits, name, t)
	{
		const char **c = cells + COLS * row;

		if (++row == ROWS)
			break;
#define NUMBER(key) json_number_value(json_object_get(t, key))
		c[0] = name;
		c[1] = text_of(text, &n, "%.0f", NUMBER("shards"));
		c[2] = text_of(text, &n, "%.0f", NUMBER("samples"));
		c[3] = text_of(text, &n, "%.3f", NUMBER("bytes") / 1e9);
		c[4] = text_of(text, &n, "%.0f", NUMBER("rejected"));
		c[5] = text_of(text, &n, "%.0f", NUMBER("mean_jpg_bytes"));
		c[6] = text_of(text, &n, "%.2f", NUMBER("mean_megapixels"));
#undef NUMBER
	}
	return wl_html_table(h, row, COLS, cells, "Every sample is counted", err);
}

/* An object of numbers as bars: the first MOST of them. */
static int put_counts(
	struct wl_html *h, const char *title, const json_t *counts, struct wl_err *err)
{
	const char *names[MOST], *key;
	double values[MOST];
	const json_t *v;
	size_t n = 0;

	json_object_foreach((json_t *)counts, key, v)
	{
		if (n == MOST)
			break;
		names[n] = *key ? key : "(none)";
		values[n++] = json_number_value(v);
	}
	return n ? wl_html_bars(h, title, names, values, n, err) : 0;
}

/* The same ranges of all splits added up. */
static json_t *over_splits(const json_t *splits, const char *what)
{
	json_t *sum = json_object();
	const char *split, *key;
	const json_t *t, *v;

	json_object_foreach((json_t *)splits, split, t)
		json_object_foreach(json_object_get(t, what), key, v) json_object_set_new(sum, key,
			json_integer(json_integer_value(v) +
				     json_integer_value(json_object_get(sum, key))));
	return sum;
}

static int put_ranges(struct wl_html *h, const char *title, const json_t *splits, const char *what,
	struct wl_err *err)
{
	json_t *sum = over_splits(splits, what);
	int rc = put_counts(h, title, sum, err);

	json_decref(sum);
	return rc;
}

/* ---- samples ---- */

static size_t characters(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static void look_at(struct seen *k, const json_t *sample)
{
	const json_t *captions = json_object_get(sample, "captions"), *v;
	size_t i;

	json_array_foreach(captions, i, v)
	{
		const char *s = json_string_value(v);
		size_t n = s ? characters(s) : 0, at = 0;

		if (!n)
			continue;
		while (at < LENGTHS - 1 && n > length_ends[at])
			at++;
		k->lengths[at]++;
		k->scripts[wl_script_of(s)]++;
		k->captions++;
	}
	k->boxes += (double)json_array_size(json_object_get(sample, "boxes"));
	k->samples++;
}

static int show(struct wl_html *h, const char *key, const struct wl_buf *jpg, const json_t *sample,
	struct wl_err *err)
{
	const char *s = json_string_value(json_array_get(json_object_get(sample, "captions"), 0));

	WL_TRY(wl_html_raw(h, "<figure>", err));
	WL_TRY(wl_report_thumbnail(h, jpg->data, jpg->len, s ? s : "", err));
	WL_TRY(wl_html_raw(h, "<figcaption><b>", err));
	WL_TRY(wl_html_text(h, key, err));
	WL_TRY(wl_html_raw(h, "</b> ", err));
	WL_TRY(wl_html_text(h, s ? s : "", err));
	return wl_html_raw(h, "</figcaption></figure>\n", err);
}

static int look_at_split(
	struct wl_html *h, const char *dir, const char *split, struct seen *k, struct wl_err *err)
{
	struct wl_shardset *s = wl_shardset_open(dir, split, err);
	struct wl_buf jpg, json;
	int64_t shown = 0, n = s ? wl_shardset_size(s) : 0;
	int ret = s ? 0 : -1;

	wl_buf_init(&jpg, WL_IMAGE_MAX_BYTES);
	wl_buf_init(&json, JSON_MAX);
	for (int64_t i = 0; i < n && i < LOOKED_AT && ret == 0; i++) {
		char key[WL_KEY_MAX];
		json_t *v;

		if (wl_shardset_dead(s, i))
			continue;
		wl_shardset_key(s, i, key);
		ret = wl_shardset_read(s, i, shown < SHOWN ? &jpg : NULL, &json, err);
		v = ret == 0 ? wl_json_parse(json.data, json.len, key, err) : NULL;
		if (!v) {
			ret = -1;
			break;
		}
		look_at(k, v);
		if (shown++ < SHOWN)
			ret = show(h, key, &jpg, v, err);
		json_decref(v);
	}
	wl_buf_release(&jpg);
	wl_buf_release(&json);
	wl_shardset_close(s);
	return ret;
}

static int put_seen(struct wl_html *h, const struct seen *k, struct wl_err *err)
{
	double samples = k->samples ? (double)k->samples : 1;
	const char *scripts[WL_SCRIPT_COUNT];
	char text[160];

	for (int i = 0; i < WL_SCRIPT_COUNT; i++)
		scripts[i] = wl_script_name((enum wl_script)i);
	snprintf(text, sizeof text,
		"Of %s, the first of each split: %.2f captions and %.1f boxes each.",
		wl_count(k->samples, "sample").s, k->captions / samples, k->boxes / samples);
	WL_TRY(wl_html_heading(h, 2, "Captions", err));
	WL_TRY(wl_html_para(h, text, err));
	WL_TRY(wl_html_bars(
		h, "Language, by the letters", scripts, k->scripts, WL_SCRIPT_COUNT, err));
	return wl_html_bars(h, "Length, characters", length_names, k->lengths, LENGTHS, err);
}

static int put_all(struct wl_html *h, const char *dir, const json_t *stats, struct wl_err *err)
{
	const json_t *splits = json_object_get(stats, "splits"), *t;
	struct seen k = {0};
	const char *split;
	char text[256];

	snprintf(text, sizeof text, "%.100s, fingerprint %s, %lld taken down", dir,
		json_string_value(json_object_get(stats, "fingerprint")),
		(long long)json_integer_value(json_object_get(stats, "tombstones")));
	WL_TRY(wl_html_para(h, text, err));
	WL_TRY(put_splits(h, splits, err));
	WL_TRY(put_counts(h, "Samples by source", json_object_get(stats, "sources"), err));
	WL_TRY(put_counts(h, "Samples by topic", json_object_get(stats, "topics"), err));
	WL_TRY(put_ranges(h, "Shorter side, pixels", splits, "shorter_side", err));
	WL_TRY(put_ranges(h, "Bytes of the picture", splits, "jpg_bytes", err));
	json_object_foreach((json_t *)splits, split, t)
	{
		snprintf(text, sizeof text, "The first samples of %s", split);
		WL_TRY(wl_html_heading(h, 2, text, err));
		WL_TRY(wl_html_raw(h, "<div class=\"k\">\n", err));
		WL_TRY(look_at_split(h, dir, split, &k, err));
		WL_TRY(wl_html_raw(h, "</div>\n", err));
	}
	return put_seen(h, &k, err);
}

int wl_shards_stats_page(const char *dir, const json_t *stats, const char *path, struct wl_err *err)
{
	struct wl_html h;
	int rc;

	WL_TRY(wl_html_init(&h, "Shards", err));
	rc = put_all(&h, dir, stats, err);
	if (rc == 0)
		rc = wl_html_save(&h, path, err);
	wl_html_release(&h);
	return rc;
}
