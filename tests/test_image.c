/*
 * Images: what each sentence of ingest/image.h promises.  Real corner cases come from
 * ../shared/data/images-misc where it is present; the rest is made here.
 */
#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "tests/support/pictures.h"

#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <webp/encode.h>

#include <cmocka.h>

static void hash_of(const struct wl_image *im, char hex[65])
{
	uint8_t digest[32];
	wl_sha256(im->data, (size_t)im->width * (size_t)im->height * (size_t)im->channels, digest);
	wl_hex(digest, sizeof digest, hex);
}

static void test_lanczos_is_pillows(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	json_t *cases = wl_json_load("tests/golden/image_resize.json", &err), *k;
	size_t i;
	if (!cases)
		fail_msg("%s", err.msg);
	assert_true(json_array_size(cases) >= 20);
	json_array_foreach(cases, i, k)
	{
		int64_t w, h, ch, seed, smooth, ow, oh;
		const char *want, *grey;
		char hex[65];
		assert_int_equal(wl_json_int(k, "width", "golden", &w, &err), 0);
		assert_int_equal(wl_json_int(k, "height", "golden", &h, &err), 0);
		assert_int_equal(wl_json_int(k, "channels", "golden", &ch, &err), 0);
		assert_int_equal(wl_json_int(k, "seed", "golden", &seed, &err), 0);
		assert_int_equal(wl_json_int(k, "smooth", "golden", &smooth, &err), 0);
		assert_int_equal(wl_json_int(k, "out_width", "golden", &ow, &err), 0);
		assert_int_equal(wl_json_int(k, "out_height", "golden", &oh, &err), 0);
		assert_int_equal(wl_json_str(k, "sha256", "golden", &want, &err), 0);
		assert_int_equal(wl_json_str_or(k, "grey_sha256", "golden", "", &grey, &err), 0);
		struct wl_image im = pictures_make((int)w, (int)h, (int)ch, (uint32_t)seed, smooth),
				out;
		assert_int_equal(wl_image_resize_lanczos(&im, (int)ow, (int)oh, &out, &err), 0);
		hash_of(&out, hex);
		if (strcmp(hex, want) != 0)
			fail_msg("case %zu: %lldx%lldx%lld -> %lldx%lld gives %s, Pillow %s", i,
				(long long)w, (long long)h, (long long)ch, (long long)ow,
				(long long)oh, hex, want);
		wl_image_release(&out);
		if (ch == 3) {
			assert_int_equal(wl_image_to_grey(&im, &out, &err), 0);
			hash_of(&out, hex);
			assert_string_equal(hex, grey);
			wl_image_release(&out);
		}
		wl_image_release(&im);
	}
	json_decref(cases);
}

/* Writes PNG by libpng's simplified interface; format: PNG_FORMAT_RGBA, _RGB, _GRAY. */
static struct wl_buf make_png(const void *pixels, int w, int h, unsigned format)
{
	struct wl_buf b;
	png_image im = {.version = PNG_IMAGE_VERSION,
		.width = (png_uint_32)w,
		.height = (png_uint_32)h,
		.format = format};
	png_alloc_size_t n = 0;
	wl_buf_init(&b, 16 << 20);
	assert_true(png_image_write_get_memory_size(im, n, 0, pixels, 0, NULL));
	assert_int_equal(wl_buf_reserve(&b, n, NULL), 0);
	assert_true(png_image_write_to_memory(&im, b.data, &n, 0, pixels, 0, NULL));
	b.len = n;
	return b;
}

static void test_png_alpha_on_white(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	const uint8_t px[4 * 4] = {10, 20, 30, 255, 10, 20, 30, 0, 200, 0, 100, 128, 0, 0, 0, 1};
	struct wl_buf png = make_png(px, 2, 2, PNG_FORMAT_RGBA);
	struct wl_image_info info;
	struct wl_image im;
	assert_int_equal(wl_image_probe(png.data, png.len, &info, &err), 0);
	assert_int_equal(info.format, WL_IMAGE_PNG);
	assert_true(info.has_alpha);
	assert_false(info.jpeg_plain);
	assert_int_equal(wl_image_decode(png.data, png.len, &im, &err), 0);
	/* c * a/255 + 255 * (1 - a/255), rounded */
	const uint8_t want[12] = {10, 20, 30, 255, 255, 255, 227, 127, 177, 254, 254, 254};
	assert_memory_equal(im.data, want, sizeof want);
	wl_image_release(&im);

	/* As JPEG the transparent corner is white, not black. */
	struct wl_buf jpg;
	wl_buf_init(&jpg, 1 << 20);
	assert_int_equal(wl_image_to_jpeg(png.data, png.len, 95, &jpg, &err), 0);
	assert_int_equal(wl_image_probe(jpg.data, jpg.len, &info, &err), 0);
	assert_int_equal(info.format, WL_IMAGE_JPEG);
	assert_true(info.jpeg_plain);
	assert_int_equal(wl_image_decode(jpg.data, jpg.len, &im, &err), 0);
	assert_in_range(im.data[3], 215, 255);
	wl_image_release(&im);
	wl_buf_release(&jpg);
	wl_buf_release(&png);
}

