/* From what was written to values of an option's kind: see opt_value.h. */
#include "ops/opt_value.h"
#include "ops/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "12", "-3", "64Ki", "5M". */
static int parse_int(const char *s, int64_t *out)
{
	static const struct {
		const char *suffix;
		int64_t unit;
	} units[] = {{"", 1}, {"k", 1000}, {"M", 1000000}, {"G", 1000000000}, {"Ki", 1 << 10},
		{"Mi", 1 << 20}, {"Gi", 1 << 30}};
	long long v;
	char *end;

	errno = 0;
	v = strtoll(s, &end, 10);
	if (end == s || errno)
		return -1;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (!strcmp(end, units[i].suffix))
			return __builtin_mul_overflow(v, units[i].unit, out) ? -1 : 0;
	return -1;
}

static int parse_double(const char *s, double *out)
{
	char *end;

	*out = strtod(s, &end);
	return end == s || *end || !isfinite(*out) ? -1 : 0;
}

static int bad_value(
	const struct wl_opt *t, const char *source, const char *found, struct wl_err *err)
{
	static const char *const want[] = {
		[WL_OPT_BOOL] = "true or false",
		[WL_OPT_INT] = "an integer (k, M, G, Ki, Mi, Gi may follow)",
		[WL_OPT_DOUBLE] = "a number",
		[WL_OPT_STR] = "a string",
		[WL_OPT_LIST] = "a list of strings",
		[WL_OPT_JSON] = "a YAML value",
	};

	return wl_err_set(
		err, WL_EUSAGE, "%s%s must be %s, found %s", source, t->name, want[t->kind], found);
}

json_t *wl_opt_value_of_text(const struct wl_opt *t, const char *text, struct wl_err *err)
{
	json_t *v = NULL;
	int64_t i;
	double d;

	switch (t->kind) {
	case WL_OPT_BOOL:
		if (!strcmp(text, "true") || !strcmp(text, "false"))
			v = json_boolean(*text == 't');
		break;
	case WL_OPT_INT:
		if (!parse_int(text, &i))
			v = json_integer(i);
		break;
	case WL_OPT_DOUBLE:
		if (!parse_double(text, &d))
			v = json_real(d);
		break;
	case WL_OPT_STR:
	case WL_OPT_LIST:
		v = json_string(text); /* NULL when it is not UTF-8 */
		if (!v) {
			wl_err_set(err, WL_EUSAGE, "the value of --%s is not valid UTF-8", t->name);
			return NULL;
		}
		return v;
	case WL_OPT_JSON: {
		char *what = NULL;

		if (asprintf(&what, "the value of --%s", t->name) < 0)
			return NULL;
		v = wl_yaml_parse(text, strlen(text), what, err);
		if (!v && err)
			err->code = WL_EUSAGE;
		free(what);
		return v;
	}
	}
	if (!v) {
		char quoted[160];

		snprintf(quoted, sizeof quoted, "'%s'", text);
		bad_value(t, "--", quoted, err);
	}
	return v;
}

/* A scalar of the file as text, for options that take strings; NULL when it is none. */
static json_t *as_string(json_t *v)
{
	char text[40];

	if (json_is_string(v))
		return json_incref(v);
	if (!json_is_number(v))
		return NULL;
	if (json_is_integer(v))
		snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
	else
		snprintf(text, sizeof text, "%.17g", json_real_value(v));
	return json_string(text);
}

static json_t *as_string_list(json_t *v)
{
	json_t *list = json_array(), *m;
	size_t i;

	if (!json_is_array(v)) {
		m = as_string(v);
		if (m && !json_array_append_new(list, m))
			return list;
		json_decref(list);
		return NULL;
	}
	json_array_foreach(v, i, m)
	{
		json_t *s = as_string(m);

		if (!s) {
			json_decref(list);
			return NULL;
		}
		json_array_append_new(list, s);
	}
	return list;
}

json_t *wl_opt_value_of_yaml(
	const struct wl_opt *t, json_t *v, const char *path, struct wl_err *err)
{
	json_t *out = NULL;
	char source[300];
	int64_t i;

	if (t->kind == WL_OPT_BOOL && json_is_boolean(v))
		out = json_incref(v);
	else if (t->kind == WL_OPT_INT && json_is_integer(v))
		out = json_incref(v);
	else if (t->kind == WL_OPT_INT && json_is_string(v) && !parse_int(json_string_value(v), &i))
		out = json_integer(i);
	else if (t->kind == WL_OPT_DOUBLE && json_is_number(v))
		out = json_real(json_number_value(v));
	else if (t->kind == WL_OPT_STR)
		out = as_string(v);
	else if (t->kind == WL_OPT_LIST)
		out = as_string_list(v);
	else if (t->kind == WL_OPT_JSON)
		out = json_incref(v);
	if (!out) {
		char *found = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);

		snprintf(source, sizeof source, "%s: key ", path);
		bad_value(t, source, found ? found : "something else", err);
		free(found);
	}
	return out;
}
