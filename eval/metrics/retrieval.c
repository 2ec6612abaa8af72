/*
 * Ranks by counting: see retrieval.h.
 *
 * The scores of the right answers are computed first.  Then one matrix product runs over
 * all pairs in tiles, and each score in a tile is compared with the two thresholds it
 * matters for: its row's (the image's best text) and its column's (the text's best
 * image).  So both directions cost one product, and a tile is forgotten once counted.
 */
#include "eval/metrics/retrieval.h"
#include "ops/score.h"
#include "train/backend/ranks.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Rows of the left side that a thread packs at a time, columns of a tile (a multiple of every
 * wl_score_nr()), the distance of its rows (no multiple of 4 KiB, which would crowd few cache
 * sets), and the bytes of the right side that are packed for all threads at a time. */
enum { LEFT_ROWS = 180, TILE_COLS = 480, TILE_STRIDE = TILE_COLS + 16 };
static const int64_t right_bytes = 64 << 20;

struct count {
	const struct wl_retrieval_in *in;
	struct wl_ranks *device;	/* that counts; NULL: the processor does */
	struct wl_rank_target *row, *col; /* [n_images], [n_texts] */
	int64_t *row_above, *col_above; /* candidates that stand before the target */
};

void wl_retrieval_normalize(float *rows, int64_t n, int64_t dim)
{
#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < n; i++) {
		float *row = rows + i * dim;
		double sum = 0, scale;

		for (int64_t k = 0; k < dim; k++)
			sum += (double)row[k] * (double)row[k];
		scale = sum > 0 ? 1 / sqrt(sum) : 0;
		for (int64_t k = 0; k < dim; k++)
			row[k] = (float)((double)row[k] * scale);
	}
}

/* The first row with a number that is not finite; -1 when there is none. */
static int64_t find_not_finite(const float *rows, int64_t n, int64_t dim)
{
	int64_t bad = INT64_MAX;

#pragma omp parallel for schedule(static) reduction(min : bad)
	for (int64_t i = 0; i < n; i++) {
		const float *row = rows + i * dim;
		int fine = 1;

		for (int64_t k = 0; k < dim; k++) /* no early end, so that it vectorises */
			fine &= fabsf(row[k]) <= FLT_MAX;
		if (!fine && i < bad)
			bad = i;
	}
	return bad == INT64_MAX ? -1 : bad;
}

static int check_shape(const struct wl_retrieval_in *in, struct wl_err *err)
{
	if (in->n_images < 1 || in->n_texts < 1 || in->dim < 1 || in->n_images > INT32_MAX ||
		in->n_texts > INT32_MAX)
		return wl_err_set(err, WL_EDATA,
			"retrieval needs images and texts: found %lld images and %lld texts of "
			"%lld numbers",
			(long long)in->n_images, (long long)in->n_texts, (long long)in->dim);
	for (int64_t p = 0; p < in->n_pairs; p++)
		if (in->pair_image[p] < 0 || in->pair_image[p] >= in->n_images ||
			in->pair_text[p] < 0 || in->pair_text[p] >= in->n_texts)
			return wl_err_set(err, WL_EDATA,
				"pair %lld joins image %lld and text %lld, but there are %lld "
				"images and %lld"
				" texts (counted from 0)",
				(long long)p, (long long)in->pair_image[p],
				(long long)in->pair_text[p], (long long)in->n_images,
				(long long)in->n_texts);
	return 0;
}

static int check_numbers(const struct wl_retrieval_in *in, struct wl_err *err)
{
	int64_t bad;

	bad = find_not_finite(in->images, in->n_images, in->dim);
	if (bad >= 0)
		return wl_err_set(
			err, WL_EDATA, "the embedding of image %lld is not finite", (long long)bad);
	bad = find_not_finite(in->texts, in->n_texts, in->dim);
	if (bad >= 0)
		return wl_err_set(
			err, WL_EDATA, "the embedding of text %lld is not finite", (long long)bad);
	return 0;
}

/* A higher score is better, among equals the smaller index: then no other right answer
 * stands before the best one. */
