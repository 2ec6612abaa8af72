/*
 * Softmax attention for short sequences, up to KEYS tokens, where a block takes a strip of 32
 * queries (or keys) of a head against all of the head's keys (queries): the strip's scores stay in
 * shared memory and nothing of [S,S] is ever written.  Forward keeps the log-sum-exp of a row, at
 * the beginning of `p`; backward computes probabilities again from it, first by strips of queries
 * (dq, and the row sums that the softmax's derivative needs), then by strips of keys (dk, dv), so
 * every gradient has one writer.  Longer sequences: attention_long.cu.
 *
 * Products are of bf16 or fp16 on tensor cores where activations are stored or products computed
 * so, else of f32; both operands of a product have one type, so what this file makes between two of
 * them is rounded to it.  Probabilities fit fp16: at most 1 / (1 - p), and below 2^-25 they are 0,
 * which over 128 keys is at most 4e-6 of a row that sums to 1.  Gradients of scores are as large as
 * the loss scale makes them, like the activations' gradients around them, which are fp16 too: what
 * exceeds 65504 becomes infinite, not 65504, so that it arrives in a weight's gradient as no number
 * and the step is judged an overflow (judge.cu).
 */
#include "train/backend/cuda/attention.h"

#include "train/backend/cuda/tile.h"

enum {
	STRIP = 32,
	KEYS = CUDA_ATTENTION_KEYS,
	PITCH = 80,		  /* bytes of a staged row: 64 and 16 that spread the banks */
	HALF_COLS = 32,		  /* columns of a staged row */
	FLOAT_COLS = 16,
	LD_SCORES = KEYS + 4,	  /* floats of a row of scores */
	LD_HALF = 2 * LD_SCORES,  /* the same row in a half type, in place */
	LD_STAGED = PITCH / 2,	  /* halves */
	LD_OUT = HALF_COLS + 4,
	LANES = CUDA_THREADS / WARP,
};

#define ALIGNED __attribute__((aligned(32)))

/* Rows of one head: element (r, t) is number first + r * ld + t of the tensor. */
struct rows {
	struct cuda_act at;
	int64_t first, ld;
	int n, dh;
	bool wide; /* eight neighbours at a time */
};

/* Shared memory of a block but its scores: rows of the strip, and of what meets it. */
struct staged {
	char *x, *y;
	enum wl_dtype type; /* of what is staged, and of weights: what products take */
};

static __device__ inline struct rows rows_of(
	const struct attn *a, struct cuda_act t, int col, int64_t ld, int64_t head)
{
	struct rows r;

	r.at = t;
	r.ld = ld;
	r.first = head / a->heads * a->s * ld + col + head % a->heads * a->dh;
	r.n = (int)a->s;
	r.dh = (int)a->dh;
	r.wide = ld % 8 == 0 && col % 8 == 0 && a->dh % 8 == 0;
	return r;
}

static __device__ inline int whole_tiles(int n)
{
	return (n + TILE - 1) / TILE * TILE;
}

static __device__ inline void take8(const struct rows *r, int row, int col, float v[8])
{
	int64_t i = r->first + row * r->ld + col;

	if (row < r->n && r->wide && col < r->dh) {
		act_load8(r->at, i, v);
		return;
	}
	for (int k = 0; k < 8; k++)
		v[k] = row < r->n && col + k < r->dh ? act_load(r->at, i + k) : 0.0f;
}

/* Columns of a row that are staged at once. */
static __device__ inline int width_of(enum wl_dtype type)
{
	return is_half(type) ? HALF_COLS : FLOAT_COLS;
}

