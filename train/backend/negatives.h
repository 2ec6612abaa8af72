/*
 * Who is whose negative in the contrastive loss over a queue, written once for every backend: C for
 * gcc and nvcc (operands: WL_OP_INFONCE in backend.h; the loss: cpu/infonce.c).
 */
#ifndef WL_TRAIN_BACKEND_NEGATIVES_H
#define WL_TRAIN_BACKEND_NEGATIVES_H

#include "train/backend/backend.h"

#include <math.h>

/* Columns of logits are the queue's rows, then with in_batch the keys. */
struct wl_negatives {
	int64_t k, first; /* rows of the queue; query b's positive is key first + b */
	int64_t ids, top; /* columns of identities and of extra positives; 0: there are none */
	const int64_t *row_ids, *queue_ids; /* [keys, ids], [k, ids]; NULL: none */
	const int32_t *extra;               /* [B, top] columns that are positives too, -1: none */
};

WL_HD struct wl_negatives wl_negatives_of(const struct wl_op *op)
{
	const struct wl_tensor *extra = op->in[op->kind == WL_OP_INFONCE ? 6 : 9];
	struct wl_negatives v;

	v.k = op->in[2] ? op->in[2]->shape.dim[0] : 0;
	v.first = op->attr.begin;
	v.row_ids = op->in[4] ? (const int64_t *)op->in[4]->data : NULL;
	v.queue_ids = op->in[5] ? (const int64_t *)op->in[5]->data : NULL;
	v.ids = op->in[4] ? op->in[4]->shape.dim[1] : 0;
	v.extra = extra ? (const int32_t *)extra->data : NULL;
	v.top = extra ? extra->shape.dim[1] : 0;
	return v;
}

WL_HD bool wl_same_in_any(const int64_t *a, const int64_t *b, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		if (a[i] == b[i])
			return true;
	return false;
}

/* Whether column j is no negative of row b: its own positive, or the same pair or caption. */
WL_HD bool wl_negatives_ignore(const struct wl_negatives *v, int64_t b, int64_t j)
{
	int64_t own = v->first + b;

	if (j >= v->k)
		return j - v->k == own ||
		       (v->row_ids && wl_same_in_any(v->row_ids + own * v->ids,
					      v->row_ids + (j - v->k) * v->ids, v->ids));
	return v->row_ids && v->queue_ids &&
	       wl_same_in_any(v->row_ids + own * v->ids, v->queue_ids + j * v->ids, v->ids);
}

/* Positives of row b: its key and the extra ones. */
WL_HD double wl_positives(const struct wl_negatives *v, int64_t b)
{
	double n = 1;

	for (int64_t t = 0; t < v->top; t++)
		n += v->extra[b * v->top + t] >= 0;
	return n;
}

/* n p_pos - 1 of row b, with its log-sum-exp and its positive's logit: exact for a p close to 1. */
WL_HD double wl_positive_slope(const struct wl_negatives *v, int64_t b, float lse, float pos)
{
	double n = wl_positives(v, b);

	return n * expm1((double)pos - (double)lse) + (n - 1);
}

#endif
