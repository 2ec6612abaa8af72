/*
 * A contact sheet: the pictures of a batch as the model gets them, boxes drawn, as one JPEG or
 * as an HTML page with the captions beside them.
 */
#ifndef WL_LOADER_SHEET_H
#define WL_LOADER_SHEET_H

#include "loader/loader.h"

struct wl_sheet;
/* path ends in .jpg, .jpeg (pictures only) or .html; WL_EUSAGE otherwise.  n pictures of side
 * x side will be added.  path is copied. */
struct wl_sheet *wl_sheet_new(const char *path, int side, int n, struct wl_err *err);
void wl_sheet_free(struct wl_sheet *s);

/* pixels [S,S,3] in [0,1]; boxes [regions,4] and mask [regions] as in a batch (the whole
 * picture is not drawn); text: UTF-8 for the page. */
WL_MUST_CHECK int wl_sheet_add(struct wl_sheet *s, const float *pixels, const float *boxes,
	const float *mask, int regions, const char *text, struct wl_err *err);
/* Writes the file, atomically. */
WL_MUST_CHECK int wl_sheet_save(struct wl_sheet *s, struct wl_err *err);

#endif
