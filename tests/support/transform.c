/* See transform.h. */
#include "tests/support/transform.h"

#include "ops/hash.h"
#include "tests/support/cm.h"

#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static const char *const names[TRANSFORMS] = {"re-encoded", "resized", "squeezed", "colour", "grey",
	"cropped 3-6 %", "cropped, centre", "cropped, anywhere", "border", "watermark", "text band",
	"logo box", "flipped", "flipped, cropped", "screenshot"};

const char *transform_name(enum transform t)
{
	return names[t];
}

/* Uniform in [low, high), a function of seed and number. */
static double between(uint64_t seed, uint64_t i, double low, double high)
{
	return low + (high - low) * wl_rand_unit(seed, 99, i);
}

static void fresh(struct wl_image *im, int w, int h)
{
	*im = (struct wl_image){w, h, 3, calloc((size_t)w * (size_t)h, 3)};
	assert_non_null(im->data);
}

static void copy(const struct wl_image *im, struct wl_image *out)
{
	fresh(out, im->width, im->height);
	memcpy(out->data, im->data, (size_t)im->width * (size_t)im->height * 3);
}

static void crop(const struct wl_image *im, int x, int y, int w, int h, struct wl_image *out)
{
	fresh(out, w, h);
	for (int v = 0; v < h; v++)
		memcpy(out->data + (size_t)v * w * 3,
			im->data + ((size_t)(y + v) * im->width + x) * 3, (size_t)w * 3);
}

static void crop_sides(const struct wl_image *im, uint64_t seed, struct wl_image *out)
{
	int l = (int)(im->width * between(seed, 1, .03, .06));
	int r = (int)(im->width * between(seed, 2, .03, .06));
	int t = (int)(im->height * between(seed, 3, .03, .06));
	int b = (int)(im->height * between(seed, 4, .03, .06));

	crop(im, l, t, im->width - l - r, im->height - t - b, out);
}

static void crop_part(const struct wl_image *im, uint64_t seed, bool centre, struct wl_image *out)
{
	int w = (int)(im->width * between(seed, 1, .75, .9));
	int h = (int)(im->height * between(seed, 2, .75, .9));
	double fx = centre ? .5 : between(seed, 3, 0, 1), fy = centre ? .5 : between(seed, 4, 0, 1);

	crop(im, (int)((im->width - w) * fx), (int)((im->height - h) * fy), w, h, out);
}

static uint8_t clip(double v)
{
	return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v + .5);
}

static void recolour(struct wl_image *im, uint64_t seed)
{
	double gain = between(seed, 1, .75, 1.25), shift = between(seed, 2, -25, 25);
	double saturation = between(seed, 3, .4, 1.5);

	for (int i = 0; i < im->width * im->height; i++) {
		uint8_t *p = im->data + 3 * (size_t)i;
		double y = .299 * p[0] + .587 * p[1] + .114 * p[2];
		for (int c = 0; c < 3; c++)
			p[c] = clip((y + (p[c] - y) * saturation - 128) * gain + 128 + shift);
	}
}

static void to_grey(struct wl_image *im)
{
	for (int i = 0; i < im->width * im->height; i++) {
		uint8_t *p = im->data + 3 * (size_t)i;
		p[0] = p[1] = p[2] = clip(.299 * p[0] + .587 * p[1] + .114 * p[2]);
	}
}

static void fill(struct wl_image *im, int x, int y, int w, int h, const uint8_t rgb[3])
{
	for (int v = y < 0 ? 0 : y; v < y + h && v < im->height; v++)
		for (int u = x < 0 ? 0 : x; u < x + w && u < im->width; u++)
			memcpy(im->data + ((size_t)v * im->width + u) * 3, rgb, 3);
}

/* Something like letters: upright strokes with bars, blended by alpha. */
static void letters(
	struct wl_image *im, uint64_t seed, int x, int y, int w, int h, double alpha, int ink)
{
	int stroke = h / 8 > 1 ? h / 8 : 1;

	for (int at = 0, k = 0; at + h / 2 < w; at += h * 3 / 4, k++) {
		uint64_t bits = wl_rand64(seed, 5, (uint64_t)k);
		for (int v = 0; v < h; v++)
			for (int u = 0; u < h / 2; u++) {
				int cell = v * 4 / h * 3 + u * 3 / (h / 2 + 1);
				bool on = bits >> (cell * 2) & 1 || u < stroke;
				int px = x + at + u, py = y + v;
				if (!on || px < 0 || py < 0 || px >= im->width || py >= im->height)
					continue;
				uint8_t *p = im->data + ((size_t)py * im->width + px) * 3;
				for (int c = 0; c < 3; c++)
					p[c] = clip(p[c] * (1 - alpha) + ink * alpha);
			}
	}
}

