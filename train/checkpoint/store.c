/* Stores in safetensors: see store.h. */
#include "train/checkpoint/store.h"

#include "ops/file.h"
#include "ops/safetensors.h"

#include <stdlib.h>

static bool wanted(const struct wl_store_array *a, const struct wl_param *e)
{
	return (e->flags & a->flags) == a->flags && !(e->flags & a->without);
}

/* Room for the largest entry twice: as kept here, and as PyTorch orders it. */
static float *scratch(const struct wl_params *params, float **torch, struct wl_err *err)
{
	int64_t most = 1;
	float *own;
	int i;

	for (i = 0; i < params->n; i++)
		if (params->item[i].count > most)
			most = params->item[i].count;
	own = malloc((size_t)most * 2 * sizeof *own);
	if (!own)
		wl_err_nomem(err, "copying parameters", (size_t)most * 2 * sizeof *own);
	else
		*torch = own + most;
	return own;
}

/* Calls fn for each tensor of the file in order. */
struct visit {
	const struct wl_params *params;
	struct wl_safetensors_writer *w;
	struct wl_safetensors *st;
	float *own, *torch;
	int handle; /* next one */
};

static int each(struct visit *v, const struct wl_store_array *arrays, size_t n,
	int (*fn)(struct visit *v, const struct wl_store_array *a, const struct wl_param *e,
		const char *name, struct wl_err *err), struct wl_err *err)
{
	size_t a;
	int i, ret;

	for (a = 0; a < n; a++)
		for (i = 0; i < v->params->n; i++) {
			const struct wl_param *e = &v->params->item[i];
			char *name;

			if (!wanted(&arrays[a], e))
				continue;
			name = wl_strf(err, "%s%s", arrays[a].prefix, e->name);
			ret = name ? fn(v, &arrays[a], e, name, err) : -1;
			free(name);
			if (ret < 0)
				return -1;
			v->handle++;
		}
	return 0;
}

static int declare(struct visit *v, const struct wl_store_array *a, const struct wl_param *e,
	const char *name, struct wl_err *err)
{
	int handle = wl_safetensors_declare(v->w, name, WL_SAVED_F32, e->torch_shape.rank,
		e->torch_shape.dim, err);

	(void)a;
	WL_ASSERT(handle < 0 || handle == v->handle);
	return handle;
}

static int write_one(struct visit *v, const struct wl_store_array *a, const struct wl_param *e,
	const char *name, struct wl_err *err)
{
	struct wl_backend *be = v->params->backend;
	size_t bytes = (size_t)e->count * sizeof(float);

	(void)name;
	if (a->host) /* a thread may write it while the device computes */
		memcpy(v->own, a->data + e->offset, bytes);
	else
		be->download(be, v->own, a->data + e->offset, bytes);
	wl_layout_to_torch(e, v->own, v->torch);
	return wl_safetensors_write(v->w, v->handle, v->torch, bytes, err);
}

int wl_store_save(const char *path, const struct wl_params *params,
	const struct wl_store_array *arrays, size_t n, struct wl_err *err)
{
	struct visit v = {.params = params};
	int ret = -1;

	v.own = scratch(params, &v.torch, err);
	v.w = v.own ? wl_safetensors_create(path, err) : NULL;
	if (!v.w || wl_safetensors_add_meta(v.w, "format", "pt", err) < 0 ||
		each(&v, arrays, n, declare, err) < 0 || wl_safetensors_begin(v.w, err) < 0)
		goto out;
	v.handle = 0;
	WL_TRY_OUT(each(&v, arrays, n, write_one, err));
	ret = wl_safetensors_finish(v.w, err);
	v.w = NULL;
out:
	wl_safetensors_abort(v.w);
	free(v.own);
	return ret;
}

static void keep(struct wl_backend *be, const struct wl_store_array *a, const struct wl_param *e,
	const float *own)
{
	const struct wl_cut *cut = e->flags & WL_PARAM_BUFFER ? NULL : a->cut;
	int64_t end = e->offset + e->count;
	struct wl_span s;

	for (s = wl_cut_next(cut, e->offset, end); s.begin < s.end;
		s = wl_cut_next(cut, s.end, end))
		be->upload(be, a->data + s.begin, own + (s.begin - e->offset),
			(size_t)(s.end - s.begin) * sizeof *own);
}

static int read_one(struct visit *v, const struct wl_store_array *a, const struct wl_param *e,
	const char *name, struct wl_err *err)
{
	const struct wl_saved_tensor *t = wl_safetensors_get(v->st, name, err);
	struct wl_backend *be = v->params->backend;
	char have[WL_SHAPE_TEXT], want[WL_SHAPE_TEXT];
	bool fits;
	int i;

	if (!t)
		return -1;
	fits = t->rank == e->torch_shape.rank && t->dtype == WL_SAVED_F32;
	for (i = 0; fits && i < t->rank; i++)
		fits = t->shape[i] == e->torch_shape.dim[i];
	if (!fits)
		return wl_err_set(err, WL_ECKPT, "tensor \"%s\" is %s %s, and the model that the "
			"configuration describes has F32 %s; use the configuration that the "
			"checkpoint was trained with", name, wl_saved_dtype_name(t->dtype),
			wl_saved_shape_text(t->rank, t->shape, have, sizeof have),
			wl_shape_text(&e->torch_shape, want));
	WL_TRY(wl_saved_to_f32(t, v->torch, err));
	wl_layout_from_torch(e, v->torch, v->own);
	keep(be, a, e, v->own);
	return 0;
}

/* More tensors than expected: names one. */
static int check_no_other(struct visit *v, const struct wl_store_array *arrays, size_t n,
	struct wl_err *err)
{
	const struct wl_saved_list *list = wl_safetensors_list(v->st);
	size_t i, a;

	for (i = 0; i < list->count && list->count != (size_t)v->handle; i++) {
		const char *name = list->items[i].name;
		bool known = false;

		for (a = 0; a < n && !known; a++) {
			size_t skip = strlen(arrays[a].prefix);
			int at = strncmp(name, arrays[a].prefix, skip) ? -1 :
				wl_params_find(v->params, name + skip);

			known = at >= 0 && wanted(&arrays[a], &v->params->item[at]);
		}
		if (!known)
			return wl_err_set(err, WL_ECKPT, "tensor \"%s\" is not one of the model "
				"that the configuration describes; use the configuration that the "
				"checkpoint was trained with", name);
	}
	return 0;
}

int wl_store_load(const char *path, const struct wl_params *params,
	const struct wl_store_array *arrays, size_t n, struct wl_err *err)
{
	struct visit v = {.params = params};
	int ret = -1;

	v.own = scratch(params, &v.torch, err);
	v.st = v.own ? wl_safetensors_open(path, err) : NULL;
	if (!v.st)
		goto out;
	if (each(&v, arrays, n, read_one, err) < 0 || check_no_other(&v, arrays, n, err) < 0) {
		wl_err_prefix(err, "%s", path);
		goto out;
	}
	ret = 0;
out:
	wl_safetensors_close(v.st);
	free(v.own);
	return ret;
}
