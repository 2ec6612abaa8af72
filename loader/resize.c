/*
 * Down the columns, all taps of 16 samples are summed in registers, bytes becoming floats on
 * the way, and only for the columns that the crop uses.  Along the row, 16 output pixels at a
 * time: their samples lie within 32 floats when the picture shrinks to no less than 0.55 (in
 * training the DCT has scaled down before), so a two-register permutation fetches a tap of all
 * 16; where they lie wider apart the fetch is one by one, and the sums are the same.
 *
 * A plane that has fewer rows than the picture (all at 600 px, chroma nearly always) goes the
 * other way round, along the row first: that is the dearer half, and so it is done once for a row
 * of the source instead of once for a row of the picture.
 */
#include "loader/resize.h"

#include "loader/filter.h"
#include "loader/mix.h"

#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { LANES = WL_FILTER_LANES, CHUNK = 64 /* bytes that a column pass takes at once */ };

/* Vectors as the compiler's own types: one instruction where the machine has 512 bits, four
 * where it has 128, the same sums in the same order everywhere. */
typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int v16i __attribute__((vector_size(64), aligned(4), may_alias));
/* They are never in the interface of a function that another file calls. */
#pragma GCC diagnostic ignored "-Wpsabi"

/* acc += w * the 16 bytes at p.  GCC 12 widens bytes to floats one by one when asked in its
 * own types, hence the intrinsics. */
static inline void add_bytes(v16 *acc, const uint8_t *p, float w)
{
#ifdef __AVX512F__
	__m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);

	*acc += (v16)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)) * w;
#else
	float f[LANES];

	for (int k = 0; k < LANES; k++)
		f[k] = p[k];
	*acc += *(const v16 *)(const void *)f * w;
#endif
}

/* One plane's state while a picture passes. */
struct lane {
	struct wl_filter fx, fy;
	const struct wl_filter *x, *y; /* fx, fy, or those of the plane before */
	float *spread;                 /* [side / 16, taps, 16]: x's weights, pixel by pixel */
	int32_t *offset;               /* [side / 16, 16]: samples from the block's first one */
	int32_t *base;                 /* [side / 16]: the block's first sample, or -1: too wide */
	const float *spread_used;      /* as with x: this plane's or the one's before */
	const int32_t *offset_used, *base_used;
	size_t spread_cap, offset_cap, base_cap;
	uint8_t *ring; /* [ring_rows, pitch] the source rows still needed */
	size_t ring_cap, pitch;
	int left;            /* the column that rows in it begin with */
	int ring_rows, have; /* have: rows that came, counted from the plane's top */
	uint8_t **strip;     /* [strip rows] where the next strip goes */
	size_t strip_cap;
	float *line; /* one combined row, finite numbers behind it */
	size_t line_cap;
	bool across_first; /* along the row before down the columns */
	float *wide;       /* [wide_rows, side rounded up to 16] rows that went along already */
	size_t wide_cap;
	int wide_rows, wide_have; /* wide_have: as have */
	const float **mix_row;    /* [taps down, or 1] what finish_row combines */
	size_t mix_row_cap;
	float *out; /* [side, rounded up to 16] */
};

struct wl_resizer {
	int side, blocks;
	struct lane lane[WL_PLANES_MAX];
	const uint8_t **row; /* [taps down] */
	size_t row_cap;
};

struct wl_resizer *wl_resizer_new(int side, struct wl_err *err)
{
	struct wl_resizer *r = calloc(1, sizeof(*r));
	int p;

	if (!r) {
		wl_err_nomem(err, "the resizer", sizeof(*r));
		return NULL;
	}
	r->side = side;
	r->blocks = (side + LANES - 1) / LANES;
	for (p = 0; p < WL_PLANES_MAX; p++) {
		struct lane *l = &r->lane[p];
		size_t cap = 0;

		l->out = wl_filter_grow(NULL, &cap, (size_t)r->blocks * LANES * sizeof(float), err);
		if (!l->out) {
			wl_resizer_free(r);
			return NULL;
		}
	}
	return r;
}

