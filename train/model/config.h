/*
 * What a model is made of: one plain struct, filled from a preset and a
 * mapping of the configuration file, written into every checkpoint.
 *
 *   model: small                      a preset's name, or
 *   model:
 *     preset: small
 *     dim: 256                        width of the shared space
 *     freeze: [imgencoder.backbone.blocks.[0-2].*]
 *     image:
 *       encoder: lite0                b0 ... b7, lite0 ... lite4, vit-ti16 ... vit-l16
 *       px: 128                       side of the square input
 *       ...
 *     text:
 *       encoder: bert
 *       ...
 *
 * Presets (FACTS section 1 and Decisions): `paper` = B7 + RoBERTa-large, D 2,560; `public` =
 * the downloadable BriVL-1.0 (B5 at 380 + RoBERTa-wwm-ext base, D 2,048); `small` = B0 + four
 * layers of text, D 256, ours, for one CPU machine.
 */
#ifndef WL_TRAIN_MODEL_CONFIG_H
#define WL_TRAIN_MODEL_CONFIG_H

#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>

enum { WL_MODEL_NAME = 32, WL_FREEZE_MAX = 32, WL_FREEZE_TEXT = 128 };

/* The self-attention block over regions or tokens: torch.nn.TransformerEncoder, post-norm. */
struct wl_sa_config {
	int layers, heads, ffn;
	float dropout; /* attention probabilities, both residual branches, inside the FFN */
};

struct wl_effnet_config {
	bool lite;           /* EfficientNet-Lite: no SE, ReLU6, stem and head unscaled */
	double width, depth; /* scalings of channels and of repeats; b0 has 1, 1 */
	int head;            /* channels of conv_head; 0: 1280 scaled by width */
	float drop_path;     /* of the last block; rises linearly from 0 with the block's number */
	bool frozen_bn;      /* running statistics even in training */
};

struct wl_vit_config {
	int patch; /* side of a patch in pixels */
	int hidden, layers, heads;
};

struct wl_bert_config {
	int vocab; /* 0 in `small`: whoever loads vocab.txt sets it */
	int hidden, layers, heads, ffn, positions, types;
	float ln_eps, dropout, attention_dropout;
};

struct wl_image_config {
	char encoder[WL_MODEL_NAME];
	struct wl_effnet_config effnet;
	struct wl_vit_config vit; /* of the vit- encoders; fixed by the name, or by vit_ keys */
	int px;           /* side of the input in pixels, at least 64 (2x2 features) */
	int grid;         /* cells a side where a sample has no boxes; they and the
		   * whole image make grid^2 + 1 regions */
	int regions;      /* R: boxes a sample, the whole image included */
	bool roi_align;   /* RoIAlign instead of the published grid of bilinear samples */
	int region_width; /* channels after the RoI's 1x1 convolution; 0: as conv_head gives */
	float mean[3], std[3]; /* of RGB in [0,1] */
	struct wl_sa_config attention;
};

struct wl_text_config {
	char encoder[WL_MODEL_NAME];
	struct wl_bert_config bert;
	int length;    /* L: tokens a caption, [CLS] and [SEP] included */
	bool pad_mask; /* false: BERT attends to the padding, as the public code does */
	struct wl_sa_config attention;
};

struct wl_model_config {
	char preset[WL_MODEL_NAME];
	int dim; /* D: width of the embeddings */
	struct wl_image_config image;
	struct wl_text_config text;
	char freeze[WL_FREEZE_MAX][WL_FREEZE_TEXT]; /* shell patterns over parameter names */
	int n_freeze;
};

/* WL_EUSAGE, listing the presets, for an unknown name. */
WL_MUST_CHECK int wl_model_preset(const char *name, struct wl_model_config *c,
	struct wl_err *err);
/* From a string (preset), a mapping as above, or NULL / JSON null (the preset small). Unknown
 * keys and impossible values are WL_EUSAGE. */
WL_MUST_CHECK int wl_model_parse(const json_t *v, struct wl_model_config *c, struct wl_err *err);
/* The whole config as a mapping that wl_model_parse reads back; NULL when out of memory. */
json_t *wl_model_to_json(const struct wl_model_config *c);
/* Values that cannot be built (heads that do not divide, too small an input): WL_EUSAGE. */
WL_MUST_CHECK int wl_model_check(const struct wl_model_config *c, struct wl_err *err);

#endif
