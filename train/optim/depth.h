/*
 * Layer-wise rates: the nearer a parameter is to a backbone's input, the smaller
 * its learning rate, by a factor a layer (Clark et al., arXiv 2003.10555; BEiT).
 * Layers are told by name: encoder.layer.N of a BERT, blocks.N of a CNN's stages
 * or of a vision transformer; what a backbone takes its input with (embeddings,
 * stem, patches) stands one below the first, and everything above the layers
 * (head, self-attention over regions and tokens, MLPs, temperature) has factor 1.
 */
#ifndef WL_TRAIN_OPTIM_DEPTH_H
#define WL_TRAIN_OPTIM_DEPTH_H

#include "train/nn/params.h"

/* Layers that entry i stands below the top: 0 for what is above all layers, 1 for the last. */
int wl_layer_depth(const struct wl_params *p, int i);

#endif
