/*
 * JPEG decoding for training: only the region that the crop needs, and at a fraction of the
 * size where the picture is much larger than what is wanted.
 *
 * libjpeg-turbo hands out the planes as they are stored, luma and smaller chroma: upsampling
 * and colour conversion, a quarter of its time, are done by the resizer on far fewer numbers.
 * Above the region only the entropy coding is read, below it nothing, and the DCT itself
 * decodes to 1/2, 1/4 or 1/8.
 *
 * Shards hold upright grey or YCbCr JPEG.  What else turns up (CMYK, an EXIF turn, PNG) goes
 * through ingest/image.h: slower, the same result.
 */
#ifndef WL_LOADER_DECODE_H
#define WL_LOADER_DECODE_H

#include "loader/resize.h"

struct wl_decoder; /* one thread's; keeps its buffers between pictures */
/* NULL when out of memory. */
struct wl_decoder *wl_decoder_new(struct wl_err *err);
void wl_decoder_free(struct wl_decoder *d);

/* Reads the header; width and height are upright.  The bytes must live until the next open or
 * free.  WL_EDATA when it is no picture or over WL_IMAGE_MAX_*. */
WL_MUST_CHECK int wl_decoder_open(struct wl_decoder *d, const void *bytes, size_t n, int *width,
	int *height, struct wl_err *err);

/* Whether the picture is a JPEG that decoders in hardware take as well: 8-bit baseline Huffman,
 * upright, grey or YCbCr with chroma of full or half size each way. */
bool wl_decoder_plain(const struct wl_decoder *d);

/* Starts decoding the rectangle (pixels of the upright picture).  DCT scaling is used while
 * both sides of the rectangle stay >= reserve * side: reserve 1 for training; 2 keeps the
 * result visually equal to filtering the full decode (Pillow's reducing_gap); 0: never. */
WL_MUST_CHECK int wl_decoder_region(struct wl_decoder *d, int x, int y, int w, int h, int side,
	double reserve, struct wl_region *out, struct wl_err *err);

/* The next strip of the region (a wl_strip_fn; source: the decoder).  A damaged stream is
 * WL_EDATA: no half picture. */
int wl_decoder_strip(void *decoder, uint8_t *const *const rows[WL_PLANES_MAX],
	struct wl_err *err);

#endif
