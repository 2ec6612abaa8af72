/* Embedding tables: gather, and the deterministic scatter of their gradients. */
#include "train/backend/cpu/cpu.h"

void wl_cpu_tokens(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const struct wl_shape *s = &op->out[0]->shape;
	int64_t rows = s->dim[0] * s->dim[1], len = s->dim[1], d = s->dim[2];
	const float *x = cpu_f32(op->in[0]), *cls = cpu_f32(op->in[1]), *pos = cpu_f32(op->in[2]);
	float *y = cpu_f32(op->out[0]);
	CPU_FOR(c)
	for (int64_t r = 0; r < rows; r++) {
		int64_t b = r / len, t = r % len;
		const float *restrict from = t ? x + (b * (len - 1) + t - 1) * d : cls;
		const float *restrict p = pos + t * d;
		float *restrict to = y + r * d;
#pragma omp simd
		for (int64_t j = 0; j < d; j++)
			to[j] = from[j] + p[j];
	}
}

void wl_cpu_tokens_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const struct wl_shape *s = &op->in[0]->shape;
	int64_t batch = s->dim[0], len = s->dim[1], d = s->dim[2];
	const float *gy = cpu_f32(op->in[0]);
	float *gx = cpu_f32(op->out[0]), *gcls = cpu_f32(op->out[1]), *gpos = cpu_f32(op->out[2]);
	bool acc = cpu_acc(op, 0);
	/* A position's rows belong to one thread: sums over the batch in a fixed order. */
	CPU_FOR(c)
	for (int64_t t = 0; t < len; t++)
		for (int64_t b = 0; b < batch; b++) {
			const float *restrict g = gy + (b * len + t) * d;
			float *restrict to = gx && t ? gx + (b * (len - 1) + t - 1) * d : NULL;
			for (int64_t j = 0; to && j < d; j++)
				to[j] = (acc ? to[j] : 0.0f) + g[j];
			for (int64_t j = 0; gpos && j < d; j++)
				gpos[t * d + j] += g[j];
			for (int64_t j = 0; gcls && t == 0 && j < d; j++)
				gcls[j] += g[j];
		}
}

static int64_t id_of(const int32_t *ids, int64_t i, int64_t vocab)
{
	return ids[i] >= 0 && ids[i] < vocab ? ids[i] : 0;
}

void wl_cpu_embed(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const int32_t *ids = op->in[0]->data;
	const float *word = cpu_f32(op->in[1]), *pos = cpu_f32(op->in[2]),
		    *type = cpu_f32(op->in[3]);
	int64_t rows = wl_shape_count(&op->in[0]->shape), len = op->in[0]->shape.dim[1];
	int64_t vocab = op->in[1]->shape.dim[0], d = op->in[1]->shape.dim[1];
	CPU_FOR(c)
	for (int64_t r = 0; r < rows; r++) {
		const float *restrict w = word + id_of(ids, r, vocab) * d;
		const float *restrict p = pos ? pos + r % len * d : NULL;
		float *restrict y = cpu_f32(op->out[0]) + r * d;
#pragma omp simd
		for (int64_t j = 0; j < d; j++)
			y[j] = w[j] + (type ? type[j] : 0.0f) + (p ? p[j] : 0.0f);
	}
}

/* Threads own columns, so every sum runs over the tokens in their order. */
void wl_cpu_embed_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	enum { COLS = 32 };
	const int32_t *ids = op->in[0]->data;
	const float *gy = cpu_f32(op->in[1]);
	int64_t rows = wl_shape_count(&op->in[0]->shape), len = op->in[0]->shape.dim[1];
	int64_t d = wl_shape_last(&op->in[1]->shape);
	int64_t vocab = op->out[0] ? op->out[0]->shape.dim[0] : 0;
	float *g_word = cpu_f32(op->out[0]), *g_pos = cpu_f32(op->out[1]);
	float *g_type = cpu_f32(op->out[2]);
	CPU_FOR(c)
	for (int64_t c0 = 0; c0 < d; c0 += COLS) {
		int64_t w = cpu_min(COLS, d - c0);
		for (int64_t r = 0; r < rows; r++) {
			const float *restrict g = gy + r * d + c0;
			float *word = g_word ? g_word + id_of(ids, r, vocab) * d + c0 : NULL;
			float *pos = g_pos ? g_pos + r % len * d + c0 : NULL;
			for (int64_t j = 0; word && j < w; j++)
				word[j] += g[j];
			for (int64_t j = 0; pos && j < w; j++)
				pos[j] += g[j];
			for (int64_t j = 0; g_type && j < w; j++)
				g_type[c0 + j] += g[j];
		}
	}
}
