/* Named tensors in a file: lookup and conversion.  See saved.h. */
#include "ops/saved.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	size_t bytes;
} dtypes[] = {
	[WL_SAVED_F64] = {"F64", 8},   [WL_SAVED_F32] = {"F32", 4},  [WL_SAVED_F16] = {"F16", 2},
	[WL_SAVED_BF16] = {"BF16", 2}, [WL_SAVED_I64] = {"I64", 8},  [WL_SAVED_I32] = {"I32", 4},
	[WL_SAVED_I16] = {"I16", 2},   [WL_SAVED_I8] = {"I8", 1},    [WL_SAVED_U8] = {"U8", 1},
	[WL_SAVED_BOOL] = {"BOOL", 1}, [WL_SAVED_OTHER] = {"OTHER", 0},
};

size_t wl_saved_dtype_bytes(enum wl_saved_dtype dtype)
{
	return dtypes[dtype].bytes;
}

const char *wl_saved_dtype_name(enum wl_saved_dtype dtype)
{
	return dtypes[dtype].name;
}

static int by_name(const void *a, const void *b)
{
	const struct wl_saved_tensor *x = a, *y = b;

	return strcmp(x->name, y->name);
}

const struct wl_saved_tensor *wl_saved_find(const struct wl_saved_list *list, const char *name)
{
	struct wl_saved_tensor key = {.name = name};

	if (!list->count)
		return NULL;
	return bsearch(&key, list->items, list->count, sizeof key, by_name);
}

int wl_saved_sort(struct wl_saved_list *list, const char *path, struct wl_err *err)
{
	if (!list->count)
		return 0;
	qsort(list->items, list->count, sizeof *list->items, by_name);
	for (size_t i = 1; i < list->count; i++)
		if (!strcmp(list->items[i - 1].name, list->items[i].name))
			return wl_err_set(err, WL_ECKPT,
				"%s: the tensor name \"%.200s\" occurs twice, where names must be "
				"unique; save the file again",
				path, list->items[i].name);
	return 0;
}

int wl_saved_set_dense(struct wl_saved_tensor *t)
{
	int64_t count = 1, stride = 1;

	for (int i = t->rank - 1; i >= 0; i--) {
		if (t->shape[i] < 0)
			return -1;
		t->strides[i] = stride;
		if (__builtin_mul_overflow(count, t->shape[i], &count))
			return -1;
		/* A zero dimension must not hide an overflow of the others' product. */
		if (__builtin_mul_overflow(stride, t->shape[i] ? t->shape[i] : 1, &stride))
			return -1;
	}
	t->count = count;
	return 0;
}

bool wl_saved_is_dense(const struct wl_saved_tensor *t)
{
	int64_t stride = 1;

	for (int i = t->rank - 1; i >= 0; i--) {
		if (t->shape[i] != 1 && t->strides[i] != stride)
			return false;
		stride *= t->shape[i];
	}
	return true;
}

/* Steps an odometer over the shape; returns the element offset of the next index. */
static int64_t next_offset(const struct wl_saved_tensor *t, int64_t *index, int64_t offset)
{
	for (int i = t->rank - 1; i >= 0; i--) {
		offset += t->strides[i];
		if (++index[i] < t->shape[i])
			return offset;
		offset -= t->strides[i] * t->shape[i];
		index[i] = 0;
	}
	return offset;
}

static float load_f32(enum wl_saved_dtype dtype, const uint8_t *p)
{
	uint16_t half;
	double d;
	float f;
	int64_t l;
	int32_t i;
	int16_t s;

	switch (dtype) {
	case WL_SAVED_F64:
		memcpy(&d, p, sizeof d);
		return (float)d;
	case WL_SAVED_F32:
		memcpy(&f, p, sizeof f);
		return f;
	case WL_SAVED_F16:
		memcpy(&half, p, sizeof half);
		return wl_f32_from_f16(half);
	case WL_SAVED_BF16:
		memcpy(&half, p, sizeof half);
		return wl_f32_from_bf16(half);
	case WL_SAVED_I64:
		memcpy(&l, p, sizeof l);
		return (float)l;
	case WL_SAVED_I32:
		memcpy(&i, p, sizeof i);
		return (float)i;
	case WL_SAVED_I16:
		memcpy(&s, p, sizeof s);
		return (float)s;
	case WL_SAVED_I8:
		return (float)(int8_t)*p;
	default:
		return (float)*p;
	}
}

