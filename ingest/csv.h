/* Fields of one row of CSV (RFC 4180) or TSV. */
#ifndef WL_INGEST_CSV_H
#define WL_INGEST_CSV_H

#include "ops/arena.h"

#include <stdbool.h>

struct wl_csv_row {
	char **v; /* n fields with quotes taken off; in the arena */
	size_t n;
};

/* Whether a row ends inside quotes, so that the next line belongs to it.  *open carries the state
 * from line to line; false before the first. */
bool wl_csv_is_open(const char *line, size_t n, bool open);
/* Splits a whole row at `separator`; quotes mean something with ',' only, as in the wild TSV has
 * none.  A stray quote is kept as it is.  -1: no memory. */
WL_MUST_CHECK int wl_csv_split(struct wl_csv_row *row, const char *line, size_t n,
	char separator, struct wl_arena *mem, struct wl_err *err);
/* The first column whose name is one of names[] (NULL-terminated; any case); -1: none. */
int wl_csv_column(const struct wl_csv_row *header, const char *const *names);

#endif
