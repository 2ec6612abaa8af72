/*
 * See lda.h.  A token is one cell of 32 bits, its topic and the proposed one, and cells lie in the
 * order of words: the word sweep runs straight through memory, the document sweep gathers a
 * document's few cells through pos[] and puts them back.
 */
#include "clean/topics/lda.h"

#include "ops/hash.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	CHUNK = 1 << 15,	/* tokens of a job of the pool */
	BLOCK_BYTES = 32 << 20, /* of counts that ranks exchange at once */
	PREFETCH = 48,		/* tokens ahead: some hundred cycles */
	MAX_TOPICS = 65535,
};

struct span {
	uint32_t from, to; /* words or documents */
};

struct lda {
	const struct wl_docs *docs;
	struct wl_comm *comm;
	struct wl_pool *pool;
	int K;
	uint32_t V;
	double alpha, beta;
	uint64_t seed;
	size_t n;	  /* tokens of this rank */
	uint32_t *cell;	  /* [n] topic | proposal << 16, by word, then in the documents' order */
	uint32_t *pos;	  /* [n] of token t in the documents' order: where its cell is */
	uint32_t *begin;  /* [V + 1] cells of each word */
	uint64_t *size;	  /* [V] tokens of each word on all ranks */
	uint64_t *number; /* [V] the word's first token here, as ranks count together */
	uint64_t token0;  /* this rank's first token, in the documents' order of all ranks */
	int64_t *total;	  /* [K] C_k */
	_Atomic int64_t *change;    /* [K] what a sweep did to it here */
	double *inverse;	    /* [K] 1 / (C_k + V beta) */
	struct span *words, *parts; /* jobs: words, documents */
	size_t n_words, n_parts, words_at;
	uint32_t *block; /* counts of the words [block_at, ...) over all ranks; NULL: alone */
	uint32_t block_at;
	uint64_t key_accept, key_propose; /* of the sweep */
	_Atomic int no_memory;
};

/* ---- random numbers ---- */

static inline double unit(uint64_t x)
{
	return (double)(x >> 11) * 0x1p-53;
}

static void new_keys(struct lda *s, int iteration, int sweep)
{
	uint64_t stream = 2 * (uint64_t)iteration + (uint64_t)sweep;

	s->key_accept = wl_rand64(s->seed, stream, 0);
	s->key_propose = wl_rand64(s->seed, stream, 1);
}

/* ---- the word sweep ---- */

/* The topics of a word's tokens laid out one after the other, in the order of topics: unit r is of
 * topic[guide...].  A guide of about two entries a topic finds it in a step or two, whatever the
 * number of tokens. */
struct units {
	uint32_t *count; /* [K] */
	uint32_t *end;	 /* [K] units of topics up to and with k (by number, not place) */
	uint32_t *stop;	 /* [topics there are] the same, by place */
	uint16_t *topic; /* by place */
	uint16_t *guide; /* [units >> shift] the first place whose units reach so far */
	int64_t *change; /* [K] */
	int shift;
};

static void *units_init(struct units *u, int K)
{
	size_t k = (size_t)K, guide = 4 * k + 2;
	char *mem = calloc(1, k * (8 + 4 + 4 + 4 + 2) + guide * 2);

	if (!mem)
		return NULL;
	u->change = (int64_t *)mem;
	u->count = (uint32_t *)(u->change + k);
	u->end = u->count + k;
	u->stop = u->end + k;
	u->topic = (uint16_t *)(u->stop + k);
	u->guide = u->topic + k;
	return mem;
}

static void lay_out(struct units *u, int K, uint64_t size)
{
	uint32_t places = 0, sum = 0, entries, place = 0;

	for (int k = 0; k < K; k++) {
		u->end[k] = sum += u->count[k];
		u->topic[places] = (uint16_t)k;
		u->stop[places] = sum;
		places += u->count[k] > 0;
	}
	u->shift = 0;
	while (((size - 1) >> u->shift) + 1 > 4 * (uint64_t)places)
		u->shift++;
	entries = (uint32_t)((size - 1) >> u->shift) + 1;
	for (uint32_t g = 0; g < entries; g++) {
		while (u->stop[place] <= g << u->shift)
			place++;
		u->guide[g] = (uint16_t)place;
	}
}

static inline uint32_t topic_of_unit(const struct units *u, uint32_t r)
{
	uint32_t place = u->guide[r >> u->shift];

	while (u->stop[place] <= r)
		place++;
	return u->topic[place];
}

