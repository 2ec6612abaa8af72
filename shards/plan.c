/*
 * The plan is made from the catalog alone, before any picture is read: shards are cut by
 * estimated sizes (exact for JPEGs, which are copied).  So any shard can be packed by anyone
 * at any time, and a lost one again, with the same bytes.
 */
#include "shards/plan.h"

#include "ops/hash.h"
#include "ops/log.h"
#include "ops/signals.h"
#include "shards/count.h"
#include "shards/kept.h"
#include "shards/manifest.h"
#include "shards/plan_sort.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const wl_split_names[WL_SPLITS] = {"", "test", "val", "train"};

/* Streams of the counter-based generator. */
enum { STREAM_ORDER = 0x53484152, STREAM_DRAW = 0x44524157 };

/* ---- which pairs ---- */

/* Three headers, padding, and the texts of an ordinary sample. */
enum { OVERHEAD_BYTES = 3072 };

static uint32_t estimate(const struct wl_pair *p)
{
	/* What is no JPEG becomes one: about 3 bits a pixel at quality 95. */
	int64_t n = strcmp(p->format, "jpeg") ? (int64_t)p->width * p->height * 3 / 8 : p->length;

	n += OVERHEAD_BYTES;
	return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static enum wl_split hint_of(const struct wl_pair *p)
{
	for (int s = WL_SPLIT_TEST; s < WL_SPLITS; s++)
		if (!strcmp(p->split_hint, wl_split_names[s]))
			return (enum wl_split)s;
	return WL_SPLIT_NONE;
}

static int add_pair(struct wl_shard_plan *p, const struct wl_pair *pair, int64_t group,
	const struct wl_shard_plan_opts *o, struct wl_err *err)
{
	enum wl_split hint = o->ignore_hints ? WL_SPLIT_NONE : hint_of(pair);

	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap + p->cap / 2 : 4096;
		void *v = realloc(p->pairs, cap * sizeof *p->pairs);

		if (!v)
			return wl_err_nomem(err, "the plan of a shard set", cap * sizeof *p->pairs);
		p->pairs = v;
		p->cap = cap;
	}
	p->pairs[p->n++] = (struct wl_shard_plan_pair){.id = pair->id,
		.group = group,
		.bytes = estimate(pair),
		.partition = (uint32_t)pair->partition & 0xffffff,
		.split = (uint8_t)hint};
	p->hinted[hint]++;
	return 0;
}

/* Says which stage is missing; the reader must run it, or say that it is not wanted. */
static int not_examined(const struct wl_pair *pair, const struct wl_fate *f, struct wl_corpus *c,
	struct wl_err *err)
{
	const char *stage =
		wl_kept_stage_names[f->examined[WL_KEPT_DEDUP] ? WL_KEPT_FILTER : WL_KEPT_DEDUP];
	char name[WL_PAIR_NAME];

	wl_pair_name(pair->partition, pair->id, name);
	return wl_err_set(err, WL_EDATA,
		"%s: wenlan-%s has not examined pair %s%s; run wenlan-%s --corpus %s first, or "
		"pass --allow-unfiltered to pack pairs that it has not seen",
		wl_corpus_dir(c), stage, name,
		wl_corpus_generation(c, stage) ? "" : " (it never ran to its end)", stage,
		wl_corpus_dir(c));
}

static int walk_partition(struct wl_shard_plan *p, struct wl_corpus *c, int partition,
	const struct wl_shard_plan_opts *o, struct wl_err *err)
{
	struct wl_kept *k = wl_kept_open(c, partition, err);
	struct wl_pair_cursor *cur = k ? wl_pairs_open(c, partition, err) : NULL;
	struct wl_pair pair;
	struct wl_fate f;
	int rc = -1;

	if (!cur)
		goto out;
	WL_TRY_OUT(wl_kept_count_reasons(k, p->verdicts, err));
	while ((rc = wl_pairs_next(cur, &pair, err)) > 0) {
		if ((rc = wl_kept_fate(k, pair.id, &f, err)) < 0)
			break;
		p->seen++;
		if (f.verdict[WL_KEPT_DEDUP] || f.verdict[WL_KEPT_FILTER]) {
			p->dropped++;
			continue;
		}
		if (o->n_skip && bsearch(&pair.id, o->skip, o->n_skip, sizeof *o->skip, wl_by_id)) {
			p->skipped++;
			continue;
		}
		if (!o->allow_unfiltered &&
			!(f.examined[WL_KEPT_DEDUP] && f.examined[WL_KEPT_FILTER])) {
			rc = not_examined(&pair, &f, c, err);
			break;
		}
		if ((rc = add_pair(p, &pair, f.group, o, err)) < 0)
			break;
	}
out:
	wl_pairs_close(cur);
	wl_kept_close(k);
	return rc < 0 ? -1 : 0;
}

