/*
 * Messages for people, on standard error: one line each, with the time and the
 * program's name.  Levels: error, warn, info (default), debug.  Safe from any
 * thread; a progress bar on the terminal is cleared and redrawn around a line.
 */
#ifndef WL_OPS_LOG_H
#define WL_OPS_LOG_H

#include "ops/err.h"

enum wl_log_level { WL_LOG_ERROR, WL_LOG_WARN, WL_LOG_INFO, WL_LOG_DEBUG };

/* The program's name, kept by reference, and the level from which lines are dropped. */
void wl_log_init(const char *program, enum wl_log_level level);
enum wl_log_level wl_log_level(void);

/* Parses "error", "warn", "info" or "debug". */
WL_MUST_CHECK int wl_log_level_parse(const char *name, enum wl_log_level *level,
	struct wl_err *err);

/* One line on standard error, when the level is on; from any thread. */
void wl_log(enum wl_log_level level, const char *fmt, ...) WL_PRINTF(2, 3);
#define wl_error(...) wl_log(WL_LOG_ERROR, __VA_ARGS__)
#define wl_warn(...) wl_log(WL_LOG_WARN, __VA_ARGS__)
#define wl_info(...) wl_log(WL_LOG_INFO, __VA_ARGS__)
#define wl_debug(...) wl_log(WL_LOG_DEBUG, __VA_ARGS__)

/* For progress.c only: called with the log's lock held before and after a line. */
void wl_log_set_redraw(void (*clear)(void), void (*redraw)(void));
/* Takes and releases the lock that keeps lines whole. */
void wl_log_lock(void);
void wl_log_unlock(void);

#endif
