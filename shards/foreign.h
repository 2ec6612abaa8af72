/*
 * Sets of WebDataset tars that we did not pack: no manifest, no databases.  Every tar's headers
 * are read once when the set is opened and the index lives in memory: some 60 bytes a sample
 * and its key.
 *
 * A split is the tars whose names begin with it; where no tar's name begins with train, val or
 * test, all of them are the split "train".  A sample is a run of members with one key (the path
 * up to the first dot of its last part); its picture is .jpg .jpeg .png .webp .gif or .avif, its
 * text .json ("captions", or "caption") or else .txt .caption .cap, and boxes come from .json.
 * A source, for mixing, is a tar's name up to its last '-' or '_' before the number.
 */
#ifndef WL_SHARDS_FOREIGN_H
#define WL_SHARDS_FOREIGN_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

struct wl_foreign; /* safe to read from any thread */

/* Is this a directory with tars, and neither a manifest nor the plan of a set of ours that is not
 * finished? */
bool wl_foreign_is(const char *dir);
/* NULL: WL_EDATA naming the tar, the byte and what is wrong (torn, no tar, no such split). */
struct wl_foreign *wl_foreign_open(const char *dir, const char *split, struct wl_err *err);
void wl_foreign_close(struct wl_foreign *f);

int64_t wl_foreign_size(const struct wl_foreign *f);
/* SHA-256 (hex) of tars' names, keys and places. */
const char *wl_foreign_fingerprint(const struct wl_foreign *f);
/* "TAR KEY"; the string lives with the set. */
const char *wl_foreign_key(const struct wl_foreign *f, int64_t i);
const char *wl_foreign_source(const struct wl_foreign *f, int64_t i, char *out, size_t n);

/* As wl_shardset_read; json is made in our form: {pair_id: i, source, captions, [boxes]}.
 * WL_EDATA naming tar, key and the member that is missing. */
WL_MUST_CHECK int wl_foreign_read(const struct wl_foreign *f, int64_t i, struct wl_buf *jpg,
	struct wl_buf *txt, struct wl_buf *json, struct wl_err *err);

#endif
