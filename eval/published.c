/* Rows from the paper (arXiv 2103.06561) and from the later publications named in FACTS 19: see
 * published.h. */
#include "eval/published.h"
#include "eval/protocol.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define NO NAN

struct published_row {
	const char *name;
	double value[WL_PUBLISHED_COLUMNS];
};

struct table {
	const char *key, *title;
	const char *columns[WL_PUBLISHED_COLUMNS];
	const char *note; /* the protocol; NULL: that of protocol.h with this key */
	bool paper;	  /* always shown */
	bool mean;	  /* the last column is the mean of the others where it is not given */
	const struct published_row *rows;
};

static const struct published_row aic_icc[] = {
	{"CLIP (translated to English)", {13.4, 27.3, 35.1, 7.8, 18.5, 25.0, NO}},
	{"UNITER", {14.8, 29.8, 37.9, 9.8, 23.3, 31.4, NO}},
	{"BriVL (the paper)", {20.3, 37.0, 45.6, 14.4, 30.4, 39.1, NO}},
	{"WenLan 2.0, fine-tuned", {45.6, 68.0, 76.3, 34.1, 58.9, 69.1, 58.7}},
	{"Wukong ViT-L, fine-tuned", {61.6, 80.5, 86.1, 48.6, 72.5, 80.2, 71.6}},
	{NULL, {0}},
};
static const struct published_row caption[] = {
	{"champion of 2017 (test B)", {62.8, 43.0, NO, 210.4}},
	{"UNITER", {62.8, 38.7, 69.2, 199.7}},
	{"BriVL (the paper)", {66.1, 41.1, 71.9, 220.7}},
	{"ERNIE-ViLG 10B", {68.2, 41.7, 72.5, 231.4}},
	{NULL, {0}},
};
static const struct published_row wenlan[] = {
	{"CLIP (translated to English)", {7.3, 15.0, 19.0, 7.8, 15.9, 19.9, NO}},
	{"UNITER", {5.3, 16.9, 24.6, 5.7, 16.7, 24.3, NO}},
	{"BriVL (the paper)", {36.1, 55.5, 62.2, 36.0, 55.4, 62.1, NO}},
	{NULL, {0}},
};
static const struct published_row ranking[] = {
	{"CLIP (translated to English)", {32.9, 38.8, 53.0, 30.3, 28.0, 32.3, 43.7, 16.7}},
	{"BriVL (the paper)", {37.5, 42.8, 55.5, 38.3, 46.9, 51.5, 61.6, 47.2}},
	{"BriVL + UNITER", {37.0, 43.5, 56.3, 37.6, 49.9, 55.0, 65.1, 52.5}},
	{NULL, {0}},
};
static const struct published_row flickr30k_cn[] = {
	{"CN-CLIP RN50, zero-shot", {60.0, 85.9, 92.0, 48.8, 76.0, 84.6, NO}},
	{"CN-CLIP ViT-B/16, zero-shot", {74.6, 93.5, 97.1, 62.7, 86.9, 92.8, NO}},
	{"CN-CLIP ViT-L/14, zero-shot", {80.2, 96.6, 98.2, 68.0, 89.7, 94.4, NO}},
	{"CN-CLIP ViT-H/14, zero-shot", {81.6, 97.5, 98.8, 71.2, 91.4, 95.5, NO}},
	{"Wukong ViT-L, zero-shot", {76.1, 94.8, 97.5, 51.7, 78.9, 86.3, NO}},
	{"R2D2 ViT-L, zero-shot", {77.6, 96.7, 98.9, 60.9, 86.8, 92.7, NO}},
	{"AltCLIP ViT-L, zero-shot", {84.8, 97.4, 98.8, 69.8, 89.9, 94.7, NO}},
	{"CN-CLIP RN50, fine-tuned", {84.2, 96.7, 98.0, 66.7, 89.4, 94.1, NO}},
	{"CN-CLIP ViT-H/14, fine-tuned", {95.3, 99.7, 100.0, 83.8, 96.9, 98.6, NO}},
	{"Wukong ViT-L, fine-tuned", {92.7, 99.1, 99.6, 77.4, 94.5, 97.0, NO}},
	{"R2D2 ViT-L, fine-tuned", {95.6, 99.8, 100.0, 84.4, 96.7, 98.4, NO}},
	{NULL, {0}},
};
static const struct published_row coco_cn[] = {
	{"CN-CLIP RN50, zero-shot", {51.6, 81.2, 90.5, 48.1, 81.3, 90.5, NO}},
	{"CN-CLIP ViT-B/16, zero-shot", {57.0, 84.1, 93.6, 62.2, 86.6, 94.9, NO}},
	{"CN-CLIP ViT-L/14, zero-shot", {60.4, 84.2, 92.9, 64.0, 89.2, 94.4, NO}},
	{"CN-CLIP ViT-H/14, zero-shot", {63.0, 86.6, 92.9, 69.2, 89.9, 96.1, NO}},
	{"Wukong ViT-L, zero-shot", {55.2, 81.0, 90.6, 53.4, 80.2, 90.1, NO}},
	{"R2D2 ViT-L, zero-shot", {63.3, 89.3, 95.7, 56.4, 85.0, 93.1, NO}},
	{"CN-CLIP RN50, fine-tuned", {68.4, 93.3, 97.8, 66.8, 91.1, 97.0, NO}},
	{"CN-CLIP ViT-H/14, fine-tuned", {83.5, 97.3, 99.2, 81.5, 96.9, 99.1, NO}},
	{"Wukong ViT-L, fine-tuned", {73.3, 94.0, 98.0, 74.0, 94.4, 98.1, NO}},
	{"R2D2 ViT-L, fine-tuned", {79.3, 97.1, 98.7, 79.1, 96.5, 98.9, NO}},
	{NULL, {0}},
};
static const struct published_row muge[] = {
	{"CN-CLIP RN50, zero-shot", {42.6, 68.6, 77.9, 63.0}},
	{"CN-CLIP ViT-B/16, zero-shot", {52.1, 76.7, 84.4, 71.1}},
	{"CN-CLIP ViT-L/14, zero-shot", {56.3, 79.8, 86.2, 74.1}},
	{"CN-CLIP ViT-H/14, zero-shot", {63.0, 84.1, 89.2, 78.8}},
	{"Wukong ViT-L, zero-shot", {42.7, 69.0, 78.0, 63.2}},
	{"R2D2 ViT-L, zero-shot", {49.5, 75.7, 83.2, 69.5}},
	{"CN-CLIP RN50, fine-tuned", {48.6, 75.1, 84.0, 69.2}},
	{"CN-CLIP ViT-H/14, fine-tuned", {68.9, 88.7, 93.1, 83.6}},
	{"Wukong ViT-L, fine-tuned", {52.7, 77.9, 85.6, 72.1}},
	{"R2D2 ViT-L, fine-tuned", {60.1, 82.9, 89.4, 77.5}},
	{NULL, {0}},
};