/* `count` rows from `from` on, columns from `col` on, zeros beyond the last ones. */
static __device__ inline void stage(
	char *to, const struct rows *r, int from, int count, int col, enum wl_dtype type)
{
	int groups = width_of(type) / 8;
	bool as_is = is_half(type) && r->at.type == type && r->wide;

	for (int g = threadIdx.x; g < count * groups; g += CUDA_THREADS) {
		int row = g / groups, at = g % groups * 8;
		struct cuda_act dst = {to + row * PITCH, type};
		int64_t i = r->first + (from + row) * r->ld + col + at;
		float v[8];

		if (as_is && from + row < r->n && col + at < r->dh) {
			*(uint4 *)(to + row * PITCH + at * 2) =
				*(const uint4 *)((const uint16_t *)r->at.p + i);
			continue;
		}
		take8(r, from + row, col + at, v);
		act_store8(dst, at, v);
	}
}

/* What the staged columns of x and y add to the scores of n keys: a warp has two tiles, or a thread
 * KEYS / 8 scores of a row. */
static __device__ inline void add_tiles(struct staged m, int n, struct tile_sum sum[2])
{
	int warp = threadIdx.x / WARP, down = warp % 2 * TILE, across = warp / 2 * TILE;
	const uint16_t *xs = (const uint16_t *)m.x + down * LD_STAGED, *ys = (const uint16_t *)m.y;

	CUDA_UNROLL
	for (int k = 0; k < HALF_COLS; k += TILE) {
		struct tile_left a;

		tile_load_left(&a, xs + k, LD_STAGED);
		CUDA_UNROLL
		for (int u = 0; u < 2; u++) {
			int col = across + u * KEYS / 2;
			struct tile_right b;

			if (col >= n)
				continue;
			tile_load_turned(&b, ys + col * LD_STAGED + k, LD_STAGED);
			tile_add(&sum[u], &a, &b, m.type);
		}
	}
}

static __device__ inline void add_floats(struct staged m, int n, float sum[KEYS / 8])
{
	const float *xs = (const float *)(m.x + threadIdx.x / 8 * PITCH);

	CUDA_UNROLL
	for (int k = 0; k < KEYS / 8; k++) {
		const float *ys = (const float *)(m.y + (threadIdx.x % 8 + 8 * k) * PITCH);

		if (8 * k >= n)
			continue;
		CUDA_UNROLL
		for (int t = 0; t < FLOAT_COLS; t++)
			sum[k] += xs[t] * ys[t];
	}
}

/* scores [STRIP, whole tiles of y] = the strip's rows of x times y's, both over dh. */
static __device__ inline void strip_products(
	struct staged m, float *scores, const struct rows *x, int x0, const struct rows *y)
{
	int warp = threadIdx.x / WARP, down = warp % 2 * TILE, across = warp / 2 * TILE;
	float *row = scores + threadIdx.x / 8 * LD_SCORES + threadIdx.x % 8;
	struct tile_sum sum[2];
	float own[KEYS / 8];

	CUDA_UNROLL
	for (int u = 0; u < 2; u++)
		tile_zero(&sum[u]);
	CUDA_UNROLL
	for (int k = 0; k < KEYS / 8; k++)
		own[k] = 0;
	for (int t0 = 0; t0 < x->dh; t0 += width_of(m.type)) {
		stage(m.x, x, x0, STRIP, t0, m.type);
		stage(m.y, y, 0, whole_tiles(y->n), t0, m.type);
		__syncthreads();
		if (is_half(m.type))
			add_tiles(m, y->n, sum);
		else
			add_floats(m, y->n, own);
		__syncthreads();
	}
	CUDA_UNROLL
	for (int u = 0; u < 2; u++)
		if (is_half(m.type) && across + u * KEYS / 2 < y->n)
			tile_store(scores + down * LD_SCORES + across + u * KEYS / 2, &sum[u],
				LD_SCORES);
	CUDA_UNROLL
	for (int k = 0; k < KEYS / 8; k++)
		if (!is_half(m.type))
			row[8 * k] = own[k];
	__syncthreads();
}

/* Row `row` of a strip, four columns a lane, becomes the left operand of a product in place: all
 * lanes have read theirs. */
