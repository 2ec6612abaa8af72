/*
 * One MoCo queue: the keys of the last K samples of one modality, negatives for
 * the queries of the other (FACTS section 4; He et al., arXiv 1911.05722).
 *
 * Beside every key stand two identities: of the pair it came from and of its
 * caption.  On small data a queue is full of keys of the very pair that asks;
 * such a key is no negative, and neither is one whose caption is the same text:
 * wl_g_infonce leaves out negatives with an equal identity.  Rows that were
 * never written hold random unit vectors, as in the code of BriVL and MoCo, and
 * the identities 0 = nobody.
 *
 * Keys are stored [K,D], row-major, as wl_g_infonce reads them; the published
 * buffers are [D,K], and checkpoints hold that shape (wl_queue_to_torch).
 */
#ifndef WL_TRAIN_MOCO_QUEUE_H
#define WL_TRAIN_MOCO_QUEUE_H

#include "train/backend/backend.h"

enum { WL_QUEUE_IDS = 2 }; /* identities a row: pair, caption */

struct wl_queue {
	size_t size, dim; /* K, D */
	float *keys;      /* [K,D], unit rows, owned; NULL: they are in half */
	uint16_t *half;   /* the same as bf16, rounded to nearest (2^-9 of each number) */
	int64_t *ids;     /* [K,2] pair and caption, 0 where nothing was written; owned */
	size_t next;      /* the row that the next key overwrites */
	struct wl_backend *be; /* whose memory keys and ids are in; NULL: the host's */
	struct wl_backend *pinned; /* of the host's: by whose alloc_host; NULL: by malloc */
};

/* The largest useful K: no larger than asked, nor than the number of training pairs less one
 * batch (more would hold two keys of one pair even in a shuffled epoch), but at least one
 * batch where that was asked, and at least 1. */
size_t wl_queue_clamp(size_t asked, size_t pairs, size_t batch);

/* Random unit rows drawn from (seed, row, column) only.  WL_EFAIL without memory. */
WL_MUST_CHECK int wl_queue_init(struct wl_queue *q, size_t size, size_t dim, uint64_t seed,
	struct wl_err *err);
void wl_queue_release(struct wl_queue *q);
/* Of a queue in the host's memory: its keys are kept as bf16 from now on, pushed ones too. */
WL_MUST_CHECK int wl_queue_narrow(struct wl_queue *q, struct wl_err *err);
/* Where the keys lie, of this type: WL_F32 or WL_BF16. */
void *wl_queue_rows(const struct wl_queue *q);
enum wl_dtype wl_queue_type(const struct wl_queue *q);
/* Where the backend's memory is apart, keys and ids move there; elsewhere nothing happens. */
WL_MUST_CHECK int wl_queue_move(struct wl_queue *q, struct wl_backend *be, struct wl_err *err);

/* Writes n keys [n,D] and their identities [n,2] (never 0) from `next` on, wrapping as often
 * as needed: with n > K the last K stay.  All are in the queue's memory. */
void wl_queue_push(struct wl_queue *q, const float *keys, const int64_t *ids, size_t n);

/* Copies keys to or from the published layout [D,K], of a queue in the host's memory; f32 whatever
 * the queue keeps. */
void wl_queue_to_torch(const struct wl_queue *q, float *dk);
void wl_queue_from_torch(struct wl_queue *q, const float *dk);

/* `to`, in the host's memory (zeroed before its first use), becomes equal to `from`, of a device's
 * once wl_backend.fetched says so; and back. */
WL_MUST_CHECK int wl_queue_take(struct wl_queue *to, const struct wl_queue *from,
	struct wl_err *err);
void wl_queue_put(struct wl_queue *to, const struct wl_queue *from);

#endif
