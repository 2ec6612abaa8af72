/* ingest/image_low: against libjpeg's own coefficients and 1/8 decoding, for all samplings;
 * what is unusual or damaged is left to the library. */
#include "ingest/image_low.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/pictures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

static struct wl_err err;

static void picture(struct wl_image *im, int w, int h, int grain)
{
	*im = (struct wl_image){w, h, 3, malloc((size_t)w * (size_t)h * 3)};
	assert_non_null(im->data);
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
			for (int c = 0; c < 3; c++)
				im->data[(y * w + x) * 3 + c] = (uint8_t)(120 +
					80 * sin(x * .05 + c) * cos(y * .04) +
					(double)(wl_rand64(3, (uint64_t)c, (uint64_t)(y * w + x)) %
						(uint64_t)grain));
}

/* What image_low.h says of a block, in doubles: the mean of a quarter (by 4) or of all (by 8). */
static double quarter(const JCOEF *k, const UINT16 *q, int x, int y, int by)
{
	const double half = .640728861935377,
		     root = sqrt(.5); /* mean of cos((2x+1)pi/16), x 0..3 */
	double v = k[0] * q[0] / 8.0;

	if (by == 8)
		return v + 128;
	v += (x ? -1 : 1) * k[1] * q[1] * half * root / 4;
	v += (y ? -1 : 1) * k[8] * q[8] * half * root / 4;
	v += (x == y ? 1 : -1) * k[9] * q[9] * half * half / 4;
	return v + 128;
}

static double clipped(double v)
{
	return v < 0 ? 0 : v > 255 ? 255 : v;
}

/* Every pixel of a plane against the coefficients that libjpeg reads. */
static void compare_plane(struct jpeg_decompress_struct *d, jvirt_barray_ptr *coefs, int comp,
	const struct wl_image *plane, int by)
{
	const UINT16 *q = d->comp_info[comp].quant_table->quantval;
	int a_block = by == 4 ? 2 : 1;

	for (int y = 0; y < plane->height; y++) {
		JBLOCKARRAY row = d->mem->access_virt_barray((j_common_ptr)d, coefs[comp],
			(JDIMENSION)(y / a_block), 1, FALSE);
		for (int x = 0; x < plane->width; x++) {
			const JCOEF *k = row[0][x / a_block];
			double want = clipped(quarter(k, q, x % a_block, y % a_block, by));
			double got = plane->data[(size_t)y * (size_t)plane->width + (size_t)x];
			if (fabs(got - want) > .51)
				fail_msg("component %d, by %d, (%d, %d): %g, expected %g", comp, by,
					x, y, got, want);
		}
	}
}

static void compare(const uint8_t *bytes, unsigned long n, int w, int h, int by)
{
	struct jpeg_decompress_struct d;
	struct jpeg_error_mgr e;
	struct wl_image_low low;
	jvirt_barray_ptr *coefs;

	assert_int_equal(wl_image_low(bytes, n, by, &low, &err), 1);
	assert_int_equal(low.width, w);
	assert_int_equal(low.height, h);
	assert_int_equal(low.luma.width, (w + by - 1) / by);
	assert_int_equal(low.luma.height, (h + by - 1) / by);
	d.err = jpeg_std_error(&e);
	jpeg_create_decompress(&d);
	jpeg_mem_src(&d, bytes, n);
	jpeg_read_header(&d, TRUE);
	coefs = jpeg_read_coefficients(&d);
	compare_plane(&d, coefs, 0, &low.luma, by);
	assert_int_equal(low.cb.data != NULL, d.num_components == 3);
	if (low.cb.data) {
		compare_plane(&d, coefs, 1, &low.cb, 8);
		compare_plane(&d, coefs, 2, &low.cr, 8);
	}
	jpeg_destroy_decompress(&d);
	wl_image_low_release(&low);
}

