/* The training step: see trainer.h. */
#include "train/trainer.h"

#include "train/judged.h"

#include "ops/log.h"

#include <math.h>
#include <stdlib.h>

/* The stores are shared out, and each graph tells when it needs what. */
static int share_out(struct wl_trainer *t, struct wl_err *err)
{
	struct wl_moco *m = &t->moco;

	WL_TRY(wl_dist_start(t->dist, &t->params, m->key ? &m->momentum : NULL, err));
	if (m->key)
		WL_TRY(wl_dist_attach(t->dist, m->key, &m->momentum, false, err));
	if (m->loss)
		WL_TRY(wl_dist_attach(t->dist, m->loss, &t->params, false, err));
	WL_TRY(wl_dist_attach(t->dist, m->query, &t->params, true, err));
	return wl_dist_place(t->dist, err);
}

static int build(struct wl_trainer *t, const struct wl_towers *towers, int64_t pairs,
	struct wl_err *err)
{
	const struct wl_train_config *c = t->config;
	struct wl_moco_config moco = c->moco;
	struct wl_optim_config optim = c->optim;
	size_t batch = (size_t)c->batch * (size_t)wl_dist_world(t->dist);

	if (moco.objective == WL_OBJECTIVE_MOCO && moco.queue > 0)
		moco.queue = (int64_t)wl_queue_clamp((size_t)moco.queue, (size_t)pairs, batch);
	if (moco.queue != c->moco.queue)
		wl_info("the queues hold %lld keys, not the %lld asked for: there are %lld "
			"training pairs and %lld in a batch", (long long)moco.queue,
			(long long)c->moco.queue, (long long)pairs, (long long)batch);
	moco.dist = t->dist;
	moco.queue_dtype = wl_train_queue_type(c, t->backend->apart);
	if (t->dist) {
		moco.comm = wl_dist_comm(t->dist);
		wl_dist_shape(t->dist, t->backend, &t->params);
	}
	WL_TRY(wl_moco_init(&t->moco, towers, &moco, &t->params, c->batch, t->seed, err));
	if (towers->freeze)
		WL_TRY(towers->freeze(&t->params, towers->model, err));
	WL_TRY(wl_params_seal(&t->params, t->backend, true, err));
	WL_TRY(wl_moco_start(&t->moco, err));
	if (t->dist) {
		WL_TRY(share_out(t, err));
		optim.cut = wl_dist_cut(t->dist);
		optim.update_all = wl_dist_stage(t->dist) == 0;
	}
	WL_TRY(wl_optim_init(&t->optim, &t->params, &optim, err));
	return wl_judged_open(t, err);
}

int wl_trainer_init(struct wl_trainer *t, const struct wl_train_config *config,
	const struct wl_towers *towers, struct wl_backend *backend, struct wl_dist *dist,
	int64_t total_steps, int64_t pairs, struct wl_err *err)
{
	*t = (struct wl_trainer){
		.config = config,
		.backend = backend,
		.dist = dist,
		.schedule = config->schedule,
		.guard = {.spike_z = config->spike_z, .max_in_a_row = config->max_bad_steps},
		.seed = (uint64_t)config->seed,
	};
	t->schedule.total_steps = total_steps;
	if (config->moco.scaled)
		t->scaler = (struct wl_scaler){.scale = (float)config->loss_scale,
			.interval = config->loss_scale_interval};
	wl_params_init(&t->params);
	if (wl_schedule_check(&t->schedule, err) < 0 || build(t, towers, pairs, err) < 0) {
		wl_trainer_release(t);
		return -1;
	}
	return 0;
}

void wl_trainer_release(struct wl_trainer *t)
{
	if (!t)
		return;
	wl_judged_close(t);
	wl_optim_release(&t->optim);
	wl_moco_release(&t->moco);
	wl_params_release(&t->params);
	*t = (struct wl_trainer){0};
}

void wl_trainer_start(struct wl_trainer *t)
{
	wl_moco_copy(&t->moco);
	if (t->dist)
		wl_dist_shed(t->dist);
	wl_judged_put(t);
}

static void say_skipped(const struct wl_trainer *t, const struct wl_step_report *r)
{
	if (r->verdict != WL_GUARD_NONFINITE && wl_dist_rank(t->dist) > 0)
		return;
	if (r->verdict == WL_GUARD_OVERFLOW) {
		wl_info("step %lld skipped: its gradients overflow at the loss scale %g; going on "
			"with half of it", (long long)r->step - 1, r->loss_scale);
		return;
	}
	if (r->verdict == WL_GUARD_SPIKE) {
		wl_warn("step %lld skipped: its gradient norm %.4g is a spike (loss %.4g)",
			(long long)r->step - 1, r->grad_norm, r->moco.loss);
		return;
	}
	if (!r->blame && wl_dist_rank(t->dist) > 0)
		return; /* another rank has it, or none: then rank 0 says so */
	wl_warn("step %lld skipped: loss %g, gradient norm %g, first gradient that is not finite: "
		"%s", (long long)r->step - 1, r->moco.loss, r->grad_norm,
		r->blame ? r->blame : "none");
}

/* Results become their means over the ranks, the square of the gradient's norm its sum, added up
 * in the order of ranks: the same bits everywhere. */
static int join_ranks(struct wl_trainer *t, struct wl_moco_result *r, double *squares,
	struct wl_err *err)
{
	enum { N = 6 };
	double *mine[N - 1] = {&r->loss, &r->loss_i2t, &r->loss_t2i, &r->acc_i2t, &r->acc_t2i};
	int world = wl_dist_world(t->dist), k, i;
	double send[N], all[N * WL_TRAINER_RANKS];

