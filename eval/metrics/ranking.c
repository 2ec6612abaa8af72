/* See ranking.h. */
#include "eval/metrics/ranking.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double gain_of(int32_t grade, enum wl_gain gain)
{
	if (grade <= 0)
		return 0;
	return gain == WL_GAIN_LINEAR ? grade : exp2(grade) - 1;
}

static double dcg(const int32_t *grade, size_t n, enum wl_gain gain)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		if (grade[i] > 0)
			sum += gain_of(grade[i], gain) / log2((double)i + 2);
	return sum;
}

double wl_ndcg(const int32_t *grade, size_t n, const int32_t *ideal, size_t n_ideal, size_t k,
	enum wl_gain gain)
{
	double best = dcg(ideal, k && k < n_ideal ? k : n_ideal, gain);

	return best > 0 ? dcg(grade, k && k < n ? k : n, gain) / best : 0;
}

double wl_average_precision(const int32_t *grade, size_t n, int32_t above, size_t relevant)
{
	double sum = 0;
	size_t found = 0;

	for (size_t i = 0; i < n; i++)
		if (grade[i] > above)
			sum += (double)++found / (double)(i + 1);
	return relevant ? sum / (double)relevant : 0;
}

static int by_value(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return (x > y) - (x < y);
}

/* The sum over categories of count^2 in a sorted list. */
static double sum_of_squares(const int32_t *sorted, size_t n)
{
	double sum = 0;

	for (size_t i = 0, k; i < n; i = k) {
		for (k = i; k < n && sorted[k] == sorted[i]; k++)
			;
		sum += (double)(k - i) * (double)(k - i);
	}
	return sum;
}

int wl_fleiss(const int32_t *grade, size_t items, size_t raters, struct wl_agreement *out,
	struct wl_err *err)
{
	size_t n = items * raters;
	double pairs = (double)raters * ((double)raters - 1), agree = 0;
	int32_t *sorted;

	if (raters < 2 || !items)
		return wl_err_set(err, WL_EDATA,
			"agreement needs two raters and one item at least; found %zu raters and "
			"%zu items",
			raters, items);
	sorted = malloc(n * sizeof *sorted);
	if (!sorted)
		return wl_err_nomem(err, "grades", n * sizeof *sorted);
	memcpy(sorted, grade, n * sizeof *sorted);
	for (size_t i = 0; i < items; i++) {
		qsort(sorted + i * raters, raters, sizeof *sorted, by_value);
		agree += (sum_of_squares(sorted + i * raters, raters) - (double)raters) / pairs;
	}
	qsort(sorted, n, sizeof *sorted, by_value);
	*out = (struct wl_agreement){.observed = agree / (double)items,
		.expected = sum_of_squares(sorted, n) / ((double)n * (double)n),
		.items = items,
		.raters = raters};
	out->kappa = out->expected < 1 ? (out->observed - out->expected) / (1 - out->expected) : 1;
	free(sorted);
	return 0;
}
