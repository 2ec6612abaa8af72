/*
 * Single-precision matrix products, written here rather than taken from oneDNN
 * for three reasons: a run allocates nothing (dnnl_sgemm allocates its packing
 * buffers on every call), results do not depend on the number of threads, and
 * bias and activation are applied while a block is still in the cache.
 *
 * The shape is Goto and van de Geijn's (ACM TOMS 34(3), 2008) with one packed
 * operand: B is copied in panels of NR columns by KC rows (32 KB, level 1 cache);
 * A is read in place, MR rows at a time, by broadcast.  Every element of C is a
 * sum in an order fixed by KC, so cutting M and N among threads changes nothing.
 * Where K is far larger than M and N (gradients of weights), K is cut into
 * chunks by a rule on shapes, each with its own partial C, added in order.
 *
 * Operands in fp16 are rounded when they are packed (A is then packed too), and multiplied and
 * summed in f32, which is what a unit for fp16 with f32 sums gives: a product of two fp16 numbers
 * is exact in f32.  The vector unit's own fp16 arithmetic sums in fp16 and is of no use here.
 */
#include "train/backend/cpu/cpu.h"
#include "train/backend/cpu/vec.h"

#ifdef __AVX512F__
#include "ops/transpose.h"
#endif
#ifdef __F16C__
#include <immintrin.h>
#endif
#include <omp.h>

enum {
	MR = VL == 16 ? 12 : 6, /* MR * 2 sums + 2 of B + 1 of A fit in the registers */
	NR = 2 * VL,
	KC = 320, /* most of k at a time */
	MC = 16 * MR,
	NC = 16 * NR,
	GROUP = 8,	/* steps of k packed at once */
	SPLIT_K = 4096, /* K of a chunk where K is cut */
	SPLIT_MAX = 16,
};

size_t wl_gemm_pack_floats(void)
{
	return (size_t)cpu_max(KC * NC + MC * KC, (int64_t)wl_gemm_bf16_pack_floats());
}

#ifdef __AVX512F__
/* from [VL rows, VL], rows `stride` apart -> to [VL, VL] turned, rows NR apart. */
static void turn(const float *from, int64_t stride, float *to)
{
	__m512i r[16];
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		r[i] = _mm512_loadu_si512(from + i * stride);
	wl_transpose16(r);
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		_mm512_storeu_si512(to + i * NR, r[i]);
}
#endif

/* Columns jj.. of a panel, each a run of kc floats in memory. */
static void pack_runs(const float *b, int64_t stride, int64_t kc, int w, float *out)
{
	int jj = 0;
#ifdef __AVX512F__
	for (; jj + VL <= w; jj += VL) {
		int64_t p = 0;
		for (; p + VL <= kc; p += VL)
			turn(b + jj * stride + p, stride, out + p * NR + jj);
		for (; p < kc; p++)
			for (int k = jj; k < jj + VL; k++)
				out[p * NR + k] = b[p + k * stride];
	}
#endif
	for (; jj < w; jj++)
		for (int64_t p = 0; p < kc; p++)
			out[p * NR + jj] = b[p + jj * stride];
	for (; jj < NR; jj++)
		for (int64_t p = 0; p < kc; p++)
			out[p * NR + jj] = 0;
}

/* b(p0.., j0..) [kc, n] -> panels [n / NR][kc][NR], zeros beyond n. */
static void pack_b(const struct gemm *g, int64_t p0, int64_t kc, int64_t j0, int64_t n, float *out)
{
	for (int64_t j = 0; j < n; j += NR) {
		int w = (int)cpu_min(NR, n - j);
		const float *b = g->b + p0 * g->b_row + (j0 + j) * g->b_col;
		if (g->b_col == 1) {
			int lo = w < VL ? w : VL, hi = w - lo;
			for (int64_t p = 0; p < kc; p++) {
				const float *row = b + p * g->b_row;
				vstore(out + p * NR, vget(row, lo));
				vstore(out + p * NR + VL, hi ? vget(row + VL, hi) : vset(0));
			}
		} else {
			pack_runs(b, g->b_col, kc, w, out);
		}
		out += kc * NR;
	}
}

