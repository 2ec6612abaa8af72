/* What happens to pictures on the web, for tests: each transform is a function of (picture,
 * kind, seed), through JPEG as a site would save it. */
#ifndef WL_TESTS_TRANSFORM_H
#define WL_TESTS_TRANSFORM_H

#include "ingest/image.h"

enum transform {
	T_REENCODE,   /* quality 30 to 60 */
	T_RESIZE,     /* to 30 to 80 % */
	T_ASPECT,     /* one side by 85 to 95 % */
	T_COLOUR,     /* brightness, contrast and saturation changed */
	T_GREY,       /* no colour any more */
	T_CROP_5,     /* 3 to 6 % off each side */
	T_CROP_CENTRE,/* the middle 75 to 90 % of each side */
	T_CROP_ANY,   /* a part of 75 to 90 % of each side, anywhere */
	T_BORDER,     /* a frame of one colour of 4 to 12 % */
	T_WATERMARK,  /* letters across it, half transparent */
	T_TEXT,       /* an opaque band with letters over 10 to 20 % at head or foot */
	T_LOGO,       /* an opaque box in a corner, 15 to 25 % of the sides */
	T_FLIP,       /* mirrored left to right */
	T_FLIP_CROP,  /* mirrored, then T_CROP_5 */
	T_SCREENSHOT, /* resized, in a frame, with a text band, re-encoded */
	TRANSFORMS,
};
const char *transform_name(enum transform t);

/* *out is released by the caller; its pixels went through JPEG.  Fails the test on error. */
void transform_make(
	const struct wl_image *im, enum transform t, uint64_t seed, struct wl_image *out);

#endif
