/*
 * See lda.h.  A token is one cell of 32 bits, its topic and the proposed one, and cells lie in the
 * order of words: the word sweep runs straight through memory, the document sweep gathers a
 * document's few cells through pos[] and puts them back.
 */
#include "clean/topics/lda_priv.h"

#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

enum {
	PREFETCH = 48, /* tokens ahead: some hundred cycles */
	MAX_TOPICS = 65535,
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

static int sweep_words(struct lda *s, struct wl_err *err)
{
	int64_t jobs;

	s->words_at = 0;
	if (!s->block) {
		run_jobs(s, s->n_words, word_job);
		return lda_end_sweep(s, err);
	}
	while (s->words_at < s->n_words) {
		WL_TRY(jobs = fill_block(s, lda_block_words(s), err));
		run_jobs(s, (size_t)jobs, word_job);
		s->words_at += (size_t)jobs;
	}
	return lda_end_sweep(s, err);
}

static int sweep_docs(struct lda *s, struct wl_err *err)
{
	run_jobs(s, s->n_parts, doc_job);
	return lda_end_sweep(s, err);
}

/* ---- the model ---- */

static int make_model(struct lda *s, struct wl_lda_model *m, struct wl_err *err)
{
	size_t K = (size_t)s->K, n = (size_t)s->V * K, step = (size_t)LDA_BLOCK_BYTES / 4;

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
