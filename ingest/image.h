/*
 * Images for everybody: what the bytes are, their size, their pixels, and JPEG bytes again.
 * Formats are told by content, never by name: JPEG (libjpeg-turbo), PNG (libpng), WebP (libwebp),
 * AVIF (libavif), GIF (giflib), JPEG with 12 bits (ours); of an animation the first frame.
 */
#ifndef WL_INGEST_IMAGE_H
#define WL_INGEST_IMAGE_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

enum wl_image_format {
	WL_IMAGE_UNKNOWN,
	WL_IMAGE_JPEG,
	WL_IMAGE_PNG,
	WL_IMAGE_WEBP,
	WL_IMAGE_GIF,
	WL_IMAGE_AVIF,
	WL_IMAGE_BMP,  /* known, not decoded */
	WL_IMAGE_SVG,  /* known, not decoded */
	WL_IMAGE_HEIC, /* known, not decoded: HEVC is under patents */
	WL_IMAGE_TIFF, /* known, not decoded */
	WL_IMAGE_JXL,  /* known, not decoded */
};
/* "jpeg", "png", ...: as it stands in the catalog. */
const char *wl_image_format_name(enum wl_image_format f);

/* Against bombs: what a header may claim before anything is decoded. */
enum {
	WL_IMAGE_MAX_SIDE_PX = 20000,
	WL_IMAGE_MAX_PIXELS = 100 * 1000 * 1000,
	WL_IMAGE_MAX_BYTES = 64 * 1024 * 1024,
};

struct wl_image_info {
	enum wl_image_format format;
	int width, height; /* upright (after the EXIF orientation) */
	int orientation;   /* EXIF 1..8; 1 when there is none */
	bool has_alpha;
	bool jpeg_plain; /* 8-bit Huffman JPEG, grey or YCbCr, upright: its bytes can go into a
	                  * shard as they are */
};

/* Reads the header only.  WL_EDATA with the reason when it is no image that we know, is over
 * the limits, or is cut off before the header's end. */
WL_MUST_CHECK int wl_image_probe(const void *bytes, size_t n, struct wl_image_info *info,
	struct wl_err *err);

/* Pixels: 8-bit, interleaved, rows from the top, no padding between rows. */
struct wl_image {
	int width, height, channels; /* channels: 3 (RGB) or 1 (grey) */
	uint8_t *data;               /* [height, width, channels]; owned */
};
void wl_image_release(struct wl_image *im);

/* Decodes to upright RGB; alpha is laid on white; grey becomes RGB; CMYK JPEG is converted.  A
 * damaged file (cut off, wrong checksum) is WL_EDATA: no half picture comes out. */
WL_MUST_CHECK int wl_image_decode(const void *bytes, size_t n, struct wl_image *out,
	struct wl_err *err);

/* Probes, and sees whether wl_image_decode would succeed, with the same error if not; for JPEG
 * without making its pixels, which is quicker. */
WL_MUST_CHECK int wl_image_check(const void *bytes, size_t n, struct wl_image_info *info,
	struct wl_err *err);

/* How thoroughly: the header alone; that the file is whole, by its structure (lengths, checksums,
 * markers; not the coded data itself, which takes a hundred times as long); or as wl_image_check
 * does.  Formats that are known and not decoded are refused (WL_EDATA) at each level. */
enum wl_image_level { WL_IMAGE_STRUCTURE, WL_IMAGE_HEADER, WL_IMAGE_DECODE };
WL_MUST_CHECK int wl_image_check_by(const void *bytes, size_t n, enum wl_image_level level,
	struct wl_image_info *info, struct wl_err *err);

/* The same from a JPEG at 1/by of its size, by being 1, 2, 4 or 8: several times as fast.  Others
 * are decoded whole; *got says by what the picture was reduced.  info: as wl_image_probe gives
 * it. */
WL_MUST_CHECK int wl_image_decode_by(const void *bytes, size_t n, int by,
	struct wl_image_info *info, struct wl_image *out, int *got, struct wl_err *err);

/* The picture as JPEG bytes for a shard: the same bytes when it is jpeg_plain, otherwise
 * decoded and encoded at `quality` (1..100), 4:4:4, the same bits on every machine. */
WL_MUST_CHECK int wl_image_to_jpeg(const void *bytes, size_t n, int quality, struct wl_buf *out,
	struct wl_err *err);
WL_MUST_CHECK int wl_image_encode_jpeg(const struct wl_image *im, int quality,
	struct wl_buf *out, struct wl_err *err);

/* Resizes as Pillow's Image.resize(LANCZOS) does, bit for bit (the perceptual hash needs it);
 * 1 or 3 channels. */
WL_MUST_CHECK int wl_image_resize_lanczos(const struct wl_image *src, int width, int height,
	struct wl_image *out, struct wl_err *err);
/* Weights of the sizes that were met last (32, 1 MB each at most), which take as long to compute as
 * a small picture to resize.  For any threads at once. */
struct wl_lanczos;
struct wl_lanczos *wl_lanczos_new(struct wl_err *err);
void wl_lanczos_free(struct wl_lanczos *l);
/* The same with weights of l; NULL: they are computed for this call. */
WL_MUST_CHECK int wl_image_resize_lanczos_by(struct wl_lanczos *l, const struct wl_image *src,
	int width, int height, struct wl_image *out, struct wl_err *err);
/* Grey as Pillow's convert("L"): (19595 R + 38470 G + 7471 B + 0x8000) >> 16. */
WL_MUST_CHECK int wl_image_to_grey(const struct wl_image *src, struct wl_image *out,
	struct wl_err *err);

#endif
