/* The training step: see trainer.h. */
#include "train/trainer.h"

#include "ops/log.h"

static int build(struct wl_trainer *t, const struct wl_towers *towers, int64_t pairs,
	struct wl_err *err)
{
	const struct wl_train_config *c = t->config;
	struct wl_moco_config moco = c->moco;
	size_t batch = (size_t)c->batch;

	if (moco.objective == WL_OBJECTIVE_MOCO && moco.queue > 0)
		moco.queue = (int64_t)wl_queue_clamp((size_t)moco.queue, (size_t)pairs, batch);
	if (moco.queue != c->moco.queue)
		wl_info("the queues hold %lld keys, not the %lld asked for: there are %lld "
			"training pairs and %lld in a batch", (long long)moco.queue,
			(long long)c->moco.queue, (long long)pairs, (long long)c->batch);
	WL_TRY(wl_moco_init(&t->moco, towers, &moco, &t->params, c->batch, t->seed, err));
	if (towers->freeze)
		WL_TRY(towers->freeze(&t->params, towers->model, err));
	WL_TRY(wl_params_seal(&t->params, t->backend, true, err));
	WL_TRY(wl_moco_start(&t->moco, err));
	return wl_optim_init(&t->optim, &t->params, &c->optim, err);
}

int wl_trainer_init(struct wl_trainer *t, const struct wl_train_config *config,
	const struct wl_towers *towers, struct wl_backend *backend, int64_t total_steps,
	int64_t pairs, struct wl_err *err)
{
	*t = (struct wl_trainer){
		.config = config,
		.backend = backend,
		.schedule = config->schedule,
		.guard = {.spike_z = config->spike_z, .max_in_a_row = config->max_bad_steps},
		.seed = (uint64_t)config->seed,
	};
	t->schedule.total_steps = total_steps;
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
	wl_optim_release(&t->optim);
	wl_moco_release(&t->moco);
	wl_params_release(&t->params);
	*t = (struct wl_trainer){0};
}

void wl_trainer_start(struct wl_trainer *t)
{
	wl_moco_copy(&t->moco);
}

static void say_skipped(const struct wl_trainer *t, const struct wl_step_report *r)
{
	const char *name;

	if (r->verdict == WL_GUARD_SPIKE) {
		wl_warn("step %lld skipped: its gradient norm %.4g is a spike (loss %.4g)",
			(long long)t->step, r->grad_norm, r->moco.loss);
		return;
	}
	name = wl_optim_blame(&t->optim);
	wl_warn("step %lld skipped: loss %g, gradient norm %g, first gradient that is not finite: "
		"%s", (long long)t->step, r->moco.loss, r->grad_norm, name ? name : "none");
}

int wl_trainer_step(struct wl_trainer *t, const struct wl_moco_batch *batch,
	struct wl_step_report *out, struct wl_err *err)
{
	WL_TRY(wl_moco_step(&t->moco, batch, t->seed, (uint64_t)t->step, &out->moco, err));
	out->lr = wl_schedule_lr(&t->schedule, t->step);
	out->grad_norm = wl_optim_grad_norm(&t->optim);
	out->verdict = wl_guard_judge(&t->guard, out->moco.loss, out->grad_norm);
	if (out->verdict == WL_GUARD_OK) {
		wl_optim_step(&t->optim, out->lr, out->grad_norm);
		wl_moco_clamp_tau(&t->moco);
	} else {
		say_skipped(t, out);
	}
	/* Keys are finite whenever the loss is: the positives are among its terms. */
	if (out->verdict == WL_GUARD_NONFINITE)
		wl_moco_undo_stats(&t->moco);
	else
		wl_moco_push(&t->moco);
	out->tau = wl_moco_tau(&t->moco);
	t->step++;
	return wl_guard_give_up(&t->guard, t->step - 1, err);
}
