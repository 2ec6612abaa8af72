/*
 * See match.h.
 *
 * Laying one picture upon the other: the two windows give where they share, roughly, for a crop
 * need not fall on a window exactly.  So the edges are moved in small steps, as long as the
 * correlation of the grey pixels grows.  Then gain and offset are fitted to the three quarters
 * that agree best, which is how a band of text is left out, and these must correlate well.
 */
#include "clean/match.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	GRID = 16,	 /* cells a side by which two pictures are compared */
	FINE = 2 * GRID, /* samples a side: four a cell */
	POINTS = GRID * GRID,
	TRIES = 4,  /* the nearest window pairs that are tried */
	ONE = 1024, /* a side, in units of struct wl_rect */
	FIRST_STEP = 24,
	LAST_STEP = 3,
	PLAIN_BIN = 8,
	PLAIN_PERCENT = 35,  /* shades taken for one; pixels that have it */
	GROUND_PERCENT = 45, /* the same with the frame */
	PLAIN_REST = 12,     /* levels that a cell of a plain picture may differ by */
};
/* Measured on the transform set of tests/test_transforms.c against different photos whose
 * nearest windows are laid upon each other, and against the Tux Paint stamps. */
static const double MIN_START = 0.35;	/* correlation before the edges are moved */
static const double MIN_ALL = 0.55;	/* after, over all points */
static const double MIN_BEST = 0.955;	/* over the best three quarters */
static const double MIN_PLAIN = 0.992;	/* over all points of plain pictures */
static const double MIN_SHARED = 0.3;	/* of either picture's area */
static const double MAX_SQUEEZE = 1.35; /* how differently the sides may be scaled */
static const double MIN_SPREAD =
	24; /* four times the standard deviation under which nothing is seen */
static const double MAX_CHROMA = 10; /* mean rest of R-G and B-G on the best points, levels */

int wl_view_make_by(const struct wl_image *rgb, int by, int width, int height, struct wl_view *out,
	struct wl_err *err)
{
	int more = wl_windows_scale(width, height) / by;
	struct wl_image grey = {0}, small = {0};
	int ret = -1;

	memset(out, 0, sizeof(*out));
	WL_TRY_OUT(wl_image_to_grey(rgb, &grey, err));
	WL_TRY_OUT(wl_look_make_grey(rgb, &grey, &out->look, err));
	out->look.aspect_1024 = (uint32_t)((1024 * (int64_t)width + height / 2) / height);
	if (more > 1)
		WL_TRY_OUT(wl_windows_reduce(&grey, more, &small, err));
	ret = wl_windows_make(more > 1 ? &small : &grey, &out->windows, NULL, err);
out:
	wl_image_release(&small);
	wl_image_release(&grey);
	return ret;
}

int wl_view_make_low(const struct wl_image_low *low, struct wl_view *out, struct wl_err *err)
{
	memset(out, 0, sizeof(*out));
	WL_TRY(wl_windows_make(&low->luma, &out->windows, out->look.grey, err));
	wl_look_make_low(low, &out->look);
	return 0;
}

int wl_view_make(const struct wl_image *rgb, struct wl_view *out, struct wl_err *err)
{
	return wl_view_make_by(rgb, 1, rgb->width, rgb->height, out, err);
}

/* x' = scale x + shift, in units of ONE. */
struct map {
	double scale[2], shift[2]; /* of x, of y: from b to a */
};

static struct map map_of(struct wl_rect a, struct wl_rect b)
{
	struct map m;

	m.scale[0] = (double)(a.x1 - a.x0) / (b.x1 - b.x0);
	m.scale[1] = (double)(a.y1 - a.y0) / (b.y1 - b.y0);
	m.shift[0] = a.x0 - m.scale[0] * b.x0;
	m.shift[1] = a.y0 - m.scale[1] * b.y0;
	return m;
}

/* What of b lies on a, along one axis. */
static void shared(const struct map *m, int axis, double *from, double *to)
{
	double p = -m->shift[axis] / m->scale[axis], q = (ONE - m->shift[axis]) / m->scale[axis];

	*from = fmax(0, fmin(p, q));
	*to = fmin(ONE, fmax(p, q));
}

static float sample(const uint8_t *grey, double x, double y)
{
	float fx = (float)(x * WL_PHASH_SIDE / ONE - .5),
	      fy = (float)(y * WL_PHASH_SIDE / ONE - .5);
	float limit = WL_PHASH_SIDE - 1.001f;
	int ix, iy;
	const uint8_t *p;

	fx = fx < 0 ? 0 : fx > limit ? limit : fx;
	fy = fy < 0 ? 0 : fy > limit ? limit : fy;
	ix = (int)fx;
	iy = (int)fy;
	fx -= (float)ix;
	fy -= (float)iy;
	p = grey + iy * WL_PHASH_SIDE + ix;
	return (p[0] + fx * (float)(p[1] - p[0])) * (1 - fy) +
	       (p[WL_PHASH_SIDE] + fx * (float)(p[WL_PHASH_SIDE + 1] - p[WL_PHASH_SIDE])) * fy;
}

