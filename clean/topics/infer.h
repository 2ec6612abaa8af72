/*
 * What topics a text has, by a model: the mixture that makes its words likeliest (folding in).
 * A function of the model and the words alone.
 */
#ifndef WL_CLEAN_TOPICS_INFER_H
#define WL_CLEAN_TOPICS_INFER_H

#include "clean/topics/lda.h"

struct wl_phi {
	uint32_t n_words;
	int topics;
	int stride;  /* topics, up to the next multiple of 16; what is past the topics is 0 */
	double alpha;
	float *p;    /* [n_words][stride]: of a topic's words, the share of this one */
};

/* p = (count + beta) / (total + n_words beta). */
WL_MUST_CHECK int wl_phi_init(struct wl_phi *f, const struct wl_lda_model *m, struct wl_err *err);
void wl_phi_release(struct wl_phi *f);

/* theta[stride] of the words (numbers below n_words), which adds up to 1: 20 steps of expectation
 * maximisation from equal shares, with alpha as prior counts.  No words: equal shares.
 * scratch: [stride]. */
void wl_phi_infer(const struct wl_phi *f, const uint32_t *word, size_t n, float *theta,
	float *scratch);

/* exp of the mean of -ln p(word) over the odd words of each document, its topics inferred from the
 * even ones ("document completion", Wallach et al. 2009).  NaN when there are none.  docs: this
 * rank's.  Logarithms are added as whole multiples of 2^-24, so that it is the same for any number
 * of threads and ranks.  comm, pool NULL: one. */
WL_MUST_CHECK int wl_phi_perplexity(const struct wl_phi *f, const struct wl_docs *docs,
	struct wl_comm *comm, struct wl_pool *pool, double *out, struct wl_err *err);

#endif
