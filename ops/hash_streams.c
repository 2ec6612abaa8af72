/*
 * SHA-256 of two or three streams side by side with the processor's SHA instructions.  A round
 * waits for the one before it, so one stream leaves half of the unit idle, which others take.
 * What does not fill a block, and what is left when only one stream is, goes through libcrypto.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "ops/hash.h"
#include "ops/hash_rounds.h"

#include <openssl/sha.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define SHA_TARGET "sha,sse4.1,ssse3"

/* A stream at a block's boundary. */
struct stream {
	SHA256_CTX *c;
	const uint8_t *p;
	size_t blocks, tail; /* whole blocks at p, and bytes after them */
};

const uint32_t wl_sha256_k[64] __attribute__((aligned(16))) = {0x428a2f98, 0x71374491,
	0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
	0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc,
	0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354,
	0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
	0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c,
	0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f,
	0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* n blocks of each of `lanes` streams.  The instructions keep the eight words as (a b e f) and
 * (c d g h), and take four rounds' words of the schedule at a time (FIPS 180-4, 6.2.2). */
__attribute__((always_inline, target(SHA_TARGET))) static inline void blocks(
	struct stream *s, const int lanes, size_t n)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	__m128i abef[WL_SHA256_STREAMS], cdgh[WL_SHA256_STREAMS], w[WL_SHA256_STREAMS][4];

	for (int k = 0; k < lanes; k++) {
		__m128i low = _mm_loadu_si128((const __m128i *)s[k].c->h);
		__m128i high = _mm_loadu_si128((const __m128i *)(s[k].c->h + 4));

		low = _mm_shuffle_epi32(low, 0xb1);
		high = _mm_shuffle_epi32(high, 0x1b);
		abef[k] = _mm_alignr_epi8(low, high, 8);
		cdgh[k] = _mm_blend_epi16(high, low, 0xf0);
	}
	for (size_t b = 0; b < n; b++) {
		__m128i abef0[WL_SHA256_STREAMS], cdgh0[WL_SHA256_STREAMS];

		for (int k = 0; k < lanes; k++) {
			const __m128i *p = (const __m128i *)(s[k].p + 64 * b);

			abef0[k] = abef[k];
			cdgh0[k] = cdgh[k];
			for (int i = 0; i < 4; i++)
				w[k][i] = _mm_shuffle_epi8(_mm_loadu_si128(p + i), swap);
		}
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			const __m128i add = _mm_load_si128((const __m128i *)(wl_sha256_k + 4 * i));

			for (int k = 0; k < lanes; k++) {
				__m128i *now = &w[k][i & 3], last = w[k][(i + 3) & 3];
				__m128i x = _mm_add_epi32(*now, add);

				cdgh[k] = _mm_sha256rnds2_epu32(cdgh[k], abef[k], x);
				if (i < 12) { /* the words of sixteen rounds later */
					__m128i t = _mm_sha256msg1_epu32(*now, w[k][(i + 1) & 3]);

					t = _mm_add_epi32(
						t, _mm_alignr_epi8(last, w[k][(i + 2) & 3], 4));
					*now = _mm_sha256msg2_epu32(t, last);
				}
				x = _mm_shuffle_epi32(x, 0x0e);
				abef[k] = _mm_sha256rnds2_epu32(abef[k], cdgh[k], x);
			}
		}
		for (int k = 0; k < lanes; k++) {
			abef[k] = _mm_add_epi32(abef[k], abef0[k]);
			cdgh[k] = _mm_add_epi32(cdgh[k], cdgh0[k]);
		}
	}
	for (int k = 0; k < lanes; k++) {
		__m128i low = _mm_shuffle_epi32(abef[k], 0x1b);
		__m128i high = _mm_shuffle_epi32(cdgh[k], 0xb1);

		_mm_storeu_si128((__m128i *)s[k].c->h, _mm_blend_epi16(low, high, 0xf0));
		_mm_storeu_si128((__m128i *)(s[k].c->h + 4), _mm_alignr_epi8(high, low, 8));
	}
}

__attribute__((target(SHA_TARGET))) static void blocks2(struct stream *s, size_t n)
{
	blocks(s, 2, n);
}

__attribute__((target(SHA_TARGET))) static void blocks3(struct stream *s, size_t n)
{
	blocks(s, 3, n);
}

/* n bytes were hashed behind libcrypto's back: its count is of bits, in two words. */
static void count_bytes(SHA256_CTX *c, size_t n)
{
	uint64_t bits = ((uint64_t)c->Nh << 32 | c->Nl) + (uint64_t)n * 8;

	c->Nl = (SHA_LONG)bits;
	c->Nh = (SHA_LONG)(bits >> 32);
}

/* The same number of blocks of all; streams whose blocks are done leave.  How many are left. */
static size_t advance(struct stream *s, size_t busy)
{
	size_t n = s[0].blocks, left = 0;

	for (size_t i = 1; i < busy; i++)
		n = s[i].blocks < n ? s[i].blocks : n;
	if (busy == 2)
		blocks2(s, n);
	else
		blocks3(s, n);
	for (size_t i = 0; i < busy; i++) {
		count_bytes(s[i].c, 64 * n);
		s[i].p += 64 * n;
		s[i].blocks -= n;
		if (s[i].blocks)
			s[left++] = s[i];
		else
			SHA256_Update(s[i].c, s[i].p, s[i].tail);
	}
	return left;
}

/* count: at most WL_SHA256_STREAMS. */
static void add_few(
	struct wl_sha256 *const *h, const void *const *bytes, const size_t *n, size_t count)
{
	struct stream s[WL_SHA256_STREAMS];
	size_t busy = 0;

	for (size_t i = 0; i < count; i++) {
		SHA256_CTX *c = h[i]->ctx;
		const uint8_t *p = bytes[i];
		size_t head = c->num ? 64 - c->num : 0; /* to the next block */

		if (head > n[i] || n[i] - head < 64)
			head = n[i];
		SHA256_Update(c, p, head);
		if (head < n[i])
			s[busy++] = (struct stream){.c = c,
				.p = p + head,
				.blocks = (n[i] - head) / 64,
				.tail = (n[i] - head) % 64};
	}
	while (busy > 1)
		busy = advance(s, busy);
	if (busy)
		SHA256_Update(s[0].c, s[0].p, 64 * s[0].blocks + s[0].tail);
}

static bool has_sha(void)
{
	unsigned a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1 &&
	       __builtin_cpu_supports("sse4.1");
}
#else
static void add_few(
	struct wl_sha256 *const *h, const void *const *bytes, const size_t *n, size_t count)
{
	(void)h, (void)bytes, (void)n, (void)count;
}

static bool has_sha(void)
{
	return false;
}
#endif

void wl_sha256_add_many(
	struct wl_sha256 *const *h, const void *const *bytes, const size_t *n, size_t count)
{
	bool together = count > 1 && has_sha();

	for (size_t i = 0; i < count; i += WL_SHA256_STREAMS) {
		size_t few = count - i < WL_SHA256_STREAMS ? count - i : WL_SHA256_STREAMS;

		if (together)
			add_few(h + i, bytes + i, n + i, few);
		for (size_t k = i; k < i + few && !together; k++)
			wl_sha256_add(h[k], bytes[k], n[k]);
	}
}
