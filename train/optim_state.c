/* Moments in slices: see optim_state.h. */
#include "train/optim_state.h"

#include "ops/file.h"
#include "ops/safetensors.h"
#include "train/checkpoint/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const prefixes[2] = {"exp_avg.", "exp_avg_sq."};

static bool has_moments(const struct wl_param *e)
{
	return (e->flags & WL_PARAM_TRAINABLE) && !(e->flags & WL_PARAM_BUFFER);
}

static enum wl_saved_dtype saved_type(const struct wl_moments *s)
{
	return s->dtype == WL_BF16 ? WL_SAVED_BF16 : WL_SAVED_F32;
}

static char *file_name(const char *dir, int rank, int world, struct wl_err *err)
{
	return wl_strf(err, "%s/optim-%05d-of-%05d.safetensors", dir, rank, world);
}

/* Declares (w's first pass) or writes the slices of entry e that this rank owns. */
static int put_entry(const struct wl_moments *s, struct wl_safetensors_writer *w,
	const struct wl_param *e, int which, int *handle, bool declare, struct wl_err *err)
{
	const char *from = which ? s->v : s->m;
	size_t each = wl_dtype_bytes(s->dtype);
	int64_t end = e->offset + e->count;
	struct wl_span p;

	for (p = wl_cut_next(s->cut, e->offset, end); p.begin < p.end;
		p = wl_cut_next(s->cut, p.end, end)) {
		int64_t n = p.end - p.begin;
		char *name;
		int ret;

		if (!declare) {
			WL_TRY(wl_safetensors_write(w, (*handle)++,
				from + (size_t)wl_cut_owned(s->cut, p.begin) * each,
				(size_t)n * each, err));
			continue;
		}
		name = wl_strf(err, "%s%s[%lld:%lld]", prefixes[which], e->name,
			(long long)(p.begin - e->offset), (long long)(p.end - e->offset));
		ret = name ? wl_safetensors_declare(w, name, saved_type(s), 1, &n, err) : -1;
		free(name);
		WL_TRY(ret);
	}
	return 0;
}

static int put_all(const struct wl_moments *s, struct wl_safetensors_writer *w, bool declare,
	struct wl_err *err)
{
	int handle = 0;

	for (int which = 0; which < 2; which++)
		for (int i = 0; i < s->params->n; i++)
			if (has_moments(&s->params->item[i]))
				WL_TRY(put_entry(s, w, &s->params->item[i], which, &handle,
					declare, err));
	return 0;
}

static int save_slices(const struct wl_moments *s, const char *path, struct wl_err *err)
{
	struct wl_safetensors_writer *w = wl_safetensors_create(path, err);

	if (!w)
		return -1;
	if (put_all(s, w, true, err) < 0 || wl_safetensors_begin(w, err) < 0 ||
		put_all(s, w, false, err) < 0) {
		wl_safetensors_abort(w);
		return -1;
	}
	return wl_safetensors_finish(w, err);
}

int wl_moments_save(const struct wl_moments *s, const char *dir, struct wl_names *names,
	struct wl_err *err)
{
	struct wl_store_array arrays[2] = {
		{prefixes[0], s->m, WL_PARAM_TRAINABLE, WL_PARAM_BUFFER, NULL, true},
		{prefixes[1], s->v, WL_PARAM_TRAINABLE, WL_PARAM_BUFFER, NULL, true}};
	char *path = file_name(dir, s->cut ? s->cut->rank : 0, s->cut ? s->cut->world : 1, err);
	int ret;

	if (!path)
		return -1;
	ret = s->cut || s->dtype == WL_BF16 ? save_slices(s, path, err)
					    : wl_store_save(path, s->params, arrays, 2, err);
	if (ret == 0)
		ret = wl_names_add(names, strrchr(path, '/') + 1, err);
	free(path);
	return ret;
}

/* --- reading --- */

struct reading {
	const struct wl_moments *s;
	const char *path;
	int64_t *seen[2]; /* [params->n] floats read of each entry */
	float *own, *torch; /* [most] room for the largest entry, twice */
};

/* The parts of floats [at, at + n) that are kept here, copied from `from` (which stands at). */
static void keep(const struct wl_moments *s, int which, int64_t at, int64_t n, const char *from)
{
	const size_t each = wl_dtype_bytes(s->dtype);
	const struct wl_cut *cut = s->whole ? NULL : s->cut;
	struct wl_backend *be = s->params->backend;
	char *to = which ? s->v : s->m;
	struct wl_span p;

	for (p = wl_cut_next(cut, at, at + n); p.begin < p.end;
		p = wl_cut_next(cut, p.end, at + n))
		be->upload(be, to + (size_t)p.begin * each, from + (size_t)(p.begin - at) * each,
			(size_t)(p.end - p.begin) * each);
}

/* n floats that were bf16 in the file become bf16 again, in place. */
static void narrow(float *v, int64_t n)
{
	for (int64_t k = 0; k < n; k++) {
		uint16_t half = wl_bf16_from_f32(v[k]);

		memcpy((char *)v + 2 * k, &half, sizeof half);
	}
}

