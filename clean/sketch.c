/* See sketch.h. */
#include "clean/sketch.h"

#include "ops/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 3, PADDED_LEAST = 512 };
static const uint64_t SEED = 0x7365656e; /* of all planes */
static const double WANTED = 0.99;

/* The chance that at most `radius` of 64 bits differ, each with chance p. */
static double within(int radius, double p)
{
	double term = pow(1 - p, 64), sum = term;

	if (p >= 1)
		return 0;
	for (int k = 1; k <= radius; k++) {
		term *= p / (1 - p) * (64 - k + 1) / k;
		sum += term;
	}
	return sum < 1 ? sum : 1;
}

static double angle_of(double cosine)
{
	return acos(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine) / M_PI;
}

static double chance(int hashes, int radius, double cosine)
{
	return 1 - pow(1 - within(radius, angle_of(cosine)), hashes);
}

/* Radii for which near.h has planes of blocks, and through how many choices each hash goes. */
static void choose(struct wl_sketch *s, double cosine)
{
	static const struct {
		int radius, choices;
	} known[] = {{4, 12}, {6, 20}, {8, 30}};
	int least = 0;

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		int n = 1, cost;
		while (n < WL_SKETCH_HASHES_MAX && chance(n, known[i].radius, cosine) < WANTED)
			n++;
		cost = n * known[i].choices;
		/* Where none is enough, the widest radius finds most. */
		if (least && cost >= least && chance(s->hashes, s->radius, cosine) >= WANTED)
			continue;
		least = cost;
		s->hashes = n;
		s->radius = known[i].radius;
	}
}

int wl_sketch_init(struct wl_sketch *s, double cosine, int64_t dim, struct wl_err *err)
{
	size_t words;

	*s = (struct wl_sketch){.dim = dim, .padded = PADDED_LEAST};
	choose(s, cosine);
	while (s->padded < dim)
		s->padded *= 2;
	s->blocks = (int)((s->hashes * 64 + s->padded - 1) / s->padded);
	words = (size_t)s->blocks * ROUNDS * (size_t)s->padded / 64;
	s->signs = malloc(words * sizeof(*s->signs));
	if (!s->signs)
		return wl_err_nomem(err, "planes", words * sizeof(*s->signs));
	for (size_t i = 0; i < words; i++)
		s->signs[i] = wl_rand64(SEED, (uint64_t)s->padded, i);
	return 0;
}

void wl_sketch_release(struct wl_sketch *s)
{
	free(s->signs);
	s->signs = NULL;
}

double wl_sketch_chance(const struct wl_sketch *s, double cosine)
{
	return chance(s->hashes, s->radius, cosine);
}

/* In place; every sum is of the same two numbers on every machine. */
static void hadamard(float *restrict v, int64_t n)
{
	for (int64_t i = 0; i < n; i += 8) {
		float *x = v + i;
		float a0 = x[0] + x[1], a1 = x[0] - x[1], a2 = x[2] + x[3], a3 = x[2] - x[3];
		float a4 = x[4] + x[5], a5 = x[4] - x[5], a6 = x[6] + x[7], a7 = x[6] - x[7];
		float b0 = a0 + a2, b1 = a1 + a3, b2 = a0 - a2, b3 = a1 - a3;
		float b4 = a4 + a6, b5 = a5 + a7, b6 = a4 - a6, b7 = a5 - a7;
		x[0] = b0 + b4, x[1] = b1 + b5, x[2] = b2 + b6, x[3] = b3 + b7;
		x[4] = b0 - b4, x[5] = b1 - b5, x[6] = b2 - b6, x[7] = b3 - b7;
	}
	for (int64_t h = 8; h < n; h *= 2)
		for (int64_t i = 0; i < n; i += 2 * h) {
			float *restrict x = v + i, *restrict y = v + i + h;
			for (int64_t k = 0; k < h; k++) {
				float sum = x[k] + y[k], difference = x[k] - y[k];
				x[k] = sum;
				y[k] = difference;
			}
		}
}

static void flip(float *v, const uint64_t *signs, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &v[i], sizeof(bits));
		bits ^= (uint32_t)(signs[i / 64] >> (i % 64) & 1) << 31;
		memcpy(&v[i], &bits, sizeof(bits));
	}
}

void wl_sketch_make(const struct wl_sketch *s, const float *v, float *scratch, uint64_t *out)
{
	const uint64_t *signs = s->signs;

	for (int h = 0, b = 0; b < s->blocks; b++) {
		memcpy(scratch, v, (size_t)s->dim * sizeof(*v));
		memset(scratch + s->dim, 0, (size_t)(s->padded - s->dim) * sizeof(*v));
		for (int r = 0; r < ROUNDS; r++, signs += s->padded / 64) {
			flip(scratch, signs, s->padded);
			hadamard(scratch, s->padded);
		}
		for (int64_t i = 0; i < s->padded && h < s->hashes; i += 64, h++) {
			out[h] = 0;
			for (int k = 0; k < 64; k++)
				out[h] |= (uint64_t)(scratch[i + k] < 0) << k;
		}
	}
}
