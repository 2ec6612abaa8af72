/* Writer of safetensors.  See safetensors.h.  The header fixes every offset,
 * so tensors are declared first and then written in any order, in pieces. */
#include "ops/safetensors.h"

#include "ops/file.h"
#include "ops/grow.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct slot {
	char *name;
	enum wl_saved_dtype dtype;
	int rank;
	int64_t shape[WL_SAVED_RANK_MAX];
	int64_t offset, bytes, written; /* offset within the data section */
};

struct wl_safetensors_writer {
	struct wl_outfile out;
	char *path;
	struct slot *slots; /* in order of declaration */
	size_t n, cap;
	json_t *meta;
	int64_t data_start; /* 0 until the header was written */
};

struct wl_safetensors_writer *wl_safetensors_create(const char *path, struct wl_err *err)
{
	struct wl_safetensors_writer *w = calloc(1, sizeof *w);

	if (!w || !(w->path = strdup(path)) || !(w->meta = json_object())) {
		wl_err_nomem(err, "a safetensors writer", sizeof *w);
		wl_safetensors_abort(w);
		return NULL;
	}
	if (wl_outfile_open(&w->out, path, err) < 0) {
		w->out = (struct wl_outfile){0};
		wl_safetensors_abort(w);
		return NULL;
	}
	return w;
}

void wl_safetensors_abort(struct wl_safetensors_writer *w)
{
	if (!w)
		return;
	if (w->out.fp)
		wl_outfile_discard(&w->out);
	for (size_t i = 0; i < w->n; i++)
		free(w->slots[i].name);
	free(w->slots);
	json_decref(w->meta);
	free(w->path);
	free(w);
}

int wl_safetensors_declare(struct wl_safetensors_writer *w, const char *name,
	enum wl_saved_dtype dtype, int rank, const int64_t *shape, struct wl_err *err)
{
	struct wl_saved_tensor t = {.rank = rank};
	struct slot *s;

	if (w->data_start || !wl_saved_dtype_bytes(dtype) || rank < 0 || rank > WL_SAVED_RANK_MAX)
		WL_BUG("tensor \"%s\" declared late, or with an impossible type or rank", name);
	if (rank)
		memcpy(t.shape, shape, (size_t)rank * sizeof *shape);
	if (wl_saved_set_dense(&t) < 0)
		WL_BUG("tensor \"%s\" has an impossible shape", name);
	WL_TRY(WL_GROW(w->slots, w->n, w->cap, "the list of tensors", err));
	s = &w->slots[w->n];
	*s = (struct slot){.dtype = dtype, .rank = rank};
	memcpy(s->shape, t.shape, sizeof s->shape);
	s->bytes = t.count * (int64_t)wl_saved_dtype_bytes(dtype);
	s->name = strdup(name);
	if (!s->name)
		return wl_err_nomem(err, "a tensor's name", strlen(name));
	return (int)w->n++;
}

int wl_safetensors_add_meta(struct wl_safetensors_writer *w, const char *key, const char *value,
	struct wl_err *err)
{
	if (json_object_set_new(w->meta, key, json_string(value)) < 0)
		return wl_err_set(err, WL_EFAIL,
			"%s: the metadata \"%.100s\" is not UTF-8 or memory is "
			"short", w->path, key);
	return 0;
}

/* Larger elements first, so that every tensor is aligned to its element; then by name. */
static int by_place(const void *a, const void *b)
{
	const struct slot *x = *(const struct slot *const *)a, *y = *(const struct slot *const *)b;
	size_t bx = wl_saved_dtype_bytes(x->dtype), by = wl_saved_dtype_bytes(y->dtype);

	if (bx != by)
		return bx > by ? -1 : 1;
	return strcmp(x->name, y->name);
}

