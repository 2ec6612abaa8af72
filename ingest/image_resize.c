/*
 * Pillow's Lanczos resize, bit for bit (src/libImaging/Resample.c of Pillow >= 4): weights in
 * double, normalised, rounded to 22-bit fixed point; a horizontal pass to 8 bits, then a
 * vertical one.  The perceptual hash of clean/ is compared with the imagehash package's, which
 * is why "nearly the same" would not do.
 */
#include "ingest/image_codec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 8 bits of pixel and 2 of overshoot leave 22 of an int32 for the weight. */
enum { PRECISION_BITS = 32 - 8 - 2 };
static const double LANCZOS_LOBES = 3.0;

/* sinc(x) sinc(x / 3), where sin(pi x) follows from a = pi x / 3 by sin 3a = sin a (3 - 4 sin^2 a):
 * one sine instead of two, and still some 30 bits more than the weights keep. */
static double lanczos(double x)
{
	double a = x * (M_PI / LANCZOS_LOBES), s;

	if (x < -LANCZOS_LOBES || x >= LANCZOS_LOBES)
		return 0.0;
	if (x == 0.0)
		return 1.0;
	s = sin(a);
	return s * s * (3.0 - 4.0 * s * s) / (LANCZOS_LOBES * a * a);
}

/* The weights of one axis: output i is the sum of in[first[i] + j] * w[i * ksize + j]. */
struct taps {
	int ksize;
	int *first, *count; /* [out] */
	int32_t *w;	    /* [out, ksize] */
};

static void taps_release(struct taps *t)
{
	free(t->first);
	free(t->count);
	free(t->w);
}

static int32_t fixed(double w)
{
	double scaled = w * (1 << PRECISION_BITS);
	return (int32_t)(w < 0 ? -0.5 + scaled : 0.5 + scaled);
}

static void taps_fill(struct taps *t, int i, int in, double scale, double *k)
{
	double fscale = scale < 1.0 ? 1.0 : scale, support = LANCZOS_LOBES * fscale;
	double center = (i + 0.5) * scale, sum = 0.0, inv = 1.0 / fscale;
	int lo = (int)(center - support + 0.5), hi = (int)(center + support + 0.5);
	if (lo < 0)
		lo = 0;
	if (hi > in)
		hi = in;
	for (int j = 0; j < hi - lo; j++) {
		k[j] = lanczos((j + lo - center + 0.5) * inv);
		sum += k[j];
	}
	t->first[i] = lo;
	t->count[i] = hi - lo;
	for (int j = 0; j < hi - lo; j++)
		t->w[(size_t)i * (size_t)t->ksize + (size_t)j] =
			fixed(sum != 0.0 ? k[j] / sum : k[j]);
}

