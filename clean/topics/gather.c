/* See gather.h. */
#include "clean/topics/gather.h"

#include "clean/pairtext.h"
#include "ops/hash.h"
#include "ops/progress.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 512, MAX_WORDS_BYTES = 64 << 20 };

/* A source while its vocabulary is not known: words by the numbers of `terms`. */
struct raw {
	char *source;
	struct wl_terms terms;
	uint32_t *stamp; /* [terms.cap] the last document that had it, + 1 */
	size_t cap_stamp;
	uint32_t *word;
	size_t n_word, cap_word;
	uint64_t *start; /* [n + 1] */
	bool *held;	 /* [n] */
	size_t n, cap;
};

struct job {
	const struct wl_gather_options *o;
	char name[WL_PAIR_NAME];
	char *source, *texts;
	bool held;
	struct wl_cuts cuts;
	struct wl_buf words;
	int ret;
	struct wl_err err;
};

struct gatherer {
	const struct wl_gather_options *o;
	struct wl_pool *pool;
	struct wl_progress *progress;
	struct raw *v;
	size_t n;
	struct job jobs[BATCH];
	size_t n_jobs;
};

static void raw_release(struct raw *r)
{
	free(r->source);
	wl_terms_release(&r->terms);
	free(r->stamp);
	free(r->word);
	free(r->start);
	free(r->held);
	memset(r, 0, sizeof(*r));
}

/* ---- one pair ---- */

static int put_word(void *user, const char *word, size_t n, struct wl_err *err)
{
	struct wl_buf *b = user;

	WL_TRY(wl_buf_add(b, word, n, err));
	return wl_buf_putc(b, 0, err);
}

int wl_gather_words(const struct wl_gather_options *o, const char *source, const char *texts,
	const char *what, struct wl_cuts *cuts, struct wl_buf *words, struct wl_err *err)
{
	struct wl_pairtext p;
	struct wl_buf norm;
	int ret = -1;

	wl_buf_init(&norm, 4 * (size_t)WL_TEXT_MAX_BYTES);
	WL_TRY(wl_pairtext_parse(&p, texts, what, err));
	for (size_t i = 0; i < p.n; i++) {
		WL_TRY_OUT(wl_text_normalise(
			o->text, source, p.v[i].text, p.v[i].len, 0, &norm, NULL, err));
		WL_TRY_OUT(wl_terms_of_text(o->segment, &o->rules, wl_buf_str(&norm), norm.len,
			cuts, put_word, words, err));
	}
	ret = 0;
out:
	wl_buf_release(&norm);
	wl_pairtext_release(&p);
	return ret;
}

static void work(void *ctx, size_t i)
{
	struct job *j = &((struct gatherer *)ctx)->jobs[i];

	wl_buf_reset(&j->words);
	j->ret = wl_gather_words(
		j->o, j->source, j->texts, j->name, &j->cuts, &j->words, &j->err);
}

/* ---- storing ---- */

static struct raw *source_of(struct gatherer *g, const char *source, struct wl_err *err)
{
	struct raw *v;

	for (size_t i = 0; i < g->n; i++)
		if (strcmp(g->v[i].source, source) == 0)
			return &g->v[i];
	v = realloc(g->v, (g->n + 1) * sizeof(*v));
	if (v) {
		g->v = v;
		memset(&v[g->n], 0, sizeof(*v));
		v[g->n].source = strdup(source);
		v[g->n].start = calloc(1, sizeof(*v->start));
		g->n++;
	}
	if (v && v[g->n - 1].source && v[g->n - 1].start)
		return &v[g->n - 1];
	wl_err_nomem(err, "a source's words", sizeof(*v));
	return NULL;
}

