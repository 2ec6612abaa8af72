/*
 * R@1/5/10 in both directions against the best matrix product at hand (oneDNN's sgemm), same
 * threads, alternating runs in one process.  Prints the ratio of product time to ours: 1 means
 * that counting both directions costs no more than the product alone.
 *
 *   bench_retrieval [IMAGES [TEXTS [DIM]]]      default 5000 25000 2560, the paper's width
 */
#include "eval/metrics/retrieval.h"
#include "ops/clock.h"
#include "ops/hash.h"

#include <dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

/* With one thread the time of the processor: what else runs here then disturbs less. */
static double now(void)
{
	return omp_get_max_threads() == 1 ? wl_cpu_s() : wl_now_s();
}

static float *random_rows(int64_t n, int64_t dim, uint64_t stream)
{
	float *v = malloc((size_t)(n * dim) * sizeof *v);

	if (!v) {
		perror("bench_retrieval");
		exit(1);
	}
	for (int64_t i = 0; i < n * dim; i++)
		v[i] = (float)(wl_rand_unit(1, stream, (uint64_t)i) - 0.5);
	wl_retrieval_normalize(v, n, dim);
	return v;
}

/* All scores in panels of 256 rows, which is how one would use it. */
static double time_sgemm(const struct wl_retrieval_in *in, float *panel)
{
	double start = now();

	for (int64_t i = 0; i < in->n_images; i += 256) {
		int64_t m = in->n_images - i < 256 ? in->n_images - i : 256;

		dnnl_sgemm('N', 'T', m, in->n_texts, in->dim, 1.0f, in->images + i * in->dim,
			in->dim, in->texts, in->dim, 0.0f, panel, in->n_texts);
	}
	return now() - start;
}

int main(int argc, char **argv)
{
	int64_t n = argc > 1 ? atoll(argv[1]) : 5000, m = argc > 2 ? atoll(argv[2]) : 25000;
	int64_t dim = argc > 3 ? atoll(argv[3]) : 2560;
	struct wl_retrieval_in in = {.images = random_rows(n, dim, 1),
		.texts = random_rows(m, dim, 2),
		.n_images = n,
		.n_texts = m,
		.dim = dim,
		.n_pairs = m};
	int64_t *image = malloc((size_t)m * sizeof *image),
		*text = malloc((size_t)m * sizeof *text);
	float *panel = malloc((size_t)(256 * m) * sizeof *panel);
	double best_ours = 1e30, best_gemm = 1e30,
	       flops = 2.0 * (double)n * (double)m * (double)dim;
	struct wl_err err = WL_ERR_INIT;
	struct wl_retrieval r;

	if (!image || !text || !panel)
		return 1;
	for (int64_t j = 0; j < m; j++) {
		text[j] = j;
		image[j] = j % n;
	}
	in.pair_image = image;
	in.pair_text = text;
	for (int round = 0; round < 3; round++) {
		double start, t = time_sgemm(&in, panel);

		best_gemm = t < best_gemm ? t : best_gemm;
		start = now();
		if (wl_retrieval_measure(&in, &r, &err) < 0) {
			fprintf(stderr, "%s\n", err.msg);
			return 1;
		}
		t = now() - start;
		best_ours = t < best_ours ? t : best_ours;
	}
	printf("retrieval %lld x %lld x %lld, %d threads: %.2f s (%.0f GFLOP/s), oneDNN sgemm alone"
	       " %.2f s (%.0f GFLOP/s), ratio %.2f (bar 0.95)\n",
		(long long)n, (long long)m, (long long)dim, omp_get_max_threads(), best_ours,
		flops / best_ours * 1e-9, best_gemm, flops / best_gemm * 1e-9,
		best_gemm / best_ours);
	free((void *)(uintptr_t)in.images);
	free((void *)(uintptr_t)in.texts);
	free(image);
	free(text);
	free(panel);
	return 0;
}
