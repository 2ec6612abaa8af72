/*
 * 1x1 convolutions forward.  A block takes one tile of the result's columns and a run of tiles of
 * 128 rows, as one pipeline over all their steps of 32 channels: of x three steps are on their way
 * in registers or in shared memory, normalised and gated once as they are put there; of the weights
 * two.  Results leave from registers, 16 bytes a thread, and what they add to the sums of their
 * columns has two slots of shared memory a thread for each 32 of them until the block ends.
 *
 * Sums are of y as it is stored less the mean of the block's first tile, in f32 over a thread's
 * rows and a block, whose mean and squares are merged in double (Chan, Golub, LeVeque 1979), all in
 * a fixed order.
 *
 * Bytes: x once for each tile of columns, of which all but the first find it in the L2 cache (the
 * blocks of one run of rows follow each other), y once, the weights once for each 128 rows (of the
 * L2 cache).  2 i o operations a row.
 */
#include "train/backend/cuda/pointwise.h"

#ifdef WL_CUDA_EMULATED
#define ROLLED
#else
#define ROLLED _Pragma("unroll 1")
#endif

enum {
	ROWS = 128,  /* of a tile */
	STEP = 32,   /* channels */
	GROUP = 32,  /* columns of y that four lanes share, eight each */
	STAGES = 3,  /* of the weights */
	COLS_MOST = 96,
	GROUPS_MOST = COLS_MOST / GROUP,
	TILES_MOST = COLS_MOST / TILE, /* of 16 x 16, of a warp */
	ROW_BYTES = STEP * 2,
	WARPS = CUDA_THREADS / WARP, /* each has 16 rows of a tile */
};
#ifdef WL_CUDA_EMULATED
enum { BLOCKS = 4 }; /* so that tests have several tiles in a block */
#else
enum { BLOCKS = 2048 }; /* at least, where there are as many tiles */
#endif

/*
 * Below this many operations for a byte of x and y a product waits for memory (an A100 does 156 in
 * the time of a byte, an H200 206), and what ours saves of other passes is worth more than the
 * library's rate.
 */
enum { POINTWISE_MOST = 200 };

struct product {
	struct pointwise_read in;
	int n, tiles; /* columns; tiles of them */
	int per, chunks; /* tiles of rows of a block; blocks down */
	const uint16_t *w;
	const float *bias;
	struct cuda_act y;
	float *partial; /* [chunks, 2, n]: mean, squares of what is left; NULL */
};

/* --- the cut: of the shape alone --- */

/* Columns of a tile: as few tiles as there can be, as narrow as they can be then. */
static int cols_of(int64_t o)
{
	int64_t tiles = cuda_ceil_div(o, COLS_MOST);

	return (int)cuda_ceil_div(cuda_ceil_div(o, tiles), GROUP) * GROUP;
}

static struct product cut_of(const struct pointwise *p)
{
	struct product f;
	int64_t tiles_down = cuda_ceil_div(p->rows > 0 ? p->rows : 1, ROWS), wanted;

	memset(&f, 0, sizeof f);
	f.n = (int)p->o;
	f.tiles = (int)cuda_ceil_div(p->o, cols_of(p->o));
	wanted = cuda_ceil_div(BLOCKS, f.tiles);
	f.per = (int)cuda_ceil_div(tiles_down, wanted);
	f.chunks = (int)cuda_ceil_div(tiles_down, f.per);
	return f;
}

bool wl_cuda_pointwise(struct wl_backend *be, int64_t rows, int64_t i, int64_t o, enum wl_act act,
	enum wl_dtype compute, enum wl_dtype store)
{
	const char *own = getenv("WL_CUDA_OWN_GEMM");

