/* Embeddings whose ranks are known beforehand, of any size. */
#ifndef WL_TESTS_PLANTED_H
#define WL_TESTS_PLANTED_H

#include "eval/metrics/retrieval.h"

/*
 * Images lie on `dim` axes in turn; those on one axis have falling lengths, their texts (captions
 * of each) falling lengths in a shuffled order.  Scores (dot products) are exact in fp32, so the
 * rank of a text's image is that image's place on its axis, and the rank of an image's texts the
 * best place of one of them among all texts on the axis.
 */
struct planted {
	struct wl_retrieval_in in;
	float *images, *texts;
	int64_t *pair_image, *pair_text;
	int64_t *image_rank, *text_rank; /* what must come out */
};

/* Ends the program with a message when memory is short or the lengths would not be exact. */
void planted_make(struct planted *p, int64_t images, int64_t captions, int64_t dim);
void planted_release(struct planted *p);

#endif
