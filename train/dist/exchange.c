/* Running statistics, whole stores for checkpoints, and the plan: see dist.h. */
#include "train/dist/internal.h"

#include <string.h>

/* NCCL's kernels spin on a peer that is gone; a connection between hosts closes at once. */
static bool peer_lost(const void *comm, int *rank)
{
	return wl_comm_lost(comm, rank);
}

int wl_dist_open_wire(struct wl_dist *d, struct wl_err *err)
{
	struct wl_backend *be = d->be;
	struct {
		char id[WL_WIRE_ID];
		int32_t made;
	} m = {.made = 0};
	int rank = wl_comm_rank(d->comm);
	int ret = 0;

	if (!be->wire)
		return 0;
	if (rank == 0)
		ret = be->wire_id(be, m.id, err);
	m.made = ret == 0;
	if (wl_comm_broadcast(d->comm, &m, sizeof m, 0, ret < 0 ? NULL : err) < 0 || ret < 0)
		return -1;
	if (!m.made)
		return wl_err_set(err, WL_EUSAGE, "rank 0 cannot bring the GPUs together; its own "
			"message says why");
	d->wire = be->wire(be, rank, wl_comm_size(d->comm), m.id, d->config.timeout_s, err);
	if (!d->wire)
		return -1;
	d->wire->watch(d->wire, peer_lost, d->comm);
	return 0;
}

/* What a call given to the wire returns: in order, and not waited for on the host. */
static int in_order(struct wl_dist *d, int ret, struct wl_err *err)
{
	struct wl_wire *w = d->wire;

	if (ret < 0 || w->end(w, &d->last, err) < 0)
		return -1;
	return w->wait(w, d->last, err);
}

static int wire_mean_stats(struct wl_dist *d, const struct wl_params *const p[2], size_t n,
	struct wl_err *err)
{
	struct wl_wire *w = d->wire;
	int ret;

	WL_TRY(w->begin(w, err));
	ret = w->all_mean(w, p[0]->value + p[0]->weights, n, err);
	if (ret == 0 && p[1])
		ret = w->all_mean(w, p[1]->value + p[1]->weights, n, err);
	return in_order(d, ret, err);
}

int wl_dist_mean_stats(struct wl_dist *d, struct wl_err *err)
{
	const struct wl_params *p[2] = {d->online.params, d->momentum.params};
	size_t n = (size_t)(p[0]->floats - p[0]->weights);
	float by = 1.0f / (float)d->cut.world;
	struct wl_backend *be = p[0]->backend;

	if (!d->averages)
		return 0;
	if (d->wire)
		return wire_mean_stats(d, p, n, err);
	for (int k = 0; k < 2 && p[k]; k++)
		be->download(be, d->stats + (size_t)k * n, p[k]->value + p[k]->weights,
			n * sizeof(float));
	WL_TRY(wl_comm_all_reduce(d->comm, d->stats, d->n_stats, WL_COMM_F32, WL_COMM_SUM, err));
	for (size_t i = 0; i < d->n_stats; i++)
		d->stats[i] *= by;
	for (int k = 0; k < 2 && p[k]; k++)
		be->upload(be, p[k]->value + p[k]->weights, d->stats + (size_t)k * n,
			n * sizeof(float));
	return 0;
}

int wl_dist_gather(struct wl_dist *d, const void *in, size_t bytes, void *out, struct wl_err *err)
{
	struct wl_wire *w = d->wire;

	if (!w)
		return wl_comm_all_gather(d->comm, in, bytes, out, err);
	WL_TRY(w->begin(w, err));
	return in_order(d, w->all_gather(w, in, out, bytes, err), err);
}

int wl_dist_scatter(struct wl_dist *d, float *in, float *out, size_t n, struct wl_err *err)
{
	struct wl_wire *w = d->wire;
	struct wl_backend *be = d->be;

	if (!w)
		return wl_comm_reduce_scatter(d->comm, in, out, n, WL_COMM_F32, err);
	WL_TRY(w->begin(w, err));
	WL_TRY(in_order(d, w->reduce_scatter(w, in, n, false, err), err));
	be->copy(be, out, 0, in + (size_t)d->cut.rank * n, 0, n * sizeof *out, 1);
	return 0;
}

bool wl_dist_in_pieces(const struct wl_dist *d, const struct wl_params *store)
{
	return d && (store == d->momentum.params ? &d->momentum : &d->online)->comes;
}

int wl_dist_catch_up(struct wl_dist *d, struct wl_err *err)
{
	if (!d)
		return 0;
	if (!d->wire)
		return wl_courier_drain(d->courier, err);
	return d->given ? wl_dist_wire_wait(d, d->last, err) : 0;
}

int wl_dist_collect(struct wl_dist *d, struct wl_params *store, float *out, struct wl_err *err)
{
	struct wl_share *s = store == d->momentum.params ? &d->momentum : &d->online;
	struct wl_backend *be = store->backend;

	if (!d->wire)
		WL_TRY(wl_courier_drain(d->courier, err));
	for (int b = 0; b < d->cut.n; b++) {
		struct wl_span at = wl_cut_bucket(&d->cut, b);

		WL_TRY(wl_share_hold(s, b, err));
		if (out)
			be->download(be, out + at.begin, store->value + at.begin,
				(size_t)(at.end - at.begin) * sizeof *out);
		wl_share_drop(s, b);
	}
	if (out)
		be->download(be, out + store->weights, store->value + store->weights,
			(size_t)(store->floats - store->weights) * sizeof *out);
	return 0;
}

void wl_dist_stats(struct wl_dist *d, struct wl_dist_stats *out)
{
	wl_courier_seconds(d->courier, &out->busy_s, &out->waited_s);
	out->sent_bytes = d->sent;
}

void wl_dist_plan(const struct wl_dist_config *c, int world, int64_t parts, int64_t weights,
	int64_t trainable, double adam_bytes, struct wl_dist_plan *out)
{
	double times = parts > 1 ? (double)parts : 1;
	double n = (double)weights, t = (double)trainable, f = sizeof(float), w = (double)world;
	double share = 1 / w, moved = f * (1 - share), zero = (double)c->zero;
	double bucket = (double)c->bucket_mb * 1048576;

	*out = (struct wl_dist_plan){
		.weights = f * n * (zero >= 3 ? share : 1),
		.gradients = f * t * (zero >= 2 ? share : 1),
		.adam = adam_bytes * t * (zero >= 1 ? share : 1),
		.momentum = f * n * (zero >= 1 ? share : 1),
	};
	if (world == 1)
		return;
	/* Buckets of one store ahead of their use, gradients of two under way, one piece. */
	bucket = bucket < f * n ? bucket : f * n;
	out->coming = bucket * share + bucket * (1 - share) *
		((zero >= 1 ? WL_DIST_AHEAD + 2 : 0) + (zero >= 2 ? 2 : 0));
	/* Gradients out, after each part; at stage 0 back as well, else the weights, once; of each
	 * part at stage 3 the weights twice (forward and backward) and momentum weights once. */
	out->sent = moved * (t * (c->each_part ? times : 1) + (zero >= 3 ? 2 * n * times : t) +
		(zero >= 1 ? n * times : 0));
}
