/*
 * NAME.db, the database beside a shard's tar (tables in shard.h): written once, by the packer
 * or by repair; read row by row.
 */
#ifndef WL_SHARDS_SHARD_DB_H
#define WL_SHARDS_SHARD_DB_H

#include "ops/db.h"
#include "ops/err.h"
#include "shards/manifest.h"
#include "shards/shard.h"

#include <stdint.h>

/* The order of a sample's members in the tar, and their extensions. */
enum wl_member { WL_MEMBER_JPG, WL_MEMBER_TXT, WL_MEMBER_JSON, WL_MEMBERS };
extern const char *const wl_member_ext[WL_MEMBERS];

struct wl_shard_row {
	int64_t index, pair_id;
	char key[WL_KEY_MAX];
	int64_t offset[WL_MEMBERS], length[WL_MEMBERS];
	uint8_t sha256[32];	      /* of the jpg */
	int64_t width, height, topic; /* topic -1: none */
	const char *source, *url;     /* borrowed */
};

/* SPLIT-NNNNNN_NNNNNN into the shard's name and the index; WL_EUSAGE for anything else. */
WL_MUST_CHECK int wl_key_parse(
	const char *key, char name[WL_SHARD_NAME_MAX], int64_t *index, struct wl_err *err);

/* ---- writing ---- */

struct wl_shard_db {
	struct wl_db db;
	sqlite3_stmt *insert;
};
/* Starts an empty one under the name tmp. */
WL_MUST_CHECK int wl_shard_db_create(struct wl_shard_db *d, const char *tmp, struct wl_err *err);
WL_MUST_CHECK int wl_shard_db_add(
	struct wl_shard_db *d, const struct wl_shard_row *r, struct wl_err *err);
WL_MUST_CHECK int wl_shard_db_reject(
	struct wl_shard_db *d, int64_t pair_id, const char *reason, struct wl_err *err);
/* Writes the row about the tar, commits, syncs and closes; the file keeps its name. */
WL_MUST_CHECK int wl_shard_db_finish(struct wl_shard_db *d, const struct wl_shard_info *info,
	const char *plan, struct wl_err *err);
/* Closes; harmless on a zeroed one. */
void wl_shard_db_release(struct wl_shard_db *d);

/* ---- reading ---- */

/* Walks the rows in order of index; zeroed means closed. */
struct wl_shard_rows {
	struct wl_db db;
	sqlite3_stmt *st;
};
WL_MUST_CHECK int wl_shard_rows_open(
	struct wl_shard_rows *r, const char *dir, const char *name, struct wl_err *err);
/* 1: *row is the next one (its strings live until the next call); 0: no more; -1. */
WL_MUST_CHECK int wl_shard_rows_next(
	struct wl_shard_rows *r, struct wl_shard_row *row, struct wl_err *err);
/* Goes to that index: 1 found, 0 not. */
WL_MUST_CHECK int wl_shard_rows_seek(
	struct wl_shard_rows *r, int64_t index, struct wl_shard_row *row, struct wl_err *err);
void wl_shard_rows_close(struct wl_shard_rows *r);

/* What NAME.db says of its tar.  *plan: "" when none. */
WL_MUST_CHECK int wl_shard_info_read(struct wl_shard_info *out, char plan[65], const char *dir,
	const char *name, struct wl_err *err);
/* When the tar was sealed, by its file's time (which outlives a lost manifest); 0 unknown. */
int64_t wl_shard_sealed_at(const char *dir, const char *name);

#endif
