/*
 * What the walks of depthwise convolution share: tiles, and rows on their way through shared
 * memory.
 *
 * These layers are bound by memory as long as an input is read about once, and by instructions soon
 * after: a 5x5 kernel does 25 multiplications and additions for 4 bytes that come or go in bf16.
 * So a block takes a slab of up to 64 channels and a strip of columns, and walks down the rows of
 * one image.  Each input row passes through shared memory once, as floats, normalised on its way;
 * copies of the next RAW rows are under way meanwhile.  A thread has two channels of WIDE
 * neighbouring outputs (half as many at stride 2) and adds a row to all the output rows that it
 * belongs to, whose sums, like the taps, stay in registers; rings of registers have fixed places
 * because the walk is unrolled over their period.  Backward keeps rows of g_y in its ring instead:
 * see depthwise_back.cu.
 *
 * Read from DRAM: an input about once; the K - 1 rows and columns that neighbouring tiles share
 * (1/16 to 1/8 of the input) come from L2 mostly, as those blocks run at the same time.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_DEPTHWISE_H
#define WL_TRAIN_BACKEND_CUDA_DEPTHWISE_H

#include "train/backend/cuda/image.h"

enum {
	LANE_CH = 2,	    /* channels of a thread, at most */
	LANES = 32,	    /* threads side by side over channels, at most */
	SLAB = LANES * LANE_CH, /* channels of a block, at most */
	WIDE = 4,	    /* columns of a thread at stride 1 */
	RAW = 3,	    /* rows that are copied ahead */
	STAGE = 2048 + 256, /* floats of a row in shared memory: see tile_of */
	UNITS = STAGE / 8,
	MAX_K = 5,
	ROWS_MOST = 64, ROWS_LEAST = 8, /* output rows of a tile */
	BLOCKS_WANTED = 2048,		/* several for each place on the GPU */
	PARTS_WANTED = 1024		/* blocks of the gradients */
};

/* Two blocks on a multiprocessor: 128 registers a thread. */
#define BOUNDS __launch_bounds__(CUDA_THREADS, 2)

struct dw {
	int n, h, w, oh, ow, c;
	int k, stride, pt, pl;
	enum wl_act act; /* of norms, of which there may be none */
};

static inline struct dw dw_of(
	const struct wl_op *op, const struct wl_tensor *x, const struct wl_tensor *y)
{
	const struct wl_op_attr *a = &op->attr;
	struct dw d = {(int)x->shape.dim[0], (int)x->shape.dim[1], (int)x->shape.dim[2],
		(int)y->shape.dim[1], (int)y->shape.dim[2], (int)x->shape.dim[3], a->kh, a->stride,
		a->pad_top, a->pad_left, a->act};
	return d;
}

/* Of the activations behind a norm, walks have the one that networks here use: the code of others,
 * once for each value of an unrolled walk, would not fit the cache of instructions. */
static inline bool walks(const struct dw *d)
{
	return (d->k == 3 || d->k == 5) && (d->stride == 1 || d->stride == 2) && d->c % 8 == 0 &&
	       (d->act == WL_ACT_SILU || d->act == WL_ACT_NONE);
}

/* --- tiles --- */

struct tile {
	int ch;	    /* channels of a thread */
	int lanes;  /* threads side by side over a slab of ch * lanes channels: a power of 2 */
	int shift;  /* a slab has 8 << shift channels */
	int strips; /* of threads over the columns */
	int rows, wide; /* of what the walk makes: rows of a tile, columns of a thread */
	int row_tiles, col_tiles, slabs;
};

/* Tiles of maps of h x w; wide columns and `ch` channels a thread, `even`: a tile begins at an even
 * row. */
static inline struct tile tile_of(const struct dw *d, int h, int w, int wide, bool even, int ch)
{
	struct tile t;
	int strips = (int)cuda_ceil_div(w, wide), most;

	t.ch = ch;
	t.lanes = 8 / ch;
	for (t.shift = 0; t.lanes * ch < d->c && t.lanes < LANES; t.shift++)
		t.lanes *= 2;
	t.wide = wide;
	t.slabs = (int)cuda_ceil_div(d->c, t.lanes * ch);
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

static inline int64_t tiles_in(const struct tile *t, int n)
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
	p.slab = slab * t.lanes * t.ch;
	p.ch = p.slab + p.lane * t.ch;
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
	int shift, left; /* of 8 channels: 1 << shift places a column, and those that exist */
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
	f.shift = t.shift;
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
	int col = f->col + (unit >> f->shift), row = f->row + t;

	return row >= 0 && row < f->h && col >= 0 && col < f->w &&
	       unit - (unit >> f->shift << f->shift) < f->left;
}

CUDA_INLINE void feed_fetch(const struct feed *f, int t, struct shared_rows *s)
{
	uint4 *raw = s->raw[t % RAW];

	CUDA_ROLLED
	for (int u = (int)threadIdx.x; u < f->cols << f->shift; u += CUDA_THREADS) {
		int col = u >> f->shift;
		int64_t at = f->image + ((int64_t)(f->row + t) * f->w + f->col + col) * f->c +
			     (u - (col << f->shift)) * 8;

		if (!feed_has(f, t, u))
			continue;
		if (is_half(f->x.type)) {
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
	CUDA_ROLLED
	for (int u = (int)threadIdx.x; u < f->cols << f->shift; u += CUDA_THREADS) {
		int first = (u - (u >> f->shift << f->shift)) * 8;
		float v[8] = {0}, *to = s->stage[t & 1] + u * 8;

		/* Nothing was copied, nor a line of the norm made, for what lies outside. */
		if (feed_has(f, t, u)) {
			const uint4 *raw = s->raw[t % RAW] + 2 * u;
			struct raw8 r = {raw[0], raw[is_half(f->x.type) ? 0 : 1]};

			raw8_floats(r, f->x.type, v);
			if (f->norm.gamma) {
				CUDA_UNROLL
				for (int k = 0; k < 8; k++)
					v[k] = v[k] * s->a[first + k] + s->b[first + k];
				if (f->norm.act == WL_ACT_SILU)
					norm_silus(8, v, v, NULL);
			}
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

/* n columns of the thread's V channels from the stage. */
CUDA_INLINE void load_columns(const float *stage, struct tile t, struct place p, int first, int n,
	const int V, float to[][LANE_CH])
{
	const float *at = stage + (first * t.lanes + p.lane) * V;

	CUDA_UNROLL
	for (int k = 0; k < n; k++) {
		if (V == 2) {
			float2 f = *(const float2 *)(at + k * t.lanes * 2);

			to[k][0] = f.x, to[k][1] = f.y;
		} else {
			to[k][0] = at[k * t.lanes];
		}
	}
}

/* The taps of the thread's V channels. */
CUDA_INLINE void load_taps(
	const float *w, int taps, int c, struct place p, const int V, float to[][LANE_CH])
{
	CUDA_UNROLL
	for (int i = 0; i < taps; i++)
		CUDA_UNROLL
		for (int v = 0; v < V; v++)
			to[i][v] = p.works ? w[(int64_t)i * c + p.ch + v] : 0.0f;
}

#endif
