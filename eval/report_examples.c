/*
 * Retrieved examples of a report: see report_priv.h.  Thumbnails are made from the shards'
 * pictures, so that the page stays small whatever their size.
 */
#include "eval/report_priv.h"
#include "ingest/image.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "shards/shard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THUMB_PX = 144, JPEG_QUALITY = 82, TEXT_MAX = 1 << 20 };

struct examples {
	struct wl_html *h;
	const struct wl_report_opts *o;
	const struct wl_vectors *v;
	const struct wl_report_run *run;
	struct wl_shardset *set;
	int64_t *sample;  /* [n_images]: place in the shard set, -1 when it is not there */
	int64_t *caption; /* [n_texts]: which caption of its sample a text is */
	int64_t *image;	  /* [n_texts]: its image, -1 for none */
	int64_t *index;	  /* [top] */
	float *score;	  /* [top] */
};

struct id_place {
	int64_t id, place;
};

static int by_id(const void *a, const void *b)
{
	int64_t x = ((const struct id_place *)a)->id, y = ((const struct id_place *)b)->id;

	return (x > y) - (x < y);
}

/* Where in the shard set each image's pair lies. */
static int find_samples(struct examples *e, struct wl_err *err)
{
	int64_t n = wl_shardset_size(e->set);
	struct id_place *all = malloc((size_t)n * sizeof *all + 1);
	int64_t *ids = malloc((size_t)n * sizeof *ids + 1);
	int ret = -1;

	if (!all || !ids) {
		wl_err_nomem(err, "an index of samples", (size_t)n * sizeof *all);
		goto out;
	}
	WL_TRY_OUT(wl_shardset_pair_ids(e->set, ids, err));
	for (int64_t i = 0; i < n; i++)
		all[i] = (struct id_place){ids[i], i};
	if (n)
		qsort(all, (size_t)n, sizeof *all, by_id);
	for (int64_t i = 0; i < e->v->n_images; i++) {
		struct id_place want = {e->v->image_ids[i], 0};
		const struct id_place *found =
			n ? bsearch(&want, all, (size_t)n, sizeof *all, by_id) : NULL;

		e->sample[i] = found && !wl_shardset_dead(e->set, found->place) ? found->place : -1;
	}
	ret = 0;
out:
	free(all);
	free(ids);
	return ret;
}

/* Texts of an image stand in the order of its captions. */
static int number_captions(struct examples *e, struct wl_err *err)
{
	int64_t *next = calloc((size_t)e->v->n_images + 1, sizeof *next);

	if (!next)
		return wl_err_nomem(
			err, "counts of captions", (size_t)e->v->n_images * sizeof *next);
	for (int64_t j = 0; j < e->v->n_texts; j++)
		e->image[j] = -1;
	for (int64_t p = 0; p < e->v->n_pairs; p++) {
		int64_t j = e->v->pair_text[p], i = e->v->pair_image[p];

		e->image[j] = i;
		e->caption[j] = next[i]++;
	}
	free(next);
	return 0;
}

/* The text of row j as the page shows it, from its sample's captions. */
static int put_text(struct examples *e, int64_t j, struct wl_err *err)
{
	int64_t sample = e->image[j] >= 0 ? e->sample[e->image[j]] : -1;
	struct wl_buf b;
	json_t *o = NULL;
	const char *s;
	int ret = -1;

	if (sample < 0)
		return wl_html_text(e->h, "(not in the shards)", err);
	wl_buf_init(&b, TEXT_MAX);
	WL_TRY_OUT(wl_shardset_read(e->set, sample, NULL, &b, err));
	o = wl_json_parse(wl_buf_str(&b), b.len, "the sample's JSON", err);
	if (!o)
		goto out;
	s = json_string_value(
		json_array_get(json_object_get(o, "captions"), (size_t)e->caption[j]));
	ret = wl_html_text(e->h, s ? s : "(caption missing)", err);
out:
	json_decref(o);
	wl_buf_release(&b);
	return ret;
}

