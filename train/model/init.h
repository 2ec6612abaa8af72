/*
 * How parameters start.  A value is a function of (seed, name, index), so the
 * start does not depend on the order of building nor on what else is in the
 * model.  The rules are those of the libraries that the names come from: timm
 * for the CNN, Hugging Face for BERT, torch.nn's own for the rest.
 */
#ifndef WL_TRAIN_MODEL_INIT_H
#define WL_TRAIN_MODEL_INIT_H

#include "train/model/config.h"
#include "train/nn/params.h"

enum wl_rule_kind {
	WL_START_CONST,  /* scale itself */
	WL_START_NORMAL, /* mean 0, standard deviation scale */
	WL_START_TRUNC,  /* the same, redrawn outside two standard deviations */
	WL_START_UNIFORM /* between -scale and scale */
};

struct wl_rule {
	enum wl_rule_kind kind;
	float scale;
};

/* Fills every entry of the sealed store whose name starts with imgencoder. or textencoder.;
 * others (the log scale of the temperature) are left alone. */
WL_MUST_CHECK int wl_model_init(struct wl_params *p, const struct wl_model_config *c,
	uint64_t seed, struct wl_err *err);

/* Clears WL_PARAM_TRAINABLE where a pattern of c->freeze matches; before graphs are compiled.
 * WL_EUSAGE for a pattern that matches no parameter. Returns the number frozen. */
WL_MUST_CHECK int wl_model_freeze(struct wl_params *p, const struct wl_model_config *c,
	struct wl_err *err);

#endif
