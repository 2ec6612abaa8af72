/*
 * Caption metrics as pycocoevalcap (salaniz; coco-caption of tylin) computes them, over captions
 * that are tokenised already: BLEU-1..4, ROUGE-L and CIDEr (which is CIDEr-D without stemming).
 * Pure: no files, no threads, no locale.
 *
 * Tokens are numbers from a wl_intern, so that a character, a word or any other unit will do.
 * All scores are fractions (CIDEr: 0..10); every function gives the corpus's score and, where
 * per_image is not NULL, one score an image.
 */
#ifndef WL_EVAL_METRICS_CAPTION_H
#define WL_EVAL_METRICS_CAPTION_H

#include "eval/metrics/intern.h"

#include <stddef.h>
#include <stdint.h>

struct wl_caption {
	const uint32_t *token; /* [n] */
	size_t n;
};

struct wl_captioned {
	struct wl_caption hyp;         /* what the model said */
	const struct wl_caption *refs; /* [n_refs], n_refs >= 1 */
	size_t n_refs;
};

enum { WL_BLEU_ORDERS = 4 };

/* Papineni et al. 2002 with bleu_scorer.py's constants: clipped n-gram counts, the closest
 * reference length (ties: the shorter), (correct + 1e-15) / (guess + 1e-9), geometric means, and
 * exp(1 - 1/ratio) where ratio = (length + 1e-15) / (reference length + 1e-9) is below 1.
 * corpus[4]; per_image [n][4]. */
WL_MUST_CHECK int wl_bleu(const struct wl_captioned *im, size_t n, double corpus[WL_BLEU_ORDERS],
	double *per_image, struct wl_err *err);

/* Lin 2004 with rouge.py's habits: beta 1.2, the largest precision and the largest recall over
 * the references taken apart, mean over images. */
WL_MUST_CHECK int wl_rouge_l(const struct wl_captioned *im, size_t n, double *corpus,
	double *per_image, struct wl_err *err);

/* Vedantam et al. 2015 as cider_scorer.py has it: n = 1..4, sigma 6, document frequencies from
 * these references, hypothesis weights clipped, length counted in bigrams, times 10. */
WL_MUST_CHECK int wl_cider(const struct wl_captioned *im, size_t n, double *corpus,
	double *per_image, struct wl_err *err);

/* Both over the same n-grams, which takes half the time of one after the other. */
WL_MUST_CHECK int wl_bleu_cider(const struct wl_captioned *im, size_t n,
	double bleu[WL_BLEU_ORDERS], double *bleu_per_image, double *cider,
	double *cider_per_image, struct wl_err *err);

#endif
