/*
 * Region decoding against a full decode, DCT scaling, odd JPEGs, damage, bombs.
 */
#include "ingest/image.h"
#include "loader/decode.h"
#include "ops/file.h"
#include "tests/support/cm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

static void picture(struct wl_image *im, int w, int h)
{
	*im = (struct wl_image){w, h, 3, malloc((size_t)w * (size_t)h * 3)};
	assert_non_null(im->data);
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
			for (int c = 0; c < 3; c++)
				im->data[(y * w + x) * 3 + c] =
					(uint8_t)(127 + 60 * sin(x * 0.3 + c) * cos(y * 0.2) +
						  (x * 7 + y * 13 + c * 29) % 60);
}

struct jpeg_form {
	int h, v;         /* luma sampling factors */
	bool progressive, grey, restart;
};

/* Plain libjpeg, so that every subsampling can be made. */
static void encode(const struct wl_image *im, struct jpeg_form f, uint8_t **out,
	unsigned long *n)
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
	jpeg_set_quality(&c, 85, TRUE);
	if (f.grey)
		jpeg_set_colorspace(&c, JCS_GRAYSCALE);
	else {
		c.comp_info[0].h_samp_factor = f.h;
		c.comp_info[0].v_samp_factor = f.v;
	}
	if (f.progressive)
		jpeg_simple_progression(&c);
	if (f.restart)
		c.restart_in_rows = 1;
	jpeg_start_compress(&c, TRUE);
	while (c.next_scanline < c.image_height) {
		JSAMPROW row = im->data + (size_t)c.next_scanline * (size_t)im->width * 3;

		jpeg_write_scanlines(&c, &row, 1);
	}
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);
}

/* The region's pixels as RGB into a fresh picture. */
static int decode_region(struct wl_decoder *d, const void *bytes, size_t n, const int box[4],
	struct wl_image *out, struct wl_err *err)
{
	struct wl_region g;
	uint8_t *row;
	int w, h, x0, y0;

	WL_TRY(wl_decoder_open(d, bytes, n, &w, &h, err));
	WL_TRY(wl_decoder_region(d, box[0], box[1], box[2], box[3], 1, 0, &g, err));
	x0 = (int)g.x;
	y0 = (int)g.y;
	assert_true(g.x == x0 && g.y == y0 && g.w == box[2] && g.h == box[3]);
	assert_true(x0 + box[2] <= g.width && y0 + box[3] <= g.rows);
	*out = (struct wl_image){box[2], box[3], 3, malloc((size_t)box[2] * (size_t)box[3] * 3)};
	row = malloc((size_t)g.width * 4);
	assert_true(out->data && row);
	for (int y = 0; y < y0 + box[3]; y++) {
		if (wl_decoder_rows(d, &row, 1, err) < 0) {
			free(row);
			wl_image_release(out);
			return -1;
		}
		for (int x = 0; y >= y0 && x < box[2]; x++)
			memcpy(out->data + ((y - y0) * box[2] + x) * 3, row + (x0 + x) * 4, 3);
	}
	free(row);
	return 0;
}

static void regions_equal_full_decode(void **state)
{
	static const struct jpeg_form forms[] = {{1, 1, 0, 0, 0}, {2, 1, 0, 0, 0}, {2, 2, 0, 0, 0},
		{1, 2, 0, 0, 0}, {2, 2, 1, 0, 0}, {2, 2, 0, 0, 1}, {1, 1, 0, 1, 0},
		{4, 1, 0, 0, 0}};
	static const int boxes[][4] = {{0, 0, 203, 151}, {17, 33, 100, 71}, {16, 16, 32, 32},
		{100, 75, 1, 1}, {202, 150, 1, 1}, {0, 140, 203, 11}, {190, 0, 13, 151},
		{31, 15, 97, 120}, {33, 1, 64, 149}, {0, 0, 1, 1}};
	struct wl_err err = WL_ERR_INIT;
	struct wl_decoder *d = wl_decoder_new(&err);
	struct wl_image im;

	(void)state;
	assert_non_null(d);
	picture(&im, 203, 151);
	for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
		struct wl_image full, part;
		uint8_t *jpg;
		unsigned long n;

		encode(&im, forms[f], &jpg, &n);
		OK(wl_image_decode(jpg, n, &full, &err));
		for (size_t b = 0; b < sizeof(boxes) / sizeof(boxes[0]); b++) {
			const int *box = boxes[b];

			OK(decode_region(d, jpg, n, box, &part, &err));
			for (int y = 0; y < box[3]; y++)
				if (memcmp(part.data + y * box[2] * 3, full.data +
						((box[1] + y) * full.width + box[0]) * 3,
						(size_t)box[2] * 3))
					fail_msg("form %zu, box %zu, row %d differs", f, b, y);
			wl_image_release(&part);
		}
		wl_image_release(&full);
		free(jpg);
	}
	wl_image_release(&im);
	wl_decoder_free(d);
}

/* What the decoder makes of a whole picture with scaling is close to what it makes without. */
struct sink {
	float *out;
	int side;
};

static void keep_row(void *sink, int y, const float *rgbx)
{
	struct sink *s = sink;

	for (int i = 0; i < s->side; i++)
		memcpy(s->out + (y * s->side + i) * 3, rgbx + 4 * i, 3 * sizeof(float));
}

