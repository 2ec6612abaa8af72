/*
 * The gradient of depthwise convolution by its taps: forward's walk (see depthwise.h), with rows of
 * g_y in the ring and the taps' sums in registers from the first tile of a block to its last.  Two
 * stages, each in a fixed order: blocks, then their sums.
 */
#include "train/backend/cuda/depthwise.h"

struct weights {
	struct dw d;
	struct tile t;
	struct cuda_act x, gy;
	struct cuda_norm norm;
	float *partial; /* [parts, taps, c] */
	int parts;
	int64_t tiles;
};

/* The sums of a block's strips, in their order. */
CUDA_INLINE void put_taps(const struct weights *f, struct place p, int part, const int TAPS,
	float g[][LANE_CH], float *shared)
{
	enum { AT_ONCE = 2 * STAGE / (CUDA_THREADS * LANE_CH) };
	const int slab = f->t.lanes * LANE_CH;

	CUDA_UNROLL
	for (int first = 0; first < TAPS; first += AT_ONCE) {
		const int n = TAPS - first < AT_ONCE ? TAPS - first : AT_ONCE;

		CUDA_UNROLL
		for (int i = 0; i < n; i++)
			CUDA_UNROLL
			for (int v = 0; v < LANE_CH; v++)
				shared[(i * CUDA_THREADS + (int)threadIdx.x) * LANE_CH + v] =
					g[first + i][v];
		__syncthreads();
		for (int e = (int)threadIdx.x; e < n * slab; e += CUDA_THREADS) {
			const float *at = shared + e / slab * CUDA_THREADS * LANE_CH + e % slab;
			float sum = 0;

			for (int k = 0; k < f->t.strips; k++)
				sum += at[k * slab];
			if (p.slab + e % slab < f->d.c)
				f->partial[((int64_t)part * TAPS + first + e / slab) * f->d.c +
					   p.slab + e % slab] = sum;
		}
		__syncthreads();
	}
}

/* Row o of g_y of the thread's columns, 0 outside. */
CUDA_INLINE void load_gy(const struct weights *f, struct place p, int rows, int o, int col,
	const int TW, uint2 to[])
{
	CUDA_UNROLL
	for (int k = 0; k < TW; k++) {
		to[k].x = to[k].y = 0;
		if (p.works && o < rows && col + k < f->d.ow)
			to[k] = act_raw2(f->gy,
				(((int64_t)p.n * f->d.oh + p.row + o) * f->d.ow + col + k) * f->d.c +
					p.ch);
	}
}

CUDA_INLINE void weights_walk(const struct weights f, const int K, const int S)
{
	const int TW = WIDE / S, XW = (TW - 1) * S + K, RING = (K + S - 1) / S, PERIOD = S * RING;
	__shared__ struct shared_rows s;
	int part = (int)(blockIdx.x / f.t.slabs), slab = (int)(blockIdx.x % f.t.slabs);
	struct place p = place_of(f.t, f.d.c, part, slab);
	float g[MAX_K * MAX_K][LANE_CH], gy[MAX_K][WIDE][LANE_CH], x[WIDE + MAX_K][LANE_CH];
	uint2 next[WIDE];

	CUDA_UNROLL
	for (int i = 0; i < K * K; i++)
		g[i][0] = g[i][1] = 0.0f;
	for (int64_t tile = part; tile < f.tiles; tile += f.parts) {
		p = place_of(f.t, f.d.c, tile, slab);
		int rows = f.d.oh - p.row < f.t.rows ? f.d.oh - p.row : f.t.rows;
		int total = (rows - 1) * S + K, col = p.col + p.strip * TW;
		struct feed in = feed_of(f.x, f.d.h, f.d.w, f.d.c, f.norm, f.t, p,
			p.row * S - f.d.pt, p.col * S - f.d.pl, f.t.strips * TW * S + K - S);

		if (tile == part)
			feed_norm(&in, p.slab, &s);
		load_gy(&f, p, rows, 0, col, TW, next);
		CUDA_UNROLL
		for (int r = 0; r < RING; r++)
			CUDA_UNROLL
			for (int o = 0; o < TW; o++)
				gy[r][o][0] = gy[r][o][1] = 0.0f;
		feed_start(&in, &s);
		for (int base = 0; base < total; base += PERIOD) {
			CUDA_UNROLL
			for (int u = 0; u < PERIOD; u++) {
				int t = base + u;

				if (t >= total)
					break;
				if (u % S == 0) {
					CUDA_UNROLL
					for (int o = 0; o < TW; o++)
						raw2_floats(next[o], f.gy.type, gy[u / S][o]);
					load_gy(&f, p, rows, t / S + 1, col, TW, next);
				}
				if (p.works) {
					load_columns(s.stage[t & 1], f.t, p, p.strip * TW * S, XW, x);
					CUDA_UNROLL
					for (int i = 0; i < K; i++) {
						const int ring = (u - i + PERIOD) / S % RING;

						if ((u - i + PERIOD) % S)
							continue;
						CUDA_UNROLL
						for (int j = 0; j < K; j++)
							CUDA_UNROLL
							for (int o = 0; o < TW; o++) {
								float *to = g[i * K + j];

								to[0] += gy[ring][o][0] *
									 x[o * S + j][0];
								to[1] += gy[ring][o][1] *
									 x[o * S + j][1];
							}
					}
				}
				feed_next(&in, t, total, &s);
			}
		}
	}
	put_taps(&f, p, part, K * K, g, &s.stage[0][0]);
}

