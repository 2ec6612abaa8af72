/*
 * Region decoding against a full decode, DCT scaling, odd JPEGs, damage, bombs.
 */
#include "ingest/image.h"
#include "loader/decode.h"
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/pictures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Detail in all channels, far from clipping. */
static void picture(struct wl_image *im, int w, int h)
{
	*im = (struct wl_image){w, h, 3, malloc((size_t)w * (size_t)h * 3)};
	assert_non_null(im->data);
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
			for (int c = 0; c < 3; c++)
				im->data[(y * w + x) * 3 + c] =
					(uint8_t)(105 + 50 * sin(x * 0.3 + c) * cos(y * 0.2) +
						  (x * 7 + y * 13 + c * 29) % 50);
}

struct sink {
	float *out; /* [side, side, 3] */
	int side;
};

static void keep_row(void *sink, int y, const float *const rgb[3])
{
	struct sink *s = sink;

	for (int i = 0; i < s->side * 3; i++)
		s->out[y * s->side * 3 + i] = rgb[i % 3][i / 3];
}

/* The box as a picture of side x side into out. */
static int decode_box(struct wl_decoder *d, struct wl_resizer *r, const void *bytes, size_t n,
	const int box[4], struct sink *s, struct wl_err *err)
{
	struct wl_region g;
	int w, h;

	WL_TRY(wl_decoder_open(d, bytes, n, &w, &h, err));
	WL_TRY(wl_decoder_region(d, box[0], box[1], box[2], box[3], s->side, 0, &g, err));
	return wl_resizer_run(r, &g, false, wl_decoder_strip, d, keep_row, s, err);
}

/* Weights of the triangle filter as its definition says; returns how many from *first on. */
static int triangle(int i, int side, int from, int len, double *w, int *first)
{
	double scale = (double)len / side, support = scale > 1 ? scale : 1, sum = 0;
	double centre = from + scale * (i + 0.5);
	int n = 0;

	*first = -1;
	for (int j = from; j < from + len; j++) {
		double x = fabs(j + 0.5 - centre) / support;

		if (x >= 1)
			continue;
		*first = *first < 0 ? j : *first;
		w[n++] = 1 - x;
		sum += 1 - x;
	}
	for (int k = 0; k < n; k++)
		w[k] /= sum;
	return n;
}

/* The full decode, cropped and resized in doubles. */
static void reference(const struct wl_image *full, const int box[4], int side, double *out)
{
	double wx[512], wy[512];

	for (int y = 0; y < side; y++)
		for (int x = 0; x < side; x++)
			for (int c = 0; c < 3; c++) {
				int x0, y0, nx = triangle(x, side, box[0], box[2], wx, &x0);
				int ny = triangle(y, side, box[1], box[3], wy, &y0);
				double sum = 0;

				for (int j = 0; j < ny; j++)
					for (int i = 0; i < nx; i++) {
						int at = (y0 + j) * full->width + x0 + i;

						sum += wy[j] * wx[i] * full->data[full->channels *
							at + (full->channels == 3 ? c : 0)];
					}
				out[(y * side + x) * 3 + c] = sum;
			}
}

/* Largest difference, in levels of 255, from upsample -> convert -> crop -> resize. */
static double levels_off(struct wl_decoder *d, const uint8_t *jpg, size_t n, const int box[4],
	int side, const char *what)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_resizer *r = wl_resizer_new(side, &err);
	size_t values = (size_t)side * (size_t)side * 3;
	struct sink s = {calloc(values, sizeof(float)), side};
	double *want = calloc(values, sizeof(double)), worst = 0;
	struct wl_image full;

	assert_true(r && s.out && want);
	OK(wl_image_decode(jpg, n, &full, &err));
	reference(&full, box, side, want);
	OK(decode_box(d, r, jpg, n, box, &s, &err));
	for (size_t i = 0; i < values; i++) {
		double off = fabs(want[i] - 255 * (double)s.out[i]);

		if (isnan(off))
			fail_msg("%s: value %zu is not a number", what, i);
		worst = off > worst ? off : worst;
	}
	wl_image_release(&full);
	wl_resizer_free(r);
	free(s.out);
	free(want);
	return worst;
}

/* Every subsampling, crops everywhere, enlarged, as they are and shrunk: what the decoder
 * rounds to 8 bits twice (chroma between samples, RGB) is all that may differ. */