static void all_samplings(void **state)
{
	static const struct {
		int w, h;
	} sizes[] = {{160, 120}, {161, 123}, {8, 8}, {1, 1}, {7, 250}, {330, 33}};
	size_t n_sizes = sizeof(sizes) / sizeof(*sizes);

	(void)state;
	for (int form = 0; form < 40; form++) {
		struct jpeg_form f = {.h = 1 + (form & 1),
			.v = 1 + (form >> 1 & 1),
			.optimised = form >> 2 & 1,
			.restart = form >> 3 & 1,
			.grey = form >= 32,
			.quality = form % 3 == 0 ? 100 : form % 3 == 1 ? 85 : 20};
		struct wl_image im;
		uint8_t *bytes;
		unsigned long n;
		int w, h;
		picture(&im, sizes[(size_t)form % n_sizes].w, sizes[(size_t)form % n_sizes].h,
			form % 2 ? 120 : 8);
		pictures_encode(&im, f, &bytes, &n);
		assert_true(wl_image_low_size(bytes, n, &w, &h));
		assert_int_equal(w, im.width);
		assert_int_equal(h, im.height);
		compare(bytes, n, im.width, im.height, 4);
		compare(bytes, n, im.width, im.height, 8);
		free(bytes);
		wl_image_release(&im);
	}
}

static int low_of(const uint8_t *bytes, size_t n)
{
	struct wl_image_low low;
	int ret = wl_image_low(bytes, n, 4, &low, &err);

	if (ret == 1)
		wl_image_low_release(&low);
	return ret;
}

static void unusual_ones_are_not_taken(void **state)
{
	static const struct jpeg_form forms[] = {
		{.h = 1, .v = 1, .quality = 80, .progressive = true},
		{.h = 1, .v = 1, .quality = 80, .rgb = true}};
	static const uint8_t turned[] = {0xff, 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0,
		'*', 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0};
	struct wl_image im;
	uint8_t *bytes, *more;
	unsigned long n;

	(void)state;
	picture(&im, 64, 48, 50);
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		pictures_encode(&im, forms[i], &bytes, &n);
		assert_int_equal(low_of(bytes, n), 0);
		free(bytes);
	}
	pictures_encode(&im, (struct jpeg_form){.h = 2, .v = 2, .quality = 80}, &bytes, &n);
	assert_int_equal(low_of(bytes, n), 1);
	/* A picture that lies on its side. */
	more = malloc(n + sizeof(turned));
	memcpy(more, bytes, 2);
	memcpy(more + 2, turned, sizeof(turned));
	memcpy(more + 2 + sizeof(turned), bytes + 2, n - 2);
	assert_int_equal(low_of(more, n + sizeof(turned)), 0);
	more[2 + 29] = 1;
	assert_int_equal(low_of(more, n + sizeof(turned)), 1);
	free(more);
	free(bytes);
	wl_image_release(&im);
	assert_int_equal(low_of((const uint8_t *)"\x89PNG\r\n\x1a\n", 8), 0);
	assert_int_equal(low_of((const uint8_t *)"", 0), 0);
}

/* Cut off anywhere: never taken.  A byte changed: what is taken, the library takes too. */
static void damage(void **state)
{
	struct wl_image_info info;
	size_t taken = 0, refused = 0;

	(void)state;
	for (int form = 0; form < 4; form++) {
		struct wl_image im;
		uint8_t *bytes, *copy;
		unsigned long n;
		struct jpeg_form f = {.h = 1 + form % 2,
			.v = 1 + form % 2,
			.quality = 85,
			.restart = form / 2};
		picture(&im, 90, 70, 60);
		pictures_encode(&im, f, &bytes, &n);
		for (unsigned long cut = 0; cut < n; cut += cut < 700 ? 1 : 13) {
			copy = malloc(cut + 1); /* exactly as long, so that a sanitizer sees */
			memcpy(copy, bytes, cut);
			assert_int_equal(low_of(copy, cut), 0);
			free(copy);
		}
		copy = malloc(n);
		for (uint64_t k = 0; k < 3000; k++) {
			memcpy(copy, bytes, n);
			copy[wl_rand64(5, (uint64_t)form, k) % n] ^=
				(uint8_t)(1 + wl_rand64(6, (uint64_t)form, k) % 255);
			if (low_of(copy, n) == 1) {
				taken++;
				if (wl_image_check(copy, n, &info, &err) < 0)
					fail_msg("form %d, change %d: taken, but %s", form, (int)k,
						err.msg);
			} else {
				refused++;
			}
		}
		free(copy);
		free(bytes);
		wl_image_release(&im);
	}
	print_message("%zu damaged files are pictures all the same, %zu are not\n", taken, refused);
	assert_true(refused > 3000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_samplings),
		cmocka_unit_test(unusual_ones_are_not_taken),
		cmocka_unit_test(damage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
