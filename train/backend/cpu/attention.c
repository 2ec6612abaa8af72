/*
 * Softmax attention for the short sequences of this model (tens of tokens): one
 * task is a head of a sample, its S x S probabilities stay in the cache.  The
 * probabilities before dropout are kept for backward; the mask of dropout is
 * drawn again.
 */
#include "train/backend/cpu/cpu.h"

#include <omp.h>

struct attn {
	int64_t b, s, d, dh, heads;
	int64_t ld_q, ld_k, ld_v;
	float scale, p;
	enum wl_dtype operands;
	struct wl_rng_key key;
	const struct wl_run *run; /* NULL while planning */
};

static struct attn attn_of(const struct cpu *c, const struct wl_op *op, const struct wl_tensor *o,
	const struct wl_run *run)
{
	struct attn a = {.b = o->shape.dim[0],
		.s = o->shape.dim[1],
		.d = o->shape.dim[2],
		.heads = op->attr.heads,
		.ld_q = wl_shape_last(&op->in[0]->shape),
		.ld_k = wl_shape_last(&op->in[1]->shape),
		.ld_v = wl_shape_last(&op->in[2]->shape),
		.p = op->attr.p,
		.operands = cpu_operands(c, op)};
	a.dh = a.d / a.heads;
	a.scale = 1.0f / sqrtf((float)a.dh);
	a.run = run;
	if (run)
		a.key = cpu_key(op, run);
	return a;
}

/* Rows of scores to probabilities, in place. */
static void softmax(const struct attn *a, float *p, const float *mask)
{
	for (int64_t i = 0; i < a->s; i++) {
		float *restrict row = p + i * a->s, most = -INFINITY, sum = 0;
		for (int64_t j = 0; j < a->s; j++) {
			row[j] = mask && mask[j] == 0 ? -INFINITY : row[j] * a->scale;
			most = row[j] > most ? row[j] : most;
		}
		if (most == -INFINITY) { /* every key is padding */
			memset(row, 0, (size_t)a->s * sizeof(float));
			continue;
		}
#pragma omp simd reduction(+ : sum)
		for (int64_t j = 0; j < a->s; j++) {
			row[j] = mask && mask[j] == 0 ? 0.0f : wl_expf(row[j] - most);
			sum += row[j];
		}
#pragma omp simd
		for (int64_t j = 0; j < a->s; j++)
			row[j] /= sum;
	}
}

/* out = p * keep / (1 - p_drop) for one head's S x S matrix. */
static void drop(const struct attn *a, int64_t head, const float *restrict p, float *restrict out)
{
	uint64_t first = cpu_rng_index(a->run, head * a->s * a->s, a->heads * a->s * a->s);
#pragma omp simd
	for (int64_t i = 0; i < a->s * a->s; i++)
		out[i] = p[i] * wl_keep_scale(a->key, first + (uint64_t)i, a->p);
}

size_t wl_cpu_attention_scratch(const struct cpu *c, const struct wl_op *op)
{
	struct attn a = attn_of(c, op, op->out[0], NULL);
	return a.p > 0 ? (size_t)(c->threads * a.s * a.s) * sizeof(float) : 0;
}

/* A matrix as it lies in memory: element (i,j) is at[i * row + j * col]. */
struct view {
	const float *at;
	int64_t row, col;
};

/* out [m,n] [+]= x [m,k] y [k,n] by one thread. */
static void product(const struct attn *a, float *pack, int64_t m, int64_t n, int64_t k,
	struct view x, struct view y, float *out, int64_t ld, bool add)
{
	struct gemm g = {.m = m, .n = n, .k = k, .c = out, .ldc = ld, .add = add,
		.operands = a->operands};
	g.a = x.at;
	g.a_row = x.row;
	g.a_col = x.col;
	g.b = y.at;
	g.b_row = y.row;
	g.b_col = y.col;
	wl_gemm_serial(&g, pack);
}