static void test_png_grey_and_damage(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_image grey = pictures_make(40, 30, 1, 5, false), im;
	struct wl_buf png = make_png(grey.data, 40, 30, PNG_FORMAT_GRAY);
	assert_int_equal(wl_image_decode(png.data, png.len, &im, &err), 0);
	assert_int_equal(im.channels, 3);
	for (size_t i = 0; i < 40 * 30; i++)
		for (size_t c = 0; c < 3; c++)
			assert_int_equal(im.data[3 * i + c], grey.data[i]);
	wl_image_release(&im);
	/* Cut off anywhere, or one bit turned anywhere: never a picture. */
	for (size_t n = 0; n < png.len; n++)
		assert_int_equal(wl_image_decode(png.data, n, &im, &err), -1);
	for (size_t at = 8; at < png.len; at += 7) {
		png.data[at] ^= 0x10;
		if (wl_image_decode(png.data, png.len, &im, &err) == 0)
			fail_msg("a bit turned at byte %zu of %zu was not noticed", at, png.len);
		assert_int_equal(err.code, WL_EDATA);
		png.data[at] ^= 0x10;
	}
	wl_buf_release(&png);
	wl_image_release(&grey);
}

static void test_jpeg_round_and_cut(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_image im, orig = pictures_make(60, 44, 3, 77, true);
	struct wl_buf jpg = pictures_jpeg(60, 44, 3, 95), out;
	struct wl_image_info info;
	assert_int_equal(wl_image_probe(jpg.data, jpg.len, &info, &err), 0);
	assert_int_equal(info.width, 60);
	assert_int_equal(info.height, 44);
	assert_true(info.jpeg_plain);
	assert_int_equal(wl_image_decode(jpg.data, jpg.len, &im, &err), 0);
	double diff = 0;
	for (size_t i = 0; i < 60 * 44 * 3; i++)
		diff += abs(im.data[i] - orig.data[i]);
	assert_true(diff / (60 * 44 * 3) < 12);
	wl_image_release(&im);
	wl_image_release(&orig);
	for (size_t n = 0; n < jpg.len; n++)
		if (wl_image_decode(jpg.data, n, &im, &err) == 0)
			fail_msg("cut to %zu of %zu bytes it still decodes", n, jpg.len);
	/* Plain JPEG passes byte for byte. */
	wl_buf_init(&out, 16 << 20);
	assert_int_equal(wl_image_to_jpeg(jpg.data, jpg.len, 50, &out, &err), 0);
	assert_int_equal(out.len, jpg.len);
	assert_memory_equal(out.data, jpg.data, jpg.len);
	wl_buf_release(&out);
	wl_buf_release(&jpg);
	jpg = pictures_jpeg(17, 9, 1, 80);
	assert_int_equal(wl_image_decode(jpg.data, jpg.len, &im, &err), 0);
	assert_int_equal(im.channels, 3);
	wl_image_release(&im);
	wl_buf_release(&jpg);
	struct wl_image none = {0};
	wl_buf_init(&out, 1 << 20);
	assert_int_equal(wl_image_encode_jpeg(&none, 90, &out, &err), -1);
	wl_buf_release(&out);
}

static void test_webp_alpha_and_cut(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	const uint8_t px[4 * 4] = {10, 20, 30, 255, 10, 20, 30, 0, 200, 0, 100, 128, 0, 0, 0, 255};
	uint8_t *webp = NULL;
	size_t n = WebPEncodeLosslessRGBA(px, 2, 2, 8, &webp);
	struct wl_image_info info;
	struct wl_image im;
	assert_true(n > 0);
	assert_int_equal(wl_image_probe(webp, n, &info, &err), 0);
	assert_int_equal(info.format, WL_IMAGE_WEBP);
	assert_true(info.has_alpha);
	assert_int_equal(wl_image_decode(webp, n, &im, &err), 0);
	const uint8_t want[12] = {10, 20, 30, 255, 255, 255, 227, 127, 177, 0, 0, 0};
	assert_memory_equal(im.data, want, sizeof want);
	wl_image_release(&im);
	for (size_t k = 0; k < n; k++)
		assert_int_equal(wl_image_decode(webp, k, &im, &err), -1);
	WebPFree(webp);
}