	(void)be;
	if (!is_half(compute) || store != compute || i % 8 || o % 8 || !i || !o ||
		rows >= 1 << 30 || (act != WL_ACT_NONE && act != WL_ACT_RELU &&
					   act != WL_ACT_RELU6 && act != WL_ACT_SILU) ||
		(own && strcmp(own, "0") == 0))
		return false;
	if (own && strcmp(own, "1") == 0)
		return true;
	return rows >= 16 * ROWS && i * o < POINTWISE_MOST * (i + o);
}

/* --- what a block stages --- */

struct shared_product {
	char x[2][ROWS * ROW_BYTES], w[STAGES][COLS_MOST * ROW_BYTES];
	float sums[2][WARPS * COLS_MOST];
	float shift[COLS_MOST], bias[COLS_MOST];
	float kept[2 * GROUPS_MOST][CUDA_THREADS]; /* a thread's own sums: no room in registers */
};

/* A step of a block's run. */
struct step {
	int row, ch; /* its first */
};

CUDA_INLINE void step_next(struct step *s, int c)
{
	s->ch += STEP;
	if (s->ch >= c) {
		s->ch = 0;
		s->row += ROWS;
	}
}

/* Where 16 bytes lie: chunk of four in a row, turned about so that the eight rows that ldmatrix
 * takes at once are in different banks. */
CUDA_INLINE int place_at(int row, int chunk)
{
	return row * ROW_BYTES + ((chunk ^ (row >> 1 & 3)) << 4);
}

/* A thread's two chunks of a step of x: rows threadIdx.x / 4 and 64 more. */
struct fetched {
	uint4 v[2];
};

CUDA_INLINE void fetch_x(
	const struct pointwise_read *f, struct step s, int end, struct fetched *to)
{
	int ch = s.ch + (int)threadIdx.x % 4 * 8;

	CUDA_UNROLL
	for (int i = 0; i < 2; i++) {
		int row = s.row + (int)threadIdx.x / 4 + i * ROWS / 2;
		const uint16_t *at = (const uint16_t *)f->x.p + (int64_t)row * f->c + ch;

		to->v[i].x = to->v[i].y = to->v[i].z = to->v[i].w = 0;
		if (row < end && ch < f->c)
			to->v[i] = *(const uint4 *)at;
	}
}

/* To shared memory, as the product takes it; what is beyond the rows and channels is 0. */
CUDA_INLINE void put_x(const struct pointwise_read *f, struct step s, int end,
	const struct fetched *from, char *to)
{
	int ch = s.ch + (int)threadIdx.x % 4 * 8;
	int first = (int)threadIdx.x / 4, at = place_at(first, (int)threadIdx.x % 4);
	const int row[2] = {s.row + first, s.row + first + ROWS / 2};
	uint4 u[2] = {from->v[0], from->v[1]};

	if (f->lines)
		pointwise_turn(f, row, end, ch, u);
	CUDA_UNROLL
	for (int i = 0; i < 2; i++)
		*(uint4 *)(to + at + i * (ROWS / 2 * ROW_BYTES)) = u[i];
}

/*
 * Weights of a step: where column col = 8 t + 2 j + e of 32 stands so that the product's result has
 * it as lane t's, number 2 j + e of its eight: as column 2 t + e of the j-th eight columns.
 */
CUDA_INLINE int weight_row(int col)
{
	return (col & ~(GROUP - 1)) + (col % 8 / 2) * 8 + (col / 8 % 4) * 2 + col % 2;
}

CUDA_INLINE void copy_w(const struct product *f, int col0, int ch0, const int COLS, char *to)
{
	const int DOWN = CUDA_THREADS / 4; /* columns at once */
	int col = (int)threadIdx.x / 4, ch = ch0 + (int)threadIdx.x % 4 * 8;
	const uint16_t *from = f->w + (int64_t)(col0 + col) * f->in.c + ch;

	to += place_at(weight_row(col), (int)threadIdx.x % 4);
	CUDA_UNROLL
	for (int i = 0; i < (COLS + DOWN - 1) / DOWN; i++) {
		uint4 *at = (uint4 *)(to + i * DOWN * ROW_BYTES);

		if (col + i * DOWN >= COLS)
			continue;
		if (col0 + col + i * DOWN < f->n && ch < f->in.c)
			ahead_copy(at, from + (int64_t)i * DOWN * f->in.c);
		else
			at->x = at->y = at->z = at->w = 0;
	}
	ahead_commit();
}

