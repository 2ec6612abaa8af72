/*
 * One run over processes whose number changes: 1, 2, 3 and 2 ranks, each phase resumed at the
 * position that the one before saved, across the ends of epochs.  Every position holds what one
 * uninterrupted process has there, bit for bit, and every epoch shows every sample once; with a
 * mix, each source its share.
 */
#include "clean/wordpiece.h"
#include "loader/augment.h"
#include "loader/loader.h"
#include "loader/order.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "shards/shard.h"
#include "tests/support/cm.h"
#include "tests/support/shardset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 50, S = 24, BATCH = 4, MAX = 1000 };

struct seen { /* what a process got at one position, counted from the start of the run */
	int64_t at, epoch, sample;
	uint64_t digest;
};

struct fixture {
	struct wl_toy_home home;
	const json_t *mix;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct wl_toy_set set = {NULL, "train", N, 20, 3, -1, -1, true, 0, true};

	assert_non_null(f);
	wl_toy_home_make(&f->home, "elastic");
	set.dir = f->home.dir;
	wl_toy_set_write(&set);
	*state = f;
	return 0;
}

/* Runs `batches` batches as one rank and writes what it saw to fd; the position after them is
 * the last record (sample -1). */
static int run_rank(const struct fixture *f, int rank, int world, int threads,
	const struct wl_loader_pos *from, int batches, int fd)
{
	struct wl_loader_opts o = {.dir = f->home.dir, .split = "train", .batch = BATCH,
		.image_px = S, .regions = 5, .grid = 2, .use_boxes = true, .text_len = 8,
		.vocab = f->home.vocab, .std = {1, 1, 1}, .shuffle = true, .seed = 3, .rank = rank,
		.world = world, .threads = threads, .mix = f->mix};
	struct wl_err err = WL_ERR_INIT;
	struct wl_loader *l;
	struct wl_loader_pos pos;

	if (wl_augment_preset("paper", &o.augment, &err) < 0 || !(l = wl_loader_open(&o, &err)) ||
		wl_loader_seek(l, from, &err) < 0)
		goto bad;
	for (int k = 0; k < batches; k++) {
		const struct wl_batch *b;

		if (wl_loader_next(l, &b, &err) != 1)
			goto bad;
		for (int64_t i = 0; i < b->n; i++) {
			int64_t at = b->epoch * N + b->position + rank + i * world;
			uint64_t h = wl_hash64(b->pixels + i * S * S * 3,
				S * S * 3 * sizeof(float), b->text_hash[i]);
			struct seen s = {at, at / N, b->samples[i], h};

			if (write(fd, &s, sizeof(s)) != sizeof(s))
				return 1;
		}
	}
	wl_loader_tell(l, &pos);
	struct seen end = {pos.position, pos.epoch, -1, 0};
	if (write(fd, &end, sizeof(end)) != sizeof(end))
		return 1;
	wl_loader_close(l);
	return 0;
bad:
	fprintf(stderr, "rank %d of %d: %s\n", rank, world, err.msg);
	return 1;
}

/* The ranks as processes, at the same time; adds what they saw to all[*n]. */
static void phase(const struct fixture *f, int world, int threads, struct wl_loader_pos *pos,
	int batches, struct seen *all, int *n)
{
	int fd[8];
	struct wl_loader_pos next = *pos;

	for (int r = 0; r < world; r++) {
		int pipes[2];
		pid_t pid;

		assert_int_equal(0, pipe(pipes));
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(pipes[0]);
			_exit(run_rank(f, r, world, threads, pos, batches, pipes[1]));
		}
		close(pipes[1]);
		fd[r] = pipes[0];
	}
	for (int r = 0; r < world; r++) {
		struct seen s;
		int rows = 0;

		while (read(fd[r], &s, sizeof(s)) == sizeof(s)) {
			if (s.sample < 0) {
				next = (struct wl_loader_pos){s.epoch, s.at, 0};
				break;
			}
			assert_true(*n < MAX);
			all[(*n)++] = s;
			rows++;
		}
		assert_int_equal(rows, batches * BATCH);
		close(fd[r]);
	}
	for (int r = 0; r < world; r++) {
		int status;

		wait(&status);
		assert_int_equal(status, 0);
	}
	assert_int_equal(next.epoch * N + next.position,
		pos->epoch * N + pos->position + world * batches * BATCH);
	*pos = next;
}

