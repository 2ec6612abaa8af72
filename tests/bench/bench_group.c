/*
 * Grouping synthetic signatures, as dedup does between loading and comparing pictures: equal
 * pixels and texts, whole hashes within 6 bits, 26 window hashes a picture within 4 bits, 21
 * bands a text; every tenth pair is a planted near-duplicate of an earlier one.  Prints seconds,
 * what of the planted ones was found, and the most memory used.
 *
 *   bench_group [PAIRS [MEMORY_MB [THREADS]]]      default 1000000 400 2
 */
#include "clean/dedup.h"
#include "clean/match.h"
#include "clean/minhash.h"
#include "clean/near.h"
#include "clean/rows.h"
#include "ops/clock.h"
#include "ops/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { BANDS = 21, BLOCK = 512, EVERY = 10 };

static struct wl_err err;

struct bench {
	size_t n;
	char *members; /* what dedup holds of a pair besides: 88 bytes */
	struct wl_rows windows, bands;
	struct wl_near_search s;
	struct wl_values found;
};

static void die(void)
{
	fprintf(stderr, "%s\n", err.msg);
	exit(1);
}

static uint64_t original(uint64_t i)
{
	return i % EVERY ? i : i / 2;
}

/* A few bits turned over: up to 5, at most 4 in windows that are asked for. */
static uint64_t whole_hash(uint64_t i)
{
	uint64_t h = wl_rand64(1, 1, original(i));

	for (uint64_t k = 0; i % EVERY == 0 && k < i / EVERY % 6; k++)
		h ^= 1ull << (wl_rand64(2, k, i) % 64);
	return h;
}

static uint64_t window_hash(uint64_t i, int w)
{
	/* Of a copy only one window is like the original's. */
	uint64_t from = w == 3 ? original(i) : i;

	return wl_rand64(3, (uint64_t)w, from) >> 1;
}

static int each_whole(void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *er)
{
	struct bench *b = ctx;

	(void)er;
	for (size_t i = b->n * part / parts; i < b->n * (part + 1) / parts; i++)
		wl_near_put(&b->s, e, whole_hash(i), (uint32_t)i, 0);
	return 0;
}

static int each_row(struct bench *b, const struct wl_rows *rows, bool near, struct wl_emitter *e,
	size_t part, size_t parts, struct wl_err *er)
{
	size_t to = b->n * (part + 1) / parts, words = rows->width / 8;
	uint64_t *room = malloc(BLOCK * rows->width);

	for (size_t from = b->n * part / parts; from < to; from += BLOCK) {
		size_t n = to - from < BLOCK ? to - from : BLOCK;
		const void *at;
		const uint64_t *v;
		if (!room || wl_rows_read(rows, from, n, room, &at, er) < 0) {
			free(room);
			return -1;
		}
		v = at;
		for (size_t k = 0; k < n; k++, v += words) {
			if (near)
				wl_near_put_row(&b->s, e, v, words, (1u << words) - 1,
					(uint32_t)(from + k));
			for (size_t w = 0; !near && w < words; w++)
				wl_emit(e, v[w], (uint32_t)(from + k), 0);
		}
	}
	free(room);
	return 0;
}

static int each_window(
	void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *er)
{
	struct bench *b = ctx;

	return each_row(b, &b->windows, true, e, part, parts, er);
}

static int emit_bands(void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *er)
{
	struct bench *b = ctx;

	return each_row(b, &b->bands, false, e, part, parts, er);
}

static int emit_equal(void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *er)
{
	struct bench *b = ctx;

	(void)er;
	for (size_t i = b->n * part / parts; i < b->n * (part + 1) / parts; i++)
		wl_emit(e, wl_rand64(5, 5, original(i)), (uint32_t)i, 0);
	return 0;
}

static void group_pairs(void *ctx, struct wl_values *out, const struct wl_rec *r, size_t n)
{
	(void)ctx;
	for (size_t i = 1; i < n; i++)
		wl_values_add(out, (uint64_t)r[0].idx << 32 | r[i].idx);
}

static int take(void *ctx, const uint64_t *v, size_t n, struct wl_err *er)
{
	struct bench *b = ctx;

	(void)er;
	for (size_t i = 0; i < n; i++)
		wl_values_add(&b->found, v[i]);
	return 0;
}

static bool meet(uint32_t a, uint32_t b)
{
	return wl_windows_meet((int)a, (int)b);
}

