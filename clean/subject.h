/* A pair made ready for the rules, for filter.c and explain.c. */
#ifndef WL_CLEAN_SUBJECT_H
#define WL_CLEAN_SUBJECT_H

#include "clean/rules.h"
#include "ingest/corpus.h"

struct subject_job {
	struct wl_corpus *corpus;
	const struct wl_rules *rules;
	struct wl_pair pair; /* strings below are its own */
	char *source, *texts, *split_hint;
	struct wl_lanczos *weights; /* kept between pictures, or NULL */
	bool known; /* look is filled, or broken, without decoding */
	struct wl_look look;
	struct wl_picture picture;
	bool measured; /* picture is filled */
	char *broken; /* why the picture cannot be decoded; owned */
	struct wl_outcome out;
	int ret;
	struct wl_err err;
};

/* Copies what is needed of the pair. */
WL_MUST_CHECK int subject_init(struct subject_job *j, struct wl_corpus *c, const struct wl_rules *r,
	const struct wl_pair *pair, struct wl_err *err);
/* Decodes the picture when a rule wants it, and judges; the result is in ret, err and out. */
void subject_judge(struct subject_job *j);
void subject_clear(struct subject_job *j);

#endif
