/*
 * Topics as one page: their words, sizes, quality, labels, and texts that are of them.
 */
#ifndef WL_CLEAN_TOPICS_REPORT_H
#define WL_CLEAN_TOPICS_REPORT_H

#include "clean/text.h"
#include "ingest/corpus.h"

/* dir: topics with labels.  Up to max_pairs pairs (in order of partition and id) are looked at for
 * examples and for the counts of what the labels would drop.  c NULL: no examples. */
WL_MUST_CHECK int wl_topics_report(struct wl_corpus *c, const struct wl_text *text, const char *dir,
	const char *labels, int64_t max_pairs, const char *path, struct wl_err *err);

#endif
