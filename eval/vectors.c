/* Reading embeddings: see vectors.h. */
#include "eval/vectors.h"
#include "eval/matrix.h"
#include "eval/npy.h"
#include "ops/buf.h"
#include "ops/file.h"
#include "ops/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void wl_vectors_release(struct wl_vectors *v)
{
	if (!v)
		return;
	free(v->images);
	free(v->texts);
	free(v->image_ids);
	free(v->text_ids);
	free(v->pair_image);
	free(v->pair_text);
	*v = (struct wl_vectors){0};
}

struct wl_retrieval_in wl_vectors_in(const struct wl_vectors *v)
{
	return (struct wl_retrieval_in){.images = v->images,
		.texts = v->texts,
		.n_images = v->n_images,
		.n_texts = v->n_texts,
		.dim = v->dim,
		.pair_image = v->pair_image,
		.pair_text = v->pair_text,
		.n_pairs = v->n_pairs};
}

static int alloc_pairs(struct wl_vectors *v, int64_t n, struct wl_err *err)
{
	v->pair_image = calloc((size_t)n + 1, sizeof *v->pair_image);
	v->pair_text = calloc((size_t)n + 1, sizeof *v->pair_text);
	if (!v->pair_image || !v->pair_text)
		return wl_err_nomem(err, "pairs", (size_t)n * 16);
	return 0;
}

static int add_pair(
	struct wl_vectors *v, int64_t image, int64_t text, const char *path, struct wl_err *err)
{
	if (image < 0 || image >= v->n_images || text < 0 || text >= v->n_texts)
		return wl_err_set(err, WL_EDATA,
			"%s: pair %lld joins image %lld and text %lld, but there are %lld images "
			"and %lld"
			" texts (counted from 0)",
			path, (long long)v->n_pairs, (long long)image, (long long)text,
			(long long)v->n_images, (long long)v->n_texts);
	v->pair_image[v->n_pairs] = image;
	v->pair_text[v->n_pairs++] = text;
	return 0;
}

static int check_pairs(const struct wl_vectors *v, const char *path, struct wl_err *err)
{
	if (!v->n_pairs)
		return wl_err_set(err, WL_EDATA,
			"%s joins no image with a text, so there is nothing to measure (embed a "
			"split of"
			" shards, or give --pairs)",
			path);
	return 0;
}

/* --- wenlan-embed's file ---------------------------------------------------------- */

static int get_matrix(const struct wl_safetensors *st, const char *path, const char *name,
	float **out, int64_t *rows, int64_t *cols, struct wl_err *err)
{
	const struct wl_saved_tensor *t = wl_safetensors_get(st, name, err);
	char shape[160];

	if (!t)
		return -1;
	if (t->rank != 2)
		return wl_err_set(err, WL_ECKPT,
			"%s: %s has the shape %s where [rows, D] is expected", path, name,
			wl_saved_shape_text(t->rank, t->shape, shape, sizeof shape));
	*out = malloc((size_t)t->count * sizeof **out + 1);
	if (!*out)
		return wl_err_nomem(err, name, (size_t)t->count * sizeof **out);
	*rows = t->shape[0];
	*cols = t->shape[1];
	return wl_saved_to_f32(t, *out, err);
}

static int get_integers(const struct wl_safetensors *st, const char *path, const char *name,
	int64_t rows, int64_t **out, struct wl_err *err)
{
	const struct wl_saved_tensor *t = wl_safetensors_get(st, name, err);
	char shape[160];

	if (!t)
		return -1;
	if (t->rank != 1 || t->shape[0] != rows)
		return wl_err_set(err, WL_ECKPT, "%s: %s has the shape %s where [%lld] is expected",
			path, name, wl_saved_shape_text(t->rank, t->shape, shape, sizeof shape),
			(long long)rows);
	*out = malloc((size_t)rows * sizeof **out + 1);
	if (!*out)
		return wl_err_nomem(err, name, (size_t)rows * sizeof **out);
	return wl_saved_to_i64(t, *out, err);
}

