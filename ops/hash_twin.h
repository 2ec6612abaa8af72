/*
 * One pass over bytes, two SHA-256: of a stream, and of members that lie inside it (a tar and
 * its files).
 *
 * A member that starts at a multiple of 64 bytes, as every tar member does, has the same blocks
 * as the stream, so the message schedule is made once; and the two chains of rounds, each bound
 * by the latency of the processor's SHA instructions, run in each other's shadow.  The second
 * hash costs next to nothing.  Without those instructions it is libcrypto, twice.
 */
#ifndef WL_OPS_HASH_TWIN_H
#define WL_OPS_HASH_TWIN_H

#include "ops/hash.h"

#include <stdbool.h>

struct wl_sha256_twin {
	bool ni;                      /* the processor has SHA instructions */
	uint32_t stream[8], member[8];
	uint8_t tail[64];             /* bytes of the last, incomplete block of the stream */
	size_t tail_n;
	uint64_t total, start;        /* bytes of the stream; where the member began */
	bool open;                    /* a member is */
	struct wl_sha256 slow, slow_member; /* when !ni */
};

WL_MUST_CHECK int wl_sha256_twin_init(struct wl_sha256_twin *t, struct wl_err *err);
/* The next bytes, of the stream and of the member that is open. */
void wl_sha256_twin_add(struct wl_sha256_twin *t, const void *bytes, size_t n);
/* A member begins with the next byte.  The stream must be at a multiple of 64 bytes and no member
 * open (a programming error otherwise). */
void wl_sha256_twin_begin(struct wl_sha256_twin *t);
/* The member ended with the last byte: its digest. */
void wl_sha256_twin_end(struct wl_sha256_twin *t, uint8_t out[WL_SHA256_BYTES]);
/* The stream's digest; the state may then only be released. */
void wl_sha256_twin_final(struct wl_sha256_twin *t, uint8_t out[WL_SHA256_BYTES]);
void wl_sha256_twin_release(struct wl_sha256_twin *t);

#endif
