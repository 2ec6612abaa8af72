/* Taking and writing what a checkpoint holds: see snapshot.h; the files: trainer_state.c. */
#include "train/snapshot.h"

#include "ops/file.h"
#include "ops/safetensors.h"
#include "train/checkpoint/store.h"
#include "train/state.h"

#include <stdlib.h>
#include <string.h>

/* --- queues --- */

struct queue_names {
	const char *keys, *ids, *next;
};
static const struct queue_names image_names = {"img_queue", "img_queue_ids", "img_queue_ptr"};
static const struct queue_names text_names = {"text_queue", "text_queue_ids", "text_queue_ptr"};

/* Declares (first pass) or writes (second) the three tensors of a queue. */
static int put_queue(struct wl_safetensors_writer *w, const struct wl_queue *q,
	const struct queue_names *n, int handle[3], bool declare, struct wl_err *err)
{
	int64_t keys[2] = {(int64_t)q->dim, (int64_t)q->size};
	int64_t ids[2] = {(int64_t)q->size, WL_QUEUE_IDS}, one = 1, next = (int64_t)q->next;
	size_t bytes = q->dim * q->size * sizeof(float);
	float *dk;
	int ret;

	if (declare) {
		handle[0] = wl_safetensors_declare(w, n->keys, WL_SAVED_F32, 2, keys, err);
		handle[1] = wl_safetensors_declare(w, n->ids, WL_SAVED_I64, 2, ids, err);
		handle[2] = wl_safetensors_declare(w, n->next, WL_SAVED_I64, 1, &one, err);
		return handle[0] < 0 || handle[1] < 0 || handle[2] < 0 ? -1 : 0;
	}
	dk = malloc(bytes);
	if (!dk)
		return wl_err_nomem(err, "a queue's copy", bytes);
	wl_queue_to_torch(q, dk);
	ret = wl_safetensors_write(w, handle[0], dk, bytes, err);
	free(dk);
	WL_TRY(ret);
	WL_TRY(wl_safetensors_write(w, handle[1], q->ids,
		q->size * WL_QUEUE_IDS * sizeof *q->ids, err));
	return wl_safetensors_write(w, handle[2], &next, sizeof next, err);
}

static int save_queues(const char *path, const struct wl_queue *images,
	const struct wl_queue *texts, struct wl_err *err)
{
	struct wl_safetensors_writer *w = wl_safetensors_create(path, err);
	int image[3], text[3];

	if (!w)
		return -1;
	if (put_queue(w, images, &image_names, image, true, err) < 0 ||
		put_queue(w, texts, &text_names, text, true, err) < 0 ||
		wl_safetensors_begin(w, err) < 0 ||
		put_queue(w, images, &image_names, image, false, err) < 0 ||
		put_queue(w, texts, &text_names, text, false, err) < 0) {
		wl_safetensors_abort(w);
		return -1;
	}
	return wl_safetensors_finish(w, err);
}

/* The tensor `name` if it is rows x cols (cols 0: a vector). */
static const struct wl_saved_tensor *matrix(struct wl_safetensors *st, const char *name,
	size_t rows, size_t cols, struct wl_err *err)
{
	const struct wl_saved_tensor *t = wl_safetensors_get(st, name, err);
	char have[WL_SHAPE_TEXT];

	if (!t)
		return NULL;
	if (t->rank == (cols ? 2 : 1) && t->shape[0] == (int64_t)rows &&
		(!cols || t->shape[1] == (int64_t)cols))
		return t;
	wl_err_set(err, WL_ECKPT, "tensor \"%s\" has shape %s, and the configuration asks for %zu "
		"x %zu (D x K): resume with the moco.queue, data.batch, model and data that the "
		"checkpoint was trained with", name,
		wl_saved_shape_text(t->rank, t->shape, have, sizeof have), rows, cols);
	return NULL;
}

static int get_queue(struct wl_safetensors *st, struct wl_queue *q, const struct queue_names *n,
	struct wl_err *err)
{
	const struct wl_saved_tensor *keys = matrix(st, n->keys, q->dim, q->size, err);
	const struct wl_saved_tensor *ids = keys ? matrix(st, n->ids, q->size, WL_QUEUE_IDS, err)
						 : NULL;
	const struct wl_saved_tensor *next = ids ? matrix(st, n->next, 1, 0, err) : NULL;
	int64_t at;
	float *dk;
	int ret;

	if (!next)
		return -1;
	dk = malloc(q->dim * q->size * sizeof *dk);
	if (!dk)
		return wl_err_nomem(err, "a queue's copy", q->dim * q->size * sizeof *dk);
	ret = wl_saved_to_f32(keys, dk, err);
	if (ret == 0)
		wl_queue_from_torch(q, dk);
	free(dk);
	WL_TRY(ret);
	WL_TRY(wl_saved_to_i64(ids, q->ids, err));
	WL_TRY(wl_saved_to_i64(next, &at, err));
	if (at < 0 || (size_t)at >= q->size)
		return wl_err_set(err, WL_ECKPT, "tensor \"%s\" is %lld: expected a row below %zu",
			n->next, (long long)at, q->size);
	q->next = (size_t)at;
	return 0;
}

