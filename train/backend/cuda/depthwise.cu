/*
 * Depthwise convolution, NHWC, 3x3 and 5x5 with strides 1 and 2 (any other by a plain kernel at the
 * end), and batch norm with its activation applied where the input is read.
 *
 * These layers are bound by memory as long as an input is read about once, and by instructions soon
 * after: 25 multiplications for each pair of bytes pairs.  So a block takes a slab of up to 64
 * channels and a strip of columns, and walks down the rows of one image.  Each input row passes
 * through shared memory once, as floats, normalised on its way; copies of the next RAW rows are
 * under way meanwhile.  A thread has two channels of TW neighbouring outputs and adds a row to all
 * the output rows that it belongs to, whose sums, like the taps, stay in registers; rings of
 * registers have fixed places because the walk is unrolled over their period.
 *
 * Read from DRAM: an input about once; the K - 1 rows and columns that neighbouring tiles share
 * (1/16 to 1/8 of the input) come from L2 mostly, as those blocks run at the same time.
 */
#include "train/backend/cuda/image.h"

enum {
	LANE_CH = 2,	    /* channels of a thread */
	SLAB = 64,	    /* channels of a block, at most */
	WIDE = 4,	    /* columns of a thread at stride 1 */
	RAW = 3,	    /* rows that are copied ahead */
	STAGE = 2048 + 256, /* floats of a row in shared memory: see tile_of */
	UNITS = STAGE / 8,
	MAX_K = 5,
	ROWS_MOST = 64, ROWS_LEAST = 8, /* output rows of a tile */
	BLOCKS_WANTED = 2048,		/* several for each place on the GPU */
	PARTS_WANTED = 1024		/* blocks of the weight gradient */
};

struct dw {
	int n, h, w, oh, ow, c;
	int k, stride, pt, pl;
};

static struct dw dw_of(const struct wl_op *op, const struct wl_tensor *x, const struct wl_tensor *y)
{
	const struct wl_op_attr *a = &op->attr;
	struct dw d = {(int)x->shape.dim[0], (int)x->shape.dim[1], (int)x->shape.dim[2],
		(int)y->shape.dim[1], (int)y->shape.dim[2], (int)x->shape.dim[3], a->kh, a->stride,
		a->pad_top, a->pad_left};
	return d;
}

static bool walks(const struct dw *d)
{
	return (d->k == 3 || d->k == 5) && (d->stride == 1 || d->stride == 2) && d->c % 8 == 0;
}

/* --- tiles --- */

struct tile {
	int lanes;  /* threads side by side over a slab of LANE_CH * lanes channels: a power of 2 */
	int strips; /* of threads over the columns */
	int rows, wide; /* of what the walk makes: rows of a tile, columns of a thread */
	int row_tiles, col_tiles, slabs;
};

/* Tiles of maps of h x w; wide columns a thread, `even`: a tile begins at an even row. */
static struct tile tile_of(const struct dw *d, int h, int w, int wide, bool even)
{
	struct tile t;
	int strips = (int)cuda_ceil_div(w, wide), most;

	for (t.lanes = 4; t.lanes * LANE_CH < d->c && t.lanes * LANE_CH < SLAB;)
		t.lanes *= 2;
	t.wide = wide;
	t.slabs = (int)cuda_ceil_div(d->c, t.lanes * LANE_CH);
	most = CUDA_THREADS / t.lanes;
	t.col_tiles = (int)cuda_ceil_div(strips, most);
	t.strips = (int)cuda_ceil_div(strips, t.col_tiles);
	for (t.rows = ROWS_MOST; t.rows > ROWS_LEAST; t.rows /= 2)
		if (cuda_ceil_div(h, t.rows) * t.col_tiles * t.slabs * d->n >= BLOCKS_WANTED)
			break;
	t.row_tiles = (int)cuda_ceil_div(h, t.rows);
	t.rows = (int)cuda_ceil_div(h, t.row_tiles);
	t.rows += even && t.rows % 2;
	return t;
}