/* ---- splits ---- */

static uint64_t key_group(const struct wl_shard_plan_pair *p, uint64_t seed)
{
	(void)seed;
	return (uint64_t)p->group ^ 1ull << 63; /* as signed numbers */
}

struct group {
	uint64_t order;
	size_t first, n; /* in pairs sorted by group */
};

static int by_draw(const void *a, const void *b)
{
	const struct group *x = a, *y = b;

	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	return (x->first > y->first) - (x->first < y->first);
}

/* The groups none of whose pairs has a split yet and whose place in the draw is at most `last`, in
 * the order in which they are drawn. */
static int free_groups(const struct wl_shard_plan *p, uint64_t seed, uint64_t last,
	struct group **out, size_t *n_out, struct wl_err *err)
{
	struct group *v = NULL;
	size_t n = 0, cap = 0;

	for (size_t i = 0, end; i < p->n; i = end) {
		uint64_t order = wl_rand64(seed, STREAM_DRAW, (uint64_t)p->pairs[i].group);
		bool taken = order > last;

		for (end = i; end < p->n && p->pairs[end].group == p->pairs[i].group; end++)
			taken |= p->pairs[end].split != WL_SPLIT_NONE;
		if (taken)
			continue;
		if (n == cap) {
			void *more = realloc(v, (cap = cap ? cap * 2 : 4096) * sizeof *v);

			if (!more) {
				free(v);
				return wl_err_nomem(err, "the split groups", cap * sizeof *v);
			}
			v = more;
		}
		v[n++] = (struct group){order, i, end - i};
	}
	if (n)
		qsort(v, n, sizeof *v, by_draw);
	*out = v;
	*n_out = n;
	return 0;
}

/* Greedy in draw order: a group that would overshoot is passed over, singletons fill the rest.
 * Gives how many pairs were drawn. */
static int64_t draw(struct wl_shard_plan *p, enum wl_split split, int64_t want,
	const struct group *groups, size_t n)
{
	int64_t have = 0;

	for (size_t g = 0; g < n && have < want; g++) {
		if (p->pairs[groups[g].first].split != WL_SPLIT_NONE ||
			(int64_t)groups[g].n > want - have)
			continue;
		for (size_t i = 0; i < groups[g].n; i++)
			p->pairs[groups[g].first + i].split = (uint8_t)split;
		have += (int64_t)groups[g].n;
	}
	return have;
}

/* Why the draw fell short: the groups, or the input, which names splits itself. */
static int too_few(const struct wl_shard_plan *p, enum wl_split split, int64_t want, int64_t have,
	struct wl_err *err)
{
	const char *name = wl_split_names[split];
	const int64_t *hinted = p->hinted;
	int64_t named = hinted[WL_SPLIT_TEST] + hinted[WL_SPLIT_VAL] + hinted[WL_SPLIT_TRAIN];

	if (named)
		return wl_err_set(err, WL_EDATA,
			"--%s %lld cannot be met: the input names the split of %lld of the %zu "
			"kept pairs itself (test %lld, val %lld, train %lld), and whole groups of "
			"the others make up %s at most; ask for no more than these, leave "
			"--%s out to take the input's splits as they are, or pass --ignore-hints "
			"to draw from all pairs as if the input named none",
			name, (long long)want, (long long)named, p->n,
			(long long)hinted[WL_SPLIT_TEST], (long long)hinted[WL_SPLIT_VAL],
			(long long)hinted[WL_SPLIT_TRAIN], wl_count(have, "pair").s, name);
	return wl_err_set(err, WL_EDATA,
		"--%s %lld cannot be met: whole groups of near-duplicates make up %s at "
		"most of the %zu that are kept; ask for %lld",
		name, (long long)want, wl_count(have, "pair").s, p->n, (long long)have);
}

/* Train pairs beside a hinted test or val pair: allowed (the input asked for it, and dedup
 * gives near ones a verdict), but counted. */
