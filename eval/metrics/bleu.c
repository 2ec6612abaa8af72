/* BLEU: see caption.h.  The sums run over images in order, so that the last bits agree with
 * the reference's. */
#include "eval/metrics/ngram.h"

#include <math.h>
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

static int tally_image(struct wl_ngrams *g, struct wl_arena *a, const struct wl_captioned *im,
	struct tally *t, struct wl_err *err)
{
	struct wl_ngram_list hyp[WL_NGRAM_MAX];
	struct wl_ngram_list(*ref)[WL_NGRAM_MAX];

	*t = (struct tally){.len = (double)im->hyp.n, .ref_len = closest_length(im)};
	wl_arena_reset(a);
	ref = wl_arena_calloc(a, im->n_refs, sizeof *ref, err);
	if (!ref)
		return -1;
	WL_TRY(wl_ngrams_of(g, &im->hyp, a, hyp, err));
	for (size_t r = 0; r < im->n_refs; r++)
		WL_TRY(wl_ngrams_of(g, &im->refs[r], a, ref[r], err));
	for (size_t k = 0; k < WL_BLEU_ORDERS; k++) {
		t->guess[k] = im->hyp.n > k ? (double)(im->hyp.n - k) : 0;
		for (size_t i = 0; i < hyp[k].n; i++) {
			uint32_t most = 0;
			for (size_t r = 0; r < im->n_refs; r++) {
				uint32_t c = wl_ngram_find(&ref[r][k], hyp[k].v[i].id);
				most = c > most ? c : most;
			}
			t->correct[k] += most < hyp[k].v[i].count ? most : hyp[k].v[i].count;
		}
	}
	return 0;
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

int wl_bleu(const struct wl_captioned *im, size_t n, double corpus[WL_BLEU_ORDERS],
	double *per_image, struct wl_err *err)
{
	struct wl_ngrams g = {0};
	struct wl_arena a = WL_ARENA_INIT;
	struct tally sum = {0}, one;
	int ret = -1;

	for (size_t i = 0; i < n; i++) {
		WL_TRY_OUT(tally_image(&g, &a, &im[i], &one, err));
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
	ret = 0;
out:
	wl_ngrams_release(&g);
	wl_arena_release(&a);
	return ret;
}
