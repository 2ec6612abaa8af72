/*
 * Likeness by embeddings of a model (--embeddings): which pair has which vector, and whose vectors
 * are near.  Pictures and texts whose vectors are count as near pictures and near texts.
 *
 * Every rank maps the files and knows each pair's row; a partition's rank reads its rows once, to
 * see that they are sound and whether they are those of the last run.
 */
#include "clean/dedup_priv.h"

#include "clean/near.h"
#include "clean/vector_pairs.h"
#include "ops/hash.h"
#include "ops/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DRAWN = 4096, HITS = 5 }; /* pairs, and how many above the bound are a sign */
static const double EDGES_MAX = 2e8; /* that memory is there for: 16 bytes each */
static const char *const what[] = {"embeddings of pictures", "embeddings of texts"};

static bool wants(const struct dedup *d, enum wl_vector_side side)
{
	return d->o->n_embeddings && (side == WL_VECTORS_IMAGE ||
					    (d->o->embedding_text > 0 && dedup_text_counts(d)));
}

void dedup_vectors_close(struct dedup *d)
{
	for (int side = 0; side < 2; side++) {
		struct dedup_vectors *x = &d->vectors[side];
		wl_pair_vectors_close(x->v);
		free(x->row);
		free(x->hash);
		wl_values_release(&x->edges);
		memset(x, 0, sizeof(*x));
	}
}

/* ---- which pair has which vector ---- */

/* An item of --against that is a pair of a corpus is named SET:PPPPP-ID. */
static bool pair_of_item(const char *name, int *partition, int64_t *id)
{
	const char *s = strrchr(name, ':');
	long long number;
	int end = 0;

	if (!s || sscanf(s + 1, "%9d-%19lld%n", partition, &number, &end) != 2 || s[1 + end])
		return false;
	*id = number;
	return true;
}

static uint32_t row_of(const struct dedup *d, const struct dedup_vectors *x, size_t i)
{
	const struct member *m = &d->m[i];
	int partition;
	int64_t id;

	if (m->partition < d->partitions)
		return wl_pair_vectors_find(x->v, WL_VECTORS_OWN, m->partition, m->id);
	if (!pair_of_item(d->names[m->id - 1], &partition, &id))
		return WL_NO_VECTOR;
	return wl_pair_vectors_find(x->v, WL_VECTORS_AGAINST, partition, id);
}

struct coverage {
	size_t pairs, with, of_nobody, first_without, items, items_with;
};

static void report(const struct dedup *d, enum wl_vector_side side, const struct coverage *c)
{
	const char *kind = side == WL_VECTORS_IMAGE ? "picture" : "text";
	char name[WL_PAIR_NAME];

	if (c->with < c->pairs) {
		const struct member *m = &d->m[c->first_without];
		wl_pair_name(m->partition, m->id, name);
		wl_warn("%zu of %zu pairs with a %s have no embedding of it (the first: %s) and "
			"are compared by hashes alone; run wenlan-embed again to have them",
			c->pairs - c->with, c->pairs, kind, name);
	}
	if (c->of_nobody)
		wl_warn("%zu embeddings of %ss are of no pair of this corpus", c->of_nobody, kind);
	if (c->items_with < c->items)
		wl_warn("%zu of %zu items of --against have no embedding of their %s and are "
			"compared by hashes alone; embed the evaluation set as a corpus and give "
			"--against-embeddings",
			c->items - c->items_with, c->items, kind);
}

/* Fills row; every rank by itself, for all pairs. */
static int find_rows(struct dedup *d, enum wl_vector_side side, struct wl_err *err)
{
	struct dedup_vectors *x = &d->vectors[side];
	size_t corpus = d->base[d->partitions], found = 0;
	struct coverage c = {.items = d->n - corpus};

	for (size_t i = 0; i < d->n; i++) {
		const struct member *m = &d->m[i];
		bool has = side == WL_VECTORS_IMAGE ? m->has_image : m->has_text;
		x->row[i] = row_of(d, x, i);
		found += x->row[i] != WL_NO_VECTOR && i < corpus;
		if (!has)
			x->row[i] = WL_NO_VECTOR;
		x->n += x->row[i] != WL_NO_VECTOR;
		c.items_with += i >= corpus && (x->row[i] != WL_NO_VECTOR || !has);
		if (i >= corpus || !has)
			continue;
		if (x->row[i] == WL_NO_VECTOR && c.pairs == c.with)
			c.first_without = i;
		c.pairs++;
		c.with += x->row[i] != WL_NO_VECTOR;
	}
	if (corpus && !found)
		return wl_err_set(err, WL_EDATA,
			"%s: none of the %zu pairs that it has embeddings of is in this corpus; "
			"give the files that wenlan-embed wrote of it.",
			d->o->embeddings[0], wl_pair_vectors_count(x->v, WL_VECTORS_OWN));
	if (wl_pair_vectors_count(x->v, WL_VECTORS_OWN) > found)
		c.of_nobody = wl_pair_vectors_count(x->v, WL_VECTORS_OWN) - found;
	if (side == WL_VECTORS_IMAGE)
		d->counts->embedded = (int64_t)c.with;
	if (wl_comm_rank(d->comm) == 0)
		report(d, side, &c);
	return 0;
}

