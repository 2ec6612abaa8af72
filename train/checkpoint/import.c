/* Weights from other projects' files.  See import.h. */
#include "train/checkpoint/import.h"

#include "ops/file.h"
#include "ops/log.h"
#include "train/checkpoint/positions.h"
#include "train/checkpoint/pth.h"
#include "ops/safetensors.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct wl_weights {
	struct wl_safetensors *st; /* one of the two */
	struct wl_pth *pth;
};

/* 1 when the file begins as torch.save writes, 0 otherwise. */
static int looks_like_pth(const char *path, struct wl_err *err)
{
	unsigned char head[9] = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0) {
		wl_err_errno(err, "%s cannot be opened", path);
		return -1;
	}
	n = read(fd, head, sizeof head);
	close(fd);
	if (n < 0) {
		wl_err_errno(err, "%s cannot be read", path);
		return -1;
	}
	/* A safetensors header of some length begins with these bytes too, but then has '{'. */
	return head[8] != '{' && (!memcmp(head, "PK\3\4", 4) || head[0] == 0x80);
}

struct wl_weights *wl_weights_open(const char *path, struct wl_err *err)
{
	struct wl_weights *w;
	int pth = looks_like_pth(path, err);

	if (pth < 0)
		return NULL;
	w = calloc(1, sizeof *w);
	if (!w) {
		wl_err_nomem(err, "a file of weights", sizeof *w);
		return NULL;
	}
	if (pth)
		w->pth = wl_pth_open(path, err);
	else
		w->st = wl_safetensors_open(path, err);
	if (w->pth || w->st)
		return w;
	free(w);
	return NULL;
}

const struct wl_saved_list *wl_weights_list(const struct wl_weights *w)
{
	return w->pth ? wl_pth_list(w->pth) : wl_safetensors_list(w->st);
}

void wl_weights_close(struct wl_weights *w)
{
	if (!w)
		return;
	wl_pth_close(w->pth);
	wl_safetensors_close(w->st);
	free(w);
}

static int add_name(struct wl_import_names *names, char *name, struct wl_err *err)
{
	char **grown;

	if (!name)
		return -1;
	if ((names->n & (names->n - 1)) == 0) { /* full at each power of two */
		grown = realloc(names->v, (size_t)(names->n ? 2 * names->n : 1) * sizeof *grown);
		if (!grown) {
			free(name);
			return wl_err_nomem(err, "a list of names", (size_t)names->n);
		}
		names->v = grown;
	}
	names->v[names->n++] = name;
	return 0;
}

static bool same_shape(const struct wl_saved_tensor *t, const struct wl_shape *s)
{
	if (t->rank != s->rank)
		return false;
	for (int i = 0; i < s->rank; i++)
		if (t->shape[i] != s->dim[i])
			return false;
	return true;
}

/* A position table with more rows than the model asks for: the first ones are the same. */
static bool longer_positions(const struct wl_saved_tensor *t, const struct wl_param *e)
{
	return strstr(e->name, ".position_embeddings.weight") && t->rank == 2 &&
	       e->torch_shape.rank == 2 && t->shape[1] == e->torch_shape.dim[1] &&
	       t->shape[0] > e->torch_shape.dim[0];
}

/* A vision transformer's positions on another grid of patches. */
static bool other_grid(const struct wl_saved_tensor *t, const struct wl_param *e, int64_t *side,
	int64_t *to_side)
{
	const struct wl_shape *s = &e->torch_shape;
	const char *dot = strrchr(e->name, '.');

	return dot && !strcmp(dot, ".pos_embed") && t->rank == 3 && s->rank == 3 &&
	       t->shape[0] == 1 && t->shape[2] == s->dim[2] &&
	       wl_positions_fit(t->shape[1], s->dim[1], side, to_side);
}

static int note_shapes(struct wl_import_names *names, const struct wl_saved_tensor *t,
	const struct wl_param *e, struct wl_err *err)
{
	char theirs[128], ours[128];

	wl_saved_shape_text(t->rank, t->shape, theirs, sizeof theirs);
	wl_saved_shape_text(e->torch_shape.rank, e->torch_shape.dim, ours, sizeof ours);
	return add_name(names,
		wl_strf(err, "%s (%s in the file, %s in the model)", e->name, theirs, ours), err);
}

static int copy_tensor(struct wl_params *p, int i, const struct wl_saved_tensor *t,
	const char *path, struct wl_err *err)
{
	float *host = malloc((size_t)t->count * sizeof *host + 1), *grid = NULL;
	const struct wl_param *e = &p->item[i];
	int64_t side, to_side;
	int ret = -1;

	if (!host)
		return wl_err_nomem(err, t->name, (size_t)t->count * sizeof *host);
	if (wl_saved_to_f32(t, host, err) < 0) {
		wl_err_prefix(err, "%s", path);
		goto out;
	}
	for (int64_t k = 0; k < t->count; k++)
		if (!isfinite(host[k])) {
			wl_err_set(err, WL_ECKPT,
				"%s: element %lld of \"%.200s\" is NaN or infinite; these weights "
				"come from a run that diverged, so use an earlier checkpoint",
				path, (long long)k, t->name);
			goto out;
		}
	if (other_grid(t, e, &side, &to_side) && side != to_side) {
		grid = malloc((size_t)e->count * sizeof *grid + 1);
		if (!grid) {
			wl_err_nomem(err, t->name, (size_t)e->count * sizeof *grid);
			goto out;
		}
		WL_TRY_OUT(wl_positions_resample(host, side, grid, to_side, t->shape[2], err));
	}
	wl_param_from_torch(p, i, grid ? grid : host);
	ret = 0;
out:
	free(grid);
	free(host);
	return ret;
}

