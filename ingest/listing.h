/*
 * The files of a directory tree in byte order of their paths, with a digest over names, sizes and
 * times by which a walk knows whether it may go on where it was.
 */
#ifndef WL_INGEST_LISTING_H
#define WL_INGEST_LISTING_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_listing {
	char **v; /* paths relative to the root, sorted; owned */
	size_t n, cap;
	uint64_t digest;
};

/* Lists the plain files below a directory (links to files are followed, to directories not). */
WL_MUST_CHECK int wl_listing_read(struct wl_listing *l, const char *path, struct wl_err *err);
/* A listing of one file, under its name without directories. */
WL_MUST_CHECK int wl_listing_file(struct wl_listing *l, const char *path, struct wl_err *err);
void wl_listing_release(struct wl_listing *l);
/* First index whose path is >= key. */
size_t wl_listing_at(const struct wl_listing *l, const char *key);
bool wl_listing_has(const struct wl_listing *l, const char *path);

/*
 * A walk over a listing, for sources whose items are files of a tree.  A position is "DIGEST
 * PATH": when the digest is still the same, the walk goes on after PATH ("DIGEST" alone: it was
 * finished); when files came or changed, it starts again and the catalog tells what is new.
 */
struct wl_record;
struct wl_tree_walk {
	struct wl_listing files;
	size_t next;
	char digest[17];
};
/* Puts the walk, whose files are listed, to where `position` says. */
void wl_tree_walk_start(struct wl_tree_walk *w, const char *position);
/* Names the next file that is an item: file, place and position of *r.  1; 0: the end.  The walk
 * must outlive the record. */
WL_MUST_CHECK int wl_tree_walk_next(struct wl_tree_walk *w,
	bool (*is_item)(const void *ctx, const char *path), const void *ctx, struct wl_record *r,
	struct wl_err *err);

#endif
