/*
 * Training topic models on a corpus, one for each source: words, vocabulary, sampling, quality,
 * files.  The files are a function of the corpus and the options, whatever the number of threads
 * and ranks; they appear at once, when all of them are whole.
 */
#ifndef WL_CLEAN_TOPICS_TRAIN_H
#define WL_CLEAN_TOPICS_TRAIN_H

#include "clean/topics/gather.h"
#include "clean/topics/lda.h"
#include "ops/opt.h"

struct wl_topics_options {
	struct wl_lda_config lda;
	struct wl_term_bounds bounds;
	int64_t min_chars; /* of a term */
	int64_t min_pairs; /* a source with fewer documents gets no model */
	double sample, held_out;
	bool merged;
	const char *stop;	      /* file of stop words; NULL: none */
	struct wl_strs user_dicts;    /* as jieba's load_userdict takes them; at most 16 */
	const char *select;	      /* rules for the labels */
	int64_t threads;	      /* 0: one per core */
	bool force;		      /* replace topics that have labels by hand */
};

/* Ranks of comm (NULL: one) share the partitions.  out: a directory that is not there, or has
 * topics, which are replaced. */
WL_MUST_CHECK int wl_topics_train(struct wl_corpus *c, const char *out,
	const struct wl_topics_options *o, struct wl_comm *comm, struct wl_err *err);

#endif
