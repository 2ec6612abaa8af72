/* Buckets on their way: see dist.h. */
#include "train/dist/internal.h"

#include <stdlib.h>
#include <string.h>

struct wl_dist *wl_dist_open(struct wl_comm *comm, const struct wl_dist_config *config,
	struct wl_err *err)
{
	struct wl_dist *d;

	if (config->zero < 0 || config->zero > 3 || config->bucket_mb < 1) {
		wl_err_set(err, WL_EUSAGE, "dist.zero is %lld and dist.bucket-mb %lld: expected a "
			"stage from 0 to 3 and at least 1", (long long)config->zero,
			(long long)config->bucket_mb);
		return NULL;
	}
	d = calloc(1, sizeof *d);
	if (!d) {
		wl_err_nomem(err, "the exchange between ranks", sizeof *d);
		return NULL;
	}
	d->config = *config;
	wl_dist_part(d, 0, 1);
	d->courier = wl_courier_open(comm, err);
	if (!d->courier) {
		free(d);
		return NULL;
	}
	d->comm = wl_courier_comm(d->courier);
	return d;
}

struct wl_comm *wl_dist_comm(struct wl_dist *d)
{
	return d ? d->comm : NULL;
}

static void share_release(struct wl_share *s)
{
	free(s->coming);
	free(s->users);
	free(s->job);
	free(s->holder);
	wl_slots_release(&s->slots);
	*s = (struct wl_share){0};
}

void wl_dist_close(struct wl_dist *d)
{
	if (!d)
		return;
	if (d->wire)
		d->wire->close(d->wire);
	wl_courier_close(d->courier);
	for (int i = 0; i < WL_DIST_GRAPHS; i++)
		wl_schedule_release(&d->at[i].schedule);
	if (d->piece)
		d->be->free_mem(d->be, d->piece);
	share_release(&d->online);
	share_release(&d->momentum);
	free(d->stats);
	free(d->trains);
	free(d->reduced);
	free(d->reduction);
	wl_slots_release(&d->grad_slots);
	free(d->grad_job);
	free(d->grad_used);
	free(d);
}

int wl_dist_rank(const struct wl_dist *d)
{
	return d ? wl_comm_rank(d->comm) : 0;
}

int wl_dist_world(const struct wl_dist *d)
{
	return d ? wl_comm_size(d->comm) : 1;
}

int wl_dist_stage(const struct wl_dist *d)
{
	return d ? (int)d->config.zero : 0;
}

const struct wl_cut *wl_dist_cut(const struct wl_dist *d)
{
	return &d->cut;
}

static int share_init(struct wl_share *s, struct wl_dist *d, struct wl_params *params, bool comes,
	struct wl_err *err)
{
	size_t n = (size_t)d->cut.n + 1;

	*s = (struct wl_share){.d = d, .params = params, .comes = comes};
	s->coming = calloc(n, sizeof *s->coming);
	s->users = calloc(n, sizeof *s->users);
	s->job = calloc(n, sizeof *s->job);
	if (!s->coming || !s->users || !s->job)
		return wl_err_nomem(err, "buckets", n * 16);
	return 0;
}

int wl_dist_mark_trained(struct wl_dist *d, struct wl_err *err)
{
	const struct wl_params *p = d->online.params;

	d->trains = calloc((size_t)d->cut.n + 1, sizeof *d->trains);
	if (!d->trains)
		return wl_err_nomem(err, "buckets", (size_t)d->cut.n);
	for (int i = 0; i < p->n; i++) {
		const struct wl_param *e = &p->item[i];

		if (!(e->flags & WL_PARAM_TRAINABLE) || (e->flags & WL_PARAM_BUFFER) || !e->count)
			continue;
		for (int b = wl_cut_at(&d->cut, e->offset);
			b <= wl_cut_at(&d->cut, e->offset + e->count - 1); b++)
			d->trains[b] = true;
	}
	return 0;
}