/* --- products --- */

CUDA_INLINE void multiply(const char *x, const char *w, enum wl_dtype type, const int COLS,
	struct tile_sum sum[TILES_MOST])
{
	int lane = (int)threadIdx.x % WARP, row = (int)threadIdx.x / WARP * 16;
	/* Two chunks on are 32 bytes on, or back; eight rows turn a row's chunks as none do. */
	int x_at = place_at(row + lane % 16, lane / 16);
	int w_at = place_at(lane % 8 + lane / 16 * 8, lane / 8 % 2);
	struct tile_left a;
	struct tile_right b;

	CUDA_UNROLL
	for (int k = 0; k < STEP / 16; k++) {
		tile_matrices(a.r, (const uint16_t *)(x + (x_at ^ k * 32)), false);
		CUDA_UNROLL
		for (int j = 0; j < COLS / TILE; j++) {
			const char *at = w + j * TILE * ROW_BYTES + (w_at ^ k * 32);

			tile_matrices(b.r, (const uint16_t *)at, false);
			tile_add(&sum[j], &a, &b, type);
		}
	}
}

/* --- the tile's end --- */

/* Rows own_row(0) and own_row(1) of the tile are a thread's, and eight columns of each group. */
CUDA_INLINE int own_row(int e)
{
	return (int)threadIdx.x / WARP * 16 + e * 8 + (int)threadIdx.x % WARP / 4;
}

CUDA_INLINE int own_col(int g)
{
	return g * GROUP + (int)threadIdx.x % 4 * 8;
}

/* Number k of the eight of group g in own_row(e). */
CUDA_INLINE float *number(struct tile_sum sum[TILES_MOST], const int g, const int e, const int k)
{
	return &sum[2 * g + k / 4].v[k / 2 % 2 * 4 + 2 * e + k % 2];
}

/* What stands at the block's columns: the bias, 0 beyond the last, and 0 for their mean.  Read
 * after the next barrier. */
CUDA_INLINE void begin_columns(
	const struct product *f, struct shared_product *m, int col0, const int COLS)
{
	int col = (int)threadIdx.x;

	if (col >= COLS)
		return;
	m->shift[col] = 0;
	if (f->bias)
		m->bias[col] = col0 + col < f->n ? f->bias[col0 + col] : 0.0f;
}

/* With the bias, and rounded as y is stored. */
CUDA_INLINE void finish_tile(const struct product *f, const struct shared_product *m,
	const int COLS, struct tile_sum sum[TILES_MOST])
{
	CUDA_UNROLL
	for (int j = 0; j < COLS / 8; j++) {
		float *v = &sum[j / 2].v[j % 2 * 4];

		if (f->bias) {
			float2 b = load_floats2(m->bias + own_col(j / 4) + j % 4 * 2);

			v[0] += b.x, v[1] += b.y, v[2] += b.x, v[3] += b.y;
		}
		CUDA_UNROLL
		for (int e = 0; e < 4; e++)
			v[e] = rounded(v[e], f->y.type);
	}
}

CUDA_INLINE void store_tile(const struct product *f, int row0, int end, int col0, const int COLS,
	struct tile_sum sum[TILES_MOST])
{
	int col = col0 + own_col(0);
	int64_t at = (int64_t)(row0 + own_row(0)) * f->n + col;

	CUDA_UNROLL
	for (int e = 0; e < 2; e++) {
		CUDA_UNROLL
		for (int g = 0; g < COLS / GROUP; g++) {
			float v[8];

			CUDA_UNROLL
			for (int k = 0; k < 8; k++)
				v[k] = *number(sum, g, e, k);
			if (row0 + own_row(e) < end && col + g * GROUP < f->n)
				act_store8(f->y, at + g * GROUP, v);
		}
		at += 8 * (int64_t)f->n;
	}
}

