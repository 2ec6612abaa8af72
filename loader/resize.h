/*
 * Antialiased bilinear resizing of 8-bit rows to float rows, as Pillow's BILINEAR and
 * torchvision's antialias=True define it (the triangle filter widened by the scale), without
 * their rounding between the passes.  BriVL's published code resizes without antialiasing
 * (FACTS 2); that aliases whatever is larger than S, so ours always filters when it shrinks.
 *
 * Rows are pulled from a source one after the other and only those that the filter still
 * needs are kept, so memory is bounded by the width, not the picture; columns are combined
 * after rows, when there are S rows instead of the source's height.
 */
#ifndef WL_LOADER_RESIZE_H
#define WL_LOADER_RESIZE_H

#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Which part of the source rows becomes the picture: [x, x + w) by [y, y + h), fractions of
 * pixels allowed, within width x rows. */
struct wl_region {
	int width, rows; /* what the source gives: pixels a row, rows */
	double x, y, w, h;
};

/* Fills rows[0..n) with the next n rows, RGBX, 4 * width bytes each. */
typedef int wl_rows_fn(void *source, uint8_t *const *rows, int n, struct wl_err *err);
/* Takes output row y, RGBX floats in [0,1]: [side, 4], valid during the call. */
typedef void wl_emit_fn(void *sink, int y, const float *rgbx);

struct wl_resizer; /* buffers of one worker; they grow to the largest picture met */
struct wl_resizer *wl_resizer_new(int side, struct wl_err *err);
void wl_resizer_free(struct wl_resizer *r);

/* flip: mirrored left to right.  Fails with what the source said, or out of memory. */
WL_MUST_CHECK int wl_resizer_run(struct wl_resizer *r, const struct wl_region *region, bool flip,
	wl_rows_fn *rows, void *source, wl_emit_fn *emit, void *sink, struct wl_err *err);

#endif
