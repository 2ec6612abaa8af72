/*
 * Depthwise convolution, NHWC, 3x3 and 5x5 with strides 1 and 2 as walks (see depthwise.h), any
 * other by a plain kernel at the end.  Forward takes batch norm before it on load.
 *
 * Where batch norm follows, forward leaves the moments of what it writes: sums by tile on the
 * store, of y less a rough mean, and their end.  In inference, where the norm is known before, it
 * leaves the squeeze-excite mean of the normalised y in the same way.
 *
 * Bytes: x is read, y written.  Backward: depthwise_back.cu.
 */
#include "train/backend/cuda/depthwise.h"

/* --- forward --- */

struct forward {
	struct dw d; /* as the walk sees it: its input h x w, its output oh x ow */
	struct tile t;
	struct cuda_act x, y;
	struct cuda_norm norm;
	const float *w;
	float *shift, *partial; /* [c]; [tiles, 2, c]: of y - shift and its square; NULL: none */
	struct cuda_norm after; /* partial: of y under this norm, and nothing */
};

CUDA_INLINE void store_columns(struct cuda_act y, int64_t row, int c, int col, int w,
	struct place p, int n, float from[][LANE_CH])
{
	CUDA_UNROLL
	for (int o = 0; o < n; o++)
		if (col + o < w)
			act_store2(y, row + (int64_t)(col + o) * c + p.ch, from[o][0], from[o][1]);
}

/* What the sums of the slab's channels are of: act(a y + b), the norm behind y; or y + b and its
 * square, b minus a rough mean. */
struct sum_lines {
	float a[SLAB], b[SLAB];
};

CUDA_INLINE void load_sum_lines(const struct forward *f, struct place p, struct sum_lines *l)
{
	int j = (int)threadIdx.x;

	if (j >= SLAB || p.slab + j >= f->d.c)
		return;
	if (f->after.gamma)
		norm_line(f->after, f->d.c, p.slab + j, &l->a[j], &l->b[j]);
	else
		l->b[j] = -f->shift[p.slab + j];
}

/* What a thread's outputs of a row add to its sums, as y is stored. */
CUDA_INLINE void add_sums(const struct forward *f, int col, int n, float from[][LANE_CH],
	const struct sum_lines *l, int first, float s1[LANE_CH], float s2[LANE_CH])
{
	CUDA_UNROLL
	for (int o = 0; o < n; o++)
		CUDA_UNROLL
		for (int v = 0; v < LANE_CH; v++) {
			float y = rounded(from[o][v], f->y.type);
			float b = l->b[first + v];

			if (col + o >= f->d.ow)
				continue;
			if (f->after.gamma) {
				s1[v] += norm_act(f->after.act, y * l->a[first + v] + b);
			} else {
				s1[v] += y + b;
				s2[v] += (y + b) * (y + b);
			}
		}
}

/* The sums of a block's strips, in their order.  All threads; shared: 4 * CUDA_THREADS floats. */
CUDA_INLINE void put_sums_of(const struct forward *f, struct place p, int64_t part,
	const float s1[LANE_CH], const float s2[LANE_CH], float *shared)
{
	const int slab = f->t.lanes * LANE_CH;

	CUDA_UNROLL
	for (int v = 0; v < LANE_CH; v++) {
		shared[(int)threadIdx.x * LANE_CH + v] = s1[v];
		shared[(CUDA_THREADS + (int)threadIdx.x) * LANE_CH + v] = s2[v];
	}
	__syncthreads();
	for (int e = (int)threadIdx.x; e < 2 * slab; e += CUDA_THREADS) {
		const float *at = shared + e / slab * CUDA_THREADS * LANE_CH + e % slab;
		float sum = 0;

		for (int k = 0; k < f->t.strips; k++)
			sum += at[k * slab];
		if (p.slab + e % slab < f->d.c)
			f->partial[(2 * part + e / slab) * f->d.c + p.slab + e % slab] = sum;
	}
}

