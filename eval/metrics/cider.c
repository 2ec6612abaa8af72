/* CIDEr-D: see caption.h.  Two passes: document frequencies over all references, then scores. */
#include "eval/metrics/ngram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct frequencies {
	struct wl_ngrams grams;
	uint32_t *df[WL_NGRAM_MAX]; /* images whose references hold the n-gram, by its number */
	size_t cap[WL_NGRAM_MAX];
	double log_images;
};

/* A caption's tf-idf vector of one order. */
struct vector {
	struct wl_ngram_list list;
	double *weight; /* [list.n] */
	double norm;
};
struct weighed {
	struct vector order[WL_NGRAM_MAX];
	double length; /* bigrams, with multiplicity */
};

static int df_reserve(struct frequencies *f, int k, uint32_t id, struct wl_err *err)
{
	if (id < f->cap[k])
		return 0;
	size_t cap = f->cap[k] ? f->cap[k] : 1024;
	while (cap <= id)
		cap *= 2;
	uint32_t *p = realloc(f->df[k], cap * sizeof *p);
	if (!p)
		return wl_err_nomem(err, "CIDEr's document frequencies", cap * sizeof *p);
	memset(p + f->cap[k], 0, (cap - f->cap[k]) * sizeof *p);
	f->df[k] = p;
	f->cap[k] = cap;
	return 0;
}

/* Every n-gram of the image's references counts once for the image. */
static int count_image(struct frequencies *f, struct wl_arena *a, const struct wl_captioned *im,
	struct wl_err *err)
{
	struct wl_ngram_list(*ref)[WL_NGRAM_MAX];

	wl_arena_reset(a);
	ref = wl_arena_calloc(a, im->n_refs, sizeof *ref, err);
	if (!ref)
		return -1;
	for (size_t r = 0; r < im->n_refs; r++) {
		WL_TRY(wl_ngrams_of(&f->grams, &im->refs[r], a, ref[r], err));
		for (int k = 0; k < WL_NGRAM_MAX; k++)
			for (size_t i = 0; i < ref[r][k].n; i++) {
				uint32_t id = ref[r][k].v[i].id;
				size_t before = 0;
				while (before < r && !wl_ngram_find(&ref[before][k], id))
					before++;
				WL_TRY(df_reserve(f, k, id, err));
				f->df[k][id] += before == r;
			}
	}
	return 0;
}

static int weigh(struct frequencies *f, struct wl_arena *a, const struct wl_caption *c,
	struct weighed *w, struct wl_err *err)
{
	struct wl_ngram_list list[WL_NGRAM_MAX];

	WL_TRY(wl_ngrams_of(&f->grams, c, a, list, err));
	w->length = c->n > 1 ? (double)(c->n - 1) : 0;
	for (int k = 0; k < WL_NGRAM_MAX; k++) {
		struct vector *v = &w->order[k];
		double sum = 0;
		v->list = list[k];
		v->weight = wl_arena_calloc(a, list[k].n, sizeof *v->weight, err);
		if (!v->weight)
			return -1;
		for (size_t i = 0; i < list[k].n; i++) {
			uint32_t id = list[k].v[i].id;
			uint32_t df = id < f->cap[k] ? f->df[k][id] : 0;
			v->weight[i] = list[k].v[i].count * (f->log_images - log(df > 1 ? df : 1));
			sum += v->weight[i] * v->weight[i];
		}
		v->norm = sqrt(sum);
	}
	return 0;
}

/* sum over the hypothesis's n-grams of min(h, r) r / (|h| |r|); both lists are sorted. */
static double similarity(const struct vector *h, const struct vector *r)
{
	double sum = 0;

	for (size_t i = 0, j = 0; i < h->list.n && j < r->list.n;) {
		if (h->list.v[i].id < r->list.v[j].id) {
			i++;
		} else if (h->list.v[i].id > r->list.v[j].id) {
			j++;
		} else {
			sum += fmin(h->weight[i], r->weight[j]) * r->weight[j];
			i++, j++;
		}
	}
	return h->norm > 0 && r->norm > 0 ? sum / (h->norm * r->norm) : sum;
}

static int score_image(struct frequencies *f, struct wl_arena *a, const struct wl_captioned *im,
	double *out, struct wl_err *err)
{
	static const double sigma = 6;
	struct weighed hyp, ref;
	double total = 0;

	wl_arena_reset(a);
	WL_TRY(weigh(f, a, &im->hyp, &hyp, err));
	for (size_t r = 0; r < im->n_refs; r++) {
		double sum = 0, delta;
		WL_TRY(weigh(f, a, &im->refs[r], &ref, err));
		delta = hyp.length - ref.length;
		for (int k = 0; k < WL_NGRAM_MAX; k++)
			sum += similarity(&hyp.order[k], &ref.order[k]);
		total += sum / WL_NGRAM_MAX * exp(-delta * delta / (2 * sigma * sigma));
	}
	*out = total / (double)im->n_refs * 10;
	return 0;
}

int wl_cider(const struct wl_captioned *im, size_t n, double *corpus, double *per_image,
	struct wl_err *err)
{
	struct frequencies f = {.log_images = log(n ? (double)n : 1)};
	struct wl_arena a = WL_ARENA_INIT;
	double sum = 0;
	int ret = -1;

	for (size_t i = 0; i < n; i++)
		WL_TRY_OUT(count_image(&f, &a, &im[i], err));
	for (size_t i = 0; i < n; i++) {
		double s;
		WL_TRY_OUT(score_image(&f, &a, &im[i], &s, err));
		sum += s;
		if (per_image)
			per_image[i] = s;
	}
	*corpus = n ? sum / (double)n : 0;
	ret = 0;
out:
	wl_ngrams_release(&f.grams);
	for (int k = 0; k < WL_NGRAM_MAX; k++)
		free(f.df[k]);
	wl_arena_release(&a);
	return ret;
}
