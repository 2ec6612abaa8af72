/*
 * Pillow's Lanczos resize, bit for bit (src/libImaging/Resample.c of Pillow >= 4): weights in
 * double, normalised, rounded to 22-bit fixed point; a horizontal pass to 8 bits, then a
 * vertical one.  The perceptual hash of clean/ is compared with the imagehash package's, which
 * is why "nearly the same" would not do.
 */
#include "ingest/image_codec.h"

#include <math.h>
#include <pthread.h>
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
	int in, out, ksize;
	int *first, *count; /* [out] */
	int32_t *w;	    /* [out, ksize] */
};

/* Where weights are summed along a row they come in whole vectors, the first or last of them 0:
 * sums are exact, so this changes nothing but the time of a remainder's loop. */
enum { VECTOR = 16 };

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

static int taps_count(int in, int out)
{
	double scale = (double)in / out;
	return (int)ceil(LANCZOS_LOBES * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
}

/* Moves the window of output i to where `to` inputs are, if there are so many. */
static void taps_widen(struct taps *t, int i, int to)
{
	int32_t *w = t->w + (size_t)i * (size_t)t->ksize;
	int over = t->first[i] + to - t->in, by = over > 0 ? over : 0;

	if (to > t->in)
		return;
	memmove(w + by, w, (size_t)t->count[i] * sizeof(*w));
	memset(w, 0, (size_t)by * sizeof(*w));
	t->first[i] -= by;
	t->count[i] = to;
}

/* whole: weights in whole vectors, where the axis is long enough. */
static int taps_init(struct taps *t, int in, int out, bool whole, struct wl_err *err)
{
	double scale = (double)in / out;
	int most = taps_count(in, out), room = (most + VECTOR - 1) / VECTOR * VECTOR;
	whole = whole && room <= in;
	*t = (struct taps){.in = in, .out = out, .ksize = whole ? room : most};
	size_t n = (size_t)out * (size_t)t->ksize;
	double *k = malloc((size_t)t->ksize * sizeof *k);
	t->first = calloc((size_t)out, sizeof *t->first);
	t->count = calloc((size_t)out, sizeof *t->count);
	t->w = calloc(n, sizeof *t->w);
	if (!k || !t->first || !t->count || !t->w) {
		free(k);
		return wl_err_nomem(err, "resize weights", n * sizeof *t->w);
	}
	for (int i = 0; i < out; i++) {
		taps_fill(t, i, in, scale, k);
		if (whole)
			taps_widen(t, i, (t->count[i] + VECTOR - 1) / VECTOR * VECTOR);
	}
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

/* A lane for each place of a vector, so that nothing is added up across before the end. */
static void pass_grey(const struct wl_image *src, const struct taps *t, struct wl_image *dst)
{
	for (int y = 0; y < dst->height; y++) {
		const uint8_t *in = src->data + (size_t)y * (size_t)src->width;
		uint8_t *out = dst->data + (size_t)y * (size_t)dst->width;
		for (int x = 0; x < dst->width; x++) {
			const int32_t *w = t->w + (size_t)x * (size_t)t->ksize;
			const uint8_t *p = in + t->first[x];
			int32_t lane[VECTOR] = {0}, sum = 1 << (PRECISION_BITS - 1);
			int n = t->count[x], j = 0;
			for (; j + VECTOR <= n; j += VECTOR)
				for (int k = 0; k < VECTOR; k++)
					lane[k] += p[j + k] * w[j + k];
			for (; j < n; j++)
				sum += p[j] * w[j];
			for (int k = 0; k < VECTOR; k++)
				sum += lane[k];
			out[x] = clip8(sum);
		}
	}
}

static void pass_horizontal(const struct wl_image *src, const struct taps *t, struct wl_image *dst)
{
	if (src->channels == 1)
		pass_grey(src, t, dst);
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

/* ---- weights that are kept ---- */

enum { KEPT = 32, KEPT_BYTES_MAX = 1 << 20 };

struct kept {
	struct taps t; /* in 0: none yet */
	bool whole;
	int users;
	uint64_t used; /* when, counted in calls */
};

struct wl_lanczos {
	pthread_mutex_t lock;
	struct kept v[KEPT];
	uint64_t now;
};

struct wl_lanczos *wl_lanczos_new(struct wl_err *err)
{
	struct wl_lanczos *l = calloc(1, sizeof(*l));

	if (!l || pthread_mutex_init(&l->lock, NULL) != 0) {
		free(l);
		wl_err_nomem(err, "resize weights", sizeof(*l));
		return NULL;
	}
	return l;
}

void wl_lanczos_free(struct wl_lanczos *l)
{
	if (!l)
		return;
	for (int i = 0; i < KEPT; i++)
		taps_release(&l->v[i].t);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* Under the lock.  The one of these sizes, or NULL; *oldest: one that nobody uses, or NULL. */
static struct kept *find_kept(
	struct wl_lanczos *l, int in, int out, bool whole, struct kept **oldest)
{
	*oldest = NULL;
	for (int i = 0; i < KEPT; i++) {
		struct kept *k = &l->v[i];
		if (k->t.in == in && k->t.out == out && k->whole == whole)
			return k;
		if (!k->users && (!*oldest || k->used < (*oldest)->used))
			*oldest = k;
	}
	return NULL;
}

/* Weights in *t: of l, which *kept then holds on to, or the caller's own (*kept NULL). */
static int taps_get(struct wl_lanczos *l, int in, int out, bool whole, struct taps *t,
	struct kept **kept, struct wl_err *err)
{
	struct kept *k, *oldest;

	*kept = NULL;
	if (!l || (size_t)out * (size_t)taps_count(in, out) > KEPT_BYTES_MAX / sizeof(*t->w))
		return taps_init(t, in, out, whole, err);
	pthread_mutex_lock(&l->lock);
	k = find_kept(l, in, out, whole, &oldest);
	if (!k && oldest) {
		taps_release(&oldest->t);
		memset(oldest, 0, sizeof(*oldest));
		if (taps_init(&oldest->t, in, out, whole, err) < 0) {
			taps_release(&oldest->t);
			memset(oldest, 0, sizeof(*oldest));
			pthread_mutex_unlock(&l->lock);
			return -1;
		}
		oldest->whole = whole;
		k = oldest;
	}
	if (k) {
		k->users++;
		k->used = ++l->now;
		*t = k->t;
	}
	pthread_mutex_unlock(&l->lock);
	*kept = k;
	return k ? 0 : taps_init(t, in, out, whole, err);
}

static void taps_put(struct wl_lanczos *l, struct taps *t, struct kept *kept)
{
	if (!kept) {
		taps_release(t);
		return;
	}
	pthread_mutex_lock(&l->lock);
	kept->users--;
	pthread_mutex_unlock(&l->lock);
}

/* ---- resizing ---- */

static int resize_x(struct wl_lanczos *l, const struct wl_image *src, int width,
	struct wl_image *out, struct wl_err *err)
{
	struct kept *kept = NULL;
	struct taps t = {0};
	int ret = -1;
	WL_TRY_OUT(taps_get(l, src->width, width, src->channels == 1, &t, &kept, err));
	WL_TRY_OUT(wl_image_alloc(out, width, src->height, src->channels, err));
	pass_horizontal(src, &t, out);
	ret = 0;
out:
	taps_put(l, &t, kept);
	return ret;
}

static int resize_y(struct wl_lanczos *l, const struct wl_image *src, int height,
	struct wl_image *out, struct wl_err *err)
{
	struct kept *kept = NULL;
	struct taps t = {0};
	size_t row = (size_t)src->width * (size_t)src->channels * sizeof(int32_t);
	int32_t *acc = malloc(row);
	int ret = -1;
	if (!acc) {
		wl_err_nomem(err, "a row of sums", row);
		goto out;
	}
	WL_TRY_OUT(taps_get(l, src->height, height, false, &t, &kept, err));
	WL_TRY_OUT(wl_image_alloc(out, src->width, height, src->channels, err));
	pass_vertical(src, &t, out, acc);
	ret = 0;
out:
	free(acc);
	taps_put(l, &t, kept);
	return ret;
}

int wl_image_resize_lanczos(
	const struct wl_image *src, int width, int height, struct wl_image *out, struct wl_err *err)
{
	return wl_image_resize_lanczos_by(NULL, src, width, height, out, err);
}

int wl_image_resize_lanczos_by(struct wl_lanczos *l, const struct wl_image *src, int width,
	int height, struct wl_image *out, struct wl_err *err)
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
		WL_TRY(resize_x(l, src, width, &mid, err));
		in = &mid;
	}
	if (height != src->height) {
		int ret = resize_y(l, in, height, out, err);
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