static int taps_init(struct taps *t, int in, int out, struct wl_err *err)
{
	double scale = (double)in / out;
	t->ksize = (int)ceil(LANCZOS_LOBES * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
	size_t n = (size_t)out * (size_t)t->ksize;
	double *k = malloc((size_t)t->ksize * sizeof *k);
	t->first = calloc((size_t)out, sizeof *t->first);
	t->count = calloc((size_t)out, sizeof *t->count);
	t->w = calloc(n, sizeof *t->w);
	if (!k || !t->first || !t->count || !t->w) {
		free(k);
		return wl_err_nomem(err, "resize weights", n * sizeof *t->w);
	}
	for (int i = 0; i < out; i++)
		taps_fill(t, i, in, scale, k);
	free(k);
	return 0;
}

static uint8_t clip8(int32_t v)
{
	v >>= PRECISION_BITS;
	return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* ch is a constant at both calls: the sum over neighbouring bytes then becomes vectors. */
static inline __attribute__((always_inline)) void pass_channels(
	const struct wl_image *src, const struct taps *t, struct wl_image *dst, const size_t ch)
{
	for (int y = 0; y < dst->height; y++) {
		const uint8_t *in = src->data + (size_t)y * (size_t)src->width * ch;
		uint8_t *out = dst->data + (size_t)y * (size_t)dst->width * ch;
		for (int x = 0; x < dst->width; x++) {
			const int32_t *w = t->w + (size_t)x * (size_t)t->ksize;
			const uint8_t *p = in + (size_t)t->first[x] * ch;
			for (size_t c = 0; c < ch; c++) {
				int32_t sum = 1 << (PRECISION_BITS - 1);
				for (int j = 0; j < t->count[x]; j++)
					sum += p[(size_t)j * ch + c] * w[j];
				*out++ = clip8(sum);
			}
		}
	}
}

static void pass_horizontal(const struct wl_image *src, const struct taps *t, struct wl_image *dst)
{
	if (src->channels == 1)
		pass_channels(src, t, dst, 1);
	else
		pass_channels(src, t, dst, 3);
}

/* Rows are summed whole, so the inner loop runs over neighbouring bytes. */
static void pass_vertical(
	const struct wl_image *src, const struct taps *t, struct wl_image *dst, int32_t *acc)
{
	size_t row = (size_t)dst->width * (size_t)dst->channels;
	for (int y = 0; y < dst->height; y++) {
		for (size_t x = 0; x < row; x++)
			acc[x] = 1 << (PRECISION_BITS - 1);
		for (int j = 0; j < t->count[y]; j++) {
			int32_t w = t->w[(size_t)y * (size_t)t->ksize + (size_t)j];
			const uint8_t *in = src->data + (size_t)(t->first[y] + j) * row;
			for (size_t x = 0; x < row; x++)
				acc[x] += in[x] * w;
		}
		uint8_t *out = dst->data + (size_t)y * row;
		for (size_t x = 0; x < row; x++)
			out[x] = clip8(acc[x]);
	}
}

static int resize_x(const struct wl_image *src, int width, struct wl_image *out, struct wl_err *err)
{
	struct taps t = {0};
	int ret = -1;
	WL_TRY_OUT(taps_init(&t, src->width, width, err));
	WL_TRY_OUT(wl_image_alloc(out, width, src->height, src->channels, err));
	pass_horizontal(src, &t, out);
	ret = 0;
out:
	taps_release(&t);
	return ret;
}

static int resize_y(
	const struct wl_image *src, int height, struct wl_image *out, struct wl_err *err)
{
	struct taps t = {0};
	size_t row = (size_t)src->width * (size_t)src->channels * sizeof(int32_t);
	int32_t *acc = malloc(row);
	int ret = -1;
	if (!acc) {
		wl_err_nomem(err, "a row of sums", row);
		goto out;
	}
	WL_TRY_OUT(taps_init(&t, src->height, height, err));
	WL_TRY_OUT(wl_image_alloc(out, src->width, height, src->channels, err));
	pass_vertical(src, &t, out, acc);
	ret = 0;
out:
	free(acc);
	taps_release(&t);
	return ret;
}

int wl_image_resize_lanczos(
	const struct wl_image *src, int width, int height, struct wl_image *out, struct wl_err *err)
{
	struct wl_image mid = {0};
	if (src->width < 1 || src->height < 1 || (src->channels != 1 && src->channels != 3))
		return wl_err_set(err, WL_EDATA,
			"an image of %dx%d pixels and %d channels cannot be resized", src->width,
			src->height, src->channels);
	WL_TRY(wl_image_check_size("resized image", width, height, err));
	memset(out, 0, sizeof *out);
	/* Pillow leaves an axis out whose size does not change. */
	const struct wl_image *in = src;
	if (width != src->width) {
		WL_TRY(resize_x(src, width, &mid, err));
		in = &mid;
	}
	if (height != src->height) {
		int ret = resize_y(in, height, out, err);
		wl_image_release(&mid);
		return ret;
	}
	if (in == &mid) {
		*out = mid;
		return 0;
	}
	WL_TRY(wl_image_alloc(out, width, height, src->channels, err));
	memcpy(out->data, src->data, (size_t)width * (size_t)height * (size_t)src->channels);
	return 0;
}
