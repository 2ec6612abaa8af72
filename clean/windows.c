/* See windows.h. */
#include "clean/windows.h"

#include <stdlib.h>
#include <string.h>

enum {
	SIDE = 32,
	LOW = 8,
	ONE = 1024,	  /* a side, in units of struct wl_rect */
	SMALL_SIDE = 64,  /* a reduced picture's shorter side is at least this, if it can be */
	PLAIN_RANGE = 14, /* grey levels within a plain row or column */
	PLAIN_DRIFT = 8,  /* and between the means of plain ones */
	FLAT = 16 * 5,	  /* standard deviation, in the cells' units */
	TRIM_MAX = 3,	  /* at most 1/3 of a side goes from each end */
};

/* The parts, in 1/1024 of the trimmed picture.  Which ones: measured on the transform set of
 * tests/test_transforms.c. */
static const struct wl_rect PARTS[WL_WINDOWS - WL_WINDOW_PARTS] = {
	/* What a band or a box leaves. */
	{0, 0, 1024, 820},
	{0, 204, 1024, 1024},
	{0, 0, 820, 1024},
	{204, 0, 1024, 1024},
	{0, 0, 1024, 410},
	{0, 614, 1024, 1024},
	/* What crops leave, in order of use. */
	{31, 31, 993, 993},
	{92, 92, 932, 932},
	{61, 61, 963, 963},
	{123, 92, 901, 932},
	{61, 123, 963, 901},
	{31, 61, 993, 993},
	{123, 61, 901, 963},
	{61, 31, 993, 993},
	{31, 123, 901, 993},
	{61, 154, 963, 993},
	{123, 123, 901, 901},
	{31, 61, 901, 901},
	{61, 31, 963, 901},
	{123, 123, 1024, 963},
	{154, 31, 993, 932},
	{123, 31, 993, 870},
	{61, 92, 932, 963},
};

int wl_windows_scale(int width, int height)
{
	int side = width < height ? width : height, by = 8;

	while (by > 1 && side / by < SMALL_SIDE)
		by /= 2;
	return by;
}

int wl_windows_reduce(const struct wl_image *grey, int by, struct wl_image *out, struct wl_err *err)
{
	int w = (grey->width + by - 1) / by, h = (grey->height + by - 1) / by;

	*out = (struct wl_image){w, h, 1, malloc((size_t)w * (size_t)h)};
	if (!out->data)
		return wl_err_nomem(err, "a small picture", (size_t)w * (size_t)h);
	for (int y = 0; y < h; y++) {
		int y1 = (y + 1) * by < grey->height ? (y + 1) * by : grey->height;
		for (int x = 0; x < w; x++) {
			int x1 = (x + 1) * by < grey->width ? (x + 1) * by : grey->width;
			unsigned sum = 0, n = (unsigned)((y1 - y * by) * (x1 - x * by));
			for (int v = y * by; v < y1; v++)
				for (int u = x * by; u < x1; u++)
					sum += grey->data[(size_t)v * grey->width + u];
			out->data[y * w + x] = (uint8_t)((sum + n / 2) / n);
		}
	}
	return 0;
}

/* ---- plain margins ---- */

struct line {
	int mean, range;
};

static struct line line_at(const uint8_t *p, int n, int step)
{
	int low = 255, high = 0, sum = 0;

	for (int i = 0; i < n; i++, p += step) {
		low = *p < low ? *p : low;
		high = *p > high ? *p : high;
		sum += *p;
	}
	return (struct line){(sum + n / 2) / n, high - low};
}

/* How many of the first lines are plain and of one colour.  first: the outermost line; next:
 * bytes from a line to the one inside it. */
static int plain_lines(const uint8_t *first, int next, int lines, int n, int step)
{
	struct line edge = line_at(first, n, step);
	int k = 0;

	if (edge.range > PLAIN_RANGE)
		return 0;
	for (k = 1; k < lines; k++) {
		struct line l = line_at(first + k * next, n, step);
		if (l.range > PLAIN_RANGE || abs(l.mean - edge.mean) > PLAIN_DRIFT)
			break;
	}
	return k;
}

static void find_margins(const struct wl_image *g, int margin[4])
{
	const uint8_t *p = g->data;
	int w = g->width, h = g->height, most_w = w / TRIM_MAX, most_h = h / TRIM_MAX;

	margin[1] = plain_lines(p, w, most_h, w, 1);
	margin[3] = plain_lines(p + (size_t)(h - 1) * w, -w, most_h, w, 1);
	p += (size_t)margin[1] * w;
	h -= margin[1] + margin[3];
	margin[0] = plain_lines(p, 1, most_w, h, w);
	margin[2] = plain_lines(p + w - 1, -1, most_w, h, w);
}

/* ---- hashes ---- */

