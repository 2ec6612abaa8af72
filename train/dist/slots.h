/*
 * Which buckets may have the same memory: those that no part of a step holds at the same time.  A
 * schedule says from which operation to which a bucket is held; buckets get slots so that no two
 * that are held together share one, and a few more are free for what comes ahead of its use.
 */
#ifndef WL_TRAIN_DIST_SLOTS_H
#define WL_TRAIN_DIST_SLOTS_H

#include "train/dist/schedule.h"

/* A bucket is held from operation to operation of a phase (of a graph); phases come one after the
 * other. */
struct wl_held {
	int phase, bucket, from, to;
};

struct wl_slots {
	int *of; /* [buckets] -1: the bucket shares with none and is in no slot; owned */
	int n;	 /* slots */
};

/* own[buckets]: buckets that are to be in no slot. A bucket that is never held is in slot 0, where
 * there is one. */
WL_MUST_CHECK int wl_slots_make(struct wl_slots *s, const struct wl_cut *cut,
	const struct wl_held *held, int n, const bool *own, struct wl_err *err);
void wl_slots_release(struct wl_slots *s);

/* Appends to held[] (room for 2 * buckets) what a graph's schedule holds of weights, each asked for
 * `ahead` buckets before it is needed; or of gradients, each until the next one is complete.  The
 * number appended. */
int wl_slots_of_values(const struct wl_schedule_of_buckets *s, int phase, int ahead,
	struct wl_held *held);
int wl_slots_of_gradients(const struct wl_schedule_of_buckets *s, int phase,
	struct wl_held *held);

#endif
