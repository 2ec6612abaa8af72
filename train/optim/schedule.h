/*
 * The learning rate as a pure function of the step: linear warm-up, then a
 * cosine from the base rate to a floor (the paper names the cosine and gives
 * no figures: FACTS section 5; ours are marked in train/presets/).
 */
#ifndef WL_TRAIN_OPTIM_SCHEDULE_H
#define WL_TRAIN_OPTIM_SCHEDULE_H

#include "ops/err.h"

#include <stdint.h>

struct wl_schedule {
	double lr;            /* the base rate, reached at the end of the warm-up */
	double floor;         /* the rate at total_steps and after it */
	int64_t warmup_steps; /* step s < warmup_steps runs at lr * (s + 1) / warmup_steps */
	int64_t total_steps;
};

/* WL_EUSAGE for a negative or non-finite rate, floor > lr, or a warm-up longer than the run. */
WL_MUST_CHECK int wl_schedule_check(const struct wl_schedule *s, struct wl_err *err);

/* The rate for update number `step`, counted from 0. */
double wl_schedule_lr(const struct wl_schedule *s, int64_t step);

#endif
