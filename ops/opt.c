/*
 * One grammar for flags and YAML keys: see opt.h.
 *
 * Both sources are first turned into one flat mapping from option name to a JSON value of
 * the option's kind (flags over file), and only then written to the destinations.  So
 * there is one conversion and one check, and strings have one owner.
 */
#include "ops/opt.h"
#include "ops/arena.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/metrics.h"
#include "ops/opt_help.h"
#include "ops/opt_value.h"
#include "ops/progress.h"
#include "ops/signals.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct wl_opts_mem {
	struct wl_arena arena;
	json_t *flags, *file; /* name -> value */
	json_t *effective;
	const char *log_level;
	bool help, version, print_config;
	struct wl_opt common[12];
};

static void common_table(struct wl_opts *o)
{
	struct wl_opts_mem *m = o->mem;
	const struct wl_opt table[] = {
		{"config", WL_OPT_STR, &o->common.config, "FILE", "YAML file with options as keys",
			0},
		{"print-config", WL_OPT_BOOL, &m->print_config, NULL,
			"print the options in effect as YAML and stop", 0},
		{"log-level", WL_OPT_STR, &m->log_level, "LEVEL", "error, warn, info or debug", 0},
		{"quiet", WL_OPT_BOOL, &o->common.quiet, NULL, "warnings and errors only", 0},
		{"progress", WL_OPT_STR, &o->common.progress, "MODE", "auto, plain or none", 0},
		{"json", WL_OPT_BOOL, &o->common.json, NULL, "results as JSON on standard output",
			0},
		{"metrics-port", WL_OPT_INT, &o->common.metrics_port, "PORT",
			"serve Prometheus metrics on this local port (0: do not)", 0},
		{"help", WL_OPT_BOOL, &m->help, NULL, "print this and stop", 0},
		{"version", WL_OPT_BOOL, &m->version, NULL, "print the version and stop", 0},
		{0},
	};
	_Static_assert(sizeof table <= sizeof m->common, "room for the common options");

	memcpy(m->common, table, sizeof table);
}

static const struct wl_opt *find_in(const struct wl_opt *table, const char *name, size_t len)
{
	for (; table && table->name; table++)
		if (strlen(table->name) == len && !memcmp(table->name, name, len))
			return table;
	return NULL;
}

static const struct wl_opt *find(const struct wl_opts *o, const char *name, size_t len)
{
	const struct wl_opt *t = find_in(o->table, name, len);

	return t ? t : find_in(o->mem->common, name, len);
}

/* The WL_OPT_JSON option that `name` (model.width) is a member of, and the rest (width). */
static const struct wl_opt *find_parent(
	const struct wl_opts *o, const char *name, const char **rest)
{
	for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
		const struct wl_opt *t = find(o, name, (size_t)(dot - name));

		if (t && t->kind == WL_OPT_JSON) {
			*rest = dot + 1;
			return t;
		}
	}
	return NULL;
}

static int unknown(const struct wl_opts *o, const char *kind, const char *name, struct wl_err *err)
{
	const struct wl_opt *tables[] = {o->table, o->mem->common};
	const char *names[256], *near;
	size_t n = 0;

	for (size_t t = 0; t < 2; t++)
		for (const struct wl_opt *p = tables[t]; p && p->name && n < 255; p++)
			names[n++] = p->name;
	names[n] = NULL;
	near = wl_nearest_name(name, names);
	if (near)
		return wl_err_set(err, WL_EUSAGE, "%s %s is unknown; did you mean %s? (see --help)",
			kind, name, near);
	return wl_err_set(
		err, WL_EUSAGE, "%s %s is unknown; --help lists what there is", kind, name);
}