CUDA_INLINE void forward_walk(const struct forward f, const int K, const int S, const bool SUMS)
{
	const int TW = WIDE / S, XW = (TW - 1) * S + K, RING = (K + S - 1) / S, PERIOD = S * RING;
	__shared__ struct shared_rows s;
	__shared__ struct sum_lines lines; /* not in registers, of which there are too few */
	int slab = (int)(blockIdx.x % f.t.slabs);
	struct place p = place_of(f.t, f.d.c, blockIdx.x / f.t.slabs, slab);
	int rows = f.d.oh - p.row < f.t.rows ? f.d.oh - p.row : f.t.rows;
	int total = (rows - 1) * S + K, col = p.col + p.strip * TW;
	struct feed in = feed_of(f.x, f.d.h, f.d.w, f.d.c, f.norm, f.t, p, p.row * S - f.d.pt,
		p.col * S - f.d.pl, f.t.strips * TW * S + K - S);
	float w[MAX_K * MAX_K][LANE_CH], sum[MAX_K][WIDE][LANE_CH], x[WIDE + MAX_K][LANE_CH];
	float s1[LANE_CH], s2[LANE_CH];

	CUDA_UNROLL
	for (int v = 0; v < LANE_CH; v++)
		s1[v] = s2[v] = 0.0f;
	if (SUMS)
		load_sum_lines(&f, p, &lines);
	feed_norm(&in, p.slab, &s);
	load_taps(f.w, K * K, f.d.c, p, LANE_CH, w);
	feed_start(&in, &s);
	for (int base = 0; base < total; base += PERIOD) {
		CUDA_UNROLL
		for (int u = 0; u < PERIOD; u++) {
			int t = base + u, done = t - (K - 1);

			if (t >= total)
				break;
			if (p.works) {
				load_columns(s.stage[t & 1], f.t, p, p.strip * TW * S, XW, LANE_CH,
					x);
				CUDA_UNROLL
				for (int i = 0; i < K; i++) {
					const int ring = (u - i + PERIOD) / S % RING;

					if ((u - i + PERIOD) % S)
						continue;
					CUDA_UNROLL
					for (int o = 0; o < TW; o++)
						CUDA_UNROLL
						for (int v = 0; v < LANE_CH; v++) {
							float z = i ? sum[ring][o][v] : 0.0f;

							CUDA_UNROLL
							for (int j = 0; j < K; j++)
								z += w[i * K + j][v] *
								     x[o * S + j][v];
							sum[ring][o][v] = z;
						}
				}
				if ((u - (K - 1) + PERIOD) % S == 0 && done >= 0) {
					float(*full)[LANE_CH] =
						sum[(u - (K - 1) + PERIOD) / S % RING];

					store_columns(f.y,
						((int64_t)p.n * f.d.oh + p.row + done / S) *
							f.d.ow * f.d.c,
						f.d.c, col, f.d.ow, p, TW, full);
					if (SUMS)
						add_sums(&f, col, TW, full, &lines,
							p.lane * LANE_CH, s1, s2);
				}
			}
			feed_next(&in, t, total, &s);
		}
	}
	if (SUMS)
		put_sums_of(&f, p, blockIdx.x / f.t.slabs, s1, s2, &s.stage[0][0]);
}

