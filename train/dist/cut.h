/*
 * How a parameter store is shared out over ranks: its weights are cut into
 * buckets, each bucket into as many equal pieces as there are ranks; rank r owns
 * piece r of every bucket.  So a reduce-scatter of one bucket leaves each rank
 * with the sum of its own piece, an all-gather puts the bucket together again,
 * and both need no copy: every piece stands at its own place in the store.
 *
 * Pieces are whole pages: what a rank does not own can be given back to the
 * system (wl_backend.discard) without moving anything.
 */
#ifndef WL_TRAIN_DIST_CUT_H
#define WL_TRAIN_DIST_CUT_H

#include <stddef.h>
#include <stdint.h>

enum { WL_CUT_PAGE = 1024 }; /* floats: the least page */

struct wl_cut {
	int64_t floats; /* in all: a multiple of world * WL_CUT_PAGE */
	int64_t bucket; /* floats in a bucket, likewise; the last one may hold fewer */
	int rank, world;
	int n; /* buckets */
	int64_t page; /* floats; pieces are multiples */
};

/* Where floats [begin, end) lie. */
struct wl_span {
	int64_t begin, end;
};

/* The page for a backend whose parts are multiples of part_bytes (wl_backend; 0 where it has none):
 * a piece of half types, too, is whole parts then. */
int64_t wl_cut_page(size_t part_bytes);
/* What a store's `unit` must be for so many ranks. */
int64_t wl_cut_unit(int world, int64_t page);
/* floats: a multiple of the unit; bucket: what is wanted, rounded up to the unit. */
void wl_cut_init(struct wl_cut *c, int64_t floats, int64_t bucket, int64_t page, int rank,
	int world);

/* Where bucket i lies, and the piece of it that a rank owns: floats of the store. */
struct wl_span wl_cut_bucket(const struct wl_cut *c, int i);
struct wl_span wl_cut_piece(const struct wl_cut *c, int i, int rank);
/* The bucket that holds this float. */
int wl_cut_at(const struct wl_cut *c, int64_t offset);
/* The rank that owns this float. */
int wl_cut_owner(const struct wl_cut *c, int64_t offset);
/* The first part of [from, to) that this rank owns; begin == end when there is none.  c NULL:
 * all of it.  Walk: for (s = next(c, from, to); s.begin < s.end; s = next(c, s.end, to)). */
struct wl_span wl_cut_next(const struct wl_cut *c, int64_t from, int64_t to);
/* How many of the floats [0, to) this rank owns (c NULL: all): where float `to` of its pieces is
 * when they stand one behind the other. */
int64_t wl_cut_owned(const struct wl_cut *c, int64_t to);

#endif
