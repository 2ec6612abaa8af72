/*
 * Softmax attention for short sequences, and the embedding tables.  Probabilities before dropout
 * are kept for backward; dropout's mask is drawn again.
 */
#include "train/backend/cuda/cuda.h"

struct attn {
	int64_t b, s, d, dh, heads;
	int64_t ld_q, ld_k, ld_v;
	float scale;
};

static struct attn attn_of(const struct wl_op *op, const struct wl_tensor *o)
{
	struct attn a = {o->shape.dim[0], o->shape.dim[1], o->shape.dim[2], 0, op->attr.heads,
		wl_shape_last(&op->in[0]->shape), wl_shape_last(&op->in[1]->shape),
		wl_shape_last(&op->in[2]->shape), 0};
	a.dh = a.d / a.heads;
	a.scale = 1.0f / sqrtf((float)a.dh);
	return a;
}

static int64_t scores_of(const struct attn *a)
{
	return a->b * a->heads * a->s * a->s;
}

/* out [b,heads,s,s] = x_i . y_j of a head; x and y are [b,s,*] from the operand's column on. */
static __global__ void k_products(int64_t n, struct attn a, const float *x, int64_t ld_x,
	const float *y, int64_t ld_y, float *out)
{
	EACH(e, n)
	{
		int64_t j = e % a.s, i = e / a.s % a.s, head = e / (a.s * a.s);
		int64_t row = head / a.heads * a.s, col = head % a.heads * a.dh;
		const float *p = x + (row + i) * ld_x + col, *q = y + (row + j) * ld_y + col;
		float s = 0;
		for (int64_t t = 0; t < a.dh; t++)
			s += p[t] * q[t];
		out[e] = s;
	}
}

