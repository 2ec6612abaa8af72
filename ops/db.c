/* SQLite with the project's habits: see db.h. */
#include "ops/db.h"
#include "ops/file.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

int wl_db_err(struct wl_db *db, struct wl_err *err, const char *doing)
{
	int rc = db->h ? sqlite3_errcode(db->h) : SQLITE_CANTOPEN;
	enum wl_code code = rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT || rc == SQLITE_FORMAT
				    ? WL_EDATA
				    : WL_EFAIL;

	const char *mend = "";

	if (rc == SQLITE_BUSY)
		mend = " (another process holds it: wait for it, or stop it)";
	else if (rc == SQLITE_FULL)
		mend = " (free some space, and run the same command again)";
	else if (rc == SQLITE_READONLY || rc == SQLITE_PERM)
		mend = " (see whether this user may write there)";
	else if (code == WL_EDATA)
		mend = " (it is damaged: bring it back from a copy)";
	return wl_err_set(err, code, "database %s, %s: %s%s", db->path ? db->path : "?", doing,
		db->h ? sqlite3_errmsg(db->h) : "it cannot be opened", mend);
}

/* The first read of the file: what is not a database shows here. */
static int touch(struct wl_db *db)
{
	return sqlite3_exec(db->h, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL);
}

/* A database in WAL mode needs its -shm file, which a read-only disk does not allow; when
 * no WAL is pending the file alone is complete and may be read as immutable. */
static int open_immutable(struct wl_db *db, struct wl_err *err)
{
	char *wal = wl_strf(err, "%s-wal", db->path);
	char *uri = NULL;
	int rc = SQLITE_CANTOPEN;

	if (wal && wl_file_size(wal, NULL) <= 0) {
		/* sqlite3_mprintf has no URI quoting, so only plain names take this way. */
		if (!strpbrk(db->path, "?#%"))
			uri = wl_strf(err, "file:%s?immutable=1", db->path);
	}
	if (uri) {
		sqlite3_close(db->h);
		db->h = NULL;
		rc = sqlite3_open_v2(uri, &db->h, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL);
		if (rc == SQLITE_OK)
			rc = touch(db);
	}
	free(wal);
	free(uri);
	return rc == SQLITE_OK ? 0 : -1;
}

