/*
 * NDCG@5/10/20, NDCG and MAP of many queries from TREC files, files read and all.
 *
 *   bench_ranking QRELS RUN [PER_QUERY.txt]     (bench_ranking.sh makes the files)
 */
#include "eval/metrics/ranking.h"
#include "eval/rankfile.h"
#include "ops/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { SCORES = 5 };

static void score(const struct wl_ranked *q, double v[SCORES])
{
	static const size_t cut[4] = {5, 10, 20, 0};
	size_t relevant = 0;

	for (size_t i = 0; i < q->n_ideal; i++)
		relevant += q->ideal[i] > 0;
	for (int k = 0; k < 4; k++)
		v[k] = wl_ndcg(q->grade, q->n, q->ideal, q->n_ideal, cut[k], WL_GAIN_LINEAR);
	v[4] = wl_average_precision(q->grade, q->n, 0, relevant);
}

int main(int argc, char **argv)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_rankings r;
	double t0, t1, t2, sum[SCORES] = {0};
	FILE *fp = NULL;

	if (argc < 3) {
		puts("SKIPPED: bench_ranking is run by bench_ranking.sh");
		return 0;
	}
	t0 = wl_cpu_s();
	if (wl_rankings_load_trec(&r, argv[1], argv[2], false, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	t1 = wl_cpu_s();
	for (size_t i = 0; i < r.n; i++) {
		double v[SCORES];

		score(&r.v[i], v);
		for (int k = 0; k < SCORES; k++)
			sum[k] += v[k];
	}
	t2 = wl_cpu_s();
	printf("ours %zu queries: %.3f s to read and order, %.3f s to score\n", r.n, t1 - t0,
		t2 - t1);
	if (argc > 3 && (fp = fopen(argv[3], "w"))) {
		for (size_t i = 0; i < r.n; i++) {
			double v[SCORES];

			score(&r.v[i], v);
			fprintf(fp, "%s %.12f %.12f %.12f %.12f %.12f\n", r.v[i].query, v[0], v[1],
				v[2], v[3], v[4]);
		}
		fclose(fp);
	}
	printf("mean %.12f %.12f %.12f %.12f %.12f\n", sum[0] / (double)r.n, sum[1] / (double)r.n,
		sum[2] / (double)r.n, sum[3] / (double)r.n, sum[4] / (double)r.n);
	wl_rankings_release(&r);
	return 0;
}
