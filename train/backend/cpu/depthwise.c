/*
 * Depthwise convolution, NHWC: a vector of channels at a time, the kernel's taps
 * in registers while it walks along a row.  Written here because oneDNN 2.6 falls
 * back to a reference kernel for the weight gradient of 5x5 with stride 2, and
 * because these are the memory-bound half of an EfficientNet.
 */
#include "train/backend/cpu/cpu.h"
#include "train/backend/cpu/vec.h"

enum { GW_BLOCKS = 32 };

struct dw {
	int64_t n, h, w, oh, ow, c;
	int k, stride, pt, pl;
};

static struct dw dw_of(const struct wl_op *op, const struct wl_tensor *x, const struct wl_tensor *y)
{
	const struct wl_op_attr *a = &op->attr;
	return (struct dw){.n = x->shape.dim[0],
		.h = x->shape.dim[1],
		.w = x->shape.dim[2],
		.c = x->shape.dim[3],
		.oh = y->shape.dim[1],
		.ow = y->shape.dim[2],
		.k = a->kh,
		.stride = a->stride,
		.pt = a->pad_top,
		.pl = a->pad_left};
}

/* First and one past the last kernel position that falls inside [0, size). */
static void taps(int64_t at, int k, int64_t size, int *from, int *to)
{
	*from = at < 0 ? (int)cpu_min(k, -at) : 0;
	*to = (int)cpu_max(*from, cpu_min(k, size - at));
}

/* One output by loops over the taps inside; `at` is the input at tap (0,0). */
WL_INLINE vf edge(const float *x, const float *w, int64_t row, int64_t c, int k, int kh0, int kh1,
	int kw0, int kw1, int lanes)
{
	vf s = vset(0);
	for (int i = kh0; i < kh1; i++)
		for (int j = kw0; j < kw1; j++)
			s += vget(x + i * row + j * c, lanes) * vget(w + (i * k + j) * c, lanes);
	return s;
}

/*
 * One row of outputs of one vector of channels. x: the image's channel vector at
 * (0,0); w at tap (0,0); y: the output row. K and STRIDE are constants.
 */
WL_INLINE void row_of(const struct dw *d, const float *x, const float *w, float *y, int64_t oh,
	const int K, const int STRIDE, int lanes, bool acc)
{
	int64_t c = d->c, row = d->w * c, ih = oh * STRIDE - d->pt;
	int kh0, kh1;
	taps(ih, K, d->h, &kh0, &kh1);
	x += ih * row;
	/* Outputs [lo, hi) have all taps inside; the rest are edges. */
	int64_t lo = cpu_min(d->ow, cpu_ceil_div(d->pl, STRIDE));
	int64_t hi = d->w + d->pl >= K ? cpu_min(d->ow, (d->w + d->pl - K) / STRIDE + 1) : 0;
	if (kh1 - kh0 < K || hi < lo)
		lo = hi = d->ow;
	for (int64_t ow = 0; ow < d->ow; ow++) {
		if (ow == lo) {
			ow = hi;
			if (ow >= d->ow)
				break;
		}
		int64_t iw = ow * STRIDE - d->pl;
		int kw0, kw1;
		taps(iw, K, d->w, &kw0, &kw1);
		vf s = edge(x + iw * c, w, row, c, K, kh0, kh1, kw0, kw1, lanes);
		vput(y + ow * c, acc ? s + vget(y + ow * c, lanes) : s, lanes);
	}
	if (lo >= hi)
		return;
	vf taps_w[5 * 5];
#pragma GCC unroll 25
	for (int t = 0; t < K * K; t++)
		taps_w[t] = vget(w + t * c, lanes);
	const float *p = x + (lo * STRIDE - d->pl) * c;
	for (int64_t ow = lo; ow < hi; ow++, p += STRIDE * c) {
		vf s = vset(0);
#pragma GCC unroll 5
		for (int i = 0; i < K; i++)
#pragma GCC unroll 5
			for (int j = 0; j < K; j++)
				s += vget(p + i * row + j * c, lanes) * taps_w[i * K + j];
		vput(y + ow * c, acc ? s + vget(y + ow * c, lanes) : s, lanes);
	}
}

typedef void row_fn(
	const struct dw *d, const float *x, const float *w, float *y, int64_t oh, bool acc);

