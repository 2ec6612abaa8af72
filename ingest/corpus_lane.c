/*
 * Writing one lane.
 *
 * The order that makes it survive a kill at any moment: image bytes go to the raw segment, the
 * segment is synced, then one SQLite transaction commits the rows, the segment's length and the
 * origin's position.  Before the commit the bytes are a tail that the next opening cuts off.
 */
#include "ingest/corpus_priv.h"

#include "ops/file.h"
#include "ops/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	TAR_BLOCK = 512,
	SEGMENT_BYTES = 1 << 30,
	WRITE_BUFFER = 1 << 20,
	WRITE_THROUGH = 64 << 10,
	WRITE_BEHIND = 4 << 20,
	QUARANTINE_BYTES = 1 << 20,
};

static const char SCHEMA[] =
	"CREATE TABLE IF NOT EXISTS pair(id INTEGER NOT NULL, source TEXT NOT NULL,"
	" url TEXT NOT NULL, page_url TEXT NOT NULL, texts TEXT NOT NULL, split_hint TEXT NOT NULL,"
	" image_sha256 BLOB NOT NULL, segment INTEGER NOT NULL, \"offset\" INTEGER NOT NULL,"
	" length INTEGER NOT NULL, format TEXT NOT NULL, width INTEGER NOT NULL,"
	" height INTEGER NOT NULL, boxes TEXT, fetched_at INTEGER NOT NULL, meta TEXT NOT NULL);"
	"CREATE TABLE IF NOT EXISTS \"offset\"(origin TEXT PRIMARY KEY, position TEXT NOT NULL)"
	" WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS quarantine(origin TEXT NOT NULL, position TEXT NOT NULL,"
	" reason TEXT NOT NULL, bytes BLOB, PRIMARY KEY(origin, position));"
	"CREATE TABLE IF NOT EXISTS tally(origin TEXT NOT NULL, class TEXT NOT NULL,"
	" n INTEGER NOT NULL, PRIMARY KEY(origin, class)) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS segment(id INTEGER PRIMARY KEY, length INTEGER NOT NULL,"
	" sealed INTEGER NOT NULL);"
	"CREATE TABLE IF NOT EXISTS lane(version INTEGER NOT NULL);";

enum {
	STMT_HAS,
	STMT_PAIR,
	STMT_QUARANTINE,
	STMT_RELEASE,
	STMT_REFUSED,
	STMT_TALLY,
	STMT_WHERE,
	STMT_POSITION,
	STMT_SEGMENT,
	N_STMT
};
static const char *const STMT_SQL[N_STMT] = {
	[STMT_HAS] = "SELECT 1 FROM pair WHERE id = ?",
	[STMT_PAIR] = "INSERT INTO pair VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
	[STMT_QUARANTINE] = "INSERT OR REPLACE INTO quarantine VALUES(?,?,?,?)",
	[STMT_RELEASE] = "DELETE FROM quarantine WHERE origin = ? AND position = ?",
	[STMT_REFUSED] = "SELECT position, bytes FROM quarantine WHERE origin = ? AND position > ?"
			 " ORDER BY position LIMIT 1",
	[STMT_TALLY] = "INSERT INTO tally VALUES(?,?,?) ON CONFLICT(origin, class)"
		       " DO UPDATE SET n = n + excluded.n",
	[STMT_WHERE] = "SELECT position FROM \"offset\" WHERE origin = ?",
	[STMT_POSITION] = "INSERT OR REPLACE INTO \"offset\" VALUES(?,?)",
	[STMT_SEGMENT] = "INSERT OR REPLACE INTO segment VALUES(?,?,?)",
};
_Static_assert((int)N_STMT == (int)WL_LANE_STMTS, "corpus_priv.h has room for the statements");

/* What was written starts on its way to the disk at once, so that the sync before a commit finds
 * most of it there; it is a hint, and may fail. */
static void start_writing(struct wl_lane *l, int64_t upto)
{
	if (upto - l->started < WRITE_BEHIND)
		return;
	(void)sync_file_range(l->fd, l->started, upto - l->started, SYNC_FILE_RANGE_WRITE);
	l->started = upto;
}