static json_t *slot_json(const struct slot *s)
{
	json_t *shape = json_array();

	for (int i = 0; i < s->rank; i++)
		json_array_append_new(shape, json_integer(s->shape[i]));
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", wl_saved_dtype_name(s->dtype), "shape",
		shape, "data_offsets", (json_int_t)s->offset, (json_int_t)(s->offset + s->bytes));
}

/* Places the slots and builds the header object; NULL with *err set. */
static json_t *build_header(struct wl_safetensors_writer *w, struct wl_err *err)
{
	struct slot **order = calloc(w->n + 1, sizeof *order);
	json_t *header = json_object();
	int64_t at = 0;

	if (!order || !header)
		goto nomem;
	if (json_object_size(w->meta) && json_object_set(header, "__metadata__", w->meta) < 0)
		goto nomem;
	for (size_t i = 0; i < w->n; i++)
		order[i] = &w->slots[i];
	if (w->n)
		qsort(order, w->n, sizeof *order, by_place);
	for (size_t i = 0; i < w->n; i++) {
		order[i]->offset = at;
		at += order[i]->bytes;
		if (json_object_get(header, order[i]->name))
			WL_BUG("tensor \"%s\" was declared twice", order[i]->name);
		if (json_object_set_new(header, order[i]->name, slot_json(order[i])) < 0)
			goto nomem;
	}
	free(order);
	return header;
nomem:
	wl_err_nomem(err, "a safetensors header", w->n * 200);
	json_decref(header);
	free(order);
	return NULL;
}

int wl_safetensors_begin(struct wl_safetensors_writer *w, struct wl_err *err)
{
	json_t *header = build_header(w, err);
	char *text = NULL, *padded = NULL;
	size_t len, whole;
	uint64_t n;
	int ret = -1;

	if (!header)
		return -1;
	text = json_dumps(header, JSON_COMPACT);
	len = text ? strlen(text) : 0;
	whole = (len + 7) / 8 * 8; /* 8 + whole is then a multiple of 8: the data is aligned */
	padded = malloc(8 + whole);
	if (!text || !padded) {
		wl_err_nomem(err, "a safetensors header", whole);
		goto out;
	}
	n = whole;
	memcpy(padded, &n, 8);
	memcpy(padded + 8, text, len);
	memset(padded + 8 + len, ' ', whole - len);
	WL_TRY_OUT(wl_pwrite_full(fileno(w->out.fp), padded, 8 + whole, 0, w->path, err));
	w->data_start = (int64_t)(8 + whole);
	ret = 0;
out:
	free(padded);
	free(text);
	json_decref(header);
	return ret;
}

int wl_safetensors_write(struct wl_safetensors_writer *w, int handle, const void *bytes, size_t n,
	struct wl_err *err)
{
	struct slot *s;

	if (!w->data_start || handle < 0 || (size_t)handle >= w->n)
		WL_BUG("write to tensor %d before the header", handle);
	s = &w->slots[handle];
	if ((uint64_t)(s->bytes - s->written) < n)
		WL_BUG("tensor \"%s\" is written past its %lld bytes", s->name,
			(long long)s->bytes);
	WL_TRY(wl_pwrite_full(fileno(w->out.fp), bytes, n,
		w->data_start + s->offset + s->written, w->path, err));
	s->written += (int64_t)n;
	return 0;
}

int wl_safetensors_finish(struct wl_safetensors_writer *w, struct wl_err *err)
{
	int ret;

	if (!w->data_start)
		WL_BUG("%s is finished without a header", w->path);
	for (size_t i = 0; i < w->n; i++)
		if (w->slots[i].written != w->slots[i].bytes)
			WL_BUG("tensor \"%s\" of %s has %lld of its %lld bytes", w->slots[i].name,
				w->path, (long long)w->slots[i].written,
				(long long)w->slots[i].bytes);
	ret = wl_outfile_commit(&w->out, err);
	wl_outfile_discard(&w->out);
	w->out = (struct wl_outfile){0};
	wl_safetensors_abort(w);
	return ret;
}
