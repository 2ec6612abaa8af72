/*
 * Memory of arrays in parts, on backends that can reserve addresses (wl_backend.reserve): this
 * rank's pieces have memory of their own, the others' that of slots, or none.  Which bucket has
 * which slot is settled once, from the schedules of the graphs that train, so that nothing moves
 * while they do.
 */
#include "train/dist/internal.h"

#include <stdlib.h>

void wl_dist_shape(struct wl_dist *d, struct wl_backend *be, struct wl_params *online)
{
	d->page = wl_cut_page(be->reserve ? be->part_bytes : 0);
	online->unit = wl_cut_unit(wl_dist_world(d), d->page);
	online->value_parts = d->config.zero == 3 && be->reserve;
	online->grad_parts = d->config.zero >= 2 && be->reserve;
}

/* What the attached graphs hold of a store's values (share), or, with NULL, of gradients.  own[] is
 * set for buckets that cannot share. NULL: no memory. */
static struct wl_held *collect(struct wl_dist *d, const struct wl_share *share, bool *own, int *n,
	struct wl_err *err)
{
	size_t most = (size_t)WL_DIST_GRAPHS * 2 * (size_t)d->cut.n + 1;
	struct wl_held *held = calloc(most, sizeof *held);

	*n = 0;
	if (!held) {
		wl_err_nomem(err, "slots of buckets", most * sizeof *held);
		return NULL;
	}
	for (int b = 0; b < d->cut.n; b++)
		own[b] = !share;
	for (int i = 0; i < WL_DIST_GRAPHS; i++) {
		const struct wl_attached *a = &d->at[i];

		if (!a->graph)
			continue;
		if (share && a->share == share)
			*n += wl_slots_of_values(&a->schedule, i, WL_DIST_AHEAD, held + *n);
		if (!share && a->grads)
			*n += wl_slots_of_gradients(&a->schedule, i, held + *n);
	}
	for (int i = 0; i < *n && !share; i++)
		own[held[i].bucket] = false;
	/* A gradient that another graph adds to may come at any time. */
	for (int i = 0; i < WL_DIST_GRAPHS && !share; i++)
		for (int k = 0; d->at[i].graph && !d->at[i].grads && k < d->at[i].schedule.n_begin;
			k++)
			own[d->at[i].schedule.begin[k].bucket] = true;
	return held;
}

static int make_slots(struct wl_dist *d, const struct wl_share *share, struct wl_slots *slots,
	struct wl_err *err)
{
	bool *own = calloc((size_t)d->cut.n + 1, sizeof *own);
	struct wl_held *held = NULL;
	int n, ret = -1;

	if (!own)
		return wl_err_nomem(err, "slots of buckets", (size_t)d->cut.n);
	held = collect(d, share, own, &n, err);
	if (held)
		ret = wl_slots_make(slots, &d->cut, held, n, own, err);
	free(held);
	free(own);
	return ret;
}

static void add(struct wl_part *parts, int *n, int64_t begin, int64_t end, int slot)
{
	if (begin < end)
		parts[(*n)++] = (struct wl_part){(size_t)begin * sizeof(float),
			(size_t)end * sizeof(float), slot};
}

/* Own pieces, what is before and after them in the bucket, and the buffers at the end.  live[b]:
 * the others' parts of the bucket are used at all; NULL: of every bucket. */
static int place(struct wl_dist *d, const struct wl_params *p, float *array,
	const struct wl_slots *slots, const bool *live, struct wl_err *err)
{
	struct wl_part *parts = calloc(3 * (size_t)d->cut.n + 1, sizeof *parts);
	int n = 0, ret;

	if (!parts)
		return wl_err_nomem(err, "the parts of an array", (size_t)d->cut.n * 72);
	for (int b = 0; b < d->cut.n; b++) {
		struct wl_span all = wl_cut_bucket(&d->cut, b);
		struct wl_span mine = wl_cut_piece(&d->cut, b, d->cut.rank);
		int slot = slots->of[b];

		if (live && !live[b])
			all = mine;
		add(parts, &n, all.begin, mine.begin, slot < 0 ? -1 : 2 * slot);
		add(parts, &n, mine.begin, mine.end, -1);
		add(parts, &n, mine.end, all.end, slot < 0 ? -1 : 2 * slot + 1);
	}
	add(parts, &n, p->weights, p->floats, -1);
	ret = d->be->place(d->be, array, parts, n, err);
	free(parts);
	return ret;
}

