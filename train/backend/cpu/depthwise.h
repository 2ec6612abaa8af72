/* What the two files of depthwise convolution share. */
#ifndef WL_TRAIN_BACKEND_CPU_DEPTHWISE_H
#define WL_TRAIN_BACKEND_CPU_DEPTHWISE_H

#include "train/backend/cpu/cpu.h"
#include "train/backend/cpu/vec.h"

enum { P_MAX = 6 /* outputs at once */ };

struct dw {
	int64_t n, h, w, oh, ow, c;
	int k, stride, pt, pl;
};

/* First and one past the last kernel position that falls inside [0, size). */
static inline void dw_taps(int64_t at, int k, int64_t size, int *from, int *to)
{
	*from = at < 0 ? (int)cpu_min(k, -at) : 0;
	*to = (int)cpu_max(*from, cpu_min(k, size - at));
}

/* Which rows of the kernel are inside for a row of outputs. */
struct span {
	int from, to;
};

static inline struct span dw_rows_inside(const struct dw *d, int64_t oh)
{
	struct span s;
	dw_taps(oh * d->stride - d->pt, d->k, d->h, &s.from, &s.to);
	return s;
}

/* Outputs of a row whose columns of taps all are inside: [lo, hi); lo = hi where none has. */
static inline void dw_columns_inside(const struct dw *d, int64_t *lo, int64_t *hi)
{
	*lo = cpu_min(d->ow, cpu_ceil_div(d->pl, d->stride));
	*hi = d->w + d->pl >= d->k ? cpu_min(d->ow, (d->w + d->pl - d->k) / d->stride + 1) : 0;
	*hi = cpu_max(*hi, *lo);
}

/* n inputs (a constant) side by side into in, from x on: those in kw, 0 for the others. */
WL_INLINE void dw_inputs(const float *x, int64_t c, struct span kw, const int n, int lanes, vf *in)
{
#pragma GCC unroll 15
	for (int q = 0; q < n; q++)
		in[q] = q >= kw.from && q < kw.to ? vget(x + q * c, lanes) : vset(0);
}

/* Of a kernel whose taps of one vector of channels lie together (pack_taps). */
static inline size_t dw_packed_bytes(const struct dw *d)
{
	return (size_t)(d->k * d->k * cpu_ceil_div(d->c, VL) * VL) * sizeof(float);
}

/* depthwise_weights.c: the gradient of the kernel, added to gw [k,k,C].  x, gy: all images;
 * partial: wl_cpu_depthwise_partial bytes, for the sums of blocks of rows. */
void wl_cpu_depthwise_weights(struct cpu *c, const struct dw *d, const float *x, const float *gy,
	float *gw, float *partial);
size_t wl_cpu_depthwise_partial(const struct dw *d);

#endif