static void sweep_word(struct lda *s, uint32_t w, struct units *u)
{
	uint32_t *cell = s->cell + s->begin[w];
	size_t n = s->begin[w + 1] - s->begin[w];
	uint64_t id = s->number[w];
	double others = (double)(s->size[w] - 1), beta = s->beta, inv_beta = 1 / beta;
	double range = others + s->K * beta;

	for (size_t i = 0; i < n; i++) {
		uint32_t z = cell[i] & 0xffff, p = cell[i] >> 16, now = z, next;
		double x = range * unit(wl_mix64(s->key_propose ^ (id + i)));
		double a = (u->count[p] + beta) * s->inverse[p];
		double b = (u->count[z] - 1 + beta) * s->inverse[z];
		if (p != z && unit(wl_mix64(s->key_accept ^ (id + i))) * b < a) {
			now = p;
			u->change[z]--;
			u->change[p]++;
		}
		if (x < others) {
			uint32_t r = (uint32_t)x;
			next = topic_of_unit(u, r + (r + 1 >= u->end[z]));
		} else {
			next = (uint32_t)((x - others) * inv_beta);
			next = next < (uint32_t)s->K ? next : (uint32_t)s->K - 1;
		}
		cell[i] = now | next << 16;
	}
}

static void add_changes(struct lda *s, const int64_t *change)
{
	for (int k = 0; k < s->K; k++)
		if (change[k])
			atomic_fetch_add_explicit(&s->change[k], change[k], memory_order_relaxed);
}

static void word_job(void *ctx, size_t i)
{
	struct lda *s = ctx;
	struct span job = s->words[s->words_at + i];
	struct units u;
	void *mem = units_init(&u, s->K);

	if (!mem) {
		s->no_memory = 1;
		return;
	}
	for (uint32_t w = job.from; w < job.to; w++) {
		if (s->begin[w] == s->begin[w + 1])
			continue;
		if (s->block) {
			u.count = s->block + (size_t)(w - s->block_at) * (size_t)s->K;
		} else {
			memset(u.count, 0, (size_t)s->K * sizeof(*u.count));
			for (uint32_t j = s->begin[w]; j < s->begin[w + 1]; j++)
				u.count[s->cell[j] & 0xffff]++;
		}
		lay_out(&u, s->K, s->size[w]);
		sweep_word(s, w, &u);
	}
	add_changes(s, u.change);
	free(mem);
}

/* ---- the document sweep ---- */

struct scratch {
	uint32_t *count; /* [K], all 0 between documents */
	int64_t *change; /* [K] */
	uint16_t *topic; /* of each token of the document */
	size_t cap;
};

/* The proposals are judged one after the other, each with the counts that the last one left. */
static void judge_doc(struct lda *s, struct scratch *t, const uint32_t *pos, size_t n, uint64_t id)
{
	double alpha = s->alpha;

	for (size_t i = 0; i < n; i++)
		t->count[s->cell[pos[i]] & 0xffff]++;
	for (size_t i = 0; i < n; i++) {
		uint32_t c = s->cell[pos[i]], z = c & 0xffff, p = c >> 16;
		double a = (t->count[p] + alpha) * s->inverse[p];
		double b = (t->count[z] - 1 + alpha) * s->inverse[z];
		if (p != z && unit(wl_mix64(s->key_accept ^ (id + i))) * b < a) {
			t->count[z]--;
			t->count[p]++;
			t->change[z]--;
			t->change[p]++;
			z = p;
		}
		t->topic[i] = (uint16_t)z;
	}
	for (size_t i = 0; i < n; i++)
		t->count[t->topic[i]] = 0;
}

static void propose_doc(
	struct lda *s, const struct scratch *t, const uint32_t *pos, size_t n, uint64_t id)
{
	double others = (double)(n - 1), inv_alpha = 1 / s->alpha;
	double range = others + s->K * s->alpha;

	for (size_t i = 0; i < n; i++) {
		double x = range * unit(wl_mix64(s->key_propose ^ (id + i)));
		uint32_t next;
		if (x < others) {
			size_t r = (size_t)x;
			next = t->topic[r + (r >= i)];
		} else {
			next = (uint32_t)((x - others) * inv_alpha);
			next = next < (uint32_t)s->K ? next : (uint32_t)s->K - 1;
		}
		s->cell[pos[i]] = t->topic[i] | next << 16;
	}
}

static int scratch_init(struct scratch *t, const struct lda *s, struct span job)
{
	t->cap = 1;
	for (uint32_t d = job.from; d < job.to; d++) {
		size_t n = (size_t)(s->docs->start[d + 1] - s->docs->start[d]);
		t->cap = n > t->cap ? n : t->cap;
	}
	t->count = calloc((size_t)s->K, sizeof(*t->count));
	t->change = calloc((size_t)s->K, sizeof(*t->change));
	t->topic = malloc(t->cap * sizeof(*t->topic));
	return t->count && t->change && t->topic ? 0 : -1;
}