/* All channels of a row, full vectors and the remainder. */
#define ROW_FN(K, STRIDE)                                                                          \
	static void row_##K##_##STRIDE(const struct dw *d, const float *x, const float *w,         \
		float *y, int64_t oh, bool acc)                                                    \
	{                                                                                          \
		int64_t c = 0;                                                                     \
		for (; c + VL <= d->c; c += VL)                                                    \
			row_of(d, x + c, w + c, y + c, oh, K, STRIDE, VL, acc);                    \
		if (c < d->c)                                                                      \
			row_of(d, x + c, w + c, y + c, oh, K, STRIDE, (int)(d->c - c), acc);       \
	}
ROW_FN(3, 1)
ROW_FN(3, 2)
ROW_FN(5, 1)
ROW_FN(5, 2)

static void row_any(
	const struct dw *d, const float *x, const float *w, float *y, int64_t oh, bool acc)
{
	int64_t row = d->w * d->c, ih = oh * d->stride - d->pt;
	int kh0, kh1;
	taps(ih, d->k, d->h, &kh0, &kh1);
	for (int64_t ow = 0; ow < d->ow; ow++) {
		int64_t iw = ow * d->stride - d->pl;
		int kw0, kw1;
		taps(iw, d->k, d->w, &kw0, &kw1);
		for (int64_t c = 0; c < d->c; c += VL) {
			int lanes = (int)cpu_min(VL, d->c - c);
			vf s = edge(x + ih * row + iw * d->c + c, w + c, row, d->c, d->k, kh0, kh1,
				kw0, kw1, lanes);
			float *to = y + ow * d->c + c;
			vput(to, acc ? s + vget(to, lanes) : s, lanes);
		}
	}
}

static row_fn *row_fn_of(const struct dw *d)
{
	if (d->k == 3 && d->stride <= 2)
		return d->stride == 1 ? row_3_1 : row_3_2;
	if (d->k == 5 && d->stride <= 2)
		return d->stride == 1 ? row_5_1 : row_5_2;
	return row_any;
}

void wl_cpu_depthwise(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	struct dw d = dw_of(op, op->in[0], op->out[0]);
	const float *x = cpu_f32(op->in[0]), *w = cpu_f32(op->in[1]);
	float *y = cpu_f32(op->out[0]);
	row_fn *fn = row_fn_of(&d);
	CPU_FOR(c)
	for (int64_t r = 0; r < d.n * d.oh; r++)
		fn(&d, x + r / d.oh * d.h * d.w * d.c, w, y + r * d.ow * d.c, r % d.oh, false);
}

/* Gradient of one input row where the stride is not 1: gathers the outputs it went into. */
static void gx_row(
	const struct dw *d, const float *gy, const float *w, float *gx, int64_t ih, bool acc)
{
	for (int64_t iw = 0; iw < d->w; iw++) {
		for (int64_t c = 0; c < d->c; c += VL) {
			int lanes = (int)cpu_min(VL, d->c - c);
			vf s = vset(0);
			for (int i = (int)((ih + d->pt) % d->stride); i < d->k; i += d->stride) {
				int64_t oh = (ih + d->pt - i) / d->stride;
				if (ih + d->pt < i || oh >= d->oh)
					continue;
				for (int j = (int)((iw + d->pl) % d->stride); j < d->k;
					j += d->stride) {
					int64_t ow = (iw + d->pl - j) / d->stride;
					if (iw + d->pl < j || ow >= d->ow)
						continue;
					s += vget(gy + (oh * d->ow + ow) * d->c + c, lanes) *
					     vget(w + (i * d->k + j) * d->c + c, lanes);
				}
			}
			float *to = gx + iw * d->c + c;
			vput(to, acc ? s + vget(to, lanes) : s, lanes);
		}
	}
}

/*
 * The same for stride 2 and a kernel of K, where most of the time goes: columns of
 * one parity take the same taps, at most R = (K+1)/2 by R, kept in registers. Rows
 * that do not exist have weight 0 and read a row that does.
 */
