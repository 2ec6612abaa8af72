/* See picture.h.  Sums are of integers, so that every machine finds the same. */
#include "clean/picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	SMALL_SIDE = 640, /* text and codes are looked for at this size at most */
	BLOCK = 16,
	FINDERS_MAX = 64,
};

/* ---- over all pixels ---- */

static int at_edge(int i, int n)
{
	if (n == 1)
		return 0;
	return i < 0 ? 1 : i >= n ? n - 2 : i;
}

static double laplacian_variance(const struct wl_image *g)
{
	int64_t sum = 0, squares = 0, n = (int64_t)g->width * g->height;

	for (int y = 0; y < g->height; y++) {
		const uint8_t *row = g->data + (size_t)y * g->width;
		const uint8_t *up = g->data + (size_t)at_edge(y - 1, g->height) * g->width;
		const uint8_t *down = g->data + (size_t)at_edge(y + 1, g->height) * g->width;
		int last = g->width - 1;
		int a = 2 * row[at_edge(-1, g->width)] + up[0] + down[0] - 4 * row[0];
		int z = 2 * row[at_edge(last + 1, g->width)] + up[last] + down[last] -
			4 * row[last];
		int s = a + (last ? z : 0);
		int64_t ss = a * a + (last ? z * z : 0);
		/* A row's squares fit 32 bits in runs of 2048: 1020 squared times that is 2^31. */
		for (int x0 = 1; x0 < last; x0 += 2048) {
			int x1 = x0 + 2048 < last ? x0 + 2048 : last;
			uint32_t part = 0;
			for (int x = x0; x < x1; x++) {
				int v = row[x - 1] + row[x + 1] + up[x] + down[x] - 4 * row[x];
				s += v;
				part += (uint32_t)(v * v);
			}
			ss += part;
		}
		sum += s;
		squares += ss;
	}
	return (double)squares / (double)n - (double)sum / (double)n * ((double)sum / (double)n);
}

static double entropy_of(const struct wl_image *g)
{
	uint32_t four[4][256] = {{0}}; /* so that equal neighbours do not wait for each other */
	int64_t bins[256], n = (int64_t)g->width * g->height;
	double h = 0;

	for (int64_t i = 0; i < n; i++)
		four[i % 4][g->data[i]]++;
	for (int i = 0; i < 256; i++)
		bins[i] = (int64_t)four[0][i] + four[1][i] + four[2][i] + four[3][i];
	for (int i = 0; i < 256; i++)
		if (bins[i])
			h -= (double)bins[i] / (double)n * log2((double)bins[i] / (double)n);
	return h;
}

/* Means of k x k pixels; the rest at the right and below is left out. */
static int shrink(const struct wl_image *g, struct wl_image *out, struct wl_err *err)
{
	int high = g->width > g->height ? g->width : g->height;
	int k = (high + SMALL_SIDE - 1) / SMALL_SIDE, w = g->width / k, h = g->height / k;

	*out = (struct wl_image){w ? w : 1, h ? h : 1, 1, NULL};
	out->data = calloc((size_t)out->width * out->height, 1);
	if (!out->data)
		return wl_err_nomem(err, "a small picture", (size_t)out->width * out->height);
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++) {
			int sum = 0;
			for (int j = 0; j < k; j++)
				for (int i = 0; i < k; i++)
					sum += g->data[(size_t)(y * k + j) * g->width + x * k + i];
			out->data[(size_t)y * w + x] = (uint8_t)(sum / (k * k));
		}
	return 0;
}

/* ---- text ---- */

enum block_kind { FLAT, WRITTEN, OTHER };

/* Otsu's split of the block's grey values: the threshold, with how far apart the two tones are
 * and which share of the variance is between them. */
static int otsu(const uint8_t *v, int n, double *apart, double *between)
{
	int bins[256] = {0}, best = 0, count = 0;
	int64_t total = 0, squares = 0, sum = 0;
	double top = 0, var;

	*apart = *between = 0;
	for (int i = 0; i < n; i++) {
		bins[v[i]]++;
		total += v[i];
		squares += v[i] * v[i];
	}
	var = (double)(squares * n - total * total);
	for (int t = 0; t < 255; t++) {
		double d, b;
		count += bins[t];
		sum += (int64_t)bins[t] * t;
		if (!bins[t] || count == n)
			continue;
		d = (double)(total - sum) / (n - count) - (double)sum / count;
		b = d * d * count * (n - count);
		if (b > top) {
			top = b;
			best = t;
			*apart = d;
		}
	}
	*between = var > 0 ? top / var : 0;
	return best;
}