static int misfit(const struct reading *r, const char *name, struct wl_err *err)
{
	return wl_err_set(err, WL_ECKPT, "%s: tensor \"%s\" is not a moment of the model that the "
		"configuration describes; use the configuration (with what it freezes, and "
		"optim.state) that the checkpoint was trained with", r->path, name);
}

/* "exp_avg_sq.NAME[b:e]" -> which, entry, slice (whole: 0:count); -1: none of ours. */
static int parse(const struct wl_params *p, const char *name, int *which, int64_t *begin,
	int64_t *end)
{
	char bare[512];
	const char *bracket;
	long long b, e;
	int i, used = 0;

	*which = !strncmp(name, prefixes[1], strlen(prefixes[1]));
	if (strncmp(name, prefixes[*which], strlen(prefixes[*which])))
		return -1;
	name += strlen(prefixes[*which]);
	bracket = strrchr(name, '[');
	if (snprintf(bare, sizeof bare, "%.*s",
		    bracket ? (int)(bracket - name) : (int)strlen(name), name) >=
		(int)sizeof bare)
		return -1;
	i = wl_params_find(p, bare);
	if (i < 0 || !has_moments(&p->item[i]))
		return -1;
	*begin = 0;
	*end = p->item[i].count;
	if (!bracket)
		return i;
	if (sscanf(bracket, "[%lld:%lld]%n", &b, &e, &used) != 2 || bracket[used] || b < 0 ||
		e <= b || e > *end)
		return -1;
	*begin = b;
	*end = e;
	return i;
}

static int read_tensor(struct reading *r, const struct wl_saved_tensor *t, struct wl_err *err)
{
	const struct wl_params *p = r->s->params;
	int64_t begin, end, n = 1;
	int which, i = parse(p, t->name, &which, &begin, &end), k;
	const struct wl_param *e;
	float *from;
	bool whole;

	if (i < 0 || t->dtype != saved_type(r->s))
		return misfit(r, t->name, err);
	e = &p->item[i];
	whole = !strchr(t->name, '[');
	for (k = 0; k < t->rank; k++)
		n *= t->shape[k];
	if (n != end - begin ||
		(whole && (r->s->dtype != WL_F32 || t->rank != e->torch_shape.rank)))
		return misfit(r, t->name, err);
	for (k = 0; whole && k < t->rank; k++)
		if (t->shape[k] != e->torch_shape.dim[k])
			return misfit(r, t->name, err);
	WL_TRY(wl_saved_to_f32(t, r->torch, err));
	if (whole)
		wl_layout_from_torch(e, r->torch, r->own);
	from = whole ? r->own : r->torch;
	if (r->s->dtype == WL_BF16)
		narrow(from, n);
	keep(r->s, which, e->offset + begin, n, (const char *)from);
	r->seen[which][i] += n;
	return 0;
}

static int read_file(struct reading *r, struct wl_err *err)
{
	struct wl_safetensors *st = wl_safetensors_open(r->path, err);
	const struct wl_saved_list *list;
	int ret = 0;

	if (!st)
		return -1;
	list = wl_safetensors_list(st);
	for (size_t i = 0; i < list->count && ret == 0; i++)
		ret = read_tensor(r, &list->items[i], err);
	wl_safetensors_close(st);
	return ret;
}

static int check_all_seen(const struct reading *r, const char *dir, struct wl_err *err)
{
	const struct wl_params *p = r->s->params;

	for (int which = 0; which < 2; which++)
		for (int i = 0; i < p->n; i++)
			if (has_moments(&p->item[i]) && r->seen[which][i] != p->item[i].count)
				return wl_err_set(err, WL_ECKPT, "%s: the files optim-* hold %lld "
					"of the %lld numbers of \"%s%s\"; use the configuration "
					"(with what it freezes) that the checkpoint was trained "
					"with", dir, (long long)r->seen[which][i],
					(long long)p->item[i].count, prefixes[which],
					p->item[i].name);
	return 0;
}

int wl_moments_load(const struct wl_moments *s, const char *dir, const json_t *files,
	struct wl_err *err)
{
	struct reading r = {.s = s};
	size_t n = (size_t)s->params->n + 1;
	int64_t most = 1;
	const char *name;
	json_t *unused;
	char *path;
	int ret = -1;

	for (int i = 0; i < s->params->n; i++)
		if (s->params->item[i].count > most)
			most = s->params->item[i].count;
	r.seen[0] = calloc(2 * n, sizeof *r.seen[0]);
	r.own = malloc(2 * (size_t)most * sizeof *r.own);
	if (!r.seen[0] || !r.own) {
		wl_err_nomem(err, "reading moments", 2 * (size_t)most * sizeof *r.own);
		goto out;
	}
	r.seen[1] = r.seen[0] + n;
	r.torch = r.own + most;
	json_object_foreach((json_t *)files, name, unused) {
		if (strncmp(name, "optim-", 6))
			continue;
		path = wl_path_join(dir, name, err);
		r.path = path;
		ret = path ? read_file(&r, err) : -1;
		free(path);
		if (ret < 0)
			goto out;
	}
	ret = check_all_seen(&r, dir, err);
out:
	free(r.seen[0]);
	free(r.own);
	return ret;
}
