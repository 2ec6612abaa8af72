/*
 * Latent Dirichlet allocation (Blei et al. 2003) by a Metropolis-Hastings sampler of O(1) a token,
 * in the manner of WarpLDA (Chen et al. 2016): counts are taken before each sweep and stay as they
 * are during it, so that what happens to a token is a function of those counts and of random
 * numbers that belong to the token (ops/hash.h).  Hence the result is the same bits for any number
 * of threads and of ranks.
 *
 * An iteration is two sweeps, one in the order of words, one in the order of documents.  Each
 * judges the proposals that the other made (the terms it proposed by cancel) and makes new ones:
 *   word sweep:  proposal from the document's topics; accept by (C_wk + beta) / (C_k + V beta)
 *   doc sweep:   proposal from the word's topics;     accept by (C_dk + alpha) / (C_k + V beta)
 * A proposal is the topic of another token of the same document or word, drawn at random, or, with
 * the prior's share, any topic; so no table is built.  The token's own topic is left out of both
 * counts, as in collapsed Gibbs sampling, which short texts need.
 */
#ifndef WL_CLEAN_TOPICS_LDA_H
#define WL_CLEAN_TOPICS_LDA_H

#include "ops/comm.h"
#include "ops/err.h"
#include "ops/pool.h"

#include <stddef.h>
#include <stdint.h>

/* Documents as word numbers, one after the other. */
struct wl_docs {
	uint32_t *word;	 /* [start[n]] */
	uint64_t *start; /* [n + 1] */
	size_t n;
	uint32_t n_words; /* words are 0 .. n_words-1 */
};
void wl_docs_release(struct wl_docs *d);

struct wl_lda_config {
	int topics;	    /* K, 2 .. 65535 */
	double alpha, beta; /* symmetric priors, > 0 */
	int iterations;
	uint64_t seed;
};

/* What a model is: how often each word has each topic in the last sample. */
struct wl_lda_model {
	uint32_t n_words;
	int topics;
	double alpha, beta;
	uint32_t *count; /* [n_words][topics] */
	int64_t *total;	 /* [topics] */
};
void wl_lda_model_release(struct wl_lda_model *m);

/* Called by rank 0 after every iteration; a negative result stops with what is in err. */
typedef int (*wl_lda_tick)(void *user, int iteration, struct wl_err *err);

/* Samples and gives the model.  Ranks hold consecutive parts of the documents and all get the same
 * model; comm NULL: one rank.  pool NULL: one thread.  tick may be NULL.  Memory: 8 bytes a token
 * and 4 a word and topic.  Fails for a configuration out of range (WL_EUSAGE), no tokens or 2^32
 * of them on a rank (WL_EDATA). */
WL_MUST_CHECK int wl_lda_train(const struct wl_docs *docs, const struct wl_lda_config *config,
	struct wl_comm *comm, struct wl_pool *pool, wl_lda_tick tick, void *user,
	struct wl_lda_model *out, struct wl_err *err);

#endif
