/* Fills areas of planes.h: what a worker does in place of resizing. */
#ifndef WL_LOADER_PLANES_MAKE_H
#define WL_LOADER_PLANES_MAKE_H

#include "loader/augment.h"
#include "loader/resize.h"

struct wl_plane_maker; /* one worker's; keeps its buffers between pictures */
/* For pictures of side x side; NULL when out of memory. */
struct wl_plane_maker *wl_plane_maker_new(int side, struct wl_err *err);
void wl_plane_maker_free(struct wl_plane_maker *m);

/* The region's picture into area [wl_planes_area(side)]; out->area is left alone.  strips and
 * source as of wl_resizer_run; `resizer` does what does not fit.  Fails with what the source said,
 * or out of memory. */
WL_MUST_CHECK int wl_planes_make(struct wl_plane_maker *m, const struct wl_region *region,
	const struct wl_augment_params *params, struct wl_resizer *resizer, wl_strip_fn *strips,
	void *source, uint8_t *area, struct wl_planes *out, struct wl_err *err);

/* The JPEG itself (bytes [n], wl_decoder_plain) in place of its samples, for a GPU that decodes;
 * region: unscaled.  *fits false: it or its samples are too large; *out is then undefined. */
WL_MUST_CHECK int wl_planes_keep_jpeg(struct wl_plane_maker *m, const struct wl_region *region,
	const struct wl_augment_params *params, const void *bytes, size_t n, uint8_t *area,
	struct wl_planes *out, bool *fits, struct wl_err *err);

#endif