static __device__ inline void put_row(
	float *scores, int row, const float v[4], enum wl_dtype type)
{
	int lane = threadIdx.x % WARP;

	__syncwarp();
	for (int k = 0; k < KEYS / WARP; k++) {
		int j = lane + k * WARP;

		if (is_half(type))
			((uint16_t *)scores)[row * LD_HALF + j] =
				(uint16_t)half_of_float(v[k], type);
		else
			scores[row * LD_SCORES + j] = v[k];
	}
}

/* Where a strip's results go: row x0 + r of `to`. */
struct result {
	struct rows to;
	int x0;
	bool acc;
};

static __device__ inline void put_result(const struct result *o, int r, int col, float v)
{
	int64_t i = o->to.first + (o->x0 + r) * o->to.ld + col;

	if (o->x0 + r < o->to.n && col < o->to.dh)
		act_store(o->to.at, i, v + (o->acc ? act_load(o->to.at, i) : 0.0f));
}

/* One 32 x 32 piece of weights [STRIP, keys] (a half type) times the staged columns of y: two warps
 * a tile, one the even tiles of keys and one the odd, added at the end. */
static __device__ inline void piece_half(
	struct staged m, const float *weights, int keys, const struct result *o, int col)
{
	int warp = threadIdx.x / WARP, part = warp / 4;
	int down = warp % 2 * TILE, across = warp / 2 % 2 * TILE;
	float *out = (float *)m.y;
	struct tile_sum sum;

	tile_zero(&sum);
	for (int j = part * TILE; j < keys; j += 2 * TILE) {
		struct tile_left a;
		struct tile_right b;

		tile_load_left(&a, (const uint16_t *)weights + down * LD_HALF + j, LD_HALF);
		tile_load_right(&b, (const uint16_t *)m.y + j * LD_STAGED + across, LD_STAGED);
		tile_add(&sum, &a, &b, m.type);
	}
	__syncthreads(); /* y is read */
	tile_store(out + (part * STRIP + down) * LD_OUT + across, &sum, LD_OUT);
	__syncthreads();
	for (int e = threadIdx.x; e < STRIP * HALF_COLS; e += CUDA_THREADS) {
		int r = e / HALF_COLS, c = e % HALF_COLS;

		put_result(o, r, col + c, out[r * LD_OUT + c] + out[(STRIP + r) * LD_OUT + c]);
	}
}

static __device__ inline void piece_float(
	struct staged m, const float *weights, int keys, const struct result *o, int col)
{
	for (int e = threadIdx.x; e < STRIP * FLOAT_COLS; e += CUDA_THREADS) {
		int r = e / FLOAT_COLS, c = e % FLOAT_COLS;
		float s = 0;

		for (int j = 0; j < keys; j++)
			s += weights[r * LD_SCORES + j] * ((const float *)(m.y + j * PITCH))[c];
		put_result(o, r, col + c, s);
	}
}

/* The strip's weights times y, to the strip's rows of the result. */
static __device__ inline void strip_weighted(
	struct staged m, const float *weights, const struct rows *y, const struct result *o)
{
	int width = width_of(m.type);

	__syncthreads();
	for (int t0 = 0; t0 < y->dh; t0 += width) {
		stage(m.y, y, 0, whole_tiles(y->n), t0, m.type);
		__syncthreads();
		if (is_half(m.type))
			piece_half(m, weights, y->n, o, t0);
		else
			piece_float(m, weights, y->n, o, t0);
		__syncthreads();
	}
}

/* The random numbers of a head's probabilities from `first` on. */
struct mask {
	struct wl_rng_key key;
	uint64_t first;
	float p;
};

static __device__ inline struct mask mask_of(
	const struct attn *a, const struct cuda_draw *d, int64_t head)
{
	struct mask m;
	int64_t i = head * a->s * a->s;

	if (d->world > 1)
		i += (i / d->each * (d->world - 1) + d->rank) * d->each;
	m.key.a = m.key.b = 0;
	if (d->p > 0)
		m.key = wl_rng_key_of_step(d->at->of_step, d->op);
	m.first = (uint64_t)i;
	m.p = d->p;
	return m;
}

