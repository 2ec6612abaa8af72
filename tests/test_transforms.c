/* clean/match, windows: what of the transforms of tests/support/transform.h is found among real
 * photos, and whether anything else is; mirrored hashes, frames, and small decoding on drawn
 * pictures. */
#include "clean/match.h"
#include "clean/signature.h"
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/transform.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PHOTOS "../shared/data/flickr8kcn/val.tar"

static struct wl_err err;
static const struct wl_radii radii = {6, 4}, whole_only = {6, -1};

enum { BASES = 120, PHOTOS_MAX = 300 }; /* that are changed; that are compared */

struct set {
	struct wl_view v[PHOTOS_MAX];
	size_t n, all, found[TRANSFORMS], before[TRANSFORMS], small[TRANSFORMS];
};

static void small_view(const struct wl_image *im, struct wl_view *v)
{
	struct wl_signature s = {0};
	struct wl_buf b;

	wl_buf_init(&b, 64 << 20);
	OK(wl_image_encode_jpeg(im, 90, &b, &err));
	OK(wl_signature_image(&s, b.data, b.len, true, &err));
	*v = s.picture;
	wl_buf_release(&b);
}

static void add_picture(struct set *s, const struct wl_image *im)
{
	struct wl_view *base = &s->v[s->n], v, little;
	uint64_t seed = 5000 + s->n * 31;

	OK(wl_view_make(im, base, &err));
	small_view(im, &little);
	for (int t = 0; t < TRANSFORMS; t++) {
		struct wl_image out = {0};
		transform_make(im, (enum transform)t, seed + (uint64_t)t, &out);
		OK(wl_view_make(&out, &v, &err));
		s->found[t] += wl_view_match(base, &v, radii);
		assert_int_equal(wl_view_match(base, &v, radii), wl_view_match(&v, base, radii));
		s->before[t] += wl_view_match(base, &v, whole_only);
		small_view(&out, &v);
		s->small[t] += wl_view_match(&little, &v, radii);
		wl_image_release(&out);
	}
	s->n++;
}

/* Of the first BASES also their changed copies. */
static void add_photo(struct set *s, const struct wl_image *im)
{
	if (s->n < BASES)
		add_picture(s, im);
	else
		OK(wl_view_make(im, &s->v[s->all], &err));
	s->all++;
}

static void add_photos(struct set *s)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;

	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_filename(a, PHOTOS, 1 << 16), ARCHIVE_OK);
	while (s->all < PHOTOS_MAX && archive_read_next_header(a, &e) == ARCHIVE_OK) {
		size_t n = (size_t)archive_entry_size(e);
		char *bytes = malloc(n + 1);
		struct wl_image im = {0};
		assert_int_equal(archive_read_data(a, bytes, n), n);
		if (strstr(archive_entry_pathname(e), ".jpg")) {
			OK(wl_image_decode(bytes, n, &im, &err));
			add_photo(s, &im);
			wl_image_release(&im);
		}
		free(bytes);
	}
	archive_read_free(a);
}

/* The least that must be found, in percent: a little under what was measured. */
static const int floors[TRANSFORMS] = {[T_REENCODE] = 99,
	[T_RESIZE] = 99,
	[T_ASPECT] = 97,
	[T_COLOUR] = 97,
	[T_GREY] = 97,
	[T_CROP_5] = 94,
	[T_CROP_CENTRE] = 88,
	[T_CROP_ANY] = 42,
	[T_BORDER] = 92,
	[T_WATERMARK] = 92,
	[T_TEXT] = 78,
	[T_LOGO] = 92,
	[T_FLIP] = 92,
	[T_FLIP_CROP] = 84,
	[T_SCREENSHOT] = 88};

