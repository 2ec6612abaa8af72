/* BLEU: see caption.h.  The sums run over images in order, so that the last bits agree with
 * the reference's. */
#include "eval/metrics/ngram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct tally {
	double correct[WL_BLEU_ORDERS], guess[WL_BLEU_ORDERS];
	double len, ref_len;
};

static double closest_length(const struct wl_captioned *im)
{
	size_t best = im->refs[0].n;

	for (size_t r = 1; r < im->n_refs; r++) {
		size_t l = im->refs[r].n;
		size_t d = l > im->hyp.n ? l - im->hyp.n : im->hyp.n - l;
		size_t b = best > im->hyp.n ? best - im->hyp.n : im->hyp.n - best;
		if (d < b || (d == b && l < best))
			best = l;
	}
	return (double)best;
}

/* The count of id from *at on, which moves along: both lists are sorted. */
static uint32_t count_from(const struct wl_ngram_list *l, uint32_t id, size_t *at)
{
	while (*at < l->n && l->v[*at].id < id)
		++*at;
	return *at < l->n && l->v[*at].id == id ? l->v[*at].count : 0;
}

/* Matches of order k, clipped at the most that one reference has. */
static double clipped(const struct wl_ngram_list *hyp, struct wl_ngram_list (*ref)[WL_NGRAM_MAX],
	size_t n_refs, size_t k, uint32_t *most)
{
	double sum = 0;

	memset(most, 0, hyp->n * sizeof *most);
	for (size_t r = 0; r < n_refs; r++) {
		size_t at = 0;

		for (size_t i = 0; i < hyp->n; i++) {
			uint32_t c = count_from(&ref[r][k], hyp->v[i].id, &at);

			most[i] = c > most[i] ? c : most[i];
		}
	}
	for (size_t i = 0; i < hyp->n; i++)
		sum += most[i] < hyp->v[i].count ? most[i] : hyp->v[i].count;
	return sum;
}

static void tally_image(const struct wl_ngram_set *s, size_t i, const struct wl_captioned *im,
	uint32_t *most, struct tally *t)
{
	*t = (struct tally){.len = (double)im->hyp.n, .ref_len = closest_length(im)};
	for (size_t k = 0; k < WL_BLEU_ORDERS; k++) {
		t->guess[k] = im->hyp.n > k ? (double)(im->hyp.n - k) : 0;
		t->correct[k] =
			clipped(&s->hyp[i][k], s->ref + s->first_ref[i], im->n_refs, k, most);
	}
}

static void score(const struct tally *t, double out[WL_BLEU_ORDERS])
{
	static const double tiny = 1e-15, small = 1e-9;
	double ratio = (t->len + tiny) / (t->ref_len + small);
	double product = 1;

	for (int k = 0; k < WL_BLEU_ORDERS; k++) {
		product *= (t->correct[k] + tiny) / (t->guess[k] + small);
		out[k] = pow(product, 1.0 / (k + 1));
		if (ratio < 1)
			out[k] *= exp(1 - 1 / ratio);
	}
}

int wl_bleu_of(const struct wl_ngram_set *s, const struct wl_captioned *im, size_t n,
	double corpus[WL_BLEU_ORDERS], double *per_image, struct wl_err *err)
{
	struct tally sum = {0}, one;
	size_t longest = 0;
	uint32_t *most;

	for (size_t i = 0; i < n; i++)
		longest = im[i].hyp.n > longest ? im[i].hyp.n : longest;
	most = calloc(longest + 1, sizeof *most);
	if (!most)
		return wl_err_nomem(err, "BLEU's counts", longest * sizeof *most);
	for (size_t i = 0; i < n; i++) {
		tally_image(s, i, &im[i], most, &one);
		for (int k = 0; k < WL_BLEU_ORDERS; k++) {
			sum.correct[k] += one.correct[k];
			sum.guess[k] += one.guess[k];
		}
		sum.len += one.len;
		sum.ref_len += one.ref_len;
		if (per_image)
			score(&one, per_image + i * WL_BLEU_ORDERS);
	}
	score(&sum, corpus);
	free(most);
	return 0;
}

int wl_bleu(const struct wl_captioned *im, size_t n, double corpus[WL_BLEU_ORDERS],
	double *per_image, struct wl_err *err)
{
	struct wl_ngram_set s;
	int ret;

	WL_TRY(wl_ngram_set_make(&s, im, n, err));
	ret = wl_bleu_of(&s, im, n, corpus, per_image, err);
	wl_ngram_set_release(&s);
	return ret;
}

int wl_bleu_cider(const struct wl_captioned *im, size_t n, double bleu[WL_BLEU_ORDERS],
	double *bleu_per_image, double *cider, double *cider_per_image, struct wl_err *err)
{
	struct wl_ngram_set s;
	int ret;

	WL_TRY(wl_ngram_set_make(&s, im, n, err));
	ret = wl_bleu_of(&s, im, n, bleu, bleu_per_image, err);
	if (!ret)
		ret = wl_cider_of(&s, im, n, cider, cider_per_image, err);
	wl_ngram_set_release(&s);
	return ret;
}