static __device__ inline float mask_keep(const struct mask *m, const struct attn *a, int i, int j)
{
	return m->p > 0 ? wl_keep_scale(m->key, m->first + (uint64_t)(i * a->s + j), m->p) : 1.0f;
}

/* Where a block stands: a head, its strip of queries (or keys) from x0 on, its tensors; o is the
 * result, in backward its gradient. */
struct strip {
	int64_t head;
	int x0;
	struct rows q, k, v, o;
	struct mask mask;
	struct staged m;
};

static __device__ inline struct strip strip_of(
	const struct attn *a, const struct cuda_draw *draw, enum wl_dtype type, char *xs, char *ys)
{
	int strips = (int)((a->s + STRIP - 1) / STRIP);
	struct strip t;

	t.head = blockIdx.x / strips;
	t.x0 = (int)(blockIdx.x % strips) * STRIP;
	t.q = rows_of(a, a->q, a->q_col, a->ld_q, t.head);
	t.k = rows_of(a, a->k, a->k_col, a->ld_k, t.head);
	t.v = rows_of(a, a->v, a->v_col, a->ld_v, t.head);
	t.o = rows_of(a, a->o, 0, a->d, t.head);
	t.mask = mask_of(a, draw, t.head);
	t.m.x = xs;
	t.m.y = ys;
	t.m.type = type;
	return t;
}

/* Whether the head's key j takes part. */
static __device__ inline bool seen(const struct attn *a, int64_t head, int j)
{
	return j < a->s && !(a->mask && a->mask[head / a->heads * a->s + j] == 0);
}

/* A warp, row i of the scores: probabilities under dropout, in place; the row's log-sum-exp.
 * Infinite where no key takes part. */
static __device__ inline void softmax_row(const struct attn *a, float *scores, int r, int i,
	int64_t head, const struct mask *mask, enum wl_dtype type)
{
	int lane = threadIdx.x % WARP;
	float v[KEYS / WARP], most = -INFINITY, sum = 0;

	for (int k = 0; k < KEYS / WARP; k++) {
		int j = lane + k * WARP;

		v[k] = seen(a, head, j) ? scores[r * LD_SCORES + j] * a->scale : -INFINITY;
		most = v[k] > most ? v[k] : most;
	}
	most = warp_max(most);
	for (int k = 0; k < KEYS / WARP; k++) {
		v[k] = v[k] == -INFINITY ? 0.0f : wl_expf(v[k] - most);
		sum += v[k];
	}
	sum = warp_sum(sum);
	if (lane == 0 && i < a->s)
		a->lse[head * a->s + i] = sum > 0 ? most + logf(sum) : INFINITY;
	for (int k = 0; k < KEYS / WARP; k++)
		v[k] = v[k] == 0 ? 0.0f : v[k] / sum * mask_keep(mask, a, i, lane + k * WARP);
	put_row(scores, r, v, type);
}

static __global__ void k_attention(struct attn a, struct cuda_draw draw, enum wl_dtype type)
{
	__shared__ ALIGNED float scores[STRIP * LD_SCORES];
	__shared__ ALIGNED char xs[STRIP * PITCH], ys[KEYS * PITCH];
	struct strip t = strip_of(&a, &draw, type, xs, ys);
	struct result out = {t.o, t.x0, false};

	strip_products(t.m, scores, &t.q, t.x0, &t.k);
	for (int r = threadIdx.x / WARP; r < STRIP; r += LANES)
		softmax_row(&a, scores, r, t.x0 + r, t.head, &t.mask, type);
	strip_weighted(t.m, scores, &t.v, &out);
}

/* The probability of a score, once its row's log-sum-exp is known. */
static __device__ inline float prob(const struct attn *a, float score, float lse)
{
	return lse < INFINITY ? wl_expf(score * a->scale - lse) : 0.0f;
}

