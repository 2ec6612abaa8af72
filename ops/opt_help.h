/* What opt.c prints for --help and --version; for opt.c only. */
#ifndef WL_OPS_OPT_HELP_H
#define WL_OPS_OPT_HELP_H

#include "ops/opt.h"

/* To standard output; called before defaults are overwritten, which it shows. */
void wl_opts_print_help(const struct wl_opts *o, const struct wl_opt *common);
void wl_opts_print_version(const char *program);

#endif
