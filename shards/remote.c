/* A set elsewhere: see remote.h. */
#include "shards/remote.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/log.h"
#include "ops/pool.h"
#include "ops/wait.h"
#include "shards/cache.h"
#include "shards/places.h"
#include "shards/web.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RANGE_BYTES = 8 << 20, RANGES = 4, MANIFEST_MAX = 1 << 30 };
/* After a shard that could not be fetched; twice as long after each further one in a row. */
enum { PAUSE_S = 1, PAUSE_MAX_S = 512 };

enum state { ELSEWHERE, WANTED, HERE, REFUSED };

struct item {
	struct wl_shard_info info;
	enum state state;
	struct wl_err why; /* of REFUSED */
};

struct by_sha {
	char sha256[65];
	size_t k;
};

struct wl_remote {
	struct wl_web *web;
	struct wl_cache cache;
	char *set_dir;
	bool in_order;
	struct item *items; /* [n] */
	struct by_sha *own; /* [n] by hash */
	size_t n;
	pthread_mutex_t lock; /* states, queue, reached, stopping */
	pthread_cond_t wanted;
	size_t *queue; /* [n] ring of WANTED ones */
	size_t q_first, q_n;
	size_t reached; /* the shard that was asked for last */
	bool stopping, runs;
	pthread_t mover;
};

/* ---- the manifest ---- */

static int save_tag(const struct wl_remote *r, const char *tag, struct wl_err *err)
{
	char *path = wl_path_join(r->set_dir, "manifest.etag", err);
	int rc = path ? wl_write_file(path, tag, strlen(tag), err) : -1;

	free(path);
	return rc;
}

static void load_tag(const struct wl_remote *r, const char *manifest, char tag[WL_ETAG_MAX])
{
	char *path = wl_path_join(r->set_dir, "manifest.etag", NULL);
	struct wl_buf b;

	*tag = 0;
	wl_buf_init(&b, WL_ETAG_MAX - 1);
	if (path && wl_exists(manifest) && wl_exists(path) && wl_read_file(path, &b, NULL) == 0)
		snprintf(tag, WL_ETAG_MAX, "%s", wl_buf_str(&b));
	wl_buf_release(&b);
	free(path);
}

/* Databases of an earlier version of the set do not belong to the new manifest. */
static int clear_set(const struct wl_remote *r, struct wl_err *err)
{
	struct wl_names names = {0};
	int rc = wl_list_dir(r->set_dir, "*-[0-9][0-9][0-9][0-9][0-9][0-9].db", &names, err);

	for (size_t i = 0; i < names.n && rc == 0; i++) {
		char *path = wl_path_join(r->set_dir, names.v[i], err);

		rc = path ? wl_remove_tree(path, err) : -1;
		free(path);
	}
	wl_names_release(&names);
	return rc < 0 ? -1 : 0;
}

static int fetch_manifest(struct wl_remote *r, struct wl_err *err)
{
	char *path = wl_path_join(r->set_dir, "manifest.db", err);
	struct wl_web_answer a;
	char tag[WL_ETAG_MAX];
	struct wl_buf b;
	int ret = -1;

	wl_buf_init(&b, MANIFEST_MAX);
	if (!path)
		goto out;
	load_tag(r, path, tag);
	WL_TRY_OUT(wl_web_file(r->web, "manifest.db", tag, &b, &a, err));
	if (!a.unchanged) {
		/* The tag goes first and comes last: a kill between leaves none. */
		WL_TRY_OUT(save_tag(r, "", err));
		WL_TRY_OUT(clear_set(r, err));
		WL_TRY_OUT(wl_write_file(path, b.data, b.len, err));
		WL_TRY_OUT(save_tag(r, a.etag, err));
	}
	ret = 0;
out:
	wl_buf_release(&b);
	free(path);
	return ret;
}

struct wl_remote *wl_remote_open(const struct wl_shard_place *at, struct wl_err *err)
{
	struct wl_remote *r = calloc(1, sizeof *r);

	if (!r) {
		wl_err_nomem(err, "a remote set", sizeof *r);
		return NULL;
	}
	pthread_mutex_init(&r->lock, NULL);
	wl_wait_init(&r->wanted);
	r->in_order = at->in_order;
	r->web = wl_web_open(at->at, at->stall_s, err);
	if (r->web && wl_cache_open(&r->cache, at->cache, at->cache_bytes, err) == 0)
		r->set_dir = wl_cache_set_dir(&r->cache, wl_web_base(r->web), err);
	if (r->set_dir && fetch_manifest(r, err) == 0)
		return r;
	wl_remote_close(r);
	return NULL;
}

