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
typedef float v4 __attribute__((vector_size(16), may_alias));
typedef float v8 __attribute__((vector_size(32), may_alias));
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

/* Tabulates n output pixels over [off, off + len) of `size` source pixels.  total: what the
 * weights of a pixel sum to.  Pixels outside the interval are not touched, as if the crop
 * had been cut out first. */
static int build_filter(struct filter *f, int n, double off, double len, int size, double total,
	struct wl_err *err)
{
	double scale = len / n, support = scale > 1 ? scale : 1, inv = 1 / support;
	int lo = (int)floor(off + 1e-9), hi = (int)ceil(off + len - 1e-9), i, j;

	lo = lo < 0 ? 0 : lo;
	hi = hi > size ? size : hi;
	f->taps = (int)ceil(2 * support) + 1;
	f->weight = grow(f->weight, &f->cap, (size_t)n * (size_t)f->taps * sizeof(float), err);
	if (!f->weight)
		return -1;
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

/* Output row y from the ring into r->line: 16 pixels at a time, all taps in registers. */
static void combine_rows(struct wl_resizer *r, int y, int taps, int ring_rows, size_t pitch)
{
	const float *weight = r->fy.weight + (size_t)y * (size_t)r->fy.taps;
	int start = r->fy.start[y], j;
	float *line = r->line;
	size_t x;

	for (j = 0; j < taps; j++)
		r->row[j] = r->ring + (size_t)((start + j) % ring_rows) * pitch;
	for (x = 0; x < pitch; x += 64) {
		v16 a = {0}, b = {0}, c = {0}, d = {0};

		for (j = 0; j < taps; j++) {
			const uint8_t *p = r->row[j] + x;
			float w = weight[j];

			add_bytes(&a, p, w);
			add_bytes(&b, p + 16, w);
			add_bytes(&c, p + 32, w);
			add_bytes(&d, p + 48, w);
		}
		((v16 *)(void *)(line + x))[0] = a;
		((v16 *)(void *)(line + x))[1] = b;
		((v16 *)(void *)(line + x))[2] = c;
		((v16 *)(void *)(line + x))[3] = d;
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

static void combine_columns(struct wl_resizer *r, bool flip)
{
	v4 *out = (v4 *)(void *)r->out;
	int n = r->side, groups = (r->fx.taps + 3) / 4, i, j;
	const v16 *w = (const v16 *)(const void *)r->spread;

	for (i = 0; i < n; i++) {
		const v16 *p = (const v16 *)(const void *)(r->line + 4 * r->fx.start[i]);
		v16 sum = p[0] * w[0];
		v8 half;

		for (j = 1; j < groups; j++)
			sum += p[j] * w[j];
		w += groups;
		half = __builtin_shufflevector(sum, sum, 0, 1, 2, 3, 4, 5, 6, 7) +
			__builtin_shufflevector(sum, sum, 8, 9, 10, 11, 12, 13, 14, 15);
		out[flip ? n - 1 - i : i] = __builtin_shufflevector(half, half, 0, 1, 2, 3) +
			__builtin_shufflevector(half, half, 4, 5, 6, 7);
	}
}

static int prepare(struct wl_resizer *r, const struct wl_region *g, int *ring_rows,
	size_t *pitch, struct wl_err *err)
{
	size_t groups, line;

	WL_TRY(build_filter(&r->fx, r->side, g->x, g->w, g->width, 1, err));
	WL_TRY(build_filter(&r->fy, r->side, g->y, g->h, g->rows, 1.0 / 255, err));
	groups = (size_t)(r->fx.taps + 3) / 4;
	*ring_rows = r->fy.taps + ROWS_AT_ONCE;
	*pitch = ((size_t)g->width * 4 + 63) / 64 * 64;
	line = (*pitch + groups * 16) * sizeof(float);
	r->ring = grow(r->ring, &r->ring_cap, (size_t)*ring_rows * *pitch, err);
	r->line = grow(r->line, &r->line_cap, line, err);
	r->row = grow(r->row, &r->row_cap, (size_t)r->fy.taps * sizeof(*r->row), err);
	r->spread = grow(r->spread, &r->spread_cap, (size_t)r->side * groups * 64, err);
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

	WL_TRY(prepare(r, g, &ring_rows, &pitch, err));
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
		combine_columns(r, flip);
		emit(sink, y, r->out);
	}
	return 0;
}
