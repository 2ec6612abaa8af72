/* Running statistics, whole stores for checkpoints, and the plan: see dist.h. */
#include "train/dist/internal.h"

#include <string.h>

int wl_dist_mean_stats(struct wl_dist *d, struct wl_err *err)
{
	const struct wl_params *p[2] = {d->online.params, d->momentum.params};
	size_t n = (size_t)(p[0]->floats - p[0]->weights);
	float by = 1.0f / (float)d->cut.world;
	struct wl_backend *be = p[0]->backend;

	if (!d->stats)
		return 0;
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

int wl_dist_collect(struct wl_dist *d, struct wl_params *store, float *out, struct wl_err *err)
{
	struct wl_share *s = store == d->momentum.params ? &d->momentum : &d->online;
	struct wl_backend *be = store->backend;

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

void wl_dist_plan(const struct wl_dist_config *c, int world, int64_t weights, int64_t trainable,
	double adam_bytes, struct wl_dist_plan *out)
{
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
	/* Gradients out; at stage 0 back as well, else the weights; at stage 3 the weights twice
	 * (forward and backward); momentum weights once. */
	out->sent = moved * t * 2 + (zero >= 1 ? moved * n : 0) +
		(zero >= 3 ? moved * (2 * n - t) : 0);
}
