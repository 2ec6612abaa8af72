/*
 * InfoNCE over a queue; the formulas stand in the CPU backend's infonce.c.  Logits are never
 * written: a block makes those of ROWS queries and COLS negatives in shared memory and leaves of
 * each row its largest, the sum of its exponentials and the extra positives' sum.  Backward makes
 * them again and turns them into slopes dL/dl, which a library's product takes to the gradients: as
 * many columns at a time as fill the GPU.  (Slopes cannot stay in shared memory:
 * the gradient of ROWS queries of 2,560 numbers is 1.3 MB, which every block would have to keep and
 * another pass to add up, many times the bytes of the slopes.)
 *
 * In bf16 the products are of tensor cores and what is in f32 of the negatives is kept as bf16 on
 * its way, for the gradient; else all is f32 but the queue, which may be bf16 in both: those
 * products then take the queue's rows as they lie, with the bits that they have of f32 rows.  Every
 * sum has one writer and one order.
 *
 * Bytes of one direction, B queries of D numbers, a queue of K: forward reads K D floats, once for
 * the first ROWS queries and from L2 for others; backward reads them again, in bf16 writes and
 * reads half as many bytes, in f32 reads them a third time; slopes of 2 (4) B K bytes are written
 * and read once, in blocks of columns.
 */
#include "train/backend/cuda/infonce.h"

/* Takes pieces of a scratch buffer; of none it measures, at an address as aligned as it will be. */
struct purse {
	char *at;
	bool measures;
	size_t used;
};

enum { NOWHERE = 1 << 20 };

static struct purse purse_of(void *scratch)
{
	struct purse p = {scratch ? (char *)scratch : (char *)NOWHERE, !scratch, 0};
	return p;
}

static void *lend(struct purse *p, size_t bytes)
{
	void *to = p->at + p->used;
	p->used += cuda_round(bytes);
	return to;
}

static struct nce nce_of(const struct wl_op *op)
{
	struct nce v;

	memset(&v, 0, sizeof v);
	v.b = op->in[0]->shape.dim[0];
	v.d = op->in[0]->shape.dim[1];
	v.who = wl_negatives_of(op);
	v.keys = op->in[1]->shape.dim[0];
	v.query = cuda_f32(op->in[0]);
	v.key = cuda_f32(op->in[1]);
	v.queue = cuda_act_of(op->in[2]);
	v.log_scale = cuda_f32(op->in[3]);
	v.neg = v.who.k + (op->attr.in_batch ? v.keys : 0);
	v.row_tiles = cuda_ceil_div(v.b, ROWS);
	v.queue_tiles = cuda_ceil_div(v.who.k, COLS);
	v.tiles = v.queue_tiles + cuda_ceil_div(v.neg - v.who.k, COLS);
	v.half = op->attr.compute == WL_BF16;
	v.wide = v.d % 8 == 0 && (uintptr_t)v.query % 16 == 0 && (uintptr_t)v.key % 16 == 0 &&
		 (uintptr_t)v.queue.p % 16 == 0;
	return v;
}

/* What forward and backward lend alike. */
static void nce_lend(struct nce *v, struct purse *p)
{
	v->row_sum = (double *)lend(p, (size_t)v->b * sizeof(double));
	v->row_extra = (double *)lend(p, (size_t)v->b * sizeof(double));
	v->parts = (float *)lend(p, (size_t)(v->b * PARTS * v->tiles) * sizeof(float));
	if (v->half)
		v->query_half = (uint16_t *)lend(p, (size_t)(v->b * v->d) * 2);
}

size_t wl_cuda_infonce_scratch(const struct wl_op *op)
{
	struct nce v = nce_of(op);
	struct purse p = purse_of(NULL);

	nce_lend(&v, &p);
	return p.used;
}

/* --- forward --- */

static __global__ void __launch_bounds__(CUDA_THREADS, 2) k_nce_tile(struct nce v)
{
	__shared__ __attribute__((aligned(32))) char mem[STAGED];
	struct spot s = spot_of(&v, 0);
	float scale = expf(*v.log_scale);

	block_products(&v, &s, false, 0, mem);
	for (int r = (int)threadIdx.x / WARP; r < s.rows; r += WARPS) {
		float l[2], most, sum = 0, at = 0;
		bool extra[2];

		row_logits(&v, &s, (const float *)mem, r, scale, l, extra);
		most = warp_max(l[0] > l[1] ? l[0] : l[1]);
		CUDA_UNROLL
		for (int i = 0; i < 2; i++) {
			sum += l[i] == -INFINITY ? 0.0f : wl_expf(l[i] - most);
			at += extra[i] ? l[i] : 0.0f;
		}
		sum = warp_sum(sum);
		at = warp_sum(at);
		if (threadIdx.x % WARP)
			continue;
		parts_of(&v, s.b0 + r, 0)[s.tile] = most;
		parts_of(&v, s.b0 + r, 1)[s.tile] = sum;
		parts_of(&v, s.b0 + r, 2)[s.tile] = at;
	}
}

