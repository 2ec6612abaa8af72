#include "tests/support/pictures.h"

#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jpeglib.h>

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

struct wl_buf pictures_seeded(int w, int h, uint32_t seed, int quality)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_image im = {.width = w, .height = h, .channels = 3};
	size_t n = (size_t)w * (size_t)h * 3;
	struct wl_buf b;
	im.data = malloc(n);
	assert_non_null(im.data);
	for (size_t i = 0; i < n; i++)
		im.data[i] = (uint8_t)(i * (seed + 3) + wl_rand64(seed, 0, i / 30) % 40);
	wl_buf_init(&b, 1 << 20);
	assert_int_equal(wl_image_encode_jpeg(&im, quality, &b, &err), 0);
	wl_image_release(&im);
	return b;
}

static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *pictures_base64(const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	char *out = malloc((n + 2) / 3 * 4 + 1), *w = out;
	assert_non_null(out);
	for (; n; p += 3) {
		unsigned v = (unsigned)p[0] << 16 | (n > 1 ? (unsigned)p[1] << 8 : 0) |
			     (n > 2 ? (unsigned)p[2] : 0);
		*w++ = digit[v >> 18];
		*w++ = digit[v >> 12 & 63];
		*w++ = n > 1 ? digit[v >> 6 & 63] : '=';
		*w++ = n > 2 ? digit[v & 63] : '=';
		n -= n < 3 ? n : 3;
	}
	*w = '\0';
	return out;
}

char *pictures_in_message(uint32_t seed)
{
	struct wl_buf b = pictures_seeded(16 + (int)(seed % 7), 12, seed, 85);
	char *text = pictures_base64(b.data, b.len);
	wl_buf_release(&b);
	return text;
}

struct wl_buf pictures_from_base64(const char *s)
{
	struct wl_buf b;
	uint32_t acc = 0;
	int bits = 0;
	wl_buf_init(&b, 1 << 20);
	for (; *s && *s != '='; s++) {
		const char *d = strchr(digit, *s);
		assert_non_null(d);
		acc = acc << 6 | (uint32_t)(d - digit);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			assert_int_equal(wl_buf_putc(&b, (char)(acc >> bits & 0xff), NULL), 0);
		}
	}
	return b;
}

static void set_form(struct jpeg_compress_struct *c, struct jpeg_form f)
{
	jpeg_set_quality(c, f.quality ? f.quality : 75, TRUE);
	if (f.grey || f.rgb)
		jpeg_set_colorspace(c, f.grey ? JCS_GRAYSCALE : JCS_RGB);
	if (f.h)
		c->comp_info[0].h_samp_factor = f.h;
	if (f.v)
		c->comp_info[0].v_samp_factor = f.v;
	c->optimize_coding = f.optimised;
	if (f.progressive)
		jpeg_simple_progression(c);
	c->restart_in_rows = f.restart;
}

void pictures_encode(
	const struct wl_image *im, struct jpeg_form f, uint8_t **out, unsigned long *n)
{
	struct jpeg_compress_struct c;
	struct jpeg_error_mgr e;
	c.err = jpeg_std_error(&e);
	jpeg_create_compress(&c);
	*out = NULL;
	*n = 0;
	jpeg_mem_dest(&c, out, n);
	c.image_width = (JDIMENSION)im->width;
	c.image_height = (JDIMENSION)im->height;
	c.input_components = 3;
	c.in_color_space = JCS_RGB;
	jpeg_set_defaults(&c);
	set_form(&c, f);
	jpeg_start_compress(&c, TRUE);
	while (c.next_scanline < c.image_height) {
		JSAMPROW row = im->data + (size_t)c.next_scanline * (size_t)im->width * 3;
		jpeg_write_scanlines(&c, &row, 1);
	}
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);
}
