/*
 * The second opinion on two pictures whose perceptual hashes are near.
 *
 * Brightness and contrast are fitted away first (both greys brought to mean 0 and the smaller
 * spread), within limits; what is left must be small everywhere, not only on average, for two
 * clocks differ in their hands alone.  Thresholds measured on the Tux Paint stamps and
 * Flickr8k-CN photos: a picture against its own JPEG (quality 40), half size or brightness
 * +-15 % on one side, all pairs of different pictures with hashes within 10 bits on the other.
 */
#include "clean/phash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	BLOCK = 4,	      /* pixels of a 32x32 side that are judged together */
	MAX_MEAN_SHIFT = 56,  /* grey levels between the means */
	MAX_BLOCK_DIFF = 22,  /* mean absolute rest in any block, grey levels */
	MAX_CHROMA_DIFF = 36, /* of R-G or B-G in any cell, levels */
};
static const double FLAT_SPREAD = 3.0; /* standard deviation under which nothing is seen */
static const double MAX_SPREAD_RATIO = 1.8;
static const double MAX_REST = 0.035; /* of the variance, after the fit */
static const double MAX_ASPECT_RATIO = 1.06;

/* Sums over whole pixels of an even grid: exact, whatever the compiler does. */
static void mean_colours(const struct wl_image *im, uint8_t *out)
{
	for (int cy = 0; cy < WL_LOOK_CELLS; cy++) {
		int y0 = (int)((int64_t)im->height * cy / WL_LOOK_CELLS);
		int y1 = (int)((int64_t)im->height * (cy + 1) / WL_LOOK_CELLS);
		if (y1 == y0)
			y1++;
		for (int cx = 0; cx < WL_LOOK_CELLS; cx++) {
			int x0 = (int)((int64_t)im->width * cx / WL_LOOK_CELLS);
			int x1 = (int)((int64_t)im->width * (cx + 1) / WL_LOOK_CELLS);
			uint64_t sum[3] = {0}, n;
			if (x1 == x0)
				x1++;
			for (int y = y0; y < y1; y++) {
				const uint8_t *p = im->data + ((size_t)y * im->width + x0) * 3;
				for (int x = x0; x < x1; x++, p += 3) {
					sum[0] += p[0];
					sum[1] += p[1];
					sum[2] += p[2];
				}
			}
			n = (uint64_t)(y1 - y0) * (uint64_t)(x1 - x0);
			for (int c = 0; c < 3; c++)
				*out++ = (uint8_t)((sum[c] + n / 2) / n);
		}
	}
}

/* The mean of cell (cx, cy) of an even grid; in 1/16. */
static int cell_mean(const struct wl_image *im, int cx, int cy)
{
	int x0 = im->width * cx / WL_LOOK_CELLS, x1 = im->width * (cx + 1) / WL_LOOK_CELLS;
	int y0 = im->height * cy / WL_LOOK_CELLS, y1 = im->height * (cy + 1) / WL_LOOK_CELLS;
	unsigned sum = 0, n;

	x1 += x1 == x0;
	y1 += y1 == y0;
	for (int y = y0; y < y1; y++)
		for (int x = x0; x < x1; x++)
			sum += im->data[(size_t)y * (size_t)im->width + (size_t)x];
	n = (unsigned)(y1 - y0) * (unsigned)(x1 - x0);
	return (int)((16 * (uint64_t)sum + n / 2) / n);
}

