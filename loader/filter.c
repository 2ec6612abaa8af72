/*
 * The triangle filter on pixels is Pillow's.  Where a sample stands for several pixels, the
 * weight of each pixel is handed on to the samples that upsampling would have made it of.
 */
#include "loader/filter.h"

#include "loader/augment_formula.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void *wl_filter_grow(void *mem, size_t *cap, size_t need, struct wl_err *err)
{
	if (mem && *cap >= need)
		return mem;
	need = (need + need / 4 + 127) / 64 * 64;
	free(mem);
	mem = aligned_alloc(64, need);
	*cap = mem ? need : 0;
	if (!mem)
		wl_err_nomem(err, "the resizer's buffers", need);
	else
		memset(mem, 0, need);
	return mem;
}

void wl_filter_release(struct wl_filter *f)
{
	if (!f)
		return;
	free(f->start);
	free(f->weight);
	free(f->scratch);
	*f = (struct wl_filter){0};
}

/* The pixels [*a, *b) that output pixel i combines, w[0 .. *b - *a) their weights, not yet
 * normalised.  Returns the weights' sum. */
static double pixel_taps(int i, double off, double scale, int lo, int hi, double *w, int *a, int *b)
{
	double support = scale > 1 ? scale : 1, inv = 1 / support, sum = 0;
	double centre = off + scale * (i + 0.5);
	int j;

	if (scale <= 1) { /* two neighbours, unless at an edge */
		double left = floor(centre - 0.5);

		*a = (int)left;
		*b = *a + 2;
		w[1] = centre - 0.5 - left;
		w[0] = 1 - w[1];
		if (*a >= lo && *b <= hi && w[1] > 0)
			return 1;
	}
	/* Those whose centre is less than the support away: Pillow's range without its ends where
	 * the triangle has come down to 0. */
	*a = (int)floor(centre - support - 0.5) + 1;
	*b = (int)ceil(centre + support - 0.5);
	*a = *a < lo ? lo : *a;
	*b = *b > hi ? hi : *b;
	/* What rounding left of such ends. */
	while (*b - *a > 1 && wl_aug_triangle((*b - 0.5 - centre) * inv) <= 0)
		--*b;
	while (*b - *a > 1 && wl_aug_triangle((*a + 0.5 - centre) * inv) <= 0)
		++*a;
	if (*a >= *b) { /* a crop narrower than a pixel: the nearest one */
		*a = *a > hi - 1 ? hi - 1 : *a;
		*b = *a + 1;
	}
	for (j = *a; j < *b; j++)
		sum += w[j - *a] = wl_aug_triangle((j + 0.5 - centre) * inv);
	if (sum > 0)
		return sum;
	w[0] = 1;
	return 1;
}

static int clamp(int k, int n)
{
	return k < 0 ? 0 : k < n ? k : n - 1;
}

/* Weights w of pixels [a, b) as weights s of samples [*from, *to). */
static void sample_taps(const struct wl_sampling *p, const double *w, int a, int b, double *s,
	int *from, int *to)
{
	int j;

	*from = clamp((a - p->smooth) / p->per, p->samples);
	*to = clamp((b - 1 + p->smooth) / p->per, p->samples) + 1;
	for (j = 0; j < *to - *from; j++)
		s[j] = 0;
	for (j = a; j < b; j++) {
		int k = clamp(p->per == 2 ? j / 2 : j / p->per, p->samples);

		if (!p->smooth) {
			s[k - *from] += w[j - a];
			continue;
		}
		s[k - *from] += 0.75 * w[j - a];
		s[clamp(k + (j & 1 ? 1 : -1), p->samples) - *from] += 0.25 * w[j - a];
	}
}

static int reserve(struct wl_filter *f, int n, int most, struct wl_err *err)
{
	size_t lanes = ((size_t)n + WL_FILTER_LANES - 1) / WL_FILTER_LANES * WL_FILTER_LANES;

	f->start = wl_filter_grow(f->start, &f->start_cap, lanes * sizeof(int), err);
	f->weight = wl_filter_grow(f->weight, &f->weight_cap,
		(size_t)n * (size_t)most * sizeof(float), err);
	f->scratch = wl_filter_grow(f->scratch, &f->scratch_cap,
		2 * (size_t)most * sizeof(double), err);
	return f->start && f->weight && f->scratch ? 0 : -1;
}

/* Rows of `most` weights become rows of f->taps. */
static void pack_weights(struct wl_filter *f, int most)
{
	for (int i = 1; i < f->n && f->taps < most; i++)
		memmove(f->weight + (size_t)i * (size_t)f->taps,
			f->weight + (size_t)i * (size_t)most, (size_t)f->taps * sizeof(float));
}

int wl_filter_build(struct wl_filter *f, int n, double off, double len, int pixels,
	const struct wl_sampling *s, double total, bool flip, struct wl_err *err)
{
	double scale = len / n, support = scale > 1 ? scale : 1;
	int lo = (int)floor(off + 1e-9), hi = (int)ceil(off + len - 1e-9), i, j, a, b, from, to;
	int most = 2 * (int)ceil(support) + 4; /* pixels, and so also samples */

	lo = lo < 0 ? 0 : lo;
	hi = hi > pixels ? pixels : hi;
	WL_TRY(reserve(f, n, most, err));
	f->n = n;
	f->taps = 1;
	f->lo = s->samples;
	f->hi = 0;
	for (i = 0; i < n; i++) {
		int at = flip ? n - 1 - i : i;
		float *weight = f->weight + (size_t)at * (size_t)most;
		double *w = f->scratch, *ws = w + most;
		double norm = total / pixel_taps(i, off, scale, lo, hi, w, &a, &b);

		from = a;
		to = b;
		if (s->per == 1)
			ws = w;
		else
			sample_taps(s, w, a, b, ws, &from, &to);
		f->start[at] = from;
		f->taps = to - from > f->taps ? to - from : f->taps;
		f->lo = from < f->lo ? from : f->lo;
		f->hi = to > f->hi ? to : f->hi;
		for (j = 0; j < most; j++)
			weight[j] = j < to - from ? (float)(ws[j] * norm) : 0;
	}
	for (i = n; i % WL_FILTER_LANES; i++)
		f->start[i] = f->start[n - 1];
	pack_weights(f, most);
	return 0;
}
