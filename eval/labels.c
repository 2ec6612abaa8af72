/* See labels.h. */
#include "eval/labels.h"
#include "eval/jsonlines.h"
#include "eval/trouble.h"
#include "ops/file.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void wl_labels_release(struct wl_labels *l)
{
	if (l)
		wl_intern_release(&l->names);
}

static int split_lines(struct wl_labels *l, const char *path, const char *s, struct wl_err *err)
{
	size_t line = 0;

	while (*s) {
		size_t n = strcspn(s, "\n"), kept = n;

		line++;
		while (kept && strchr(" \t\r", s[kept - 1]))
			kept--;
		if (kept) {
			uint32_t before = l->names.n;
			int64_t id = wl_intern_str(&l->names, s, kept, err);

			if (id < 0)
				return -1;
			if (id != before)
				return wl_err_set(err, WL_EDATA,
					"%s, line %zu: the label %.80s comes twice", path, line,
					l->names.name[id]);
		}
		s += n + (s[n] == '\n');
	}
	return l->names.n ? 0 : wl_err_set(err, WL_EDATA, "%s holds no labels; one name a line "
		"is expected", path);
}

int wl_labels_load(struct wl_labels *l, const char *path, struct wl_err *err)
{
	struct wl_buf b;
	int ret = -1;

	*l = (struct wl_labels){0};
	wl_buf_init(&b, 1 << 28);
	if (!wl_read_file(path, &b, err))
		ret = split_lines(l, path, wl_buf_str(&b), err);
	wl_buf_release(&b);
	if (ret)
		wl_labels_release(l);
	return ret;
}

struct id_place {
	int64_t id, place;
};

enum { UNKNOWN_IMAGE, UNKNOWN_LABEL, TWICE, KINDS };

struct truth {
	const struct wl_labels *labels;
	const char *path;
	struct id_place *place; /* [n_images], by id */
	int64_t n_images;
	bool *seen;
	int64_t *image, *label, n, cap;
	struct wl_trouble trouble[KINDS];
};

static int by_id(const void *a, const void *b)
{
	int64_t x = ((const struct id_place *)a)->id, y = ((const struct id_place *)b)->id;

	return (x > y) - (x < y);
}

static int add_pair(struct truth *t, int64_t image, int64_t label, struct wl_err *err)
{
	if (t->n == t->cap) {
		int64_t cap = t->cap ? 2 * t->cap : 1024;
		int64_t *a = realloc(t->image, (size_t)cap * sizeof *a), *b;

		if (a)
			t->image = a;
		b = a ? realloc(t->label, (size_t)cap * sizeof *b) : NULL;
		if (!b)
			return wl_err_nomem(err, "labels", (size_t)cap * 16);
		t->label = b;
		t->cap = cap;
	}
	t->image[t->n] = image;
	t->label[t->n++] = label;
	return 0;
}

/* The number of a known name, -1 for another: the table is not touched. */
static int64_t find_label(const struct wl_labels *l, const char *name)
{
	for (uint32_t i = 0; i < l->names.n; i++)
		if (!strcmp(l->names.name[i], name))
			return i;
	return -1;
}

static int add_label(
	struct truth *t, int64_t image, const json_t *v, size_t line, struct wl_err *err)
{
	int64_t label;

	if (!json_is_string(v))
		return wl_err_set(
			err, WL_EDATA, "%s, line %zu: a label is not a string", t->path, line);
	label = find_label(t->labels, json_string_value(v));
	if (label < 0) {
		wl_trouble_note(&t->trouble[UNKNOWN_LABEL], json_string_value(v));
		return 0;
	}
	return add_pair(t, image, label, err);
}

static int truth_line(json_t *o, size_t line, void *user, struct wl_err *err)
{
	struct truth *t = user;
	const json_t *id = json_object_get(o, "image_id"), *list = json_object_get(o, "labels");
	const json_t *one = json_object_get(o, "label");
	struct id_place want = {.id = json_integer_value(id)};
	const struct id_place *found;
	char name[32];

	if (!json_is_integer(id) || (!json_is_array(list) && !one))
		return wl_err_set(err, WL_EDATA,
			"%s, line %zu: a whole number \"image_id\" and a list \"labels\" are "
			"expected",
			t->path, line);
	snprintf(name, sizeof name, "%lld", (long long)want.id);
	found = t->n_images ? bsearch(&want, t->place, (size_t)t->n_images, sizeof *t->place, by_id)
			    : NULL;
	if (!found || t->seen[found->place]) {
		wl_trouble_note(&t->trouble[found ? TWICE : UNKNOWN_IMAGE], name);
		return 0;
	}
	t->seen[found->place] = true;
	if (!list)
		return add_label(t, found->place, one, line, err);
	for (size_t i = 0; i < json_array_size(list); i++)
		WL_TRY(add_label(t, found->place, json_array_get(list, i), line, err));
	return 0;
}

static int complain(const struct truth *t, struct wl_err *err)
{
	char text[800];

	if (wl_trouble_text(t->trouble, KINDS, text, sizeof text))
		return wl_err_set(err, WL_EDATA, "%s: %s", t->path, text);
	return t->n ? 0 : wl_err_set(err, WL_EDATA, "%s gives no image a label", t->path);
}

int wl_labels_truth(const struct wl_labels *l, const char *path, const int64_t *ids,
	int64_t n_images, int64_t **pair_image, int64_t **pair_label, int64_t *n_pairs,
	struct wl_err *err)
{
	struct truth t = {.labels = l,
		.path = path,
		.n_images = n_images,
		.trouble = {{.what = "images are not among the embeddings"},
			{.what = "labels are not in the list"}, {.what = "images come twice"}}};
	int ret = -1;

	t.place = calloc((size_t)n_images + 1, sizeof *t.place);
	t.seen = calloc((size_t)n_images + 1, sizeof *t.seen);
	if (!t.place || !t.seen) {
		wl_err_nomem(err, "images", (size_t)n_images * sizeof *t.place);
		goto out;
	}
	for (int64_t i = 0; i < n_images; i++)
		t.place[i] = (struct id_place){ids[i], i};
	qsort(t.place, (size_t)n_images, sizeof *t.place, by_id);
	WL_TRY_OUT(wl_json_lines_read(path, truth_line, &t, err));
	ret = complain(&t, err);
out:
	free(t.place);
	free(t.seen);
	if (ret) {
		free(t.image);
		free(t.label);
		return -1;
	}
	*pair_image = t.image;
	*pair_label = t.label;
	*n_pairs = t.n;
	return 0;
}
