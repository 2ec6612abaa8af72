/*
 * What a run says of its steps: the metrics served, the progress line and the log on every rank;
 * metrics.jsonl and the page of the report on the first.
 */
#ifndef WL_TRAIN_TELLER_H
#define WL_TRAIN_TELLER_H

#include "ops/metrics.h"
#include "ops/progress.h"
#include "train/report.h"
#include "train/trainer.h"
#include "train/watch.h"

/* Seconds of a step. */
struct wl_spent {
	double wait, all; /* for the loader; from begin to end */
};

/* The parts are opened and closed by the loop. */
struct wl_teller {
	const struct wl_trainer *trainer; /* borrowed */
	double pairs;                     /* of a step, over all ranks */
	int64_t epoch_steps, total_steps, log_every;
	bool first;                       /* of the ranks: the next four are open */
	struct wl_jsonl metrics;
	struct wl_progress *progress;
	struct wl_train_report *report;
	struct wl_watch watch;
	double loss_average; /* of the log and the progress bar only, over this process's steps */
	int64_t averaged;
};

/* Of a validation after `step`, as wl_validate gives it. */
void wl_teller_validated(const struct wl_teller *t, int64_t step, const json_t *val);
/* Of a step, on every rank: what is served, progress, the log. */
void wl_teller_step(struct wl_teller *t, const struct wl_step_report *s,
	const struct wl_spent *spent);
/* Of a step, on the first rank: its line of metrics.jsonl and of the report; val (or NULL) is
 * stolen. err: NULL where the run ends with another error. */
WL_MUST_CHECK int wl_teller_line(struct wl_teller *t, const struct wl_step_report *s,
	const struct wl_spent *spent, json_t *val, struct wl_err *err);

#endif
