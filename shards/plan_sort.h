/* Orders a plan's pairs in place; between plan.c and plan_sort.c only. */
#ifndef WL_SHARDS_PLAN_SORT_H
#define WL_SHARDS_PLAN_SORT_H

#include "shards/plan.h"

/* A pair's key: pairs come in ascending order of it, equal ones in order of id. */
typedef uint64_t (*wl_pair_key)(const struct wl_shard_plan_pair *p, uint64_t seed);

/* Needs 70 KB of stack and no other memory, where qsort would take as much again as the pairs have
 * (glibc merges).  The keys are computed as often as they are looked at, about five times a
 * million pairs' each, rather than kept. */
void wl_plan_sort(struct wl_shard_plan_pair *v, size_t n, wl_pair_key key, uint64_t seed);

/* By the key's lowest eight bits alone; pairs of equal ones in some order. */
void wl_plan_deal(struct wl_shard_plan_pair *v, size_t n, wl_pair_key key);

#endif