static int read_all(
	struct wl_vectors *v, const struct wl_safetensors *st, const char *path, struct wl_err *err)
{
	int64_t *text_image = NULL, text_dim;
	int ret = -1;

	WL_TRY(get_matrix(st, path, "image_embeddings", &v->images, &v->n_images, &v->dim, err));
	WL_TRY(get_matrix(st, path, "text_embeddings", &v->texts, &v->n_texts, &text_dim, err));
	if (text_dim != v->dim)
		return wl_err_set(err, WL_ECKPT, "%s: images have %lld dimensions and texts %lld",
			path, (long long)v->dim, (long long)text_dim);
	WL_TRY(get_integers(st, path, "image_ids", v->n_images, &v->image_ids, err));
	WL_TRY(get_integers(st, path, "text_ids", v->n_texts, &v->text_ids, err));
	WL_TRY(alloc_pairs(v, v->n_texts, err));
	WL_TRY_OUT(get_integers(st, path, "text_image", v->n_texts, &text_image, err));
	for (int64_t i = 0; i < v->n_texts; i++)
		if (text_image[i] != -1) /* -1: a text of its own */
			WL_TRY_OUT(add_pair(v, text_image[i], i, path, err));
	ret = check_pairs(v, path, err);
out:
	free(text_image);
	return ret;
}

int wl_vectors_load(struct wl_vectors *v, const char *path, struct wl_err *err)
{
	struct wl_safetensors *st = wl_safetensors_open(path, err);
	int ret;

	*v = (struct wl_vectors){0};
	if (!st) {
		if (err && err->code == WL_ECKPT)
			err->code = WL_EDATA;
		return -1;
	}
	ret = read_all(v, st, path, err);
	wl_safetensors_close(st);
	if (ret && err && err->code == WL_ECKPT) /* data here, not a model */
		err->code = WL_EDATA;
	if (ret)
		wl_vectors_release(v);
	return ret;
}

/* --- foreign features -------------------------------------------------------------- */

static int pairs_in_order(struct wl_vectors *v, struct wl_err *err)
{
	if (v->n_images != v->n_texts)
		return wl_err_set(err, WL_EUSAGE,
			"there are %lld images and %lld texts: say with --pairs which belong "
			"together",
			(long long)v->n_images, (long long)v->n_texts);
	WL_TRY(alloc_pairs(v, v->n_texts, err));
	for (int64_t i = 0; i < v->n_texts; i++)
		WL_TRY(add_pair(v, i, i, "--images and --texts", err));
	return 0;
}

static int pairs_from_npy(struct wl_vectors *v, const char *path, struct wl_err *err)
{
	int64_t *value, rows, cols;
	int ret = -1;

	WL_TRY(wl_npy_load_integers(path, &value, &rows, &cols, err));
	if (cols != 2 && !(cols == 1 && rows == v->n_texts)) {
		wl_err_set(err, WL_EDATA,
			"%s has the shape [%lld, %lld] where [%lld] (the image of each text) or "
			"[P, 2]"
			" (image, text) is expected",
			path, (long long)rows, (long long)cols, (long long)v->n_texts);
		goto out;
	}
	WL_TRY_OUT(alloc_pairs(v, rows, err));
	for (int64_t i = 0; i < rows; i++)
		WL_TRY_OUT(cols == 1 ? add_pair(v, value[i], i, path, err)
				     : add_pair(v, value[2 * i], value[2 * i + 1], path, err));
	ret = 0;
out:
	free(value);
	return ret;
}

/* A number at *p, followed by space or the end. */
static int take_number(char **p, int64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoll(*p, &end, 10);
	if (end == *p || errno || (*end && !strchr(" \t\r", *end)))
		return -1;
	*p = end;
	return 0;
}

