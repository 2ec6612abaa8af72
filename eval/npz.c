/* See npz.h. */
#include "eval/npz.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK = 1 << 20, MEMBERS_MAX = 10000 };

static int broken(struct archive *a, const char *path, struct wl_err *err)
{
	const char *why = archive_error_string(a);

	return wl_err_set(err, WL_EDATA, "%s cannot be read as .npz: %s", path,
		why ? why : "it is damaged");
}

static int read_member(struct archive *a, const char *path, struct wl_buf *out,
	struct wl_err *err)
{
	for (;;) {
		la_ssize_t got;

		WL_TRY(wl_buf_reserve(out, BLOCK, err));
		got = archive_read_data(a, out->data + out->len, BLOCK);
		if (got < 0)
			return broken(a, path, err);
		if (!got)
			return 0;
		out->len += (size_t)got;
	}
}

/* True when the member is NAME.npy. */
static bool is_named(const char *member, const char *name)
{
	size_t n = strlen(name);

	return !strncmp(member, name, n) && (!member[n] || !strcmp(member + n, ".npy"));
}

static int find(struct archive *a, const char *path, const char *name, struct wl_buf *out,
	struct wl_err *err)
{
	struct archive_entry *e;
	char names[300] = "";
	int ret, found = 0, members = 0;

	while ((ret = archive_read_next_header(a, &e)) == ARCHIVE_OK || ret == ARCHIVE_WARN) {
		const char *member = archive_entry_pathname(e);
		size_t len = strlen(names);

		if (!member || members++ > MEMBERS_MAX)
			return broken(a, path, err);
		snprintf(names + len, sizeof names - len, "%s%.80s", len ? ", " : "", member);
		if (name ? is_named(member, name) && !found : !found) {
			WL_TRY(read_member(a, path, out, err));
			found++;
		}
	}
	if (ret != ARCHIVE_EOF)
		return broken(a, path, err);
	if (!name && members > 1)
		return wl_err_set(err, WL_EDATA, "%s holds several arrays (%s): name one, as in"
			" %s:NAME", path, names, path);
	if (!found)
		return wl_err_set(err, WL_EDATA, "%s has no array %s; there are: %s", path,
			name ? name : "at all", names);
	return 0;
}

static struct archive *reader(void)
{
	struct archive *a = archive_read_new();

	if (a && archive_read_support_format_zip_seekable(a) != ARCHIVE_OK) {
		archive_read_free(a);
		a = NULL;
	}
	return a;
}

int wl_npz_read(const char *path, const char *name, struct wl_buf *out, struct wl_err *err)
{
	struct archive *a = reader();
	int ret;

	if (!a)
		return wl_err_nomem(err, path, 0);
	if (archive_read_open_filename(a, path, BLOCK) != ARCHIVE_OK)
		ret = broken(a, path, err);
	else
		ret = find(a, path, name, out, err);
	archive_read_free(a);
	return ret;
}

int wl_npz_read_memory(const void *bytes, size_t n, const char *path, const char *name,
	struct wl_buf *out, struct wl_err *err)
{
	struct archive *a = reader();
	int ret;

	if (!a)
		return wl_err_nomem(err, path, 0);
	if (archive_read_open_memory(a, bytes, n) != ARCHIVE_OK)
		ret = broken(a, path, err);
	else
		ret = find(a, path, name, out, err);
	archive_read_free(a);
	return ret;
}