static int put_thumb(
	struct examples *e, const struct wl_buf *bytes, const char *alt, struct wl_err *err)
{
	struct wl_image full = {0}, small = {0};
	struct wl_buf jpeg;
	double scale;
	int w, h, ret = -1;

	wl_buf_init(&jpeg, 1 << 24);
	WL_TRY_OUT(wl_image_decode(bytes->data, bytes->len, &full, err));
	scale = fmin(1, (double)THUMB_PX / (full.width > full.height ? full.width : full.height));
	w = (int)fmax(1, round(full.width * scale));
	h = (int)fmax(1, round(full.height * scale));
	WL_TRY_OUT(wl_image_resize_lanczos(&full, w, h, &small, err));
	WL_TRY_OUT(wl_image_encode_jpeg(&small, JPEG_QUALITY, &jpeg, err));
	ret = wl_html_image(e->h, jpeg.data, jpeg.len, "image/jpeg", alt, w, err);
out:
	wl_image_release(&full);
	wl_image_release(&small);
	wl_buf_release(&jpeg);
	return ret;
}

static int put_image(struct examples *e, int64_t i, struct wl_err *err)
{
	struct wl_buf bytes;
	char key[WL_KEY_MAX];
	int ret;

	if (e->sample[i] < 0)
		return wl_html_text(e->h, "(not in the shards)", err);
	wl_shardset_key(e->set, e->sample[i], key);
	wl_buf_init(&bytes, WL_IMAGE_MAX_BYTES);
	ret = wl_shardset_read(e->set, e->sample[i], &bytes, NULL, err);
	if (!ret)
		ret = put_thumb(e, &bytes, key, err);
	wl_buf_release(&bytes);
	return ret;
}

/* True when text j belongs to image i. */
static bool is_pair(const struct examples *e, int64_t i, int64_t j)
{
	for (int64_t p = 0; p < e->v->n_pairs; p++)
		if (e->v->pair_image[p] == i && e->v->pair_text[p] == j)
			return true;
	return false;
}

static int text_query(struct examples *e, int64_t j, struct wl_err *err)
{
	const struct wl_vectors *v = e->v;

	WL_TRY(wl_retrieval_top(v->texts + j * v->dim, v->images, v->n_images, v->dim, e->o->top,
		e->index, e->score, err));
	WL_TRY(wl_html_raw(e->h, "<h3>", err));
	WL_TRY(put_text(e, j, err));
	WL_TRY(wl_html_raw(e->h, "</h3>\n<div class=\"k\">", err));
	for (int64_t k = 0; k < e->o->top && e->index[k] >= 0; k++) {
		WL_TRY(wl_html_raw(e->h, "<figure>", err));
		WL_TRY(put_image(e, e->index[k], err));
		WL_TRY(wl_buf_printf(&e->h->b, err,
			"<figcaption>%lld. %.3f%s</figcaption></figure>\n", (long long)k + 1,
			(double)e->score[k],
			is_pair(e, e->index[k], j) ? " <b>\xe2\x9c\x93 its picture</b>" : ""));
	}
	return wl_html_raw(e->h, "</div>\n", err);
}

static int image_query(struct examples *e, int64_t i, struct wl_err *err)
{
	const struct wl_vectors *v = e->v;

	WL_TRY(wl_retrieval_top(v->images + i * v->dim, v->texts, v->n_texts, v->dim, e->o->top,
		e->index, e->score, err));
	WL_TRY(wl_html_raw(e->h, "<div class=\"k\"><figure>", err));
	WL_TRY(put_image(e, i, err));
	WL_TRY(wl_html_raw(e->h, "</figure><ol>\n", err));
	for (int64_t k = 0; k < e->o->top && e->index[k] >= 0; k++) {
		bool right = is_pair(e, i, e->index[k]);

		WL_TRY(wl_html_raw(e->h, right ? "<li><b>" : "<li>", err));
		WL_TRY(put_text(e, e->index[k], err));
		WL_TRY(wl_buf_printf(&e->h->b, err, "%s (%.3f)</li>\n",
			right ? " \xe2\x9c\x93</b>" : "", (double)e->score[k]));
	}
	return wl_html_raw(e->h, "</ol></div>\n", err);
}

