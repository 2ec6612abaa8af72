/* See quality.h. */
#include "clean/topics/quality.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1024, TOP = WL_COHERENCE_WORDS };

/* ---- words ---- */

struct scored {
	double score;
	uint32_t word;
};

static bool better(const struct scored *a, const struct scored *b)
{
	return a->score != b->score ? a->score > b->score : a->word < b->word;
}

/* Keeps the best WL_TOPIC_WORDS seen, in order. */
static void offer(struct scored *best, int *n, struct scored s)
{
	int i = *n < WL_TOPIC_WORDS ? (*n)++ : WL_TOPIC_WORDS;

	if (i == WL_TOPIC_WORDS && !better(&s, &best[--i]))
		return;
	for (; i > 0 && better(&s, &best[i - 1]); i--)
		best[i] = best[i - 1];
	best[i] = s;
}

struct words_job {
	const struct wl_lda_model *m;
	const double *word; /* [n_words] p(word) */
	struct wl_topic_facts *facts;
};

static void words_of(void *ctx, size_t k)
{
	struct words_job *j = ctx;
	const struct wl_lda_model *m = j->m;
	struct scored likely[WL_TOPIC_WORDS], relevant[WL_TOPIC_WORDS];
	struct wl_topic_facts *f = &j->facts[k];
	double total = (double)m->total[k] + m->n_words * m->beta, entropy = 0;
	int a = 0, b = 0;

	for (uint32_t w = 0; w < m->n_words; w++) {
		uint32_t n = m->count[(size_t)w * (size_t)m->topics + k];
		double p = (n + m->beta) / total;
		entropy -= p * log(p);
		if (!n)
			continue;
		offer(likely, &a, (struct scored){p, w});
		offer(relevant, &b, (struct scored){log(p) - 0.4 * log(j->word[w]), w});
	}
	f->tokens = m->total[k];
	f->entropy = m->n_words > 1 ? entropy / log(m->n_words) : 0;
	f->n = a;
	for (int i = 0; i < a; i++) {
		f->likely[i] = likely[i].word;
		f->relevant[i] = relevant[i].word;
	}
}

static void run_jobs(struct wl_pool *pool, size_t n, void (*fn)(void *, size_t), void *ctx)
{
	if (pool)
		wl_pool_for(pool, n, fn, ctx);
	else
		for (size_t i = 0; i < n; i++)
			fn(ctx, i);
}

static int find_words(const struct wl_lda_model *m, struct wl_pool *pool,
	struct wl_topic_facts *facts, struct wl_err *err)
{
	double *word = calloc((size_t)m->n_words + 1, sizeof(*word)), all = 0;
	struct words_job j = {m, word, facts};

	if (!word)
		return wl_err_nomem(err, "topic words", m->n_words * sizeof(*word));
	for (uint32_t w = 0; w < m->n_words; w++)
		for (int k = 0; k < m->topics; k++)
			word[w] += m->count[(size_t)w * (size_t)m->topics + (size_t)k];
	for (uint32_t w = 0; w < m->n_words; w++)
		all += word[w];
	for (uint32_t w = 0; w < m->n_words; w++)
		word[w] = (word[w] + m->beta) / (all + m->n_words * m->beta);
	run_jobs(pool, (size_t)m->topics, words_of, &j);
	free(word);
	return 0;
}

/* ---- documents ---- */

/* Which topics have a word among their first ten, and at which place. */
struct member {
	uint32_t topic;
	uint16_t bit;
};

struct docs_job {
	const struct wl_phi *phi;
	const struct wl_docs *docs;
	uint32_t *first;	/* [n_words + 1] into member */
	struct member *member;
	_Atomic int64_t *docs_of;  /* [topics] */
	_Atomic int64_t *together; /* [topics][TOP][TOP] documents that have both words */
	_Atomic int failed;
};

/* Words of the document that are among a topic's first ten, as bits. */
static void note_words(struct docs_job *j, const uint32_t *w, size_t n, uint16_t *bits)
{
	for (size_t i = 0; i < n; i++)
		for (uint32_t m = j->first[w[i]]; m < j->first[w[i] + 1]; m++)
			bits[j->member[m].topic] |= j->member[m].bit;
	for (size_t i = 0; i < n; i++)
		for (uint32_t m = j->first[w[i]]; m < j->first[w[i] + 1]; m++) {
			uint32_t k = j->member[m].topic, b = bits[k];
			_Atomic int64_t *t = j->together + (size_t)k * TOP * TOP;
			bits[k] = 0;
			for (int x = 0; x < TOP; x++)
				for (int y = x; b >> x & 1 && y < TOP; y++)
					if (b >> y & 1)
						atomic_fetch_add_explicit(
							&t[x * TOP + y], 1, memory_order_relaxed);
		}
}