/* Which of a group's columns a lane keeps the sums of. */
CUDA_INLINE int kept_col(void)
{
	int lane = (int)threadIdx.x % WARP;

	return lane % 4 * 8 + (lane >> 4 & 1) * 4 + (lane >> 3 & 1) * 2 + (lane >> 2 & 1);
}

/* Of 2 W columns a lane keeps W, and adds to them what its neighbour 4 W lanes on has of them. */
CUDA_INLINE void halve(float *q, const int W)
{
	bool high = threadIdx.x & 4 * W;

	CUDA_UNROLL
	for (int k = 0; k < W; k++) {
		float give = high ? q[k] : q[k + W], keep = high ? q[k + W] : q[k];

		q[k] = keep + __shfl_xor_sync(0xffffffffu, give, 4 * W);
	}
}

/*
 * What 32 of a warp's columns add: y - shift and its square, over the warp's rows.  Each of three
 * exchanges between lanes halves the columns of a lane, until it keeps this one of the 32.
 */
CUDA_INLINE void group_sums(int rows, const int g, struct tile_sum sum[TILES_MOST],
	const float *shift, float *s1, float *s2)
{
	float q[2][8];

	CUDA_UNROLL
	for (int k = 0; k < 8; k++) {
		float less = shift[own_col(g) + k];

		q[0][k] = q[1][k] = 0;
		CUDA_UNROLL
		for (int e = 0; e < 2; e++) {
			float v = *number(sum, g, e, k) - less;

			v = own_row(e) < rows ? v : 0.0f;
			q[0][k] += v;
			q[1][k] += v * v;
		}
	}
	CUDA_UNROLL
	for (int i = 0; i < 2; i++) {
		halve(q[i], 4);
		halve(q[i], 2);
		halve(q[i], 1);
	}
	*s1 += q[0][0];
	*s2 += q[1][0];
}

CUDA_INLINE void tile_sums(int rows, const int COLS, struct tile_sum sum[TILES_MOST],
	const float *shift, float s[][CUDA_THREADS])
{
	CUDA_UNROLL
	for (int g = 0; g < COLS / GROUP; g++)
		group_sums(rows, g, sum, shift, &s[2 * g][threadIdx.x], &s[2 * g + 1][threadIdx.x]);
}

/* Column threadIdx.x's sums over the block's warps, in their order.  All threads. */
CUDA_INLINE void block_sums(
	struct shared_product *m, const int COLS, float s[][CUDA_THREADS], float *s1, float *s2)
{
	int warp = (int)threadIdx.x / WARP, col = (int)threadIdx.x;

	CUDA_UNROLL
	for (int g = 0; g < COLS / GROUP; g++)
		CUDA_UNROLL
		for (int i = 0; i < 2; i++)
			m->sums[i][warp * COLS + g * GROUP + kept_col()] =
				s[2 * g + i][threadIdx.x];
	__syncthreads();
	*s1 = *s2 = 0;
	if (col >= COLS)
		return;
	for (int d = 0; d < WARPS; d++) {
		*s1 += m->sums[0][d * COLS + col];
		*s2 += m->sums[1][d * COLS + col];
	}
}

/* A tile's sums, which count from the mean of the block's first tile: that one is summed twice,
 * from 0 (shift, when a block begins) for its mean.  All threads. */
CUDA_INLINE void add_tile(struct shared_product *m, int rows, bool first, const int COLS,
	struct tile_sum sum[TILES_MOST], float s[][CUDA_THREADS])
{
	ROLLED
	for (bool mean = first;; mean = false) {
		float s1, s2;

		tile_sums(rows, COLS, sum, m->shift, s);
		if (!mean)
			break;
		block_sums(m, COLS, s, &s1, &s2);
		if ((int)threadIdx.x < COLS)
			m->shift[threadIdx.x] = s1 / (float)rows;
		CUDA_UNROLL
		for (int g = 0; g < 2 * GROUPS_MOST; g++)
			s[g][threadIdx.x] = 0;
		__syncthreads();
	}
}