__extension__ typedef _Float16 half; /* gcc 12's on x86: by instructions where there are some */

/* To the nearest fp16, ties to even; beyond 65504 infinite. */
static inline float to_half(float x)
{
	return (float)(half)x;
}

/* from may be to; gcc 12 leaves the loop below to scalars. */
static void to_halves(const float *from, float *to, int64_t n)
{
	int64_t j = 0;
#if defined(__AVX512F__)
	for (; j + 16 <= n; j += 16)
		_mm512_storeu_ps(to + j, _mm512_cvtph_ps(_mm512_cvtps_ph(_mm512_loadu_ps(from + j),
						 _MM_FROUND_TO_NEAREST_INT)));
#elif defined(__F16C__)
	for (; j + 8 <= n; j += 8)
		_mm256_storeu_ps(to + j, _mm256_cvtph_ps(_mm256_cvtps_ph(_mm256_loadu_ps(from + j),
						 _MM_FROUND_TO_NEAREST_INT)));
#endif
	for (; j < n; j++)
		to[j] = to_half(from[j]);
}

/* g with a(i0.., p0..) [rows, kc] as its A, rounded, copied to out in the same order. */
static struct gemm half_a(const struct gemm *g, int64_t i0, int64_t rows, int64_t p0, int64_t kc,
	float *out)
{
	bool by_rows = g->a_col == 1;
	int64_t lines = by_rows ? rows : kc, n = by_rows ? kc : rows;
	int64_t step = by_rows ? g->a_row : g->a_col;
	const float *a = g->a + i0 * g->a_row + p0 * g->a_col;
	struct gemm h = *g;
	for (int64_t l = 0; l < lines; l++)
		to_halves(a + l * step, out + l * n, n);
	h.a = out;
	h.a_row = by_rows ? n : 1;
	h.a_col = by_rows ? 1 : n;
	return h;
}

/* mr x (nv * VL) of C: c [+]= a * panel. Constants after inlining: mr, nv, a_col or a_row. */
WL_INLINE void micro(int mr, int nv, int64_t kc, const float *a, int64_t a_row, int64_t a_col,
	const float *panel, float *c, int64_t ldc, int n, bool add)
{
	vf s[MR][2];
#pragma GCC unroll 12
	for (int i = 0; i < mr; i++)
		__builtin_prefetch(c + i * ldc, 1);
#pragma GCC unroll 12
	for (int i = 0; i < mr; i++)
#pragma GCC unroll 2
		for (int v = 0; v < nv; v++)
			s[i][v] = vset(0);
#pragma GCC unroll 2
	for (int64_t p = 0; p < kc; p++) {
		vf b0 = vload(panel), b1 = nv > 1 ? vload(panel + VL) : b0;
		panel += NR;
#pragma GCC unroll 12
		for (int i = 0; i < mr; i++) {
			vf x = vset(a[i * a_row]);
			s[i][0] += x * b0;
			if (nv > 1)
				s[i][1] += x * b1;
		}
		a += a_col;
	}
	if (n == nv * VL) {
#pragma GCC unroll 12
		for (int i = 0; i < mr; i++)
#pragma GCC unroll 2
			for (int v = 0; v < nv; v++) {
				float *at = c + i * ldc + v * VL;
				vstore(at, add ? s[i][v] + vload(at) : s[i][v]);
			}
		return;
	}
	int w = n - (nv - 1) * VL; /* columns of the last vector */
#pragma GCC unroll 12
	for (int i = 0; i < mr; i++) {
		float *at = c + i * ldc;
		if (nv > 1) {
			vstore(at, add ? s[i][0] + vload(at) : s[i][0]);
			at += VL;
		}
		vstore_n(at, add ? s[i][nv - 1] + vload_n(at, w) : s[i][nv - 1], w);
	}
}

typedef void micro_fn(int64_t kc, const float *a, int64_t a_row, int64_t a_col, const float *panel,
	float *c, int64_t ldc, int n, bool add);

