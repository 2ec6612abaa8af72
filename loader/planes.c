/*
 * The samples of the crop, and no others, are kept: each strip of the decoder is copied from where
 * it came down, the columns that some output pixel uses.  The weights are those that the resizer
 * would have used (loader/filter.h), moved to where their first sample now lies.
 */
#include "loader/planes_make.h"

#include "loader/filter.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, WHOLE_PITCH = 64 /* of planes that a GPU decodes */ };

/* One plane while its picture passes. */
struct lane {
	struct wl_filter fx, fy;
	const struct wl_filter *x, *y;        /* its own, or those of the plane before */
	uint8_t *strip;   /* [strip rows, stride] */
	size_t strip_cap;
	uint8_t **rows;   /* [strip rows] */
	size_t rows_cap;
	int have;         /* rows that came, counted from the plane's top */
};

struct wl_plane_maker {
	int side;
	struct lane lane[WL_PLANES_MAX];
	float *kernel; /* [side] */
	uint8_t *area; /* of the picture in hand, for rows that arrive as floats */
};

struct wl_plane_maker *wl_plane_maker_new(int side, struct wl_err *err)
{
	struct wl_plane_maker *m = calloc(1, sizeof(*m));

	if (m)
		m->kernel = malloc((size_t)side * sizeof(float));
	if (!m || !m->kernel) {
		wl_err_nomem(err, "the plane maker", (size_t)side * sizeof(float));
		free(m);
		return NULL;
	}
	m->side = side;
	return m;
}

void wl_plane_maker_free(struct wl_plane_maker *m)
{
	int p;

	if (!m)
		return;
	for (p = 0; p < WL_PLANES_MAX; p++) {
		wl_filter_release(&m->lane[p].fx);
		wl_filter_release(&m->lane[p].fy);
		free(m->lane[p].strip);
		free(m->lane[p].rows);
	}
	free(m->kernel);
	free(m);
}

static bool same_shape(const struct wl_plane *a, const struct wl_plane *b)
{
	return a->width == b->width && a->height == b->height && a->h == b->h && a->v == b->v &&
		a->smooth_x == b->smooth_x && a->smooth_y == b->smooth_y;
}

static int build_filters(struct wl_plane_maker *m, const struct wl_region *g, int p, bool flip,
	struct wl_err *err)
{
	const struct wl_plane *s = &g->plane[p], *whole = &g->plane[0];
	const struct wl_sampling across = {s->width, s->h, s->smooth_x};
	const struct wl_sampling down = {s->height, s->v, s->smooth_y};
	struct lane *l = &m->lane[p];

	if (p > 0 && same_shape(s, s - 1)) {
		l->x = l[-1].x;
		l->y = l[-1].y;
		return 0;
	}
	l->x = &l->fx;
	l->y = &l->fy;
	WL_TRY(wl_filter_build(&l->fx, m->side, g->x, g->w, whole->width * whole->h, &across, 1,
		flip, err));
	return wl_filter_build(&l->fy, m->side, g->y, g->h, whole->height * whole->v, &down,
		1.0 / 255, false, err);
}

/* The next `bytes` of the area; false when they would go over its end. */
static bool place(struct wl_planes *out, size_t limit, size_t bytes, uint32_t *at)
{
	size_t end = (size_t)out->bytes + bytes;

	if (end > limit)
		return false;
	*at = out->bytes;
	out->bytes = (uint32_t)((end + ALIGN - 1) / ALIGN * ALIGN);
	return true;
}

static bool place_axis(struct wl_planes *out, size_t limit, const struct wl_filter *f,
	struct wl_axis *axis)
{
	size_t n = (size_t)f->n;

	axis->taps = f->taps;
	return place(out, limit, n * sizeof(int32_t), &axis->start) &&
		place(out, limit, n * (size_t)f->taps * sizeof(float), &axis->weight);
}

/* Where the tables go; false: the area is too small. */
static bool lay_tables(struct wl_plane_maker *m, const struct wl_region *g, size_t limit,
	struct wl_planes *out)
{
	int p;

	out->bytes = 0;
	if (out->radius >= 0 &&
		!place(out, limit, (size_t)(out->radius + 1) * sizeof(float), &out->kernel))
		return false;
	for (p = 0; p < g->planes; p++) {
		struct wl_stored_plane *s = &out->plane[p];
		struct lane *l = &m->lane[p];

		if (l->x != &l->fx) { /* the tables of the plane before */
			s->across = s[-1].across;
			s->down = s[-1].down;
		} else if (!place_axis(out, limit, l->x, &s->across) ||
			!place_axis(out, limit, l->y, &s->down)) {
			return false;
		}
	}
	return true;
}

