/* clean/phash and look: the bits of imagehash, and what counts as the same picture. */
#include "clean/phash.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/support/cm.h"

#include <archive.h>
#include <archive_entry.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAMPS "/usr/share/tuxpaint/stamps"
#define PHOTOS "../shared/data/flickr8kcn/val.tar"

static struct wl_err err;
static json_t *golden;

static int load_golden(void **state)
{
	(void)state;
	golden = json_load_file("tests/golden/phash.json", 0, NULL);
	return golden ? 0 : -1;
}

static int free_golden(void **state)
{
	(void)state;
	json_decref(golden);
	return 0;
}

static void look_of(const void *bytes, size_t n, struct wl_look *look)
{
	struct wl_image im = {0};

	OK(wl_image_decode(bytes, n, &im, &err));
	OK(wl_look_make(&im, look, &err));
	wl_image_release(&im);
}

static void check(const char *name, const void *bytes, size_t n, const char *want)
{
	struct wl_look look;
	char got[17];

	look_of(bytes, n, &look);
	snprintf(got, sizeof(got), "%016llx", (unsigned long long)look.phash);
	if (strcmp(got, want) != 0)
		fail_msg("%s: %s, imagehash gives %s", name, got, want);
}

static size_t base64(const char *s, uint8_t *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t acc = 0;
	int bits = 0;
	size_t n = 0;

	for (; *s && *s != '='; s++) {
		acc = acc << 6 | (uint32_t)(strchr(digits, *s) - digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[n++] = (uint8_t)(acc >> bits);
		}
	}
	return n;
}

static void drawn_pictures(void **state)
{
	json_t *c;
	size_t i;

	(void)state;
	assert_true(json_array_size(json_object_get(golden, "drawn")) >= 25);
	json_array_foreach(json_object_get(golden, "drawn"), i, c)
	{
		const char *png = json_string_value(json_array_get(c, 0));
		uint8_t *bytes = malloc(strlen(png));
		char name[32];
		size_t n = base64(png, bytes);
		snprintf(name, sizeof(name), "drawn %zu", i);
		check(name, bytes, n, json_string_value(json_array_get(c, 1)));
		free(bytes);
	}
}

static void stamps(void **state)
{
	const char *name;
	json_t *want;
	struct wl_buf b;

	(void)state;
	if (!wl_exists(STAMPS))
		SKIP("%s is not here", STAMPS);
	wl_buf_init(&b, 64 << 20);
	json_object_foreach(json_object_get(golden, "stamps"), name, want)
	{
		char path[512];
		snprintf(path, sizeof(path), STAMPS "/%s", name);
		wl_buf_reset(&b);
		OK(wl_read_file(path, &b, &err));
		check(name, b.data, b.len, json_string_value(want));
	}
	wl_buf_release(&b);
}

/* Calls fn for each JPEG of the tar. */
static size_t each_photo(
	void (*fn)(const char *name, const void *bytes, size_t n, void *user), void *user)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	size_t count = 0;

	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_filename(a, PHOTOS, 1 << 16), ARCHIVE_OK);
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		size_t n = (size_t)archive_entry_size(e);
		char *bytes = malloc(n + 1);
		assert_int_equal(archive_read_data(a, bytes, n), n);
		if (strstr(archive_entry_pathname(e), ".jpg")) {
			fn(archive_entry_pathname(e), bytes, n, user);
			count++;
		}
		free(bytes);
	}
	archive_read_free(a);
	return count;
}

static void check_photo(const char *name, const void *bytes, size_t n, void *user)
{
	const char *want =
		json_string_value(json_object_get(json_object_get(golden, "photos"), name));

	if (want) {
		check(name, bytes, n, want);
		++*(size_t *)user;
	}
}

static void photos(void **state)
{
	size_t checked = 0;

	(void)state;
	if (!wl_exists(PHOTOS))
		SKIP("%s is not here", PHOTOS);
	each_photo(check_photo, &checked);
	assert_int_equal(checked, json_object_size(json_object_get(golden, "photos")));
}

/* ---- what is the same picture ---- */

enum { VARIANTS = 5 };

