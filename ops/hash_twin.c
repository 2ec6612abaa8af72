/* Two SHA-256 in one pass: see hash_twin.h.  The algorithm is FIPS 180-4, section 6.2. */
#include "ops/hash_twin.h"

#include <string.h>

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
	0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#if defined(__x86_64__)
#include <immintrin.h>

/* The SHA instructions know no VEX encoding, and each pays a hundredfold while the upper half of
 * a register is dirty: so the Makefile compiles this file without AVX. */
#define SHA_TARGET "sha,sse4.1"

static const uint32_t round_k[64] __attribute__((aligned(16))) = {0x428a2f98, 0x71374491,
	0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
	0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc,
	0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354,
	0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
	0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c,
	0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f,
	0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* The eight words in the order that the instructions want: A B E F and C D G H. */
struct lanes {
	__m128i abef, cdgh;
};

__attribute__((target(SHA_TARGET))) static inline struct lanes lanes_load(const uint32_t s[8])
{
	struct lanes l = {.abef = _mm_set_epi32((int)s[0], (int)s[1], (int)s[4], (int)s[5]),
		.cdgh = _mm_set_epi32((int)s[2], (int)s[3], (int)s[6], (int)s[7])};

	return l;
}

__attribute__((target(SHA_TARGET))) static inline void lanes_store(
	const struct lanes *l, uint32_t s[8])
{
	s[0] = (uint32_t)_mm_extract_epi32(l->abef, 3);
	s[1] = (uint32_t)_mm_extract_epi32(l->abef, 2);
	s[4] = (uint32_t)_mm_extract_epi32(l->abef, 1);
	s[5] = (uint32_t)_mm_extract_epi32(l->abef, 0);
	s[2] = (uint32_t)_mm_extract_epi32(l->cdgh, 3);
	s[3] = (uint32_t)_mm_extract_epi32(l->cdgh, 2);
	s[6] = (uint32_t)_mm_extract_epi32(l->cdgh, 1);
	s[7] = (uint32_t)_mm_extract_epi32(l->cdgh, 0);
}

/* Four rounds on one chain. */
__attribute__((target(SHA_TARGET))) static inline void rounds4(struct lanes *l, __m128i wk)
{
	l->cdgh = _mm_sha256rnds2_epu32(l->cdgh, l->abef, wk);
	l->abef = _mm_sha256rnds2_epu32(l->abef, l->cdgh, _mm_shuffle_epi32(wk, 0x0e));
}

/* n blocks into state a, and into b too unless it is NULL. */
__attribute__((target(SHA_TARGET))) static inline void blocks_ni(
	uint32_t *a, uint32_t *b, const uint8_t *p, size_t n)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	struct lanes la = lanes_load(a), lb = lanes_load(b ? b : a);

	for (; n; n--, p += 64) {
		struct lanes a0 = la, b0 = lb;
		__m128i w[4];

		for (int i = 0; i < 4; i++)
			w[i] = _mm_shuffle_epi8(
				_mm_loadu_si128((const __m128i *)(p + 16 * i)), swap);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			__m128i k = _mm_load_si128((const __m128i *)(round_k + 4 * i));
			__m128i wk = _mm_add_epi32(w[i & 3], k);

			rounds4(&la, wk);
			if (b)
				rounds4(&lb, wk);
			if (i < 12) {
				__m128i last = w[(i + 3) & 3];
				__m128i mid = _mm_alignr_epi8(last, w[(i + 2) & 3], 4);

				w[i & 3] = _mm_sha256msg2_epu32(
					_mm_add_epi32(_mm_sha256msg1_epu32(
							      w[i & 3], w[(i + 1) & 3]),
						mid),
					last);
			}
		}
		la.abef = _mm_add_epi32(la.abef, a0.abef);
		la.cdgh = _mm_add_epi32(la.cdgh, a0.cdgh);
		lb.abef = _mm_add_epi32(lb.abef, b0.abef);
		lb.cdgh = _mm_add_epi32(lb.cdgh, b0.cdgh);
	}
	lanes_store(&la, a);
	if (b)
		lanes_store(&lb, b);
}

__attribute__((target(SHA_TARGET), noinline)) static void one_chain(
	uint32_t *a, const uint8_t *p, size_t n)
{
	blocks_ni(a, NULL, p, n);
}

