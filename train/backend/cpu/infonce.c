/*
 * InfoNCE over a queue (FACTS section 4).  The [B, K] logits are never held
 * whole: queries are taken in blocks whose logits fit LOGIT_FLOATS, and backward
 * computes them again.
 *
 * With s = exp(log_scale), logits l = s * dot, p = softmax(l) over the positive
 * and the columns that are not ignored, M_b the columns that are positives too (n_b = 1 + |M_b|):
 *   L = mean_b(n_b lse_b - l_b,pos - sum_{j in M_b} l_j)
 *   dL/dl_j = (n_b p_j - [j in M_b]) / B,   dL/dl_pos = (n_b p_pos - 1) / B
 *   dL/dq_b = s * (sum_j dL/dl_j n_j + dL/dl_pos k_b),   dL/dlog_scale = sum dL/dl l
 */
#include "train/backend/cpu/cpu.h"
#include "train/backend/elementwise.h"
#include "train/backend/negatives.h"

enum { LOGIT_FLOATS = 4 << 20, QUEUE_FLOATS = 1 << 20 };

/* A queue of k rows of d numbers as floats: f32 as it lies, bf16 at_once rows at a time. */
struct queue_rows {
	const struct wl_tensor *t;
	int64_t k, d, at_once;
};

static struct queue_rows queue_rows_of(const struct wl_tensor *t)
{
	struct queue_rows q = {.t = t};

	if (!t)
		return q;
	q.k = q.at_once = t->shape.dim[0];
	q.d = t->shape.dim[1];
	if (t->dtype == WL_BF16)
		q.at_once = cpu_min(q.k, cpu_max(1, QUEUE_FLOATS / q.d));
	return q;
}

static size_t queue_room(const struct queue_rows *q)
{
	return q->t && q->t->dtype == WL_BF16 ? (size_t)(q->at_once * q->d) : 0;
}

/* n rows from j0 on, in room where they do not lie as floats. */
static const float *queue_floats(
	struct cpu *c, const struct queue_rows *q, int64_t j0, int64_t n, float *room)
{
	const uint16_t *from = q->t->data;

	if (q->t->dtype == WL_F32)
		return cpu_f32(q->t) + j0 * q->d;
	CPU_FOR(c)
	for (int64_t r = 0; r < n; r++)
		for (int64_t i = r * q->d; i < (r + 1) * q->d; i++)
			room[i] = wl_bf16_value(from[j0 * q->d + i]);
	return room;
}

struct nce {
	int64_t b, d, neg; /* neg: columns of logits, K and the N keys with in_batch */
	int64_t keys, per; /* N; rows of a block */
	struct wl_negatives who;
	const float *query, *key;
	struct queue_rows queue;
	float log_scale, scale;
	bool in_batch;
};

static struct nce nce_of(const struct wl_op *op)
{
	struct nce v = {.b = op->in[0]->shape.dim[0],
		.d = op->in[0]->shape.dim[1],
		.who = wl_negatives_of(op),
		.keys = op->in[1]->shape.dim[0],
		.in_batch = op->attr.in_batch,
		.query = cpu_f32(op->in[0]),
		.key = cpu_f32(op->in[1]),
		.queue = queue_rows_of(op->in[2])};
	v.neg = v.who.k + (v.in_batch ? v.keys : 0);
	v.per = cpu_min(v.b, cpu_max(1, LOGIT_FLOATS / cpu_max(1, v.neg)));
	return v;
}

size_t wl_cpu_infonce_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	struct nce v = nce_of(op);
	/* Logits of a block, rows of the queue, a double a row for sums and for extra positives. */
	return ((size_t)(v.per * v.neg) + queue_room(&v.queue)) * sizeof(float) +
	       2 * (size_t)v.b * sizeof(double);
}

struct nce_scratch {
	double *row_sum, *row_extra; /* [B] */
	float *logits, *queue;
};

static struct nce_scratch nce_scratch_of(const struct nce *v, const struct wl_run *run)
{
	struct nce_scratch s = {.row_sum = run->scratch};
	s.row_extra = s.row_sum + v->b;
	s.logits = (float *)(s.row_extra + v->b);
	s.queue = s.logits + v->per * v->neg;
	return s;
}