static void count_leaks(struct wl_shard_plan *p)
{
	for (size_t i = 0, end; i < p->n; i = end) {
		int64_t train = 0;
		bool held_out = false;

		for (end = i; end < p->n && p->pairs[end].group == p->pairs[i].group; end++) {
			if (p->pairs[end].split == WL_SPLIT_TRAIN)
				train++;
			else
				held_out = true;
		}
		p->leaks += held_out ? train : 0;
	}
}

/* Draws what is wanted of the groups whose place in the draw is at most `last`, or nothing.  1: all
 * of it; 0: there are too few, of *split there are *have. */
static int try_draw(struct wl_shard_plan *p, uint64_t seed, uint64_t last,
	const int64_t want[WL_SPLITS], enum wl_split *split, int64_t *have, struct wl_err *err)
{
	struct group *groups = NULL;
	bool met = true;
	size_t n = 0;

	WL_TRY(free_groups(p, seed, last, &groups, &n, err));
	for (int s = WL_SPLIT_TEST; s <= WL_SPLIT_VAL && met; s++) {
		*split = (enum wl_split)s;
		*have = draw(p, *split, want[s], groups, n);
		met = *have == want[s];
	}
	for (size_t g = 0; g < n && !met; g++)
		for (size_t i = 0; i < groups[g].n; i++)
			p->pairs[groups[g].first + i].split = WL_SPLIT_NONE;
	free(groups);
	return met;
}

/* The draw looks at groups in the order of their places, so those behind the last one drawn need
 * not be held: some MB for 11,000 of 30 M pairs.  A first guess at that one's place mostly
 * serves; passed-over groups, or many that are hinted, ask for a larger one. */
static int draw_splits(
	struct wl_shard_plan *p, uint64_t seed, const int64_t want[WL_SPLITS], struct wl_err *err)
{
	uint64_t groups = 4 * ((uint64_t)want[WL_SPLIT_TEST] + (uint64_t)want[WL_SPLIT_VAL]) + 1024;
	uint64_t last = groups < p->n ? UINT64_MAX / p->n * groups : UINT64_MAX;
	enum wl_split split;
	int64_t have;
	int rc;

	while ((rc = try_draw(p, seed, last, want, &split, &have, err)) == 0) {
		if (last == UINT64_MAX)
			return too_few(p, split, want[split], have, err);
		last = last > UINT64_MAX / 4 ? UINT64_MAX : last * 4;
	}
	return rc < 0 ? -1 : 0;
}

static int assign_splits(
	struct wl_shard_plan *p, const struct wl_shard_plan_opts *o, struct wl_err *err)
{
	int64_t want[WL_SPLITS] = {[WL_SPLIT_TEST] = o->test, [WL_SPLIT_VAL] = o->val};

	wl_plan_sort(p->pairs, p->n, key_group, 0);
	for (int s = WL_SPLIT_TEST; s <= WL_SPLIT_VAL; s++) {
		if (!want[s] || !p->hinted[s] || o->draw_beside_hints)
			continue;
		wl_info("--%s %lld draws nothing: the input names %lld %s pairs itself "
			"(--draw-beside-hints draws more of the pairs whose split it does not "
			"name, --ignore-hints of all)",
			wl_split_names[s], (long long)want[s], (long long)p->hinted[s],
			wl_split_names[s]);
		want[s] = 0;
	}
	if (want[WL_SPLIT_TEST] || want[WL_SPLIT_VAL])
		WL_TRY(draw_splits(p, o->seed, want, err));
	for (size_t i = 0; i < p->n; i++) {
		if (p->pairs[i].split == WL_SPLIT_NONE)
			p->pairs[i].split = WL_SPLIT_TRAIN;
		p->in_split[p->pairs[i].split]++;
	}
	count_leaks(p);
	return 0;
}

/* ---- shards ---- */

static uint64_t key_order(const struct wl_shard_plan_pair *p, uint64_t seed)
{
	return wl_rand64(seed, STREAM_ORDER, (uint64_t)p->id);
}

static uint64_t key_split(const struct wl_shard_plan_pair *p, uint64_t seed)
{
	(void)seed;
	return p->split;
}

/* By split, and each split shuffled. */
static void shuffle(struct wl_shard_plan *p, uint64_t seed)
{
	struct wl_shard_plan_pair *v = p->pairs;

	wl_plan_deal(v, p->n, key_split);
	for (int s = 0; s < WL_SPLITS; s++) {
		wl_plan_sort(v, (size_t)p->in_split[s], key_order, seed);
		v += p->in_split[s];
	}
}

