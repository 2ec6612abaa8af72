/* Pictures for tests: real corner cases where they are at hand, and made ones. */
#ifndef WL_TESTS_PICTURES_H
#define WL_TESTS_PICTURES_H

#include "ingest/image.h"
#include "ops/buf.h"

#include <stdbool.h>

#define PICTURES_MISC "../shared/data/images-misc"

/* Whether PICTURES_MISC is there; says SKIPPED where not. */
bool pictures_misc(void);
/* The file, which must be readable; to be released. */
struct wl_buf pictures_read(const char *path);
/* The picture of tests/golden/image_resize.py: a function of its arguments; to be released. */
struct wl_image pictures_make(int w, int h, int ch, uint32_t seed, bool smooth);
/* A JPEG of a smooth picture with ch (1 or 3) channels; to be released. */
struct wl_buf pictures_jpeg(int w, int h, int ch, int quality);

#endif