#define BOTH_WAYS                                                                                  \
	{                                                                                          \
		"i2t R@1", "R@5", "R@10", "t2i R@1", "R@5", "R@10", "MR", NULL                     \
	}

static const struct table tables[] = {
	{"aic-icc", "Table 1: AIC-ICC retrieval, zero-shot", BOTH_WAYS, NULL, true, true, aic_icc},
	{"caption", "Table 2: AIC-ICC captions", {"BLEU", "METEOR", "ROUGE-L", "CIDEr"},
		"AI Challenger 2017's evaluator: jieba words, BLEU-4, METEOR in English mode (by"
		" character), CIDEr-D times 100; the 30,000 images of the validation split",
		true, false, caption},
	{"wenlan", "Table 3: WenLan test, 11,000 pairs", BOTH_WAYS, NULL, true, true, wenlan},
	{"ranking", "Table 4: user study",
		{"i2t NDCG@5", "@10", "@20", "MAP", "t2i NDCG@5", "@10", "@20", "MAP"},
		"first 30 results graded by three annotators from 0 to 2, summed; gain 2^grade - 1 "
		"and the"
		" ideal of the same 30 (the paper gives neither); relevant: a sum above 2",
		true, false, ranking},
	{"flickr30k-cn", "Flickr30K-CN test", BOTH_WAYS, NULL, false, true, flickr30k_cn},
	{"coco-cn", "COCO-CN test", BOTH_WAYS, NULL, false, true, coco_cn},
	{"muge", "MUGE validation, text to image", {"R@1", "R@5", "R@10", "MR"}, NULL, false, false,
		muge},
};

static size_t columns_of(const struct table *t)
{
	size_t n = 0;

	while (n < WL_PUBLISHED_COLUMNS && t->columns[n])
		n++;
	return n;
}

static const struct table *find_table(const char *key)
{
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
		if (!strcmp(tables[i].key, key))
			return &tables[i];
	return NULL;
}

/* The mean of the others where it was not given. */
static double last_or_mean(const struct table *t, const double *v, size_t n, size_t k)
{
	double sum = 0;

	if (!t->mean || k + 1 < n || !isnan(v[k]))
		return v[k];
	for (size_t i = 0; i + 1 < n; i++)
		sum += v[i];
	return sum / (double)(n - 1);
}

static int put_row(struct wl_cells *c, const struct table *t, const char *name, const double *v,
	json_t *list, bool ours, struct wl_err *err)
{
	size_t n = columns_of(t);
	json_t *values = json_array();

	WL_TRY(wl_cell(c, err, "%s", name));
	for (size_t k = 0; k < n; k++) {
		double x = last_or_mean(t, v, n, k);

		if (isnan(x))
			WL_TRY(wl_cell(c, err, "\xe2\x80\x93"));
		else
			WL_TRY(wl_cell(c, err, "%.1f", x));
		json_array_append_new(values, isnan(x) ? json_null() : json_real(x));
	}
	return json_array_append_new(list,
		       json_pack("{s:s,s:b,s:o}", "name", name, "ours", ours, "values", values))
		       ? wl_err_nomem(err, "a table", 0)
		       : 0;
}