static int take_tensor(struct wl_params *p, const struct wl_names_map *map,
	const struct wl_saved_tensor *t, const char *only, bool *seen, const char *path,
	struct wl_import_report *r, struct wl_err *err)
{
	char name[WL_NAMES_BYTES];
	int64_t side, to;
	bool grid;
	int i;

	if (!wl_names_translate(map, t->name, name) ||
		(only && strncmp(name, only, strlen(only)))) {
		r->unused++;
		return 0;
	}
	i = wl_params_find(p, name);
	if (i < 0)
		return add_name(&r->unexpected, wl_strf(err, "%s", t->name), err);
	if (seen[i])
		return wl_err_set(err, WL_ECKPT,
			"%s: two tensors of the file are both \"%s\" of the model; it mixes two "
			"models",
			path, name);
	grid = !same_shape(t, &p->item[i].torch_shape) && other_grid(t, &p->item[i], &side, &to);
	if (grid)
		WL_TRY(note_shapes(&r->resampled, t, &p->item[i], err));
	if (!grid && !same_shape(t, &p->item[i].torch_shape) &&
		!longer_positions(t, &p->item[i])) {
		seen[i] = true;
		return note_shapes(&r->reshaped, t, &p->item[i], err);
	}
	WL_TRY(copy_tensor(p, i, t, path, err));
	seen[i] = true;
	r->matched++;
	return 0;
}

/* The entries that a file of this style should hold and did not. */
static int list_missing(const struct wl_params *p, const struct wl_names_map *map,
	const char *only, const bool *seen, struct wl_import_report *r, struct wl_err *err)
{
	for (int i = 0; i < p->n; i++) {
		const char *name = p->item[i].name;

		if (seen[i] || strncmp(name, map->scope, strlen(map->scope)) ||
			(only && strncmp(name, only, strlen(only))) ||
			(strncmp(name, "imgencoder.", 11) && strncmp(name, "textencoder.", 12)))
			continue;
		WL_TRY(add_name(&r->missing, wl_strf(err, "%s", name), err));
	}
	return 0;
}

int wl_import(struct wl_params *p, const char *path, const char *only,
	struct wl_import_report *r, struct wl_err *err)
{
	struct wl_weights *w = wl_weights_open(path, err);
	const struct wl_saved_list *list;
	struct wl_names_map map;
	bool *seen = NULL;
	int ret = -1;

	*r = (struct wl_import_report){0};
	if (!w)
		return -1;
	list = wl_weights_list(w);
	seen = calloc((size_t)p->n + 1, sizeof *seen);
	if (!seen) {
		wl_err_nomem(err, "a list of parameters", (size_t)p->n);
		goto out;
	}
	WL_TRY_OUT(wl_names_detect(&map, list, p, path, err));
	r->style = map.style;
	for (size_t i = 0; i < list->count; i++)
		WL_TRY_OUT(take_tensor(p, &map, &list->items[i], only, seen, path, r, err));
	if (!r->matched) {
		wl_err_set(err, WL_ECKPT,
			"%s: none of its %zu tensors (%s) fits the model; check the encoder and "
			"the sizes in the configuration",
			path, list->count, wl_names_style_text(map.style));
		goto out;
	}
	ret = list_missing(p, &map, only, seen, r, err);
out:
	free(seen);
	wl_weights_close(w);
	if (ret < 0)
		wl_import_report_release(r);
	return ret;
}

static void log_names(const char *path, const char *what, const struct wl_import_names *names)
{
	enum { SHOWN = 5 };

	for (int i = 0; i < names->n && i < SHOWN; i++)
		wl_warn("%s: %s %s", path, names->v[i], what);
	if (names->n > SHOWN)
		wl_warn("%s: and %d more that %s", path, names->n - SHOWN, what);
}

void wl_import_log(const char *path, const struct wl_import_report *r)
{
	wl_info("%s: %d tensors taken (%s names), %d missing, %d unexpected, %d of another shape",
		path, r->matched, wl_names_style_text(r->style), r->missing.n, r->unexpected.n,
		r->reshaped.n);
	for (int i = 0; i < r->resampled.n; i++)
		wl_info("%s: %s is interpolated", path, r->resampled.v[i]);
	log_names(path, "differs in shape and was not taken", &r->reshaped);
	log_names(path, "is not in the file and keeps its start", &r->missing);
	log_names(path, "is not in the model", &r->unexpected);
}

static void release_names(struct wl_import_names *names)
{
	for (int i = 0; i < names->n; i++)
		free(names->v[i]);
	free(names->v);
	*names = (struct wl_import_names){0};
}

void wl_import_report_release(struct wl_import_report *r)
{
	if (!r)
		return;
	release_names(&r->missing);
	release_names(&r->unexpected);
	release_names(&r->reshaped);
	release_names(&r->resampled);
}
