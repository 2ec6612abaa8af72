/*
 * Hashing pictures on one core: imagehash's phash after a full decode; the phash of a small
 * decode; and all that dedup remembers of a picture (27 hashes, look) both ways.
 * bench_views.sh runs imagehash on the same files.
 *
 *   bench_views make DIR N      writes N JPEGs of 500 x 375, mosaics of the photos, or drawn
 *   bench_views DIR             prints a line of JSON
 */
#include "clean/signature.h"
#include "ops/clock.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <archive.h>
#include <archive_entry.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#define PHOTOS "../shared/data/flickr8kcn/val.tar"

static struct wl_err err;

static void check(int ret)
{
	if (ret < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
}

static void save(const char *dir, int i, const void *bytes, size_t n)
{
	char *path = wl_strf(&err, "%s/%05d.jpg", dir, i);

	check(path ? wl_write_file(path, bytes, n, &err) : -1);
	free(path);
}

/* As cameras and sites write them: quality 85, half the colour each way. */
static void save_jpeg(const char *dir, int i, const struct wl_image *im)
{
	tjhandle h = tjInitCompress();
	unsigned char *out = NULL;
	unsigned long n = 0;

	if (!h || tjCompress2(h, im->data, im->width, 0, im->height, TJPF_RGB, &out, &n, TJSAMP_420,
			  85, 0) != 0)
		exit(1);
	save(dir, i, out, n);
	tjFree(out);
	tjDestroy(h);
}

/* Waves of colour with grain: decodes about as slowly as a photo. */
static void draw(const char *dir, int i)
{
	struct wl_image im = {500, 375, 3, malloc(500 * 375 * 3)};

	if (!im.data)
		exit(1);
	for (int y = 0; y < 375; y++)
		for (int x = 0; x < 500; x++)
			for (int c = 0; c < 3; c++)
				im.data[(y * 500 + x) * 3 + c] =
					(uint8_t)(128 +
						  70 * sin((x * (i % 7 + 1) + y * (i % 5 + c + 1)) *
								       .01 +
							       i) +
						  (double)(wl_rand64((uint64_t)i, (uint64_t)c,
								   (uint64_t)(y * 500 + x)) %
							   40));
	save_jpeg(dir, i, &im);
	wl_image_release(&im);
}

/* The photos at hand are small: a picture of 500 x 375 is laid out of as many as it takes. */
static struct wl_image canvas;
static int at_x, at_y, row_high;

static void lay(const char *dir, const struct wl_image *im, int *i)
{
	int wide = 500 - at_x < im->width ? 500 - at_x : im->width;
	int high = 375 - at_y < im->height ? 375 - at_y : im->height;

	for (int y = 0; y < high; y++)
		memcpy(canvas.data + ((size_t)(at_y + y) * 500 + at_x) * 3,
			im->data + (size_t)y * im->width * 3, (size_t)wide * 3);
	row_high = high > row_high ? high : row_high;
	at_x += wide;
	if (at_x >= 500) {
		at_x = 0;
		at_y += row_high;
		row_high = 0;
	}
	if (at_y < 375)
		return;
	at_y = 0;
	save_jpeg(dir, (*i)++, &canvas);
}

static int make(const char *dir, int n)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	int i = 0;

	canvas = (struct wl_image){500, 375, 3, calloc(500 * 375, 3)};
	archive_read_support_format_tar(a);
	if (archive_read_open_filename(a, PHOTOS, 1 << 16) == ARCHIVE_OK) {
		while (i < n && archive_read_next_header(a, &e) == ARCHIVE_OK) {
			size_t size = (size_t)archive_entry_size(e);
			char *bytes = malloc(size + 1);
			struct wl_image im = {0};
			if (strstr(archive_entry_pathname(e), ".jpg") &&
				archive_read_data(a, bytes, size) == (ssize_t)size &&
				wl_image_decode(bytes, size, &im, &err) == 0)
				lay(dir, &im, &i);
			wl_image_release(&im);
			free(bytes);
		}
	}
	archive_read_free(a);
	wl_image_release(&canvas);
	while (i < n)
		draw(dir, i++);
	return 0;
}

