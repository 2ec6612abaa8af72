/* Ranks of true labels are retrieval's; tags and AP are counted here: see classify.h. */
#include "eval/metrics/classify.h"
#include "ops/score.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What a label collects. */
struct tally {
	int64_t images, first;	    /* true ones, and those found at rank 1 */
	int64_t predicted, correct; /* among the k of all images */
};

struct work {
	const struct wl_retrieval_in *in;
	int64_t *rank;	       /* [n_images] */
	struct tally *tally;   /* [n_texts] */
	int64_t *first, *pair; /* true labels of image i: pair[first[i]..first[i+1]) */
	int64_t *top;	       /* [k] */
	float *score;	       /* [max(k, n_images)] */
	int64_t *zeros, *rows; /* [n_images] */
	struct scored {
		float score;
		int32_t index;
		bool right;
	} * order; /* [n_images] */
};

void wl_classify_average(
	const float *prompts, int64_t labels, int64_t per_label, int64_t dim, float *out)
{
	memset(out, 0, (size_t)(labels * dim) * sizeof *out);
	for (int64_t r = 0; r < labels * per_label; r++)
		for (int64_t k = 0; k < dim; k++)
			out[r / per_label * dim + k] += prompts[r * dim + k];
	wl_retrieval_normalize(out, labels, dim);
}

static int prepare(struct work *w, int64_t k, struct wl_err *err)
{
	const struct wl_retrieval_in *in = w->in;
	size_t n = (size_t)in->n_images + 1, scores = n > (size_t)k ? n : (size_t)k;

	w->rank = calloc(n, sizeof *w->rank);
	w->tally = calloc((size_t)in->n_texts + 1, sizeof *w->tally);
	w->first = calloc(n + 1, sizeof *w->first);
	w->pair = calloc((size_t)in->n_pairs + 1, sizeof *w->pair);
	w->top = calloc((size_t)k, sizeof *w->top);
	w->score = calloc(scores, sizeof *w->score);
	w->zeros = calloc(n, sizeof *w->zeros);
	w->rows = calloc(n, sizeof *w->rows);
	w->order = calloc(n, sizeof *w->order);
	if (!w->rank || !w->tally || !w->first || !w->pair || !w->top || !w->score || !w->zeros ||
		!w->rows || !w->order)
		return wl_err_nomem(err, "a classification", n * 64);
	for (int64_t i = 0; i < in->n_images; i++)
		w->rows[i] = i;
	return 0;
}

static void release(struct work *w)
{
	free(w->rank);
	free(w->tally);
	free(w->first);
	free(w->pair);
	free(w->top);
	free(w->score);
	free(w->zeros);
	free(w->rows);
	free(w->order);
}

static void group_pairs(struct work *w)
{
	const struct wl_retrieval_in *in = w->in;

	for (int64_t p = 0; p < in->n_pairs; p++)
		w->first[in->pair_image[p] + 2]++;
	for (int64_t i = 0; i < in->n_images; i++)
		w->first[i + 2] += w->first[i + 1];
	for (int64_t p = 0; p < in->n_pairs; p++)
		w->pair[w->first[in->pair_image[p] + 1]++] = in->pair_text[p];
}

static bool is_true(const struct work *w, int64_t image, int64_t label)
{
	for (int64_t p = w->first[image]; p < w->first[image + 1]; p++)
		if (w->pair[p] == label)
			return true;
	return false;
}

static void count_ranks(struct work *w, struct wl_classified *out)
{
	int64_t top1 = 0, top5 = 0;

	for (int64_t i = 0; i < w->in->n_images; i++) {
		out->images += w->rank[i] > 0;
		top1 += w->rank[i] == 1;
		top5 += w->rank[i] >= 1 && w->rank[i] <= 5;
		for (int64_t p = w->first[i]; p < w->first[i + 1]; p++)
			w->tally[w->pair[p]].images++;
	}
	if (out->images) {
		out->top1 = 100.0 * (double)top1 / (double)out->images;
		out->top5 = 100.0 * (double)top5 / (double)out->images;
	}
}

static int count_tags(struct work *w, int64_t k, struct wl_err *err)
{
	const struct wl_retrieval_in *in = w->in;

	for (int64_t i = 0; i < in->n_images; i++) {
		WL_TRY(wl_retrieval_top(in->images + i * in->dim, in->texts, in->n_texts, in->dim,
			k, w->top, w->score, err));
		for (int64_t t = 0; t < k; t++) {
			bool right = is_true(w, i, w->top[t]);

			w->tally[w->top[t]].predicted++;
			w->tally[w->top[t]].correct += right;
			w->tally[w->top[t]].first += right && !t;
		}
	}
	return 0;
}

static int by_score(const void *a, const void *b)
{
	const struct scored *x = a, *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

/* The average precision of all images in order of their score for a label. */
static double average_precision(struct work *w, int64_t label)
{
	const struct wl_retrieval_in *in = w->in;
	double sum = 0;
	int64_t found = 0;

	wl_score_pairs(in->texts + label * in->dim, w->zeros, in->images, w->rows, in->n_images,
		in->dim, w->score);
	for (int64_t i = 0; i < in->n_images; i++)
		w->order[i] = (struct scored){w->score[i], (int32_t)i, is_true(w, i, label)};
	qsort(w->order, (size_t)in->n_images, sizeof *w->order, by_score);
	for (int64_t i = 0; i < in->n_images; i++)
		if (w->order[i].right)
			sum += (double)++found / (double)(i + 1);
	return found ? 100.0 * sum / (double)found : 0;
}

static double ratio(double a, double b)
{
	return b > 0 ? 100.0 * a / b : 0;
}

static void summarise(struct work *w, struct wl_classified *out, double *label_ap)
{
	int64_t predicted = 0, correct = 0, wanted = 0;

	for (int64_t l = 0; l < w->in->n_texts; l++) {
		const struct tally *t = &w->tally[l];

		predicted += t->predicted;
		correct += t->correct;
		wanted += t->images;
		if (label_ap)
			label_ap[l] = -1;
		if (!t->images)
			continue;
		double ap = average_precision(w, l);
		out->labels++;
		out->class_accuracy += ratio((double)t->first, (double)t->images);
		out->macro_f1 +=
			ratio(2.0 * (double)t->correct, (double)(t->predicted + t->images));
		out->map += ap;
		if (label_ap)
			label_ap[l] = ap;
	}
	out->precision = ratio((double)correct, (double)predicted);
	out->recall = ratio((double)correct, (double)wanted);
	out->f1 = ratio(2.0 * (double)correct, (double)(predicted + wanted));
	if (out->labels) {
		out->class_accuracy /= (double)out->labels;
		out->macro_f1 /= (double)out->labels;
		out->map /= (double)out->labels;
	}
}

int wl_classify(const struct wl_retrieval_in *in, int64_t k, struct wl_classified *out,
	double *label_ap, struct wl_err *err)
{
	struct work w = {.in = in};
	int ret = -1;

	if (k < 1 || k > in->n_texts)
		return wl_err_set(err, WL_EUSAGE,
			"%lld tags an image cannot be predicted from %lld labels", (long long)k,
			(long long)in->n_texts);
	*out = (struct wl_classified){.k = k};
	WL_TRY_OUT(prepare(&w, k, err));
	WL_TRY_OUT(wl_retrieval_ranks(in, w.rank, NULL, err));
	group_pairs(&w);
	count_ranks(&w, out);
	WL_TRY_OUT(count_tags(&w, k, err));
	summarise(&w, out, label_ap);
	ret = 0;
out:
	release(&w);
	return ret;
}
