/* The folder of whole shards: see cache.h.  Removing and beginning are done under
 * CACHE/shards/.lock. */
#include "shards/cache.h"

#include "ops/file.h"
#include "ops/hash.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const int64_t DEFAULT_BYTES = 20000000000;

static char *default_dir(struct wl_err *err)
{
	const char *own = getenv("WENLAN_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (own && *own)
		return wl_strf(err, "%s", own);
	if (xdg && *xdg)
		return wl_strf(err, "%s/wenlan", xdg);
	if (home && *home)
		return wl_strf(err, "%s/.cache/wenlan", home);
	wl_err_set(err, WL_EUSAGE,
		"there is no place for a cache: give --cache DIR, or set WENLAN_CACHE or HOME");
	return NULL;
}

int wl_cache_open(struct wl_cache *c, const char *dir, int64_t max_bytes, struct wl_err *err)
{
	char *top = dir ? wl_strf(err, "%s", dir) : default_dir(err);
	int ret = -1;

	*c = (struct wl_cache){.max_bytes = max_bytes > 0 ? max_bytes : DEFAULT_BYTES};
	if (top)
		c->dir = wl_strf(err, "%s/shards", top);
	if (c->dir)
		ret = wl_mkdir_p(c->dir, err);
	free(top);
	return ret;
}

void wl_cache_release(struct wl_cache *c)
{
	free(c->dir);
	c->dir = NULL;
}

char *wl_cache_path(
	const struct wl_cache *c, const char *sha256, const char *ext, struct wl_err *err)
{
	return wl_strf(err, "%s/%s%s", c->dir, sha256, ext);
}

bool wl_cache_has(const struct wl_cache *c, const char *sha256, int64_t bytes)
{
	char *path = wl_cache_path(c, sha256, ".tar", NULL);
	struct stat st;
	bool there = path && stat(path, &st) == 0 && st.st_size == bytes;

	if (there)
		utimensat(AT_FDCWD, path, NULL, 0); /* used now */
	free(path);
	return there;
}

char *wl_cache_set_dir(const struct wl_cache *c, const char *url, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	char hex[WL_SHA256_HEX], *dir;

	wl_sha256(url, strlen(url), digest);
	wl_hex(digest, sizeof digest, hex);
	dir = wl_strf(
		err, "%.*s/sets/%.16s", (int)(strlen(c->dir) - strlen("/shards")), c->dir, hex);
	if (dir && wl_mkdir_p(dir, err) < 0) {
		free(dir);
		dir = NULL;
	}
	return dir;
}

/* ---- room ---- */

struct file {
	char name[128];
	int64_t bytes;
	struct timespec used;
};

static int by_use(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	if (x->used.tv_nsec != y->used.tv_nsec)
		return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* All shards there, and the bytes of each; NULL: none, or no memory. */
static struct file *look(const struct wl_cache *c, size_t *n, int64_t *sum, struct wl_err *err)
{
	struct wl_names names = {0};
	struct file *v = NULL;

	*n = 0;
	*sum = 0;
	if (wl_list_dir(c->dir, "*", &names, err) == 0)
		v = calloc(names.n + 1, sizeof *v);
	for (size_t i = 0; v && i < names.n; i++) {
		char *path = wl_path_join(c->dir, names.v[i], err);
		const char *dash = strchr(names.v[i], '-');
		struct stat st;

		if (path && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
			strlen(names.v[i]) < sizeof v->name && names.v[i][0] != '.') {
			strcpy(v[*n].name, names.v[i]);
			v[*n].bytes = dash && strstr(dash, ".part") ? atoll(dash + 1) : st.st_size;
			v[*n].used = st.st_mtim;
			*sum += v[(*n)++].bytes;
		}
		free(path);
	}
	wl_names_release(&names);
	return v;
}

/* Removes a file of the cache; a .part only when nobody fetches it. */
static bool evict(const struct wl_cache *c, const struct file *f)
{
	char *path = wl_path_join(c->dir, f->name, NULL);
	bool part = strstr(f->name, ".part") != NULL, gone = false;
	int fd = part && path ? wl_lock_try(path, false, NULL) : -1;

	if (path && (!part || fd >= 0))
		gone = unlink(path) == 0;
	if (fd >= 0)
		close(fd);
	free(path);
	return gone;
}

/* 1 when `need` more bytes fit; with the cache's lock held. */
static int make_room(const struct wl_cache *c, int64_t need, const char *own,
	bool (*keep)(void *ctx, const char *sha256), void *ctx, struct wl_err *err)
{
	size_t n;
	int64_t sum;
	struct file *v = look(c, &n, &sum, err);

	if (!v)
		return -1;
	qsort(v, n, sizeof *v, by_use);
	for (size_t i = 0; i < n && sum + need > c->max_bytes; i++) {
		char sha[65];

		snprintf(sha, sizeof sha, "%s", v[i].name);
		if (!strcmp(sha, own) || keep(ctx, sha) || strstr(v[i].name, ".idx"))
			continue;
		if (evict(c, &v[i]))
			sum -= v[i].bytes;
	}
	free(v);
	return sum + need <= c->max_bytes;
}

/* Waits for the cache's lock; the descriptor to close. */
static int lock(const struct wl_cache *c, struct wl_err *err)
{
	char *path = wl_path_join(c->dir, ".lock", err);
	int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;

	if (path && (fd < 0 || flock(fd, LOCK_EX) < 0)) {
		wl_err_errno(err, "%s cannot be locked", path);
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	free(path);
	return fd;
}

static char *part_path(
	const struct wl_cache *c, const char *sha256, int64_t bytes, struct wl_err *err)
{
	return wl_strf(err, "%s/%s-%lld.part", c->dir, sha256, (long long)bytes);
}

int wl_cache_begin(const struct wl_cache *c, const char *sha256, int64_t bytes,
	bool (*keep)(void *ctx, const char *sha256), void *ctx, int *fd, int64_t *have,
	struct wl_err *err)
{
	char *path = part_path(c, sha256, bytes, err);
	int held = path ? lock(c, err) : -1, rc = -1;
	struct stat st;
	bool there;

	*fd = -1;
	if (held < 0)
		goto out;
	there = wl_exists(path);
	/* Room is asked for before the file shows up, as its name counts. */
	rc = there ? 1 : make_room(c, bytes, sha256, keep, ctx, err);
	if (rc <= 0)
		goto out;
	*fd = wl_lock_try(path, false, err);
	rc = *fd >= 0 ? 1 : *fd == WL_LOCK_BUSY ? 0 : -1;
	if (rc == 1 && fstat(*fd, &st) < 0)
		rc = wl_err_errno(err, "%s: its size cannot be read", path);
	*have = rc == 1 ? st.st_size : 0;
	if (rc == 1 && (*have > bytes || wl_cache_has(c, sha256, bytes))) {
		wl_cache_drop(c, sha256, bytes, *fd);
		rc = 0;
	}
out:
	if (held >= 0)
		close(held);
	free(path);
	return rc;
}

int wl_cache_commit(
	const struct wl_cache *c, const char *sha256, int64_t bytes, int fd, struct wl_err *err)
{
	char *part = part_path(c, sha256, bytes, err);
	char *path = wl_cache_path(c, sha256, ".tar", err);
	int ret = -1;

	if (part && path) {
		if (fsync(fd) < 0)
			wl_err_errno(err, "%s: syncing it to the disk failed", part);
		else if (rename(part, path) < 0)
			wl_err_errno(err, "%s: renaming it to %s failed", part, path);
		else
			ret = 0;
	}
	close(fd);
	free(part);
	free(path);
	return ret;
}

void wl_cache_drop(const struct wl_cache *c, const char *sha256, int64_t bytes, int fd)
{
	char *part = part_path(c, sha256, bytes, NULL);

	if (part)
		unlink(part);
	close(fd);
	free(part);
}