/* The same of the tables and the samples. */
static bool lay_out(struct wl_plane_maker *m, const struct wl_region *g, size_t limit,
	struct wl_planes *out)
{
	int p;

	if (!lay_tables(m, g, limit, out))
		return false;
	for (p = 0; p < g->planes; p++) {
		struct wl_stored_plane *s = &out->plane[p];
		const struct lane *l = &m->lane[p];

		s->pitch = (l->x->hi - l->x->lo + ALIGN - 1) / ALIGN * ALIGN;
		if (!place(out, limit, (size_t)s->pitch * (size_t)(l->y->hi - l->y->lo), &s->data))
			return false;
	}
	return true;
}

/* Weights as the device reads them: taps of weight 0 behind the last sample would read outside of
 * what is stored, so such rows begin earlier, with their zeros in front. */
static void write_axis(const struct wl_filter *f, const struct wl_axis *axis, uint8_t *area)
{
	int32_t *start = (int32_t *)(void *)(area + axis->start);
	float *weight = (float *)(void *)(area + axis->weight);
	int n = f->hi - f->lo, taps = f->taps, i;

	for (i = 0; i < f->n; i++) {
		const float *w = f->weight + (size_t)i * (size_t)taps;
		float *to = weight + (size_t)i * (size_t)taps;
		int first = f->start[i] - f->lo, back = first + taps > n ? first + taps - n : 0;

		start[i] = first - back;
		memset(to, 0, (size_t)back * sizeof(float));
		memcpy(to + back, w, (size_t)(taps - back) * sizeof(float));
	}
}

static void write_tables(const struct wl_plane_maker *m, const struct wl_region *g, uint8_t *area,
	const struct wl_planes *out)
{
	int p;

	for (p = 0; p < g->planes; p++) {
		if (m->lane[p].x != &m->lane[p].fx)
			continue;
		write_axis(m->lane[p].x, &out->plane[p].across, area);
		write_axis(m->lane[p].y, &out->plane[p].down, area);
	}
	if (out->radius >= 0)
		memcpy(area + out->kernel, m->kernel, (size_t)(out->radius + 1) * sizeof(float));
}

static int pull(struct wl_plane_maker *m, const struct wl_region *g, wl_strip_fn *strips,
	void *source, struct wl_err *err)
{
	uint8_t *const *rows[WL_PLANES_MAX] = {0};
	int p;

	for (p = 0; p < g->planes; p++)
		rows[p] = m->lane[p].rows;
	return strips(source, rows, err);
}

/* The strip's rows that are wanted, to their place. */
static void keep(const struct lane *l, const struct wl_plane *s, const struct wl_stored_plane *to,
	uint8_t *area)
{
	size_t bytes = (size_t)(l->x->hi - l->x->lo);
	int k;

	for (k = 0; k < s->strip; k++) {
		int y = l->have + k;

		if (y >= l->y->lo && y < l->y->hi)
			memcpy(area + to->data + (size_t)(y - l->y->lo) * (size_t)to->pitch,
				l->rows[k] + (l->x->lo - s->left), bytes);
	}
}

static int make_strips(struct wl_plane_maker *m, const struct wl_region *g, struct wl_err *err)
{
	int p, k;

	for (p = 0; p < g->planes; p++) {
		const struct wl_plane *s = &g->plane[p];
		struct lane *l = &m->lane[p];

		l->have = s->first;
		l->strip = wl_filter_grow(l->strip, &l->strip_cap,
			(size_t)s->strip * (size_t)s->stride, err);
		l->rows = wl_filter_grow(l->rows, &l->rows_cap,
			(size_t)s->strip * sizeof(*l->rows), err);
		if (!l->strip || !l->rows)
			return -1;
		for (k = 0; k < s->strip; k++)
			l->rows[k] = l->strip + (size_t)k * (size_t)s->stride;
	}
	return 0;
}

static bool lacks(const struct wl_plane_maker *m, const struct wl_region *g)
{
	int p;

	for (p = 0; p < g->planes; p++)
		if (m->lane[p].have < m->lane[p].y->hi)
			return true;
	return false;
}

