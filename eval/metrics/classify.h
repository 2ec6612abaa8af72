/*
 * Zero-shot classification and tag prediction with embeddings: a label is a text (its prompts'
 * mean), an image's score for it is their product, and the labels with the highest scores are what
 * is predicted.  Pure.
 */
#ifndef WL_EVAL_METRICS_CLASSIFY_H
#define WL_EVAL_METRICS_CLASSIFY_H

#include "eval/metrics/retrieval.h"

/* "texts" of `in` are the labels, pairs the true ones of each image (one or several). */
struct wl_classified {
	double top1, top5;     /* percent of the images with a true label among the first k */
	double class_accuracy; /* top-1 by label, mean over the labels that occur */
	/* Tags: the k labels with the highest scores are predicted for every image. */
	int64_t k;
	double precision, recall, f1; /* micro: over all predictions together; percent */
	double macro_f1;	      /* mean over the labels that occur */
	double map; /* mean over the labels that occur of the AP of all images by score */
	int64_t images, labels; /* with a true label; that occur */
};

/* label_ap: [n_texts] AP of each label in percent, -1 for one that does not occur, or NULL.
 * Images without a true label count for precision and AP only.  WL_EUSAGE when k is not within
 * 1 and the number of labels; otherwise as wl_retrieval_ranks. */
WL_MUST_CHECK int wl_classify(const struct wl_retrieval_in *in, int64_t k,
	struct wl_classified *out, double *label_ap, struct wl_err *err);

/* The mean of each label's prompts, made unit length: from [labels * prompts, dim], a label's
 * prompts one after the other, to out [labels, dim]. */
void wl_classify_average(
	const float *prompts, int64_t labels, int64_t per_label, int64_t dim, float *out);

#endif
