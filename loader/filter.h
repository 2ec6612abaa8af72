/*
 * The weights of a resize along one axis of one plane: for each of n output pixels the first
 * sample and the weights of the samples from there on.
 */
#ifndef WL_LOADER_FILTER_H
#define WL_LOADER_FILTER_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { WL_FILTER_LANES = 16 };

struct wl_filter {
	int n, taps;   /* weights an output pixel, shorter ones padded with 0 */
	int lo, hi;    /* the samples that any pixel uses: lo <= sample < hi */
	int *start;    /* [n, rounded up to 16] first sample; the filling repeats the last */
	float *weight; /* [n, taps] */
	size_t start_cap, weight_cap; /* bytes */
	double *scratch;              /* one pixel's weights on pixels, then on samples */
	size_t scratch_cap;
};

/* How samples lie under pixels: as in struct wl_plane. */
struct wl_sampling {
	int samples; /* of the whole line */
	int per;     /* pixels that a sample stands for */
	bool smooth; /* per is 2, with 3:1 means between samples */
};

/* Tabulates n output pixels over the pixels [off, off + len) of `pixels`; those outside are not
 * used, as if the crop had been cut out first.  total: what a pixel's weights sum to.  flip:
 * from the last to the first. */
WL_MUST_CHECK int wl_filter_build(struct wl_filter *f, int n, double off, double len, int pixels,
	const struct wl_sampling *s, double total, bool flip, struct wl_err *err);
void wl_filter_release(struct wl_filter *f);

/* mem, or a fresh zeroed block (aligned to 64) in its place when it is too small (the contents
 * are not kept); NULL with *cap 0 when there is no memory. */
void *wl_filter_grow(void *mem, size_t *cap, size_t need, struct wl_err *err);

#endif
