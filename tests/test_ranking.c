/* Graded rankings: FACTS 8.5's toy list, pytrec_eval's values (tests/golden/trec.py), Fleiss' own
 * example, the file forms, and what bad files get. */
#include "eval/metrics/ranking.h"
#include "eval/rankfile.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;
static const size_t cut[3] = {5, 10, 20};

static void close_to(double got, double want, double tolerance, const char *what)
{
	if (!(fabs(got - want) <= tolerance))
		fail_msg("%s: got %.12g, expected %.12g", what, got, want);
}

static int descending(const void *a, const void *b)
{
	return *(const int32_t *)b - *(const int32_t *)a;
}

static void toy_list(void **state)
{
	static const int32_t grade[30] = {6, 0, 3, 2, 5, 1, 4, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 1, 2, 0, 0, 6, 0, 0, 0, 0, 2};
	static const double exponential[3] = {0.626170, 0.655130, 0.653759};
	static const double linear[3] = {0.678734, 0.697505, 0.687103};
	int32_t ideal[30];

	(void)state;
	memcpy(ideal, grade, sizeof ideal);
	qsort(ideal, 30, sizeof *ideal, descending);
	for (int k = 0; k < 3; k++) {
		close_to(wl_ndcg(grade, 30, ideal, 30, cut[k], WL_GAIN_EXPONENTIAL), exponential[k],
			6e-7, "NDCG, exponential");
		close_to(wl_ndcg(grade, 30, ideal, 30, cut[k], WL_GAIN_LINEAR), linear[k], 6e-7,
			"NDCG, linear");
	}
	close_to(wl_average_precision(grade, 30, 2, 6), 0.596349, 6e-7, "AP");
	assert_true(wl_ndcg(grade + 10, 10, ideal + 20, 10, 5, WL_GAIN_LINEAR) == 0);
	assert_true(wl_average_precision(grade, 30, 100, 0) == 0);
}

static void as_pytrec_eval(void **state)
{
	json_t *want = wl_json_load("tests/golden/trec/expected.json", &err);
	struct wl_rankings r;

	(void)state;
	assert_non_null(want);
	OK(wl_rankings_load_trec(
		&r, "tests/golden/trec/qrels", "tests/golden/trec/run", false, &err));
	assert_int_equal(r.n, json_object_size(want));
	for (size_t i = 0; i < r.n; i++) {
		const struct wl_ranked *q = &r.v[i];
		const json_t *w = json_object_get(want, q->query),
			     *cuts = json_object_get(w, "ndcg_cut");
		size_t relevant = 0;

		for (size_t k = 0; k < q->n_ideal; k++)
			relevant += q->ideal[k] > 0;
		close_to(wl_ndcg(q->grade, q->n, q->ideal, q->n_ideal, 0, WL_GAIN_LINEAR),
			json_number_value(json_object_get(w, "ndcg")), 1e-12, q->query);
		for (size_t k = 0; k < 3; k++)
			close_to(wl_ndcg(q->grade, q->n, q->ideal, q->n_ideal, cut[k],
					 WL_GAIN_LINEAR),
				json_number_value(json_array_get(cuts, k)), 1e-12, q->query);
		close_to(wl_average_precision(q->grade, q->n, 0, relevant),
			json_number_value(json_object_get(w, "map")), 1e-12, q->query);
	}
	wl_rankings_release(&r);
	json_decref(want);
}

/* Fleiss 1971, the example of many textbooks: 10 subjects, 14 raters, 5 categories. */
static void fleiss(void **state)
{
	static const int table[10][5] = {{0, 0, 0, 0, 14}, {0, 2, 6, 4, 2}, {0, 0, 3, 5, 6},
		{0, 3, 9, 2, 0}, {2, 2, 8, 1, 1}, {7, 7, 0, 0, 0}, {3, 2, 6, 3, 0}, {2, 5, 3, 2, 2},
		{6, 5, 2, 1, 0}, {0, 2, 2, 3, 7}};
	static const int32_t same[4] = {1, 1, 1, 1};
	int32_t grade[10 * 14];
	struct wl_agreement a;
	size_t n = 0;

	(void)state;
	for (int i = 0; i < 10; i++)
		for (int c = 0; c < 5; c++)
			for (int k = 0; k < table[i][c]; k++)
				grade[n++] = c;
	assert_int_equal(n, 140);
	OK(wl_fleiss(grade, 10, 14, &a, &err));
	close_to(a.kappa, 0.209931, 1e-6, "kappa");
	close_to(a.observed, 0.378022, 1e-6, "agreement");
	OK(wl_fleiss(same, 2, 2, &a, &err));
	assert_true(a.kappa == 1);
	FAILS(WL_EDATA, "two raters", wl_fleiss(same, 4, 1, &a, &err));
}