#define KERNELS(K)                                                                                 \
	static __global__ void BOUNDS k_weights_##K##_1(struct weights f)                          \
	{                                                                                          \
		weights_walk(f, K, 1);                                                             \
	}                                                                                          \
	static __global__ void BOUNDS k_weights_##K##_2(struct weights f)                          \
	{                                                                                          \
		weights_walk(f, K, 2);                                                             \
	}
KERNELS(3)
KERNELS(5)

static struct weights weights_of(const struct dw *d)
{
	struct weights f;

	memset(&f, 0, sizeof f);
	f.d = *d;
	f.t = tile_of(d, d->oh, d->ow, WIDE / d->stride, false);
	f.tiles = tiles_in(&f.t, d->n);
	f.parts = (int)cuda_ceil_div(PARTS_WANTED, f.t.slabs);
	f.parts = f.parts < f.tiles ? f.parts : (int)f.tiles;
	return f;
}

static void run_weights(struct cuda *c, struct weights f)
{
	int64_t blocks = (int64_t)f.parts * f.t.slabs;

	if (f.d.k == 3 && f.d.stride == 1)
		CUDA_BLOCKS(c, blocks, k_weights_3_1, f);
	else if (f.d.k == 3)
		CUDA_BLOCKS(c, blocks, k_weights_3_2, f);
	else if (f.d.stride == 1)
		CUDA_BLOCKS(c, blocks, k_weights_5_1, f);
	else
		CUDA_BLOCKS(c, blocks, k_weights_5_2, f);
}

/* --- any other kernel, stride or number of channels --- */

/* A tap at a time: partial [chunk, tap, channel] of chunks of output positions. */
static __global__ void k_weights_any(struct columns v, struct dw d, struct cuda_act x,
	struct cuda_norm norm, struct cuda_act gy, float *partial)
{
	COLUMN_PLACE(v);
	for (int t = 0; t < d.k * d.k; t++) {
		float s = 0;

		for (int64_t r = row_first; r < row_end; r += COLUMN_LANES) {
			int ih = (int)(r / d.ow % d.oh) * d.stride - d.pt + t / d.k;
			int iw = (int)(r % d.ow) * d.stride - d.pl + t % d.k;
			int64_t image = r / ((int64_t)d.ow * d.oh) * d.h;

			if (ih >= 0 && ih < d.h && iw >= 0 && iw < d.w)
				s += act_load(gy, r * d.c + col) *
				     norm_load(norm, x, ((image + ih) * d.w + iw) * d.c + col, d.c,
					     col);
		}
		s = lane_sum(s);
		if (threadIdx.x < COLUMN_WIDTH && col < d.c)
			partial[(chunk * d.k * d.k + t) * d.c + col] = s;
	}
}

/* out[n] += the sum over the parts of partial [parts, n], in double, by eight lanes. */
static __global__ void k_parts_end(int64_t n, const float *partial, int64_t parts, float *out)
{
	__shared__ double sums[CUDA_THREADS];
	int64_t col = (int64_t)blockIdx.x * COLUMN_WIDTH + threadIdx.x % COLUMN_WIDTH;
	double s = 0;

	for (int64_t k = threadIdx.x / COLUMN_WIDTH; col < n && k < parts; k += COLUMN_LANES)
		s += (double)partial[k * n + col];
	sums[threadIdx.x] = s;
	__syncthreads();
	if (threadIdx.x >= COLUMN_WIDTH || col >= n)
		return;
	for (int l = 1; l < COLUMN_LANES; l++)
		s += sums[l * COLUMN_WIDTH + threadIdx.x];
	out[col] += (float)s;
}

size_t wl_cuda_depthwise_weights_scratch(const struct dw *d)
{
	int64_t parts = walks(d) ? weights_of(d).parts
				 : columns_of((int64_t)d->n * d->oh * d->ow, d->c).chunks;

	return (size_t)(parts * d->k * d->k * d->c) * sizeof(float);
}

void wl_cuda_depthwise_weights(
	struct cuda *c, const struct wl_op *op, const struct dw *d, float *partial)
{
	struct cuda_act x = cuda_act_of(op->in[0]), gy = cuda_act_of(op->in[2]);
	struct cuda_norm norm = cuda_norm_of(op, 3);
	int64_t taps = (int64_t)d->k * d->k * d->c, parts;

	if (walks(d)) {
		struct weights f = weights_of(d);

		f.x = x;
		f.gy = gy;
		f.norm = norm;
		f.partial = partial;
		parts = f.parts;
		run_weights(c, f);
	} else {
		struct columns v = columns_of((int64_t)d->n * d->oh * d->ow, d->c);

		parts = v.chunks;
		CUDA_BLOCKS(c, v.chunks * v.tiles, k_weights_any, v, *d, x, norm, gy, partial);
	}
	CUDA_BLOCKS(c, cuda_ceil_div(taps, COLUMN_WIDTH), k_parts_end, taps, partial, parts,
		cuda_f32(op->out[1]));
}
