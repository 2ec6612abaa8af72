/*
 * Pictures made on the device from what the loader decoded (loader/planes.h): uploaded, resized,
 * coloured, blurred and normalised on a stream of its own, while the backend's stream computes the
 * step before.
 *
 *   start(batch 0)
 *   for each step: take(batch n); start(batch n + 1); compute with n
 *
 * The results are those of the loader without planes_only, to within float rounding
 * (tests/test_pictures.c: a thousandth of a grey level).
 */
#ifndef WL_TRAIN_BACKEND_PICTURES_H
#define WL_TRAIN_BACKEND_PICTURES_H

#include "loader/planes.h"
#include "train/backend/backend.h"

struct wl_pictures_opts {
	int64_t batch; /* pictures at most */
	int px;        /* S */
	float mean[3], std[3];
	enum wl_dtype dtype; /* of the result: WL_F32, WL_BF16 */
	bool jpegs;          /* JPEGs come undecoded; WL_EUSAGE without nvJPEG */
};

struct wl_pictures; /* the backend's own */

struct wl_picture_ops {
	/* NULL on failure. */
	struct wl_pictures *(*open)(struct wl_backend *be, const struct wl_pictures_opts *o,
		struct wl_err *err);
	/* Begins n pictures and returns at once; areas [.][area_bytes] and planes [n] as in struct
	 * wl_batch, unchanged until take has given these pictures.  There is room for two batches:
	 * those begun and not taken, and the one taken last, which is in use. */
	int (*start)(struct wl_pictures *p, const uint8_t *areas, size_t area_bytes,
		const struct wl_planes *planes, int64_t n, struct wl_err *err);
	/* The oldest batch begun: *data [n,S,S,3] in the backend's memory, to be used by work given
	 * to the backend before the next take.  The host waits only for the upload, which began
	 * with start; the backend's stream waits for the rest. */
	int (*take)(struct wl_pictures *p, void **data, struct wl_err *err);
	void (*close)(struct wl_pictures *p); /* accepts NULL */
	/* Host memory that uploads run from at full speed (struct wl_loader_memory's two). */
	void *(*alloc_host)(void *be, size_t bytes, struct wl_err *err);
	void (*free_host)(void *be, void *p);
};

#endif