static int64_t tiles_in(const struct tile *t, int n)
{
	return (int64_t)t->row_tiles * t->col_tiles * n;
}

/* Where a thread stands. */
struct place {
	int lane, strip, slab; /* slab: its first channel */
	int ch;		       /* the thread's first channel */
	bool works;	       /* has columns and channels */
	int n, row, col;       /* image; first row and column of the tile */
};

CUDA_INLINE struct place place_of(struct tile t, int c, int64_t tile, int slab)
{
	struct place p;

	p.lane = (int)threadIdx.x & (t.lanes - 1);
	p.strip = (int)threadIdx.x / t.lanes;
	p.slab = slab * t.lanes * LANE_CH;
	p.ch = p.slab + p.lane * LANE_CH;
	p.works = p.strip < t.strips && p.ch < c;
	p.col = (int)(tile % t.col_tiles) * t.strips * t.wide;
	p.row = (int)(tile / t.col_tiles % t.row_tiles) * t.rows;
	p.n = (int)(tile / t.col_tiles / t.row_tiles);
	return p;
}

/* --- rows on their way through shared memory --- */

/* `cols` columns from `col` and the slab's channels of rows row, row + 1, ... of an image; what
 * lies outside is 0. */
struct feed {
	struct cuda_act x;
	int64_t image; /* element of the image's first pixel, of the slab's first channel */
	int h, w, c, row, col, cols;
	int groups, left; /* of 8 channels: places, and those that exist */
	struct cuda_norm norm;
};

struct shared_rows {
	float stage[2][STAGE];	   /* [column][channel of the slab] */
	uint4 raw[RAW][2 * UNITS]; /* each thread's own */
	float a[SLAB], b[SLAB];	   /* of the norm */
};

CUDA_INLINE struct feed feed_of(struct cuda_act x, int h, int w, int c, struct cuda_norm norm,
	struct tile t, struct place p, int row, int col, int cols)
{
	struct feed f;

	f.x = x;
	f.image = (int64_t)p.n * h * w * c + p.slab;
	f.h = h, f.w = w, f.c = c;
	f.row = row, f.col = col, f.cols = cols;
	f.groups = t.lanes * LANE_CH / 8;
	f.left = (c - p.slab) / 8;
	f.norm = norm;
	return f;
}

/* The norm's line of each channel of the slab; read after the next barrier. */
CUDA_INLINE void feed_norm(const struct feed *f, int slab, struct shared_rows *s)
{
	int j = (int)threadIdx.x;

	if (f->norm.gamma && j < SLAB && slab + j < f->c)
		norm_line(f->norm, f->c, slab + j, &s->a[j], &s->b[j]);
}

CUDA_INLINE bool feed_has(const struct feed *f, int t, int unit)
{
	int col = f->col + unit / f->groups, row = f->row + t;

	return row >= 0 && row < f->h && col >= 0 && col < f->w && unit % f->groups < f->left;
}

CUDA_INLINE void feed_fetch(const struct feed *f, int t, struct shared_rows *s)
{
	uint4 *raw = s->raw[t % RAW];

	for (int u = (int)threadIdx.x; u < f->cols * f->groups; u += CUDA_THREADS) {
		int64_t at = f->image +
			     ((int64_t)(f->row + t) * f->w + f->col + u / f->groups) * f->c +
			     u % f->groups * 8;

		if (!feed_has(f, t, u))
			continue;
		if (f->x.half) {
			ahead_copy(raw + 2 * u, (const uint16_t *)f->x.p + at);
		} else {
			ahead_copy(raw + 2 * u, (const float *)f->x.p + at);
			ahead_copy(raw + 2 * u + 1, (const float *)f->x.p + at + 4);
		}
	}
}

