/*
 * Augmentation in two halves: which (augment.c draws the parameters from a counter-based
 * generator, so they are a function of seed, epoch and sample alone) and how (pixels.c does
 * the arithmetic of augment_formula.h in a few passes over the picture).
 *
 * The order is MoCo-v2's: random resized crop, colour jitter (its four parts in a random
 * order), graying, blur, flip, normalise.  The flip is done while resizing, where it costs
 * nothing; every later step commutes with it.
 */
#ifndef WL_LOADER_AUGMENT_H
#define WL_LOADER_AUGMENT_H

#include "loader/loader.h"

/* Draws for (seed, epoch, sample); width and height of the upright picture, side = S.  The
 * crop is torchvision's RandomResizedCrop.get_params: ten tries, then the central crop.
 * blur_sigma_* are given for S = 224 and scaled with S. */
void wl_augment_draw(const struct wl_augment *a, int width, int height, int side, uint64_t seed,
	int64_t epoch, int64_t sample, struct wl_augment_params *out);
/* The whole picture, nothing changed. */
void wl_augment_identity(int width, int height, struct wl_augment_params *out);
/* Which of n captions of the sample this epoch shows: 0..n-1. */
int64_t wl_caption_draw(int64_t n, uint64_t seed, int64_t epoch, int64_t sample);

/* Half of the normalised Gaussian into kernel [side], centre first; returns its radius
 * ceil(3 sigma), at most side - 1 (reflection needs that).  Beyond 3 sigma lie 0.3 % of the
 * weight. */
int wl_blur_kernel(float sigma, int side, float *kernel);

/* One worker's pictures in the making: planes and scratch for S x S, allocated once. */
struct wl_pixels;
struct wl_pixels *wl_pixels_new(int side, struct wl_err *err);
void wl_pixels_free(struct wl_pixels *p);

/* Starts a picture; its result will be out [S,S,3] = (v - mean) / std, NHWC.  params (its
 * colour half is used) and out are kept by reference until wl_pixels_finish. */
void wl_pixels_begin(struct wl_pixels *p, const struct wl_augment_params *params,
	const float mean[3], const float std[3], float *out);
/* The next row from the top: planes of floats in [0,1], [S] each. */
void wl_pixels_row(struct wl_pixels *p, const float *const rgb[3]);
/* After S rows: what needs the whole picture (contrast's mean, blur); out is complete. */
void wl_pixels_finish(struct wl_pixels *p);

#endif
