/* Arithmetic of shares: see cut.h. */
#include "train/dist/cut.h"

#include "ops/err.h"

int64_t wl_cut_page(size_t part_bytes)
{
	int64_t halves = (int64_t)(part_bytes / 2);

	return halves > WL_CUT_PAGE ? halves : WL_CUT_PAGE;
}

int64_t wl_cut_unit(int world, int64_t page)
{
	return (int64_t)world * page;
}

void wl_cut_init(struct wl_cut *c, int64_t floats, int64_t bucket, int64_t page, int rank,
	int world)
{
	int64_t unit = wl_cut_unit(world, page);

	WL_ASSERT(world > 0 && rank >= 0 && rank < world && floats % unit == 0);
	bucket = bucket < unit ? unit : (bucket + unit - 1) / unit * unit;
	*c = (struct wl_cut){.floats = floats, .bucket = bucket, .rank = rank, .world = world,
		.page = page,
		.n = (int)((floats + bucket - 1) / bucket)};
}

struct wl_span wl_cut_bucket(const struct wl_cut *c, int i)
{
	struct wl_span s = {(int64_t)i * c->bucket, (int64_t)(i + 1) * c->bucket};

	if (s.end > c->floats)
		s.end = c->floats;
	return s;
}

struct wl_span wl_cut_piece(const struct wl_cut *c, int i, int rank)
{
	struct wl_span b = wl_cut_bucket(c, i);
	int64_t len = (b.end - b.begin) / c->world;

	return (struct wl_span){b.begin + rank * len, b.begin + (rank + 1) * len};
}

int wl_cut_at(const struct wl_cut *c, int64_t offset)
{
	return (int)(offset / c->bucket);
}

int wl_cut_owner(const struct wl_cut *c, int64_t offset)
{
	struct wl_span b = wl_cut_bucket(c, wl_cut_at(c, offset));

	return (int)((offset - b.begin) / ((b.end - b.begin) / c->world));
}

struct wl_span wl_cut_next(const struct wl_cut *c, int64_t from, int64_t to)
{
	if (!c)
		return (struct wl_span){from, to};
	for (int i = wl_cut_at(c, from); from < to && i < c->n; i++) {
		struct wl_span p = wl_cut_piece(c, i, c->rank);

		if (p.begin < from)
			p.begin = from;
		if (p.end > to)
			p.end = to;
		if (p.begin < p.end)
			return p;
	}
	return (struct wl_span){to, to};
}

int64_t wl_cut_owned(const struct wl_cut *c, int64_t to)
{
	struct wl_span p;
	int i;

	if (!c)
		return to;
	i = wl_cut_at(c, to);
	p = wl_cut_piece(c, i, c->rank);
	to = to < p.begin ? p.begin : to > p.end ? p.end : to;
	return i * (c->bucket / c->world) + to - p.begin;
}
