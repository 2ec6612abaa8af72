/* MoCo queues, a plain ring: see queue.h. */
#include "train/moco/queue.h"

#include "ops/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t wl_queue_clamp(size_t asked, size_t pairs, size_t batch)
{
	size_t most = pairs > batch ? pairs - batch : 0;
	size_t k = asked < most ? asked : most;

	if (k < batch && asked >= batch)
		k = batch; /* tiny data: identities sort out the repeats */
	return k ? k : 1;
}

int wl_queue_init(struct wl_queue *q, size_t size, size_t dim, uint64_t seed, struct wl_err *err)
{
	size_t k, d;

	*q = (struct wl_queue){.size = size, .dim = dim};
	WL_ASSERT(size > 0 && dim > 0);
	q->keys = calloc(size, dim * sizeof(float));
	q->ids = calloc(size, WL_QUEUE_IDS * sizeof(int64_t));
	if (!q->keys || !q->ids) {
		wl_queue_release(q);
		return wl_err_nomem(err, "a MoCo queue", size * (dim * sizeof(float) + 16));
	}
	for (k = 0; k < size; k++) {
		double sum = 0, x;

		for (d = 0; d < dim; d++) {
			x = wl_rand_normal(seed, k, d);
			q->keys[k * dim + d] = (float)x;
			sum += x * x;
		}
		for (d = 0; d < dim; d++)
			q->keys[k * dim + d] *= (float)(1 / sqrt(sum));
	}
	return 0;
}

void wl_queue_release(struct wl_queue *q)
{
	if (!q)
		return;
	if (q->be && q->keys)
		q->be->free_mem(q->be, q->keys);
	if (q->be && q->ids)
		q->be->free_mem(q->be, q->ids);
	if (!q->be) {
		free(q->keys);
		free(q->ids);
	}
	*q = (struct wl_queue){0};
}

static size_t key_bytes(const struct wl_queue *q)
{
	return q->dim * sizeof *q->keys;
}

static const size_t id_bytes = WL_QUEUE_IDS * sizeof(int64_t);

int wl_queue_move(struct wl_queue *q, struct wl_backend *be, struct wl_err *err)
{
	struct wl_queue there = *q;

	if (!be->apart || q->be)
		return 0;
	there.be = be;
	there.ids = NULL;
	there.keys = be->alloc(be, q->size * key_bytes(q), err);
	if (there.keys)
		there.ids = be->alloc(be, q->size * id_bytes, err);
	if (!there.ids) {
		wl_queue_release(&there);
		return -1;
	}
	wl_queue_put(&there, q);
	wl_queue_release(q);
	*q = there;
	return 0;
}

/* n rows from the first on, which do not wrap. */
static void put_rows(struct wl_queue *q, size_t at, const float *keys, const int64_t *ids, size_t n)
{
	float *key = q->keys + at * q->dim;
	int64_t *id = q->ids + at * WL_QUEUE_IDS;

	if (q->be) {
		q->be->copy(q->be, key, 0, keys, 0, n * key_bytes(q), 1);
		q->be->copy(q->be, id, 0, ids, 0, n * id_bytes, 1);
		return;
	}
	for (size_t i = 0; i < n * WL_QUEUE_IDS; i++)
		WL_ASSERT(ids[i] != 0);
	memcpy(key, keys, n * key_bytes(q));
	memcpy(id, ids, n * id_bytes);
}

void wl_queue_push(struct wl_queue *q, const float *keys, const int64_t *ids, size_t n)
{
	size_t i = n > q->size ? n - q->size : 0, rows;

	/* Rows that later ones of the same push would overwrite are only counted. */
	q->next = (q->next + i) % q->size;
	for (; i < n; i += rows) {
		rows = n - i < q->size - q->next ? n - i : q->size - q->next;
		put_rows(q, q->next, keys + i * q->dim, ids + i * WL_QUEUE_IDS, rows);
		q->next = (q->next + rows) % q->size;
	}
}

int wl_queue_take(struct wl_queue *to, const struct wl_queue *from, struct wl_err *err)
{
	size_t keys = from->size * key_bytes(from), ids = from->size * id_bytes;

	if (!to->keys) {
		to->keys = malloc(keys);
		to->ids = malloc(ids);
	}
	if (!to->keys || !to->ids)
		return wl_err_nomem(err, "a copy of the queues", keys + ids);
	if (from->be) {
		from->be->download(from->be, to->keys, from->keys, keys);
		from->be->download(from->be, to->ids, from->ids, ids);
	} else {
		memcpy(to->keys, from->keys, keys);
		memcpy(to->ids, from->ids, ids);
	}
	to->size = from->size;
	to->dim = from->dim;
	to->next = from->next;
	return 0;
}

void wl_queue_put(struct wl_queue *to, const struct wl_queue *from)
{
	size_t keys = from->size * key_bytes(from), ids = from->size * id_bytes;

	if (to->be) {
		to->be->upload(to->be, to->keys, from->keys, keys);
		to->be->upload(to->be, to->ids, from->ids, ids);
	} else {
		memcpy(to->keys, from->keys, keys);
		memcpy(to->ids, from->ids, ids);
	}
	to->next = from->next;
}

void wl_queue_to_torch(const struct wl_queue *q, float *dk)
{
	size_t k, d;

	for (d = 0; d < q->dim; d++)
		for (k = 0; k < q->size; k++)
			dk[d * q->size + k] = q->keys[k * q->dim + d];
}

void wl_queue_from_torch(struct wl_queue *q, const float *dk)
{
	size_t k, d;

	for (d = 0; d < q->dim; d++)
		for (k = 0; k < q->size; k++)
			q->keys[k * q->dim + d] = dk[d * q->size + k];
}
