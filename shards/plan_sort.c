/*
 * American flag sort (McIlroy, Bostic, McIlroy: Engineering Radix Sort, 1993): eight bits at a
 * time from the top, each pair swapped straight into its bucket.
 */
#include "shards/plan_sort.h"

enum { BUCKETS = 256, TOP = 56, FEW = 24 };

/* Ids may be negative in a catalog of another maker. */
static uint64_t key_id(const struct wl_shard_plan_pair *p, uint64_t seed)
{
	(void)seed;
	return (uint64_t)p->id ^ 1ull << 63;
}

/* By insertion, the keys computed once. */
static void sort_few(struct wl_shard_plan_pair *v, size_t n, wl_pair_key key, uint64_t seed)
{
	uint64_t keys[FEW];

	for (size_t i = 0; i < n; i++) {
		struct wl_shard_plan_pair pair = v[i];
		uint64_t k = key(&pair, seed);
		size_t at = i;

		for (; at && (keys[at - 1] > k || (keys[at - 1] == k && v[at - 1].id > pair.id));
			at--) {
			keys[at] = keys[at - 1];
			v[at] = v[at - 1];
		}
		keys[at] = k;
		v[at] = pair;
	}
}

/* One pass: v in order of eight bits of the key; bucket b ends before end[b]. */
static void deal(struct wl_shard_plan_pair *v, size_t n, wl_pair_key key, uint64_t seed, int shift,
	size_t end[BUCKETS])
{
	size_t next[BUCKETS], sum = 0;

	for (int b = 0; b < BUCKETS; b++)
		end[b] = 0;
	for (size_t i = 0; i < n; i++)
		end[key(&v[i], seed) >> shift & (BUCKETS - 1)]++;
	for (int b = 0; b < BUCKETS; b++) {
		next[b] = sum;
		sum += end[b];
		end[b] = sum;
	}
	for (size_t b = 0; b < BUCKETS; b++) {
		while (next[b] < end[b]) {
			struct wl_shard_plan_pair pair = v[next[b]];
			size_t to;

			while ((to = key(&pair, seed) >> shift & (BUCKETS - 1)) != b) {
				struct wl_shard_plan_pair other = v[next[to]];

				v[next[to]++] = pair;
				pair = other;
			}
			v[next[b]++] = pair;
		}
	}
}

static void sort_from(
	struct wl_shard_plan_pair *v, size_t n, wl_pair_key key, uint64_t seed, int shift)
{
	size_t end[BUCKETS], first = 0;

	if (n <= FEW) {
		sort_few(v, n, key, seed);
		return;
	}
	deal(v, n, key, seed, shift, end);
	for (int b = 0; b < BUCKETS; first = end[b++]) {
		if (shift)
			sort_from(v + first, end[b] - first, key, seed, shift - 8);
		else if (key != key_id) /* all of one key */
			sort_from(v + first, end[b] - first, key_id, seed, TOP);
	}
}

void wl_plan_sort(struct wl_shard_plan_pair *v, size_t n, wl_pair_key key, uint64_t seed)
{
	sort_from(v, n, key, seed, TOP);
}

void wl_plan_deal(struct wl_shard_plan_pair *v, size_t n, wl_pair_key key)
{
	size_t end[BUCKETS];

	deal(v, n, key, 0, 0, end);
}