int wl_dist_start(struct wl_dist *d, struct wl_params *online, struct wl_params *momentum,
	struct wl_err *err)
{
	int world = wl_comm_size(d->comm);
	struct wl_backend *be = online->backend;
	size_t piece, stats;

	d->be = be;
	WL_TRY(wl_dist_open_wire(d, err));
	WL_ASSERT(online->sealed && online->unit == wl_cut_unit(world, d->page));
	wl_cut_init(&d->cut, online->weights, d->config.bucket_mb << 18, d->page,
		wl_comm_rank(d->comm), world);
	WL_TRY(share_init(&d->online, d, online, d->config.zero == 3, err));
	WL_TRY(share_init(&d->momentum, d, momentum, d->config.zero > 0, err));
	WL_TRY(wl_dist_mark_trained(d, err));
	d->reduced = calloc((size_t)d->cut.n + 1, sizeof *d->reduced);
	d->reduction = calloc((size_t)d->cut.n + 1, sizeof *d->reduction);
	if (!d->reduced || !d->reduction)
		return wl_err_nomem(err, "buckets", 9 * (size_t)d->cut.n);
	online->sparse_grad = d->config.zero >= 2;
	piece = (size_t)(d->cut.bucket / world) * sizeof(float);
	if (!d->wire && !(d->piece = be->alloc(be, piece, err)))
		return -1;
	stats = (size_t)(online->floats - online->weights);
	d->n_stats = momentum ? 2 * stats : stats;
	if (d->config.sync_bn || d->n_stats == 0)
		return 0;
	d->averages = true;
	if (d->wire)
		return 0;
	d->stats = malloc(d->n_stats * sizeof(float));
	return d->stats ? 0 : wl_err_nomem(err, "running statistics", d->n_stats * 4);
}

/* --- jobs --- */

/* The courier does it in time; the wire is given it at once (c is NULL then). */
static uint64_t post(struct wl_dist *d, wl_courier_fn fn, void *user, int bucket)
{
	struct wl_wire *w = d->wire;

	if (!w)
		return wl_courier_post(d->courier, fn, user, bucket);
	if (!d->failed && (w->begin(w, &d->err) < 0 || fn(NULL, user, bucket, &d->err) < 0 ||
				  w->end(w, &d->last, &d->err) < 0))
		d->failed = true;
	d->given = true;
	return d->last;
}

int wl_dist_wire_wait(struct wl_dist *d, uint64_t job, struct wl_err *err)
{
	if (!d->failed)
		return job < d->settled ? 0 : d->wire->wait(d->wire, job, err);
	if (err)
		*err = d->err;
	return -1;
}

int wl_dist_wait_for(struct wl_dist *d, uint64_t job, struct wl_err *err)
{
	return d->wire ? wl_dist_wire_wait(d, job, err) : wl_courier_wait(d->courier, job, err);
}

/* --- values --- */

static int gather_job(struct wl_comm *c, void *user, int64_t bucket, struct wl_err *err)
{
	struct wl_share *s = user;
	struct wl_span b = wl_cut_bucket(&s->d->cut, (int)bucket);
	size_t bytes = (size_t)(b.end - b.begin) / (size_t)s->d->cut.world * sizeof(float);
	struct wl_wire *w = s->d->wire;
	char *v = (char *)(s->params->value + b.begin);

	if (w)
		return w->all_gather(w, v + (size_t)s->d->cut.rank * bytes, v, bytes, err);
	return wl_comm_all_gather_in_place(c, s->params->value + b.begin, bytes, err);
}

static void ask(struct wl_share *s, int bucket)
{
	struct wl_span b = wl_cut_bucket(&s->d->cut, bucket);

	s->job[bucket] = post(s->d, gather_job, s, bucket);
	s->coming[bucket] = true;
	s->d->sent += (double)(b.end - b.begin) * sizeof(float) *
		      (1 - 1.0 / (double)s->d->cut.world);
}

