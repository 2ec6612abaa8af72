/*
 * Files that survive a kill at any point: see file.h.
 *
 * The temporary name of an output is fixed (PATH.tmp), so that a run that was killed
 * leaves nothing that the next run does not overwrite.  What a fixed name would cost, two
 * writers mixing their bytes in one temporary file, is prevented by a lock on it that is
 * held until after the rename.
 */
#include "ops/file.h"
#include "ops/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int mkdir_one(const char *path, const char *whole, struct wl_err *err)
{
	struct stat st;

	if (!mkdir(path, 0777))
		return 0;
	if (errno == EEXIST) {
		if (!stat(path, &st) && S_ISDIR(st.st_mode))
			return 0;
		return wl_err_set(err, WL_EFAIL,
			"%s cannot be made: %s exists and is not a directory; name "
			"another place, or move it away", whole, path);
	}
	/* A parent that we may not write to can still exist. */
	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		return 0;
	if (errno == EACCES || errno == EROFS)
		return wl_path_failed(whole, "made", NULL, err);
	return wl_err_errno(err, "%s cannot be made", whole);
}

int wl_mkdir_p(const char *path, struct wl_err *err)
{
	char *copy = wl_strf(err, "%s", path);
	int ret = -1;

	if (!copy)
		return -1;
	for (char *p = copy + 1; *copy && *p; p++) {
		if (*p != '/' || p[-1] == '/')
			continue;
		*p = 0;
		WL_TRY_OUT(mkdir_one(copy, path, err));
		*p = '/';
	}
	if (*path)
		WL_TRY_OUT(mkdir_one(copy, path, err));
	ret = 0;
out:
	free(copy);
	return ret;
}

bool wl_exists(const char *path)
{
	struct stat st;

	return !stat(path, &st);
}

int64_t wl_file_size(const char *path, struct wl_err *err)
{
	struct stat st;

	if (stat(path, &st))
		return wl_path_failed(path, "examined", NULL, err);
	return st.st_size;
}

char *wl_path_join(const char *a, const char *b, struct wl_err *err)
{
	size_t n = strlen(a);

	if (b[0] == '/' || !n)
		return wl_strf(err, "%s", b);
	return wl_strf(err, "%s%s%s", a, a[n - 1] == '/' ? "" : "/", b);
}

char *wl_strf(struct wl_err *err, const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0) {
		wl_err_nomem(err, "a string", strlen(fmt));
		return NULL;
	}
	return s;
}

/* Reads to the end of fd; a file may grow or be a pipe, so its size is only a hint. */
static int read_all(int fd, const char *path, struct wl_buf *out, struct wl_err *err)
{
	enum { STEP = 64 * 1024 };
	struct stat st;

	if (!fstat(fd, &st) && S_ISREG(st.st_mode)) {
		if ((uint64_t)st.st_size > out->max - out->len)
			return wl_err_set(err, WL_EDATA,
				"%s has %lld bytes where at most %zu are allowed", path,
				(long long)st.st_size, out->max - out->len);
		WL_TRY(wl_buf_reserve(out, (size_t)st.st_size, err));
	}
	for (;;) {
		size_t left = out->max - out->len;
		size_t room = out->cap > out->len ? out->cap - out->len - 1 : 0;
		char probe[1]; /* at the maximum one byte more tells the end from too much */
		ssize_t n;

		if (left && !room) {
			WL_TRY(wl_buf_reserve(out, left < STEP ? left : STEP, err));
			room = out->cap - out->len - 1;
		}
		room = room < left ? room : left;
		n = left ? read(fd, out->data + out->len, room) : read(fd, probe, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EISDIR)
			return wl_path_failed(path, "read", NULL, err);
		if (n < 0)
			return wl_err_errno(err, "%s cannot be read at byte %zu", path, out->len);
		if (!n)
			return 0;
		if (!left)
			return wl_err_set(err, WL_EDATA, "%s has more than the %zu bytes allowed",
				path, out->max);
		out->len += (size_t)n;
		out->data[out->len] = 0;
	}
}

