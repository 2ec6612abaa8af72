/*
 * A picture as dedup knows it, and whether two are the same one.
 *
 * Two pictures match when
 *   - their 64-bit perceptual hashes are within a radius and they look alike (clean/phash.h), or
 *   - hashes of a window of each are within another radius, and, once laid upon each other as these
 *     windows say, they agree: grey up to gain and offset on most of what they share (a band of
 *     text or a logo may cover the rest), colours up to saturation.
 * So a match says that a person would call one an edit of the other: cropped, framed, mirrored,
 * recoloured, marked.  It is symmetric and not transitive.
 */
#ifndef WL_CLEAN_MATCH_H
#define WL_CLEAN_MATCH_H

#include "clean/phash.h"
#include "clean/windows.h"

struct wl_view {
	struct wl_look look;
	struct wl_windows windows;
};

/* How near hashes must be; -1: not looked at. */
struct wl_radii {
	int whole, window;
};

/* From upright RGB as wl_image_decode gives it. */
WL_MUST_CHECK int wl_view_make(
	const struct wl_image *rgb, struct wl_view *out, struct wl_err *err);

/* From a picture that was decoded at 1/by of its size, which was width x height: nearly the
 * same. */
WL_MUST_CHECK int wl_view_make_by(const struct wl_image *rgb, int by, int width, int height,
	struct wl_view *out, struct wl_err *err);

/* From the low frequencies of a JPEG at 1/wl_windows_scale of its size: nearly the same. */
WL_MUST_CHECK int wl_view_make_low(
	const struct wl_image_low *low, struct wl_view *out, struct wl_err *err);

/* Whether two pictures are one, wholes or parts, within these radii.  Symmetric; when in doubt
 * false. */
bool wl_view_match(const struct wl_view *a, const struct wl_view *b, struct wl_radii r);

/* Whether hashes of windows i and k may be compared: any two, for two different parts of two
 * crops may show the same; two mirrored ones say what the whole ones do. */
static inline bool wl_windows_meet(int i, int k)
{
	return i != WL_WINDOW_MIRROR || k != WL_WINDOW_MIRROR;
}

/* Whether the two agree when part ra of a is laid upon part rb of b.  plain: everywhere, not on
 * three quarters only, and not mirrored. */
bool wl_look_aligned(const struct wl_look *a, struct wl_rect ra, const struct wl_look *b,
	struct wl_rect rb, bool plain);

#endif