/* ---- the vectors themselves ---- */

struct checking {
	struct dedup *d;
	struct dedup_vectors *x;
	size_t parts;
	struct wl_err *err; /* [parts] */
	int *ret;	    /* [parts] */
};

static void check_part(void *ctx, size_t part)
{
	struct checking *c = ctx;
	struct dedup *d = c->d;
	size_t to = d->n_own * (part + 1) / c->parts;
	int64_t dim = wl_pair_vectors_dim(c->x->v);
	float *v = malloc((size_t)dim * sizeof(*v));

	c->ret[part] = v ? 0 : wl_err_nomem(&c->err[part], "an embedding", (size_t)dim * 4);
	for (size_t k = d->n_own * part / c->parts; k < to && c->ret[part] == 0; k++) {
		uint32_t row = c->x->row[d->own[k]];
		if (row != WL_NO_VECTOR)
			c->ret[part] = wl_pair_vectors_read(
				c->x->v, row, v, &c->x->hash[k], &c->err[part]);
	}
	free(v);
}

/* Reads this rank's rows, checks them, and keeps a hash of each. */
static int check_own(struct dedup *d, struct dedup_vectors *x, struct wl_err *err)
{
	struct checking c = {.d = d, .x = x, .parts = 4 * wl_pool_threads(d->pool)};
	int ret = 0;

	x->hash = calloc(d->n_own + 1, sizeof(*x->hash));
	c.err = calloc(c.parts, sizeof(*c.err));
	c.ret = calloc(c.parts, sizeof(*c.ret));
	if (!x->hash || !c.err || !c.ret) {
		ret = wl_err_nomem(err, "hashes of embeddings", d->n_own * sizeof(*x->hash));
		goto out;
	}
	wl_pool_for(d->pool, c.parts, check_part, &c);
	for (size_t i = 0; i < c.parts && ret == 0; i++) {
		ret = c.ret[i];
		if (ret < 0 && err)
			*err = c.err[i];
	}
out:
	free(c.err);
	free(c.ret);
	return ret;
}

static bool exactly(const struct dedup *d, const struct dedup_vectors *x)
{
	if (d->o->embedding_search != WL_SEARCH_AUTO)
		return d->o->embedding_search == WL_SEARCH_EXACT;
	return wl_vector_search_affordable(x->n, wl_pair_vectors_dim(x->v));
}

int dedup_vectors_open(struct dedup *d, struct wl_err *err)
{
	const struct wl_vector_paths sets[WL_VECTORS_SETS] = {
		[WL_VECTORS_OWN] = {d->o->embeddings, d->o->n_embeddings},
		[WL_VECTORS_AGAINST] = {d->o->against_embeddings, d->o->n_against_embeddings}};

	for (int side = 0; side < 2; side++) {
		struct dedup_vectors *x = &d->vectors[side];
		if (!wants(d, (enum wl_vector_side)side))
			continue;
		x->cosine = side == WL_VECTORS_IMAGE ? d->o->embedding_cosine
						     : d->o->embedding_text;
		x->v = wl_pair_vectors_open(sets, (enum wl_vector_side)side, err);
		x->row = malloc((d->n + 1) * sizeof(*x->row));
		if (!x->v)
			return -1;
		if (!x->row)
			return wl_err_nomem(err, what[side], d->n * sizeof(*x->row));
		WL_TRY(find_rows(d, (enum wl_vector_side)side, err));
		wl_pair_vectors_forget(x->v);
		WL_TRY(check_own(d, x, err));
		x->exact = exactly(d, x);
	}
	return 0;
}

uint64_t dedup_vector_hash(const struct dedup *d, enum wl_vector_side side, uint32_t i)
{
	size_t from = 0, to = d->n_own;

	if (!d->vectors[side].v)
		return 0;
	while (from < to) {
		size_t mid = from + (to - from) / 2;
		if (d->own[mid] < i)
			from = mid + 1;
		else
			to = mid;
	}
	return d->vectors[side].hash[from];
}

/* ---- whose are near ---- */

static bool is_old(const void *ctx, uint32_t i)
{
	return ((const struct dedup *)ctx)->m[i].old;
}

/* One of each set of equal pictures or texts: the first that has a vector. */
static uint32_t *some_of_each(const struct dedup *d, const struct dedup_vectors *x,
	const uint32_t *roots, size_t *n, struct wl_err *err)
{
	uint32_t *idx = malloc((d->n + 1) * sizeof(*idx));
	uint8_t *has = calloc(d->n + 1, 1);

	*n = 0;
	if (!idx || !has)
		wl_err_nomem(err, "sets of pairs", d->n * sizeof(*idx));
	for (uint32_t i = 0; idx && has && i < d->n; i++)
		if (x->row[i] != WL_NO_VECTOR && !has[roots[i]]) {
			has[roots[i]] = 1;
			idx[(*n)++] = i;
		}
	if (!has) {
		free(idx);
		idx = NULL;
	}
	free(has);
	return idx;
}

