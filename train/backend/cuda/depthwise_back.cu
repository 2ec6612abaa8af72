/*
 * Both gradients of depthwise convolution in one walk (see depthwise.h), and the sums of the batch
 * norm before it.
 *
 * An element of x met the same elements of g_y, under the same taps, in both: g_x is their sum
 * weighted by the taps, and what it adds to the gradient of a tap is itself times one of them.  So
 * a thread has columns of x, rows of g_y in the ring, the taps, their gradients from a block's
 * first tile to its last, and each value of g_y from shared memory serves two multiplications.  x
 * is read by the thread that has its place: no halo, normalised once.
 *
 * Rows and columns are counted with the padding before them: place H of x is row H - pad.  At
 * stride S it met g_y at (H - i) / S under the taps i that leave a whole number, so a tile begins
 * at a multiple of S, and which taps a row or column of it has is known when this is compiled.
 *
 * Bytes: x and g_y are read, g_x written (and read where it is added to).  Batch norm's backward
 * wants sums of g_x act' and g_x act' xhat, all of which is at hand where g_x is stored.
 *
 * Channels of a thread: two of 3x3, one of 5x5, whose taps, gradients and ring would else not fit
 * in the registers of two blocks a multiprocessor.  Sums in two stages, each in a fixed order:
 * blocks, then theirs.
 */
#include "train/backend/cuda/depthwise.h"

struct grads {
	struct dw d;
	struct tile t; /* of x with its padding before it: rows pt, columns pl more */
	struct cuda_act x, gy, gx; /* gx absent: not wanted */
	struct cuda_norm norm;
	const float *w;
	bool acc;
	float *partial; /* [parts, taps, c], with sums two more than taps */
	int parts;
	int64_t tiles;
};

/* The norm of the slab's channels: not in registers, of which there are too few. */
struct slab_norm {
	float a[SLAB], b[SLAB], mean[SLAB];
};

CUDA_INLINE void load_slab_norm(const struct grads *f, struct place p, struct slab_norm *l)
{
	int j = (int)threadIdx.x;

	if (!f->norm.gamma || j >= SLAB || p.slab + j >= f->d.c)
		return;
	norm_line(f->norm, f->d.c, p.slab + j, &l->a[j], &l->b[j]);
	l->mean[j] = f->norm.saved[p.slab + j];
}

/* The sums of a block's strips of n entries, in their order. */
CUDA_INLINE void put_entries(const struct grads *f, struct place p, int part, const int n,
	const int V, float g[][LANE_CH], float *shared)
{
	enum { AT_ONCE = 2 * STAGE / (CUDA_THREADS * LANE_CH) };
	const int slab = f->t.lanes * V;

	CUDA_UNROLL
	for (int first = 0; first < n; first += AT_ONCE) {
		const int now = n - first < AT_ONCE ? n - first : AT_ONCE;

		CUDA_UNROLL
		for (int i = 0; i < now; i++)
			CUDA_UNROLL
			for (int v = 0; v < V; v++)
				shared[(i * CUDA_THREADS + (int)threadIdx.x) * V + v] =
					g[first + i][v];
		__syncthreads();
		for (int e = (int)threadIdx.x; e < now * slab; e += CUDA_THREADS) {
			const float *at = shared + e / slab * CUDA_THREADS * V + e % slab;
			float sum = 0;

			for (int k = 0; k < f->t.strips; k++)
				sum += at[k * slab];
			if (p.slab + e % slab < f->d.c)
				f->partial[((int64_t)part * n + first + e / slab) * f->d.c +
					   p.slab + e % slab] = sum;
		}
		__syncthreads();
	}
}

/* A thread's columns of x from the tile's first row on. */
struct spot {
	int lane;      /* its first channel, of the slab's */
	int64_t first; /* element of its first column in that row */
	int64_t pitch; /* elements of a row */
	unsigned cols; /* bit o: column o exists, and the thread works */
	int from, to;  /* rows of the tile that exist */
};

CUDA_INLINE struct spot spot_of(const struct grads *f, struct place p)
{
	int col = p.col + p.strip * WIDE - f->d.pl, row = p.row - f->d.pt;
	struct spot q;

	q.lane = p.ch - p.slab;
	q.pitch = (int64_t)f->d.w * f->d.c;
	q.first = ((int64_t)p.n * f->d.h + row) * q.pitch + (int64_t)col * f->d.c + p.ch;
	q.cols = 0;
	CUDA_UNROLL
	for (int o = 0; o < WIDE; o++)
		q.cols |= (unsigned)(p.works && col + o >= 0 && col + o < f->d.w) << o;
	q.from = row < 0 ? -row : 0;
	q.to = f->d.h - row < f->t.rows ? f->d.h - row : f->t.rows;
	return q;
}

