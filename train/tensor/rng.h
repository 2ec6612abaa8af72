/*
 * Random numbers by counter: a number depends on a key and an index only, never
 * on who drew before, so dropout and initialisation are the same for any number
 * of threads, and a backward pass draws a mask again instead of storing it.
 * Cheap integer mixing (C. Wellons' lowbias32, twice with two key words), which
 * compilers vectorise; the same text compiles for a GPU.
 */
#ifndef WL_TRAIN_TENSOR_RNG_H
#define WL_TRAIN_TENSOR_RNG_H

#include <stdint.h>

#ifdef __CUDACC__
#define WL_HD static __host__ __device__ inline
#else
#define WL_HD static inline __attribute__((always_inline))
#endif

struct wl_rng_key {
	uint32_t a, b;
};

/* A step of splitmix64 (Steele, Lea, Flood 2014). */
WL_HD uint64_t wl_rng_mix64(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

WL_HD uint32_t wl_mix32(uint32_t x)
{
	x = (x ^ (x >> 16)) * 0x7feb352du;
	x = (x ^ (x >> 15)) * 0x846ca68bu;
	return x ^ (x >> 16);
}

/* What the keys of a step have in common, and the key of an operation from it. */
WL_HD uint64_t wl_rng_of_step(uint64_t seed, uint64_t step)
{
	return wl_rng_mix64(wl_rng_mix64(seed) ^ step);
}

WL_HD struct wl_rng_key wl_rng_key_of_step(uint64_t of_step, uint64_t op)
{
	uint64_t k = wl_rng_mix64(of_step ^ op);
	struct wl_rng_key key = {(uint32_t)k, (uint32_t)(k >> 32)};
	return key;
}

/* The key of one use: seed of the run, step of the training, number of the operation. */
WL_HD struct wl_rng_key wl_rng_key(uint64_t seed, uint64_t step, uint64_t op)
{
	return wl_rng_key_of_step(wl_rng_of_step(seed, step), op);
}

/* 32 random bits for the index-th element under a key. */
WL_HD uint32_t wl_rng_u32(struct wl_rng_key key, uint64_t index)
{
	uint32_t lo = (uint32_t)index, hi = (uint32_t)(index >> 32);
	return wl_mix32(wl_mix32(lo + key.a) ^ (key.b + hi * 0x9e3779b9u));
}

/* Uniform in [0, 1), 24 bits. */
WL_HD float wl_rng_uniform(struct wl_rng_key key, uint64_t index)
{
	return (float)(wl_rng_u32(key, index) >> 8) * (1.0f / 16777216.0f);
}

/* A standard normal (Box-Muller on elements 2*index and 2*index+1); host use. */
float wl_rng_normal(struct wl_rng_key key, uint64_t index);

/* As timm's and HF's trunc_normal_: a normal of this std redrawn outside +-2 std. */
float wl_rng_trunc_normal(struct wl_rng_key key, uint64_t index, float std);

/* The key of a named thing (FNV-1a of the name), e.g. the initial value of a parameter. */
struct wl_rng_key wl_rng_key_name(uint64_t seed, const char *name);

#endif
