/* R@K against a naive count in double precision; ties; five captions; odd sizes; chance. */
#include "eval/metrics/retrieval.h"
#include "ops/score.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "train/backend/backend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

struct data {
	float *images, *texts;
	int64_t *pair_image, *pair_text;
	struct wl_retrieval_in in;
};

/* levels 0: normal numbers that correlate within a pair; else small integers below levels,
 * which makes every score exact and ties frequent. */
static void data_init(struct data *d, int64_t n, int64_t per_image, int64_t dim, int levels)
{
	int64_t m = n * per_image;

	d->images = malloc((size_t)(n * dim) * sizeof(float));
	d->texts = malloc((size_t)(m * dim) * sizeof(float));
	d->pair_image = malloc((size_t)m * sizeof(int64_t));
	d->pair_text = malloc((size_t)m * sizeof(int64_t));
	for (int64_t i = 0; i < n * dim; i++)
		d->images[i] = levels ? (float)(wl_rand64(1, 1, (uint64_t)i) % (uint64_t)levels)
				      : (float)wl_rand_normal(1, 1, (uint64_t)i);
	for (int64_t j = 0; j < m; j++) {
		/* The captions of an image are spread, not side by side. */
		int64_t image = (int64_t)wl_shuffle((uint64_t)j, (uint64_t)m, 5) / per_image;

		d->pair_text[j] = j;
		d->pair_image[j] = image;
		for (int64_t k = 0; k < dim; k++) {
			uint64_t at = (uint64_t)(j * dim + k);

			d->texts[j * dim + k] =
				levels ? (float)(wl_rand64(1, 2, at) % (uint64_t)levels)
				       : 0.3f * d->images[image * dim + k] +
						 (float)wl_rand_normal(1, 2, at);
		}
	}
	d->in = (struct wl_retrieval_in){.images = d->images,
		.texts = d->texts,
		.n_images = n,
		.n_texts = m,
		.dim = dim,
		.pair_image = d->pair_image,
		.pair_text = d->pair_text,
		.n_pairs = m};
}

static void data_release(struct data *d)
{
	free(d->images);
	free(d->texts);
	free(d->pair_image);
	free(d->pair_text);
}

static double dot(const float *a, const float *b, int64_t dim)
{
	double s = 0;

	for (int64_t k = 0; k < dim; k++)
		s += (double)a[k] * (double)b[k];
	return s;
}

/* The definition, literally: the smallest rank over the right answers. */
static int64_t naive_rank(const struct data *d, int64_t q, int text_query)
{
	const struct wl_retrieval_in *in = &d->in;
	const int64_t *mine = text_query ? d->pair_text : d->pair_image;
	const int64_t *other = text_query ? d->pair_image : d->pair_text;
	const float *query = text_query ? in->texts + q * in->dim : in->images + q * in->dim;
	const float *items = text_query ? in->images : in->texts;
	int64_t n = text_query ? in->n_images : in->n_texts, best = 0;

	for (int64_t p = 0; p < in->n_pairs; p++) {
		int64_t rank = 1;
		double s;

		if (mine[p] != q)
			continue;
		s = dot(query, items + other[p] * in->dim, in->dim);
		for (int64_t c = 0; c < n; c++) {
			double v = dot(query, items + c * in->dim, in->dim);

			rank += v > s || (v == s && c < other[p]);
		}
		if (!best || rank < best)
			best = rank;
	}
	return best;
}

/* Ranks must agree; where fp32 may order two near scores otherwise, by `slack` places. */
static void compare(const struct data *d, int64_t slack)
{
	int64_t *ri = malloc((size_t)d->in.n_images * sizeof *ri);
	int64_t *rt = malloc((size_t)d->in.n_texts * sizeof *rt);

	OK(wl_retrieval_ranks(&d->in, ri, rt, &err));
	for (int64_t i = 0; i < d->in.n_images; i++) {
		int64_t want = naive_rank(d, i, 0);

		if (llabs(ri[i] - want) > slack)
			fail_msg("image %lld: rank %lld, naive %lld", (long long)i,
				(long long)ri[i], (long long)want);
	}
	for (int64_t j = 0; j < d->in.n_texts; j++) {
		int64_t want = naive_rank(d, j, 1);

		if (llabs(rt[j] - want) > slack)
			fail_msg("text %lld: rank %lld, naive %lld", (long long)j, (long long)rt[j],
				(long long)want);
	}
	free(ri);
	free(rt);
}

static void agrees_with_the_definition(void **state)
{
	static const int64_t shapes[][3] = {{1, 1, 1}, {3, 1, 2}, {14, 1, 16}, {15, 5, 17},
		{40, 5, 33}, {169, 3, 48}, {337, 2, 7}};

	(void)state;
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
		for (int levels = 0; levels <= 3; levels++) {
			struct data d;

			if (levels == 1)
				continue;
			data_init(&d, shapes[s][0], shapes[s][1], shapes[s][2], levels);
			/* Small integers are exact in fp32: no slack, ties and all. */
			compare(&d, levels ? 0 : 1);
			data_release(&d);
		}
}

