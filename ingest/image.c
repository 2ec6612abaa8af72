/*
 * Images: what bytes are, by content; size limits before anything is decoded; orientation; and
 * JPEG bytes for the shards.  The codecs are in image_FORMAT.c.
 */
#include "ingest/image.h"

#include "ingest/image_codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is done by format.  Without decode: known by name only, and why. */
static const struct codec {
	const char *name;
	int (*probe)(const uint8_t *p, size_t n, struct wl_image_info *info, struct wl_err *err);
	int (*decode)(const uint8_t *p, size_t n, struct wl_image *out, struct wl_err *err);
	int (*structure)(const uint8_t *p, size_t n, struct wl_err *err); /* PNG's is asked first */
	const char *why_not; /* NULL: there is no library for it in this build */
} codecs[] = {
	[WL_IMAGE_UNKNOWN] = {.name = "unknown"},
	[WL_IMAGE_JPEG] = {"jpeg", wl_jpeg_probe, wl_jpeg_decode, wl_jpeg_structure, NULL},
	[WL_IMAGE_PNG] = {"png", wl_png_probe, wl_png_decode, NULL, NULL},
	[WL_IMAGE_WEBP] = {"webp", wl_webp_probe, wl_webp_decode, wl_webp_structure, NULL},
	[WL_IMAGE_GIF] = {"gif", wl_gif_probe, wl_gif_decode, wl_gif_structure, NULL},
	[WL_IMAGE_AVIF] = {"avif", wl_avif_probe, wl_avif_decode, wl_avif_structure, NULL},
	[WL_IMAGE_BMP] = {.name = "bmp"},
	[WL_IMAGE_SVG] = {.name = "svg",
		.why_not = "it is a drawing without pixels, which may refer to other files"},
	[WL_IMAGE_HEIC] = {.name = "heic",
		.why_not = "HEVC is under patents and this build has no library for it"},
	[WL_IMAGE_TIFF] = {.name = "tiff"},
	[WL_IMAGE_JXL] = {.name = "jxl"},
};

const char *wl_image_format_name(enum wl_image_format f)
{
	return codecs[f].name;
}

void wl_image_release(struct wl_image *im)
{
	if (!im)
		return;
	free(im->data);
	memset(im, 0, sizeof *im);
}

int wl_image_alloc(struct wl_image *im, int width, int height, int channels, struct wl_err *err)
{
	size_t n = (size_t)width * (size_t)height * (size_t)channels;
	memset(im, 0, sizeof *im);
	im->data = malloc(n ? n : 1);
	if (!im->data)
		return wl_err_nomem(err, "the pixels of an image", n);
	im->width = width;
	im->height = height;
	im->channels = channels;
	return 0;
}

int wl_image_check_size(const char *format, int64_t width, int64_t height, struct wl_err *err)
{
	if (width < 1 || height < 1)
		return wl_err_set(err, WL_EDATA, "the %s has no pixels (%lldx%lld)", format,
			(long long)width, (long long)height);
	if (width > WL_IMAGE_MAX_SIDE_PX || height > WL_IMAGE_MAX_SIDE_PX ||
		width * height > WL_IMAGE_MAX_PIXELS)
		return wl_err_set(err, WL_EDATA,
			"the %s is too large: %lldx%lld pixels, at most %d a side and %d in all "
			"are taken",
			format, (long long)width, (long long)height, WL_IMAGE_MAX_SIDE_PX,
			WL_IMAGE_MAX_PIXELS);
	return 0;
}

void wl_image_rgba_on_white(uint8_t *dst, const uint8_t *src, size_t pixels)
{
	for (size_t i = 0; i < pixels; i++, dst += 3, src += 4) {
		unsigned a = src[3], white = 255u * (255u - a) + 127u;
		for (int c = 0; c < 3; c++)
			dst[c] = (uint8_t)((src[c] * a + white) / 255u);
	}
}

/* ---- EXIF ---- */

static unsigned tiff_u16(const uint8_t *p, bool big)
{
	return big ? (unsigned)p[0] << 8 | p[1] : (unsigned)p[1] << 8 | p[0];
}

static uint32_t tiff_u32(const uint8_t *p, bool big)
{
	return big ? (uint32_t)tiff_u16(p, big) << 16 | tiff_u16(p + 2, big)
		   : (uint32_t)tiff_u16(p + 2, big) << 16 | tiff_u16(p, big);
}

int wl_exif_orientation(const uint8_t *tiff, size_t n)
{
	enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY = 12 };
	if (n < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0))
		return 1;
	bool big = tiff[0] == 'M';
	size_t ifd = tiff_u32(tiff + 4, big);
	if (ifd > n - 2)
		return 1;
	size_t entries = tiff_u16(tiff + ifd, big);
	for (size_t i = 0, at = ifd + 2; i < entries && n - at >= ENTRY && at <= n;
		i++, at += ENTRY) {
		const uint8_t *e = tiff + at;
		if (tiff_u16(e, big) != TAG_ORIENTATION || tiff_u16(e + 2, big) != TYPE_SHORT)
			continue;
		unsigned v = tiff_u16(e + 8, big);
		return v >= 1 && v <= 8 ? (int)v : 1;
	}
	return 1;
}

