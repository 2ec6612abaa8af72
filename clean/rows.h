/*
 * Many rows of the same size, written once and then read through again and again: in memory
 * while they fit, in a file without a name (it ends with the process) when they do not.
 */
#ifndef WL_CLEAN_ROWS_H
#define WL_CLEAN_ROWS_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stddef.h>
#include <stdint.h>

struct wl_rows {
	size_t width, n; /* bytes of a row; rows so far */
	size_t memory;	 /* bytes that may be held; more are on disk */
	char *mem;	 /* rows [on_disk, n) */
	size_t cap, on_disk;
	int fd; /* -1: none yet */
	const char *dir;
};

/* dir: where the file would be; borrowed. */
void wl_rows_init(struct wl_rows *r, size_t width, size_t memory, const char *dir);
void wl_rows_release(struct wl_rows *r);
WL_MUST_CHECK int wl_rows_add(struct wl_rows *r, const void *row, struct wl_err *err);
/* Rows [from, from + n) into out, or a pointer to them when they are in memory; any thread, once
 * all are added. */
WL_MUST_CHECK int wl_rows_read(const struct wl_rows *r, size_t from, size_t n, void *out,
	const void **at, struct wl_err *err);

#endif
