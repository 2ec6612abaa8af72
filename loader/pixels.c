/*
 * How: the colour half of augmentation on planar rows.
 *
 * A row of S pixels (three planes of S floats) fits the first-level cache, so each operation
 * is one plain loop over it that the compiler turns into vector code, and the picture as a
 * whole is passed over once, or twice where something needs all of it first: contrast (the
 * mean luma) and blur (the rows below).
 *
 *   rows come in -> [what precedes contrast] -> planes, luma summed
 *   finish:         contrast, [what follows], graying, blur along rows -> planes
 *                   blur across rows, normalise, interleave -> out
 *
 * Sums run in 16 fixed lanes, so that the result does not depend on the vector width.
 */
#include "loader/augment.h"

#include "loader/augment_formula.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	LANES = 16, /* of the luma sum */
	BLOCK = 64, /* floats that a blur sums at once, in four vectors */
};

/* One instruction where the machine has 512 bits, several elsewhere: the same sums. */
typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));

struct wl_pixels {
	int side, pitch;   /* pitch: floats a row, a multiple of BLOCK */
	float *planes;     /* [3, side, pitch] */
	float *padded;     /* [3 * pitch]: a row with its reflected ends */
	float *row;        /* [3, pitch]: the row in hand */
	float *kernel;     /* [side]: half of the blur's kernel, centre first */
	int radius;        /* of the blur; -1: no blur */
	int contrast_at;   /* index in order[] of contrast; -1: none */
	int next;          /* rows received */
	double luma;       /* sum over rows before contrast */
	const struct wl_augment_params *params;
	float scale[3], shift[3]; /* normalised = v * scale - shift */
	float *out;
};

struct wl_pixels *wl_pixels_new(int side, struct wl_err *err)
{
	struct wl_pixels *p = calloc(1, sizeof(*p));
	size_t plane;

	if (!p) {
		wl_err_nomem(err, "the augmentation state", sizeof(*p));
		return NULL;
	}
	p->side = side;
	p->pitch = (side + BLOCK - 1) / BLOCK * BLOCK;
	plane = (size_t)p->pitch * (size_t)side * sizeof(float);
	p->planes = aligned_alloc(64, 3 * plane);
	p->padded = aligned_alloc(64, 3 * (size_t)p->pitch * sizeof(float));
	p->row = aligned_alloc(64, 3 * (size_t)p->pitch * sizeof(float));
	p->kernel = aligned_alloc(64, (size_t)p->pitch * sizeof(float));
	if (!p->planes || !p->padded || !p->row || !p->kernel) {
		wl_err_nomem(err, "the augmentation planes", 3 * plane);
		wl_pixels_free(p);
		return NULL;
	}
	/* What lies behind a row's end is computed along and thrown away: it must be finite. */
	memset(p->planes, 0, 3 * plane);
	memset(p->padded, 0, 3 * (size_t)p->pitch * sizeof(float));
	return p;
}

void wl_pixels_free(struct wl_pixels *p)
{
	if (!p)
		return;
	free(p->planes);
	free(p->padded);
	free(p->row);
	free(p->kernel);
	free(p);
}

int wl_blur_kernel(float sigma, int side, float *kernel)
{
	double sum = 0, s = sigma;
	int r = (int)ceil(3 * s), k;

	r = r < side - 1 ? r : side - 1;
	for (k = 0; k <= r; k++)
		sum += (k ? 2 : 1) * exp(-0.5 * (k / s) * (k / s));
	for (k = 0; k <= r; k++)
		kernel[k] = (float)(exp(-0.5 * (k / s) * (k / s)) / sum);
	return r;
}

void wl_pixels_begin(struct wl_pixels *p, const struct wl_augment_params *params,
	const float mean[3], const float std[3], float *out)
{
	int i;

	p->params = params;
	p->out = out;
	p->next = 0;
	p->luma = 0;
	p->contrast_at = -1;
	for (i = 0; i < WL_JITTER_PARTS; i++)
		if (params->order[i] == WL_CONTRAST)
			p->contrast_at = i;
	p->radius = -1;
	if (params->blur_sigma > 0)
		p->radius = wl_blur_kernel(params->blur_sigma, p->side, p->kernel);
	for (i = 0; i < 3; i++) {
		p->scale[i] = 1.0f / std[i];
		p->shift[i] = mean[i] / std[i];
	}
}

