/*
 * A member is read by handing libarchive the bytes from its header to the next member's, so
 * long names, pax headers and the rest are its business at each access as in the first pass.
 */
#include "ingest/tarindex.h"

#include "ops/file.h"
#include "ops/grow.h"
#include "ops/path.h"

#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 1 << 14 /* mostly headers are read */, MAX_HEADERS = 1 << 20 };

const char *wl_tar_name(const char *name)
{
	for (;;) {
		if (name[0] == '/')
			name++;
		else if (name[0] == '.' && name[1] == '/')
			name += 2;
		else
			return name;
	}
}

static const char *reason(struct archive *a)
{
	return archive_error_string(a) ? archive_error_string(a) : "it cannot be read";
}

static int add_member(
	struct wl_tarindex *x, size_t *cap, const struct wl_tar_member *m, struct wl_err *err)
{
	WL_TRY(WL_GROW(x->v, x->n, *cap, "the index of a tar", err));
	x->v[x->n] = *m;
	x->v[x->n].name = wl_arena_strdup(&x->names, m->name, err);
	if (!x->v[x->n].name)
		return -1;
	x->n++;
	return 0;
}

/* By name, then by place. */
static int by_name(const void *a, const void *b)
{
	const struct wl_tar_member *m = a, *k = b;
	int c = strcmp(m->name, k->name);
	return c ? c : (m->start > k->start) - (m->start < k->start);
}

/* Of several members with one name the last counts, as when tar unpacks. */
static void sort_unique(struct wl_tarindex *x)
{
	size_t kept = 0;
	if (x->n)
		qsort(x->v, x->n, sizeof *x->v, by_name);
	for (size_t i = 0; i < x->n; i++) {
		if (kept && strcmp(x->v[kept - 1].name, x->v[i].name) == 0)
			kept--;
		x->v[kept++] = x->v[i];
	}
	x->n = kept;
}

static int scan(struct wl_tarindex *x, struct archive *a, int64_t file_size, struct wl_err *err)
{
	struct archive_entry *e;
	size_t cap = 0, open_member = SIZE_MAX;
	int rc;
	int64_t members = 0;
	while ((rc = archive_read_next_header(a, &e)) == ARCHIVE_OK || rc == ARCHIVE_WARN) {
		if (archive_filter_code(a, 0) != ARCHIVE_FILTER_NONE) {
			x->compressed = true;
			return 0;
		}
		const char *name = archive_entry_pathname(e);
		struct wl_tar_member m = {.name = wl_tar_name(name ? name : ""),
			.start = archive_read_header_position(a),
			.end = file_size,
			.size = archive_entry_size(e)};
		if (open_member != SIZE_MAX)
			x->v[open_member].end = m.start;
		open_member = SIZE_MAX;
		members++;
		if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e))
			continue;
		if (m.size < 0 || m.size > file_size - m.start)
			return wl_err_set(err, WL_EDATA,
				"%s is cut off: member %lld (%s) at byte %lld has %lld bytes, the "
				"file "
				"ends before them",
				x->path, (long long)members, m.name, (long long)m.start,
				(long long)m.size);
		WL_TRY(add_member(x, &cap, &m, err));
		open_member = x->n - 1;
	}
	if (rc != ARCHIVE_EOF)
		return wl_err_set(err, WL_EDATA,
			"%s is damaged after member %lld: %s; get it again", x->path,
			(long long)members, reason(a));
	sort_unique(x);
	return 0;
}

int wl_tarindex_open(struct wl_tarindex *x, const char *path, struct wl_err *err)
{
	struct archive *a = archive_read_new();
	int64_t size;
	int ret = -1;
	*x = (struct wl_tarindex){.fd = -1};
	x->path = wl_strf(err, "%s", path);
	if (!a) {
		wl_err_nomem(err, "an archive reader", 0);
		goto out;
	}
	if (!x->path)
		goto out;
	x->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (x->fd < 0) {
		wl_path_failed(path, "opened", NULL, err);
		goto out;
	}
	size = wl_file_size(path, err);
	if (size < 0)
		goto out;
	archive_read_support_filter_all(a);
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	if (archive_read_open_filename(a, path, BLOCK) != ARCHIVE_OK) {
		wl_err_set(err, WL_EDATA, "%s is no tar: %s", path, reason(a));
		goto out;
	}
	ret = scan(x, a, size, err);
out:
	archive_read_free(a);
	if (ret < 0)
		wl_tarindex_close(x);
	return ret;
}

void wl_tarindex_forget(struct wl_tarindex *x)
{
	free(x->v);
	x->v = NULL;
	x->n = 0;
	wl_arena_release(&x->names);
	x->names = (struct wl_arena)WL_ARENA_INIT;
}

