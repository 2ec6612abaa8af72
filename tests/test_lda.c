/* clean/topics/lda, infer, quality: planted topics are found again, as well as by textbook Gibbs
 * sampling, and the same bits come out for any number of threads and ranks. */
#include "clean/topics/infer.h"
#include "clean/topics/lda.h"
#include "clean/topics/quality.h"
#include "ops/hash.h"
#include "tests/support/cm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

enum { K = 8, V = 400, OF_TOPIC = 50, DOCS = 1500, LENGTH = 30 };

/* The topic that most words of document d are of; words [k*50, (k+1)*50) are topic k's own. */
static int planted(size_t d)
{
	return (int)(wl_rand64(1, d, 0) % K);
}

/* Four words in five of the document's topic, the frequent ones more often, the others of a
 * second topic. */
static struct wl_docs make_docs(size_t from, size_t n)
{
	struct wl_docs d = {.n = n, .n_words = V};

	d.word = malloc(n * LENGTH * sizeof(*d.word));
	d.start = calloc(n + 1, sizeof(*d.start));
	assert_true(d.word && d.start);
	for (size_t i = 0; i < n; i++) {
		uint64_t second = wl_rand64(2, from + i, 0) % K;
		for (uint64_t j = 0; j < LENGTH; j++) {
			double u = wl_rand_unit(3, from + i, j);
			bool own = wl_rand64(4, from + i, j) % 5 != 0;
			uint64_t k = own ? (uint64_t)planted(from + i) : second;
			d.word[i * LENGTH + j] =
				(uint32_t)(k * OF_TOPIC + (uint64_t)(u * u * OF_TOPIC));
		}
		d.start[i + 1] = (i + 1) * LENGTH;
	}
	return d;
}

static const struct wl_lda_config config = {
	.topics = K, .alpha = 0.1, .beta = 0.01, .iterations = 60, .seed = 5};

static void same_model(const struct wl_lda_model *a, const struct wl_lda_model *b)
{
	assert_int_equal(a->n_words, b->n_words);
	assert_memory_equal(a->total, b->total, K * sizeof(*a->total));
	assert_memory_equal(a->count, b->count, (size_t)V * K * sizeof(*a->count));
}

/* ---- topics are found ---- */

static void finds_planted_topics(void **state)
{
	struct wl_docs d = make_docs(0, DOCS);
	struct wl_lda_model m;
	bool taken[K] = {false};
	int64_t sum = 0;

	(void)state;
	OK(wl_lda_train(&d, &config, NULL, NULL, NULL, NULL, &m, &err));
	for (int k = 0; k < K; k++) {
		int64_t of[K] = {0};
		int best = 0;
		for (uint32_t w = 0; w < V; w++)
			of[w / OF_TOPIC] += m.count[w * K + (uint32_t)k];
		for (int p = 0; p < K; p++)
			best = of[p] > of[best] ? p : best;
		if (taken[best] || (double)of[best] < 0.97 * (double)m.total[k])
			fail_msg("topic %d: %lld of its %lld words are of planted topic %d%s", k,
				(long long)of[best], (long long)m.total[k], best,
				taken[best] ? ", which another topic has" : "");
		taken[best] = true;
		sum += m.total[k];
	}
	assert_int_equal(sum, d.start[d.n]);
	wl_lda_model_release(&m);
	wl_docs_release(&d);
}

/* Collapsed Gibbs sampling as Griffiths and Steyvers (2004) write it, one token after the other. */
static void plain_gibbs(const struct wl_docs *d, int sweeps, struct wl_lda_model *m)
{
	size_t n = (size_t)d->start[d->n];
	uint8_t *z = calloc(n, 1);
	uint32_t(*doc)[K] = calloc(d->n, sizeof(*doc));

	*m = (struct wl_lda_model){.n_words = V,
		.topics = K,
		.alpha = 0.1,
		.beta = 0.01,
		.count = calloc((size_t)V * K, sizeof(*m->count)),
		.total = calloc(K, sizeof(*m->total))};
	assert_true(z && doc && m->count && m->total);
	for (int s = 0; s <= sweeps; s++)
		for (size_t i = 0; i < d->n; i++)
			for (uint64_t t = d->start[i]; t < d->start[i + 1]; t++) {
				uint32_t *w = m->count + d->word[t] * K;
				double p[K], sum = 0, u;
				int k = 0;
				if (s) {
					w[z[t]]--;
					m->total[z[t]]--;
					doc[i][z[t]]--;
				}
				for (int j = 0; j < K; j++)
					p[j] = sum +=
						s ? (doc[i][j] + 0.1) * (w[j] + 0.01) /
								((double)m->total[j] + V * 0.01)
						  : 1;
				u = sum * wl_rand_unit(77, (uint64_t)s, t);
				while (k < K - 1 && p[k] <= u)
					k++;
				z[t] = (uint8_t)k;
				w[k]++;
				m->total[k]++;
				doc[i][k]++;
			}
	free(z);
	free(doc);
}

