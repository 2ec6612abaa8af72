/*
 * A matrix product for scores: see score.h.
 *
 * Goto's scheme (Goto, van de Geijn 2008): panels of both sides are packed dimension by
 * dimension; a register tile of MR x NR sums runs over a slice of KC dimensions with the
 * right panel in the first-level cache.  Tiles are kept in c between slices as fp32, which is
 * exact, so each score is one ascending chain of multiply-adds.  Vector extensions of
 * gcc and clang instead of intrinsics: one source for AVX-512, AVX2, SSE and Arm.
 */
#include "ops/score.h"

#include <string.h>

#if defined(__AVX512F__)
enum { VL = 16, MR = 9, NV = 3 }; /* 27 sums, 3 of the right side and 1 of 32 registers */
#elif defined(__AVX__)
enum { VL = 8, MR = 6, NV = 2 }; /* 12 + 2 + 1 of 16 */
#else
enum { VL = 4, MR = 4, NV = 2 }; /* fits 16 registers of SSE, and Arm's 32 */
#endif
enum { NR = NV * VL, KC = 256 }; /* KC * NR floats: about the first-level cache */

typedef float vec __attribute__((vector_size(VL * sizeof(float)), aligned(4)));

int64_t wl_score_mr(void)
{
	return MR;
}

int64_t wl_score_nr(void)
{
	return NR;
}

void wl_score_pack(const float *rows, int64_t n, int64_t dim, int64_t width, float *out)
{
	for (int64_t p = 0; p < n; p += width, out += width * dim) {
		int64_t have = n - p < width ? n - p : width;

		if (have < width)
			memset(out, 0, (size_t)(width * dim) * sizeof *out);
		/* Blocks of 16 dimensions: both sides of the transposition stay in the cache. */
		for (int64_t k0 = 0; k0 < dim; k0 += 16) {
			int64_t k1 = k0 + 16 < dim ? k0 + 16 : dim;

			for (int64_t r = 0; r < have; r++) {
				const float *row = rows + (p + r) * dim;

				for (int64_t k = k0; k < k1; k++)
					out[k * width + r] = row[k];
			}
		}
	}
}

/* c [MR, NR] += a [kc, MR] . b [kc, NR], each sum in order of k. */
static void register_tile(const float *restrict a, const float *restrict b, int64_t kc,
	float *restrict c, int64_t ldc)
{
	vec sum[MR][NV];

#pragma GCC unroll 16
	for (int r = 0; r < MR; r++)
		for (int v = 0; v < NV; v++)
			sum[r][v] = *(const vec *)(c + r * ldc + v * VL);
	for (int64_t k = 0; k < kc; k++, a += MR, b += NR) {
		vec right[NV];

		for (int v = 0; v < NV; v++)
			right[v] = *(const vec *)(b + v * VL);
#pragma GCC unroll 16
		for (int r = 0; r < MR; r++)
			for (int v = 0; v < NV; v++)
				sum[r][v] += a[r] * right[v];
	}
#pragma GCC unroll 16
	for (int r = 0; r < MR; r++)
		for (int v = 0; v < NV; v++)
			*(vec *)(c + r * ldc + v * VL) = sum[r][v];
}

void wl_score_tile(const float *left, const float *right, int64_t m, int64_t n, int64_t dim,
	float *c, int64_t ldc)
{
	for (int64_t i = 0; i < m; i++)
		memset(c + i * ldc, 0, (size_t)n * sizeof *c);
	for (int64_t k = 0; k < dim; k += KC) {
		int64_t kc = dim - k < KC ? dim - k : KC;

		for (int64_t j = 0; j < n; j += NR)
			for (int64_t i = 0; i < m; i += MR)
				register_tile(left + i * dim + k * MR, right + j * dim + k * NR, kc,
					c + i * ldc + j, ldc);
	}
}

/* The scores of VL pairs, lanes being pairs: each sum is the same chain as in a tile. */
static void pair_lanes(const float *const left[VL], const float *const right[VL], int64_t dim,
	float *out)
{
	float a[64 * VL], b[64 * VL];
	vec sum = {0};

	for (int64_t k0 = 0; k0 < dim; k0 += 64) {
		int64_t kc = dim - k0 < 64 ? dim - k0 : 64;

		for (int64_t l = 0; l < VL; l++)
			for (int64_t k = 0; k < kc; k++) {
				a[k * VL + l] = left[l][k0 + k];
				b[k * VL + l] = right[l][k0 + k];
			}
		for (int64_t k = 0; k < kc; k++)
			sum += *(const vec *)(a + k * VL) * *(const vec *)(b + k * VL);
	}
	*(vec *)out = sum;
}

void wl_score_pairs(const float *left, const int64_t *left_row, const float *right,
	const int64_t *right_row, int64_t n, int64_t dim, float *out)
{
#pragma omp parallel for schedule(static)
	for (int64_t p = 0; p < n; p += VL) {
		const float *l[VL], *r[VL];
		float lanes[VL];

		for (int64_t i = 0; i < VL; i++) {
			int64_t q = p + i < n ? p + i : p; /* lanes past the end repeat a pair */

			l[i] = left + left_row[q] * dim;
			r[i] = right + right_row[q] * dim;
		}
		pair_lanes(l, r, dim, lanes);
		for (int64_t i = 0; i < VL && p + i < n; i++)
			out[p + i] = lanes[i];
	}
}