static int walk_config(struct wl_opts *o, json_t *node, const char *prefix, struct wl_err *err)
{
	const char *path = o->common.config, *key;
	json_t *v;

	json_object_foreach(node, key, v)
	{
		const struct wl_opt *t;
		char name[256];
		bool is_prefix = false;
		size_t n = (size_t)snprintf(name, sizeof name, "%s%s", prefix, key);
		json_t *value;

		if (n >= sizeof name)
			return wl_err_set(
				err, WL_EUSAGE, "%s: a key is longer than 255 bytes", path);
		t = find(o, name, n);
		if (t) {
			if (json_is_null(v))
				continue;
			value = wl_opt_value_of_yaml(t, v, path, err);
			if (!value)
				return -1;
			json_object_set_new(o->mem->file, t->name, value);
			continue;
		}
		for (const struct wl_opt *p = o->table; p && p->name; p++)
			is_prefix |= !strncmp(p->name, name, n) && p->name[n] == '.';
		if (!is_prefix || (!json_is_object(v) && !json_is_null(v))) {
			unknown(o, "key", name, err);
			return wl_err_prefix(err, "%s", path);
		}
		if (n + 2 > sizeof name)
			return wl_err_set(
				err, WL_EUSAGE, "%s: a key is longer than 255 bytes", path);
		memcpy(name + n, ".", 2);
		WL_TRY(walk_config(o, v, name, err));
	}
	return 0;
}

static int load_config(struct wl_opts *o, struct wl_err *err)
{
	int ret = wl_path_check(o->common.config, WL_PATH_FILE,
		"--print-config prints the options in effect in the form of such a file", err);
	json_t *root = ret ? NULL : wl_yaml_load(o->common.config, err);

	if (!root) {
		if (err)
			err->code = WL_EUSAGE;
		return -1;
	}
	if (json_is_object(root))
		ret = walk_config(o, root, "", err);
	else if (!json_is_null(root))
		ret = wl_err_set(err, WL_EUSAGE, "%s: a mapping from option to value was expected",
			o->common.config);
	json_decref(root);
	return ret;
}

/* Sets root[a][b][c] for the path a.b.c, making mappings on the way; steals v. */
static int set_path(json_t *root, const char *path, json_t *v, struct wl_err *err)
{
	const char *dot = strchr(path, '.');
	char *key = strndup(path, dot ? (size_t)(dot - path) : strlen(path));
	json_t *child;
	int ret = 0;

	if (!key || !v) {
		json_decref(v);
		free(key);
		return wl_err_nomem(err, "an option", 0);
	}
	if (!dot) {
		if (json_object_set_new(root, key, v))
			ret = wl_err_nomem(err, "an option", 0);
	} else {
		child = json_object_get(root, key);
		if (!json_is_object(child)) {
			child = json_object();
			json_object_set_new(root, key, child);
		}
		ret = set_path(child, dot + 1, v, err);
	}
	free(key);
	return ret;
}

static int positional(struct wl_opts *o, const char *arg, struct wl_err *err)
{
	if (!o->allow_positional)
		return wl_err_set(err, WL_EUSAGE,
			"argument '%s' is not expected: this program takes options only (see "
			"--help)",
			arg);
	o->positional.v[o->positional.n++] = arg;
	return 0;
}

static int store_flag(
	struct wl_opts *o, const struct wl_opt *t, const char *text, struct wl_err *err)
{
	json_t *v = wl_opt_value_of_text(t, text, err), *list;

	if (!v)
		return -1;
	if (t->kind != WL_OPT_LIST)
		return json_object_set_new(o->mem->flags, t->name, v)
			       ? wl_err_nomem(err, "an option", 0)
			       : 0;
	list = json_object_get(o->mem->flags, t->name);
	if (!list) {
		list = json_array();
		json_object_set_new(o->mem->flags, t->name, list);
	}
	return json_array_append_new(list, v) ? wl_err_nomem(err, "an option", 0) : 0;
}