static int load_queues(const char *path, struct wl_moco *m, struct wl_err *err)
{
	struct wl_safetensors *st = wl_safetensors_open(path, err);
	struct wl_queue *to[2] = {&m->image_queue, &m->text_queue}, host[2] = {{0}, {0}};
	int ret = -1, i;

	if (!st)
		return -1;
	for (i = 0; i < 2; i++)
		WL_TRY_OUT(wl_queue_take(&host[i], to[i], err));
	if (to[0]->be)
		WL_TRY_OUT(to[0]->be->fetched(to[0]->be, err));
	if (get_queue(st, &host[0], &image_names, err) == 0 &&
		get_queue(st, &host[1], &text_names, err) == 0)
		ret = 0;
	else
		wl_err_prefix(err, "%s", path);
	for (i = 0; i < 2 && ret == 0; i++)
		wl_queue_put(to[i], &host[i]);
out:
	wl_queue_release(&host[0]);
	wl_queue_release(&host[1]);
	wl_safetensors_close(st);
	return ret;
}

/* --- taking --- */

/* Whose files these are. */
static void name_stores(struct wl_snapshot *s, struct wl_trainer *t)
{
	int world = wl_dist_world(t->dist);

	if (s->t)
		return;
	s->t = t;
	wl_taken_init(&s->model, "model", &t->params, t->dist, 0);
	wl_taken_init(&s->momentum, "momentum",
		wl_moco_has_keys(&t->moco) ? &t->moco.momentum : NULL, t->dist, 1 % world);
	s->moments.params = &t->params;
	s->moments.dtype = t->optim.config.state;
	s->moments.cut = t->dist ? wl_dist_cut(t->dist) : NULL;
}

/* Bytes of a moment's copy: what this rank writes of it. */
static size_t moment_bytes(const struct wl_snapshot *s)
{
	return (size_t)wl_cut_owned(s->moments.cut, s->t->params.weights) *
	       wl_dtype_bytes(s->moments.dtype);
}

static int reserve_moment(struct wl_snapshot *s, void **to, struct wl_err *err)
{
	struct wl_backend *be = s->t->backend;

	if (!*to)
		*to = be->alloc_host(be, moment_bytes(s), err);
	return *to ? 0 : -1;
}

int wl_snapshot_reserve(struct wl_snapshot *s, struct wl_trainer *t, struct wl_err *err)
{
	if (!t->backend->apart)
		return 0;
	name_stores(s, t);
	s->copied = true;
	WL_TRY(wl_taken_reserve(&s->model, err));
	WL_TRY(wl_taken_reserve(&s->momentum, err));
	WL_TRY(reserve_moment(s, &s->moments.m, err));
	return reserve_moment(s, &s->moments.v, err);
}

/* What this rank writes of a moment, one piece behind the other. */
static int take_moment(struct wl_snapshot *s, const void *from, void **to, struct wl_err *err)
{
	const size_t each = wl_dtype_bytes(s->moments.dtype);
	const struct wl_trainer *t = s->t;
	struct wl_backend *be = t->backend;
	int64_t all = t->params.weights;
	struct wl_span p;

	WL_TRY(reserve_moment(s, to, err));
	for (p = wl_cut_next(s->moments.cut, 0, all); p.begin < p.end;
		p = wl_cut_next(s->moments.cut, p.end, all))
		be->fetch(be, (char *)*to + (size_t)wl_cut_owned(s->moments.cut, p.begin) * each,
			(const char *)from + (size_t)p.begin * each,
			(size_t)(p.end - p.begin) * each);
	return 0;
}

static void free_copies(struct wl_snapshot *s)
{
	struct wl_backend *be = s->t ? s->t->backend : NULL;

	wl_taken_release(&s->model);
	wl_taken_release(&s->momentum);
	if (s->copied && s->moments.m)
		be->free_host(be, s->moments.m);
	if (s->copied && s->moments.v)
		be->free_host(be, s->moments.v);
	s->moments.m = s->moments.v = NULL;
	if (s->copied) {
		wl_queue_release(&s->image_queue);
		wl_queue_release(&s->text_queue);
	}
	s->image_queue = s->text_queue = (struct wl_queue){0};
	s->copied = false;
}

static int take_copies(struct wl_snapshot *s, struct wl_trainer *t, struct wl_err *err)
{
	if (!s->copied)
		free_copies(s);
	s->copied = true;
	WL_TRY(wl_taken_copy(&s->model, err));
	WL_TRY(wl_taken_copy(&s->momentum, err));
	WL_TRY(take_moment(s, t->optim.m, &s->moments.m, err));
	WL_TRY(take_moment(s, t->optim.v, &s->moments.v, err));
	if (!wl_moco_has_keys(&t->moco) || wl_dist_rank(t->dist) > 0)
		return 0;
	WL_TRY(wl_queue_take(&s->image_queue, &t->moco.image_queue, err));
	return wl_queue_take(&s->text_queue, &t->moco.text_queue, err);
}

