/*
 * The guard between the gradient and the update: a step whose loss or gradient
 * norm is not finite, or whose norm stands far above the recent ones, is
 * skipped and counted; too many skipped in a row end the run with exit code 5.
 * (llm.c's detector lets a NaN loss fall through to the update; here NaN is
 * the first case: ENGINEERING-FACTS E3.)  struct wl_guard and the rule itself are in
 * train/backend/judge.h, where devices have them too.
 */
#ifndef WL_TRAIN_OPTIM_GUARD_H
#define WL_TRAIN_OPTIM_GUARD_H

#include "ops/err.h"
#include "train/backend/judge.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Judges one step before its update, and remembers the norm of an accepted one.  Spikes are
 * judged only once the window is full. */
enum wl_guard_verdict wl_guard_judge(struct wl_guard *g, double loss, double grad_norm);

/* WL_ENUMERIC once max_in_a_row steps in a row were skipped; step is for the sentence. */
WL_MUST_CHECK int wl_guard_give_up(const struct wl_guard *g, int64_t step, struct wl_err *err);

/* State for a checkpoint: a new reference, NULL when out of memory. Settings are not in it. */
json_t *wl_guard_save(const struct wl_guard *g);
/* WL_ECKPT when the object is not one that wl_guard_save made. */
WL_MUST_CHECK int wl_guard_restore(struct wl_guard *g, const json_t *state, struct wl_err *err);

#endif
