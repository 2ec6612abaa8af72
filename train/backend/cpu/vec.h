/*
 * A vector of floats as wide as the processor's registers, by GCC's vector
 * extensions, for the few kernels that the compiler does not vectorise well by
 * itself.  Channels are the fast dimension everywhere, so a vector is VL
 * neighbouring channels; the last few are loaded and stored by count.
 */
#ifndef WL_TRAIN_BACKEND_CPU_VEC_H
#define WL_TRAIN_BACKEND_CPU_VEC_H

#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
enum { VL = 16 };
#else
enum { VL = 8 };
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
/* The same without alignment, and allowed to alias float arrays. */
typedef float vf_mem __attribute__((vector_size(VL * 4), aligned(4), may_alias));

#define WL_INLINE static inline __attribute__((always_inline))

/* No vector is in the interface of a function that is not inlined: how machines with narrower ones
 * would hand it over does not matter. */
#pragma GCC diagnostic ignored "-Wpsabi"

WL_INLINE vf vload(const float *p)
{
	return *(const vf_mem *)p;
}

WL_INLINE void vstore(float *p, vf v)
{
	*(vf_mem *)p = v;
}

WL_INLINE vf vset(float x)
{
	return x - (vf){0}; /* x - 0 is x for every x, so no arithmetic is left of it */
}

/* The first n (1..VL) floats, zeros after them. */
WL_INLINE vf vload_n(const float *p, int n)
{
#ifdef __AVX512F__
	return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
	vf v = {0};
	for (int i = 0; i < n; i++)
		v[i] = p[i];
	return v;
#endif
}

WL_INLINE void vstore_n(float *p, vf v, int n)
{
#ifdef __AVX512F__
	_mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
	for (int i = 0; i < n; i++)
		p[i] = v[i];
#endif
}

/* Full or partial by count; `full` is a constant where the loop knows. */
WL_INLINE vf vget(const float *p, int n)
{
	return n >= VL ? vload(p) : vload_n(p, n);
}

WL_INLINE void vput(float *p, vf v, int n)
{
	if (n >= VL)
		vstore(p, v);
	else
		vstore_n(p, v, n);
}

#endif
