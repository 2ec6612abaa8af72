/*
 * What can be said of topics: their words, how well these belong together, how many documents
 * they have.
 */
#ifndef WL_CLEAN_TOPICS_QUALITY_H
#define WL_CLEAN_TOPICS_QUALITY_H

#include "clean/topics/infer.h"
#include "clean/topics/terms.h"

enum { WL_TOPIC_WORDS = 20, WL_COHERENCE_WORDS = 10 };

struct wl_topic_facts {
	int64_t tokens, docs; /* docs: whose largest share it is */
	/* Mean over the pairs of the first 10 likely words of ln(p(a,b)/p(a)p(b)) / -ln p(a,b),
	 * p the share of the documents (NPMI, Bouma 2009; -1 for a pair never seen): -1 .. 1. */
	double coherence;
	double entropy; /* of the topic's words, as a share of the largest possible: 0 .. 1 */
	int n;		/* words below: WL_TOPIC_WORDS, or all that the topic has */
	uint32_t likely[WL_TOPIC_WORDS]; /* by p(word|topic) */
	/* by 0.6 ln p(word|topic) + 0.4 ln p(word|topic)/p(word) (Sievert and Shirley 2014) */
	uint32_t relevant[WL_TOPIC_WORDS];
};

/* Fills facts[topics]; the same for any number of threads and ranks.  docs: this rank's part of
 * what the model was trained on. */
WL_MUST_CHECK int wl_topic_quality(const struct wl_lda_model *m, const struct wl_phi *phi,
	const struct wl_docs *docs, struct wl_comm *comm, struct wl_pool *pool,
	struct wl_topic_facts *facts, struct wl_err *err);

/* The topic with the largest share, the first of equal ones. */
int wl_topic_largest(const float *theta, int topics);

#endif