/* One flag at argv[i]; returns how many further arguments it took. */
static int parse_flag(struct wl_opts *o, char **argv, int i, struct wl_err *err)
{
	const char *name = argv[i] + 2, *eq = strchr(name, '='), *text = eq ? eq + 1 : NULL;
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const struct wl_opt *t = find(o, name, len);
	const char *inner = NULL;
	char copy[256];

	if (len >= sizeof copy)
		return wl_err_set(err, WL_EUSAGE, "an option is longer than 255 bytes");
	memcpy(copy, name, len);
	copy[len] = 0;
	if (!t && !text && !strncmp(copy, "no-", 3)) {
		t = find(o, copy + 3, len - 3);
		if (t && t->kind == WL_OPT_BOOL)
			return store_flag(o, t, "false", err);
		t = NULL;
	}
	if (!t && !find_parent(o, copy, &inner)) {
		char shown[260];

		snprintf(shown, sizeof shown, "--%s", copy);
		return unknown(o, "option", shown, err);
	}
	if (t && t->kind == WL_OPT_BOOL)
		return store_flag(o, t, text ? text : "true", err);
	if (!text && !argv[i + 1])
		return wl_err_set(err, WL_EUSAGE, "option --%s needs a value", copy);
	if (t) {
		WL_TRY(store_flag(o, t, text ? text : argv[i + 1], err));
	} else {
		/* --model.width 8: kept under its full name, applied in assign_json. */
		struct wl_opt member = {.name = copy, .kind = WL_OPT_JSON};
		json_t *v = wl_opt_value_of_text(&member, text ? text : argv[i + 1], err);

		if (!v)
			return -1;
		json_object_set_new(o->mem->flags, copy, v);
	}
	return text ? 0 : 1;
}

static int parse_argv(struct wl_opts *o, int argc, char **argv, struct wl_err *err)
{
	bool only_positional = false;

	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];

		if (only_positional || a[0] != '-' || !a[1]) {
			WL_TRY(positional(o, a, err));
		} else if (!strcmp(a, "--")) {
			only_positional = true;
		} else if (!strcmp(a, "-h")) {
			o->mem->help = true;
		} else if (a[1] != '-') {
			return wl_err_set(err, WL_EUSAGE,
				"option %s is unknown: options are written --name value (see "
				"--help)",
				a);
		} else {
			int took = parse_flag(o, argv, i, err);

			WL_TRY(took);
			i += took;
		}
	}
	return 0;
}

static int assign_list(struct wl_opts *o, const struct wl_opt *t, json_t *v, struct wl_err *err)
{
	struct wl_strs *list = t->dst;
	const char **out =
		wl_arena_calloc(&o->mem->arena, json_array_size(v) + 1, sizeof *out, err);
	json_t *m;
	size_t i;

	if (!out)
		return -1;
	json_array_foreach(v, i, m) out[i] = json_string_value(m);
	*list = (struct wl_strs){out, json_array_size(v)};
	return 0;
}

/* A whole value from the file, flag or default, with the flags of its members on top. */
static int assign_json(
	struct wl_opts *o, const struct wl_opt *t, json_t **value, struct wl_err *err)
{
	size_t n = strlen(t->name);
	const char *key;
	json_t *v, *copy = NULL;

	json_object_foreach(o->mem->flags, key, v)
	{
		if (strncmp(key, t->name, n) || key[n] != '.' || find(o, key, strlen(key)))
			continue;
		if (!copy)
			copy = json_is_object(*value) ? json_deep_copy(*value) : json_object();
		if (!copy)
			return wl_err_nomem(err, "an option", 0);
		if (set_path(copy, key + n + 1, json_incref(v), err) < 0) {
			json_decref(copy);
			return -1;
		}
	}
	if (copy)
		json_object_set_new(o->mem->file, t->name, *value = copy);
	*(json_t **)t->dst = *value;
	return 0;
}