static void report(struct bench *b, const char *what, double start, double used_before)
{
	size_t planted = 0, wanted = (b->n - 1) / EVERY;

	wl_values_unique(&b->found);
	for (size_t i = 0; i < b->found.n; i++) {
		uint64_t x = b->found.v[i] >> 32, y = (uint32_t)b->found.v[i];
		planted += y % EVERY == 0 && original(y) == x;
	}
	printf("group %zu, %s: %.1f s, %.1f s of processor, %zu pairs, of %zu planted ones (those "
	       "whose original is none itself) %zu\n",
		b->n, what, wl_now_s() - start, wl_cpu_s() - used_before, b->found.n, wanted,
		planted);
	fflush(stdout);
	b->found.n = 0;
}

int main(int argc, char **argv)
{
	struct bench b = {.n = argc > 1 ? (size_t)atoll(argv[1]) : 1000000};
	size_t memory = (argc > 2 ? (size_t)atoll(argv[2]) : 400) << 20;
	struct wl_pool *pool = wl_pool_new(argc > 3 ? (size_t)atoi(argv[3]) : 2, 0, &err);
	const char *dir = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	uint64_t row[WL_WINDOWS + BANDS];
	double begin = wl_now_s(), start, cpu, cpu_begin;
	struct rusage usage;

	b.members = calloc(b.n, 88);
	if (!pool || !b.members)
		die();
	memset(b.members, 1, b.n * 88);
	wl_rows_init(&b.windows, WL_WINDOWS * 8, memory / 16, dir);
	wl_rows_init(&b.bands, BANDS * 8, memory / 16, dir);
	for (size_t i = 0; i < b.n; i++) {
		for (int w = 0; w < WL_WINDOWS; w++)
			row[w] = window_hash(i, w);
		if (wl_rows_add(&b.windows, row, &err) < 0)
			die();
		for (int k = 0; k < BANDS; k++) /* a third of the bands is shared */
			row[k] = wl_rand64(4, (uint64_t)k, k % 3 ? i : original(i));
		if (wl_rows_add(&b.bands, row, &err) < 0)
			die();
	}
	printf("group %zu: signatures made in %.1f s (not counted)\n", b.n, wl_now_s() - begin);
	begin = start = wl_now_s();
	cpu = cpu_begin = wl_cpu_s();
	struct wl_bygroup job = {.what = "equal hashes",
		.bits = 64,
		.records = b.n,
		.emit = emit_equal,
		.group = group_pairs,
		.take = take,
		.ctx = &b};
	if (wl_bygroup(&job, NULL, pool, memory * 7 / 8, &err) < 0)
		die();
	report(&b, "equal", start, cpu);
	start = wl_now_s();
	cpu = wl_cpu_s();
	b.s = (struct wl_near_search){.what = "whole hashes",
		.radius = 6,
		.records = b.n,
		.each = each_whole,
		.take = take,
		.ctx = &b};
	if (wl_near_run(&b.s, NULL, pool, memory * 7 / 8, &err) < 0)
		die();
	report(&b, "whole hashes within 6 bits", start, cpu);
	start = wl_now_s();
	cpu = wl_cpu_s();
	b.s = (struct wl_near_search){.what = "hashes of windows",
		.radius = WL_DEDUP_WINDOW_RADIUS,
		.records = b.n * WL_WINDOWS,
		.each = each_window,
		.meet = meet,
		.take = take,
		.ctx = &b};
	if (wl_near_run(&b.s, NULL, pool, memory * 7 / 8, &err) < 0)
		die();
	report(&b, "windows within their radius", start, cpu);
	start = wl_now_s();
	cpu = wl_cpu_s();
	job.records = b.n * BANDS;
	job.emit = emit_bands;
	if (wl_bygroup(&job, NULL, pool, memory * 7 / 8, &err) < 0)
		die();
	report(&b, "bands of texts", start, cpu);
	getrusage(RUSAGE_SELF, &usage);
	printf("group %zu, all: %.1f s with %zu threads, %.1f s of processor, at most %ld MB (bar "
	       "at 10 M: 300 s, 2000 MB)\n",
		b.n, wl_now_s() - begin, wl_pool_threads(pool), wl_cpu_s() - cpu_begin,
		usage.ru_maxrss / 1024);
	wl_rows_release(&b.windows);
	wl_rows_release(&b.bands);
	wl_values_release(&b.found);
	wl_pool_free(pool);
	free(b.members);
	return 0;
}
