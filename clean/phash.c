/*
 * imagehash takes its DCT from scipy.fftpack, which computes a DCT-II of length 32 by way of a
 * real inverse FFT with the radices 2, 4, 4 (FFTPACK's scheme; Swarztrauber 1982).  A sum over
 * cosines gives the same numbers up to the last digits; but in symmetric or flat pictures many
 * coefficients are exactly 0 and so is their median, and there the last digits decide the bits.
 * So the operations here are those of that scheme in that order, in plain doubles without
 * fused multiply-add (the Makefile's -ffp-contract=off), and the constants are written out.
 */
#include "clean/phash.h"

#include <stdlib.h>
#include <string.h>

enum { N = WL_PHASH_SIDE, LOW = 8 };

/* cos(2 pi (i + 1) / 128), as rounded by scipy's tables. */
static const double QUARTER[31] = {
	0x1.ff621e3796d7ep-1,
	0x1.fd88da3d12526p-1,
	0x1.fa7557f08a517p-1,
	0x1.f6297cff75cb0p-1,
	0x1.f0a7efb9230d7p-1,
	0x1.e9f4156c62ddap-1,
	0x1.e212104f686e5p-1,
	0x1.d906bcf328d46p-1,
	0x1.ced7af43cc773p-1,
	0x1.c38b2f180bdb1p-1,
	0x1.b728345196e3ep-1,
	0x1.a9b66290ea1a3p-1,
	0x1.9b3e047f38741p-1,
	0x1.8bc806b151741p-1,
	0x1.7b5df226aafafp-1,
	0x1.6a09e667f3bccp-1,
	0x1.57d69348cec9fp-1,
	0x1.44cf325091dd6p-1,
	0x1.30ff7fce17034p-1,
	0x1.1c73b39ae68c8p-1,
	0x1.073879922ffedp-1,
	0x1.e2b5d3806f639p-2,
	0x1.b5d1009e15cbfp-2,
	0x1.87de2a6aea961p-2,
	0x1.58f9a75ab1fdbp-2,
	0x1.294062ed59f04p-2,
	0x1.f19f97b215f1cp-3,
	0x1.8f8b83c69a60ap-3,
	0x1.2c8106e8e6136p-3,
	0x1.917a6bc29b424p-4,
	0x1.91f65f10dd810p-5,
};
/* exp(2 pi i k / 32): cosine, sine. */
static const double ROOT[8][2] = {
	{1.0, 0.0},
	{0x1.f6297cff75cb0p-1, 0x1.8f8b83c69a60ap-3},
	{0x1.d906bcf328d46p-1, 0x1.87de2a6aea963p-2},
	{0x1.a9b66290ea1a3p-1, 0x1.1c73b39ae68c8p-1},
	{0x1.6a09e667f3bccp-1, 0x1.6a09e667f3bcdp-1},
	{0x1.1c73b39ae68c8p-1, 0x1.a9b66290ea1a3p-1},
	{0x1.87de2a6aea963p-2, 0x1.d906bcf328d46p-1},
	{0x1.8f8b83c69a60ap-3, 0x1.f6297cff75cb0p-1},
};
static const double SQRT2 = 0x1.6a09e667f3bcdp+0;

/* First pass, radix 2: one butterfly over the whole; in [2][16] -> out [2 halves][16]. */
static void inverse_radix2(const double in[N], double out[N])
{
	enum { HALF = N / 2 };
	double *even = out, *odd = out + HALF;

	even[0] = in[0] + in[N - 1];
	odd[0] = in[0] - in[N - 1];
	even[HALF - 1] = 2 * in[HALF - 1];
	odd[HALF - 1] = -2 * in[HALF];
	for (int i = 2; i < HALF; i += 2) {
		const double *w = ROOT[i / 2];
		double a = in[i - 1], b = in[i], c = in[N - 1 - i], d = in[N - i];
		double tr = a - c, ti = b + d;
		even[i - 1] = a + c;
		even[i] = b - d;
		odd[i] = w[0] * ti + w[1] * tr;
		odd[i - 1] = w[0] * tr - w[1] * ti;
	}
}

