/*
 * Paths that a person named: what is wrong with one, in words, and what to do.
 *
 * A program lists the options that name files (struct wl_path_rule in struct wl_opts); they are
 * then looked at before the work begins, so that a typing error is told at once and not after
 * hours, by the option's name.  What opens files says the same by wl_path_failed.
 */
#ifndef WL_OPS_PATH_H
#define WL_OPS_PATH_H

#include "ops/err.h"

#include <stdbool.h>

enum wl_path_want {
	WL_PATH_FILE,	    /* to be read: a file, a pipe or a device, not a directory */
	WL_PATH_DIR,	    /* to be read: a directory */
	WL_PATH_ANY,	    /* to be read: either */
	WL_PATH_OUTPUT,	    /* a file to be written, whose directory is there */
	WL_PATH_OUTPUT_DIR, /* a directory to be written, which may have to be made */
};

struct wl_path_rule {
	const char *option; /* without dashes; "" for the arguments that are no options */
	enum wl_path_want want;
	const char *mend; /* how to get one, "wenlan-vocab writes one"; NULL: "check the path" */
};

/* Whether path is what is wanted of it: 0, or WL_EFAIL with a sentence that begins with the path
 * and ends with the mend.  Only that it is there and of the right kind, and that this user may
 * read or write it: what is in it shows when it is opened. */
WL_MUST_CHECK int wl_path_check(
	const char *path, enum wl_path_want want, const char *mend, struct wl_err *err);

/* "PATH cannot be VERB: REASON", after a call on it set errno; the reason is what is found there,
 * where that says more than errno's text.  verb: "opened"; mend as in a rule.  Returns -1. */
int wl_path_failed(const char *path, const char *verb, const char *mend, struct wl_err *err);

#endif