static int lane_flush(struct wl_lane *l, struct wl_err *err)
{
	if (!l->pending.len)
		return 0;
	WL_TRY(wl_pwrite_full(l->fd, l->pending.data, l->pending.len,
		l->length - (int64_t)l->pending.len, l->segment_path, err));
	wl_buf_reset(&l->pending);
	start_writing(l, l->length);
	return 0;
}

/* What is pending and n bytes more, in one call. */
static int lane_write_through(struct wl_lane *l, const void *p, size_t n, struct wl_err *err)
{
	size_t before = l->pending.len;
	struct iovec v[2] = {{l->pending.data, before}, {(void *)(uintptr_t)p, n}};
	int64_t at = l->length - (int64_t)before;
	ssize_t got = pwritev(l->fd, v, 2, at);
	/* A short write (a full disk, a signal) is finished, or explained, the usual way. */
	if (got != (ssize_t)(before + n)) {
		WL_TRY(lane_flush(l, err));
		WL_TRY(wl_pwrite_full(l->fd, p, n, l->length, l->segment_path, err));
	}
	wl_buf_reset(&l->pending);
	start_writing(l, l->length + (int64_t)n);
	return 0;
}

/* Appends bytes, or zeros when p is NULL. */
static int lane_append(struct wl_lane *l, const void *p, size_t n, struct wl_err *err)
{
	static const uint8_t zeros[2 * TAR_BLOCK];
	if (l->pending.len + n > WRITE_BUFFER)
		WL_TRY(lane_flush(l, err));
	/* Copying a large one into the buffer would cost more than a call. */
	if (n > WRITE_THROUGH) {
		WL_TRY(lane_write_through(l, p, n, err));
	} else {
		WL_TRY(wl_buf_add(&l->pending, p ? p : zeros, n, err));
	}
	l->length += (int64_t)n;
	return 0;
}

static int lane_sync(struct wl_lane *l, struct wl_err *err)
{
	WL_TRY(lane_flush(l, err));
	if (l->synced == l->length)
		return 0;
	if (fdatasync(l->fd))
		return wl_err_errno(err, "%s cannot be synced", l->segment_path);
	l->synced = l->length;
	return 0;
}

static void lane_close_segment(struct wl_lane *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	free(l->segment_path);
	l->segment_path = NULL;
}