struct overlay {
	double x[FINE], y[FINE]; /* of b */
	float a[POINTS], b[POINTS];
};

/* Means of four samples: pictures of different sharpness are brought together. */
static void sample_cells(
	const uint8_t *grey, const double x[FINE], const double y[FINE], float out[POINTS])
{
	memset(out, 0, POINTS * sizeof(*out));
	for (int v = 0; v < FINE; v++)
		for (int u = 0; u < FINE; u++)
			out[v / 2 * GRID + u / 2] += sample(grey, x[u], y[v]);
}

static void sample_b(struct overlay *o, const struct wl_look *b, const struct map *m)
{
	double x0, x1, y0, y1;

	shared(m, 0, &x0, &x1);
	shared(m, 1, &y0, &y1);
	for (int i = 0; i < FINE; i++) {
		o->x[i] = x0 + (x1 - x0) * (i + .5) / FINE;
		o->y[i] = y0 + (y1 - y0) * (i + .5) / FINE;
	}
	sample_cells(b->grey, o->x, o->y, o->b);
}

static void sample_a(struct overlay *o, const struct wl_look *a, const struct map *m)
{
	double x[FINE], y[FINE];

	for (int i = 0; i < FINE; i++) {
		x[i] = m->scale[0] * o->x[i] + m->shift[0];
		y[i] = m->scale[1] * o->y[i] + m->shift[1];
	}
	sample_cells(a->grey, x, y, o->a);
}

struct fit {
	double gain, offset, correlation, spread_a, spread_b;
};

/* Least squares of b = gain a + offset over the points that are used (NULL: all). */
static struct fit fit_of(const struct overlay *o, const bool *used)
{
	double n = 0, sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0, va, vb, cov;
	struct fit f = {0};

	for (int i = 0; i < POINTS; i++) {
		double a = o->a[i], b = o->b[i];
		if (used && !used[i])
			continue;
		n++;
		sa += a;
		sb += b;
		saa += a * a;
		sbb += b * b;
		sab += a * b;
	}
	va = saa / n - sa / n * (sa / n);
	vb = sbb / n - sb / n * (sb / n);
	cov = sab / n - sa / n * (sb / n);
	f.spread_a = sqrt(fmax(va, 0));
	f.spread_b = sqrt(fmax(vb, 0));
	f.correlation = va > 0 && vb > 0 ? cov / (f.spread_a * f.spread_b) : 0;
	f.gain = va > 0 ? cov / va : 0;
	f.offset = (sb - f.gain * sa) / n;
	return f;
}

/* Moves one edge of a's part at a time while that helps. */
static double settle(struct overlay *o, const struct wl_look *a, struct map *m, struct wl_rect rb)
{
	double best;

	sample_a(o, a, m);
	best = fit_of(o, NULL).correlation;
	if (best < MIN_START)
		return best;
	for (double step = FIRST_STEP; step >= LAST_STEP; step /= 2) {
		for (int edge = 0; edge < 8; edge++) {
			int axis = edge / 4, end = edge / 2 % 2;
			double sign = edge % 2 ? -1 : 1;
			double b0 = axis ? rb.y0 : rb.x0, b1 = axis ? rb.y1 : rb.x1;
			for (int again = 0; again < 3; again++) {
				struct map t = *m;
				double a0 = m->scale[axis] * b0 + m->shift[axis];
				double a1 = m->scale[axis] * b1 + m->shift[axis], c;
				a0 += end ? 0 : sign * step;
				a1 += end ? sign * step : 0;
				t.scale[axis] = (a1 - a0) / (b1 - b0);
				t.shift[axis] = a0 - t.scale[axis] * b0;
				sample_a(o, a, &t);
				c = fit_of(o, NULL).correlation;
				if (c <= best + 1e-4)
					break;
				best = c;
				*m = t;
			}
		}
	}
	sample_a(o, a, m);
	return best;
}

static int by_value(const void *p, const void *q)
{
	float a = *(const float *)p, b = *(const float *)q;

	return (a > b) - (a < b);
}

/* The three quarters of the points with the smallest rest, fitted anew a few times. */
static struct fit fit_best(const struct overlay *o, bool used[POINTS])
{
	struct fit f = fit_of(o, NULL);
	float rest[POINTS], sorted[POINTS];

	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < POINTS; i++) {
			rest[i] = (float)fabs(o->b[i] - f.gain * o->a[i] - f.offset);
			sorted[i] = rest[i];
		}
		qsort(sorted, POINTS, sizeof(*sorted), by_value);
		for (int i = 0; i < POINTS; i++)
			used[i] = rest[i] <= sorted[POINTS * 3 / 4];
		f = fit_of(o, used);
	}
	return f;
}

