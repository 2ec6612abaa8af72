/*
 * Records brought together by key, over threads, ranks and passes: what finding duplicates comes
 * down to.
 *
 * A job emits records (key, idx, aux); those whose keys agree in their first `bits` bits are a
 * group; each group is shown once, on one rank, sorted by (key, idx, aux) if asked, and answers
 * with values (64 bits).  Memory is bounded by doing the work in passes over slices of the keys:
 * the job emits everything again for each slice, and only what belongs to it is kept (16 bytes a
 * record).  Values come out sorted, each once a pass, and do not depend on the number of
 * threads, ranks or passes but for who gets them and in which portions.
 */
#ifndef WL_CLEAN_BYGROUP_H
#define WL_CLEAN_BYGROUP_H

#include "clean/values.h"
#include "ops/comm.h"
#include "ops/err.h"
#include "ops/hash.h"
#include "ops/pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of one thread; what a pass takes comes first, for most of what is emitted in a pass of many
 * belongs to another. */
struct wl_emitter;
struct wl_pass {
	int bits;
	uint32_t ranks, slices, slice;
	bool sliced;
};
static inline const struct wl_pass *wl_emitter_pass(const struct wl_emitter *e)
{
	return (const struct wl_pass *)e;
}
__extension__ typedef unsigned __int128 wl_wide;
/* What tells keys' places, 64 bits behind the point, of their first bits alone: for few bits a
 * one-to-one map, so that each group has a place of its own. */
enum { WL_FEW_BITS = 32 };
static inline uint64_t wl_place(uint64_t key, int bits)
{
	uint64_t k = key >> (64 - bits);

	return bits > WL_FEW_BITS ? wl_mix64(k) : k * 0x9e3779b97f4a7c15u << (64 - bits);
}
/* The next digit of a number in [0, 1) of which *m are the bits behind the point: in 0..n-1. */
static inline uint32_t wl_digit(uint64_t *m, uint32_t n)
{
	wl_wide p = (wl_wide)*m * n;

	*m = (uint64_t)p;
	return (uint32_t)(p >> 64);
}
void wl_emit_taken(struct wl_emitter *e, struct wl_rec r, uint64_t mix, uint32_t rank);
static inline void wl_emit(struct wl_emitter *e, uint64_t key, uint32_t idx, uint32_t aux)
{
	const struct wl_pass *p = wl_emitter_pass(e);
	uint64_t m = wl_place(key, p->bits);
	uint32_t rank = p->ranks > 1 ? wl_digit(&m, p->ranks) : 0;

	if (p->slices == 1 || p->sliced || wl_digit(&m, p->slices) == p->slice)
		wl_emit_taken(e, (struct wl_rec){key, idx, aux}, m, rank);
}

struct wl_bygroup {
	const char *what; /* for errors: "image hashes" */
	int bits;	  /* 1..64 */
	uint64_t records; /* how many this rank will emit, about */
	/* Emits the records of part `part` of `parts`; called by several threads at once. */
	int (*emit)(void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *err);
	/* Whether emit leaves out by itself, by what tells groups, all that is not of the pass's
	 * slice (wl_emitter_pass). */
	bool sliced;
	/* Groups of fewer records come in any order; 0: all are sorted. */
	size_t sort_from;
	/* r: [n], n >= 2.  Any thread, several at once. */
	void (*group)(void *ctx, struct wl_values *out, const struct wl_rec *r, size_t n);
	/* What the groups of one pass answered, sorted, each once.  Collective: every rank is
	 * called as often, with nothing if need be. */
	int (*take)(void *ctx, const uint64_t *v, size_t n, struct wl_err *err);
	void *ctx;
};

/* memory: bytes for records.  Collective.  Where a rank is asked to stop (ops/signals.h), all fail
 * with WL_ERETRY before the next slice. */
WL_MUST_CHECK int wl_bygroup(const struct wl_bygroup *job, struct wl_comm *comm,
	struct wl_pool *pool, size_t memory, struct wl_err *err);

/* For long work between ranks: fails with WL_ERETRY on all when one of them was asked to stop, so
 * that none waits for it.  what: what was being done, for the sentence.  Collective. */
WL_MUST_CHECK int wl_bygroup_go_on(const char *what, struct wl_comm *comm, struct wl_err *err);

#endif