void wl_remote_stop(struct wl_remote *r)
{
	pthread_mutex_lock(&r->lock);
	r->stopping = true;
	pthread_cond_broadcast(&r->wanted);
	pthread_mutex_unlock(&r->lock);
	wl_web_stop(r->web);
}

void wl_remote_close(struct wl_remote *r)
{
	if (!r)
		return;
	if (r->web)
		wl_remote_stop(r);
	if (r->runs)
		pthread_join(r->mover, NULL);
	wl_web_close(r->web);
	wl_cache_release(&r->cache);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->wanted);
	free(r->set_dir);
	free(r->items);
	free(r->own);
	free(r->queue);
	free(r);
}

const char *wl_remote_dir(const struct wl_remote *r)
{
	return r->set_dir;
}

/* ---- whole shards ---- */

static int by_sha(const void *a, const void *b)
{
	return strcmp(((const struct by_sha *)a)->sha256, ((const struct by_sha *)b)->sha256);
}

/* What is not removed to make room: in order of the shards, what is still to come; else all of this
 * set, since removing one to fetch another would gain nothing. */
static bool keep(void *ctx, const char *sha256)
{
	struct wl_remote *r = ctx;
	const struct by_sha *found;
	struct by_sha want;
	bool yes;

	snprintf(want.sha256, sizeof want.sha256, "%s", sha256);
	found = bsearch(&want, r->own, r->n, sizeof *r->own, by_sha);
	pthread_mutex_lock(&r->lock);
	yes = found && (!r->in_order || found->k >= r->reached);
	pthread_mutex_unlock(&r->lock);
	return yes;
}

struct range {
	struct wl_remote *r;
	const struct wl_shard_info *info;
	int64_t from, n;
	struct wl_buf bytes;
	struct wl_err err;
	bool failed;
};

static int get_range(struct wl_remote *r, const struct wl_shard_info *s, int64_t from, int64_t n,
	struct wl_buf *out, struct wl_err *err)
{
	char name[WL_SHARD_NAME_MAX + 8];
	struct wl_web_answer a;

	snprintf(name, sizeof name, "%s.tar", s->name);
	WL_TRY(wl_web_range(r->web, name, from, n, out, &a, err));
	if (a.total >= 0 && a.total != s->bytes)
		return wl_err_set(err, WL_EDATA,
			"%s/%s has %lld bytes, the manifest says %lld: it was not copied whole, or "
			"is of another set; copy it there again",
			wl_web_base(r->web), name, (long long)a.total, (long long)s->bytes);
	return 0;
}

static void run_range(void *arg)
{
	struct range *g = arg;

	wl_buf_reset(&g->bytes);
	g->failed = get_range(g->r, g->info, g->from, g->n, &g->bytes, &g->err) < 0;
}

static int hash_start(
	int fd, int64_t have, struct wl_sha256 *h, const char *name, struct wl_err *err)
{
	uint8_t *chunk = malloc(1 << 20);
	int rc = chunk ? 0 : wl_err_nomem(err, "a read buffer", 1 << 20);

	for (int64_t at = 0; at < have && rc == 0;) {
		int64_t n = have - at < 1 << 20 ? have - at : 1 << 20;

		rc = wl_pread_full(fd, chunk, (size_t)n, at, name, err);
		if (rc == 0)
			wl_sha256_add(h, chunk, (size_t)n);
		at += n;
	}
	free(chunk);
	return rc;
}

/* Fetches [have, bytes) into fd, in order, several ranges under way; all of it goes through h. */
static int fetch_ranges(struct wl_remote *r, const struct wl_shard_info *s, int fd, int64_t have,
	struct wl_sha256 *h, struct wl_err *err)
{
	const char *cache = r->cache.dir;
	struct range v[RANGES] = {0};
	struct wl_pool *pool = wl_pool_new(RANGES, RANGES, err);
	int64_t next = have, written = have;
	struct range *g;
	size_t k = 0;
	int rc = pool ? 0 : -1;

	for (int i = 0; i < RANGES; i++)
		wl_buf_init(&v[i].bytes, RANGE_BYTES);
	while (rc == 0 && written < s->bytes) {
		for (; next < s->bytes && wl_pool_has_room(pool); k = (k + 1) % RANGES) {
			int64_t n = s->bytes - next;

			v[k].r = r;
			v[k].info = s;
			v[k].from = next;
			v[k].n = n < RANGE_BYTES ? n : RANGE_BYTES;
			next += v[k].n;
			wl_pool_submit(pool, run_range, &v[k]);
		}
		g = wl_pool_take(pool); /* in the order of submission, so of the file */
		if (g->failed)
			rc = wl_err_set(err, g->err.code, "%s", g->err.msg);
		if (rc == 0)
			rc = wl_pwrite_full(fd, g->bytes.data, g->bytes.len, written, cache, err);
		if (rc == 0)
			wl_sha256_add(h, g->bytes.data, g->bytes.len);
		written += g->n;
	}
	while (pool && wl_pool_take(pool))
		;
	wl_pool_free(pool);
	for (int i = 0; i < RANGES; i++)
		wl_buf_release(&v[i].bytes);
	return rc;
}

