/* JSON lines from outside: every line counts, a last one without a newline too (unlike
 * ops/metrics.h, whose files are our own and may be torn). */
#ifndef WL_EVAL_JSONLINES_H
#define WL_EVAL_JSONLINES_H

#include "ops/err.h"

#include <jansson.h>

/* Calls fn for each line that is not blank, numbered from 1.  WL_EDATA with the line for what is no
 * JSON object. */
WL_MUST_CHECK int wl_json_lines_read(const char *path,
	int (*fn)(json_t *o, size_t line, void *user, struct wl_err *err), void *user,
	struct wl_err *err);

#endif
