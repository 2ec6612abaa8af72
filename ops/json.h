/*
 * Glue over jansson and libyaml.  YAML is turned into the same json_t tree as
 * JSON, so everything behind it knows one kind of value.
 */
#ifndef WL_OPS_JSON_H
#define WL_OPS_JSON_H

#include "ops/buf.h"
#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Whole files.  NULL on failure: WL_EFAIL when it cannot be read, WL_EDATA with
 * line and column when it is not valid.  The caller owns the reference.  In YAML, plain scalars
 * follow the core schema (true/false/null, integers, floats); anchors and aliases
 * work, tags and several documents are refused. */
json_t *wl_json_load(const char *path, struct wl_err *err);
json_t *wl_yaml_load(const char *path, struct wl_err *err);
/* what: how errors name the text. */
json_t *wl_yaml_parse(const char *text, size_t len, const char *what, struct wl_err *err);
json_t *wl_json_parse(const char *text, size_t len, const char *what, struct wl_err *err);

/* Writes compact JSON and a newline atomically (temporary name, sync, rename). */
WL_MUST_CHECK int wl_json_save(const char *path, const json_t *v, struct wl_err *err);

/* Typed members of the object `o`; `where` names it in errors (WL_EDATA).  The
 * *_or forms give `fallback` when the key is absent or null, and fail on a wrong type.
 * Strings are borrowed from o. */
WL_MUST_CHECK int wl_json_str(const json_t *o, const char *key, const char *where,
	const char **out, struct wl_err *err);
WL_MUST_CHECK int wl_json_str_or(const json_t *o, const char *key, const char *where,
	const char *fallback, const char **out, struct wl_err *err);
WL_MUST_CHECK int wl_json_int(const json_t *o, const char *key, const char *where,
	int64_t *out, struct wl_err *err);
WL_MUST_CHECK int wl_json_int_or(const json_t *o, const char *key, const char *where,
	int64_t fallback, int64_t *out, struct wl_err *err);
WL_MUST_CHECK int wl_json_num_or(const json_t *o, const char *key, const char *where,
	double fallback, double *out, struct wl_err *err);
WL_MUST_CHECK int wl_json_bool_or(const json_t *o, const char *key, const char *where,
	bool fallback, bool *out, struct wl_err *err);

/* Fails (WL_EUSAGE, nearest valid name) on a key of `o` that is not in the
 * NULL-terminated `known`. */
WL_MUST_CHECK int wl_json_only_keys(const json_t *o, const char *const *known,
	const char *where, struct wl_err *err);

/* Compact text with sorted keys, to be freed by the caller; NULL when out of memory. */
char *wl_json_text(const json_t *v, struct wl_err *err);
/* That text as one line on standard output. */
WL_MUST_CHECK int wl_json_print(const json_t *v, struct wl_err *err);

/* The value as block YAML: mappings over several lines, all else in flow form, which is
 * JSON; added to out. */
WL_MUST_CHECK int wl_yaml_text(const json_t *v, struct wl_buf *out, struct wl_err *err);

#endif
