/*
 * The gradient of a depthwise kernel: blocks of rows sum apart, cut by shapes and added in order,
 * so that the bits do not depend on the number of threads.
 */
#include "train/backend/cpu/depthwise.h"

enum { GW_BLOCKS = 32 };

/* Adds the part of P outputs side by side to the weight gradient of a vector of channels, packed
 * as pack_taps does; as block_of. */
WL_INLINE void gw_block_of(const float *x, const float *gy, float *gw, int64_t row, int64_t c,
	struct span kh, struct span kw, const int P, const int K, const int STRIDE, int lanes)
{
	vf g[P_MAX], in[(P_MAX - 1) * 2 + 5];
#pragma GCC unroll 6
	for (int p = 0; p < P; p++)
		g[p] = vget(gy + p * c, lanes);
	for (int i = kh.from; i < kh.to; i++) {
		dw_inputs(x + i * row, c, kw, (P - 1) * STRIDE + K, lanes, in);
#pragma GCC unroll 5
		for (int j = 0; j < K; j++) {
			vf s = vload(gw + (i * K + j) * VL);
#pragma GCC unroll 6
			for (int p = 0; p < P; p++)
				s += g[p] * in[p * STRIDE + j];
			vstore(gw + (i * K + j) * VL, s);
		}
	}
}

WL_INLINE void gw_blocks_of(const struct dw *d, const float *x, const float *gy, float *gw,
	struct span kh, struct span kw, const int P, const int K, const int STRIDE)
{
	int64_t k = 0;
	for (; k + VL <= d->c; k += VL)
		gw_block_of(
			x + k, gy + k, gw + k * K * K, d->w * d->c, d->c, kh, kw, P, K, STRIDE, VL);
	if (k < d->c)
		gw_block_of(x + k, gy + k, gw + k * K * K, d->w * d->c, d->c, kh, kw, P, K, STRIDE,
			(int)(d->c - k));
}

/* Adds one output row's part to the weight gradient. x: the image; gy: the row. */
WL_INLINE void gw_row(const struct dw *d, const float *x, const float *gy, float *gw, int64_t oh,
	const int K, const int STRIDE)
{
	const int64_t c = d->c;
	const struct span kh = dw_rows_inside(d, oh), all = {0, (P_MAX - 1) * STRIDE + K};
	int64_t lo, hi;
	dw_columns_inside(d, &lo, &hi);
	x += (oh * STRIDE - d->pt) * d->w * c;
	for (int64_t ow = 0; ow < d->ow;) {
		const float *p = x + (ow * STRIDE - d->pl) * c;
		if (ow >= lo && hi - ow >= P_MAX) {
			gw_blocks_of(d, p, gy + ow * c, gw, kh, all, P_MAX, K, STRIDE);
			ow += P_MAX;
		} else {
			struct span kw;
			dw_taps(ow * STRIDE - d->pl, K, d->w, &kw.from, &kw.to);
			gw_blocks_of(d, p, gy + ow * c, gw, kh, kw, 1, K, STRIDE);
			ow++;
		}
	}
}

/* gw: packed, or for gw_any as the kernel itself. */
typedef void gw_fn(const struct dw *d, const float *x, const float *gy, float *gw, int64_t oh);

#define GW_FN(K, STRIDE)                                                                           \
	static void gw_##K##_##STRIDE(                                                             \
		const struct dw *d, const float *x, const float *gy, float *gw, int64_t oh)        \
	{                                                                                          \
		gw_row(d, x, gy, gw, oh, K, STRIDE);                                               \
	}
GW_FN(3, 1)
GW_FN(3, 2)
GW_FN(5, 1)
GW_FN(5, 2)

static void gw_any(const struct dw *d, const float *x, const float *gy, float *gw, int64_t oh)
{
	int64_t row = d->w * d->c, ih = oh * d->stride - d->pt;
	int kh0, kh1;
	dw_taps(ih, d->k, d->h, &kh0, &kh1);
	for (int64_t ow = 0; ow < d->ow; ow++) {
		int64_t iw = ow * d->stride - d->pl;
		int kw0, kw1;
		dw_taps(iw, d->k, d->w, &kw0, &kw1);
		for (int i = kh0; i < kh1; i++)
			for (int j = kw0; j < kw1; j++) {
				const float *from = x + (ih + i) * row + (iw + j) * d->c;
				const float *g = gy + ow * d->c;
				float *restrict to = gw + (i * d->k + j) * d->c;
				for (int64_t c = 0; c < d->c; c++)
					to[c] += g[c] * from[c];
			}
	}
}

static gw_fn *gw_fn_of(const struct dw *d)
{
	if (d->k == 3 && d->stride <= 2)
		return d->stride == 1 ? gw_3_1 : gw_3_2;
	if (d->k == 5 && d->stride <= 2)
		return d->stride == 1 ? gw_5_1 : gw_5_2;
	return gw_any;
}

size_t wl_cpu_depthwise_partial(const struct dw *d)
{
	return (size_t)(cpu_min(GW_BLOCKS, d->n * d->oh) + 1) * dw_packed_bytes(d);
}

/* Adds a packed kernel to one as it is. */
static void add_packed(const struct dw *d, const float *from, float *gw)
{
	const int n = d->k * d->k;
	for (int64_t k = 0; k < d->c; k += VL)
		for (int t = 0; t < n; t++, from += VL) {
			int lanes = (int)cpu_min(VL, d->c - k);
			float *to = gw + t * d->c + k;
			vput(to, vget(to, lanes) + vload(from), lanes);
		}
}

void wl_cpu_depthwise_weights(struct cpu *c, const struct dw *d, const float *x, const float *gy,
	float *gw, float *partial)
{
	gw_fn *fn = gw_fn_of(d);
	int64_t rows = d->n * d->oh, size = d->k * d->k * d->c;
	int64_t blocks = cpu_min(GW_BLOCKS, rows), per = cpu_ceil_div(rows, blocks);
	if (fn != gw_any)
		size = (int64_t)(dw_packed_bytes(d) / sizeof(float));
	CPU_FOR(c)
	for (int64_t b = 0; b < blocks; b++) {
		float *sum = partial + b * size;
		memset(sum, 0, (size_t)size * sizeof(float));
		for (int64_t r = b * per; r < cpu_min(rows, (b + 1) * per); r++)
			fn(d, x + r / d->oh * d->h * d->w * d->c, gy + r * d->ow * d->c, sum,
				r % d->oh);
	}
	for (int64_t b = 0; b < blocks; b++) {
		const float *restrict from = partial + b * size;
		if (fn != gw_any) {
			add_packed(d, from, gw);
			continue;
		}
#pragma omp simd
		for (int64_t i = 0; i < size; i++)
			gw[i] += from[i];
	}
}
