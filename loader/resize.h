/*
 * Antialiased bilinear resizing of 8-bit planes to float rows, as Pillow's BILINEAR and
 * torchvision's antialias=True define it (the triangle filter widened by the scale), without
 * their rounding between the passes.  BriVL's published code resizes without antialiasing
 * (FACTS 2); that aliases whatever is larger than S, so ours always filters when it shrinks.
 *
 * Planes come as a JPEG stores them: luma, and chroma of half the size or less.  Upsampling the
 * chroma and filtering it are both linear, so the two become one filter on the stored samples:
 * the picture is that of upsample -> convert -> resize, computed in the other order, on a
 * third of the numbers.  What differs is rounding (the decoder's to 8 bits, twice, falls away)
 * and clipping, which happens once, after the resizing: within 1.5 of 255 levels of the other
 * order where nothing is clipped (tests/test_decode.c).
 *
 * Rows are pulled from a source in strips and only those that the filter still needs are kept,
 * so memory is bounded by the width, not the picture; columns are combined after rows, when
 * there are S rows instead of the source's height.
 */
#ifndef WL_LOADER_RESIZE_H
#define WL_LOADER_RESIZE_H

#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { WL_PLANES_MAX = 3 };

/* What the source gives of one plane. */
struct wl_plane {
	int width, height;   /* samples of the whole plane; what lies outside is the edge again */
	int stride;          /* bytes of a row as the source writes it, >= width */
	int strip;           /* rows a call */
	int first;           /* the row that comes first, a multiple of strip */
	int left;            /* the column that a row begins with */
	int h, v;            /* pixels that a sample stands for, across and down: 1, 2, ... */
	bool smooth_x, smooth_y; /* h or v is 2, and between samples is their 3:1 mean (libjpeg's
	                          * "fancy" upsampling), not the nearest sample */
};

/* Which part becomes the picture: [x, x + w) by [y, y + h) in pixels, fractions allowed. */
struct wl_region {
	double x, y, w, h;
	int planes; /* 1: grey, 3: YCbCr or RGB */
	bool ycc;
	struct wl_plane plane[WL_PLANES_MAX];
};

/* Fills the next strip: rows[p][0 .. strip of plane p). */
typedef int wl_strip_fn(void *source, uint8_t *const *const rows[WL_PLANES_MAX],
	struct wl_err *err);
/* Takes output row y: three planes of floats in [0,1], [side] each, valid during the call. */
typedef void wl_emit_fn(void *sink, int y, const float *const rgb[3]);

struct wl_resizer; /* buffers of one worker; they grow to the largest picture met */
/* For pictures of side x side; NULL when out of memory. */
struct wl_resizer *wl_resizer_new(int side, struct wl_err *err);
void wl_resizer_free(struct wl_resizer *r);

/* flip: mirrored left to right.  Fails with what the source said, or out of memory. */
WL_MUST_CHECK int wl_resizer_run(struct wl_resizer *r, const struct wl_region *region, bool flip,
	wl_strip_fn *strips, void *source, wl_emit_fn *emit, void *sink, struct wl_err *err);

#endif
