/*
 * A bounded pool of threads whose results come back in the order of submission,
 * whoever finished first (after htslib's thread_pool), so that the output of a
 * stage does not depend on the number of threads.
 */
#ifndef WL_OPS_POOL_H
#define WL_OPS_POOL_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>

struct wl_pool;

/* threads 0: one per core; capacity: jobs that may be in flight (submitted, result not yet
 * taken), 0: 4 per thread.  NULL on failure. */
struct wl_pool *wl_pool_new(size_t threads, size_t capacity, struct wl_err *err);
/* Waits for running jobs, drops results not taken (their job pointers stay the caller's). */
void wl_pool_free(struct wl_pool *p);
size_t wl_pool_threads(const struct wl_pool *p);

/* fn(job) runs on some thread.  Blocks while the pool is full; so the thread that submits
 * must be another than the one that takes, or keep within the capacity. */
void wl_pool_submit(struct wl_pool *p, void (*fn)(void *job), void *job);
/* True when a submit would not block. */
bool wl_pool_has_room(struct wl_pool *p);
/* The next job in submission order, waiting until it is done; NULL when none is in flight. */
void *wl_pool_take(struct wl_pool *p);

/* Runs fn(ctx, i) for i in [0, n) on all threads and returns when all are done. */
void wl_pool_for(struct wl_pool *p, size_t n, void (*fn)(void *ctx, size_t i), void *ctx);

/* Number of cores this process may use. */
size_t wl_cores(void);

#endif
