/* A whole file mapped for reading: shared by the checkpoint readers. */
#ifndef WL_OPS_MAPPED_H
#define WL_OPS_MAPPED_H

#include "ops/err.h"

#include <stdint.h>

struct wl_mapped {
	const uint8_t *data; /* NULL for an empty file */
	size_t size;
};

/* Maps the regular file at path read-only. */
WL_MUST_CHECK int wl_mapped_open(struct wl_mapped *m, const char *path, struct wl_err *err);
void wl_mapped_close(struct wl_mapped *m);

#endif
