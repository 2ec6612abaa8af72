/*
 * Writing one shard.  The caller's thread makes headers and fills chunks; the writer's own
 * thread hashes and writes them, and at the end seals: sync the tar, finish NAME.db, rename
 * the database and then the tar (a tar under its final name has its database beside it), sync
 * the directory.  The ring bounds what is in flight; its hand-over is the only thing shared.
 */
#include "shards/write.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "shards/shard_db.h"
#include "shards/tar.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, RING = 4 };

struct wl_shard_writer {
	struct wl_shard_info info;
	char *dir, *tar, *tar_tmp, *db_path, *db_tmp;
	char plan[65];
	int fd;
	struct wl_shard_db db;
	int64_t pos; /* bytes handed over so far */

	pthread_t thread;
	bool thread_runs;
	pthread_mutex_t lock;
	pthread_cond_t filled, emptied;
	uint8_t *ring; /* [RING, CHUNK] */
	size_t used[RING];
	size_t head,
		tail; /* chunks taken by the thread, chunks filled; head <= tail <= head+RING */
	bool ending, abandoned;
	bool failed, sealed;
	struct wl_err err; /* the thread's, valid once failed */
	struct wl_sha256 sha;
};

/* ---- the writing thread ---- */

static int write_chunk(struct wl_shard_writer *w, const uint8_t *p, size_t n, int64_t at)
{
	WL_TRY(wl_pwrite_full(w->fd, p, n, at, w->tar_tmp, &w->err));
	/* Starts the disk now, so that the sync at the end finds little left to do. */
	sync_file_range(w->fd, at, (off_t)n, SYNC_FILE_RANGE_WRITE);
	wl_sha256_add(&w->sha, p, n);
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

	if (fsync(w->fd) < 0)
		return wl_err_errno(err, "%s: syncing it to the disk failed", w->tar_tmp);
	rc = close(w->fd);
	w->fd = -1;
	if (rc < 0)
		return wl_err_errno(err, "%s: closing it failed", w->tar_tmp);
	wl_sha256_final(&w->sha, digest);
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
	int64_t at = 0;
	bool ok = true, abandoned;

	for (;;) {
		size_t slot, n;

		pthread_mutex_lock(&w->lock);
		while (w->head == w->tail && !w->ending)
			pthread_cond_wait(&w->filled, &w->lock);
		abandoned = w->abandoned;
		if (w->head == w->tail || abandoned) {
			pthread_mutex_unlock(&w->lock);
			break;
		}
		slot = w->head % RING;
		n = w->used[slot];
		pthread_mutex_unlock(&w->lock);
		if (ok)
			ok = write_chunk(w, w->ring + slot * CHUNK, n, at) == 0;
		at += (int64_t)n;
		pthread_mutex_lock(&w->lock);
		w->failed = !ok;
		w->head++;
		pthread_cond_signal(&w->emptied);
		pthread_mutex_unlock(&w->lock);
	}
	if (ok && !abandoned) {
		ok = seal(w, &w->err) == 0;
		pthread_mutex_lock(&w->lock);
		w->failed = !ok;
		w->sealed = ok;
		pthread_mutex_unlock(&w->lock);
	}
	return NULL;
}

/* ---- the caller's side ---- */

/* Hands the chunk that is being filled over and waits for a free one. */
static int hand_over(struct wl_shard_writer *w, struct wl_err *err)
{
	bool failed;

	pthread_mutex_lock(&w->lock);
	w->tail++;
	pthread_cond_signal(&w->filled);
	while (w->tail - w->head >= RING)
		pthread_cond_wait(&w->emptied, &w->lock);
	failed = w->failed;
	pthread_mutex_unlock(&w->lock);
	w->used[w->tail % RING] = 0;
	if (failed)
		return wl_err_set(err, w->err.code, "%s", w->err.msg);
	return 0;
}

