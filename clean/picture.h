/*
 * Simple measures of a picture's pixels: is there something to see, or is it a page of text or a
 * QR code.  No model, a few passes over grey.
 */
#ifndef WL_CLEAN_PICTURE_H
#define WL_CLEAN_PICTURE_H

#include "ingest/image.h"
#include "ops/err.h"

struct wl_picture {
	/* Variance of the Laplacian (0 1 0, 1 -4 1, 0 1 0, mirrored at the edges) of the full grey
	 * picture: OpenCV's Laplacian(grey, CV_64F).var(), which DanQing thresholds at 1000. */
	double sharpness;
	double entropy; /* of the histogram of grey values, in bits: 0..8 (DanQing: at least 3) */
	/* Share of written blocks (two tones, far apart, changing often both ways) among those
	 * that are not flat; less where they cover under 8 % of the picture.  Near 1 for
	 * screenshots of text, mostly under 0.3 for photos.  Looked for at <= 640 pixels. */
	double text;
	/* Share of the picture's area that the largest QR code takes: three finder patterns
	 * (1:1:3:1:1 both ways) at the corners of a square.  0: none. */
	double qr;
};

/* rgb: [H,W,3] as wl_image_decode gives it.  Fails when out of memory only. */
WL_MUST_CHECK int wl_picture_measure(
	const struct wl_image *rgb, struct wl_picture *out, struct wl_err *err);

#endif