/* A warp, row i: scores become the gradients of scores; their row's sum of p dp is kept. */
static __device__ inline void slopes_row(const struct attn *a, float *scores, const float *dp,
	int r, int i, int64_t head, const struct mask *mask, enum wl_dtype type)
{
	int lane = threadIdx.x % WARP;
	float lse = i < a->s ? a->lse[head * a->s + i] : INFINITY;
	float p[KEYS / WARP], g[KEYS / WARP], dot = 0;

	for (int k = 0; k < KEYS / WARP; k++) {
		int j = lane + k * WARP;
		bool in = seen(a, head, j);

		p[k] = in ? prob(a, scores[r * LD_SCORES + j], lse) : 0.0f;
		g[k] = p[k] > 0 ? dp[r * LD_SCORES + j] * mask_keep(mask, a, i, j) : 0.0f;
		dot += p[k] * g[k];
	}
	dot = warp_sum(dot);
	if (lane == 0 && i < a->s)
		a->dot[head * a->s + i] = dot;
	for (int k = 0; k < KEYS / WARP; k++)
		g[k] = p[k] * (g[k] - dot) * a->scale;
	put_row(scores, r, g, type);
}

/* Gradients of queries by strips of them. */
static __global__ void k_attention_dq(
	struct attn a, struct attn_grads g, struct cuda_draw draw, enum wl_dtype type)
{
	__shared__ ALIGNED float scores[STRIP * LD_SCORES], dp[STRIP * LD_SCORES];
	__shared__ ALIGNED char xs[STRIP * PITCH], ys[KEYS * PITCH];
	struct strip t = strip_of(&a, &draw, type, xs, ys);
	struct result dq = {rows_of(&a, g.q, a.q_col, a.ld_q, t.head), t.x0, g.acc_q};

	strip_products(t.m, scores, &t.q, t.x0, &t.k);
	strip_products(t.m, dp, &t.o, t.x0, &t.v);
	for (int r = threadIdx.x / WARP; r < STRIP; r += LANES)
		slopes_row(&a, scores, dp, r, t.x0 + r, t.head, &t.mask, type);
	if (g.q.p)
		strip_weighted(t.m, scores, &t.k, &dq);
}

/* A warp, row j of the transposed scores: they become dropped probabilities, and dp the gradients
 * of scores. */
static __device__ inline void turned_row(const struct attn *a, float *scores, float *dp, int r,
	int j, int64_t head, const struct mask *mask, enum wl_dtype type)
{
	int lane = threadIdx.x % WARP;
	float p[KEYS / WARP], ds[KEYS / WARP];
	bool in = seen(a, head, j);

	for (int k = 0; k < KEYS / WARP; k++) {
		int i = lane + k * WARP;
		bool both = in && i < a->s;
		float lse = both ? a->lse[head * a->s + i] : INFINITY;
		float dot = both ? a->dot[head * a->s + i] : 0.0f, keep;

		p[k] = both ? prob(a, scores[r * LD_SCORES + i], lse) : 0.0f;
		keep = p[k] > 0 ? mask_keep(mask, a, i, j) : 0.0f;
		ds[k] = p[k] > 0 ? p[k] * (dp[r * LD_SCORES + i] * keep - dot) * a->scale : 0.0f;
		p[k] *= keep;
	}
	put_row(scores, r, p, type);
	put_row(dp, r, ds, type);
}

/* Gradients of keys and values by strips of them. */
static __global__ void k_attention_dkv(
	struct attn a, struct attn_grads g, struct cuda_draw draw, enum wl_dtype type)
{
	__shared__ ALIGNED float scores[STRIP * LD_SCORES], dp[STRIP * LD_SCORES];
	__shared__ ALIGNED char xs[STRIP * PITCH], ys[KEYS * PITCH];
	struct strip t = strip_of(&a, &draw, type, xs, ys);
	struct result dk = {rows_of(&a, g.k, a.k_col, a.ld_k, t.head), t.x0, g.acc_k};
	struct result dv = {rows_of(&a, g.v, a.v_col, a.ld_v, t.head), t.x0, g.acc_v};

