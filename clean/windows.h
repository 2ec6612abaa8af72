/*
 * Hashes of parts of a picture, by which crops, framed, mirrored and overprinted copies are
 * found: a copy that lost a margin is like a window of the original, one with a banner across
 * its foot still has the upper windows, one in a frame is itself once the frame is trimmed.
 *
 * All of it is made of a small grey picture (the original reduced by 1, 2, 4 or 8, which is
 * what libjpeg gives when it decodes at a smaller scale), by sums of integers: the same bits
 * on every machine.  A hash has the signs of the 8x8 lowest frequencies of a window resampled
 * to 16x16, without the mean (bit 63 is 0); so the hash of the mirrored window is the hash with
 * every odd column's bits turned over.
 */
#ifndef WL_CLEAN_WINDOWS_H
#define WL_CLEAN_WINDOWS_H

#include "ingest/image.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	WL_WINDOW_ALL = 0,    /* without its plain frame */
	WL_WINDOW_MIRROR = 1, /* the same, mirrored left to right */
	WL_WINDOW_FRAME = 2,  /* with its frame; only of pictures that have one */
	WL_WINDOW_PARTS = 3,  /* from here on: parts of the picture without its frame */
	WL_WINDOWS = 26,
};

struct wl_windows {
	uint64_t hash[WL_WINDOWS];
	uint32_t present;	 /* bit i: hash[i] is there; not of flat windows */
	uint8_t trim[4];	 /* left, top, right, bottom: plain margins in 1/256 of the side */
};

/* A part in 1/1024 of the picture's sides: [x0, x1) x [y0, y1). */
struct wl_rect {
	int16_t x0, y0, x1, y1;
};
/* Where window i of a picture with these margins lies.  For WL_WINDOW_MIRROR x0 > x1. */
struct wl_rect wl_window_rect(const struct wl_windows *w, int i);

/* By what a picture of this size is reduced: 1, 2, 4 or 8. */
int wl_windows_scale(int width, int height);

/* grey: 1 channel, reduced by wl_windows_scale of the original's size.  small: NULL, or gets the
 * whole picture as means of [32, 32] even cells. */
WL_MUST_CHECK int wl_windows_make(
	const struct wl_image *grey, struct wl_windows *out, uint8_t *small, struct wl_err *err);

/* `small` alone. */
WL_MUST_CHECK int wl_windows_shrink(
	const struct wl_image *grey, uint8_t *small, struct wl_err *err);

/* The grey picture divided by an integer, means of whole blocks (the last ones may be
 * smaller). */
WL_MUST_CHECK int wl_windows_reduce(const struct wl_image *grey, int by, struct wl_image *out,
	struct wl_err *err);

#endif