/* One function per number of rows and vectors, for A by rows (a_col 1) and by columns. */
#define MICRO(mr, nv)                                                                              \
	static void micro_r##mr##_##nv(int64_t kc, const float *a, int64_t a_row, int64_t a_col,   \
		const float *panel, float *c, int64_t ldc, int n, bool add)                        \
	{                                                                                          \
		(void)a_col;                                                                       \
		micro(mr, nv, kc, a, a_row, 1, panel, c, ldc, n, add);                             \
	}                                                                                          \
	static void micro_c##mr##_##nv(int64_t kc, const float *a, int64_t a_row, int64_t a_col,   \
		const float *panel, float *c, int64_t ldc, int n, bool add)                        \
	{                                                                                          \
		(void)a_row;                                                                       \
		micro(mr, nv, kc, a, 1, a_col, panel, c, ldc, n, add);                             \
	}
#define MICRO_BOTH(mr) MICRO(mr, 1) MICRO(mr, 2)
#define MICRO_ENTRY(kind, mr)                                                                      \
	{                                                                                          \
		micro_##kind##mr##_1, micro_##kind##mr##_2                                         \
	}

MICRO_BOTH(1)
MICRO_BOTH(2)
MICRO_BOTH(3)
MICRO_BOTH(4) MICRO_BOTH(5) MICRO_BOTH(6)
#if defined(__AVX512F__)
	MICRO_BOTH(7) MICRO_BOTH(8) MICRO_BOTH(9) MICRO_BOTH(10) MICRO_BOTH(11) MICRO_BOTH(12)
#define MICRO_ROWS(kind)                                                                           \
	{                                                                                          \
		MICRO_ENTRY(kind, 1), MICRO_ENTRY(kind, 2), MICRO_ENTRY(kind, 3),                  \
			MICRO_ENTRY(kind, 4), MICRO_ENTRY(kind, 5), MICRO_ENTRY(kind, 6),          \
			MICRO_ENTRY(kind, 7), MICRO_ENTRY(kind, 8), MICRO_ENTRY(kind, 9),          \
			MICRO_ENTRY(kind, 10), MICRO_ENTRY(kind, 11), MICRO_ENTRY(kind, 12)        \
	}
#else
#define MICRO_ROWS(kind)                                                                           \
	{                                                                                          \
		MICRO_ENTRY(kind, 1), MICRO_ENTRY(kind, 2), MICRO_ENTRY(kind, 3),                  \
			MICRO_ENTRY(kind, 4), MICRO_ENTRY(kind, 5), MICRO_ENTRY(kind, 6)           \
	}
#endif

		static micro_fn *const micro_rows[MR][2] = MICRO_ROWS(r);
static micro_fn *const micro_cols[MR][2] = MICRO_ROWS(c);

/* A block of rows against one packed [kc, n] part of B. */
static void block(const struct gemm *g, int64_t i0, int64_t rows, int64_t p0, int64_t kc,
	const float *packed, int64_t n, float *c, int64_t ldc, bool add)
{
	micro_fn *const(*fn)[2] = g->a_col == 1 ? micro_rows : micro_cols;
	for (int64_t j = 0; j < n; j += NR) {
		int w = (int)cpu_min(NR, n - j);
		for (int64_t i = 0; i < rows; i += MR) {
			int mr = (int)cpu_min(MR, rows - i);
			fn[mr - 1][w > VL](kc, g->a + (i0 + i) * g->a_row + p0 * g->a_col, g->a_row,
				g->a_col, packed + j * kc, c + i * ldc + j, ldc, w, add);
		}
	}
}

/* block, on A's operands as they are or, with half_pack [MC * KC], on their rounded copies. */
static void steps_of_k(const struct gemm *g, int64_t i, int64_t rows, int64_t p, int64_t kc,
	const float *packed, int64_t n, float *c, int64_t ldc, bool add, float *half_pack)
{
	if (!half_pack) {
		block(g, i, rows, p, kc, packed, n, c, ldc, add);
		return;
	}
	struct gemm h = half_a(g, i, rows, p, kc, half_pack);
	block(&h, 0, rows, 0, kc, packed, n, c, ldc, add);
}