static int check_hash(
	struct wl_remote *r, const struct wl_shard_info *s, struct wl_sha256 *h, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	char hex[WL_SHA256_HEX];

	wl_sha256_final(h, digest);
	wl_hex(digest, sizeof digest, hex);
	if (!strcmp(hex, s->sha256))
		return 0;
	return wl_err_set(err, WL_EDATA,
		"%s/%s.tar: its SHA-256 is %s, the manifest says %s: it is damaged or of another "
		"set; copy it there again",
		wl_web_base(r->web), s->name, hex, s->sha256);
}

/* 1: the shard is in the cache; 0: not now; -1.  *again: its hash is wrong, but part of it was here
 * already, and has gone now. */
static int fetch_once(
	struct wl_remote *r, const struct wl_shard_info *s, bool *again, struct wl_err *err)
{
	struct wl_sha256 h = {0};
	int64_t have = 0;
	int fd, rc;

	*again = false;
	WL_TRY(rc = wl_cache_begin(&r->cache, s->sha256, s->bytes, keep, r, &fd, &have, err));
	if (!rc)
		return wl_cache_has(&r->cache, s->sha256, s->bytes);
	rc = wl_sha256_init(&h, err);
	if (rc == 0)
		rc = hash_start(fd, have, &h, s->name, err);
	if (rc == 0)
		rc = fetch_ranges(r, s, fd, have, &h, err);
	if (rc < 0) {
		close(fd); /* what came stays for the next time */
	} else if ((rc = check_hash(r, s, &h, err)) < 0) {
		*again = have > 0;
		wl_cache_drop(&r->cache, s->sha256, s->bytes, fd);
	} else {
		rc = wl_cache_commit(&r->cache, s->sha256, s->bytes, fd, err);
	}
	wl_sha256_release(&h);
	return rc < 0 ? -1 : 1;
}

/* The same.  What an earlier run left unsynced, a machine that went down may have lost on the disk:
 * that says nothing about the server's copy, so all is fetched once more. */
static int fetch_shard(struct wl_remote *r, const struct wl_shard_info *s, struct wl_err *err)
{
	bool again;
	int rc = fetch_once(r, s, &again, err);

	return again ? fetch_once(r, s, &again, err) : rc;
}

/* With the lock held: the next wanted shard, or false when it is time to stop. */
static bool next_wanted(struct wl_remote *r, size_t *k)
{
	while (!r->stopping && !r->q_n)
		pthread_cond_wait(&r->wanted, &r->lock);
	if (r->stopping)
		return false;
	*k = r->queue[r->q_first];
	r->q_first = (r->q_first + 1) % r->n;
	r->q_n--;
	return true;
}

static void pause_for(struct wl_remote *r, int seconds)
{
	struct timespec t = wl_wait_until(seconds);

	while (!r->stopping && pthread_cond_timedwait(&r->wanted, &r->lock, &t) == 0)
		;
}