static void improve(struct wl_rank_target *t, float score, int64_t index)
{
	if (t->index < 0 || score > t->score || (score == t->score && index < t->index))
		*t = (struct wl_rank_target){score, (int32_t)index};
}

static int find_targets(struct count *c, struct wl_err *err)
{
	const struct wl_retrieval_in *in = c->in;
	float *score = malloc((size_t)(in->n_pairs ? in->n_pairs : 1) * sizeof *score);

	if (!score)
		return wl_err_nomem(err, "scores of pairs", (size_t)in->n_pairs * sizeof *score);
	if (!c->device) {
		wl_score_pairs(in->images, in->pair_image, in->texts, in->pair_text, in->n_pairs,
			in->dim, score);
	} else if (in->backend->ranks->pairs(c->device, in->pair_image, in->pair_text, in->n_pairs,
			   score, err) < 0) {
		free(score);
		return -1;
	}
	for (int64_t i = 0; i < in->n_images; i++)
		c->row[i].index = -1;
	for (int64_t j = 0; j < in->n_texts; j++)
		c->col[j].index = -1;
	for (int64_t p = 0; p < in->n_pairs; p++) {
		improve(&c->row[in->pair_image[p]], score[p], in->pair_text[p]);
		improve(&c->col[in->pair_text[p]], score[p], in->pair_image[p]);
	}
	free(score);
	return 0;
}

/* Candidates in s [n], whose first has the index `first`, that stand before the target. */
static int64_t count_row(const float *s, int64_t n, int64_t first, struct wl_rank_target t)
{
	int64_t before = t.index - first; /* those with a smaller index count when equal, too */
	int32_t sum = 0;

	before = before < 0 ? 0 : before > n ? n : before;
	for (int64_t j = 0; j < before; j++)
		sum += s[j] >= t.score;
	for (int64_t j = before; j < n; j++)
		sum += s[j] > t.score;
	return sum;
}

/* Adds row i of a tile to the counts of its columns. */
static void count_cols(const float *s, int64_t n, int32_t i, const struct wl_rank_target *t,
	int32_t *above)
{
	for (int64_t j = 0; j < n; j++)
		above[j] += (s[j] > t[j].score) | ((s[j] == t[j].score) & (i < t[j].index));
}

/* The buffers of one thread. */
struct scratch {
	float *left, *tile;
	int32_t *above; /* [columns packed at a time] */
};

/* Counts rows [i0, i0+m) against the packed columns [j0, j0+n). */
static void count_block(struct count *c, struct scratch *s, const float *right, int64_t i0,
	int64_t m, int64_t j0, int64_t n)
{
	const struct wl_retrieval_in *in = c->in;
	const int64_t mr = wl_score_mr(), nr = wl_score_nr();
	int64_t m_padded = (m + mr - 1) / mr * mr;

	wl_score_pack(in->images + i0 * in->dim, m, in->dim, mr, s->left);
	for (int64_t j = 0; j < n; j += TILE_COLS) {
		int64_t cols = n - j < TILE_COLS ? n - j : TILE_COLS;

		wl_score_tile(s->left, right + j * in->dim, m_padded, (cols + nr - 1) / nr * nr,
			in->dim, s->tile, TILE_STRIDE);
		for (int64_t i = 0; i < m; i++) {
			const float *row = s->tile + i * TILE_STRIDE;

			if (c->row[i0 + i].index >= 0)
				c->row_above[i0 + i] +=
					count_row(row, cols, j0 + j, c->row[i0 + i]);
			count_cols(row, cols, (int32_t)(i0 + i), c->col + j0 + j, s->above + j);
		}
	}
}

static bool scratch_init(struct scratch *s, int64_t dim, int64_t cols)
{
	int64_t mr = wl_score_mr(), rows = (LEFT_ROWS + mr - 1) / mr * mr;

	s->left = aligned_alloc(64, (size_t)((rows * dim * 4 + 63) / 64 * 64));
	s->tile = aligned_alloc(64, (size_t)((rows * TILE_STRIDE * 4 + 63) / 64 * 64));
	s->above = calloc((size_t)cols, sizeof *s->above);
	return s->left && s->tile && s->above;
}