static void dct_scaling_is_close(void **state)
{
	enum { SIDE = 60 };
	struct wl_err err = WL_ERR_INIT;
	struct wl_decoder *d = wl_decoder_new(&err);
	struct wl_resizer *r = wl_resizer_new(SIDE, &err);
	static float out[2][SIDE * SIDE * 3];
	struct wl_image im;
	uint8_t *jpg;
	unsigned long n;
	int w, h;

	(void)state;
	assert_true(d && r);
	picture(&im, 640, 523);
	for (int i = 0; i < im.width * im.height * 3; i++) /* smooth: scaling loses nothing else */
		im.data[i] = (uint8_t)(127 + 100 * sin((i / 3 % im.width) * 0.02) *
			cos((i / 3 / im.width) * 0.03 + i % 3));
	encode(&im, (struct jpeg_form){2, 2, 0, 0, 0}, &jpg, &n);
	for (int k = 0; k < 2; k++) {
		struct sink s = {out[k], SIDE};
		struct wl_region g;

		OK(wl_decoder_open(d, jpg, n, &w, &h, &err));
		OK(wl_decoder_region(d, 37, 21, 577, 489, SIDE, k ? 1 : 0, &g, &err));
		assert_true(k ? g.w == 577 / 8.0 && g.h == 489 / 8.0 : g.w == 577);
		OK(wl_resizer_run(r, &g, false, wl_decoder_rows, d, keep_row, &s, &err));
	}
	for (int i = 0; i < SIDE * SIDE * 3; i++)
		assert_true(fabsf(out[0][i] - out[1][i]) < 0.03f);
	free(jpg);
	wl_image_release(&im);
	wl_resizer_free(r);
	wl_decoder_free(d);
}

/* PNG has no business in a shard, but is decoded as ingest decodes it. */
static void slow_path_is_the_same_picture(void **state)
{
	static const uint8_t gif[] = "GIF89a and then some bytes that make it long enough";
	static const int box[4] = {13, 20, 50, 60};
	const char *path = "../shared/data/images-misc/exif-orientation/Landscape_6.jpg";
	struct wl_err err = WL_ERR_INIT;
	struct wl_decoder *d = wl_decoder_new(&err);
	struct wl_image full, part;
	struct wl_buf b;
	int w, h;

	(void)state;
	assert_non_null(d);
	assert_int_equal(-1, wl_decoder_open(d, gif, sizeof(gif), &w, &h, &err));
	assert_int_equal(err.code, WL_EDATA);
	if (!wl_exists(path)) {
		wl_decoder_free(d);
		SKIP("%s is absent", path);
	}
	wl_buf_init(&b, 1 << 24);
	OK(wl_read_file(path, &b, &err));
	OK(wl_image_decode(b.data, b.len, &full, &err));
	OK(decode_region(d, b.data, b.len, box, &part, &err));
	for (int y = 0; y < box[3]; y++)
		assert_memory_equal(part.data + y * box[2] * 3,
			full.data + ((box[1] + y) * full.width + box[0]) * 3, (size_t)box[2] * 3);
	wl_image_release(&full);
	wl_image_release(&part);
	wl_buf_release(&b);
	wl_decoder_free(d);
}

/* Cut anywhere, or with bytes turned over: an error or a picture, never a crash; a cut before
 * the end of the region is always found. */
static void damage_is_found(void **state)
{
	static const int whole[4] = {0, 0, 90, 70}, top[4] = {0, 0, 90, 8};
	struct wl_err err = WL_ERR_INIT;
	struct wl_decoder *d = wl_decoder_new(&err);
	struct wl_image im, part;
	int top_good = 0;

	(void)state;
	assert_non_null(d);
	picture(&im, 90, 70);
	for (int progressive = 0; progressive < 2; progressive++) {
		uint8_t *jpg, *copy;
		unsigned long n;

		encode(&im, (struct jpeg_form){2, 2, progressive, 0, 0}, &jpg, &n);
		copy = malloc(n);
		assert_non_null(copy);
		/* The last two bytes are the end marker, which nothing depends on. */
		for (unsigned long cut = 0; cut + 16 < n; cut += 11) {
			memcpy(copy, jpg, cut);
			err = (struct wl_err)WL_ERR_INIT;
			if (decode_region(d, copy, cut, whole, &part, &err) == 0)
				fail_msg("cut at %lu of %lu: not noticed", cut, n);
			assert_int_equal(err.code, WL_EDATA);
			if (decode_region(d, copy, cut, top, &part, &err) == 0) {
				wl_image_release(&part);
				top_good++;
			}
		}
		for (unsigned long i = 2; i < n; i += 3) {
			memcpy(copy, jpg, n);
			copy[i] ^= 0x5a;
			if (decode_region(d, copy, n, top, &part, &err) == 0)
				wl_image_release(&part);
		}
		free(copy);
		OK(decode_region(d, jpg, n, whole, &part, &err)); /* the decoder is still good */
		wl_image_release(&part);
		free(jpg);
	}
	assert_true(top_good > 0); /* damage behind the crop does no harm */
	wl_image_release(&im);
	wl_decoder_free(d);
}

static void bombs_are_refused(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_decoder *d = wl_decoder_new(&err);
	struct wl_image im;
	uint8_t *jpg;
	unsigned long n, i;
	int w, h;

	(void)state;
	assert_non_null(d);
	picture(&im, 16, 16);
	encode(&im, (struct jpeg_form){1, 1, 0, 0, 0}, &jpg, &n);
	for (i = 0; i + 9 < n && !(jpg[i] == 0xff && jpg[i + 1] == 0xc0); i++)
		;
	memset(jpg + i + 5, 0xff, 4); /* 65535 x 65535 */
	assert_int_equal(-1, wl_decoder_open(d, jpg, n, &w, &h, &err));
	assert_int_equal(err.code, WL_EDATA);
	free(jpg);
	wl_image_release(&im);
	wl_decoder_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(regions_equal_full_decode),
		cmocka_unit_test(dct_scaling_is_close),
		cmocka_unit_test(slow_path_is_the_same_picture),
		cmocka_unit_test(damage_is_found),
		cmocka_unit_test(bombs_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
