/*
 * The bytes of a set's samples, by one pread a sample (its three members are neighbours): see
 * shard.h.
 *
 * A set may have more shards than a process may have files open, so descriptors are opened on
 * first use and the least recently used idle one is closed; a read holds its shard while
 * it runs, so any number of threads may read.
 */
#include "shards/shard_priv.h"

#include "ops/file.h"
#include "ops/path.h"
#include "shards/places.h"
#include "shards/shard_db.h"
#include "shards/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPEN_MAX_SHARDS = 256, REST_MAX_BYTES = 64 << 20 };

struct wl_set_shard *wl_shard_of(const struct wl_shardset *s, int64_t i)
{
	size_t lo = 0, hi = s->n_shards;

	if (i < 0 || i >= s->n)
		WL_BUG("sample %lld of %lld", (long long)i, (long long)s->n);
	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->shards[mid].first <= i)
			lo = mid;
		else
			hi = mid;
	}
	return &s->shards[lo];
}

/* ---- bytes ---- */

/* Closes the idle shard that was used longest ago; with the lock held. */
static void close_one(struct wl_shardset *s)
{
	struct wl_set_shard *oldest = NULL;

	for (size_t i = 0; i < s->n_shards; i++) {
		struct wl_set_shard *sh = &s->shards[i];

		if (sh->fd >= 0 && !sh->readers && (!oldest || sh->used < oldest->used))
			oldest = sh;
	}
	if (oldest) {
		close(oldest->fd);
		oldest->fd = -1;
		s->n_open--;
	}
}

/* The shard's descriptor, held open until release_fd. */
static int acquire_fd(
	struct wl_shardset *s, struct wl_set_shard *sh, const char *path, struct wl_err *err)
{
	int fd, saved = 0;

	pthread_mutex_lock(&s->lock);
	if (sh->fd < 0) {
		if (s->n_open >= OPEN_MAX_SHARDS)
			close_one(s);
		sh->fd = open(path, O_RDONLY | O_CLOEXEC);
		saved = errno;
		if (sh->fd >= 0)
			s->n_open++;
	}
	fd = sh->fd;
	if (fd >= 0) {
		sh->readers++;
		sh->used = ++s->clock;
	}
	pthread_mutex_unlock(&s->lock);
	if (fd < 0) {
		errno = saved;
		return wl_path_failed(path, "opened", NULL, err);
	}
	return fd;
}

static void release_fd(struct wl_shardset *s, struct wl_set_shard *sh)
{
	pthread_mutex_lock(&s->lock);
	sh->readers--;
	pthread_mutex_unlock(&s->lock);
}

/* Where the shard's samples lie; read once. */
static const uint32_t *places_of(struct wl_shardset *s, struct wl_set_shard *sh, struct wl_err *err)
{
	uint32_t *v, *mine = NULL;

	pthread_mutex_lock(&s->lock);
	v = sh->places;
	pthread_mutex_unlock(&s->lock);
	if (v)
		return v;
	mine = s->remote ? wl_remote_places(s->remote, (size_t)(sh - s->shards), err)
			 : wl_places_read(s->dir, &sh->info, err);
	pthread_mutex_lock(&s->lock);
	if (mine && !sh->places) {
		sh->places = mine;
		mine = NULL;
	}
	v = sh->places;
	pthread_mutex_unlock(&s->lock);
	free(mine); /* another thread was faster */
	return v;
}

/* n bytes of an open file at `from`, added to out. */
static int read_fd(
	int fd, const char *path, int64_t from, int64_t n, struct wl_buf *out, struct wl_err *err)
{
	WL_TRY(wl_buf_reserve(out, (size_t)n, err));
	WL_TRY(wl_pread_full(fd, out->data + out->len, (size_t)n, from, path, err));
	out->len += (size_t)n;
	return 0;
}

