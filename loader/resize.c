/*
 * Two filters (columns, rows) are tabulated per picture: start, count, weights.  Down the
 * columns four source rows are combined at a time, converting bytes to floats on the way;
 * along the rows a pixel is one vector of four floats (RGBX), so that no gather is needed.
 */
#include "loader/resize.h"

#include "loader/augment_formula.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_AT_ONCE = 8 }; /* rows asked of the source in one call */

typedef float v4 __attribute__((vector_size(16)));

struct filter {
	int taps;      /* weights an output pixel, shorter ones padded with 0 */
	int *start;    /* [side] first source pixel */
	float *weight; /* [side, taps] */
	size_t cap;    /* floats that weight holds */
};

struct wl_resizer {
	int side;
	struct filter fx, fy;
	uint8_t *ring; /* [ring_rows, pitch] the source rows still needed */
	size_t ring_cap;
	float *line; /* [width + taps, 4] one combined row, zeros behind it */
	size_t line_cap;
	float *out; /* [side, 4] */
};

struct wl_resizer *wl_resizer_new(int side, struct wl_err *err)
{
	struct wl_resizer *r = calloc(1, sizeof(*r));

	if (r) {
		r->side = side;
		r->fx.start = calloc((size_t)side, sizeof(int));
		r->fy.start = calloc((size_t)side, sizeof(int));
		r->out = aligned_alloc(64, ((size_t)side * 16 + 63) / 64 * 64);
	}
	if (!r || !r->fx.start || !r->fy.start || !r->out) {
		wl_err_nomem(err, "the resizer", (size_t)side * 24);
		wl_resizer_free(r);
		return NULL;
	}
	return r;
}

void wl_resizer_free(struct wl_resizer *r)
{
	if (!r)
		return;
	free(r->fx.start);
	free(r->fx.weight);
	free(r->fy.start);
	free(r->fy.weight);
	free(r->ring);
	free(r->line);
	free(r->out);
	free(r);
}

/* A fresh block when the old one is too small; the contents are not kept. */
static int grow(void **mem, size_t *cap, size_t need, const char *what, struct wl_err *err)
{
	if (*cap >= need)
		return 0;
	need = (need + need / 4 + 63) / 64 * 64;
	free(*mem);
	*cap = 0;
	*mem = aligned_alloc(64, need);
	if (!*mem)
		return wl_err_nomem(err, what, need);
	*cap = need;
	return 0;
}

/* Tabulates n output pixels over [off, off + len) of `size` source pixels.  total: what the
 * weights of a pixel sum to.  Pixels outside the interval are not touched, as if the crop
 * had been cut out first. */
static int build_filter(struct filter *f, int n, double off, double len, int size, double total,
	struct wl_err *err)
{
	double scale = len / n, support = scale > 1 ? scale : 1, inv = 1 / support;
	int lo = (int)floor(off + 1e-9), hi = (int)ceil(off + len - 1e-9), i, j, rc;
	void *mem = f->weight;

	lo = lo < 0 ? 0 : lo;
	hi = hi > size ? size : hi;
	f->taps = (int)ceil(2 * support) + 1;
	rc = grow(&mem, &f->cap, (size_t)n * (size_t)f->taps * sizeof(float), "resize weights",
		err);
	f->weight = mem;
	WL_TRY(rc);
	for (i = 0; i < n; i++) {
		double centre = off + scale * (i + 0.5), sum = 0;
		int a = (int)floor(centre - support + 0.5), b = (int)floor(centre + support + 0.5);
		float *weight = f->weight + (size_t)i * (size_t)f->taps;

		a = a < lo ? lo : a;
		b = b > hi ? hi : b;
		if (a >= b) /* a crop narrower than a pixel: the nearest one */
			a = a > hi - 1 ? hi - 1 : a, b = a + 1;
		for (j = 0; j < b - a; j++)
			sum += wl_aug_triangle((a + j - centre + 0.5) * inv);
		f->start[i] = a;
		for (j = 0; j < f->taps; j++) {
			double t = wl_aug_triangle((a + j - centre + 0.5) * inv);

			t = sum > 0 ? t / sum : j == 0;
			weight[j] = j < b - a ? (float)(t * total) : 0;
		}
	}
	return 0;
}

/* line[i] (+)= sum of four rows; add: line holds an earlier part of the sum. */
static void combine4(float *restrict line, const uint8_t *restrict a, const uint8_t *restrict b,
	const uint8_t *restrict c, const uint8_t *restrict d, const float w[4], size_t n, bool add)
{
	const float w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
	size_t i;

	if (add)
		for (i = 0; i < n; i++)
			line[i] += w0 * a[i] + w1 * b[i] + w2 * c[i] + w3 * d[i];
	else
		for (i = 0; i < n; i++)
			line[i] = w0 * a[i] + w1 * b[i] + w2 * c[i] + w3 * d[i];
}

