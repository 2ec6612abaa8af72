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
	free(q->keys);
	free(q->ids);
	*q = (struct wl_queue){0};
}

void wl_queue_push(struct wl_queue *q, const float *keys, const int64_t *ids, size_t n)
{
	size_t skip = n > q->size ? n - q->size : 0, i, id;

	/* Rows that later ones of the same push would overwrite are only counted. */
	q->next = (q->next + skip) % q->size;
	for (i = skip; i < n; i++) {
		memcpy(q->keys + q->next * q->dim, keys + i * q->dim, q->dim * sizeof(float));
		for (id = 0; id < WL_QUEUE_IDS; id++) {
			WL_ASSERT(ids[i * WL_QUEUE_IDS + id] != 0);
			q->ids[q->next * WL_QUEUE_IDS + id] = ids[i * WL_QUEUE_IDS + id];
		}
		q->next = (q->next + 1) % q->size;
	}
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