/* act(c + bias) on a finished block. */
void wl_gemm_epilogue(const struct gemm *g, int64_t i0, int64_t rows, int64_t j0, int64_t n)
{
	if (!g->bias && g->act == WL_ACT_NONE && !g->z)
		return;
	for (int64_t i = i0; i < i0 + rows; i++) {
		float *restrict c = g->c + i * g->ldc + j0;
		float *restrict z = g->z ? g->z + i * g->ldc + j0 : NULL;
		if (g->bias) {
			const float *restrict bias = g->bias + j0;
#pragma omp simd
			for (int64_t j = 0; j < n; j++)
				c[j] += bias[j];
		}
		if (z)
			memcpy(z, c, (size_t)n * sizeof(float));
		WL_ACT_SWITCH(g->act, {
			if (ACT == WL_ACT_NONE)
				break;
			_Pragma("omp simd") for (int64_t j = 0; j < n; j++) c[j] =
				wl_act_value(ACT, c[j]);
		})
	}
}

/* How many columns are packed at once beside `depth` steps of k. */
static int64_t width_of(int64_t depth)
{
	return cpu_min(NC, cpu_max(NR, KC * NC / cpu_max(1, depth) / NR * NR));
}

/* How many steps of k are packed at once: with many, a block of C takes them one after the other
 * while it is in the cache; with few, more columns fit, and A is read less often. The one that
 * moves least. No sum depends on it. */
static int64_t group_of(int64_t m, int64_t n, int64_t steps, int64_t step)
{
	int64_t best = 1, least = INT64_MAX;
	for (int64_t g = 1; g <= cpu_min(steps, GROUP); g++) {
		int64_t a = m * steps * step * cpu_ceil_div(n, width_of(g * step));
		int64_t moved = a + 2 * m * n * cpu_ceil_div(steps, g);
		if (moved <= least) {
			least = moved;
			best = g;
		}
	}
	return best;
}

/* Rows [m0,m1), columns [n0,n1), all of p in [k0,k1), into out (which is c, or a partial c). */
static void part(const struct gemm *g, int64_t m0, int64_t m1, int64_t n0, int64_t n1, int64_t k0,
	int64_t k1, float *out, int64_t ldc, bool add, bool finish, float *pack)
{
	if (g->operands == WL_BF16) {
		wl_gemm_bf16_part(g, m0, m1, n0, n1, k0, k1, out, ldc, add, finish, pack);
		return;
	}
	/* Steps of k of equal length: a short last one would cost a pass over C. */
	int64_t steps = cpu_max(1, cpu_ceil_div(k1 - k0, KC)), step = cpu_ceil_div(k1 - k0, steps);
	int64_t group = group_of(m1 - m0, n1 - n0, steps, step) * step;
	int64_t width = width_of(group);
	float *half_pack = g->operands == WL_F16 ? pack + KC * NC : NULL;
	for (int64_t j = n0; j < n1; j += width) {
		int64_t n = cpu_min(width, n1 - j), padded = cpu_ceil_div(n, NR) * NR;
		for (int64_t p0 = k0; p0 < k1; p0 += group) {
			int64_t p1 = cpu_min(k1, p0 + group);
			for (int64_t p = p0; p < p1; p += step)
				pack_b(g, p, cpu_min(step, p1 - p), j, n, pack + (p - p0) * padded);
			if (half_pack)
				to_halves(pack, pack, (p1 - p0) * padded);
			for (int64_t i = m0; i < m1; i += MC) {
				int64_t rows = cpu_min(MC, m1 - i);
				for (int64_t p = p0; p < p1; p += step)
					steps_of_k(g, i, rows, p, cpu_min(step, p1 - p),
						pack + (p - p0) * padded, n, out + i * ldc + j, ldc,
						add || p > k0, half_pack);
				if (p1 == k1 && finish)
					wl_gemm_epilogue(g, i, rows, j, n);
			}
		}
	}
}

void wl_gemm_serial(const struct gemm *g, float *pack)
{
	part(g, 0, g->m, 0, g->n, 0, g->k, g->c, g->ldc, g->add, true, pack);
}

