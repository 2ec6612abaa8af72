/* The text of --help, the nearest name, and the bodies of mains: see opt.h. */
#include "ops/opt_help.h"
#include "ops/log.h"
#include "ops/signals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef WL_VERSION
#define WL_VERSION "0.1.0"
#endif

/* " [default]" of an option, empty when there is none to show. */
static void default_text(const struct wl_opt *t, char *out, size_t size)
{
	*out = 0;
	switch (t->kind) {
	case WL_OPT_BOOL:
		if (*(bool *)t->dst)
			snprintf(out, size, " [on]");
		break;
	case WL_OPT_INT:
		snprintf(out, size, " [%lld]", (long long)*(int64_t *)t->dst);
		break;
	case WL_OPT_DOUBLE:
		snprintf(out, size, " [%g]", *(double *)t->dst);
		break;
	case WL_OPT_STR:
		if (*(const char **)t->dst)
			snprintf(out, size, " [%s]", *(const char **)t->dst);
		break;
	case WL_OPT_LIST:
	case WL_OPT_JSON:
		break;
	}
}

static void print_table(const struct wl_opt *t)
{
	enum { COLUMN = 30 };

	for (; t && t->name; t++) {
		char left[128], value[128];

		default_text(t, value, sizeof value);
		snprintf(left, sizeof left, "--%s%s%s%s", t->name,
			t->kind == WL_OPT_BOOL ? "" : " ",
			t->kind == WL_OPT_BOOL ? ""
			: t->metavar	       ? t->metavar
					       : "VALUE",
			t->kind == WL_OPT_LIST ? "..." : "");
		printf("  %-*s%s %s%s%s\n", COLUMN - 3, left,
			strlen(left) > COLUMN - 3 ? "\n                             " : "",
			t->help ? t->help : "", t->required ? " (required)" : "", value);
	}
}

void wl_opts_print_help(const struct wl_opts *o, const struct wl_opt *common)
{
	printf("Usage: %s %s\n", o->program, o->usage ? o->usage : "[OPTION]...");
	if (o->about)
		printf("%s\n", o->about);
	if (o->table && o->table->name) {
		printf("\nOptions (each is also a key of the YAML file given by --config):\n");
		print_table(o->table);
	}
	printf("\nCommon options:\n");
	print_table(common);
	if (o->example)
		printf("\nExample:\n  %s\n", o->example);
	printf("\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 bad data, 4 bad checkpoint,\n"
	       "5 numeric failure, 75 interrupted or a peer lost (run the same command again).\n");
}

void wl_opts_print_version(const char *program)
{
	printf("%s (WenLan in C) %s\n", program, WL_VERSION);
}

/* Optimal string alignment distance: insert, delete, replace, swap neighbours. */
static size_t distance(const char *a, const char *b)
{
	enum { MAX = 64 };
	size_t d[MAX + 1][MAX + 1], n = strlen(a), m = strlen(b);

	if (n > MAX || m > MAX)
		return SIZE_MAX;
	for (size_t i = 0; i <= n; i++)
		d[i][0] = i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= n; i++)
		for (size_t j = 1; j <= m; j++) {
			size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
			best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	return d[n][m];
}

const char *wl_nearest_name(const char *name, const char *const *names)
{
	const char *near = NULL;
	size_t best = SIZE_MAX;

	while (*name == '-')
		name++;
	for (; *names; names++) {
		size_t d = distance(name, *names);

		/* The beginning of a name is near to it, however long the rest. */
		if (strlen(name) >= 3 && !strncmp(name, *names, strlen(name)) && d > 1)
			d = 1;
		if (d < best) {
			best = d;
			near = *names;
		}
	}
	return near && best <= 1 + strlen(name) / 3 ? near : NULL;
}

/* How much of msg is this path: it stands at the beginning, alone or with what is in it. */
static size_t begins_with(const char *msg, const char *path)
{
	size_t n = path ? strlen(path) : 0;

	return n && !strncmp(msg, path, n) && (strchr(" :,/", msg[n]) || path[n - 1] == '/') ? n
											      : 0;
}

/* The value of an option as it was parsed: run may have put others into the destination. */
static const json_t *value_of(const struct wl_opts *o, const char *name)
{
	const json_t *v = o->effective;

	for (const char *dot; v && (dot = strchr(name, '.')); name = dot + 1)
		v = json_object_getn(v, name, (size_t)(dot - name));
	return v ? json_object_get(v, name) : NULL;
}

