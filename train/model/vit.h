/*
 * The vision transformer (Dosovitskiy et al., arXiv 2010.11929) as timm 0.4.12
 * builds it, under timm's names: patches by a convolution, a class token,
 * learned positions, pre-norm layers with GELU.  Its patch tokens, normed, make
 * the feature map; the class token takes part in attention and is then left out,
 * since BriVL pools regions.
 *
 *   encoder: vit-ti16, vit-s16, vit-b16, vit-b32, vit-l16
 */
#ifndef WL_TRAIN_MODEL_VIT_H
#define WL_TRAIN_MODEL_VIT_H

#include "train/model/encoder.h"

/* Whether this is the name of one. */
bool wl_vit_known(const char *name);

extern const struct wl_image_encoder wl_vit_encoder;

#endif
