/*
 * Whether what a server sent is a picture.  No header is believed: either every pixel is decoded,
 * or, quickly, the file's own header is read and its end is looked for, which finds all that was
 * cut off; damage in the middle then comes out when the pair is packed.
 */
#include "ingest/fetch_priv.h"

#include <string.h>

/* Behind the end marker there may be padding, or a camera's own data. */
static bool jpeg_has_end(const uint8_t *b, size_t n)
{
	for (size_t i = n; i >= 2; i--) {
		const uint8_t *ff = memrchr(b, 0xff, i - 1);
		if (!ff)
			return false;
		if (ff[1] == 0xd9)
			return true;
		/* In the coded data 0xff is followed by 0 or a restart marker: it was cut off
		 * there. */
		if (ff[1] == 0 || (ff[1] >= 0xd0 && ff[1] <= 0xd7))
			return false;
		i = (size_t)(ff - b) + 1;
	}
	return false;
}

static bool png_has_end(const uint8_t *b, size_t n)
{
	return memmem(b + (n > 4096 ? n - 4096 : 0), n > 4096 ? 4096 : n,
		       "\0\0\0\0IEND\xae\x42\x60\x82", 12) != NULL;
}

static bool webp_has_end(const uint8_t *b, size_t n)
{
	uint32_t size = n >= 12 ? (uint32_t)b[4] | (uint32_t)b[5] << 8 | (uint32_t)b[6] << 16 |
					  (uint32_t)b[7] << 24
				: UINT32_MAX;
	return n >= 8 && size <= n - 8;
}

static int quick_check(
	const struct wl_buf *b, const struct wl_image_info *info, bool *known, struct wl_err *err)
{
	const uint8_t *p = (const uint8_t *)b->data;
	bool whole = false;
	*known = true;
	if (info->format == WL_IMAGE_JPEG)
		whole = jpeg_has_end(p, b->len);
	else if (info->format == WL_IMAGE_PNG)
		whole = png_has_end(p, b->len);
	else if (info->format == WL_IMAGE_WEBP)
		whole = webp_has_end(p, b->len);
	else
		*known = false;
	if (*known && !whole)
		return wl_err_set(err, WL_EDATA, "the picture has no end: %zu bytes of %s", b->len,
			wl_image_format_name(info->format));
	return 0;
}

int wl_fetch_check(
	const struct wl_buf *b, bool quick, struct wl_image_info *info, struct wl_err *err)
{
	const char *bytes = b->data ? b->data : "";
	bool known = false;
	if (quick) {
		WL_TRY(wl_image_probe(bytes, b->len, info, err));
		WL_TRY(quick_check(b, info, &known, err));
	}
	return known ? 0 : wl_image_check(bytes, b->len, info, err);
}