/* quality 40, half size, darker, lighter, one third; all through JPEG again. */
static void vary(const struct wl_image *im, int which, struct wl_look *look)
{
	struct wl_image out = {0};
	struct wl_buf jpeg;
	int w = im->width, h = im->height;
	size_t n = (size_t)w * h * 3;

	wl_buf_init(&jpeg, 64 << 20);
	if (which == 1 || which == 4) {
		int by = which == 1 ? 2 : 3;
		OK(wl_image_resize_lanczos(im, w / by, h / by, &out, &err));
	} else {
		out = *im;
		out.data = malloc(n);
		for (size_t i = 0; i < n; i++) {
			int v = im->data[i] * (which == 2 ? 85 : which == 3 ? 112 : 100) / 100;
			out.data[i] = (uint8_t)(v > 255 ? 255 : v);
		}
	}
	OK(wl_image_encode_jpeg(&out, which == 0 ? 40 : 75, &jpeg, &err));
	look_of(jpeg.data, jpeg.len, look);
	wl_image_release(&out);
	wl_buf_release(&jpeg);
}

struct tally {
	struct wl_look *looks;
	size_t n, near[VARIANTS], alike[VARIANTS];
};

static void tally_photo(const char *name, const void *bytes, size_t n, void *user)
{
	struct tally *t = user;
	struct wl_image im = {0};

	(void)name;
	if (t->n >= 200)
		return;
	OK(wl_image_decode(bytes, n, &im, &err));
	OK(wl_look_make(&im, &t->looks[t->n], &err));
	for (int v = 0; v < VARIANTS; v++) {
		struct wl_look look;
		vary(&im, v, &look);
		bool near = wl_hamming64(look.phash, t->looks[t->n].phash) <= 4;
		t->near[v] += near;
		t->alike[v] += near && wl_look_alike(&look, &t->looks[t->n]);
	}
	t->n++;
	wl_image_release(&im);
}

/* Photos: re-encoded, resized, darker and lighter ones are found; different ones are not. */
static void same_and_different_photos(void **state)
{
	static const char *const names[] = {
		"quality 40", "half size", "darker", "lighter", "third"};
	struct tally t = {.looks = calloc(200, sizeof(struct wl_look))};
	size_t wrong = 0;

	(void)state;
	if (!wl_exists(PHOTOS)) {
		free(t.looks);
		SKIP("%s is not here", PHOTOS);
	}
	each_photo(tally_photo, &t);
	for (int v = 0; v < VARIANTS; v++) {
		print_message("%s: of %zu photos %zu near by hash, %zu alike\n", names[v], t.n,
			t.near[v], t.alike[v]);
		assert_true(t.alike[v] * 10 >= t.n * 9);
		assert_true(t.alike[v] * 100 >= t.near[v] * 97);
	}
	for (size_t i = 0; i < t.n; i++)
		for (size_t k = 0; k < i; k++)
			wrong += wl_look_alike(&t.looks[i], &t.looks[k]);
	print_message("different photos alike whatever their hashes: %zu\n", wrong);
	assert_int_equal(wrong, 0);
	free(t.looks);
}

/* Flat pictures, icons in the same place, one with a mark inside. */
static void little_content(void **state)
{
	struct wl_image im = {.width = 64, .height = 64, .channels = 3};
	struct wl_look red, darker, icon, other, marked;

	(void)state;
	im.data = malloc(64 * 64 * 3);
	for (int i = 0; i < 64 * 64; i++)
		memcpy(im.data + 3 * i, "\xc8\x1e\x1e", 3);
	OK(wl_look_make(&im, &red, &err));
	for (int i = 0; i < 64 * 64; i++)
		memcpy(im.data + 3 * i, "\xb4\x1e\x1e", 3);
	OK(wl_look_make(&im, &darker, &err));
	assert_true(wl_look_alike(&red, &red));
	assert_false(wl_look_alike(&red, &darker));

	memset(im.data, 255, 64 * 64 * 3);
	for (int y = 24; y < 40; y++)
		for (int x = 24; x < 40; x++)
			memcpy(im.data + 3 * (64 * y + x), "\xc8\x1e\x1e", 3);
	OK(wl_look_make(&im, &icon, &err));
	for (int y = 24; y < 40; y++)
		for (int x = 24; x < 40; x++)
			memcpy(im.data + 3 * (64 * y + x), "\x1e\x46\xd2", 3);
	OK(wl_look_make(&im, &other, &err));
	for (int y = 26; y < 34; y++)
		memset(im.data + 3 * (64 * y + 26), 240, 3 * 8);
	OK(wl_look_make(&im, &marked, &err));
	assert_true(wl_look_alike(&icon, &icon));
	assert_false(wl_look_alike(&other, &marked));
	assert_false(wl_look_alike(&icon, &other));
	assert_false(wl_look_alike(&other, &icon));
	free(im.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drawn_pictures),
		cmocka_unit_test(stamps),
		cmocka_unit_test(photos),
		cmocka_unit_test(same_and_different_photos),
		cmocka_unit_test(little_content),
	};
	return cmocka_run_group_tests(tests, load_golden, free_golden);
}