static void scratch_release(struct scratch *s)
{
	free(s->left);
	free(s->tile);
	free(s->above);
}

/* All rows against the texts [j0, j0+n), packed into `right`.  False when out of memory. */
static bool count_columns(struct count *c, float *right, int64_t j0, int64_t n, int threads)
{
	const struct wl_retrieval_in *in = c->in;
	const int64_t nr = wl_score_nr();
	bool ok = true;

#pragma omp parallel num_threads(threads)
	{
		struct scratch s = {0};
		bool mine = scratch_init(&s, in->dim, n);

#pragma omp for schedule(static)
		for (int64_t j = 0; j < n; j += nr)
			wl_score_pack(in->texts + (j0 + j) * in->dim, n - j < nr ? n - j : nr,
				in->dim, nr, right + j * in->dim);
#pragma omp for schedule(dynamic)
		for (int64_t i = 0; i < in->n_images; i += LEFT_ROWS)
			if (mine)
				count_block(c, &s, right, i,
					in->n_images - i < LEFT_ROWS ? in->n_images - i : LEFT_ROWS,
					j0, n);
#pragma omp critical(wl_retrieval)
		{
			ok &= mine;
			/* Sums of integers: the order of the threads does not show. */
			for (int64_t j = 0; mine && j < n; j++)
				c->col_above[j0 + j] += s.above[j];
		}
		scratch_release(&s);
	}
	return ok;
}

static int count_all(struct count *c, struct wl_err *err)
{
	const struct wl_retrieval_in *in = c->in;
	const int64_t nr = wl_score_nr();

	WL_ASSERT(TILE_COLS % nr == 0);
	int threads = in->threads > 0 ? in->threads : omp_get_max_threads();
	int64_t cols = right_bytes / (in->dim * 4) / nr * nr,
		padded = (in->n_texts + nr - 1) / nr * nr;
	float *right;
	bool ok = true;

	cols = cols < TILE_COLS ? TILE_COLS : cols;
	cols = cols > padded ? padded : cols;
	right = aligned_alloc(64, (size_t)((cols * in->dim * 4 + 63) / 64 * 64));
	if (!right)
		return wl_err_nomem(err, "packed texts", (size_t)(cols * in->dim * 4));
	for (int64_t j = 0; j < in->n_texts && ok; j += cols)
		ok = count_columns(
			c, right, j, in->n_texts - j < cols ? in->n_texts - j : cols, threads);
	free(right);
	return ok ? 0
		  : wl_err_nomem(err, "the buffers of a retrieval thread",
			    (size_t)(LEFT_ROWS * in->dim * 4));
}

int wl_retrieval_ranks(const struct wl_retrieval_in *in, int64_t *image_rank, int64_t *text_rank,
	struct wl_err *err)
{
	const struct wl_rank_ops *ops = in->backend ? in->backend->ranks : NULL;
	struct count c = {.in = in};
	int ret = -1;

	WL_TRY(check_shape(in, err));
	WL_TRY(check_numbers(in, err));
	c.row = calloc((size_t)in->n_images, sizeof *c.row);
	c.col = calloc((size_t)in->n_texts, sizeof *c.col);
	c.row_above = calloc((size_t)in->n_images, sizeof *c.row_above);
	c.col_above = calloc((size_t)in->n_texts, sizeof *c.col_above);
	if (!c.row || !c.col || !c.row_above || !c.col_above) {
		wl_err_nomem(err, "ranks", (size_t)(in->n_images + in->n_texts) * 16);
		goto out;
	}
	if (ops) {
		c.device = ops->open(in->backend, in->images, in->n_images, in->texts, in->n_texts,
			in->dim, in->device_bytes, err);
		if (!c.device)
			goto out;
	}
	WL_TRY_OUT(find_targets(&c, err));
	WL_TRY_OUT(ops ? ops->above(c.device, c.row, c.col, c.row_above, c.col_above, err)
		       : count_all(&c, err));
	for (int64_t i = 0; image_rank && i < in->n_images; i++)
		image_rank[i] = c.row[i].index < 0 ? 0 : 1 + c.row_above[i];
	for (int64_t j = 0; text_rank && j < in->n_texts; j++)
		text_rank[j] = c.col[j].index < 0 ? 0 : 1 + c.col_above[j];
	ret = 0;
out:
	if (ops)
		ops->close(c.device);
	free(c.row);
	free(c.col);
	free(c.row_above);
	free(c.col_above);
	return ret;
}