/* Opens segment `segment`, which holds `length` committed bytes, and cuts off any more. */
static int lane_open_segment(struct wl_lane *l, int segment, int64_t length, struct wl_err *err)
{
	struct stat st;
	l->segment = segment;
	l->length = l->synced = l->started = length;
	l->segment_path = wl_corpus_segment_path(l->c, l->partition, segment, err);
	if (!l->segment_path)
		return -1;
	l->fd = open(l->segment_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (l->fd < 0 || fstat(l->fd, &st))
		return wl_err_errno(err, "%s cannot be opened for writing", l->segment_path);
	if (st.st_size < length)
		return wl_err_set(err, WL_EDATA,
			"%s has %lld bytes, its catalog counts on %lld: committed images are lost; "
			"restore the file from a copy",
			l->segment_path, (long long)st.st_size, (long long)length);
	if (st.st_size > length && ftruncate(l->fd, length))
		return wl_err_errno(
			err, "%s cannot be cut to %lld bytes", l->segment_path, (long long)length);
	/* A new name must be on disk before rows point into it. */
	if (length == 0) {
		char *dir = wl_corpus_part_dir(l->c, l->partition, err);
		int ret = dir ? wl_fsync_dir(dir, err) : -1;
		free(dir);
		return ret;
	}
	return 0;
}

/* The last segment of the catalog; files after it were never committed to. */
static int lane_recover(struct wl_lane *l, struct wl_err *err)
{
	int64_t last, length, sealed;
	WL_TRY(wl_db_int(&l->db, 0, &last, err, "SELECT max(id) FROM segment"));
	WL_TRY(wl_db_int(
		&l->db, 0, &length, err, "SELECT length FROM segment ORDER BY id DESC LIMIT 1"));
	WL_TRY(wl_db_int(
		&l->db, 0, &sealed, err, "SELECT sealed FROM segment ORDER BY id DESC LIMIT 1"));
	for (int s = (int)last + 1;; s++) {
		char *path = wl_corpus_segment_path(l->c, l->partition, s, err);
		bool there = path && wl_exists(path);
		int ret = !path ? -1 : there ? wl_remove_tree(path, err) : 0;
		free(path);
		WL_TRY(ret);
		if (!there)
			break;
	}
	if (sealed)
		return lane_open_segment(l, (int)last + 1, 0, err);
	return lane_open_segment(l, (int)last, length, err);
}

/* Ids are hashes: a table in their order would have a page of it written for every pair, so rows
 * stand in the order they came, and only the index is in order of id.  Catalogs of before have
 * the id as the key of the table itself, which serves as well. */
static int lane_index(struct wl_lane *l, const char *table, struct wl_err *err)
{
	char sql[160];
	int64_t key;
	snprintf(
		sql, sizeof sql, "SELECT pk FROM pragma_table_info('%s') WHERE name = 'id'", table);
	WL_TRY(wl_db_int(&l->db, 0, &key, err, sql));
	if (key)
		return 0;
	snprintf(
		sql, sizeof sql, "CREATE UNIQUE INDEX IF NOT EXISTS %s_id ON %s(id)", table, table);
	return wl_db_exec(&l->db, sql, err);
}

static int lane_schema(struct wl_lane *l, struct wl_err *err)
{
	int64_t version, some;
	WL_TRY(wl_db_exec(&l->db, SCHEMA, err));
	WL_TRY(wl_db_exec(&l->db, wl_lane_fetch_schema, err));
	WL_TRY(lane_index(l, "pair", err));
	WL_TRY(lane_index(l, "pending", err));
	WL_TRY(wl_db_int(&l->db, 0, &some, err, "SELECT 1 FROM pending LIMIT 1"));
	l->may_wait = some;
	WL_TRY(wl_db_int(&l->db, 0, &some, err, "SELECT 1 FROM pair LIMIT 1"));
	l->may_have = some;
	WL_TRY(wl_db_int(&l->db, 0, &version, err, "SELECT max(version) FROM lane"));
	if (version == 0)
		return wl_db_exec(&l->db, "INSERT INTO lane VALUES(1)", err);
	if (version != WL_CORPUS_VERSION)
		return wl_err_set(err, WL_EDATA,
			"%s has version %lld, this program knows version %d", l->db.path,
			(long long)version, WL_CORPUS_VERSION);
	return 0;
}

/* Ids are hashes, so every batch touches pages all over the indexes: a cache that holds a batch's
 * pages until the commit saves writing them twice.  All lanes together may have 128 MB, as a
 * topic opens many; folding the log back in is for every 32 MB of it. */
static int lane_cache(struct wl_lane *l, struct wl_err *err)
{
	enum { ALL_KB = 128 << 10, MOST_KB = 64 << 10, LEAST_KB = 4 << 10 };
	char sql[128];
	int kb = ALL_KB / l->c->partitions;
	kb = kb > MOST_KB ? MOST_KB : kb < LEAST_KB ? LEAST_KB : kb;
	snprintf(sql, sizeof sql, "PRAGMA cache_size=-%d; PRAGMA wal_autocheckpoint=8192", kb);
	return wl_db_exec(&l->db, sql, err);
}

static int lane_open(struct wl_lane *l, struct wl_err *err)
{
	char *dir = wl_corpus_part_dir(l->c, l->partition, err);
	char *lock = wl_corpus_part_file(l->c, l->partition, "lock", err);
	char *db = wl_corpus_part_file(l->c, l->partition, "catalog.db", err);
	int ret = -1;
	if (!dir || !lock || !db)
		goto out;
	WL_TRY_OUT(wl_mkdir_p(dir, err));
	WL_TRY_OUT(wl_fsync_dir(l->c->dir, err));
	l->lock = wl_lock_try(lock, false, err);
	if (l->lock == WL_LOCK_BUSY)
		ret = WL_LOCK_BUSY;
	if (l->lock < 0)
		goto out;
	WL_TRY_OUT(wl_db_open(&l->db, db, WL_DB_WRITE_BY_ONE, err));
	WL_TRY_OUT(lane_cache(l, err));
	WL_TRY_OUT(lane_schema(l, err));
	for (int i = 0; i < N_STMT; i++)
		WL_TRY_OUT(wl_db_prepare(&l->db, &l->stmt[i], STMT_SQL[i], err));
	ret = lane_recover(l, err);
out:
	free(dir);
	free(lock);
	free(db);
	return ret;
}

int wl_lane_try_open(struct wl_corpus *c, int partition, struct wl_lane **out, struct wl_err *err)
{
	struct wl_lane *l = calloc(1, sizeof *l);
	*out = NULL;
	if (!l)
		return wl_err_nomem(err, "a lane", sizeof *l);
	wl_corpus_check_lane(c, partition);
	l->c = c;
	l->partition = partition;
	l->lock = l->fd = -1;
	l->segment_bytes = SEGMENT_BYTES;
	wl_buf_init(&l->pending, WRITE_BUFFER);
	int ret = lane_open(l, err);
	if (ret < 0) {
		wl_lane_close(l);
		return ret == WL_LOCK_BUSY ? 0 : -1;
	}
	*out = l;
	return 1;
}

struct wl_lane *wl_lane_open(struct wl_corpus *c, int partition, struct wl_err *err)
{
	struct wl_lane *l;
	if (wl_lane_try_open(c, partition, &l, err) == 0)
		wl_err_set(err, WL_EFAIL,
			"%s/part-%05d/lock is locked by another process: wait for it to end, or "
			"stop it",
			c->dir, partition);
	return l;
}

int wl_lane_want(struct wl_corpus *c, int partition, struct wl_err *err)
{
	char *dir = wl_corpus_part_dir(c, partition, err);
	char *path = wl_corpus_part_file(c, partition, "wanted", err);
	int fd = dir && path && wl_mkdir_p(dir, err) == 0 ? wl_lock_try(path, true, err) : -1;
	free(dir);
	free(path);
	return fd;
}

bool wl_lane_is_wanted(struct wl_lane *l)
{
	char *path = wl_corpus_part_file(l->c, l->partition, "wanted", NULL);
	int fd = path && wl_exists(path) ? wl_lock_try(path, false, NULL) : -1;
	free(path);
	if (fd >= 0)
		close(fd);
	return fd == WL_LOCK_BUSY;
}

void wl_lane_close(struct wl_lane *l)
{
	if (!l)
		return;
	wl_db_rollback(&l->db);
	for (int i = 0; i < N_STMT; i++)
		sqlite3_finalize(l->stmt[i]);
	wl_lane_fetch_release(l);
	wl_db_close(&l->db);
	lane_close_segment(l);
	wl_buf_release(&l->pending);
	free(l->position);
	if (l->lock >= 0)
		close(l->lock);
	free(l);
}

void wl_lane_segment_bytes(struct wl_lane *l, int64_t bytes)
{
	l->segment_bytes = bytes;
}

int wl_lane_position(
	struct wl_lane *l, const char *origin, const char **position, struct wl_err *err)
{
	sqlite3_stmt *s = l->stmt[STMT_WHERE];
	WL_TRY(wl_db_bind(&l->db, s, err, "s", origin));
	int row = wl_db_step(&l->db, s, err);
	WL_TRY(row);
	free(l->position);
	l->position = wl_strf(err, "%s", row ? (const char *)sqlite3_column_text(s, 0) : "");
	sqlite3_reset(s);
	if (!l->position)
		return -1;
	*position = l->position;
	return 0;
}

int wl_lane_begin(struct wl_lane *l, struct wl_err *err)
{
	if (l->in_batch)
		return 0;
	WL_TRY(wl_db_begin(&l->db, err));
	l->in_batch = true;
	return 0;
}

static int lane_put_segment(struct wl_lane *l, int sealed, struct wl_err *err)
{
	return wl_db_run(&l->db, l->stmt[STMT_SEGMENT], err, "iii", (int64_t)l->segment, l->length,
		(int64_t)sealed);
}

/* Two zero blocks end a tar; the next image goes to a new one. */
static int lane_seal(struct wl_lane *l, struct wl_err *err)
{
	WL_TRY(lane_append(l, NULL, 2 * TAR_BLOCK, err));
	WL_TRY(lane_sync(l, err));
	WL_TRY(lane_put_segment(l, 1, err));
	lane_close_segment(l);
	return lane_open_segment(l, l->segment + 1, 0, err);
}

static void put_octal(char *out, int digits, size_t v)
{
	for (; digits-- > 0; v >>= 3)
		out[digits] = (char)('0' + (v & 7));
}

/* A POSIX ustar header with nothing in it that differs between two runs. */
static void tar_header(char h[TAR_BLOCK], const char *name, size_t size)
{
	unsigned sum = 0;
	memset(h, 0, TAR_BLOCK);
	memcpy(h, name, strnlen(name, 99));
	memcpy(h + 100,
		"0000644\0"
		"0000000\0"
		"0000000\0",
		24); /* mode, uid, gid */
	put_octal(h + 124, 11, size);
	memcpy(h + 136, "00000000000", 12); /* mtime */
	memset(h + 148, ' ', 8);
	h[156] = '0'; /* a plain file */
	memcpy(h + 257,
		"ustar\0"
		"00",
		8);
	for (int i = 0; i < TAR_BLOCK; i++)
		sum += (unsigned char)h[i];
	put_octal(h + 148, 6, sum);
	h[154] = '\0';
	h[155] = ' ';
}

static int write_hashed(
	struct wl_lane *l, struct wl_pair *p, const void *image, size_t n, struct wl_err *err)
{
	char h[TAR_BLOCK], name[WL_PAIR_NAME], member[WL_PAIR_NAME + 16];
	size_t pad = (TAR_BLOCK - n % TAR_BLOCK) % TAR_BLOCK;
	if (l->length && l->length + (int64_t)(TAR_BLOCK + n + pad) > l->segment_bytes)
		WL_TRY(lane_seal(l, err));
	p->partition = l->partition;
	wl_pair_name(l->partition, p->id, name);
	strcat(strcpy(member, name), ".");
	strncat(member, strcmp(p->format, "jpeg") == 0 ? "jpg" : p->format, 10);
	tar_header(h, member, n);
	p->segment = l->segment;
	p->offset = l->length + TAR_BLOCK;
	p->length = (int64_t)n;
	WL_TRY(lane_append(l, h, TAR_BLOCK, err));
	WL_TRY(lane_append(l, image, n, err));
	return lane_append(l, NULL, pad, err);
}

int wl_lane_write_image(
	struct wl_lane *l, struct wl_pair *p, const void *image, size_t n, struct wl_err *err)
{
	wl_sha256(image, n, p->image_sha256);
	return write_hashed(l, p, image, n, err);
}

int wl_lane_has(struct wl_lane *l, int64_t id, struct wl_err *err)
{
	sqlite3_stmt *s = l->stmt[STMT_HAS];
	WL_TRY(wl_db_bind(&l->db, s, err, "i", id));
	int row = wl_db_step(&l->db, s, err);
	sqlite3_reset(s);
	return row;
}

int wl_lane_insert(struct wl_lane *l, const struct wl_pair *p, struct wl_err *err)
{
	l->may_have = true;
	return wl_db_run(&l->db, l->stmt[STMT_PAIR], err, "isssssbiiisiisis", p->id, p->source,
		p->url, p->page_url, p->texts, p->split_hint, (const void *)p->image_sha256,
		sizeof p->image_sha256, (int64_t)p->segment, p->offset, p->length, p->format,
		(int64_t)p->width, (int64_t)p->height, p->boxes, p->fetched_at, p->meta);
}

int wl_lane_add(
	struct wl_lane *l, struct wl_pair *p, const void *image, size_t n, struct wl_err *err)
{
	wl_sha256(image, n, p->image_sha256);
	return wl_lane_add_hashed(l, p, image, n, err);
}

int wl_lane_add_hashed(
	struct wl_lane *l, struct wl_pair *p, const void *image, size_t n, struct wl_err *err)
{
	WL_TRY(wl_lane_begin(l, err));
	int has = l->may_have ? wl_lane_has(l, p->id, err) : 0;
	WL_TRY(has);
	if (has)
		return 0;
	if (l->may_wait)
		WL_TRY(wl_lane_forget_pending(l, p->id, err));
	WL_TRY(write_hashed(l, p, image, n, err));
	WL_TRY(wl_lane_insert(l, p, err));
	return 1;
}

int wl_lane_quarantine(struct wl_lane *l, const char *origin, const char *position,
	const char *reason, const void *bytes, size_t n, struct wl_err *err)
{
	WL_TRY(wl_lane_begin(l, err));
	if (n > QUARANTINE_BYTES)
		n = QUARANTINE_BYTES;
	return wl_db_run(
		&l->db, l->stmt[STMT_QUARANTINE], err, "sssb", origin, position, reason, bytes, n);
}

int wl_lane_unquarantine(
	struct wl_lane *l, const char *origin, const char *position, struct wl_err *err)
{
	WL_TRY(wl_lane_begin(l, err));
	return wl_db_run(&l->db, l->stmt[STMT_RELEASE], err, "ss", origin, position);
}

int wl_lane_next_refused(struct wl_lane *l, const char *origin, const char *after, char **place,
	struct wl_buf *bytes, bool *whole, struct wl_err *err)
{
	sqlite3_stmt *s = l->stmt[STMT_REFUSED];
	WL_TRY(wl_db_bind(&l->db, s, err, "ss", origin, after));
	int row = wl_db_step(&l->db, s, err);
	if (row > 0) {
		const void *p = sqlite3_column_blob(s, 1);
		size_t n = (size_t)sqlite3_column_bytes(s, 1);
		*whole = n < QUARANTINE_BYTES;
		*place = wl_strf(err, "%s", (const char *)sqlite3_column_text(s, 0));
		wl_buf_reset(bytes);
		if (!*place || wl_buf_add(bytes, p ? p : "", n, err) < 0)
			row = -1;
	}
	sqlite3_reset(s);
	return row;
}

int wl_lane_tally(
	struct wl_lane *l, const char *origin, const char *class, int64_t n, struct wl_err *err)
{
	WL_TRY(wl_lane_begin(l, err));
	return wl_db_run(&l->db, l->stmt[STMT_TALLY], err, "ssi", origin, class, n);
}

/* Bytes first, then the rows that point at them, in one transaction. */
static int lane_commit(struct wl_lane *l, struct wl_err *err)
{
	wl_lane_fetch_reset(l);
	WL_TRY(lane_sync(l, err));
	WL_TRY(lane_put_segment(l, 0, err));
	WL_TRY(wl_db_commit(&l->db, err));
	l->in_batch = false;
	return 0;
}

int wl_lane_put_position(
	struct wl_lane *l, const char *origin, const char *position, struct wl_err *err)
{
	WL_TRY(wl_lane_begin(l, err));
	return wl_db_run(&l->db, l->stmt[STMT_POSITION], err, "ss", origin, position);
}

int wl_lane_commit(struct wl_lane *l, const char *origin, const char *position, struct wl_err *err)
{
	WL_TRY(wl_lane_put_position(l, origin, position, err));
	return lane_commit(l, err);
}

int wl_lane_commit_fetches(struct wl_lane *l, struct wl_err *err)
{
	return l->in_batch ? lane_commit(l, err) : 0;
}
