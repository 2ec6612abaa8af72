/*
 * InfoNCE over a queue; the formulas stand in the CPU backend's infonce.c.  Queries are taken in
 * blocks whose logits fit LOGIT_FLOATS, and backward computes them again.
 */
#include "train/backend/cuda/cuda.h"

enum { LOGIT_FLOATS = 64 << 20 };

struct nce {
	int64_t b, d, k, neg; /* neg: columns of logits, K and the N keys with in_batch */
	int64_t keys, first;  /* N; query b's positive is key first + b */
	int64_t per;	      /* rows of a block */
	int64_t ids, top;     /* columns of identities and of extra positives */
	const int32_t *extra; /* [B, top] columns that are positives too, -1: none */
	const float *query, *key, *queue, *log_scale;
	const int64_t *row_ids, *queue_ids;
	bool in_batch;
	/* Scratch. */
	double *row_sum, *row_extra; /* [B] */
	float *logits;
};

static struct nce nce_of(const struct wl_op *op, void *scratch)
{
	const struct wl_tensor *extra = op->in[op->kind == WL_OP_INFONCE ? 6 : 9];
	struct nce v;

	memset(&v, 0, sizeof v);
	v.b = op->in[0]->shape.dim[0];
	v.d = op->in[0]->shape.dim[1];
	v.k = op->in[2] ? op->in[2]->shape.dim[0] : 0;
	v.keys = op->in[1]->shape.dim[0];
	v.first = op->attr.begin;
	v.in_batch = op->attr.in_batch;
	v.query = cuda_f32(op->in[0]);
	v.key = cuda_f32(op->in[1]);
	v.queue = cuda_f32(op->in[2]);
	v.log_scale = cuda_f32(op->in[3]);
	v.row_ids = op->in[4] ? (const int64_t *)op->in[4]->data : NULL;
	v.queue_ids = op->in[5] ? (const int64_t *)op->in[5]->data : NULL;
	v.ids = op->in[4] ? op->in[4]->shape.dim[1] : 0;
	v.extra = extra ? (const int32_t *)extra->data : NULL;
	v.top = extra ? extra->shape.dim[1] : 0;
	v.neg = v.k + (v.in_batch ? v.keys : 0);
	v.per = v.neg ? LOGIT_FLOATS / v.neg : v.b;
	v.per = v.per < 1 ? 1 : v.per < v.b ? v.per : v.b;
	v.row_sum = (double *)scratch;
	v.row_extra = scratch ? v.row_sum + v.b : NULL;
	v.logits = scratch ? (float *)(v.row_extra + v.b) : NULL;
	return v;
}

size_t wl_cuda_infonce_scratch(const struct wl_op *op)
{
	struct nce v = nce_of(op, NULL);
	return (size_t)(v.per * v.neg) * sizeof(float) + 2 * (size_t)v.b * sizeof(double);
}

static __device__ inline bool same(const int64_t *a, const int64_t *b, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		if (a[i] == b[i])
			return true;
	return false;
}

/* Whether column j is no negative of row b: its own positive, or the same pair or caption. */
static __device__ inline bool ignored(const struct nce *v, int64_t b, int64_t j)
{
	int64_t own = v->first + b;
	if (j >= v->k)
		return j - v->k == own ||
		       (v->row_ids && same(v->row_ids + own * v->ids,
					      v->row_ids + (j - v->k) * v->ids, v->ids));
	return v->row_ids && v->queue_ids &&
	       same(v->row_ids + own * v->ids, v->queue_ids + j * v->ids, v->ids);
}

static __device__ inline bool is_extra(const struct nce *v, int64_t b, int64_t j)
{
	for (int64_t t = 0; t < v->top; t++)
		if (v->extra[b * v->top + t] == (int32_t)j)
			return true;
	return false;
}

/* Positives of row b: its key and the extra ones. */
static __device__ inline double positives(const struct nce *v, int64_t b)
{
	double n = 1;
	for (int64_t t = 0; t < v->top; t++)
		n += v->extra[b * v->top + t] >= 0;
	return n;
}

/* Products become logits: -inf where ignored, but not where a positive. */
static __global__ void k_logits(int64_t n, struct nce v, int64_t b0)
{
	float scale = expf(*v.log_scale);
	EACH(e, n)
	{
		int64_t b = b0 + e / v.neg, j = e % v.neg;
		bool out = ignored(&v, b, j) && !is_extra(&v, b, j);
		v.logits[e] = out ? -INFINITY : v.logits[e] * scale;
	}
}

/* logits [rows, neg] of queries from b0. */
static int block_logits(
	struct cuda *c, const struct nce *v, int64_t b0, int64_t rows, struct wl_err *err)
{
	int64_t n = rows * v->neg;
	struct cuda_gemm g = {rows, v->k, v->d, v->query + b0 * v->d, v->d, 1, v->queue, 1, v->d,
		v->logits, v->neg, false, false};
	if (v->k)
		WL_TRY(wl_cuda_gemm(c, &g, NULL, err));
	if (v->in_batch) {
		g.n = v->keys;
		g.b = v->key;
		g.c = v->logits + v->k;
		WL_TRY(wl_cuda_gemm(c, &g, NULL, err));
	}
	if (n)
		CUDA_EACH(c, n, k_logits, *v, b0);
	return 0;
}

