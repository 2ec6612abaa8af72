/*
 * SIGINT and SIGTERM ask a run to stop cleanly; a second one ends it at once.
 */
#ifndef WL_OPS_SIGNALS_H
#define WL_OPS_SIGNALS_H

#include <stdbool.h>

/* Installed by wl_opts_parse; harmless when repeated.  SIGPIPE is ignored. */
void wl_signals_install(void);
/* True once a stop was asked for: finish the unit of work, commit, say how to resume. */
bool wl_stop_requested(void);
/* As if a signal had come (tests). */
void wl_stop_request(void);

#endif
