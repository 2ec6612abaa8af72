/*
 * AdamW over a parameter store: groups by name pattern, decay on weights only
 * (not on gains and biases: FACTS section 5), clipping by the global norm.
 *
 * The rules are turned once into ranges of the store's one allocation, so that
 * a step is one call of the backend.
 */
#ifndef WL_TRAIN_OPTIM_OPTIM_H
#define WL_TRAIN_OPTIM_OPTIM_H

#include "train/backend/judge.h"
#include "train/dist/cut.h"
#include "train/nn/params.h"

#include <jansson.h>

struct wl_optim_config {
	/* Type of both moments: WL_F32, or WL_BF16, half the memory, with stochastic rounding
	 * (random bits by seed).  The weights themselves are f32 in both. */
	enum wl_dtype state;
	uint64_t seed;
	double beta1, beta2, eps;
	double weight_decay;
	double layer_decay; /* a parameter's rate is multiplied by this to the power of its depth in
	                     * its backbone (depth.h); 0 and 1: the same rate for all */
	double clip_norm; /* the gradient's largest global L2 norm; 0: no clipping */
	/* A list of {"match": GLOB, "lr": factor, "decay": factor}, or NULL: the first rule whose
	 * pattern matches a parameter's name multiplies its rate and decay; lr 0 still decays
	 * nothing and moves nothing, but freezing (no gradient at all) is the model's business.
	 * Borrowed during init. */
	const json_t *groups;
	/* On several ranks: how the weights are shared out; borrowed for the optimiser's life.  The
	 * norm is then of this rank's pieces, and so is the update unless update_all. NULL: alone.
	 */
	const struct wl_cut *cut;
	bool update_all;
};

struct wl_optim {
	struct wl_params *params; /* borrowed */
	struct wl_optim_config config; /* groups is NULL after init */
	void *m, *v;              /* config.state [params->floats], backend memory, owned */
	struct wl_adamw_range *ranges; /* owned; lr is set at each step */
	double *lr_factor;        /* [n_ranges], owned */
	int n_ranges;
	int64_t updates;          /* done so far */
	/* Gradients in the store are of this many times the loss (scaler.h), 0: of the loss. Norms
	 * and updates are those of the loss in both. */
	double loss_scale;
};

/* After seal, with gradients, once the TRAINABLE flags stand.  WL_EUSAGE on a bad value or a
 * rule that matches no trainable parameter. */
WL_MUST_CHECK int wl_optim_init(struct wl_optim *o, struct wl_params *params,
	const struct wl_optim_config *config, struct wl_err *err);
void wl_optim_release(struct wl_optim *o);

/* The L2 norm of all gradients (of this rank's pieces: their squares add up over the ranks); not
 * finite when any gradient is not. */
double wl_optim_grad_norm(const struct wl_optim *o);
double wl_optim_grad_squares(const struct wl_optim *o);
/* One update at rate lr, with the gradient scaled by min(1, clip / (norm + 1e-6)) as
 * torch.nn.utils.clip_grad_norm_ does.  norm: what wl_optim_grad_norm gave. */
void wl_optim_step(struct wl_optim *o, double lr, double norm);

/* The same, and the momentum weights k (the layout of the store) follow all weights, frozen ones
 * too, in the same pass: k = momentum * k + (1 - momentum) * w over what this rank updates. */
void wl_optim_step_with(struct wl_optim *o, double lr, double norm, float *k, double momentum);

/* Where the backend judges (train/backend/judge.h), the same without waiting: the sum of squares of
 * this rank's pieces as the gradients lie in the store, into *to of the backend's memory; the
 * search for what is not finite; the update, in which the number of updates, the norm and the loss
 * scale are the judge's (o->updates stays). */
void wl_optim_give_squares(const struct wl_optim *o, double *to);
void wl_optim_give_blame(const struct wl_optim *o, struct wl_judge *judge);
void wl_optim_step_judged(struct wl_optim *o, double lr, const struct wl_judge *judge, float *k,
	double momentum);
/* The name of the parameter that float `at` of the store belongs to. */
const char *wl_optim_name_at(const struct wl_optim *o, int64_t at);

/* The first parameter with a gradient that is not finite, NULL when there is none: for the
 * message about a skipped step. */
const char *wl_optim_blame(const struct wl_optim *o);

#endif