/* SQLite's count of its own memory takes a lock for every allocation, and nobody asks for it. */
static void configure(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

int wl_db_open(struct wl_db *db, const char *path, enum wl_db_mode mode, struct wl_err *err)
{
	bool read = mode == WL_DB_READ || mode == WL_DB_READ_BY_ONE;
	int flags = read ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int rc;

	pthread_once(&once, configure);
	if (mode == WL_DB_WRITE_BY_ONE || mode == WL_DB_READ_BY_ONE)
		flags |= SQLITE_OPEN_NOMUTEX;

	*db = (struct wl_db){0};
	db->path = wl_strf(err, "%s", path);
	if (!db->path)
		return -1;
	rc = sqlite3_open_v2(path, &db->h, flags, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_extended_result_codes(db->h, 0);
		sqlite3_busy_timeout(db->h, 10000);
		if (!read)
			rc = sqlite3_exec(db->h,
				"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA "
				"foreign_keys=ON",
				NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = touch(db);
		if (read && (rc == SQLITE_CANTOPEN || rc == SQLITE_READONLY) &&
			wl_exists(path) && open_immutable(db, err) == 0)
			rc = SQLITE_OK;
	}
	if (rc == SQLITE_OK)
		return 0;
	wl_db_err(db, err, "opening");
	wl_db_close(db);
	return -1;
}

void wl_db_close(struct wl_db *db)
{
	if (!db)
		return;
	/* The last connection to close folds the WAL into the file by itself; this does it
	 * also while others are open.  A reader may not and then nothing happens. */
	if (db->h && !sqlite3_db_readonly(db->h, "main"))
		sqlite3_wal_checkpoint_v2(db->h, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	sqlite3_close_v2(db->h);
	free(db->path);
	*db = (struct wl_db){0};
}

int wl_db_exec(struct wl_db *db, const char *sql, struct wl_err *err)
{
	if (sqlite3_exec(db->h, sql, NULL, NULL, NULL) != SQLITE_OK)
		return wl_db_err(db, err, sql);
	return 0;
}

int wl_db_begin(struct wl_db *db, struct wl_err *err)
{
	return wl_db_exec(db, "BEGIN IMMEDIATE", err);
}

int wl_db_commit(struct wl_db *db, struct wl_err *err)
{
	return wl_db_exec(db, "COMMIT", err);
}

void wl_db_rollback(struct wl_db *db)
{
	if (db && db->h && !sqlite3_get_autocommit(db->h))
		sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
}

int wl_db_prepare(struct wl_db *db, sqlite3_stmt **stmt, const char *sql, struct wl_err *err)
{
	*stmt = NULL;
	if (sqlite3_prepare_v2(db->h, sql, -1, stmt, NULL) != SQLITE_OK)
		return wl_db_err(db, err, sql);
	return 0;
}

static int bind_list(
	struct wl_db *db, sqlite3_stmt *stmt, struct wl_err *err, const char *fmt, va_list ap)
{
	int n = sqlite3_bind_parameter_count(stmt);
	int rc = SQLITE_OK, i = 0;

	if ((size_t)n != strlen(fmt))
		WL_BUG("%zu values for %d parameters of: %s", strlen(fmt), n, sqlite3_sql(stmt));
	/* A statement that was not stepped to its end cannot be bound again. */
	sqlite3_reset(stmt);
	for (const char *f = fmt; *f && rc == SQLITE_OK; f++) {
		i++;
		switch (*f) {
		case 'i':
			rc = sqlite3_bind_int64(stmt, i, va_arg(ap, int64_t));
			break;
		case 'd':
			rc = sqlite3_bind_double(stmt, i, va_arg(ap, double));
			break;
		case 's':
			rc = sqlite3_bind_text(
				stmt, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
			break;
		case 'b': {
			const void *p = va_arg(ap, const void *);
			size_t len = va_arg(ap, size_t);

			/* An empty blob is not NULL. */
			rc = sqlite3_bind_blob64(stmt, i, p || len ? p : "", len, SQLITE_STATIC);
			break;
		}
		case 'n':
			rc = sqlite3_bind_null(stmt, i);
			break;
		default:
			WL_BUG("'%c' is not a kind of value that wl_db_bind knows", *f);
		}
	}
	return rc == SQLITE_OK ? 0 : wl_db_err(db, err, sqlite3_sql(stmt));
}

int wl_db_bind(struct wl_db *db, sqlite3_stmt *stmt, struct wl_err *err, const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = bind_list(db, stmt, err, fmt, ap);
	va_end(ap);
	return ret;
}

int wl_db_step(struct wl_db *db, sqlite3_stmt *stmt, struct wl_err *err)
{
	int rc = sqlite3_step(stmt);

	if (rc == SQLITE_ROW)
		return 1;
	if (rc != SQLITE_DONE)
		wl_db_err(db, err, sqlite3_sql(stmt));
	sqlite3_reset(stmt);
	return rc == SQLITE_DONE ? 0 : -1;
}

int wl_db_run(struct wl_db *db, sqlite3_stmt *stmt, struct wl_err *err, const char *fmt, ...)
{
	va_list ap;
	int ret, rc;

	va_start(ap, fmt);
	ret = bind_list(db, stmt, err, fmt, ap);
	va_end(ap);
	WL_TRY(ret);
	do {
		rc = wl_db_step(db, stmt, err);
	} while (rc > 0);
	return rc;
}

int wl_db_int(struct wl_db *db, int64_t fallback, int64_t *out, struct wl_err *err, const char *sql)
{
	sqlite3_stmt *stmt;
	int rc;

	WL_TRY(wl_db_prepare(db, &stmt, sql, err));
	rc = wl_db_step(db, stmt, err);
	if (rc >= 0)
		*out = rc && sqlite3_column_type(stmt, 0) != SQLITE_NULL
			       ? sqlite3_column_int64(stmt, 0)
			       : fallback;
	sqlite3_finalize(stmt);
	return rc < 0 ? -1 : 0;
}
