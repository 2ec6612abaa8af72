/*
 * WebP through libwebp; still pictures only.  The EXIF chunk is looked up here, since libwebp
 * itself does not parse metadata.
 */
#include "ingest/image_codec.h"

#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>

static uint32_t le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Walks the RIFF chunks (id, length, bytes padded to even) for EXIF. */
static int orientation_of(const uint8_t *p, size_t n)
{
	for (size_t at = 12; n >= 8 && at <= n - 8;) {
		size_t len = le32(p + at + 4), room = n - at - 8;
		if (len > room)
			break;
		if (memcmp(p + at, "EXIF", 4) == 0) {
			const uint8_t *tiff = p + at + 8;
			/* Some writers keep JPEG's prefix. */
			size_t skip = len > 6 && memcmp(tiff, "Exif\0\0", 6) == 0 ? 6 : 0;
			return wl_exif_orientation(tiff + skip, len - skip);
		}
		at += 8 + len + (len & 1);
	}
	return 1;
}

static const char *status_text(VP8StatusCode s)
{
	switch (s) {
	case VP8_STATUS_OUT_OF_MEMORY:
		return "out of memory";
	case VP8_STATUS_BITSTREAM_ERROR:
		return "its bit stream is broken";
	case VP8_STATUS_UNSUPPORTED_FEATURE:
		return "it uses a feature that libwebp does not know";
	case VP8_STATUS_NOT_ENOUGH_DATA:
		return "it is cut off";
	default:
		return "libwebp refuses it";
	}
}

static int damaged(VP8StatusCode s, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA, "the WebP is damaged: %s", status_text(s));
}

static int features(const uint8_t *p, size_t n, WebPBitstreamFeatures *f, struct wl_err *err)
{
	VP8StatusCode s = WebPGetFeatures(p, n, f);
	if (s != VP8_STATUS_OK)
		return damaged(s, err);
	if (f->has_animation)
		return wl_err_set(err, WL_EDATA, "an animated WebP is not decoded");
	return 0;
}

int wl_webp_probe(const uint8_t *p, size_t n, struct wl_image_info *info, struct wl_err *err)
{
	WebPBitstreamFeatures f;
	WL_TRY(features(p, n, &f, err));
	info->format = WL_IMAGE_WEBP;
	info->width = f.width;
	info->height = f.height;
	info->orientation = orientation_of(p, n);
	info->has_alpha = f.has_alpha;
	info->jpeg_plain = false;
	return 0;
}

int wl_webp_decode(const uint8_t *p, size_t n, struct wl_image *out, struct wl_err *err)
{
	WebPDecoderConfig cfg;
	if (!WebPInitDecoderConfig(&cfg))
		return wl_err_set(err, WL_EFAIL,
			"libwebp is of another version than its headers; reinstall libwebp-dev");
	WL_TRY(features(p, n, &cfg.input, err));
	size_t w = (size_t)cfg.input.width, h = (size_t)cfg.input.height;
	bool alpha = cfg.input.has_alpha;
	WL_TRY(wl_image_check_size("WebP", cfg.input.width, cfg.input.height, err));
	WL_TRY(wl_image_alloc(out, (int)w, (int)h, 3, err));
	uint8_t *rgba = alpha ? malloc(w * h * 4) : NULL;
	if (alpha && !rgba) {
		wl_image_release(out);
		return wl_err_nomem(err, "the pixels of a WebP", w * h * 4);
	}
	cfg.output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
	cfg.output.is_external_memory = 1;
	cfg.output.u.RGBA.rgba = alpha ? rgba : out->data;
	cfg.output.u.RGBA.stride = (int)(w * (alpha ? 4 : 3));
	cfg.output.u.RGBA.size = w * h * (alpha ? 4 : 3);
	VP8StatusCode s = WebPDecode(p, n, &cfg);
	WebPFreeDecBuffer(&cfg.output);
	if (s != VP8_STATUS_OK) {
		wl_image_release(out);
		free(rgba);
		return damaged(s, err);
	}
	if (alpha)
		wl_image_rgba_on_white(out->data, rgba, w * h);
	free(rgba);
	return 0;
}