/* Whether a bucket may come ahead of its use: nobody else has its memory. */
static bool may_come(const struct wl_share *s, int bucket)
{
	int slot = s->slots.of ? s->slots.of[bucket] : -1;

	return slot < 0 || s->holder[slot] < 0 || s->holder[slot] == bucket;
}

static void come(struct wl_share *s, int bucket)
{
	if (!s->comes)
		return;
	WL_ASSERT(may_come(s, bucket));
	if (s->slots.of && s->slots.of[bucket] >= 0)
		s->holder[s->slots.of[bucket]] = bucket;
	s->users[bucket]++;
	if (!s->coming[bucket])
		ask(s, bucket);
}

static int arrived(struct wl_share *s, int bucket, struct wl_err *err)
{
	return s->coming[bucket] ? wl_dist_wait_for(s->d, s->job[bucket], err) : 0;
}

/* Gives back the part of array that other ranks own in this bucket. */
static void discard_others(const struct wl_dist *d, struct wl_backend *be, float *array,
	int bucket)
{
	struct wl_span b = wl_cut_bucket(&d->cut, bucket);
	struct wl_span mine = wl_cut_piece(&d->cut, bucket, d->cut.rank);

	if (be->apart)
		return; /* it lies in slots, or stays */
	be->discard(be, array + b.begin, (size_t)(mine.begin - b.begin) * sizeof *array);
	be->discard(be, array + mine.end, (size_t)(b.end - mine.end) * sizeof *array);
}

static void go(struct wl_share *s, int bucket)
{
	if (!s->comes || --s->users[bucket] > 0)
		return;
	s->coming[bucket] = false;
	if (s->slots.of && s->slots.of[bucket] >= 0)
		s->holder[s->slots.of[bucket]] = -1;
	discard_others(s->d, s->params->backend, s->params->value, bucket);
}

int wl_share_hold(struct wl_share *s, int bucket, struct wl_err *err)
{
	come(s, bucket);
	return arrived(s, bucket, err);
}

void wl_share_drop(struct wl_share *s, int bucket)
{
	go(s, bucket);
}

void wl_dist_shed(struct wl_dist *d)
{
	struct wl_share *both[2] = {&d->online, &d->momentum};

	for (int k = 0; k < 2; k++)
		for (int b = 0; both[k]->params && both[k]->comes && b < d->cut.n; b++)
			discard_others(d, both[k]->params->backend, both[k]->params->value, b);
}

int wl_dist_updated(struct wl_dist *d, struct wl_err *err)
{
	/* At stage 0 every rank makes the same update; at stage 3 weights come when needed. */
	for (int b = 0; b < d->cut.n && (d->config.zero == 1 || d->config.zero == 2); b++)
		if (d->trains[b])
			ask(&d->online, b);
	if (d->failed && err)
		*err = d->err;
	return d->failed ? -1 : 0;
}

/* --- gradients --- */

/* The others' parts of a bucket's gradients are 0 again, before the next part of a step. */
static void forget_others(const struct wl_dist *d, int bucket)
{
	struct wl_span b = wl_cut_bucket(&d->cut, bucket);
	struct wl_span mine = wl_cut_piece(&d->cut, bucket, d->cut.rank);
	float *grad = d->online.params->grad;

	d->be->zero(d->be, grad + b.begin, (size_t)(mine.begin - b.begin) * sizeof *grad);
	d->be->zero(d->be, grad + mine.end, (size_t)(b.end - mine.end) * sizeof *grad);
}