/* A query and how well it did; equal ranks stand in an order that favours no place in the file. */
struct query {
	int64_t rank, index;
	uint64_t tie;
};

static int by_rank(const void *a, const void *b)
{
	const struct query *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return (x->tie > y->tie) - (x->tie < y->tie);
}

/* The queries that have a right answer, best first; their number, or -1. */
static int64_t order_queries(const int64_t *rank, int64_t n, struct query **out, struct wl_err *err)
{
	struct query *q = calloc((size_t)n + 1, sizeof *q);
	int64_t have = 0;

	if (!q)
		return wl_err_nomem(err, "queries", (size_t)n * sizeof *q);
	for (int64_t i = 0; i < n; i++)
		if (rank[i])
			q[have++] = (struct query){rank[i], i, wl_mix64((uint64_t)i)};
	if (have)
		qsort(q, (size_t)have, sizeof *q, by_rank);
	*out = q;
	return have;
}

/* Best, median and worst queries of a direction, a third of o->examples each. */
static int direction(struct examples *e, const char *heading, const int64_t *rank, int64_t n,
	int (*show)(struct examples *, int64_t, struct wl_err *), struct wl_err *err)
{
	static const char *const names[] = {"best", "median", "worst"};
	struct query *q = NULL;
	int64_t have = order_queries(rank, n, &q, err), shown = 0;
	int ret = -1;

	if (have < 0)
		return -1;
	WL_TRY_OUT(wl_html_heading(e->h, 2, heading, err));
	for (int64_t part = 0; part < 3; part++) {
		int64_t take = (e->o->examples + 2 - part) / 3;
		int64_t at = part == 0 ? 0 : part == 1 ? (have - take) / 2 : have - take;

		for (at = at < shown ? shown : at; take > 0 && at < have; take--, at++) {
			char text[120];

			snprintf(text, sizeof text, "%s: right answer at rank %lld", names[part],
				(long long)q[at].rank);
			WL_TRY_OUT(wl_html_heading(e->h, 3, text, err));
			WL_TRY_OUT(show(e, q[at].index, err));
			shown = at + 1;
		}
	}
	ret = 0;
out:
	free(q);
	return ret;
}

static int both_directions(struct examples *e, struct wl_err *err)
{
	WL_TRY(direction(
		e, "Pictures found by a text", e->run->text_rank, e->v->n_texts, text_query, err));
	return direction(e, "Texts found by a picture", e->run->image_rank, e->v->n_images,
		image_query, err);
}

int wl_report_examples(struct wl_html *h, const struct wl_report_opts *o,
	const struct wl_report_run *run, struct wl_err *err)
{
	const struct wl_vectors *v = &run->v;
	struct examples e = {.h = h, .o = o, .v = v, .run = run};
	int ret = -1;

	e.set = wl_shardset_open(o->shards, o->split, err);
	e.sample = calloc((size_t)v->n_images + 1, sizeof *e.sample);
	e.caption = calloc((size_t)v->n_texts + 1, sizeof *e.caption);
	e.image = calloc((size_t)v->n_texts + 1, sizeof *e.image);
	e.index = calloc((size_t)o->top + 1, sizeof *e.index);
	e.score = calloc((size_t)o->top + 1, sizeof *e.score);
	if (!e.set)
		goto out;
	if (!e.sample || !e.caption || !e.image || !e.index || !e.score) {
		wl_err_nomem(err, "the examples", (size_t)(v->n_images + 2 * v->n_texts) * 8);
		goto out;
	}
	WL_TRY_OUT(find_samples(&e, err));
	WL_TRY_OUT(number_captions(&e, err));
	ret = both_directions(&e, err);
out:
	wl_shardset_close(e.set);
	free(e.sample);
	free(e.caption);
	free(e.image);
	free(e.index);
	free(e.score);
	return ret;
}
