/*
 * The pictures inside a WARC archive, by URL: a page may come before its pictures, after them, or
 * far from them, so they are listed before the first page is read.
 *
 * A picture is a response (or resource) of status 200 that is whole, with a Content-Type of
 * image/... or, where the type says nothing, with a picture's first bytes.  http and https are
 * one; of several captures of one URL the first counts.
 */
#ifndef WL_INGEST_WARC_IMAGES_H
#define WL_INGEST_WARC_IMAGES_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_warc_images; /* the list, and idle readers; shared by threads once it is built */

/* Reads the archive through once.  NULL: a fault of the machine. */
struct wl_warc_images *wl_warc_images_open(const char *path, struct wl_err *err);
void wl_warc_images_close(struct wl_warc_images *x);
size_t wl_warc_images_count(const struct wl_warc_images *x);

enum wl_warc_image_found {
	WL_WARC_IMAGE_NONE,  /* not in this archive */
	WL_WARC_IMAGE_FOUND, /* *out has its bytes, codings undone */
	WL_WARC_IMAGE_FORBIDDEN, /* its server forbids this use (X-Robots-Tag) */
};
/* Gets the picture of a URL into *out.  One that is larger than *out may be, or whose codings
 * cannot be undone, is WL_EDATA.  Any thread. */
WL_MUST_CHECK int wl_warc_images_get(struct wl_warc_images *x, const char *url,
	struct wl_buf *out, enum wl_warc_image_found *found, struct wl_err *err);

#endif
