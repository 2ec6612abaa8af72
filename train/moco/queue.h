/*
 * One MoCo queue: the keys of the last K samples of one modality, negatives for
 * the queries of the other (FACTS section 4; He et al., arXiv 1911.05722).
 *
 * Beside every key stand two identities: of the pair it came from and of its
 * caption.  On small data a queue is full of keys of the very pair that asks;
 * such a key is no negative, and neither is one whose caption is the same text.
 * wl_queue_ignore marks them.  Rows that were never written hold random unit
 * vectors, as in the code of BriVL and MoCo, and identities 0 = nobody.
 *
 * Keys are stored [K,D], row-major; the published buffers are [D,K], and
 * checkpoints hold that shape (wl_queue_to_torch).
 */
#ifndef WL_TRAIN_MOCO_QUEUE_H
#define WL_TRAIN_MOCO_QUEUE_H

#include "ops/err.h"

#include <stdint.h>

struct wl_queue {
	size_t size, dim;     /* K, D */
	float *keys;          /* [K,D], unit rows, owned */
	uint64_t *pair_ids;   /* [K], 0 where nothing was written, owned */
	uint64_t *text_ids;   /* [K], likewise */
	size_t next;          /* the row that the next key overwrites */
};

/* The largest useful K: no larger than asked, and no larger than the number of training pairs
 * less one batch (so that a queue never holds two keys of one pair while random order lasts),
 * but at least one batch and at least 1. */
size_t wl_queue_clamp(size_t asked, size_t pairs, size_t batch);

/* Random unit rows drawn from (seed, row, column) only.  WL_EFAIL without memory. */
WL_MUST_CHECK int wl_queue_init(struct wl_queue *q, size_t size, size_t dim, uint64_t seed,
	struct wl_err *err);
void wl_queue_release(struct wl_queue *q);

/* Writes n keys [n,D] and their identities (never 0) from `next` on, wrapping as often as
 * needed: with n > K the last K stay.  */
void wl_queue_push(struct wl_queue *q, const float *keys, const uint64_t *pair_ids,
	const uint64_t *text_ids, size_t n);

/* ignore[b*K + k] = 1 where row k has the pair or the caption of query b, else 0.  Any number of
 * queries; ignore is the caller's, [n,K].  Returns how many entries were marked. */
size_t wl_queue_ignore(const struct wl_queue *q, const uint64_t *pair_ids,
	const uint64_t *text_ids, size_t n, int32_t *ignore);

/* Copies keys to or from the published layout [D,K]. */
void wl_queue_to_torch(const struct wl_queue *q, float *dk);
void wl_queue_from_torch(struct wl_queue *q, const float *dk);

/* 64 bits that name a caption (a hash of its token ids, [CLS] and [SEP] included), never 0. */
uint64_t wl_text_id(const int32_t *tokens, size_t n);

#endif
