/*
 * Reading shards: the manifest in memory, where the samples lie as they are asked for, the bytes by
 * one pread a sample (its three members are neighbours).
 *
 * A set may have more shards than a process may have files open, so descriptors are opened on
 * first use and the least recently used idle one is closed; a read holds its shard while
 * it runs, so any number of threads may read.
 */
#include "shards/shard.h"

#include "ops/file.h"
#include "shards/ahead.h"
#include "shards/foreign.h"
#include "shards/manifest.h"
#include "shards/places.h"
#include "shards/remote.h"
#include "shards/shard_db.h"
#include "shards/tar.h"
#include "shards/web.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPEN_MAX_SHARDS = 256, REST_MAX_BYTES = 64 << 20 };
/* Of a set elsewhere: requests under way, and bytes that wait for who announced them. */
enum { AHEAD_THREADS = 24, AHEAD_BYTES = 128 << 20, AHEAD_ONE_BYTES = 128 << 20 };

struct shard {
	struct wl_shard_info info;
	int64_t first;	  /* number of its sample 0 in the split */
	uint32_t *places; /* [samples + 1] (places.h); NULL: not read yet */
	int fd;		  /* -1: not open */
	int readers;
	uint64_t used; /* clock of the last use */
};

struct wl_shardset {
	char *dir, *at;		  /* where its databases lie; as it was named */
	struct wl_remote *remote; /* NULL: all of it is in dir */
	struct wl_ahead *ahead;	  /* with remote */
	char split[WL_SPLIT_MAX];
	char fingerprint[65];
	struct wl_foreign *foreign; /* tars without a manifest; then there are no shards */
	struct shard *shards;	    /* [n_shards] by name */
	size_t n_shards, n_open;
	int64_t n;
	int64_t *dead; /* [n_dead] samples taken down, ascending */
	int64_t n_dead;
	pthread_mutex_t lock; /* places, fd, readers, used, n_open, clock */
	uint64_t clock;
};

/* ---- opening ---- */

/* Why a set has no such split, as an error. */
static int no_split(
	const struct wl_manifest *m, const char *dir, const char *split, struct wl_err *err)
{
	char have[256] = "";
	const char *last = "";

	for (size_t i = 0; i < m->n; i++) {
		size_t used = strlen(have);

		if (strcmp(m->shards[i].split, last))
			snprintf(have + used, sizeof have - used, "%s%s", used ? ", " : "",
				m->shards[i].split);
		last = m->shards[i].split;
	}
	return wl_err_set(err, WL_EDATA,
		"%s/manifest.db lists no shard of the split \"%s\"; it has %s", dir, split,
		*have ? have : "none at all");
}

static int pick_shards(struct wl_shardset *s, const struct wl_manifest *m, struct wl_err *err)
{
	s->shards = calloc(m->n ? m->n : 1, sizeof *s->shards);
	if (!s->shards)
		return wl_err_nomem(err, "a shard set", m->n * sizeof *s->shards);
	for (size_t i = 0; i < m->n; i++)
		if (!strcmp(m->shards[i].split, s->split)) {
			s->shards[s->n_shards++] =
				(struct shard){.info = m->shards[i], .first = s->n, .fd = -1};
			s->n += m->shards[i].samples;
		}
	return s->n_shards ? 0 : no_split(m, s->at, s->split, err);
}

/* The tar must be there, as long as it was sealed. */
static int check_size(const struct wl_shardset *s, const struct shard *sh, struct wl_err *err)
{
	char *tar = wl_strf(err, "%s/%s.tar", s->dir, sh->info.name);
	int64_t size = tar ? wl_file_size(tar, err) : -1;

	if (tar && size < 0 && !wl_exists(tar))
		wl_err_set(err, WL_EDATA,
			"%s is missing, though the set's manifest.db names it: run wenlan-shard "
			"--corpus again, which packs only what is missing, or, where the manifest "
			"is another set's, wenlan-shard repair",
			tar);
	else if (tar && size < 0 && err && err->code == WL_EFAIL)
		err->code = WL_EDATA;
	if (size >= 0 && size != sh->info.bytes)
		size = wl_err_set(err, WL_EDATA,
			"%s has %lld bytes, the manifest says %lld; the shard is damaged: remove "
			"it and run wenlan-shard --corpus again, which packs only what is "
			"missing",
			tar, (long long)size, (long long)sh->info.bytes);
	free(tar);
	return size < 0 ? -1 : 0;
}

