/*
 * Random access to the members of a plain (not compressed) tar: an index of header positions
 * made by one pass over the headers.  Any dialect that libarchive reads.
 */
#ifndef WL_INGEST_TARINDEX_H
#define WL_INGEST_TARINDEX_H

#include "ops/arena.h"
#include "ops/buf.h"
#include "ops/err.h"

#include <archive.h>
#include <stdbool.h>
#include <stdint.h>

struct wl_tar_member {
	const char *name;   /* without "./" */
	int64_t start, end; /* from its first header to the next member's */
	int64_t size;       /* of its data */
};

struct wl_tarindex {
	char *path;
	int fd;
	bool compressed; /* then there are no members: it cannot be read at random */
	struct wl_tar_member *v; /* regular files, sorted by name; of two with one name the later */
	size_t n;
	struct wl_arena names;
};

/* WL_EDATA when the tar is damaged or cut off. */
WL_MUST_CHECK int wl_tarindex_open(struct wl_tarindex *x, const char *path, struct wl_err *err);
/* Forgets the members; wl_tarindex_read goes on for who knows where they are. */
void wl_tarindex_forget(struct wl_tarindex *x);
void wl_tarindex_close(struct wl_tarindex *x);
/* NULL: there is no such member. */
const struct wl_tar_member *wl_tarindex_find(const struct wl_tarindex *x, const char *name);
/* A member's data into out (reset first); the caller has compared m->size with out->max.
 * Any thread, several at once. */
WL_MUST_CHECK int wl_tarindex_read(const struct wl_tarindex *x, const struct wl_tar_member *m,
	struct wl_buf *out, struct wl_err *err);
/* An archive standing at the member's data, for streaming; the caller frees it. */
struct archive *wl_tarindex_stream(const struct wl_tarindex *x, const struct wl_tar_member *m,
	struct wl_err *err);

/* A name without leading "./" and "/". */
const char *wl_tar_name(const char *name);

#endif
