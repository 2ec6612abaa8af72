/* See teller.h. */
#include "train/teller.h"

#include "ops/log.h"

#include <math.h>
#include <stdio.h>

/* JSON has no NaN: what is not finite is null. */
static void put(json_t *o, const char *key, double v)
{
	json_object_set_new(o, key, isfinite(v) ? json_real(v) : json_null());
}

/* The object of metrics.jsonl; val is stolen, may be NULL. */
static json_t *metrics_line(struct wl_teller *t, const struct wl_step_report *s,
	const struct wl_spent *spent, json_t *val)
{
	static const char *const verdicts[] = {"", "nonfinite", "spike", "overflow"};
	json_t *o = json_pack("{s:I,s:I}", "step", (json_int_t)s->step, "epoch",
		(json_int_t)((s->step - 1) / t->epoch_steps));

	if (!o)
		return NULL;
	put(o, "loss", s->moco.loss);
	put(o, "loss_i2t", s->moco.loss_i2t);
	put(o, "loss_t2i", s->moco.loss_t2i);
	put(o, "acc_i2t", s->moco.acc_i2t);
	put(o, "acc_t2i", s->moco.acc_t2i);
	put(o, "tau", s->tau);
	put(o, "lr", s->lr);
	put(o, "grad_norm", s->grad_norm);
	if (t->trainer->scaler.scale > 0)
		put(o, "loss_scale", s->loss_scale);
	put(o, "step_s", spent->all);
	put(o, "data_wait_s", spent->wait);
	put(o, "pairs_per_s", t->pairs / spent->all);
	if (s->verdict != WL_GUARD_OK)
		json_object_set_new(o, "skipped", json_string(verdicts[s->verdict]));
	if (val)
		json_object_set_new(o, "val", val);
	wl_watch_look(&t->watch, o);
	return o;
}

void wl_teller_step(struct wl_teller *t, const struct wl_step_report *s,
	const struct wl_spent *spent)
{
	char note[64];
	int64_t step = s->step;

	if (s->verdict == WL_GUARD_OK) {
		t->averaged++;
		t->loss_average += (s->moco.loss - t->loss_average) /
				   (double)(t->averaged < 20 ? t->averaged : 20);
	}
	wl_metric_set("wenlan_train_step", "training steps done", (double)step);
	wl_metric_set("wenlan_train_loss", "loss of the last step, both directions", s->moco.loss);
	wl_metric_set("wenlan_train_learning_rate", "rate of the last step", s->lr);
	wl_metric_set("wenlan_train_grad_norm", "gradient norm before clipping", s->grad_norm);
	wl_metric_set("wenlan_train_temperature", "tau", s->tau);
	if (t->trainer->scaler.scale > 0)
		wl_metric_set("wenlan_train_loss_scale", "of the last step", s->loss_scale);
	wl_metric_add("wenlan_train_pairs_total", "pairs trained on", t->pairs);
	wl_metric_add("wenlan_train_data_wait_seconds_total", "waiting for the loader",
		spent->wait);
	wl_metric_add("wenlan_train_seconds_total", "in steps, waiting included", spent->all);
	if (s->verdict != WL_GUARD_OK)
		wl_metric_add("wenlan_train_skipped_total", "steps without an update", 1);
	snprintf(note, sizeof note, "loss %.3f", t->loss_average);
	wl_progress_set(t->progress, (uint64_t)((double)step * t->pairs), note);
	if (t->log_every && step % t->log_every == 0)
		wl_info("step %lld of %lld: loss %.4f, top-1 %.1f %% and %.1f %%, tau %.4f, rate "
			"%.3g, %.1f pairs/s",
			(long long)step, (long long)t->total_steps, s->moco.loss,
			100 * s->moco.acc_i2t, 100 * s->moco.acc_t2i, s->tau, s->lr,
			t->pairs / spent->all);
}

static double recall(const json_t *val, const char *side, const char *key)
{
	return json_number_value(json_object_get(json_object_get(val, side), key));
}

void wl_teller_validated(const struct wl_teller *t, int64_t step, const json_t *val)
{
	wl_info("step %lld of %lld, epoch %.1f: loss %.3f; validation R@1/5/10 image to text "
		"%.1f %.1f %.1f, text to image %.1f %.1f %.1f %% of %lld pictures",
		(long long)step, (long long)t->total_steps, (double)step / (double)t->epoch_steps,
		t->loss_average, recall(val, "i2t", "r1"), recall(val, "i2t", "r5"),
		recall(val, "i2t", "r10"), recall(val, "t2i", "r1"), recall(val, "t2i", "r5"),
		recall(val, "t2i", "r10"),
		(long long)json_integer_value(json_object_get(val, "images")));
	wl_metric_set("wenlan_train_mean_recall", "validation, percent",
		json_number_value(json_object_get(val, "mean_recall")));
}

int wl_teller_line(struct wl_teller *t, const struct wl_step_report *s,
	const struct wl_spent *spent, json_t *val, struct wl_err *err)
{
	json_t *line;
	int ret;

	if (!t->first) {
		json_decref(val);
		return 0;
	}
	line = metrics_line(t, s, spent, val);
	if (!line) {
		json_decref(val);
		return wl_err_nomem(err, "a line of metrics", 0);
	}
	ret = wl_jsonl_add(&t->metrics, line, err);
	wl_train_report_add(t->report, line);
	json_decref(line);
	return ret < 0 ? -1 : wl_train_report_write(t->report, false, err);
}
