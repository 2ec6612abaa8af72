/* Activations as they lie in memory, f32, bf16 or fp16, and how kernels read and write them.
 * Included by cuda.h. */
#ifndef WL_TRAIN_BACKEND_CUDA_ACT_H
#define WL_TRAIN_BACKEND_CUDA_ACT_H

/*
 * An activation or its gradient as it lies in memory, f32, bf16 or fp16 (the tensor's type).
 * Kernels compute in f32 and go through these; what else they touch (weights, their gradients,
 * statistics, masks, boxes) is f32 always.
 */
#ifdef WL_CUDA_EMULATED
struct __attribute__((aligned(16))) uint4 {
	uint32_t x, y, z, w;
};
#endif

/* The two types of two bytes.  fp16 has three more bits of fraction than bf16, and nothing above
 * 65504: gradients in it want a loss scale. */
static __host__ __device__ inline bool is_half(enum wl_dtype t)
{
	return t == WL_BF16 || t == WL_F16;
}

struct cuda_act {
	void *p;	    /* NULL: absent */
	enum wl_dtype type; /* WL_F32 or a half type */
};

static inline struct cuda_act cuda_act_of(const struct wl_tensor *t)
{
	struct cuda_act a = {t ? t->data : NULL, t ? t->dtype : WL_F32};

	return a;
}

static __host__ __device__ inline float bf16_to_float(uint32_t bits)
{
	return wl_float_of_bits(bits << 16);
}

/* Rounds to nearest, ties to even; a NaN stays one. */
static __host__ __device__ inline uint32_t bf16_of_float(float f)
{
#ifdef __CUDA_ARCH__
	uint32_t two;

	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(0.0f), "f"(f));
	return two;
#else
	uint32_t u = wl_bits_of_float(f);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (u >> 16) | 0x40u;
	return (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
#endif
}

/* The same of fp16; what is too large becomes infinite, what is too small denormal or 0. */
static __host__ __device__ inline float f16_to_float(uint32_t bits)
{
#ifdef __CUDA_ARCH__
	float f;

	asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"((unsigned short)bits));
	return f;
#else
	uint32_t sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;

	if (rest < 0x400u) /* 2^-24 each */
		return (sign ? -0x1p-24f : 0x1p-24f) * (float)rest;
	return wl_float_of_bits(sign | (rest >= 0x7c00u ? 0x7f800000u | (rest & 0x3ffu) << 13
							: (rest << 13) + 0x38000000u));
#endif
}

static __host__ __device__ inline uint32_t f16_of_float(float f)
{
#ifdef __CUDA_ARCH__
	unsigned short h;

	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
	return h;
#else
	uint32_t u = wl_bits_of_float(f), sign = (u >> 16) & 0x8000u, v = u & 0x7fffffffu;

	if (v > 0x7f800000u)
		return sign | 0x7e00u;
	if (v >= 0x477ff000u) /* 65520 and more */
		return sign | 0x7c00u;
	if (v < 0x38800000u) /* below 2^-14: the addition rounds */
		return sign | (wl_bits_of_float(wl_float_of_bits(v) + 0.5f) - 0x3f000000u);
	return sign | (v + 0xfffu + ((v >> 13) & 1u) - 0x38000000u) >> 13;
#endif
}

static __host__ __device__ inline float half_to_float(uint32_t bits, enum wl_dtype type)
{
	return type == WL_F16 ? f16_to_float(bits) : bf16_to_float(bits);
}

static __host__ __device__ inline uint32_t half_of_float(float f, enum wl_dtype type)
{
	return type == WL_F16 ? f16_of_float(f) : bf16_of_float(f);
}

/* f as it is read again once it was stored. */
static __device__ inline float rounded(float f, enum wl_dtype type)
{
	return is_half(type) ? half_to_float(half_of_float(f, type), type) : f;
}

/*
 * Two values in one word, the first in its lower half.  On a GPU one instruction: the seven of
 * half_of_float for each value would take longer than memory does.
 */
static __device__ inline uint32_t half2_of_floats(float lo, float hi, enum wl_dtype type)
{
#ifdef __CUDA_ARCH__
	uint32_t u;

	if (type == WL_F16)
		asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(hi), "f"(lo));
	else
		asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(hi), "f"(lo));
	return u;
#else
	return half_of_float(lo, type) | half_of_float(hi, type) << 16;
