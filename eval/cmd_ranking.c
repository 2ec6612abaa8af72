/* wenlan-eval ranking: NDCG and MAP of graded results. */
#include "eval/commands.h"
#include "eval/metrics/ranking.h"
#include "eval/rankfile.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CUTOFFS = 3, SCORES = 2 * CUTOFFS + 3 };

struct args {
	const char *lists, *qrels, *run, *out;
	int64_t above;
	bool allow_missing;
};

/* In the order of cells: exponential at 5, 10, 20, whole; linear likewise; average precision. */
static const size_t cutoffs[CUTOFFS + 1] = {5, 10, 20, 0};
static const char *const names[SCORES] = {"ndcg@5", "ndcg@10", "ndcg@20", "ndcg", "linear@5",
	"linear@10", "linear@20", "linear", "ap"};

static void score(const struct wl_ranked *q, int32_t above, double v[SCORES])
{
	size_t relevant = 0;

	for (size_t i = 0; i < q->n_ideal; i++)
		relevant += q->ideal[i] > above;
	for (int k = 0; k <= CUTOFFS; k++) {
		v[k] = wl_ndcg(
			q->grade, q->n, q->ideal, q->n_ideal, cutoffs[k], WL_GAIN_EXPONENTIAL);
		v[CUTOFFS + 1 + k] =
			wl_ndcg(q->grade, q->n, q->ideal, q->n_ideal, cutoffs[k], WL_GAIN_LINEAR);
	}
	v[SCORES - 1] = wl_average_precision(q->grade, q->n, above, relevant);
}

static json_t *gains(const double *v)
{
	return json_pack("{s:f,s:f,s:f,s:f}", names[0], v[0], names[1], v[1], names[2], v[2],
		names[3], v[3]);
}

static json_t *per_query(const struct wl_rankings *r, const double *v)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < r->n; i++) {
		const double *x = v + i * SCORES;
		json_t *o = json_pack("{s:s,s:f,s:o,s:o}", "query", r->v[i].query, "ap",
			x[SCORES - 1], "exponential", gains(x), "linear", gains(x + CUTOFFS + 1));

		if (!o || json_array_append_new(list, o)) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *result(const struct wl_rankings *r, const struct args *a, const double *mean,
	const struct wl_agreement *g)
{
	json_t *o = json_pack("{s:I,s:f,s:I,s:o,s:o}", "queries", (json_int_t)r->n, "map",
		mean[SCORES - 1], "relevant_above", (json_int_t)a->above, "exponential",
		gains(mean), "linear", gains(mean + CUTOFFS + 1));

	if (o && g->raters > 1)
		json_object_set_new(o, "agreement",
			json_pack("{s:f,s:f,s:f,s:I,s:I}", "fleiss_kappa", g->kappa, "observed",
				g->observed, "expected", g->expected, "annotators",
				(json_int_t)g->raters, "items", (json_int_t)g->items));
	return o;
}

static void print_table(const struct wl_rankings *r, const struct args *a, const double *mean,
	const struct wl_agreement *g)
{
	printf("%zu queries\n\n%-22s %8s %8s %8s %8s\n", r->n, "", "NDCG@5", "NDCG@10", "NDCG@20",
		"NDCG");
	printf("%-22s %8.4f %8.4f %8.4f %8.4f\n", "gain 2^grade - 1", mean[0], mean[1], mean[2],
		mean[3]);
	printf("%-22s %8.4f %8.4f %8.4f %8.4f\n", "gain grade", mean[4], mean[5], mean[6], mean[7]);
	printf("\nMAP %.4f (relevant: grade above %lld)\n", mean[8], (long long)a->above);
	if (g->raters > 1)
		printf("\n%zu annotators, %zu items: Fleiss' kappa %.4f (agreement %.4f, by chance"
		       " %.4f)\n",
			g->raters, g->items, g->kappa, g->observed, g->expected);
}

static int show(const struct wl_opts *o, const struct args *a, const struct wl_rankings *r,
	const double *v, const double *mean, struct wl_err *err)
{
	struct wl_agreement g = {0};
	json_t *json;
	int ret = 0;

	if (r->raters > 1)
		WL_TRY(wl_fleiss(r->grades, r->items, r->raters, &g, err));
	json = result(r, a, mean, &g);
	if (!json)
		return wl_err_nomem(err, "the result", 0);
	if (o->common.json) {
		json_dumpf(json, stdout, JSON_INDENT(1));
		putchar('\n');
	} else {
		print_table(r, a, mean, &g);
	}
	if (a->out && !json_object_set_new(json, "per_query", per_query(r, v)))
		ret = wl_json_save(a->out, json, err);
	json_decref(json);
	return ret;
}

static int measure(const struct wl_opts *o, const struct args *a, const struct wl_rankings *r,
	struct wl_err *err)
{
	double mean[SCORES] = {0}, *v = malloc(r->n * SCORES * sizeof *v);
	int ret;

	if (!v)
		return wl_err_nomem(err, "scores", r->n * SCORES * sizeof *v);
	for (size_t i = 0; i < r->n; i++) {
		score(&r->v[i], (int32_t)a->above, v + i * SCORES);
		for (int k = 0; k < SCORES; k++)
			mean[k] += v[i * SCORES + (size_t)k];
	}
	for (int k = 0; k < SCORES; k++)
		mean[k] /= (double)r->n;
	ret = show(o, a, r, v, mean, err);
	free(v);
	return ret;
}

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct args *a = user;
	struct wl_rankings r;
	int ret;

	if (!a->lists == !(a->qrels && a->run))
		return wl_err_set(
			err, WL_EUSAGE, "either --lists FILE, or --qrels FILE and --run FILE");
	if (a->above < -1)
		a->above = a->lists ? 2 : 0;
	if (a->above > 1000000)
		return wl_err_set(err, WL_EUSAGE, "--relevant-above %lld is above every grade",
			(long long)a->above);
	WL_TRY(a->lists ? wl_rankings_load(&r, a->lists, err)
			: wl_rankings_load_trec(&r, a->qrels, a->run, a->allow_missing, err));
	ret = measure(o, a, &r, err);
	wl_rankings_release(&r);
	return ret;
}

