/* The lines of a .jsonl, for source_tar.c: such a file inside a tar beside its images. */
#ifndef WL_INGEST_SOURCE_JSONL_H
#define WL_INGEST_SOURCE_JSONL_H

#include "ingest/source.h"
#include "ingest/tarindex.h"

/* Opens member `m` of the tar as jsonl: would; takes over *x, also on failure. */
struct wl_source *wl_jsonl_open_member(const struct wl_origin *o, struct wl_tarindex *x,
	const struct wl_tar_member *m, const char *position, struct wl_err *err);

/* A source whose prepare() takes records in jsonl:'s form that come from elsewhere, with the
 * pictures in o->images (a directory or a tar; NULL: beside o->path).  It has no next(). */
struct wl_source *wl_jsonl_open_images(const struct wl_origin *o, struct wl_err *err);

#endif