/* A block a query: lse and pos; row_sum: 1 where the positive is the best; row_extra. */
static __global__ void k_lse(struct nce v, int64_t b0, float *lse, float *pos)
{
	int64_t b = b0 + blockIdx.x;
	const float *row = v.logits + (int64_t)blockIdx.x * v.neg;
	const float *q = v.query + b * v.d, *k = v.key + (v.first + b) * v.d;
	double dot = 0, sum = 0, extra = 0;
	float most = -INFINITY;
	for (int64_t j = threadIdx.x; j < v.d; j += blockDim.x)
		dot += (double)q[j] * (double)k[j];
	float at = (float)block_sum(dot) * expf(*v.log_scale);
	for (int64_t j = threadIdx.x; j < v.neg; j += blockDim.x)
		most = row[j] > most ? row[j] : most;
	most = block_max(most);
	most = at > most ? at : most;
	for (int64_t j = threadIdx.x; j < v.neg; j += blockDim.x)
		sum += row[j] == -INFINITY ? 0.0 : (double)wl_expf(row[j] - most);
	sum = block_sum(sum) + exp((double)at - (double)most);
	if (threadIdx.x)
		return;
	for (int64_t t = 0; t < v.top; t++) {
		int32_t j = v.extra[b * v.top + t];
		extra += j >= 0 ? (double)row[j] : 0;
	}
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
		l += positives(&v, b) * (double)lse[b] - (double)pos[b] - v.row_extra[b];
		right += v.row_sum[b];
	}
	l = block_sum(l);
	right = block_sum(right);
	if (threadIdx.x == 0) {
		*loss = (float)(l / (double)v.b);
		*accuracy = (float)(right / (double)v.b);
	}
}

CUDA_RUN(wl_cuda_infonce)
{
	struct nce v = nce_of(op, run->scratch);
	float *lse = cuda_f32(op->out[2]), *pos = cuda_f32(op->out[3]);
	for (int64_t b0 = 0; b0 < v.b; b0 += v.per) {
		int64_t rows = v.b - b0 < v.per ? v.b - b0 : v.per;
		WL_TRY(block_logits(c, &v, b0, rows, err));
		CUDA_BLOCKS(c, rows, k_lse, v, b0, lse, pos);
	}
	CUDA_BLOCKS(c, 1, k_loss, v, lse, pos, cuda_f32(op->out[0]), cuda_f32(op->out[1]));
	return 0;
}

/* n p_pos - 1 of row b, exact for a p close to 1. */
static __device__ inline double positive_slope(const struct nce *v, int64_t b, float lse, float pos)
{
	double n = positives(v, b);
	return n * expm1((double)pos - (double)lse) + (n - 1);
}

/* dL/dl times B, of g_loss and scale. */
static __device__ inline float factor_of(const struct nce *v, const float *g_loss)
{
	return *g_loss / (float)v->b * expf(*v->log_scale);
}

/* A block a query: logits -> dL/dl * B * factor in place; row_sum: sum of dL/dl * B * l. */
static __global__ void k_slopes(
	struct nce v, int64_t b0, const float *lse, const float *pos, const float *g_loss)
{
	int64_t b = b0 + blockIdx.x;
	float *row = v.logits + (int64_t)blockIdx.x * v.neg, top = lse[b];
	float n = (float)positives(&v, b), factor = factor_of(&v, g_loss);
	double sum = 0;
	for (int64_t j = threadIdx.x; j < v.neg; j += blockDim.x) {
		float l = row[j], p = l == -INFINITY ? 0.0f : n * wl_expf(l - top);
		float m = v.top && is_extra(&v, b, j) ? 1.0f : 0.0f;
		sum += l == -INFINITY ? 0.0 : (double)(p - m) * (double)l;
		row[j] = (p - m) * factor;
	}
	sum = block_sum(sum);
	if (threadIdx.x == 0)
		v.row_sum[b] = sum + positive_slope(&v, b, top, pos[b]) * (double)pos[b];
}

