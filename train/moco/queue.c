/*
 * MoCo queues: see queue.h.  A plain ring.  Identities are compared over the
 * whole ring for every query: B x K 64-bit compares, some 30 M for the paper's
 * batch and queue, far below a thousandth of a step.
 */
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
	q->pair_ids = calloc(size, sizeof(uint64_t));
	q->text_ids = calloc(size, sizeof(uint64_t));
	if (!q->keys || !q->pair_ids || !q->text_ids) {
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
	free(q->pair_ids);
	free(q->text_ids);
	*q = (struct wl_queue){0};
}

void wl_queue_push(struct wl_queue *q, const float *keys, const uint64_t *pair_ids,
	const uint64_t *text_ids, size_t n)
{
	size_t skip = n > q->size ? n - q->size : 0, i;

	/* Rows that later ones of the same push would overwrite are only counted. */
	q->next = (q->next + skip) % q->size;
	for (i = skip; i < n; i++) {
		WL_ASSERT(pair_ids[i] != 0 && text_ids[i] != 0);
		memcpy(q->keys + q->next * q->dim, keys + i * q->dim, q->dim * sizeof(float));
		q->pair_ids[q->next] = pair_ids[i];
		q->text_ids[q->next] = text_ids[i];
		q->next = (q->next + 1) % q->size;
	}
}

size_t wl_queue_ignore(const struct wl_queue *q, const uint64_t *pair_ids,
	const uint64_t *text_ids, size_t n, int32_t *ignore)
{
	size_t b, k, marked = 0;

	for (b = 0; b < n; b++) {
		int32_t *row = ignore + b * q->size;
		uint64_t pair = pair_ids[b], text = text_ids[b];

		for (k = 0; k < q->size; k++) {
			row[k] = (q->pair_ids[k] == pair) | (q->text_ids[k] == text);
			marked += (size_t)row[k];
		}
	}
	return marked;
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

uint64_t wl_text_id(const int32_t *tokens, size_t n)
{
	uint64_t h = wl_hash64(tokens, n * sizeof *tokens, 0);

	return h ? h : 1;
}