/* --- numbers for people --------------------------------------------------------------- */

static int by_rank(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

int wl_recall_from_ranks(const int64_t *ranks, int64_t n, struct wl_recall *out, struct wl_err *err)
{
	int64_t *sorted = malloc((size_t)(n ? n : 1) * sizeof *sorted), k = 0;
	int64_t hit1 = 0, hit5 = 0, hit10 = 0;
	double sum = 0;

	if (!sorted)
		return wl_err_nomem(err, "ranks", (size_t)n * sizeof *sorted);
	for (int64_t i = 0; i < n; i++) {
		if (!ranks[i])
			continue;
		sorted[k++] = ranks[i];
		hit1 += ranks[i] <= 1;
		hit5 += ranks[i] <= 5;
		hit10 += ranks[i] <= 10;
		sum += (double)ranks[i];
	}
	*out = (struct wl_recall){.queries = k};
	if (k) {
		qsort(sorted, (size_t)k, sizeof *sorted, by_rank);
		out->r1 = 100.0 * (double)hit1 / (double)k;
		out->r5 = 100.0 * (double)hit5 / (double)k;
		out->r10 = 100.0 * (double)hit10 / (double)k;
		out->mean_rank = sum / (double)k;
		out->median_rank = 0.5 * (double)(sorted[(k - 1) / 2] + sorted[k / 2]);
	}
	free(sorted);
	return 0;
}

static void set_mean_recall(struct wl_retrieval *r)
{
	r->mean_recall =
		(r->i2t.r1 + r->i2t.r5 + r->i2t.r10 + r->t2i.r1 + r->t2i.r5 + r->t2i.r10) / 6;
}

int wl_retrieval_from_ranks(const struct wl_retrieval_in *in, const int64_t *image_rank,
	const int64_t *text_rank, struct wl_retrieval *out, struct wl_err *err)
{
	*out = (struct wl_retrieval){.images = in->n_images, .texts = in->n_texts};
	WL_TRY(wl_recall_from_ranks(image_rank, in->n_images, &out->i2t, err));
	WL_TRY(wl_recall_from_ranks(text_rank, in->n_texts, &out->t2i, err));
	set_mean_recall(out);
	return 0;
}

int wl_retrieval_measure(
	const struct wl_retrieval_in *in, struct wl_retrieval *out, struct wl_err *err)
{
	int64_t *ranks;
	int ret = -1;

	*out = (struct wl_retrieval){.images = in->n_images, .texts = in->n_texts};
	WL_TRY(check_shape(in, err));
	ranks = malloc((size_t)(in->n_images + in->n_texts) * sizeof *ranks);
	if (!ranks)
		return wl_err_nomem(
			err, "ranks", (size_t)(in->n_images + in->n_texts) * sizeof *ranks);
	WL_TRY_OUT(wl_retrieval_ranks(in, ranks, ranks + in->n_images, err));
	ret = wl_retrieval_from_ranks(in, ranks, ranks + in->n_images, out, err);
out:
	free(ranks);
	return ret;
}

/* P(a right answer is among the first k) for c right ones among n. */
static double chance_at(int64_t n, int64_t c, int64_t k)
{
	double miss = 1;

	for (int64_t t = 0; t < k && t < n; t++)
		miss *= n - c - t > 0 ? (double)(n - c - t) / (double)(n - t) : 0;
	return 1 - miss;
}

/* The smallest rank that random scores reach with probability one half. */
static int64_t chance_median(int64_t n, int64_t c)
{
	double miss = 1;
	int64_t t = 0;

	for (; t < n && miss > 0.5; t++)
		miss *= n - c - t > 0 ? (double)(n - c - t) / (double)(n - t) : 0;
	return t;
}

static int chance_direction(const int64_t *query, int64_t n_pairs, int64_t n_queries, int64_t n,
	struct wl_recall *out, struct wl_err *err)
{
	int64_t *right = calloc((size_t)n_queries, sizeof *right);
	int64_t *median = calloc((size_t)n_queries, sizeof *median);
	int64_t k = 0, last_c = 0, last_median = 0;
	struct wl_recall sum = {0}, medians;
	int ret = -1;

	if (!right || !median) {
		wl_err_nomem(err, "counts of right answers", (size_t)n_queries * 16);
		goto out;
	}
	for (int64_t p = 0; p < n_pairs; p++)
		right[query[p]]++;
	for (int64_t i = 0; i < n_queries; i++) {
		if (!right[i])
			continue;
		if (right[i] != last_c) /* mostly all alike, and the median takes O(n) */
			last_median = chance_median(n, last_c = right[i]);
		median[i] = last_median;
		sum.r1 += chance_at(n, right[i], 1);
		sum.r5 += chance_at(n, right[i], 5);
		sum.r10 += chance_at(n, right[i], 10);
		sum.mean_rank += (double)(n + 1) / (double)(right[i] + 1);
		k++;
	}
	WL_TRY_OUT(wl_recall_from_ranks(median, n_queries, &medians, err));
	*out = (struct wl_recall){.queries = k, .median_rank = medians.median_rank};
	if (k) {
		out->r1 = 100 * sum.r1 / (double)k;
		out->r5 = 100 * sum.r5 / (double)k;
		out->r10 = 100 * sum.r10 / (double)k;
		out->mean_rank = sum.mean_rank / (double)k;
	}
	ret = 0;
out:
	free(right);
	free(median);
	return ret;
}

int wl_retrieval_chance(
	const struct wl_retrieval_in *in, struct wl_retrieval *out, struct wl_err *err)
{
	*out = (struct wl_retrieval){.images = in->n_images, .texts = in->n_texts};
	WL_TRY(check_shape(in, err));
	WL_TRY(chance_direction(
		in->pair_image, in->n_pairs, in->n_images, in->n_texts, &out->i2t, err));
	WL_TRY(chance_direction(
		in->pair_text, in->n_pairs, in->n_texts, in->n_images, &out->t2i, err));
	set_mean_recall(out);
	return 0;
}

int wl_retrieval_top(const float *query, const float *candidates, int64_t n, int64_t dim, int64_t k,
	int64_t *index, float *score, struct wl_err *err)
{
	int64_t *rows = calloc((size_t)n + 1, sizeof *rows),
		*zeros = calloc((size_t)n + 1, sizeof *zeros);
	float *all = malloc((size_t)n * sizeof *all);
	int64_t have = 0;

	if (!rows || !zeros || !all) {
		free(rows);
		free(zeros);
		free(all);
		return wl_err_nomem(err, "scores", (size_t)n * 20);
	}
	for (int64_t j = 0; j < n; j++)
		rows[j] = j;
	wl_score_pairs(query, zeros, candidates, rows, n, dim, all);
	for (int64_t j = 0; j < n; j++) {
		int64_t at = have < k ? have : k;

		/* Insertion from below; strictly better only, so ties stay in order of index. */
		while (at > 0 && all[j] > score[at - 1])
			at--;
		if (at >= k)
			continue;
		have += have < k;
		for (int64_t m = have - 1; m > at; m--) {
			index[m] = index[m - 1];
			score[m] = score[m - 1];
		}
		index[at] = j;
		score[at] = all[j];
	}
	for (; have < k; have++) {
		index[have] = -1;
		score[have] = 0;
	}
	free(rows);
	free(zeros);
	free(all);
	return 0;
}