static size_t option_begins(const struct wl_opts *o, const struct wl_opt *t, const char *msg)
{
	static const char *const paths[] = {"FILE", "DIR", "PATH", "CKPT", ".npy"};
	const json_t *v = value_of(o, t->name), *one;
	size_t best = 0, i;
	bool is_path = false;

	for (i = 0; t->metavar && i < sizeof paths / sizeof *paths; i++)
		is_path |= strstr(t->metavar, paths[i]) != NULL;
	if (!is_path || t->kind == WL_OPT_STR)
		return is_path ? begins_with(msg, json_string_value(v)) : 0;
	json_array_foreach(v, i, one)
	{
		size_t n = begins_with(msg, json_string_value(one));

		best = n > best ? n : best;
	}
	return best;
}

/* Most messages begin with a path; which option named it is known here alone. */
static void name_option(const struct wl_opts *o, struct wl_err *err)
{
	const char *name = NULL;
	size_t best = begins_with(err->msg, o->common.config);

	if (best)
		name = "config";
	for (const struct wl_opt *t = o->table; t && t->name; t++) {
		size_t n = option_begins(o, t, err->msg);

		if (n > best)
			name = t->name;
		else if (n && n == best)
			name = NULL; /* two options name it */
		best = n > best ? n : best;
	}
	if (name)
		wl_err_set(err, err->code, "--%s %s", name, err->msg);
}

static bool at_once;

void wl_main_end_at_once(void)
{
	at_once = true;
}

int wl_main(struct wl_opts *o, int argc, char **argv,
	int (*run)(struct wl_opts *o, void *user, struct wl_err *err), void *user)
{
	struct wl_err err = WL_ERR_INIT;
	int ret = wl_opts_parse(o, argc, argv, &err);
	int code = WL_OK;

	if (ret == 0)
		ret = run(o, user, &err);
	/* Results that did not reach standard output (a full disk, a closed pipe) count. */
	if (ret >= 0 && (fflush(stdout) || ferror(stdout)))
		ret = wl_err_errno(&err, "the results cannot be written to standard output");
	if (ret < 0) {
		if (!*err.msg)
			wl_err_set(&err, WL_EFAIL, "failed without a message, which is a defect");
		name_option(o, &err);
		wl_error("%s", err.msg);
		code = err.code ? (int)err.code : WL_EFAIL;
	} else if (wl_stop_requested() && !o->is_service) {
		wl_info("stopped on request; run the same command again to go on from here");
		code = WL_ERETRY;
	}
	if (at_once) {
		fflush(stdout);
		_exit(code); /* not what atexit has, either: it frees too */
	}
	wl_opts_release(o);
	return code;
}

static void list_commands(const char *program, const struct wl_command *c)
{
	printf("Usage: %s COMMAND [OPTION]...\n\nCommands:\n", program);
	for (; c->name; c++)
		printf("  %-14s %s\n", c->name, c->about);
	printf("\n%s COMMAND --help says more about one of them.\n", program);
}

/* Which commands there are belongs into the message: --help of a program that has a command
 * without a word (wenlan-shard) is that command's. */
static int unknown_command(const char *program, const struct wl_command *commands,
	const char *arg, const char *near)
{
	char list[512] = "";

	for (const struct wl_command *c = commands; c->name; c++)
		if (*c->name)
			snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s",
				*list ? ", " : "", c->name);
	if (*arg == '-')
		wl_error("a command is expected first, found %s; the commands are %s (see %s "
			 "COMMAND --help)", arg, list, program);
	else
		wl_error("command '%s' is unknown%s%s%s; the commands are %s (see %s --help)", arg,
			near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "", list,
			program);
	return WL_EUSAGE;
}

int wl_main_commands(const char *program, const struct wl_command *commands, int argc, char **argv)
{
	const struct wl_command *fallback = NULL;
	const char *names[64], *near = NULL;
	const char *arg = argc > 1 ? argv[1] : "--help";
	size_t n = 0;

	for (const struct wl_command *c = commands; c->name; c++) {
		if (!*c->name)
			fallback = c;
		else if (!strcmp(c->name, arg)) {
			argv[1] = argv[0];
			return c->main(argc - 1, argv + 1);
		} else if (n < 63)
			names[n++] = c->name;
	}
	names[n] = NULL;
	if (*arg != '-')
		near = wl_nearest_name(arg, names);
	if (fallback && (*arg == '-' || argc < 2))
		return fallback->main(argc, argv);
	wl_log_init(program, WL_LOG_INFO);
	if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
		list_commands(program, commands);
		return argc > 1 ? WL_OK : WL_EUSAGE;
	}
	if (!strcmp(arg, "--version")) {
		wl_opts_print_version(program);
		return WL_OK;
	}
	return unknown_command(program, commands, arg, near);
}
