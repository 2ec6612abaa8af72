/*
 * Progress of a long run: a bar on a terminal, a plain line every few seconds
 * otherwise; with count, rate and time left; nothing with --progress none or --quiet.
 */
#ifndef WL_OPS_PROGRESS_H
#define WL_OPS_PROGRESS_H

#include "ops/err.h"

#include <stdint.h>

struct wl_progress;

/* mode: "auto" (bar if standard error is a terminal), "plain" or "none"; for the process. */
WL_MUST_CHECK int wl_progress_mode(const char *mode, struct wl_err *err);

/* what: "pairs", kept by reference; total 0: unknown.  NULL only when out of memory;
 * every function accepts NULL. */
struct wl_progress *wl_progress_new(const char *title, const char *what, uint64_t total);
/* Safe from any thread. */
void wl_progress_add(struct wl_progress *p, uint64_t n);
/* done so far, absolute; note: short text behind the bar ("loss 2.31"), copied, may be NULL. */
void wl_progress_set(struct wl_progress *p, uint64_t done, const char *note);
/* Only the note. */
void wl_progress_note(struct wl_progress *p, const char *note);
/* Prints the last state and frees. */
void wl_progress_free(struct wl_progress *p);

#endif