/* A block a query: lse and pos; row_sum: 1 where the positive is the best; row_extra. */
static __global__ void k_nce_row(struct nce v, float *lse, float *pos)
{
	int64_t b = blockIdx.x;
	const float *q = v.query + b * v.d, *k = v.key + (v.who.first + b) * v.d;
	const float *largest = parts_of(&v, b, 0), *part = parts_of(&v, b, 1);
	double dot = 0, sum = 0, extra = 0;
	float most = -INFINITY, at;

	for (int64_t j = threadIdx.x; j < v.d; j += blockDim.x)
		dot += (double)q[j] * (double)k[j];
	at = (float)block_sum(dot) * expf(*v.log_scale);
	for (int64_t t = threadIdx.x; t < v.tiles; t += blockDim.x)
		most = largest[t] > most ? largest[t] : most;
	most = block_max(most);
	most = at > most ? at : most;
	for (int64_t t = threadIdx.x; t < v.tiles; t += blockDim.x) {
		if (part[t] != 0)
			sum += (double)part[t] * exp((double)largest[t] - (double)most);
		extra += (double)parts_of(&v, b, 2)[t];
	}
	sum = block_sum(sum) + exp((double)at - (double)most);
	extra = block_sum(extra);
	if (threadIdx.x)
		return;
	pos[b] = at;
	lse[b] = (float)((double)most + log(sum));
	v.row_extra[b] = extra;
	v.row_sum[b] = at >= most ? 1.0 : 0.0;
}

/* One block: the means over the queries. */
static __global__ void k_loss(
	struct nce v, const float *lse, const float *pos, float *loss, float *accuracy)
{
	double l = 0, right = 0;

	for (int64_t b = threadIdx.x; b < v.b; b += blockDim.x) {
		l += wl_positives(&v.who, b) * (double)lse[b] - (double)pos[b] - v.row_extra[b];
		right += v.row_sum[b];
	}
	l = block_sum(l);
	right = block_sum(right);
	if (threadIdx.x == 0) {
		*loss = (float)(l / (double)v.b);
		*accuracy = (float)(right / (double)v.b);
	}
}

/* The queries as tensor cores take them. */
static void narrow_queries(struct cuda *c, const struct nce *v)
{
	struct cuda_act from = {(void *)v->query, WL_F32}, to = {v->query_half, WL_BF16};

	if (v->half)
		wl_cuda_convert(c, from, to, v->b * v->d);
}

CUDA_RUN(wl_cuda_infonce)
{
	struct nce v = nce_of(op);
	struct purse p = purse_of(run->scratch);
	float *lse = cuda_f32(op->out[2]), *pos = cuda_f32(op->out[3]);

	(void)err;
	nce_lend(&v, &p);
	narrow_queries(c, &v);
	if (v.tiles)
		CUDA_BLOCKS(c, v.row_tiles * v.tiles, k_nce_tile, v);
	CUDA_BLOCKS(c, v.b, k_nce_row, v, lse, pos);
	CUDA_BLOCKS(c, 1, k_loss, v, lse, pos, cuda_f32(op->out[0]), cuda_f32(op->out[1]));
	return 0;
}

/* --- backward --- */

/* dL/dl times B, of g_loss and scale. */
static __device__ inline float factor_of(const struct nce *v, const float *g_loss)
{
	return *g_loss / (float)v->b * expf(*v->log_scale);
}

