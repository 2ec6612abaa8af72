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
	int fd;             /* a plain file; else -1 */
	struct archive *a;  /* else this; owned */
	char *chunk;        /* plain file: what was read last */
	const char *p;      /* not yet consumed part of the chunk */
	size_t left;
	int64_t offset;     /* bytes consumed, decompressed */
	int64_t line;       /* lines consumed */
};

/* Opens a file at offset after `line` lines.  .gz, .zst, .xz, .bz2, .lz4 are told by content.
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
