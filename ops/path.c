/* What is wrong with a path, in words: see path.h. */
#include "ops/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The directory that holds path, "." for a bare name; a closing slash does not count. */
static void parent_of(const char *path, char *out, size_t size)
{
	size_t n = strlen(path);
	char *slash;

	while (n > 1 && path[n - 1] == '/')
		n--;
	snprintf(out, size, "%.*s", (int)(n < PATH_MAX ? n : PATH_MAX), path);
	slash = strrchr(out, '/');
	if (!slash)
		snprintf(out, size, ".");
	else
		slash[slash == out] = 0;
}

/* Climbs from path to the first of its parents that is there; *is_dir says what that is. */
static void nearest_there(const char *path, char *out, size_t size, bool *is_dir)
{
	struct stat st;

	parent_of(path, out, size);
	while (stat(out, &st) && strcmp(out, ".") && strcmp(out, "/")) {
		char up[PATH_MAX + 1];

		parent_of(out, up, sizeof up);
		snprintf(out, size, "%s", up);
	}
	*is_dir = !stat(out, &st) && S_ISDIR(st.st_mode);
}

static const char *or_check(const char *mend)
{
	return mend ? mend : "check the path";
}

/* Nothing is at path: where it ends, since that is where the typing error is. */
static int not_there(const char *path, const char *verb, bool dir, const char *mend,
	struct wl_err *err)
{
	char near[PATH_MAX + 1], parent[PATH_MAX + 1];
	struct stat st;
	bool is_dir;

	if (!*path)
		return wl_err_set(err, WL_EFAIL, "an empty name cannot be %s; %s", verb,
			or_check(mend));
	if (!lstat(path, &st) && S_ISLNK(st.st_mode))
		return wl_err_set(err, WL_EFAIL, "%s cannot be %s: it is a link to what is not "
			"there; %s", path, verb, or_check(mend));
	nearest_there(path, near, sizeof near, &is_dir);
	parent_of(path, parent, sizeof parent);
	if (!is_dir)
		return wl_err_set(err, WL_EFAIL, "%s cannot be %s: %s is a file, not a directory; "
			"%s", path, verb, near, or_check(mend));
	if (strcmp(near, parent))
		return wl_err_set(err, WL_EFAIL, "%s cannot be %s: there is no directory %s; %s",
			path, verb, parent, or_check(mend));
	return wl_err_set(err, WL_EFAIL, "%s cannot be %s: there is no such %s; %s", path, verb,
		dir ? "file or directory" : "file", or_check(mend));
}

int wl_path_failed(const char *path, const char *verb, const char *mend, struct wl_err *err)
{
	int saved = errno;
	struct stat st;

	if (saved == ENOENT || saved == ENOTDIR) {
		/* A directory was wanted, and a file is there; or it came to be just now. */
		if (stat(path, &st))
			return not_there(path, verb, false, mend, err);
		if (saved == ENOTDIR)
			return wl_err_set(err, WL_EFAIL, "%s cannot be %s: it is a file, not a "
				"directory; %s", path, verb, or_check(mend));
	}
	if (saved == EISDIR)
		return wl_err_set(err, WL_EFAIL, "%s cannot be %s: it is a directory, and a "
			"file is expected; %s", path, verb, mend ? mend : "name one");
	if (saved == EROFS)
		return wl_err_set(err, WL_EFAIL, "%s cannot be %s: its disk is mounted read-only; "
			"name another place", path, verb);
	if (saved == EACCES || saved == EPERM)
		return wl_err_set(err, WL_EFAIL, "%s cannot be %s: this user (%ld) may not; have "
			"its owner allow it, or name another", path, verb, (long)geteuid());
	errno = saved;
	return wl_err_errno(err, "%s cannot be %s", path, verb);
}

static int check_input(const char *path, enum wl_path_want want, const char *mend,
	struct wl_err *err)
{
	struct stat st;