static int reserve(struct raw *r, size_t words, struct wl_err *err)
{
	size_t cap = r->n + 1 < r->cap ? r->cap : 2 * r->cap + 1024;
	size_t cap_word =
		r->n_word + words <= r->cap_word ? r->cap_word : 2 * (r->n_word + words);
	uint64_t *start = realloc(r->start, (cap + 1) * sizeof(*start));
	bool *held = realloc(r->held, cap * sizeof(*held));
	uint32_t *word = cap_word ? realloc(r->word, cap_word * sizeof(*word)) : r->word;

	r->start = start ? start : r->start;
	r->held = held ? held : r->held;
	r->word = word ? word : r->word;
	if (!start || !held || (cap_word && !word))
		return wl_err_nomem(err, "a source's words", cap_word * sizeof(*word));
	r->cap = cap;
	r->cap_word = cap_word;
	return 0;
}

static int count_word(struct raw *r, uint32_t id, struct wl_err *err)
{
	if (id >= r->cap_stamp) {
		size_t cap = r->terms.cap;
		uint32_t *stamp = realloc(r->stamp, cap * sizeof(*stamp));
		if (!stamp)
			return wl_err_nomem(err, "a source's words", cap * sizeof(*stamp));
		memset(stamp + r->cap_stamp, 0, (cap - r->cap_stamp) * sizeof(*stamp));
		r->stamp = stamp;
		r->cap_stamp = cap;
	}
	r->terms.count[id].occurrences++;
	r->terms.count[id].docs += r->stamp[id] != (uint32_t)r->n + 1;
	r->stamp[id] = (uint32_t)r->n + 1;
	return 0;
}

/* Held-out documents have no say in the vocabulary. */
static int store(struct gatherer *g, const struct job *j, struct wl_err *err)
{
	struct raw *r = source_of(g, g->o->merged ? "*" : j->source, err);
	const char *w = wl_buf_str(&j->words), *end = w + j->words.len;
	size_t words = 0;

	if (!r)
		return -1;
	for (const char *p = w; p < end; p += strlen(p) + 1)
		words++;
	WL_TRY(reserve(r, words, err));
	for (; w < end; w += strlen(w) + 1) {
		uint32_t id;
		WL_TRY(wl_terms_add(&r->terms, w, strlen(w), &id, err));
		if (!j->held)
			WL_TRY(count_word(r, id, err));
		r->word[r->n_word++] = id;
	}
	r->held[r->n++] = j->held;
	r->start[r->n] = r->n_word;
	return 0;
}

static int flush(struct gatherer *g, struct wl_err *err)
{
	int ret = 0;

	if (g->pool)
		wl_pool_for(g->pool, g->n_jobs, work, g);
	else
		for (size_t i = 0; i < g->n_jobs; i++)
			work(g, i);
	for (size_t i = 0; i < g->n_jobs; i++) {
		struct job *j = &g->jobs[i];
		if (ret == 0 && j->ret < 0) {
			ret = -1;
			if (err)
				*err = j->err;
		}
		if (ret == 0)
			ret = store(g, j, err);
		free(j->source);
		free(j->texts);
		j->source = j->texts = NULL;
	}
	wl_progress_add(g->progress, g->n_jobs);
	g->n_jobs = 0;
	return ret;
}

/* ---- walking ---- */

/* Dedup's verdicts of a partition; 0: no statement where it has not run. */
static int open_dropped(struct wl_corpus *c, int p, struct wl_db *db, sqlite3_stmt **st,
	struct wl_err *err)
{
	int generation = wl_corpus_generation(c, "dedup"), ret;
	char *path;

	if (!generation)
		return 0;
	path = wl_corpus_stage_path(c, "dedup", generation, p, err);
	ret = path ? wl_db_open(db, path, WL_DB_READ, err) : -1;
	free(path);
	WL_TRY(ret);
	return wl_db_prepare(db, st, "SELECT 1 FROM verdict WHERE pair_id = ? LIMIT 1", err);
}

static int is_dropped(struct wl_db *db, sqlite3_stmt *st, int64_t id, struct wl_err *err)
{
	int row;

	if (!st)
		return 0;
	WL_TRY(wl_db_bind(db, st, err, "i", id));
	WL_TRY(row = wl_db_step(db, st, err));
	sqlite3_reset(st);
	return row;
}