/* Sums over [0, x) x [0, y), so that any box is four look-ups; [h + 1][w + 1]. */
static uint32_t *sums_of(const struct wl_image *g, struct wl_err *err)
{
	size_t stride = (size_t)g->width + 1, n = stride * ((size_t)g->height + 1);
	uint32_t *s = malloc(n * sizeof(*s));

	if (!s) {
		wl_err_nomem(err, "sums of a picture", n * sizeof(*s));
		return NULL;
	}
	memset(s, 0, stride * sizeof(*s));
	for (int y = 0; y < g->height; y++) {
		const uint8_t *p = g->data + (size_t)y * g->width;
		uint32_t *above = s + (size_t)y * stride, *here = above + stride, row = 0;
		here[0] = 0;
		for (int x = 0; x < g->width; x++) {
			row += p[x];
			here[x + 1] = above[x + 1] + row;
		}
	}
	return s;
}

/* Edges of 32 even cells between a and b (1/1024 of n pixels): pixel and 1/64 of it. */
struct edge {
	int at, part;
};

static void edges_of(struct edge e[SIDE + 1], int a, int b, int n)
{
	for (int i = 0; i <= SIDE; i++) {
		/* 64 * n * (a + (b - a) i / 32) / 1024 */
		int64_t v = ((int64_t)a * SIDE + (int64_t)(b - a) * i) * n * 64 / (ONE * SIDE);
		e[i].at = (int)(v >> 6);
		e[i].part = (int)(v & 63);
		if (e[i].at >= n) {
			e[i].at = n - 1;
			e[i].part = 64;
		}
	}
}

/* The window's cells, 16 times their mean less 128. */
static void resample(const uint32_t *s, int w, int h, struct wl_rect r, int16_t out[SIDE][SIDE])
{
	struct edge ex[SIDE + 1], ey[SIDE + 1];
	int64_t above[SIDE + 1], here[SIDE + 1];
	size_t stride = (size_t)w + 1;

	edges_of(ex, r.x0, r.x1, w);
	edges_of(ey, r.y0, r.y1, h);
	for (int y = 0; y <= SIDE; y++) {
		const uint32_t *p = s + (size_t)ey[y].at * stride, *q = p + stride;
		int py = ey[y].part;
		for (int x = 0; x <= SIDE; x++) { /* 4096 times the sum left of and above it */
			int i = ex[x].at, px = ex[x].part;
			int64_t top = (int64_t)p[i] * (64 - px) + (int64_t)p[i + 1] * px;
			int64_t foot = (int64_t)q[i] * (64 - px) + (int64_t)q[i + 1] * px;
			here[x] = top * (64 - py) + foot * py;
		}
		for (int x = 0; y && x < SIDE; x++) {
			int64_t wide = (ex[x + 1].at - ex[x].at) * 64 + ex[x + 1].part - ex[x].part;
			int64_t high = (ey[y].at - ey[y - 1].at) * 64 + ey[y].part - ey[y - 1].part;
			int64_t sum = here[x + 1] - here[x] - above[x + 1] + above[x];
			int64_t area = wide * high;
			out[y - 1][x] = (int16_t)(area ? 16 * sum / area - 16 * 128 : 0);
		}
		memcpy(above, here, sizeof(here));
	}
}

/* 2^14 cos(pi k (2 n + 1) / 64), rounded: a table, so that no mathematical library matters. */
/* clang-format off */
static const int16_t COSINE[LOW][SIDE] = {
	{
		16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384,
		16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384,
		16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384,
	},
	{
		16364, 16207, 15893, 15426, 14811, 14053, 13160, 12140, 11003, 9760, 8423,
		7005, 5520, 3981, 2404, 804, -804, -2404, -3981, -5520, -7005, -8423,
		-9760, -11003, -12140, -13160, -14053, -14811, -15426, -15893, -16207, -16364,
	},
	{
		16305, 15679, 14449, 12665, 10394, 7723, 4756, 1606, -1606, -4756, -7723,
		-10394, -12665, -14449, -15679, -16305, -16305, -15679, -14449, -12665, -10394, -7723,
		-4756, -1606, 1606, 4756, 7723, 10394, 12665, 14449, 15679, 16305,
	},
	{
		16207, 14811, 12140, 8423, 3981, -804, -5520, -9760, -13160, -15426, -16364,
		-15893, -14053, -11003, -7005, -2404, 2404, 7005, 11003, 14053, 15893, 16364,
		15426, 13160, 9760, 5520, 804, -3981, -8423, -12140, -14811, -16207,
	},
	{
		16069, 13623, 9102, 3196, -3196, -9102, -13623, -16069, -16069, -13623, -9102,
		-3196, 3196, 9102, 13623, 16069, 16069, 13623, 9102, 3196, -3196, -9102,
		-13623, -16069, -16069, -13623, -9102, -3196, 3196, 9102, 13623, 16069,
	},
	{
		15893, 12140, 5520, -2404, -9760, -14811, -16364, -14053, -8423, -804, 7005,
		13160, 16207, 15426, 11003, 3981, -3981, -11003, -15426, -16207, -13160, -7005,
		804, 8423, 14053, 16364, 14811, 9760, 2404, -5520, -12140, -15893,
	},
	{
		15679, 10394, 1606, -7723, -14449, -16305, -12665, -4756, 4756, 12665, 16305,
		14449, 7723, -1606, -10394, -15679, -15679, -10394, -1606, 7723, 14449, 16305,
		12665, 4756, -4756, -12665, -16305, -14449, -7723, 1606, 10394, 15679,
	},
	{
		15426, 8423, -2404, -12140, -16364, -13160, -3981, 7005, 14811, 15893, 9760,
		-804, -11003, -16207, -14053, -5520, 5520, 14053, 16207, 11003, 804, -9760,
		-15893, -14811, -7005, 3981, 13160, 16364, 12140, 2404, -8423, -15426,
	},
};
/* clang-format on */

