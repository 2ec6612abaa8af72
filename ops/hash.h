/*
 * Hashes and counter-based random numbers, the same bits on every machine.
 */
#ifndef WL_OPS_HASH_H
#define WL_OPS_HASH_H

#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

/* SHA-256 (libcrypto). */
enum { WL_SHA256_BYTES = 32, WL_SHA256_HEX = 65 };
void wl_sha256(const void *bytes, size_t n, uint8_t out[WL_SHA256_BYTES]);
/* Of `count` messages at once, faster than one by one where the processor has AVX-512: best
 * given some dozens, of like lengths. */
void wl_sha256_many(
	const void *const *bytes, const size_t *n, size_t count, uint8_t (*out)[WL_SHA256_BYTES]);
struct wl_sha256 {
	void *ctx; /* libcrypto's SHA256_CTX */
};
WL_MUST_CHECK int wl_sha256_init(struct wl_sha256 *h, struct wl_err *err);
void wl_sha256_add(struct wl_sha256 *h, const void *bytes, size_t n);
/* As wl_sha256_add of bytes[i] to h[i] for each i, but up to WL_SHA256_STREAMS streams side by
 * side where the processor has SHA instructions: given as many, of like lengths, some 1.3 times
 * as fast.  No state may be given twice. */
enum { WL_SHA256_STREAMS = 3 };
void wl_sha256_add_many(
	struct wl_sha256 *const *h, const void *const *bytes, const size_t *n, size_t count);
/* Gives the digest of what was added; the state may then only be released. */
void wl_sha256_final(struct wl_sha256 *h, uint8_t out[WL_SHA256_BYTES]);
void wl_sha256_release(struct wl_sha256 *h);
WL_MUST_CHECK int wl_sha256_file(
	const char *path, uint8_t out[WL_SHA256_BYTES], struct wl_err *err);
void wl_hex(const uint8_t *bytes, size_t n, char *out /* [2n+1] */);

/* A fast 64-bit mix of bytes for tables and shuffles (not against an adversary):
 * wl_mix64 is the finaliser of SplitMix64 (Steele et al. 2014). */
static inline uint64_t wl_mix64(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}
/* FNV-1a then mixed. */
uint64_t wl_hash64(const void *bytes, size_t n, uint64_t seed);

/* Counter-based generator: a value is a function of (seed, stream, index) alone, so it
 * does not matter who computes it, nor when. */
static inline uint64_t wl_rand64(uint64_t seed, uint64_t stream, uint64_t index)
{
	return wl_mix64(wl_mix64(wl_mix64(seed) ^ stream) ^ index);
}
/* Uniform in [0, 1), 53 bits. */
static inline double wl_rand_unit(uint64_t seed, uint64_t stream, uint64_t index)
{
	return (double)(wl_rand64(seed, stream, index) >> 11) * 0x1p-53;
}
/* Standard normal (Box-Muller on indices 2i and 2i+1 of the stream). */
double wl_rand_normal(uint64_t seed, uint64_t stream, uint64_t index);

/* A permutation of 0..n-1 that is a function of seed, evaluated at one point in O(1)
 * memory (a Feistel network walked until it falls inside n): position i of the shuffled
 * order holds element wl_shuffle(i). */
uint64_t wl_shuffle(uint64_t i, uint64_t n, uint64_t seed);

#endif
