/*
 * A trainer to and from a checkpoint directory: see trainer.h.
 *
 *   model.safetensors     online towers and the log scale, running statistics included
 *   momentum.safetensors  the same of the momentum towers
 *   queues.safetensors    img_queue, text_queue [D,K] and *_queue_ptr as BriVL names them, and
 *                         *_queue_ids [K,2]
 *                         (neither of the two with the objective clip)
 *   optim-00000-of-00001.safetensors  exp_avg.NAME, exp_avg_sq.NAME as torch names them
 *   state.json            step, optimiser updates, guard, seed, settings, world size, build
 *
 * There is no generator state: every random number is a function of the seed, the step and the
 * place of its use.
 */
#include "train/trainer.h"

#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "train/checkpoint/ckpt.h"
#include "train/checkpoint/safetensors.h"
#include "train/checkpoint/store.h"

#include <stdlib.h>
#include <string.h>

#ifndef WL_BUILD_ID
#define WL_BUILD_ID "unknown"
#endif

static const char optim_file[] = "optim-00000-of-00001.safetensors";

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

static int save_queues(const char *path, const struct wl_moco *m, struct wl_err *err)
{
	struct wl_safetensors_writer *w = wl_safetensors_create(path, err);
	int image[3], text[3];

	if (!w)
		return -1;
	if (put_queue(w, &m->image_queue, &image_names, image, true, err) < 0 ||
		put_queue(w, &m->text_queue, &text_names, text, true, err) < 0 ||
		wl_safetensors_begin(w, err) < 0 ||
		put_queue(w, &m->image_queue, &image_names, image, false, err) < 0 ||
		put_queue(w, &m->text_queue, &text_names, text, false, err) < 0) {
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
	int ret = -1;

	if (!st)
		return -1;
	if (get_queue(st, &m->image_queue, &image_names, err) == 0 &&
		get_queue(st, &m->text_queue, &text_names, err) == 0)
		ret = 0;
	else
		wl_err_prefix(err, "%s", path);
	wl_safetensors_close(st);
	return ret;
}

/* --- files --- */

/* The arrays of the three files that hold stores. */
static void arrays_of(const struct wl_trainer *t, struct wl_store_array model[1],
	struct wl_store_array momentum[1], struct wl_store_array moments[2])
{
	model[0] = (struct wl_store_array){"", t->params.value, 0, 0};
	momentum[0] = (struct wl_store_array){"", t->moco.momentum.value, 0, 0};
	moments[0] = (struct wl_store_array){"exp_avg.", t->optim.m, WL_PARAM_TRAINABLE,
		WL_PARAM_BUFFER};
	moments[1] = (struct wl_store_array){"exp_avg_sq.", t->optim.v, WL_PARAM_TRAINABLE,
		WL_PARAM_BUFFER};
}

typedef int (*store_fn)(const char *path, const struct wl_params *params,
	const struct wl_store_array *arrays, size_t n, struct wl_err *err);

/* Saves or loads the three by fn. */
static int stores(const struct wl_trainer *t, const char *dir, store_fn fn, struct wl_err *err)
{
	struct wl_store_array model[1], momentum[1], moments[2];
	const struct {
		const char *name;
		const struct wl_params *params;
		const struct wl_store_array *arrays;
		size_t n;
	} files[] = {
		{"model.safetensors", &t->params, model, 1},
		{"momentum.safetensors", &t->moco.momentum, momentum, 1},
		{optim_file, &t->params, moments, 2},
	};
	size_t i;
	char *path;
	int ret;

	arrays_of(t, model, momentum, moments);
	for (i = 0; i < sizeof files / sizeof *files; i++) {
		if (files[i].arrays == momentum && !wl_moco_has_keys(&t->moco))
			continue;
		path = wl_path_join(dir, files[i].name, err);
		ret = path ? fn(path, files[i].params, files[i].arrays, files[i].n, err) : -1;
		free(path);
		WL_TRY(ret);
	}
	return 0;
}

/* --- state.json --- */

/* The settings that shape the result, for the comparison at a resume. */
static json_t *settings(const struct wl_trainer *t)
{
	const struct wl_train_config *c = t->config;

	return json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:b,s:b,s:b,s:s,s:f,s:f,s:I,s:I,s:f,s:f,s:f,s:f,s:f,"
			 "s:O?,s:O?,s:O?}",
		"objective", c->objective, "data.accumulate", (json_int_t)c->moco.accumulate,
		"moco.extra-positives", (json_int_t)c->moco.extra_positives, "seed",
		(json_int_t)c->seed, "data.batch", (json_int_t)c->batch, "moco.queue",
		(json_int_t)t->moco.config.queue, "moco.momentum", c->moco.momentum, "moco.tau",
		c->moco.tau, "moco.learn-tau", c->moco.learn_tau, "moco.in-batch",
		c->moco.in_batch, "moco.online-positive", c->moco.online_positive, "precision",
		c->precision, "optim.lr", c->schedule.lr, "optim.lr-floor", c->schedule.floor,
		"optim.warmup-steps", (json_int_t)c->schedule.warmup_steps, "total-steps",
		(json_int_t)t->schedule.total_steps, "optim.beta1", c->optim.beta1, "optim.beta2",
		c->optim.beta2, "optim.eps", c->optim.eps, "optim.weight-decay",
		c->optim.weight_decay, "optim.clip-norm", c->optim.clip_norm, "optim.groups",
		c->groups, "model", c->model, "data.augment", c->augment);
}