/* R-G and B-G, between the cells' middles. */
static void chroma_at(const struct wl_look *l, double x, double y, float out[2])
{
	float fx = (float)(x * WL_LOOK_CELLS / ONE - .5),
	      fy = (float)(y * WL_LOOK_CELLS / ONE - .5);
	float limit = WL_LOOK_CELLS - 1.001f;
	const uint8_t *p;

	fx = fx < 0 ? 0 : fx > limit ? limit : fx;
	fy = fy < 0 ? 0 : fy > limit ? limit : fy;
	p = l->colour + ((int)fy * WL_LOOK_CELLS + (int)fx) * 3;
	fx -= (float)(int)fx;
	fy -= (float)(int)fy;
	out[0] = out[1] = 0;
	for (int i = 0; i < 4; i++) {
		const uint8_t *q = p + (i / 2 * WL_LOOK_CELLS + i % 2) * 3;
		float w = (i % 2 ? fx : 1 - fx) * (i / 2 ? fy : 1 - fy);
		out[0] += w * (float)(q[0] - q[1]);
		out[1] += w * (float)(q[2] - q[1]);
	}
}

struct chroma {
	float more[2], less[2], rest;
};

static int by_rest(const void *p, const void *q)
{
	const struct chroma *a = p, *b = q;

	return (a->rest > b->rest) - (a->rest < b->rest);
}

/* less = saturation * more, by least squares over the first n. */
static double saturation_of(const struct chroma *c, int n)
{
	double mm = 0, ml = 0;

	for (int i = 0; i < n; i++) {
		mm += c[i].more[0] * c[i].more[0] + c[i].more[1] * c[i].more[1];
		ml += c[i].more[0] * c[i].less[0] + c[i].more[1] * c[i].less[1];
	}
	return mm > 0 ? ml / mm : 0;
}

/* Colours of the points that agree in grey: the paler picture's must be the other's times a
 * saturation, which may be 0, on two thirds of them (cells of 1/8 mix what lies beside). */
static bool colours_fit(const struct overlay *o, const bool *used, const struct wl_look *a,
	const struct wl_look *b, const struct map *m)
{
	struct chroma c[POINTS];
	double aa = 0, bb = 0, rest = 0;
	int n = 0, most;

	for (int i = 0; i < POINTS; i++) {
		double x = o->x[i % GRID * 2], y = o->y[i / GRID * 2];
		struct chroma *p = &c[n];
		if (!used[i])
			continue;
		chroma_at(a, m->scale[0] * x + m->shift[0], m->scale[1] * y + m->shift[1], p->more);
		chroma_at(b, x, y, p->less);
		aa += p->more[0] * p->more[0] + p->more[1] * p->more[1];
		bb += p->less[0] * p->less[0] + p->less[1] * p->less[1];
		n++;
	}
	for (int i = 0; i < n && bb > aa; i++) {
		struct chroma t = c[i];
		memcpy(c[i].more, t.less, sizeof(t.less));
		memcpy(c[i].less, t.more, sizeof(t.more));
	}
	most = n;
	for (int round = 0; round < 3; round++) {
		double s = saturation_of(c, most);
		if (s < -.1)
			return false;
		for (int i = 0; i < n; i++)
			c[i].rest = (float)hypot(
				c[i].less[0] - s * c[i].more[0], c[i].less[1] - s * c[i].more[1]);
		qsort(c, (size_t)n, sizeof(*c), by_rest);
		most = n * 2 / 3;
	}
	for (int i = 0; i < most; i++)
		rest += c[i].rest;
	return rest <= MAX_CHROMA * most;
}

static bool plausible(const struct map *m, const struct wl_look *a, const struct wl_look *b)
{
	double x0, x1, y0, y1, area_b, squeeze;

	shared(m, 0, &x0, &x1);
	shared(m, 1, &y0, &y1);
	if (x1 <= x0 || y1 <= y0 || !b->aspect_1024)
		return false;
	area_b = (x1 - x0) * (y1 - y0) / ((double)ONE * ONE);
	squeeze = fabs(m->scale[0] / m->scale[1]) * (double)a->aspect_1024 / b->aspect_1024;
	return area_b >= MIN_SHARED && area_b * fabs(m->scale[0] * m->scale[1]) >= MIN_SHARED &&
	       squeeze <= MAX_SQUEEZE && squeeze >= 1 / MAX_SQUEEZE;
}