static void blend_row(float *restrict v, float base, float f, int n)
{
	for (int i = 0; i < n; i++)
		v[i] = wl_aug_blend(v[i], base, f);
}

static void saturate_row(float *restrict r, float *restrict g, float *restrict b, float f, int n)
{
	for (int i = 0; i < n; i++)
		wl_aug_saturate(&r[i], &g[i], &b[i], f);
}

static void hue_row(float *restrict r, float *restrict g, float *restrict b, float f, int n)
{
	for (int i = 0; i < n; i++)
		wl_aug_hue(&r[i], &g[i], &b[i], f);
}

static void grey_row(float *restrict r, float *restrict g, float *restrict b, int n)
{
	for (int i = 0; i < n; i++)
		r[i] = g[i] = b[i] = wl_aug_luma(r[i], g[i], b[i]);
}

static double luma_sum(const float *restrict r, const float *restrict g, const float *restrict b,
	int n)
{
	float lane[LANES] = {0};
	double sum = 0;
	int i, j;

	for (i = 0; i + LANES <= n; i += LANES)
		for (j = 0; j < LANES; j++)
			lane[j] += wl_aug_luma(r[i + j], g[i + j], b[i + j]);
	for (j = 0; i + j < n; j++)
		lane[j] += wl_aug_luma(r[i + j], g[i + j], b[i + j]);
	for (j = 0; j < LANES; j++)
		sum += lane[j];
	return sum;
}

static void interleave(const float *restrict r, const float *restrict g, const float *restrict b,
	const float scale[3], const float shift[3], float *restrict out, int n)
{
	const float s0 = scale[0], s1 = scale[1], s2 = scale[2];
	const float t0 = shift[0], t1 = shift[1], t2 = shift[2];

	for (int i = 0; i < n; i++) {
		out[3 * i] = r[i] * s0 - t0;
		out[3 * i + 1] = g[i] * s1 - t1;
		out[3 * i + 2] = b[i] * s2 - t2;
	}
}

/* Runs order[from..to) on one row of planes r, g, b. */
static void jitter_row(const struct wl_pixels *p, float *r, float *g, float *b, int from, int to,
	float mean)
{
	int n = p->side, i;

	for (i = from; i < to; i++) {
		int part = p->params->order[i];
		float f = part < 0 ? 0 : p->params->factor[part];

		switch (part) {
		case WL_BRIGHTNESS:
		case WL_CONTRAST: {
			float base = part == WL_CONTRAST ? mean : 0;

			blend_row(r, base, f, n);
			blend_row(g, base, f, n);
			blend_row(b, base, f, n);
			break;
		}
		case WL_SATURATION:
			saturate_row(r, g, b, f, n);
			break;
		case WL_HUE:
			hue_row(r, g, b, f, n);
			break;
		default:
			break;
		}
	}
}

/* out[i] = sum over k of kernel[|k|] in[i + k] for n elements, rounded up to BLOCK; in has
 * radius elements of context on both sides. */
static void blur_line(const float *restrict in, float *restrict out, int n,
	const float *restrict kernel, int radius)
{
	int i, k, q;

	for (i = 0; i < n; i += BLOCK) {
		v16 acc[4];

		for (q = 0; q < 4; q++)
			acc[q] = *(const v16 *)(const void *)(in + i + 16 * q) * kernel[0];
		for (k = 1; k <= radius; k++)
			for (q = 0; q < 4; q++) {
				const float *c = in + i + 16 * q;
				v16 pair = *(const v16 *)(const void *)(c - k) +
					*(const v16 *)(const void *)(c + k);

				acc[q] += pair * kernel[k];
			}
		for (q = 0; q < 4; q++)
			*(v16 *)(void *)(out + i + 16 * q) = acc[q];
	}
}

static void blur_along(struct wl_pixels *p, float *row)
{
	float *mid = p->padded + p->pitch;
	int n = p->side, r = p->radius, k;

	memcpy(mid, row, (size_t)n * sizeof(float));
	for (k = 1; k <= r; k++) {
		mid[-k] = row[wl_aug_reflect(-k, n)];
		mid[n - 1 + k] = row[wl_aug_reflect(n - 1 + k, n)];
	}
	blur_line(mid, row, n, p->kernel, r);
}

