/*
 * The stall detector: who is at what, and since when.
 *
 * Every thread of a run says what it begins and when it is done.  When nothing at all has been
 * finished for a while, a thread of its own logs the longest-standing of them by file and place,
 * so that nobody has to guess where a silent run hangs.  It never stops anything.
 */
#ifndef WL_INGEST_WATCH_H
#define WL_INGEST_WATCH_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_watch;
/* slots: threads' places, one more than the largest number used below.  seconds 0: it never
 * speaks (all functions still work).  NULL on failure. */
struct wl_watch *wl_watch_new(size_t slots, int64_t seconds, struct wl_err *err);
void wl_watch_free(struct wl_watch *w);

/* Slot `slot` begins: "reading", "jsonl:a.jsonl", "line 12".  doing and name are kept by
 * reference until its next begin or end; place is copied (cut to some 100 bytes; NULL: none). */
void wl_watch_begin(struct wl_watch *w, size_t slot, const char *doing, const char *name,
	const char *place);
/* It is done; that counts as a sign of life of the whole run. */
void wl_watch_end(struct wl_watch *w, size_t slot);
/* A sign of life without an end: waiting for input that may never come is no stall. */
void wl_watch_alive(struct wl_watch *w);
/* What that thread does now and then, at now_ms of CLOCK_MONOTONIC: whether it is time to speak
 * (which it then was, until twice that silence), and what to say, cut to size. */
bool wl_watch_stalled(struct wl_watch *w, int64_t now_ms, char *text, size_t size);

#endif
