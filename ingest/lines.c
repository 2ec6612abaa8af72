/* Lines: see lines.h. */
#include "ingest/lines.h"

#include "ingest/record.h"
#include "ops/file.h"

#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, LONG_LINE_KEPT = 1 << 20 };

static int archive_failed(struct wl_lines *l, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA,
		"%s is damaged at or after line %lld (byte %lld): %s; get it again, what came "
		"before "
		"is kept",
		l->path, (long long)l->line + 1, (long long)l->offset,
		archive_error_string(l->a) ? archive_error_string(l->a) : "it cannot be read");
}

/* Refills when nothing is left.  1: something is there; 0: the end. */
static int refill(struct wl_lines *l, struct wl_err *err)
{
	if (l->left)
		return 1;
	if (l->empty)
		return 0;
	if (l->a) {
		const void *block;
		size_t n;
		la_int64_t at;
		int rc;
		do {
			rc = archive_read_data_block(l->a, &block, &n, &at);
		} while (rc == ARCHIVE_OK && n == 0);
		if (rc == ARCHIVE_EOF)
			return 0;
		if (rc != ARCHIVE_OK)
			return archive_failed(l, err);
		l->p = block;
		l->left = n;
		return 1;
	}
	ssize_t n;
	do {
		n = read(l->fd, l->chunk, CHUNK);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return wl_err_errno(
			err, "%s cannot be read at byte %lld", l->path, (long long)l->offset);
	l->p = l->chunk;
	l->left = (size_t)n;
	return n > 0;
}

static void consume(struct wl_lines *l, size_t n)
{
	l->p += n;
	l->left -= n;
	l->offset += (int64_t)n;
}

static int was_replaced(struct wl_lines *l, int64_t offset, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA,
		"%s is not the file that was read before: it has no line ending at byte %lld, "
		"where "
		"reading stopped; give a new file a new name",
		l->path, (long long)offset);
}

/* Streams cannot seek: reads up to the offset. */
static int skip_to(struct wl_lines *l, int64_t offset, struct wl_err *err)
{
	char last = '\n';
	while (l->offset < offset) {
		int more = refill(l, err);
		WL_TRY(more);
		if (!more)
			return was_replaced(l, offset, err);
		size_t n = l->left;
		if ((int64_t)n > offset - l->offset)
			n = (size_t)(offset - l->offset);
		last = l->p[n - 1];
		consume(l, n);
	}
	if (last == '\n')
		return 0;
	/* A last line without a newline was the end then; now more may follow it. */
	int more = refill(l, err);
	WL_TRY(more);
	if (more && *l->p != '\n')
		return was_replaced(l, offset, err);
	if (more)
		consume(l, 1);
	return 0;
}

/* What stood in the chunk was looked at by the archive reader only. */
static int go_plain(struct wl_lines *l, int64_t offset, int64_t size, struct wl_err *err)
{
	archive_read_free(l->a);
	l->a = NULL;
	if (offset > size)
		return was_replaced(l, offset, err);
	/* From one byte before, so that skip_to sees whether a line ended there. */
	l->offset = offset > 0 ? offset - 1 : 0;
	if (lseek(l->fd, l->offset, SEEK_SET) < 0)
		return wl_err_errno(
			err, "%s cannot be read at byte %lld", l->path, (long long)l->offset);
	return skip_to(l, offset, err);
}

static int init(struct wl_lines *l, const char *path, int64_t line, struct wl_err *err)
{
	*l = (struct wl_lines){.fd = -1, .line = line};
	l->path = wl_strf(err, "%s", path);
	return l->path ? 0 : -1;
}

