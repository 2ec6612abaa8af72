/*
 * A thread that hashes several files while they are written: pieces of up to WL_SHA256_STREAMS
 * files are taken side by side, which the processor does faster than one after the other.
 */
#ifndef WL_SHARDS_HASHER_H
#define WL_SHARDS_HASHER_H

#include "ops/err.h"
#include "ops/hash.h"

#include <stdbool.h>
#include <stddef.h>

struct wl_hasher;

enum { WL_HASH_QUEUE = 8 };

/* One file's SHA-256.  Fields are the hasher's. */
struct wl_hash_stream {
	struct wl_sha256 sha;
	struct wl_hash_piece {
		const void *bytes;
		size_t n;
	} queue[WL_HASH_QUEUE];
	size_t given, hashed;	  /* pieces so far */
	bool ended, wanted;	  /* no more is coming; somebody waits */
	struct wl_hasher *hasher; /* NULL: not open */
	struct wl_hash_stream *next;
};

struct wl_hasher *wl_hasher_new(struct wl_err *err);
/* All streams must be closed.  NULL is fine. */
void wl_hasher_free(struct wl_hasher *h);

WL_MUST_CHECK int wl_hash_stream_open(
	struct wl_hash_stream *s, struct wl_hasher *h, struct wl_err *err);
/* Gives the next piece of at most WL_HASH_QUEUE that wait; its bytes must stay as they are until
 * wl_hash_stream_wait says so.  A piece may wait for those of other open streams, until a wait
 * for it or the stream's end makes it urgent. */
void wl_hash_stream_give(struct wl_hash_stream *s, const void *bytes, size_t n);
/* Waits until all but the last `pending` pieces given are hashed. */
void wl_hash_stream_wait(struct wl_hash_stream *s, size_t pending);
/* No more comes: other streams' pieces wait no longer for this one's. */
void wl_hash_stream_end(struct wl_hash_stream *s);
/* The digest of all that was given, once; after an end. */
void wl_hash_stream_digest(struct wl_hash_stream *s, uint8_t out[WL_SHA256_BYTES]);
/* Waits for pieces given, and leaves the hasher.  A zeroed or closed one is fine. */
void wl_hash_stream_close(struct wl_hash_stream *s);

#endif
