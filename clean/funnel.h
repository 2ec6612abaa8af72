/* How the corpus shrinks step by step, for the report: each pair is counted at the first step
 * that drops it, so that the steps add up (DanQing and others print theirs in this form). */
#ifndef WL_CLEAN_FUNNEL_H
#define WL_CLEAN_FUNNEL_H

#include "ingest/corpus.h"
#include "ops/err.h"

enum wl_step {
	WL_STEP_TEXT,	   /* text-...: length, language, junk, personal */
	WL_STEP_SENSITIVE, /* sensitive-... */
	WL_STEP_IMAGE,	   /* image-..., bad-image */
	WL_STEP_AGREEMENT, /* agreement-... */
	WL_STEP_TOPIC,	   /* topic-... */
	WL_STEP_DUPLICATE, /* whatever dedup says */
	WL_STEPS,
};

struct wl_funnel {
	int64_t pairs;		   /* that the filter has examined */
	int64_t dropped[WL_STEPS]; /* at this step first */
};

/* Reads the published generations; a stage that has not run drops nothing. */
WL_MUST_CHECK int wl_funnel_read(struct wl_corpus *c, struct wl_funnel *f, struct wl_err *err);

extern const char *const wl_step_names[WL_STEPS];

#endif
