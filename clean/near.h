/*
 * All pairs of 64-bit hashes within a Hamming radius, exactly: the bits are cut into blocks such
 * that two hashes within the radius agree in all blocks of some choice, so hashes are brought
 * together (clean/bygroup.h) by each choice in turn (Manku, Jain, Das Sarma 2007), and each pair
 * is taken under the first choice that it agrees in.  Everything runs through memory in order,
 * which beats looking up the buckets around every hash by far.
 *
 * Choices are either any c of radius + c blocks, or the lines of an affine plane whose points are
 * the blocks: to have a bit that differs on each of the q (q + 1) lines of q of q * q points takes
 * 2 q - 1 points at least (Jamison 1977; Brouwer and Schrijver 1978), so within 2 q - 2 bits some
 * line agrees.  For 4 bits these are 12 choices where 2 of 6 blocks are 15 of as many bits; for 6
 * bits 20 where 2 of 8 are 28.
 */
#ifndef WL_CLEAN_NEAR_H
#define WL_CLEAN_NEAR_H

#include "clean/bygroup.h"

enum {
	WL_NEAR_GROUP = 4096, /* larger groups are not compared all with all */
	WL_NEAR_RADIUS_MAX = 16,
};

struct wl_near_search {
	const char *what; /* for progress and errors: "hashes of windows" */
	int radius;
	uint64_t records; /* of this rank, about */
	/* Calls wl_near_put or wl_near_put_row for each hash of a part; any thread. */
	int (*each)(void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *err);
	/* Whether hashes with these aux may make a pair; NULL: always. */
	bool (*meet)(uint32_t aux_a, uint32_t aux_b);
	/* Pairs in which both are old are left out; NULL: none is old. */
	bool (*old)(void *ctx, uint32_t idx);
	/* Pairs (smaller index << 32 | larger one), sorted, each once a call; collective. */
	int (*take)(void *ctx, const uint64_t *pairs, size_t n, struct wl_err *err);
	void *ctx;
	/* out: hashes in groups over WL_NEAR_GROUP on this rank, which were compared only with
	 * their neighbours; 0: the search was exact. */
	uint64_t cut;
	/* inner: */
	const struct wl_near_table *table;
};

/* For `each`. */
void wl_near_put(const struct wl_near_search *s, struct wl_emitter *e, uint64_t hash, uint32_t idx,
	uint32_t aux);
/* n <= 32 hashes of idx of which those of the bits in present are there; aux is their place. */
void wl_near_put_row(const struct wl_near_search *s, struct wl_emitter *e, const uint64_t *hash,
	size_t n, uint32_t present, uint32_t idx);

/* Runs a search as its struct says, over the ranks of comm and the threads of pool, in
 * about `memory` bytes. */
WL_MUST_CHECK int wl_near_run(struct wl_near_search *s, struct wl_comm *comm, struct wl_pool *pool,
	size_t memory, struct wl_err *err);

/* Union-find with the smallest index as a set's root, so that roots do not depend on the order
 * of the unions. */
void wl_sets_init(uint32_t *parent, size_t n);
uint32_t wl_sets_root(uint32_t *parent, uint32_t i);
void wl_sets_join(uint32_t *parent, uint32_t a, uint32_t b);

#endif
