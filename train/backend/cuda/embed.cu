/*
 * The embedding tables, and a ViT's tokens.  Tables and their gradients are f32, activations as the
 * graph stores them; a thread takes eight columns where rows are multiples of that.
 */
#include "train/backend/cuda/cuda.h"

static __device__ inline int64_t id_of(const int32_t *ids, int64_t i, int64_t vocab)
{
	return ids[i] >= 0 && ids[i] < vocab ? ids[i] : 0;
}

/* `span` neighbours of an activation or, through cuda_act, of a table. */
static __device__ inline void take(struct cuda_act a, int64_t i, int span, float v[8])
{
	if (span == 8)
		act_load8(a, i, v);
	else
		v[0] = act_load(a, i);
}

static __device__ inline void give(struct cuda_act a, int64_t i, int span, const float v[8])
{
	if (span == 8)
		act_store8(a, i, v);
	else
		act_store(a, i, v[0]);
}

static __device__ inline void add_row(struct cuda_act a, int64_t i, int span, float v[8])
{
	float more[8];

	if (!a.p)
		return;
	take(a, i, span, more);
	for (int k = 0; k < span; k++)
		v[k] += more[k];
}

struct embed {
	int64_t rows, len, vocab, d;
	const int32_t *ids;
	int span;
};

static __global__ void k_embed(int64_t n, struct embed v, struct cuda_act word, struct cuda_act pos,
	struct cuda_act type, struct cuda_act y)
{
	EACH(e, n)
	{
		int64_t r = e * v.span / v.d, j = e * v.span % v.d;
		float s[8];

		take(word, id_of(v.ids, r, v.vocab) * v.d + j, v.span, s);
		add_row(type, j, v.span, s);
		add_row(pos, r % v.len * v.d + j, v.span, s);
		give(y, r * v.d + j, v.span, s);
	}
}

static struct embed embed_of(const struct wl_tensor *ids, int64_t vocab, int64_t d)
{
	struct embed v = {wl_shape_count(&ids->shape), ids->shape.dim[1], vocab, d,
		(const int32_t *)ids->data, d % 8 == 0 ? 8 : 1};

	return v;
}

CUDA_RUN(wl_cuda_embed)
{
	const struct wl_shape *word = &op->in[1]->shape;
	struct embed v = embed_of(op->in[0], word->dim[0], word->dim[1]);
	int64_t n = v.rows * v.d / v.span;

	(void)run;
	(void)err;
	CUDA_EACH(c, n, k_embed, v, cuda_act_of(op->in[1]), cuda_act_of(op->in[2]),
		cuda_act_of(op->in[3]), cuda_act_of(op->out[0]));
	return 0;
}

/*
 * A block a token.  Where no earlier token has its id, the block adds the gradients of all tokens
 * with it in their order: every row of the table has one writer, and its bits do not change from
 * run to run.  The block looks for them 256 tokens at a time; the bits of their places are shared.
 */
static __global__ void k_embed_word(struct embed v, struct cuda_act gy, float *g_word)
{
	__shared__ unsigned char hit[CUDA_THREADS];
	int64_t me = blockIdx.x, id = id_of(v.ids, me, v.vocab);
	double earlier = 0;

	for (int64_t r = threadIdx.x; r < me; r += blockDim.x)
		earlier += id_of(v.ids, r, v.vocab) == id;
	if (block_sum(earlier) > 0)
		return;
	for (int64_t r0 = me; r0 < v.rows; r0 += CUDA_THREADS) {
		int64_t r = r0 + threadIdx.x, most = v.rows - r0;

		hit[threadIdx.x] = r < v.rows && id_of(v.ids, r, v.vocab) == id;
		__syncthreads();
		for (int64_t j = threadIdx.x; j < v.d; j += blockDim.x) {
			float s = g_word[id * v.d + j];

			for (int k = 0; k < CUDA_THREADS && k < most; k++)
				if (hit[k])
					s += act_load(gy, (r0 + k) * v.d + j);
			g_word[id * v.d + j] = s;
		}
		__syncthreads();
	}
}

static __global__ void k_embed_pos(int64_t n, struct embed v, struct cuda_act gy, float *g_pos)
{
	EACH(e, n)
	{
		float s = g_pos[e];

		for (int64_t r = e / v.d; r < v.rows; r += v.len)
			s += act_load(gy, r * v.d + e % v.d);
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
	struct cuda_act gy = cuda_act_of(op->in[1]);
	struct embed v = embed_of(op->in[0], op->out[0] ? op->out[0]->shape.dim[0] : 0,
		wl_shape_last(&op->in[1]->shape));
	int64_t places = v.len * v.d;

	(void)err;
	if (op->out[0])
		CUDA_BLOCKS(c, v.rows, k_embed_word, v, gy, cuda_f32(op->out[0]));
	if (op->out[1])
		CUDA_EACH(c, places, k_embed_pos, v, gy, cuda_f32(op->out[1]));
	if (op->out[2]) /* all tokens are of type 0 */
		wl_cuda_colsum_act(c, gy, v.rows, v.d, cuda_f32(op->out[2]), run->scratch);
	return 0;
}

/* --- a ViT's tokens: a class token before the patches, positions added --- */

static __global__ void k_tokens(int64_t n, struct cuda_act x, const float *cls, const float *pos,
	int64_t len, int64_t d, struct cuda_act y)
{
	EACH(e, n)
	{
		int64_t j = e % d, t = e / d % len, b = e / (d * len);
		float v = t ? act_load(x, (b * (len - 1) + t - 1) * d + j) : cls[j];

		act_store(y, e, v + pos[t * d + j]);
	}
}

CUDA_RUN(wl_cuda_tokens)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->out[0]->shape;
	int64_t n = wl_shape_count(s);
	CUDA_EACH(c, n, k_tokens, cuda_act_of(op->in[0]), cuda_f32(op->in[1]),
		cuda_f32(op->in[2]), s->dim[1], s->dim[2], cuda_act_of(op->out[0]));
	return 0;
}

/* gx [b, len - 1, d] */
static __global__ void k_tokens_x(
	int64_t n, struct cuda_act gy, int64_t len, int64_t d, struct cuda_act gx, bool acc)
{
	EACH(e, n)
	act_store(gx, e,
		act_load(gy, e + (e / (d * (len - 1)) + 1) * d) + (acc ? act_load(gx, e) : 0.0f));
}

/* g [n] gains the sums over the batch of the first n numbers of its samples. */
static __global__ void k_tokens_params(
	int64_t n, struct cuda_act gy, int64_t batch, int64_t each, float *g)
{
	EACH(e, n)
	{
		float s = g[e];
		for (int64_t b = 0; b < batch; b++)
			s += act_load(gy, b * each + e);
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
	struct cuda_act gy = cuda_act_of(op->in[0]);
	if (op->out[0])
		CUDA_EACH(c, n, k_tokens_x, gy, len, d, cuda_act_of(op->out[0]), cuda_acc(op, 0));
	if (op->out[1])
		CUDA_EACH(c, d, k_tokens_params, gy, batch, each, cuda_f32(op->out[1]));
	if (op->out[2])
		CUDA_EACH(c, each, k_tokens_params, gy, batch, each, cuda_f32(op->out[2]));
	return 0;
}