static la_ssize_t read_chunk(struct archive *a, void *ctx, const void **bytes)
{
	struct wl_lines *l = ctx;
	ssize_t n;
	do {
		n = read(l->fd, l->chunk, CHUNK);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		archive_set_error(a, errno, "%s", strerror(errno));
	*bytes = l->chunk;
	return n;
}

/* Opened here, once: libarchive's own files are read to their end when they are closed, and a pipe
 * does not say twice what it was looked at for. */
static int open_reader(struct wl_lines *l, struct stat *st, struct wl_err *err)
{
	l->fd = open(l->path, O_RDONLY | O_CLOEXEC);
	if (l->fd < 0 || fstat(l->fd, st))
		return wl_err_set(
			err, WL_EDATA, "%s cannot be opened: %s", l->path, strerror(errno));
	l->chunk = malloc(CHUNK);
	if (!l->chunk)
		return wl_err_nomem(err, "a reading buffer", CHUNK);
	l->a = archive_read_new();
	if (!l->a)
		return wl_err_nomem(err, "an archive reader", 0);
	archive_read_support_filter_all(l->a);
	archive_read_support_format_raw(l->a);
	archive_read_support_format_empty(l->a);
	if (archive_read_open(l->a, l, NULL, read_chunk, NULL) != ARCHIVE_OK)
		return archive_failed(l, err);
	return 0;
}

int wl_lines_open(
	struct wl_lines *l, const char *path, int64_t offset, int64_t line, struct wl_err *err)
{
	struct archive_entry *e;
	struct stat st;
	int rc;
	WL_TRY(init(l, path, line, err));
	WL_TRY_OUT(open_reader(l, &st, err));
	/* Position 0 of the list is the outermost filter; "none" means a plain file. */
	if (archive_filter_code(l->a, 0) == ARCHIVE_FILTER_NONE && S_ISREG(st.st_mode)) {
		WL_TRY_OUT(go_plain(l, offset, st.st_size, err));
		return 0;
	}
	rc = archive_read_next_header(l->a, &e);
	if (rc != ARCHIVE_OK && rc != ARCHIVE_EOF) {
		archive_failed(l, err);
		goto out;
	}
	l->empty = rc == ARCHIVE_EOF;
	WL_TRY_OUT(skip_to(l, offset, err));
	return 0;
out:
	wl_lines_close(l);
	return -1;
}

int wl_lines_open_entry(struct wl_lines *l, struct archive *a, const char *path, int64_t offset,
	int64_t line, struct wl_err *err)
{
	if (init(l, path, line, err) < 0) {
		archive_read_free(a);
		return -1;
	}
	l->a = a;
	if (skip_to(l, offset, err) < 0) {
		wl_lines_close(l);
		return -1;
	}
	return 0;
}

/* Appends what fits; a line over the limit keeps its first part only. */
static int append(struct wl_buf *out, const char *p, size_t n, bool *too_long, struct wl_err *err)
{
	if (!*too_long && n <= out->max - out->len)
		return wl_buf_add(out, p, n, err);
	if (!*too_long && out->len < LONG_LINE_KEPT) {
		size_t room = LONG_LINE_KEPT - out->len;
		WL_TRY(wl_buf_add(out, p, n < room ? n : room, err));
	}
	*too_long = true;
	return 0;
}

int wl_lines_next(struct wl_lines *l, struct wl_buf *out, bool *too_long, struct wl_err *err)
{
	bool any = false;
	wl_buf_reset(out);
	*too_long = false;
	if (l->again) {
		const struct wl_buf *line = l->again;
		l->again = NULL;
		WL_TRY(append(out, line->data, line->len, too_long, err));
		*too_long = *too_long || l->again_too_long;
		return 1;
	}
	for (;;) {
		int more = refill(l, err);
		WL_TRY(more);
		if (!more)
			break;
		const char *nl = memchr(l->p, '\n', l->left);
		size_t n = nl ? (size_t)(nl - l->p) : l->left;
		any = true;
		WL_TRY(append(out, l->p, n, too_long, err));
		consume(l, nl ? n + 1 : n);
		if (nl)
			break;
	}
	if (any)
		l->line++;
	return any;
}

void wl_lines_put_back(struct wl_lines *l, const struct wl_buf *line, bool too_long)
{
	l->again = line;
	l->again_too_long = too_long;
}

int wl_lines_move_to(struct wl_lines *l, int64_t offset, int64_t line, struct wl_err *err)
{
	char *path;
	int ret;

	l->again = NULL;
	if (l->a) {
		/* One byte: the newline that a last line had not yet. */
		if (l->offset > offset + 1)
			return was_replaced(l, offset, err);
		WL_TRY(skip_to(l, offset, err));
		l->line = line;
		return 0;
	}
	path = l->path;
	l->path = NULL;
	wl_lines_close(l);
	ret = wl_lines_open(l, path, offset, line, err);
	free(path);
	return ret;
}

void wl_lines_close(struct wl_lines *l)
{
	if (!l)
		return;
	archive_read_free(l->a);
	if (l->fd >= 0)
		close(l->fd);
	free(l->chunk);
	free(l->path);
	*l = (struct wl_lines){.fd = -1};
}

int wl_lines_parse_position(const char *position, const char *name, int64_t *offset, int64_t *line,
	struct wl_err *err)
{
	long long a = 0, b = 0;
	if (*position && (sscanf(position, "%lld %lld", &a, &b) != 2 || a < 0 || b < 0))
		return wl_err_set(err, WL_EDATA,
			"the catalog's position of %s is \"%s\", expected \"BYTES LINES\"", name,
			position);
	*offset = a;
	*line = b;
	return 0;
}

void wl_lines_strip_bom(struct wl_buf *line)
{
	if (line->len >= 3 && memcmp(line->data, "\xef\xbb\xbf", 3) == 0) {
		line->len -= 3;
		memmove(line->data, line->data + 3, line->len + 1);
	}
}

bool wl_lines_is_blank(const struct wl_buf *line)
{
	for (size_t i = 0; i < line->len; i++)
		if (!strchr(" \t\r", line->data[i]) || !line->data[i])
			return false;
	return true;
}

int wl_lines_next_record(struct wl_lines *l, struct wl_record *r, struct wl_err *err)
{
	char place[32];
	bool too_long;
	int more;
	do {
		more = wl_lines_next(l, &r->json, &too_long, err);
		if (more > 0 && l->line == 1)
			wl_lines_strip_bom(&r->json);
	} while (more > 0 && !too_long && wl_lines_is_blank(&r->json));
	if (more <= 0)
		return more;
	r->has_json = true;
	r->ordinal = l->line;
	snprintf(place, sizeof place, "line %lld", (long long)l->line);
	r->place = wl_arena_strdup(&r->mem, place, err);
	if (!r->place)
		return -1;
	if (too_long)
		WL_TRY(wl_record_reject(
			r, err, "the line is longer than %d bytes", WL_RECORD_MAX_TEXT));
	return 1;
}

int wl_lines_end_record(const struct wl_lines *l, struct wl_record *r, struct wl_err *err)
{
	char position[64];
	snprintf(position, sizeof position, "%lld %lld", (long long)l->offset,
		(long long)l->line);
	r->position = wl_arena_strdup(&r->mem, position, err);
	return r->position ? 0 : -1;
}