/* Row t, copied, to its stage. */
CUDA_INLINE void feed_settle(const struct feed *f, int t, struct shared_rows *s)
{
	for (int u = (int)threadIdx.x; u < f->cols * f->groups; u += CUDA_THREADS) {
		int first = u % f->groups * 8;
		float v[8], *to = s->stage[t & 1] + u / f->groups * f->groups * 8 + first;
		bool has = feed_has(f, t, u);
		struct raw8 r = {s->raw[t % RAW][2 * u], s->raw[t % RAW][2 * u + 1]};

		raw8_floats(r, f->x.half, v);
		CUDA_UNROLL
		for (int k = 0; k < 8; k++) {
			if (f->norm.gamma)
				v[k] = norm_act(f->norm.act,
					v[k] * s->a[first + k] + s->b[first + k]);
			v[k] = has ? v[k] : 0.0f;
		}
		store_floats8(to, v);
	}
}

/* Rows 0 .. RAW - 1 on their way, row 0 in its stage.  All threads; ends with a barrier. */
CUDA_INLINE void feed_start(const struct feed *f, struct shared_rows *s)
{
	__syncthreads(); /* the norm's lines are there */
	for (int t = 0; t < RAW; t++) {
		feed_fetch(f, t, s);
		ahead_commit();
	}
	AHEAD_WAIT(RAW - 1);
	feed_settle(f, 0, s);
	feed_fetch(f, RAW, s);
	ahead_commit();
	__syncthreads();
}

/* After row t was used: the next one in its stage, of `total`.  All threads; ends with a barrier,
 * before which nobody may write where others still read: hence two stages. */
CUDA_INLINE void feed_next(const struct feed *f, int t, int total, struct shared_rows *s)
{
	if (t + 1 < total) {
		AHEAD_WAIT(RAW - 1);
		feed_settle(f, t + 1, s);
		if (t + 1 + RAW < total)
			feed_fetch(f, t + 1 + RAW, s);
		ahead_commit();
	}
	__syncthreads();
}

/* --- forward; and the gradient by x at stride 1, which is a convolution of g_y with the taps
 * turned round --- */

struct forward {
	struct dw d; /* as the walk sees it: its input h x w, its output oh x ow */
	struct tile t;
	struct cuda_act x, y;
	struct cuda_norm norm;
	const float *w;
	bool turned, acc;
};

CUDA_INLINE void load_taps(
	const float *w, int taps, bool turned, int c, struct place p, float to[][LANE_CH])
{
	CUDA_UNROLL
	for (int i = 0; i < taps; i++) {
		const float *at = w + (int64_t)(turned ? taps - 1 - i : i) * c + p.ch;

		CUDA_UNROLL
		for (int v = 0; v < LANE_CH; v++)
			to[i][v] = p.works ? at[v] : 0.0f;
	}
}

/* n columns of the thread's channels from the stage. */
CUDA_INLINE void load_columns(
	const float *stage, struct tile t, struct place p, int first, int n, float to[][LANE_CH])
{
	const float2 *at = (const float2 *)stage + first * t.lanes + p.lane;

	CUDA_UNROLL
	for (int k = 0; k < n; k++) {
		float2 f = at[k * t.lanes];

		to[k][0] = f.x, to[k][1] = f.y;
	}
}

CUDA_INLINE void store_columns(struct cuda_act y, bool acc, int64_t row, int c, int col, int w,
	struct place p, int n, float from[][LANE_CH])
{
	CUDA_UNROLL
	for (int o = 0; o < n; o++) {
		int64_t at = row + (int64_t)(col + o) * c + p.ch;
		float was[2] = {0, 0};

		if (col + o < 0 || col + o >= w)
			continue;
		if (acc)
			raw2_floats(act_raw2(y, at), y.half, was);
		act_store2(y, at, was[0] + from[o][0], was[1] + from[o][1]);
	}
}

