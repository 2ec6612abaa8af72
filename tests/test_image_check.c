/*
 * Checking pictures without decoding them: wl_image_check finds what decoding finds, and the
 * structure's check never refuses what decodes.
 */
#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/pool.h"
#include "tests/support/pictures.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* Pokes and cuts a file in many ways; wl_image_check must find what wl_image_decode finds. */
static void check_as_decode(const struct wl_buf *b, int rounds)
{
	struct wl_err e1, e2;
	struct wl_image im;
	struct wl_image_info info;
	int good = 0, bad = 0;
	for (int r = 0; r < rounds; r++) {
		size_t n = r % 3 ? b->len : b->len * (size_t)r / (size_t)rounds + 1;
		char *copy = malloc(n);
		assert_non_null(copy);
		memcpy(copy, b->data, n);
		for (int k = 0; r % 3 && k < 1 + r % 4; k++) {
			uint64_t x = wl_rand64(21, (uint64_t)r, (uint64_t)k);
			copy[x % n] = (char)(x >> 32);
		}
		e1 = e2 = (struct wl_err)WL_ERR_INIT;
		int a = wl_image_decode(copy, n, &im, &e1);
		int c = wl_image_check(copy, n, &info, &e2);
		if (a == 0)
			wl_image_release(&im);
		if (a != c || strcmp(e1.msg, e2.msg) != 0)
			fail_msg(
				"round %d: decode %d (%s), check %d (%s)", r, a, e1.msg, c, e2.msg);
		*(a == 0 ? &good : &bad) += 1;
		free(copy);
	}
	assert_true(bad > rounds / 4);
	assert_true(good > 0);
}

static void test_check_is_decode(void **state)
{
	(void)state;
	const char *const files[] = {"/libjpeg-turbo/testimgint.jpg",
		"/libjpeg-turbo/testimgari.jpg", "/libjpeg-turbo/testorig.jpg",
		"/dali/422-odd-width.jpg"};
	struct wl_buf b = pictures_jpeg(70, 50, 3, 90);
	check_as_decode(&b, 600);
	wl_buf_release(&b);
	b = pictures_jpeg(33, 31, 1, 70);
	check_as_decode(&b, 300);
	wl_buf_release(&b);
	if (!pictures_misc())
		skip();
	for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
		char path[256];
		snprintf(path, sizeof path, PICTURES_MISC "%s", files[f]);
		if (!wl_exists(path))
			continue;
		b = pictures_read(path);
		check_as_decode(&b, 90);
		wl_buf_release(&b);
	}
}

/* Whatever decodes is whole by its structure, and the same picture; whatever is cut is not. */
static void structure_of(const char *path)
{
	struct wl_err e1 = WL_ERR_INIT, e2 = WL_ERR_INIT;
	struct wl_image_info a, b;
	struct wl_buf f = pictures_read(path);
	bool good = wl_image_check(f.data, f.len, &a, &e1) == 0;
	int whole = wl_image_check_by(f.data, f.len, WL_IMAGE_STRUCTURE, &b, &e2);

	if (good && whole < 0)
		fail_msg("%s decodes, but: %s", path, e2.msg);
	if (good && (a.width != b.width || a.height != b.height || a.format != b.format ||
			    a.orientation != b.orientation || a.has_alpha != b.has_alpha))
		fail_msg("%s is another picture by its structure", path);
	/* Of an animation the first frame counts. */
	for (int k = 1; good && k < 8 && a.format != WL_IMAGE_GIF; k++) {
		size_t n = f.len * (size_t)k / 8;
		char *copy = malloc(n);
		assert_non_null(copy);
		memcpy(copy, f.data, n);
		struct wl_image im;
		bool decodes = wl_image_decode(copy, n, &im, &e1) == 0;
		if (decodes)
			wl_image_release(&im);
		if (!decodes && wl_image_check_by(copy, n, WL_IMAGE_STRUCTURE, &b, &e1) == 0)
			fail_msg("%s, cut to %zu of %zu bytes, passes for whole", path, n, f.len);
		free(copy);
	}
	wl_buf_release(&f);
}

