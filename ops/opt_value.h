/* What a flag's text or a key's value says, as JSON of the option's kind; for opt.c only. */
#ifndef WL_OPS_OPT_VALUE_H
#define WL_OPS_OPT_VALUE_H

#include "ops/opt.h"

/* Of a flag, without the option's name; one string of a WL_OPT_LIST.  A new reference, or NULL
 * with WL_EUSAGE, which names the flag, what it takes and what was found. */
json_t *wl_opt_value_of_text(const struct wl_opt *t, const char *text, struct wl_err *err);
/* The same of the value of a key in the file at `path`. */
json_t *wl_opt_value_of_yaml(
	const struct wl_opt *t, json_t *v, const char *path, struct wl_err *err);

#endif
