/*
 * The n-grams of a set of captions as sorted lists of (number, count), and in how many images'
 * references each occurs: what BLEU and CIDEr compare.  Made once for both.
 */
#ifndef WL_EVAL_METRICS_NGRAM_H
#define WL_EVAL_METRICS_NGRAM_H

#include "eval/metrics/caption.h"
#include "ops/arena.h"

enum { WL_NGRAM_MAX = 4 };

/* Numbers are an image's own, from 0: n-grams of different images are never compared. */
struct wl_ngram_count {
	uint32_t id, count;
};
struct wl_ngram_list {
	struct wl_ngram_count *v; /* sorted by id */
	size_t n;
};

struct wl_ngram_set {
	struct wl_ngram_list (*hyp)[WL_NGRAM_MAX]; /* [n_images] */
	struct wl_ngram_list (*ref)[WL_NGRAM_MAX]; /* [sum of n_refs], image by image */
	size_t *first_ref;                         /* [n_images + 1]: places in ref */
	size_t *first_id;                          /* [n_images + 1]: places in df */
	/* Images whose references hold the n-gram: df[first_id[image] + number].  Only told exactly
	 * when it is two or more; 0 and 1 weigh alike in CIDEr. */
	uint32_t *df;
	struct wl_arena arena;
};

/* The lists of orders 1..4 of all captions.  WL_EDATA past 2^31 n-grams. */
WL_MUST_CHECK int wl_ngram_set_make(struct wl_ngram_set *s, const struct wl_captioned *im,
	size_t n, struct wl_err *err);
void wl_ngram_set_release(struct wl_ngram_set *s);

/* BLEU and CIDEr over a set that is made already (caption.h says what they are). */
WL_MUST_CHECK int wl_bleu_of(const struct wl_ngram_set *s, const struct wl_captioned *im,
	size_t n, double corpus[WL_BLEU_ORDERS], double *per_image, struct wl_err *err);
WL_MUST_CHECK int wl_cider_of(const struct wl_ngram_set *s, const struct wl_captioned *im,
	size_t n, double *corpus, double *per_image, struct wl_err *err);

#endif