static double perplexity_of(const struct wl_lda_model *m, const struct wl_docs *held)
{
	struct wl_phi f;
	double p;

	OK(wl_phi_init(&f, m, &err));
	OK(wl_phi_perplexity(&f, held, NULL, NULL, &p, &err));
	wl_phi_release(&f);
	return p;
}

static void as_good_as_gibbs(void **state)
{
	struct wl_docs d = make_docs(0, DOCS), held = make_docs(DOCS, 300);
	struct wl_lda_model ours, gibbs;
	double a, b;

	(void)state;
	OK(wl_lda_train(&d, &config, NULL, NULL, NULL, NULL, &ours, &err));
	plain_gibbs(&d, 60, &gibbs);
	a = perplexity_of(&ours, &held);
	b = perplexity_of(&gibbs, &held);
	print_message("perplexity %.2f, of plain Gibbs %.2f\n", a, b);
	assert_true(a < 1.02 * b);
	assert_true(b < V / 3.0); /* far from knowing nothing */
	wl_lda_model_release(&ours);
	wl_lda_model_release(&gibbs);
	wl_docs_release(&d);
	wl_docs_release(&held);
}

/* ---- the same bits ---- */

struct world {
	const struct wl_docs *docs;
	struct wl_lda_model models[3];
};

/* Consecutive parts of uneven sizes; the last rank of three has no documents at all. */
static int train_part(struct wl_comm *comm, void *user, struct wl_err *e)
{
	struct world *w = user;
	int rank = wl_comm_rank(comm), size = wl_comm_size(comm);
	size_t cuts[4] = {0, size > 1 ? 401 : w->docs->n, w->docs->n, w->docs->n};
	size_t from = cuts[rank], n = cuts[rank + 1] - from;
	struct wl_docs part = {.n = n,
		.n_words = V,
		.word = w->docs->word + w->docs->start[from],
		.start = calloc(n + 1, sizeof(*part.start))};
	int ret;

	for (size_t i = 0; i <= n; i++)
		part.start[i] = w->docs->start[from + i] - w->docs->start[from];
	ret = wl_lda_train(&part, &config, comm, NULL, NULL, NULL, &w->models[rank], e);
	free(part.start);
	return ret;
}

static void same_bits(void **state)
{
	struct wl_docs d = make_docs(0, DOCS);
	struct world w = {.docs = &d};
	struct wl_lda_config other = config;
	struct wl_lda_model one, m;

	(void)state;
	OK(wl_lda_train(&d, &config, NULL, NULL, NULL, NULL, &one, &err));
	for (size_t threads = 1; threads <= 4; threads++) {
		struct wl_pool *pool = wl_pool_new(threads, 0, &err);
		OK(wl_lda_train(&d, &config, NULL, pool, NULL, NULL, &m, &err));
		same_model(&one, &m);
		wl_lda_model_release(&m);
		wl_pool_free(pool);
	}
	for (int ranks = 1; ranks <= 3; ranks++) {
		OK(wl_comm_simulate(ranks, train_part, &w, &err));
		for (int r = 0; r < ranks; r++) {
			same_model(&one, &w.models[r]);
			wl_lda_model_release(&w.models[r]);
		}
	}
	other.seed++;
	OK(wl_lda_train(&d, &other, NULL, NULL, NULL, NULL, &m, &err));
	assert_memory_not_equal(one.count, m.count, (size_t)V * K * sizeof(*m.count));
	wl_lda_model_release(&m);
	wl_lda_model_release(&one);
	wl_docs_release(&d);
}

/* ---- inference, quality ---- */

static void infers(void **state)
{
	struct wl_docs d = make_docs(0, DOCS);
	float theta[32];
	struct wl_lda_model m;
	struct wl_phi f;
	int right = 0;

	(void)state;
	OK(wl_lda_train(&d, &config, NULL, NULL, NULL, NULL, &m, &err));
	OK(wl_phi_init(&f, &m, &err));
	assert_int_equal(f.stride, 16);
	for (size_t i = 0; i < 200; i++) {
		double sum = 0;
		int best;
		wl_phi_infer(&f, d.word + d.start[i], LENGTH, theta, theta + 16);
		for (int k = 0; k < f.stride; k++)
			sum += (double)theta[k];
		assert_true(fabs(sum - 1) < 1e-4);
		best = wl_topic_largest(theta, K);
		/* A word of the planted topic is likeliest under the topic inferred. */
		right += m.count[planted(i) * OF_TOPIC * K + best] > (uint32_t)m.total[best] / 50;
	}
	assert_true(right >= 198);
	wl_phi_infer(&f, NULL, 0, theta, theta + 16);
	assert_true(fabs((double)theta[3] - 1.0 / K) < 1e-6);
	wl_phi_release(&f);
	wl_lda_model_release(&m);
	wl_docs_release(&d);
}

