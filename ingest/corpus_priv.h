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

/* DIR/part-PPPPP and a file in it; to be freed. */
char *wl_corpus_part_dir(const struct wl_corpus *c, int partition, struct wl_err *err);
char *wl_corpus_part_file(const struct wl_corpus *c, int partition, const char *name,
	struct wl_err *err);
char *wl_corpus_segment_path(const struct wl_corpus *c, int partition, int segment,
	struct wl_err *err);
/* WL_BUG unless 0 <= partition < partitions. */
void wl_corpus_check_lane(const struct wl_corpus *c, int partition);

#endif
