/*
 * Near-duplicate texts: signatures of 128 hashes over runs of three characters, bands, and the
 * exact Jaccard index of every candidate, on one thread.  bench_texts.sh runs public peers on the
 * same file.
 *
 *   bench_texts make FILE N     writes N made-up texts, a line each, a third of them varied copies
 *   bench_texts FILE [J]        prints a line of JSON
 */
#include "clean/bygroup.h"
#include "clean/minhash.h"
#include "ops/clock.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static void die(void)
{
	fprintf(stderr, "%s\n", err.msg);
	exit(1);
}

/* Character k of text i; a copy has some of its original's changed. */
static unsigned character(uint64_t i, uint64_t k)
{
	uint64_t from = i % 3 == 2 ? i - 2 : i;

	if (from != i && wl_rand64(3, i, k) % 100 < i / 3 % 8)
		from = i;
	return 0x4e00 + (unsigned)(wl_rand64(1, from, k) % 3000);
}

static int make(const char *path, uint64_t n)
{
	FILE *f = fopen(path, "w");

	if (!f) {
		perror(path);
		return 1;
	}
	for (uint64_t i = 0; i < n; i++) {
		uint64_t chars = 24 + wl_rand64(2, i % 3 == 2 ? i - 2 : i, 0) % 60;
		for (uint64_t k = 0; k < chars; k++) {
			unsigned c = character(i, k);
			fputc((int)(0xe0 | c >> 12), f);
			fputc((int)(0x80 | (c >> 6 & 63)), f);
			fputc((int)(0x80 | (c & 63)), f);
		}
		fputc('\n', f);
	}
	return fclose(f) == 0 ? 0 : 1;
}

struct bench {
	char **line;
	size_t *len, n, pairs;
	struct wl_bands bands;
	double jaccard;
	struct wl_values candidates;
};

static int emit(void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *er)
{
	struct bench *b = ctx;
	uint32_t sig[WL_MINHASH];

	for (size_t i = b->n * part / parts; i < b->n * (part + 1) / parts; i++) {
		if (wl_minhash(b->line[i], b->len[i], sig, er) < 0)
			return -1;
		for (int k = 0; k < b->bands.bands; k++)
			wl_emit(e, wl_band_key(sig, b->bands, k), (uint32_t)i, 0);
	}
	return 0;
}

static void group(void *ctx, struct wl_values *out, const struct wl_rec *r, size_t n)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++)
		for (size_t k = i + 1; k < n; k++)
			wl_values_add(out, (uint64_t)r[i].idx << 32 | r[k].idx);
}

static int take(void *ctx, const uint64_t *v, size_t n, struct wl_err *er)
{
	struct bench *b = ctx;

	for (size_t i = 0; i < n; i++) {
		size_t x = v[i] >> 32, y = (uint32_t)v[i];
		int near = wl_keys_near(
			b->line[x], b->len[x], b->line[y], b->len[y], b->jaccard, er);
		if (near < 0)
			return -1;
		b->pairs += near != 0;
	}
	b->candidates.n += n;
	return 0;
}

static void split(struct bench *b, struct wl_buf *text)
{
	b->line = malloc(text->len * sizeof(*b->line));
	b->len = malloc(text->len * sizeof(*b->len));
	if (!b->line || !b->len)
		exit(1);
	for (char *p = text->data, *end; (end = strchr(p, '\n')); p = end + 1) {
		b->line[b->n] = p;
		b->len[b->n++] = (size_t)(end - p);
	}
}

int main(int argc, char **argv)
{
	struct bench b = {.jaccard = .8};
	struct wl_pool *pool = wl_pool_new(1, 0, &err);
	struct wl_buf text;
	double start;

	if (argc == 4 && strcmp(argv[1], "make") == 0)
		return make(argv[2], (uint64_t)atoll(argv[3]));
	if (argc < 2 || !pool) {
		fprintf(stderr, "usage: bench_texts FILE [J]\n");
		return 2;
	}
	if (argc > 2)
		b.jaccard = atof(argv[2]);
	wl_buf_init(&text, (size_t)1 << 32);
	if (wl_read_file(argv[1], &text, &err) < 0)
		die();
	split(&b, &text);
	start = wl_cpu_s();
	b.bands = wl_bands_for(b.jaccard);
	struct wl_bygroup job = {.what = "bands",
		.bits = 64,
		.records = b.n * (uint64_t)b.bands.bands,
		.emit = emit,
		.group = group,
		.take = take,
		.ctx = &b};
	if (wl_bygroup(&job, NULL, pool, (size_t)1 << 30, &err) < 0)
		die();
	printf("{\"texts\": %zu, \"seconds\": %.4f, \"candidates\": %zu, \"pairs\": %zu, "
	       "\"bands\": %d, \"rows\": %d}\n",
		b.n, wl_cpu_s() - start, b.candidates.n, b.pairs, b.bands.bands, b.bands.rows);
	return 0;
}