static void doc_job(void *ctx, size_t i)
{
	struct lda *s = ctx;
	struct span job = s->parts[i];
	struct scratch t;
	size_t end = s->n;

	if (scratch_init(&t, s, job) < 0)
		s->no_memory = 1;
	for (uint32_t d = job.from; d < job.to && !s->no_memory; d++) {
		uint64_t at = s->docs->start[d];
		size_t n = (size_t)(s->docs->start[d + 1] - at);
		for (size_t k = at + PREFETCH; k < at + n + PREFETCH && k < end; k++)
			__builtin_prefetch(&s->cell[s->pos[k]], 1);
		if (!n)
			continue;
		judge_doc(s, &t, s->pos + at, n, s->token0 + at);
		propose_doc(s, &t, s->pos + at, n, s->token0 + at);
	}
	if (!s->no_memory)
		add_changes(s, t.change);
	free(t.count);
	free(t.change);
	free(t.topic);
}

/* ---- sweeps ---- */

static void run_jobs(struct lda *s, size_t n, void (*fn)(void *ctx, size_t i))
{
	if (s->pool)
		wl_pool_for(s->pool, n, fn, s);
	else
		for (size_t i = 0; i < n; i++)
			fn(s, i);
}

static void count_job(void *ctx, size_t i)
{
	struct lda *s = ctx;
	struct span job = s->words[s->words_at + i];

	for (uint32_t w = job.from; w < job.to; w++) {
		uint32_t *c = s->block + (size_t)(w - s->block_at) * (size_t)s->K;
		for (uint32_t j = s->begin[w]; j < s->begin[w + 1]; j++)
			c[s->cell[j] & 0xffff]++;
	}
}

/* Fills the counts of the words of the next jobs (at most `room` words, one job at least) over all
 * ranks, and gives the number of jobs. */
static int64_t fill_block(struct lda *s, size_t room, struct wl_err *err)
{
	size_t n = 0, words = 0;

	s->block_at = s->words[s->words_at].from;
	while (s->words_at + n < s->n_words) {
		struct span job = s->words[s->words_at + n];
		if (job.to - s->block_at > room)
			break;
		words = job.to - s->block_at;
		n++;
	}
	memset(s->block, 0, words * (size_t)s->K * sizeof(*s->block));
	run_jobs(s, n, count_job);
	/* Counts are below 2^31 or a sum of int32 wraps to the right bits all the same. */
	WL_TRY(wl_comm_all_reduce(
		s->comm, s->block, words * (size_t)s->K, WL_COMM_I32, WL_COMM_SUM, err));
	return (int64_t)n;
}

/* How many words' counts a block holds: one job may have as many words as tokens. */
static size_t block_words(const struct lda *s)
{
	size_t n = BLOCK_BYTES / ((size_t)s->K * sizeof(uint32_t));

	return n ? n : 1;
}

static int end_sweep(struct lda *s, struct wl_err *err)
{
	int64_t *sum = malloc((size_t)s->K * sizeof(*sum));
	int ret = -1;

	if (!sum || s->no_memory) {
		wl_err_nomem(err, "a sweep of the topic sampler", (size_t)s->K * sizeof(*sum));
		goto out;
	}
	for (int k = 0; k < s->K; k++)
		sum[k] = atomic_exchange(&s->change[k], 0);
	WL_TRY_OUT(wl_comm_all_reduce(s->comm, sum, (size_t)s->K, WL_COMM_I64, WL_COMM_SUM, err));
	for (int k = 0; k < s->K; k++) {
		s->total[k] += sum[k];
		s->inverse[k] = 1 / ((double)s->total[k] + s->V * s->beta);
	}
	ret = 0;
out:
	free(sum);
	return ret;
}

static int sweep_words(struct lda *s, struct wl_err *err)
{
	int64_t jobs;

	s->words_at = 0;
	if (!s->block) {
		run_jobs(s, s->n_words, word_job);
		return end_sweep(s, err);
	}
	while (s->words_at < s->n_words) {
		WL_TRY(jobs = fill_block(s, block_words(s), err));
		run_jobs(s, (size_t)jobs, word_job);
		s->words_at += (size_t)jobs;
	}
	return end_sweep(s, err);
}

static int sweep_docs(struct lda *s, struct wl_err *err)
{
	run_jobs(s, s->n_parts, doc_job);
	return end_sweep(s, err);
}

/* ---- laying out ---- */