static int put(struct wl_shard_writer *w, const void *bytes, size_t n, struct wl_err *err)
{
	const uint8_t *p = bytes;

	while (n) {
		size_t slot = w->tail % RING, room = CHUNK - w->used[slot];
		size_t take = n < room ? n : room;

		memcpy(w->ring + slot * CHUNK + w->used[slot], p, take);
		w->used[slot] += take;
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
	char name[WL_KEY_MAX + 8];

	snprintf(name, sizeof name, "%s.%s", key, ext);
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
	for (int m = 0; m < WL_MEMBERS; m++)
		WL_TRY(put_member(w, row.key, wl_member_ext[m], bytes[m], (size_t)row.length[m],
			&row.offset[m], err));
	if (s->jpg_sha256)
		memcpy(row.sha256, s->jpg_sha256, sizeof row.sha256);
	else
		wl_sha256(s->jpg, s->jpg_len, row.sha256);
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
	w->fd = open(w->tar_tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (w->fd < 0)
		return wl_err_errno(err, "%s cannot be created", w->tar_tmp);
	return wl_shard_db_create(&w->db, w->db_tmp, err);
}

struct wl_shard_writer *wl_shard_writer_new(
	const char *dir, const char *split, int64_t number, const char *plan, struct wl_err *err)
{
	struct wl_shard_writer *w = calloc(1, sizeof *w);

	if (!w) {
		wl_err_nomem(err, "a shard writer", sizeof *w);
		return NULL;
	}
	w->fd = -1;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->filled, NULL);
	pthread_cond_init(&w->emptied, NULL);
	snprintf(w->plan, sizeof w->plan, "%s", plan);
	w->dir = wl_strf(err, "%s", dir);
	w->ring = malloc((size_t)RING * CHUNK);
	if (!w->ring) {
		wl_err_nomem(err, "a shard writer", (size_t)RING * CHUNK);
		goto fail;
	}
	if (!w->dir || wl_shard_name(w->info.name, split, number, err) < 0)
		goto fail;
	snprintf(w->info.split, sizeof w->info.split, "%s", split);
	if (wl_sha256_init(&w->sha, err) < 0 || open_files(w, err) < 0)
		goto fail;
	if (pthread_create(&w->thread, NULL, writer_thread, w)) {
		wl_err_set(err, WL_EFAIL, "a thread to write shard %s cannot be started",
			w->info.name);
		goto fail;
	}
	w->thread_runs = true;
	return w;
fail:
	wl_shard_writer_free(w);
	return NULL;
}

static void end_input(struct wl_shard_writer *w, bool abandoned)
{
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	w->abandoned = abandoned;
	pthread_cond_signal(&w->filled);
	pthread_mutex_unlock(&w->lock);
}

void wl_shard_writer_finish(struct wl_shard_writer *w)
{
	static const uint8_t zeros[2 * WL_TAR_BLOCK];
	int rc = put(w, zeros, sizeof zeros, NULL);

	if (rc == 0 && w->used[w->tail % RING] > 0)
		rc = hand_over(w, NULL);
	(void)rc; /* the thread keeps its error for wl_shard_writer_wait */
	w->info.bytes = w->pos;
	end_input(w, false);
}

int wl_shard_writer_wait(struct wl_shard_writer *w, struct wl_shard_info *out, struct wl_err *err)
{
	pthread_join(w->thread, NULL);
	w->thread_runs = false;
	if (!w->sealed)
		return wl_err_set(err, w->err.code, "%s", w->err.msg);
	*out = w->info;
	return 0;
}

void wl_shard_writer_free(struct wl_shard_writer *w)
{
	if (!w)
		return;
	if (w->thread_runs) {
		end_input(w, true);
		pthread_join(w->thread, NULL);
	}
	wl_shard_db_release(&w->db);
	if (w->fd >= 0)
		close(w->fd);
	if (!w->sealed && w->tar_tmp)
		unlink(w->tar_tmp);
	if (!w->sealed && w->db_tmp)
		unlink(w->db_tmp);
	wl_sha256_release(&w->sha);
	pthread_cond_destroy(&w->emptied);
	pthread_cond_destroy(&w->filled);
	pthread_mutex_destroy(&w->lock);
	free(w->ring);
	free(w->dir);
	free(w->tar);
	free(w->tar_tmp);
	free(w->db_path);
	free(w->db_tmp);
	free(w);
}