static int place_values(struct wl_dist *d, struct wl_share *s, struct wl_err *err)
{
	if (!s->params || !s->params->value_parts)
		return 0;
	WL_TRY(make_slots(d, s, &s->slots, err));
	s->holder = malloc(((size_t)s->slots.n + 1) * sizeof *s->holder);
	if (!s->holder)
		return wl_err_nomem(err, "slots of buckets", (size_t)s->slots.n * sizeof(int));
	for (int i = 0; i < s->slots.n; i++)
		s->holder[i] = -1;
	return place(d, s->params, s->params->value, &s->slots, NULL, err);
}

/* What is to be zero when a step begins: own pieces, and buckets that are in no slot. */
static int set_zero(struct wl_dist *d, struct wl_params *p, struct wl_err *err)
{
	p->zero = calloc((size_t)d->cut.n + 1, sizeof *p->zero);
	if (!p->zero)
		return wl_err_nomem(err, "what a step zeroes", (size_t)d->cut.n * sizeof *p->zero);
	for (int b = 0; b < d->cut.n; b++) {
		struct wl_span s = d->grad_slots.of[b] < 0 && d->trains[b]
					   ? wl_cut_bucket(&d->cut, b)
					   : wl_cut_piece(&d->cut, b, d->cut.rank);

		p->zero[p->n_zero++] = (struct wl_part){(size_t)s.begin, (size_t)s.end, -1};
	}
	return 0;
}

static int place_gradients(struct wl_dist *d, struct wl_params *p, struct wl_err *err)
{
	if (!p->grad_parts)
		return 0;
	WL_TRY(make_slots(d, NULL, &d->grad_slots, err));
	d->grad_job = calloc((size_t)d->grad_slots.n + 1, sizeof *d->grad_job);
	d->grad_used = calloc((size_t)d->grad_slots.n + 1, sizeof *d->grad_used);
	if (!d->grad_job || !d->grad_used)
		return wl_err_nomem(err, "slots of gradients", (size_t)d->grad_slots.n * 9);
	WL_TRY(place(d, p, p->grad, &d->grad_slots, d->trains, err));
	return set_zero(d, p, err);
}

int wl_dist_place(struct wl_dist *d, struct wl_err *err)
{
	WL_TRY(place_values(d, &d->online, err));
	WL_TRY(place_values(d, &d->momentum, err));
	return place_gradients(d, d->online.params, err);
}

/* A graph that comes later must not hold together what shares memory. */
int wl_dist_fits(const struct wl_dist *d, const struct wl_attached *a, struct wl_err *err)
{
	const struct wl_slots *s = &a->share->slots;
	struct wl_held *held;
	int n, ret = 0;

	if (!s->of)
		return 0;
	held = calloc(2 * (size_t)d->cut.n + 1, sizeof *held);
	if (!held)
		return wl_err_nomem(err, "slots of buckets", 2 * (size_t)d->cut.n * sizeof *held);
	n = wl_slots_of_values(&a->schedule, 0, 0, held);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < i; k++)
			if (held[i].bucket != held[k].bucket && s->of[held[i].bucket] >= 0 &&
				s->of[held[i].bucket] == s->of[held[k].bucket] &&
				held[i].from <= held[k].to && held[k].from <= held[i].to)
				ret = -1;
	free(held);
	return ret < 0 ? wl_err_set(err, WL_EFAIL, "a graph needs weights together that share "
			"memory at --dist.zero 3; use --dist.zero 2, or --val.every -1") : 0;
}

/* --- the plan --- */