#endif
}

static __device__ inline float act_load(struct cuda_act a, int64_t i)
{
	return is_half(a.type) ? half_to_float(((const uint16_t *)a.p)[i], a.type)
			       : ((const float *)a.p)[i];
}

static __device__ inline void act_store(struct cuda_act a, int64_t i, float v)
{
	if (is_half(a.type))
		((uint16_t *)a.p)[i] = (uint16_t)half_of_float(v, a.type);
	else
		((float *)a.p)[i] = v;
}

/* Eight values in four words; the type is asked once. */
static __device__ inline void halves_to_floats(const uint32_t w[4], enum wl_dtype type, float v[8])
{
	if (type == WL_F16) {
		for (int k = 0; k < 8; k++)
			v[k] = f16_to_float(k % 2 ? w[k / 2] >> 16 : w[k / 2] & 0xffffu);
		return;
	}
	for (int k = 0; k < 4; k++) {
		v[2 * k] = bf16_to_float(w[k]);
		v[2 * k + 1] = wl_float_of_bits(w[k] & 0xffff0000u);
	}
}

static __device__ inline void halves_of_floats(const float v[8], enum wl_dtype type, uint32_t w[4])
{
	if (type == WL_F16)
		for (int k = 0; k < 4; k++)
			w[k] = half2_of_floats(v[2 * k], v[2 * k + 1], WL_F16);
	else
		for (int k = 0; k < 4; k++)
			w[k] = half2_of_floats(v[2 * k], v[2 * k + 1], WL_BF16);
}

/* Elements i..i+7, i a multiple of 8: one transaction of 16 bytes in a half type, two in f32. */
static __device__ inline void act_load8(struct cuda_act a, int64_t i, float v[8])
{
	if (is_half(a.type)) {
		uint4 u = *(const uint4 *)((const uint16_t *)a.p + i);
		uint32_t w[4] = {u.x, u.y, u.z, u.w};

		halves_to_floats(w, a.type, v);
		return;
	}
	for (int k = 0; k < 2; k++) {
		uint4 u = *(const uint4 *)((const float *)a.p + i + 4 * k);

		v[4 * k] = wl_float_of_bits(u.x);
		v[4 * k + 1] = wl_float_of_bits(u.y);
		v[4 * k + 2] = wl_float_of_bits(u.z);
		v[4 * k + 3] = wl_float_of_bits(u.w);
	}
}

static __device__ inline void act_store8(struct cuda_act a, int64_t i, const float v[8])
{
	if (is_half(a.type)) {
		uint32_t w[4];
		uint4 u;

		halves_of_floats(v, a.type, w);
		u.x = w[0], u.y = w[1], u.z = w[2], u.w = w[3];
		*(uint4 *)((uint16_t *)a.p + i) = u;
		return;
	}
	for (int k = 0; k < 2; k++) {
		uint4 u;

		u.x = wl_bits_of_float(v[4 * k]), u.y = wl_bits_of_float(v[4 * k + 1]);
		u.z = wl_bits_of_float(v[4 * k + 2]), u.w = wl_bits_of_float(v[4 * k + 3]);
		*(uint4 *)((float *)a.p + i + 4 * k) = u;
	}
}

/* The old value where the output is added to. */
static __device__ inline float old(const float *y, int64_t i, bool acc)
{
	return acc ? y[i] : 0.0f;
}

/*
 * Elements i..i+7 of n, i a multiple of 8, in f32.  wide (act_wide of all operands): at once; else
 * one by one, and those from n on are 0 and never written.
 */
static inline bool act_wide(struct cuda_act a, int64_t n)
{
	return n % 8 == 0 && (uintptr_t)a.p % 16 == 0;
}

static __device__ inline void act_get8(
	struct cuda_act a, int64_t i, int64_t n, bool wide, float v[8])
{
	if (wide)
		act_load8(a, i, v);
	else
		for (int k = 0; k < 8; k++)
			v[k] = i + k < n ? act_load(a, i + k) : 0.0f;
}

static __device__ inline void act_put8(
	struct cuda_act a, int64_t i, int64_t n, bool wide, const float v[8])
{
	if (wide)
		act_store8(a, i, v);
	else
		for (int k = 0; k < 8 && i + k < n; k++)
			act_store(a, i + k, v[k]);
}

#endif