CUDA_INLINE void forward_walk(const struct forward f, const int K, const int S)
{
	const int TW = WIDE / S, XW = (TW - 1) * S + K, RING = (K + S - 1) / S, PERIOD = S * RING;
	__shared__ struct shared_rows s;
	struct place p = place_of(f.t, f.d.c, blockIdx.x / f.t.slabs, (int)(blockIdx.x % f.t.slabs));
	int rows = f.d.oh - p.row < f.t.rows ? f.d.oh - p.row : f.t.rows;
	int total = (rows - 1) * S + K, col = p.col + p.strip * TW;
	struct feed in = feed_of(f.x, f.d.h, f.d.w, f.d.c, f.norm, f.t, p, p.row * S - f.d.pt,
		p.col * S - f.d.pl, f.t.strips * TW * S + K - S);
	float w[MAX_K * MAX_K][LANE_CH], sum[MAX_K][WIDE][LANE_CH], x[WIDE + MAX_K][LANE_CH];

	feed_norm(&in, p.slab, &s);
	load_taps(f.w, K * K, f.turned, f.d.c, p, w);
	feed_start(&in, &s);
	for (int base = 0; base < total; base += PERIOD) {
		CUDA_UNROLL
		for (int u = 0; u < PERIOD; u++) {
			int t = base + u, done = t - (K - 1);

			if (t >= total)
				break;
			if (p.works) {
				load_columns(s.stage[t & 1], f.t, p, p.strip * TW * S, XW, x);
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
				if ((u - (K - 1) + PERIOD) % S == 0 && done >= 0)
					store_columns(f.y, f.acc,
						((int64_t)p.n * f.d.oh + p.row + done / S) *
							f.d.ow * f.d.c,
						f.d.c, col, f.d.ow, p, TW,
						sum[(u - (K - 1) + PERIOD) / S % RING]);
			}
			feed_next(&in, t, total, &s);
		}
	}
}

/* --- the gradient by x at stride 2: each row of g_y is added to the K rows that it came from --- */

struct back {
	struct dw d; /* t: tiles of g_x with its padding before it: rows pt, columns pl more */
	struct tile t;
	struct cuda_act gy, gx;
	const float *w;
	bool acc;
};

CUDA_INLINE void back_walk(const struct back f, const int K)
{
	const int TW = WIDE, HALF = (K - 1) / 2, XW = TW / 2 + HALF, RING = K + 1;
	__shared__ struct shared_rows s;
	struct place p = place_of(f.t, f.d.c, blockIdx.x / f.t.slabs, (int)(blockIdx.x % f.t.slabs));
	int total = f.t.rows / 2 + HALF, col = p.col + p.strip * TW - f.d.pl;
	struct cuda_norm none = {NULL, NULL, NULL, WL_ACT_NONE};
	struct feed in = feed_of(f.gy, f.d.oh, f.d.ow, f.d.c, none, f.t, p, p.row / 2 - HALF,
		p.col / 2 - HALF, f.t.strips * TW / 2 + HALF);
	float w[MAX_K * MAX_K][LANE_CH], sum[MAX_K + 1][WIDE][LANE_CH], x[WIDE + MAX_K][LANE_CH];

	CUDA_UNROLL
	for (int r = 0; r < RING; r++)
		CUDA_UNROLL
		for (int o = 0; o < TW; o++)
			sum[r][o][0] = sum[r][o][1] = 0.0f;
	load_taps(f.w, K * K, false, f.d.c, p, w);
	feed_start(&in, &s);
	for (int base = 0; base < total; base += RING / 2) {
		CUDA_UNROLL
		for (int u = 0; u < RING / 2; u++) {
			int t = base + u;

			if (t >= total)
				break;
			if (p.works) {
				load_columns(s.stage[t & 1], f.t, p, p.strip * TW / 2, XW, x);
				CUDA_UNROLL
				for (int i = 0; i < K; i++)
					CUDA_UNROLL
					for (int o = 0; o < TW; o++)
						CUDA_UNROLL
						for (int k = 0; k < XW; k++) {
							const int j = o + 2 * HALF - 2 * k;

							if (j < 0 || j >= K)
								continue;
							float *to = sum[(2 * u + i) % RING][o];

							to[0] += w[i * K + j][0] * x[k][0];
							to[1] += w[i * K + j][1] * x[k][1];
						}
				CUDA_UNROLL
				for (int e = 0; e < 2; e++) {
					int at = 2 * (t - HALF) + e, row = p.row + at - f.d.pt;
					float(*full)[LANE_CH] = sum[(2 * u + e) % RING];

					if (at >= 0 && at < f.t.rows && row >= 0 && row < f.d.h)
						store_columns(f.gx, f.acc,
							((int64_t)p.n * f.d.h + row) * f.d.w *
								f.d.c,
							f.d.c, col, f.d.w, p, TW, full);
					CUDA_UNROLL
					for (int o = 0; o < TW; o++)
						full[o][0] = full[o][1] = 0.0f;
				}
			}
			feed_next(&in, t, total, &s);
		}
	}
}