/* v: 16 * 65536 times a level. */
static uint8_t level(int64_t v)
{
	v = (v + (1 << 19)) >> 20;
	return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* JFIF's YCbCr of mean levels: pixels that were clipped make a difference, seldom. */
void wl_look_make_low(const struct wl_image_low *low, struct wl_look *out)
{
	uint8_t *to = out->colour;

	out->phash = wl_phash_grey32(out->grey);
	out->aspect_1024 =
		(uint32_t)((1024 * (int64_t)low->width + low->height / 2) / low->height);
	for (int cy = 0; cy < WL_LOOK_CELLS; cy++)
		for (int cx = 0; cx < WL_LOOK_CELLS; cx++, to += 3) {
			int64_t y = (int64_t)cell_mean(&low->luma, cx, cy) * 65536;
			int64_t cb = 0, cr = 0;
			if (low->cb.data) {
				cb = cell_mean(&low->cb, cx, cy) - 16 * 128;
				cr = cell_mean(&low->cr, cx, cy) - 16 * 128;
			}
			to[0] = level(y + 91881 * cr);
			to[1] = level(y - 22554 * cb - 46802 * cr);
			to[2] = level(y + 116130 * cb);
		}
}

static int look_of(struct wl_lanczos *l, const struct wl_image *rgb, const struct wl_image *grey,
	struct wl_look *out, struct wl_err *err)
{
	struct wl_image small = {0};

	memset(out, 0, sizeof(*out));
	WL_TRY(wl_image_resize_lanczos_by(l, grey, WL_PHASH_SIDE, WL_PHASH_SIDE, &small, err));
	memcpy(out->grey, small.data, WL_PHASH_PIXELS);
	out->phash = wl_phash_grey32(out->grey);
	out->aspect_1024 = (uint32_t)((1024 * (int64_t)rgb->width + rgb->height / 2) / rgb->height);
	mean_colours(rgb, out->colour);
	wl_image_release(&small);
	return 0;
}

int wl_look_make_grey(const struct wl_image *rgb, const struct wl_image *grey, struct wl_look *out,
	struct wl_err *err)
{
	return look_of(NULL, rgb, grey, out, err);
}

int wl_look_make(const struct wl_image *rgb, struct wl_look *out, struct wl_err *err)
{
	return wl_look_make_by(NULL, rgb, out, err);
}

int wl_look_make_by(
	struct wl_lanczos *l, const struct wl_image *rgb, struct wl_look *out, struct wl_err *err)
{
	struct wl_image grey = {0};
	int ret = -1;

	if (rgb->channels != 3)
		WL_BUG("a look is made of RGB, not of %d channels", rgb->channels);
	if (wl_image_to_grey(rgb, &grey, err) == 0)
		ret = look_of(l, rgb, &grey, out, err);
	wl_image_release(&grey);
	return ret;
}

struct moments {
	double mean, spread;
};

static struct moments moments_of(const uint8_t *grey)
{
	int64_t s = 0, ss = 0;
	struct moments m;

	for (int i = 0; i < WL_PHASH_PIXELS; i++) {
		s += grey[i];
		ss += grey[i] * grey[i];
	}
	m.mean = (double)s / WL_PHASH_PIXELS;
	m.spread = sqrt((double)(ss * WL_PHASH_PIXELS - s * s)) / WL_PHASH_PIXELS;
	return m;
}

static bool colours_agree(const uint8_t *a, double gain_a, const uint8_t *b, double gain_b)
{
	for (int i = 0; i < WL_LOOK_CELLS * WL_LOOK_CELLS; i++, a += 3, b += 3) {
		double rg = (a[0] - a[1]) * gain_a - (b[0] - b[1]) * gain_b;
		double bg = (a[2] - a[1]) * gain_a - (b[2] - b[1]) * gain_b;
		if (fabs(rg) > MAX_CHROMA_DIFF || fabs(bg) > MAX_CHROMA_DIFF)
			return false;
	}
	return true;
}

/* Nothing to see in either: the same only if the colours themselves are. */
static bool flat_alike(const struct wl_look *a, const struct wl_look *b)
{
	for (size_t i = 0; i < sizeof(a->colour); i++)
		if (abs(a->colour[i] - b->colour[i]) > 2)
			return false;
	for (int i = 0; i < WL_PHASH_PIXELS; i++)
		if (abs(a->grey[i] - b->grey[i]) > 6)
			return false;
	return true;
}

bool wl_look_alike(const struct wl_look *a, const struct wl_look *b)
{
	struct moments ma = moments_of(a->grey), mb = moments_of(b->grey);
	double low = fmin(ma.spread, mb.spread), ga, gb, rest = 0;
	double aspect = (double)a->aspect_1024 / (double)(b->aspect_1024 ? b->aspect_1024 : 1);

	if (aspect > MAX_ASPECT_RATIO || aspect < 1 / MAX_ASPECT_RATIO)
		return false;
	if (low < FLAT_SPREAD)
		return flat_alike(a, b);
	if (fmax(ma.spread, mb.spread) > MAX_SPREAD_RATIO * low ||
		fabs(ma.mean - mb.mean) > MAX_MEAN_SHIFT)
		return false;
	ga = low / ma.spread;
	gb = low / mb.spread;
	for (int by = 0; by < WL_PHASH_SIDE; by += BLOCK) {
		for (int bx = 0; bx < WL_PHASH_SIDE; bx += BLOCK) {
			double block = 0;
			for (int k = 0; k < BLOCK * BLOCK; k++) {
				int i = (by + k / BLOCK) * WL_PHASH_SIDE + bx + k % BLOCK;
				double d =
					(a->grey[i] - ma.mean) * ga - (b->grey[i] - mb.mean) * gb;
				block += fabs(d);
				rest += d * d;
			}
			if (block > MAX_BLOCK_DIFF * BLOCK * BLOCK)
				return false;
		}
	}
	return rest <= MAX_REST * low * low * WL_PHASH_PIXELS &&
	       colours_agree(a->colour, ga, b->colour, gb);
}
