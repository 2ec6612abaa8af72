/* Values on their way to a checkpoint: see taken.h. */
#include "train/taken.h"

#include "ops/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void wl_taken_init(struct wl_taken *s, const char *name, struct wl_params *store,
	struct wl_dist *dist, int writer)
{
	*s = (struct wl_taken){.name = name, .store = store, .dist = dist,
		.mine = store && wl_dist_rank(dist) == writer};
}

static bool in_pieces(const struct wl_taken *s)
{
	return s->store && wl_dist_in_pieces(s->dist, s->store);
}

int wl_taken_reserve(struct wl_taken *s, struct wl_err *err)
{
	struct wl_backend *be;
	int64_t floats;

	if (s->bytes || !(s->mine || in_pieces(s)))
		return 0;
	be = s->store->backend;
	floats = s->mine ? s->store->floats
			 : wl_cut_owned(wl_dist_cut(s->dist), s->store->weights);
	s->value = be->alloc_host(be, (size_t)floats * sizeof *s->value, err);
	s->bytes = s->value ? (size_t)floats * sizeof *s->value : 0;
	return s->value ? 0 : -1;
}

/* This rank's pieces, which only its own updates change. */
static void fetch_pieces(struct wl_taken *s)
{
	const struct wl_cut *cut = wl_dist_cut(s->dist);
	struct wl_backend *be = s->store->backend;
	int64_t all = s->store->weights;
	struct wl_span p;

	for (p = wl_cut_next(cut, 0, all); p.begin < p.end; p = wl_cut_next(cut, p.end, all))
		be->fetch(be, s->value + (s->mine ? p.begin : wl_cut_owned(cut, p.begin)),
			s->store->value + p.begin, (size_t)(p.end - p.begin) * sizeof *s->value);
}

int wl_taken_copy(struct wl_taken *s, struct wl_err *err)
{
	struct wl_backend *be;
	size_t weights;

	if (!s->mine && !in_pieces(s))
		return 0;
	be = s->store->backend;
	weights = (size_t)s->store->weights;
	WL_TRY(wl_taken_reserve(s, err));
	if (in_pieces(s)) {
		fetch_pieces(s);
	} else {
		WL_TRY(wl_dist_catch_up(s->dist, err)); /* the others' part of an update */
		be->fetch(be, s->value, s->store->value, weights * sizeof *s->value);
	}
	if (s->mine) /* running statistics at once: the next forward changes them */
		be->download(be, s->value + weights, s->store->value + weights,
			((size_t)s->store->floats - weights) * sizeof *s->value);
	return 0;
}

void wl_taken_borrow(struct wl_taken *s)
{
	wl_taken_release(s);
	s->value = s->store ? s->store->value : NULL;
}

/* --- pieces in files --- */

static char *piece_path(const struct wl_taken *s, const char *dir, int rank, struct wl_err *err)
{
	return wl_strf(err, "%s/pieces-%s-%05d", dir, s->name, rank);
}

/* Nobody needs them after a crash, so they are not synced. */
static int put_file(const char *path, const void *bytes, size_t n, struct wl_err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), ret;

	if (fd < 0)
		return wl_err_errno(err, "%s: cannot be created", path);
	ret = wl_pwrite_full(fd, bytes, n, 0, path, err);
	if (close(fd) < 0 && ret == 0) /* where a file system over a network says it */
		ret = wl_err_errno(err, "%s: cannot be written", path);
	return ret;
}

int wl_taken_share(const struct wl_taken *s, const char *dir, struct wl_err *err)
{
	char *path;
	int ret;

	if (s->mine || !in_pieces(s))
		return 0;
	path = piece_path(s, dir, wl_dist_rank(s->dist), err);
	ret = path ? put_file(path, s->value, s->bytes, err) : -1;
	free(path);
	return ret;
}

/* Pieces of cut's rank, from its file to their places. */
static int get_pieces(const struct wl_taken *s, const struct wl_cut *cut, int fd, const char *path,
	struct wl_err *err)
{
	int64_t all = s->store->weights, want = wl_cut_owned(cut, all) * (int64_t)sizeof *s->value;
	struct wl_span p;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return wl_err_errno(err, "%s: cannot be examined", path);
	if (st.st_size != want)
		return wl_err_set(err, WL_EFAIL, "%s: has %lld bytes, and rank %d owns %lld: let "
			"one run at a time write here, and all its ranks see the same directory",
			path, (long long)st.st_size, cut->rank, (long long)want);
	for (p = wl_cut_next(cut, 0, all); p.begin < p.end; p = wl_cut_next(cut, p.end, all))
		WL_TRY(wl_pread_full(fd, s->value + p.begin,
			(size_t)(p.end - p.begin) * sizeof *s->value,
			wl_cut_owned(cut, p.begin) * (int64_t)sizeof *s->value, path, err));
	return 0;
}

static int get_file(const struct wl_taken *s, const char *dir, int rank, struct wl_err *err)
{
	struct wl_cut cut = *wl_dist_cut(s->dist);
	char *path = piece_path(s, dir, rank, err);
	int fd, ret;

	if (!path)
		return -1;
	cut.rank = rank;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		ret = wl_err_errno(err, "%s: rank %d wrote it, and it cannot be opened here; let "
			"all ranks see the same directory", path, rank);
	else
		ret = get_pieces(s, &cut, fd, path, err);
	if (fd >= 0)
		close(fd);
	if (ret == 0 && unlink(path) < 0)
		ret = wl_err_errno(err, "%s: cannot be removed", path);
	free(path);
	return ret;
}

int wl_taken_gather(const struct wl_taken *s, const char *dir, struct wl_err *err)
{
	if (!s->mine || !in_pieces(s))
		return 0;
	for (int r = 0; r < wl_dist_world(s->dist); r++)
		if (r != wl_dist_rank(s->dist))
			WL_TRY(get_file(s, dir, r, err));
	return 0;
}

/* --- memory --- */

void wl_taken_drop(struct wl_taken *s)
{
	struct wl_backend *be = s->store ? s->store->backend : NULL;

	if (!s->bytes)
		s->value = NULL;
	else if (!be->apart) /* pinned pages stay */
		be->discard(be, s->value, s->bytes);
}

void wl_taken_release(struct wl_taken *s)
{
	if (s->bytes)
		s->store->backend->free_host(s->store->backend, s->value);
	s->value = NULL;
	s->bytes = 0;
}