/* What the destination holds, as JSON: a new reference. */
static json_t *current_value(const struct wl_opt *t)
{
	switch (t->kind) {
	case WL_OPT_BOOL:
		return json_boolean(*(bool *)t->dst);
	case WL_OPT_INT:
		return json_integer(*(int64_t *)t->dst);
	case WL_OPT_DOUBLE:
		/* An unset number may be NaN in the program: null here. */
		return isfinite(*(double *)t->dst) ? json_real(*(double *)t->dst) : json_null();
	case WL_OPT_STR:
		return *(const char **)t->dst ? json_string(*(const char **)t->dst) : json_null();
	case WL_OPT_LIST: {
		const struct wl_strs *list = t->dst;
		json_t *v = json_array();

		for (size_t i = 0; i < list->n; i++)
			json_array_append_new(v, json_string(list->v[i]));
		return v;
	}
	case WL_OPT_JSON:
		return *(json_t **)t->dst ? json_incref(*(json_t **)t->dst) : json_null();
	}
	return NULL;
}

static int assign(struct wl_opts *o, const struct wl_opt *t, struct wl_err *err)
{
	json_t *v = json_object_get(o->mem->flags, t->name);

	v = v ? v : json_object_get(o->mem->file, t->name);
	if (t->kind == WL_OPT_JSON) {
		json_t *value = v ? v : *(json_t **)t->dst;

		return assign_json(o, t, &value, err);
	}
	if (!v)
		return 0;
	switch (t->kind) {
	case WL_OPT_BOOL:
		*(bool *)t->dst = json_is_true(v);
		break;
	case WL_OPT_INT:
		*(int64_t *)t->dst = json_integer_value(v);
		break;
	case WL_OPT_DOUBLE:
		*(double *)t->dst = json_number_value(v);
		break;
	case WL_OPT_STR:
		if (*json_string_value(v)) /* `--name=` leaves the default */
			*(const char **)t->dst = json_string_value(v);
		break;
	case WL_OPT_LIST:
		return assign_list(o, t, v, err);
	case WL_OPT_JSON:
		break;
	}
	return 0;
}

/* Whether the destination holds something that counts as given. */
static bool is_given(const struct wl_opts *o, const struct wl_opt *t)
{
	if (t->kind == WL_OPT_STR)
		return *(const char **)t->dst != NULL;
	if (t->kind == WL_OPT_LIST)
		return ((const struct wl_strs *)t->dst)->n > 0;
	if (t->kind == WL_OPT_JSON)
		return *(json_t **)t->dst != NULL;
	return json_object_get(o->mem->flags, t->name) || json_object_get(o->mem->file, t->name);
}

static int assign_all(struct wl_opts *o, struct wl_err *err)
{
	for (const struct wl_opt *t = o->mem->common; t->name; t++)
		WL_TRY(assign(o, t, err));
	for (const struct wl_opt *t = o->table; t && t->name; t++) {
		WL_TRY(assign(o, t, err));
		WL_TRY(set_path(o->mem->effective, t->name, current_value(t), err));
	}
	o->effective = o->mem->effective;
	return 0;
}

static int check_required(const struct wl_opts *o, struct wl_err *err)
{
	for (const struct wl_opt *t = o->table; t && t->name; t++)
		if (t->required && !is_given(o, t))
			return wl_err_set(err, WL_EUSAGE, "option --%s %s is required%s%s (see "
				"--help)", t->name, t->metavar ? t->metavar : "VALUE",
				t->help ? ": " : "", t->help ? t->help : "");
	return 0;
}

/* Whether path lies in a directory that this run makes itself. */
static bool will_be_there(const struct wl_opts *o, const char *path)
{
	for (const struct wl_path_rule *r = o->paths; r->option; r++) {
		const struct wl_opt *t = find(o, r->option, strlen(r->option));
		const char *dir = t && t->kind == WL_OPT_STR ? *(const char **)t->dst : NULL;
		size_t n = dir ? strlen(dir) : 0;

		if (r->want == WL_PATH_OUTPUT_DIR && n && !strncmp(path, dir, n) &&
			(path[n] == '/' || dir[n - 1] == '/'))
			return true;
	}
	return false;
}