void wl_cpu_attention(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct attn a = attn_of(c, op, op->out[0], run);
	const float *q = cpu_f32(op->in[0]) + op->attr.q_col;
	const float *k = cpu_f32(op->in[1]) + op->attr.k_col;
	const float *v = cpu_f32(op->in[2]) + op->attr.v_col;
	const float *mask = cpu_f32(op->in[3]);
	float *o = cpu_f32(op->out[0]), *probs = cpu_f32(op->out[1]);
	CPU_FOR(c)
	for (int64_t t = 0; t < a.b * a.heads; t++) {
		int me = omp_get_thread_num();
		int64_t row = t / a.heads * a.s, col = t % a.heads * a.dh;
		float *p = probs + t * a.s * a.s, *dropped = p;
		product(&a, c->pack[me], a.s, a.s, a.dh,
			(struct view){q + row * a.ld_q + col, a.ld_q, 1},
			(struct view){k + row * a.ld_k + col, 1, a.ld_k}, p, a.s, false);
		softmax(&a, p, mask ? mask + row : NULL);
		if (a.p > 0) {
			dropped = (float *)run->scratch + me * a.s * a.s;
			drop(&a, t, p, dropped);
		}
		product(&a, c->pack[me], a.s, a.dh, a.s, (struct view){dropped, a.s, 1},
			(struct view){v + row * a.ld_v + col, a.ld_v, 1}, o + row * a.d + col, a.d,
			false);
	}
}

size_t wl_cpu_attention_bwd_scratch(const struct cpu *c, const struct wl_op *op)
{
	struct attn a = attn_of(c, op, op->in[4], NULL);
	return (size_t)(c->threads * 2 * a.s * a.s) * sizeof(float);
}

/* ds: in, the gradient of the dropped probabilities; out, that of the scores before scaling
 * (times the scale). */
static void softmax_bwd(const struct attn *a, int64_t head, const float *p, float *ds)
{
	for (int64_t i = 0; i < a->s; i++) {
		const float *restrict row = p + i * a->s;
		float *restrict d = ds + i * a->s, dot = 0;
		uint64_t first = cpu_rng_index(a->run, (head * a->s + i) * a->s,
			a->heads * a->s * a->s);
		if (a->p > 0) {
#pragma omp simd
			for (int64_t j = 0; j < a->s; j++)
				d[j] *= wl_keep_scale(a->key, first + (uint64_t)j, a->p);
		}
#pragma omp simd reduction(+ : dot)
		for (int64_t j = 0; j < a->s; j++)
			dot += row[j] * d[j];
#pragma omp simd
		for (int64_t j = 0; j < a->s; j++)
			d[j] = row[j] * (d[j] - dot) * a->scale;
	}
}

/* A gradient from its first column on; NULL where it is not wanted. */
static float *column(const struct wl_tensor *t, int col)
{
	return t ? cpu_f32(t) + col : NULL;
}

void wl_cpu_attention_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct attn a = attn_of(c, op, op->in[4], run);
	const float *q = cpu_f32(op->in[0]) + op->attr.q_col;
	const float *k = cpu_f32(op->in[1]) + op->attr.k_col;
	const float *v = cpu_f32(op->in[2]) + op->attr.v_col;
	const float *probs = cpu_f32(op->in[3]), *go = cpu_f32(op->in[4]);
	float *gq = column(op->out[0], op->attr.q_col), *gk = column(op->out[1], op->attr.k_col);
	float *gv = column(op->out[2], op->attr.v_col);
	CPU_FOR(c)
	for (int64_t t = 0; t < a.b * a.heads; t++) {
		int me = omp_get_thread_num();
		float *pack = c->pack[me];
		int64_t row = t / a.heads * a.s, col = t % a.heads * a.dh;
		const float *p = probs + t * a.s * a.s, *dropped = p;
		const float *g = go + row * a.d + col;
		float *ds = (float *)run->scratch + me * 2 * a.s * a.s, *mine = ds + a.s * a.s;
		if (a.p > 0) {
			drop(&a, t, p, mine);
			dropped = mine;
		}
		product(&a, pack, a.s, a.s, a.dh, (struct view){g, a.d, 1},
			(struct view){v + row * a.ld_v + col, 1, a.ld_v}, ds, a.s, false);
		softmax_bwd(&a, t, p, ds);
		if (gq)
			product(&a, pack, a.s, a.dh, a.s, (struct view){ds, a.s, 1},
				(struct view){k + row * a.ld_k + col, a.ld_k, 1},
				gq + row * a.ld_q + col, a.ld_q, cpu_acc(op, 0));
		if (gk)
			product(&a, pack, a.s, a.dh, a.s, (struct view){ds, 1, a.s},
				(struct view){q + row * a.ld_q + col, a.ld_q, 1},
				gk + row * a.ld_k + col, a.ld_k, cpu_acc(op, 1));
		if (gv)
			product(&a, pack, a.s, a.dh, a.s, (struct view){dropped, 1, a.s},
				(struct view){g, a.d, 1}, gv + row * a.ld_v + col, a.ld_v,
				cpu_acc(op, 2));
	}
}
