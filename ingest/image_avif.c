/*
 * AVIF through libavif: the first frame of a sequence.  Turning and mirroring are properties of
 * the container (irot, imir); an EXIF orientation beside them means nothing (MIAF 7.3.6.7).
 */
#include "ingest/image_codec.h"

#include <avif/avif.h>
#include <stdlib.h>
#include <string.h>

static int refused(avifResult rc, struct wl_err *err)
{
	if (rc == AVIF_RESULT_OUT_OF_MEMORY)
		return wl_err_nomem(err, "an AVIF", 0);
	if (rc == AVIF_RESULT_TRUNCATED_DATA)
		return wl_err_set(err, WL_EDATA, "the AVIF is damaged: it is cut off");
	return wl_err_set(err, WL_EDATA, "the AVIF is damaged: %s", avifResultToString(rc));
}

/* As the EXIF value that asks for the same: first turned by irot (anti-clockwise), then mirrored
 * by imir (0: top and bottom change places, 1: left and right). */
static int orientation_of(const avifImage *im)
{
	static const int turned[4] = {1, 8, 3, 6}, top_bottom[4] = {4, 5, 2, 7},
			 left_right[4] = {2, 7, 4, 5};
	int angle = im->transformFlags & AVIF_TRANSFORM_IROT ? im->irot.angle & 3 : 0;
	if (!(im->transformFlags & AVIF_TRANSFORM_IMIR))
		return turned[angle];
	return im->imir.mode ? left_right[angle] : top_bottom[angle];
}

/* Parsed, not yet decoded; the size was checked. */
static int open_avif(const uint8_t *p, size_t n, avifDecoder **out, struct wl_err *err)
{
	avifDecoder *d = *out = avifDecoderCreate();
	if (!d)
		return wl_err_nomem(err, "an AVIF decoder", 0);
	d->maxThreads = 1; /* pictures are decoded side by side */
	d->ignoreExif = d->ignoreXMP = AVIF_TRUE;
	d->imageSizeLimit = WL_IMAGE_MAX_PIXELS;
	d->imageCountLimit = 1 << 16;
	/* Files in the wild lack a pixi box now and then. */
	d->strictFlags = AVIF_STRICT_ENABLED & ~(unsigned)AVIF_STRICT_PIXI_REQUIRED;
	avifResult rc = avifDecoderSetIOMemory(d, p, n);
	if (rc == AVIF_RESULT_OK)
		rc = avifDecoderParse(d);
	if (rc != AVIF_RESULT_OK)
		return refused(rc, err);
	return wl_image_check_size("AVIF", d->image->width, d->image->height, err);
}

int wl_avif_probe(const uint8_t *p, size_t n, struct wl_image_info *info, struct wl_err *err)
{
	avifDecoder *d;
	int ret = open_avif(p, n, &d, err);
	if (ret == 0) {
		info->format = WL_IMAGE_AVIF;
		info->width = (int)d->image->width;
		info->height = (int)d->image->height;
		info->has_alpha = d->alphaPresent;
		info->orientation = orientation_of(d->image);
	}
	if (d)
		avifDecoderDestroy(d);
	return ret;
}

static int to_rgb(const avifDecoder *d, struct wl_image *out, struct wl_err *err)
{
	const avifImage *im = d->image;
	size_t w = im->width, h = im->height, ch = d->alphaPresent ? 4 : 3;
	avifRGBImage rgb;
	WL_TRY(wl_image_alloc(out, (int)w, (int)h, 3, err));
	uint8_t *rgba = ch == 4 ? malloc(w * h * 4) : NULL;
	if (ch == 4 && !rgba)
		return wl_err_nomem(err, "the pixels of an AVIF", w * h * 4);
	avifRGBImageSetDefaults(&rgb, im);
	rgb.depth = 8;
	rgb.format = ch == 4 ? AVIF_RGB_FORMAT_RGBA : AVIF_RGB_FORMAT_RGB;
	rgb.avoidLibYUV = AVIF_TRUE; /* the same bits on every machine */
	rgb.pixels = rgba ? rgba : out->data;
	rgb.rowBytes = (uint32_t)(w * ch);
	avifResult rc = avifImageYUVToRGB(im, &rgb);
	if (rc == AVIF_RESULT_OK && rgba)
		wl_image_rgba_on_white(out->data, rgba, w * h);
	free(rgba);
	return rc == AVIF_RESULT_OK ? 0 : refused(rc, err);
}

int wl_avif_decode(const uint8_t *p, size_t n, struct wl_image *out, struct wl_err *err)
{
	avifDecoder *d;
	int ret = -1;
	WL_TRY_OUT(open_avif(p, n, &d, err));
	uint32_t w = d->image->width, h = d->image->height;
	avifResult rc = avifDecoderNextImage(d);
	if (rc != AVIF_RESULT_OK) {
		refused(rc, err);
		goto out;
	}
	/* The bit stream may say otherwise than the container. */
	if (d->image->width != w || d->image->height != h) {
		wl_err_set(err, WL_EDATA, "the AVIF is damaged: %ux%u pixels in a frame of %ux%u",
			d->image->width, d->image->height, w, h);
		goto out;
	}
	ret = to_rgb(d, out, err);
out:
	if (ret < 0)
		wl_image_release(out);
	if (d)
		avifDecoderDestroy(d);
	return ret;
}