/* One row of products becomes logits: -inf where ignored, but not where a positive. */
static void row_logits(const struct nce *v, int64_t b, float *row)
{
	float keep[WL_TOP_MAX];
	for (int64_t t = 0; t < v->who.top; t++)
		keep[t] = v->who.extra[b * v->who.top + t] >= 0
				  ? row[v->who.extra[b * v->who.top + t]]
				  : 0;
	for (int64_t j = 0; j < v->neg; j++)
		row[j] = wl_negatives_ignore(&v->who, b, j) ? -INFINITY : row[j] * v->scale;
	for (int64_t t = 0; t < v->who.top; t++)
		if (v->who.extra[b * v->who.top + t] >= 0)
			row[v->who.extra[b * v->who.top + t]] = keep[t] * v->scale;
}

/* logits [rows, neg] of queries from b0: -inf where ignored. */
static void block_logits(
	struct cpu *c, const struct nce *v, int64_t b0, int64_t rows, const struct nce_scratch *s)
{
	struct gemm g = {.m = rows,
		.k = v->d,
		.a = v->query + b0 * v->d,
		.a_row = v->d,
		.a_col = 1,
		.b_row = 1,
		.b_col = v->d,
		.ldc = v->neg};
	for (int64_t j0 = 0; j0 < v->who.k; j0 += v->queue.at_once) {
		g.n = cpu_min(v->queue.at_once, v->who.k - j0);
		g.b = queue_floats(c, &v->queue, j0, g.n, s->queue);
		g.c = s->logits + j0;
		wl_gemm(c, &g, NULL);
	}
	if (v->in_batch) {
		g.n = v->keys;
		g.b = v->key;
		g.c = s->logits + v->who.k;
		wl_gemm(c, &g, NULL);
	}
	CPU_FOR(c)
	for (int64_t r = 0; r < rows; r++)
		row_logits(v, b0 + r, s->logits + r * v->neg);
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
			const float *q = v.query + (b0 + r) * v.d;
			const float *k = v.key + (v.who.first + b0 + r) * v.d;
			double dot = 0, sum = 0, extra = 0;
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
			for (int64_t t = 0; t < v.who.top; t++) {
				int32_t j = v.who.extra[(b0 + r) * v.who.top + t];
				extra += j >= 0 ? (double)row[j] : 0;
			}
			s.row_extra[b0 + r] = extra;
			pos[b0 + r] = at;
			lse[b0 + r] = (float)((double)most + log(sum));
			s.row_sum[b0 + r] = at >= most ? 1.0 : 0.0;
		}
	}
	for (int64_t b = 0; b < v.b; b++) {
		loss += wl_positives(&v.who, b) * (double)lse[b] - (double)pos[b] - s.row_extra[b];
		right += s.row_sum[b];
	}
	*cpu_f32(op->out[0]) = (float)(loss / (double)v.b);
	*cpu_f32(op->out[1]) = (float)(right / (double)v.b);
}

/* logits -> dL/dl * B * factor in place; row_sum gets the row's sum of dL/dl * B * l. */
static void block_slopes(struct cpu *c, const struct nce *v, int64_t b0, int64_t rows,
	const float *lse, const float *pos, float factor, const struct nce_scratch *s)
{
	CPU_FOR(c)
	for (int64_t r = 0; r < rows; r++) {
		int64_t b = b0 + r;
		float *row = s->logits + r * v->neg;
		float top = lse[b], n = (float)wl_positives(&v->who, b);
		double sum = wl_positive_slope(&v->who, b, top, pos[b]) * (double)pos[b];
		for (int64_t t = 0; t < v->who.top; t++)
			if (v->who.extra[b * v->who.top + t] >= 0)
				sum -= (double)row[v->who.extra[b * v->who.top + t]];
		for (int64_t j = 0; j < v->neg; j++) {
			float l = row[j], p = l == -INFINITY ? 0.0f : n * wl_expf(l - top);
			sum += l == -INFINITY ? 0.0 : (double)p * (double)l;
			row[j] = p * factor;
		}
		for (int64_t t = 0; t < v->who.top; t++)
			if (v->who.extra[b * v->who.top + t] >= 0)
				row[v->who.extra[b * v->who.top + t]] -= factor;
		s->row_sum[b] = sum;
	}
}

