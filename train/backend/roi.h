/*
 * Where RoI pooling looks, written once for every backend.  The samples of a box form a grid and
 * bilinear weights are products, so the mean over samples is a weighted sum over the map with
 * weights wy[y] * wx[x]; each axis has at most WL_ROI_TAPS that are not 0.
 */
#ifndef WL_TRAIN_BACKEND_ROI_H
#define WL_TRAIN_BACKEND_ROI_H

#include "train/tensor/rng.h" /* WL_HD */

#include <math.h>
#include <stdbool.h>

enum { WL_ROI_SAMPLES = 4, WL_ALIGN_SAMPLES = 8, WL_ROI_TAPS = 2 * WL_ALIGN_SAMPLES };

struct wl_roi_axis {
	int n;
	int64_t at[WL_ROI_TAPS];
	float weight[WL_ROI_TAPS];
};

/* RoI pooling of FACTS section 2: four samples an axis.  lo, hi: the box in feature pixels (of a
 * map of `size`). */
WL_HD struct wl_roi_axis wl_roi_grid_axis(float lo, float hi, int64_t size)
{
	struct wl_roi_axis a;
	/* A map of one pixel has no corner-aligned scale: the factor of size 2 serves. */
	float factor = (float)size / (2.0f * (float)(size > 2 ? size - 1 : 1));
	a.n = 0;
	for (int b = 0; b < WL_ROI_SAMPLES; b++) {
		float t = (float)(2 * b + 1) / WL_ROI_SAMPLES - 1.0f;
		float at = factor * ((hi - lo) * t + lo + hi) - 0.5f;
		/* Far outside, NaN too: no pixel has a weight. */
		if (!(at > -1.0f && at < (float)size))
			continue;
		float whole = floorf(at), part = at - whole;
		int64_t i = (int64_t)whole;
		if (i >= 0) {
			a.at[a.n] = i;
			a.weight[a.n++] = (1.0f - part) / WL_ROI_SAMPLES;
		}
		if (i + 1 < size) {
			a.at[a.n] = i + 1;
			a.weight[a.n++] = part / WL_ROI_SAMPLES;
		}
	}
	return a;
}

/* RoIAlign of 4x4 bins with 2x2 samples each, averaged over the bins: 8 samples an axis, at the
 * middles of as many equal parts (torchvision's roi_align, aligned = true): up to one pixel
 * outside the map the edge counts, farther out nothing. */
WL_HD struct wl_roi_axis wl_roi_align_axis(float lo, float hi, int64_t size)
{
	struct wl_roi_axis a;
	a.n = 0;
	for (int s = 0; s < WL_ALIGN_SAMPLES; s++) {
		float at = lo - 0.5f + ((float)s + 0.5f) * (hi - lo) / WL_ALIGN_SAMPLES;
		if (!(at >= -1.0f && at <= (float)size))
			continue;
		at = at < 0 ? 0 : at;
		int64_t i = (int64_t)at < size - 1 ? (int64_t)at : size - 1;
		float part = i == size - 1 ? 0 : at - (float)i;
		a.at[a.n] = i;
		a.weight[a.n++] = (1.0f - part) / WL_ALIGN_SAMPLES;
		if (part > 0) {
			a.at[a.n] = i + 1;
			a.weight[a.n++] = part / WL_ALIGN_SAMPLES;
		}
	}
	return a;
}

WL_HD struct wl_roi_axis wl_roi_axis(bool align, float lo, float hi, int64_t size)
{
	return align ? wl_roi_align_axis(lo, hi, size) : wl_roi_grid_axis(lo, hi, size);
}

#endif