static void crops_equal_full_decode(void **state)
{
	static const struct jpeg_form forms[] = {{.h = 1, .v = 1}, {.h = 2, .v = 1},
		{.h = 2, .v = 2}, {.h = 1, .v = 2}, {.h = 2, .v = 2, .progressive = true},
		{.h = 2, .v = 2, .restart = 1}, {.grey = true}, {.h = 4, .v = 1},
		{.h = 4, .v = 2}, {.grey = true, .restart = 1}};
	static const int boxes[][5] = {{0, 0, 203, 151, 64}, {17, 33, 100, 71, 130},
		{16, 16, 32, 32, 32}, {100, 75, 1, 1, 3}, {202, 150, 1, 1, 1}, {0, 140, 11, 11, 11},
		{192, 0, 11, 151, 20}, {31, 15, 97, 120, 50}, {33, 1, 64, 64, 64},
		{0, 0, 151, 151, 151}, {52, 0, 151, 151, 151}, {1, 32, 90, 90, 90}, {0, 0, 1, 1, 5},
		{3, 48, 60, 100, 17}, {5, 47, 80, 80, 80}};
	struct wl_err err = WL_ERR_INIT;
	struct wl_decoder *d = wl_decoder_new(&err);
	struct wl_image im;

	(void)state;
	assert_non_null(d);
	picture(&im, 203, 151);
	for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
		struct jpeg_form form = forms[f];
		uint8_t *jpg;
		unsigned long n;

		form.quality = 85;
		pictures_encode(&im, form, &jpg, &n);
		for (size_t b = 0; b < sizeof(boxes) / sizeof(boxes[0]); b++) {
			double off = levels_off(d, jpg, n, boxes[b], boxes[b][4], "box");

			if (off > 1.5)
				fail_msg("form %zu, box %zu: %g levels off", f, b, off);
		}
		free(jpg);
	}
	wl_image_release(&im);
	wl_decoder_free(d);
}

/* Pictures so small that libjpeg does not smooth, and a strip of odd size. */
static void tiny_pictures(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_decoder *d = wl_decoder_new(&err);

	(void)state;
	assert_non_null(d);
	for (int w = 1; w <= 9; w++)
		for (int h = 1; h <= 9; h += 2)
			for (int v = 1; v <= 2; v++) {
				int box[4] = {0, 0, w, h};
				struct wl_image im;
				uint8_t *jpg;
				unsigned long n;
				double off;

				picture(&im, w, h);
				pictures_encode(&im,
					(struct jpeg_form){.h = 2, .v = v, .quality = 85}, &jpg,
					&n);
				off = levels_off(d, jpg, n, box, 6, "tiny");
				if (off > 1.5)
					fail_msg("%d x %d, 2x%d: %g levels off", w, h, v, off);
				free(jpg);
				wl_image_release(&im);
			}
	wl_decoder_free(d);
}

/* What the decoder makes of a whole picture with scaling is close to what it makes without. */
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
	pictures_encode(&im, (struct jpeg_form){.quality = 85}, &jpg, &n);
	for (int k = 0; k < 2; k++) {
		struct sink s = {out[k], SIDE};
		struct wl_region g;

		OK(wl_decoder_open(d, jpg, n, &w, &h, &err));
		OK(wl_decoder_region(d, 37, 21, 577, 489, SIDE, k ? 1 : 0, &g, &err));
		assert_true(k ? g.w == 577 / 8.0 && g.h == 489 / 8.0 : g.w == 577);
		OK(wl_resizer_run(r, &g, false, wl_decoder_strip, d, keep_row, &s, &err));
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
	static const int box[4] = {13, 20, 50, 50};
	const char *path = "../shared/data/images-misc/exif-orientation/Landscape_6.jpg";
	struct wl_err err = WL_ERR_INIT;
	struct wl_decoder *d = wl_decoder_new(&err);
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
	assert_true(levels_off(d, (const uint8_t *)b.data, b.len, box, 50, path) < 0.01);
	assert_true(levels_off(d, (const uint8_t *)b.data, b.len, box, 30, path) < 0.01);
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
	struct wl_resizer *r = wl_resizer_new(40, &err);
	static float pixels[40 * 40 * 3];
	struct sink sink = {pixels, 40};
	struct wl_image im;
	int top_good = 0;

	(void)state;
	assert_true(d && r);
	picture(&im, 90, 70);
	for (int progressive = 0; progressive < 2; progressive++) {
		uint8_t *jpg, *copy;
		unsigned long n;

		pictures_encode(&im,
			(struct jpeg_form){.quality = 85, .progressive = progressive}, &jpg, &n);
		copy = malloc(n);
		assert_non_null(copy);
		/* The last two bytes are the end marker, which nothing depends on. */
		for (unsigned long cut = 0; cut + 16 < n; cut += 11) {
			memcpy(copy, jpg, cut);
			err = (struct wl_err)WL_ERR_INIT;
			if (decode_box(d, r, copy, cut, whole, &sink, &err) == 0)
				fail_msg("cut at %lu of %lu: not noticed", cut, n);
			assert_int_equal(err.code, WL_EDATA);
			top_good += decode_box(d, r, copy, cut, top, &sink, &err) == 0;
		}
		for (unsigned long i = 2; i < n; i += 3) {
			memcpy(copy, jpg, n);
			copy[i] ^= 0x5a;
			if (decode_box(d, r, copy, n, i & 1 ? whole : top, &sink, &err) < 0)
				assert_int_equal(err.code, WL_EDATA);
		}
		free(copy);
		OK(decode_box(d, r, jpg, n, whole, &sink, &err)); /* the decoder is still good */
		free(jpg);
	}
	assert_true(top_good > 0); /* damage behind the crop does no harm */
	wl_image_release(&im);
	wl_resizer_free(r);
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
	pictures_encode(&im, (struct jpeg_form){.h = 1, .v = 1, .quality = 85}, &jpg, &n);
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
		cmocka_unit_test(crops_equal_full_decode),
		cmocka_unit_test(tiny_pictures),
		cmocka_unit_test(dct_scaling_is_close),
		cmocka_unit_test(slow_path_is_the_same_picture),
		cmocka_unit_test(damage_is_found),
		cmocka_unit_test(bombs_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
