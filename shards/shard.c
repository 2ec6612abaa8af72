/*
 * Reading shards: the index of a split in memory (56 bytes a sample), the bytes by pread.
 *
 * A set may have more shards than a process may have files open, so descriptors are opened on
 * first use and the least recently used idle one is closed; a read holds its shard while
 * it runs, so any number of threads may read.
 */
#include "shards/shard.h"

#include "ops/db.h"
#include "ops/file.h"
#include "shards/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPEN_MAX_SHARDS = 256 };

struct entry {
	int64_t pair_id;
	int64_t jpg, txt, json; /* offsets */
	uint32_t jpg_len, txt_len, json_len;
	bool dead;
};

struct shard {
	struct wl_shard_info info;
	int64_t first; /* number of its sample 0 in the split */
	int fd;	       /* -1: not open */
	int readers;
	uint64_t used; /* clock of the last use */
};

struct wl_shardset {
	char *dir;
	char split[WL_SPLIT_MAX];
	char fingerprint[65];
	struct shard *shards; /* [n_shards] by name */
	size_t n_shards, n_open;
	struct entry *samples; /* [n] */
	int64_t n, n_dead;
	pthread_mutex_t lock; /* fd, readers, used, n_open, clock */
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
	if (!s->n_shards)
		return no_split(m, s->dir, s->split, err);
	s->samples = calloc((size_t)s->n + 1, sizeof *s->samples);
	if (!s->samples)
		return wl_err_nomem(err, "a shard index", (size_t)s->n * sizeof *s->samples);
	return 0;
}

/* One member's place from columns col, col+1; must lie inside the tar. */
static bool member(sqlite3_stmt *st, int col, int64_t tar_bytes, int64_t *offset, uint32_t *len)
{
	int64_t n = sqlite3_column_int64(st, col + 1);

	*offset = sqlite3_column_int64(st, col);
	*len = (uint32_t)n;
	return *offset > 0 && n >= 0 && n <= UINT32_MAX && *offset <= tar_bytes &&
	       n <= tar_bytes - *offset;
}

static int read_rows(
	struct wl_shardset *s, const struct shard *sh, struct wl_db *db, struct wl_err *err)
{
	sqlite3_stmt *st;
	int64_t i = 0;
	int rc;

	WL_TRY(wl_db_prepare(db, &st,
		"SELECT idx, pair_id, jpg_offset, jpg_length, txt_offset, txt_length, json_offset,"
		" json_length FROM sample ORDER BY idx",
		err));
	while ((rc = wl_db_step(db, st, err)) > 0) {
		struct entry *e = &s->samples[sh->first + i];
		int64_t end = sh->info.bytes;

		if (i >= sh->info.samples || sqlite3_column_int64(st, 0) != i ||
			!member(st, 2, end, &e->jpg, &e->jpg_len) ||
			!member(st, 4, end, &e->txt, &e->txt_len) ||
			!member(st, 6, end, &e->json, &e->json_len)) {
			rc = wl_err_set(err, WL_EDATA,
				"%s, table sample, row %lld: expected index %lld of %lld with "
				"members inside the tar; the index is damaged: run wenlan-shard "
				"repair",
				db->path, (long long)sqlite3_column_int64(st, 0), (long long)i,
				(long long)sh->info.samples);
			break;
		}
		e->pair_id = sqlite3_column_int64(st, 1);
		i++;
	}
	sqlite3_finalize(st);
	WL_TRY(rc);
	if (i != sh->info.samples)
		return wl_err_set(err, WL_EDATA,
			"%s, table sample: %lld rows, the manifest says %lld: run wenlan-shard "
			"repair",
			db->path, (long long)i, (long long)sh->info.samples);
	return 0;
}

static int read_index(struct wl_shardset *s, const struct shard *sh, struct wl_err *err)
{
	char *tar = wl_strf(err, "%s/%s.tar", s->dir, sh->info.name);
	char *path = wl_strf(err, "%s/%s.db", s->dir, sh->info.name);
	struct wl_db db = {0};
	int64_t size;
	int ret = -1;

	if (!tar || !path)
		goto out;
	WL_TRY_OUT(size = wl_file_size(tar, err));
	if (size != sh->info.bytes) {
		wl_err_set(err, WL_EDATA,
			"%s has %lld bytes, the manifest says %lld; the shard is damaged: remove "
			"it and run wenlan-shard --corpus again, which packs only what is "
			"missing",
			tar, (long long)size, (long long)sh->info.bytes);
		goto out;
	}
	WL_TRY_OUT(wl_db_open(&db, path, WL_DB_READ, err));
	ret = read_rows(s, sh, &db, err);
out:
	if (ret < 0 && err && err->code == WL_EFAIL)
		err->code = WL_EDATA; /* a shard that the manifest lists is missing or unreadable */
	wl_db_close(&db);
	free(tar);
	free(path);
	return ret;
}