static void border(const struct wl_image *im, uint64_t seed, struct wl_image *out)
{
	static const uint8_t colours[4][3] = {
		{255, 255, 255}, {0, 0, 0}, {240, 236, 220}, {60, 90, 140}};
	int side = im->width < im->height ? im->width : im->height;
	int d = (int)(side * between(seed, 1, .04, .12));

	fresh(out, im->width + 2 * d, im->height + 2 * d);
	fill(out, 0, 0, out->width, out->height, colours[wl_rand64(seed, 6, 0) % 4]);
	for (int y = 0; y < im->height; y++)
		memcpy(out->data + ((size_t)(y + d) * out->width + d) * 3,
			im->data + (size_t)y * im->width * 3, (size_t)im->width * 3);
}

static void text_band(struct wl_image *im, uint64_t seed)
{
	static const uint8_t white[3] = {255, 255, 255}, black[3] = {10, 10, 10};
	int h = (int)(im->height * between(seed, 1, .1, .2));
	bool dark = wl_rand64(seed, 7, 0) & 1, head = wl_rand64(seed, 7, 1) & 1;
	int y = head ? 0 : im->height - h;

	fill(im, 0, y, im->width, h, dark ? black : white);
	letters(im, seed, im->width / 20, y + h / 4, im->width * 9 / 10, h / 2, 1, dark ? 255 : 0);
}

static void logo(struct wl_image *im, uint64_t seed)
{
	int w = (int)(im->width * between(seed, 1, .15, .25));
	int h = (int)(im->height * between(seed, 2, .15, .25));
	bool right = wl_rand64(seed, 7, 0) & 1, foot = wl_rand64(seed, 7, 1) & 1;
	int x = right ? im->width - w : 0, y = foot ? im->height - h : 0;
	uint8_t rgb[3] = {(uint8_t)wl_rand64(seed, 8, 0), (uint8_t)wl_rand64(seed, 8, 1), 30};

	fill(im, x, y, w, h, rgb);
	letters(im, seed, x + w / 8, y + h / 3, w * 3 / 4, h / 3, 1, 255);
}

static void flip(struct wl_image *im)
{
	for (int y = 0; y < im->height; y++)
		for (int x = 0; x < im->width / 2; x++)
			for (int c = 0; c < 3; c++) {
				uint8_t *a = im->data + ((size_t)y * im->width + x) * 3 + c;
				uint8_t *b = im->data +
					     ((size_t)y * im->width + im->width - 1 - x) * 3 + c;
				uint8_t t = *a;
				*a = *b;
				*b = t;
			}
}

static void resize(const struct wl_image *im, double fx, double fy, struct wl_image *out)
{
	int w = (int)(im->width * fx), h = (int)(im->height * fy);

	OK(wl_image_resize_lanczos(im, w > 8 ? w : 8, h > 8 ? h : 8, out, &err));
}

static void screenshot(const struct wl_image *im, uint64_t seed, struct wl_image *out)
{
	struct wl_image small = {0};

	resize(im, .6, .6, &small);
	border(&small, seed, out);
	letters(out, seed, out->width / 10, out->height * 8 / 10, out->width * 7 / 10,
		out->height / 10, 1, 250);
	wl_image_release(&small);
}

static void through_jpeg(struct wl_image *im, int quality)
{
	struct wl_buf b;

	wl_buf_init(&b, 64 << 20);
	OK(wl_image_encode_jpeg(im, quality, &b, &err));
	wl_image_release(im);
	OK(wl_image_decode(b.data, b.len, im, &err));
	wl_buf_release(&b);
}

void transform_make(
	const struct wl_image *im, enum transform t, uint64_t seed, struct wl_image *out)
{
	int quality = t == T_REENCODE ? (int)between(seed, 50, 30, 60) : 80;
	double f = between(seed, 51, .3, .8);
	bool side = wl_rand64(seed, 52, 0) & 1;

	switch (t) {
	case T_RESIZE:
		resize(im, f, f, out);
		break;
	case T_ASPECT:
		f = .85 + (f - .3) / 5;
		resize(im, side ? f : 1, side ? 1 : f, out);
		break;
	case T_CROP_5:
	case T_FLIP_CROP:
		crop_sides(im, seed, out);
		break;
	case T_CROP_CENTRE:
	case T_CROP_ANY:
		crop_part(im, seed, t == T_CROP_CENTRE, out);
		break;
	case T_BORDER:
		border(im, seed, out);
		break;
	case T_SCREENSHOT:
		screenshot(im, seed, out);
		break;
	default:
		copy(im, out);
	}
	if (t == T_COLOUR)
		recolour(out, seed);
	if (t == T_GREY)
		to_grey(out);
	if (t == T_WATERMARK)
		letters(out, seed, out->width / 10, out->height * 4 / 10, out->width * 8 / 10,
			out->height / 5, .5, 255);
	if (t == T_TEXT)
		text_band(out, seed);
	if (t == T_LOGO)
		logo(out, seed);
	if (t == T_FLIP || t == T_FLIP_CROP)
		flip(out);
	through_jpeg(out, quality);
}
