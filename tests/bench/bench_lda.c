/*
 * Training of topic models, and the perplexity of any model, ours or a peer's.
 *
 *   bench_lda make DOCS TOPICS TRAIN HELD     drawn documents, word numbers, one a line
 *   bench_lda train IN TOPICS ALPHA BETA ITERATIONS THREADS PHI
 *                  prints tokens per second of CPU time (one thread) or of the clock
 *   bench_lda perplexity PHI ALPHA HELD
 *
 * PHI: int32 words, int32 topics, float32 [topics][words].
 */
#include "clean/topics/infer.h"
#include "ops/clock.h"
#include "ops/hash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static void *must(void *p, const char *what)
{
	if (!p) {
		perror(what);
		exit(1);
	}
	return p;
}

static void ok(int ret)
{
	if (ret < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
}

static double now(int threads)
{
	return threads == 1 ? wl_cpu_s() : wl_now_s();
}

/* ---- drawn documents ---- */

enum { WORDS = 20000, OF_TOPIC = 600, LENGTH = 50 };

/* Words of a topic are drawn by rank, 1 / (rank + 3) as likely, from 600 that are the topic's own
 * mix of frequent and rare ones; one word in ten comes from all topics'. */
static uint32_t draw_word(uint64_t topic, uint64_t doc, uint64_t i)
{
	double u = wl_rand_unit(11, doc, 3 * i);
	double rank = 3 * (pow((OF_TOPIC + 3) / 3.0, u) - 1);

	if (wl_rand64(12, doc, i) % 10 == 0)
		return (uint32_t)(pow(WORDS, u) - 1);
	return (uint32_t)(wl_rand64(13, topic, (uint64_t)rank) % WORDS);
}

static void make_docs(size_t docs, uint64_t topics, const char *train, const char *held)
{
	FILE *out[2] = {must(fopen(train, "w"), train), must(fopen(held, "w"), held)};

	for (uint64_t d = 0; d < docs; d++) {
		FILE *f = out[d % 50 == 49];
		uint64_t n = LENGTH / 2 + wl_rand64(14, d, 0) % LENGTH, mine[3];
		for (uint64_t k = 0; k < 3; k++)
			mine[k] = wl_rand64(15, d, k) % topics;
		for (uint64_t i = 0; i < n; i++) {
			uint64_t x = wl_rand64(16, d, i) % 10;
			fprintf(f, "%u ", draw_word(mine[x < 6 ? 0 : x < 9 ? 1 : 2], d, i));
		}
		fputc('\n', f);
	}
	if (fclose(out[0]) != 0 || fclose(out[1]) != 0)
		exit(1);
}

static struct wl_docs read_docs(const char *path)
{
	struct wl_docs d = {0};
	FILE *f = must(fopen(path, "r"), path);
	size_t cap = 1 << 20, cap_docs = 1 << 16, len = 0;
	char *line = NULL;

	d.word = must(malloc(cap * sizeof(*d.word)), "memory");
	d.start = must(calloc(cap_docs, sizeof(*d.start)), "memory");
	while (getline(&line, &len, f) > 0) {
		uint64_t n = d.start[d.n];
		for (char *p = line, *end;; p = end) {
			unsigned long w = strtoul(p, &end, 10);
			if (end == p)
				break;
			if (n == cap)
				d.word = must(
					realloc(d.word, (cap *= 2) * sizeof(*d.word)), "memory");
			d.word[n++] = (uint32_t)w;
			d.n_words = w >= d.n_words ? (uint32_t)w + 1 : d.n_words;
		}
		if (++d.n + 1 >= cap_docs)
			d.start = must(
				realloc(d.start, (cap_docs *= 2) * sizeof(*d.start)), "memory");
		d.start[d.n] = n;
	}
	free(line);
	fclose(f);
	return d;
}

/* ---- models ---- */

static void write_phi(const struct wl_phi *f, const char *path)
{
	FILE *out = must(fopen(path, "wb"), path);
	int32_t head[2] = {(int32_t)f->n_words, f->topics};

	fwrite(head, sizeof(head), 1, out);
	for (int k = 0; k < f->topics; k++)
		for (uint32_t w = 0; w < f->n_words; w++)
			fwrite(&f->p[(size_t)w * (size_t)f->stride + (size_t)k], 4, 1, out);
	if (fclose(out) != 0)
		exit(1);
}

static void train(char **a)
{
	struct wl_docs d = read_docs(a[0]);
	struct wl_lda_config c = {atoi(a[1]), atof(a[2]), atof(a[3]), atoi(a[4]), 1};
	int threads = atoi(a[5]);
	struct wl_pool *pool = threads > 1 ? wl_pool_new((size_t)threads, 0, &err) : NULL;
	struct wl_lda_model m;
	struct wl_phi f;
	double start = now(threads);

	ok(wl_lda_train(&d, &c, NULL, pool, NULL, NULL, &m, &err));
	start = now(threads) - start;
	printf("%.0f\n", (double)d.start[d.n] * c.iterations / start);
	ok(wl_phi_init(&f, &m, &err));
	write_phi(&f, a[6]);
	wl_phi_release(&f);
	wl_lda_model_release(&m);
	wl_docs_release(&d);
	wl_pool_free(pool);
}

static void perplexity(char **a)
{
	FILE *in = must(fopen(a[0], "rb"), a[0]);
	struct wl_docs d = read_docs(a[2]);
	int32_t head[2];
	struct wl_phi f = {.alpha = atof(a[1])};
	double p;

	if (fread(head, sizeof(head), 1, in) != 1)
		exit(3);
	f.n_words = (uint32_t)head[0];
	f.topics = head[1];
	f.stride = (f.topics + 15) / 16 * 16;
	if (f.n_words < d.n_words)
		exit(3);
	f.p = must(calloc((size_t)f.n_words * (size_t)f.stride, sizeof(*f.p)), "memory");
	for (int k = 0; k < f.topics; k++)
		for (uint32_t w = 0; w < f.n_words; w++)
			if (fread(&f.p[(size_t)w * (size_t)f.stride + (size_t)k], 4, 1, in) != 1)
				exit(3);
	fclose(in);
	ok(wl_phi_perplexity(&f, &d, NULL, NULL, &p, &err));
	printf("%.1f\n", p);
	wl_phi_release(&f);
	wl_docs_release(&d);
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "make") == 0)
		make_docs((size_t)atol(argv[2]), (uint64_t)atol(argv[3]), argv[4], argv[5]);
	else if (argc == 9 && strcmp(argv[1], "train") == 0)
		train(argv + 2);
	else if (argc == 5 && strcmp(argv[1], "perplexity") == 0)
		perplexity(argv + 2);
	else
		return 2;
	return 0;
}
