/* See predictions.h. */
#include "eval/predictions.h"
#include "eval/jsonlines.h"
#include "eval/metrics/intern.h"
#include "eval/trouble.h"
#include "ops/grow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOP = 10, KINDS = 4 };

enum { UNKNOWN, TWICE, SHORT, MISSING };

/* Right answers as pairs (text, image), both by number. */
struct reader {
	struct wl_intern texts, images;
	struct answer {
		uint32_t text, image;
	} * answer;
	size_t n, cap;
	size_t *first; /* [queries + 1], once sorted by query */
	const char *path;
	bool i2t, known; /* direction of the predictions */
	uint8_t *seen;	 /* [queries] */
	int64_t hit[3], queries;
	struct wl_trouble trouble[KINDS];
};

/* An id: a number or a string. */
static int id_text(
	const json_t *v, const char *path, size_t line, char out[128], struct wl_err *err)
{
	if (json_is_integer(v))
		snprintf(out, 128, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else if (json_is_string(v) && json_string_length(v) < 120)
		snprintf(out, 128, "%s", json_string_value(v));
	else
		return wl_err_set(err, WL_EDATA,
			"%s, line %zu: an id is neither a number nor a string", path, line);
	return 0;
}

static int64_t take_id(
	struct wl_intern *t, const json_t *v, const char *path, size_t line, struct wl_err *err)
{
	char id[128];

	WL_TRY(id_text(v, path, line, id, err));
	return wl_intern_str(t, id, strlen(id), err);
}

static int answer_line(json_t *o, size_t line, void *user, struct wl_err *err)
{
	struct reader *r = user;
	const json_t *images = json_object_get(o, "image_ids");
	uint32_t before = r->texts.n;
	int64_t text = take_id(&r->texts, json_object_get(o, "text_id"), r->path, line, err);

	if (text < 0)
		return -1;
	if (text != before)
		return wl_err_set(err, WL_EDATA, "%s, line %zu: the text_id %s comes twice",
			r->path, line, r->texts.name[text]);
	if (!json_is_array(images) || !json_array_size(images))
		return wl_err_set(err, WL_EDATA, "%s, line %zu: text %s has no image_ids", r->path,
			line, r->texts.name[text]);
	for (size_t i = 0; i < json_array_size(images); i++) {
		int64_t image = take_id(&r->images, json_array_get(images, i), r->path, line, err);

		if (image < 0)
			return -1;
		WL_TRY(WL_GROW(r->answer, r->n, r->cap, "answers", err));
		r->answer[r->n++] = (struct answer){(uint32_t)text, (uint32_t)image};
	}
	return 0;
}

static int by_text(const void *a, const void *b)
{
	const struct answer *x = a, *y = b;

	return (x->text > y->text) - (x->text < y->text);
}

static int by_image(const void *a, const void *b)
{
	const struct answer *x = a, *y = b;

	return (x->image > y->image) - (x->image < y->image);
}

/* Sorts the answers by the side that asks. */
static int turn(struct reader *r, bool i2t, struct wl_err *err)
{
	size_t n = i2t ? r->images.n : r->texts.n;

	r->i2t = i2t;
	r->known = true;
	r->queries = (int64_t)n;
	r->first = calloc(n + 1, sizeof *r->first);
	r->seen = calloc(n + 1, 1);
	if (!r->first || !r->seen)
		return wl_err_nomem(err, "answers", n * sizeof *r->first);
	qsort(r->answer, r->n, sizeof *r->answer, i2t ? by_image : by_text);
	for (size_t i = 0; i < r->n; i++)
		r->first[(i2t ? r->answer[i].image : r->answer[i].text) + 1]++;
	for (size_t q = 0; q < n; q++)
		r->first[q + 1] += r->first[q];
	return 0;
}

static bool is_right(const struct reader *r, size_t query, uint32_t candidate)
{
	for (size_t i = r->first[query]; i < r->first[query + 1]; i++)
		if ((r->i2t ? r->answer[i].text : r->answer[i].image) == candidate)
			return true;
	return false;
}

/* The rank of the first right one among ten; 0 when there is none, -1 when the list is no good. */
static int rank_list(
	struct reader *r, size_t query, const json_t *list, size_t line, struct wl_err *err)
{
	struct wl_intern *t = r->i2t ? &r->texts : &r->images;
	int64_t id[TOP];
	int rank = 0;

	if (json_array_size(list) < TOP)
		return -1;
	for (int i = 0; i < TOP; i++) {
		/* Candidates that no answer names are numbered on the way: they are in the pool. */
		id[i] = take_id(t, json_array_get(list, (size_t)i), r->path, line, err);
		if (id[i] < 0)
			return -2;
		for (int k = 0; k < i; k++)
			if (id[k] == id[i])
				return -1;
		if (!rank && is_right(r, query, (uint32_t)id[i]))
			rank = i + 1;
	}
	return rank;
}

static int prediction_line(json_t *o, size_t line, void *user, struct wl_err *err)
{
	struct reader *r = user;
	bool i2t = json_object_get(o, "text_ids") != NULL;
	char id[128];
	int64_t query;
	int rank;

	if (!r->known)
		WL_TRY(turn(r, i2t, err));
	if (i2t != r->i2t || !json_is_array(json_object_get(o, i2t ? "text_ids" : "image_ids")))
		return wl_err_set(err, WL_EDATA, "%s, line %zu: every line must have %s and %s",
			r->path, line, r->i2t ? "image_id" : "text_id",
			r->i2t ? "text_ids" : "image_ids");
	WL_TRY(id_text(json_object_get(o, i2t ? "image_id" : "text_id"), r->path, line, id, err));
	query = wl_intern_str(i2t ? &r->images : &r->texts, id, strlen(id), err);
	if (query < 0)
		return -1;
	if (query >= r->queries || r->seen[query]) {
		wl_trouble_note(&r->trouble[query >= r->queries ? UNKNOWN : TWICE], id);
		return 0;
	}
	r->seen[query] = 1;
	rank = rank_list(
		r, (size_t)query, json_object_get(o, i2t ? "text_ids" : "image_ids"), line, err);
	if (rank < -1)
		return -1;
	if (rank < 0)
		wl_trouble_note(&r->trouble[SHORT], id);
	r->hit[0] += rank == 1;
	r->hit[1] += rank >= 1 && rank <= 5;
	r->hit[2] += rank >= 1;
	return 0;
}

static int complain(
	struct reader *r, const char *answers, const char *predictions, struct wl_err *err)
{
	char text[800];

	for (int64_t q = 0; q < r->queries; q++)
		if (!r->seen[q])
			wl_trouble_note(&r->trouble[MISSING],
				(r->i2t ? &r->images : &r->texts)->name[q]);
	return wl_trouble_text(r->trouble, KINDS, text, sizeof text)
		       ? wl_err_set(err, WL_EDATA, "%s does not answer %s: %s", predictions,
				 answers, text)
		       : 0;
}

static int measure(struct reader *r, const char *answers, const char *predictions,
	struct wl_predicted *out, struct wl_err *err)
{
	double n;

	r->path = answers;
	WL_TRY(wl_json_lines_read(answers, answer_line, r, err));
	if (!r->n)
		return wl_err_set(err, WL_EDATA, "%s holds no answers; a line of JSON "
			"for each query is expected", answers);
	r->path = predictions;
	WL_TRY(wl_json_lines_read(predictions, prediction_line, r, err));
	if (!r->known)
		return wl_err_set(err, WL_EDATA, "%s holds no predictions", predictions);
	WL_TRY(complain(r, answers, predictions, err));
	n = (double)r->queries;
	*out = (struct wl_predicted){100 * (double)r->hit[0] / n, 100 * (double)r->hit[1] / n,
		100 * (double)r->hit[2] / n, 0, r->queries, r->i2t};
	out->mean_recall = (out->r1 + out->r5 + out->r10) / 3;
	return 0;
}

int wl_predictions_measure(
	const char *answers, const char *predictions, struct wl_predicted *out, struct wl_err *err)
{
	struct reader r = {
		.trouble = {{.what = "predictions are of unknown queries"},
			{.what = "queries are predicted twice"},
			{.what = "lists are shorter than 10 or name a candidate twice"},
			{.what = "queries have no prediction"}}};
	int ret = measure(&r, answers, predictions, out, err);

	wl_intern_release(&r.texts);
	wl_intern_release(&r.images);
	free(r.answer);
	free(r.first);
	free(r.seen);
	return ret;
}
