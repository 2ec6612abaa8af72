/* The samples of a set as rows; lint and diff over them: see sets.h. */
#include "shards/sets.h"

#include "ops/buf.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "shards/manifest.h"
#include "shards/shard.h"
#include "shards/shard_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXAMPLES = 5, JSON_MAX = 16 << 20 };

/* ---- reading ---- */

static uint32_t characters(const char *s)
{
	uint32_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static int read_json(struct wl_set_row *row, const struct wl_buf *b, struct wl_err *err)
{
	json_t *v = wl_json_parse((const char *)b->data, b->len, row->key, err), *caption, *group;
	size_t i;

	if (!v)
		return -1;
	row->text = wl_hash64(b->data, b->len, 1);
	group = json_object_get(v, "split_group");
	row->group = json_is_integer(group) ? json_integer_value(group) : row->pair_id;
	json_array_foreach(json_object_get(v, "captions"), i, caption)
	{
		const char *s = json_string_value(caption);
		uint32_t n = s ? characters(s) : 0;

		row->captions += n > 0;
		row->longest = n > row->longest ? n : row->longest;
	}
	json_decref(v);
	return 0;
}

static int read_shard(struct wl_set_rows *r, const char *dir, const struct wl_shard_info *s,
	struct wl_shardset *set, int64_t *number, struct wl_err *err)
{
	struct wl_shard_rows rows = {0};
	struct wl_shard_row in;
	struct wl_buf b;
	int rc;

	wl_buf_init(&b, JSON_MAX);
	WL_TRY(wl_shard_rows_open(&rows, dir, s->name, err));
	while ((rc = wl_shard_rows_next(&rows, &in, err)) > 0) {
		struct wl_set_row *row = &r->v[r->n++];

		*row = (struct wl_set_row){.pair_id = in.pair_id,
			.split = (uint32_t)r->n_splits - 1,
			.width = (uint32_t)in.width,
			.height = (uint32_t)in.height};
		memcpy(row->sha256, in.sha256, sizeof row->sha256);
		snprintf(row->key, sizeof row->key, "%s", in.key);
		if (wl_shardset_read(set, (*number)++, NULL, &b, err) < 0 ||
			read_json(row, &b, err) < 0) {
			rc = -1;
			break;
		}
	}
	wl_buf_release(&b);
	wl_shard_rows_close(&rows);
	return rc;
}

static int read_all(struct wl_set_rows *r, const char *dir, const struct wl_manifest *m,
	struct wl_err *err)
{
	struct wl_shardset *set = NULL;
	int64_t number = 0;
	int rc = 0;

	for (size_t i = 0; i < m->n && rc == 0; i++) {
		/* Shards come sorted by name, so those of a split are neighbours. */
		if (!i || strcmp(m->shards[i].split, m->shards[i - 1].split)) {
			wl_shardset_close(set);
			number = 0;
			set = wl_shardset_open(dir, m->shards[i].split, err);
			if (!set || r->n_splits == sizeof r->splits / sizeof *r->splits)
				break;
			memcpy(r->splits[r->n_splits++], m->shards[i].split, WL_SPLIT_MAX);
		}
		rc = read_shard(r, dir, &m->shards[i], set, &number, err);
	}
	rc = set || !m->n ? rc : -1;
	wl_shardset_close(set);
	return rc;
}

int wl_set_rows_read(struct wl_set_rows *r, const char *dir, struct wl_err *err)
{
	struct wl_manifest m;
	size_t n = 0;
	int rc;

	*r = (struct wl_set_rows){0};
	WL_TRY(wl_manifest_read(&m, dir, err));
	for (size_t i = 0; i < m.n; i++)
		n += (size_t)m.shards[i].samples;
	r->v = calloc(n + 1, sizeof *r->v);
	rc = r->v ? read_all(r, dir, &m, err) : wl_err_nomem(err, "a set", n * sizeof *r->v);
	wl_manifest_release(&m);
	if (rc < 0)
		wl_set_rows_release(r);
	return rc;
}

void wl_set_rows_release(struct wl_set_rows *r)
{
	free(r->v);
	*r = (struct wl_set_rows){0};
}

/* ---- lint ---- */

struct finding {
	const char *level, *rule;
	int64_t count;
	json_t *examples;
};

static void found(struct finding *f, const char *format, const char *a, const char *b)
{
	char text[128];

	if (f->count++ >= EXAMPLES)
		return;
	snprintf(text, sizeof text, format, a, b);
	json_array_append_new(f->examples, json_string(text));
}

static int by_pair(const void *a, const void *b)
{
	const struct wl_set_row *x = a, *y = b;

	return x->pair_id != y->pair_id ? (x->pair_id > y->pair_id) - (x->pair_id < y->pair_id)
					: strcmp(x->key, y->key);
}

static int by_picture(const void *a, const void *b)
{
	const struct wl_set_row *x = a, *y = b;
	int d = memcmp(x->sha256, y->sha256, sizeof x->sha256);

	return d ? d : strcmp(x->key, y->key);
}

static int by_group(const void *a, const void *b)
{
	const struct wl_set_row *x = a, *y = b;

	return x->group != y->group ? (x->group > y->group) - (x->group < y->group)
				    : strcmp(x->key, y->key);
}


enum rule {
	PAIR_TWICE,
	PICTURE_LEAK,
	GROUP_LEAK,
	NO_CAPTION,
	TINY,
	LONG_CAPTION,
	PICTURE_TWICE,
	RULES
};

/* Neighbours in each order tell doubles and leaks. */
static void compare_neighbours(struct wl_set_rows *r, struct finding *f)
{
	qsort(r->v, r->n, sizeof *r->v, by_pair);
	for (size_t i = 1; i < r->n; i++)
		if (r->v[i].pair_id == r->v[i - 1].pair_id)
			found(&f[PAIR_TWICE], "%s and %s", r->v[i - 1].key, r->v[i].key);
	qsort(r->v, r->n, sizeof *r->v, by_picture);
	for (size_t i = 1; i < r->n; i++)
		if (!memcmp(r->v[i].sha256, r->v[i - 1].sha256, 32))
			found(&f[r->v[i].split != r->v[i - 1].split ? PICTURE_LEAK : PICTURE_TWICE],
				"%s and %s", r->v[i - 1].key, r->v[i].key);
	qsort(r->v, r->n, sizeof *r->v, by_group);
	for (size_t i = 1; i < r->n; i++)
		if (r->v[i].group == r->v[i - 1].group && r->v[i].split != r->v[i - 1].split)
			found(&f[GROUP_LEAK], "%s and %s", r->v[i - 1].key, r->v[i].key);
}

static void look_at_each(const struct wl_set_rows *r, struct finding *f)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct wl_set_row *x = &r->v[i];

		if (!x->captions)
			found(&f[NO_CAPTION], "%s%s", x->key, "");
		if (x->width < 32 || x->height < 32)
			found(&f[TINY], "%s%s", x->key, "");
		if (x->longest > 512)
			found(&f[LONG_CAPTION], "%s%s", x->key, "");
	}
}