static const struct wl_path_rule paths[] = {
	{"lists", WL_PATH_FILE, "graded lists are CSV (query,rank,GRADER...) or JSON lines"},
	{"qrels", WL_PATH_FILE, "it is TREC's, with lines 'query 0 document grade'"},
	{"run", WL_PATH_FILE, "it is TREC's, with lines 'query Q0 document rank score tag'"},
	{"out", WL_PATH_OUTPUT, NULL},
	{0},
};

int wl_cmd_ranking(int argc, char **argv)
{
	struct args a = {.above = -2};
	const struct wl_opt table[] = {
		{"lists", WL_OPT_STR, &a.lists, "FILE", "graded lists: CSV or JSON lines", false},
		{"qrels", WL_OPT_STR, &a.qrels, "FILE", "TREC: query 0 document grade", false},
		{"run", WL_OPT_STR, &a.run, "FILE", "TREC: query Q0 document rank score tag",
			false},
		{"relevant-above", WL_OPT_INT, &a.above, "G",
			"grades above G are relevant for MAP; 2 for lists (the paper's), 0 for "
			"TREC",
			false},
		{"allow-missing", WL_OPT_BOOL, &a.allow_missing, NULL,
			"leave out queries that one file lacks", false},
		{"out", WL_OPT_STR, &a.out, "FILE.json",
			"keep the scores there, query by query too", false},
		{0},
	};
	struct wl_opts o = {
		.program = "wenlan-eval",
		.usage = "ranking (--lists FILE | --qrels FILE --run FILE)",
		.about = "NDCG@5/10/20 with both gains and MAP. Lists: annotators are summed, the "
			 "ideal order\n"
			 "is the same list sorted (the paper's user study). TREC files: as "
			 "trec_eval.",
		.example = "wenlan-eval ranking --lists study.csv    # query,rank,anna,bo,chen",
		.table = table,
		.paths = paths,
	};

	return wl_main(&o, argc, argv, run, &a);
}
