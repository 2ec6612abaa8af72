/* See matrix.h. */
#include "eval/matrix.h"
#include "eval/npy.h"
#include "eval/npz.h"
#include "ops/path.h"
#include "ops/safetensors.h"

#include <stdlib.h>
#include <string.h>

static int convert(const struct wl_saved_tensor *t, const char *path, float **out, int64_t *rows,
	int64_t *cols, struct wl_err *err)
{
	char shape[160];

	if (t->rank != 2)
		return wl_err_set(err, WL_EDATA,
			"%s has the shape %s where a matrix [rows, dimensions] is expected", path,
			wl_saved_shape_text(t->rank, t->shape, shape, sizeof shape));
	*out = malloc((size_t)t->count * sizeof **out + 1);
	if (!*out)
		return wl_err_nomem(err, path, (size_t)t->count * sizeof **out);
	if (wl_saved_to_f32(t, *out, err) < 0) {
		free(*out);
		*out = NULL;
		return -1;
	}
	*rows = t->shape[0];
	*cols = t->shape[1];
	return 0;
}

static int load_npz(const char *path, const char *name, float **out, int64_t *rows, int64_t *cols,
	struct wl_err *err)
{
	struct wl_saved_tensor t;
	struct wl_buf b;
	int ret = -1;

	wl_buf_init(&b, (size_t)64 << 30);
	WL_TRY_OUT(wl_npz_read(path, name, &b, err));
	WL_TRY_OUT(wl_npy_parse(b.data, b.len, path, &t, err));
	ret = convert(&t, path, out, rows, cols, err);
out:
	wl_buf_release(&b);
	return ret;
}

/* The only matrix of the file. */
static const struct wl_saved_tensor *only_matrix(
	const struct wl_safetensors *st, const char *path, struct wl_err *err)
{
	const struct wl_saved_list *all = wl_safetensors_list(st);
	const struct wl_saved_tensor *found = NULL;

	for (size_t i = 0; i < all->count; i++) {
		if (all->items[i].rank != 2)
			continue;
		if (found) {
			wl_err_set(err, WL_EDATA,
				"%s holds several matrices (%s, %s): name one, as in %s:NAME", path,
				found->name, all->items[i].name, path);
			return NULL;
		}
		found = &all->items[i];
	}
	if (!found)
		wl_err_set(err, WL_EDATA, "%s holds no matrix", path);
	return found;
}

static int load_safetensors(const char *path, const char *name, float **out, int64_t *rows,
	int64_t *cols, struct wl_err *err)
{
	struct wl_safetensors *st = wl_safetensors_open(path, err);
	const struct wl_saved_tensor *t;
	int ret = -1;

	if (st) {
		t = name ? wl_safetensors_get(st, name, err) : only_matrix(st, path, err);
		if (t)
			ret = convert(t, path, out, rows, cols, err);
	}
	wl_safetensors_close(st);
	/* It is data here, not a model. */
	if (ret && err && err->code == WL_ECKPT)
		err->code = WL_EDATA;
	return ret;
}

static int ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n >= k && !strcmp(s + n - k, end);
}

int wl_matrix_load(const char *spec, float **out, int64_t *rows, int64_t *cols, struct wl_err *err)
{
	char *path = strdup(spec), *colon, *name = NULL;
	int ret;

	*out = NULL;
	if (!path)
		return wl_err_nomem(err, spec, strlen(spec));
	colon = strrchr(path, ':');
	if (colon && colon[1] && colon > path) {
		*colon = 0;
		if (ends_with(path, ".npz") || ends_with(path, ".safetensors"))
			name = colon + 1;
		else
			*colon = ':';
	}
	if (wl_path_check(path, WL_PATH_FILE, "features are A.npy, A.npz[:NAME] or "
		"A.safetensors[:NAME]; wenlan-embed writes the last", err) < 0)
		ret = -1;
	else if (ends_with(path, ".npz"))
		ret = load_npz(path, name, out, rows, cols, err);
	else if (ends_with(path, ".safetensors"))
		ret = load_safetensors(path, name, out, rows, cols, err);
	else
		ret = wl_npy_load_matrix(path, out, rows, cols, err);
	free(path);
	return ret;
}