static void docs_chunk(void *ctx, size_t c)
{
	struct docs_job *j = ctx;
	size_t to = (c + 1) * CHUNK < j->docs->n ? (c + 1) * CHUNK : j->docs->n;
	size_t stride = (size_t)j->phi->stride, K = (size_t)j->phi->topics;
	float *theta = malloc(2 * stride * sizeof(*theta));
	uint16_t *bits = calloc(K, sizeof(*bits));

	for (size_t d = c * CHUNK; theta && bits && d < to; d++) {
		const uint32_t *w = j->docs->word + j->docs->start[d];
		size_t n = (size_t)(j->docs->start[d + 1] - j->docs->start[d]);
		wl_phi_infer(j->phi, w, n, theta, theta + stride);
		atomic_fetch_add_explicit(&j->docs_of[wl_topic_largest(theta, (int)K)], 1,
			memory_order_relaxed);
		note_words(j, w, n, bits);
	}
	if (!theta || !bits)
		j->failed = 1;
	free(theta);
	free(bits);
}

int wl_topic_largest(const float *theta, int topics)
{
	int best = 0;

	for (int k = 1; k < topics; k++)
		if (theta[k] > theta[best])
			best = k;
	return best;
}

static double npmi(const int64_t *t, int n, double docs)
{
	double sum = 0;
	int pairs = 0;

	for (int x = 0; x < n; x++)
		for (int y = x + 1; y < n; y++, pairs++) {
			double a = (double)t[x * TOP + x] / docs, b = (double)t[y * TOP + y] / docs;
			double both = (double)t[x * TOP + y] / docs;
			if (both >= 1)
				sum += 1;
			else
				sum += both > 0 ? log(both / (a * b)) / -log(both) : -1;
		}
	return pairs ? sum / pairs : 0;
}

/* Which words are whose: a list per word, in one array. */
static int find_members(struct docs_job *j, const struct wl_topic_facts *facts, int K,
	struct wl_err *err)
{
	size_t V = j->docs->n_words, n = (size_t)K * TOP;

	j->first = calloc(V + 2, sizeof(*j->first));
	j->member = malloc(n * sizeof(*j->member));
	if (!j->first || !j->member)
		return wl_err_nomem(err, "topic words", V * sizeof(*j->first));
	for (int k = 0; k < K; k++)
		for (int i = 0; i < facts[k].n && i < TOP; i++)
			j->first[facts[k].likely[i] + 2]++;
	for (size_t w = 0; w < V; w++)
		j->first[w + 2] += j->first[w + 1];
	/* first[w + 1] is where w's list is filled up to; at the end, where it ends. */
	for (int k = 0; k < K; k++)
		for (int i = 0; i < facts[k].n && i < TOP; i++)
			j->member[j->first[facts[k].likely[i] + 1]++] =
				(struct member){(uint32_t)k, (uint16_t)(1 << i)};
	return 0;
}

/* sum: [topics * (1 + TOP*TOP)] and the number of documents. */
static int count_docs(struct docs_job *j, int K, struct wl_comm *comm, struct wl_pool *pool,
	int64_t *sum, struct wl_err *err)
{
	size_t n = (size_t)K * (1 + TOP * TOP) + 1;
	_Atomic int64_t *counts = calloc(n, sizeof(*counts));
	int ret = -1;

	if (!counts)
		return wl_err_nomem(err, "topic counts", n * sizeof(*counts));
	j->docs_of = counts;
	j->together = counts + K;
	counts[n - 1] = (int64_t)j->docs->n;
	run_jobs(pool, (j->docs->n + CHUNK - 1) / CHUNK, docs_chunk, j);
	if (j->failed) {
		wl_err_nomem(err, "topics of documents", (size_t)K * 8);
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		sum[i] = counts[i];
	ret = wl_comm_all_reduce(comm, sum, n, WL_COMM_I64, WL_COMM_SUM, err);
out:
	free((void *)counts);
	return ret;
}

int wl_topic_quality(const struct wl_lda_model *m, const struct wl_phi *phi,
	const struct wl_docs *docs, struct wl_comm *comm, struct wl_pool *pool,
	struct wl_topic_facts *facts, struct wl_err *err)
{
	struct docs_job j = {.phi = phi, .docs = docs};
	int K = m->topics, ret = -1;
	size_t n = (size_t)K * (1 + TOP * TOP) + 1;
	int64_t *sum = calloc(n, sizeof(*sum));

	memset(facts, 0, (size_t)K * sizeof(*facts));
	if (!sum)
		return wl_err_nomem(err, "topic counts", n * sizeof(*sum));
	WL_TRY_OUT(find_words(m, pool, facts, err));
	WL_TRY_OUT(find_members(&j, facts, K, err));
	WL_TRY_OUT(count_docs(&j, K, comm, pool, sum, err));
	for (int k = 0; k < K; k++) {
		facts[k].docs = sum[k];
		facts[k].coherence = npmi(sum + K + (size_t)k * TOP * TOP,
			facts[k].n < TOP ? facts[k].n : TOP, (double)sum[n - 1]);
	}
	ret = 0;
out:
	free(sum);
	free(j.first);
	free(j.member);
	return ret;
}