/* to [b] [+]= factor * (n p_pos - 1) * other [b] */
static __global__ void k_positive(int64_t n, struct nce v, const float *lse, const float *pos,
	const float *g_loss, const float *other, float *to, bool acc)
{
	EACH(e, n)
	{
		int64_t b = e / v.d;
		float w = factor_of(&v, g_loss) * (float)positive_slope(&v, b, lse[b], pos[b]);
		to[e] = old(to, e, acc) + w * other[e];
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

/* What the block's negatives add to the gradients of queries and keys. */
static int block_bwd(struct cuda *c, const struct nce *v, int64_t b0, int64_t rows, float *gq,
	float *gk, struct wl_err *err)
{
	struct cuda_gemm q = {rows, v->d, v->k, v->logits, v->neg, 1, v->queue, v->d, 1,
		gq ? gq + b0 * v->d : NULL, v->d, true, false};
	struct cuda_gemm k = {v->keys, v->d, rows, v->logits + v->k, 1, v->neg,
		v->query + b0 * v->d, v->d, 1, gk, v->d, true, false};
	if (gq && v->k)
		WL_TRY(wl_cuda_gemm(c, &q, NULL, err));
	if (!v->in_batch)
		return 0;
	q.k = v->keys;
	q.a = v->logits + v->k;
	q.b = v->key;
	if (gq)
		WL_TRY(wl_cuda_gemm(c, &q, NULL, err));
	return gk ? wl_cuda_gemm(c, &k, NULL, err) : 0;
}

CUDA_RUN(wl_cuda_infonce_bwd)
{
	struct nce v = nce_of(op, run->scratch);
	const float *lse = cuda_f32(op->in[6]), *pos = cuda_f32(op->in[7]);
	const float *g_loss = cuda_f32(op->in[8]);
	float *gq = cuda_f32(op->out[0]), *g_scale = cuda_f32(op->out[1]);
	float *gk = cuda_f32(op->out[2]);
	int64_t n = v.b * v.d;
	if (gq)
		CUDA_EACH(c, n, k_positive, v, lse, pos, g_loss, v.key + v.first * v.d, gq,
			cuda_acc(op, 0));
	if (gk && !cuda_acc(op, 2))
		c->be.zero(&c->be, gk, (size_t)(v.keys * v.d) * sizeof(float));
	if (gk)
		CUDA_EACH(c, n, k_positive, v, lse, pos, g_loss, v.query, gk + v.first * v.d,
			true);
	for (int64_t b0 = 0; b0 < v.b; b0 += v.per) {
		int64_t rows = v.b - b0 < v.per ? v.b - b0 : v.per;
		WL_TRY(block_logits(c, &v, b0, rows, err));
		CUDA_BLOCKS(c, rows, k_slopes, v, b0, lse, pos, g_loss);
		WL_TRY(block_bwd(c, &v, b0, rows, gq, gk, err));
	}
	if (g_scale)
		CUDA_BLOCKS(c, 1, k_g_scale, v, g_loss, g_scale, cuda_acc(op, 1));
	return 0;
}

/* --- extra positives: what is near a sample's keys in both queues --- */

/* A block a row of one side: the `top` best columns, best first, ties to the lower column; a column
 * taken becomes -inf. */
static __global__ void k_best(int64_t k, int64_t top, float *sim, int32_t *out)
{
	__shared__ int32_t at[CUDA_THREADS];
	float *row = sim + (int64_t)blockIdx.x * k;
	for (int64_t t = 0; t < top; t++) {
		int32_t best = -1;
		for (int64_t j = threadIdx.x; j < k; j += blockDim.x)
			if (row[j] > -INFINITY && (best < 0 || row[j] > row[best]))
				best = (int32_t)j;
		at[threadIdx.x] = best;
		__syncthreads();
		if (threadIdx.x == 0) {
			for (int i = 1; i < CUDA_THREADS; i++) {
				int32_t o = at[i];
				if (o >= 0 && (best < 0 || row[o] > row[best] ||
						      (row[o] == row[best] && o < best)))
					best = o;
			}
			out[(int64_t)blockIdx.x * top + t] = best;
			if (best >= 0)
				row[best] = -INFINITY;
		}
		__syncthreads();
	}
}

static __global__ void k_both(int64_t n, int64_t top, const int32_t *other, int32_t *mine)
{
	EACH(e, n)
	{
		bool both = false;
		for (int64_t u = 0; u < top; u++)
			both |= mine[e] == other[e / top * top + u];
		mine[e] = both ? mine[e] : -1;
	}
}

size_t wl_cuda_both_near_scratch(const struct wl_op *op)
{
	int64_t b = op->in[0]->shape.dim[0], k = op->in[1]->shape.dim[0];
	return (size_t)(2 * b * k) * sizeof(float) +
	       (size_t)cuda_count(op->out[0]) * sizeof(int32_t);
}

CUDA_RUN(wl_cuda_both_near)
{
	int64_t b = op->in[0]->shape.dim[0], d = op->in[0]->shape.dim[1];
	int64_t k = op->in[1]->shape.dim[0], top = op->out[0]->shape.dim[1], n = b * top;
	float *sim[2] = {(float *)run->scratch, (float *)run->scratch + b * k};
	int32_t *mine = (int32_t *)op->out[0]->data, *other = (int32_t *)(sim[1] + b * k);
	for (int i = 0; i < 2; i++) {
		struct cuda_gemm g = {b, k, d, cuda_f32(op->in[2 * i]), d, 1,
			cuda_f32(op->in[2 * i + 1]), 1, d, sim[i], k, false, false};
		WL_TRY(wl_cuda_gemm(c, &g, NULL, err));
		CUDA_BLOCKS(c, b, k_best, k, top, sim[i], i ? other : mine);
	}
	CUDA_EACH(c, n, k_both, top, other, mine);
	return 0;
}