static int check_path(const struct wl_opts *o, const struct wl_path_rule *r, const char *path,
	struct wl_err *err)
{
	if (!path || strstr(path, "://") ||
		(r->want == WL_PATH_OUTPUT && will_be_there(o, path)))
		return 0;
	if (wl_path_check(path, r->want, r->mend, err) == 0)
		return 0;
	if (err && *r->option)
		wl_err_set(err, err->code, "--%s %s", r->option, err->msg);
	return -1;
}

static int check_paths(const struct wl_opts *o, struct wl_err *err)
{
	for (const struct wl_path_rule *r = o->paths; r && r->option; r++) {
		const struct wl_opt *t = find(o, r->option, strlen(r->option));
		const struct wl_strs *list = *r->option ? NULL : &o->positional;

		if (!t && !list)
			WL_BUG("%s has no option --%s", o->program, r->option);
		if (t && t->kind == WL_OPT_STR)
			WL_TRY(check_path(o, r, *(const char **)t->dst, err));
		else if (t)
			list = t->dst;
		for (size_t i = 0; list && i < list->n; i++)
			WL_TRY(check_path(o, r, list->v[i], err));
	}
	return 0;
}

static int print_config(const struct wl_opts *o, struct wl_err *err)
{
	struct wl_buf b;
	int ret;

	wl_buf_init(&b, 1 << 24);
	ret = wl_yaml_text(o->effective, &b, err);
	if (!ret && fputs(wl_buf_str(&b), stdout) == EOF)
		ret = wl_err_errno(err, "the configuration cannot be printed");
	wl_buf_release(&b);
	return ret < 0 ? -1 : 1;
}

static int set_up(struct wl_opts *o, struct wl_err *err)
{
	enum wl_log_level level = WL_LOG_INFO;

	if (o->mem->log_level)
		WL_TRY(wl_log_level_parse(o->mem->log_level, &level, err));
	else if (o->common.quiet)
		level = WL_LOG_WARN;
	wl_log_init(o->program, level);
	WL_TRY(wl_progress_mode(o->common.quiet ? "none" : o->common.progress, err));
	wl_signals_install();
	if (o->common.metrics_port)
		WL_TRY(wl_metrics_serve(o->common.metrics_port, err));
	return 0;
}

int wl_opts_parse(struct wl_opts *o, int argc, char **argv, struct wl_err *err)
{
	o->mem = calloc(1, sizeof *o->mem);
	if (!o->mem)
		return wl_err_nomem(err, "the options", sizeof *o->mem);
	o->mem->flags = json_object();
	o->mem->file = json_object();
	o->mem->effective = json_object();
	o->common = (struct wl_common){.progress = "auto"};
	o->positional = (struct wl_strs){0};
	common_table(o);
	wl_log_init(o->program, WL_LOG_INFO);
	o->positional.v = wl_arena_calloc(&o->mem->arena, (size_t)argc + 1, sizeof(char *), err);
	if (!o->positional.v)
		return -1;
	WL_TRY(parse_argv(o, argc, argv, err));
	if (o->mem->help || json_is_true(json_object_get(o->mem->flags, "help"))) {
		wl_opts_print_help(o, o->mem->common);
		return 1;
	}
	if (json_is_true(json_object_get(o->mem->flags, "version"))) {
		wl_opts_print_version(o->program);
		return 1;
	}
	WL_TRY(assign(o, find(o, "config", 6), err));
	if (o->common.config)
		WL_TRY(load_config(o, err));
	WL_TRY(assign_all(o, err));
	if (o->mem->print_config)
		return print_config(o, err);
	WL_TRY(check_required(o, err));
	WL_TRY(check_paths(o, err));
	return set_up(o, err);
}

void wl_opts_release(struct wl_opts *o)
{
	if (!o || !o->mem)
		return;
	json_decref(o->mem->flags);
	json_decref(o->mem->file);
	json_decref(o->mem->effective);
	wl_arena_release(&o->mem->arena);
	free(o->mem);
	o->mem = NULL;
	o->effective = NULL;
	o->positional = (struct wl_strs){0};
}