	strip_products(t.m, scores, &t.k, t.x0, &t.q);
	strip_products(t.m, dp, &t.v, t.x0, &t.o);
	for (int r = threadIdx.x / WARP; r < STRIP; r += LANES)
		turned_row(&a, scores, dp, r, t.x0 + r, t.head, &t.mask, type);
	if (g.v.p)
		strip_weighted(t.m, scores, &t.o, &dv);
	if (g.k.p)
		strip_weighted(t.m, dp, &t.q, &dk);
}

/* --- operations --- */

static struct attn attn_of(const struct wl_op *op, const struct wl_tensor *o)
{
	struct attn a;

	memset(&a, 0, sizeof a);
	a.b = o->shape.dim[0];
	a.s = o->shape.dim[1];
	a.d = o->shape.dim[2];
	a.heads = op->attr.heads;
	a.dh = a.d / a.heads;
	a.ld_q = wl_shape_last(&op->in[0]->shape);
	a.ld_k = wl_shape_last(&op->in[1]->shape);
	a.ld_v = wl_shape_last(&op->in[2]->shape);
	a.q_col = op->attr.q_col;
	a.k_col = op->attr.k_col;
	a.v_col = op->attr.v_col;
	a.scale = 1.0f / sqrtf((float)a.dh);
	a.q = cuda_act_of(op->in[0]);
	a.k = cuda_act_of(op->in[1]);
	a.v = cuda_act_of(op->in[2]);
	a.o = cuda_act_of(o);
	return a;
}

static int64_t blocks_of(const struct attn *a)
{
	return a->b * a->heads * cuda_ceil_div(a->s, STRIP);
}

/* What products take: activations as they are stored, else what the graph computes in. */
static enum wl_dtype products_of(const struct wl_op *op)
{
	enum wl_dtype stored = op->in[0]->dtype;

	return is_half(stored) ? stored : is_half(op->attr.compute) ? op->attr.compute : WL_F32;
}

size_t wl_cuda_attention_scratch(const struct wl_op *op)
{
	struct attn a = attn_of(op, op->out[0]);

	return a.s > KEYS ? wl_cuda_long_scratch(&a, op->attr.p > 0) : 0;
}

CUDA_RUN(wl_cuda_attention)
{
	struct attn a = attn_of(op, op->out[0]);
	struct cuda_draw draw = cuda_draw_of(op, run, a.heads * a.s * a.s);

	(void)err;
	a.mask = cuda_f32(op->in[3]);
	a.lse = cuda_f32(op->out[1]);
	if (a.s > KEYS)
		wl_cuda_long_attention(c, &a, draw, run->scratch);
	else
		CUDA_BLOCKS(c, blocks_of(&a), k_attention, a, draw, products_of(op));
	return 0;
}

size_t wl_cuda_attention_bwd_scratch(const struct wl_op *op)
{
	struct attn a = attn_of(op, op->in[4]);

	if (a.s > KEYS)
		return wl_cuda_long_bwd_scratch(&a, op->attr.p > 0);
	return (size_t)(a.b * a.heads * a.s) * sizeof(float);
}

CUDA_RUN(wl_cuda_attention_bwd)
{
	struct attn a = attn_of(op, op->in[4]);
	struct cuda_draw draw = cuda_draw_of(op, run, a.heads * a.s * a.s);
	struct attn_grads g = {cuda_act_of(op->out[0]), cuda_act_of(op->out[1]),
		cuda_act_of(op->out[2]), cuda_acc(op, 0), cuda_acc(op, 1), cuda_acc(op, 2)};

	(void)err;
	a.lse = cuda_f32(op->in[3]);
	if (a.s > KEYS) {
		wl_cuda_long_attention_bwd(c, &a, &g, draw, run->scratch);
		return 0;
	}
	a.mask = cuda_f32(op->in[5]);
	a.dot = (float *)run->scratch;
	CUDA_BLOCKS(c, blocks_of(&a), k_attention_dq, a, g, draw, products_of(op));
	CUDA_BLOCKS(c, blocks_of(&a), k_attention_dkv, a, g, draw, products_of(op));
	return 0;
}
