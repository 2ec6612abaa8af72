/* Hits are added up once an image; a round then adds images: see bootstrap.h. */
#include "eval/metrics/bootstrap.h"
#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

/* Queries and hits at 1, 5, 10 of an image: its own, then its texts'. */
struct hits {
	int32_t n[8];
};

static void add_query(struct hits *h, int side, int64_t rank)
{
	int32_t *n = h->n + 4 * side;

	if (!rank)
		return;
	n[0]++;
	n[1] += rank <= 1;
	n[2] += rank <= 5;
	n[3] += rank <= 10;
}

/* One entry an image; a text counts with its first image. */
static struct hits *gather(const struct wl_retrieval_in *in, const int64_t *image_rank,
	const int64_t *text_rank, struct wl_err *err)
{
	struct hits *h = calloc((size_t)in->n_images, sizeof *h);
	char *done = calloc((size_t)in->n_texts + 1, 1);

	if (!h || !done) {
		free(h);
		free(done);
		wl_err_nomem(err, "the bootstrap", (size_t)in->n_images * sizeof *h);
		return NULL;
	}
	for (int64_t i = 0; image_rank && i < in->n_images; i++)
		add_query(&h[i], 0, image_rank[i]);
	for (int64_t p = 0; text_rank && p < in->n_pairs; p++)
		if (!done[in->pair_text[p]]) {
			done[in->pair_text[p]] = 1;
			add_query(&h[in->pair_image[p]], 1, text_rank[in->pair_text[p]]);
		}
	free(done);
	return h;
}

static void stats_of(const int64_t n[8], double out[WL_BOOT_STATS])
{
	double sum = 0;
	int sides = 0;

	for (int side = 0; side < 2; side++) {
		const int64_t *s = n + 4 * side;

		for (int k = 0; k < 3; k++) {
			out[3 * side + k] = s[0] ? 100.0 * (double)s[1 + k] / (double)s[0] : 0;
			sum += out[3 * side + k];
		}
		sides += s[0] > 0;
	}
	out[6] = sides ? sum / (3 * sides) : 0;
}

static void draw(
	const struct hits *h, int64_t n, uint64_t seed, int round, double out[WL_BOOT_STATS])
{
	int64_t sum[8] = {0};

	for (int64_t i = 0; i < n; i++) {
		uint64_t r = wl_rand64(seed, (uint64_t)round, (uint64_t)i) >> 32;
		const struct hits *one = &h[round < 0 ? i : (int64_t)(r * (uint64_t)n >> 32)];

		for (int k = 0; k < 8; k++)
			sum[k] += one->n[k];
	}
	stats_of(sum, out);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* [rounds][stats] of a, or of b - a; out->value is of the sample itself. */
static int resample(const struct hits *a, const struct hits *b, int64_t n, int rounds,
	uint64_t seed, struct wl_boot *out, double *p, struct wl_err *err)
{
	double *v = malloc((size_t)rounds * WL_BOOT_STATS * sizeof *v), base[WL_BOOT_STATS];

	if (!v)
		return wl_err_nomem(
			err, "the bootstrap", (size_t)rounds * WL_BOOT_STATS * sizeof *v);
	draw(a, n, seed, -1, base);
	if (b)
		draw(b, n, seed, -1, out->value);
	for (int k = 0; k < WL_BOOT_STATS; k++)
		out->value[k] = b ? out->value[k] - base[k] : base[k];
#pragma omp parallel for schedule(static)
	for (int r = 0; r < rounds; r++) {
		double x[WL_BOOT_STATS], y[WL_BOOT_STATS] = {0};

		draw(a, n, seed, r, x);
		if (b)
			draw(b, n, seed, r, y);
		for (int k = 0; k < WL_BOOT_STATS; k++)
			v[k * rounds + r] = b ? y[k] - x[k] : x[k];
	}
	for (int k = 0; k < WL_BOOT_STATS; k++) {
		double *s = v + k * rounds;
		int below = 0, above = 0, least;

		qsort(s, (size_t)rounds, sizeof *s, by_value);
		out->lo[k] = s[(int)(0.025 * (rounds - 1))];
		out->hi[k] = s[(int)(0.975 * (rounds - 1) + 0.5)];
		for (int r = 0; r < rounds; r++) {
			below += s[r] <= 0;
			above += s[r] >= 0;
		}
		least = below < above ? below : above;
		if (p)
			p[k] = 2.0 * (least ? least : 0.5) / rounds < 1
				       ? 2.0 * (least ? least : 0.5) / rounds
				       : 1;
	}
	free(v);
	return 0;
}

static int check(const struct wl_retrieval_in *in, int rounds, struct wl_err *err)
{
	if (rounds < 100 || rounds > 1000000 || in->n_images < 1)
		return wl_err_set(err, WL_EUSAGE,
			"a bootstrap takes 100 to 1000000 rounds over at least one image; found %d "
			"and %lld",
			rounds, (long long)in->n_images);
	return 0;
}

int wl_retrieval_bootstrap(const struct wl_retrieval_in *in, const int64_t *image_rank,
	const int64_t *text_rank, int rounds, uint64_t seed, struct wl_boot *out,
	struct wl_err *err)
{
	struct hits *h;
	int ret;

	WL_TRY(check(in, rounds, err));
	h = gather(in, image_rank, text_rank, err);
	if (!h)
		return -1;
	ret = resample(h, NULL, in->n_images, rounds, seed, out, NULL, err);
	free(h);
	return ret;
}

int wl_retrieval_compare(const struct wl_retrieval_in *in, const int64_t *image_a,
	const int64_t *text_a, const int64_t *image_b, const int64_t *text_b, int rounds,
	uint64_t seed, struct wl_boot_difference *out, struct wl_err *err)
{
	struct hits *a, *b = NULL;
	int ret = -1;

	WL_TRY(check(in, rounds, err));
	a = gather(in, image_a, text_a, err);
	if (a)
		b = gather(in, image_b, text_b, err);
	if (a && b)
		ret = resample(a, b, in->n_images, rounds, seed, &out->d, out->p, err);
	free(a);
	free(b);
	return ret;
}
