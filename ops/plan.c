/* Reading plans and putting variables in: see run.h. */
#include "ops/file.h"
#include "ops/json.h"
#include "ops/pool.h"
#include "ops/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- variables ---------------------------------------------------------------------- */

static int unknown_variable(
	const struct wl_plan *p, const char *name, const char *text, struct wl_err *err)
{
	const char *names[256], *near, *key;
	size_t n = 0;
	json_t *v;

	json_object_foreach(p->vars, key, v) if (n < 255) names[n++] = key;
	names[n] = NULL;
	near = wl_nearest_name(name, names);
	return wl_err_set(err, WL_EUSAGE, "%s: variable ${%s} in '%s' is unknown%s%s%s", p->path,
		name, text, near ? "; did you mean ${" : "", near ? near : "", near ? "}?" : "");
}

/* The value of ${name}; name is not 0-terminated. */
static const char *variable(
	struct wl_plan *p, const char *name, size_t n, const char *text, struct wl_err *err)
{
	char *key = wl_arena_strndup(&p->arena, name, n, err);
	const char *v;

	if (!key)
		return NULL;
	if (!strncmp(key, "env:", 4)) {
		v = getenv(key + 4);
		if (!v)
			wl_err_set(err, WL_EUSAGE,
				"%s: the environment variable %s in '%s' is not set", p->path,
				key + 4, text);
		return v;
	}
	v = json_string_value(json_object_get(p->vars, key));
	if (!v)
		unknown_variable(p, key, text, err);
	return v;
}

/* text with its variables put in, in the plan's arena. */
static const char *expand(struct wl_plan *p, const char *text, struct wl_err *err)
{
	struct wl_buf b;
	const char *out = NULL;

	wl_buf_init(&b, 1 << 20);
	for (const char *s = text; *s;) {
		const char *dollar = strchr(s, '$'), *close, *v;

		if (!dollar) {
			WL_TRY_OUT(wl_buf_puts(&b, s, err));
			break;
		}
		WL_TRY_OUT(wl_buf_add(&b, s, (size_t)(dollar - s), err));
		if (dollar[1] == '$') {
			WL_TRY_OUT(wl_buf_putc(&b, '$', err));
			s = dollar + 2;
			continue;
		}
		close = dollar[1] == '{' ? strchr(dollar, '}') : NULL;
		if (!close) {
			wl_err_set(err, WL_EUSAGE,
				"%s: '%s' has a $ that is neither ${name} nor $$", p->path, text);
			goto out;
		}
		v = variable(p, dollar + 2, (size_t)(close - dollar - 2), text, err);
		if (!v)
			goto out;
		WL_TRY_OUT(wl_buf_puts(&b, v, err));
		s = close + 1;
	}
	out = wl_arena_strdup(&p->arena, wl_buf_str(&b), err);
out:
	wl_buf_release(&b);
	return out;
}

static int set_variable(struct wl_plan *p, const char *name, const char *value, struct wl_err *err)
{
	if (json_object_set_new(p->vars, name, json_string(value)))
		return wl_err_set(
			err, WL_EUSAGE, "%s: variable %s is not valid UTF-8", p->path, name);
	return 0;
}

/* The variables that are there without being declared. */
static int set_builtins(struct wl_plan *p, struct wl_err *err)
{
	char cores[24];
	char *share = wl_share_path("", NULL);
	int ret;

	snprintf(cores, sizeof cores, "%zu", wl_cores());
	ret = set_variable(p, "cores", cores, err);
	/* Programs that were copied alone have no share directory: an error only if used. */
	if (!ret && share)
		ret = set_variable(p, "share", share, err);
	free(share);
	return ret;
}

/* name=value of --set, when it is for this variable. */
static const char * override(const struct wl_strs *sets, const char *name)
{
	const char *found = NULL;
	size_t n = strlen(name);

	for (size_t i = 0; i < sets->n; i++)
		if (!strncmp(sets->v[i], name, n) && sets->v[i][n] == '=')
			found = sets->v[i] + n + 1; /* the last one wins */
	return found;
}

/* Every --set must have found a variable. */
static int check_sets(const struct wl_plan *p, const struct wl_strs *sets, struct wl_err *err)
{
	for (size_t i = 0; i < sets->n; i++) {
		const char *eq = strchr(sets->v[i], '=');
		char name[128];

		if (!eq || eq == sets->v[i] || (size_t)(eq - sets->v[i]) >= sizeof name)
			return wl_err_set(
				err, WL_EUSAGE, "--set '%s' must be name=value", sets->v[i]);
		memcpy(name, sets->v[i], (size_t)(eq - sets->v[i]));
		name[eq - sets->v[i]] = 0;
		if (!json_object_get(p->vars, name))
			return unknown_variable(p, name, sets->v[i], err);
	}
	return 0;
}