/* Bytes of the others' parts: of slots, and of buckets that are in none; live as above. */
static double others(const struct wl_cut *cut, const struct wl_slots *s, const bool *live)
{
	double floats = (double)s->n * (double)cut->bucket;

	for (int b = 0; b < cut->n; b++)
		if (s->of[b] < 0 && (!live || live[b]))
			floats += (double)(wl_cut_bucket(cut, b).end - wl_cut_bucket(cut, b).begin);
	return floats * sizeof(float) * (1 - 1.0 / cut->world);
}

static int plan_share(struct wl_dist *d, struct wl_share *share, double *bytes,
	struct wl_err *err)
{
	struct wl_slots s = {0};

	WL_TRY(make_slots(d, share, &s, err));
	*bytes += others(&d->cut, &s, share ? NULL : d->trains);
	wl_slots_release(&s);
	return 0;
}

static int plan(struct wl_dist *d, double adam_bytes, size_t part,
	struct wl_dist_plan *out, struct wl_err *err)
{
	const struct wl_params *p = d->online.params;
	double mine = (double)d->cut.floats / d->cut.world, f = sizeof(float), was = out->parts;
	double stats = f * (double)(p->floats - p->weights), all = f * (double)d->cut.floats;
	int64_t zero = d->config.zero;

	stats = (double)(((size_t)stats + part - 1) / part * part);
	out->coming = 0;
	out->adam = adam_bytes * (zero >= 1 ? mine : (double)d->cut.floats);
	out->momentum = d->momentum.params ? (zero >= 1 ? f * mine : all) + stats : 0;
	out->weights = (zero >= 3 ? f * mine : all) + stats;
	out->gradients = zero >= 2 ? f * mine + stats : all + stats;
	if (zero >= 1 && d->momentum.params)
		WL_TRY(plan_share(d, &d->momentum, &out->coming, err));
	if (zero >= 2)
		WL_TRY(plan_share(d, NULL, &out->coming, err));
	if (zero >= 3)
		WL_TRY(plan_share(d, &d->online, &out->coming, err));
	out->parts = was + out->coming + (zero >= 1 ? out->adam + out->momentum : 0) +
		     (zero >= 2 ? out->gradients : 0) + (zero >= 3 ? out->weights : 0);
	return 0;
}

int wl_dist_plan_parts(const struct wl_dist_config *c, int world, size_t part_bytes,
	const struct wl_dist_planned *graphs, int n, struct wl_params *online,
	struct wl_params *momentum, int64_t parts, double adam_bytes, struct wl_dist_plan *out,
	struct wl_err *err)
{
	int64_t page = wl_cut_page(part_bytes), unit = wl_cut_unit(world, page);
	int64_t floats = (online->weights + unit - 1) / unit * unit;
	struct wl_dist *d = calloc(1, sizeof *d);
	int ret = -1;

	if (!d)
		return wl_err_nomem(err, "a plan of ranks", sizeof *d);
	WL_ASSERT(n <= WL_DIST_GRAPHS);
	d->config = *c;
	wl_cut_init(&d->cut, floats, c->bucket_mb << 18, page, 0, world);
	d->online.params = online;
	d->momentum.params = momentum;
	WL_TRY_OUT(wl_dist_mark_trained(d, err));
	wl_dist_plan(c, world, parts, online->weights, wl_params_trainable_count(online),
		adam_bytes, out);
	out->parts = 0;
	for (int i = 0; i < n; i++) {
		struct wl_share *share = graphs[i].online ? &d->online : &d->momentum;

		d->at[i] = (struct wl_attached){.d = d, .graph = graphs[i].graph, .share = share,
			.grads = graphs[i].grads};
		WL_TRY_OUT(wl_schedule_make(&d->at[i].schedule, graphs[i].graph, share->params,
			&d->cut, graphs[i].online && c->zero < 3, err));
	}
	ret = plan(d, adam_bytes, part_bytes, out, err);
out:
	for (int i = 0; i < n; i++)
		wl_schedule_release(&d->at[i].schedule);
	free(d->trains);
	free(d);
	return ret;
}
