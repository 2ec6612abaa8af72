/*
 * A mix keeps the numbers of each source's samples.  The split's database is asked once, in the
 * order of the shards, so the lists are the same for everybody.
 */
#include "loader/order.h"

#include "ops/hash.h"
#include "shards/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SOURCES = 1000 };

struct source {
	const char *name; /* in the mix's copy of the mapping */
	double weight, rest;
	uint32_t *samples; /* [n] */
	int64_t n, cap;
	int64_t share, first; /* positions of an epoch, before they are shuffled */
};

struct wl_mix {
	json_t *weights; /* owned */
	struct source *sources; /* [n] by name */
	size_t n;
	char seen[256]; /* sources of the split that the mix does not name, for messages */
	const struct wl_order *order;
	int64_t limit, live;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct source *)a)->name, ((const struct source *)b)->name);
}

static int by_number(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* ---- building a mix ---- */

static int parse_mix(struct wl_mix *m, const json_t *mix, struct wl_err *err)
{
	const char *name;
	json_t *weight;

	if (!json_is_object(mix) || !json_object_size(mix) || json_object_size(mix) > MAX_SOURCES)
		return wl_err_set(err, WL_EUSAGE, "mix: expected a mapping of sources to weights, "
			"as {news: 2, baike: 1}");
	m->weights = json_deep_copy(mix);
	m->sources = calloc(json_object_size(mix), sizeof(*m->sources));
	if (!m->weights || !m->sources)
		return wl_err_nomem(err, "the mix", json_object_size(mix) * sizeof(*m->sources));
	json_object_foreach(m->weights, name, weight) {
		double w = json_number_value(weight);

		if (!(w > 0 && w < 1e9))
			return wl_err_set(err, WL_EUSAGE, "mix: the weight of \"%s\" must be a "
				"number greater than 0; leave out a source that is not wanted",
				name);
		m->sources[m->n++] = (struct source){.name = name, .weight = w};
	}
	qsort(m->sources, m->n, sizeof(*m->sources), by_name);
	return 0;
}

/* The sample is of that source (a wl_source_fn). */
static int add_sample(void *ctx, int64_t sample, const char *source, struct wl_err *err)
{
	struct wl_mix *m = ctx;
	struct source key = {.name = source}, *s;

	if (m->limit > 0 && m->live >= m->limit)
		return 0;
	if (m->order->n_dead && bsearch(&sample, m->order->dead, (size_t)m->order->n_dead,
			sizeof(sample), by_number))
		return 0;
	m->live++;
	s = bsearch(&key, m->sources, m->n, sizeof(*m->sources), by_name);
	if (!s) {
		size_t used = strlen(m->seen);

		if (!strstr(m->seen, source))
			snprintf(m->seen + used, sizeof(m->seen) - used, "%s%s",
				used ? ", " : "", source);
		return 0;
	}
	if (s->n == s->cap) {
		int64_t cap = s->cap ? s->cap * 2 : 1024;
		uint32_t *p = realloc(s->samples, (size_t)cap * sizeof(*p));

		if (!p)
			return wl_err_nomem(err, "the mix", (size_t)cap * sizeof(*p));
		s->samples = p;
		s->cap = cap;
	}
	s->samples[s->n++] = (uint32_t)sample;
	return 0;
}

/* Whole numbers of positions that add up to size: the largest remainders are rounded up. */
static void share_out(struct wl_mix *m, int64_t size)
{
	double total = 0;
	int64_t left = size;
	size_t i;

	for (i = 0; i < m->n; i++)
		total += m->sources[i].weight;
	for (i = 0; i < m->n; i++) {
		double exact = (double)size * (m->sources[i].weight / total);

		m->sources[i].share = (int64_t)exact;
		m->sources[i].rest = exact - (double)m->sources[i].share;
		left -= m->sources[i].share;
	}
	for (; left > 0; left--) {
		struct source *most = m->sources;

		for (i = 1; i < m->n; i++)
			most = m->sources[i].rest > most->rest ? &m->sources[i] : most;
		most->share++;
		most->rest = -1;
	}
	for (i = 1; i < m->n; i++)
		m->sources[i].first = m->sources[i - 1].first + m->sources[i - 1].share;
}

static int build_mix(struct wl_order *o, struct wl_shardset *shards, int64_t limit,
	const json_t *mix, struct wl_err *err)
{
	struct wl_mix *m = o->mix = calloc(1, sizeof(*m));
	size_t i;

	if (!m)
		return wl_err_nomem(err, "the mix", sizeof(*m));
	m->order = o;
	m->limit = limit;
	if (!o->shuffle)
		return wl_err_set(err, WL_EUSAGE, "mix: sources are mixed while shuffling; turn "
			"shuffle on, or leave the mix out");
	if (wl_shardset_size(shards) > UINT32_MAX)
		return wl_err_set(err, WL_EUSAGE, "mix: the split has %lld samples, more than can "
			"be mixed (4 G)", (long long)wl_shardset_size(shards));
	WL_TRY(parse_mix(m, mix, err));
	WL_TRY(wl_shardset_sources(shards, add_sample, m, err));
	o->size = 0;
	for (i = 0; i < m->n; i++) {
		if (!m->sources[i].n)
			return wl_err_set(err, WL_EUSAGE, "mix: the split has no samples of the "
				"source \"%s\"; it also has: %s", m->sources[i].name,
				*m->seen ? m->seen : "nothing that the mix does not name");
		o->size += m->sources[i].n;
	}
	share_out(m, o->size);
	return 0;
}

int wl_order_init(struct wl_order *o, struct wl_shardset *shards, bool shuffle, uint64_t seed,
	int64_t limit, const json_t *mix, struct wl_err *err)
{
	*o = (struct wl_order){.shuffle = shuffle, .seed = seed};
	o->dead = wl_shardset_dead_samples(shards, &o->n_dead);
	o->size = wl_shardset_size(shards) - o->n_dead;
	if (limit > 0 && limit < o->size)
		o->size = limit;
	return mix ? build_mix(o, shards, limit, mix, err) : 0;
}

void wl_order_release(struct wl_order *o)
{
	struct wl_mix *m = o ? o->mix : NULL;
	size_t i;

	if (!m)
		return;
	for (i = 0; i < m->n; i++)
		free(m->sources[i].samples);
	free(m->sources);
	json_decref(m->weights);
	free(m);
	o->mix = NULL;
}

/* ---- asking ---- */

/* The k-th sample that is not taken down: k plus the dead before it. */
static int64_t live_sample(const struct wl_order *o, int64_t k)
{
	int64_t lo = 0, hi = o->n_dead;

	while (lo < hi) { /* dead[j] - j never falls: how many are before the k-th live one? */
		int64_t mid = (lo + hi) / 2;

		if (o->dead[mid] - mid <= k)
			lo = mid + 1;
		else
			hi = mid;
	}
	return k + lo;
}

/* Place k of an epoch belongs to one source; the source's own places run on through epochs. */
static int64_t mixed_sample(const struct wl_order *o, int64_t epoch, int64_t k, int64_t *pass)
{
	const uint64_t stream = 0x6d6978; /* "mix" */
	const struct wl_mix *m = o->mix;
	const struct source *s = m->sources;
	uint64_t seed;
	int64_t at;

	while (s + 1 < m->sources + m->n && k >= s[1].first)
		s++;
	at = epoch * s->share + k - s->first;
	*pass = at / s->n;
	seed = wl_rand64(o->seed ^ wl_hash64(s->name, strlen(s->name), 0), stream,
		(uint64_t)*pass);
	return s->samples[wl_shuffle((uint64_t)(at % s->n), (uint64_t)s->n, seed)];
}

int64_t wl_order_at(const struct wl_order *o, int64_t epoch, int64_t position, int64_t *showing)
{
	const uint64_t stream = 0x6f72646572; /* "order" */
	int64_t k = position, pass = epoch, sample;

	if (o->shuffle)
		k = (int64_t)wl_shuffle((uint64_t)k, (uint64_t)o->size,
			wl_rand64(o->seed, stream, (uint64_t)epoch));
	sample = o->mix ? mixed_sample(o, epoch, k, &pass) : live_sample(o, k);
	if (showing)
		*showing = pass;
	return sample;
}