/* Row `at` of the tile as it lies; 0 where x has none. */
CUDA_INLINE void fetch_x(
	const struct grads *f, const struct spot *q, int at, const int V, uint2 to[])
{
	unsigned cols = at >= q->from && at < q->to ? q->cols : 0;
	int64_t first = q->first + at * q->pitch;

	CUDA_UNROLL
	for (int o = 0; o < WIDE; o++)
		to[o].x = to[o].y = 0;
	if (is_half(f->x.type)) {
		CUDA_UNROLL
		for (int o = 0; o < WIDE; o++) {
			const uint16_t *p = (const uint16_t *)f->x.p + first + (int64_t)o * f->d.c;

			if (cols >> o & 1)
				to[o].x = V == 2 ? *(const uint32_t *)p : *p;
		}
		return;
	}
	CUDA_UNROLL
	for (int o = 0; o < WIDE; o++)
		if (cols >> o & 1)
			to[o] = V == 2 ? act_raw2(f->x, first + (int64_t)o * f->d.c)
				       : act_raw1(f->x, first + (int64_t)o * f->d.c);
}

/* The row as floats, x[o * V + v]; the type is asked once for all. */
CUDA_INLINE void floats_of(enum wl_dtype type, const uint2 from[], const int V, float x[])
{
	CUDA_UNROLL
	for (int t = 0; t < 3; t++) {
		const enum wl_dtype T = t == 0 ? WL_BF16 : t == 1 ? WL_F16 : WL_F32;

		if (type != T)
			continue;
		CUDA_UNROLL
		for (int o = 0; o < WIDE; o++) {
			float pair[2];

			raw2_floats(from[o], T, pair);
			x[o * V] = pair[0];
			if (V == 2)
				x[o * V + 1] = pair[1];
		}
	}
}

/* Of a row: z, its value under the norm, or d, the derivative there. */
CUDA_INLINE void normalise(const struct grads *f, const struct spot *q, const struct slab_norm *l,
	const int V, const float x[], float *z, float *d)
{
	float at[WIDE * LANE_CH];

	CUDA_UNROLL
	for (int k = 0; k < WIDE * V; k++)
		at[k] = x[k] * l->a[q->lane + k % V] + l->b[q->lane + k % V];
	if (f->norm.act == WL_ACT_SILU) {
		norm_silus(WIDE * V, at, z, d);
		return;
	}
	CUDA_UNROLL
	for (int k = 0; k < WIDE * V; k++) {
		if (z)
			z[k] = at[k];
		if (d)
			d[k] = 1.0f;
	}
}

/* The row, as floats and as the convolution read it. */
CUDA_INLINE void take_x(const struct grads *f, const struct spot *q, const uint2 from[],
	const struct slab_norm *l, const int V, float x[], float z[])
{
	floats_of(f->x.type, from, V, x);
	CUDA_UNROLL
	for (int k = 0; k < WIDE * V; k++)
		z[k] = x[k];
	if (!f->norm.gamma)
		return;
	normalise(f, q, l, V, x, z, NULL);
	CUDA_UNROLL
	for (int k = 0; k < WIDE * V; k++)
		z[k] = q->cols >> k / V & 1 ? z[k] : 0.0f;
}

/* Of row e of S, with g_y's newest row at u of its ring: gx, and what it adds to the taps'. */
CUDA_INLINE void row_products(const int K, const int S, const int V, const int u, const int e,
	float w[][LANE_CH], float gy[][WIDE + MAX_K][LANE_CH], float z[], float gx[],
	float g[][LANE_CH])
{
	const int R = (K + S - 1) / S;

	CUDA_UNROLL
	for (int i = e; i < K; i += S)
		CUDA_UNROLL
		for (int j = 0; j < K; j++)
			CUDA_UNROLL
			for (int o = 0; o < WIDE; o++) {
				const int k = o - j + S * (R - 1);

				if (k % S)
					continue;
				CUDA_UNROLL
				for (int v = 0; v < V; v++) {
					float y = gy[(u - i / S + R) % R][k / S][v];

					gx[o * V + v] += w[i * K + j][v] * y;
					g[i * K + j][v] += z[o * V + v] * y;
				}
			}
}

