/*
 * SQLite with the project's habits: WAL, foreign settings in one place, one
 * transaction = one unit of progress, errors as sentences with the path.
 */
#ifndef WL_OPS_DB_H
#define WL_OPS_DB_H

#include "ops/err.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

enum wl_db_mode {
	WL_DB_READ,
	WL_DB_WRITE, /* creates the file when missing */
	/* The same for one thread at a time: SQLite takes no locks of its own. */
	WL_DB_READ_BY_ONE,
	WL_DB_WRITE_BY_ONE
};

struct wl_db {
	sqlite3 *h;
	char *path; /* owned, for messages */
};

/* WL_DB_WRITE: journal WAL, synchronous FULL, busy timeout 10 s.  A file that is not a
 * database, or damaged, is WL_EDATA. */
WL_MUST_CHECK int wl_db_open(struct wl_db *db, const char *path, enum wl_db_mode mode,
	struct wl_err *err);
/* Folds the WAL into the file; harmless on a zeroed struct. */
void wl_db_close(struct wl_db *db);

/* One or more statements without results. */
WL_MUST_CHECK int wl_db_exec(struct wl_db *db, const char *sql, struct wl_err *err);
WL_MUST_CHECK int wl_db_begin(struct wl_db *db, struct wl_err *err); /* BEGIN IMMEDIATE */
WL_MUST_CHECK int wl_db_commit(struct wl_db *db, struct wl_err *err);
void wl_db_rollback(struct wl_db *db); /* harmless outside a transaction */

/* Prepares; the caller finalises with sqlite3_finalize (NULL is fine). */
WL_MUST_CHECK int wl_db_prepare(struct wl_db *db, sqlite3_stmt **stmt, const char *sql,
	struct wl_err *err);
/* Binds by a format, left to right: i int64_t, d double, s const char * (NULL allowed),
 * b (const void *, size_t) blob, n null.  Strings and blobs must live until the next step. */
WL_MUST_CHECK int wl_db_bind(struct wl_db *db, sqlite3_stmt *stmt, struct wl_err *err,
	const char *fmt, ...);
/* 1: a row is there; 0: done (the statement is reset); -1: failed. */
WL_MUST_CHECK int wl_db_step(struct wl_db *db, sqlite3_stmt *stmt, struct wl_err *err);
/* Binds, steps to the end, resets. */
WL_MUST_CHECK int wl_db_run(struct wl_db *db, sqlite3_stmt *stmt, struct wl_err *err,
	const char *fmt, ...);
/* The first column of the first row; `fallback` when there is no row or it is NULL. */
WL_MUST_CHECK int wl_db_int(struct wl_db *db, int64_t fallback, int64_t *out, struct wl_err *err,
	const char *sql);
/* Turns the handle's last error into a sentence. */
int wl_db_err(struct wl_db *db, struct wl_err *err, const char *doing);

#endif