static int add_pair(struct gatherer *g, const struct wl_pair *pair, struct wl_err *err)
{
	struct job *j = &g->jobs[g->n_jobs++];

	j->o = g->o;
	wl_pair_name(pair->partition, pair->id, j->name);
	j->held = wl_rand_unit(g->o->seed, 2, (uint64_t)pair->id) < g->o->held_out;
	j->source = strdup(pair->source);
	j->texts = strdup(pair->texts);
	if (!j->source || !j->texts)
		return wl_err_nomem(err, "a pair", strlen(pair->texts));
	return g->n_jobs == BATCH ? flush(g, err) : 0;
}

static int walk(struct gatherer *g, struct wl_corpus *c, int p, struct wl_err *err)
{
	struct wl_pair_cursor *cur = wl_pairs_open(c, p, err);
	sqlite3_stmt *st = NULL;
	struct wl_db db = {0};
	struct wl_pair pair;
	int row, dropped, ret = -1;

	if (!cur)
		return -1;
	WL_TRY_OUT(open_dropped(c, p, &db, &st, err));
	while ((row = wl_pairs_next(cur, &pair, err)) != 0) {
		WL_TRY_OUT(row);
		if (wl_stop_requested()) {
			wl_err_set(err, WL_ERETRY, "Stopped; nothing was written.");
			goto out;
		}
		if (wl_rand_unit(g->o->seed, 1, (uint64_t)pair.id) >= g->o->sample)
			continue;
		WL_TRY_OUT(dropped = is_dropped(&db, st, pair.id, err));
		if (!dropped)
			WL_TRY_OUT(add_pair(g, &pair, err));
	}
	ret = flush(g, err);
out:
	sqlite3_finalize(st);
	wl_db_close(&db);
	wl_pairs_close(cur);
	return ret;
}

/* ---- agreeing ---- */

static int by_source(const void *p, const void *q)
{
	const struct raw *a = p, *b = q;

	return strcmp(a->source, b->source);
}

/* Gives every rank the sources of all of them, sorted. */
static int share_sources(struct gatherer *g, struct wl_comm *comm, struct wl_err *err)
{
	size_t *of = calloc((size_t)wl_comm_size(comm), sizeof(*of)), total = 0;
	struct wl_buf mine;
	char *all = NULL;
	int ret = -1;

	wl_buf_init(&mine, 64 << 20);
	if (!of) {
		wl_err_nomem(err, "the sources", sizeof(*of));
		goto out;
	}
	for (size_t i = 0; i < g->n; i++)
		WL_TRY_OUT(wl_buf_add(&mine, g->v[i].source, strlen(g->v[i].source) + 1, err));
	WL_TRY_OUT(
		wl_comm_all_gatherv(comm, wl_buf_str(&mine), mine.len, (void **)&all, of, err));
	for (int r = 0; r < wl_comm_size(comm); r++)
		total += of[r];
	for (const char *s = all; s < all + total; s += strlen(s) + 1)
		if (!source_of(g, s, err))
			goto out;
	if (g->n)
		qsort(g->v, g->n, sizeof(*g->v), by_source);
	ret = 0;
out:
	free(of);
	free(all);
	wl_buf_release(&mine);
	return ret;
}

/* Documents with the vocabulary's numbers; held: those kept apart. */
static int renumber(const struct raw *r, const uint32_t *map, bool held, size_t n_words,
	struct wl_docs *d, struct wl_err *err)
{
	d->word = malloc((r->n_word + 1) * sizeof(*d->word));
	d->start = calloc(r->n + 1, sizeof(*d->start));
	d->n_words = (uint32_t)n_words;
	d->n = 0;
	if (!d->word || !d->start)
		return wl_err_nomem(err, "a source's documents", r->n_word * sizeof(*d->word));
	for (size_t i = 0; i < r->n; i++) {
		uint64_t n = d->start[d->n], first = n;
		if (r->held[i] != held)
			continue;
		for (uint64_t k = r->start[i]; k < r->start[i + 1]; k++)
			if (map[r->word[k]] != UINT32_MAX)
				d->word[n++] = map[r->word[k]];
		if (n - first >= 2)
			d->start[++d->n] = n;
	}
	return 0;
}