/* Row `at` of g_x, in a half type or f32: where its columns exist, stored; v: as read again. */
CUDA_INLINE void store_halves(const enum wl_dtype T, const struct grads *f, const struct spot *q,
	int64_t first, const int V, float v[])
{
	CUDA_UNROLL
	for (int o = 0; o < WIDE; o++) {
		uint16_t *p = (uint16_t *)f->gx.p + first + (int64_t)o * f->d.c;
		uint32_t u = half2_of_floats(v[o * V], V == 2 ? v[o * V + 1] : 0.0f, T);

		if (q->cols >> o & 1 && V == 2)
			*(uint32_t *)p = u;
		else if (q->cols >> o & 1)
			*p = (uint16_t)u;
		v[o * V] = half_to_float(u & 0xffffu, T);
		if (V == 2)
			v[o * V + 1] = half_to_float(u >> 16, T);
	}
}

CUDA_INLINE void store_gx(
	const struct grads *f, const struct spot *q, int64_t first, const int V, float v[])
{
	if (f->gx.type == WL_BF16) {
		store_halves(WL_BF16, f, q, first, V, v);
	} else if (f->gx.type == WL_F16) {
		store_halves(WL_F16, f, q, first, V, v);
	} else {
		CUDA_UNROLL
		for (int k = 0; k < WIDE * V; k++)
			if (q->cols >> k / V & 1)
				((float *)f->gx.p)[first + (int64_t)(k / V) * f->d.c + k % V] =
					v[k];
	}
}

/* Row `at` of g_x; what it adds to the norm's sums, as it is stored. */
CUDA_INLINE void put_row(const struct grads *f, const struct spot *q, int at,
	const struct slab_norm *l, const int V, const bool SUMS, const float x[], float gx[],
	float s1[LANE_CH], float s2[LANE_CH])
{
	int64_t first = q->first + at * q->pitch;
	float d[WIDE * LANE_CH];

	CUDA_UNROLL
	for (int k = 0; k < WIDE * V; k++)
		if (f->acc && q->cols >> k / V & 1)
			gx[k] += act_load(f->gx, first + (int64_t)(k / V) * f->d.c + k % V);
	if (f->gx.p)
		store_gx(f, q, first, V, gx);
	if (!SUMS)
		return;
	normalise(f, q, l, V, x, NULL, d);
	CUDA_UNROLL
	for (int k = 0; k < WIDE * V; k++) {
		float g = q->cols >> k / V & 1 ? gx[k] * d[k] : 0.0f;

		s1[k % V] += g;
		s2[k % V] += g * (x[k] - l->mean[q->lane + k % V]);
	}
}

CUDA_INLINE void grads_walk(
	const struct grads f, const int K, const int S, const int V, const bool SUMS)
{
	const int R = (K + S - 1) / S, XW = WIDE / S + R - 1, TAPS = K * K;
	__shared__ struct shared_rows s;
	__shared__ struct slab_norm norms;
	int part = (int)(blockIdx.x / f.t.slabs), slab = (int)(blockIdx.x % f.t.slabs);
	struct place p = place_of(f.t, f.d.c, part, slab);
	struct cuda_norm none = {NULL, NULL, NULL, WL_ACT_NONE};
	float w[MAX_K * MAX_K][LANE_CH], g[MAX_K * MAX_K + 2][LANE_CH];
	float gy[MAX_K][WIDE + MAX_K][LANE_CH], x[WIDE * LANE_CH], z[WIDE * LANE_CH];
	float gx[WIDE * LANE_CH];
	uint2 next[2][WIDE];

	CUDA_UNROLL
	for (int i = 0; i < TAPS + 2; i++)
		g[i][0] = g[i][1] = 0.0f;
	load_slab_norm(&f, p, &norms);
	load_taps(f.w, TAPS, f.d.c, p, V, w);
	for (int64_t tile = part; tile < f.tiles; tile += f.parts) {
		p = place_of(f.t, f.d.c, tile, slab);
		struct spot q = spot_of(&f, p);
		int total = q.to > 0 ? (q.to + S - 1) / S + R - 1 : 0;
		struct feed in = feed_of(f.gy, f.d.oh, f.d.ow, f.d.c, none, f.t, p,
			p.row / S - (R - 1), p.col / S - (R - 1), f.t.strips * WIDE / S + R - 1);

		CUDA_UNROLL
		for (int e = 0; e < S; e++)
			fetch_x(&f, &q, e, V, next[e]);
		feed_start(&in, &s);
		for (int base = 0; base < total; base += R) {
			CUDA_UNROLL
			for (int u = 0; u < R; u++) {
				int t = base + u, first = S * (t - (R - 1));

				if (t >= total)
					break;
				if (p.works)
					load_columns(s.stage[t & 1], f.t, p, p.strip * WIDE / S, XW,
						V, gy[u]);
				CUDA_UNROLL
				for (int e = 0; e < S && first >= 0 && p.works; e++) {
					take_x(&f, &q, next[e], &norms, V, x, z);
					fetch_x(&f, &q, first + e + S, V, next[e]);
					if (first + e < q.from || first + e >= q.to)
						continue;
					CUDA_UNROLL
					for (int k = 0; k < WIDE * V; k++)
						gx[k] = 0.0f;
					row_products(K, S, V, u, e, w, gy, z, gx, g);
					put_row(&f, &q, first + e, &norms, V, SUMS, x, gx, g[TAPS],
						g[TAPS + 1]);
				}
				feed_next(&in, t, total, &s);
			}
		}
	}
	if (f.partial)
		put_entries(&f, p, part, TAPS + (SUMS ? 2 : 0), V, g, &s.stage[0][0]);
}

