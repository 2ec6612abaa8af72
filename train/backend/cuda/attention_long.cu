/*
 * Softmax attention for sequences that attention.cu does not take: scores and probabilities as
 * matrices in memory, in f32.  Probabilities before dropout are kept for backward; dropout's mask
 * is drawn again.
 */
#include "train/backend/cuda/attention.h"

/* The rows of an operand: its head's columns begin at `col`. */
struct side {
	struct cuda_act at;
	int64_t ld, col;
};

static int64_t scores_of(const struct attn *a)
{
	return a->b * a->heads * a->s * a->s;
}

/* out [b,heads,s,s] = x_i . y_j of a head. */
static __global__ void k_products(
	int64_t n, struct attn a, struct side x, struct side y, float *out)
{
	EACH(e, n)
	{
		int64_t j = e % a.s, i = e / a.s % a.s, head = e / (a.s * a.s);
		int64_t row = head / a.heads * a.s, col = head % a.heads * a.dh;
		int64_t p = (row + i) * x.ld + x.col + col, q = (row + j) * y.ld + y.col + col;
		float s = 0;

		for (int64_t t = 0; t < a.dh; t++)
			s += act_load(x.at, p + t) * act_load(y.at, q + t);
		out[e] = s;
	}
}

/* A block a row of scores. */
static __global__ void k_softmax(struct attn a, float *p)
{
	int64_t head = blockIdx.x / a.s;
	float *row = p + (int64_t)blockIdx.x * a.s, most = -INFINITY;
	const float *keep = a.mask ? a.mask + head / a.heads * a.s : NULL;
	double sum = 0;

	for (int64_t j = threadIdx.x; j < a.s; j += blockDim.x) {
		row[j] = keep && keep[j] == 0 ? -INFINITY : row[j] * a.scale;
		most = row[j] > most ? row[j] : most;
	}
	most = block_max(most);
	for (int64_t j = threadIdx.x; j < a.s; j += blockDim.x) {
		bool out = most == -INFINITY || (keep && keep[j] == 0);
		row[j] = out ? 0.0f : wl_expf(row[j] - most);
		sum += (double)row[j];
	}
	float by = (float)block_sum(sum);
	for (int64_t j = threadIdx.x; j < a.s && by > 0; j += blockDim.x)
		row[j] /= by;
}

static __global__ void k_drop(int64_t n, const float *p, struct cuda_draw draw, float *out)
{
	EACH(i, n)
	out[i] = p[i] * draw_keep(draw, i);
}

/* `to` (b, i, head's columns) [+]= sum_j w(i,j) y_j, w [b,heads,s,s] as it is or transposed. */
static __global__ void k_weighted(int64_t n, struct attn a, const float *w, bool transposed,
	struct side y, struct side to, bool acc)
{
	EACH(e, n)
	{
		int64_t col = e % a.d, i = e / a.d % a.s, b = e / (a.d * a.s);
		const float *m = w + (b * a.heads + col / a.dh) * a.s * a.s;
		int64_t at = (b * a.s + i) * to.ld + to.col + col;
		float s = 0;

		for (int64_t j = 0; j < a.s; j++)
			s += (transposed ? m[j * a.s + i] : m[i * a.s + j]) *
			     act_load(y.at, (b * a.s + j) * y.ld + y.col + col);
		act_store(to.at, at, s + (acc ? act_load(to.at, at) : 0.0f));
	}
}

size_t wl_cuda_long_scratch(const struct attn *a, bool drops)
{
	return drops ? (size_t)scores_of(a) * sizeof(float) : 0;
}

void wl_cuda_long_attention(
	struct cuda *c, const struct attn *a, struct cuda_draw draw, void *scratch)
{
	int64_t n = scores_of(a), outputs = a->b * a->s * a->d;
	struct side q = {a->q, a->ld_q, a->q_col}, k = {a->k, a->ld_k, a->k_col};
	struct side v = {a->v, a->ld_v, a->v_col}, o = {a->o, a->d, 0};
	float *dropped = a->lse;

	CUDA_EACH(c, n, k_products, *a, q, k, a->lse);
	CUDA_BLOCKS(c, a->b * a->heads * a->s, k_softmax, *a, a->lse);
	if (draw.p > 0) {
		dropped = (float *)scratch;
		CUDA_EACH(c, n, k_drop, a->lse, draw, dropped);
	}
	CUDA_EACH(c, outputs, k_weighted, *a, dropped, false, v, o, false);
}

/* ds: in, the gradient of the dropped probabilities; out, that of the scores before scaling
 * (times the scale).  A block a row. */
static __global__ void k_softmax_bwd(
	struct attn a, const float *p, struct cuda_draw draw, float *ds)
{
	int64_t at = (int64_t)blockIdx.x * a.s;
	double dot = 0;

	for (int64_t j = threadIdx.x; j < a.s; j += blockDim.x) {
		if (draw.p > 0)
			ds[at + j] *= draw_keep(draw, at + j);
		dot += (double)(p[at + j] * ds[at + j]);
	}
	float mean = (float)block_sum(dot);
	for (int64_t j = threadIdx.x; j < a.s; j += blockDim.x)
		ds[at + j] = p[at + j] * (ds[at + j] - mean) * a.scale;
}

size_t wl_cuda_long_bwd_scratch(const struct attn *a, bool drops)
{
	return (size_t)scores_of(a) * (drops ? 2 : 1) * sizeof(float);
}

void wl_cuda_long_attention_bwd(struct cuda *c, const struct attn *a, const struct attn_grads *g,
	struct cuda_draw draw, void *scratch)
{
	int64_t n = scores_of(a), outputs = a->b * a->s * a->d;
	struct side q = {a->q, a->ld_q, a->q_col}, k = {a->k, a->ld_k, a->k_col};
	struct side v = {a->v, a->ld_v, a->v_col}, go = {a->o, a->d, 0};
	struct side gq = {g->q, a->ld_q, a->q_col}, gk = {g->k, a->ld_k, a->k_col};
	struct side gv = {g->v, a->ld_v, a->v_col};
	float *ds = (float *)scratch, *dropped = a->lse;

	if (draw.p > 0) {
		dropped = ds + n;
		CUDA_EACH(c, n, k_drop, a->lse, draw, dropped);
	}
	CUDA_EACH(c, n, k_products, *a, go, v, ds);
	CUDA_BLOCKS(c, a->b * a->heads * a->s, k_softmax_bwd, *a, a->lse, draw, ds);
	if (g->q.p)
		CUDA_EACH(c, outputs, k_weighted, *a, ds, false, k, gq, g->acc_q);
	if (g->k.p)
		CUDA_EACH(c, outputs, k_weighted, *a, ds, true, q, gk, g->acc_k);
	if (g->v.p)
		CUDA_EACH(c, outputs, k_weighted, *a, dropped, true, go, gv, g->acc_v);
}
