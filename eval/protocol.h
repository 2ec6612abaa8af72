/*
 * The published retrieval protocols by name, so that a number is printed beside others only when it
 * was measured as they were: the size of the pools decides a recall at K.
 */
#ifndef WL_EVAL_PROTOCOL_H
#define WL_EVAL_PROTOCOL_H

#include "eval/metrics/retrieval.h"

#include <stdbool.h>

struct wl_protocol {
	const char *name;      /* "aic-icc" */
	const char *title;     /* for people */
	int64_t images, texts; /* the pool */
	int64_t captions;      /* of every image; 0: any */
	bool t2i_only;	       /* MUGE: mean recall is the mean of three */
	const char *line;      /* the protocol in a sentence, for below a table */
};

/* NULL and WL_EUSAGE with the names that exist. */
const struct wl_protocol *wl_protocol_find(const char *name, struct wl_err *err);

/* WL_EDATA with expected and found sizes when this is not the protocol's pool. */
WL_MUST_CHECK int wl_protocol_check(
	const struct wl_protocol *p, const struct wl_retrieval_in *in, struct wl_err *err);

#endif
