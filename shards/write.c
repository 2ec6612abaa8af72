/*
 * Writing one shard.  The caller's thread makes headers and fills chunks; a hasher, which other
 * writers may share, hashes them; a thread of the writer's own writes them, and at the end seals:
 * sync the tar, finish NAME.db, rename the database and then the tar (a tar under its final name
 * has its database beside it), sync the directory.  The ring bounds what is in flight; its
 * hand-over is the only thing shared.
 */
#include "shards/write.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "shards/hasher.h"
#include "shards/shard_db.h"
#include "shards/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* ALIGN: what writing past the page cache asks of memory, offsets and lengths. */
enum { CHUNK = 4 << 20, RING = 4, ALIGN = 4096, HUGE_PAGE = 2 << 20 };

struct chunk {
	uint8_t *bytes; /* [CHUNK] */
	size_t used;
};

struct wl_shard_writer {
	struct wl_shard_info info;
	char *dir, *tar, *tar_tmp, *db_path, *db_tmp;
	char plan[65];
	int fd;
	bool direct; /* fd is past the page cache */
	struct wl_shard_db db;
	int64_t pos; /* bytes handed over so far */

	pthread_t writer;
	bool writer_runs;
	pthread_mutex_t lock;
	pthread_cond_t moved; /* one of the counts or flags below changed */
	struct chunk ring[RING];
	uint8_t *memory;	/* of the chunks, aligned */
	size_t filled, written; /* chunks; written <= filled <= written + RING */
	bool ending, abandoned;
	bool failed, sealed;
	struct wl_err err;	      /* of the thread, valid once failed */
	struct wl_hasher *own_hasher; /* unless one is shared */
	struct wl_hash_stream hash;
};

/* ---- the thread ---- */

/* Waits for the next chunk to be written; NULL: there are no more. */
static struct chunk *next_chunk(struct wl_shard_writer *w)
{
	struct chunk *c = NULL;

	pthread_mutex_lock(&w->lock);
	while (w->written == w->filled && !w->ending)
		pthread_cond_wait(&w->moved, &w->lock);
	if (w->written < w->filled && !w->abandoned)
		c = &w->ring[w->written % RING];
	pthread_mutex_unlock(&w->lock);
	return c;
}

/* Counts a chunk as done; err: why it failed, or NULL. */
static void done_with_chunk(struct wl_shard_writer *w, const struct wl_err *err)
{
	pthread_mutex_lock(&w->lock);
	if (err && !w->failed) {
		w->err = *err;
		w->failed = true;
	}
	w->written++;
	pthread_cond_broadcast(&w->moved);
	pthread_mutex_unlock(&w->lock);
}

