/*
 * METEOR 1.5 (Denkowski and Lavie 2014) with its exact module, as the public jar computes it:
 * alignment by beam search, weighted by content and function words, fragmentation penalty, the
 * best reference of each image, and the corpus's score from summed statistics.
 *
 * Stem, synonym and paraphrase modules need English tables and are not here: they never fire
 * between Chinese characters.  English captions score lower than with the jar where a pair of
 * words is related but not equal.
 *
 * Pure: no files, no threads, no locale.
 */
#ifndef WL_EVAL_METRICS_METEOR_H
#define WL_EVAL_METRICS_METEOR_H

#include "eval/metrics/caption.h"
#include "ops/buf.h"

#include <stdbool.h>

/* score = Fmean (1 - gamma frag^beta), Fmean = 1 / ((1 - alpha) / P + alpha / R); a content word
 * weighs delta, a function word 1 - delta. */
struct wl_meteor_params {
	double alpha, beta, gamma, delta;
};

/* The jar's for `-l en` and `-l other` (ENGINEERING-FACTS C5). */
struct wl_meteor_params wl_meteor_english(void);
struct wl_meteor_params wl_meteor_other(void);

/* function: by token number, true for a function word; NULL: there are none.  A token number
 * must be below n_tokens then.  per_image: [n] or NULL.  WL_EDATA for a caption of 2^16
 * tokens or more. */
WL_MUST_CHECK int wl_meteor(const struct wl_captioned *im, size_t n,
	const struct wl_meteor_params *p, const bool *function, double *corpus, double *per_image,
	struct wl_err *err);

/*
 * The jar's `-norm` for English: what `-l en -norm` makes of a line before it is split at
 * blanks.  Every character that is no Latin or Cyrillic letter, digit or one of . ' ` , - and the
 * single quotes stands alone, so Chinese is scored character by character; commas, dots and
 * apostrophes are split by English rules.  Lower-case words joined by single blanks; appended to
 * out.
 */
WL_MUST_CHECK int wl_meteor_normalize(
	const char *text, size_t n, struct wl_buf *out, struct wl_err *err);

/* True for the words (normalised, lower case) that METEOR's English list takes as function
 * words. */
bool wl_meteor_is_function(const char *word, size_t n);

#endif