static int pairs_from_text(struct wl_vectors *v, const char *path, struct wl_err *err)
{
	struct wl_buf b;
	int64_t lines = 1, number = 0;
	char *save = NULL;
	int ret = -1;

	wl_buf_init(&b, (size_t)4 << 30);
	WL_TRY_OUT(wl_read_file(path, &b, err));
	for (size_t i = 0; i < b.len; i++)
		lines += b.data[i] == '\n';
	WL_TRY_OUT(alloc_pairs(v, lines, err));
	for (char *line = strtok_r(b.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		int64_t image, text;
		char *p = line;

		number++;
		if (take_number(&p, &image) < 0 || take_number(&p, &text) < 0 ||
			p[strspn(p, " \t\r")]) {
			wl_err_set(err, WL_EDATA,
				"%s: line %lld is '%.40s' where an image's and a text's number are "
				"expected",
				path, (long long)number, line);
			goto out;
		}
		WL_TRY_OUT(add_pair(v, image, text, path, err));
	}
	ret = 0;
out:
	wl_buf_release(&b);
	return ret;
}

static int number_ids(int64_t n, int64_t **out, struct wl_err *err)
{
	*out = malloc((size_t)n * sizeof **out + 1);
	if (!*out)
		return wl_err_nomem(err, "ids", (size_t)n * sizeof **out);
	for (int64_t i = 0; i < n; i++)
		(*out)[i] = i;
	return 0;
}

/* A file of wenlan-embed with its ids. */
static int embed_ids(struct wl_vectors *v, const char *path, struct wl_err *err)
{
	struct wl_safetensors *st = wl_safetensors_open(path, err);
	int ret = -1;

	if (!st)
		return -1;
	ret = get_matrix(st, path, "image_embeddings", &v->images, &v->n_images, &v->dim, err);
	if (!ret)
		ret = get_integers(st, path, "image_ids", v->n_images, &v->image_ids, err);
	wl_safetensors_close(st);
	if (ret && err && err->code == WL_ECKPT)
		err->code = WL_EDATA;
	return ret;
}

int wl_vectors_load_images(struct wl_vectors *v, const char *spec, struct wl_err *err)
{
	size_t n = strlen(spec);
	int ret;

	*v = (struct wl_vectors){0};
	if (n > 12 && !strcmp(spec + n - 12, ".safetensors")) {
		ret = embed_ids(v, spec, err);
	} else {
		ret = wl_matrix_load(spec, &v->images, &v->n_images, &v->dim, err);
		if (!ret)
			ret = number_ids(v->n_images, &v->image_ids, err);
	}
	if (ret)
		wl_vectors_release(v);
	return ret;
}

int wl_vectors_load_npy(struct wl_vectors *v, const char *images, const char *texts,
	const char *pairs, struct wl_err *err)
{
	size_t n = pairs ? strlen(pairs) : 0;
	int64_t text_dim;
	int ret = -1;

	*v = (struct wl_vectors){0};
	WL_TRY_OUT(wl_matrix_load(images, &v->images, &v->n_images, &v->dim, err));
	WL_TRY_OUT(wl_matrix_load(texts, &v->texts, &v->n_texts, &text_dim, err));
	if (text_dim != v->dim) {
		wl_err_set(err, WL_EDATA, "%s has %lld dimensions and %s %lld: they must agree",
			images, (long long)v->dim, texts, (long long)text_dim);
		goto out;
	}
	WL_TRY_OUT(number_ids(v->n_images, &v->image_ids, err));
	WL_TRY_OUT(number_ids(v->n_texts, &v->text_ids, err));
	if (!pairs)
		WL_TRY_OUT(pairs_in_order(v, err));
	else if (n > 4 && !strcmp(pairs + n - 4, ".npy"))
		WL_TRY_OUT(pairs_from_npy(v, pairs, err));
	else
		WL_TRY_OUT(pairs_from_text(v, pairs, err));
	ret = check_pairs(v, pairs ? pairs : images, err);
out:
	if (ret)
		wl_vectors_release(v);
	return ret;
}