static void refused(const void *p, size_t n, const char *word)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_image im;
	assert_int_equal(wl_image_decode(p, n, &im, &err), -1);
	assert_int_equal(err.code, WL_EDATA);
	if (!strstr(err.msg, word))
		fail_msg("\"%s\" does not say \"%s\"", err.msg, word);
}

/* ---- formats with a reference ---- */

static void compare(
	const char *name, const struct wl_image *im, const struct wl_buf *want, int tolerance)
{
	for (size_t i = 0; i < want->len; i++) {
		int a = im->data[i], b = (uint8_t)want->data[i];
		if (abs(a - b) > tolerance)
			fail_msg("%s: byte %zu is %d, Pillow has %d (allowed: %d)", name, i, a, b,
				tolerance);
	}
}

static struct wl_buf bytes_of(const json_t *v, const char *key)
{
	return pictures_from_base64(json_string_value(json_object_get(v, key)));
}

/* GIF, animations, AVIF with every turn, CMYK: as Pillow shows them; cut anywhere before the end
 * of the first frame, they are no pictures. */
static void check_formats(const char *golden, size_t at_least)
{
	struct wl_err err = WL_ERR_INIT;
	json_t *cases = wl_json_load(golden, &err), *k;
	size_t i;
	if (!cases)
		fail_msg("%s", err.msg);
	assert_true(json_array_size(cases) >= at_least);
	json_array_foreach(cases, i, k)
	{
		const char *name = json_string_value(json_object_get(k, "name"));
		struct wl_buf file = bytes_of(k, "file");
		struct wl_buf want = bytes_of(k, "rgb");
		int width = (int)json_integer_value(json_object_get(k, "width"));
		int height = (int)json_integer_value(json_object_get(k, "height"));
		struct wl_image_info info;
		struct wl_image im;
		struct wl_buf jpg;
		if (wl_image_probe(file.data, file.len, &info, &err) < 0 ||
			wl_image_decode(file.data, file.len, &im, &err) < 0)
			fail_msg("%s: %s", name, err.msg);
		assert_string_equal(wl_image_format_name(info.format),
			strncmp(name, "gif", 3) == 0	? "gif"
			: strncmp(name, "webp", 4) == 0 ? "webp"
			: strncmp(name, "avif", 4) == 0 ? "avif"
							: "jpeg");
		assert_int_equal(info.width, width);
		assert_int_equal(info.height, height);
		assert_int_equal(im.width, width);
		assert_int_equal(im.height, height);
		assert_int_equal(want.len, width * height * 3);
		compare(name, &im, &want, (int)json_integer_value(json_object_get(k, "tolerance")));
		wl_image_release(&im);
		/* Into a shard it goes as a plain JPEG. */
		wl_buf_init(&jpg, 1 << 20);
		assert_int_equal(wl_image_to_jpeg(file.data, file.len, 90, &jpg, &err), 0);
		assert_int_equal(wl_image_probe(jpg.data, jpg.len, &info, &err), 0);
		assert_true(info.jpeg_plain);
		wl_buf_release(&jpg);
		for (size_t n = 0; n < file.len / 4; n += 1 + n / 16) {
			void *cut = malloc(n + 1);
			assert_non_null(cut);
			memcpy(cut, file.data, n);
			if (wl_image_decode(cut, n, &im, &err) == 0)
				fail_msg("%s: cut to %zu of %zu bytes it still decodes", name, n,
					file.len);
			assert_int_equal(err.code, WL_EDATA);
			free(cut);
		}
		wl_buf_release(&want);
		wl_buf_release(&file);
	}
	json_decref(cases);
}

static void test_formats(void **state)
{
	(void)state;
	check_formats("tests/golden/image_formats.json", 20);
}