static void *move(void *arg)
{
	struct wl_remote *r = arg;
	int pause = PAUSE_S;
	size_t k;

	pthread_mutex_lock(&r->lock);
	while (next_wanted(r, &k)) {
		struct item *it = &r->items[k];
		struct wl_err err = WL_ERR_INIT;
		int rc;

		pthread_mutex_unlock(&r->lock);
		rc = fetch_shard(r, &it->info, &err);
		pthread_mutex_lock(&r->lock);
		it->state = rc > 0 ? HERE : ELSEWHERE;
		if (rc < 0 && (err.code == WL_EDATA || err.code == WL_EUSAGE)) {
			it->state = REFUSED;
			it->why = err;
		} else if (rc < 0 && !r->stopping && pause == PAUSE_S) {
			wl_warn("shard %s is not cached: %s; until that passes, samples are "
				"fetched one by one",
				it->info.name, err.msg);
		}
		if (rc <= 0)
			pause_for(r, pause);
		/* A full disk stays full for long, and each try costs a shard's bytes. */
		pause = rc >= 0 ? PAUSE_S : pause < PAUSE_MAX_S ? 2 * pause : pause;
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int wl_remote_start(
	struct wl_remote *r, const struct wl_shard_info *infos, size_t n, struct wl_err *err)
{
	sigset_t all, old;

	r->items = calloc(n, sizeof *r->items);
	r->own = calloc(n, sizeof *r->own);
	r->queue = calloc(n, sizeof *r->queue);
	if (!r->items || !r->own || !r->queue)
		return wl_err_nomem(err, "a remote set", n * sizeof *r->items);
	r->n = n;
	for (size_t k = 0; k < n; k++) {
		r->items[k].info = infos[k];
		memcpy(r->own[k].sha256, infos[k].sha256, sizeof r->own[k].sha256);
		r->own[k].k = k;
	}
	qsort(r->own, n, sizeof *r->own, by_sha);
	sigfillset(&all); /* signals are for the main thread */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r->runs = pthread_create(&r->mover, NULL, move, r) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r->runs ? 0
		       : wl_err_set(err, WL_EFAIL, "a thread to fetch shards cannot be started");
}

/* ---- reading ---- */

/* With the lock held. */
static void want(struct wl_remote *r, size_t k)
{
	if (k >= r->n || r->items[k].state != ELSEWHERE ||
		r->items[k].info.bytes > r->cache.max_bytes)
		return;
	r->items[k].state = WANTED;
	r->queue[(r->q_first + r->q_n++) % r->n] = k;
	pthread_cond_signal(&r->wanted);
}

char *wl_remote_path(struct wl_remote *r, size_t k)
{
	struct item *it = &r->items[k];
	bool here, first;

	pthread_mutex_lock(&r->lock);
	here = it->state == HERE;
	first = it->state == ELSEWHERE;
	r->reached = k;
	pthread_mutex_unlock(&r->lock);
	if (first) /* another run, or another set, may have brought it */
		here = wl_cache_has(&r->cache, it->info.sha256, it->info.bytes);
	pthread_mutex_lock(&r->lock);
	if (here)
		it->state = HERE;
	else
		want(r, k);
	if (r->in_order)
		want(r, k + 1);
	pthread_mutex_unlock(&r->lock);
	return here ? wl_cache_path(&r->cache, it->info.sha256, ".tar", NULL) : NULL;
}

void wl_remote_forget(struct wl_remote *r, size_t k)
{
	pthread_mutex_lock(&r->lock);
	if (r->items[k].state == HERE)
		r->items[k].state = ELSEWHERE;
	pthread_mutex_unlock(&r->lock);
}

int wl_remote_range(struct wl_remote *r, size_t k, int64_t from, int64_t n, struct wl_buf *out,
	struct wl_err *err)
{
	struct item *it = &r->items[k];
	int rc = 0;

	pthread_mutex_lock(&r->lock);
	if (it->state == REFUSED)
		rc = wl_err_set(err, it->why.code, "%s", it->why.msg);
	pthread_mutex_unlock(&r->lock);
	return rc < 0 ? rc : get_range(r, &it->info, from, n, out, err);
}

uint32_t *wl_remote_places(struct wl_remote *r, size_t k, struct wl_err *err)
{
	const struct wl_shard_info *s = &r->items[k].info;
	char *path = wl_cache_path(&r->cache, s->sha256, ".idx", err);
	char name[WL_SHARD_NAME_MAX + 16], where[512];
	struct wl_web_answer a;
	uint32_t *v = NULL;
	struct wl_buf b;

	wl_buf_init(&b, (size_t)wl_places_bytes(WL_SHARD_SAMPLES_MAX) + 1);
	snprintf(name, sizeof name, "%s.tar.idx", s->name);
	snprintf(where, sizeof where, "%.400s/%s", wl_web_base(r->web), name);
	if (path && wl_exists(path) && wl_read_file(path, &b, NULL) == 0)
		v = wl_places_parse(b.data, b.len, s, path, NULL);
	if (path && !v) {
		wl_buf_reset(&b);
		if (wl_web_file(r->web, name, "", &b, &a, err) == 0)
			v = wl_places_parse(b.data, b.len, s, where, err);
		/* A cache that cannot be written is only slower. */
		if (v && wl_write_file(path, b.data, b.len, NULL) < 0)
			wl_debug("%s cannot be written", path);
	}
	wl_buf_release(&b);
	free(path);
	return v;
}

int wl_remote_db(struct wl_remote *r, size_t k, struct wl_err *err)
{
	char name[WL_SHARD_NAME_MAX + 8], *path;
	struct wl_web_answer a;
	struct wl_buf b;
	int rc = 0;

	snprintf(name, sizeof name, "%s.db", r->items[k].info.name);
	path = wl_path_join(r->set_dir, name, err);
	if (!path)
		return -1;
	wl_buf_init(&b, MANIFEST_MAX);
	if (!wl_exists(path)) {
		rc = wl_web_file(r->web, name, "", &b, &a, err);
		if (rc == 0)
			rc = wl_write_file(path, b.data, b.len, err);
	}
	wl_buf_release(&b);
	free(path);
	return rc;
}