static bool has(const struct wl_docs *d, size_t i, uint32_t w)
{
	for (uint64_t t = d->start[i]; t < d->start[i + 1]; t++)
		if (d->word[t] == w)
			return true;
	return false;
}

/* NPMI from its definition, over all documents for each pair. */
static double npmi_by_definition(const struct wl_docs *d, const uint32_t *w, int n)
{
	double sum = 0;

	for (int x = 0; x < n; x++)
		for (int y = x + 1; y < n; y++) {
			double a = 0, b = 0, both = 0, N = (double)d->n;
			for (size_t i = 0; i < d->n; i++) {
				bool hx = has(d, i, w[x]), hy = has(d, i, w[y]);
				a += hx;
				b += hy;
				both += hx && hy;
			}
			sum += both > 0 ? log(both / N / (a / N * b / N)) / -log(both / N) : -1;
		}
	return sum / (n * (n - 1) / 2);
}

static void quality(void **state)
{
	struct wl_docs d = make_docs(0, 300);
	struct wl_topic_facts facts[K], again[K];
	struct wl_pool *pool = wl_pool_new(3, 0, &err);
	struct wl_lda_model m;
	struct wl_phi f;
	int64_t docs = 0;

	(void)state;
	OK(wl_lda_train(&d, &config, NULL, NULL, NULL, NULL, &m, &err));
	OK(wl_phi_init(&f, &m, &err));
	OK(wl_topic_quality(&m, &f, &d, NULL, NULL, facts, &err));
	OK(wl_topic_quality(&m, &f, &d, NULL, pool, again, &err));
	assert_memory_equal(facts, again, sizeof(facts));
	for (int k = 0; k < K; k++) {
		const struct wl_topic_facts *t = &facts[k];
		double want = npmi_by_definition(&d, t->likely, WL_COHERENCE_WORDS);
		docs += t->docs;
		assert_int_equal(t->n, WL_TOPIC_WORDS);
		if (fabs(t->coherence - want) > 1e-9)
			fail_msg("coherence %.9f, by definition %.9f", t->coherence, want);
		assert_true(t->entropy > 0.3 && t->entropy < 0.8);
		for (int i = 1; i < t->n; i++)
			assert_true(m.count[t->likely[i - 1] * K + (uint32_t)k] >=
				    m.count[t->likely[i] * K + (uint32_t)k]);
		for (uint32_t w = 0; w < V; w++)
			assert_true(m.count[w * K + (uint32_t)k] <=
				    m.count[t->likely[0] * K + (uint32_t)k]);
	}
	assert_int_equal(docs, d.n);
	wl_phi_release(&f);
	wl_lda_model_release(&m);
	wl_docs_release(&d);
	wl_pool_free(pool);
}

static void bad_configurations(void **state)
{
	struct wl_docs d = make_docs(0, 3), none = {.n_words = V};
	struct wl_lda_config c = config;
	struct wl_lda_model m;
	uint64_t zero = 0;

	(void)state;
	none.start = &zero;
	c.topics = 1;
	FAILS(WL_EUSAGE, "number of topics",
		wl_lda_train(&d, &c, NULL, NULL, NULL, NULL, &m, &err));
	c = config;
	c.alpha = 0;
	FAILS(WL_EUSAGE, "alpha 0", wl_lda_train(&d, &c, NULL, NULL, NULL, NULL, &m, &err));
	c = config;
	c.iterations = 0;
	FAILS(WL_EUSAGE, "iterations", wl_lda_train(&d, &c, NULL, NULL, NULL, NULL, &m, &err));
	FAILS(WL_EDATA, "no document",
		wl_lda_train(&none, &config, NULL, NULL, NULL, NULL, &m, &err));
	wl_docs_release(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_planted_topics),
		cmocka_unit_test(as_good_as_gibbs),
		cmocka_unit_test(same_bits),
		cmocka_unit_test(infers),
		cmocka_unit_test(quality),
		cmocka_unit_test(bad_configurations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
