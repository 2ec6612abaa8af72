/* The word segmenter (clean/segment.h) as captions.h wants it. */
#ifndef WL_EVAL_CUTTER_H
#define WL_EVAL_CUTTER_H

#include "eval/captions.h"

/* dictionary: directory of jieba's tables, NULL: where Debian and the environment have them. */
WL_MUST_CHECK int wl_cutter_open(struct wl_cutter *c, const char *dictionary, struct wl_err *err);
void wl_cutter_close(struct wl_cutter *c);

#endif
