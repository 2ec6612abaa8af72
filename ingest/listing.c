/* See listing.h. */
#include "ingest/listing.h"

#include "ingest/record.h"
#include "ops/file.h"
#include "ops/grow.h"
#include "ops/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int listing_add(struct wl_listing *l, char *path, struct wl_err *err)
{
	if (WL_GROW(l->v, l->n, l->cap, "a listing of files", err) < 0) {
		free(path);
		return -1;
	}
	l->v[l->n++] = path;
	return 0;
}

static int list_tree(struct wl_listing *l, const char *root, const char *rel, struct wl_err *err);

/* Links to files are followed, links to directories are not: they may go in circles. */
static int list_one(struct wl_listing *l, const char *root, char *path, int dfd, const char *name,
	struct wl_err *err)
{
	struct stat st;
	if (fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
		int ret = list_tree(l, root, path, err);
		free(path);
		return ret;
	}
	if (fstatat(dfd, name, &st, 0) || !S_ISREG(st.st_mode)) {
		/* A broken link with a picture's name is still an item: prepare says why not. */
		if (!wl_is_image_name(name)) {
			free(path);
			return 0;
		}
		memset(&st, 0, sizeof st);
	}
	/* A sum, since readdir has no order. */
	int64_t facts[3] = {st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
	l->digest += wl_hash64(facts, sizeof facts, wl_hash64(path, strlen(path), 1));
	return listing_add(l, path, err);
}

static int list_tree(struct wl_listing *l, const char *root, const char *rel, struct wl_err *err)
{
	char *dir = *rel ? wl_path_join(root, rel, err) : wl_strf(err, "%s", root);
	DIR *d = NULL;
	struct dirent *e;
	int ret = -1;
	if (!dir)
		return -1;
	d = opendir(dir);
	if (!d) {
		wl_err_errno(err, "directory %s cannot be read", dir);
		goto out;
	}
	while (errno = 0, (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		char *path = wl_strf(err, "%s%s%s", rel, *rel ? "/" : "", e->d_name);
		if (!path)
			goto out;
		WL_TRY_OUT(list_one(l, root, path, dirfd(d), e->d_name, err));
	}
	if (errno) {
		wl_err_errno(err, "directory %s cannot be read to its end", dir);
		goto out;
	}
	ret = 0;
out:
	if (d)
		closedir(d);
	free(dir);
	return ret;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

size_t wl_listing_at(const struct wl_listing *l, const char *key)
{
	size_t lo = 0, hi = l->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (strcmp(l->v[mid], key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool wl_listing_has(const struct wl_listing *l, const char *path)
{
	size_t i = wl_listing_at(l, path);
	return i < l->n && strcmp(l->v[i], path) == 0;
}

int wl_listing_read(struct wl_listing *l, const char *path, struct wl_err *err)
{
	*l = (struct wl_listing){0};
	if (list_tree(l, path, "", err) < 0) {
		wl_listing_release(l);
		return -1;
	}
	if (l->n)
		qsort(l->v, l->n, sizeof *l->v, by_bytes);
	return 0;
}

int wl_listing_file(struct wl_listing *l, const char *path, struct wl_err *err)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	struct stat st;
	*l = (struct wl_listing){0};
	if (stat(path, &st))
		return wl_err_errno(err, "%s cannot be examined", path);
	char *copy = wl_strf(err, "%s", name);
	if (!copy)
		return -1;
	int64_t facts[3] = {st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
	l->digest = wl_hash64(facts, sizeof facts, wl_hash64(name, strlen(name), 1));
	return listing_add(l, copy, err);
}

void wl_listing_release(struct wl_listing *l)
{
	for (size_t i = 0; l && i < l->n; i++)
		free(l->v[i]);
	if (l) {
		free(l->v);
		*l = (struct wl_listing){0};
	}
}

void wl_tree_walk_start(struct wl_tree_walk *w, const char *position)
{
	const struct wl_listing *l = &w->files;
	snprintf(w->digest, sizeof w->digest, "%016llx", (unsigned long long)l->digest);
	w->next = 0;
	if (strncmp(position, w->digest, 16) != 0)
		return;
	w->next = position[16] ? wl_listing_at(l, position + 17) : l->n;
	if (w->next < l->n && strcmp(l->v[w->next], position + 17) == 0)
		w->next++;
}

int wl_tree_walk_next(struct wl_tree_walk *w, bool (*is_item)(const void *ctx, const char *path),
	const void *ctx, struct wl_record *r, struct wl_err *err)
{
	const struct wl_listing *l = &w->files;
	while (w->next < l->n && !is_item(ctx, l->v[w->next]))
		w->next++;
	if (w->next == l->n)
		return 0;
	const char *path = l->v[w->next++];
	char *position = wl_strf(err, "%s %s", w->digest, path);
	if (!position)
		return -1;
	r->file = r->place = path;
	r->position = wl_arena_strdup(&r->mem, position, err);
	free(position);
	return r->position ? 1 : -1;
}