/* The bounds were chosen on rendered pages of Chinese text (all over 0.58 in text_share) and 999
 * photos of Flickr8k-CN (99 % under 0.22, at most 0.45). */
static enum block_kind kind_of(const struct wl_image *g, int x0, int y0)
{
	uint8_t v[BLOCK * BLOCK];
	int across = 0, down = 0, dark = 0, low = 255, high = 0, t;
	double apart, between;

	for (int y = 0; y < BLOCK; y++)
		memcpy(v + y * BLOCK, g->data + (size_t)(y0 + y) * g->width + x0, BLOCK);
	for (int i = 0; i < BLOCK * BLOCK; i++) {
		low = v[i] < low ? v[i] : low;
		high = v[i] > high ? v[i] : high;
	}
	if (high - low < 24)
		return FLAT;
	t = otsu(v, BLOCK * BLOCK, &apart, &between);
	for (int i = 0; i < BLOCK * BLOCK; i++)
		dark += v[i] = v[i] <= t;
	for (int y = 0; y < BLOCK; y++)
		for (int x = 1; x < BLOCK; x++)
			across += v[y * BLOCK + x] ^ v[y * BLOCK + x - 1];
	for (int i = BLOCK; i < BLOCK * BLOCK; i++)
		down += v[i] ^ v[i - BLOCK];
	if (apart >= 70 && between >= 0.8 && across >= 14 && down >= 12 && dark > 16 &&
		dark < BLOCK * BLOCK - 16)
		return WRITTEN;
	return OTHER;
}

static double text_share(const struct wl_image *g)
{
	int n[3] = {0}, all = 0;

	for (int y = 0; y + BLOCK <= g->height; y += BLOCK)
		for (int x = 0; x + BLOCK <= g->width; x += BLOCK, all++)
			n[kind_of(g, x, y)]++;
	if (!n[WRITTEN])
		return 0;
	return (double)n[WRITTEN] / (n[WRITTEN] + n[OTHER]) *
	       fmin(1, (double)n[WRITTEN] / (0.08 * all));
}

/* ---- QR codes ---- */

struct finder {
	double x, y, module;
	int seen;
};

/* 1 where a pixel is darker than the mean of the 32 x 32 around it. */
static int binarise(const struct wl_image *g, uint8_t **out, struct wl_err *err)
{
	int w = g->width, h = g->height, r = 16;
	size_t n = (size_t)w * h;
	uint32_t *sums = calloc((size_t)(w + 1) * (h + 1), sizeof(*sums));
	uint8_t *b = malloc(n);

	*out = b;
	if (!sums || !b) {
		free(sums);
		return wl_err_nomem(err, "a picture's tones", n * 5);
	}
	for (int y = 0; y < h; y++) {
		uint32_t row = 0;
		for (int x = 0; x < w; x++) {
			row += g->data[(size_t)y * w + x];
			sums[(size_t)(y + 1) * (w + 1) + x + 1] =
				sums[(size_t)y * (w + 1) + x + 1] + row;
		}
	}
	for (int y = 0; y < h; y++) {
		int y0 = y > r ? y - r : 0, y1 = y + r < h ? y + r : h;
		const uint32_t *a = sums + (size_t)y0 * (w + 1), *c = sums + (size_t)y1 * (w + 1);
		for (int x = 0; x < w; x++) {
			int x0 = x > r ? x - r : 0, x1 = x + r < w ? x + r : w;
			uint32_t sum = c[x1] - c[x0] - a[x1] + a[x0];
			uint32_t area = (uint32_t)((x1 - x0) * (y1 - y0));
			b[(size_t)y * w + x] = (g->data[(size_t)y * w + x] + 8u) * area < sum;
		}
	}
	free(sums);
	return 0;
}

/* Whether five runs are dark, light, dark, light, dark as 1:1:3:1:1; their unit, or 0. */
static double finder_unit(const int run[5])
{
	int total = run[0] + run[1] + run[2] + run[3] + run[4];
	double unit = total / 7.0, slack = unit * 0.6;

	if (total < 10)
		return 0;
	for (int i = 0; i < 5; i++)
		if (fabs(run[i] - unit * (i == 2 ? 3 : 1)) > (i == 2 ? 2 * slack : slack))
			return 0;
	return unit;
}

