/* Bicubic resize of a grid of embeddings.  See positions.h. */
#include "train/checkpoint/positions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What one output place takes of a line: weight[0 .. n) of first, first + 1, ... */
struct taps {
	int64_t first, n;
	float *weight;
};

static int64_t root(int64_t n)
{
	int64_t r = (int64_t)(sqrt((double)n) + 0.5);

	return r > 0 && r * r == n ? r : 0;
}

bool wl_positions_fit(int64_t from, int64_t to, int64_t *side, int64_t *to_side)
{
	*side = root(from - 1);
	*to_side = root(to - 1);
	return *side && *to_side;
}

/* Keys, "Cubic convolution interpolation for digital image processing" (1981), a = -1/2. */
static double cubic(double x)
{
	const double a = -0.5;

	x = fabs(x);
	if (x < 1)
		return ((a + 2) * x - (a + 3)) * x * x + 1;
	return x < 2 ? a * (((x - 5) * x + 8) * x - 4) : 0;
}

static void taps_of(int64_t at, int64_t side, int64_t to_side, struct taps *t)
{
	double ratio = (double)side / (double)to_side, stretch = ratio > 1 ? ratio : 1;
	double centre = ratio * ((double)at + 0.5), reach = 2 * stretch, sum = 0;
	int64_t end = (int64_t)(centre + reach + 0.5);

	t->first = (int64_t)fmax(0, floor(centre - reach + 0.5));
	t->n = (end < side ? end : side) - t->first;
	for (int64_t j = 0; j < t->n; j++)
		sum += cubic(((double)(t->first + j) - centre + 0.5) / stretch);
	for (int64_t j = 0; j < t->n; j++)
		t->weight[j] = (float)(cubic(((double)(t->first + j) - centre + 0.5) / stretch) /
				       sum);
}

/* out [d] = the weighted sum of the rows [d] of `in`, which lie stride floats apart. */
static void mix(const struct taps *t, const float *in, int64_t stride, float *out, int64_t d)
{
	memset(out, 0, (size_t)d * sizeof *out);
	for (int64_t j = 0; j < t->n; j++) {
		const float *from = in + (t->first + j) * stride;

		for (int64_t k = 0; k < d; k++)
			out[k] += t->weight[j] * from[k];
	}
}

int wl_positions_resample(const float *in, int64_t side, float *out, int64_t to_side, int64_t d,
	struct wl_err *err)
{
	float *wide = malloc((size_t)(side * to_side * d) * sizeof *wide + 1);
	struct taps t = {.weight = malloc((size_t)(side + 1) * sizeof *t.weight)};
	int64_t at, row;

	if (!wide || !t.weight) {
		free(wide);
		free(t.weight);
		return wl_err_nomem(err, "a grid of position embeddings",
			(size_t)(side * to_side * d) * sizeof *wide);
	}
	memcpy(out, in, (size_t)d * sizeof *out);
	in += d;
	out += d;
	for (at = 0; at < to_side; at++) { /* along rows, then along columns */
		taps_of(at, side, to_side, &t);
		for (row = 0; row < side; row++)
			mix(&t, in + row * side * d, d, wide + (row * to_side + at) * d, d);
	}
	for (at = 0; at < to_side; at++) {
		taps_of(at, side, to_side, &t);
		mix(&t, wide, to_side * d, out + at * to_side * d, to_side * d);
	}
	free(wide);
	free(t.weight);
	return 0;
}
