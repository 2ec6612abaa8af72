/*
 * Position embeddings of a vision transformer for another grid of patches than
 * the one that they were learned on: the grid is resized as a picture, bicubic
 * with anti-aliasing, as timm's resample_abs_pos_embed does (that is, PyTorch's
 * F.interpolate(mode="bicubic", antialias=True): Keys' kernel with a = -1/2,
 * stretched by the ratio where the grid shrinks, weights cut at the edge and
 * normalised).
 */
#ifndef WL_TRAIN_CHECKPOINT_POSITIONS_H
#define WL_TRAIN_CHECKPOINT_POSITIONS_H

#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Whether [1, from, d] rows are a class token and a square grid, and `to` rows too: *side and
 * *to_side are the grids' sides. */
bool wl_positions_fit(int64_t from, int64_t to, int64_t *side, int64_t *to_side);

/* in [1 + side^2, d] -> out [1 + to_side^2, d]; the first row, of the class token, is copied. */
WL_MUST_CHECK int wl_positions_resample(const float *in, int64_t side, float *out,
	int64_t to_side, int64_t d, struct wl_err *err);

#endif