/* Jobs of words: the same on all ranks, since they exchange by them; so cut by what all ranks have
 * of each word, and by the size of a block. */
static size_t cut_words(const struct lda *s, struct span *out)
{
	size_t room = block_words(s), n = 0;
	uint32_t from = 0;
	uint64_t tokens = 0;

	for (uint32_t w = 0; w < s->V; w++) {
		tokens += s->size[w];
		if (w + 1 < s->V && tokens < CHUNK && w + 1 - from < room)
			continue;
		if (out)
			out[n] = (struct span){from, w + 1};
		n++;
		from = w + 1;
		tokens = 0;
	}
	return n;
}

static size_t cut_docs(const struct wl_docs *d, struct span *out)
{
	size_t from = 0, n = 0;

	for (size_t i = 0; i < d->n; i++) {
		if (i + 1 < d->n && d->start[i + 1] - d->start[from] < CHUNK)
			continue;
		if (out)
			out[n] = (struct span){(uint32_t)from, (uint32_t)(i + 1)};
		n++;
		from = i + 1;
	}
	return n;
}

/* Counts of words here and on the ranks before and with this one. */
static int number_words(struct lda *s, struct wl_err *err)
{
	int size = wl_comm_size(s->comm), rank = wl_comm_rank(s->comm);
	size_t n = (size_t)s->V + 1; /* and the tokens */
	uint64_t *mine = calloc(n, sizeof(*mine)), *all = calloc(n * (size_t)size, sizeof(*all));
	uint64_t first = 0;
	int ret = -1;

	if (!mine || !all) {
		wl_err_nomem(err, "counts of words", n * sizeof(*mine) * (size_t)size);
		goto out;
	}
	for (size_t t = 0; t < s->n; t++)
		mine[s->docs->word[t]]++;
	mine[s->V] = s->n;
	WL_TRY_OUT(wl_comm_all_gather(s->comm, mine, n * sizeof(*mine), all, err));
	for (uint32_t w = 0; w < s->V; w++) {
		s->begin[w + 1] = s->begin[w] + (uint32_t)mine[w];
		s->number[w] = first;
		for (int r = 0; r < size; r++) {
			uint64_t c = all[(size_t)r * n + w];
			s->size[w] += c;
			s->number[w] += r < rank ? c : 0;
		}
		first += s->size[w];
	}
	for (int r = 0; r < rank; r++)
		s->token0 += all[(size_t)r * n + s->V];
	ret = first ? 0
		    : wl_err_set(err, WL_EDATA,
			      "There is no text to make topics of: no document has a word of the "
			      "vocabulary; lower the vocabulary's bounds or give more texts.");
out:
	free(mine);
	free(all);
	return ret;
}

/* Random topics; the proposal is the topic itself, which changes nothing. */
static int place_tokens(struct lda *s, struct wl_err *err)
{
	uint32_t *next = malloc((size_t)s->V * sizeof(*next));

	if (!next)
		return wl_err_nomem(err, "counts of words", (size_t)s->V * sizeof(*next));
	memcpy(next, s->begin, (size_t)s->V * sizeof(*next));
	for (size_t t = 0; t < s->n; t++) {
		double u = wl_rand_unit(s->seed, UINT64_MAX, s->token0 + t);
		uint32_t z = (uint32_t)(u * s->K);
		s->pos[t] = next[s->docs->word[t]]++;
		s->cell[s->pos[t]] = z | z << 16;
		s->change[z]++;
	}
	free(next);
	return end_sweep(s, err);
}

static void lda_release(struct lda *s)
{
	free(s->cell);
	free(s->pos);
	free(s->begin);
	free(s->size);
	free(s->number);
	free(s->total);
	free((void *)s->change);
	free(s->inverse);
	free(s->words);
	free(s->parts);
	free(s->block);
}

static int lda_init(struct lda *s, struct wl_err *err)
{
	size_t n = s->n ? s->n : 1, K = (size_t)s->K;

	s->cell = malloc(n * sizeof(*s->cell));
	s->pos = malloc(n * sizeof(*s->pos));
	s->begin = calloc((size_t)s->V + 1, sizeof(*s->begin));
	s->size = calloc((size_t)s->V + 1, sizeof(*s->size));
	s->number = calloc((size_t)s->V + 1, sizeof(*s->number));
	s->total = calloc(K, sizeof(*s->total));
	s->change = calloc(K, sizeof(*s->change));
	s->inverse = calloc(K, sizeof(*s->inverse));
	if (wl_comm_size(s->comm) > 1)
		s->block = malloc(block_words(s) * K * sizeof(*s->block));
	if (!s->cell || !s->pos || !s->begin || !s->size || !s->number || !s->total || !s->change ||
		!s->inverse || (wl_comm_size(s->comm) > 1 && !s->block))
		return wl_err_nomem(err, "the tokens of the topic sampler", n * 8);
	WL_TRY(number_words(s, err));
	s->n_words = cut_words(s, NULL);
	s->n_parts = cut_docs(s->docs, NULL);
	s->words = malloc(s->n_words * sizeof(*s->words));
	s->parts = malloc((s->n_parts + 1) * sizeof(*s->parts));
	if (!s->words || !s->parts)
		return wl_err_nomem(err, "the jobs of the topic sampler", s->n_words * 8);
	cut_words(s, s->words);
	cut_docs(s->docs, s->parts);
	return place_tokens(s, err);
}