/* One output row from the rows around y of one plane. */
static void blur_across(const struct wl_pixels *p, const float *plane, int y,
	float *restrict out)
{
	size_t pitch = (size_t)p->pitch;
	int i, k, q;

	for (i = 0; i < p->side; i += BLOCK) {
		const float *c = plane + (size_t)y * pitch + i;
		v16 acc[4];

		for (q = 0; q < 4; q++)
			acc[q] = *(const v16 *)(const void *)(c + 16 * q) * p->kernel[0];
		for (k = 1; k <= p->radius; k++) {
			const float *a = plane + (size_t)wl_aug_reflect(y - k, p->side) * pitch + i;
			const float *b = plane + (size_t)wl_aug_reflect(y + k, p->side) * pitch + i;

			for (q = 0; q < 4; q++)
				acc[q] += (*(const v16 *)(const void *)(a + 16 * q) +
					*(const v16 *)(const void *)(b + 16 * q)) * p->kernel[k];
		}
		for (q = 0; q < 4; q++)
			*(v16 *)(void *)(out + i + 16 * q) = acc[q];
	}
}

static void emit(struct wl_pixels *p, const float *r, const float *g, const float *b, int y)
{
	interleave(r, g, b, p->scale, p->shift,
		p->out + (size_t)y * (size_t)p->side * 3, p->side);
}

static float *plane_row(struct wl_pixels *p, int c, int y)
{
	return p->planes + ((size_t)c * (size_t)p->side + (size_t)y) * (size_t)p->pitch;
}

/* What follows when a row's colours are final: graying, then blur's first half or out. */
static void colours_done(struct wl_pixels *p, float *r, float *g, float *b, int y)
{
	if (p->params->grey)
		grey_row(r, g, b, p->side);
	if (p->radius < 0) {
		emit(p, r, g, b, y);
		return;
	}
	blur_along(p, r);
	blur_along(p, g);
	blur_along(p, b);
}

void wl_pixels_row(struct wl_pixels *p, const float *const rgb[3])
{
	bool keep = p->contrast_at >= 0 || p->radius >= 0;
	size_t bytes = (size_t)p->side * sizeof(float);
	int y = p->next++, c;
	float *v[3];

	if (!keep && p->params->order[0] < 0 && !p->params->grey) {
		emit(p, rgb[0], rgb[1], rgb[2], y);
		return;
	}
	for (c = 0; c < 3; c++) {
		v[c] = keep ? plane_row(p, c, y) : p->row + (size_t)c * (size_t)p->pitch;
		memcpy(v[c], rgb[c], bytes);
	}
	if (p->contrast_at >= 0) {
		jitter_row(p, v[0], v[1], v[2], 0, p->contrast_at, 0);
		p->luma += luma_sum(v[0], v[1], v[2], p->side);
		return;
	}
	jitter_row(p, v[0], v[1], v[2], 0, WL_JITTER_PARTS, 0);
	colours_done(p, v[0], v[1], v[2], y);
}

void wl_pixels_finish(struct wl_pixels *p)
{
	float mean = (float)(p->luma / ((double)p->side * p->side));
	size_t pitch = (size_t)p->pitch, plane = pitch * (size_t)p->side;
	int y, c;

	WL_ASSERT(p->next == p->side);
	if (p->contrast_at >= 0)
		for (y = 0; y < p->side; y++) {
			float *r = plane_row(p, 0, y), *g = plane_row(p, 1, y);
			float *b = plane_row(p, 2, y);

			jitter_row(p, r, g, b, p->contrast_at, WL_JITTER_PARTS, mean);
			colours_done(p, r, g, b, y);
		}
	if (p->radius < 0)
		return;
	for (y = 0; y < p->side; y++) {
		for (c = 0; c < 3; c++)
			blur_across(p, p->planes + (size_t)c * plane, y,
				p->row + (size_t)c * pitch);
		emit(p, p->row, p->row + pitch, p->row + 2 * pitch, y);
	}
}
