/*
 * Depthwise convolution, NHWC: blocks of a few outputs side by side, all their channels one vector
 * after the other, so that memory is read as it lies.  Written here because oneDNN 2.6 falls
 * back to a reference kernel for the weight gradient of 5x5 with stride 2, and
 * because these are the memory-bound half of an EfficientNet.
 */
#include "train/backend/cpu/depthwise.h"

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
 * P outputs side by side, one vector of channels: each input is loaded once for the outputs of a
 * kernel row, each tap once for all. Callers go through the channels inside, so that memory is
 * read along its lines. x: the input at the first output's tap (0,0); w: packed (pack_taps); kh:
 * the kernel's rows, kw: the inputs of these rows that are inside, others count as 0.
 */
WL_INLINE void block_of(const float *x, const float *w, float *y, int64_t row, int64_t c,
	struct span kh, struct span kw, const int P, const int K, const int STRIDE, int lanes,
	bool acc)
{
	vf s[P_MAX], in[(P_MAX - 1) * 2 + 5];
#pragma GCC unroll 6
	for (int p = 0; p < P; p++)
		s[p] = vset(0);
	for (int i = kh.from; i < kh.to; i++) {
		dw_inputs(x + i * row, c, kw, (P - 1) * STRIDE + K, lanes, in);
#pragma GCC unroll 5
		for (int j = 0; j < K; j++) {
			vf tap = vload(w + (i * K + j) * VL);
#pragma GCC unroll 6
			for (int p = 0; p < P; p++)
				s[p] += in[p * STRIDE + j] * tap;
		}
	}
#pragma GCC unroll 6
	for (int p = 0; p < P; p++)
		vput(y + p * c, acc ? s[p] + vget(y + p * c, lanes) : s[p], lanes);
}

/* The same for the outputs below as well, stride 1: rows of the input and taps serve both, which
 * halves what comes from the second-level cache. */
WL_INLINE void block2_of(const float *x, const float *w, float *y, int64_t row, int64_t out_row,
	int64_t c, const int P, const int K, int lanes, bool acc)
{
	vf s[2][P_MAX], in[P_MAX - 1 + 5];
#pragma GCC unroll 6
	for (int p = 0; p < P; p++)
		s[0][p] = s[1][p] = vset(0);
#pragma GCC unroll 6
	for (int i = 0; i <= K; i++) {
#pragma GCC unroll 10
		for (int q = 0; q < P - 1 + K; q++)
			in[q] = vget(x + i * row + q * c, lanes);
#pragma GCC unroll 2
		for (int r = 0; r < 2; r++) {
			if (i - r < 0 || i - r >= K)
				continue;
#pragma GCC unroll 5
			for (int j = 0; j < K; j++) {
				vf tap = vload(w + ((i - r) * K + j) * VL);
#pragma GCC unroll 6
				for (int p = 0; p < P; p++)
					s[r][p] += in[p + j] * tap;
			}
		}
	}
#pragma GCC unroll 2
	for (int r = 0; r < 2; r++, y += out_row)
#pragma GCC unroll 6
		for (int p = 0; p < P; p++)
			vput(y + p * c, acc ? s[r][p] + vget(y + p * c, lanes) : s[r][p], lanes);
}

WL_INLINE void blocks2_of(const struct dw *d, const float *x, const float *w, float *y, const int P,
	const int K, bool acc)
{
	int64_t k = 0;
	for (; k + VL <= d->c; k += VL)
		block2_of(x + k, w + k * K * K, y + k, d->w * d->c, d->ow * d->c, d->c, P, K, VL,
			acc);
	if (k < d->c)
		block2_of(x + k, w + k * K * K, y + k, d->w * d->c, d->ow * d->c, d->c, P, K,
			(int)(d->c - k), acc);
}

WL_INLINE void blocks_of(const struct dw *d, const float *x, const float *w, float *y,
	struct span kh, struct span kw, const int P, const int K, const int STRIDE, bool acc)
{
	int64_t k = 0;
	for (; k + VL <= d->c; k += VL)
		block_of(x + k, w + k * K * K, y + k, d->w * d->c, d->c, kh, kw, P, K, STRIDE, VL,
			acc);
	if (k < d->c)
		block_of(x + k, w + k * K * K, y + k, d->w * d->c, d->c, kh, kw, P, K, STRIDE,
			(int)(d->c - k), acc);
}

/* Outputs [from, to) of row oh, some of whose taps are left or right of the picture. */
WL_INLINE void edges_of(const struct dw *d, const float *x, const float *w, float *y, int64_t oh,
	int64_t from, int64_t to, const int K, const int STRIDE, bool acc)
{
	const int64_t c = d->c, ih = oh * STRIDE - d->pt;
	for (int64_t ow = from; ow < to; ow++) {
		int64_t iw = ow * STRIDE - d->pl;
		struct span kw;
		dw_taps(iw, K, d->w, &kw.from, &kw.to);
		blocks_of(d, x + (ih * d->w + iw) * c, w, y + ow * c, dw_rows_inside(d, oh), kw, 1,
			K, STRIDE, acc);
	}
}

