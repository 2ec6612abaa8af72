/*
 * The arithmetic of element-wise operations, written once for every backend: C
 * for gcc (which vectorises loops over these) and nvcc.  Single precision, no
 * library calls, no branches.
 */
#ifndef WL_TRAIN_BACKEND_ELEMENTWISE_H
#define WL_TRAIN_BACKEND_ELEMENTWISE_H

#include "train/backend/backend.h"

#include <math.h>

/* A 32-bit pattern as a float and back. */
WL_HD float wl_float_of_bits(uint32_t u)
{
	float f;
	memcpy(&f, &u, sizeof(f));
	return f;
}

WL_HD uint32_t wl_bits_of_float(float f)
{
	uint32_t u;
	memcpy(&u, &f, sizeof(u));
	return u;
}

/*
 * e^x, relative error below 2e-7 (Cody-Waite reduction, minimax polynomial of
 * degree 6 on [-ln2/2, ln2/2], coefficients of Cephes' expf); 0 and infinity are
 * never reached: x is clamped to [-87.3, 88.3].
 */
WL_HD float wl_expf(float x)
{
	x = x > 88.3f ? 88.3f : x;
	x = x < -87.3f ? -87.3f : x;
	float t = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to an integer */
	float n = t - 12582912.0f;
	float r = x - n * 0.693359375f;
	r = r + n * 2.12194440e-4f;
	float p = 1.9875691500e-4f;
	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * r * r + r + 1.0f;
	uint32_t e = (wl_bits_of_float(t) << 23) + 0x3f800000u;
	return p * wl_float_of_bits(e);
}

/* The activations, by wl_expf, so that every backend has the same bits. */
WL_HD float wl_sigmoidf(float x)
{
	return 1.0f / (1.0f + wl_expf(-x));
}

WL_HD float wl_tanhf(float x)
{
	return 1.0f - 2.0f / (wl_expf(2.0f * x) + 1.0f);
}

/* erf(x) where e = exp(-x^2), absolute error below 2e-7 (Abramowitz and Stegun 7.1.26). */
WL_HD float wl_erf_from_exp(float x, float e)
{
	float a = x < 0.0f ? -x : x;
	float t = 1.0f / (1.0f + 0.3275911f * a);
	float p = 1.061405429f;
	p = p * t - 1.453152027f;
	p = p * t + 1.421413741f;
	p = p * t - 0.284496736f;
	p = p * t + 0.254829592f;
	p = 1.0f - p * t * e;
	return x < 0.0f ? -p : p;
}

WL_HD float wl_geluf(float x)
{
	float e = wl_expf(-0.5f * x * x);
	return 0.5f * x * (1.0f + wl_erf_from_exp(x * 0.70710678f, e));
}

/* d gelu / dx = Phi(x) + x phi(x); both need the same exponential. */
WL_HD float wl_gelu_gradf(float x)
{
	float e = wl_expf(-0.5f * x * x);
	return 0.5f * (1.0f + wl_erf_from_exp(x * 0.70710678f, e)) + x * 0.39894228f * e;
}

/* d silu / dx = s (1 + x (1 - s)), s = sigmoid(x) */
WL_HD float wl_silu_gradf(float x)
{
	float s = wl_sigmoidf(x);
	return s * (1.0f + x * (1.0f - s));
}

WL_HD float wl_relu6f(float x)
{
	x = x > 0.0f ? x : 0.0f;
	return x < 6.0f ? x : 6.0f;
}

/* act is a constant at every call inside a loop, so the switch disappears. */
WL_HD float wl_act_value(enum wl_act act, float x)
{
	switch (act) {
	case WL_ACT_RELU:
		return x > 0.0f ? x : 0.0f;
	case WL_ACT_RELU6:
		return wl_relu6f(x);
	case WL_ACT_SILU:
		return x * wl_sigmoidf(x);
	case WL_ACT_GELU:
		return wl_geluf(x);
	case WL_ACT_SIGMOID:
		return wl_sigmoidf(x);
	case WL_ACT_TANH:
		return wl_tanhf(x);
	case WL_ACT_NONE:
		break;
	}
	return x;
}