/* Turns the stored picture upright.  EXIF 5..8 swap the axes; for each upright pixel (x, y) the
 * stored one is looked up (Exif 2.3, table of tag 0x0112). */
static int upright(struct wl_image *im, int orientation, struct wl_err *err)
{
	if (orientation <= 1)
		return 0;
	bool swap = orientation >= 5;
	int w = swap ? im->height : im->width, h = swap ? im->width : im->height;
	size_t ch = (size_t)im->channels;
	struct wl_image out;
	WL_TRY(wl_image_alloc(&out, w, h, im->channels, err));
	bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
	bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
	uint8_t *dst = out.data;
	for (int y = 0; y < h; y++) {
		for (int x = 0; x < w; x++, dst += ch) {
			int sx = swap ? y : x, sy = swap ? x : y;
			if (flip_x)
				sx = im->width - 1 - sx;
			if (flip_y)
				sy = im->height - 1 - sy;
			const uint8_t *src =
				im->data + ((size_t)sy * (size_t)im->width + (size_t)sx) * ch;
			memcpy(dst, src, ch);
		}
	}
	wl_image_release(im);
	*im = out;
	return 0;
}

/* ---- what the bytes are ---- */

static bool starts(const uint8_t *p, size_t n, const void *magic, size_t len)
{
	return n >= len && memcmp(p, magic, len) == 0;
}

/* An SVG is XML: a byte-order mark, blanks, a prologue and comments may come before <svg. */
static bool is_svg(const uint8_t *p, size_t n)
{
	size_t look = n < 4096 ? n : 4096, at = starts(p, n, "\xef\xbb\xbf", 3) ? 3 : 0;
	while (at < look && strchr(" \t\r\n", p[at]) && p[at])
		at++;
	return at < look && p[at] == '<' && memmem(p + at, look - at, "<svg", 4) != NULL;
}

/* The brands of an ISO media file (ISO 14496-12, "ftyp"): AVIF wins over the container's own
 * mif1, which HEIC files have too. */
static enum wl_image_format iso_brand(const uint8_t *p, size_t n)
{
	static const char heic[][5] = {
		"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"};
	size_t len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	enum wl_image_format found = WL_IMAGE_UNKNOWN;
	if (len > n)
		len = n;
	for (size_t at = 8; at + 4 <= len && at < 256; at += at == 8 ? 8 : 4) {
		if (memcmp(p + at, "avif", 4) == 0 || memcmp(p + at, "avis", 4) == 0)
			return WL_IMAGE_AVIF;
		for (size_t i = 0; i < sizeof heic / sizeof *heic; i++)
			if (memcmp(p + at, heic[i], 4) == 0)
				found = WL_IMAGE_HEIC;
	}
	return found;
}

static enum wl_image_format sniff(const uint8_t *p, size_t n)
{
	if (starts(p, n, "\xff\xd8\xff", 3))
		return WL_IMAGE_JPEG;
	if (starts(p, n, "\x89PNG\r\n\x1a\n", 8))
		return WL_IMAGE_PNG;
	if (n >= 12 && starts(p, n, "RIFF", 4) && memcmp(p + 8, "WEBP", 4) == 0)
		return WL_IMAGE_WEBP;
	if (starts(p, n, "GIF87a", 6) || starts(p, n, "GIF89a", 6))
		return WL_IMAGE_GIF;
	/* "BM" alone is two letters of any text: the header's size and planes must fit too. */
	if (n >= 30 && starts(p, n, "BM", 2) && p[14] >= 12 && p[14] <= 124 && !p[15] && !p[16] &&
		!p[17])
		return WL_IMAGE_BMP;
	if (n >= 16 && memcmp(p + 4, "ftyp", 4) == 0)
		return iso_brand(p, n);
	if (starts(p, n, "II*\0", 4) || starts(p, n, "MM\0*", 4))
		return WL_IMAGE_TIFF;
	if (starts(p, n, "\0\0\0\x0cJXL \r\n\x87\n", 12) || starts(p, n, "\xff\x0a", 2))
		return WL_IMAGE_JXL;
	if (is_svg(p, n))
		return WL_IMAGE_SVG;
	return WL_IMAGE_UNKNOWN;
}

static int not_an_image(const uint8_t *p, size_t n, struct wl_err *err)
{
	char head[16 * 3 + 1];
	size_t m = n < 8 ? n : 8;
	for (size_t i = 0; i < m; i++)
		snprintf(head + 3 * i, 4, " %02x", p[i]);
	if (!n)
		return wl_err_set(err, WL_EDATA, "the image has zero bytes");
	return wl_err_set(err, WL_EDATA,
		"this is no image that we know: its %zu bytes start with%s", n, head);
}

/* Sides as they are stored change places when the picture lies on its side. */
static void stand_up(struct wl_image_info *info)
{
	if (info->orientation < 5)
		return;
	int w = info->width;
	info->width = info->height;
	info->height = w;
}

