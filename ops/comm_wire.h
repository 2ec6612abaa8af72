/*
 * What ranks say to each other over TCP: bytes that come from outside, so every reader here takes
 * any bytes at all and refuses with a sentence what is not whole and meant for it.
 *
 *   hello   a rank that comes: to rank 0's meeting, or to a neighbour in the mesh
 *   answer  "you are expected", or a refusal with its reason
 *   table   from rank 0, once all are there: where everybody listens
 *   frame   before each message of a collective: what it belongs to and how long it is
 *   notice  the file by which rank 0 says where it listens (a meeting in a directory)
 *
 * Numbers are little-endian.  Nothing is encrypted: the network is taken to be the cluster's own.
 */
#ifndef WL_OPS_COMM_WIRE_H
#define WL_OPS_COMM_WIRE_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	COMM_RANKS = 4096, /* at most */
	COMM_KEY = 32,
	COMM_HOST = 16,
	COMM_HELLO_BYTES = 80,
	COMM_ANSWER_BYTES = 256,
	COMM_TABLE_HEAD = 48,
	COMM_ENTRY_BYTES = 36,
	COMM_FRAME_BYTES = 24,
	COMM_NOTICE_MAX = 65536,
	COMM_NOTICE_PLACES = 32,
	COMM_NAME_MAX = 256,
};

enum comm_hello_kind { COMM_TO_MEETING = 1, COMM_TO_NEIGHBOUR = 2 };

struct comm_hello {
	enum comm_hello_kind kind;
	int world, rank;
	uint16_t port;		 /* where the sender listens */
	uint8_t key[COMM_KEY];	 /* of the run, or of the meeting that rank 0 held */
	uint8_t host[COMM_HOST]; /* of the machine: ranks that share one find out by it */
};
void comm_hello_write(const struct comm_hello *h, uint8_t to[COMM_HELLO_BYTES]);
WL_MUST_CHECK int comm_hello_read(const uint8_t from[COMM_HELLO_BYTES], struct comm_hello *h,
	struct wl_err *err);

/* refusal NULL: the rank is expected. */
void comm_answer_write(const char *refusal, uint8_t to[COMM_ANSWER_BYTES]);
/* 0: expected; 1: refused, why in `refusal`; -1: not an answer. */
WL_MUST_CHECK int comm_answer_read(const uint8_t from[COMM_ANSWER_BYTES],
	char refusal[COMM_ANSWER_BYTES], struct wl_err *err);

/* An address: 4 bytes of it count, or 16. */
struct comm_place {
	bool v6;
	uint16_t port;
	uint8_t at[16];
	uint8_t host[COMM_HOST];
};
/* to: COMM_TABLE_HEAD + world * COMM_ENTRY_BYTES bytes. */
void comm_table_write(const struct comm_place *places, int world, const uint8_t key[COMM_KEY],
	uint8_t *to);
/* n bytes; places[world] and key are filled in. */
WL_MUST_CHECK int comm_table_read(const uint8_t *from, size_t n, int world,
	struct comm_place *places, uint8_t key[COMM_KEY], struct wl_err *err);

enum comm_kind {
	COMM_BARRIER = 1,
	COMM_REDUCE,
	COMM_SCATTER,
	COMM_BROADCAST,
	COMM_GATHER,
	COMM_EXCHANGE,
	COMM_BYE,
	COMM_KINDS
};
const char *comm_kind_name(enum comm_kind kind); /* "a barrier", ... */
struct comm_frame {
	enum comm_kind kind;
	uint64_t number; /* of the collective */
	uint64_t bytes;  /* that follow */
};
void comm_frame_write(const struct comm_frame *f, uint8_t to[COMM_FRAME_BYTES]);
WL_MUST_CHECK int comm_frame_read(const uint8_t from[COMM_FRAME_BYTES], struct comm_frame *f,
	struct wl_err *err);

struct comm_notice {
	int world, n;
	uint8_t run[COMM_KEY], token[COMM_KEY];
	struct comm_place place[COMM_NOTICE_PLACES];
};
/* n bytes of text; path is for the sentence. */
WL_MUST_CHECK int comm_notice_read(const char *text, size_t n, const char *path,
	struct comm_notice *out, struct wl_err *err);

/* "tcp://HOST:PORT", "tcp://[V6]:PORT" or "file:DIR". */
struct comm_where {
	bool file;
	char name[COMM_NAME_MAX]; /* host or directory */
	char port[8];
};
WL_MUST_CHECK int comm_where_read(const char *text, struct comm_where *w, struct wl_err *err);

#endif