static int cut(struct wl_shard_plan *p, const struct wl_shard_plan_opts *o, struct wl_err *err)
{
	int64_t most = o->shard_samples ? o->shard_samples : WL_SHARD_SAMPLES_MAX;
	int64_t bytes = 0;
	struct wl_planned_shard *sh = NULL;
	size_t cap = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct wl_shard_plan_pair *pair = &p->pairs[i];

		if (!sh || sh->split != pair->split || (int64_t)sh->n >= most ||
			bytes + pair->bytes > o->shard_bytes) {
			int64_t number = sh && sh->split == pair->split ? sh->number + 1
									: o->first[pair->split];

			if (p->n_shards == cap) {
				void *v =
					realloc(p->shards, (cap = cap ? cap * 2 : 64) * sizeof *sh);

				if (!v)
					return wl_err_nomem(
						err, "the plan of a shard set", cap * sizeof *sh);
				p->shards = v;
			}
			sh = &p->shards[p->n_shards++];
			*sh = (struct wl_planned_shard){(enum wl_split)pair->split, number, i, 0};
			bytes = 0;
		}
		sh->n++;
		bytes += pair->bytes;
	}
	return 0;
}

/* What the stage was asked to do; two runs with the same parameters may leave the same pairs
 * with other texts only if these differ. */
static const char *stage_params(const struct wl_corpus *c, const char *stage)
{
	const json_t *facts = wl_corpus_stage_facts(c, stage);
	const char *s = json_string_value(json_object_get(facts, "params_hash"));

	return s ? s : "-";
}

static int name_plan(struct wl_shard_plan *p, const struct wl_corpus *c,
	const struct wl_shard_plan_opts *o, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_sha256 h;
	char text[512];
	int n;

	WL_TRY(wl_sha256_init(&h, err));
	n = snprintf(text, sizeof text, "v%d %s %.64s %.64s %llu %d %lld %lld %d\n",
		WL_SHARDS_VERSION, p->corpus, stage_params(c, "dedup"), stage_params(c, "filter"),
		(unsigned long long)o->seed, o->quality, (long long)o->shard_bytes,
		(long long)o->shard_samples, o->allow_unfiltered);
	wl_sha256_add(&h, text, (size_t)n);
	if (o->base)
		wl_sha256_add(&h, o->base, strlen(o->base));
	for (size_t i = 0; i < p->n; i++) {
		int64_t fields[4] = {
			p->pairs[i].id, p->pairs[i].group, p->pairs[i].split, p->pairs[i].bytes};

		wl_sha256_add(&h, fields, sizeof fields);
	}
	wl_sha256_final(&h, digest);
	wl_sha256_release(&h);
	wl_hex(digest, sizeof digest, p->hash);
	return 0;
}

int wl_shard_plan_make(struct wl_shard_plan *p, struct wl_corpus *c,
	const struct wl_shard_plan_opts *o, struct wl_err *err)
{
	*p = (struct wl_shard_plan){.verdicts = json_object()};
	if (!p->verdicts)
		return wl_err_nomem(err, "the plan of a shard set", 0);
	for (int i = 0; i < wl_corpus_partitions(c); i++)
		WL_TRY_OUT(walk_partition(p, c, i, o, err));
	if (!p->n && o->base && p->skipped)
		return 0;
	if (!p->n) {
		wl_err_set(err, WL_EDATA,
			"%s: of %s none is kept, so there is nothing to pack; look at the reports "
			"of wenlan-dedup and wenlan-filter",
			wl_corpus_dir(c), wl_count(p->seen, "pair").s);
		goto out;
	}
	WL_TRY_OUT(assign_splits(p, o, err));
	shuffle(p, o->seed);
	WL_TRY_OUT(cut(p, o, err));
	WL_TRY_OUT(wl_corpus_fingerprint(c, p->corpus, err));
	WL_TRY_OUT(name_plan(p, c, o, err));
	return 0;
out:
	wl_shard_plan_release(p);
	return -1;
}

void wl_shard_plan_release(struct wl_shard_plan *p)
{
	if (!p)
		return;
	free(p->pairs);
	free(p->shards);
	json_decref(p->verdicts);
	*p = (struct wl_shard_plan){0};
}
