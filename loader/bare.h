/*
 * The yardstick: what libjpeg-turbo alone takes to decode the same crops by the interface that
 * it offers for this (DCT scaling, jpeg_crop_scanline, jpeg_skip_scanlines, RGBX out), with no
 * resizing and nothing else done.
 */
#ifndef WL_LOADER_BARE_H
#define WL_LOADER_BARE_H

#include "ops/err.h"

#include <stddef.h>
#include <stdint.h>

/* Decodes the rectangle of the JPEG at 1/denom of its size and drops it.  WL_EDATA when it is
 * damaged. */
WL_MUST_CHECK int wl_bare_decode(const void *jpg, size_t n, const int32_t box[4], unsigned denom,
	struct wl_err *err);

#endif
