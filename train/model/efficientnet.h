/*
 * EfficientNet B0 to B7 and Lite0 to Lite4 (FACTS section 9) from one table:
 * the base recipe and, for each name, the scalings of channels and repeats.
 * TensorFlow's SAME padding, batch norm eps 1e-3; names as in timm 0.4.12.
 */
#ifndef WL_TRAIN_MODEL_EFFICIENTNET_H
#define WL_TRAIN_MODEL_EFFICIENTNET_H

#include "train/model/encoder.h"

enum { WL_EFFNET_STAGES = 7 };

/* One stage after scaling. */
struct wl_effnet_stage {
	int kernel, stride, expand;
	int in, out, blocks;
};

struct wl_effnet_plan {
	int stem, head;
	struct wl_effnet_stage stage[WL_EFFNET_STAGES];
	int blocks; /* of all stages */
};

/* Whether this is the name of one. */
bool wl_effnet_known(const char *name);
/* The scaled structure. */
void wl_effnet_plan(const struct wl_effnet_config *c, struct wl_effnet_plan *out);

extern const struct wl_image_encoder wl_effnet_encoder;

#endif