/* The derivative by the value before the activation. */
WL_HD float wl_act_grad(enum wl_act act, float x)
{
	float s;
	switch (act) {
	case WL_ACT_RELU:
		return x > 0.0f ? 1.0f : 0.0f;
	case WL_ACT_RELU6:
		return x > 0.0f && x < 6.0f ? 1.0f : 0.0f;
	case WL_ACT_SILU:
		return wl_silu_gradf(x);
	case WL_ACT_GELU:
		return wl_gelu_gradf(x);
	case WL_ACT_SIGMOID:
		s = wl_sigmoidf(x);
		return s * (1.0f - s);
	case WL_ACT_TANH:
		s = wl_tanhf(x);
		return 1.0f - s * s;
	case WL_ACT_NONE:
		break;
	}
	return 1.0f;
}

/* Whether the value after the activation suffices for its derivative. */
WL_HD bool wl_act_grad_from_y(enum wl_act act)
{
	return act != WL_ACT_SILU && act != WL_ACT_GELU;
}

/* The derivative by the value after the activation, where that suffices. */
WL_HD float wl_act_grad_y(enum wl_act act, float y)
{
	switch (act) {
	case WL_ACT_RELU:
		return y > 0.0f ? 1.0f : 0.0f;
	case WL_ACT_RELU6:
		return y > 0.0f && y < 6.0f ? 1.0f : 0.0f;
	case WL_ACT_SIGMOID:
		return y * (1.0f - y);
	case WL_ACT_TANH:
		return 1.0f - y * y;
	default:
		return 1.0f;
	}
}

/* What an element is multiplied by under dropout: 0, or 1/(1-p). */
WL_HD float wl_keep_scale(struct wl_rng_key key, uint64_t index, float p)
{
	return wl_rng_uniform(key, index) < p ? 0.0f : 1.0f / (1.0f - p);
}

/* One element of AdamW (torch.optim.AdamW); step = lr / (1 - beta1^t), root = sqrt(1 - beta2^t). */
WL_HD float wl_adamw_one(float w, float g, float *m, float *v, float beta1, float beta2, float eps,
	float step, float root, float decay)
{
	*m = beta1 * *m + (1.0f - beta1) * g;
	*v = beta2 * *v + (1.0f - beta2) * g * g;
	return w * decay - step * *m / (sqrtf(*v) / root + eps);
}

/* bf16 to f32 and back, rounded up with the probability of what is cut off (16 random bits); an
 * infinity or NaN stays one. */
WL_HD float wl_bf16_value(uint16_t half)
{
	union {
		uint32_t u;
		float f;
	} x = {(uint32_t)half << 16};
	return x.f;
}

WL_HD uint16_t wl_bf16_round(float value, uint32_t random16)
{
	union {
		float f;
		uint32_t u;
	} x = {value};
	uint32_t finite = (x.u & 0x7f800000u) != 0x7f800000u;
	return (uint16_t)((x.u + (finite ? random16 & 0xffffu : 0)) >> 16);
}

/* To the nearest bf16, ties to even; a NaN stays one. */
WL_HD uint16_t wl_bf16_nearest(float value)
{
	uint32_t u = wl_bits_of_float(value);
	uint32_t up = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
	return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : up);
}

/* Generates `case ACT: body` for each activation, with act a constant inside. */
#define WL_ACT_SWITCH(which, body)                                                                 \
	switch (which) {                                                                           \
	case WL_ACT_NONE: {                                                                        \
		const enum wl_act ACT = WL_ACT_NONE;                                               \
		body                                                                               \
	} break;                                                                                   \
	case WL_ACT_RELU: {                                                                        \
		const enum wl_act ACT = WL_ACT_RELU;                                               \
		body                                                                               \
	} break;                                                                                   \
	case WL_ACT_RELU6: {                                                                       \
		const enum wl_act ACT = WL_ACT_RELU6;                                              \
		body                                                                               \
	} break;                                                                                   \
	case WL_ACT_SILU: {                                                                        \
		const enum wl_act ACT = WL_ACT_SILU;                                               \
		body                                                                               \
	} break;                                                                                   \
	case WL_ACT_GELU: {                                                                        \
		const enum wl_act ACT = WL_ACT_GELU;                                               \
		body                                                                               \
	} break;                                                                                   \
	case WL_ACT_SIGMOID: {                                                                     \
		const enum wl_act ACT = WL_ACT_SIGMOID;                                            \
		body                                                                               \
	} break;                                                                                   \
	case WL_ACT_TANH: {                                                                        \
		const enum wl_act ACT = WL_ACT_TANH;                                               \
		body                                                                               \
	} break;                                                                                   \
	}

#endif