void wl_tarindex_close(struct wl_tarindex *x)
{
	if (!x)
		return;
	if (x->fd >= 0)
		close(x->fd);
	free(x->path);
	free(x->v);
	wl_arena_release(&x->names);
	*x = (struct wl_tarindex){.fd = -1};
}

const struct wl_tar_member *wl_tarindex_find(const struct wl_tarindex *x, const char *name)
{
	size_t lo = 0, hi = x->n;
	name = wl_tar_name(name);
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(x->v[mid].name, name);
		if (c == 0)
			return &x->v[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static int damaged(const struct wl_tarindex *x, const struct wl_tar_member *m, struct archive *a,
	struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA, "%s, member %s at byte %lld: %s", x->path, m->name,
		(long long)m->start, reason(a));
}

static int read_entry(const struct wl_tarindex *x, const struct wl_tar_member *m, struct archive *a,
	const void *bytes, size_t n, struct wl_buf *out, struct wl_err *err)
{
	struct archive_entry *e;
	archive_read_support_format_tar(a);
	if (archive_read_open_memory(a, bytes, n) != ARCHIVE_OK ||
		archive_read_next_header(a, &e) < ARCHIVE_WARN)
		return damaged(x, m, a, err);
	wl_buf_reset(out);
	WL_TRY(wl_buf_reserve(out, (size_t)m->size, err));
	la_ssize_t got = archive_read_data(a, out->data, (size_t)m->size);
	if (got != m->size)
		return damaged(x, m, a, err);
	out->len = (size_t)got;
	out->data[out->len] = '\0';
	return 0;
}

enum { TAR_BLOCK = 512 };

/* Whether h is a plain file's own header (POSIX ustar, GNU or old: size in octal at 124, type at
 * 156), with nothing before it that would say otherwise. */
static bool is_plain_header(const uint8_t *h, int64_t size)
{
	int64_t said = 0;
	unsigned sum = 0, want = 0;
	for (int i = 124; i < 135; i++) {
		if (h[i] < '0' || h[i] > '7')
			return false;
		said = said << 3 | (h[i] - '0');
	}
	for (int i = 0; i < TAR_BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : h[i];
	for (int i = 148; i < 154 && h[i] >= '0' && h[i] <= '7'; i++)
		want = want << 3 | (h[i] - '0');
	return said == size && sum == want && (h[156] == '0' || h[156] == 0);
}

/* Most members: one header, and the data right behind it.  1: read; 0: it is not of that kind. */
static int read_plain(const struct wl_tarindex *x, const struct wl_tar_member *m,
	struct wl_buf *out, struct wl_err *err)
{
	uint8_t head[TAR_BLOCK];
	size_t n = (size_t)m->size;
	wl_buf_reset(out);
	WL_TRY(wl_buf_reserve(out, n, err));
	struct iovec v[2] = {{head, sizeof head}, {out->data, n}};
	ssize_t got = preadv(x->fd, v, 2, m->start);
	/* Short reads and failures are for the thorough way. */
	if (got != (ssize_t)(TAR_BLOCK + n) || !is_plain_header(head, m->size))
		return 0;
	out->len = n;
	out->data[n] = '\0';
	return 1;
}

int wl_tarindex_read(const struct wl_tarindex *x, const struct wl_tar_member *m, struct wl_buf *out,
	struct wl_err *err)
{
	int plain = read_plain(x, m, out, err);
	if (plain)
		return plain < 0 ? -1 : 0;
	/* Headers, data and padding; what follows the last member is not needed. */
	int64_t n = m->end - m->start, most = m->size + MAX_HEADERS;
	char *bytes;
	struct archive *a;
	int ret = -1;
	if (n > most)
		n = most;
	bytes = malloc((size_t)n);
	a = archive_read_new();
	if (!bytes || !a) {
		wl_err_nomem(err, "a member of a tar", (size_t)n);
		goto out;
	}
	WL_TRY_OUT(wl_pread_full(x->fd, bytes, (size_t)n, m->start, x->path, err));
	ret = read_entry(x, m, a, bytes, (size_t)n, out, err);
out:
	archive_read_free(a);
	free(bytes);
	return ret;
}

struct archive *wl_tarindex_stream(
	const struct wl_tarindex *x, const struct wl_tar_member *m, struct wl_err *err)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	int rc;
	if (!a) {
		wl_err_nomem(err, "an archive reader", 0);
		return NULL;
	}
	archive_read_support_format_tar(a);
	if (archive_read_open_filename(a, x->path, BLOCK) != ARCHIVE_OK)
		goto fail;
	while ((rc = archive_read_next_header(a, &e)) == ARCHIVE_OK || rc == ARCHIVE_WARN)
		if (archive_read_header_position(a) == m->start)
			return a;
fail:
	damaged(x, m, a, err);
	archive_read_free(a);
	return NULL;
}
