/*
 * The dynamic loss scale of fp16: gradients are computed of `scale` times the
 * loss, so that small ones do not round to zero, and divided again before they
 * are used.  A step whose gradients overflow updates nothing and halves the
 * scale; `interval` good steps in a row double it.  The rules and defaults are
 * those of torch.cuda.amp.GradScaler (Micikevicius et al., arXiv 1710.03740,
 * section 3.2).  struct wl_scaler and the rules are in train/backend/judge.h.
 */
#ifndef WL_TRAIN_OPTIM_SCALER_H
#define WL_TRAIN_OPTIM_SCALER_H

#include "ops/err.h"
#include "train/backend/judge.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What gradients are multiplied with now: 1 where there is no scaling. */
double wl_scaler_scale(const struct wl_scaler *s);
/* Whether a step with this loss and gradient norm failed by its scale alone: the loss is finite,
 * the gradients are not, and a smaller scale is to be had. At scale 1 the gradients themselves are
 * bad, which is the guard's business (guard.h). */
bool wl_scaler_overflowed(const struct wl_scaler *s, double loss, double grad_norm);
/* After each step: finite says whether its gradients were. The scale never grows to infinity. */
void wl_scaler_update(struct wl_scaler *s, bool finite);

/* State for a checkpoint: a new reference, NULL when out of memory.  The interval is a setting. */
json_t *wl_scaler_save(const struct wl_scaler *s);
/* state NULL (a checkpoint of another precision): s stays as it is. WL_ECKPT when it is not one
 * that wl_scaler_save made. */
WL_MUST_CHECK int wl_scaler_restore(struct wl_scaler *s, const json_t *state, struct wl_err *err);

#endif
