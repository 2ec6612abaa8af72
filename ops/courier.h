/*
 * The one thread that exchanges with other ranks while the main thread computes.
 * Jobs run in the order in which they were posted; every rank posts the same
 * jobs in the same order, so collectives meet, and the order of sums is fixed.
 *
 * Between open and close nobody else may use the communicator itself; plain calls go through
 * wl_courier_comm, in line with the jobs.
 */
#ifndef WL_OPS_COURIER_H
#define WL_OPS_COURIER_H

#include "ops/comm.h"

struct wl_courier;

/* What a job does, in the courier's thread. */
typedef int (*wl_courier_fn)(struct wl_comm *c, void *user, int64_t arg, struct wl_err *err);

/* NULL on failure. */
struct wl_courier *wl_courier_open(struct wl_comm *comm, struct wl_err *err);
/* Ends the thread after the jobs at hand; none may be hopeless (a lost rank: just exit). */
void wl_courier_close(struct wl_courier *c);

/* The same world as a communicator whose calls are jobs that are waited for; owned by c. */
struct wl_comm *wl_courier_comm(struct wl_courier *c);

/* Leaves a job; its number, for wait. Blocks while very many are waiting already. */
uint64_t wl_courier_post(struct wl_courier *c, wl_courier_fn fn, void *user, int64_t arg);
/* Until that job (and all before it) is done.  Fails with the first error of any job; after one
 * no job runs any more. */
WL_MUST_CHECK int wl_courier_wait(struct wl_courier *c, uint64_t job, struct wl_err *err);
/* Post and wait. */
WL_MUST_CHECK int wl_courier_call(struct wl_courier *c, wl_courier_fn fn, void *user,
	int64_t arg, struct wl_err *err);
/* Until all are done. */
WL_MUST_CHECK int wl_courier_drain(struct wl_courier *c, struct wl_err *err);

/* Seconds so far that jobs took, and those of them that somebody waited for. */
void wl_courier_seconds(struct wl_courier *c, double *busy, double *waited);

#endif