/* Tiles of columns from first_tile on: slopes dL/dl * B * factor; parts: sums of dL/dl * B * l. */
static __global__ void __launch_bounds__(CUDA_THREADS, 2)
	k_nce_slopes(struct nce v, int64_t first_tile, const float *lse, const float *g_loss)
{
	__shared__ __attribute__((aligned(32))) char mem[STAGED];
	struct spot s = spot_of(&v, first_tile);
	float scale = expf(*v.log_scale), factor = factor_of(&v, g_loss);
	int64_t to = (s.tile - first_tile) * COLS;

	block_products(&v, &s, s.b0 == 0, first_tile, mem);
	for (int r = (int)threadIdx.x / WARP; r < s.rows; r += WARPS) {
		int64_t b = s.b0 + r;
		float l[2], sum = 0, n = (float)wl_positives(&v.who, b);
		bool extra[2];

		row_logits(&v, &s, (const float *)mem, r, scale, l, extra);
		CUDA_UNROLL
		for (int i = 0; i < 2; i++) {
			int c = (int)threadIdx.x % WARP + i * WARP;
			bool out = l[i] == -INFINITY;
			float g = (out ? 0.0f : n * wl_expf(l[i] - lse[b])) - (extra[i] ? 1.0f : 0);

			sum += out ? 0.0f : g * l[i];
			if (c < s.cols)
				act_store(v.slopes, b * v.ld + to + c, g * factor);
		}
		sum = warp_sum(sum);
		if (threadIdx.x % WARP == 0)
			parts_of(&v, b, 0)[s.tile] = sum;
	}
}

/* to [b] [+]= factor * (n p_pos - 1) * other [b] */
static __global__ void k_positive(int64_t n, struct nce v, const float *lse, const float *pos,
	const float *g_loss, const float *other, float *to, bool acc)
{
	EACH(e, n)
	{
		int64_t b = e / v.d;
		float slope = (float)wl_positive_slope(&v.who, b, lse[b], pos[b]);
		float w = factor_of(&v, g_loss) * slope;

		to[e] = old(to, e, acc) + w * other[e];
	}
}

/* row_sum of a row: the sum of dL/dl * B * l over its logits, in the tiles' order. */
static __global__ void k_row_sums(int64_t n, struct nce v, const float *lse, const float *pos)
{
	EACH(b, n)
	{
		const float *part = parts_of(&v, b, 0);
		double s = wl_positive_slope(&v.who, b, lse[b], pos[b]) * (double)pos[b];

		for (int64_t t = 0; t < v.tiles; t++)
			s += (double)part[t];
		v.row_sum[b] = s;
	}
}

static __global__ void k_g_scale(struct nce v, const float *g_loss, float *to, bool acc)
{
	double s = 0;

	for (int64_t b = threadIdx.x; b < v.b; b += blockDim.x)
		s += v.row_sum[b];
	s = block_sum(s);
	if (threadIdx.x == 0)
		*to = old(to, 0, acc) + (float)(s * (double)(*g_loss / (float)v.b));
}

/* Products by [queue, keys][whole block of columns, the last one]. */
struct nce_plan {
	void *by_query[2][2], *by_key[2][2];
};

/* Backward is walked by one function, to plan its products and to run them. */
struct walk {
	struct cuda *c;
	const struct wl_op *op;
	struct nce v;
	struct nce_plan *plan;
	void *workspace;
	bool planning;
};

static struct walk walk_of(struct cuda *c, const struct wl_op *op, struct purse *p)
{
	struct walk w = {c, op, nce_of(op), (struct nce_plan *)op->plan, NULL, p->measures};
	struct nce *v = &w.v;
	int64_t keys = v->tiles - v->queue_tiles;

	v->at_once = cuda_ceil_div(BLOCKS_AT_ONCE, v->row_tiles ? v->row_tiles : 1);
	v->at_once = least(v->at_once, keys > v->queue_tiles ? keys : v->queue_tiles);
	v->ld = v->at_once * COLS;
	w.workspace = lend(p, CUDA_WORKSPACE);
	nce_lend(v, p);
	v->slopes.type = v->half ? WL_BF16 : WL_F32;
	v->slopes.p = lend(p, (size_t)(v->b * v->ld) * (v->half ? 2 : 4));
	v->kept.type = v->slopes.type;
	if (v->queue.type != v->kept.type || (v->half && v->neg > v->who.k))
		v->kept.p = lend(p, (size_t)(v->ld * v->d) * (v->half ? 2 : 4));
	return w;
}

static int multiply(
	const struct walk *w, const struct cuda_product *p, void **plan, struct wl_err *err)
{
	if (!w->planning)
		return wl_cuda_product(w->c, *plan, p, w->workspace, err);
	return *plan ? 0 : wl_cuda_product_plan(w->c, p, plan, err);
}

/* Number i of f, but nothing of nothing: while planning, an operand may not have its place. */
static struct cuda_act shifted(const float *f, int64_t i)
{
	struct cuda_act a = {f ? (void *)(f + i) : NULL, WL_F32};

	return a;
}