static int settle(struct raw *r, const struct wl_gather_options *o, struct wl_comm *comm,
	struct wl_topic_docs *out, struct wl_err *err)
{
	uint32_t *map = malloc((r->terms.n + 1) * sizeof(*map));
	uint64_t docs = 0;
	int ret = -1;

	if (!map) {
		wl_err_nomem(err, "a vocabulary", r->terms.n * sizeof(*map));
		goto out;
	}
	for (size_t i = 0; i < r->n; i++)
		docs += !r->held[i];
	WL_TRY_OUT(wl_comm_all_reduce(comm, &docs, 1, WL_COMM_U64, WL_COMM_SUM, err));
	WL_TRY_OUT(wl_terms_choose(&r->terms, &o->bounds, docs, comm, &out->terms, map, err));
	WL_TRY_OUT(renumber(r, map, false, out->terms.n, &out->train, err));
	WL_TRY_OUT(renumber(r, map, true, out->terms.n, &out->held, err));
	out->source = r->source;
	r->source = NULL;
	ret = 0;
out:
	free(map);
	raw_release(r);
	return ret;
}

void wl_gathered_release(struct wl_gathered *g)
{
	for (size_t i = 0; i < g->n; i++) {
		free(g->v[i].source);
		wl_terms_release(&g->v[i].terms);
		wl_docs_release(&g->v[i].train);
		wl_docs_release(&g->v[i].held);
	}
	free(g->v);
	memset(g, 0, sizeof(*g));
}

static int gather(struct gatherer *g, struct wl_corpus *c, struct wl_comm *comm,
	struct wl_gathered *out, struct wl_err *err)
{
	int n = wl_corpus_partitions(c), rank = wl_comm_rank(comm), size = wl_comm_size(comm);

	for (int p = n * rank / size; p < n * (rank + 1) / size; p++)
		WL_TRY(walk(g, c, p, err));
	WL_TRY(share_sources(g, comm, err));
	out->v = calloc(g->n + 1, sizeof(*out->v));
	if (!out->v)
		return wl_err_nomem(err, "the sources", g->n * sizeof(*out->v));
	for (size_t i = 0; i < g->n; i++) {
		out->n++;
		WL_TRY(settle(&g->v[i], g->o, comm, &out->v[i], err));
	}
	return 0;
}

int wl_gather(struct wl_corpus *c, const struct wl_gather_options *o, struct wl_comm *comm,
	struct wl_pool *pool, struct wl_gathered *out, struct wl_err *err)
{
	struct gatherer *g = calloc(1, sizeof(*g));
	int ret = -1;

	memset(out, 0, sizeof(*out));
	if (!g)
		return wl_err_nomem(err, "a batch of pairs", sizeof(*g));
	g->o = o;
	g->pool = pool;
	for (size_t i = 0; i < BATCH; i++)
		wl_buf_init(&g->jobs[i].words, MAX_WORDS_BYTES);
	g->progress = wl_progress_new("topics: words", "pairs", 0);
	ret = gather(g, c, comm, out, err);
	wl_progress_free(g->progress);
	for (size_t i = 0; i < BATCH; i++) {
		free(g->jobs[i].source);
		free(g->jobs[i].texts);
		wl_cuts_release(&g->jobs[i].cuts);
		wl_buf_release(&g->jobs[i].words);
	}
	for (size_t i = 0; i < g->n; i++)
		raw_release(&g->v[i]);
	free(g->v);
	free(g);
	if (ret < 0)
		wl_gathered_release(out);
	return ret;
}
