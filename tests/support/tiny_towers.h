/* A model small enough for tests of training, with everything that has state: convolution, batch
 * norm (running statistics), dropout, RoI pooling, embeddings; and pairs that it can learn. */
#ifndef WL_TESTS_TINY_TOWERS_H
#define WL_TESTS_TINY_TOWERS_H

#include "train/moco/moco.h"

enum { TINY_PX = 8, TINY_REGIONS = 3, TINY_LEN = 6, TINY_DIM = 16, TINY_VOCAB = 20,
	TINY_PAIRS = 40, TINY_BATCH = 8 };

void tiny_towers(struct wl_towers *t);

/* Batch number `step` of 8 out of 40 pairs: a picture whose colours and places spell the same
 * numbers as its text. Valid until the next call. */
const struct wl_moco_batch *tiny_batch(int64_t step);

#endif
