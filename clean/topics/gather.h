/*
 * The documents of a corpus, by source: a pair is a document, its words are those of all its
 * texts, normalised as the filter does.  Pairs that dedup dropped are left out.
 */
#ifndef WL_CLEAN_TOPICS_GATHER_H
#define WL_CLEAN_TOPICS_GATHER_H

#include "clean/text.h"
#include "clean/topics/lda.h"
#include "clean/topics/terms.h"
#include "ingest/corpus.h"

struct wl_gather_options {
	const struct wl_text *text;
	const struct wl_segment *segment;
	struct wl_term_rules rules;
	struct wl_term_bounds bounds;
	double sample;	 /* share of the pairs to take, drawn by id */
	double held_out; /* share of those to keep for the perplexity */
	uint64_t seed;
	bool merged;	 /* all sources as one, named "*" */
};

struct wl_topic_docs {
	char *source;
	struct wl_terms terms;	/* the vocabulary: the same on all ranks */
	struct wl_docs train, held; /* of this rank; documents of two words or more */
};

struct wl_gathered {
	struct wl_topic_docs *v; /* by name of the source, the same ones on all ranks */
	size_t n;
};

/* Rank r takes the r-th part of the partitions.  The same for any number of threads (pool) and
 * ranks. */
WL_MUST_CHECK int wl_gather(struct wl_corpus *c, const struct wl_gather_options *o,
	struct wl_comm *comm, struct wl_pool *pool, struct wl_gathered *out, struct wl_err *err);
void wl_gathered_release(struct wl_gathered *g);

/* The terms of a pair's texts (JSON), each with a 0 byte behind it, added to words.  cuts is
 * scratch.  Used by the stages that infer, too. */
WL_MUST_CHECK int wl_gather_words(const struct wl_gather_options *o, const char *source,
	const char *texts, const char *what, struct wl_cuts *cuts, struct wl_buf *words,
	struct wl_err *err);

#endif
