/*
 * InfoNCE over a queue (FACTS section 4).  The [B, K] logits are never held
 * whole: queries are taken in blocks whose logits fit LOGIT_FLOATS, and backward
 * computes them again.
 *
 * With s = exp(log_scale), logits l = s * dot, p = softmax(l) over the positive
 * and the negatives that are not ignored, L = mean_b(lse_b - l_b,pos):
 *   dL/dq_b = s/B * (sum_j p_j n_j + (p_pos - 1) k_b)
 *   dL/dlog_scale = 1/B * sum_b (sum_j p_j l_j + (p_pos - 1) l_pos)
 */
#include "train/backend/cpu/cpu.h"

enum { LOGIT_FLOATS = 4 << 20 };

struct nce {
	int64_t b, d, k, neg; /* neg: columns of logits, K and B with in_batch */
	int64_t per;	      /* rows of a block */
	int64_t ids;
	const float *query, *key, *queue;
	const int64_t *row_ids, *queue_ids;
	float log_scale, scale;
	bool in_batch;
};

static struct nce nce_of(const struct wl_op *op)
{
	struct nce v = {.b = op->in[0]->shape.dim[0],
		.d = op->in[0]->shape.dim[1],
		.k = op->in[2] ? op->in[2]->shape.dim[0] : 0,
		.in_batch = op->attr.in_batch,
		.query = cpu_f32(op->in[0]),
		.key = cpu_f32(op->in[1]),
		.queue = cpu_f32(op->in[2]),
		.row_ids = op->in[4] ? op->in[4]->data : NULL,
		.queue_ids = op->in[5] ? op->in[5]->data : NULL,
		.ids = op->in[4] ? op->in[4]->shape.dim[1] : 0};
	v.neg = v.k + (v.in_batch ? v.b : 0);
	v.per = cpu_min(v.b, cpu_max(1, LOGIT_FLOATS / cpu_max(1, v.neg)));
	return v;
}

size_t wl_cpu_infonce_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	struct nce v = nce_of(op);
	/* Logits of a block, and a double a row for sums. */
	return (size_t)(v.per * v.neg) * sizeof(float) + (size_t)v.b * sizeof(double);
}

struct nce_scratch {
	double *row_sum;
	float *logits;
};

static struct nce_scratch nce_scratch_of(const struct nce *v, const struct wl_run *run)
{
	struct nce_scratch s = {.row_sum = run->scratch};
	s.logits = (float *)(s.row_sum + v->b);
	return s;
}

static bool same(const int64_t *a, const int64_t *b, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		if (a[i] == b[i])
			return true;
	return false;
}

/* Whether column j is no negative of row b: its own positive, or the same pair or caption. */
static bool ignored(const struct nce *v, int64_t b, int64_t j)
{
	if (j >= v->k)
		return j - v->k == b ||
		       (v->row_ids && same(v->row_ids + b * v->ids,
					      v->row_ids + (j - v->k) * v->ids, v->ids));
	return v->row_ids && v->queue_ids &&
	       same(v->row_ids + b * v->ids, v->queue_ids + j * v->ids, v->ids);
}

/* logits [rows, neg] of queries from b0: -inf where ignored. */
static void block_logits(
	struct cpu *c, const struct nce *v, int64_t b0, int64_t rows, const struct nce_scratch *s)
{
	struct gemm g = {.m = rows,
		.n = v->k,
		.k = v->d,
		.a = v->query + b0 * v->d,
		.a_row = v->d,
		.a_col = 1,
		.b = v->queue,
		.b_row = 1,
		.b_col = v->d,
		.c = s->logits,
		.ldc = v->neg};
	if (v->k)
		wl_gemm(c, &g, NULL);
	if (v->in_batch) {
		g.n = v->b;
		g.b = v->key;
		g.c = s->logits + v->k;
		wl_gemm(c, &g, NULL);
	}
	CPU_FOR(c)
	for (int64_t r = 0; r < rows; r++) {
		float *row = s->logits + r * v->neg;
		for (int64_t j = 0; j < v->neg; j++)
			row[j] = ignored(v, b0 + r, j) ? -INFINITY : row[j] * v->scale;
	}
}

