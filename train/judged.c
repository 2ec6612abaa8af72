/* A step whose verdict the host does not wait for: see judged.h. */
#include "train/judged.h"

#include <math.h>

static const struct wl_judge_ops *ops(const struct wl_trainer *t)
{
	return t->backend->judges;
}

int wl_judged_open(struct wl_trainer *t, struct wl_err *err)
{
	int world = wl_dist_world(t->dist);
	struct wl_judge_settings how = {
		.beta1 = (float)t->optim.config.beta1,
		.beta2 = (float)t->optim.config.beta2,
		.clip = t->optim.config.clip_norm,
		.loss_weight = wl_moco_loss_weight(&t->moco),
		.world = world,
	};

	if (!ops(t))
		return 0;
	if (wl_moco_has_keys(&t->moco)) {
		how.rows = t->moco.batch * world;
		how.size[0] = (int64_t)t->moco.image_queue.size;
		how.size[1] = (int64_t)t->moco.text_queue.size;
	}
	t->judge = ops(t)->open(t->backend, &how, err);
	t->moco.judge = t->judge;
	return t->judge ? 0 : -1;
}

void wl_judged_close(struct wl_trainer *t)
{
	if (t->judge)
		ops(t)->close(t->judge);
	t->judge = t->moco.judge = NULL;
}

void wl_judged_put(struct wl_trainer *t)
{
	struct wl_judge_state s = {.guard = t->guard, .scaler = t->scaler,
		.updates = t->optim.updates,
		.next = {(int64_t)t->moco.image_queue.next, (int64_t)t->moco.text_queue.next}};

	if (t->judge)
		ops(t)->put(t->judge, &s);
}

/* The rank whose log scale is the one that training moves. */
static int scale_owner(const struct wl_trainer *t)
{
	return wl_dist_stage(t->dist) == 0
		       ? wl_dist_rank(t->dist)
		       : wl_cut_owner(wl_dist_cut(t->dist), wl_moco_scale_at(&t->moco));
}

/* The verdict, on the device, and where the gradients went wrong. */
static int decide(struct wl_trainer *t, const struct wl_judge_places *at, struct wl_err *err)
{
	const int64_t parts = wl_moco_has_keys(&t->moco) ? t->config->moco.accumulate : 1;

	wl_optim_give_squares(&t->optim, at->squares);
	ops(t)->measure(t->judge, t->moco.scores, parts > 0 ? parts : 1);
	if (t->dist)
		WL_TRY(wl_dist_gather(t->dist, at->mine, WL_JUDGE_MEASURES * sizeof *at->mine,
			at->all, err));
	ops(t)->decide(t->judge);
	wl_optim_give_blame(&t->optim, t->judge);
	return 0;
}

int wl_judged_finish(struct wl_trainer *t, const struct wl_step_report *r, struct wl_err *err)
{
	struct wl_judge_places at;
	int owner = scale_owner(t);

	ops(t)->places(t->judge, &at);
	WL_TRY(decide(t, &at, err));
	t->backend->hold(t->backend); /* a checkpoint's copies read what changes now */
	/* Momentum weights follow here whatever becomes of the step: where the host judges, a
	 * skipped step leaves that to the beginning of the next one, with the same result. */
	t->moco.followed = wl_moco_has_keys(&t->moco);
	wl_optim_step_judged(&t->optim, r->lr, t->judge,
		t->moco.followed ? t->moco.momentum.value : NULL, t->config->moco.momentum);
	if (owner == wl_dist_rank(t->dist))
		wl_moco_clamp_tau(&t->moco);
	if (wl_dist_stage(t->dist))
		WL_TRY(wl_dist_gather(t->dist, at.scale, sizeof *at.scale, at.scales, err));
	if (t->dist) { /* means first: undone, they are what they were on every rank */
		WL_TRY(wl_dist_updated(t->dist, err));
		WL_TRY(wl_dist_mean_stats(t->dist, err));
	}
	wl_moco_undo_stats(&t->moco);
	WL_TRY(wl_moco_push(&t->moco, err));
	return ops(t)->tell(t->judge, wl_dist_stage(t->dist) ? owner : -1,
		(int)(t->step % WL_JUDGE_SLOTS), err);
}

int wl_judged_hear(struct wl_trainer *t, int64_t step, struct wl_step_report *r,
	struct wl_err *err)
{
	struct wl_judged j;

	WL_TRY(ops(t)->hear(t->judge, (int)(step % WL_JUDGE_SLOTS), &j, err));
	r->moco = (struct wl_moco_result){j.loss, j.loss_i2t, j.loss_t2i, j.acc_i2t, j.acc_t2i};
	r->grad_norm = j.norm;
	r->loss_scale = j.loss_scale;
	r->tau = exp(-(double)j.log_scale);
	r->verdict = j.verdict;
	r->blame = j.bad < 0 ? NULL : wl_optim_name_at(&t->optim, j.bad);
	t->guard = j.after.guard;
	t->scaler = j.after.scaler;
	t->optim.updates = j.after.updates;
	t->moco.image_queue.next = (size_t)j.after.next[0];
	t->moco.text_queue.next = (size_t)j.after.next[1];
	return 0;
}
