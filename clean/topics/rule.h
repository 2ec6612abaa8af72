/* The `topics` section of the filter's rules. */
#ifndef WL_CLEAN_TOPICS_RULE_H
#define WL_CLEAN_TOPICS_RULE_H

#include "clean/topics/topics.h"

/*
 *   topics:
 *     model: topics            # what `wenlan-filter topics train` wrote; counts from this file
 *     labels: my-labels.yaml   # default: labels.yaml in it
 *     max_unwanted: 0.5        # topic-unwanted: share of topics labelled drop in a pair's texts
 */
struct wl_topic_rule {
	struct wl_topics *topics; /* NULL: there is no such section */
	double max_unwanted;
};

/* o: the section, NULL: none.  rules: the file's path.  What the outcome depends on goes into
 * hashes, an object.  Zeroed on failure. */
WL_MUST_CHECK int wl_topic_rule_read(struct wl_topic_rule *t, const json_t *o, const char *rules,
	const char *where, json_t *hashes, struct wl_err *err);
void wl_topic_rule_release(struct wl_topic_rule *t);

#endif