/* Whether it is an icon, a drawing, a cut-out or letters: much of it has one shade, or its four
 * corners have.  There the plain ground agrees by itself, and the little that there is must agree
 * everywhere. */
static bool mostly_plain(const struct wl_view *p)
{
	struct wl_rect r = wl_window_rect(&p->windows, WL_WINDOW_ALL);
	double wide = r.x1 - r.x0, high = r.y1 - r.y0;
	int count[256 / PLAIN_BIN] = {0}, whole[256 / PLAIN_BIN] = {0}, most = 0, ground = 0;
	float low = 255, top = 0;

	for (int i = 0; i < WL_PHASH_PIXELS; i++) {
		int n = ++whole[p->look.grey[i] / PLAIN_BIN];
		ground = n > ground ? n : ground;
	}

	for (int i = 0; i < POINTS; i++) {
		double x = r.x0 + wide * (i % GRID + .5) / GRID;
		double y = r.y0 + high * (i / GRID + .5) / GRID;
		int n = ++count[(int)sample(p->look.grey, x, y) / PLAIN_BIN];
		most = n > most ? n : most;
	}
	for (int i = 0; i < 4; i++) {
		float v = sample(p->look.grey, r.x0 + wide * (i % 2 ? .975 : .025),
			r.y0 + high * (i / 2 ? .975 : .025));
		low = v < low ? v : low;
		top = v > top ? v : top;
	}
	return most > POINTS * PLAIN_PERCENT / 100 || top - low < PLAIN_BIN ||
	       ground > WL_PHASH_PIXELS * GROUND_PERCENT / 100;
}

static bool agree_everywhere(const struct overlay *o, const struct fit *f)
{
	double limit = 4 * PLAIN_REST;

	if (f->correlation < MIN_PLAIN)
		return false;
	for (int i = 0; i < POINTS; i++)
		if (fabs(o->b[i] - f->gain * o->a[i] - f->offset) > limit)
			return false;
	return true;
}

bool wl_look_aligned(const struct wl_look *a, struct wl_rect ra, const struct wl_look *b,
	struct wl_rect rb, bool plain)
{
	struct map m = map_of(ra, rb);
	bool used[POINTS];
	struct overlay o;
	struct fit f;

	if (!plausible(&m, a, b))
		return false;
	sample_b(&o, b, &m);
	if (settle(&o, a, &m, rb) < MIN_ALL || !plausible(&m, a, b))
		return false;
	if (plain) {
		f = fit_of(&o, NULL);
		if (ra.x0 > ra.x1 || rb.x0 > rb.x1 || !agree_everywhere(&o, &f))
			return false;
	}
	f = fit_best(&o, used);
	return f.correlation >= MIN_BEST && f.spread_a >= MIN_SPREAD && f.spread_b >= MIN_SPREAD &&
	       colours_fit(&o, used, a, b, &m);
}

struct meeting {
	int distance, i, k;
};

static int by_distance(const void *p, const void *q)
{
	const struct meeting *a = p, *b = q;

	if (a->distance != b->distance)
		return a->distance - b->distance;
	return a->i != b->i ? a->i - b->i : a->k - b->k;
}

static bool windows_match(const struct wl_view *a, const struct wl_view *b, int radius)
{
	struct meeting v[WL_WINDOWS * WL_WINDOWS];
	bool plain;
	size_t n = 0;

	for (int i = 0; i < WL_WINDOWS; i++)
		for (int k = 0; k < WL_WINDOWS; k++) {
			int d = wl_hamming64(a->windows.hash[i], b->windows.hash[k]);
			if (d <= radius && wl_windows_meet(i, k) && a->windows.present >> i & 1 &&
				b->windows.present >> k & 1)
				v[n++] = (struct meeting){d, i, k};
		}
	if (!n)
		return false;
	qsort(v, n, sizeof(*v), by_distance);
	plain = mostly_plain(a) || mostly_plain(b);
	for (size_t t = 0; t < n && t < TRIES; t++)
		if (wl_look_aligned(&a->look, wl_window_rect(&a->windows, v[t].i), &b->look,
			    wl_window_rect(&b->windows, v[t].k), plain))
			return true;
	return false;
}

bool wl_view_match(const struct wl_view *a, const struct wl_view *b, struct wl_radii r)
{
	/* Which of the two is laid upon the other makes a small difference: the order is fixed by
	 * what they are. */
	int order = memcmp(a, b, sizeof(*a));

	if (r.whole >= 0 && wl_hamming64(a->look.phash, b->look.phash) <= r.whole &&
		wl_look_alike(&a->look, &b->look))
		return true;
	if (r.window < 0)
		return false;
	return order <= 0 ? windows_match(a, b, r.window) : windows_match(b, a, r.window);
}
