/*
 * Pairs of near vectors on one core: all with all, and by hashes, with the recall of the latter
 * against the former on the same vectors.
 *
 *   bench_vectors [N [DIM [MANY]]]   N all with all (default 12000 of 256), MANY by hashes
 *                                    (200000)
 *
 * One vector in ten is near another: a cosine of 0.9 to 1, evenly.  bench_vectors.sh runs PyTorch's
 * product and threshold beside it.
 */
#include "clean/vector_pairs.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/progress.h"
#include "ops/safetensors.h"
#include "tests/bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct wl_err err;

/* Nearly normal: the sum of four uniform numbers of 16 bits. */
static float draw(uint64_t seed, uint64_t i)
{
	uint64_t r = wl_rand64(9, seed, i);

	return (float)((double)(r & 0xffff) + (double)(r >> 16 & 0xffff) +
		       (double)(r >> 32 & 0xffff) + (double)(r >> 48)) - 2 * 65535.0f;
}

static void make_row(int64_t i, int64_t dim, float *out)
{
	double square = 0, other = 0;
	double c = .9 + .1 * wl_rand_unit(4, 4, (uint64_t)i), s = sqrt(1 - c * c);
	bool copy = i % 10 == 9;

	for (int64_t k = 0; k < dim; k++) {
		out[k] = draw((uint64_t)(copy ? i - 9 : i), (uint64_t)k);
		square += (double)out[k] * out[k];
	}
	for (int64_t k = 0; k < dim && copy; k++) {
		double x = draw((uint64_t)i, (uint64_t)k);
		other += x * x;
	}
	for (int64_t k = 0; k < dim; k++)
		out[k] = (float)(copy ? c * out[k] / sqrt(square) +
						s * draw((uint64_t)i, (uint64_t)k) / sqrt(other)
				      : out[k] / sqrt(square));
}

static void make(const char *path, int64_t n, int64_t dim)
{
	struct wl_safetensors_writer *w = wl_safetensors_create(path, &err);
	int64_t shape[2] = {n, dim}, none[2] = {0, dim};
	uint16_t *half = malloc((size_t)dim * sizeof(*half));
	float *row = malloc((size_t)dim * sizeof(*row));
	int h[4];

	must(w && half && row ? 0 : -1, &err);
	h[0] = wl_safetensors_declare(w, "image_embeddings", WL_SAVED_BF16, 2, shape, &err);
	must(h[0], &err);
	h[1] = wl_safetensors_declare(w, "image_ids", WL_SAVED_I64, 1, shape, &err);
	must(h[1], &err);
	h[2] = wl_safetensors_declare(w, "text_embeddings", WL_SAVED_F32, 2, none, &err);
	must(h[2], &err);
	h[3] = wl_safetensors_declare(w, "text_ids", WL_SAVED_I64, 1, none, &err);
	must(h[3], &err);
	must(wl_safetensors_begin(w, &err), &err);
	for (int64_t i = 0; i < n; i++) {
		make_row(i, dim, row);
		for (int64_t k = 0; k < dim; k++)
			half[k] = wl_bf16_from_f32(row[k]);
		must(wl_safetensors_write(w, h[0], half, (size_t)dim * 2, &err), &err);
		must(wl_safetensors_write(w, h[1], &i, sizeof(i), &err), &err);
	}
	must(wl_safetensors_finish(w, &err), &err);
	free(half);
	free(row);
}

static struct wl_values search(const char *path, size_t n, bool exact, double *seconds)
{
	const struct wl_vector_paths sets[WL_VECTORS_SETS] = {{&path, 1}, {NULL, 0}};
	struct wl_values found = {0};
	uint32_t *idx = malloc(n * sizeof(*idx));
	struct wl_vector_search s = {.what = "vectors", .idx = idx, .row = idx, .n = n,
		.cosine = .95, .exact = exact, .dir = "/tmp", .edges = &found};
	struct wl_pool *pool = wl_pool_new(1, 0, &err);
	double from = wl_cpu_s();

	s.v = wl_pair_vectors_open(sets, WL_VECTORS_IMAGE, &err);
	must(s.v && pool && idx ? 0 : -1, &err);
	for (uint32_t i = 0; i < n; i++)
		idx[i] = i;
	must(wl_vector_search_run(&s, NULL, pool, 256 << 20, &err), &err);
	must(wl_values_gather(&found, NULL, &err), &err);
	*seconds = wl_cpu_s() - from;
	wl_pool_free(pool);
	wl_pair_vectors_close((struct wl_pair_vectors *)s.v);
	free(idx);
	return found;
}

int main(int argc, char **argv)
{
	int64_t n = argc > 1 ? atoll(argv[1]) : 12000, dim = argc > 2 ? atoll(argv[2]) : 256;
	int64_t many = argc > 3 ? atoll(argv[3]) : 200000;
	char path[] = "/tmp/bench-vectors-XXXXXX";
	struct wl_values exact, near;
	double t, t_near;
	int fd = mkstemp(path);

	must(fd < 0 ? -1 : wl_progress_mode("none", &err), &err);
	make(path, n, dim);
	exact = search(path, (size_t)n, true, &t);
	near = search(path, (size_t)n, false, &t_near);
	printf("all with all: %lld vectors of %lld: %.2f s, %.1f G multiply-adds/s; by hashes %.2f "
	       "s, recall %.2f %% of %zu pairs\n",
		(long long)n, (long long)dim, t, (double)n * (double)n / 2 * (double)dim / t * 1e-9,
		t_near, 100.0 * (double)near.n / (double)exact.n, exact.n);
	make(path, many, dim);
	wl_values_release(&near);
	near = search(path, (size_t)many, false, &t_near);
	printf("by hashes: %lld vectors of %lld: %.2f s, %.0f vectors/s, %zu pairs\n",
		(long long)many, (long long)dim, t_near, (double)many / t_near, near.n);
	wl_values_release(&near);
	wl_values_release(&exact);
	close(fd);
	unlink(path);
	return 0;
}
