/*
 * Which sample is where: position p of epoch e holds a sample that is a function of (seed, e,
 * p) alone, evaluated at one point, so that nothing is stored and any number of ranks and
 * threads sees one order.
 *
 * Without a mix an epoch is one shuffle of the split.  With a mix {source: weight} a source has
 * its weight's share of an epoch's positions, and is gone through again and again, shuffled
 * anew each time: a sample comes a second time when all others of its source have come once.
 */
#ifndef WL_LOADER_ORDER_H
#define WL_LOADER_ORDER_H

#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct wl_shardset;
struct wl_mix; /* the sources and their samples: 4 bytes a sample of the split */

struct wl_order {
	int64_t size; /* positions of an epoch: live samples, of the mix's sources if there is one
		       */
	bool shuffle;
	uint64_t seed;
	const int64_t *dead; /* [n_dead] taken down, ascending; the shard set's */
	int64_t n_dead;
	struct wl_mix *mix; /* NULL: none */
};

/* limit: only the first samples of the split, 0: all.  mix: NULL, or a mapping of source names
 * to weights > 0, which reads every shard's database once; WL_EUSAGE names a source that the
 * split does not have, and asks for shuffle.  The set must outlive the order. */
WL_MUST_CHECK int wl_order_init(struct wl_order *o, struct wl_shardset *shards, bool shuffle,
	uint64_t seed, int64_t limit, const json_t *mix, struct wl_err *err);
void wl_order_release(struct wl_order *o);

/* The sample at that position.  *showing (may be NULL) is its number in the sequence of this
 * sample's showings, which keys its augmentation: the epoch, or the pass through its source. */
int64_t wl_order_at(const struct wl_order *o, int64_t epoch, int64_t position, int64_t *showing);

#endif
