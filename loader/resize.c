/*
 * Two filters (columns, rows) are tabulated per picture: start and weights.  Down the columns
 * all taps of 16 pixels are summed in registers, converting bytes to floats on the way; along
 * the rows a pixel is a vector of four floats (RGBX), so that no gather is needed.
 */
#include "loader/resize.h"

#include "loader/augment_formula.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { ROWS_AT_ONCE = 8 }; /* rows asked of the source in one call */

/* Vectors as the compiler's own types: one instruction where the machine has 512 bits, four
 * where it has 128, the same sums in the same order everywhere. */
typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));

/* acc += w * the 16 bytes at p.  GCC 12 widens bytes to floats one by one when asked in its
 * own types, hence the intrinsics. */
static inline void add_bytes(v16 *acc, const uint8_t *p, float w)
{
#ifdef __AVX512F__
	__m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);

	*acc += (v16)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)) * w;
#else
	float f[16];

	for (int k = 0; k < 16; k++)
		f[k] = p[k];
	*acc += *(const v16 *)(const void *)f * w;
#endif
}

struct filter {
	int taps;      /* weights an output pixel, shorter ones padded with 0 */
	int *start;    /* [side] first source pixel */
	float *weight; /* [side, taps] */
	size_t cap;    /* bytes of weight */
};

struct wl_resizer {
	int side;
	struct filter fx, fy;
	uint8_t *ring; /* [ring_rows, pitch] the source rows still needed */
	size_t ring_cap;
	float *line; /* [width + taps, 4] one combined row, zeros behind it */
	size_t line_cap;
	const uint8_t **row; /* [fy.taps] */
	size_t row_cap;
	float *spread; /* [side, groups of four taps, 16] the columns' weights */
	size_t spread_cap;
	float *out; /* [side, 4] */
};

struct wl_resizer *wl_resizer_new(int side, struct wl_err *err)
{
	struct wl_resizer *r = calloc(1, sizeof(*r));

