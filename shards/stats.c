/* Counting a shard set: see stats.h. */
#include "shards/stats.h"

#include "ops/json.h"
#include "shards/shard_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Upper ends of the ranges that are counted; 0: all that is left. */
static const int64_t side_ends[] = {64, 128, 224, 320, 480, 640, 1024, 2048, 0};
static const int64_t byte_ends[] = {8000, 16000, 32000, 64000, 128000, 256000, 512000, 1024000, 0};
enum { SIDES = sizeof side_ends / sizeof *side_ends, BYTES = sizeof byte_ends / sizeof *byte_ends };

struct totals {
	char split[WL_SPLIT_MAX];
	int64_t shards, samples, bytes, jpg_bytes, jpg_max, rejected;
	int64_t sides[SIDES], sizes[BYTES];
	double pixels;
};

static void count(int64_t v, const int64_t *ends, int64_t *counts)
{
	size_t i = 0;

	while (ends[i] && v >= ends[i])
		i++;
	counts[i]++;
}

static int add_shard(
	const char *dir, const struct wl_shard_info *s, struct totals *t, struct wl_err *err)
{
	struct wl_shard_rows rows;
	struct wl_shard_row r;
	int rc;

	t->shards++;
	t->samples += s->samples;
	t->bytes += s->bytes;
	t->rejected += s->rejected;
	WL_TRY(wl_shard_rows_open(&rows, dir, s->name, err));
	while ((rc = wl_shard_rows_next(&rows, &r, err)) > 0) {
		int64_t n = r.length[WL_MEMBER_JPG];

		t->jpg_bytes += n;
		t->jpg_max = n > t->jpg_max ? n : t->jpg_max;
		t->pixels += (double)r.width * (double)r.height;
		count(r.width < r.height ? r.width : r.height, side_ends, t->sides);
		count(n, byte_ends, t->sizes);
	}
	wl_shard_rows_close(&rows);
	return rc;
}

/* {"under 64": n, ..., "2048 and more": n}, in their order. */
static json_t *ranges_json(const int64_t *ends, const int64_t *counts)
{
	json_t *v = json_object();
	char name[64];
	size_t i = 0;

	for (; ends[i]; i++) {
		if (i)
			snprintf(name, sizeof name, "%lld to %lld", (long long)ends[i - 1],
				(long long)ends[i] - 1);
		else
			snprintf(name, sizeof name, "under %lld", (long long)ends[i]);
		json_object_set_new(v, name, json_integer(counts[i]));
	}
	snprintf(name, sizeof name, "%lld and more", (long long)ends[i - 1]);
	json_object_set_new(v, name, json_integer(counts[i]));
	return v;
}

static json_t *totals_json(const struct totals *t)
{
	double n = t->samples ? (double)t->samples : 1;

	return json_pack("{s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:o, s:o}", "shards",
		(json_int_t)t->shards, "samples", (json_int_t)t->samples, "bytes",
		(json_int_t)t->bytes, "rejected", (json_int_t)t->rejected, "mean_jpg_bytes",
		(double)t->jpg_bytes / n, "max_jpg_bytes", (json_int_t)t->jpg_max,
		"mean_megapixels", t->pixels / n / 1e6, "shorter_side",
		ranges_json(side_ends, t->sides), "jpg_bytes", ranges_json(byte_ends, t->sizes));
}

/* The manifest keeps nested counts as JSON text. */
static json_t *meta_json(const struct wl_manifest *m, const char *key)
{
	const char *text = json_string_value(json_object_get(m->meta, key));
	json_t *v = text ? wl_json_parse(text, strlen(text), key, NULL) : NULL;

	return v ? v : json_object();
}

static int add_splits(
	const char *dir, const struct wl_manifest *m, json_t *splits, struct wl_err *err)
{
	struct totals t = {0};

	for (size_t i = 0; i < m->n; i++) {
		/* Shards come sorted by name, so those of a split are neighbours. */
		if (strcmp(t.split, m->shards[i].split)) {
			t = (struct totals){0};
			memcpy(t.split, m->shards[i].split, WL_SPLIT_MAX);
		}
		WL_TRY(add_shard(dir, &m->shards[i], &t, err));
		if (i + 1 == m->n || strcmp(t.split, m->shards[i + 1].split))
			json_object_set_new(splits, t.split, totals_json(&t));
	}
	return 0;
}

json_t *wl_shards_stats(const char *dir, struct wl_err *err)
{
	json_t *splits = json_object(), *all = NULL;
	struct wl_manifest m;

	if (wl_manifest_read(&m, dir, err) < 0) {
		json_decref(splits);
		return NULL;
	}
	if (add_splits(dir, &m, splits, err) == 0) {
		all = json_pack("{s:s, s:I, s:O, s:o, s:o, s:O}", "fingerprint", m.fingerprint,
			"tombstones", (json_int_t)m.n_tombstones, "splits", splits, "sources",
			meta_json(&m, "samples_by_source"), "topics",
			meta_json(&m, "samples_by_topic"), "meta", m.meta);
		if (!all)
			wl_err_nomem(err, "the counts", 0);
	}
	json_decref(splits);
	wl_manifest_release(&m);
	return all;
}
