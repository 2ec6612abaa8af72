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
/* A JPEG of an RGB picture that is a function of the seed; to be released. */
struct wl_buf pictures_seeded(int w, int h, uint32_t seed, int quality);
/* Bytes in base64, 0-terminated; to be freed. */
char *pictures_base64(const void *bytes, size_t n);
/* A small JPEG in base64, a function of the seed, as messages carry them; to be freed. */
char *pictures_in_message(uint32_t seed);
/* Base64 to bytes; to be released. */
struct wl_buf pictures_from_base64(const char *s);

/* Forms of a JPEG that wl_image_encode_jpeg does not write; where a member is 0, libjpeg's own
 * way: 4:2:0 at quality 75, in one scan, without restarts. */
struct jpeg_form {
	int h, v;    /* luma sampling factors */
	int quality; /* 1..100 */
	int restart; /* rows of blocks between restart markers */
	bool grey, progressive, optimised;
	bool rgb; /* stored without a change of colour space; h and v must be 1 */
};
/* An RGB picture in this form, by plain libjpeg; *out [n] is to be freed. */
void pictures_encode(
	const struct wl_image *im, struct jpeg_form f, uint8_t **out, unsigned long *n);

#endif