	if (r) {
		r->side = side;
		/* Three more columns, read at pixel 0, make whole groups of four. */
		r->fx.start = calloc((size_t)side + 3, sizeof(int));
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
	free(r->row);
	free(r->spread);
	free(r->out);
	free(r);
}

/* mem, or a fresh zeroed block in its place when it is too small (the contents are not kept);
 * NULL with *cap 0 when there is no memory. */
static void *grow(void *mem, size_t *cap, size_t need, struct wl_err *err)
{
	if (*cap >= need)
		return mem;
	need = (need + need / 4 + 63) / 64 * 64;
	free(mem);
	mem = aligned_alloc(64, need);
	*cap = mem ? need : 0;
	if (!mem)
		wl_err_nomem(err, "the resizer's buffers", need);
	else
		memset(mem, 0, need);
	return mem;
}

/* The source pixels [*a, *b) that output pixel i combines, and what its weights sum to before
 * they are normalised.  Pixels outside lo..hi are not touched, as if the crop had been cut out
 * first. */
static double taps_of(int i, double off, double scale, int lo, int hi, int *a, int *b)
{
	double support = scale > 1 ? scale : 1, centre = off + scale * (i + 0.5), sum = 0;
	int j;

	*a = (int)floor(centre - support + 0.5);
	*b = (int)floor(centre + support + 0.5);
	*a = *a < lo ? lo : *a;
	*b = *b > hi ? hi : *b;
	/* The outermost pixels may lie just where the triangle has come down to 0. */
	while (*b - *a > 1 && wl_aug_triangle((*b - 0.5 - centre) / support) <= 0)
		--*b;
	while (*b - *a > 1 && wl_aug_triangle((*a + 0.5 - centre) / support) <= 0)
		++*a;
	if (*a >= *b) { /* a crop narrower than a pixel: the nearest one */
		*a = *a > hi - 1 ? hi - 1 : *a;
		*b = *a + 1;
	}
	for (j = *a; j < *b; j++)
		sum += wl_aug_triangle((j + 0.5 - centre) / support);
	return sum;
}

/* Tabulates n output pixels over [off, off + len) of `size` source pixels.  total: what the
 * weights of a pixel sum to.  flip: from the last to the first. */
static int build_filter(struct filter *f, int n, double off, double len, int size, double total,
	bool flip, struct wl_err *err)
{
	double scale = len / n, support = scale > 1 ? scale : 1, inv = 1 / support;
	int lo = (int)floor(off + 1e-9), hi = (int)ceil(off + len - 1e-9), i, j, a, b;

	lo = lo < 0 ? 0 : lo;
	hi = hi > size ? size : hi;
	f->taps = 1;
	for (i = 0; i < n; i++) {
		taps_of(i, off, scale, lo, hi, &a, &b);
		f->taps = b - a > f->taps ? b - a : f->taps;
	}
	f->weight = grow(f->weight, &f->cap, (size_t)n * (size_t)f->taps * sizeof(float), err);
	if (!f->weight)
		return -1;
	for (i = 0; i < n; i++) {
		int at = flip ? n - 1 - i : i;
		float *weight = f->weight + (size_t)at * (size_t)f->taps;
		double sum = taps_of(i, off, scale, lo, hi, &a, &b);
		double centre = off + scale * (i + 0.5);

		f->start[at] = a;
		for (j = 0; j < f->taps; j++) {
			double t = wl_aug_triangle((a + j + 0.5 - centre) * inv);

			t = sum > 0 ? t / sum : 1;
			weight[j] = j < b - a ? (float)(t * total) : 0;
		}
	}
	return 0;
}

/* line[0..16 * 4) = sum over taps of w[j] row[j][x..x+64); inlined with a constant number of
 * taps, the sums stay in registers and the loop over taps goes away. */
static inline __attribute__((always_inline)) void combine_taps(float *line,
	const uint8_t *const *row, const float *w, int taps, size_t bytes)
{
	size_t x;
	int j;

	for (x = 0; x < bytes; x += 64, line += 64) {
		v16 *out = (v16 *)(void *)line;
		v16 a = {0}, b = {0}, c = {0}, d = {0};

		for (j = 0; j < taps; j++) {
			const uint8_t *p = row[j] + x;

			add_bytes(&a, p, w[j]);
			add_bytes(&b, p + 16, w[j]);
			add_bytes(&c, p + 32, w[j]);
			add_bytes(&d, p + 48, w[j]);
		}
		out[0] = a;
		out[1] = b;
		out[2] = c;
		out[3] = d;
	}
}

/* Output row y from the ring into r->line.  In training a crop is never more than twice the
 * output (the DCT scales down before), which makes at most four taps. */
static void combine_rows(struct wl_resizer *r, int y, int taps, int ring_rows, size_t pitch)
{
	const float *w = r->fy.weight + (size_t)y * (size_t)r->fy.taps;
	int j;

	for (j = 0; j < taps; j++)
		r->row[j] = r->ring + (size_t)((r->fy.start[y] + j) % ring_rows) * pitch;
	switch (taps) {
	case 1:
		combine_taps(r->line, r->row, w, 1, pitch);
		break;
	case 2:
		combine_taps(r->line, r->row, w, 2, pitch);
		break;
	case 3:
		combine_taps(r->line, r->row, w, 3, pitch);
		break;
	case 4:
		combine_taps(r->line, r->row, w, 4, pitch);
		break;
	default:
		combine_taps(r->line, r->row, w, taps, pitch);
	}
}

/* Four taps are one vector: the weights of each repeated for the four channels. */
static void spread_weights(struct wl_resizer *r)
{
	int n = r->side, taps = r->fx.taps, groups = (taps + 3) / 4, i, j, k;

	for (i = 0; i < n; i++) {
		const float *w = r->fx.weight + (size_t)i * (size_t)taps;
		float *out = r->spread + (size_t)i * (size_t)groups * 16;

		for (j = 0; j < groups * 4; j++)
			for (k = 0; k < 4; k++)
				out[4 * j + k] = j < taps ? w[j] : 0;
	}
}

/* Two of the four quads of a and two of b, as one instruction picks them. */
#define QUADS(a, b, p, q) __builtin_shufflevector(a, b, 4 * (p), 4 * (p) + 1, 4 * (p) + 2, \
	4 * (p) + 3, 4 * (q), 4 * (q) + 1, 4 * (q) + 2, 4 * (q) + 3, 16 + 4 * (p), 17 + 4 * (p), \
	18 + 4 * (p), 19 + 4 * (p), 16 + 4 * (q), 17 + 4 * (q), 18 + 4 * (q), 19 + 4 * (q))