/* n bytes of the shard's tar from `from` on, added to out. */
static int read_span(struct wl_shardset *s, struct wl_set_shard *sh, int64_t from, int64_t n,
	struct wl_buf *out, struct wl_err *err)
{
	size_t k = (size_t)(sh - s->shards);
	char *path = s->remote ? wl_remote_path(s->remote, k)
			       : wl_strf(err, "%s/%s.tar", s->dir, sh->info.name);
	int fd = path ? acquire_fd(s, sh, path, s->remote ? NULL : err) : -1, rc = -1;

	if (fd >= 0) {
		rc = read_fd(fd, path, from, n, out, err);
		release_fd(s, sh);
	} else if (s->remote) {
		if (path)
			wl_remote_forget(s->remote, k);
		rc = wl_remote_range(s->remote, k, from, n, out, err);
	}
	free(path);
	return rc;
}

/* ---- samples ---- */

/* The header at byte `at` of what was read of a sample: the member's length, which lies inside. */
static int member_at(const struct wl_buf *b, size_t at, const char *key, int member, size_t whole,
	int64_t *length, struct wl_err *err)
{
	char name[WL_TAR_NAME], want[WL_TAR_NAME];
	const char *wrong = "the members do not fill its place";

	snprintf(want, sizeof want, "%s.%s", key, wl_member_ext[member]);
	if (at + WL_TAR_BLOCK <= b->len)
		wrong = wl_tar_parse((const uint8_t *)b->data + at, name, length);
	if (!wrong && strcmp(name, want))
		return wl_err_set(err, WL_EDATA,
			"expected the member %s where the index points, found %s; tar and index "
			"are not of one set, or damaged: run wenlan-shard repair",
			want, name);
	if (!wrong && *length > (int64_t)(whole - at - WL_TAR_BLOCK))
		wrong = "a member reaches past its place";
	return !wrong ? 0
		      : wl_err_set(err, WL_EDATA, "%s (member %s); run wenlan-shard verify", wrong,
				want);
}

/* Gives out the members that follow the picture: `b` holds them from `at` on. */
static int give_texts(const struct wl_buf *b, size_t at, const char *key, struct wl_buf *txt,
	struct wl_buf *json, struct wl_err *err)
{
	struct wl_buf *out[WL_MEMBERS] = {NULL, txt, json};
	int64_t n = 0;

	for (int m = WL_MEMBER_TXT; m < WL_MEMBERS; m++) {
		WL_TRY(member_at(b, at, key, m, b->len, &n, err));
		if (out[m]) {
			wl_buf_reset(out[m]);
			WL_TRY(wl_buf_add(out[m], b->data + at + WL_TAR_BLOCK, (size_t)n, err));
		}
		at += WL_TAR_BLOCK + (size_t)wl_tar_padded(n);
	}
	if (at != b->len)
		return wl_err_set(err, WL_EDATA,
			"its members end %zu bytes before the next sample; run wenlan-shard verify",
			b->len - at);
	return 0;
}

/* All that the tar has of sample i. */
static int read_extent(struct wl_shardset *s, int64_t i, struct wl_buf *out, struct wl_err *err)
{
	struct wl_set_shard *sh = wl_shard_of(s, i);
	const uint32_t *place = places_of(s, sh, err);

	if (!place)
		return -1;
	place += i - sh->first;
	wl_buf_reset(out);
	return read_span(s, sh, (int64_t)place[0] * WL_TAR_BLOCK,
		(int64_t)(place[1] - place[0]) * WL_TAR_BLOCK, out, err);
}

int wl_shard_fetch_ahead(void *ctx, int64_t number, struct wl_buf *out, struct wl_err *err)
{
	return read_extent(ctx, number, out, err);
}

void wl_shardset_ahead(struct wl_shardset *s, int64_t i)
{
	char *here;

	if (!s->ahead)
		return;
	here = wl_remote_path(s->remote, (size_t)(wl_shard_of(s, i) - s->shards));
	if (!here)
		wl_ahead_want(s->ahead, i);
	free(here);
}