static int by_id(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void bury(struct wl_shardset *s, const struct wl_manifest *m)
{
	for (int64_t i = 0; m->n_tombstones && i < s->n; i++)
		if (bsearch(&s->samples[i].pair_id, m->tombstones, m->n_tombstones,
			    sizeof *m->tombstones, by_id)) {
			s->samples[i].dead = true;
			s->n_dead++;
		}
}

struct wl_shardset *wl_shardset_open(const char *dir, const char *split, struct wl_err *err)
{
	struct wl_manifest m = {0};
	struct wl_shardset *s = calloc(1, sizeof *s);

	if (!s) {
		wl_err_nomem(err, "a shard set", sizeof *s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	snprintf(s->split, sizeof s->split, "%s", split);
	s->dir = wl_strf(err, "%s", dir);
	if (!s->dir || wl_manifest_read(&m, dir, err) < 0 || pick_shards(s, &m, err) < 0)
		goto fail;
	for (size_t i = 0; i < s->n_shards; i++)
		if (read_index(s, &s->shards[i], err) < 0)
			goto fail;
	bury(s, &m);
	memcpy(s->fingerprint, m.fingerprint, sizeof s->fingerprint);
	wl_manifest_release(&m);
	return s;
fail:
	wl_manifest_release(&m);
	wl_shardset_close(s);
	return NULL;
}

void wl_shardset_close(struct wl_shardset *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_shards; i++)
		if (s->shards[i].fd >= 0)
			close(s->shards[i].fd);
	pthread_mutex_destroy(&s->lock);
	free(s->shards);
	free(s->samples);
	free(s->dir);
	free(s);
}

/* ---- facts ---- */

static const struct entry *entry(const struct wl_shardset *s, int64_t i)
{
	if (i < 0 || i >= s->n)
		WL_BUG("sample %lld of %lld", (long long)i, (long long)s->n);
	return &s->samples[i];
}

int64_t wl_shardset_size(const struct wl_shardset *s)
{
	return s->n;
}

bool wl_shardset_dead(const struct wl_shardset *s, int64_t i)
{
	return entry(s, i)->dead;
}

int64_t wl_shardset_tombstones(const struct wl_shardset *s)
{
	return s->n_dead;
}

int64_t wl_shardset_pair_id(const struct wl_shardset *s, int64_t i)
{
	return entry(s, i)->pair_id;
}

const char *wl_shardset_fingerprint(const struct wl_shardset *s)
{
	return s->fingerprint;
}

/* The shard that holds sample i: the last one that begins at or before it and is not empty. */
static struct shard *shard_of(const struct wl_shardset *s, int64_t i)
{
	size_t lo = 0, hi = s->n_shards;

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

	entry(s, i);
	sh = shard_of(s, i);
	snprintf(out, WL_KEY_MAX, "%s_%06d", sh->info.name, (int)(i - sh->first));
}

int64_t wl_shardset_find(const struct wl_shardset *s, const char *key)
{
	const char *mark = strrchr(key, '_');
	int64_t index;

	if (!mark || strlen(mark + 1) != 6 || strspn(mark + 1, "0123456789") != 6)
		return -1;
	index = atoll(mark + 1);
	for (size_t i = 0; i < s->n_shards; i++) {
		const struct shard *sh = &s->shards[i];

		if (strlen(sh->info.name) == (size_t)(mark - key) &&
			!strncmp(sh->info.name, key, (size_t)(mark - key)))
			return index < sh->info.samples ? sh->first + index : -1;
	}
	return -1;
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

static int read_member(int fd, const char *path, int64_t offset, uint32_t len, struct wl_buf *out,
	struct wl_err *err)
{
	if (!out)
		return 0;
	wl_buf_reset(out);
	WL_TRY(wl_buf_reserve(out, len, err));
	WL_TRY(wl_pread_full(fd, out->data, len, offset, path, err));
	out->len = len;
	out->data[len] = 0;
	return 0;
}

static int read_sample(struct wl_shardset *s, int64_t i, struct wl_buf *jpg, struct wl_buf *txt,
	struct wl_buf *json, struct wl_err *err)
{
	const struct entry *e = entry(s, i);
	struct shard *sh = shard_of(s, i);
	char *path = wl_strf(err, "%s/%s.tar", s->dir, sh->info.name);
	char key[WL_KEY_MAX];
	int fd = path ? acquire_fd(s, sh, path, err) : -1;
	int ret = -1;

	if (fd < 0)
		goto out;
	if (read_member(fd, path, e->jpg, e->jpg_len, jpg, err) == 0 &&
		read_member(fd, path, e->txt, e->txt_len, txt, err) == 0 &&
		read_member(fd, path, e->json, e->json_len, json, err) == 0)
		ret = 0;
	release_fd(s, sh);
out:
	free(path);
	if (ret < 0 && err) {
		wl_shardset_key(s, i, key);
		wl_err_prefix(err, "sample %s", key);
		err->code = WL_EDATA;
	}
	return ret;
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