/* Mean, and squares about it, of the block's rows. */
CUDA_INLINE void put_moments(const struct product *f, struct shared_product *m, int chunk, int rows,
	int col0, const int COLS, float s[][CUDA_THREADS])
{
	int col = col0 + (int)threadIdx.x;
	float s1, s2;

	block_sums(m, COLS, s, &s1, &s2);
	if ((int)threadIdx.x >= COLS || col >= f->n)
		return;
	s2 -= s1 * s1 / (float)rows;
	f->partial[(int64_t)(2 * chunk) * f->n + col] = m->shift[threadIdx.x] + s1 / (float)rows;
	f->partial[(int64_t)(2 * chunk + 1) * f->n + col] = s2 > 0 ? s2 : 0.0f;
}

/* --- a block --- */

struct run {
	int row0, end, col0, chunk;
	struct step fetch, put, copy, now;
	int stage; /* of the weights that are copied next */
};

CUDA_INLINE void zero_tile(struct tile_sum sum[TILES_MOST])
{
	CUDA_UNROLL
	for (int j = 0; j < TILES_MOST; j++)
		tile_zero(&sum[j]);
}

CUDA_INLINE void end_tile(const struct product *f, struct shared_product *m, struct run *r,
	const int COLS, struct tile_sum sum[TILES_MOST], float s[][CUDA_THREADS])
{
	int row0 = r->now.row, rows = r->end - row0 < ROWS ? r->end - row0 : ROWS;

	finish_tile(f, m, COLS, sum);
	if (f->partial)
		add_tile(m, rows, row0 == r->row0, COLS, sum, s);
	store_tile(f, row0, r->end, r->col0, COLS, sum); /* last: so nothing spills */
	zero_tile(sum);
}

/* Step `turn` modulo two: multiplies it, puts the next one's x, fetches x two after that. */
CUDA_INLINE void do_step(const struct product *f, struct shared_product *m, struct run *r,
	const int COLS, const int turn, struct fetched *x, struct tile_sum sum[TILES_MOST],
	float s[][CUDA_THREADS])
{
	int stage = r->stage; /* holds the step before this one: free */

	AHEAD_WAIT(1);
	__syncthreads();
	copy_w(f, r->col0, r->copy.ch, COLS, m->w[stage]);
	step_next(&r->copy, f->in.c);
	r->stage = stage + 1 < STAGES ? stage + 1 : 0;
	multiply(m->x[turn], m->w[r->stage], f->in.x.type, COLS, sum);
	put_x(&f->in, r->put, r->end, x, m->x[1 - turn]);
	step_next(&r->put, f->in.c);
	fetch_x(&f->in, r->fetch, r->end, x);
	step_next(&r->fetch, f->in.c);
	if (r->now.ch + STEP >= f->in.c)
		end_tile(f, m, r, COLS, sum, s);
	step_next(&r->now, f->in.c);
}

