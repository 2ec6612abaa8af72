/*
 * Backbones behind two small interfaces, so that a line of the configuration
 * swaps one: `encoder: lite0`.  A new backbone is one more entry of a table in
 * encoder.c and the file that implements it.
 */
#ifndef WL_TRAIN_MODEL_ENCODER_H
#define WL_TRAIN_MODEL_ENCODER_H

#include "train/model/config.h"
#include "train/nn/graph.h"

struct wl_rule; /* how a parameter starts: train/model/init.h */

struct wl_image_encoder {
	const char *name;
	/* Sets what goes with the name (scalings, mean and std); c->encoder is set. */
	int (*defaults)(struct wl_image_config *c, struct wl_err *err);
	/* WL_EUSAGE for values that it cannot build. */
	int (*check)(const struct wl_image_config *c, struct wl_err *err);
	/* Channels of the feature map. */
	int (*width)(const struct wl_image_config *c);
	/* images [N,S,S,3] -> feature map [N,h,w,width]; parameters are named prefix + their
	 * timm name. */
	wl_tid (*features)(struct wl_graph *g, const struct wl_image_config *c, const char *prefix,
		wl_tid images);
	/* How the parameter of that name (without prefix) starts. */
	struct wl_rule (*init)(const char *name, const struct wl_shape *torch_shape);
};

struct wl_text_encoder {
	const char *name;
	int (*check)(const struct wl_text_config *c, struct wl_err *err);
	int (*width)(const struct wl_text_config *c);
	/* ids i32 [B,L], mask f32 [B,L] or WL_NONE -> last hidden state [B,L,width]; prefix +
	 * Hugging Face's names. */
	wl_tid (*features)(struct wl_graph *g, const struct wl_text_config *c, const char *prefix,
		wl_tid ids, wl_tid mask);
	struct wl_rule (*init)(const char *name, const struct wl_shape *torch_shape);
};

/* NULL and WL_EUSAGE, listing the names, when there is none. */
const struct wl_image_encoder *wl_image_encoder_find(const char *name, struct wl_err *err);
const struct wl_text_encoder *wl_text_encoder_find(const char *name, struct wl_err *err);

#endif