/* Twelve bits a sample, as libjpeg-turbo's 12-bit build reads them; any byte may be wrong. */
static void test_12_bits(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_image im;
	check_formats("tests/golden/image_jpeg12.json", 4);
	json_t *cases = wl_json_load("tests/golden/image_jpeg12.json", &err);
	struct wl_buf b = bytes_of(json_array_get(cases, 3), "file");
	for (size_t at = 2; at < b.len; at++) {
		char was = b.data[at];
		b.data[at] = (char)(was ^ (1 << at % 8));
		if (wl_image_decode(b.data, b.len, &im, &err) == 0)
			wl_image_release(&im);
		else
			assert_int_equal(err.code, WL_EDATA);
		b.data[at] = was;
		if (wl_image_decode(b.data, at, &im, &err) == 0)
			fail_msg("cut to %zu of %zu bytes it still decodes", at, b.len);
	}
	wl_buf_release(&b);
	json_decref(cases);
}

/* What a GIF's or WebP's header claims is refused before anything is decoded. */
static void test_more_bombs(void **state)
{
	(void)state;
	static const uint8_t gif[] = "GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff"
				     ",\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;";
	static const uint8_t vp8x[] = "RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\xff\xff\x3f"
				      "\xff\xff\0";
	static const uint8_t heic[] = "\0\0\0\x18"
				      "ftypheic\0\0\0\0mif1heic";
	refused(gif, sizeof gif - 1, "too large");
	refused(vp8x, sizeof vp8x - 1, "");
	refused(heic, sizeof heic - 1, "heic is not decoded");
	refused("II*\0\x08\0\0\0\0\0\0\0\0\0\0\0", 16, "tiff is not decoded");
	struct wl_image_info info;
	struct wl_err err = WL_ERR_INIT;
	assert_int_equal(wl_image_probe(heic, sizeof heic - 1, &info, &err), 0);
	assert_int_equal(info.format, WL_IMAGE_HEIC);
}

/* Every file of images-misc is a picture of the size that it says, or says why it is none. */
static void test_all_misc(void **state)
{
	(void)state;
	static const char *const dirs[] = {PICTURES_MISC "/dali", PICTURES_MISC "/dali/misnamed",
		PICTURES_MISC "/exif-orientation", PICTURES_MISC "/libjpeg-turbo"};
	size_t pictures = 0, others = 0;
	if (!pictures_misc())
		skip();
	for (size_t d = 0; d < sizeof dirs / sizeof *dirs; d++) {
		struct wl_names names = {0};
		struct wl_err err = WL_ERR_INIT;
		assert_int_equal(wl_list_dir(dirs[d], "*.*", &names, &err), 0);
		for (size_t i = 0; i < names.n; i++) {
			char path[512];
			struct wl_image_info info;
			struct wl_image im;
			snprintf(path, sizeof path, "%s/%s", dirs[d], names.v[i]);
			struct wl_buf b = pictures_read(path);
			/* Told by content: PBM, PPM and text are not ours. */
			bool is_other = strstr(path, "/pbm.") || strstr(path, ".ppm") ||
					strstr(path, ".txt");
			int ret = wl_image_decode(b.data, b.len, &im, &err);
			if ((ret < 0) != is_other)
				fail_msg("%s: %s", path, ret < 0 ? err.msg : "is a picture");
			if (ret == 0) {
				assert_int_equal(wl_image_probe(b.data, b.len, &info, &err), 0);
				assert_int_equal(im.width, info.width);
				assert_int_equal(im.height, info.height);
				wl_image_release(&im);
			} else {
				assert_int_equal(err.code, WL_EDATA);
			}
			pictures += ret == 0;
			others += ret < 0;
			wl_buf_release(&b);
		}
		wl_names_release(&names);
	}
	assert_int_equal(pictures, 34);
	assert_int_equal(others, 7);
}

/* An IHDR that claims more than the limits, with a right checksum. */
static void test_bombs_and_strangers(void **state)
{
	(void)state;
	struct wl_image grey = pictures_make(4, 4, 1, 5, false);
	struct wl_buf png = make_png(grey.data, 4, 4, PNG_FORMAT_GRAY);
	const uint32_t sides[][2] = {{30000, 4}, {15000, 15000}, {0x7fffffff, 0x7fffffff}};
	for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
		uint8_t *ihdr = (uint8_t *)png.data + 12;
		for (int b = 0; b < 4; b++) {
			ihdr[4 + b] = (uint8_t)(sides[i][0] >> (24 - 8 * b));
			ihdr[8 + b] = (uint8_t)(sides[i][1] >> (24 - 8 * b));
		}
		uint32_t crc = 0xffffffffu; /* CRC-32 as in the PNG specification, annex D */
		for (int b = 0; b < 17; b++) {
			crc ^= ihdr[b];
			for (int k = 0; k < 8; k++)
				crc = crc & 1 ? 0xedb88320u ^ crc >> 1 : crc >> 1;
		}
		crc = ~crc;
		for (int b = 0; b < 4; b++)
			ihdr[17 + b] = (uint8_t)(crc >> (24 - 8 * b));
		refused(png.data, png.len, i == 1 ? "too large" : "");
	}
	refused("", 0, "zero bytes");
	refused("hello, this is text", 19, "no image");
	refused("<?xml version=\"1.0\"?>\n<!-- x --><svg xmlns=\"\"></svg>", 52, "svg");
	refused("GIF89a\1\0\1\0\0\0\0", 13, "GIF");
	refused("\xff\xd8\xff\xd9", 4, "JPEG");
	wl_buf_release(&png);
	wl_image_release(&grey);
}