/* Row b of `to` (or its key's row) gains factor * (n p_pos - 1) * the other of the pair. */
static void positive_bwd(struct cpu *c, const struct nce *v, const float *lse, const float *pos,
	float factor, const float *other, float *to, bool acc)
{
	CPU_FOR(c)
	for (int64_t b = 0; b < v->b; b++) {
		float w = factor * (float)wl_positive_slope(&v->who, b, lse[b], pos[b]);
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
		positive_bwd(c, &v, lse, pos, g * v.scale, v.key + v.who.first * v.d, gq,
			cpu_acc(op, 0));
	if (gk && !cpu_acc(op, 2))
		memset(gk, 0, (size_t)(v.keys * v.d) * sizeof(float));
	if (gk)
		positive_bwd(c, &v, lse, pos, g * v.scale, v.query, gk + v.who.first * v.d, true);
	for (int64_t b0 = 0; b0 < v.b; b0 += v.per) {
		int64_t rows = cpu_min(v.per, v.b - b0);
		block_logits(c, &v, b0, rows, &s);
		block_slopes(c, &v, b0, rows, lse, pos, g * v.scale, &s);
		struct gemm p = {.m = rows,
			.n = v.d,
			.a_row = v.neg,
			.a_col = 1,
			.b_row = v.d,
			.b_col = 1,
			.c = gq ? gq + b0 * v.d : NULL,
			.ldc = v.d,
			.add = true};
		for (int64_t j0 = 0; gq && j0 < v.who.k; j0 += v.queue.at_once) {
			p.k = cpu_min(v.queue.at_once, v.who.k - j0);
			p.a = s.logits + j0;
			p.b = queue_floats(c, &v.queue, j0, p.k, s.queue);
			wl_gemm(c, &p, NULL);
		}
		if (!v.in_batch)
			continue;
		p.k = v.keys;
		p.a = s.logits + v.who.k;
		p.b = v.key;
		if (gq)
			wl_gemm(c, &p, NULL);
		struct gemm t = {.m = v.keys,
			.n = v.d,
			.k = rows,
			.a = s.logits + v.who.k,
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

/* --- extra positives: what is near a sample's keys in both queues --- */

/* The `top` best columns of row, best first, ties to the lower column. */
static void best_of(const float *row, int64_t n, int64_t top, int32_t *out)
{
	for (int64_t t = 0; t < top; t++) {
		int32_t best = -1;
		for (int64_t j = 0; j < n; j++) {
			bool taken = false;
			for (int64_t u = 0; u < t; u++)
				taken |= out[u] == (int32_t)j;
			if (!taken && (best < 0 || row[j] > row[best]))
				best = (int32_t)j;
		}
		out[t] = best;
	}
}

size_t wl_cpu_both_near_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	struct queue_rows q = queue_rows_of(op->in[1]);
	return (2 * (size_t)q.k * (size_t)op->in[0]->shape.dim[0] + queue_room(&q)) * sizeof(float);
}

void wl_cpu_both_near(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	int64_t b = op->in[0]->shape.dim[0], d = op->in[0]->shape.dim[1];
	int64_t k = op->in[1]->shape.dim[0], top = op->out[0]->shape.dim[1];
	float *sim[2] = {run->scratch, (float *)run->scratch + b * k};
	int32_t *out = op->out[0]->data;
	for (int i = 0; i < 2; i++) {
		struct queue_rows q = queue_rows_of(op->in[2 * i + 1]);
		struct gemm g = {.m = b,
			.k = d,
			.a = cpu_f32(op->in[2 * i]),
			.a_row = d,
			.a_col = 1,
			.b_row = 1,
			.b_col = d,
			.ldc = k};
		for (int64_t j0 = 0; j0 < k; j0 += q.at_once) {
			g.n = cpu_min(q.at_once, k - j0);
			g.b = queue_floats(c, &q, j0, g.n, sim[0] + 2 * b * k);
			g.c = sim[i] + j0;
			wl_gemm(c, &g, NULL);
		}
	}
	CPU_FOR(c)
	for (int64_t r = 0; r < b; r++) {
		int32_t other[WL_TOP_MAX], *mine = out + r * top;
		best_of(sim[0] + r * k, k, top, mine);
		best_of(sim[1] + r * k, k, top, other);
		for (int64_t t = 0; t < top; t++) {
			bool both = false;
			for (int64_t u = 0; u < top; u++)
				both |= mine[t] == other[u];
			mine[t] = both ? mine[t] : -1;
		}
	}
}