void wl_resizer_free(struct wl_resizer *r)
{
	int p;

	if (!r)
		return;
	for (p = 0; p < WL_PLANES_MAX; p++) {
		struct lane *l = &r->lane[p];

		wl_filter_release(&l->fx);
		wl_filter_release(&l->fy);
		free(l->spread);
		free(l->offset);
		free(l->base);
		free(l->ring);
		free(l->strip);
		free(l->line);
		free(l->wide);
		free(l->mix_row);
		free(l->out);
	}
	free(r->row);
	free(r);
}

/* Weights of output pixel i without the zeros that fill up. */
static int taps_of(const struct wl_filter *f, int i)
{
	const float *w = f->weight + (size_t)i * (size_t)f->taps;
	int taps = f->taps;

	while (taps > 1 && w[taps - 1] == 0)
		taps--;
	return taps;
}

/* ---- down the columns ---- */

/* line[0 .. bytes) = sum over taps of w[j] row[j][..]; inlined with a constant number of taps,
 * the sums stay in registers and the loop over taps goes away. */
static inline __attribute__((always_inline)) void combine_taps(float *line,
	const uint8_t *const *row, const float *w, int taps, size_t bytes)
{
	size_t x;
	int j;

	for (x = 0; x < bytes; x += CHUNK, line += CHUNK) {
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

/* Column x.lo of row i of the plane. */
static const uint8_t *source_row(const struct lane *l, int i)
{
	return l->ring + (size_t)(i % l->ring_rows) * l->pitch + (l->x->lo - l->left);
}

/* Columns x.lo .. x.hi of output row y into l->line, which starts with column x.lo. */
static void combine_rows(struct wl_resizer *r, const struct lane *l, int y)
{
	const float *w = l->y->weight + (size_t)y * (size_t)l->y->taps;
	size_t bytes = (size_t)(l->x->hi - l->x->lo);
	int taps = taps_of(l->y, y), j;

	for (j = 0; j < taps; j++)
		r->row[j] = source_row(l, l->y->start[y] + j);
	switch (taps) {
	case 1:
		combine_taps(l->line, r->row, w, 1, bytes);
		break;
	case 2:
		combine_taps(l->line, r->row, w, 2, bytes);
		break;
	case 3:
		combine_taps(l->line, r->row, w, 3, bytes);
		break;
	case 4:
		combine_taps(l->line, r->row, w, 4, bytes);
		break;
	default:
		combine_taps(l->line, r->row, w, taps, bytes);
	}
}

/* ---- along the row ---- */

/* 16 pixels whose samples at tap 0 are line[offset[..]]. */
static inline v16 fetch_wide(const float *line, const int32_t *offset, const float *w, int taps)
{
	v16 sum = {0};
	int j, k;

	for (j = 0; j < taps; j++) {
		float got[LANES];

		for (k = 0; k < LANES; k++)
			got[k] = line[offset[k] + j];
		sum += *(const v16 *)(const void *)got * ((const v16 *)(const void *)w)[j];
	}
	return sum;
}

/* The same where all samples of all taps lie within line[0 .. 32): loaded once. */
static inline __attribute__((always_inline)) v16 fetch_near(const float *line,
	const int32_t *offset, const float *w, int taps)
{
#ifdef __AVX512F__
	__m512 a = _mm512_loadu_ps(line), b = _mm512_loadu_ps(line + LANES);
	__m512i at = _mm512_loadu_si512(offset);
	v16 sum = {0};
	int j;

	for (j = 0; j < taps; j++) {
		sum += (v16)_mm512_permutex2var_ps(a, at, b) * ((const v16 *)(const void *)w)[j];
		at = _mm512_add_epi32(at, _mm512_set1_epi32(1));
	}
	return sum;
#else
	return fetch_wide(line, offset, w, taps);
#endif
}

static inline __attribute__((always_inline)) void combine_blocks(const struct lane *l,
	const float *line, float *to, int blocks, int taps)
{
	int b;

	for (b = 0; b < blocks; b++) {
		const float *w = l->spread_used + (size_t)b * (size_t)taps * LANES;
		const int32_t *offset = l->offset_used + b * LANES;
		v16 *out = (v16 *)(void *)(to + b * LANES);

		*out = l->base_used[b] >= 0 ? fetch_near(line + l->base_used[b], offset, w, taps)
					    : fetch_wide(line, offset, w, taps);
	}
}

/* l->line along the row into out[0 .. side, rounded up to 16). */
static void combine_columns(const struct wl_resizer *r, const struct lane *l, float *out)
{
	switch (l->x->taps) {
	case 2:
		combine_blocks(l, l->line, out, r->blocks, 2);
		break;
	case 3:
		combine_blocks(l, l->line, out, r->blocks, 3);
		break;
	case 4:
		combine_blocks(l, l->line, out, r->blocks, 4);
		break;
	default:
		combine_blocks(l, l->line, out, r->blocks, l->x->taps);
	}
}

/* ---- along the row first ---- */

static float *wide_row(const struct wl_resizer *r, const struct lane *l, int i)
{
	return l->wide + (size_t)(i % l->wide_rows) * (size_t)r->blocks * LANES;
}

/* Takes rows of the source along until output row y has all of its own, a row of each plane at a
 * time: a load that spans two stores which have not left the store buffer waits for both, so the
 * floats of all planes are written before those of the first are read. */
static void widen(struct wl_resizer *r, int planes, int y)
{
	const float one = 1;
	bool turn[WL_PLANES_MAX], any = true;
	int p;

	while (any) {
		any = false;
		for (p = 0; p < planes; p++) {
			struct lane *l = &r->lane[p];
			const uint8_t *row;

			turn[p] = l->across_first &&
				l->wide_have < l->y->start[y] + taps_of(l->y, y);
			if (!turn[p])
				continue;
			row = source_row(l, l->wide_have);
			combine_taps(l->line, &row, &one, 1, (size_t)(l->x->hi - l->x->lo));
			any = true;
		}
		for (p = 0; p < planes; p++) {
			struct lane *l = &r->lane[p];

			if (turn[p])
				combine_columns(r, l, wide_row(r, l, l->wide_have++));
		}
	}
}

/* ---- planes to colours ---- */

/* Rows of one plane that make up output row y, and their weights: those that went along, or the
 * finished one.  Filling weights are 0, and what then is read is an older row, finite. */
static void mix_of(struct wl_resizer *r, int p, int y, struct wl_mix *m)
{
	static const float whole = 1;
	struct lane *l = &r->lane[p];
	int j;

	*m = (struct wl_mix){l->mix_row, &whole, 1, l->out};
	l->mix_row[0] = l->out;
	if (!l->across_first)
		return;
	m->w = l->y->weight + (size_t)y * (size_t)l->y->taps;
	m->taps = l->y->taps;
	for (j = 0; j < m->taps; j++)
		l->mix_row[j] = wide_row(r, l, l->y->start[y] + j);
}

/* The finished colours of output row y, from planes that went along first and others. */
static void finish_row(struct wl_resizer *r, const struct wl_region *g, int y)
{
	struct wl_mix m[WL_PLANES_MAX];
	int p;

	for (p = 0; p < g->planes; p++)
		mix_of(r, p, y, &m[p]);
	wl_mix(m, g->planes, g->ycc, r->blocks * LANES);
}

/* The weights of 16 pixels side by side, and where their samples lie. */
static int spread_weights(struct lane *l, int blocks, struct wl_err *err)
{
	const struct wl_filter *f = &l->fx;
	size_t lanes = (size_t)blocks * LANES, taps = (size_t)f->taps;
	int b, j, k;

	l->spread = wl_filter_grow(l->spread, &l->spread_cap, lanes * taps * sizeof(float), err);
	l->offset = wl_filter_grow(l->offset, &l->offset_cap, lanes * sizeof(int32_t), err);
	l->base = wl_filter_grow(l->base, &l->base_cap, (size_t)blocks * sizeof(int32_t), err);
	if (!l->spread || !l->offset || !l->base)
		return -1;
	for (b = 0; b < blocks; b++) {
		const int *start = f->start + b * LANES;
		int first = start[0] < start[LANES - 1] ? start[0] : start[LANES - 1];
		int last = start[0] < start[LANES - 1] ? start[LANES - 1] : start[0];
		bool near = last - first + f->taps <= 2 * LANES;

		l->base[b] = near ? first - f->lo : -1;
		for (k = 0; k < LANES; k++) {
			int i = b * LANES + k;

			l->offset[i] = start[k] - (near ? first : f->lo);
			for (j = 0; j < f->taps; j++)
				l->spread[((size_t)b * taps + (size_t)j) * LANES + (size_t)k] =
					i < f->n ? f->weight[(size_t)i * taps + (size_t)j] : 0;
		}
	}
	return 0;
}

/* ---- a picture ---- */

/* Pixels of the picture that plane 0, which is never subsampled less than others, tells. */
static int pixels_across(const struct wl_region *g)
{
	return g->plane[0].width * g->plane[0].h;
}

static int pixels_down(const struct wl_region *g)
{
	return g->plane[0].height * g->plane[0].v;
}

static bool same_shape(const struct wl_plane *a, const struct wl_plane *b)
{
	return a->width == b->width && a->height == b->height && a->h == b->h && a->v == b->v &&
		a->smooth_x == b->smooth_x && a->smooth_y == b->smooth_y;
}

static int build_filters(struct wl_resizer *r, const struct wl_region *g, int p, bool flip,
	struct wl_err *err)
{
	const struct wl_plane *s = &g->plane[p];
	const struct wl_sampling across = {s->width, s->h, s->smooth_x};
	const struct wl_sampling down = {s->height, s->v, s->smooth_y};
	struct lane *l = &r->lane[p];
	const struct lane *before = l - 1;

	if (p > 0 && same_shape(s, s - 1)) {
		l->x = before->x;
		l->y = before->y;
		l->spread_used = before->spread_used;
		l->offset_used = before->offset_used;
		l->base_used = before->base_used;
		return 0;
	}
	WL_TRY(wl_filter_build(&l->fx, r->side, g->x, g->w, pixels_across(g), &across, 1, flip,
		err));
	WL_TRY(wl_filter_build(&l->fy, r->side, g->y, g->h, pixels_down(g), &down, 1.0 / 255,
		false, err));
	WL_TRY(spread_weights(l, r->blocks, err));
	l->x = &l->fx;
	l->y = &l->fy;
	l->spread_used = l->spread;
	l->offset_used = l->offset;
	l->base_used = l->base;
	return 0;
}

/* Room for the rows that the filter looks at, the strip that comes, and the one that another
 * plane asked for before this one was done with its own. */
static int prepare_ring(struct lane *l, const struct wl_plane *s, struct wl_err *err)
{
	l->ring_rows = l->y->taps + 2 * s->strip + 2;
	l->pitch = ((size_t)s->stride + CHUNK - 1) / CHUNK * CHUNK;
	l->ring = wl_filter_grow(l->ring, &l->ring_cap,
		(size_t)l->ring_rows * l->pitch + CHUNK, err);
	l->strip = wl_filter_grow(l->strip, &l->strip_cap, (size_t)s->strip * sizeof(*l->strip),
		err);
	l->have = s->first;
	l->left = s->left;
	WL_ASSERT(l->left <= l->x->lo && l->x->hi - l->left <= s->stride);
	return l->ring && l->strip ? 0 : -1;
}

/* Room for the rows that went along, where that comes first. */
static int prepare_wide(struct wl_resizer *r, struct lane *l, struct wl_err *err)
{
	l->mix_row = wl_filter_grow(l->mix_row, &l->mix_row_cap,
		(size_t)l->y->taps * sizeof(*l->mix_row), err);
	if (!l->mix_row)
		return -1;
	l->across_first = l->y->hi - l->y->lo < r->side;
	if (!l->across_first)
		return 0;
	l->wide_rows = l->y->taps;
	l->wide_have = l->y->start[0];
	l->wide = wl_filter_grow(l->wide, &l->wide_cap,
		(size_t)l->wide_rows * (size_t)r->blocks * LANES * sizeof(float), err);
	return l->wide ? 0 : -1;
}

static int prepare(struct wl_resizer *r, const struct wl_region *g, bool flip,
	struct wl_err *err)
{
	size_t down = 0, n;
	int p;

	for (p = 0; p < g->planes; p++) {
		struct lane *l = &r->lane[p];

		WL_TRY(build_filters(r, g, p, flip, err));
		WL_TRY(prepare_ring(l, &g->plane[p], err));
		WL_TRY(prepare_wide(r, l, err));
		/* Taps of weight 0 and a permutation's second half read on behind the row: what an
		 * earlier, longer one left there is finite. */
		n = (size_t)(l->x->hi - l->x->lo + CHUNK + l->x->taps + 2 * LANES);
		l->line = wl_filter_grow(l->line, &l->line_cap, n * sizeof(float), err);
		if (!l->line)
			return -1;
		down = (size_t)l->y->taps > down ? (size_t)l->y->taps : down;
	}
	r->row = wl_filter_grow(r->row, &r->row_cap, down * sizeof(*r->row), err);
	return r->row ? 0 : -1;
}

/* Does some plane lack a row that output row y needs? */
static bool lacks(const struct wl_resizer *r, const struct wl_region *g, int y)
{
	int p;

	for (p = 0; p < g->planes; p++) {
		const struct wl_filter *f = r->lane[p].y;

		if (r->lane[p].have < f->start[y] + taps_of(f, y))
			return true;
	}
	return false;
}

static int pull(struct wl_resizer *r, const struct wl_region *g, wl_strip_fn *strips,
	void *source, struct wl_err *err)
{
	uint8_t *const *rows[WL_PLANES_MAX] = {0};
	int p, k;

	for (p = 0; p < g->planes; p++) {
		struct lane *l = &r->lane[p];

		for (k = 0; k < g->plane[p].strip; k++)
			l->strip[k] = l->ring + (size_t)((l->have + k) % l->ring_rows) * l->pitch;
		rows[p] = l->strip;
	}
	WL_TRY(strips(source, rows, err));
	for (p = 0; p < g->planes; p++)
		r->lane[p].have += g->plane[p].strip;
	return 0;
}

int wl_resizer_run(struct wl_resizer *r, const struct wl_region *g, bool flip,
	wl_strip_fn *strips, void *source, wl_emit_fn *emit, void *sink, struct wl_err *err)
{
	const float *rgb[3];
	int y, p;

	WL_ASSERT(g->planes == 1 || g->planes == 3);
	for (p = 0; p < 3; p++)
		rgb[p] = r->lane[g->planes == 3 ? p : 0].out;
	WL_TRY(prepare(r, g, flip, err));
	for (y = 0; y < r->side; y++) {
		while (lacks(r, g, y))
			WL_TRY(pull(r, g, strips, source, err));
		widen(r, g->planes, y);
		for (p = 0; p < g->planes; p++) {
			struct lane *l = &r->lane[p];

			WL_ASSERT(l->have - l->y->start[y] <= l->ring_rows);
			if (!l->across_first)
				combine_rows(r, l, y);
		}
		/* Only now, when the first line has left the store buffer (see widen). */
		for (p = 0; p < g->planes; p++) {
			struct lane *l = &r->lane[p];

			if (!l->across_first)
				combine_columns(r, l, l->out);
		}
		finish_row(r, g, y);
		emit(sink, y, rgb);
	}
	return 0;
}