static const char *scalar_text(
	struct wl_plan *p, const json_t *v, const char *what, struct wl_err *err)
{
	char text[40];

	if (json_is_string(v))
		return json_string_value(v);
	if (json_is_boolean(v))
		return json_is_true(v) ? "true" : "false";
	if (json_is_integer(v))
		snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
	else if (json_is_real(v))
		snprintf(text, sizeof text, "%.15g", json_real_value(v));
	else {
		wl_err_set(err, WL_EUSAGE, "%s: %s must be a string or a number", p->path, what);
		return NULL;
	}
	return wl_arena_strdup(&p->arena, text, err);
}

static int load_vars(
	struct wl_plan *p, const char *workdir, const struct wl_strs *sets, struct wl_err *err)
{
	const char *dir, *key, *text, *set;
	json_t *vars = json_object_get(p->tree, "vars"), *v;

	WL_TRY(set_builtins(p, err));
	WL_TRY(wl_json_str_or(p->tree, "workdir", p->path, p->name, &dir, err));
	set = override(sets, "workdir");
	dir = expand(p, workdir ? workdir : set ? set : dir, err);
	if (!dir)
		return -1;
	p->workdir = dir;
	WL_TRY(set_variable(p, "workdir", dir, err));
	if (vars && !json_is_null(vars) && !json_is_object(vars))
		return wl_err_set(err, WL_EUSAGE, "%s: vars must be a mapping", p->path);
	/* In the order of the file, so that a variable can use those above it. */
	json_object_foreach(vars, key, v)
	{
		set = override(sets, key);
		text = set ? set : scalar_text(p, v, key, err);
		text = text ? expand(p, text, err) : NULL;
		if (!text)
			return -1;
		WL_TRY(set_variable(p, key, text, err));
	}
	return check_sets(p, sets, err);
}

/* --- stages ------------------------------------------------------------------------- */

static int stage_needs(struct wl_plan *p, size_t i, struct wl_err *err)
{
	struct wl_stage *s = &p->stages[i];
	json_t *needs = json_object_get(s->json, "needs"), *v;
	size_t k;

	s->needs = wl_arena_calloc(&p->arena, i + 1, sizeof *s->needs, err);
	if (!s->needs)
		return -1;
	if (!needs || json_is_null(needs)) {
		if (i)
			s->needs[s->n_needs++] = i - 1;
		return 0;
	}
	if (!json_is_array(needs))
		return wl_err_set(err, WL_EUSAGE, "%s: stage %s: needs must be a list of stages",
			p->path, s->name);
	json_array_foreach(needs, k, v)
	{
		const char *name = json_string_value(v);
		size_t j = 0;

		while (name && j < i && strcmp(p->stages[j].name, name))
			j++;
		if (!name || j == i)
			return wl_err_set(err, WL_EUSAGE,
				"%s: stage %s needs '%s', which is not a stage before it", p->path,
				s->name, name ? name : "?");
		if (s->n_needs < i)
			s->needs[s->n_needs++] = j;
	}
	return 0;
}

/* Names become file names of logs, so they are kept plain. */
static bool plain_name(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

	return n && !s[n] && n < 64;
}

static int load_stage(struct wl_plan *p, size_t i, json_t *v, struct wl_err *err)
{
	static const char *const known[] = {
		"name", "about", "run", "inputs", "outputs", "needs", "retries", "always", "ranks",
		NULL};
	struct wl_stage *s = &p->stages[i];
	char where[300];

	snprintf(where, sizeof where, "%.200s: stage %zu", p->path, i + 1);
	if (!json_is_object(v))
		return wl_err_set(err, WL_EUSAGE, "%s must be a mapping with name and run", where);
	WL_TRY(wl_json_only_keys(v, known, where, err));
	s->json = v;
	WL_TRY(wl_json_str(v, "name", where, &s->name, err));
	if (!plain_name(s->name))
		return wl_err_set(err, WL_EUSAGE,
			"%s: the name '%s' must be of letters, digits, _ and -", where, s->name);
	for (size_t j = 0; j < i; j++)
		if (!strcmp(p->stages[j].name, s->name))
			return wl_err_set(
				err, WL_EUSAGE, "%s: the name %s is there twice", where, s->name);
	snprintf(where, sizeof where, "%.200s: stage %.60s", p->path, s->name);
	if (!json_is_string(json_object_get(v, "run")) && !json_is_array(json_object_get(v, "run")))
		return wl_err_set(err, WL_EUSAGE,
			"%s: run must be a command line or a list of arguments", where);
	WL_TRY(wl_json_str_or(v, "about", where, NULL, &s->about, err));
	WL_TRY(wl_json_int_or(v, "retries", where, 0, &s->retries, err));
	WL_TRY(wl_json_int_or(v, "ranks", where, 0, &s->ranks, err));
	if (s->ranks < 0 || s->ranks > 65536)
		return wl_err_set(err, WL_EUSAGE, "%s: ranks is %lld: expected a number of "
			"processes, or 0 to start the program alone", where, (long long)s->ranks);
	WL_TRY(wl_json_bool_or(v, "always", where, false, &s->always, err));
	return stage_needs(p, i, err);
}