json_t *wl_shards_lint(const char *dir, struct wl_err *err)
{
	struct finding f[RULES] = {
		[PAIR_TWICE] = {.level = "error", .rule = "a pair is there twice"},
		[PICTURE_LEAK] = {.level = "error", .rule = "one picture in two splits"},
		[GROUP_LEAK] = {.level = "error", .rule = "a duplicate group in two splits"},
		[NO_CAPTION] = {.level = "error", .rule = "no caption"},
		[TINY] = {.level = "warning", .rule = "a side under 32 pixels"},
		[LONG_CAPTION] = {.level = "warning", .rule = "a caption over 512 characters"},
		[PICTURE_TWICE] = {.level = "warning", .rule = "one picture twice in a split"},
	};
	json_t *findings = json_array();
	struct wl_set_rows r;
	int64_t errors = 0, warnings = 0;

	if (wl_set_rows_read(&r, dir, err) < 0) {
		json_decref(findings);
		return NULL;
	}
	for (int i = 0; i < RULES; i++)
		f[i].examples = json_array();
	look_at_each(&r, f);
	compare_neighbours(&r, f);
	for (int i = 0; i < RULES; i++) {
		*(*f[i].level == 'e' ? &errors : &warnings) += f[i].count;
		if (f[i].count)
			json_array_append_new(findings,
				json_pack("{s:s, s:s, s:I, s:O}", "level", f[i].level, "rule",
					f[i].rule, "count", (json_int_t)f[i].count, "examples",
					f[i].examples));
		json_decref(f[i].examples);
	}
	findings = json_pack("{s:I, s:I, s:I, s:o}", "samples", (json_int_t)r.n, "errors",
		(json_int_t)errors, "warnings", (json_int_t)warnings, "findings", findings);
	wl_set_rows_release(&r);
	if (!findings)
		wl_err_nomem(err, "the findings", 0);
	return findings;
}

