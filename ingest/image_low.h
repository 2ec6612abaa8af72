/*
 * The low frequencies of a JPEG: what a picture looks like at a quarter or an eighth of its size,
 * several times as fast as a library that decodes at that scale.  For whoever looks at very many
 * pictures and needs only their looks.
 *
 * Of each 8x8 block only the mean (1/8), or the mean and three lowest frequencies (1/4), are
 * decoded; the codes of all others are stepped over, two or three at a time.  All of the coded
 * data is walked through, so a file that is cut off or damaged is not taken.
 */
#ifndef WL_INGEST_IMAGE_LOW_H
#define WL_INGEST_IMAGE_LOW_H

#include "ingest/image.h"

struct wl_image_low {
	int width, height;	/* the picture's, whole */
	struct wl_image luma;	/* [height / by, width / by, 1], rounded up */
	struct wl_image cb, cr; /* one pixel a block; no data in grey pictures */
};

/* by: 4 or 8.  1: done, *out is filled in, to be released.  0: not for this decoder, which takes
 * whole, upright, sequential 8-bit Huffman JPEGs, grey or YCbCr, in one scan; the library's
 * decoder (wl_image_decode_by) knows what is wrong or unusual.  -1: out of memory. */
WL_MUST_CHECK int wl_image_low(
	const void *bytes, size_t n, int by, struct wl_image_low *out, struct wl_err *err);
/* The size that a JPEG's frame header gives, to choose `by`; false: none was found. */
bool wl_image_low_size(const void *bytes, size_t n, int *width, int *height);
void wl_image_low_release(struct wl_image_low *l);

#endif
