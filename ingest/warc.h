/*
 * Reading WARC archives, 1.0 and 1.1 (ISO 28500; 0.17 and 0.18 read the same), compressed or not
 * (ingest/inflate.h).
 *
 * Archives come cut off, with wrong lengths, with bytes lost or added.  Whatever is wrong with a
 * record stays with that record: it comes out with what there is of it and a sentence saying
 * what is wrong, and reading goes on at the next one.  Bytes that belong to no record come out
 * as WL_WARC_GARBAGE.  So all bytes of a file are accounted for.
 *
 * A record whose Content-Length is wrong, while the next record's head shows where it really
 * ends, is taken up to there and counts as whole (`mended` is set).
 *
 * A record's place, and what comes after it, do not depend on where reading began: a reader
 * opened at next_member, next_inside of a record goes on exactly as the one that gave it.
 */
#ifndef WL_INGEST_WARC_H
#define WL_INGEST_WARC_H

#include "ingest/fields.h"
#include "ingest/inflate.h"
#include "ops/buf.h"

enum wl_warc_type {
	WL_WARC_WARCINFO,
	WL_WARC_RESPONSE,
	WL_WARC_RESOURCE,
	WL_WARC_REQUEST,
	WL_WARC_METADATA,
	WL_WARC_REVISIT,
	WL_WARC_CONVERSION,
	WL_WARC_CONTINUATION,
	WL_WARC_OTHER,   /* a type that the standard does not name */
	WL_WARC_GARBAGE, /* no record */
	WL_WARC_TYPES
};
/* "response", ...; "garbage" for bytes that are no record. */
const char *wl_warc_type_name(enum wl_warc_type t);

struct wl_warc_record {
	int64_t member, inside;           /* where it begins: see inflate.h */
	int64_t next_member, next_inside; /* where reading goes on after it */
	enum wl_warc_type type;
	const struct wl_fields *fields;   /* all of its named fields; none for garbage */
	struct wl_slice uri;              /* WARC-Target-URI without <>; p NULL: none */
	struct wl_slice content_type;     /* of the block: application/http; msgtype=response */
	int64_t length;                   /* Content-Length; -1: none that can be read */
	const char *body;                 /* the block's bytes, at most WL_WARC_MAX_BODY of them */
	size_t n;
	bool mended;                      /* its Content-Length was wrong, its end was found */
	const char *damage;               /* NULL: whole; else what is wrong, one sentence */
};

enum {
	WL_WARC_MAX_HEAD = 1 << 20,
	WL_WARC_MAX_BODY = 68 << 20, /* an image at its limit, and its HTTP head */
	WL_WARC_EVIDENCE = 1 << 20,  /* kept of what is too large, or no record */
};

struct wl_warc {
	struct wl_inflate in;
	struct wl_fields fields;
	struct wl_buf evidence;
	const char *head_at; /* where the window was when the head was read */
	bool at_end;         /* nothing follows */
	size_t taken; /* visible bytes of the last record, still to be consumed */
	char why[256];
};

/* Opens right at a place ((0, 0): the start).  WL_EDATA: the file does not reach that far. */
WL_MUST_CHECK int wl_warc_open(struct wl_warc *w, const char *path, int64_t member,
	int64_t inside, struct wl_err *err);
/* Goes to another place of the same file. */
WL_MUST_CHECK int wl_warc_seek(struct wl_warc *w, int64_t member, int64_t inside,
	struct wl_err *err);
/* The next record; what it points to is good until the next call.  1; 0: the end; -1: the
 * machine failed (a disk that cannot be read, no memory), never the data. */
WL_MUST_CHECK int wl_warc_next(struct wl_warc *w, struct wl_warc_record *r, struct wl_err *err);
void wl_warc_close(struct wl_warc *w);

#endif