WL_INLINE void gx_row2(const struct dw *d, const float *gy, const float *w, float *gx, int64_t ih,
	const int K, int lanes, bool acc)
{
	const int R = (K + 1) / 2;
	int64_t c = d->c, row = d->ow * c, oh0 = (ih + d->pt) / 2;
	for (int par = 0; par < 2; par++) {
		const float *rows[3];
		vf taps_w[3 * 3];
#pragma GCC unroll 3
		for (int i = 0; i < R; i++) {
			int kh = (int)((ih + d->pt) % 2) + 2 * i;
			int64_t oh = oh0 - i;
			bool there = kh < K && oh >= 0 && oh < d->oh;
			rows[i] = gy + (there ? oh : cpu_min(cpu_max(oh, 0), d->oh - 1)) * row;
#pragma GCC unroll 3
			for (int j = 0; j < R; j++) {
				int kw = par + 2 * j;
				taps_w[i * R + j] = there && kw < K
							    ? vget(w + (kh * K + kw) * c, lanes)
							    : vset(0);
			}
		}
		/* Columns of this parity, from the output column right above them. */
		int64_t iw = ((par - d->pl) % 2 + 2) % 2;
		for (; iw < d->w; iw += 2) {
			int64_t ow = (iw + d->pl - par) / 2;
			vf s = vset(0);
			if (ow - (R - 1) >= 0 && ow < d->ow) {
#pragma GCC unroll 3
				for (int i = 0; i < R; i++)
#pragma GCC unroll 3
					for (int j = 0; j < R; j++)
						s += vget(rows[i] + (ow - j) * c, lanes) *
						     taps_w[i * R + j];
			} else {
				for (int i = 0; i < R; i++)
					for (int j = 0; j < R; j++)
						if (ow - j >= 0 && ow - j < d->ow)
							s += vget(rows[i] + (ow - j) * c, lanes) *
							     taps_w[i * R + j];
			}
			float *to = gx + iw * c;
			vput(to, acc ? s + vget(to, lanes) : s, lanes);
		}
	}
}

typedef void gx_fn(
	const struct dw *d, const float *gy, const float *w, float *gx, int64_t ih, bool acc);

#define GX_FN(K)                                                                                   \
	static void gx_row2_##K(const struct dw *d, const float *gy, const float *w, float *gx,    \
		int64_t ih, bool acc)                                                              \
	{                                                                                          \
		int64_t c = 0;                                                                     \
		for (; c + VL <= d->c; c += VL)                                                    \
			gx_row2(d, gy + c, w + c, gx + c, ih, K, VL, acc);                         \
		if (c < d->c)                                                                      \
			gx_row2(d, gy + c, w + c, gx + c, ih, K, (int)(d->c - c), acc);            \
	}
GX_FN(3)
GX_FN(5)

static void data_bwd(struct cpu *c, const struct dw *d, const float *gy, const float *w, float *gx,
	bool acc, float *flipped)
{
	if (d->stride != 1) {
		gx_fn *fn = d->stride == 2 && d->k == 3	  ? gx_row2_3
			    : d->stride == 2 && d->k == 5 ? gx_row2_5
							  : gx_row;
		CPU_FOR(c)
		for (int64_t r = 0; r < d->n * d->h; r++)
			fn(d, gy + r / d->h * d->oh * d->ow * d->c, w, gx + r * d->w * d->c,
				r % d->h, acc);
		return;
	}
	/* Stride 1: a convolution of gy with the kernel turned round. */
	int taps_n = d->k * d->k;
	for (int t = 0; t < taps_n; t++)
		memcpy(flipped + t * d->c, w + (taps_n - 1 - t) * d->c,
			(size_t)d->c * sizeof(float));
	struct dw back = *d;
	back.h = d->oh;
	back.w = d->ow;
	back.oh = d->h;
	back.ow = d->w;
	back.pt = d->k - 1 - d->pt;
	back.pl = d->k - 1 - d->pl;
	row_fn *fn = row_fn_of(&back);
	CPU_FOR(c)
	for (int64_t r = 0; r < d->n * d->h; r++)
		fn(&back, gy + r / d->h * d->oh * d->ow * d->c, flipped, gx + r * d->w * d->c,
			r % d->h, acc);
}