static void recall_and_precision(void **state)
{
	struct set *s = calloc(1, sizeof(*s));
	size_t wrong = 0, pairs = 0;

	(void)state;
	if (!wl_exists(PHOTOS)) {
		free(s);
		SKIP("%s is not here", PHOTOS);
	}
	add_photos(s);
	print_message("%-18s whole hash  windows  small decode  (recall over %zu photos, %%)\n", "",
		s->n);
	for (int t = 0; t < TRANSFORMS; t++) {
		double n = (double)s->n / 100;
		print_message("%-18s %10.1f %8.1f %13.1f\n", transform_name((enum transform)t),
			(double)s->before[t] / n, (double)s->found[t] / n, (double)s->small[t] / n);
		if ((double)s->found[t] < floors[t] * n ||
			(double)s->small[t] < (floors[t] - 4) * n)
			fail_msg("%s: %zu of %zu found, expected %d %%",
				transform_name((enum transform)t), s->found[t], s->n, floors[t]);
	}
	for (size_t i = 0; i < s->all; i++)
		for (size_t k = 0; k < i; k++, pairs++)
			wrong += wl_view_match(&s->v[i], &s->v[k], (struct wl_radii){10, 8});
	print_message(
		"of %zu pairs of different photos %zu match, at radii 10 and 8\n", pairs, wrong);
	assert_int_equal(wrong, 0);
	free(s);
}

/* On drawn pictures, which are always here. */
static void drawn(void **state)
{
	static const enum transform all[] = {
		T_REENCODE, T_RESIZE, T_COLOUR, T_GREY, T_BORDER, T_FLIP, T_LOGO};
	size_t found = 0, wrong = 0;
	enum { N = 12 };
	static struct wl_view v[N];

	(void)state;
	for (uint64_t i = 0; i < N; i++) {
		struct wl_image im, out;
		draw_picture(i + 40, 320, 240, &im);
		OK(wl_view_make(&im, &v[i], &err));
		for (size_t k = 0; k < sizeof(all) / sizeof(*all); k++) {
			struct wl_view w;
			transform_make(&im, all[k], i, &out);
			OK(wl_view_make(&out, &w, &err));
			found += wl_view_match(&v[i], &w, radii);
			wl_image_release(&out);
		}
		for (uint64_t k = 0; k < i; k++)
			wrong += wl_view_match(&v[i], &v[k], radii);
		wl_image_release(&im);
	}
	print_message("%zu of %zu variants of drawn pictures found, %zu wrong\n", found,
		N * sizeof(all) / sizeof(*all), wrong);
	assert_int_equal(wrong, 0);
	assert_true(found * 100 >= 85 * N * sizeof(all) / sizeof(*all));
}

static void mirror_image(struct wl_image *im)
{
	for (int y = 0; y < im->height; y++)
		for (int x = 0; x < im->width / 2; x++)
			for (int c = 0; c < 3; c++) {
				uint8_t *row = im->data + (size_t)y * im->width * 3, t;
				t = row[3 * x + c];
				row[3 * x + c] = row[3 * (im->width - 1 - x) + c];
				row[3 * (im->width - 1 - x) + c] = t;
			}
}

/* The mirrored window's hash is the hash of the mirrored picture but for frequencies that are
 * all but 0. */
static void mirrored_hash(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 10; i++) {
		struct wl_image im;
		struct wl_view a, b;
		draw_picture(i + 70, 256, 192, &im);
		OK(wl_view_make(&im, &a, &err));
		mirror_image(&im);
		OK(wl_view_make(&im, &b, &err));
		assert_true(wl_hamming64(a.windows.hash[WL_WINDOW_MIRROR],
				    b.windows.hash[WL_WINDOW_ALL]) <= 2);
		wl_image_release(&im);
	}
}

static void flat_pictures_have_no_windows(void **state)
{
	struct wl_image im = {64, 64, 3, calloc(64 * 64, 3)};
	struct wl_view v;

	(void)state;
	OK(wl_view_make(&im, &v, &err));
	assert_int_equal(v.windows.present, 0);
	assert_false(wl_view_match(&v, &v, (struct wl_radii){-1, 4}));
	wl_image_release(&im);
	/* One pixel is a picture too. */
	im = (struct wl_image){1, 1, 3, calloc(1, 3)};
	OK(wl_view_make(&im, &v, &err));
	wl_image_release(&im);
	im = (struct wl_image){1, 900, 3, calloc(900, 3)};
	memset(im.data, 200, 1200);
	OK(wl_view_make(&im, &v, &err));
	wl_image_release(&im);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drawn),
		cmocka_unit_test(mirrored_hash),
		cmocka_unit_test(flat_pictures_have_no_windows),
		cmocka_unit_test(recall_and_precision),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