int wl_read_file(const char *path, struct wl_buf *out, struct wl_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return wl_path_failed(path, "opened", NULL, err);
	ret = read_all(fd, path, out, err);
	close(fd);
	if (!ret)
		ret = wl_buf_reserve(out, 0, err); /* an empty file reads as "" */
	return ret;
}

int wl_pread_full(int fd, void *dst, size_t n, int64_t offset, const char *path, struct wl_err *err)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = pread(fd, (char *)dst + done, n - done, offset + (int64_t)done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return wl_err_errno(err, "%s cannot be read at byte %lld", path,
				(long long)offset + (long long)done);
		if (!got)
			return wl_err_set(err, WL_EDATA,
				"%s ends at byte %lld where %zu bytes at %lld were expected: it is "
				"cut short",
				path, (long long)offset + (long long)done, n, (long long)offset);
		done += (size_t)got;
	}
	return 0;
}

int wl_pwrite_full(
	int fd, const void *src, size_t n, int64_t offset, const char *path, struct wl_err *err)
{
	size_t done = 0;

	while (done < n) {
		ssize_t put =
			pwrite(fd, (const char *)src + done, n - done, offset + (int64_t)done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return wl_err_errno(err, "%s cannot be written at byte %lld", path,
				(long long)offset + (long long)done);
		done += (size_t)put;
	}
	return 0;
}

int wl_fsync_dir(const char *dir, struct wl_err *err)
{
	int fd = open(*dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return wl_err_errno(err, "directory %s cannot be opened to be synced", dir);
	/* Some file systems cannot sync directories and say EINVAL: nothing is left to do then. */
	if (fsync(fd) && errno != EINVAL)
		ret = wl_err_errno(err, "directory %s cannot be synced", dir);
	close(fd);
	return ret;
}

static int fsync_parent(const char *path, struct wl_err *err)
{
	const char *slash = strrchr(path, '/');
	char *dir;
	int ret;

	if (!slash)
		return wl_fsync_dir(".", err);
	dir = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	if (!dir)
		return wl_err_nomem(err, "a directory name", (size_t)(slash - path));
	ret = wl_fsync_dir(dir, err);
	free(dir);
	return ret;
}

int wl_write_file(const char *path, const void *bytes, size_t n, struct wl_err *err)
{
	struct wl_outfile f;

	WL_TRY(wl_outfile_open(&f, path, err));
	if (n && fwrite(bytes, 1, n, f.fp) != n) {
		wl_err_errno(err, "%s cannot be written (%zu bytes)", f.tmp, n);
		wl_outfile_discard(&f);
		return -1;
	}
	return wl_outfile_commit(&f, err);
}

/* Opens and locks the temporary file.  Between open and lock its former owner may have
 * renamed it into place: then the name no longer leads to what we hold, and we try again. */
static int open_locked(const char *tmp, struct wl_err *err)
{
	for (;;) {
		struct stat held, named;
		int fd = open(tmp, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

		if (fd < 0)
			return wl_err_errno(err, "%s cannot be created", tmp);
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			wl_err_set(err, WL_EFAIL,
				"%s is being written by another process: wait for it or stop it",
				tmp);
			close(fd);
			return -1;
		}
		if (!fstat(fd, &held) && !stat(tmp, &named) && held.st_ino == named.st_ino &&
			held.st_dev == named.st_dev) {
			if (!ftruncate(fd, 0))
				return fd;
			wl_err_errno(err, "%s cannot be truncated", tmp);
			close(fd);
			return -1;
		}
		close(fd);
	}
}

/* Where the bytes go: what a link leads to, so that /dev/stdout and a link of the user's stay
 * what they are.  The caller frees. */
static char *behind_links(const char *path, struct wl_err *err)
{
	struct stat st;
	char *real = NULL;

	if (!lstat(path, &st) && S_ISLNK(st.st_mode))
		real = realpath(path, NULL);
	return real ? real : wl_strf(err, "%s", path);
}

int wl_outfile_open(struct wl_outfile *f, const char *path, struct wl_err *err)
{
	int fd = -1;

	*f = (struct wl_outfile){0};
	WL_TRY(wl_path_check(path, WL_PATH_OUTPUT, NULL, err));
	f->path = behind_links(path, err);
	f->tmp = f->path ? wl_strf(err, "%s.tmp", f->path) : NULL;
	if (f->path && f->tmp)
		fd = open_locked(f->tmp, err);
	if (fd >= 0) {
		f->fp = fdopen(fd, "w+");
		if (f->fp)
			return 0;
		wl_err_errno(err, "%s cannot be opened", f->tmp);
		close(fd);
	}
	free(f->path);
	free(f->tmp);
	*f = (struct wl_outfile){0};
	return -1;
}

int wl_outfile_commit(struct wl_outfile *f, struct wl_err *err)
{
	int lock = -1, closed;

	if (ferror(f->fp) || fflush(f->fp)) {
		wl_err_errno(err, "%s cannot be written to the end", f->tmp);
		goto fail;
	}
	if (fsync(fileno(f->fp))) {
		wl_err_errno(err, "%s cannot be synced", f->tmp);
		goto fail;
	}
	lock = dup(fileno(f->fp)); /* keeps the lock past fclose, until the rename is done */
	closed = fclose(f->fp);
	f->fp = NULL;
	if (closed) {
		wl_err_errno(err, "%s cannot be closed", f->tmp);
		goto fail;
	}
	if (rename(f->tmp, f->path)) {
		wl_err_errno(err, "%s cannot be renamed to %s", f->tmp, f->path);
		goto fail;
	}
	free(f->tmp);
	f->tmp = NULL; /* from here on there is nothing to remove */
	if (fsync_parent(f->path, err) < 0)
		goto fail;
	if (lock >= 0)
		close(lock);
	wl_outfile_discard(f);
	return 0;
fail:
	wl_outfile_discard(f);
	if (lock >= 0)
		close(lock);
	return -1;
}

void wl_outfile_discard(struct wl_outfile *f)
{
	if (!f)
		return;
	if (f->tmp)
		unlink(f->tmp); /* before the lock goes with the close */
	if (f->fp)
		fclose(f->fp);
	free(f->tmp);
	free(f->path);
	*f = (struct wl_outfile){0};
}

int wl_remove_tree(const char *path, struct wl_err *err)
{
	struct wl_names names = {0};
	struct stat st;
	int ret = -1;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : wl_err_errno(err, "%s cannot be examined", path);
	if (!S_ISDIR(st.st_mode))
		return unlink(path) && errno != ENOENT
			       ? wl_err_errno(err, "%s cannot be removed", path)
			       : 0;
	WL_TRY(wl_list_dir(path, "*", &names, err));
	for (size_t i = 0; i < names.n; i++) {
		char *child = wl_path_join(path, names.v[i], err);
		int r = child ? wl_remove_tree(child, err) : -1;

		free(child);
		WL_TRY_OUT(r);
	}
	if (rmdir(path) && errno != ENOENT) {
		wl_err_errno(err, "directory %s cannot be removed", path);
		goto out;
	}
	ret = 0;
out:
	wl_names_release(&names);
	return ret;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int names_add(struct wl_names *names, const char *s, struct wl_err *err)
{
	char *copy;

	/* Grows at powers of two, so the capacity need not be kept. */
	if (!(names->n & (names->n - 1))) {
		size_t cap = names->n ? names->n * 2 : 1;
		char **v = realloc(names->v, cap * sizeof *v);

		if (!v)
			return wl_err_nomem(err, "a list of names", cap * sizeof *v);
		names->v = v;
	}
	copy = strdup(s);
	if (!copy)
		return wl_err_nomem(err, "a name", strlen(s));
	names->v[names->n++] = copy;
	return 0;
}

static void names_sort(struct wl_names *names)
{
	if (names->n)
		qsort(names->v, names->n, sizeof *names->v, by_bytes);
}

int wl_list_dir(const char *dir, const char *pattern, struct wl_names *out, struct wl_err *err)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int ret = -1;

	*out = (struct wl_names){0};
	if (!d)
		return wl_path_failed(dir, "opened", NULL, err);
	for (errno = 0; (e = readdir(d)); errno = 0) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (!fnmatch(pattern, e->d_name, 0))
			WL_TRY_OUT(names_add(out, e->d_name, err));
	}
	if (errno) {
		wl_err_errno(err, "directory %s cannot be read", dir);
		goto out;
	}
	names_sort(out);
	ret = 0;
out:
	closedir(d);
	if (ret)
		wl_names_release(out);
	return ret;
}

int wl_glob(const char *pattern, struct wl_names *out, struct wl_err *err)
{
	glob_t g = {0};
	int rc, ret = -1;

	*out = (struct wl_names){0};
	/* A path that exists means itself, even with brackets in its name. */
	if (wl_exists(pattern)) {
		ret = names_add(out, pattern, err);
		goto out;
	}
	rc = glob(pattern, GLOB_NOSORT, NULL, &g);
	if (rc == GLOB_NOMATCH) {
		wl_err_set(err, WL_EUSAGE, "%s matches no file; check the path, and quote a "
			"pattern so that the shell leaves it alone", pattern);
		goto out;
	}
	if (rc) {
		wl_err_set(err, WL_EFAIL, "the files that match %s cannot be listed", pattern);
		goto out;
	}
	for (size_t i = 0; i < g.gl_pathc; i++)
		WL_TRY_OUT(names_add(out, g.gl_pathv[i], err));
	names_sort(out);
	ret = 0;
out:
	globfree(&g);
	if (ret)
		wl_names_release(out);
	return ret;
}

int wl_names_add(struct wl_names *names, const char *name, struct wl_err *err)
{
	char **v = realloc(names->v, (names->n + 1) * sizeof *v);

	if (!v)
		return wl_err_nomem(err, "a list of names", (names->n + 1) * sizeof *v);
	names->v = v;
	v[names->n] = strdup(name);
	if (!v[names->n])
		return wl_err_nomem(err, "a name", strlen(name));
	names->n++;
	return 0;
}

void wl_names_release(struct wl_names *names)
{
	if (!names)
		return;
	for (size_t i = 0; i < names->n; i++)
		free(names->v[i]);
	free(names->v);
	*names = (struct wl_names){0};
}

char *wl_share_path(const char *name, struct wl_err *err)
{
	/* Beside an installed bin/, and above build/VARIANT/bin/ or build/VARIANT/tests/. */
	static const char *const above[] = {"../share/wenlan", "../../.."};
	const char *set = getenv("WENLAN_SHARE");
	char exe[4096], *slash;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

	if (set && *set) {
		char *path = wl_strf(err, "%s%s%s", set, *name ? "/" : "", name);

		if (path && !wl_exists(path)) {
			wl_err_set(err, WL_EFAIL,
				"%s is missing: WENLAN_SHARE must name the directory"
				" that holds it",
				path);
			free(path);
			return NULL;
		}
		return path;
	}
	exe[n > 0 ? n : 0] = 0;
	slash = strrchr(exe, '/');
	if (slash)
		*slash = 0;
	for (size_t i = 0; slash && i < 2; i++) {
		char *probe = wl_strf(err, "%s/%s/ops/plans", exe, above[i]);
		char *path = wl_strf(err, "%s/%s%s%s", exe, above[i], *name ? "/" : "", name);
		bool found = probe && path && wl_exists(probe) && wl_exists(path);

		free(probe);
		if (found)
			return path;
		free(path);
	}
	wl_err_set(err, WL_EFAIL,
		"%s, which comes with these programs, is not found beside %s: set WENLAN_SHARE to "
		"the"
		" directory that holds it",
		*name ? name : "the directory share/wenlan", exe);
	return NULL;
}

int wl_lock_try(const char *path, bool shared, struct wl_err *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	int ret;

	if (fd < 0)
		return wl_err_errno(err, "lock file %s cannot be opened", path);
	if (!flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB))
		return fd;
	ret = errno == EWOULDBLOCK ? WL_LOCK_BUSY : wl_err_errno(err, "%s cannot be locked", path);
	close(fd);
	return ret;
}

int wl_lock_file(const char *path, struct wl_err *err)
{
	int fd = wl_lock_try(path, false, err);

	if (fd != WL_LOCK_BUSY)
		return fd;
	return wl_err_set(err, WL_EFAIL,
		"%s is locked by another process: wait for it to end, or stop it", path);
}