#define GRADS(K, S, V)                                                                             \
	static __global__ void BOUNDS k_grads_##K##_##S(struct grads f)                            \
	{                                                                                          \
		grads_walk(f, K, S, V, false);                                                     \
	}                                                                                          \
	static __global__ void BOUNDS k_grads_sums_##K##_##S(struct grads f)                       \
	{                                                                                          \
		grads_walk(f, K, S, V, true);                                                      \
	}                                                                                          \
	static void grads_##K##_##S(struct cuda *c, struct grads f, bool sums, int64_t blocks)     \
	{                                                                                          \
		if (sums)                                                                          \
			CUDA_BLOCKS(c, blocks, k_grads_sums_##K##_##S, f);                         \
		else                                                                               \
			CUDA_BLOCKS(c, blocks, k_grads_##K##_##S, f);                              \
	}
GRADS(3, 1, 2)
GRADS(3, 2, 2)
GRADS(5, 1, 1)
GRADS(5, 2, 1)

static struct grads grads_of(const struct dw *d)
{
	struct grads f;

	memset(&f, 0, sizeof f);
	f.d = *d;
	f.t = tile_of(d, d->h + d->pt, d->w + d->pl, WIDE, d->stride == 2, d->k == 3 ? 2 : 1);
	f.tiles = tiles_in(&f.t, d->n);
	f.parts = (int)cuda_ceil_div(PARTS_WANTED, f.t.slabs);
	f.parts = f.parts < f.tiles ? f.parts : (int)f.tiles;
	return f;
}

/* What the blocks left: gw [taps c] is added to; sums [2, c], the second times 1 / std. */
struct grads_end {
	const float *partial; /* [parts, taps (+ 2), c] */
	int64_t parts, taps, c;
	float *gw, *sums; /* or NULL */
	const float *rstd;
};

/* Over the parts, in double, by eight lanes. */
static __global__ void k_grads_end(int64_t n, struct grads_end v)
{
	__shared__ double lanes[CUDA_THREADS];
	int64_t col = (int64_t)blockIdx.x * COLUMN_WIDTH + threadIdx.x % COLUMN_WIDTH;
	int64_t of_sums = col - v.taps * v.c;
	double s = 0;

	for (int64_t k = threadIdx.x / COLUMN_WIDTH; col < n && k < v.parts; k += COLUMN_LANES)
		s += (double)v.partial[k * n + col];
	lanes[threadIdx.x] = s;
	__syncthreads();
	if (threadIdx.x >= COLUMN_WIDTH || col >= n)
		return;
	for (int l = 1; l < COLUMN_LANES; l++)
		s += lanes[l * COLUMN_WIDTH + threadIdx.x];
	if (of_sums >= 0)
		v.sums[of_sums] = (float)(of_sums < v.c ? s : s * (double)v.rstd[of_sums - v.c]);
	else if (v.gw)
		v.gw[col] += (float)s;
}

/* --- any other kernel, stride or number of channels: each gradient by itself --- */

/* Gathers the outputs that an input went into. */
static __global__ void k_back_any(int64_t n, struct dw d, struct cuda_act gy, const float *w,
	struct cuda_act gx, bool acc)
{
	EACH(e, n)
	{
		int ch = (int)(e % d.c), iw = (int)(e / d.c % d.w);
		int64_t row = e / ((int64_t)d.c * d.w);
		int ih = (int)(row % d.h);
		int64_t at = row / d.h * d.oh * d.ow * d.c + ch;
		float s = acc ? act_load(gx, e) : 0.0f;

		for (int i = (ih + d.pt) % d.stride; i < d.k; i += d.stride) {
			int oh = (ih + d.pt - i) / d.stride;

			if (ih + d.pt < i || oh >= d.oh)
				continue;
			for (int j = (iw + d.pl) % d.stride; j < d.k; j += d.stride) {
				int ow = (iw + d.pl - j) / d.stride;

				if (iw + d.pl >= j && ow < d.ow)
					s += act_load(gy, at + ((int64_t)oh * d.ow + ow) * d.c) *
					     w[(i * d.k + j) * d.c + ch];
			}
		}
		act_store(gx, e, s);
	}
}

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

/* --- the operation --- */

static size_t partial_bytes(const struct wl_op *op, const struct dw *d, int64_t parts)
{
	bool sums = op->out[2] && walks(d);

	if (!op->out[1] && !sums)
		return 0;
	return cuda_round((size_t)(parts * (d->k * d->k + (sums ? 2 : 0)) * d->c) * sizeof(float));
}

static int64_t parts_of(const struct dw *d)
{
	return walks(d) ? grads_of(d).parts
			: columns_of((int64_t)d->n * d->oh * d->ow, d->c).chunks;
}

static int64_t rows_of_x(const struct dw *d)
{
	return (int64_t)d->n * d->h * d->w;
}

size_t wl_cuda_depthwise_bwd_scratch(const struct wl_op *op)
{
	struct dw d = dw_of(op, op->in[0], op->in[2]);
	bool later = op->out[2] && !walks(&d);

	return partial_bytes(op, &d, parts_of(&d)) +
	       (later ? wl_cuda_norm_sums_scratch(d.c, rows_of_x(&d)) : 0);
}

static void run_any(struct cuda *c, const struct wl_op *op, struct dw d, float *partial)
{
	struct cuda_act x = cuda_act_of(op->in[0]), gy = cuda_act_of(op->in[2]);
	struct cuda_act gx = cuda_act_of(op->out[0]);
	struct columns v = columns_of((int64_t)d.n * d.oh * d.ow, d.c);
	int64_t n = cuda_count(op->in[0]);

	if (op->out[1])
		CUDA_BLOCKS(c, v.chunks * v.tiles, k_weights_any, v, d, x, cuda_norm_of(op, 3), gy,
			partial);
	if (op->out[0])
		CUDA_EACH(c, n, k_back_any, d, gy, cuda_f32(op->in[1]), gx, cuda_acc(op, 0));
	if (op->out[2])
		wl_cuda_norm_sums(c, x, gx, cuda_norm_of(op, 3), d.c, rows_of_x(&d),
			(char *)partial + partial_bytes(op, &d, parts_of(&d)),
			cuda_f32(op->out[2]));
}

static void run_walk(struct cuda *c, const struct wl_op *op, const struct dw *d, float *partial)
{
	struct grads f = grads_of(d);
	int64_t blocks = (int64_t)f.parts * f.t.slabs;
	bool sums = op->out[2] != NULL;

	f.x = cuda_act_of(op->in[0]);
	f.gy = cuda_act_of(op->in[2]);
	f.gx = cuda_act_of(op->out[0]);
	f.norm = cuda_norm_of(op, 3);
	f.w = cuda_f32(op->in[1]);
	f.acc = cuda_acc(op, 0);
	f.partial = op->out[1] || sums ? partial : NULL;
	if (d->k == 3 && d->stride == 1)
		grads_3_1(c, f, sums, blocks);
	else if (d->k == 3)
		grads_3_2(c, f, sums, blocks);
	else if (d->stride == 1)
		grads_5_1(c, f, sums, blocks);
	else
		grads_5_2(c, f, sums, blocks);
}

CUDA_RUN(wl_cuda_depthwise_bwd)
{
	struct dw d = dw_of(op, op->in[0], op->in[2]);
	float *partial = (float *)run->scratch;
	bool sums = op->out[2] && walks(&d);
	struct grads_end end = {partial, parts_of(&d), d.k * d.k, d.c, cuda_f32(op->out[1]),
		sums ? cuda_f32(op->out[2]) : NULL, op->in[5] ? cuda_f32(op->in[5]) + d.c : NULL};
	int64_t n = (end.taps + (sums ? 2 : 0)) * d.c;

	(void)err;
	if (walks(&d))
		run_walk(c, op, &d, partial);
	else
		run_any(c, op, d, partial);
	if (op->out[1] || sums)
		CUDA_BLOCKS(c, cuda_ceil_div(n, COLUMN_WIDTH), k_grads_end, n, end);
	return 0;
}