/* Second pass, radix 4 on runs of 4: in [2][4][4] -> out [4][2][4]. */
static void inverse_radix4(const double in[N], double out[N])
{
	enum { IDO = 4, L1 = 2 };

	for (int k = 0; k < L1; k++) {
		const double *c0 = in + 16 * k, *c1 = c0 + IDO, *c2 = c1 + IDO, *c3 = c2 + IDO;
		double *h0 = out + IDO * k, *h1 = h0 + IDO * L1, *h2 = h1 + IDO * L1,
		       *h3 = h2 + IDO * L1;
		double tr1, tr2, tr3, tr4, ti1, ti2, ti3, ti4, cr2, cr3, cr4, ci2, ci3, ci4;

		tr2 = c0[0] + c3[3];
		tr1 = c0[0] - c3[3];
		tr3 = 2 * c1[3];
		tr4 = 2 * c2[0];
		h0[0] = tr2 + tr3;
		h2[0] = tr2 - tr3;
		h3[0] = tr1 + tr4;
		h1[0] = tr1 - tr4;

		ti1 = c3[0] + c1[0];
		ti2 = c3[0] - c1[0];
		tr2 = c0[3] + c2[3];
		tr1 = c0[3] - c2[3];
		h0[3] = tr2 + tr2;
		h1[3] = SQRT2 * (tr1 - ti1);
		h2[3] = ti2 + ti2;
		h3[3] = -SQRT2 * (tr1 + ti1);

		/* The inner pair: i = 2, mirrored at IDO - i = 2. */
		tr2 = c0[1] + c3[1];
		tr1 = c0[1] - c3[1];
		ti1 = c0[2] + c3[2];
		ti2 = c0[2] - c3[2];
		tr4 = c2[2] + c1[2];
		ti3 = c2[2] - c1[2];
		tr3 = c2[1] + c1[1];
		ti4 = c2[1] - c1[1];
		h0[1] = tr2 + tr3;
		cr3 = tr2 - tr3;
		h0[2] = ti2 + ti3;
		ci3 = ti2 - ti3;
		cr4 = tr1 + tr4;
		cr2 = tr1 - tr4;
		ci2 = ti1 + ti4;
		ci4 = ti1 - ti4;
		h1[2] = ROOT[2][0] * ci2 + ROOT[2][1] * cr2;
		h1[1] = ROOT[2][0] * cr2 - ROOT[2][1] * ci2;
		h2[2] = ROOT[4][0] * ci3 + ROOT[4][1] * cr3;
		h2[1] = ROOT[4][0] * cr3 - ROOT[4][1] * ci3;
		h3[2] = ROOT[6][0] * ci4 + ROOT[6][1] * cr4;
		h3[1] = ROOT[6][0] * cr4 - ROOT[6][1] * ci4;
	}
}

/* Last pass, radix 4 on single values: in [8][4] -> out [4][8]. */
static void inverse_radix4_last(const double in[N], double out[N])
{
	enum { L1 = 8 };

	for (int k = 0; k < L1; k++) {
		const double *c = in + 4 * k;
		double tr2 = c[0] + c[3], tr1 = c[0] - c[3], tr3 = 2 * c[1], tr4 = 2 * c[2];
		out[k] = tr2 + tr3;
		out[k + 2 * L1] = tr2 - tr3;
		out[k + 3 * L1] = tr1 + tr4;
		out[k + L1] = tr1 - tr4;
	}
}

/* DCT-II, not normalised: out[k] = 2 sum_n c[n] cos(pi k (2n + 1) / 64).  In place. */
static void dct32(double c[N])
{
	double t[N];

	c[0] *= 2;
	c[N - 1] *= 2;
	for (int k = 1; k < N - 1; k += 2) {
		double a = c[k + 1];
		c[k + 1] -= c[k];
		c[k] += a;
	}
	inverse_radix2(c, t);
	inverse_radix4(t, c);
	inverse_radix4_last(c, t);
	for (int k = 1, m = N - 1; k < N / 2; k++, m--) {
		double t1 = QUARTER[k - 1] * t[m] + QUARTER[m - 1] * t[k];
		double t2 = QUARTER[k - 1] * t[k] - QUARTER[m - 1] * t[m];
		c[k] = 0.5 * (t1 + t2);
		c[m] = 0.5 * (t1 - t2);
	}
	c[0] = t[0];
	c[N / 2] = t[N / 2] * QUARTER[N / 2 - 1];
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

uint64_t wl_phash_grey32(const uint8_t grey[WL_PHASH_PIXELS])
{
	double m[N][N], low[LOW * LOW], sorted[LOW * LOW], median;
	uint64_t hash = 0;

	for (int x = 0; x < N; x++) {
		double column[N];
		for (int y = 0; y < N; y++)
			column[y] = grey[y * N + x];
		dct32(column);
		for (int y = 0; y < LOW; y++)
			m[y][x] = column[y];
	}
	for (int y = 0; y < LOW; y++) {
		dct32(m[y]);
		memcpy(low + LOW * y, m[y], LOW * sizeof(*low));
	}
	memcpy(sorted, low, sizeof(low));
	qsort(sorted, LOW * LOW, sizeof(*sorted), by_value);
	median = (sorted[LOW * LOW / 2 - 1] + sorted[LOW * LOW / 2]) / 2;
	for (int i = 0; i < LOW * LOW; i++)
		hash = hash << 1 | (low[i] > median);
	return hash;
}
