/* See windows.h. */
#include "clean/windows.h"

#include <stdlib.h>
#include <string.h>

enum {
	SIDE = 16,	  /* cells a side that a hash is made of */
	CELLS_MAX = 32,
	LOW = 8,
	ONE = 1024,	  /* a side, in units of struct wl_rect */
	SMALL_SIDE = 40,  /* a reduced picture's shorter side is at least this, if it can be */
	PLAIN_RANGE = 14, /* grey levels within a plain row or column */
	PLAIN_DRIFT = 8,  /* and between the means of plain ones */
	FLAT = 16 * 5,	  /* standard deviation, in the cells' units */
	TRIM_MAX = 3,	  /* at most 1/3 of a side goes from each end */
};

/* The parts, in 1/1024 of the trimmed picture.  All but four found by annealing: of crops of 75
 * to 90 % of the sides anywhere and in the middle, of 3 to 6 % less on each side, also mirrored,
 * and of pictures with bands, boxes and lines of text on them, as many as possible must have some
 * part that falls on some part of the original, where a chance of 1/2 was given to edges that are
 * 2 % off, which is what was measured of hashes within 4 bits. */
static const struct wl_rect PARTS[WL_WINDOWS - WL_WINDOW_PARTS] = {
	/* Above and below what is written across the middle. */
	{0, 0, 1024, 410},
	{0, 614, 1024, 1024},
	/* What cutting off a band at the foot or head leaves. */
	{0, 0, 1024, 820},
	{0, 204, 1024, 1024},
	/* The others. */
	{128, 112, 891, 910},
	{53, 169, 817, 949},
	{8, 26, 1007, 996},
	{48, 40, 979, 980},
	{10, 78, 926, 987},
	{28, 37, 989, 983},
	{158, 148, 959, 934},
	{102, 140, 917, 883},
	{46, 60, 961, 963},
	{81, 71, 883, 817},
	{23, 41, 994, 980},
	{23, 81, 974, 1005},
	{188, 117, 954, 913},
	{28, 0, 958, 932},
	{63, 92, 846, 878},
	{150, 73, 950, 824},
	{26, 53, 990, 960},
	{98, 187, 893, 938},
	{146, 202, 947, 954},
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

/* Edges of even cells between a and b (1/1024 of n pixels): pixel and 1/64 of it. */
struct edges {
	int at[CELLS_MAX + 1], part[CELLS_MAX + 1];
	double inverse[CELLS_MAX]; /* 1 / width of a cell, in 1/64 pixels; 0: no width */
};

static void edges_of(struct edges *e, int a, int b, int n, int cells)
{
	for (int i = 0; i <= cells; i++) {
		/* 64 * n * (a + (b - a) i / cells) / 1024 */
		int64_t v = ((int64_t)a * cells + (int64_t)(b - a) * i) * n * 64 / (ONE * cells);
		e->at[i] = (int)(v >> 6);
		e->part[i] = (int)(v & 63);
		if (e->at[i] >= n) {
			e->at[i] = n - 1;
			e->part[i] = 64;
		}
	}
	for (int i = 0; i < cells; i++) {
		int width = (e->at[i + 1] - e->at[i]) * 64 + e->part[i + 1] - e->part[i];
		e->inverse[i] = width > 0 ? 1.0 / width : 0;
	}
}

/* The window's cells, 16 times their mean less 128; [cells, cells].  Every product here is of
 * whole numbers below 2^53 or one rounding of IEEE 754: the same bits everywhere. */
static void resample(const uint32_t *s, int w, int h, struct wl_rect r, int cells, int16_t *out)
{
	struct edges ex, ey;
	int64_t sums[2][CELLS_MAX + 1], *above = sums[0], *here = sums[1];
	size_t stride = (size_t)w + 1;

	edges_of(&ex, r.x0, r.x1, w, cells);
	edges_of(&ey, r.y0, r.y1, h, cells);
	for (int y = 0; y <= cells; y++) {
		const uint32_t *p = s + (size_t)ey.at[y] * stride, *q = p + stride;
		int py = ey.part[y];
		int64_t *t;
		for (int x = 0; x <= cells; x++) { /* 4096 times the sum left of and above it */
			int i = ex.at[x], px = ex.part[x];
			int64_t top = (int64_t)p[i] * (64 - px) + (int64_t)p[i + 1] * px;
			int64_t foot = (int64_t)q[i] * (64 - px) + (int64_t)q[i + 1] * px;
			here[x] = top * (64 - py) + foot * py;
		}
		for (int x = 0; y && x < cells; x++) {
			double sum = (double)(here[x + 1] - here[x] - above[x + 1] + above[x]);
			double area = ex.inverse[x] * ey.inverse[y - 1];
			*out++ = (int16_t)(area > 0 ? (int)(16 * sum * area) - 16 * 128 : 0);
		}
		t = above;
		above = here;
		here = t;
	}
}

/* 2^14 cos(pi k (2 n + 1) / 32), rounded: a table, so that no mathematical library matters. */
/* clang-format off */
static const int16_t COSINE[LOW][SIDE] = {
	{16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384,
		16384, 16384, 16384, 16384, 16384, 16384, 16384, 16384},
	{16305, 15679, 14449, 12665, 10394, 7723, 4756, 1606,
		-1606, -4756, -7723, -10394, -12665, -14449, -15679, -16305},
	{16069, 13623, 9102, 3196, -3196, -9102, -13623, -16069,
		-16069, -13623, -9102, -3196, 3196, 9102, 13623, 16069},
	{15679, 10394, 1606, -7723, -14449, -16305, -12665, -4756,
		4756, 12665, 16305, 14449, 7723, -1606, -10394, -15679},
	{15137, 6270, -6270, -15137, -15137, -6270, 6270, 15137,
		15137, 6270, -6270, -15137, -15137, -6270, 6270, 15137},
	{14449, 1606, -12665, -15679, -4756, 10394, 16305, 7723,
		-7723, -16305, -10394, 4756, 15679, 12665, -1606, -14449},
	{13623, -3196, -16069, -9102, 9102, 16069, 3196, -13623,
		-13623, 3196, 16069, 9102, -9102, -16069, -3196, 13623},
	{12665, -7723, -15679, 1606, 16305, 4756, -14449, -10394,
		10394, 14449, -4756, -16305, -1606, 15679, 7723, -12665},
};
/* clang-format on */

/* Signs of the 63 lowest frequencies but the mean, by row of vertical frequency. */
static uint64_t hash_cells(int16_t cells[SIDE * SIDE])
{
	int32_t rows[LOW][SIDE];
	uint64_t hash = 0;

	for (int k = 0; k < LOW; k++) {
		for (int x = 0; x < SIDE; x++)
			rows[k][x] = 0;
		for (int y = 0; y < SIDE; y++)
			for (int x = 0; x < SIDE; x++)
				rows[k][x] += COSINE[k][y] * cells[y * SIDE + x] >> 4;
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
static bool is_flat(int16_t cells[SIDE * SIDE])
{
	int64_t s = 0, ss = 0, n = SIDE * SIDE;

	for (int i = 0; i < SIDE * SIDE; i++) {
		s += cells[i];
		ss += cells[i] * cells[i];
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

/* The picture's cells as grey values. */
static void shrink(const uint32_t *sums, const struct wl_image *grey, uint8_t *small)
{
	int16_t cells[CELLS_MAX * CELLS_MAX];

	resample(sums, grey->width, grey->height, (struct wl_rect){0, 0, ONE, ONE}, CELLS_MAX,
		cells);
	for (int i = 0; i < CELLS_MAX * CELLS_MAX; i++) {
		int v = (cells[i] + 16 * 128 + 8) / 16;
		small[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
	}
}

int wl_windows_shrink(const struct wl_image *grey, uint8_t *small, struct wl_err *err)
{
	uint32_t *sums = sums_of(grey, err);

	if (!sums)
		return -1;
	shrink(sums, grey, small);
	free(sums);
	return 0;
}

int wl_windows_make(
	const struct wl_image *grey, struct wl_windows *out, uint8_t *small, struct wl_err *err)
{
	int margin[4] = {0}, sides[4] = {grey->width, grey->height, grey->width, grey->height};
	int16_t cells[SIDE * SIDE];
	uint32_t *sums;

	if (grey->channels != 1)
		WL_BUG("windows are made of grey, not of %d channels", grey->channels);
	memset(out, 0, sizeof(*out));
	sums = sums_of(grey, err);
	if (!sums)
		return -1;
	if (small)
		shrink(sums, grey, small);
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
			resample(sums, grey->width, grey->height, wl_window_rect(out, i), SIDE,
				cells);
			if (is_flat(cells))
				continue;
			out->hash[i] = hash_cells(cells);
		}
		out->present |= 1u << i;
	}
	free(sums);
	return 0;
}
