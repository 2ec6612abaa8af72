/*
 * Trained topics as files: a directory that others can read.
 *
 *   DIR/topics.json          {version, segment, corpus, sources: [{source, dir, files: sha256}]}
 *   DIR/user-N.txt           users' dictionaries that the texts were cut with
 *   DIR/SOURCE/model.json    numbers of the training and of each topic
 *   DIR/SOURCE/vocab.txt     word, occurrences, documents: row i of the table is line i
 *   DIR/SOURCE/topic_word.npy  uint32 [words][topics]: how often a word has a topic
 */
#ifndef WL_CLEAN_TOPICS_MODEL_H
#define WL_CLEAN_TOPICS_MODEL_H

#include "clean/topics/lda.h"
#include "clean/topics/quality.h"
#include "clean/topics/terms.h"

#include <jansson.h>

struct wl_topic_model {
	char *source; /* "*": for every source that has no model of its own */
	struct wl_terms terms;
	struct wl_lda_model lda;
	json_t *facts; /* model.json */
};

struct wl_topic_models {
	struct wl_topic_model *v;
	size_t n;
	json_t *index; /* topics.json */
	char id[65];   /* SHA-256 of topics.json, which has those of the other files */
};

/* What model.json says: the training's numbers (a new reference is taken), then `topics`. */
json_t *wl_topic_facts_json(const struct wl_topic_facts *facts, int topics,
	const struct wl_terms *terms, json_t *training, struct wl_err *err);

/* Writes one model into dir/NAME and adds it to index (an object with a list `sources`). */
WL_MUST_CHECK int wl_topic_model_save(const char *dir, const struct wl_topic_model *m,
	json_t *index, struct wl_err *err);

/* Reads all models of dir; with_counts false: without the tables, for those that only look at
 * facts.  WL_EDATA for anything that does not fit together. */
WL_MUST_CHECK int wl_topic_models_load(struct wl_topic_models *t, const char *dir, bool with_counts,
	struct wl_err *err);
void wl_topic_models_release(struct wl_topic_models *t);
void wl_topic_model_release(struct wl_topic_model *m);
/* Opens the segmentation that the models were made with; WL_EDATA when the dictionary here is
 * another one. */
struct wl_segment *wl_topic_models_segment(const struct wl_topic_models *t, const char *dir,
	struct wl_err *err);

#endif