static json_t *make_state(const struct wl_trainer *t, json_t *extra)
{
	json_t *s = settings(t);

	if (!s)
		return NULL;
	return json_pack("{s:I,s:o?,s:o,s:I,s:I,s:s,s:O?}", "updates", (json_int_t)t->optim.updates,
		"guard", wl_guard_save(&t->guard), "settings", s, "world_size", (json_int_t)1,
		"seed", (json_int_t)t->seed, "build", WL_BUILD_ID, "run", extra);
}

static int write_files(const struct wl_trainer *t, struct wl_ckpt *c, const char *vocab,
	const json_t *preprocess, struct wl_err *err)
{
	char *path;
	int ret;

	WL_TRY(stores(t, c->tmp, wl_store_save, err));
	if (wl_moco_has_keys(&t->moco)) {
		path = wl_ckpt_file(c, "queues.safetensors", err);
		ret = path ? save_queues(path, &t->moco, err) : -1;
		free(path);
		WL_TRY(ret);
	}
	if (vocab)
		WL_TRY(wl_ckpt_copy(c, vocab, "vocab.txt", err));
	if (!preprocess)
		return 0;
	path = wl_ckpt_file(c, "preprocess.json", err);
	ret = path ? wl_json_save(path, preprocess, err) : -1;
	free(path);
	return ret;
}

int wl_trainer_save(const struct wl_trainer *t, const char *run_dir, json_t *extra,
	const char *vocab, const json_t *preprocess, struct wl_err *err)
{
	struct wl_ckpt c;
	json_t *state;
	char *done = wl_strf(err, "%s/ckpt-%08lld/state.json", run_dir, (long long)t->step);
	bool exists = done && wl_exists(done);
	int ret = -1;

	free(done);
	if (!done)
		return -1;
	if (exists)
		return 0;
	WL_TRY(wl_ckpt_begin(&c, run_dir, t->step, err));
	state = make_state(t, extra);
	if (!state)
		wl_err_nomem(err, "state.json", 0);
	else if (write_files(t, &c, vocab, preprocess, err) == 0)
		ret = wl_ckpt_commit(&c, state, err);
	json_decref(state);
	wl_ckpt_release(&c);
	return ret;
}

/* Says what differs: a resumed run must not take old settings, nor new ones, in silence. */
static void say_changes(const struct wl_trainer *t, const json_t *old)
{
	json_t *now = settings(t), *v;
	const char *key;

	json_object_foreach(now, key, v) {
		json_t *was = json_object_get(old, key);
		char *a, *b;

		if (json_equal(v, was) || (json_is_null(v) && !was))
			continue;
		a = was ? json_dumps(was, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
		b = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
		wl_warn("%s was %s when the checkpoint was written and is %s now; going on with "
			"the latter", key, a ? a : "not there", b ? b : "?");
		free(a);
		free(b);
	}
	json_decref(now);
}

int wl_trainer_load(struct wl_trainer *t, const char *dir, const json_t *state,
	struct wl_err *err)
{
	int64_t step, updates, seed;
	char *path;
	int ret;

	WL_TRY(wl_json_int(state, "step", dir, &step, err));
	WL_TRY(wl_json_int(state, "updates", dir, &updates, err));
	WL_TRY(wl_json_int(state, "seed", dir, &seed, err));
	if ((uint64_t)seed != t->seed)
		return wl_err_set(err, WL_EUSAGE, "seed is %lld, and the run at %s began with "
			"%lld: use that one, or another --run directory", (long long)t->seed, dir,
			(long long)seed);
	WL_TRY(wl_guard_restore(&t->guard, json_object_get(state, "guard"), err));
	WL_TRY(stores(t, dir, wl_store_load, err));
	if (wl_moco_has_keys(&t->moco)) {
		path = wl_path_join(dir, "queues.safetensors", err);
		ret = path ? load_queues(path, &t->moco, err) : -1;
		free(path);
		WL_TRY(ret);
	}
	say_changes(t, json_object_get(state, "settings"));
	t->step = step;
	t->optim.updates = updates;
	return 0;
}