static int fill_table(struct wl_cells *c, const struct table *t, const struct wl_own_row *own,
	size_t n_own, json_t *rows, struct wl_err *err)
{
	size_t mine = 0;

	WL_TRY(wl_cell(c, err, "system"));
	for (size_t k = 0; k < columns_of(t); k++)
		WL_TRY(wl_cell(c, err, "%s", t->columns[k]));
	for (const struct published_row *r = t->rows; r->name; r++)
		WL_TRY(put_row(c, t, r->name, r->value, rows, false, err));
	for (size_t i = 0; i < n_own; i++)
		if (!strcmp(own[i].table, t->key)) {
			char name[200];

			snprintf(name, sizeof name, "this project: %.160s", own[i].name);
			WL_TRY(put_row(c, t, name, own[i].value, rows, true, err));
			mine++;
		}
	if (mine)
		return 0;
	WL_TRY(wl_cell(c, err, "this project"));
	for (size_t k = 0; k < columns_of(t); k++)
		WL_TRY(wl_cell(c, err, k ? "" : "not measured"));
	return 0;
}

static int put_table(struct wl_report_out *r, const struct table *t, const struct wl_own_row *own,
	size_t n_own, json_t *all, struct wl_err *err)
{
	const struct wl_protocol *p = t->note ? NULL : wl_protocol_find(t->key, err);
	struct wl_cells c = {.cols = columns_of(t) + 1};
	json_t *rows = json_array();
	char note[600];

	if (!rows || fill_table(&c, t, own, n_own, rows, err) < 0) {
		wl_arena_release(&c.arena);
		json_decref(rows);
		return -1;
	}
	snprintf(note, sizeof note, "Protocol: %s. Percent.", t->note ? t->note : p ? p->line : "");
	json_array_append_new(all, json_pack("{s:s,s:s,s:s,s:o}", "key", t->key, "title", t->title,
					   "protocol", note, "rows", rows));
	WL_TRY(wl_report_table(r, &c, t->title, err));
	return wl_report_para(r, note, err);
}

int wl_published_tables(
	struct wl_report_out *r, const struct wl_own_row *own, size_t n_own, struct wl_err *err)
{
	json_t *all = json_array();

	if (!all || json_object_set_new(r->json, "tables", all))
		return wl_err_nomem(err, "the tables", 0);
	WL_TRY(wl_report_heading(r, 2, "Beside published numbers", err));
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		bool wanted = tables[i].paper;

		for (size_t k = 0; k < n_own; k++)
			wanted |= !strcmp(own[k].table, tables[i].key);
		if (wanted)
			WL_TRY(put_table(r, &tables[i], own, n_own, all, err));
	}
	return 0;
}

static double get(const json_t *o, const char *a, const char *b)
{
	const json_t *v = json_object_get(b ? json_object_get(o, a) : o, b ? b : a);

	return json_is_number(v) ? json_number_value(v) : NAN;
}

static bool take_retrieval(const json_t *o, struct wl_own_row *row)
{
	static const char *const keys[] = {"r1", "r5", "r10"};
	const char *name = json_string_value(json_object_get(o, "protocol"));
	const struct table *t = name ? find_table(name) : NULL;
	size_t side = t && t->columns[4] ? 3 : 0;

	if (!t)
		return false;
	row->table = t->key;
	for (size_t k = 0; k < 3; k++) {
		if (side)
			row->value[k] = get(o, "i2t", keys[k]);
		row->value[side + k] = get(o, "t2i", keys[k]);
	}
	row->value[side + 3] = get(o, "mean_recall", NULL);
	return true;
}

static bool take_caption(const json_t *o, struct wl_own_row *row)
{
	static const char *const keys[] = {"Bleu_4", "METEOR", "ROUGE_L", "CIDEr"};
	const char *level = json_string_value(json_object_get(o, "level"));

	if (!level || strcmp(level, "aic"))
		return false;
	row->table = "caption";
	for (size_t k = 0; k < 4; k++)
		row->value[k] = 100 * get(o, keys[k], NULL);
	return true;
}

static bool take_ranking(const json_t *o, const char *path, struct wl_own_row *row)
{
	static const char *const keys[] = {"ndcg@5", "ndcg@10", "ndcg@20"};
	const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
	size_t first = strstr(file, "t2i") ? 4 : 0;

	if (!json_is_object(json_object_get(o, "exponential")) || (!first && !strstr(file, "i2t")))
		return false;
	row->table = "ranking";
	for (size_t k = 0; k < 3; k++)
		row->value[first + k] = 100 * get(o, "exponential", keys[k]);
	row->value[first + 3] = 100 * get(o, "map", NULL);
	return true;
}

int wl_own_row_from_json(const json_t *o, const char *path, struct wl_own_row *row)
{
	for (size_t k = 0; k < WL_PUBLISHED_COLUMNS; k++)
		row->value[k] = NAN;
	return take_retrieval(o, row) || take_caption(o, row) || take_ranking(o, path, row);
}