enum way { PHASH_FULL, PHASH_SMALL, ALL_FULL, ALL_SMALL, WAYS };

/* As dedup does where `--decode small` finds an ordinary JPEG. */
static bool hash_low(const struct wl_buf *b, uint64_t *sum)
{
	struct wl_image_low low;
	struct wl_look look;
	int width, height, got = 0;

	if (wl_image_low_size(b->data, b->len, &width, &height) &&
		wl_windows_scale(width, height) >= 4)
		got = wl_image_low(b->data, b->len, wl_windows_scale(width, height), &low, &err);
	check(got);
	if (!got)
		return false;
	check(wl_windows_shrink(&low.luma, look.grey, &err));
	wl_look_make_low(&low, &look);
	*sum ^= look.phash;
	wl_image_low_release(&low);
	return true;
}

static void hash_one(enum way w, const struct wl_buf *b, uint64_t *sum, double *pixels)
{
	struct wl_signature s = {0};
	struct wl_image_info info;
	struct wl_image im, grey;
	struct wl_look look;
	int got;

	if (w == PHASH_SMALL && hash_low(b, sum))
		return;
	if (w == ALL_FULL || w == ALL_SMALL) {
		check(wl_signature_image(&s, b->data, b->len, w == ALL_SMALL, &err));
		*sum ^= s.picture.look.phash;
		return;
	}
	check(wl_image_probe(b->data, b->len, &info, &err));
	check(wl_image_decode_by(b->data, b->len,
		w == PHASH_SMALL ? wl_windows_scale(info.width, info.height) : 1, &info, &im, &got,
		&err));
	check(wl_image_to_grey(&im, &grey, &err));
	check(wl_look_make_grey(&im, &grey, &look, &err));
	*sum ^= look.phash;
	*pixels = (double)info.width * info.height;
	wl_image_release(&im);
	wl_image_release(&grey);
}

int main(int argc, char **argv)
{
	double seconds[WAYS] = {1e30, 1e30, 1e30, 1e30}, pixels = 0;
	struct wl_names names;
	struct wl_buf *b;
	uint64_t sum = 0;

	if (argc == 4 && strcmp(argv[1], "make") == 0)
		return make(argv[2], atoi(argv[3]));
	if (argc != 2) {
		fprintf(stderr, "usage: bench_views DIR\n");
		return 2;
	}
	check(wl_list_dir(argv[1], "*.jpg", &names, &err));
	b = calloc(names.n + 1, sizeof(*b));
	for (size_t i = 0; i < names.n; i++) {
		char *path = wl_path_join(argv[1], names.v[i], &err);
		wl_buf_init(&b[i], 64 << 20);
		check(path ? wl_read_file(path, &b[i], &err) : -1);
		free(path);
	}
	for (int round = 0; round < 4; round++)
		for (int w = 0; w < WAYS; w++) {
			double start = wl_cpu_s(), t;
			for (size_t i = 0; i < names.n; i++)
				hash_one((enum way)w, &b[i], &sum, &pixels);
			t = wl_cpu_s() - start;
			seconds[w] = t < seconds[w] ? t : seconds[w];
		}
	double n = (double)names.n;
	printf("{\"photos\": %zu, \"megapixels\": %.3f, \"phash_full\": %.1f, \"phash_small\": "
	       "%.1f, "
	       "\"all_full\": %.1f, \"all_small\": %.1f, \"sum\": %llu}\n",
		names.n, pixels * 1e-6, n / seconds[PHASH_FULL], n / seconds[PHASH_SMALL],
		n / seconds[ALL_FULL], n / seconds[ALL_SMALL], (unsigned long long)sum);
	return 0;
}
