/* See embed_vectors.h. */
#include "eval/embed_vectors.h"

#include "ops/file.h"
#include "ops/grow.h"
#include "ops/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A file is finished at so many rows or bytes a side, or when it has been open for so long. */
enum { ROWS = 16384, SIDE_BYTES = 64 << 20, SECONDS = 300 };

struct done {
	int64_t id;
	int32_t partition;
};

struct wl_vector_files {
	const char *dir, *model; /* borrowed */
	int64_t dim;
	enum wl_saved_dtype store;
	struct done *done; /* sorted */
	size_t n_done, cap_done;
	/* the file that is being filled */
	int partition;
	int64_t rows, n_images, n_texts; /* rows: how many a side may have */
	float *images, *texts;
	int64_t *image_ids, *text_ids, *text_image;
	time_t begun;
};

/* ---- what is there ---- */

static int by_pair(const void *p, const void *q)
{
	const struct done *a = p, *b = q;

	if (a->partition != b->partition)
		return a->partition < b->partition ? -1 : 1;
	return (a->id > b->id) - (a->id < b->id);
}

static int add_done(struct wl_vector_files *f, int32_t partition, int64_t id, struct wl_err *err)
{
	WL_TRY(WL_GROW(f->done, f->n_done, f->cap_done, "ids of embedded pairs", err));
	f->done[f->n_done++] = (struct done){id, partition};
	return 0;
}

static int add_ids(struct wl_vector_files *f, const struct wl_safetensors *st, const char *name,
	int partition, struct wl_err *err)
{
	const struct wl_saved_tensor *t = wl_safetensors_get(st, name, err);
	int64_t *ids;
	int ret;

	if (!t)
		return -1;
	ids = malloc((size_t)t->count * sizeof(*ids) + 1);
	if (!ids)
		return wl_err_nomem(err, name, (size_t)t->count * sizeof(*ids));
	ret = wl_saved_to_i64(t, ids, err);
	for (int64_t i = 0; i < t->count && ret == 0; i++)
		ret = add_done(f, partition, ids[i], err);
	free(ids);
	return ret;
}

/* 1: it was of another model, and is gone now. */
static int take_file(struct wl_vector_files *f, const char *path, bool replace, struct wl_err *err)
{
	struct wl_safetensors *st = wl_safetensors_open(path, err);
	const char *model = st ? wl_safetensors_meta(st, "model") : NULL;
	const char *partition = st ? wl_safetensors_meta(st, "partition") : NULL;
	int ret = -1;

	if (!st) {
		if (err && err->code == WL_ECKPT)
			err->code = WL_EDATA;
		return -1;
	}
	if (model && partition && strcmp(model, f->model) == 0) {
		ret = add_ids(f, st, "image_ids", atoi(partition), err);
		if (ret == 0)
			ret = add_ids(f, st, "text_ids", atoi(partition), err);
	} else if (replace) {
		ret = wl_remove_tree(path, err) < 0 ? -1 : 1;
	} else {
		wl_err_set(err, WL_EUSAGE,
			"--out %s: %s is of another model, precision or kind; give another "
			"directory, or --replace.",
			f->dir, path);
	}
	wl_safetensors_close(st);
	return ret;
}

static int take_dir(struct wl_vector_files *f, bool replace, struct wl_err *err)
{
	struct wl_names names = {0};
	size_t n = 0;
	int ret;

	WL_TRY(wl_mkdir_p(f->dir, err));
	WL_TRY(wl_list_dir(f->dir, "*.safetensors", &names, err));
	for (size_t i = 0; i < names.n; i++) {
		char *path = wl_path_join(f->dir, names.v[i], err);
		ret = path ? take_file(f, path, replace, err) : -1;
		free(path);
		WL_TRY_OUT(ret);
	}
	if (f->n_done)
		qsort(f->done, f->n_done, sizeof(*f->done), by_pair);
	for (size_t i = 0; i < f->n_done; i++) /* a picture and its text are one pair */
		if (i == 0 || by_pair(&f->done[i], &f->done[n - 1]) != 0)
			f->done[n++] = f->done[i];
	f->n_done = n;
	ret = 0;
out:
	wl_names_release(&names);
	return ret;
}

struct wl_vector_files *wl_vector_files_open(const char *dir, const char *model, int64_t dim,
	enum wl_saved_dtype store, bool replace, struct wl_err *err)
{
	struct wl_vector_files *f = calloc(1, sizeof(*f));
	size_t rows, side;

	if (!f) {
		wl_err_nomem(err, "files of embeddings", sizeof(*f));
		return NULL;
	}
	*f = (struct wl_vector_files){
		.dir = dir, .model = model, .dim = dim, .store = store, .partition = -1};
	f->rows = SIDE_BYTES / (dim * (int64_t)sizeof(float));
	f->rows = f->rows > ROWS ? ROWS : f->rows < 1 ? 1 : f->rows;
	rows = (size_t)f->rows;
	side = rows * (size_t)dim * sizeof(float);
	f->images = malloc(side);
	f->texts = malloc(side);
	f->image_ids = malloc(rows * sizeof(int64_t));
	f->text_ids = malloc(rows * sizeof(int64_t));
	f->text_image = malloc(rows * sizeof(int64_t));
	if (!f->images || !f->texts || !f->image_ids || !f->text_ids || !f->text_image)
		wl_err_nomem(err, "a file of embeddings", 2 * side);
	else if (take_dir(f, replace, err) == 0)
		return f;
	wl_vector_files_close(f);
	return NULL;
}

