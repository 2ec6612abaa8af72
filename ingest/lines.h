/*
 * Lines of a text stream of any length: a plain file, a compressed one, or a member of an
 * archive that the caller opened.
 */
#ifndef WL_INGEST_LINES_H
#define WL_INGEST_LINES_H

#include "ops/buf.h"
#include "ops/err.h"

#include <archive.h>
#include <stdbool.h>
#include <stdint.h>

struct wl_record;
struct wl_lines {
	char *path;         /* for messages; owned */
	int fd;             /* -1: none, of an archive's entry */
	struct archive *a;  /* what decompresses or reads a pipe; NULL: a plain file; owned */
	bool empty;         /* there is nothing in it */
	char *chunk;        /* what was read of fd last */
	const char *p;      /* not yet consumed part of the chunk */
	size_t left;
	int64_t offset;     /* bytes consumed, decompressed */
	int64_t line;       /* lines consumed */
	const struct wl_buf *again; /* put back: the next line; NULL: none */
	bool again_too_long;
};

/* Opens a file at offset after `line` lines.  .gz, .zst, .xz, .bz2, .lz4 are told by content.
 * A pipe is opened and read once; its bytes before offset must come again.
 * WL_EDATA when the file cannot be the one that the offset was taken from. */
WL_MUST_CHECK int wl_lines_open(struct wl_lines *l, const char *path, int64_t offset,
	int64_t line, struct wl_err *err);
/* The same over the data of the entry at which `a` (now owned) stands. */
WL_MUST_CHECK int wl_lines_open_entry(struct wl_lines *l, struct archive *a, const char *path,
	int64_t offset, int64_t line, struct wl_err *err);
/* The next line without its newline, in *out (reset first).  1: a line; 0: the end; -1.
 * *too_long: it did not fit; its first bytes are there, the rest was skipped. */
WL_MUST_CHECK int wl_lines_next(struct wl_lines *l, struct wl_buf *out, bool *too_long,
	struct wl_err *err);
/* The line that was read last (the caller keeps it until then) is the next one once more. */
void wl_lines_put_back(struct wl_lines *l, const struct wl_buf *line, bool too_long);
/* On to offset after `line` lines, not before where it stands: without opening a stream twice. */
WL_MUST_CHECK int wl_lines_move_to(struct wl_lines *l, int64_t offset, int64_t line,
	struct wl_err *err);
void wl_lines_close(struct wl_lines *l);

/* A catalog's position "BYTES LINES", "" being the start; name: of the origin, for the error. */
WL_MUST_CHECK int wl_lines_parse_position(const char *position, const char *name,
	int64_t *offset, int64_t *line, struct wl_err *err);
/* A byte-order mark at the start of a file is not part of its first line. */
void wl_lines_strip_bom(struct wl_buf *line);
bool wl_lines_is_blank(const struct wl_buf *line);

/* The next line with something on it as record r: json, ordinal (its number) and place ("line
 * 12"); one that is too long rejects r.  1; 0: the end.  When the record's last line is read,
 * wl_lines_end_record gives it its position. */
WL_MUST_CHECK int wl_lines_next_record(struct wl_lines *l, struct wl_record *r,
	struct wl_err *err);
WL_MUST_CHECK int wl_lines_end_record(const struct wl_lines *l, struct wl_record *r,
	struct wl_err *err);

#endif
