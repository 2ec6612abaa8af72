/*
 * Between image.c and the codecs: each codec knows one format, through one library, and turns
 * that library's failures into sentences.  Not for other folders.
 */
#ifndef WL_INGEST_IMAGE_CODEC_H
#define WL_INGEST_IMAGE_CODEC_H

#include "ingest/image.h"

/* Memory for width x height x channels after the limits of image.h were checked. */
WL_MUST_CHECK int wl_image_alloc(struct wl_image *im, int width, int height, int channels,
	struct wl_err *err);
/* Whether a header's claim is within the limits; `format` is for the message. */
WL_MUST_CHECK int wl_image_check_size(const char *format, int64_t width, int64_t height,
	struct wl_err *err);

/* EXIF orientation in a TIFF block (what follows "Exif\0\0" in JPEG); 1 when there is none or
 * the block makes no sense: a bad tag must not cost the picture. */
int wl_exif_orientation(const uint8_t *tiff, size_t n);

/* Lays RGBA pixels on white: dst may be src (three bytes are written where four were read). */
void wl_image_rgba_on_white(uint8_t *dst, const uint8_t *src, size_t pixels);

/* Probes fill format, stored width and height (not yet turned upright), orientation, has_alpha
 * and jpeg_plain; decoders give RGB as stored (not yet turned upright). */
WL_MUST_CHECK int wl_jpeg_probe(const uint8_t *p, size_t n, struct wl_image_info *info,
	struct wl_err *err);
WL_MUST_CHECK int wl_jpeg_check(const uint8_t *p, size_t n, struct wl_err *err);
/* by: 1, 2, 4 or 8: at that part of its size, rounded up, as libjpeg scales. */
WL_MUST_CHECK int wl_jpeg_decode_by(
	const uint8_t *p, size_t n, int by, struct wl_image *out, struct wl_err *err);
WL_MUST_CHECK int wl_jpeg_decode(const uint8_t *p, size_t n, struct wl_image *out,
	struct wl_err *err);
/* Files with 12 bits a sample, which libjpeg does not read: the two above hand them on. */
WL_MUST_CHECK int wl_jpeg12_probe(const uint8_t *p, size_t n, struct wl_image_info *info,
	struct wl_err *err);
WL_MUST_CHECK int wl_jpeg12_decode(const uint8_t *p, size_t n, struct wl_image *out,
	struct wl_err *err);
WL_MUST_CHECK int wl_png_probe(const uint8_t *p, size_t n, struct wl_image_info *info,
	struct wl_err *err);
WL_MUST_CHECK int wl_png_decode(const uint8_t *p, size_t n, struct wl_image *out,
	struct wl_err *err);
WL_MUST_CHECK int wl_webp_probe(const uint8_t *p, size_t n, struct wl_image_info *info,
	struct wl_err *err);
WL_MUST_CHECK int wl_webp_decode(const uint8_t *p, size_t n, struct wl_image *out,
	struct wl_err *err);
WL_MUST_CHECK int wl_gif_probe(const uint8_t *p, size_t n, struct wl_image_info *info,
	struct wl_err *err);
WL_MUST_CHECK int wl_gif_decode(const uint8_t *p, size_t n, struct wl_image *out,
	struct wl_err *err);
WL_MUST_CHECK int wl_avif_probe(const uint8_t *p, size_t n, struct wl_image_info *info,
	struct wl_err *err);
WL_MUST_CHECK int wl_avif_decode(const uint8_t *p, size_t n, struct wl_image *out,
	struct wl_err *err);

/* image_structure.c: whether the file is whole, without decoding it; PNG's fills in *info too (as
 * wl_png_probe does), the others come after the probe of their format. */
WL_MUST_CHECK int wl_jpeg_structure(const uint8_t *p, size_t n, struct wl_err *err);
WL_MUST_CHECK int wl_png_structure(const uint8_t *p, size_t n, struct wl_image_info *info,
	struct wl_err *err);
WL_MUST_CHECK int wl_webp_structure(const uint8_t *p, size_t n, struct wl_err *err);
WL_MUST_CHECK int wl_avif_structure(const uint8_t *p, size_t n, struct wl_err *err);
/* image_gif.c: the same, of the first frame. */
WL_MUST_CHECK int wl_gif_structure(const uint8_t *p, size_t n, struct wl_err *err);

#endif