void wl_vector_files_close(struct wl_vector_files *f)
{
	if (!f)
		return;
	free(f->done);
	free(f->images);
	free(f->texts);
	free(f->image_ids);
	free(f->text_ids);
	free(f->text_image);
	free(f);
}

size_t wl_vector_files_count(const struct wl_vector_files *f)
{
	return f->n_done;
}

bool wl_vector_files_has(const struct wl_vector_files *f, int partition, int64_t id)
{
	struct done key = {id, partition};

	return f->n_done && bsearch(&key, f->done, f->n_done, sizeof(key), by_pair);
}

/* ---- what comes ---- */

int wl_vector_files_add(struct wl_vector_files *f, int partition, int64_t id, const float *image,
	const float *text, struct wl_err *err)
{
	size_t bytes = (size_t)f->dim * sizeof(float);

	if (partition != f->partition || f->n_images == f->rows || f->n_texts == f->rows ||
		time(NULL) - f->begun > SECONDS)
		WL_TRY(wl_vector_files_flush(f, err));
	f->partition = partition;
	if (!f->n_images && !f->n_texts)
		f->begun = time(NULL);
	if (image) {
		memcpy(f->images + f->n_images * f->dim, image, bytes);
		f->image_ids[f->n_images++] = id;
	}
	if (text) {
		memcpy(f->texts + f->n_texts * f->dim, text, bytes);
		f->text_image[f->n_texts] = image ? f->n_images - 1 : -1;
		f->text_ids[f->n_texts++] = id;
	}
	return 0;
}

/* The first name of the partition that is not taken. */
static char *next_path(const struct wl_vector_files *f, struct wl_err *err)
{
	for (int i = 0;; i++) {
		char *path = wl_strf(err, "%s/%05d-%05d.safetensors", f->dir, f->partition, i);
		if (!path || !wl_exists(path))
			return path;
		free(path);
	}
}

static int write_rows(const struct wl_vector_files *f, struct wl_safetensors_writer *w, int handle,
	const float *v, int64_t rows, struct wl_err *err)
{
	size_t n = (size_t)(rows * f->dim);
	uint16_t *half;
	int ret;

	if (f->store == WL_SAVED_F32)
		return wl_safetensors_write(w, handle, v, n * sizeof(*v), err);
	half = malloc(n * sizeof(*half) + 1);
	if (!half)
		return wl_err_nomem(err, "a file of embeddings", n * sizeof(*half));
	for (size_t i = 0; i < n; i++)
		half[i] = f->store == WL_SAVED_F16 ? wl_f16_from_f32(v[i]) : wl_bf16_from_f32(v[i]);
	ret = wl_safetensors_write(w, handle, half, n * sizeof(*half), err);
	free(half);
	return ret;
}

static int write_file(
	const struct wl_vector_files *f, struct wl_safetensors_writer *w, struct wl_err *err)
{
	const struct {
		const char *name;
		const float *v; /* or */
		const int64_t *ids;
		int64_t rows;
	} t[] = {{"image_embeddings", f->images, NULL, f->n_images},
		{"text_embeddings", f->texts, NULL, f->n_texts},
		{"image_ids", NULL, f->image_ids, f->n_images},
		{"text_ids", NULL, f->text_ids, f->n_texts},
		{"text_image", NULL, f->text_image, f->n_texts}};
	enum { N = sizeof(t) / sizeof(*t) };
	int handle[N];
	char number[16];

	snprintf(number, sizeof(number), "%d", f->partition);
	WL_TRY(wl_safetensors_add_meta(w, "model", f->model, err));
	WL_TRY(wl_safetensors_add_meta(w, "partition", number, err));
	for (int i = 0; i < N; i++) {
		int64_t shape[2] = {t[i].rows, f->dim};
		WL_TRY(handle[i] = wl_safetensors_declare(w, t[i].name,
			       t[i].v ? f->store : WL_SAVED_I64, t[i].v ? 2 : 1, shape, err));
	}
	WL_TRY(wl_safetensors_begin(w, err));
	for (int i = 0; i < N; i++)
		WL_TRY(t[i].v ? write_rows(f, w, handle[i], t[i].v, t[i].rows, err)
			      : wl_safetensors_write(w, handle[i], t[i].ids,
					(size_t)t[i].rows * sizeof(int64_t), err));
	return 0;
}

int wl_vector_files_flush(struct wl_vector_files *f, struct wl_err *err)
{
	struct wl_safetensors_writer *w;
	char *path;
	int ret;

	if (!f->n_images && !f->n_texts)
		return 0;
	path = next_path(f, err);
	w = path ? wl_safetensors_create(path, err) : NULL;
	free(path);
	if (!w)
		return -1;
	if (write_file(f, w, err) < 0) {
		wl_safetensors_abort(w);
		return -1;
	}
	ret = wl_safetensors_finish(w, err);
	f->n_images = f->n_texts = 0;
	return ret;
}