static struct shard *shard_named(const struct wl_shardset *s, const char *name)
{
	size_t lo = 0, hi = s->n_shards;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int d = strcmp(s->shards[mid].info.name, name);

		if (!d)
			return &s->shards[mid];
		if (d < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* The manifest's take-downs as numbers of samples. */
static int bury(struct wl_shardset *s, const struct wl_manifest *m, struct wl_err *err)
{
	if (!m->n_dead)
		return 0;
	s->dead = malloc(m->n_dead * sizeof *s->dead);
	if (!s->dead)
		return wl_err_nomem(err, "the list of take-downs", m->n_dead * sizeof *s->dead);
	for (size_t i = 0; i < m->n_dead; i++) {
		const struct shard *sh = shard_named(s, m->dead[i].shard);

		if (sh && m->dead[i].index >= 0 && m->dead[i].index < sh->info.samples)
			s->dead[s->n_dead++] = sh->first + m->dead[i].index;
	}
	qsort(s->dead, (size_t)s->n_dead, sizeof *s->dead, wl_by_id);
	return 0;
}

static int fetch_ahead(void *ctx, int64_t number, struct wl_buf *out, struct wl_err *err);

static int start_remote(struct wl_shardset *s, struct wl_err *err)
{
	struct wl_shard_info *infos = calloc(s->n_shards, sizeof *infos);
	int rc;

	if (!infos)
		return wl_err_nomem(err, "a shard set", s->n_shards * sizeof *infos);
	for (size_t i = 0; i < s->n_shards; i++)
		infos[i] = s->shards[i].info;
	rc = wl_remote_start(s->remote, infos, s->n_shards, err);
	free(infos);
	WL_TRY(rc);
	s->ahead = wl_ahead_new(AHEAD_THREADS, AHEAD_BYTES, AHEAD_ONE_BYTES, fetch_ahead, s, err);
	return s->ahead ? 0 : -1;
}

/* Tars of another writer: whatever is asked of the set is asked of their index. */
static int open_foreign(struct wl_shardset *s, struct wl_err *err)
{
	s->foreign = wl_foreign_open(s->dir, s->split, err);
	if (!s->foreign)
		return -1;
	s->n = wl_foreign_size(s->foreign);
	snprintf(s->fingerprint, sizeof s->fingerprint, "%s", wl_foreign_fingerprint(s->foreign));
	return 0;
}

static int open_set(struct wl_shardset *s, const struct wl_shard_place *at, struct wl_err *err)
{
	struct wl_manifest m = {0};
	int ret = -1;

	s->at = wl_strf(err, "%s", at->at);
	if (!s->at)
		return -1;
	if (wl_web_is_url(at->at) && !(s->remote = wl_remote_open(at, err)))
		return -1;
	s->dir = wl_strf(err, "%s", s->remote ? wl_remote_dir(s->remote) : at->at);
	if (!s->dir)
		return -1;
	if (!s->remote && wl_foreign_is(s->dir))
		return open_foreign(s, err);
	WL_TRY_OUT(wl_manifest_read(&m, s->dir, err));
	WL_TRY_OUT(pick_shards(s, &m, err));
	for (size_t i = 0; i < s->n_shards && !s->remote; i++)
		WL_TRY_OUT(check_size(s, &s->shards[i], err));
	WL_TRY_OUT(bury(s, &m, err));
	memcpy(s->fingerprint, m.fingerprint, sizeof s->fingerprint);
	ret = s->remote ? start_remote(s, err) : 0;
out:
	wl_manifest_release(&m);
	return ret;
}

struct wl_shardset *wl_shardset_open_at(
	const struct wl_shard_place *at, const char *split, struct wl_err *err)
{
	struct wl_shardset *s = calloc(1, sizeof *s);

	if (!s) {
		wl_err_nomem(err, "a shard set", sizeof *s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	snprintf(s->split, sizeof s->split, "%s", split);
	if (open_set(s, at, err) == 0)
		return s;
	wl_shardset_close(s);
	return NULL;
}

struct wl_shardset *wl_shardset_open(const char *dir, const char *split, struct wl_err *err)
{
	return wl_shardset_open_at(&(struct wl_shard_place){.at = dir}, split, err);
}

int wl_shard_manifest(const struct wl_shard_place *at, struct wl_manifest *m, struct wl_err *err)
{
	struct wl_remote *r;
	int rc;

	if (!wl_web_is_url(at->at))
		return wl_manifest_read(m, at->at, err);
	*m = (struct wl_manifest){0};
	r = wl_remote_open(at, err);
	rc = r ? wl_manifest_read(m, wl_remote_dir(r), err) : -1;
	wl_remote_close(r);
	return rc;
}

void wl_shardset_close(struct wl_shardset *s)
{
	if (!s)
		return;
	if (s->remote)
		wl_remote_stop(s->remote);
	wl_ahead_free(s->ahead);
	wl_remote_close(s->remote);
	for (size_t i = 0; i < s->n_shards; i++) {
		if (s->shards[i].fd >= 0)
			close(s->shards[i].fd);
		free(s->shards[i].places);
	}
	pthread_mutex_destroy(&s->lock);
	wl_foreign_close(s->foreign);
	free(s->shards);
	free(s->dead);
	free(s->dir);
	free(s->at);
	free(s);
}

/* ---- facts ---- */

int64_t wl_shardset_size(const struct wl_shardset *s)
{
	return s->n;
}

const int64_t *wl_shardset_dead_samples(const struct wl_shardset *s, int64_t *n)
{
	*n = s->n_dead;
	return s->dead;
}

bool wl_shardset_dead(const struct wl_shardset *s, int64_t i)
{
	return s->n_dead && bsearch(&i, s->dead, (size_t)s->n_dead, sizeof *s->dead, wl_by_id);
}

int wl_shardset_pair_ids(struct wl_shardset *s, int64_t *out, struct wl_err *err)
{
	for (int64_t i = 0; s->foreign && i < s->n; i++)
		out[i] = i;
	for (size_t i = 0; i < s->n_shards; i++) {
		if (s->remote)
			WL_TRY(wl_remote_db(s->remote, i, err));
		WL_TRY(wl_places_pair_ids(
			s->dir, &s->shards[i].info, out + s->shards[i].first, err));
	}
	return 0;
}

/* The sources of one shard's samples. */
static int shard_sources(const struct wl_shardset *s, const struct shard *sh, wl_source_fn *fn,
	void *ctx, struct wl_err *err)
{
	struct wl_shard_rows rows;
	struct wl_shard_row r;
	int64_t i = 0;
	int rc;

	WL_TRY(wl_shard_rows_open(&rows, s->dir, sh->info.name, err));
	while ((rc = wl_shard_rows_next(&rows, &r, err)) > 0 && i < sh->info.samples) {
		if (fn(ctx, sh->first + i++, r.source, err) < 0) {
			rc = -1;
			break;
		}
	}
	if (rc >= 0 && (rc > 0 || i != sh->info.samples))
		rc = wl_err_set(err, WL_EDATA,
			"%s, table sample, does not have the %lld rows that the manifest says: run "
			"wenlan-shard repair",
			rows.db.path, (long long)sh->info.samples);
	wl_shard_rows_close(&rows);
	return rc;
}

int wl_shardset_sources(struct wl_shardset *s, wl_source_fn *fn, void *ctx, struct wl_err *err)
{
	char source[256];

	for (int64_t i = 0; s->foreign && i < s->n; i++)
		WL_TRY(fn(ctx, i, wl_foreign_source(s->foreign, i, source, sizeof source), err));
	for (size_t i = 0; i < s->n_shards; i++) {
		if (s->remote)
			WL_TRY(wl_remote_db(s->remote, i, err));
		WL_TRY(shard_sources(s, &s->shards[i], fn, ctx, err));
	}
	return 0;
}

const char *wl_shardset_fingerprint(const struct wl_shardset *s)
{
	return s->fingerprint;
}

/* The shard that holds sample i: the last one that begins at or before it and is not empty. */
static struct shard *shard_of(const struct wl_shardset *s, int64_t i)
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

void wl_shardset_key(const struct wl_shardset *s, int64_t i, char out[WL_KEY_MAX])
{
	const struct shard *sh;

	if (s->foreign) {
		snprintf(out, WL_KEY_MAX, "%s", wl_foreign_key(s->foreign, i));
		return;
	}
	sh = shard_of(s, i);
	snprintf(out, WL_KEY_MAX, "%s_%06d", sh->info.name, (int)(i - sh->first));
}

int64_t wl_shardset_find(const struct wl_shardset *s, const char *key)
{
	const char *mark = strrchr(key, '_');
	char name[WL_SHARD_NAME_MAX];
	const struct shard *sh;
	int64_t index;

	if (!mark || strlen(mark + 1) != 6 || strspn(mark + 1, "0123456789") != 6)
		return -1;
	index = atoll(mark + 1);
	snprintf(name, sizeof name, "%.*s", (int)(mark - key), key);
	sh = mark - key < (long)sizeof name ? shard_named(s, name) : NULL;
	return sh && index < sh->info.samples ? sh->first + index : -1;
}

/* ---- bytes ---- */

/* Closes the idle shard that was used longest ago; with the lock held. */
static void close_one(struct wl_shardset *s)
{
	struct shard *oldest = NULL;

	for (size_t i = 0; i < s->n_shards; i++) {
		struct shard *sh = &s->shards[i];

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
static int acquire_fd(struct wl_shardset *s, struct shard *sh, const char *path, struct wl_err *err)
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
		return wl_err_errno(err, "%s cannot be opened", path);
	}
	return fd;
}

static void release_fd(struct wl_shardset *s, struct shard *sh)
{
	pthread_mutex_lock(&s->lock);
	sh->readers--;
	pthread_mutex_unlock(&s->lock);
}

/* Where the shard's samples lie; read once. */
static const uint32_t *places_of(struct wl_shardset *s, struct shard *sh, struct wl_err *err)
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
static int read_span(struct wl_shardset *s, struct shard *sh, int64_t from, int64_t n,
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
	struct shard *sh = shard_of(s, i);
	const uint32_t *place = places_of(s, sh, err);

	if (!place)
		return -1;
	place += i - sh->first;
	wl_buf_reset(out);
	return read_span(s, sh, (int64_t)place[0] * WL_TAR_BLOCK,
		(int64_t)(place[1] - place[0]) * WL_TAR_BLOCK, out, err);
}

static int fetch_ahead(void *ctx, int64_t number, struct wl_buf *out, struct wl_err *err)
{
	return read_extent(ctx, number, out, err);
}

void wl_shardset_ahead(struct wl_shardset *s, int64_t i)
{
	char *here;

	if (!s->ahead)
		return;
	here = wl_remote_path(s->remote, (size_t)(shard_of(s, i) - s->shards));
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
	struct shard *sh = shard_of(s, i);
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
		/* What a network loses is no fault of the sample. */
		if (!s->remote || err->code != WL_ERETRY)
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