static void combine2(float *restrict line, const uint8_t *restrict a, const uint8_t *restrict b,
	const float w[2], size_t n)
{
	const float w0 = w[0], w1 = w[1];

	for (size_t i = 0; i < n; i++)
		line[i] = w0 * a[i] + w1 * b[i];
}

/* Output row y from the ring into r->line. */
static void combine_rows(struct wl_resizer *r, int y, int ring_rows, size_t pitch, size_t bytes)
{
	int start = r->fy.start[y], taps = r->fy.taps, j, k;
	const float *w = r->fy.weight + (size_t)y * (size_t)taps;

	while (taps > 1 && w[taps - 1] == 0)
		taps--;
	for (j = 0; j < taps; j += 4) {
		const uint8_t *row[4];
		float q[4] = {0};

		for (k = 0; k < 4; k++) {
			int i = j + k < taps ? j + k : taps - 1; /* padding: any valid row */

			row[k] = r->ring + (size_t)((start + i) % ring_rows) * pitch;
			q[k] = j + k < taps ? w[j + k] : 0;
		}
		if (taps <= 2)
			combine2(r->line, row[0], row[1], q, bytes);
		else
			combine4(r->line, row[0], row[1], row[2], row[3], q, bytes, j > 0);
	}
}

static void combine_columns(struct wl_resizer *r, bool flip)
{
	const v4 *line = (const v4 *)(const void *)r->line;
	v4 *out = (v4 *)(void *)r->out;
	int n = r->side, taps = r->fx.taps, i, j;

	for (i = 0; i < n; i++) {
		const v4 *p = line + r->fx.start[i];
		const float *w = r->fx.weight + (size_t)i * (size_t)taps;
		v4 sum = p[0] * w[0] + p[1] * w[1] + p[2] * w[2];

		for (j = 3; j < taps; j++)
			sum += p[j] * w[j];
		out[flip ? n - 1 - i : i] = sum;
	}
}

static int prepare(struct wl_resizer *r, const struct wl_region *g, int *ring_rows,
	size_t *pitch, struct wl_err *err)
{
	size_t line_bytes;
	void *mem;
	int rc;

	WL_TRY(build_filter(&r->fx, r->side, g->x, g->w, g->width, 1, err));
	WL_TRY(build_filter(&r->fy, r->side, g->y, g->h, g->rows, 1.0 / 255, err));
	*ring_rows = r->fy.taps + ROWS_AT_ONCE;
	*pitch = ((size_t)g->width * 4 + 63) / 64 * 64;
	mem = r->ring;
	rc = grow(&mem, &r->ring_cap, (size_t)*ring_rows * *pitch, "resize rows", err);
	r->ring = mem;
	WL_TRY(rc);
	line_bytes = ((size_t)g->width + (size_t)r->fx.taps) * sizeof(v4);
	mem = r->line;
	rc = grow(&mem, &r->line_cap, line_bytes, "resize line", err);
	r->line = mem;
	WL_TRY(rc);
	/* Padding taps have weight 0, but what they read must be finite. */
	memset(r->line, 0, line_bytes);
	return 0;
}

int wl_resizer_run(struct wl_resizer *r, const struct wl_region *g, bool flip, wl_rows_fn *rows,
	void *source, wl_emit_fn *emit, void *sink, struct wl_err *err)
{
	uint8_t *dst[ROWS_AT_ONCE];
	int have = 0, ring_rows, y, k;
	size_t pitch;

	WL_TRY(prepare(r, g, &ring_rows, &pitch, err));
	for (y = 0; y < r->side; y++) {
		int taps = r->fy.taps, need;
		const float *w = r->fy.weight + (size_t)y * (size_t)taps;

		while (taps > 1 && w[taps - 1] == 0)
			taps--;
		need = r->fy.start[y] + taps;
		while (have < need) {
			int n = g->rows - have < ROWS_AT_ONCE ? g->rows - have : ROWS_AT_ONCE;

			for (k = 0; k < n; k++)
				dst[k] = r->ring + (size_t)((have + k) % ring_rows) * pitch;
			WL_TRY(rows(source, dst, n, err));
			have += n;
		}
		combine_rows(r, y, ring_rows, pitch, (size_t)g->width * 4);
		combine_columns(r, flip);
		emit(sink, y, r->out);
	}
	return 0;
}
