/*
 * A file of members, decompressed: .gz (a gzip member for each record, as WARC wants it, or one
 * for the whole file), .zst (frames, with the dictionary in front that .warc.zst may have) and
 * plain files, told by content.
 *
 * What is visible is a window of decompressed bytes of one member.  A place in the file is
 * (member, inside): the file offset of the member's first byte, and decompressed bytes from
 * there; a plain file is one member at 0.  Opening at a place gives the same bytes from there on
 * as reading up to it did, so it can be kept in a catalog.
 *
 * A gzip member of ordinary size is inflated at once by libdeflate, about twice as fast as zlib;
 * a very large one, a cut one and a damaged one by zlib, piece by piece.  Damage ends the member
 * it is in: what came before it is visible, `damage` says what it is, and the next member is
 * searched for.  Bytes between members that belong to none appear as a member of their own with
 * `raw` set.
 */
#ifndef WL_INGEST_INFLATE_H
#define WL_INGEST_INFLATE_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_inflate_codecs; /* libdeflate, zlib, zstd */

struct wl_inflate {
	/* what a reader looks at */
	const char *p;       /* the visible bytes; valid until the next call */
	size_t n;
	int64_t member;      /* where the member of the last visible byte begins in the file */
	int64_t inside;      /* offset of p[0] in it; negative: p begins in an earlier member */
	bool ended;          /* the member has no more than what is visible */
	bool raw;            /* the member is none: bytes found between members, as they are */
	const char *damage;  /* the member is damaged at its end: what is wrong; else NULL */
	/* its own */
	char *path;
	const char *sync;    /* what members begin with; borrowed */
	int fd, kind;
	int64_t size;        /* of the file when it was opened */
	unsigned char *in;   /* compressed bytes: in[in_at .. in_n), in[0] at in_offset */
	size_t in_at, in_n, in_cap;
	int64_t in_offset;
	char *out;           /* p = out + out_at */
	size_t out_at, out_cap;
	bool streaming;      /* zlib or zstd is in the middle of the member */
	bool in_eof, lost;   /* lost: after damage, the next member has to be searched for */
	struct wl_inflate_codecs *codecs;
	char why[160];
};

/* The most that one call of wl_inflate_need may ask for. */
enum { WL_INFLATE_MAX_WINDOW = 96 << 20 };

/* Opens at a place ((0, 0): the start).  sync: what every member begins with ("WARC/"), which
 * tells a real member from bytes that look like one when the way is lost.  WL_EDATA: the file
 * does not reach that far, so it is not the one that the place was taken from. */
WL_MUST_CHECK int wl_inflate_open(struct wl_inflate *s, const char *path, const char *sync,
	int64_t member, int64_t inside, struct wl_err *err);
/* The same file again at another place. */
WL_MUST_CHECK int wl_inflate_seek(struct wl_inflate *s, int64_t member, int64_t inside,
	struct wl_err *err);
void wl_inflate_close(struct wl_inflate *s);

/* Not plain: getting at what is far inside a member means decompressing up to it. */
bool wl_inflate_is_compressed(const struct wl_inflate *s);
/* Makes `want` bytes visible, or all that the member has when it ends before that (then
 * s->ended).  Only faults of the machine are errors: damage is not. */
WL_MUST_CHECK int wl_inflate_need(struct wl_inflate *s, size_t want, struct wl_err *err);
/* Moves on past k <= s->n visible bytes. */
void wl_inflate_consume(struct wl_inflate *s, size_t k);
/* Once s->ended: begins the next member; what is visible stays in front of it.  1: there is one
 * (nothing of it may be visible yet); 0: the file has ended. */
WL_MUST_CHECK int wl_inflate_next(struct wl_inflate *s, struct wl_err *err);

#endif