/* ---- the model ---- */

static int make_model(struct lda *s, struct wl_lda_model *m, struct wl_err *err)
{
	size_t K = (size_t)s->K, n = (size_t)s->V * K, step = (size_t)BLOCK_BYTES / 4;

	*m = (struct wl_lda_model){.n_words = s->V,
		.topics = s->K,
		.alpha = s->alpha,
		.beta = s->beta,
		.count = calloc(n, sizeof(*m->count)),
		.total = calloc(K, sizeof(*m->total))};
	if (!m->count || !m->total) {
		wl_lda_model_release(m);
		return wl_err_nomem(err, "a topic model", n * sizeof(*m->count));
	}
	memcpy(m->total, s->total, K * sizeof(*m->total));
	for (uint32_t w = 0; w < s->V; w++)
		for (uint32_t j = s->begin[w]; j < s->begin[w + 1]; j++)
			m->count[w * K + (s->cell[j] & 0xffff)]++;
	for (size_t at = 0; at < n; at += step)
		WL_TRY(wl_comm_all_reduce(s->comm, m->count + at, n - at < step ? n - at : step,
			WL_COMM_I32, WL_COMM_SUM, err));
	return 0;
}

void wl_lda_model_release(struct wl_lda_model *m)
{
	free(m->count);
	free(m->total);
	memset(m, 0, sizeof(*m));
}

void wl_docs_release(struct wl_docs *d)
{
	free(d->word);
	free(d->start);
	memset(d, 0, sizeof(*d));
}

static int check(const struct wl_docs *d, const struct wl_lda_config *c, struct wl_err *err)
{
	if (c->topics < 2 || c->topics > MAX_TOPICS)
		return wl_err_set(err, WL_EUSAGE, "The number of topics is %d, expected 2 to %d.",
			c->topics, MAX_TOPICS);
	if (!(c->alpha > 0) || !(c->beta > 0) || c->alpha > 1e6 || c->beta > 1e6)
		return wl_err_set(err, WL_EUSAGE,
			"The priors are alpha %g and beta %g, expected more than 0.", c->alpha,
			c->beta);
	if (c->iterations < 1)
		return wl_err_set(err, WL_EUSAGE,
			"The number of iterations is %d, expected 1 or more.", c->iterations);
	if (d->n > UINT32_MAX || d->start[d->n] >= UINT32_MAX)
		return wl_err_set(err, WL_EDATA,
			"%llu words in %zu documents are too many for one rank (2^32); take a "
			"sample "
			"(--max-docs) or start more ranks.",
			(unsigned long long)d->start[d->n], d->n);
	return 0;
}

int wl_lda_train(const struct wl_docs *docs, const struct wl_lda_config *config,
	struct wl_comm *comm, struct wl_pool *pool, wl_lda_tick tick, void *user,
	struct wl_lda_model *out, struct wl_err *err)
{
	struct lda s = {.docs = docs,
		.comm = comm,
		.pool = pool,
		.K = config->topics,
		.V = docs->n_words,
		.alpha = config->alpha,
		.beta = config->beta,
		.seed = config->seed,
		.n = (size_t)docs->start[docs->n]};
	int ret = -1;

	memset(out, 0, sizeof(*out));
	WL_TRY(check(docs, config, err));
	WL_TRY_OUT(lda_init(&s, err));
	for (int i = 0; i < config->iterations; i++) {
		new_keys(&s, i, 0);
		WL_TRY_OUT(sweep_words(&s, err));
		new_keys(&s, i, 1);
		WL_TRY_OUT(sweep_docs(&s, err));
		if (tick && wl_comm_rank(comm) == 0)
			WL_TRY_OUT(tick(user, i, err));
	}
	ret = make_model(&s, out, err);
out:
	lda_release(&s);
	if (ret < 0)
		wl_lda_model_release(out);
	return ret;
}