static void dimension_in_several_slices(void **state)
{
	struct data d;

	(void)state;
	data_init(&d, 60, 2, 1500, 3); /* exact: sums below 2^24 */
	compare(&d, 0);
	data_release(&d);
}

/* The GPU's backend, emulated or itself (see opcheck.c); absent where there is none. */
struct wl_backend *wl_backend_cuda_open(int device, struct wl_err *err) __attribute__((weak));

/* The device counts the same ranks as the processor: to the last one where that fuses its
 * multiply-adds too, near ties and all. */
static void devices_count_the_same(void **state)
{
#ifdef __FMA__
	enum { SLACK = 0 };
#else
	enum { SLACK = 2 };
#endif
	static const int64_t shapes[][3] = {
		{1, 1, 1}, {15, 5, 17}, {64, 1, 16}, {65, 3, 40}, {130, 2, 7}};
	struct wl_backend *be = wl_backend_cuda_open ? wl_backend_cuda_open(0, &err) : NULL;
	int64_t want[600], got[600];

	(void)state;
	if (!be)
		SKIP("no CUDA backend in this build, or no GPU");
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
		for (int levels = 0; levels <= 3; levels += 3) {
			int64_t n = shapes[s][0], all = n + n * shapes[s][1];
			struct data d;

			data_init(&d, n, shapes[s][1], shapes[s][2], levels);
			if (n > 9) /* one picture and its texts have no answer */
				d.in.n_pairs -= 3;
			OK(wl_retrieval_ranks(&d.in, want, want + n, &err));
			d.in.backend = be;
			OK(wl_retrieval_ranks(&d.in, got, got + n, &err));
			for (int rows = 128; rows <= 256; rows += 128) { /* in blocks: the same */
				int64_t blocks[600];

				d.in.device_bytes = (size_t)(rows * d.in.dim) * sizeof(float);
				OK(wl_retrieval_ranks(&d.in, blocks, blocks + n, &err));
				assert_memory_equal(blocks, got, (size_t)all * sizeof *got);
			}
			d.in.device_bytes = 1;
			FAILS(WL_EFAIL, "blocks of 64 rows",
				wl_retrieval_ranks(&d.in, got, got + n, &err));
			for (int64_t i = 0; i < all; i++)
				if (llabs(got[i] - want[i]) > (levels ? 0 : SLACK))
					fail_msg("query %lld: rank %lld, on the processor %lld",
						(long long)i, (long long)got[i],
						(long long)want[i]);
			data_release(&d);
		}
	wl_backend_close(be);
}

static void all_scores_equal_is_not_rank_one(void **state)
{
	struct wl_retrieval r;
	struct data d;

	(void)state;
	data_init(&d, 100, 1, 8, 2);
	for (int64_t i = 0; i < 800; i++)
		d.images[i] = d.texts[i] = 1;
	OK(wl_retrieval_measure(&d.in, &r, &err));
	/* The right answer of a query takes the place of its index. */
	assert_true(fabs(r.i2t.mean_rank - 50.5) < 1e-9);
	assert_true(fabs(r.t2i.r1 - 1) < 1e-9 && fabs(r.t2i.r10 - 10) < 1e-9);
	data_release(&d);
}

static void same_for_any_number_of_threads(void **state)
{
	int64_t first[600], again[600];
	struct data d;

	(void)state;
	data_init(&d, 200, 2, 100, 0);
	d.in.threads = 1;
	OK(wl_retrieval_ranks(&d.in, first, first + 200, &err));
	for (int threads = 2; threads <= 5; threads++) {
		d.in.threads = threads;
		OK(wl_retrieval_ranks(&d.in, again, again + 200, &err));
		assert_memory_equal(first, again, sizeof first);
	}
	data_release(&d);
}

/* What the ranks rest on: a pair alone and in a tile has the same bits. */
static void scores_alone_and_in_tiles_are_equal(void **state)
{
	enum { N = 37, DIM = 1300 };
	int64_t mr = wl_score_mr(), nr = wl_score_nr(), rows = (N + mr - 1) / mr * mr;
	int64_t cols = (N + nr - 1) / nr * nr, left[N], right[N];
	float *packed_l = malloc((size_t)(rows * DIM) * 4),
	      *packed_r = malloc((size_t)(cols * DIM) * 4);
	float *tile = malloc((size_t)(rows * cols) * 4), alone[N];
	struct data d;

	(void)state;
	data_init(&d, N, 1, DIM, 0);
	wl_score_pack(d.images, N, DIM, mr, packed_l);
	wl_score_pack(d.texts, N, DIM, nr, packed_r);
	wl_score_tile(packed_l, packed_r, rows, cols, DIM, tile, cols);
	for (int64_t shift = 0; shift < N; shift++) {
		for (int64_t i = 0; i < N; i++) {
			left[i] = i;
			right[i] = (i + shift) % N;
		}
		wl_score_pairs(d.images, left, d.texts, right, N, DIM, alone);
		for (int64_t i = 0; i < N; i++) {
			double exact = dot(d.images + i * DIM, d.texts + right[i] * DIM, DIM);

			assert_memory_equal(&alone[i], &tile[i * cols + right[i]], 4);
			assert_true(fabs((double)alone[i] - exact) < 1e-3 * sqrt(DIM));
		}
	}
	free(packed_l);
	free(packed_r);
	free(tile);
	data_release(&d);
}