/* Into how many chunks K is cut: a rule on shapes only. */
static int64_t splits(int64_t m, int64_t n, int64_t k)
{
	int64_t s = cpu_min(SPLIT_MAX, k / SPLIT_K);
	/* Partial results must stay small beside the operands. */
	while (s > 1 && s * m * n > (m + n) * k / 4)
		s--;
	return cpu_max(1, s);
}

size_t wl_gemm_scratch(int64_t m, int64_t n, int64_t k)
{
	int64_t s = splits(m, n, k);
	return s > 1 ? (size_t)(s * m * n) * sizeof(float) : 0;
}

static void gemm_split_k(struct cpu *c, const struct gemm *g, int64_t s, float *partial)
{
	int64_t chunk = cpu_ceil_div(g->k, s);
#pragma omp parallel num_threads(c->threads)
	{
		float *pack = c->pack[omp_get_thread_num()];
#pragma omp for schedule(static)
		for (int64_t i = 0; i < s; i++)
			part(g, 0, g->m, 0, g->n, i * chunk, cpu_min(g->k, (i + 1) * chunk),
				partial + i * g->m * g->n, g->n, false, false, pack);
#pragma omp for schedule(static)
		for (int64_t i = 0; i < g->m; i++) {
			float *restrict row = g->c + i * g->ldc;
			if (!g->add)
				memset(row, 0, (size_t)g->n * sizeof(float));
			for (int64_t t = 0; t < s; t++) {
				const float *restrict from = partial + (t * g->m + i) * g->n;
#pragma omp simd
				for (int64_t j = 0; j < g->n; j++)
					row[j] += from[j];
			}
			wl_gemm_epilogue(g, i, 1, 0, g->n);
		}
	}
}

void wl_gemm(struct cpu *c, const struct gemm *g, void *scratch)
{
	int64_t s = splits(g->m, g->n, g->k);
	if (s > 1 && scratch) {
		gemm_split_k(c, g, s, scratch);
		return;
	}
	/* Threads take ranges of rows, or of columns where there are few rows. */
	bool by_rows = g->m >= g->n || g->m >= MR * 4 * c->threads;
	int64_t unit = g->operands == WL_BF16 ? 32
		       : by_rows	      ? MR
					      : NR,
		units = cpu_ceil_div(by_rows ? g->m : g->n, unit);
#pragma omp parallel num_threads(c->threads)
	{
		int t = omp_get_thread_num(), nt = omp_get_num_threads();
		int64_t from = units * t / nt * unit, to = units * (t + 1) / nt * unit;
		if (by_rows)
			part(g, from, cpu_min(to, g->m), 0, g->n, 0, g->k, g->c, g->ldc, g->add,
				true, c->pack[t]);
		else
			part(g, 0, g->m, from, cpu_min(to, g->n), 0, g->k, g->c, g->ldc, g->add,
				true, c->pack[t]);
	}
}

void wl_gemm_weights_bwd(struct cpu *c, enum wl_dtype operands, int64_t rows, int64_t i, int64_t o,
	const float *x, const float *gy, float *gw, void *scratch)
{
	struct gemm g = {.operands = operands,
		.m = o,
		.n = i,
		.k = rows,
		.a = gy,
		.a_row = 1,
		.a_col = o,
		.b = x,
		.b_row = i,
		.b_col = 1,
		.c = gw,
		.ldc = i,
		.add = true};
	wl_gemm(c, &g, scratch);
}

void wl_gemm_data_bwd(struct cpu *c, enum wl_dtype operands, int64_t rows, int64_t i, int64_t o,
	const float *w, const float *gy, float *gx, bool acc, void *scratch)
{
	struct gemm g = {.operands = operands,
		.m = rows,
		.n = i,
		.k = o,
		.a = gy,
		.a_row = o,
		.a_col = 1,
		.b = w,
		.b_row = i,
		.b_col = 1,
		.c = gx,
		.ldc = i,
		.add = acc};
	wl_gemm(c, &g, scratch);
}