int wl_image_probe(const void *bytes, size_t n, struct wl_image_info *info, struct wl_err *err)
{
	const uint8_t *p = bytes;
	memset(info, 0, sizeof *info);
	info->orientation = 1;
	if (n > WL_IMAGE_MAX_BYTES)
		return wl_err_set(err, WL_EDATA, "the image has %zu bytes, at most %d are taken", n,
			WL_IMAGE_MAX_BYTES);
	info->format = sniff(p, n);
	if (info->format == WL_IMAGE_UNKNOWN)
		return not_an_image(p, n, err);
	if (!codecs[info->format].probe)
		return 0; /* known by name, size not looked up */
	WL_TRY(codecs[info->format].probe(p, n, info, err));
	WL_TRY(wl_image_check_size(
		wl_image_format_name(info->format), info->width, info->height, err));
	stand_up(info);
	return 0;
}

static int not_decoded(enum wl_image_format f, struct wl_err *err)
{
	const char *why = codecs[f].why_not;
	return wl_err_set(err, WL_EDATA, "%s is not decoded: %s", codecs[f].name,
		why ? why : "this build has no library for it");
}

int wl_image_decode(const void *bytes, size_t n, struct wl_image *out, struct wl_err *err)
{
	struct wl_image_info info;
	memset(out, 0, sizeof *out);
	WL_TRY(wl_image_probe(bytes, n, &info, err));
	if (!codecs[info.format].decode)
		return not_decoded(info.format, err);
	WL_TRY(codecs[info.format].decode(bytes, n, out, err));
	if (upright(out, info.orientation, err) < 0) {
		wl_image_release(out);
		return -1;
	}
	return 0;
}

int wl_image_decode_by(const void *bytes, size_t n, int by, struct wl_image_info *info,
	struct wl_image *out, int *got, struct wl_err *err)
{
	memset(out, 0, sizeof *out);
	*got = 1;
	WL_TRY(wl_image_probe(bytes, n, info, err));
	if (info->format != WL_IMAGE_JPEG || by == 1)
		return wl_image_decode(bytes, n, out, err);
	*got = by;
	WL_TRY(wl_jpeg_decode_by(bytes, n, by, out, err));
	if (upright(out, info->orientation, err) < 0) {
		wl_image_release(out);
		return -1;
	}
	return 0;
}

int wl_image_check(const void *bytes, size_t n, struct wl_image_info *info, struct wl_err *err)
{
	struct wl_image im = {0};
	WL_TRY(wl_image_probe(bytes, n, info, err));
	if (info->format == WL_IMAGE_JPEG)
		return wl_jpeg_check(bytes, n, err);
	int ret = wl_image_decode(bytes, n, &im, err);
	wl_image_release(&im);
	return ret;
}

static int check_structure(
	const uint8_t *p, size_t n, struct wl_image_info *info, struct wl_err *err)
{
	/* The walk over a PNG tells all that the probe does. */
	if (n <= WL_IMAGE_MAX_BYTES && sniff(p, n) == WL_IMAGE_PNG) {
		*info = (struct wl_image_info){.format = WL_IMAGE_PNG, .orientation = 1};
		WL_TRY(wl_png_structure(p, n, info, err));
		stand_up(info);
		return 0;
	}
	WL_TRY(wl_image_probe(p, n, info, err));
	if (!codecs[info->format].structure)
		return not_decoded(info->format, err);
	return codecs[info->format].structure(p, n, err);
}

int wl_image_check_by(const void *bytes, size_t n, enum wl_image_level level,
	struct wl_image_info *info, struct wl_err *err)
{
	if (level == WL_IMAGE_DECODE)
		return wl_image_check(bytes, n, info, err);
	if (level == WL_IMAGE_STRUCTURE)
		return check_structure(bytes, n, info, err);
	WL_TRY(wl_image_probe(bytes, n, info, err));
	return codecs[info->format].decode ? 0 : not_decoded(info->format, err);
}

int wl_image_to_jpeg(
	const void *bytes, size_t n, int quality, struct wl_buf *out, struct wl_err *err)
{
	struct wl_image_info info;
	struct wl_image im;
	WL_TRY(wl_image_probe(bytes, n, &info, err));
	if (info.jpeg_plain)
		return wl_buf_add(out, bytes, n, err);
	WL_TRY(wl_image_decode(bytes, n, &im, err));
	int ret = wl_image_encode_jpeg(&im, quality, out, err);
	wl_image_release(&im);
	return ret;
}

int wl_image_to_grey(const struct wl_image *src, struct wl_image *out, struct wl_err *err)
{
	WL_TRY(wl_image_alloc(out, src->width, src->height, 1, err));
	size_t pixels = (size_t)src->width * (size_t)src->height;
	if (src->channels == 1) {
		memcpy(out->data, src->data, pixels);
		return 0;
	}
	const uint8_t *p = src->data;
	for (size_t i = 0; i < pixels; i++, p += 3)
		out->data[i] =
			(uint8_t)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 0x8000u) >> 16);
	return 0;
}