#define FORWARD(K, S)                                                                              \
	static __global__ void BOUNDS k_forward_##K##_##S(struct forward f)                        \
	{                                                                                          \
		forward_walk(f, K, S, false);                                                      \
	}                                                                                          \
	static __global__ void BOUNDS k_forward_sums_##K##_##S(struct forward f)                   \
	{                                                                                          \
		forward_walk(f, K, S, true);                                                       \
	}                                                                                          \
	static void forward_##K##_##S(struct cuda *c, struct forward f, int64_t blocks)            \
	{                                                                                          \
		if (f.partial)                                                                     \
			CUDA_BLOCKS(c, blocks, k_forward_sums_##K##_##S, f);                       \
		else                                                                               \
			CUDA_BLOCKS(c, blocks, k_forward_##K##_##S, f);                            \
	}
FORWARD(3, 1)
FORWARD(3, 2)
FORWARD(5, 1)
FORWARD(5, 2)

static struct tile forward_tile(const struct dw *d)
{
	return tile_of(d, d->oh, d->ow, WIDE / d->stride, false, LANE_CH);
}

static void run_forward(struct cuda *c, struct forward f)
{
	f.t = forward_tile(&f.d);
	int64_t blocks = tiles_in(&f.t, f.d.n) * f.t.slabs;

	if (f.d.k == 3 && f.d.stride == 1)
		forward_3_1(c, f, blocks);
	else if (f.d.k == 3)
		forward_3_2(c, f, blocks);
	else if (f.d.stride == 1)
		forward_5_1(c, f, blocks);
	else
		forward_5_2(c, f, blocks);
}

/* --- any other kernel, stride or number of channels: a thread an element --- */

/* Element e of y. */
static __device__ inline float forward_one(const struct dw *d, int64_t e, struct cuda_act x,
	struct cuda_norm norm, const float *w)
{
	int ch = (int)(e % d->c), ow = (int)(e / d->c % d->ow);
	int64_t row = e / ((int64_t)d->c * d->ow);
	int oh = (int)(row % d->oh), ih = oh * d->stride - d->pt, iw = ow * d->stride - d->pl;
	int64_t at = row / d->oh * d->h * d->w * d->c + ch;
	float s = 0;

	for (int i = 0; i < d->k; i++)
		for (int j = 0; j < d->k; j++)
			if (ih + i >= 0 && ih + i < d->h && iw + j >= 0 && iw + j < d->w)
				s += w[(i * d->k + j) * d->c + ch] *
				     norm_load(norm, x,
					     at + ((int64_t)(ih + i) * d->w + iw + j) * d->c, d->c,
					     ch);
	return s;
}

static __global__ void k_forward_any(int64_t n, struct dw d, struct cuda_act x,
	struct cuda_norm norm, const float *w, struct cuda_act y)
{
	EACH(e, n)
	act_store(y, e, forward_one(&d, e, x, norm, w));
}

/* A rough mean of y, of a few places: so that no digits go in the difference of large numbers. */
static __global__ void k_forward_shift(int64_t n, struct dw d, struct cuda_act x,
	struct cuda_norm norm, const float *w, float *shift)
{
	int64_t rows = (int64_t)d.n * d.oh * d.ow, take = rows < 4 ? rows : 4;

	EACH(j, n)
	{
		float s = 0;

		for (int64_t i = 0; i < take; i++)
			s += forward_one(&d, (2 * i + 1) * rows / (2 * take) * d.c + j, x, norm, w);
		shift[j] = s / (float)(take > 0 ? take : 1);
	}
}

/* y [n] = the mean over an image of the sums that its tiles left. */
static __global__ void k_forward_mean(
	int64_t n, int64_t c, int64_t tiles, int64_t rows, const float *partial, struct cuda_act y)
{
	EACH(e, n)
	{
		const float *at = partial + e / c * tiles * 2 * c + e % c;
		double sum = 0;

		for (int64_t k = 0; k < tiles; k++)
			sum += (double)at[2 * k * c];
		act_store(y, e, (float)(sum / (double)rows));
	}
}

/* --- the operations --- */

static struct rows8 images_of(const struct dw *d)
{
	return rows8_of(d->n, (int64_t)d->oh * d->ow, d->c);
}

size_t wl_cuda_depthwise_scratch(const struct wl_op *op)
{
	struct dw d = dw_of(op, op->in[0], op->out[0]);
	struct tile t = forward_tile(&d);
	struct rows8 at = images_of(&d);

	if (!op->out[1] && !op->out[2])
		return 0;
	if (!walks(&d))
		return op->out[2] ? wl_cuda_mean_scratch(&at)
				  : wl_cuda_moments_scratch(d.c, at.images * at.rows);
	return (size_t)((2 * tiles_in(&t, d.n) + 1) * d.c) * sizeof(float);
}

/* The operation of any shape; each pass by itself. */
static void run_any(struct cuda *c, const struct wl_op *op, struct dw d, void *scratch)
{
	struct cuda_act y = cuda_act_of(op->out[0]);
	struct rows8 at = images_of(&d);
	int64_t n = cuda_count(op->out[0]);

	CUDA_EACH(c, n, k_forward_any, d, cuda_act_of(op->in[0]), cuda_norm_of(op, 2),
		cuda_f32(op->in[1]), y);
	if (op->out[1])
		wl_cuda_moments(c, y, d.c, n / d.c, scratch, cuda_f32(op->out[1]));
	if (op->out[2])
		wl_cuda_mean(c, y, at, cuda_norm_of(op, 5), cuda_act_of(op->out[2]), scratch);
}

CUDA_RUN(wl_cuda_depthwise)
{
	struct dw d = dw_of(op, op->in[0], op->out[0]);
	int64_t n = cuda_count(op->out[0]), ch = d.c, tiles, means = ch * d.n;
	struct forward f = {d, forward_tile(&d), cuda_act_of(op->in[0]), cuda_act_of(op->out[0]),
		cuda_norm_of(op, 2), cuda_f32(op->in[1]), (float *)run->scratch, NULL,
		cuda_norm_of(op, 5)};

	(void)err;
	if (!walks(&d)) {
		run_any(c, op, d, run->scratch);
		return 0;
	}
	tiles = tiles_in(&f.t, d.n);
	if (op->out[1] || op->out[2])
		f.partial = f.shift + ch;
	if (op->out[1])
		CUDA_EACH(c, ch, k_forward_shift, d, f.x, f.norm, f.w, f.shift);
	run_forward(c, f);
	if (op->out[1])
		wl_cuda_moments_of(c, ch, tiles, n / ch, f.shift, f.partial, cuda_f32(op->out[1]));
	if (op->out[2])
		CUDA_EACH(c, means, k_forward_mean, ch, tiles / d.n, (int64_t)d.oh * d.ow,
			f.partial, cuda_act_of(op->out[2]));
	return 0;
}
