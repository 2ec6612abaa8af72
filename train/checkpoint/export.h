/*
 * Weights out again, for PyTorch: the tensors of one of our checkpoints (or of
 * any file that import reads) under the names that the libraries they came from
 * use, as safetensors.
 *
 *   image   the picture backbone as timm names it: conv_stem.weight, blocks.0.0. ...
 *   text    the text backbone as Hugging Face's BertModel names it
 *   towers  everything under BriVL's names: imgencoder. ..., textencoder. ...
 *
 * Numbers are copied as they are (f16 and bf16 become f32).  num_batches_tracked, which PyTorch
 * counts and nobody here does, is written as 0 beside each running_mean, so that a strict
 * load finds every name of a module without its classifier and pooler.
 */
#ifndef WL_TRAIN_CHECKPOINT_EXPORT_H
#define WL_TRAIN_CHECKPOINT_EXPORT_H

#include "ops/err.h"

#include <stdbool.h>

struct wl_export_opts {
	const char *from; /* a checkpoint, a run (its newest one), or a file of weights */
	const char *part; /* "image", "text" or "towers" */
	const char *to;   /* the safetensors file to write */
	bool momentum;    /* of a checkpoint: the momentum towers instead of the online ones */
};

/* WL_EUSAGE for an unknown part, WL_ECKPT when the weights hold nothing of it. Returns the number
 * of tensors written. */
WL_MUST_CHECK int wl_export(const struct wl_export_opts *o, struct wl_err *err);

/* One line a tensor of such a file (name, type, shape) on standard output. */
WL_MUST_CHECK int wl_weights_print(const char *from, struct wl_err *err);

#endif