	for (i = 0; i < N - 1; i++)
		send[i] = *mine[i];
	send[N - 1] = *squares;
	WL_TRY(wl_comm_all_gather(wl_dist_comm(t->dist), send, sizeof send, all, err));
	for (i = 0; i < N; i++)
		send[i] = 0;
	for (k = 0; k < world; k++)
		for (i = 0; i < N; i++)
			send[i] += all[k * N + i];
	for (i = 0; i < N - 1; i++)
		*mine[i] = send[i] / world;
	*squares = send[N - 1];
	return 0;
}

/* The temperature, which at stages 1 to 3 only the owner of the log scale is sure to know. */
static int tell_tau(struct wl_trainer *t, double *tau, struct wl_err *err)
{
	int64_t at = t->params.item[wl_params_find(&t->params, WL_MOCO_SCALE)].offset;

	*tau = wl_moco_tau(&t->moco);
	if (wl_dist_stage(t->dist) == 0)
		return 0;
	return wl_comm_broadcast(wl_dist_comm(t->dist), tau, sizeof *tau,
		wl_cut_owner(wl_dist_cut(t->dist), at), err);
}

static int update(struct wl_trainer *t, const struct wl_step_report *r, struct wl_err *err)
{
	/* MoCo's momentum update begins the next step; here the weights are at hand.  A step that
	 * is skipped leaves it to the next one. */
	t->moco.followed = wl_moco_has_keys(&t->moco);
	wl_optim_step_with(&t->optim, r->lr, r->grad_norm,
		t->moco.followed ? t->moco.momentum.value : NULL, t->config->moco.momentum);
	wl_moco_clamp_tau(&t->moco); /* where the log scale is not owned it is never too large */
	return t->dist ? wl_dist_updated(t->dist, err) : 0;
}

/* What the host judges, once the gradients are there. */
static int finish(struct wl_trainer *t, struct wl_step_report *r, struct wl_err *err)
{
	double squares = wl_optim_grad_squares(&t->optim);
	bool undo;

	if (t->dist)
		WL_TRY(join_ranks(t, &r->moco, &squares, err));
	r->grad_norm = sqrt(squares);
	r->verdict = wl_judge_rule(&t->guard, &t->scaler, r->moco.loss, r->grad_norm);
	if (r->verdict == WL_GUARD_OK)
		WL_TRY(update(t, r, err));
	else if (r->verdict == WL_GUARD_NONFINITE)
		r->blame = wl_optim_blame(&t->optim);
	/* Else keys are finite whenever the loss is: the positives are among its terms. */
	undo = wl_judge_undoes(r->verdict);
	if (undo)
		wl_moco_undo_stats(&t->moco);
	else
		WL_TRY(wl_moco_push(&t->moco, err));
	if (t->dist && !undo)
		WL_TRY(wl_dist_mean_stats(t->dist, err));
	return tell_tau(t, &r->tau, err);
}

static struct wl_step_report *report_of(struct wl_trainer *t, int64_t step)
{
	return &t->given[step % (WL_TRAINER_LATE + 1)];
}

int wl_trainer_give(struct wl_trainer *t, const struct wl_moco_batch *batch, struct wl_err *err)
{
	struct wl_step_report *r = report_of(t, t->step);

	WL_ASSERT(wl_trainer_untaken(t) <= wl_trainer_late(t));
	*r = (struct wl_step_report){.step = t->step + 1,
		.lr = wl_schedule_lr(&t->schedule, t->step)};
	r->loss_scale = t->moco.loss_scale = t->optim.loss_scale = wl_scaler_scale(&t->scaler);
	WL_TRY(wl_moco_step(&t->moco, batch, t->seed, (uint64_t)t->step, &r->moco, err));
	if (t->dist)
		WL_TRY(wl_dist_reduced(t->dist, err));
	WL_TRY(t->judge ? wl_judged_finish(t, r, err) : finish(t, r, err));
	t->step++;
	return 0;
}

int wl_trainer_take(struct wl_trainer *t, struct wl_step_report *out, struct wl_err *err)
{
	struct wl_step_report *r = report_of(t, t->taken);

	WL_ASSERT(wl_trainer_untaken(t) > 0);
	if (t->judge)
		WL_TRY(wl_judged_hear(t, t->taken, r, err));
	t->taken++;
	*out = *r;
	if (out->verdict != WL_GUARD_OK)
		say_skipped(t, out);
	return wl_guard_give_up(&t->guard, out->step - 1, err);
}

int64_t wl_trainer_untaken(const struct wl_trainer *t)
{
	return t->step - t->taken;
}

int64_t wl_trainer_late(const struct wl_trainer *t)
{
	return t->judge ? WL_TRAINER_LATE : 0;
}

int wl_trainer_step(struct wl_trainer *t, const struct wl_moco_batch *batch,
	struct wl_step_report *out, struct wl_err *err)
{
	WL_ASSERT(wl_trainer_untaken(t) == 0);
	WL_TRY(wl_trainer_give(t, batch, err));
	return wl_trainer_take(t, out, err);
}

int wl_trainer_settle(struct wl_trainer *t, struct wl_err *err)
{
	if (!t->judge || !wl_trainer_untaken(t))
		return 0;
	return wl_judged_hear(t, t->step - 1, report_of(t, t->step - 1), err);
}