/* ---- diff ---- */

struct diff {
	int64_t same, only_a, only_b, picture, text, split;
	json_t *examples;
};

static void example(struct diff *d, const char *what, const struct wl_set_row *row)
{
	json_t *list = json_object_get(d->examples, what);
	char text[80];

	if (!list) {
		list = json_array();
		json_object_set_new(d->examples, what, list);
	}
	snprintf(text, sizeof text, "%lld (%s)", (long long)row->pair_id, row->key);
	if (json_array_size(list) < EXAMPLES)
		json_array_append_new(list, json_string(text));
}

static void compare(struct diff *d, const struct wl_set_rows *a, const struct wl_set_row *x,
	const struct wl_set_rows *b, const struct wl_set_row *y)
{
	bool picture = memcmp(x->sha256, y->sha256, sizeof x->sha256) != 0;
	bool text = x->text != y->text, split = strcmp(a->splits[x->split], b->splits[y->split]);

	d->picture += picture;
	d->text += text;
	d->split += split;
	d->same += !picture && !text && !split;
	if (picture)
		example(d, "picture", x);
	if (text)
		example(d, "text", x);
	if (split)
		example(d, "split", x);
}

static void walk(struct diff *d, const struct wl_set_rows *a, const struct wl_set_rows *b)
{
	size_t i = 0, j = 0;

	while (i < a->n || j < b->n) {
		const struct wl_set_row *x = i < a->n ? &a->v[i] : NULL;
		const struct wl_set_row *y = j < b->n ? &b->v[j] : NULL;

		if (x && y && x->pair_id == y->pair_id) {
			compare(d, a, x, b, y);
			i++;
			j++;
		} else if (!y || (x && x->pair_id < y->pair_id)) {
			d->only_a++;
			example(d, "only_a", x);
			i++;
		} else {
			d->only_b++;
			example(d, "only_b", y);
			j++;
		}
	}
}

json_t *wl_shards_diff(const char *a, const char *b, struct wl_err *err)
{
	struct wl_set_rows x, y;
	struct diff d = {0};
	json_t *v;

	if (wl_set_rows_read(&x, a, err) < 0)
		return NULL;
	if (wl_set_rows_read(&y, b, err) < 0) {
		wl_set_rows_release(&x);
		return NULL;
	}
	d.examples = json_object();
	qsort(x.v, x.n, sizeof *x.v, by_pair);
	qsort(y.v, y.n, sizeof *y.v, by_pair);
	walk(&d, &x, &y);
	v = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "same", (json_int_t)d.same, "only_a",
		(json_int_t)d.only_a, "only_b", (json_int_t)d.only_b, "picture",
		(json_int_t)d.picture, "text", (json_int_t)d.text, "split", (json_int_t)d.split,
		"examples", d.examples);
	wl_set_rows_release(&x);
	wl_set_rows_release(&y);
	if (!v)
		wl_err_nomem(err, "the differences", 0);
	return v;
}