/* --- the gradient by the taps: forward's walk, with rows of g_y in the ring and the taps' sums in
 * registers from the first tile of a block to its last --- */

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
						raw2_floats(next[o], f.gy.half, gy[u / S][o]);
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
	static __global__ void __launch_bounds__(CUDA_THREADS) k_forward_##K##_1(struct forward f) \
	{                                                                                          \
		forward_walk(f, K, 1);                                                             \
	}                                                                                          \
	static __global__ void __launch_bounds__(CUDA_THREADS) k_forward_##K##_2(struct forward f) \
	{                                                                                          \
		forward_walk(f, K, 2);                                                             \
	}                                                                                          \
	static __global__ void __launch_bounds__(CUDA_THREADS) k_back_##K(struct back f)           \
	{                                                                                          \
		back_walk(f, K);                                                                   \
	}                                                                                          \
	static __global__ void __launch_bounds__(CUDA_THREADS) k_weights_##K##_1(struct weights f) \
	{                                                                                          \
		weights_walk(f, K, 1);                                                             \
	}                                                                                          \
	static __global__ void __launch_bounds__(CUDA_THREADS) k_weights_##K##_2(struct weights f) \
	{                                                                                          \
		weights_walk(f, K, 2);                                                             \
	}
KERNELS(3)
KERNELS(5)

static void run_forward(struct cuda *c, struct forward f)
{
	f.t = tile_of(&f.d, f.d.oh, f.d.ow, WIDE / f.d.stride, false);
	int64_t blocks = tiles_in(&f.t, f.d.n) * f.t.slabs;

	if (f.d.k == 3 && f.d.stride == 1)
		CUDA_BLOCKS(c, blocks, k_forward_3_1, f);
	else if (f.d.k == 3)
		CUDA_BLOCKS(c, blocks, k_forward_3_2, f);
	else if (f.d.stride == 1)
		CUDA_BLOCKS(c, blocks, k_forward_5_1, f);
	else
		CUDA_BLOCKS(c, blocks, k_forward_5_2, f);
}

static void run_back(struct cuda *c, struct back f)
{
	f.t = tile_of(&f.d, f.d.h + f.d.pt, f.d.w + f.d.pl, WIDE, true);
	int64_t blocks = tiles_in(&f.t, f.d.n) * f.t.slabs;

	if (f.d.k == 3)
		CUDA_BLOCKS(c, blocks, k_back_3, f);
	else
		CUDA_BLOCKS(c, blocks, k_back_5, f);
}

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

/* --- any other kernel, stride or number of channels: a thread an element --- */

static __global__ void k_forward_any(int64_t n, struct dw d, struct cuda_act x,
	struct cuda_norm norm, const float *w, struct cuda_act y)
{
	EACH(e, n)
	{
		int ch = (int)(e % d.c), ow = (int)(e / d.c % d.ow);
		int64_t row = e / ((int64_t)d.c * d.ow);
		int oh = (int)(row % d.oh), ih = oh * d.stride - d.pt, iw = ow * d.stride - d.pl;
		int64_t at = row / d.oh * d.h * d.w * d.c + ch;
		float s = 0;

		for (int i = 0; i < d.k; i++)
			for (int j = 0; j < d.k; j++)
				if (ih + i >= 0 && ih + i < d.h && iw + j >= 0 && iw + j < d.w)
					s += w[(i * d.k + j) * d.c + ch] *
					     norm_load(norm, x,
						     at + ((int64_t)(ih + i) * d.w + iw + j) * d.c,
						     d.c, ch);
		act_store(y, e, s);
	}
}

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