/* A block a row of scores. */
static __global__ void k_softmax(struct attn a, const float *mask, float *p)
{
	int64_t head = blockIdx.x / a.s;
	float *row = p + (int64_t)blockIdx.x * a.s, most = -INFINITY;
	const float *keep = mask ? mask + head / a.heads * a.s : NULL;
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

/*
 * out (b, i, head's columns) [+]= sum_j w(i,j) y_j, w [b,heads,s,s] taken as it is or transposed.
 */
static __global__ void k_weighted(int64_t n, struct attn a, const float *w, bool transposed,
	const float *y, int64_t ld_y, float *out, int64_t ld_out, bool acc)
{
	EACH(e, n)
	{
		int64_t col = e % a.d, i = e / a.d % a.s, b = e / (a.d * a.s);
		const float *m = w + (b * a.heads + col / a.dh) * a.s * a.s;
		float s = 0;
		for (int64_t j = 0; j < a.s; j++)
			s += (transposed ? m[j * a.s + i] : m[i * a.s + j]) *
			     y[(b * a.s + j) * ld_y + col];
		int64_t to = (b * a.s + i) * ld_out + col;
		out[to] = old(out, to, acc) + s;
	}
}

size_t wl_cuda_attention_scratch(const struct wl_op *op)
{
	struct attn a = attn_of(op, op->out[0]);
	return op->attr.p > 0 ? (size_t)scores_of(&a) * sizeof(float) : 0;
}

CUDA_RUN(wl_cuda_attention)
{
	(void)err;
	struct attn a = attn_of(op, op->out[0]);
	const float *q = cuda_f32(op->in[0]) + op->attr.q_col;
	const float *k = cuda_f32(op->in[1]) + op->attr.k_col;
	const float *v = cuda_f32(op->in[2]) + op->attr.v_col;
	float *p = cuda_f32(op->out[1]), *dropped = p;
	int64_t n = scores_of(&a), outputs = a.b * a.s * a.d;
	CUDA_EACH(c, n, k_products, a, q, a.ld_q, k, a.ld_k, p);
	CUDA_BLOCKS(c, a.b * a.heads * a.s, k_softmax, a, cuda_f32(op->in[3]), p);
	if (op->attr.p > 0) {
		dropped = (float *)run->scratch;
		CUDA_EACH(c, n, k_drop, p, cuda_draw_of(op, run, a.heads * a.s * a.s), dropped);
	}
	CUDA_EACH(c, outputs, k_weighted, a, dropped, false, v, a.ld_v, cuda_f32(op->out[0]), a.d,
		false);
	return 0;
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

size_t wl_cuda_attention_bwd_scratch(const struct wl_op *op)
{
	struct attn a = attn_of(op, op->in[4]);
	return (size_t)scores_of(&a) * (op->attr.p > 0 ? 2 : 1) * sizeof(float);
}

CUDA_RUN(wl_cuda_attention_bwd)
{
	(void)err;
	struct attn a = attn_of(op, op->in[4]);
	const float *q = cuda_f32(op->in[0]) + op->attr.q_col;
	const float *k = cuda_f32(op->in[1]) + op->attr.k_col;
	const float *v = cuda_f32(op->in[2]) + op->attr.v_col;
	const float *p = cuda_f32(op->in[3]), *go = cuda_f32(op->in[4]), *dropped = p;
	int64_t n = scores_of(&a), outputs = a.b * a.s * a.d;
	struct cuda_draw draw = cuda_draw_of(op, run, a.heads * a.s * a.s);
	float *ds = (float *)run->scratch;
	if (op->attr.p > 0) {
		float *own = ds + n;
		CUDA_EACH(c, n, k_drop, p, draw, own);
		dropped = own;
	}
	CUDA_EACH(c, n, k_products, a, go, a.d, v, a.ld_v, ds);
	CUDA_BLOCKS(c, a.b * a.heads * a.s, k_softmax_bwd, a, p, draw, ds);
	if (op->out[0])
		CUDA_EACH(c, outputs, k_weighted, a, ds, false, k, a.ld_k,
			cuda_f32(op->out[0]) + op->attr.q_col, a.ld_q, cuda_acc(op, 0));
	if (op->out[1])
		CUDA_EACH(c, outputs, k_weighted, a, ds, true, q, a.ld_q,
			cuda_f32(op->out[1]) + op->attr.k_col, a.ld_k, cuda_acc(op, 1));
	if (op->out[2])
		CUDA_EACH(c, outputs, k_weighted, a, dropped, true, go, a.d,
			cuda_f32(op->out[2]) + op->attr.v_col, a.ld_v, cuda_acc(op, 2));
	return 0;
}

/* --- embeddings --- */

static __device__ inline int64_t id_of(const int32_t *ids, int64_t i, int64_t vocab)
{
	return ids[i] >= 0 && ids[i] < vocab ? ids[i] : 0;
}

struct embed {
	int64_t rows, len, vocab, d;
	const int32_t *ids;
};

static __global__ void k_embed(int64_t n, struct embed v, const float *word, const float *pos,
	const float *type, float *y)
{
	EACH(e, n)
	{
		int64_t r = e / v.d, j = e % v.d;
		y[e] = word[id_of(v.ids, r, v.vocab) * v.d + j] + (type ? type[j] : 0.0f) +
		       (pos ? pos[r % v.len * v.d + j] : 0.0f);
	}
}

CUDA_RUN(wl_cuda_embed)
{
	(void)run;
	(void)err;
	const struct wl_shape *ids = &op->in[0]->shape, *word = &op->in[1]->shape;
	struct embed v = {wl_shape_count(ids), ids->dim[1], word->dim[0], word->dim[1],
		(const int32_t *)op->in[0]->data};
	int64_t n = v.rows * v.d;
	CUDA_EACH(c, n, k_embed, v, cuda_f32(op->in[1]), cuda_f32(op->in[2]), cuda_f32(op->in[3]),
		cuda_f32(op->out[0]));
	return 0;
}

/*
 * A block a token.  Where no earlier token has its id, the block adds the gradients of all tokens
 * with it in their order: every row of the table has one writer, and its bits do not change from
 * run to run.
 */
static __global__ void k_embed_word(struct embed v, const float *gy, float *g_word)
{
	int64_t me = blockIdx.x, id = id_of(v.ids, me, v.vocab);
	double earlier = 0;
	for (int64_t r = threadIdx.x; r < me; r += blockDim.x)
		earlier += id_of(v.ids, r, v.vocab) == id;
	if (block_sum(earlier) > 0)
		return;
	for (int64_t j = threadIdx.x; j < v.d; j += blockDim.x) {
		float s = g_word[id * v.d + j];
		for (int64_t r = me; r < v.rows; r++)
			if (id_of(v.ids, r, v.vocab) == id)
				s += gy[r * v.d + j];
		g_word[id * v.d + j] = s;
	}
}

static __global__ void k_embed_pos(int64_t n, struct embed v, const float *gy, float *g_pos)
{
	EACH(e, n)
	{
		float s = g_pos[e];
		for (int64_t r = e / v.d; r < v.rows; r += v.len)
			s += gy[r * v.d + e % v.d];
		g_pos[e] = s;
	}
}

size_t wl_cuda_embed_bwd_scratch(const struct wl_op *op)
{
	return wl_cuda_colsum_scratch(
		wl_shape_count(&op->in[0]->shape), wl_shape_last(&op->in[1]->shape));
}

CUDA_RUN(wl_cuda_embed_bwd)
{
	(void)err;
	const struct wl_shape *ids = &op->in[0]->shape;
	const float *gy = cuda_f32(op->in[1]);
	struct embed v = {wl_shape_count(ids), ids->dim[1],
		op->out[0] ? op->out[0]->shape.dim[0] : 0, wl_shape_last(&op->in[1]->shape),
		(const int32_t *)op->in[0]->data};
	int64_t places = v.len * v.d;
	if (op->out[0])
		CUDA_BLOCKS(c, v.rows, k_embed_word, v, gy, cuda_f32(op->out[0]));
	if (op->out[1])
		CUDA_EACH(c, places, k_embed_pos, v, gy, cuda_f32(op->out[1]));
	if (op->out[2])
		wl_cuda_colsum(c, gy, v.rows, v.d, cuda_f32(op->out[2]), run->scratch);
	return 0;
}

/* --- a ViT's tokens: a class token before the patches, positions added --- */

static __global__ void k_tokens(int64_t n, const float *x, const float *cls, const float *pos,
	int64_t len, int64_t d, float *y)
{
	EACH(e, n)
	{
		int64_t j = e % d, t = e / d % len, b = e / (d * len);
		y[e] = (t ? x[(b * (len - 1) + t - 1) * d + j] : cls[j]) + pos[t * d + j];
	}
}

CUDA_RUN(wl_cuda_tokens)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->out[0]->shape;
	int64_t n = wl_shape_count(s);
	CUDA_EACH(c, n, k_tokens, cuda_f32(op->in[0]), cuda_f32(op->in[1]), cuda_f32(op->in[2]),
		s->dim[1], s->dim[2], cuda_f32(op->out[0]));
	return 0;
}

/* gx [b, len - 1, d] */
static __global__ void k_tokens_x(
	int64_t n, const float *gy, int64_t len, int64_t d, float *gx, bool acc)
{
	EACH(e, n)
	gx[e] = old(gx, e, acc) + gy[e + (e / (d * (len - 1)) + 1) * d];
}

/* g [n] gains the sums over the batch of the first n numbers of its samples. */
static __global__ void k_tokens_params(
	int64_t n, const float *gy, int64_t batch, int64_t each, float *g)
{
	EACH(e, n)
	{
		float s = g[e];
		for (int64_t b = 0; b < batch; b++)
			s += gy[b * each + e];
		g[e] = s;
	}
}

CUDA_RUN(wl_cuda_tokens_bwd)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->in[0]->shape;
	int64_t batch = s->dim[0], len = s->dim[1], d = s->dim[2], each = len * d;
	int64_t n = batch * (len - 1) * d;
	const float *gy = cuda_f32(op->in[0]);
	if (op->out[0])
		CUDA_EACH(c, n, k_tokens_x, gy, len, d, cuda_f32(op->out[0]), cuda_acc(op, 0));
	if (op->out[1])
		CUDA_EACH(c, d, k_tokens_params, gy, batch, each, cuda_f32(op->out[1]));
	if (op->out[2])
		CUDA_EACH(c, each, k_tokens_params, gy, batch, each, cuda_f32(op->out[2]));
	return 0;
}