int wl_snapshot_take(struct wl_snapshot *s, struct wl_trainer *t, bool copy, json_t *extra,
	struct wl_err *err)
{
	WL_TRY(wl_trainer_settle(t, err));
	name_stores(s, t);
	s->step = t->step;
	json_decref(s->state);
	s->state = wl_trainer_state(t, extra);
	if (!s->state)
		return wl_err_nomem(err, "state.json", 0);
	if (copy || t->dist || t->backend->apart)
		return take_copies(s, t, err);
	free_copies(s);
	wl_taken_borrow(&s->model);
	wl_taken_borrow(&s->momentum);
	s->moments.m = t->optim.m;
	s->moments.v = t->optim.v;
	s->image_queue = t->moco.image_queue;
	s->text_queue = t->moco.text_queue;
	return 0;
}

void wl_snapshot_drop(struct wl_snapshot *s)
{
	struct wl_backend *be = s->t ? s->t->backend : NULL;
	void *moment[2] = {s->moments.m, s->moments.v};

	json_decref(s->state);
	s->state = NULL;
	if (!s->copied)
		free_copies(s);
	wl_taken_drop(&s->model);
	wl_taken_drop(&s->momentum);
	for (int i = 0; s->copied && i < 2; i++)
		if (moment[i] && !be->apart) /* pinned pages stay */
			be->discard(be, moment[i], moment_bytes(s));
}

void wl_snapshot_release(struct wl_snapshot *s)
{
	json_decref(s->state);
	free_copies(s);
	*s = (struct wl_snapshot){0};
}

/* --- writing and reading --- */

/* NAME.safetensors, where this rank writes it. */
static int put_store(const struct wl_taken *s, const char *dir, struct wl_names *names,
	struct wl_err *err)
{
	struct wl_store_array all = {.prefix = "", .data = s->value, .host = true};
	char *path;
	int ret;

	if (!s->mine)
		return 0;
	WL_TRY(wl_taken_gather(s, dir, err));
	path = wl_strf(err, "%s/%s.safetensors", dir, s->name);
	ret = path ? wl_store_save(path, s->store, &all, 1, err) : -1;
	if (ret == 0)
		ret = wl_names_add(names, strrchr(path, '/') + 1, err);
	free(path);
	return ret;
}

bool wl_snapshot_shares(const struct wl_snapshot *s)
{
	return wl_dist_in_pieces(s->t->dist, s->model.store) ||
	       (s->momentum.store && wl_dist_in_pieces(s->t->dist, s->momentum.store));
}

int wl_snapshot_share(const struct wl_snapshot *s, const char *dir, struct wl_err *err)
{
	WL_TRY(s->t->backend->fetched(s->t->backend, err));
	WL_TRY(wl_taken_share(&s->model, dir, err));
	return wl_taken_share(&s->momentum, dir, err);
}

int wl_snapshot_write(const struct wl_snapshot *s, const char *dir, struct wl_names *names,
	struct wl_err *err)
{
	char *path;
	int ret = 0;

	if (s->copied)
		WL_TRY(s->t->backend->fetched(s->t->backend, err));
	WL_TRY(put_store(&s->model, dir, names, err));
	WL_TRY(put_store(&s->momentum, dir, names, err));
	if (wl_queue_rows(&s->image_queue)) {
		path = wl_path_join(dir, "queues.safetensors", err);
		ret = path ? save_queues(path, &s->image_queue, &s->text_queue, err) : -1;
		free(path);
		WL_TRY(ret);
		WL_TRY(wl_names_add(names, "queues.safetensors", err));
	}
	return wl_moments_save(&s->moments, dir, names, err);
}

/* Values of a store; shared: this rank keeps only its pieces. */
static int get_store(const char *dir, const char *name, struct wl_params *p,
	const struct wl_cut *cut, struct wl_err *err)
{
	struct wl_store_array all = {.prefix = "", .data = p->value, .cut = cut};
	char *path = wl_path_join(dir, name, err);
	int ret = path ? wl_store_load(path, p, &all, 1, err) : -1;

	free(path);
	return ret;
}

int wl_snapshot_load(struct wl_trainer *t, const char *dir, const json_t *files,
	struct wl_err *err)
{
	const struct wl_cut *cut = t->dist ? wl_dist_cut(t->dist) : NULL;
	int stage = wl_dist_stage(t->dist), ret;
	struct wl_moments moments = {&t->params, t->optim.m, t->optim.v, t->optim.config.state,
		cut, stage == 0};
	char *path;

	WL_TRY(get_store(dir, "model.safetensors", &t->params, stage == 3 ? cut : NULL, err));
	WL_TRY(wl_moments_load(&moments, dir, files, err));
	if (!wl_moco_has_keys(&t->moco))
		return 0;
	WL_TRY(get_store(dir, "momentum.safetensors", &t->moco.momentum, stage ? cut : NULL, err));
	path = wl_path_join(dir, "queues.safetensors", err);
	ret = path ? load_queues(path, &t->moco, err) : -1;
	free(path);
	return ret;
}
