/*
 * A trainer to and from a checkpoint directory: see trainer.h.
 *
 *   model.safetensors     online towers and the log scale, running statistics included
 *   momentum.safetensors  the same of the momentum towers
 *   queues.safetensors    img_queue, text_queue [D,K] and *_queue_ptr as BriVL names them, and
 *                         *_queue_ids [K,2]
 *                         (neither of the two with the objective clip)
 *   optim-RRRRR-of-WWWWW.safetensors  Adam's moments, see optim_state.h
 *   state.json            step, optimiser updates, guard, loss scale, seed, settings, world size,
 *                         build
 *
 * There is no generator state: every random number is a function of the seed, the step and the
 * place of its use.
 */
#include "train/trainer.h"

#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "train/checkpoint/ckpt.h"
#include "train/judged.h"
#include "train/saver.h"
#include "train/state.h"

#include <stdlib.h>
#include <string.h>

#ifndef WL_BUILD_ID
#define WL_BUILD_ID "unknown"
#endif

/* --- state.json --- */

/* The settings that shape the result, for the comparison at a resume. */
static json_t *settings(const struct wl_trainer *t)
{
	const struct wl_train_config *c = t->config;

	return json_pack("{s:f,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:b,s:b,s:b,s:s,"
			 "s:f,s:f,s:I,s:I,s:f,s:f,s:f,s:f,s:f,s:O?,s:O?,s:O?,s:O?}",
		"optim.layer-decay", c->optim.layer_decay, "optim.state", c->optim_state,
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
		c->groups, "model", c->model, "data.augment", c->augment, "data.mix", c->mix);
}

json_t *wl_trainer_state(const struct wl_trainer *t, json_t *extra)
{
	json_t *s = settings(t);

	if (!s)
		return NULL;
	return json_pack("{s:I,s:b,s:o?,s:o*,s:o,s:I,s:I,s:s,s:O?}", "updates",
		(json_int_t)t->optim.updates, "followed", t->moco.followed,
		"guard", wl_guard_save(&t->guard), "scaler",
		t->scaler.scale > 0 ? wl_scaler_save(&t->scaler) : NULL, "settings", s,
		"world_size", (json_int_t)wl_dist_world(t->dist),
		"seed", (json_int_t)t->seed, "build", WL_BUILD_ID, "run", extra);
}

/* --- saving --- */

int wl_trainer_agree(const struct wl_trainer *t, int mine, const char *what, struct wl_err *err)
{
	int64_t worst = mine < 0 ? wl_dist_rank(t->dist) + 1 : 0;

	if (!t->dist)
		return mine;
	WL_TRY(wl_comm_all_reduce(wl_dist_comm(t->dist), &worst, 1, WL_COMM_I64, WL_COMM_MAX,
		mine < 0 ? NULL : err));
	if (worst && mine >= 0)
		return wl_err_set(err, WL_EFAIL, "rank %lld could not %s; its own message says "
			"why", (long long)worst - 1, what);
	return mine;
}

int wl_trainer_save(struct wl_trainer *t, const char *run_dir, json_t *extra,
	const char *vocab, const json_t *preprocess, struct wl_err *err)
{
	struct wl_saver_config c = {.run_dir = run_dir, .vocab = vocab, .preprocess = preprocess,
		.keep = INT64_MAX};
	struct wl_saver *s = wl_saver_open(t, &c, err);
	int ret = s ? wl_saver_save(s, extra, true, err) : -1;

	wl_saver_close(s);
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

	WL_TRY(wl_trainer_settle(t, err));
	WL_TRY(wl_json_int(state, "step", dir, &step, err));
	WL_TRY(wl_json_int(state, "updates", dir, &updates, err));
	WL_TRY(wl_json_int(state, "seed", dir, &seed, err));
	if ((uint64_t)seed != t->seed)
		return wl_err_set(err, WL_EUSAGE, "seed is %lld, and the run at %s began with "
			"%lld: use that one, or another --run directory", (long long)t->seed, dir,
			(long long)seed);
	WL_TRY(wl_guard_restore(&t->guard, json_object_get(state, "guard"), err));
	if (t->scaler.scale > 0)
		WL_TRY(wl_scaler_restore(&t->scaler, json_object_get(state, "scaler"), err));
	WL_TRY(wl_snapshot_load(t, dir, json_object_get(state, "files"), err));
	if (wl_dist_rank(t->dist) == 0)
		say_changes(t, json_object_get(state, "settings"));
	t->step = step;
	t->optim.updates = updates;
	/* Older checkpoints: the next step begins with the momentum update. */
	t->moco.followed = json_is_true(json_object_get(state, "followed"));
	t->taken = step;
	wl_judged_put(t);
	return 0;
}
