/*
 * Which topics are wanted, and what they are about: DIR/labels.yaml, written by rules
 * (clean/topics/select.yaml), to be corrected by hand.
 *
 *   version: 1
 *   topics: ID of the models that the numbers belong to
 *   sources:
 *     news:
 *       "0": {label: keep, category: sports, by: rules, why: ..., words: ...}
 *
 * label: keep | drop; category: any word, or null; by: rules | hand.  What is `by: hand` is left
 * alone when the rules are applied again.
 */
#ifndef WL_CLEAN_TOPICS_LABELS_H
#define WL_CLEAN_TOPICS_LABELS_H

#include "clean/topics/model.h"

/* Applies the rules of a YAML file to all topics and writes dir/labels.yaml.  Gives how many are
 * kept and dropped, and how many were left as by hand. */
struct wl_topic_label_counts {
	int64_t kept, dropped, by_hand;
};
WL_MUST_CHECK int wl_topic_labels_select(const struct wl_topic_models *t, const char *dir,
	const char *rules, struct wl_topic_label_counts *counts, struct wl_err *err);

/* A label of each topic of a model. */
struct wl_topic_label {
	bool drop;
	const char *category, *words; /* NULL: none; borrowed from the JSON */
};
/* Reads labels; every topic of every model must have one, and they must be of these models
 * (WL_EUSAGE, naming the topic and what is wrong).  NULL on failure. */
json_t *wl_topic_labels_load(const struct wl_topic_models *t, const char *path, struct wl_err *err);
/* The label of a topic in what wl_topic_labels_load gave. */
struct wl_topic_label wl_topic_labels_get(const json_t *labels, const char *source, int topic);
/* True when dir/labels.yaml is there and has topics labelled by hand. */
WL_MUST_CHECK int wl_topic_labels_by_hand(const char *dir, bool *by_hand, struct wl_err *err);

#endif