static void known_numbers(void **state)
{
	static const int64_t ranks[] = {1, 3, 0, 6, 11, 1, 10};
	struct wl_recall r;

	(void)state;
	OK(wl_recall_from_ranks(ranks, 7, &r, &err));
	assert_int_equal(r.queries, 6); /* a query without answer is left out */
	assert_true(fabs(r.r1 - 100.0 * 2 / 6) < 1e-12);
	assert_true(fabs(r.r5 - 50) < 1e-12);
	assert_true(fabs(r.r10 - 100.0 * 5 / 6) < 1e-12);
	assert_true(r.median_rank == 4.5);
	assert_true(fabs(r.mean_rank - 32.0 / 6) < 1e-12);
}

static void chance_matches_random_scores(void **state)
{
	struct wl_retrieval chance, sum = {0}, r;
	enum { ROUNDS = 60 };
	struct data d;

	(void)state;
	data_init(&d, 40, 5, 4, 0);
	OK(wl_retrieval_chance(&d.in, &chance, &err));
	assert_true(fabs(chance.t2i.r1 - 2.5) < 1e-9 && fabs(chance.t2i.r10 - 25) < 1e-9);
	/* 1 - C(195,5)/C(200,5): one of five captions among the first five of 200. */
	assert_true(fabs(chance.i2t.r5 - 12.0) < 0.2);
	assert_true(fabs(chance.i2t.mean_rank - 201.0 / 6) < 1e-9);
	for (int k = 0; k < ROUNDS; k++) {
		for (int64_t i = 0; i < 160; i++)
			d.images[i] = (float)wl_rand_normal(7, (uint64_t)k, (uint64_t)i);
		for (int64_t i = 0; i < 800; i++)
			d.texts[i] = (float)wl_rand_normal(8, (uint64_t)k, (uint64_t)i);
		OK(wl_retrieval_measure(&d.in, &r, &err));
		sum.i2t.r5 += r.i2t.r5 / ROUNDS;
		sum.t2i.r10 += r.t2i.r10 / ROUNDS;
		sum.t2i.median_rank += r.t2i.median_rank / ROUNDS;
	}
	assert_true(fabs(sum.i2t.r5 - chance.i2t.r5) < 2.5);
	assert_true(fabs(sum.t2i.r10 - chance.t2i.r10) < 2.5);
	assert_true(fabs(sum.t2i.median_rank - chance.t2i.median_rank) < 2);
	data_release(&d);
}

static void refuses_bad_input(void **state)
{
	struct wl_retrieval r;
	struct data d;

	(void)state;
	data_init(&d, 4, 1, 3, 0);
	d.texts[7] = NAN;
	FAILS(WL_EDATA, "text 2 is not finite", wl_retrieval_measure(&d.in, &r, &err));
	d.texts[7] = 0;
	d.pair_image[1] = 4;
	FAILS(WL_EDATA, "image 4", wl_retrieval_measure(&d.in, &r, &err));
	d.pair_image[1] = 1;
	d.in.n_texts = 0;
	d.in.n_pairs = 0;
	FAILS(WL_EDATA, "0 texts", wl_retrieval_measure(&d.in, &r, &err));
	data_release(&d);
}

static void top_is_sorted(void **state)
{
	static const float query[] = {1, 2}, items[] = {0, 1, 5, 0, 0, 1, 3, 3, -1, -1};
	int64_t index[6];
	float score[6];

	(void)state;
	OK(wl_retrieval_top(query, items, 5, 2, 6, index, score, &err));
	const int64_t want[] = {3, 1, 0, 2, 4, -1};
	assert_memory_equal(index, want, sizeof want);
	assert_true(score[0] == 9.0f && score[2] == 2.0f);
	OK(wl_retrieval_top(query, items, 5, 2, 1, index, score, &err));
	assert_int_equal(index[0], 3);
}

static void normalizes(void **state)
{
	float rows[] = {3, 4, 0, 0, 1e-30f, 0};

	(void)state;
	wl_retrieval_normalize(rows, 3, 2);
	assert_true(rows[0] == 0.6f && rows[1] == 0.8f && rows[2] == 0 && rows[4] == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_the_definition),
		cmocka_unit_test(dimension_in_several_slices),
		cmocka_unit_test(devices_count_the_same),
		cmocka_unit_test(all_scores_equal_is_not_rank_one),
		cmocka_unit_test(same_for_any_number_of_threads),
		cmocka_unit_test(scores_alone_and_in_tiles_are_equal),
		cmocka_unit_test(known_numbers),
		cmocka_unit_test(chance_matches_random_scores),
		cmocka_unit_test(refuses_bad_input),
		cmocka_unit_test(top_is_sorted),
		cmocka_unit_test(normalizes),
	};

	return cmocka_run_group_tests_name("retrieval", tests, NULL, NULL);
}