/* The runs down a column through the dark pixel at (x, y); the unit, or 0, and the middle. */
static double check_column(const uint8_t *b, int w, int h, int x, int y, double unit, double *mid)
{
	int run[5] = {0}, up = y, down = y + 1, max = (int)(unit * 6);

	for (; up >= 0 && b[(size_t)up * w + x] && run[2] < max; up--)
		run[2]++;
	for (; down < h && b[(size_t)down * w + x] && run[2] < max; down++)
		run[2]++;
	*mid = (up + down) / 2.0;
	for (; up >= 0 && !b[(size_t)up * w + x] && run[1] < max; up--)
		run[1]++;
	for (; up >= 0 && b[(size_t)up * w + x] && run[0] < max; up--)
		run[0]++;
	for (; down < h && !b[(size_t)down * w + x] && run[3] < max; down++)
		run[3]++;
	for (; down < h && b[(size_t)down * w + x] && run[4] < max; down++)
		run[4]++;
	return finder_unit(run);
}

static void note(struct finder *f, int *n, double x, double y, double module)
{
	for (int i = 0; i < *n; i++)
		if (fabs(f[i].x - x) < 2 * module && fabs(f[i].y - y) < 2 * module &&
			fabs(f[i].module - module) < 0.5 * module) {
			f[i].seen++;
			return;
		}
	if (*n < FINDERS_MAX)
		f[(*n)++] = (struct finder){x, y, module, 1};
}

static int find_finders(const uint8_t *b, int w, int h, struct finder *f)
{
	int n = 0;

	for (int y = 0; y < h; y++) {
		const uint8_t *row = b + (size_t)y * w;
		int run[5] = {0}, x = 0;
		while (x < w) {
			int start = x, dark = row[x];
			double unit, down, mid, centre;
			while (x < w && row[x] == dark)
				x++;
			memmove(run, run + 1, 4 * sizeof(*run));
			run[4] = x - start;
			if (!dark || !run[0] || (unit = finder_unit(run)) <= 0)
				continue;
			mid = x - run[4] - run[3] - run[2] / 2.0;
			down = check_column(b, w, h, (int)mid, y, unit, &centre);
			if (down > 0 && down < 1.6 * unit && unit < 1.6 * down)
				note(f, &n, mid, centre, (unit + down) / 2);
		}
	}
	return n;
}

static double distance2(const struct finder *a, const struct finder *b)
{
	return (a->x - b->x) * (a->x - b->x) + (a->y - b->y) * (a->y - b->y);
}

/* Whether two finders could stand at the two ends of a code's side: 21 to 177 modules, so that
 * their centres are 14 to 170 apart. */
static bool side_of(const struct finder *a, const struct finder *b, double *d2)
{
	double m = (a->module + b->module) / 2;

	*d2 = distance2(a, b);
	return fabs(a->module - b->module)<0.5 * m && * d2> 100 * m * m && *d2 < 180 * 180 * m * m;
}

/* The area of the code whose corner is a, or 0; the sides' squares are within 40 % of each
 * other, and the third side's is their sum. */
static double code_area(const struct finder *a, const struct finder *b, const struct finder *c,
	double ab2, double ac2)
{
	double bc2 = distance2(b, c), side;

	if (fabs(ab2 - ac2) > 0.2 * (ab2 + ac2) || fabs(bc2 - ab2 - ac2) > 0.35 * bc2)
		return 0;
	side = (sqrt(ab2) + sqrt(ac2)) / 2 + 7 * (a->module + b->module + c->module) / 3;
	return side * side;
}

static double qr_share(const struct wl_image *g, const uint8_t *b)
{
	struct finder f[FINDERS_MAX];
	int n = 0, found = find_finders(b, g->width, g->height, f);
	double best = 0, ij, ik;

	for (int i = 0; i < found; i++)
		if (f[i].seen >= 2)
			f[n++] = f[i];
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++) {
			if (j == i || !side_of(&f[i], &f[j], &ij))
				continue;
			for (int k = j + 1; k < n; k++)
				if (k != i && side_of(&f[i], &f[k], &ik))
					best = fmax(best, code_area(&f[i], &f[j], &f[k], ij, ik));
		}
	return fmin(1, best / ((double)g->width * g->height));
}

int wl_picture_measure(const struct wl_image *rgb, struct wl_picture *out, struct wl_err *err)
{
	struct wl_image grey = {0}, small = {0};
	uint8_t *tones = NULL;
	int ret = -1;

	memset(out, 0, sizeof(*out));
	WL_TRY_OUT(wl_image_to_grey(rgb, &grey, err));
	WL_TRY_OUT(shrink(&grey, &small, err));
	out->sharpness = laplacian_variance(&grey);
	out->entropy = entropy_of(&grey);
	out->text = text_share(&small);
	WL_TRY_OUT(binarise(&small, &tones, err));
	out->qr = qr_share(&small, tones);
	ret = 0;
out:
	free(tones);
	wl_image_release(&grey);
	wl_image_release(&small);
	return ret;
}
