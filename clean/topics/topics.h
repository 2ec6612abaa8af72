/*
 * Topics inside the filter: which topic a pair is of, its category, and whether it is unwanted.
 */
#ifndef WL_CLEAN_TOPICS_TOPICS_H
#define WL_CLEAN_TOPICS_TOPICS_H

#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>

struct wl_topics; /* models, labels and dictionary; immutable: for any number of threads */

/* dir: what `wenlan-filter topics train` wrote; labels: NULL for dir/labels.yaml.  NULL on failure:
 * WL_EUSAGE when there are no topics or labels, or they do not fit together; WL_EDATA when a file
 * is damaged. */
struct wl_topics *wl_topics_open(const char *dir, const char *labels, struct wl_err *err);
void wl_topics_close(struct wl_topics *t);
/* What the outcome depends on: hashes of models and labels.  A new reference; NULL when out of
 * memory. */
json_t *wl_topics_params(const struct wl_topics *t, struct wl_err *err);

struct wl_topic_of {
	int topic;	      /* -1: the source has no model, or no text has a word of it */
	double share;	      /* of the topic in the pair's texts, 0 .. 1 */
	double unwanted;      /* share of all topics that are labelled drop */
	const char *category; /* of the topic; NULL: none; borrowed */
	const char *words;    /* of the topic; borrowed */
};
/* texts: [[kind, text], ...], normalised. */
WL_MUST_CHECK int wl_topics_of(const struct wl_topics *t, const char *source, const json_t *texts,
	struct wl_topic_of *out, struct wl_err *err);

#endif