static void lists(void **state)
{
	static const char *const forms[] = {
		"query,rank,item,anna,bo,chen\nq1,2,x,0,1,0\n\"q,2\",1,z,2,2,1\nq1,1,y,2,2,2\n",
		"anna\tbo\tquery\tchen\n2\t2\tq1\t2\r\n0\t1\tq1\t0\n2\t2\t\"q,2\"\t1\n",
		"{\"query\":\"q1\",\"grades\":[[2,2,2],[0,1,0]]}\n\n{\"query\":\"q,2\",\"grades\":["
		"[2,2,1]]}",
	};
	struct tmp_dir dir = tmp_make();
	char path[512], *out;

	(void)state;
	tmp_path(&dir, "lists", path);
	for (size_t i = 0; i < 3; i++) {
		struct wl_rankings r;

		tmp_write(path, forms[i]);
		OK(wl_rankings_load(&r, path, &err));
		assert_true(r.n == 2 && r.raters == 3 && r.items == 3);
		assert_string_equal(r.v[0].query, "q1");
		assert_string_equal(r.v[1].query, "q,2");
		assert_true(r.v[0].n == 2 && r.v[0].grade[0] == 6 && r.v[0].grade[1] == 1);
		assert_true(r.v[1].n == 1 && r.v[1].grade[0] == 5);
		wl_rankings_release(&r);
	}
	assert_int_equal(
		tmp_run(&out, "%s/wenlan-eval ranking --lists %s --json", tmp_bin(), path), 0);
	assert_non_null(strstr(out, "\"fleiss_kappa\""));
	assert_non_null(strstr(out, "\"map\": 1.0"));
	free(out);
	tmp_remove(&dir);
}

static void bad_lists(void **state)
{
	static const char *const bad[][2] = {
		{"", "no rankings"},
		{"a,b\n", "must name the columns"},
		{"query,query,a\nx,y,1\n", "must name the columns"},
		{"query,a\nx\n", "line 2: 1 columns where 2"},
		{"query,a\nx,1.5\n", "line 2: '1.5' is not a whole number"},
		{"query,a\nx,-1\n", "line 2: '-1'"},
		{"query,a,b\nx,400,101\n", "line 2: the grades' sum is 501"},
		{"query,a\nx,nan\n", "line 2: 'nan'"},
		{"query,rank,a\nx,1,1\nx,1,2\n", "the rank 1 twice"},
		{"{\"query\":\"a\",\"grades\":[]}", "line 1"},
		{"{\"query\":\"a\",\"grades\":[1]}\n{\"query\":\"a\",\"grades\":[1]}",
			"line 2: the query a comes"},
		{"{\"query\":\"a\",\"grades\":[1]}\n{\"query\":\"b\",\"grades\":[[1,2]]}",
			"2 annotators where 1"},
		{"{\"query\":\"a\",\"grades\":[1.5]}", "not a whole number"},
		{"{\"query\":\"a\"", "line 1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char *text = strdup(bad[i][0]);
		struct wl_rankings r;

		assert_non_null(text);
		FAILS(WL_EDATA, bad[i][1], wl_rankings_parse(&r, text, "lists", &err));
		free(text);
	}
}

static void bad_trec(void **state)
{
	static const char *const bad[][3] = {
		{"", "q Q0 d 1 0.5 t", "qrels is empty"},
		{"q 0 d", "q Q0 d 1 0.5 t", "qrels, line 1"},
		{"q 0 d x", "q Q0 d 1 0.5 t", "not a whole number"},
		{"q 0 d 1", "q Q0 d 1 nan t", "not a finite number"},
		{"q 0 d 1", "q Q0 d 1 1e999 t", "not a finite number"},
		{"q 0 d 1", "\nq Q0 d 1", "run, line 2"},
		{"q 0 d 1", "q Q0 d 1 1 t\nq Q0 d 2 3 t", "the document d twice"},
		{"q 0 d 1\nq 0 d 1", "q Q0 d 1 1 t", "the document d twice"},
		{"q 0 d 1\nr 0 d 1", "q Q0 d 1 1 t\ns Q0 d 1 1 t\nu Q0 d 1 1 t",
			"2 queries are not judged (s, u) and 1 have no results (r)"},
	};
	struct wl_rankings r;
	char q[] = "q 0 d 1\nr 0 d 1", run[] = "q Q0 d 1 1", none[] = "z Q0 d 1 1",
	     q2[] = "q 0 d 1";

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char *a = strdup(bad[i][0]), *b = strdup(bad[i][1]);

		assert_true(a && b);
		FAILS(WL_EDATA, bad[i][2],
			wl_rankings_parse_trec(&r, a, b, "qrels", "run", false, &err));
		free(a);
		free(b);
	}
	OK(wl_rankings_parse_trec(&r, q, run, "qrels", "run", true, &err));
	assert_int_equal(r.n, 1);
	wl_rankings_release(&r);
	FAILS(WL_EDATA, "no query in common",
		wl_rankings_parse_trec(&r, q2, none, "qrels", "run", true, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(toy_list),
		cmocka_unit_test(as_pytrec_eval),
		cmocka_unit_test(fleiss),
		cmocka_unit_test(lists),
		cmocka_unit_test(bad_lists),
		cmocka_unit_test(bad_trec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
