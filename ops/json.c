/* jansson with our errors, and typed members: see json.h.  YAML is in yaml.c. */
#include "ops/json.h"
#include "ops/buf.h"
#include "ops/file.h"
#include "ops/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_FILE_MAX = 1 << 30 };

json_t *wl_json_parse(const char *text, size_t len, const char *what, struct wl_err *err)
{
	json_error_t je;
	json_t *v = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);

	if (!v)
		wl_err_set(err, WL_EDATA, "%s is not valid JSON: line %d column %d: %s", what,
			je.line, je.column, je.text);
	return v;
}

/* Reads the file and hands its text to one of the two parsers. */
static json_t *load(const char *path,
	json_t *(*parse)(const char *, size_t, const char *, struct wl_err *), struct wl_err *err)
{
	struct wl_buf b;
	json_t *v = NULL;

	wl_buf_init(&b, JSON_FILE_MAX);
	if (wl_read_file(path, &b, err) == 0)
		v = parse(wl_buf_str(&b), b.len, path, err);
	wl_buf_release(&b);
	return v;
}

json_t *wl_json_load(const char *path, struct wl_err *err)
{
	return load(path, wl_json_parse, err);
}

json_t *wl_yaml_load(const char *path, struct wl_err *err)
{
	return load(path, wl_yaml_parse, err);
}

int wl_json_save(const char *path, const json_t *v, struct wl_err *err)
{
	struct wl_outfile f;

	WL_TRY(wl_outfile_open(&f, path, err));
	if (json_dumpf(v, f.fp, JSON_COMPACT | JSON_ENCODE_ANY) || putc('\n', f.fp) == EOF) {
		wl_err_errno(err, "%s cannot be written as JSON", f.tmp);
		wl_outfile_discard(&f);
		return -1;
	}
	return wl_outfile_commit(&f, err);
}

static const char *type_name(const json_t *v)
{
	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_OBJECT:
		return "a mapping";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	case JSON_NULL:
		break;
	}
	return "nothing";
}

static int wrong_type(
	const json_t *v, const char *key, const char *where, const char *want, struct wl_err *err)
{
	return wl_err_set(
		err, WL_EDATA, "%s: \"%s\" must be %s, found %s", where, key, want, type_name(v));
}

/* The member, or NULL when it is absent or null. */
static json_t *member(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);

	return json_is_null(v) ? NULL : v;
}

int wl_json_str(
	const json_t *o, const char *key, const char *where, const char **out, struct wl_err *err)
{
	const json_t *v = member(o, key);

	if (!json_is_string(v))
		return wrong_type(v, key, where, "a string", err);
	*out = json_string_value(v);
	return 0;
}

int wl_json_str_or(const json_t *o, const char *key, const char *where, const char *fallback,
	const char **out, struct wl_err *err)
{
	if (member(o, key))
		return wl_json_str(o, key, where, out, err);
	*out = fallback;
	return 0;
}

int wl_json_int(
	const json_t *o, const char *key, const char *where, int64_t *out, struct wl_err *err)
{
	const json_t *v = member(o, key);

	if (!json_is_integer(v))
		return wrong_type(v, key, where, "an integer", err);
	*out = json_integer_value(v);
	return 0;
}

int wl_json_int_or(const json_t *o, const char *key, const char *where, int64_t fallback,
	int64_t *out, struct wl_err *err)
{
	if (member(o, key))
		return wl_json_int(o, key, where, out, err);
	*out = fallback;
	return 0;
}

int wl_json_num_or(const json_t *o, const char *key, const char *where, double fallback,
	double *out, struct wl_err *err)
{
	const json_t *v = member(o, key);

	if (v && !json_is_number(v))
		return wrong_type(v, key, where, "a number", err);
	*out = v ? json_number_value(v) : fallback;
	return 0;
}

int wl_json_bool_or(const json_t *o, const char *key, const char *where, bool fallback, bool *out,
	struct wl_err *err)
{
	const json_t *v = member(o, key);

	if (v && !json_is_boolean(v))
		return wrong_type(v, key, where, "true or false", err);
	*out = v ? json_is_true(v) : fallback;
	return 0;
}

int wl_json_only_keys(
	const json_t *o, const char *const *known, const char *where, struct wl_err *err)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)o, key, v)
	{
		const char *near;
		size_t i = 0;

		while (known[i] && strcmp(known[i], key))
			i++;
		if (known[i])
			continue;
		near = wl_nearest_name(key, known);
		if (near)
			return wl_err_set(err, WL_EUSAGE,
				"%s: key \"%s\" is unknown; did you mean \"%s\"?", where, key,
				near);
		return wl_err_set(err, WL_EUSAGE, "%s: key \"%s\" is unknown", where, key);
	}
	return 0;
}

char *wl_json_text(const json_t *v, struct wl_err *err)
{
	char *s = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	if (!s)
		wl_err_nomem(err, "JSON text", 0);
	return s;
}

int wl_json_print(const json_t *v, struct wl_err *err)
{
	char *text = wl_json_text(v, err);

	if (!text)
		return -1;
	puts(text);
	free(text);
	return 0;
}