static int copy_planes(struct wl_plane_maker *m, const struct wl_region *g, wl_strip_fn *strips,
	void *source, uint8_t *area, const struct wl_planes *out, struct wl_err *err)
{
	int p;

	WL_TRY(make_strips(m, g, err));
	while (lacks(m, g)) {
		WL_TRY(pull(m, g, strips, source, err));
		for (p = 0; p < g->planes; p++) {
			keep(&m->lane[p], &g->plane[p], &out->plane[p], area);
			m->lane[p].have += g->plane[p].strip;
		}
	}
	write_tables(m, g, area, out);
	return 0;
}

static void keep_floats(void *sink, int y, const float *const rgb[3])
{
	struct wl_plane_maker *m = sink;
	size_t side = (size_t)m->side;
	float *to = (float *)(void *)m->area;
	int c;

	for (c = 0; c < 3; c++)
		memcpy(to + ((size_t)c * side + (size_t)y) * side, rgb[c], side * sizeof(float));
}

static int resize_here(struct wl_plane_maker *m, const struct wl_region *g, bool flip,
	struct wl_resizer *resizer, wl_strip_fn *strips, void *source, uint8_t *area,
	struct wl_planes *out, struct wl_err *err)
{
	size_t side = (size_t)m->side, limit = wl_planes_area(m->side);
	bool fits;

	out->planes = out->ycc = 0;
	out->bytes = 0;
	m->area = area;
	fits = place(out, limit, 3 * side * side * sizeof(float), &out->plane[0].data) &&
		(out->radius < 0 ||
			place(out, limit, (size_t)(out->radius + 1) * sizeof(float), &out->kernel));
	WL_ASSERT(fits && out->plane[0].data == 0);
	if (out->radius >= 0)
		memcpy(area + out->kernel, m->kernel, (size_t)(out->radius + 1) * sizeof(float));
	return wl_resizer_run(resizer, g, flip, strips, source, keep_floats, m, err);
}

static int begin(struct wl_plane_maker *m, const struct wl_region *g,
	const struct wl_augment_params *params, struct wl_planes *out, struct wl_err *err)
{
	int p;

	*out = (struct wl_planes){.area = out->area, .planes = g->planes, .ycc = g->ycc,
		.radius = -1, .params = *params};
	if (params->blur_sigma > 0)
		out->radius = wl_blur_kernel(params->blur_sigma, m->side, m->kernel);
	for (p = 0; p < g->planes; p++)
		WL_TRY(build_filters(m, g, p, params->flip, err));
	return 0;
}

int wl_planes_make(struct wl_plane_maker *m, const struct wl_region *g,
	const struct wl_augment_params *params, struct wl_resizer *resizer, wl_strip_fn *strips,
	void *source, uint8_t *area, struct wl_planes *out, struct wl_err *err)
{
	WL_TRY(begin(m, g, params, out, err));
	if (lay_out(m, g, wl_planes_area(m->side), out))
		return copy_planes(m, g, strips, source, area, out, err);
	return resize_here(m, g, params->flip, resizer, strips, source, area, out, err);
}

/* The whole planes' places in the GPU's memory. */
static bool place_whole(const struct wl_region *g, size_t limit, struct wl_planes *out)
{
	struct wl_planes there = {0};
	int p;

	for (p = 0; p < g->planes; p++) {
		struct wl_stored_plane *s = &out->plane[p];

		s->pitch = (g->plane[p].width + WHOLE_PITCH - 1) / WHOLE_PITCH * WHOLE_PITCH;
		if (!place(&there, limit, (size_t)s->pitch * (size_t)g->plane[p].height, &s->data))
			return false;
	}
	return true;
}

int wl_planes_keep_jpeg(struct wl_plane_maker *m, const struct wl_region *g,
	const struct wl_augment_params *params, const void *bytes, size_t n, uint8_t *area,
	struct wl_planes *out, bool *fits, struct wl_err *err)
{
	size_t limit = wl_planes_area(m->side);
	int p;

	WL_TRY(begin(m, g, params, out, err));
	/* All of a plane is there, so places are counted from its edge. */
	for (p = 0; p < g->planes; p++) {
		m->lane[p].fx.lo = m->lane[p].fy.lo = 0;
		m->lane[p].fx.hi = g->plane[p].width;
		m->lane[p].fy.hi = g->plane[p].height;
	}
	*fits = lay_tables(m, g, limit, out) && place(out, limit, n, &out->jpeg) &&
		place_whole(g, limit, out);
	if (!*fits)
		return 0;
	out->jpeg_bytes = (uint32_t)n;
	memcpy(area + out->jpeg, bytes, n);
	write_tables(m, g, area, out);
	return 0;
}