/* Adds one output row's part to the weight gradient of a channel vector. */
WL_INLINE void gw_row(const struct dw *d, const float *x, const float *gy, float *gw, int64_t oh,
	const int K, const int STRIDE, int lanes)
{
	int64_t c = d->c, row = d->w * c, ih = oh * STRIDE - d->pt;
	int kh0, kh1;
	taps(ih, K, d->h, &kh0, &kh1);
	x += ih * row;
	int64_t lo = cpu_min(d->ow, cpu_ceil_div(d->pl, STRIDE));
	int64_t hi = d->w + d->pl >= K ? cpu_min(d->ow, (d->w + d->pl - K) / STRIDE + 1) : 0;
	if (kh1 - kh0 < K || hi < lo)
		lo = hi = d->ow;
	for (int64_t ow = 0; ow < d->ow; ow++) {
		if (ow == lo) {
			ow = hi;
			if (ow >= d->ow)
				break;
		}
		int64_t iw = ow * STRIDE - d->pl;
		int kw0, kw1;
		taps(iw, K, d->w, &kw0, &kw1);
		vf g = vget(gy + ow * c, lanes);
		for (int i = kh0; i < kh1; i++)
			for (int j = kw0; j < kw1; j++) {
				float *to = gw + (i * K + j) * c;
				vput(to,
					vget(to, lanes) +
						g * vget(x + i * row + (iw + j) * c, lanes),
					lanes);
			}
	}
	if (lo >= hi)
		return;
	vf s[5 * 5];
#pragma GCC unroll 25
	for (int t = 0; t < K * K; t++)
		s[t] = vget(gw + t * c, lanes);
	const float *p = x + (lo * STRIDE - d->pl) * c;
	for (int64_t ow = lo; ow < hi; ow++, p += STRIDE * c) {
		vf g = vget(gy + ow * c, lanes);
#pragma GCC unroll 5
		for (int i = 0; i < K; i++)
#pragma GCC unroll 5
			for (int j = 0; j < K; j++)
				s[i * K + j] += g * vget(p + i * row + j * c, lanes);
	}
#pragma GCC unroll 25
	for (int t = 0; t < K * K; t++)
		vput(gw + t * c, s[t], lanes);
}

typedef void gw_fn(const struct dw *d, const float *x, const float *gy, float *gw, int64_t oh);

#define GW_FN(K, STRIDE)                                                                           \
	static void gw_##K##_##STRIDE(                                                             \
		const struct dw *d, const float *x, const float *gy, float *gw, int64_t oh)        \
	{                                                                                          \
		int64_t c = 0;                                                                     \
		for (; c + VL <= d->c; c += VL)                                                    \
			gw_row(d, x + c, gy + c, gw + c, oh, K, STRIDE, VL);                       \
		if (c < d->c)                                                                      \
			gw_row(d, x + c, gy + c, gw + c, oh, K, STRIDE, (int)(d->c - c));          \
	}
GW_FN(3, 1)
GW_FN(3, 2)
GW_FN(5, 1)
GW_FN(5, 2)

static void gw_any(const struct dw *d, const float *x, const float *gy, float *gw, int64_t oh)
{
	int64_t row = d->w * d->c, ih = oh * d->stride - d->pt;
	int kh0, kh1;
	taps(ih, d->k, d->h, &kh0, &kh1);
	for (int64_t ow = 0; ow < d->ow; ow++) {
		int64_t iw = ow * d->stride - d->pl;
		int kw0, kw1;
		taps(iw, d->k, d->w, &kw0, &kw1);
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

size_t wl_cpu_depthwise_bwd_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	struct dw d = dw_of(op, op->in[0], op->in[2]);
	int64_t blocks = cpu_min(GW_BLOCKS, d.n * d.oh);
	return (size_t)((blocks + 1) * d.k * d.k * d.c) * sizeof(float);
}

static void weights_bwd(struct cpu *c, const struct dw *d, const float *x, const float *gy,
	float *gw, float *partial)
{
	int64_t rows = d->n * d->oh, size = d->k * d->k * d->c;
	int64_t blocks = cpu_min(GW_BLOCKS, rows), per = cpu_ceil_div(rows, blocks);
	gw_fn *fn = gw_fn_of(d);
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
#pragma omp simd
		for (int64_t i = 0; i < size; i++)
			gw[i] += from[i];
	}
}

void wl_cpu_depthwise_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct dw d = dw_of(op, op->in[0], op->in[2]);
	const float *x = cpu_f32(op->in[0]), *w = cpu_f32(op->in[1]), *gy = cpu_f32(op->in[2]);
	if (op->out[1])
		weights_bwd(c, &d, x, gy, cpu_f32(op->out[1]), run->scratch);
	if (op->out[0])
		data_bwd(c, &d, gy, w, cpu_f32(op->out[0]), cpu_acc(op, 0), run->scratch);
}
