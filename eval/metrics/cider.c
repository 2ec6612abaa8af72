/* CIDEr-D: see caption.h.  Two passes: document frequencies over all references, then scores. */
#include "eval/metrics/ngram.h"

#include <math.h>
#include <stdlib.h>

struct cider {
	const struct wl_ngram_set *set;
	uint32_t *df;    /* [ids]: images whose references hold the n-gram */
	double *idf;     /* [images + 1], by df */
	double *weight;  /* [2 * longest]: the hypothesis's tf-idf vectors, then a reference's */
	size_t longest;
};

/* A caption's tf-idf vectors. */
struct weighed {
	const struct wl_ngram_list *list; /* [orders] */
	double *weight[WL_NGRAM_MAX];
	double norm[WL_NGRAM_MAX];
	double length; /* bigrams, with multiplicity */
};

/* Every n-gram of an image's references counts once for the image. */
static int count_images(struct cider *c, size_t n, struct wl_err *err)
{
	const struct wl_ngram_set *s = c->set;
	uint32_t *seen = calloc((size_t)s->ids + 1, sizeof *seen);

	if (!seen)
		return wl_err_nomem(err, "CIDEr's document frequencies", s->ids * sizeof *seen);
	for (size_t i = 0; i < n; i++)
		for (size_t r = s->first_ref[i]; r < s->first_ref[i + 1]; r++)
			for (size_t k = 0; k < WL_NGRAM_MAX; k++)
				for (size_t g = 0; g < s->ref[r][k].n; g++) {
					uint32_t id = s->ref[r][k].v[g].id;

					c->df[id] += seen[id] != i + 1;
					seen[id] = (uint32_t)(i + 1);
				}
	free(seen);
	return 0;
}

static void weigh(const struct cider *c, const struct wl_ngram_list *list, size_t tokens,
	double *room, struct weighed *w)
{
	w->list = list;
	w->length = tokens > 1 ? (double)(tokens - 1) : 0;
	for (int k = 0; k < WL_NGRAM_MAX; k++) {
		double sum = 0;

		w->weight[k] = room;
		for (size_t i = 0; i < list[k].n; i++) {
			room[i] = list[k].v[i].count * c->idf[c->df[list[k].v[i].id]];
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
	struct weighed hyp, ref;
	double total = 0;

	weigh(c, s->hyp[i], im->hyp.n, c->weight, &hyp);
	for (size_t r = 0; r < im->n_refs; r++) {
		double sum = 0, delta;

		weigh(c, s->ref[s->first_ref[i] + r], im->refs[r].n, c->weight + c->longest, &ref);
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

	c.df = calloc((size_t)s->ids + 1, sizeof *c.df);
	c.idf = calloc(n + 1, sizeof *c.idf);
	c.weight = calloc(2 * c.longest + 1, sizeof *c.weight);
	if (!c.df || !c.idf || !c.weight) {
		wl_err_nomem(err, "CIDEr's weights", s->ids * sizeof *c.df + n * sizeof *c.idf);
		goto out;
	}
	for (size_t d = 0; d <= n; d++)
		c.idf[d] = log(n ? (double)n : 1) - log(d > 1 ? (double)d : 1);
	WL_TRY_OUT(count_images(&c, n, err));
	for (size_t i = 0; i < n; i++) {
		double x = score_image(&c, i, &im[i]);

		sum += x;
		if (per_image)
			per_image[i] = x;
	}
	*corpus = n ? sum / (double)n : 0;
	ret = 0;
out:
	free(c.df);
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
