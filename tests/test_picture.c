/* clean/picture: sharpness and entropy by hand, pages of text and QR codes against photos. */
#include "clean/picture.h"
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"

#include <archive.h>
#include <archive_entry.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static struct wl_image blank(int w, int h, uint8_t grey)
{
	struct wl_image im = {w, h, 3, malloc((size_t)w * h * 3)};

	assert_non_null(im.data);
	memset(im.data, grey, (size_t)w * h * 3);
	return im;
}

static void by_hand(void **state)
{
	struct wl_image im = blank(7, 5, 90);
	struct wl_picture p;

	(void)state;
	OK(wl_picture_measure(&im, &p, &err));
	assert_true(p.sharpness == 0 && p.entropy == 0 && p.text == 0 && p.qr == 0);
	/* One pixel brighter by 10: the Laplacian is -40 there, 10 at its four neighbours. */
	memset(im.data + (2 * 7 + 3) * 3, 100, 3);
	OK(wl_picture_measure(&im, &p, &err));
	assert_true(fabs(p.sharpness - (1600.0 + 4 * 100) / 35) < 1e-9);
	assert_true(fabs(p.entropy - (log2(35) - 34.0 / 35 * log2(34))) < 1e-9);
	/* Beside the corner, which sees it mirrored as well: 20 there. */
	memset(im.data, 90, (size_t)7 * 5 * 3);
	memset(im.data + 3, 100, 3);
	OK(wl_picture_measure(&im, &p, &err));
	assert_true(fabs(p.sharpness - (1600.0 + 400 + 2 * 100) / 35) < 1e-9);
	wl_image_release(&im);
	for (int w = 1; w < 40; w += 19)
		for (int h = 1; h < 40; h += 19) {
			im = blank(w, h, 0);
			OK(wl_picture_measure(&im, &p, &err));
			wl_image_release(&im);
		}
}

static struct wl_picture measure_file(const char *path)
{
	struct wl_image im = {0};
	struct wl_picture p;
	struct wl_buf b;

	wl_buf_init(&b, 1 << 24);
	OK(wl_read_file(path, &b, &err));
	OK(wl_image_decode(b.data, b.len, &im, &err));
	OK(wl_picture_measure(&im, &p, &err));
	wl_image_release(&im);
	wl_buf_release(&b);
	return p;
}

static void pages_and_codes(void **state)
{
	static const char *const pages[] = {"article", "small", "dark", "colour", "big"};
	struct wl_picture p;
	char path[200];

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "tests/golden/picture/text-%s.jpg", pages[i]);
		p = measure_file(path);
		if (p.text < 0.55 || p.qr > 0)
			fail_msg("%s: text %.3f, qr %.3f", path, p.text, p.qr);
	}
	p = measure_file("tests/golden/picture/qr-plain.jpg");
	assert_true(p.qr > 0.7 && p.qr < 0.8); /* 25 of 29 modules a side */
	p = measure_file("tests/golden/picture/qr-poster.jpg");
	assert_true(p.qr > 0.17 && p.qr < 0.23);
	p = measure_file("tests/golden/picture/qr-turned.jpg");
	assert_true(p.qr > 0.2 && p.qr < 0.3);
}

static void drawn_pictures(void **state)
{
	struct wl_picture p;
	struct wl_image im;

	(void)state;
	for (uint64_t i = 0; i < 40; i++) {
		draw_picture(i, 300, 200, &im);
		OK(wl_picture_measure(&im, &p, &err));
		if (p.text > 0.5 || p.qr > 0)
			fail_msg("drawing %d: text %.3f, qr %.3f", (int)i, p.text, p.qr);
		wl_image_release(&im);
	}
}

/* All photos of a split of Flickr8k-CN. */
static void photos(void **state)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	int n = 0, text = 0, qr = 0;

	(void)state;
	archive_read_support_format_tar(a);
	if (archive_read_open_filename(a, "../shared/data/flickr8kcn/test.tar", 1 << 20) !=
		ARCHIVE_OK) {
		archive_read_free(a);
		SKIP("../shared/data/flickr8kcn is missing");
	}
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		size_t size = (size_t)archive_entry_size(e);
		const char *name = archive_entry_pathname(e);
		struct wl_image im = {0};
		struct wl_picture p;
		char *bytes;
		if (!strstr(name, ".jpg"))
			continue;
		bytes = malloc(size + 1);
		assert_int_equal(archive_read_data(a, bytes, size), size);
		OK(wl_image_decode(bytes, size, &im, &err));
		OK(wl_picture_measure(&im, &p, &err));
		n++;
		text += p.text > 0.5;
		qr += p.qr > 0;
		wl_image_release(&im);
		free(bytes);
	}
	archive_read_free(a);
	print_message("of %d photos %d are taken for text, %d for QR codes\n", n, text, qr);
	assert_true(n >= 500 && text * 200 <= n && qr * 500 <= n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand),
		cmocka_unit_test(pages_and_codes),
		cmocka_unit_test(drawn_pictures),
		cmocka_unit_test(photos),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