/* what: the bucket, twice, and 1 more in the last part of a step. */
static int reduce_job(struct wl_comm *c, void *user, int64_t what, struct wl_err *err)
{
	struct wl_dist *d = user;
	int bucket = (int)(what / 2);
	bool last = what % 2;
	struct wl_span b = wl_cut_bucket(&d->cut, bucket);
	struct wl_span mine = wl_cut_piece(&d->cut, bucket, d->cut.rank);
	struct wl_params *p = d->online.params;
	int64_t n = mine.end - mine.begin;
	float by = last ? 1.0f / (float)d->cut.world : 1.0f, *to = p->grad + mine.begin;
	bool spread = last && d->config.zero == 0;
	struct wl_wire *w = d->wire;

	if (w) {
		WL_TRY(w->reduce_scatter(w, p->grad + b.begin, (size_t)n, last, err));
		return spread ? w->all_gather(w, to, p->grad + b.begin, (size_t)n * sizeof *to, err)
			      : 0;
	}
	WL_TRY(wl_comm_reduce_scatter(c, p->grad + b.begin, d->piece, (size_t)n, WL_COMM_F32,
		err));
	for (int64_t i = 0; i < n; i++)
		to[i] = d->piece[i] * by;
	if (d->config.zero >= 2)
		discard_others(d, p->backend, p->grad, bucket);
	else if (!last)
		forget_others(d, bucket);
	return spread ? wl_comm_all_gather_in_place(c, p->grad + b.begin, (size_t)n * sizeof *to,
				err)
		      : 0;
}

void wl_dist_part(struct wl_dist *d, int64_t part, int64_t parts)
{
	d->last_part = part == parts - 1;
	d->again = part > 0 && d->config.each_part;
	d->reduce = d->last_part || d->config.each_part;
	d->variant = parts > 1 && d->last_part ? 2 : part > 0;
	if (d->reduced)
		memset(d->reduced, 0, (size_t)d->cut.n);
}

int wl_dist_variant(const struct wl_dist *d)
{
	return d->variant;
}

int wl_dist_begin_gradients(struct wl_dist *d, int bucket, struct wl_err *err)
{
	int slot = d->grad_slots.of ? d->grad_slots.of[bucket] : -1;

	if (!d->trains[bucket] || (slot < 0 && !d->again))
		return 0;
	/* What is there still goes to the owner. A slot's may be another bucket's. */
	if (d->again)
		WL_TRY(wl_dist_wait_for(d, d->reduction[bucket], err));
	if (slot >= 0 && d->grad_used[slot])
		WL_TRY(wl_dist_wire_wait(d, d->grad_job[slot], err));
	if (d->wire) /* the courier does it behind the reduction */
		forget_others(d, bucket);
	return 0;
}

/* Lets the courier average a bucket's gradients. */
static void post_reduction(struct wl_dist *d, int bucket)
{
	struct wl_span b = wl_cut_bucket(&d->cut, bucket);

	if (!d->trains[bucket] || d->reduced[bucket])
		return;
	d->reduced[bucket] = true;
	d->reduction[bucket] = post(d, reduce_job, d, 2 * bucket + d->last_part);
	if (d->grad_slots.of && d->grad_slots.of[bucket] >= 0) {
		d->grad_job[d->grad_slots.of[bucket]] = d->last;
		d->grad_used[d->grad_slots.of[bucket]] = true;
	}
	d->sent += (double)(b.end - b.begin) * sizeof(float) * (1 - 1.0 / (double)d->cut.world) *
		   (d->config.zero == 0 && d->last_part ? 2 : 1);
}

int wl_dist_reduced(struct wl_dist *d, struct wl_err *err)
{
	/* Those that no attached graph has completed, as a loss graph's temperature. */
	for (int b = 0; b < d->cut.n; b++)
		post_reduction(d, b);
	memset(d->reduced, 0, (size_t)d->cut.n);
	return wl_dist_catch_up(d, err);
}

/* --- graphs --- */

static int first_from(const struct wl_event *v, int n, int op)
{
	int i = 0;

	while (i < n && v[i].op < op)
		i++;
	return i;
}