/* Signs of the 63 lowest frequencies but the mean, by row of vertical frequency. */
static uint64_t hash_cells(int16_t cells[SIDE][SIDE])
{
	int32_t rows[LOW][SIDE];
	uint64_t hash = 0;

	for (int k = 0; k < LOW; k++) {
		for (int x = 0; x < SIDE; x++)
			rows[k][x] = 0;
		for (int y = 0; y < SIDE; y++)
			for (int x = 0; x < SIDE; x++)
				rows[k][x] += COSINE[k][y] * cells[y][x] >> 4;
	}
	for (int k = 0; k < LOW; k++)
		for (int m = 0; m < LOW; m++) {
			int64_t v = 0;
			for (int x = 0; x < SIDE; x++)
				v += (int64_t)COSINE[m][x] * rows[k][x];
			hash = hash << 1 | (v > 0 && k + m > 0);
		}
	return hash;
}

/* Nothing to be seen: the signs would be those of noise. */
static bool is_flat(int16_t cells[SIDE][SIDE])
{
	int64_t s = 0, ss = 0, n = SIDE * SIDE;

	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++) {
			s += cells[y][x];
			ss += cells[y][x] * cells[y][x];
		}
	return ss * n - s * s < (int64_t)FLAT * FLAT * n * n;
}

/* Bits of odd horizontal frequencies: the first bit is the highest. */
static const uint64_t ODD_COLUMNS = 0x5555555555555555u;

struct wl_rect wl_window_rect(const struct wl_windows *w, int i)
{
	int x0 = w->trim[0] * 4, y0 = w->trim[1] * 4;
	int x1 = ONE - w->trim[2] * 4, y1 = ONE - w->trim[3] * 4;
	struct wl_rect p;

	if (i == WL_WINDOW_FRAME)
		return (struct wl_rect){0, 0, ONE, ONE};
	if (i == WL_WINDOW_ALL)
		return (struct wl_rect){(int16_t)x0, (int16_t)y0, (int16_t)x1, (int16_t)y1};
	if (i == WL_WINDOW_MIRROR)
		return (struct wl_rect){(int16_t)x1, (int16_t)y0, (int16_t)x0, (int16_t)y1};
	p = PARTS[i - WL_WINDOW_PARTS];
	return (struct wl_rect){(int16_t)(x0 + (x1 - x0) * p.x0 / ONE),
		(int16_t)(y0 + (y1 - y0) * p.y0 / ONE), (int16_t)(x0 + (x1 - x0) * p.x1 / ONE),
		(int16_t)(y0 + (y1 - y0) * p.y1 / ONE)};
}

int wl_windows_make(const struct wl_image *grey, struct wl_windows *out, struct wl_err *err)
{
	int margin[4] = {0}, sides[4] = {grey->width, grey->height, grey->width, grey->height};
	int16_t cells[SIDE][SIDE];
	uint32_t *sums;

	if (grey->channels != 1)
		WL_BUG("windows are made of grey, not of %d channels", grey->channels);
	memset(out, 0, sizeof(*out));
	sums = sums_of(grey, err);
	if (!sums)
		return -1;
	find_margins(grey, margin);
	for (int i = 0; i < 4; i++) {
		int v = margin[i] * 256 / sides[i];
		out->trim[i] = (uint8_t)v;
	}
	for (int i = 0; i < WL_WINDOWS; i++) {
		if (i == WL_WINDOW_MIRROR) {
			if (!(out->present & 1u << WL_WINDOW_ALL))
				continue;
			out->hash[i] = out->hash[WL_WINDOW_ALL] ^ ODD_COLUMNS;
		} else if (i == WL_WINDOW_FRAME &&
			   !(out->trim[0] | out->trim[1] | out->trim[2] | out->trim[3])) {
			continue;
		} else {
			resample(sums, grey->width, grey->height, wl_window_rect(out, i), cells);
			if (is_flat(cells))
				continue;
			out->hash[i] = hash_cells(cells);
		}
		out->present |= 1u << i;
	}
	free(sums);
	return 0;
}
