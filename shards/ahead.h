/*
 * Reading ahead: threads that fetch what will be asked for, into bounded memory.  What is asked for
 * is a number (a sample); what comes is bytes, or an error that is given to who takes it.
 */
#ifndef WL_SHARDS_AHEAD_H
#define WL_SHARDS_AHEAD_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stddef.h>
#include <stdint.h>

struct wl_ahead;
typedef int wl_ahead_fetch(void *ctx, int64_t number, struct wl_buf *out, struct wl_err *err);

enum { WL_AHEAD_MOST = 256 /* numbers known at a time */ };

/* max_bytes: of what was fetched and not taken; max_one: of one. */
struct wl_ahead *wl_ahead_new(size_t threads, size_t max_bytes, size_t max_one,
	wl_ahead_fetch *fetch, void *ctx, struct wl_err *err);
/* A fetch that runs is waited for. */
void wl_ahead_free(struct wl_ahead *a);
/* Announces a number; the one announced first is forgotten when there are too many. */
void wl_ahead_want(struct wl_ahead *a, int64_t number);
/* 1: its bytes are in *out (swapped for what was there); 0: it was not announced, or not begun:
 * fetch it yourself; -1: fetching it failed. */
WL_MUST_CHECK int wl_ahead_take(
	struct wl_ahead *a, int64_t number, struct wl_buf *out, struct wl_err *err);

#endif
