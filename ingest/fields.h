/*
 * Named fields, "Name: value" a line up to a blank line: the head of a WARC record and of an
 * HTTP message.  Nothing is copied or allocated: names and values are slices of the caller's
 * bytes, good as long as those are.
 *
 * Tolerant as archives need it: lines end in CR LF or LF, a value may go on in lines that begin
 * with a blank (the line ends stay inside the slice), lines without a colon are passed over.
 */
#ifndef WL_INGEST_FIELDS_H
#define WL_INGEST_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_slice {
	const char *p; /* NULL: absent */
	size_t n;
};

struct wl_field {
	struct wl_slice name, value; /* blanks around the value are not part of it */
};

/* More fields than this are read over: no sane head has them. */
enum { WL_FIELDS_MAX = 128 };

struct wl_fields {
	struct wl_field v[WL_FIELDS_MAX];
	size_t n;
};

/* Reads fields up to and including the blank line; returns the bytes taken, or 0 when the n
 * bytes hold no blank line (*f then has what was there). */
size_t wl_fields_parse(struct wl_fields *f, const char *p, size_t n);

/* The value of the first field of that name, whatever its case; p NULL when there is none. */
struct wl_slice wl_fields_get(const struct wl_fields *f, const char *name);

/* Equal to a C string, whatever the case (ASCII). */
bool wl_slice_is(struct wl_slice s, const char *text);
/* Begins with it, whatever the case. */
bool wl_slice_begins(struct wl_slice s, const char *text);
/* A decimal number with nothing around it but blanks; false: it is none, or over 2^62. */
bool wl_slice_number(struct wl_slice s, int64_t *out);

#endif