/* From here on through the page cache: this file system takes nothing else. */
static int leave_direct(struct wl_shard_writer *w, struct wl_err *err)
{
	int flags = fcntl(w->fd, F_GETFL);

	if (flags < 0 || fcntl(w->fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return wl_err_errno(err, "%s: writing through the page cache failed", w->tar_tmp);
	w->direct = false;
	return 0;
}

/* Writes past the page cache: the bytes are not wanted again soon, and copying them there, and from
 * there to the disk later, costs a third of packing.  The last chunk is padded; seal cuts it off.
 */
static int write_direct(struct wl_shard_writer *w, struct chunk *c, int64_t at, struct wl_err *err)
{
	size_t n = (c->used + ALIGN - 1) / ALIGN * ALIGN, done = 0;

	memset(c->bytes + c->used, 0, n - c->used);
	while (done < n) {
		ssize_t got = pwrite(w->fd, c->bytes + done, n - done, at + (off_t)done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || got % ALIGN)
			break;
		done += (size_t)got;
	}
	if (done == n)
		return 0;
	WL_TRY(leave_direct(w, err)); /* which also gives the true error, if it is one */
	return wl_pwrite_full(w->fd, c->bytes, c->used, at, w->tar_tmp, err);
}

static int write_chunk(struct wl_shard_writer *w, struct chunk *c, int64_t at, struct wl_err *err)
{
	if (w->direct)
		return write_direct(w, c, at, err);
	WL_TRY(wl_pwrite_full(w->fd, c->bytes, c->used, at, w->tar_tmp, err));
	/* Starts the disk now, so that the sync at the end finds little left to do. */
	sync_file_range(w->fd, at, (off_t)c->used, SYNC_FILE_RANGE_WRITE);
	return 0;
}

static int rename_or_err(const char *from, const char *to, struct wl_err *err)
{
	if (rename(from, to) < 0)
		return wl_err_errno(err, "%s: renaming it to %s failed", from, to);
	return 0;
}

static int seal(struct wl_shard_writer *w, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	int rc;

	if (w->direct && ftruncate(w->fd, w->info.bytes) < 0)
		return wl_err_errno(err, "%s: cutting it to its length failed", w->tar_tmp);
	if (fsync(w->fd) < 0)
		return wl_err_errno(err, "%s: syncing it to the disk failed", w->tar_tmp);
	rc = close(w->fd);
	w->fd = -1;
	if (rc < 0)
		return wl_err_errno(err, "%s: closing it failed", w->tar_tmp);
	wl_hash_stream_digest(&w->hash, digest);
	wl_hex(digest, sizeof digest, w->info.sha256);
	w->info.sealed_at = time(NULL);
	WL_TRY(wl_shard_db_finish(&w->db, &w->info, w->plan, err));
	WL_TRY(rename_or_err(w->db_tmp, w->db_path, err));
	WL_TRY(rename_or_err(w->tar_tmp, w->tar, err));
	return wl_fsync_dir(w->dir, err);
}

static void *writer_thread(void *arg)
{
	struct wl_shard_writer *w = arg;
	struct wl_err err = WL_ERR_INIT;
	struct chunk *c;
	int64_t at = 0;
	bool ok = true;

	while ((c = next_chunk(w))) {
		ok = ok && write_chunk(w, c, at, &err) == 0;
		at += (int64_t)c->used;
		done_with_chunk(w, ok ? NULL : &err);
	}
	pthread_mutex_lock(&w->lock);
	ok = !w->failed && !w->abandoned;
	pthread_mutex_unlock(&w->lock);
	if (!ok)
		return NULL;
	ok = seal(w, &err) == 0;
	pthread_mutex_lock(&w->lock);
	if (!ok)
		w->err = err;
	w->failed = !ok;
	w->sealed = ok;
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* ---- the caller's side ---- */

/* Hands the chunk that is being filled over and waits for a free one. */
static int hand_over(struct wl_shard_writer *w, struct wl_err *err)
{
	struct chunk *c = &w->ring[w->filled % RING];
	bool failed;

	wl_hash_stream_give(&w->hash, c->bytes, c->used);
	pthread_mutex_lock(&w->lock);
	w->filled++;
	pthread_cond_broadcast(&w->moved);
	while (w->filled - w->written >= RING)
		pthread_cond_wait(&w->moved, &w->lock);
	failed = w->failed;
	pthread_mutex_unlock(&w->lock);
	wl_hash_stream_wait(&w->hash, RING - 1);
	c = &w->ring[w->filled % RING];
	c->used = 0;
	if (failed)
		return wl_err_set(err, w->err.code, "%s", w->err.msg);
	return 0;
}

static int put(struct wl_shard_writer *w, const void *bytes, size_t n, struct wl_err *err)
{
	const uint8_t *p = bytes;

	while (n) {
		struct chunk *c = &w->ring[w->filled % RING];
		size_t room = CHUNK - c->used, take = n < room ? n : room;

		memcpy(c->bytes + c->used, p, take);
		c->used += take;
		w->pos += (int64_t)take;
		p += take;
		n -= take;
		if (take == room)
			WL_TRY(hand_over(w, err));
	}
	return 0;
}

static int put_member(struct wl_shard_writer *w, const char *key, const char *ext,
	const void *bytes, size_t n, int64_t *offset, struct wl_err *err)
{
	static const uint8_t zeros[WL_TAR_BLOCK];
	uint8_t header[WL_TAR_BLOCK];
	char name[WL_KEY_MAX + 8], *end = stpcpy(name, key);

	*end = '.';
	stpcpy(end + 1, ext);
	WL_TRY(wl_tar_header(header, name, (int64_t)n, err));
	WL_TRY(put(w, header, sizeof header, err));
	*offset = w->pos;
	WL_TRY(put(w, bytes, n, err));
	return put(w, zeros, (size_t)(wl_tar_padded((int64_t)n) - (int64_t)n), err);
}

int wl_shard_writer_add(struct wl_shard_writer *w, const struct wl_sample *s, struct wl_err *err)
{
	const void *bytes[WL_MEMBERS] = {s->jpg, s->txt, s->json};
	struct wl_shard_row row = {.index = w->info.samples,
		.pair_id = s->pair_id,
		.length = {(int64_t)s->jpg_len, (int64_t)strlen(s->txt), (int64_t)strlen(s->json)},
		.width = s->width,
		.height = s->height,
		.topic = s->topic,
		.source = s->source,
		.url = s->url};

	if (w->info.samples >= WL_SHARD_SAMPLES_MAX)
		return wl_err_set(err, WL_EUSAGE,
			"shard %s already has %d samples, all that a key's six digits can "
			"number: choose a smaller --shard-size",
			w->info.name, WL_SHARD_SAMPLES_MAX);
	snprintf(row.key, sizeof row.key, "%s_%06d", w->info.name, (int)row.index);
	if (s->jpg_sha256)
		memcpy(row.sha256, s->jpg_sha256, sizeof row.sha256);
	else
		wl_sha256(s->jpg, s->jpg_len, row.sha256);
	for (int m = 0; m < WL_MEMBERS; m++)
		WL_TRY(put_member(w, row.key, wl_member_ext[m], bytes[m], (size_t)row.length[m],
			&row.offset[m], err));
	WL_TRY(wl_shard_db_add(&w->db, &row, err));
	w->info.samples++;
	return 0;
}

int wl_shard_writer_reject(
	struct wl_shard_writer *w, int64_t pair_id, const char *reason, struct wl_err *err)
{
	WL_TRY(wl_shard_db_reject(&w->db, pair_id, reason, err));
	w->info.rejected++;
	return 0;
}

static int open_files(struct wl_shard_writer *w, struct wl_err *err)
{
	w->tar = wl_strf(err, "%s/%s.tar", w->dir, w->info.name);
	w->tar_tmp = wl_strf(err, "%s/%s.tar.tmp", w->dir, w->info.name);
	w->db_path = wl_strf(err, "%s/%s.db", w->dir, w->info.name);
	w->db_tmp = wl_strf(err, "%s/%s.db.tmp", w->dir, w->info.name);
	if (!w->tar || !w->tar_tmp || !w->db_path || !w->db_tmp)
		return -1;
	w->fd = open(w->tar_tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0666);
	w->direct = w->fd >= 0;
	if (!w->direct && errno == EINVAL) /* tmpfs has no such thing */
		w->fd = open(w->tar_tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (w->fd < 0)
		return wl_err_errno(err, "%s cannot be created", w->tar_tmp);
	return wl_shard_db_create(&w->db, w->db_tmp, err);
}

static int open_hash(struct wl_shard_writer *w, struct wl_hasher *shared, struct wl_err *err)
{
	if (!shared)
		shared = w->own_hasher = wl_hasher_new(err);
	return shared ? wl_hash_stream_open(&w->hash, shared, err) : -1;
}

struct wl_shard_writer *wl_shard_writer_new(
	const char *dir, const char *split, int64_t number, const char *plan, struct wl_err *err)
{
	return wl_shard_writer_new_beside(NULL, dir, split, number, plan, err);
}

struct wl_shard_writer *wl_shard_writer_new_beside(struct wl_hasher *hasher, const char *dir,
	const char *split, int64_t number, const char *plan, struct wl_err *err)
{
	struct wl_shard_writer *w = calloc(1, sizeof *w);

	if (!w) {
		wl_err_nomem(err, "a shard writer", sizeof *w);
		return NULL;
	}
	w->fd = -1;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->moved, NULL);
	snprintf(w->plan, sizeof w->plan, "%s", plan);
	w->dir = wl_strf(err, "%s", dir);
	w->memory = aligned_alloc(HUGE_PAGE, (size_t)RING * CHUNK);
	if (!w->memory) {
		wl_err_nomem(err, "a shard writer", (size_t)RING * CHUNK);
		goto fail;
	}
	/* Fewer pages to fault in here, and to pin for each write; not having them does no harm. */
	(void)madvise(w->memory, (size_t)RING * CHUNK, MADV_HUGEPAGE);
	for (size_t i = 0; i < RING; i++)
		w->ring[i].bytes = w->memory + i * CHUNK;
	if (!w->dir || wl_shard_name(w->info.name, split, number, err) < 0)
		goto fail;
	snprintf(w->info.split, sizeof w->info.split, "%s", split);
	if (open_files(w, err) < 0 || open_hash(w, hasher, err) < 0)
		goto fail;
	w->writer_runs = !pthread_create(&w->writer, NULL, writer_thread, w);
	if (w->writer_runs)
		return w;
	wl_err_set(err, WL_EFAIL, "a thread to write shard %s cannot be started", w->info.name);
fail:
	wl_shard_writer_free(w);
	return NULL;
}

static void end_input(struct wl_shard_writer *w, bool abandoned)
{
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	w->abandoned = abandoned;
	pthread_cond_broadcast(&w->moved);
	pthread_mutex_unlock(&w->lock);
}

static void join(struct wl_shard_writer *w)
{
	if (w->writer_runs)
		pthread_join(w->writer, NULL);
	w->writer_runs = false;
}

void wl_shard_writer_finish(struct wl_shard_writer *w)
{
	static const uint8_t zeros[2 * WL_TAR_BLOCK];
	int rc = put(w, zeros, sizeof zeros, NULL);

	if (rc == 0 && w->ring[w->filled % RING].used > 0)
		rc = hand_over(w, NULL);
	(void)rc; /* the thread that failed keeps its error for wl_shard_writer_wait */
	w->info.bytes = w->pos;
	wl_hash_stream_end(&w->hash);
	end_input(w, false);
}

int wl_shard_writer_wait(struct wl_shard_writer *w, struct wl_shard_info *out, struct wl_err *err)
{
	join(w);
	if (!w->sealed)
		return wl_err_set(err, w->err.code, "%s", w->err.msg);
	*out = w->info;
	return 0;
}

void wl_shard_writer_free(struct wl_shard_writer *w)
{
	if (!w)
		return;
	end_input(w, true);
	join(w);
	wl_hash_stream_close(&w->hash);
	wl_hasher_free(w->own_hasher);
	wl_shard_db_release(&w->db);
	if (w->fd >= 0)
		close(w->fd);
	if (!w->sealed && w->tar_tmp)
		unlink(w->tar_tmp);
	if (!w->sealed && w->db_tmp)
		unlink(w->db_tmp);
	pthread_cond_destroy(&w->moved);
	pthread_mutex_destroy(&w->lock);
	free(w->memory);
	free(w->dir);
	free(w->tar);
	free(w->tar_tmp);
	free(w->db_path);
	free(w->db_tmp);
	free(w);
}