/* Mean of absolute differences between two pictures of one size. */
static double distance(const struct wl_image *a, const struct wl_image *b)
{
	double sum = 0;
	size_t n = (size_t)a->width * (size_t)a->height * 3;
	assert_int_equal(a->width, b->width);
	assert_int_equal(a->height, b->height);
	for (size_t i = 0; i < n; i++)
		sum += abs(a->data[i] - b->data[i]);
	return sum / (double)n;
}

static void test_exif_upright(void **state)
{
	(void)state;
	const char *const kinds[] = {"Landscape", "Portrait"};
	struct wl_err err = WL_ERR_INIT;
	if (!pictures_misc())
		skip();
	for (size_t k = 0; k < 2; k++) {
		struct wl_image first = {0};
		for (int o = 0; o <= 8; o++) {
			char path[256];
			struct wl_image_info info;
			struct wl_image im;
			snprintf(path, sizeof path, PICTURES_MISC "/exif-orientation/%s_%d.jpg",
				kinds[k], o);
			struct wl_buf b = pictures_read(path), jpg;
			assert_int_equal(wl_image_probe(b.data, b.len, &info, &err), 0);
			assert_int_equal(info.orientation, o ? o : 1);
			assert_int_equal(info.jpeg_plain, o <= 1);
			assert_true(k == 0 ? info.width > info.height : info.width < info.height);
			assert_int_equal(wl_image_decode(b.data, b.len, &im, &err), 0);
			assert_int_equal(im.width, info.width);
			assert_int_equal(im.height, info.height);
			if (o == 0)
				first = im;
			else if (distance(&first, &im) >= 5)
				fail_msg("%s is not upright: mean difference %.1f", path,
					distance(&first, &im));
			/* What goes into a shard is upright and carries no tag any more. */
			wl_buf_init(&jpg, 1 << 20);
			assert_int_equal(wl_image_to_jpeg(b.data, b.len, 95, &jpg, &err), 0);
			assert_int_equal(wl_image_probe(jpg.data, jpg.len, &info, &err), 0);
			assert_true(info.jpeg_plain);
			assert_int_equal(info.width, im.width);
			if (o)
				wl_image_release(&im);
			wl_buf_release(&jpg);
			wl_buf_release(&b);
		}
		wl_image_release(&first);
	}
}