/* Four output pixels at a time: each is a vector of four partial RGBX sums, and adding those
 * up for four pixels together takes six shuffles instead of eight and leaves one vector. */
static inline __attribute__((always_inline)) void combine_groups(const float *line,
	const int *start, const float *spread, int groups, int n, float *to)
{
	const v16 *w = (const v16 *)(const void *)spread;
	v16 *out = (v16 *)(void *)to;
	int i, j, k;

	for (i = 0; i < n; i += 4, w += 4 * groups) {
		v16 s[4], t0, t1;

		for (k = 0; k < 4; k++) {
			const v16 *p = (const v16 *)(const void *)(line + 4 * start[i + k]);

			s[k] = p[0] * w[k * groups];
			for (j = 1; j < groups; j++)
				s[k] += p[j] * w[k * groups + j];
		}
		t0 = QUADS(s[0], s[1], 0, 1) + QUADS(s[0], s[1], 2, 3);
		t1 = QUADS(s[2], s[3], 0, 1) + QUADS(s[2], s[3], 2, 3);
		*out++ = QUADS(t0, t1, 0, 2) + QUADS(t0, t1, 1, 3);
	}
}

static void combine_columns(struct wl_resizer *r)
{
	int groups = (r->fx.taps + 3) / 4;

	if (groups == 1)
		combine_groups(r->line, r->fx.start, r->spread, 1, r->side, r->out);
	else
		combine_groups(r->line, r->fx.start, r->spread, groups, r->side, r->out);
}

static int prepare(struct wl_resizer *r, const struct wl_region *g, bool flip, int *ring_rows,
	size_t *pitch, struct wl_err *err)
{
	size_t groups, line;

	WL_TRY(build_filter(&r->fx, r->side, g->x, g->w, g->width, 1, flip, err));
	WL_TRY(build_filter(&r->fy, r->side, g->y, g->h, g->rows, 1.0 / 255, false,
		err));
	groups = (size_t)(r->fx.taps + 3) / 4;
	*ring_rows = r->fy.taps + ROWS_AT_ONCE;
	*pitch = ((size_t)g->width * 4 + 63) / 64 * 64;
	line = (*pitch + groups * 16) * sizeof(float);
	r->ring = grow(r->ring, &r->ring_cap, (size_t)*ring_rows * *pitch, err);
	r->line = grow(r->line, &r->line_cap, line, err);
	r->row = grow(r->row, &r->row_cap, (size_t)r->fy.taps * sizeof(*r->row), err);
	r->spread = grow(r->spread, &r->spread_cap, (size_t)(r->side + 3) * groups * 64, err);
	if (!r->ring || !r->line || !r->row || !r->spread)
		return -1;
	spread_weights(r);
	/* Padding taps have weight 0, but what they read must be finite. */
	memset(r->line + *pitch, 0, line - *pitch * sizeof(float));
	return 0;
}

int wl_resizer_run(struct wl_resizer *r, const struct wl_region *g, bool flip, wl_rows_fn *rows,
	void *source, wl_emit_fn *emit, void *sink, struct wl_err *err)
{
	uint8_t *dst[ROWS_AT_ONCE];
	int have = 0, ring_rows, y, k;
	size_t pitch;

	WL_TRY(prepare(r, g, flip, &ring_rows, &pitch, err));
	for (y = 0; y < r->side; y++) {
		int taps = r->fy.taps;
		const float *w = r->fy.weight + (size_t)y * (size_t)taps;

		while (taps > 1 && w[taps - 1] == 0)
			taps--;
		while (have < r->fy.start[y] + taps) {
			int n = g->rows - have < ROWS_AT_ONCE ? g->rows - have : ROWS_AT_ONCE;

			for (k = 0; k < n; k++)
				dst[k] = r->ring + (size_t)((have + k) % ring_rows) * pitch;
			WL_TRY(rows(source, dst, n, err));
			have += n;
		}
		combine_rows(r, y, taps, ring_rows, pitch);
		combine_columns(r);
		emit(sink, y, r->out);
	}
	return 0;
}
