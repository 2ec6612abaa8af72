/* MoCo queues, a plain ring: see queue.h. */
#include "train/moco/queue.h"

#include "ops/hash.h"
#include "train/backend/elementwise.h"

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
	void *owned[] = {q->keys, q->half, q->ids};

	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		if (q->be && owned[i])
			q->be->free_mem(q->be, owned[i]);
		else if (q->pinned && owned[i])
			q->pinned->free_host(q->pinned, owned[i]);
		else
			free(owned[i]);
	*q = (struct wl_queue){0};
}

void *wl_queue_rows(const struct wl_queue *q)
{
	return q->half ? (void *)q->half : q->keys;
}

enum wl_dtype wl_queue_type(const struct wl_queue *q)
{
	return q->half ? WL_BF16 : WL_F32;
}

static size_t key_bytes(const struct wl_queue *q)
{
	return q->dim * wl_dtype_bytes(wl_queue_type(q));
}

static void narrow(uint16_t *to, const float *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = wl_bf16_nearest(from[i]);
}

int wl_queue_narrow(struct wl_queue *q, struct wl_err *err)
{
	size_t n = q->size * q->dim;

	WL_ASSERT(!q->be && q->keys);
	q->half = malloc(n * sizeof *q->half);
	if (!q->half)
		return wl_err_nomem(err, "a MoCo queue", n * sizeof *q->half);
	narrow(q->half, q->keys, n);
	free(q->keys);
	q->keys = NULL;
	return 0;
}

/* Room for rows of the type that `like` has. */
static void set_rows(struct wl_queue *q, const struct wl_queue *like, void *rows)
{
	if (like->half)
		q->half = rows;
	else
		q->keys = rows;
}

static const size_t id_bytes = WL_QUEUE_IDS * sizeof(int64_t);

int wl_queue_move(struct wl_queue *q, struct wl_backend *be, struct wl_err *err)
{
	struct wl_queue there = *q;
	void *rows;

	if (!be->apart || q->be)
		return 0;
	there.be = be;
	there.ids = NULL;
	there.keys = NULL;
	there.half = NULL;
	rows = be->alloc(be, q->size * key_bytes(q), err);
	set_rows(&there, q, rows);
	if (rows)
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
	char *key = (char *)wl_queue_rows(q) + at * key_bytes(q);
	int64_t *id = q->ids + at * WL_QUEUE_IDS;

	if (q->be) { /* a device that keeps bf16 pushes by itself (wl_judge_ops.push) */
		WL_ASSERT(!q->half);
		q->be->copy(q->be, key, 0, keys, 0, n * key_bytes(q), 1);
		q->be->copy(q->be, id, 0, ids, 0, n * id_bytes, 1);
		return;
	}
	for (size_t i = 0; i < n * WL_QUEUE_IDS; i++)
		WL_ASSERT(ids[i] != 0);
	if (q->half)
		narrow(q->half + at * q->dim, keys, n * q->dim);
	else
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

/* Room for a copy: pinned, where it is to come from a device. */
static int make_copy(struct wl_queue *to, const struct wl_queue *from, size_t keys, size_t ids,
	struct wl_err *err)
{
	struct wl_backend *be = from->be;

	to->pinned = be;
	set_rows(to, from, be ? be->alloc_host(be, keys, err) : malloc(keys));
	if (!wl_queue_rows(to))
		return be ? -1 : wl_err_nomem(err, "a copy of the queues", keys + ids);
	to->ids = be ? be->alloc_host(be, ids, err) : malloc(ids);
	if (!to->ids)
		return be ? -1 : wl_err_nomem(err, "a copy of the queues", keys + ids);
	return 0;
}

int wl_queue_take(struct wl_queue *to, const struct wl_queue *from, struct wl_err *err)
{
	size_t keys = from->size * key_bytes(from), ids = from->size * id_bytes;

	if (!wl_queue_rows(to))
		WL_TRY(make_copy(to, from, keys, ids, err));
	if (from->be) {
		from->be->fetch(from->be, wl_queue_rows(to), wl_queue_rows(from), keys);
		from->be->fetch(from->be, to->ids, from->ids, ids);
	} else {
		memcpy(wl_queue_rows(to), wl_queue_rows(from), keys);
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
		to->be->upload(to->be, wl_queue_rows(to), wl_queue_rows(from), keys);
		to->be->upload(to->be, to->ids, from->ids, ids);
	} else {
		memcpy(wl_queue_rows(to), wl_queue_rows(from), keys);
		memcpy(to->ids, from->ids, ids);
	}
	to->next = from->next;
}

void wl_queue_to_torch(const struct wl_queue *q, float *dk)
{
	size_t k, d;

	for (d = 0; d < q->dim; d++)
		for (k = 0; k < q->size; k++)
			dk[d * q->size + k] = q->half ? wl_bf16_value(q->half[k * q->dim + d])
						      : q->keys[k * q->dim + d];
}

void wl_queue_from_torch(struct wl_queue *q, const float *dk)
{
	size_t k, d;

	for (d = 0; d < q->dim; d++)
		for (k = 0; k < q->size; k++)
			if (q->half)
				q->half[k * q->dim + d] = wl_bf16_nearest(dk[d * q->size + k]);
			else
				q->keys[k * q->dim + d] = dk[d * q->size + k];
}