/* The whole sample in one read, into the picture's buffer. */
static int read_whole(struct wl_shardset *s, int64_t i, const char *key, struct wl_buf *jpg,
	struct wl_buf *json, struct wl_err *err)
{
	size_t max = jpg->max;
	int64_t n = 0;
	int rc;

	rc = s->ahead ? wl_ahead_take(s->ahead, i, jpg, err) : 0;
	if (rc == 0) {
		jpg->max = max + REST_MAX_BYTES; /* the bound is meant for the picture alone */
		rc = read_extent(s, i, jpg, err);
		jpg->max = max;
	}
	WL_TRY(rc);
	WL_TRY(member_at(jpg, 0, key, WL_MEMBER_JPG, jpg->len, &n, err));
	if ((size_t)n > max)
		return wl_err_set(err, WL_EDATA, "its picture has %lld bytes, more than %zu",
			(long long)n, max);
	WL_TRY(give_texts(jpg, WL_TAR_BLOCK + (size_t)wl_tar_padded(n), key, NULL, json, err));
	memmove(jpg->data, jpg->data + WL_TAR_BLOCK, (size_t)n);
	jpg->len = (size_t)n;
	jpg->data[n] = 0;
	return 0;
}

/* What follows the picture, without reading that. */
static int read_texts(struct wl_shardset *s, int64_t i, const char *key, struct wl_buf *txt,
	struct wl_buf *json, struct wl_err *err)
{
	struct wl_set_shard *sh = wl_shard_of(s, i);
	const uint32_t *place = places_of(s, sh, err);
	int64_t from, all, n = 0, skip;
	struct wl_buf b;
	int ret = -1;

	if (!place)
		return -1;
	place += i - sh->first;
	from = (int64_t)place[0] * WL_TAR_BLOCK;
	all = (int64_t)(place[1] - place[0]) * WL_TAR_BLOCK;
	wl_buf_init(&b, REST_MAX_BYTES);
	WL_TRY_OUT(read_span(s, sh, from, WL_TAR_BLOCK, &b, err));
	WL_TRY_OUT(member_at(&b, 0, key, WL_MEMBER_JPG, (size_t)all, &n, err));
	skip = WL_TAR_BLOCK + wl_tar_padded(n);
	wl_buf_reset(&b);
	if (all > skip)
		WL_TRY_OUT(read_span(s, sh, from + skip, all - skip, &b, err));
	ret = give_texts(&b, 0, key, txt, json, err);
out:
	wl_buf_release(&b);
	return ret;
}

static int read_sample(struct wl_shardset *s, int64_t i, struct wl_buf *jpg, struct wl_buf *txt,
	struct wl_buf *json, struct wl_err *err)
{
	char key[WL_KEY_MAX];
	int rc;

	if (s->foreign)
		return wl_foreign_read(s->foreign, i, jpg, txt, json, err);
	wl_shardset_key(s, i, key);
	rc = jpg ? read_whole(s, i, key, jpg, json, err) : read_texts(s, i, key, txt, json, err);
	if (rc < 0 && err) {
		wl_err_prefix(err, "sample %s in %s", key, s->at);
		/* What a network loses is no fault of the sample, nor what a server cannot do. */
		if (!s->remote || (err->code != WL_ERETRY && err->code != WL_EUSAGE))
			err->code = WL_EDATA;
	}
	return rc;
}

int wl_shardset_read(struct wl_shardset *s, int64_t i, struct wl_buf *jpg, struct wl_buf *json,
	struct wl_err *err)
{
	return read_sample(s, i, jpg, NULL, json, err);
}

int wl_shardset_read_text(struct wl_shardset *s, int64_t i, struct wl_buf *txt, struct wl_err *err)
{
	return read_sample(s, i, NULL, txt, NULL, err);
}
