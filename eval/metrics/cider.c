/* CIDEr-D: see caption.h.  Document frequencies come with the n-grams. */
#include "eval/metrics/ngram.h"

#include <math.h>
#include <stdlib.h>

struct cider {
	const struct wl_ngram_set *set;
	double *idf;	/* [images + 1], by df */
	double *weight; /* [2 * longest]: the hypothesis's tf-idf vectors, then a reference's */
	size_t longest;
};

/* A caption's tf-idf vectors. */
struct weighed {
	const struct wl_ngram_list *list; /* [orders] */
	double *weight[WL_NGRAM_MAX];
	double norm[WL_NGRAM_MAX];
	double length; /* bigrams, with multiplicity */
};

static void weigh(const struct cider *c, const uint32_t *df, const struct wl_ngram_list *list,
	size_t tokens, double *room, struct weighed *w)
{
	w->list = list;
	w->length = tokens > 1 ? (double)(tokens - 1) : 0;
	for (int k = 0; k < WL_NGRAM_MAX; k++) {
		double sum = 0;

		w->weight[k] = room;
		for (size_t i = 0; i < list[k].n; i++) {
			room[i] = list[k].v[i].count * c->idf[df[list[k].v[i].id]];
			sum += room[i] * room[i];
		}
		w->norm[k] = sqrt(sum);
		room += list[k].n;
	}
}

/* sum over the hypothesis's n-grams of min(h, r) r / (|h| |r|); both lists are sorted. */
static double similarity(const struct weighed *h, const struct weighed *r, int k)
{
	const struct wl_ngram_list *a = &h->list[k], *b = &r->list[k];
	double sum = 0;

	for (size_t i = 0, j = 0; i < a->n && j < b->n;) {
		uint32_t x = a->v[i].id, y = b->v[j].id;

		if (x == y)
			sum += fmin(h->weight[k][i], r->weight[k][j]) * r->weight[k][j];
		i += x <= y;
		j += y <= x;
	}
	return h->norm[k] > 0 && r->norm[k] > 0 ? sum / (h->norm[k] * r->norm[k]) : sum;
}

static double score_image(const struct cider *c, size_t i, const struct wl_captioned *im)
{
	static const double sigma = 6;
	const struct wl_ngram_set *s = c->set;
	const uint32_t *df = s->df + s->first_id[i];
	struct weighed hyp, ref;
	double total = 0;

	weigh(c, df, s->hyp[i], im->hyp.n, c->weight, &hyp);
	for (size_t r = 0; r < im->n_refs; r++) {
		double sum = 0, delta;

		weigh(c, df, s->ref[s->first_ref[i] + r], im->refs[r].n, c->weight + c->longest,
			&ref);
		delta = hyp.length - ref.length;
		for (int k = 0; k < WL_NGRAM_MAX; k++)
			sum += similarity(&hyp, &ref, k);
		total += sum / WL_NGRAM_MAX * exp(-delta * delta / (2 * sigma * sigma));
	}
	return total / (double)im->n_refs * 10;
}

static size_t longest_caption(const struct wl_captioned *im, size_t n)
{
	size_t longest = 0;

	for (size_t i = 0; i < n; i++) {
		longest = im[i].hyp.n > longest ? im[i].hyp.n : longest;
		for (size_t r = 0; r < im[i].n_refs; r++)
			longest = im[i].refs[r].n > longest ? im[i].refs[r].n : longest;
	}
	return longest;
}

int wl_cider_of(const struct wl_ngram_set *s, const struct wl_captioned *im, size_t n,
	double *corpus, double *per_image, struct wl_err *err)
{
	struct cider c = {.set = s, .longest = WL_NGRAM_MAX * longest_caption(im, n)};
	double sum = 0;
	int ret = -1;

	c.idf = calloc(n + 1, sizeof *c.idf);
	c.weight = calloc(2 * c.longest + 1, sizeof *c.weight);
	if (!c.idf || !c.weight) {
		wl_err_nomem(err, "CIDEr's weights", n * sizeof *c.idf);
		goto out;
	}
	for (size_t d = 0; d <= n; d++)
		c.idf[d] = log(n ? (double)n : 1) - log(d > 1 ? (double)d : 1);
	for (size_t i = 0; i < n; i++) {
		double x = score_image(&c, i, &im[i]);

		sum += x;
		if (per_image)
			per_image[i] = x;
	}
	*corpus = n ? sum / (double)n : 0;
	ret = 0;
out:
	free(c.idf);
	free(c.weight);
	return ret;
}

int wl_cider(const struct wl_captioned *im, size_t n, double *corpus, double *per_image,
	struct wl_err *err)
{
	struct wl_ngram_set s;
	int ret;

	WL_TRY(wl_ngram_set_make(&s, im, n, err));
	ret = wl_cider_of(&s, im, n, corpus, per_image, err);
	wl_ngram_set_release(&s);
	return ret;
}