static int load_stages(struct wl_plan *p, struct wl_err *err)
{
	json_t *list = json_object_get(p->tree, "stages"), *v;
	size_t i;

	if (!json_is_array(list) || !json_array_size(list))
		return wl_err_set(
			err, WL_EUSAGE, "%s: stages must be a list of at least one", p->path);
	p->stages = wl_arena_calloc(&p->arena, json_array_size(list), sizeof *p->stages, err);
	if (!p->stages)
		return -1;
	json_array_foreach(list, i, v)
	{
		WL_TRY(load_stage(p, i, v, err));
		p->n++;
	}
	/* Wrong variables show now and not hours later. */
	for (i = 0; i < p->n; i++) {
		struct wl_strs all;

		WL_TRY(wl_stage_argv(p, i, &all, err));
		WL_TRY(wl_stage_paths(p, i, "inputs", &all, err));
		WL_TRY(wl_stage_paths(p, i, "outputs", &all, err));
	}
	return 0;
}

static int load_state(struct wl_plan *p, struct wl_err *err)
{
	char *path = wl_path_join(p->workdir, "run-state.json", err);
	int ret = -1;

	if (!path)
		return -1;
	if (wl_exists(path)) {
		p->state = wl_json_load(path, err);
		if (p->state && !json_is_object(json_object_get(p->state, "stages"))) {
			wl_err_set(err, WL_EDATA, "%s is not the state of a run", path);
			goto out;
		}
		if (!p->state) {
			wl_err_prefix(err, "remove the file to run every stage again");
			goto out;
		}
	} else {
		p->state = json_pack("{s:i,s:s,s:{}}", "version", 1, "plan", p->name, "stages");
	}
	ret = p->state ? 0 : wl_err_nomem(err, "the state", 0);
out:
	free(path);
	return ret;
}

int wl_plan_load(struct wl_plan *p, const char *path, const char *workdir,
	const struct wl_strs *sets, struct wl_err *err)
{
	static const char *const known[] = {"name", "about", "workdir", "vars", "stages", NULL};

	*p = (struct wl_plan){.path = path};
	p->vars = json_object();
	p->tree = wl_yaml_load(path, err);
	if (!p->tree)
		return -1;
	if (!json_is_object(p->tree))
		return wl_err_set(
			err, WL_EUSAGE, "%s must be a mapping with name and stages", path);
	WL_TRY(wl_json_only_keys(p->tree, known, path, err));
	WL_TRY(wl_json_str(p->tree, "name", path, &p->name, err));
	WL_TRY(load_vars(p, workdir, sets, err));
	WL_TRY(load_stages(p, err));
	return load_state(p, err);
}

void wl_plan_release(struct wl_plan *p)
{
	if (!p)
		return;
	json_decref(p->tree);
	json_decref(p->vars);
	json_decref(p->state);
	wl_arena_release(&p->arena);
	*p = (struct wl_plan){0};
}