int wl_saved_to_f32(const struct wl_saved_tensor *t, float *out, struct wl_err *err)
{
	int64_t index[WL_SAVED_RANK_MAX] = {0}, offset = 0;
	size_t bytes = wl_saved_dtype_bytes(t->dtype);

	if (t->dtype == WL_SAVED_OTHER)
		return wl_err_set(err, WL_ECKPT,
			"the tensor \"%.200s\" has an element type that cannot be read as f32; "
			"save it as F32, F16 or BF16",
			t->name);
	if (!t->count)
		return 0;
	if (t->dtype == WL_SAVED_F32 && wl_saved_is_dense(t)) {
		memcpy(out, t->data, (size_t)t->count * sizeof *out);
		return 0;
	}
	for (int64_t i = 0; i < t->count; i++) {
		out[i] = load_f32(t->dtype, t->data + (size_t)offset * bytes);
		offset = next_offset(t, index, offset);
	}
	return 0;
}

static int64_t load_i64(enum wl_saved_dtype dtype, const uint8_t *p)
{
	int64_t l;
	int32_t i;
	int16_t s;

	switch (dtype) {
	case WL_SAVED_I64:
		memcpy(&l, p, sizeof l);
		return l;
	case WL_SAVED_I32:
		memcpy(&i, p, sizeof i);
		return i;
	case WL_SAVED_I16:
		memcpy(&s, p, sizeof s);
		return s;
	case WL_SAVED_I8:
		return (int8_t)*p;
	default:
		return *p;
	}
}

int wl_saved_to_i64(const struct wl_saved_tensor *t, int64_t *out, struct wl_err *err)
{
	int64_t index[WL_SAVED_RANK_MAX] = {0}, offset = 0;
	size_t bytes = wl_saved_dtype_bytes(t->dtype);

	if (t->dtype < WL_SAVED_I64 || t->dtype == WL_SAVED_OTHER)
		return wl_err_set(err, WL_ECKPT,
			"the tensor \"%.200s\" has elements of type %s where integers were "
			"expected; this file does not hold what its name says",
			t->name, wl_saved_dtype_name(t->dtype));
	for (int64_t i = 0; i < t->count; i++) {
		out[i] = load_i64(t->dtype, t->data + (size_t)offset * bytes);
		offset = next_offset(t, index, offset);
	}
	return 0;
}

static uint32_t bits_of(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof u);
	return u;
}

static float float_of(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof f);
	return f;
}

float wl_f32_from_f16(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
	uint32_t exponent = (half >> 10) & 0x1fu, mantissa = half & 0x3ffu;

	if (exponent == 0x1f)
		return float_of(sign | 0x7f800000u | mantissa << 13);
	if (exponent)
		return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
	/* Zero or subnormal: mantissa * 2^-24, exact in f32. */
	return float_of(sign | bits_of((float)mantissa * 0x1p-24f));
}

uint16_t wl_f16_from_f32(float value)
{
	uint32_t u = bits_of(value), sign = (u >> 16) & 0x8000u;
	float a = float_of(u & 0x7fffffffu);

	if (a != a)
		return (uint16_t)(sign | 0x7e00u);
	if (a >= 65520.0f) /* halfway between the largest half and 2^16 rounds to infinity */
		return (uint16_t)(sign | 0x7c00u);
	if (a < 0x1p-14f) /* subnormal: the FPU rounds to a multiple of 2^-24 */
		return (uint16_t)(sign | (uint32_t)lrintf(a * 0x1p24f));
	u = bits_of(a);
	u += 0xfffu + ((u >> 13) & 1u);
	return (uint16_t)(sign | ((u >> 13) - (112u << 10)));
}

float wl_f32_from_bf16(uint16_t half)
{
	return float_of((uint32_t)half << 16);
}

uint16_t wl_bf16_from_f32(float value)
{
	uint32_t u = bits_of(value);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(u >> 16 | 0x40u);
	return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

const char *wl_saved_shape_text(int rank, const int64_t *shape, char *text, size_t size)
{
	size_t used = 1;

	snprintf(text, size, "[");
	for (int i = 0; i < rank && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? ", " : "",
			(long long)shape[i]);
	if (used < size)
		snprintf(text + used, size - used, "]");
	return text;
}
