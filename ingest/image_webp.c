/*
 * WebP through libwebp; of an animation the first frame, on white.  The EXIF chunk is looked up
 * here, since libwebp itself does not parse metadata.
 */
#include "ingest/image_codec.h"

#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

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
	/* libwebp also takes a bare VP8L stream behind the name, which is no file that anybody
	 * writes and has no chunk to be checked. */
	if (n < 16 || memcmp(p + 12, "VP8", 3) != 0)
		return wl_err_set(err, WL_EDATA, "the WebP is damaged: it has no picture chunk");
	VP8StatusCode s = WebPGetFeatures(p, n, f);
	if (s != VP8_STATUS_OK)
		return damaged(s, err);
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

/* One still picture into its own memory: RGBA or RGB of cfg's size. */
static int decode_still(const uint8_t *p, size_t n, WebPDecoderConfig *cfg, uint8_t *dst,
	bool alpha, struct wl_err *err)
{
	size_t ch = alpha ? 4 : 3, w = (size_t)cfg->input.width, h = (size_t)cfg->input.height;
	cfg->output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
	cfg->output.is_external_memory = 1;
	cfg->output.u.RGBA.rgba = dst;
	cfg->output.u.RGBA.stride = (int)(w * ch);
	cfg->output.u.RGBA.size = w * h * ch;
	VP8StatusCode s = WebPDecode(p, n, cfg);
	WebPFreeDecBuffer(&cfg->output);
	return s == VP8_STATUS_OK ? 0 : damaged(s, err);
}

/* The first frame where it belongs on a white canvas. */
static int decode_frame(const WebPIterator *it, struct wl_image *out, struct wl_err *err)
{
	WebPDecoderConfig cfg;
	size_t w = (size_t)it->width, h = (size_t)it->height, stride = (size_t)out->width * 3;
	if (!WebPInitDecoderConfig(&cfg))
		return wl_err_set(err, WL_EFAIL, "libwebp is of another version than its headers");
	VP8StatusCode s = WebPGetFeatures(it->fragment.bytes, it->fragment.size, &cfg.input);
	if (s != VP8_STATUS_OK)
		return damaged(s, err);
	if (cfg.input.width != it->width || cfg.input.height != it->height || it->x_offset < 0 ||
		it->y_offset < 0 || it->width > out->width - it->x_offset ||
		it->height > out->height - it->y_offset)
		return wl_err_set(err, WL_EDATA, "the WebP is damaged: its first frame does not "
						 "lie in the picture");
	uint8_t *rgba = malloc(w * h * 4);
	if (!rgba)
		return wl_err_nomem(err, "the pixels of a WebP", w * h * 4);
	int ret = decode_still(it->fragment.bytes, it->fragment.size, &cfg, rgba, true, err);
	for (size_t y = 0; ret == 0 && y < h; y++)
		wl_image_rgba_on_white(out->data + ((size_t)it->y_offset + y) * stride +
					       (size_t)it->x_offset * 3,
			rgba + y * w * 4, w);
	free(rgba);
	return ret;
}

static int decode_animation(
	const uint8_t *p, size_t n, const WebPBitstreamFeatures *f, struct wl_image *out,
	struct wl_err *err)
{
	WebPData data = {p, n};
	WebPIterator it = {0};
	WebPDemuxer *d = WebPDemux(&data); /* refuses what is cut off anywhere */
	int ret = -1;
	if (!d)
		return damaged(VP8_STATUS_NOT_ENOUGH_DATA, err);
	WL_TRY_OUT(wl_image_alloc(out, f->width, f->height, 3, err));
	memset(out->data, 255, (size_t)f->width * (size_t)f->height * 3);
	if (!WebPDemuxGetFrame(d, 1, &it) || !it.complete)
		damaged(VP8_STATUS_NOT_ENOUGH_DATA, err);
	else
		ret = decode_frame(&it, out, err);
	WebPDemuxReleaseIterator(&it);
out:
	WebPDemuxDelete(d);
	if (ret < 0)
		wl_image_release(out);
	return ret;
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
	if (cfg.input.has_animation)
		return decode_animation(p, n, &cfg.input, out, err);
	WL_TRY(wl_image_alloc(out, (int)w, (int)h, 3, err));
	uint8_t *rgba = alpha ? malloc(w * h * 4) : NULL;
	if (alpha && !rgba) {
		wl_image_release(out);
		return wl_err_nomem(err, "the pixels of a WebP", w * h * 4);
	}
	int ret = decode_still(p, n, &cfg, alpha ? rgba : out->data, alpha, err);
	if (ret < 0)
		wl_image_release(out);
	else if (alpha)
		wl_image_rgba_on_white(out->data, rgba, w * h);
	free(rgba);
	return ret;
}
