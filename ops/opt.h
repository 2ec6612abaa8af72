/*
 * Command line and configuration with one grammar: every option is a flag
 * `--name value` (or `--name=value`, `--flag`, `--no-flag`) and a YAML key of
 * the same name in `--config FILE`; a flag wins over the file, the file over
 * the default.  Options with a dot (`model.width`) are nested YAML keys.
 *
 * Every program gets by itself: --help, --version, --config, --print-config,
 * --log-level, --quiet, --progress auto|plain|none, --json, --metrics-port.
 * An unknown option or key is WL_EUSAGE with the nearest valid name.
 *
 * A YAML key that is null, or `--name=` for a string, leaves the default.  When `model` is
 * a WL_OPT_JSON option, `--model.width 8` sets one member inside it; who reads the mapping
 * checks its keys (wl_json_only_keys).
 *
 * Options that name files are looked at before the run when the program lists them as `paths`
 * (ops/path.h; ended by {0}); a URL is not, nor an output in a directory that this run makes.
 */
#ifndef WL_OPS_OPT_H
#define WL_OPS_OPT_H

#include "ops/err.h"
#include "ops/path.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum wl_opt_kind {
	WL_OPT_BOOL,   /* bool: --name / --no-name */
	WL_OPT_INT,    /* int64_t: decimal, or with k, M, G (powers of 1000) or Ki, Mi, Gi */
	WL_OPT_DOUBLE, /* double */
	WL_OPT_STR,    /* const char *: owned by the struct wl_opts */
	WL_OPT_LIST,   /* struct wl_strs: the flag may be repeated; a YAML list or one string */
	WL_OPT_JSON,   /* json_t *: a YAML value, whole (flags: YAML or JSON text); borrowed
			* from struct wl_opts like the strings, so incref to keep it longer */
};

struct wl_strs {
	const char **v; /* n strings; owned by the struct wl_opts */
	size_t n;
};

struct wl_opt {
	const char *name; /* "image-radius"; NULL ends the table */
	enum wl_opt_kind kind;
	void *dst;           /* where the value goes; holds the default before parsing */
	const char *metavar; /* for --help: "DIR", "N" */
	const char *help;    /* one line */
	bool required;
};

/* What every program has in common, filled by wl_opts_parse. */
struct wl_common {
	bool quiet, json;
	const char *progress;  /* auto | plain | none */
	const char *config;    /* --config FILE or NULL */
	int64_t metrics_port;  /* 0: none */
};

struct wl_opts {
	const char *program;    /* "wenlan-dedup" */
	const char *usage;      /* "--corpus DIR [OPTION]..." */
	const char *about;      /* a line or two */
	const char *example;    /* for --help: one or more whole commands */
	const struct wl_opt *table;
	const struct wl_path_rule *paths; /* what is looked at before the run; NULL: none */
	bool allow_positional;
	bool is_service; /* a stop by signal is its normal end, not an interruption */
	/* out: */
	struct wl_common common;
	struct wl_strs positional;
	json_t *effective; /* every option's value after parsing, as JSON; borrowed */
	struct wl_opts_mem *mem;
};

/* Parses argv (and --config).  Returns 0 to go on, 1 when the program has
 * printed what was asked (--help, --version, --print-config) and must exit 0,
 * -1 with WL_EUSAGE.  Sets up log, progress, signals and the metrics port as the
 * common options say. */
WL_MUST_CHECK int wl_opts_parse(struct wl_opts *o, int argc, char **argv, struct wl_err *err);
void wl_opts_release(struct wl_opts *o);

/* The valid name nearest to `name` (edit distance), or NULL when none is near.
 * names: NULL-terminated. */
const char *wl_nearest_name(const char *name, const char *const *names);

/* The body of every main: parse, run, print the error, exit code.
 * run gets the parsed options and user; its failure is printed as one line, in front of which
 * stands the option whose path it begins with ("--vocab a.txt, line 3: ...").  When a stop
 * was asked for by signal and run returns 0, wl_main says how to resume and the exit code
 * is 75 (WL_ERETRY), so that nobody takes the stage for complete; a run that did finish
 * everything is simply found complete the next time. */
int wl_main(struct wl_opts *o, int argc, char **argv,
	int (*run)(struct wl_opts *o, void *user, struct wl_err *err), void *user);
/* For a run that fails while threads, which it cannot end, use what it would free: it asks for
 * this and frees nothing, and wl_main prints its error and ends the process on the spot. */
void wl_main_end_at_once(void);

/* Programs with subcommands (`wenlan-shard verify`): each is a main of its own, called
 * with argv[0] = program and the rest after the subcommand.  An entry with the name "" is
 * run, with all arguments, when the first argument is no subcommand (it starts with '-',
 * or there is none).  `--help` as first argument lists the commands unless there is such an
 * entry.  NULL name ends the table. */
struct wl_command {
	const char *name, *about;
	int (*main)(int argc, char **argv);
};
int wl_main_commands(const char *program, const struct wl_command *commands, int argc,
	char **argv);

#endif