static int by_at(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

/* The run on changing numbers of ranks against one process; returns how many positions. */
static int compare(const struct fixture *f, struct seen *got)
{
	static const int worlds[] = {1, 2, 3, 2, 1, 3}, batches[] = {2, 3, 4, 2, 5, 3};
	static struct seen want[MAX];
	struct wl_loader_pos pos = {0, 0, 0}, start = pos;
	int n = 0, m = 0;

	for (size_t k = 0; k < sizeof(worlds) / sizeof(worlds[0]); k++)
		phase(f, worlds[k], 1 + (int)k % 3, &pos, batches[k], got, &n);
	phase(f, 1, 2, &start, (n + BATCH - 1) / BATCH, want, &m);
	qsort(got, (size_t)n, sizeof(*got), by_at);
	for (int i = 0; i < n; i++) {
		assert_int_equal(got[i].at, i); /* nothing lost, nothing doubled */
		assert_int_equal(got[i].sample, want[i].sample);
		assert_true(got[i].digest == want[i].digest);
	}
	return n;
}

static void every_sample_once_on_changing_ranks(void **state)
{
	struct fixture *f = *state;
	static struct seen got[MAX];
	int n = compare(f, got), times[MAX / N][N] = {{0}};

	assert_true(n > 2 * N); /* two epochs' ends were crossed */
	for (int i = 0; i < n; i++)
		times[got[i].epoch][got[i].sample]++;
	for (int e = 0; e < n / N; e++)
		for (int s = 0; s < N; s++)
			assert_int_equal(times[e][s], 1);
}

/* 17 of baike, 33 of news; 3:1 gives baike 37 or 38 of 50 positions. */
static void mixes_alike_on_changing_ranks(void **state)
{
	struct fixture *f = *state;
	static struct seen got[MAX];
	json_t *mix = json_pack("{s:i, s:i}", "news", 1, "baike", 3);
	int n, baike[MAX / N] = {0}, shown[N] = {0}, most = 0, least = MAX, runs = 0;
	struct wl_err err = WL_ERR_INIT;

	f->mix = mix;
	n = compare(f, got);
	f->mix = NULL;
	for (int i = 0; i < n; i++) {
		baike[got[i].epoch] += got[i].sample % 3 == 0;
		shown[got[i].sample]++;
		runs += i > 0 && (got[i].sample % 3 == 0) != (got[i - 1].sample % 3 == 0);
	}
	for (int e = 0; e < n / N; e++)
		assert_true(baike[e] == 37 || baike[e] == 38);
	assert_true(runs > n / 6); /* not one source after the other */
	for (int s = 0; s < N; s += 3) {
		most = shown[s] > most ? shown[s] : most;
		least = shown[s] < least ? shown[s] : least;
	}
	assert_true(most - least <= 2 && least > n * 3 / 4 / 17 - 2);
	/* No sample of a source comes again before all others came; and the mapping's order, or
	 * weights with the same ratio, do not matter. */
	struct wl_shardset *set = wl_shardset_open(f->home.dir, "train", &err);
	json_t *same = json_pack("{s:f, s:f}", "baike", 1.5, "news", 0.5);
	struct wl_order a, b;
	assert_non_null(set);
	OK(wl_order_init(&a, set, true, 9, 0, mix, &err));
	OK(wl_order_init(&b, set, true, 9, 0, same, &err));
	for (int e = 0; e < 40; e++) {
		int64_t pass, other;

		for (int p = 0; p < N; p++) {
			int64_t s = wl_order_at(&a, e, p, &pass);

			assert_int_equal(s, wl_order_at(&b, e, p, &other));
			assert_int_equal(pass, other);
			assert_true(pass >= 0 && pass <= e * 38 / 17 + 3);
		}
	}
	wl_order_release(&a);
	wl_order_release(&b);
	wl_shardset_close(set);
	json_decref(mix);
	json_decref(same);
}

/* Over epochs, showing k of a source's samples is complete before showing k + 1 ends. */
static void passes_are_whole(void **state)
{
	const struct fixture *f = *state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_shardset *set = wl_shardset_open(f->home.dir, "train", &err);
	json_t *mix = json_pack("{s:i, s:i}", "news", 1, "baike", 5);
	static int times[100][N];
	struct wl_order o;
	int64_t pass;

	assert_non_null(set);
	OK(wl_order_init(&o, set, true, 5, 0, mix, &err));
	memset(times, 0, sizeof(times));
	for (int e = 0; e < 17; e++)
		for (int p = 0; p < N; p++) {
			int64_t s = wl_order_at(&o, e, p, &pass);

			assert_true(pass < 100);
			assert_int_equal(++times[pass][s], 1);
		}
	for (int s = 0; s < N; s += 3)
		for (int k = 0; k < 17 * 41 / 17; k++)
			assert_int_equal(times[k][s], 1);
	wl_order_release(&o);
	wl_shardset_close(set);
	json_decref(mix);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_sample_once_on_changing_ranks),
		cmocka_unit_test(mixes_alike_on_changing_ranks),
		cmocka_unit_test(passes_are_whole),
	};
	wl_log_init("test_elastic", WL_LOG_ERROR);
	return cmocka_run_group_tests(tests, setup, wl_toy_teardown);
}