int64_t wl_plan_find(const struct wl_plan *p, const char *stage, struct wl_err *err)
{
	const char *names[256], *near;
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++) {
		if (!strcmp(p->stages[i].name, stage))
			return (int64_t)i;
		if (n < 255)
			names[n++] = p->stages[i].name;
	}
	names[n] = NULL;
	near = wl_nearest_name(stage, names);
	return wl_err_set(err, WL_EUSAGE, "%s has no stage '%s'%s%s%s", p->path, stage,
		near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* --- argument lists ------------------------------------------------------------------ */

struct words {
	struct wl_plan *p;
	const char **v;
	size_t n;
};

static int add_word(struct words *w, const char *text, struct wl_err *err)
{
	const char *e = expand(w->p, text, err);

	if (!e)
		return -1;
	/* Grows at powers of two; one slot more holds the closing NULL. */
	if (!(w->n & (w->n - 1)) || !w->n) {
		const char **v = wl_arena_calloc(&w->p->arena, 2 * w->n + 2, sizeof *v, err);

		if (!v)
			return -1;
		if (w->n)
			memcpy(v, w->v, w->n * sizeof *v);
		w->v = v;
	}
	w->v[w->n++] = e;
	return 0;
}

/* One word of a command line from *s on, quotes and backslashes taken away: 1, 0 at the
 * end, -1. */
static int next_word(struct words *w, const char **s, struct wl_buf *b, struct wl_err *err)
{
	const char *p = *s + strspn(*s, " \t\n");
	char quote = 0;

	wl_buf_reset(b);
	if (!*p)
		return 0;
	for (; *p && (quote || !strchr(" \t\n", *p)); p++) {
		if (quote && *p == quote) {
			quote = 0;
		} else if (!quote && (*p == '\'' || *p == '"')) {
			quote = *p;
		} else {
			if (*p == '\\' && quote != '\'' && p[1])
				p++;
			WL_TRY(wl_buf_putc(b, *p, err));
		}
	}
	if (quote)
		return wl_err_set(
			err, WL_EUSAGE, "%s: a quote is not closed in: %s", w->p->path, *s);
	*s = p;
	return 1;
}

static int split_line(struct words *w, const char *line, struct wl_err *err)
{
	struct wl_buf b;
	int r;

	wl_buf_init(&b, 1 << 20);
	while ((r = next_word(w, &line, &b, err)) > 0) {
		char *word = wl_arena_strdup(&w->p->arena, wl_buf_str(&b), err);

		if (!word || add_word(w, word, err) < 0) {
			r = -1;
			break;
		}
	}
	wl_buf_release(&b);
	return r;
}

/* An element of a list: a scalar, or {if-exists: PATH, then: [...]}. */
static int add_element(struct words *w, const json_t *v, const char *where, struct wl_err *err)
{
	static const char *const known[] = {"if-exists", "then", NULL};
	const char *text, *probe;
	json_t *then, *m;
	size_t i;

	if (!json_is_object(v)) {
		text = scalar_text(w->p, v, where, err);
		return text ? add_word(w, text, err) : -1;
	}
	WL_TRY(wl_json_only_keys(v, known, where, err));
	WL_TRY(wl_json_str(v, "if-exists", where, &text, err));
	then = json_object_get(v, "then");
	probe = expand(w->p, text, err);
	if (!probe)
		return -1;
	if (!json_is_array(then))
		return wl_err_set(err, WL_EUSAGE, "%s: then must be a list of arguments", where);
	if (!wl_exists(probe))
		return 0;
	json_array_foreach(then, i, m)
	{
		text = scalar_text(w->p, m, where, err);
		if (!text)
			return -1;
		WL_TRY(add_word(w, text, err));
	}
	return 0;
}

static int collect(struct wl_plan *p, size_t stage, const char *key, bool split,
	struct wl_strs *out, struct wl_err *err)
{
	json_t *v = json_object_get(p->stages[stage].json, key), *m;
	struct words w = {.p = p};
	char where[200];
	size_t i;

	snprintf(where, sizeof where, "stage %s: %s", p->stages[stage].name, key);
	*out = (struct wl_strs){0};
	if (!v || json_is_null(v))
		return 0;
	if (split && json_is_string(v)) {
		WL_TRY(split_line(&w, json_string_value(v), err));
	} else if (json_is_array(v)) {
		json_array_foreach(v, i, m) WL_TRY(add_element(&w, m, where, err));
	} else {
		WL_TRY(add_element(&w, v, where, err));
	}
	*out = (struct wl_strs){w.v, w.n};
	return 0;
}

int wl_stage_argv(struct wl_plan *p, size_t stage, struct wl_strs *out, struct wl_err *err)
{
	WL_TRY(collect(p, stage, "run", true, out, err));
	if (!out->n)
		return wl_err_set(err, WL_EUSAGE, "%s: stage %s: run is empty", p->path,
			p->stages[stage].name);
	return 0;
}

int wl_stage_paths(
	struct wl_plan *p, size_t stage, const char *key, struct wl_strs *out, struct wl_err *err)
{
	return collect(p, stage, key, false, out, err);
}

const char *wl_stage_program(struct wl_plan *p, const char *name, struct wl_err *err)
{
	char *found = wl_program_path(name, err), *path = NULL;

	if (!found) {
		wl_err_prefix(err, "%s", p->path);
		return NULL;
	}
	path = wl_arena_calloc(&p->arena, strlen(found) + 1, 1, err);
	if (path)
		strcpy(path, found);
	free(found);
	return path;
}