void wl_cpu_infonce(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct nce v = nce_of(op);
	struct nce_scratch s = nce_scratch_of(&v, run);
	float *lse = cpu_f32(op->out[2]), *pos = cpu_f32(op->out[3]);
	v.scale = expf(*cpu_f32(op->in[3]));
	double loss = 0, right = 0;
	for (int64_t b0 = 0; b0 < v.b; b0 += v.per) {
		int64_t rows = cpu_min(v.per, v.b - b0);
		block_logits(c, &v, b0, rows, &s);
		CPU_FOR(c)
		for (int64_t r = 0; r < rows; r++) {
			const float *row = s.logits + r * v.neg;
			const float *q = v.query + (b0 + r) * v.d, *k = v.key + (b0 + r) * v.d;
			double dot = 0, sum = 0;
			for (int64_t j = 0; j < v.d; j++)
				dot += (double)q[j] * (double)k[j];
			float at = (float)dot * v.scale, most = at;
			for (int64_t j = 0; j < v.neg; j++)
				most = row[j] > most ? row[j] : most;
			for (int64_t j0 = 0; j0 < v.neg; j0 += 256) {
				float part = 0;
				int64_t end = cpu_min(v.neg, j0 + 256);
#pragma omp simd reduction(+ : part)
				for (int64_t j = j0; j < end; j++)
					part += row[j] == -INFINITY ? 0.0f : wl_expf(row[j] - most);
				sum += (double)part;
			}
			sum += exp((double)at - (double)most);
			pos[b0 + r] = at;
			lse[b0 + r] = (float)((double)most + log(sum));
			s.row_sum[b0 + r] = at >= most ? 1.0 : 0.0;
		}
	}
	for (int64_t b = 0; b < v.b; b++) {
		loss += (double)lse[b] - (double)pos[b];
		right += s.row_sum[b];
	}
	*cpu_f32(op->out[0]) = (float)(loss / (double)v.b);
	*cpu_f32(op->out[1]) = (float)(right / (double)v.b);
}

/* logits -> p * factor in place; row_sum gets sum_j p_j l_j + (p_pos - 1) l_pos. Returns
 * nothing: (p_pos - 1) is found again from lse and pos by whoever needs it. */
static void block_probs(struct cpu *c, const struct nce *v, int64_t b0, int64_t rows,
	const float *lse, const float *pos, float factor, const struct nce_scratch *s)
{
	CPU_FOR(c)
	for (int64_t r = 0; r < rows; r++) {
		float *row = s->logits + r * v->neg, top = lse[b0 + r];
		double sum = expm1((double)pos[b0 + r] - (double)top) * (double)pos[b0 + r];
		for (int64_t j = 0; j < v->neg; j++) {
			float l = row[j], p = l == -INFINITY ? 0.0f : wl_expf(l - top);
			sum += l == -INFINITY ? 0.0 : (double)p * (double)l;
			row[j] = p * factor;
		}
		s->row_sum[b0 + r] = sum;
	}
}

/* to[b] [+]= factor * (p_pos - 1) * other[b] for all rows. */
static void positive_bwd(struct cpu *c, const struct nce *v, const float *lse, const float *pos,
	float factor, const float *other, float *to, bool acc)
{
	CPU_FOR(c)
	for (int64_t b = 0; b < v->b; b++) {
		float w = factor * (float)expm1((double)pos[b] - (double)lse[b]);
		for (int64_t j = 0; j < v->d; j++)
			to[b * v->d + j] =
				(acc ? to[b * v->d + j] : 0.0f) + w * other[b * v->d + j];
	}
}

void wl_cpu_infonce_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct nce v = nce_of(op);
	struct nce_scratch s = nce_scratch_of(&v, run);
	const float *lse = cpu_f32(op->in[6]), *pos = cpu_f32(op->in[7]);
	float *gq = cpu_f32(op->out[0]), *g_scale = cpu_f32(op->out[1]), *gk = cpu_f32(op->out[2]);
	float g = *cpu_f32(op->in[8]) / (float)v.b;
	v.scale = expf(*cpu_f32(op->in[3]));
	if (gq)
		positive_bwd(c, &v, lse, pos, g * v.scale, v.key, gq, cpu_acc(op, 0));
	if (gk)
		positive_bwd(c, &v, lse, pos, g * v.scale, v.query, gk, cpu_acc(op, 2));
	for (int64_t b0 = 0; b0 < v.b; b0 += v.per) {
		int64_t rows = cpu_min(v.per, v.b - b0);
		block_logits(c, &v, b0, rows, &s);
		block_probs(c, &v, b0, rows, lse, pos, g * v.scale, &s);
		struct gemm p = {.m = rows,
			.n = v.d,
			.k = v.k,
			.a = s.logits,
			.a_row = v.neg,
			.a_col = 1,
			.b = v.queue,
			.b_row = v.d,
			.b_col = 1,
			.c = gq ? gq + b0 * v.d : NULL,
			.ldc = v.d,
			.add = true};
		if (gq && v.k)
			wl_gemm(c, &p, NULL);
		if (!v.in_batch)
			continue;
		p.k = v.b;
		p.a = s.logits + v.k;
		p.b = v.key;
		if (gq)
			wl_gemm(c, &p, NULL);
		struct gemm t = {.m = v.b,
			.n = v.d,
			.k = rows,
			.a = s.logits + v.k,
			.a_row = 1,
			.a_col = v.neg,
			.b = v.query + b0 * v.d,
			.b_row = v.d,
			.b_col = 1,
			.c = gk,
			.ldc = v.d,
			.add = true};
		if (gk)
			wl_gemm(c, &t, NULL);
	}
	double sum = 0;
	for (int64_t b = 0; b < v.b; b++)
		sum += s.row_sum[b];
	if (g_scale)
		*g_scale = (cpu_acc(op, 1) ? *g_scale : 0.0f) + (float)(sum * (double)g);
}
