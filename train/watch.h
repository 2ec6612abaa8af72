/*
 * What a run uses: floating-point work of each tower against the processor's
 * peak, memory, and time spent waiting for other ranks.
 */
#ifndef WL_TRAIN_WATCH_H
#define WL_TRAIN_WATCH_H

#include "train/trainer.h"

#include <jansson.h>

struct wl_watch {
	const struct wl_trainer *t; /* borrowed */
	double peak_flops;          /* of matrix products on this rank's threads; 0: unknown */
	double image_s, image_flops, text_s, text_flops, exchange_s; /* at the last look */
};

/* The rate of a matrix product of 1024 x 1024 x 1024 in this type, the best of a few; 0 where it
 * cannot be measured. */
double wl_watch_peak(struct wl_backend *be, enum wl_dtype compute);

/* gflops: the peak; 0: unknown. */
void wl_watch_start(struct wl_watch *w, const struct wl_trainer *t, double gflops);
/* Adds to a line of metrics, and to the metrics served, what the time since the last look was
 * used for: mfu_image, mfu_text, rss_gib and, with ranks, exchange_wait_s. */
void wl_watch_look(struct wl_watch *w, json_t *line);

/* Bytes of this process in memory, 0 where /proc does not say. */
double wl_resident_bytes(void);

#endif