__attribute__((target(SHA_TARGET), noinline)) static void two_chains(
	uint32_t *a, uint32_t *b, const uint8_t *p, size_t n)
{
	blocks_ni(a, b, p, n);
}

static bool has_ni(void)
{
	/* gcc 12 knows no name for the SHA extension: CPUID 7, EBX bit 29. */
	unsigned a = 7, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return __builtin_cpu_supports("sse4.1") && (b >> 29 & 1);
}
#else
static void one_chain(uint32_t *a, const uint8_t *p, size_t n)
{
	(void)a, (void)p, (void)n;
	WL_BUG("no SHA instructions");
}

static void two_chains(uint32_t *a, uint32_t *b, const uint8_t *p, size_t n)
{
	(void)a, (void)b, (void)p, (void)n;
	WL_BUG("no SHA instructions");
}

static bool has_ni(void)
{
	return false;
}
#endif

/* The end of a message of `total` bytes of which `tail` (fewer than 64) are not in the state. */
static void finish(uint32_t state[8], const uint8_t *tail, uint64_t total,
	uint8_t out[WL_SHA256_BYTES])
{
	size_t n = total % 64, blocks = n < 56 ? 1 : 2;
	uint8_t last[128] = {0};

	memcpy(last, tail, n);
	last[n] = 0x80;
	for (int i = 0; i < 8; i++)
		last[64 * blocks - 1 - i] = (uint8_t)(total * 8 >> 8 * i);
	one_chain(state, last, blocks);
	for (int i = 0; i < 32; i++)
		out[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

int wl_sha256_twin_init(struct wl_sha256_twin *t, struct wl_err *err)
{
	memset(t, 0, sizeof *t);
	memcpy(t->stream, initial, sizeof t->stream);
	t->ni = has_ni();
	if (t->ni)
		return 0;
	WL_TRY(wl_sha256_init(&t->slow, err));
	if (wl_sha256_init(&t->slow_member, err) == 0)
		return 0;
	wl_sha256_release(&t->slow);
	return -1;
}

static void blocks(struct wl_sha256_twin *t, const uint8_t *p, size_t n)
{
	if (t->open)
		two_chains(t->stream, t->member, p, n);
	else
		one_chain(t->stream, p, n);
}

void wl_sha256_twin_add(struct wl_sha256_twin *t, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	size_t take = 64 - t->tail_n;

	t->total += n;
	if (!t->ni) {
		wl_sha256_add(&t->slow, bytes, n);
		if (t->open)
			wl_sha256_add(&t->slow_member, bytes, n);
		return;
	}
	if (t->tail_n && n >= take) {
		memcpy(t->tail + t->tail_n, p, take);
		blocks(t, t->tail, 1);
		t->tail_n = 0;
		p += take;
		n -= take;
	}
	if (!t->tail_n && n >= 64) {
		blocks(t, p, n / 64);
		p += n & ~(size_t)63;
		n %= 64;
	}
	if (n)
		memcpy(t->tail + t->tail_n, p, n);
	t->tail_n += n;
}

void wl_sha256_twin_begin(struct wl_sha256_twin *t)
{
	WL_ASSERT(t->total % 64 == 0 && !t->open);
	t->open = true;
	t->start = t->total;
	memcpy(t->member, initial, sizeof t->member);
	if (!t->ni)
		wl_sha256_restart(&t->slow_member);
}

void wl_sha256_twin_end(struct wl_sha256_twin *t, uint8_t out[WL_SHA256_BYTES])
{
	WL_ASSERT(t->open);
	t->open = false;
	/* The member's last, incomplete block is the stream's. */
	if (t->ni)
		finish(t->member, t->tail, t->total - t->start, out);
	else
		wl_sha256_final(&t->slow_member, out);
}

void wl_sha256_twin_final(struct wl_sha256_twin *t, uint8_t out[WL_SHA256_BYTES])
{
	if (t->ni)
		finish(t->stream, t->tail, t->total, out);
	else
		wl_sha256_final(&t->slow, out);
}

void wl_sha256_twin_release(struct wl_sha256_twin *t)
{
	if (!t || t->ni)
		return;
	wl_sha256_release(&t->slow);
	wl_sha256_release(&t->slow_member);
}