/* A model that was hardly trained puts everything close together: then a bound says nothing, and
 * what is above it does not fit anywhere.  Looks at some pairs drawn by lot, the same on every
 * rank. */
static int check_bound(struct dedup *d, const struct wl_vector_search *s, struct wl_err *err)
{
	size_t dim = (size_t)wl_pair_vectors_dim(s->v), hits = 0, drawn = 0;
	float *a = malloc(2 * dim * sizeof(*a));
	double share, all;

	if (!a)
		return wl_err_nomem(err, "two embeddings", 2 * dim * sizeof(*a));
	for (uint64_t k = 0; k < DRAWN && s->n > 1; k++) {
		size_t i = wl_rand64(1, s->n, 2 * k) % s->n;
		size_t j = wl_rand64(1, s->n, 2 * k + 1) % s->n;

		if (i == j)
			continue;
		wl_pair_vectors_row(s->v, s->row[s->idx[i]], a);
		wl_pair_vectors_row(s->v, s->row[s->idx[j]], a + dim);
		hits += wl_cosine(a, a + dim, (int64_t)dim) >= s->cosine;
		drawn++;
	}
	free(a);
	share = drawn ? (double)hits / (double)drawn : 0;
	all = share * (double)s->n * (double)s->n / 2;
	if (hits >= HITS && all > EDGES_MAX)
		return wl_err_set(err, WL_EUSAGE,
			"%s: %.1f %% of pairs drawn by lot have a cosine of %g or more, so some "
			"%.2g pairs would count as alike; raise the bound, or take a model that is "
			"better trained.",
			s->what, 100 * share, s->cosine, all);
	if (hits >= HITS && wl_comm_rank(d->comm) == 0)
		wl_warn("%s: %.1f %% of pairs drawn by lot have a cosine of %g or more; unless the "
			"corpus is full of copies this model needs a higher bound",
			s->what, 100 * share, s->cosine);
	return 0;
}

/* What the search found of what it should have; edges are those of this run, on all ranks. */
static int tell_recall(struct dedup *d, const struct wl_vector_search *s, struct wl_err *err)
{
	size_t n = s->edges->n, ranks = (size_t)wl_comm_size(d->comm);
	size_t rank = (size_t)wl_comm_rank(d->comm);
	uint64_t candidates = s->candidates;
	double sum;

	WL_TRY(wl_vector_search_estimate(
		s, s->edges, n * rank / ranks, n * (rank + 1) / ranks, &sum, err));
	WL_TRY(wl_comm_all_reduce(d->comm, &sum, 1, WL_COMM_F64, WL_COMM_SUM, err));
	WL_TRY(wl_comm_all_reduce(d->comm, &candidates, 1, WL_COMM_U64, WL_COMM_SUM, err));
	if (wl_comm_rank(d->comm) == 0)
		wl_info("%s: %zu vectors, %llu pairs compared, %zu of a cosine of %g or more, "
			"which is %.1f %% of those that there are",
			s->what, s->n, (unsigned long long)candidates, n, s->cosine,
			sum > 0 ? 100 * (double)n / sum : 100.0);
	return 0;
}

int dedup_find_vectors(
	struct dedup *d, enum wl_vector_side side, const uint32_t *roots, struct wl_err *err)
{
	struct dedup_vectors *x = &d->vectors[side];
	struct wl_values found = {0};
	struct wl_vector_search s = {.what = what[side],
		.v = x->v,
		.row = x->row,
		.cosine = x->cosine,
		.exact = x->exact,
		.old = is_old,
		.ctx = d,
		.dir = wl_corpus_dir(d->stage.corpus),
		.edges = &found};
	uint32_t *idx;
	int ret = -1;

	if (!x->v)
		return 0;
	idx = some_of_each(d, x, roots, &s.n, err);
	s.idx = idx;
	if (!idx)
		return -1;
	WL_TRY_OUT(check_bound(d, &s, err));
	WL_TRY_OUT(wl_vector_search_run(&s, d->comm, d->pool, dedup_memory(d, 60), err));
	WL_TRY_OUT(wl_comm_all_reduce(d->comm, &s.cut, 1, WL_COMM_U64, WL_COMM_SUM, err));
	d->counts->cut += (int64_t)s.cut;
	WL_TRY_OUT(wl_values_gather(&found, d->comm, err));
	if (!s.exact)
		WL_TRY_OUT(tell_recall(d, &s, err));
	for (size_t i = 0; i < found.n; i++)
		wl_values_add(&x->edges, found.v[i]);
	ret = x->edges.no_memory ? wl_err_nomem(err, "pairs that are alike", found.n * 8) : 0;
out:
	free(idx);
	wl_values_release(&found);
	return ret;
}
