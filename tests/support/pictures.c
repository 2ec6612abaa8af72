#include "tests/support/pictures.h"

#include "ingest/image.h"
#include "ops/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

bool pictures_misc(void)
{
	if (wl_exists(PICTURES_MISC))
		return true;
	print_message("SKIPPED: %s is not here\n", PICTURES_MISC);
	return false;
}

struct wl_buf pictures_read(const char *path)
{
	struct wl_buf b;
	struct wl_err err = WL_ERR_INIT;
	wl_buf_init(&b, 16 << 20);
	if (wl_read_file(path, &b, &err) < 0)
		fail_msg("%s", err.msg);
	return b;
}

struct wl_image pictures_make(int w, int h, int ch, uint32_t seed, bool smooth)
{
	struct wl_image im = {.width = w, .height = h, .channels = ch};
	uint8_t *p = im.data = malloc((size_t)w * (size_t)h * (size_t)ch);
	assert_non_null(p);
	for (int y = 0; y < h; y++) {
		for (int i = 0; i < w * ch; i++) {
			seed = 1664525u * seed + 1013904223u;
			unsigned v = seed >> 24;
			*p++ = (uint8_t)(smooth ? (unsigned)(i * 5 + y * 3) + (v & 7) : v);
		}
	}
	return im;
}

struct wl_buf pictures_jpeg(int w, int h, int ch, int quality)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_image im = pictures_make(w, h, ch, 77, true);
	struct wl_buf b;
	wl_buf_init(&b, 16 << 20);
	assert_int_equal(wl_image_encode_jpeg(&im, quality, &b, &err), 0);
	wl_image_release(&im);
	return b;
}