static void structure_of_tree(const char *dir, size_t *n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_names names;
	char path[600];

	if (wl_list_dir(dir, "*", &names, &err) < 0)
		fail_msg("%s", err.msg);
	for (size_t i = 0; i < names.n; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names.v[i]);
		struct stat st;
		if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
			structure_of_tree(path, n);
		else if (wl_file_size(path, NULL) < 4 << 20)
			structure_of(path), ++*n;
	}
	wl_names_release(&names);
}

static void test_structure_of_real_files(void **state)
{
	size_t n = 0;
	(void)state;
	if (!pictures_misc())
		skip();
	structure_of_tree(PICTURES_MISC, &n);
	assert_true(n > 30);
}

/* Cut and poked: the decoder's friends are the structure's, and cut files never are. */
static void test_structure_of_damage(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_image_info info;
	struct wl_image im;
	size_t found = 0, poked = 0;
	(void)state;
	struct wl_buf b = pictures_jpeg(70, 50, 3, 90);
	for (size_t n = 0; n < b.len; n++)
		if (wl_image_check_by(b.data, n, WL_IMAGE_STRUCTURE, &info, &err) == 0)
			fail_msg("%zu of %zu bytes pass for a whole picture", n, b.len);
	for (uint64_t r = 0; r < 3000; r++) {
		uint64_t x = wl_rand64(77, r, 0);
		char *at = &b.data[x % b.len], was = *at;
		*at = (char)(x >> 32);
		int whole = wl_image_check_by(b.data, b.len, WL_IMAGE_STRUCTURE, &info, &err);
		if (wl_image_decode(b.data, b.len, &im, &err) == 0) {
			if (whole < 0)
				fail_msg(
					"byte %zu: decodes, but: %s", (size_t)(x % b.len), err.msg);
			wl_image_release(&im);
		} else {
			poked++;
			found += whole < 0;
		}
		*at = was;
	}
	print_message("structure finds %zu of %zu\n", found, poked);
	assert_true(found > poked / 20);
	wl_buf_release(&b);
	/* What is known and not decoded is refused at each level. */
	static const char bmp[] =
		"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\1\0\0\0\1\0\0\0\1\0\x18";
	for (int level = WL_IMAGE_STRUCTURE; level <= WL_IMAGE_DECODE; level++) {
		assert_int_equal(
			wl_image_check_by(bmp, sizeof bmp, (enum wl_image_level)level, &info, &err),
			-1);
		assert_non_null(strstr(err.msg, "bmp is not decoded"));
	}
}

/* Weights that are kept: more sizes than there is room for, from several threads, to the same
 * bits. */
struct resizing {
	struct wl_lanczos *l;
	const struct wl_image *im;
	int wrong;
};

static void resize_nth(void *ctx, size_t i)
{
	struct resizing *r = ctx;
	struct wl_image src = *r->im, a = {0}, b = {0};
	struct wl_err e = WL_ERR_INIT;
	int w = 3 + (int)(i % 61), h = 40 - (int)(i % 37);

	src.height -= (int)(i % 5); /* other sizes of the same pixels */
	if (wl_image_resize_lanczos(&src, w, h, &a, &e) < 0 ||
		wl_image_resize_lanczos_by(r->l, &src, w, h, &b, &e) < 0 ||
		memcmp(a.data, b.data, (size_t)w * (size_t)h * (size_t)src.channels) != 0)
		__atomic_fetch_add(&r->wrong, 1, __ATOMIC_RELAXED);
	wl_image_release(&a);
	wl_image_release(&b);
}

static void kept_weights_are_the_same(void **state)
{
	struct wl_err e = WL_ERR_INIT;
	struct wl_pool *pool = wl_pool_new(4, 0, &e);

	(void)state;
	assert_non_null(pool);
	for (int channels = 1; channels <= 3; channels += 2) {
		struct wl_image im = pictures_make(211, 97, channels, 5, false);
		struct resizing r = {wl_lanczos_new(&e), &im, 0};
		assert_non_null(r.l);
		wl_pool_for(pool, 4000, resize_nth, &r);
		assert_int_equal(r.wrong, 0);
		wl_lanczos_free(r.l);
		wl_image_release(&im);
	}
	wl_lanczos_free(NULL);
	wl_pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check_is_decode),
		cmocka_unit_test(kept_weights_are_the_same),
		cmocka_unit_test(test_structure_of_real_files),
		cmocka_unit_test(test_structure_of_damage),
	};
	return cmocka_run_group_tests_name("image_check", tests, NULL, NULL);
}
