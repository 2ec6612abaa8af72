/* One other program of ours, run to its end: for wenlan-run's stages, and for stages that need
 * what a later folder can do. */
#ifndef WL_OPS_CHILD_H
#define WL_OPS_CHILD_H

#include "ops/err.h"
#include "ops/opt.h"

#include <stdbool.h>
#include <stdint.h>

/* How a child ended. */
struct wl_child {
	int code;   /* exit code, or 128 + signal */
	int signal; /* 0 when it exited */
	double seconds, cpu_seconds;
	int64_t max_rss_bytes;
};
/* Runs argv with standard output and error copied to ours and appended to the file `log`;
 * a stop request is passed on to it as SIGTERM; it dies with us. */
WL_MUST_CHECK int wl_child_run(const char *program, const struct wl_strs *argv, const char *log,
	bool quiet, struct wl_child *out, struct wl_err *err);

/* The path of a program by name: as it is when it has a slash, else beside the running program,
 * else in PATH; to be freed.  WL_EUSAGE when it is nowhere. */
char *wl_program_path(const char *name, struct wl_err *err);

#endif