/* Blocks of P outputs, all of whose columns of taps are inside, while they fit into [lo, hi); where
 * they end.  x: the input at tap (0,0) of output 0; y: the row of outputs; two: also the one below
 * it, where both are whole. */
WL_INLINE int64_t inside_of(const struct dw *d, const float *x, const float *w, float *y,
	int64_t lo, int64_t hi, struct span kh, bool two, const int P, const int K,
	const int STRIDE, bool acc)
{
	const struct span all = {0, (P_MAX - 1) * STRIDE + K};
	for (; hi - lo >= P; lo += P) {
		const float *from = x + lo * STRIDE * d->c;
		if (two)
			blocks2_of(d, from, w, y + lo * d->c, P, K, acc);
		else
			blocks_of(d, from, w, y + lo * d->c, kh, all, P, K, STRIDE, acc);
	}
	return lo;
}

/* Row oh of outputs, and with `two` the one below. x: the image; y: output row oh. K and STRIDE
 * are constants. */
WL_INLINE void rows_of(const struct dw *d, const float *x, const float *w, float *y, int64_t oh,
	bool two, const int K, const int STRIDE, bool acc)
{
	const int64_t c = d->c;
	const struct span kh = dw_rows_inside(d, oh);
	int64_t lo, hi;
	dw_columns_inside(d, &lo, &hi);
	for (int64_t r = 0; r < (two ? 2 : 1); r++) {
		edges_of(d, x, w, y + r * d->ow * c, oh + r, 0, lo, K, STRIDE, acc);
		edges_of(d, x, w, y + r * d->ow * c, oh + r, hi, d->ow, K, STRIDE, acc);
	}
	x += ((oh * STRIDE - d->pt) * d->w - d->pl) * c;
	lo = inside_of(d, x, w, y, lo, hi, kh, two, P_MAX, K, STRIDE, acc);
	lo = inside_of(d, x, w, y, lo, hi, kh, two, 2, K, STRIDE, acc);
	inside_of(d, x, w, y, lo, hi, kh, two, 1, K, STRIDE, acc);
}

/* Rows oh and, where `two`, oh + 1. */
typedef void rows_fn(const struct dw *d, const float *x, const float *w, float *y, int64_t oh,
	bool two, bool acc);

/* Whether all rows of the kernel are inside. */
static bool whole(const struct dw *d, int64_t oh)
{
	struct span s = dw_rows_inside(d, oh);
	return s.from == 0 && s.to == d->k;
}

#define ROWS_FN(K, STRIDE)                                                                         \
	static void rows_##K##_##STRIDE(const struct dw *d, const float *x, const float *w,        \
		float *y, int64_t oh, bool two, bool acc)                                          \
	{                                                                                          \
		const bool both = two && STRIDE == 1 && whole(d, oh) && whole(d, oh + 1);          \
		rows_of(d, x, w, y, oh, both, K, STRIDE, acc);                                     \
		if (two && !both)                                                                  \
			rows_of(d, x, w, y + d->ow * d->c, oh + 1, false, K, STRIDE, acc);         \
	}
ROWS_FN(3, 1)
ROWS_FN(3, 2)
ROWS_FN(5, 1)
ROWS_FN(5, 2)

static void rows_any(const struct dw *d, const float *x, const float *w, float *y, int64_t oh,
	bool two, bool acc)
{
	int64_t row = d->w * d->c, ih = oh * d->stride - d->pt;
	int kh0, kh1;
	dw_taps(ih, d->k, d->h, &kh0, &kh1);
	for (int64_t ow = 0; ow < d->ow; ow++) {
		int64_t iw = ow * d->stride - d->pl;
		int kw0, kw1;
		dw_taps(iw, d->k, d->w, &kw0, &kw1);
		for (int64_t c = 0; c < d->c; c += VL) {
			int lanes = (int)cpu_min(VL, d->c - c);
			vf s = edge(x + ih * row + iw * d->c + c, w + c, row, d->c, d->k, kh0, kh1,
				kw0, kw1, lanes);
			float *to = y + ow * d->c + c;
			vput(to, acc ? s + vget(to, lanes) : s, lanes);
		}
	}
	if (two)
		rows_any(d, x, w, y + d->ow * d->c, oh + 1, false, acc);
}

static rows_fn *rows_fn_of(const struct dw *d)
{
	if (d->k == 3 && d->stride <= 2)
		return d->stride == 1 ? rows_3_1 : rows_3_2;
	if (d->k == 5 && d->stride <= 2)
		return d->stride == 1 ? rows_5_1 : rows_5_2;
	return rows_any;
}

/* A kernel whose taps of one vector of channels lie together, zeros behind the last channel: rows
 * of pictures are often a multiple of a page apart, and so are rows of the kernel, which would
 * drive each other out of the first-level cache. flipped: turned round. */
