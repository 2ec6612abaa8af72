/*
 * The members of a ZIP archive in memory: enough for PyTorch's .pth files,
 * which store (never compress) their members and use ZIP64 beyond 4 GB.
 */
#ifndef WL_TRAIN_CHECKPOINT_ZIP_H
#define WL_TRAIN_CHECKPOINT_ZIP_H

#include "ops/arena.h"

struct wl_zip_member {
	const char *name; /* in the arena */
	const uint8_t *data;
	size_t size;
};

struct wl_zip {
	struct wl_zip_member *members; /* sorted by name; in the arena */
	size_t count;
};

/* Reads the central directory and finds each stored member's bytes, all checked to lie inside
 * the archive. Fails with WL_ECKPT, naming `path`. */
WL_MUST_CHECK int wl_zip_parse(struct wl_zip *z, const uint8_t *bytes, size_t n,
	const char *path, struct wl_arena *arena, struct wl_err *err);
const struct wl_zip_member *wl_zip_find(const struct wl_zip *z, const char *name);

#endif