/* --- the operations --- */

CUDA_RUN(wl_cuda_depthwise)
{
	(void)run;
	(void)err;
	struct dw d = dw_of(op, op->in[0], op->out[0]);
	int64_t n = cuda_count(op->out[0]);

	if (walks(&d)) {
		struct forward f = {d, tile_of(&d, 1, 1, 1, false), cuda_act_of(op->in[0]),
			cuda_act_of(op->out[0]), cuda_norm_of(op, 2), cuda_f32(op->in[1]), false,
			false};
		run_forward(c, f);
	} else {
		CUDA_EACH(c, n, k_forward_any, d, cuda_act_of(op->in[0]), cuda_norm_of(op, 2),
			cuda_f32(op->in[1]), cuda_act_of(op->out[0]));
	}
	return 0;
}

static void data_bwd(struct cuda *c, const struct wl_op *op, struct dw d)
{
	struct cuda_act gy = cuda_act_of(op->in[2]), gx = cuda_act_of(op->out[0]);
	const float *w = cuda_f32(op->in[1]);
	int64_t n = cuda_count(op->out[0]);
	struct cuda_norm none = {NULL, NULL, NULL, WL_ACT_NONE};
	bool acc = cuda_acc(op, 0);

	if (!walks(&d)) {
		CUDA_EACH(c, n, k_back_any, d, gy, w, gx, acc);
	} else if (d.stride == 2) {
		struct back f = {d, tile_of(&d, 1, 1, 1, false), gy, gx, w, acc};

		run_back(c, f);
	} else {
		struct dw turned = {d.n, d.oh, d.ow, d.h, d.w, d.c, d.k, 1, d.k - 1 - d.pt,
			d.k - 1 - d.pl};
		struct forward f = {turned, tile_of(&d, 1, 1, 1, false), gy, gx, none, w, true,
			acc};

		run_forward(c, f);
	}
}

size_t wl_cuda_depthwise_bwd_scratch(const struct wl_op *op)
{
	struct dw d = dw_of(op, op->in[0], op->in[2]);
	int64_t parts = walks(&d) ? weights_of(&d).parts
				  : columns_of((int64_t)d.n * d.oh * d.ow, d.c).chunks;

	return op->out[1] ? (size_t)(parts * d.k * d.k * d.c) * sizeof(float) : 0;
}

CUDA_RUN(wl_cuda_depthwise_bwd)
{
	(void)err;
	struct dw d = dw_of(op, op->in[0], op->in[2]);
	struct columns v = columns_of((int64_t)d.n * d.oh * d.ow, d.c);
	float *partial = (float *)run->scratch;
	int64_t taps = (int64_t)d.k * d.k * d.c, parts = v.chunks;

	if (op->out[1]) {
		if (walks(&d)) {
			struct weights f = weights_of(&d);

			f.x = cuda_act_of(op->in[0]);
			f.gy = cuda_act_of(op->in[2]);
			f.norm = cuda_norm_of(op, 3);
			f.partial = partial;
			parts = f.parts;
			run_weights(c, f);
		} else {
			CUDA_BLOCKS(c, v.chunks * v.tiles, k_weights_any, v, d,
				cuda_act_of(op->in[0]), cuda_norm_of(op, 3), cuda_act_of(op->in[2]),
				partial);
		}
		CUDA_BLOCKS(c, cuda_ceil_div(taps, COLUMN_WIDTH), k_parts_end, taps, partial,
			parts, cuda_f32(op->out[1]));
	}
	if (op->out[0])
		data_bwd(c, op, d);
	return 0;
}