	if (stat(path, &st)) {
		if (errno == ENOENT || errno == ENOTDIR)
			return not_there(path, "opened", want != WL_PATH_FILE, mend, err);
		return wl_path_failed(path, "opened", mend, err);
	}
	if (want == WL_PATH_FILE && S_ISDIR(st.st_mode)) {
		errno = EISDIR;
		return wl_path_failed(path, "opened", mend, err);
	}
	if (want == WL_PATH_DIR && !S_ISDIR(st.st_mode)) {
		errno = ENOTDIR;
		return wl_path_failed(path, "opened", mend, err);
	}
	/* As who the program runs: access() asks for the real user. */
	if (faccessat(AT_FDCWD, path, S_ISDIR(st.st_mode) ? R_OK | X_OK : R_OK, AT_EACCESS))
		return wl_path_failed(path, "opened", mend, err);
	return 0;
}

/* Whether a file can come to be in dir. */
static int check_place(const char *path, const char *dir, struct wl_err *err)
{
	if (!faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS))
		return 0;
	if (errno == EROFS)
		return wl_err_set(err, WL_EFAIL, "%s cannot be written: %s is on a disk that is "
			"mounted read-only; name another place", path, dir);
	return wl_err_set(err, WL_EFAIL, "%s cannot be written: this user (%ld) may not write into "
		"%s; name another place, or have its owner allow it", path, (long)geteuid(), dir);
}

static int check_output(const char *path, const char *mend, struct wl_err *err)
{
	char dir[PATH_MAX + 1], near[PATH_MAX + 1];
	size_t n = strlen(path);
	struct stat st;
	bool is_dir;

	if (!n)
		return wl_err_set(err, WL_EFAIL, "an empty name cannot be written; name a file");
	if (path[n - 1] == '/' || (!stat(path, &st) && S_ISDIR(st.st_mode)))
		return wl_err_set(err, WL_EFAIL, "%s cannot be written: it is a directory; name a "
			"file%s%s", path, mend ? ": " : " in it", mend ? mend : "");
	/* A finished file takes the place of what had the name: never of a device. */
	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return wl_err_set(err, WL_EFAIL, "%s cannot be written: it is a device or a pipe, "
			"and what is whole is renamed into its place; name a plain file", path);
	parent_of(path, dir, sizeof dir);
	nearest_there(path, near, sizeof near, &is_dir);
	if (!is_dir)
		return wl_err_set(err, WL_EFAIL, "%s cannot be written: %s is a file, not a "
			"directory; name another place", path, near);
	if (strcmp(near, dir))
		return wl_err_set(err, WL_EFAIL, "%s cannot be written: there is no directory %s; "
			"make it first (mkdir -p %s), or name another place", path, dir, dir);
	return check_place(path, dir, err);
}

static int check_output_dir(const char *path, struct wl_err *err)
{
	char near[PATH_MAX + 1];
	struct stat st;
	bool is_dir;

	if (!*path)
		return wl_err_set(err, WL_EFAIL, "an empty name cannot be made; name a directory");
	if (!stat(path, &st)) {
		if (!S_ISDIR(st.st_mode))
			return wl_err_set(err, WL_EFAIL, "%s is a file, and a directory is to be "
				"written: name another place, or move it away", path);
		return check_place(path, path, err);
	}
	nearest_there(path, near, sizeof near, &is_dir);
	if (!is_dir)
		return wl_err_set(err, WL_EFAIL, "%s cannot be made: %s is a file, not a "
			"directory; name another place", path, near);
	return check_place(path, near, err);
}

int wl_path_check(const char *path, enum wl_path_want want, const char *mend, struct wl_err *err)
{
	if (want == WL_PATH_OUTPUT)
		return check_output(path, mend, err);
	if (want == WL_PATH_OUTPUT_DIR)
		return check_output_dir(path, err);
	return check_input(path, want, mend, err);
}
