/*
 * Files that must survive: written under a temporary name, checked, synced and
 * renamed, the directory synced after; readers see old or new, never half.
 */
#ifndef WL_OPS_FILE_H
#define WL_OPS_FILE_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Makes the directory and its parents; one that exists is fine. */
WL_MUST_CHECK int wl_mkdir_p(const char *path, struct wl_err *err);
bool wl_exists(const char *path);
/* The file's size; -1 with the reason. */
WL_MUST_CHECK int64_t wl_file_size(const char *path, struct wl_err *err);
/* Joins with one slash; the caller frees.  b absolute: a copy of b. */
char *wl_path_join(const char *a, const char *b, struct wl_err *err);
/* printf into fresh memory that the caller frees. */
char *wl_strf(struct wl_err *err, const char *fmt, ...) WL_PRINTF(2, 3);

/* The whole file into `out` (whose max bounds it). */
WL_MUST_CHECK int wl_read_file(const char *path, struct wl_buf *out, struct wl_err *err);
/* Exactly n bytes at offset, or an error naming file and offset. */
WL_MUST_CHECK int wl_pread_full(int fd, void *dst, size_t n, int64_t offset, const char *path,
	struct wl_err *err);
WL_MUST_CHECK int wl_pwrite_full(int fd, const void *src, size_t n, int64_t offset,
	const char *path, struct wl_err *err);
WL_MUST_CHECK int wl_fsync_dir(const char *dir, struct wl_err *err);
/* Replaces path by these bytes atomically. */
WL_MUST_CHECK int wl_write_file(const char *path, const void *bytes, size_t n, struct wl_err *err);

/* An output file under a temporary name beside its final one. */
struct wl_outfile {
	FILE *fp;         /* write here */
	char *path, *tmp; /* owned */
};
/* WL_EFAIL, before anything is written, where path is a directory or its directory is missing,
 * and where it is a device or a pipe, whose name a file would take.  A link is followed. */
WL_MUST_CHECK int wl_outfile_open(struct wl_outfile *f, const char *path, struct wl_err *err);
/* Flush, sync, close, rename, sync the directory; names the step that failed. */
WL_MUST_CHECK int wl_outfile_commit(struct wl_outfile *f, struct wl_err *err);
/* Closes and removes the temporary file; harmless after commit. */
void wl_outfile_discard(struct wl_outfile *f);

/* Removes a file or a whole directory; one that is not there is fine. */
WL_MUST_CHECK int wl_remove_tree(const char *path, struct wl_err *err);

/* Names (not paths) in dir that match the shell pattern, sorted by byte value, "." and
 * ".." left out.  names[n] are owned by the list. */
struct wl_names {
	char **v;
	size_t n;
};
WL_MUST_CHECK int wl_list_dir(const char *dir, const char *pattern, struct wl_names *out,
	struct wl_err *err);
/* Paths that match a glob, sorted by byte value; none is an error (WL_EUSAGE). */
WL_MUST_CHECK int wl_glob(const char *pattern, struct wl_names *out, struct wl_err *err);
void wl_names_release(struct wl_names *names);
/* Appends a copy. */
WL_MUST_CHECK int wl_names_add(struct wl_names *names, const char *name, struct wl_err *err);

/* Where a file that comes with the programs lies, by its name in the repository
 * ("train/presets/small.yaml"): $WENLAN_SHARE, PREFIX/share/wenlan beside the running
 * program's bin/, or the source tree that it was built in.  name "": the directory itself.
 * The caller frees; NULL with WL_EFAIL when it is in none of them. */
char *wl_share_path(const char *name, struct wl_err *err);

/* An exclusive advisory lock on path (created if needed): the descriptor to close
 * later, or -1; when another process holds it the error says so (WL_EFAIL). */
WL_MUST_CHECK int wl_lock_file(const char *path, struct wl_err *err);
/* The same, but another holder is no error: then WL_LOCK_BUSY.  shared: many may hold it so. */
enum { WL_LOCK_BUSY = -2 };
WL_MUST_CHECK int wl_lock_try(const char *path, bool shared, struct wl_err *err);

#endif
