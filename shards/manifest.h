/*
 * The two SQLite files of a shard set (see shard.h for the tables): manifest.db for the set,
 * NAME.db beside each tar.  Both are written whole under a temporary name and renamed, in
 * rollback-journal mode, so that they can be read from a read-only medium.
 */
#ifndef WL_SHARDS_MANIFEST_H
#define WL_SHARDS_MANIFEST_H

#include "ops/db.h"
#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	WL_SHARDS_VERSION = 1,
	WL_SPLIT_MAX = 17,	/* lower-case letters, with the closing 0 */
	WL_SHARD_NAME_MAX = 32, /* "train-000000" */
	WL_SHARD_NUMBER_MAX = 999999,
	WL_SHARD_SAMPLES_MAX = 1000000, /* the index in a key has six digits */
};

struct wl_shard_info {
	char name[WL_SHARD_NAME_MAX]; /* SPLIT-NNNNNN */
	char split[WL_SPLIT_MAX];
	int64_t bytes, samples; /* of the tar; in it */
	int64_t rejected;	/* pairs of this shard whose picture could not be packed */
	char sha256[65];	/* of the tar, hex */
	int64_t sealed_at;	/* Unix seconds */
};

/* "train", 7 -> "train-000007".  WL_EUSAGE for a split that is not 1..16 letters a-z. */
WL_MUST_CHECK int wl_shard_name(
	char out[WL_SHARD_NAME_MAX], const char *split, int64_t number, struct wl_err *err);
/* True when name is SPLIT-NNNNNN for that split. */
bool wl_shard_name_ok(const char *name, const char *split);

/* A sample that was taken down. */
struct wl_dead {
	int64_t pair_id;
	char shard[WL_SHARD_NAME_MAX];
	int64_t index;
};

struct wl_manifest {
	struct wl_shard_info *shards; /* [n], by name */
	size_t n;
	json_t *meta;	     /* object: key -> string */
	int64_t *tombstones; /* [n_tombstones] pair ids, ascending */
	size_t n_tombstones;
	struct wl_dead *dead; /* [n_dead] where the tombstones' pairs lie */
	size_t n_dead;
	char fingerprint[65]; /* SHA-256 over "name split bytes samples sha256\n" of all shards */
};
bool wl_manifest_exists(const char *dir);
/* Reads and checks DIR/manifest.db; WL_EDATA when it is missing or damaged.  Where the tombstones'
 * pairs lie is in it too, for those that these programs wrote; others are looked for in every
 * NAME.db. */
WL_MUST_CHECK int wl_manifest_read(struct wl_manifest *m, const char *dir, struct wl_err *err);
void wl_manifest_release(struct wl_manifest *m);

/* Replaces DIR/manifest.db.  shards: in any order; meta: object, every value is stored as text
 * (strings as they are, others as JSON).  The tombstones of a manifest that is there already
 * are taken over, and their pairs looked for in every NAME.db. */
WL_MUST_CHECK int wl_manifest_write(const char *dir, const struct wl_shard_info *shards, size_t n,
	const json_t *meta, struct wl_err *err);
/* Adds tombstones in one transaction; ids that have one keep the older reason.  The number
 * added, or -1. */
WL_MUST_CHECK int64_t wl_manifest_tombstone(
	const char *dir, const int64_t *pair_ids, size_t n, const char *reason, struct wl_err *err);

/* Orders int64_t, for qsort and bsearch over ids. */
int wl_by_id(const void *a, const void *b);

/* A database under a temporary name: tables are made by `sql`, one transaction is open. */
WL_MUST_CHECK int wl_newdb_open(
	struct wl_db *db, const char *tmp, const char *sql, struct wl_err *err);
/* Commits, closes and syncs the file (it keeps its temporary name). */
WL_MUST_CHECK int wl_newdb_finish(struct wl_db *db, struct wl_err *err);

#endif
