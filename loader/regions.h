/*
 * Regions of a picture: the sample's boxes carried through crop, resize and flip, or a grid.
 */
#ifndef WL_LOADER_REGIONS_H
#define WL_LOADER_REGIONS_H

#include "loader/loader.h"

/* boxes: JSON [[x1,y1,x2,y2],...] in pixels of the upright source, or NULL.  Writes
 * out [R,4] in pixels of the S x S picture and mask [R]: the first R - 1 boxes of which at
 * least one pixel is left in each direction, then the whole picture, then zeros with mask 0.
 * A sample of which no box is left gets grid x grid cells (grid 0: only the whole picture).
 * WL_EDATA when boxes is of another form. */
WL_MUST_CHECK int wl_regions(const json_t *boxes, const struct wl_augment_params *p, int side,
	int regions, int grid, float *out, float *mask, struct wl_err *err);

#endif