/* What `cols` columns from j0 on add to the gradients of queries and keys. */
static int columns_bwd(
	struct walk *w, int64_t j0, int64_t cols, bool last, struct wl_err *err)
{
	const struct nce *v = &w->v;
	bool keys = j0 >= v->who.k;
	int64_t at = (keys ? j0 - v->who.k : j0) * v->d;
	struct cuda_act none = {NULL, WL_F32}, half = {v->query_half, WL_BF16};
	struct cuda_act from = keys ? shifted(v->key, at) : rows_from(v->queue, j0, v->d);
	struct cuda_act rows = from.type == v->slopes.type ? from : v->kept;
	struct cuda_act queries = v->half ? half : shifted(v->query, 0);
	struct cuda_product q = {v->b, v->d, cols, v->slopes, v->ld, 1, rows, v->d, 1,
		cuda_act_of(w->op->out[0]), v->d, true, none, false, NULL};
	struct cuda_product k = {cols, v->d, v->b, v->slopes, 1, v->ld, queries, v->d, 1,
		shifted(cuda_f32(w->op->out[2]), at), v->d, true, none, false, NULL};

	if (w->op->out[0])
		WL_TRY(multiply(w, &q, &w->plan->by_query[keys][last], err));
	return keys && w->op->out[2] ? multiply(w, &k, &w->plan->by_key[keys][last], err) : 0;
}

/* Tiles [from, end), all of the queue or all of the keys. */
static int tiles_bwd(struct walk *w, int64_t from, int64_t end, struct wl_err *err)
{
	const struct nce *v = &w->v;
	bool keys = from >= v->queue_tiles;
	int64_t base = keys ? v->who.k : 0, stop = keys ? v->neg : v->who.k;

	for (int64_t t = from; t < end; t += v->at_once) {
		int64_t n = least(v->at_once, end - t);
		int64_t j0 = base + (t - from) * COLS, cols = least(n * COLS, stop - j0);

		if (!w->planning)
			CUDA_BLOCKS(w->c, v->row_tiles * n, k_nce_slopes, *v, t,
				cuda_f32(w->op->in[6]), cuda_f32(w->op->in[8]));
		WL_TRY(columns_bwd(w, j0, cols, t + n == end, err));
	}
	return 0;
}

int wl_cuda_infonce_bwd_plan(struct cuda *c, struct wl_op *op, struct wl_err *err)
{
	struct purse p = purse_of(NULL);
	struct walk w;

	op->plan = calloc(1, sizeof(struct nce_plan));
	if (!op->plan)
		return wl_err_nomem(err, "the plan of a loss", sizeof(struct nce_plan));
	w = walk_of(c, op, &p);
	op->scratch_bytes = p.used;
	WL_TRY(tiles_bwd(&w, 0, w.v.queue_tiles, err));
	return tiles_bwd(&w, w.v.queue_tiles, w.v.tiles, err);
}

void wl_cuda_infonce_bwd_release(struct cuda *c, struct wl_op *op)
{
	struct nce_plan *plan = (struct nce_plan *)op->plan;

	for (int i = 0; plan && i < 4; i++) {
		wl_cuda_product_release(c, plan->by_query[i / 2][i % 2]);
		wl_cuda_product_release(c, plan->by_key[i / 2][i % 2]);
	}
	free(plan);
}

CUDA_RUN(wl_cuda_infonce_bwd)
{
	struct purse p = purse_of(run->scratch);
	struct walk w = walk_of(c, op, &p);
	const struct nce *v = &w.v;
	const float *lse = cuda_f32(op->in[6]), *pos = cuda_f32(op->in[7]);
	const float *g_loss = cuda_f32(op->in[8]);
	float *gq = cuda_f32(op->out[0]), *g_scale = cuda_f32(op->out[1]);
	float *gk = cuda_f32(op->out[2]);
	int64_t n = v->b * v->d;

	narrow_queries(c, v);
	if (gq)
		CUDA_EACH(c, n, k_positive, *v, lse, pos, g_loss, v->key + v->who.first * v->d, gq,
			cuda_acc(op, 0));
	if (gk && !cuda_acc(op, 2))
		c->be.zero(&c->be, gk, (size_t)(v->keys * v->d) * sizeof(float));
	if (gk)
		CUDA_EACH(c, n, k_positive, *v, lse, pos, g_loss, v->query,
			gk + v->who.first * v->d, true);
	WL_TRY(tiles_bwd(&w, 0, v->queue_tiles, err));
	WL_TRY(tiles_bwd(&w, v->queue_tiles, v->tiles, err));
	if (!g_scale)
		return 0;
	CUDA_EACH(c, v->b, k_row_sums, *v, lse, pos);
	CUDA_BLOCKS(c, 1, k_g_scale, *v, g_loss, g_scale, cuda_acc(op, 1));
	return 0;
}
