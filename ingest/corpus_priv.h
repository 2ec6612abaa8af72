/* Between the files of the corpus module; not for other folders. */
#ifndef WL_INGEST_CORPUS_PRIV_H
#define WL_INGEST_CORPUS_PRIV_H

#include "ingest/corpus.h"

#include <pthread.h>

/* Open raw segments for readers: a descriptor is shared while it has users, and the least
 * recently used idle one makes room. */
enum { WL_CORPUS_FDS = 32 };
struct wl_corpus_fd {
	int fd; /* -1: empty */
	int partition, segment, users;
	uint64_t used_at;
};

struct wl_corpus {
	char *dir;
	int partitions;
	uint64_t seed;
	json_t *root; /* corpus.json */
	pthread_mutex_t lock; /* over fds and clock */
	struct wl_corpus_fd fds[WL_CORPUS_FDS];
	uint64_t clock;
};

enum { WL_LANE_STMTS = 9, WL_LANE_FETCH_STMTS = 16 };

struct wl_lane_other {
	struct wl_db db;
	sqlite3_stmt *get;
};

struct wl_lane {
	struct wl_corpus *c;
	int partition, lock;
	struct wl_db db;
	sqlite3_stmt *stmt[WL_LANE_STMTS];
	bool in_batch;
	bool may_have, may_wait; /* false: `pair`, `pending` is empty */
	int segment, fd;       /* the open segment; fd -1: none opened yet */
	char *segment_path;    /* of fd */
	int64_t length;	       /* of the segment with what is in `pending` */
	int64_t synced;	       /* of the segment, as the last sync left it */
	int64_t started;       /* so far it is on its way to the disk */
	int64_t segment_bytes; /* sealed past this */
	struct wl_buf pending; /* not yet written */
	sqlite3_stmt *fetch_stmt[WL_LANE_FETCH_STMTS]; /* of corpus_fetch.c */
	struct wl_lane_other *others; /* [partitions]: catalogs of other lanes, once looked into */
	char *position;	       /* what wl_lane_position lent out */
};

/* corpus_lane.c: opens the batch's transaction; writes the bytes and fills in partition, place
 * and hash of *p; the row alone. */
WL_MUST_CHECK int wl_lane_begin(struct wl_lane *l, struct wl_err *err);
WL_MUST_CHECK int wl_lane_write_image(struct wl_lane *l, struct wl_pair *p, const void *image,
	size_t n, struct wl_err *err);
WL_MUST_CHECK int wl_lane_insert(struct wl_lane *l, const struct wl_pair *p, struct wl_err *err);
/* corpus_fetch.c: its tables; a pair that came with its picture after all waits no more. */
extern const char wl_lane_fetch_schema[];
WL_MUST_CHECK int wl_lane_forget_pending(struct wl_lane *l, int64_t id, struct wl_err *err);
/* Ends reads that are under way: an open one keeps the WAL from being folded in. */
void wl_lane_fetch_reset(struct wl_lane *l);
void wl_lane_fetch_release(struct wl_lane *l);

/* DIR/part-PPPPP and a file in it; to be freed. */
char *wl_corpus_part_dir(const struct wl_corpus *c, int partition, struct wl_err *err);
char *wl_corpus_part_file(const struct wl_corpus *c, int partition, const char *name,
	struct wl_err *err);
char *wl_corpus_segment_path(const struct wl_corpus *c, int partition, int segment,
	struct wl_err *err);
/* corpus_read.c: a lane's catalog to read from, by one thread at a time; db->h is NULL where there
 * is none yet, which is no error: no origin fell into the lane, or it was killed before it had
 * tables. */
WL_MUST_CHECK int wl_catalog_open(
	struct wl_corpus *c, int partition, struct wl_db *db, struct wl_err *err);
/* corpus_read.c: a column's text, "" for NULL. */
const char *wl_corpus_text(sqlite3_stmt *s, int i);
/* Where a picture's bytes are and what they are, from six columns, i on: what struct wl_pair and
 * struct wl_fetch have in common. */
#define WL_READ_STORED(out, s, i)                                                                  \
	do {                                                                                       \
		(out)->segment = sqlite3_column_int((s), (i));                                     \
		(out)->offset = sqlite3_column_int64((s), (i) + 1);                                \
		(out)->length = sqlite3_column_int64((s), (i) + 2);                                \
		(out)->format = wl_corpus_text((s), (i) + 3);                                      \
		(out)->width = sqlite3_column_int((s), (i) + 4);                                   \
		(out)->height = sqlite3_column_int((s), (i) + 5);                                  \
	} while (0)
/* WL_BUG unless 0 <= partition < partitions. */
void wl_corpus_check_lane(const struct wl_corpus *c, int partition);

#endif
