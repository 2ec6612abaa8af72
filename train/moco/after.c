/*
 * What follows a step's losses, in which the verdict on it counts: running statistics that go back
 * to what they were, the temperature's bound, keys that enter the queues.  Where the backend judges
 * (m->judge), it is given all of this whatever it finds, and leaves out what is not to be.
 */
#include "train/moco/internal.h"

#include <math.h>

/* Calls fn(arrays, floats) for the buffers of each store, which stand together after the weights,
 * and their place in m->stats. */
static void each_stats(struct wl_moco *m,
	void (*fn)(struct wl_moco *m, float *here, float *there, int64_t n))
{
	struct wl_params *stores[2] = {m->online, &m->momentum};
	int64_t n = m->online->floats - m->online->weights;

	for (int s = 0; s < (wl_moco_has_keys(m) ? 2 : 1); s++)
		fn(m, stores[s]->value + stores[s]->weights, m->stats + s * n, n);
}

static void keep_stats(struct wl_moco *m, float *here, float *there, int64_t n)
{
	struct wl_backend *be = m->online->backend;

	be->copy(be, there, 0, here, 0, (size_t)n * sizeof *here, 1);
}

static void put_back(struct wl_moco *m, float *here, float *there, int64_t n)
{
	keep_stats(m, there, here, n);
}

static void put_back_if(struct wl_moco *m, float *here, float *there, int64_t n)
{
	m->online->backend->judges->undo(m->judge, here, there, n);
}

void wl_moco_keep_stats(struct wl_moco *m)
{
	each_stats(m, keep_stats);
}

void wl_moco_back_stats(struct wl_moco *m)
{
	each_stats(m, put_back);
}

void wl_moco_undo_stats(struct wl_moco *m)
{
	each_stats(m, m->judge ? put_back_if : put_back);
}

int64_t wl_moco_scale_at(const struct wl_moco *m)
{
	return m->online->item[wl_params_find(m->online, WL_MOCO_SCALE)].offset;
}

float wl_moco_scale_value(const struct wl_moco *m, const float *set)
{
	struct wl_params *p = m->online;
	float *at = p->value + wl_moco_scale_at(m), v;

	if (set)
		p->backend->upload(p->backend, at, set, sizeof v);
	p->backend->download(p->backend, &v, at, sizeof v);
	return v;
}

double wl_moco_tau(const struct wl_moco *m)
{
	return exp(-(double)wl_moco_scale_value(m, NULL));
}

void wl_moco_clamp_tau(struct wl_moco *m)
{
	float most = (float)-log(WL_TAU_MIN);

	if (m->judge)
		m->online->backend->judges->clamp(m->judge, m->online->value + wl_moco_scale_at(m),
			m->config.learn_tau ? most : INFINITY);
	else if (m->config.learn_tau && wl_moco_scale_value(m, NULL) > most)
		wl_moco_scale_value(m, &most);
}

bool wl_moco_all_negatives(const struct wl_moco *m)
{
	const struct wl_moco_config *c = &m->config;

	return c->in_batch && wl_comm_size(c->comm) > 1 && !c->online_positive &&
		c->accumulate == 1 && !c->extra_positives;
}

int wl_moco_gather_keys(struct wl_moco *m, struct wl_err *err)
{
	size_t keys = (size_t)(m->batch * m->dim) * sizeof(float);

	WL_TRY(wl_moco_gather(m, m->row_ids,
		(size_t)m->batch * WL_QUEUE_IDS * sizeof *m->row_ids, m->peer_ids, err));
	WL_TRY(wl_moco_gather(m, m->image_keys, keys, m->peer_image, err));
	return wl_moco_gather(m, m->text_keys, keys, m->peer_text, err);
}

/* Rows by rank become rows in the order of one rank that holds the whole batch: sample i of rank r
 * is sample i * world + r of all. */
static void mix(const struct wl_moco *m, void *to, const void *from, size_t row)
{
	struct wl_backend *be = m->online->backend;
	size_t n = (size_t)m->batch, world = (size_t)wl_comm_size(m->config.comm);

	for (size_t r = 0; r < world; r++)
		be->copy(be, (char *)to + r * row, world * row, (const char *)from + r * n * row,
			row, row, n);
}

/* The batch's rows, n of them: of all ranks, if there are several. */
static void push(const struct wl_moco *m, struct wl_queue *q, const float *keys, const int64_t *ids,
	size_t n)
{
	if (m->judge)
		m->online->backend->judges->push(m->judge, q == &m->text_queue, wl_queue_rows(q),
			wl_queue_type(q), q->ids, keys, ids, m->dim);
	else
		wl_queue_push(q, keys, ids, n);
}

static void push_all(struct wl_moco *m, struct wl_queue *q, const float *keys)
{
	mix(m, m->mixed, keys, (size_t)m->dim * sizeof *keys);
	push(m, q, m->mixed, m->mixed_ids, (size_t)m->batch * (size_t)wl_comm_size(m->config.comm));
}

int wl_moco_push(struct wl_moco *m, struct wl_err *err)
{
	size_t n = (size_t)m->batch;

	if (!wl_moco_has_keys(m))
		return 0;
	if (m->peer_ids) {
		if (!wl_moco_all_negatives(m)) /* else they were gathered before the losses */
			WL_TRY(wl_moco_gather_keys(m, err));
		mix(m, m->mixed_ids, m->peer_ids, WL_QUEUE_IDS * sizeof *m->peer_ids);
		push_all(m, &m->image_queue, m->peer_image);
		push_all(m, &m->text_queue, m->peer_text);
		return 0;
	}
	push(m, &m->image_queue, m->image_keys, m->row_ids, n);
	push(m, &m->text_queue, m->text_keys, m->row_ids, n);
	return 0;
}
