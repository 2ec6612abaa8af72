/*
 * Matrix products of operands rounded to bf16 with sums in f32, on the tile unit of
 * recent Intel processors (AMX): a 16x16 tile of C takes 32 steps of k in one
 * instruction, sixteen times the arithmetic of an AVX-512 core.  Operands are
 * packed, hence rounded, on the fly; they stay f32 in memory, as do all results.
 *
 * A tile of A is 16 rows of 32 neighbouring k; a tile of B is 16 pairs of k by 16
 * columns, the two of a pair side by side.  So an operand whose k is contiguous in
 * memory gives tiles of A directly and tiles of B after a 16x16 transposition of
 * pairs, and one whose other index is contiguous the other way round.
 */
#include "train/backend/cpu/cpu.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

#include "ops/transpose.h"

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	T = 16,	    /* rows of a tile, and its columns in 4-byte units */
	TK = 32,    /* k of a tile */
	STRIP = 32, /* rows of C at a time: two tiles */
	PANEL = 32, /* columns of C at a time: two tiles */
	KC = 512,
	NC = 512,
	TILE = T * TK /* bf16 of a tile: 1 KB */
};

typedef uint16_t bf16;

/* Permission for the tile registers, which Linux gives a process on demand. */
bool wl_gemm_bf16_available(void)
{
	enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
	return __builtin_cpu_supports("avx512bf16") &&
	       syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* 32 floats, from two places, to 32 bf16: those of lo first. */
static inline __m512i round_pair(__m512 lo, __m512 hi)
{
	return (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
}

static inline __m512 load_n(const float *p, int64_t n)
{
	if (n >= T)
		return _mm512_loadu_ps(p);
	return n <= 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

/* k contiguous: rows of 32 k. x: the element (row 0, k 0); ld: between rows. */
static inline void rows_of_k(const float *x, int64_t ld, int64_t rows, int64_t k, __m512i r[T])
{
	for (int i = 0; i < T; i++)
		r[i] = i < rows ? round_pair(load_n(x + i * ld, k), load_n(x + i * ld + T, k - T))
				: _mm512_setzero_si512();
}

/* k strided: 16 pairs of k, each of 16 neighbours of the other index. */
static inline void pairs_of_k(const float *x, int64_t ld, int64_t width, int64_t k, __m512i r[T])
{
	/* Interleaves the 16 bf16 of an even k with those of the next. */
	const __m512i mix = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9,
		24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
	for (int i = 0; i < T; i++) {
		const float *at = x + 2 * i * ld;
		__m512 even = load_n(at, 2 * i < k ? width : 0);
		__m512 odd = load_n(at + ld, 2 * i + 1 < k ? width : 0);
		r[i] = _mm512_permutexvar_epi16(mix, round_pair(even, odd));
	}
}

/* One tile of A at (i, p): rows and k are how many of each exist from there on. */
static void tile_a(const struct gemm *g, int64_t i, int64_t p, int64_t rows, int64_t k, bf16 *out)
{
	const float *x = g->a + i * g->a_row + p * g->a_col;
	__m512i r[T];
	if (g->a_col == 1) {
		rows_of_k(x, g->a_row, rows, k, r);
	} else {
		pairs_of_k(x, g->a_col, rows, k, r);
		wl_transpose16(r);
	}
	for (int t = 0; t < T; t++)
		_mm512_store_si512(out + t * TK, r[t]);
}

static void tile_b(const struct gemm *g, int64_t p, int64_t j, int64_t k, int64_t cols, bf16 *out)
{
	const float *x = g->b + p * g->b_row + j * g->b_col;
	__m512i r[T];
	if (g->b_col == 1) {
		pairs_of_k(x, g->b_row, cols, k, r);
	} else {
		rows_of_k(x, g->b_col, cols, k, r);
		wl_transpose16(r);
	}
	for (int t = 0; t < T; t++)
		_mm512_store_si512(out + t * TK, r[t]);
}

/* Tiles in the order in which the kernel takes them: step of k, then the two halves. */
static void pack_b(const struct gemm *g, int64_t p, int64_t kc, int64_t j, int64_t n, bf16 *out)
{
	for (int64_t jj = 0; jj < n; jj += PANEL)
		for (int64_t k = 0; k < kc; k += TK)
			for (int64_t half = 0; half < PANEL; half += T, out += TILE)
				tile_b(g, p + k, j + jj + half, kc - k, n - jj - half, out);
}

static void pack_a(const struct gemm *g, int64_t i, int64_t rows, int64_t p, int64_t kc, bf16 *out)
{
	for (int64_t k = 0; k < kc; k += TK)
		for (int64_t half = 0; half < STRIP; half += T, out += TILE)
			tile_a(g, i + half, p + k, rows - half, kc - k, out);
}

struct tile_config {
	uint8_t palette, start_row, reserved[14];
	uint16_t bytes[16];
	uint8_t rows[16];
};

static void configure(void)
{
	struct tile_config c = {.palette = 1};
	for (int t = 0; t < 8; t++) {
		c.bytes[t] = 64;
		c.rows[t] = T;
	}
	_tile_loadconfig(&c);
}

/* A 32x32 block of C: c = (add ? c : 0) + a * b over steps of 32 k. */
static void __attribute__((noinline))
micro(const bf16 *a, const bf16 *b, int64_t steps, float *c, int64_t ldc, bool add)
{
	int64_t stride = ldc * (int64_t)sizeof(float);
	/* The tile loads do not tell the compiler that they read memory. */
	__asm__ volatile("" ::: "memory");
	if (add) {
		_tile_loadd(0, c, stride);
		_tile_loadd(1, c + T, stride);
		_tile_loadd(2, c + T * ldc, stride);
		_tile_loadd(3, c + T * ldc + T, stride);
	} else {
		_tile_zero(0);
		_tile_zero(1);
		_tile_zero(2);
		_tile_zero(3);
	}
	for (int64_t s = 0; s < steps; s++, a += 2 * TILE, b += 2 * TILE) {
		_tile_loadd(4, a, 64);
		_tile_loadd(6, b, 64);
		_tile_loadd(7, b + TILE, 64);
		_tile_dpbf16ps(0, 4, 6);
		_tile_dpbf16ps(1, 4, 7);
		_tile_loadd(5, a + TILE, 64);
		_tile_dpbf16ps(2, 5, 6);
		_tile_dpbf16ps(3, 5, 7);
	}
	_tile_stored(0, c, stride);
	_tile_stored(1, c + T, stride);
	_tile_stored(2, c + T * ldc, stride);
	_tile_stored(3, c + T * ldc + T, stride);
}

/* The same at an edge of C, by way of a full block. */
static void micro_edge(const bf16 *a, const bf16 *b, int64_t steps, float *c, int64_t ldc,
	int64_t rows, int64_t cols, bool add)
{
	float full[STRIP * PANEL] __attribute__((aligned(64)));
	micro(a, b, steps, full, PANEL, false);
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++)
			c[i * ldc + j] = (add ? c[i * ldc + j] : 0) + full[i * PANEL + j];
}

/* As gemm.c's part: rows [m0,m1), columns [n0,n1), k in [k0,k1) into out. */
void wl_gemm_bf16_part(const struct gemm *g, int64_t m0, int64_t m1, int64_t n0, int64_t n1,
	int64_t k0, int64_t k1, float *out, int64_t ldc, bool add, bool finish, float *pack)
{
	bf16 *strip = (bf16 *)pack, *packed = strip + STRIP * KC;
	configure();
	for (int64_t j = n0; j < n1; j += NC) {
		int64_t n = cpu_min(NC, n1 - j);
		for (int64_t p = k0; p < k1; p += KC) {
			int64_t kc = cpu_min(KC, k1 - p), steps = cpu_ceil_div(kc, TK);
			bool sum = add || p > k0;
			pack_b(g, p, kc, j, n, packed);
			for (int64_t i = m0; i < m1; i += STRIP) {
				int64_t rows = cpu_min(STRIP, m1 - i);
				float *c = out + i * ldc + j;
				pack_a(g, i, rows, p, kc, strip);
				for (int64_t jj = 0; jj < n; jj += PANEL) {
					const bf16 *b = packed + jj * steps * TK;
					int64_t w = cpu_min(PANEL, n - jj);
					if (rows == STRIP && w == PANEL)
						micro(strip, b, steps, c + jj, ldc, sum);
					else
						micro_edge(
							strip, b, steps, c + jj, ldc, rows, w, sum);
				}
				if (p + kc == k1 && finish)
					wl_gemm_epilogue(g, i, rows, j, n);
			}
		}
	}
	_tile_release();
}

size_t wl_gemm_bf16_pack_floats(void)
{
	return (size_t)(STRIP * KC + KC * NC) / 2;
}

#else

bool wl_gemm_bf16_available(void)
{
	return false;
}

size_t wl_gemm_bf16_pack_floats(void)
{
	return 0;
}

void wl_gemm_bf16_part(const struct gemm *g, int64_t m0, int64_t m1, int64_t n0, int64_t n1,
	int64_t k0, int64_t k1, float *out, int64_t ldc, bool add, bool finish, float *pack)
{
	(void)g, (void)m0, (void)m1, (void)n0, (void)n1, (void)k0, (void)k1, (void)out, (void)ldc;
	(void)add, (void)finish, (void)pack;
	WL_BUG("bf16 products are not compiled in");
}

#endif