static void test_reference_decode(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_image im, ari, t;
	struct wl_image_info info;
	if (!pictures_misc())
		skip();
	/* Expected output that comes with libjpeg-turbo (P6, 227 x 149); it was made by the IJG's
	 * old decoder, whose rounding differs by a few grey levels. */
	struct wl_buf jpg = pictures_read(PICTURES_MISC "/libjpeg-turbo/testorig.jpg");
	struct wl_buf ppm = pictures_read(PICTURES_MISC "/libjpeg-turbo/testorig.ppm");
	assert_int_equal(wl_image_decode(jpg.data, jpg.len, &im, &err), 0);
	size_t n = (size_t)im.width * (size_t)im.height * 3;
	assert_true(ppm.len > n);
	for (size_t i = 0; i < n; i++) {
		int want = (uint8_t)ppm.data[ppm.len - n + i];
		assert_in_range(im.data[i] + 4, want, want + 8);
	}
	/* Arithmetic coding decodes, and is not copied into shards as it is. */
	struct wl_buf a = pictures_read(PICTURES_MISC "/libjpeg-turbo/testimgari.jpg");
	assert_int_equal(wl_image_probe(a.data, a.len, &info, &err), 0);
	assert_false(info.jpeg_plain);
	assert_int_equal(wl_image_decode(a.data, a.len, &ari, &err), 0);
	assert_int_equal(ari.width, im.width);
	wl_image_release(&ari);
	wl_image_release(&im);
	struct wl_buf m = pictures_read(PICTURES_MISC "/libjpeg-turbo/monkey12.jpg");
	assert_int_equal(wl_image_decode(m.data, m.len, &t, &err), 0);
	/* The monkey's brow, from libjpeg-turbo's 12-bit decoder. */
	assert_int_equal(t.width, 149);
	assert_int_equal(t.height, 227);
	long sum[3] = {0};
	for (size_t y = 0; y < 28; y++)
		for (size_t x = 0; x < 18 * 3; x++)
			sum[x % 3] += t.data[y * 149 * 3 + x];
	const long brow[3] = {44, 61, 74};
	for (size_t c = 0; c < 3; c++)
		assert_in_range(sum[c] / (28 * 18) + 1, brow[c], brow[c] + 2);
	wl_image_release(&t);
	struct wl_buf pbm = pictures_read(PICTURES_MISC "/dali/misnamed/pbm.jpeg");
	refused(pbm.data, pbm.len, "no image");
	struct wl_buf tiff = pictures_read(PICTURES_MISC "/dali/misnamed/jpeg.tiff");
	assert_int_equal(wl_image_probe(tiff.data, tiff.len, &info, &err), 0);
	assert_int_equal(info.format, WL_IMAGE_JPEG);
	struct wl_buf turned =
		pictures_read(PICTURES_MISC "/dali/cat-lossy-2184682_640_rotate_90_cw.webp");
	struct wl_buf webp =
		pictures_read(PICTURES_MISC "/dali/cat-lossy-2184682_640_original.webp");
	struct wl_image_info a1, a2;
	assert_int_equal(wl_image_probe(turned.data, turned.len, &a1, &err), 0);
	assert_int_equal(wl_image_probe(webp.data, webp.len, &a2, &err), 0);
	assert_true(a1.orientation != 1);
	assert_int_equal(wl_image_decode(turned.data, turned.len, &t, &err), 0);
	assert_int_equal(t.width, a1.width);
	assert_int_equal(t.height, a1.height);
	wl_image_release(&t);
	struct wl_buf *all[] = {&jpg, &ppm, &a, &m, &pbm, &tiff, &turned, &webp};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		wl_buf_release(all[i]);
}

/* Real files cut or poked: an error or a picture, never a crash (asan watches). */
static void test_real_files_poked(void **state)
{
	(void)state;
	const char *const files[] = {"/libjpeg-turbo/testimgint.jpg",
		"/libjpeg-turbo/testimgari.jpg", "/dali/cat-lossy-2184682_640_original.webp",
		"/dali/422-odd-width.jpg"};
	struct wl_err err = WL_ERR_INIT;
	struct wl_image im;
	size_t cut_ok = 0;
	if (!pictures_misc())
		skip();
	for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
		char path[256];
		snprintf(path, sizeof path, PICTURES_MISC "%s", files[f]);
		struct wl_buf b = pictures_read(path);
		/* Exactly-sized copies, so that one byte too far is seen. */
		for (size_t n = 1; n < b.len; n += b.len / 13 + 1) {
			void *copy = malloc(n);
			assert_non_null(copy);
			memcpy(copy, b.data, n);
			cut_ok += wl_image_decode(copy, n, &im, &err) == 0;
			wl_image_release(&im);
			free(copy);
		}
		for (uint32_t r = 0; r < 12; r++) {
			for (size_t i = 0; i < b.len / 100 + 1; i++) {
				uint64_t x = wl_rand64(9, r, i);
				b.data[x % b.len] = (char)(x >> 32);
			}
			if (wl_image_decode(b.data, b.len, &im, &err) == 0)
				wl_image_release(&im);
			else
				assert_int_equal(err.code, WL_EDATA);
		}
		wl_buf_release(&b);
	}
	assert_int_equal(cut_ok, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lanczos_is_pillows),
		cmocka_unit_test(test_png_alpha_on_white),
		cmocka_unit_test(test_png_grey_and_damage),
		cmocka_unit_test(test_jpeg_round_and_cut),
		cmocka_unit_test(test_webp_alpha_and_cut),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_12_bits),
		cmocka_unit_test(test_bombs_and_strangers),
		cmocka_unit_test(test_more_bombs),
		cmocka_unit_test(test_all_misc),
		cmocka_unit_test(test_exif_upright),
		cmocka_unit_test(test_reference_decode),
		cmocka_unit_test(test_real_files_poked),
	};
	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