static void pack_taps(const struct dw *d, const float *w, bool flipped, float *out)
{
	const int n = d->k * d->k;
	for (int64_t k = 0; k < d->c; k += VL)
		for (int t = 0; t < n; t++, out += VL)
			vstore(out, vget(w + (flipped ? n - 1 - t : t) * d->c + k,
					    (int)cpu_min(VL, d->c - k)));
}

/* w: packed, or for rows_any as it is. */
static void forward(
	struct cpu *c, const struct dw *d, const float *x, const float *w, float *y, bool acc)
{
	rows_fn *fn = rows_fn_of(d);
	int64_t pairs = (d->oh + 1) / 2;
	CPU_FOR(c)
	for (int64_t r = 0; r < d->n * pairs; r++) {
		int64_t image = r / pairs, oh = r % pairs * 2;
		fn(d, x + image * d->h * d->w * d->c, w, y + (image * d->oh + oh) * d->ow * d->c,
			oh, oh + 1 < d->oh, acc);
	}
}

/* x as the batch norm before it makes it (in[slot] and the two behind it), `images` of it. */
static void normalise(struct cpu *c, const struct dw *d, const struct wl_op *op, int slot,
	const float *x, int64_t images, float *factors, float *to)
{
	float *a = factors, *b = factors + d->c;
	wl_cpu_norm_factors(op, slot, 0, d->c, a, b);
	CPU_FOR(c)
	for (int64_t r = 0; r < images * d->h; r++)
		for (int64_t i = r * d->w; i < (r + 1) * d->w; i++)
			wl_cpu_norm_row(op->attr.act, d->c, x + i * d->c, a, b, to + i * d->c);
}

/* Pictures that are normalised before they are convolved: few, so that they stay in the cache;
 * of small ones enough for all threads. */
static int64_t images_at_once(const struct dw *d)
{
	const int64_t floats = 4 << 20;
	return cpu_min(d->n, cpu_max(1, floats / (d->h * d->w * d->c)));
}

size_t wl_cpu_depthwise_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	struct dw d = dw_of(op, op->in[0], op->out[0]);
	size_t norm = (size_t)((2 + images_at_once(&d) * d.h * d.w) * d.c) * sizeof(float);
	return dw_packed_bytes(&d) + (op->in[2] ? norm : 0);
}

void wl_cpu_depthwise(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct dw d = dw_of(op, op->in[0], op->out[0]), some = d;
	const float *w = cpu_f32(op->in[1]), *x = cpu_f32(op->in[0]);
	float *y = cpu_f32(op->out[0]);
	float *factors = (float *)((char *)run->scratch + dw_packed_bytes(&d));
	float *normed = factors + 2 * d.c;
	if (rows_fn_of(&d) != rows_any) {
		pack_taps(&d, w, false, run->scratch);
		w = run->scratch;
	}
	if (!op->in[2]) {
		forward(c, &d, x, w, y, false);
		return;
	}
	for (int64_t n = 0; n < d.n; n += some.n) {
		some.n = cpu_min(d.n - n, images_at_once(&d));
		normalise(c, &d, op, 2, x + n * d.h * d.w * d.c, some.n, factors, normed);
		forward(c, &some, normed, w, y + n * d.oh * d.ow * d.c, false);
	}
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
	struct dw back = *d;
	back.h = d->oh;
	back.w = d->ow;
	back.oh = d->h;
	back.ow = d->w;
	back.pt = d->k - 1 - d->pt;
	back.pl = d->k - 1 - d->pl;
	if (rows_fn_of(&back) != rows_any) {
		pack_taps(d, w, true, flipped);
	} else {
		int taps_n = d->k * d->k;
		for (int t = 0; t < taps_n; t++)
			memcpy(flipped + t * d->c, w + (taps_n - 1 - t) * d->c,
				(size_t)d->c * sizeof(float));
	}
	forward(c, &back, gy, flipped, gx, acc);
}

size_t wl_cpu_depthwise_bwd_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	struct dw d = dw_of(op, op->in[0], op->in[2]);
	size_t norm = (size_t)((2 + d.n * d.h * d.w) * d.c) * sizeof(float);
	return wl_cpu_depthwise_partial(&d) + (op->in[3] && op->out[1] ? norm : 0);
}

void wl_cpu_depthwise_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct dw d = dw_of(op, op->in[0], op->in[2]);
	const float *x = cpu_f32(op->in[0]), *w = cpu_f32(op->in[1]), *gy = cpu_f32(op->in[2]);
	if (op->out[1] && op->in[3]) {
		/* All pictures: the blocks of the sums below are cut across them. */
		float *factors = (float *)((char *)run->scratch + wl_cpu_depthwise_partial(&d));
		normalise(c, &d, op, 3, x, d.n, factors, factors + 2 * d.c);
		x = factors + 2 * d.c;
	}
	if (op->out[1])
		wl_cpu_depthwise_weights(c, &d, x, gy, cpu_f32(op->out[1]), run->scratch);
	if (op->out[0])
		data_bwd(c, &d, gy, w, cpu_f32(op->out[0]), cpu_acc(op, 0), run->scratch);
}
