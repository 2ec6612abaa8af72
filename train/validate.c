/* R@K during training: see validate.h.  Exact: every query against every row, ranks counted
 * without sorting, queries in parallel. */
#include "train/validate.h"

#include <math.h>
#include <stdlib.h>

static float dot(const float *a, const float *b, int64_t n)
{
	float s = 0;
	int64_t i;

#pragma omp simd reduction(+ : s)
	for (i = 0; i < n; i++)
		s += a[i] * b[i];
	return s;
}

/* The best rank among the right answers for query q: is_text says which side asks.  scores is
 * room for one row. */
static int64_t rank_of(const struct wl_embeddings *v, bool is_text, int64_t q, float *scores)
{
	const float *query = (is_text ? v->texts : v->images) + q * v->dim;
	const float *rows = is_text ? v->images : v->texts;
	int64_t n = is_text ? v->n_images : v->n_texts, i, best = -1, rank = 1;

	for (i = 0; i < n; i++) {
		bool right = is_text ? v->text_image[q] == i : v->text_image[i] == q;

		scores[i] = dot(query, rows + i * v->dim, v->dim);
		if (right && (best < 0 || scores[i] > scores[best]))
			best = i;
	}
	if (best < 0)
		return 0; /* a picture without a caption: no query */
	for (i = 0; i < n; i++)
		rank += scores[i] > scores[best] || (scores[i] == scores[best] && i < best);
	return rank;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Recalls of one direction; *sum gets r1 + r5 + r10. */
static json_t *direction(const struct wl_embeddings *v, bool is_text, double *sum,
	struct wl_err *err)
{
	int64_t n = is_text ? v->n_texts : v->n_images, width = is_text ? v->n_images : v->n_texts;
	int64_t *ranks = malloc((size_t)(n + 1) * sizeof *ranks), hits[3] = {0}, i, asked = 0;
	const int64_t cut[3] = {1, 5, 10};
	double r[3] = {0}, median = 0;
	bool failed = false;
	int k;

	if (!ranks) {
		wl_err_nomem(err, "ranks", (size_t)n * sizeof *ranks);
		return NULL;
	}
#pragma omp parallel
	{
		float *scores = malloc((size_t)(width + 1) * sizeof *scores);

#pragma omp for schedule(dynamic, 16)
		for (i = 0; i < n; i++) {
			if (scores) {
				ranks[i] = rank_of(v, is_text, i, scores);
			} else {
#pragma omp atomic write
				failed = true;
			}
		}
		free(scores);
	}
	if (failed) {
		free(ranks);
		wl_err_nomem(err, "scores", (size_t)width * sizeof(float));
		return NULL;
	}
	for (i = 0; i < n; i++) {
		if (!ranks[i])
			continue;
		for (k = 0; k < 3; k++)
			hits[k] += ranks[i] <= cut[k];
		ranks[asked++] = ranks[i];
	}
	qsort(ranks, (size_t)asked, sizeof *ranks, by_value);
	for (k = 0; k < 3 && asked; k++)
		*sum += r[k] = 100.0 * (double)hits[k] / (double)asked;
	if (asked)
		median = ((double)ranks[asked / 2] + (double)ranks[(asked - 1) / 2]) / 2;
	free(ranks);
	return json_pack("{s:f,s:f,s:f,s:f}", "r1", r[0], "r5", r[1], "r10", r[2], "median_rank",
		median);
}

json_t *wl_retrieval_json(const struct wl_embeddings *v, struct wl_err *err)
{
	double sum = 0;
	json_t *i2t = direction(v, false, &sum, err);
	json_t *t2i = i2t ? direction(v, true, &sum, err) : NULL;

	if (!t2i) {
		json_decref(i2t);
		return NULL;
	}
	return json_pack("{s:o,s:o,s:f,s:I,s:I}", "i2t", i2t, "t2i", t2i, "mean_recall", sum / 6,
		"images", (json_int_t)v->n_images, "texts", (json_int_t)v->n_texts);
}

json_t *wl_validate(struct wl_encoder *e, struct wl_loader *l, struct wl_err *err)
{
	struct wl_loader_pos start = {0};
	struct wl_embeddings v = {0};
	json_t *result = NULL;

	if (wl_loader_seek(l, &start, err) == 0 && wl_encode_split(e, l, false, &v, err) == 0)
		result = wl_retrieval_json(&v, err);
	wl_embeddings_release(&v);
	return result;
}
