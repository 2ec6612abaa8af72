/*
 * The tar of a shard: plain POSIX ustar with headers that depend on name and size alone
 * (mode 0644, owner 0, time 0), so that the same samples give the same bytes; closed by two
 * zero blocks.  The reader takes exactly what the writer makes (regular files, no
 * extensions) and says what is wrong with anything else: a shard is read by offset, so
 * guessing would be worse than refusing.
 */
#ifndef WL_SHARDS_TAR_H
#define WL_SHARDS_TAR_H

#include "ops/err.h"
#include "ops/hash.h"

#include <stdint.h>

enum { WL_TAR_BLOCK = 512, WL_TAR_NAME = 101 /* with the closing 0 */ };

/* Fills in a member's header.  name: at most 100 bytes; size: under 8 GiB (ustar's field). */
WL_MUST_CHECK int wl_tar_header(
	uint8_t out[WL_TAR_BLOCK], const char *name, int64_t size, struct wl_err *err);
/* Bytes that n bytes of contents take in the file. */
static inline int64_t wl_tar_padded(int64_t n)
{
	return (n + WL_TAR_BLOCK - 1) / WL_TAR_BLOCK * WL_TAR_BLOCK;
}

/* A member's header in memory: NULL, or what is wrong with it. */
const char *wl_tar_parse(const uint8_t b[WL_TAR_BLOCK], char name[WL_TAR_NAME], int64_t *length);

struct wl_tar_member {
	char name[WL_TAR_NAME];
	int64_t offset, length; /* of the contents */
};

/* A walk over an open file; zeroed and filled in by wl_tar_walk_init. */
struct wl_tar_walk {
	int fd;		  /* borrowed; read with pread */
	const char *path; /* borrowed, for messages */
	int64_t size, pos;
	struct wl_sha256 *sha; /* NULL, or what headers and closing blocks are added to */
};
WL_MUST_CHECK int wl_tar_walk_init(
	struct wl_tar_walk *w, int fd, const char *path, struct wl_err *err);
/* 1: *m is the next member, its contents lie inside the file; 0: the two zero blocks were
 * reached and nothing follows them; -1: WL_EDATA with the offset of what is wrong. */
WL_MUST_CHECK int wl_tar_walk_next(
	struct wl_tar_walk *w, struct wl_tar_member *m, struct wl_err *err);

#endif
