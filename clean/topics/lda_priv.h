/* Between lda.c (the sweeps) and lda_layout.c (where tokens lie, and what is a job). */
#ifndef WL_CLEAN_TOPICS_LDA_PRIV_H
#define WL_CLEAN_TOPICS_LDA_PRIV_H

#include "clean/topics/lda.h"

#include <stdatomic.h>

enum {
	LDA_CHUNK = 1 << 15,	    /* tokens of a job of the pool */
	LDA_BLOCK_BYTES = 32 << 20, /* of counts that ranks exchange at once */
};

struct span {
	uint32_t from, to; /* words or documents */
};

struct lda {
	const struct wl_docs *docs;
	struct wl_comm *comm;
	struct wl_pool *pool;
	int K;
	uint32_t V;
	double alpha, beta;
	uint64_t seed;
	size_t n;	  /* tokens of this rank */
	uint32_t *cell;	  /* [n] topic | proposal << 16, by word, then in the documents' order */
	uint32_t *pos;	  /* [n] of token t in the documents' order: where its cell is */
	uint32_t *begin;  /* [V + 1] cells of each word */
	uint64_t *size;	  /* [V] tokens of each word on all ranks */
	uint64_t *number; /* [V] the word's first token here, as ranks count together */
	uint64_t token0;  /* this rank's first token, in the documents' order of all ranks */
	int64_t *total;	  /* [K] C_k */
	_Atomic int64_t *change;    /* [K] what a sweep did to it here */
	double *inverse;	    /* [K] 1 / (C_k + V beta) */
	struct span *words, *parts; /* jobs: words, documents */
	size_t n_words, n_parts, words_at;
	uint32_t *block; /* counts of the words [block_at, ...) over all ranks; NULL: alone */
	uint32_t block_at;
	uint64_t key_accept, key_propose; /* of the sweep */
	_Atomic int no_memory;
};

/* Takes the memory, lays the tokens out and gives them random topics; collective.  WL_EDATA when
 * no rank has a token.  lda_release in any case. */
int lda_init(struct lda *s, struct wl_err *err);
void lda_release(struct lda *s);
/* How many words' counts a block holds: one job may have as many words as tokens. */
size_t lda_block_words(const struct lda *s);
/* What a sweep changed here, summed over the ranks into the topics' totals; collective. */
int lda_end_sweep(struct lda *s, struct wl_err *err);

#endif