static void begin(void *user, int from, int to)
{
	struct wl_attached *a = user;
	const struct wl_schedule_of_buckets *s = &a->schedule;

	while (a->came > a->needed) /* asked for by a run that failed */
		go(a->share, s->come[--a->came].bucket);
	a->came = a->needed = first_from(s->come, s->n_come, from);
	a->gone = first_from(s->go, s->n_go, from);
	a->begun = first_from(s->begin, s->n_begin, from);
	a->ready = first_from(s->ready, s->n_ready, from);
	a->to = to;
}

static int before(void *user, int op, struct wl_err *err)
{
	struct wl_attached *a = user;
	const struct wl_schedule_of_buckets *s = &a->schedule;

	while (a->needed < s->n_come && s->come[a->needed].op <= op) {
		while (a->came < s->n_come && a->came <= a->needed + WL_DIST_AHEAD &&
			s->come[a->came].op < a->to &&
			(a->came == a->needed || may_come(a->share, s->come[a->came].bucket)))
			come(a->share, s->come[a->came++].bucket);
		WL_TRY(arrived(a->share, s->come[a->needed++].bucket, err));
	}
	for (; a->begun < s->n_begin && s->begin[a->begun].op <= op; a->begun++)
		if (a->grads)
			WL_TRY(wl_dist_begin_gradients(a->d, s->begin[a->begun].bucket, err));
	return 0;
}

static int after(void *user, int op, struct wl_err *err)
{
	struct wl_attached *a = user;
	const struct wl_schedule_of_buckets *s = &a->schedule;
	struct wl_dist *d = a->d;

	for (; a->gone < s->n_go && s->go[a->gone].op <= op; a->gone++)
		go(a->share, s->go[a->gone].bucket);
	for (; a->ready < s->n_ready && s->ready[a->ready].op <= op; a->ready++)
		if (a->grads && d->reduce)
			post_reduction(d, s->ready[a->ready].bucket);
	if (!d->failed)
		return 0;
	if (err)
		*err = d->err;
	return -1;
}

/* In the middle of a batch norm. */
static void sum_in_graph(void *user, double *v, size_t n)
{
	struct wl_dist *d = ((struct wl_attached *)user)->d;
	struct wl_wire *w = d->wire;

	if (w && !d->failed && (w->begin(w, &d->err) < 0 || w->all_sum(w, v, n, &d->err) < 0 ||
				       w->end(w, &d->last, &d->err) < 0 ||
				       w->wait(w, d->last, &d->err) < 0))
		d->failed = true;
	if (!w && !d->failed &&
		wl_comm_all_reduce(d->comm, v, n, WL_COMM_F64, WL_COMM_SUM, &d->err) < 0)
		d->failed = true;
}

int wl_dist_attach(struct wl_dist *d, struct wl_graph *g, struct wl_params *store,
	bool grads, struct wl_err *err)
{
	struct wl_share *share = store == d->momentum.params ? &d->momentum : &d->online;
	struct wl_graph_hooks hooks = {
		.rank = d->cut.rank,
		.world = d->cut.world,
		.sum = d->config.sync_bn ? sum_in_graph : NULL,
		.begin = begin,
		.before = before,
		.after = after,
		.recording = d->wire ? wl_dist_recording : NULL,
	};
	struct wl_attached *a = d->at;

	while (a < d->at + WL_DIST_GRAPHS && a->graph)
		a++;
	WL_ASSERT(a < d->at + WL_DIST_GRAPHS && (store == share->params));
	*a = (struct wl_attached){.d = d, .graph = g, .share = share, .grads = grads};
	WL_TRY(wl_schedule_make(&a->schedule, g, store, &d->cut, !share->comes, err));
	WL_TRY(wl_dist_fits(d, a, err));
	hooks.peers = a;
	wl_graph_hook(g, &hooks);
	return 0;
}

void wl_dist_detach(struct wl_dist *d, struct wl_graph *g)
{
	for (struct wl_attached *a = d->at; a < d->at + WL_DIST_GRAPHS; a++)
		if (a->graph == g) {
			wl_schedule_release(&a->schedule);
			*a = (struct wl_attached){0};
		}
}
