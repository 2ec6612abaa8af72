/*
 * The 64-bit perceptual hash of a picture, the same bits as the Python package imagehash's
 * phash(image, hash_size=8, highfreq_factor=4): grey, 32x32 by Lanczos, two-dimensional
 * DCT-II, and of the 8x8 lowest frequencies those above their median.
 *
 * A picture's hash says little when the picture has little in it: flat, or a small icon on
 * white.  So a signature also holds the 32x32 grey pixels and 8x8 mean colours, and two
 * pictures whose hashes are near count as alike only when these agree too (wl_look_alike).
 */
#ifndef WL_CLEAN_PHASH_H
#define WL_CLEAN_PHASH_H

#include "ingest/image.h"
#include "ingest/image_low.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { WL_PHASH_SIDE = 32, WL_PHASH_PIXELS = 32 * 32 };

/* Of [32,32] grey pixels.  The first bit of imagehash's flattened array is the highest bit, so
 * that "%016llx" prints what str(imagehash.phash(..)) does. */
uint64_t wl_phash_grey32(const uint8_t grey[WL_PHASH_PIXELS]);

/* How a picture looks, for the second opinion. */
enum { WL_LOOK_CELLS = 8 };
struct wl_look {
	uint64_t phash;
	uint32_t aspect_1024;				   /* 1024 * width / height, upright */
	uint8_t grey[WL_PHASH_PIXELS];			   /* [32,32] what the hash was made of */
	uint8_t colour[WL_LOOK_CELLS * WL_LOOK_CELLS * 3]; /* [8,8,RGB] means of an even grid */
};

/* From upright RGB as wl_image_decode gives it. */
WL_MUST_CHECK int wl_look_make(const struct wl_image *rgb, struct wl_look *out, struct wl_err *err);
/* The same with weights that are kept between pictures (ingest/image.h). */
WL_MUST_CHECK int wl_look_make_by(
	struct wl_lanczos *l, const struct wl_image *rgb, struct wl_look *out, struct wl_err *err);
/* The same where the grey picture is there already. */
WL_MUST_CHECK int wl_look_make_grey(const struct wl_image *rgb, const struct wl_image *grey,
	struct wl_look *out, struct wl_err *err);

/* The rest of a look whose grey pixels are there already. */
void wl_look_make_low(const struct wl_image_low *low, struct wl_look *out);

/* Whether two pictures whose hashes are near are the same one, re-encoded, resized or made a
 * little lighter or darker.  Symmetric; when in doubt false, for a false merge loses a picture
 * and a missed one only repeats it. */
bool wl_look_alike(const struct wl_look *a, const struct wl_look *b);

/* In how many bits two hashes differ. */
static inline int wl_hamming64(uint64_t a, uint64_t b)
{
	return __builtin_popcountll(a ^ b);
}

#endif
