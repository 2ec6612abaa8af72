/*
 * Whole shard sets side by side: what is odd in one (lint), what differs between two (diff), and
 * several made one (merge).
 */
#ifndef WL_SHARDS_SETS_H
#define WL_SHARDS_SETS_H

#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* One sample of a set, for sorting by whatever is compared. */
struct wl_set_row {
	int64_t pair_id, group; /* split_group of KEY.json; the pair itself when it has none */
	uint64_t text;          /* hash of KEY.json */
	uint8_t sha256[32];     /* of the picture */
	uint32_t split;         /* index into wl_set_rows.splits */
	uint32_t width, height, captions, longest; /* pixels; how many; characters of the longest */
	char key[64];
};

struct wl_set_rows {
	struct wl_set_row *v; /* [n] in the order of the shards */
	size_t n;
	char splits[64][17];
	size_t n_splits;
};

/* Reads the index and every KEY.json; 128 bytes a sample. */
WL_MUST_CHECK int wl_set_rows_read(struct wl_set_rows *r, const char *dir, struct wl_err *err);
void wl_set_rows_release(struct wl_set_rows *r);

/* What is wrong (errors) or odd (warnings) in a set whose bytes are sound: {"errors": n,
 * "warnings": n, "findings": [{"level", "rule", "count", "examples": [..]}]}, to be freed.
 * NULL: it cannot be read. */
json_t *wl_shards_lint(const char *dir, struct wl_err *err);

/* {"same": n, "only_a": n, "only_b": n, "picture": n, "text": n, "split": n, "examples": {..}}:
 * samples by pair id; order and sharding do not count.  NULL on failure. */
json_t *wl_shards_diff(const char *a, const char *b, struct wl_err *err);

struct wl_merge_opts {
	const char *const *dirs; /* [n] in order: of a pair in several, the first set's is taken */
	size_t n;
	const char *out;
	int64_t shard_bytes;
	uint64_t seed;
};
struct wl_merge_result {
	int64_t samples, shards, doubles, taken_down;
	bool stopped; /* a signal came first: run again */
};
/* Writes one set of the samples of all: each split shuffled anew, keys new, everything else byte
 * for byte.  Samples taken down in any of the sets are left out.  Shards sealed by an
 * earlier run of the same merge are kept.  A pair that is train in one set and held out in
 * another stays held out only. */
WL_MUST_CHECK int wl_shards_merge(
	const struct wl_merge_opts *o, struct wl_merge_result *out, struct wl_err *err);

#endif