CUDA_INLINE void product_walk(struct product f, const int COLS, const enum wl_dtype TYPE)
{
	__shared__ struct shared_product m __attribute__((aligned(128)));
	struct run r;
	struct fetched x0, x1;
	struct tile_sum sum[TILES_MOST];
	float (*s)[CUDA_THREADS] = m.kept;

	for (int g = 0; g < 2 * GROUPS_MOST; g++)
		s[g][threadIdx.x] = 0;
	f.in.x.type = TYPE; /* known where it is compiled */
	f.y.type = is_half(f.y.type) ? TYPE : WL_F32;
	zero_tile(sum);
	r.chunk = (int)blockIdx.x / f.tiles;
	r.col0 = (int)blockIdx.x % f.tiles * COLS;
	r.row0 = r.chunk * f.per * ROWS;
	r.end = r.row0 + f.per * ROWS < f.in.rows ? r.row0 + f.per * ROWS : f.in.rows;
	r.now.row = r.row0;
	r.now.ch = 0;
	r.fetch = r.put = r.copy = r.now;
	begin_columns(&f, &m, r.col0, COLS);
	for (r.stage = 0; r.stage < STAGES - 1; r.stage++) {
		copy_w(&f, r.col0, r.copy.ch, COLS, m.w[r.stage]);
		step_next(&r.copy, f.in.c);
	}
	fetch_x(&f.in, r.fetch, r.end, &x0);
	step_next(&r.fetch, f.in.c);
	fetch_x(&f.in, r.fetch, r.end, &x1);
	step_next(&r.fetch, f.in.c);
	put_x(&f.in, r.put, r.end, &x0, m.x[0]);
	step_next(&r.put, f.in.c);
	fetch_x(&f.in, r.fetch, r.end, &x0);
	step_next(&r.fetch, f.in.c);
	while (r.now.row < r.end) {
		do_step(&f, &m, &r, COLS, 0, &x1, sum, s);
		if (r.now.row >= r.end)
			break;
		do_step(&f, &m, &r, COLS, 1, &x0, sum, s);
	}
	if (f.partial)
		put_moments(&f, &m, r.chunk, r.end - r.row0, r.col0, COLS, s);
}

POINTWISE_KERNELS(product, struct product, product_walk, 32)
POINTWISE_KERNELS(product, struct product, product_walk, 64)
POINTWISE_KERNELS(product, struct product, product_walk, 96)

/* --- the end of the sums --- */

/* moments [2, n] from partial [parts, 2, n], of `per` rows each but the last. */
static __global__ void k_product_moments(
	int64_t n, int64_t parts, int64_t per, int64_t rows, const float *partial, float *moments)
{
	int64_t j = end_col();
	double s1 = 0, s2 = 0;

	for (int64_t i = threadIdx.x / END_COLS; j < n && i < parts; i += END_LANES) {
		double of = (double)(i + 1 < parts ? per : rows - i * per);
		double mean = (double)partial[2 * i * n + j];

		s1 += of * mean;
		s2 += of * mean * mean + (double)partial[(2 * i + 1) * n + j];
	}
	sum_lanes(&s1, &s2);
	if (threadIdx.x >= END_COLS || j >= n)
		return;
	s1 /= (double)rows;
	s2 = s2 / (double)rows - s1 * s1;
	moments[j] = (float)s1;
	moments[n + j] = s2 > 0 ? (float)s2 : 0.0f;
}

/* --- the host's side --- */

size_t wl_cuda_pointwise_scratch(const struct pointwise *p)
{
	struct product f = cut_of(p);

	return wl_cuda_pointwise_tables(p) +
	       (p->moments ? (size_t)f.chunks * 2 * (size_t)p->o * sizeof(float) : 0);
}

void wl_cuda_pointwise_run(struct cuda *c, const struct pointwise *p, void *scratch)
{
	struct product f = cut_of(p);
	int64_t blocks = (int64_t)f.chunks * f.tiles, per = (int64_t)f.per * ROWS, n = p->o;

	if (!p->rows)
		return;
	f.in = wl_cuda_pointwise_read(c, p, scratch);
	f.w = p->w;
	f.bias = p->bias;
	f.y = p->y;
	if (p->moments)
		f.partial = (float *)((char *)scratch + wl_cuda_pointwise_tables(p));
	if (cols_of(n) == 32)
		product_32(c, f, blocks);
	else if (cols_of(n) == 64)
		product_64(c, f, blocks);
	else
		product_96(c, f, blocks);
	if (p->moments)
		CUDA_BLOCKS(c, cuda_ceil_div(n, END_COLS), k_product_moments, n,
			(int64_t)f.chunks, per, p->rows, f.partial, p->moments);
}
