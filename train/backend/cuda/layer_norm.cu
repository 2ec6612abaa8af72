/*
 * Layer norm with dropout and residual before it, and L2 normalisation.  A row is read once: a warp
 * takes it (eight rows a block) and keeps it in registers where it has at most 1024 columns, a
 * block where it is longer.  Rows that are no multiple of 8 columns go element by element.
 *
 * Bytes a number in bf16: forward x 2, residual 2, y 2, sum 2; backward g_y 2, sum 2, g_sum 2, and
 * once more g_y and sum for gamma and beta.
 */
#include "train/backend/cuda/tile.h"

enum { ROWS = CUDA_THREADS / WARP, KEPT = 4 }; /* groups of 8 that a lane keeps: 1024 columns */

/* --- who works on a row: a warp or a block --- */

struct team {
	int64_t row;
	int first, step; /* the thread's first group of 8 columns, and groups between its own */
	bool wide;	 /* groups of 8; else columns one by one */
	bool block;
};

/* How many threads a row has, and how they read it: uniform over the grid. */
struct cut {
	int64_t rows, n;
	bool block, wide;
};

static struct cut cut_of(int64_t rows, int64_t n)
{
	struct cut k = {rows, n, n > KEPT * 8 * WARP, n % 8 == 0};

	return k;
}

static int64_t cut_blocks(const struct cut *k)
{
	return k->block ? k->rows : cuda_ceil_div(k->rows, ROWS);
}

static __device__ inline struct team team_of(const struct cut *k)
{
	struct team t;

	t.row = k->block ? blockIdx.x : (int64_t)blockIdx.x * ROWS + threadIdx.x / WARP;
	t.first = (int)(k->block ? threadIdx.x : threadIdx.x % WARP);
	t.step = k->block ? (int)CUDA_THREADS : (int)WARP;
	t.wide = k->wide;
	t.block = k->block;
	return t;
}

static __device__ inline float team_sum(const struct team *t, float v)
{
	return t->block ? (float)block_sum((double)v) : warp_sum(v);
}

/* Columns of a step of a row's loop: `span` neighbours from `at` on. */
#define ROW_EACH(t, n, at, span)                                                                   \
	for (int64_t span = (t).wide ? 8 : 1, at = (t).first * span; at < (n);                     \
		at += (t).step * span)

static __device__ inline void take(struct cuda_act a, int64_t i, int64_t span, float v[8])
{
	if (span == 8)
		act_load8(a, i, v);
	else
		v[0] = act_load(a, i);
}

static __device__ inline void give(
	struct cuda_act a, int64_t i, int64_t span, float v[8], bool acc)
{
	float was[8];

	if (acc) {
		take(a, i, span, was);
		for (int k = 0; k < span; k++)
			v[k] += was[k];
	}
	if (span == 8)
		act_store8(a, i, v);
	else
		act_store(a, i, v[0]);
}

/* --- layer norm --- */

struct ln {
	struct cut cut;
	struct cuda_act x, residual, y, sum;
	const float *gamma, *beta;
	float *saved; /* [rows,2]: mean, 1/std */
	float eps;
};

/* What is normalised: x, or dropout(x) + residual, which the first reading stores. */
static __device__ inline void take_sum(
	const struct ln *v, const struct cuda_draw *draw, int64_t i, int64_t span, float s[8])
{
	float r[8];

	take(v->x, i, span, s);
	if (!v->sum.p)
		return;
	for (int k = 0; k < span && draw->p > 0; k++)
		s[k] *= draw_keep(*draw, i + k);
	if (v->residual.p) {
		take(v->residual, i, span, r);
		for (int k = 0; k < span; k++)
			s[k] += r[k];
	}
	give(v->sum, i, span, s, false);
	/* What backward will read, rounded as it is stored. */
	for (int k = 0; k < span; k++)
		s[k] = rounded(s[k], v->sum.type);
}

/* Rows that a warp keeps in registers. */
static __device__ inline void ln_kept(
	const struct ln *v, const struct cuda_draw *draw, struct team t)
{
	int64_t n = v->cut.n, at0 = t.row * n;
	float s[KEPT][8], total = 0, square = 0;

	for (int g = 0; g < KEPT; g++) {
		int64_t at = (t.first + g * (int64_t)t.step) * 8;

		if (at >= n)
			continue;
		take_sum(v, draw, at0 + at, 8, s[g]);
		for (int k = 0; k < 8; k++)
			total += s[g][k];
	}
	float mean = team_sum(&t, total) / (float)n;
	for (int g = 0; g < KEPT; g++)
		for (int k = 0; k < 8 && (t.first + g * (int64_t)t.step) * 8 < n; k++)
			square += (s[g][k] - mean) * (s[g][k] - mean);
	float rstd = 1.0f / sqrtf(team_sum(&t, square) / (float)n + v->eps);
	for (int g = 0; g < KEPT; g++) {
		int64_t at = (t.first + g * (int64_t)t.step) * 8;

		if (at >= n)
			continue;
		for (int k = 0; k < 8; k++)
			s[g][k] = (s[g][k] - mean) * rstd * v->gamma[at + k] + v->beta[at + k];
		give(v->y, at0 + at, 8, s[g], false);
	}
	if (t.first == 0) {
		v->saved[2 * t.row] = mean;
		v->saved[2 * t.row + 1] = rstd;
	}
}

/* Any row: what is normalised is read three times, from the cache after the first. */
static __device__ inline void ln_any(
	const struct ln *v, const struct cuda_draw *draw, struct team t)
{
	int64_t n = v->cut.n, at0 = t.row * n;
	struct cuda_act from = v->sum.p ? v->sum : v->x;
	float s[8], total = 0, square = 0;

	ROW_EACH(t, n, at, span)
	{
		take_sum(v, draw, at0 + at, span, s);
		for (int k = 0; k < span; k++)
			total += s[k];
	}
	float mean = team_sum(&t, total) / (float)n;
	ROW_EACH(t, n, at, span)
	{
		take(from, at0 + at, span, s);
		for (int k = 0; k < span; k++)
			square += (s[k] - mean) * (s[k] - mean);
	}
	float rstd = 1.0f / sqrtf(team_sum(&t, square) / (float)n + v->eps);
	ROW_EACH(t, n, at, span)
	{
		take(from, at0 + at, span, s);
		for (int k = 0; k < span; k++)
			s[k] = (s[k] - mean) * rstd * v->gamma[at + k] + v->beta[at + k];
		give(v->y, at0 + at, span, s, false);
	}
	if (t.first == 0) {
		v->saved[2 * t.row] = mean;
		v->saved[2 * t.row + 1] = rstd;
	}
}

static __global__ void k_ln(struct ln v, struct cuda_draw draw)
{
	struct team t = team_of(&v.cut);

	if (t.row >= v.cut.rows) /* a whole warp, of a block without barriers */
		return;
	if (t.wide && !t.block)
		ln_kept(&v, &draw, t);
	else
		ln_any(&v, &draw, t);
}

CUDA_RUN(wl_cuda_ln)
{
	const struct wl_shape *x = &op->in[0]->shape;
	struct ln v;

	(void)err;
	memset(&v, 0, sizeof v);
	v.cut = cut_of(wl_shape_rows(x), wl_shape_last(x));
	v.x = cuda_act_of(op->in[0]);
	v.gamma = cuda_f32(op->in[1]);
	v.beta = cuda_f32(op->in[2]);
	v.residual = cuda_act_of(op->in[3]);
	v.y = cuda_act_of(op->out[0]);
	v.saved = cuda_f32(op->out[1]);
	v.sum = cuda_act_of(op->out[2]);
	v.eps = op->attr.eps;
	CUDA_BLOCKS(c, cut_blocks(&v.cut), k_ln, v,
		cuda_draw_of(op, run, v.cut.rows * v.cut.n / x->dim[0]));
	return 0;
}

struct ln_bwd {
	struct cut cut;
	struct cuda_act sum, gy, g_sum, g_x;
	const float *gamma, *saved;
	bool acc_sum, acc_x;
};

/* gs = rstd (h - mean(h) - xhat mean(h xhat)), h = g_y gamma; g_x = gs under x's dropout. */
static __global__ void k_ln_bwd(struct ln_bwd v, struct cuda_draw draw)
{
	struct team t = team_of(&v.cut);
	int64_t n = v.cut.n, at0 = t.row * n;
	float s[8], g[8], d[8], m1 = 0, m2 = 0;

	if (t.row >= v.cut.rows)
		return;
	float mean = v.saved[2 * t.row], rstd = v.saved[2 * t.row + 1];
	ROW_EACH(t, n, at, span)
	{
		take(v.gy, at0 + at, span, g);
		take(v.sum, at0 + at, span, s);
		for (int k = 0; k < span; k++) {
			float h = g[k] * v.gamma[at + k];

			m1 += h;
			m2 += h * (s[k] - mean) * rstd;
		}
	}
	float a = team_sum(&t, m1) / (float)n, b = team_sum(&t, m2) / (float)n;
	ROW_EACH(t, n, at, span)
	{
		take(v.gy, at0 + at, span, g);
		take(v.sum, at0 + at, span, s);
		for (int k = 0; k < span; k++)
			g[k] = rstd * (g[k] * v.gamma[at + k] - a - (s[k] - mean) * rstd * b);
		/* Both may be the memory of gy, which this thread alone reads there. */
		for (int k = 0; k < span && v.g_x.p; k++)
			d[k] = g[k] * (draw.p > 0 ? draw_keep(draw, at0 + at + k) : 1.0f);
		if (v.g_sum.p)
			give(v.g_sum, at0 + at, span, g, v.acc_sum);
		if (v.g_x.p)
			give(v.g_x, at0 + at, span, d, v.acc_x);
	}
}

static __global__ void k_ln_params(struct columns v, struct cuda_act sum, const float *saved,
	struct cuda_act gy, float *partial)
{
	COLUMN_PLACE(v);
	float s1 = 0, s2 = 0;

	for (int64_t r = row_first; r < row_end; r += COLUMN_LANES) {
		float g = act_load(gy, r * v.cols + col);

		s1 += g;
		s2 += g * (act_load(sum, r * v.cols + col) - saved[2 * r]) * saved[2 * r + 1];
	}
	put_sums(v, chunk, col, s1, s2, partial);
}

static __global__ void k_ln_params_end(
	int64_t n, const float *partial, int64_t chunks, float *g_gamma, float *g_beta)
{
	EACH(j, n)
	{
		double s1 = 0, s2 = 0;

		for (int64_t k = 0; k < chunks; k++) {
			s1 += (double)partial[2 * k * n + j];
			s2 += (double)partial[(2 * k + 1) * n + j];
		}
		if (g_gamma)
			g_gamma[j] += (float)s2;
		if (g_beta)
			g_beta[j] += (float)s1;
	}
}

size_t wl_cuda_ln_bwd_scratch(const struct wl_op *op)
{
	const struct wl_shape *x = &op->in[0]->shape;
	struct columns v = columns_of(wl_shape_rows(x), wl_shape_last(x));

	return (size_t)(2 * v.chunks * v.cols) * sizeof(float);
}

CUDA_RUN(wl_cuda_ln_bwd)
{
	const struct wl_shape *x = &op->in[0]->shape;
	struct columns p = columns_of(wl_shape_rows(x), wl_shape_last(x));
	float *partial = (float *)run->scratch, *g_gamma = cuda_f32(op->out[1]);
	float *g_beta = cuda_f32(op->out[2]);
	struct ln_bwd v;

	(void)err;
	memset(&v, 0, sizeof v);
	v.cut = cut_of(p.rows, p.cols);
	v.sum = cuda_act_of(op->in[0]);
	v.gamma = cuda_f32(op->in[1]);
	v.saved = cuda_f32(op->in[2]);
	v.gy = cuda_act_of(op->in[3]);
	v.g_sum = cuda_act_of(op->out[0]);
	v.g_x = cuda_act_of(op->out[3]);
	v.acc_sum = cuda_acc(op, 0);
	v.acc_x = cuda_acc(op, 3);
	/* The parameters first: g_sum and g_x may overwrite gy. */
	if (g_gamma || g_beta) {
		CUDA_BLOCKS(c, p.chunks * p.tiles, k_ln_params, p, v.sum, v.saved, v.gy, partial);
		CUDA_EACH(c, p.cols, k_ln_params_end, partial, p.chunks, g_gamma, g_beta);
	}
	if (v.g_sum.p || v.g_x.p)
		CUDA_BLOCKS(c, cut_blocks(&v.cut), k_ln_bwd, v,
			cuda_draw_of(op, run, p.rows * p.cols / x->dim[0]));
	return 0;
}

/* --- L2 normalisation --- */

struct l2 {
	struct cut cut;
	struct cuda_act x, y, gy; /* gx in y's place backward */
	float *norms;
	float eps;
	bool acc;
};

static __global__ void k_l2norm(struct l2 v)
{
	struct team t = team_of(&v.cut);
	int64_t n = v.cut.n, at0 = t.row * n;
	float x[8], s = 0;

	if (t.row >= v.cut.rows)
		return;
	ROW_EACH(t, n, at, span)
	{
		take(v.x, at0 + at, span, x);
		for (int k = 0; k < span; k++)
			s += x[k] * x[k];
	}
	float norm = sqrtf(team_sum(&t, s)), by = norm > v.eps ? norm : v.eps;
	ROW_EACH(t, n, at, span)
	{
		take(v.x, at0 + at, span, x);
		for (int k = 0; k < span; k++)
			x[k] /= by;
		give(v.y, at0 + at, span, x, false);
	}
	/* Negative where eps ruled: the divisor was then a constant. */
	if (t.first == 0)
		v.norms[t.row] = norm > v.eps ? norm : -by;
}

static struct l2 l2_of(const struct wl_tensor *x, const struct wl_tensor *y)
{
	struct l2 v;

	memset(&v, 0, sizeof v);
	v.cut = cut_of(wl_shape_rows(&x->shape), wl_shape_last(&x->shape));
	v.x = cuda_act_of(x);
	v.y = cuda_act_of(y);
	return v;
}

CUDA_RUN(wl_cuda_l2norm)
{
	struct l2 v = l2_of(op->in[0], op->out[0]);

	(void)run;
	(void)err;
	v.norms = cuda_f32(op->out[1]);
	v.eps = op->attr.eps;
	CUDA_BLOCKS(c, cut_blocks(&v.cut), k_l2norm, v);
	return 0;
}

/* gx = (gy - y (y . gy)) / |x|; v.x: y, v.y: gx. */
static __global__ void k_l2norm_bwd(struct l2 v)
{
	struct team t = team_of(&v.cut);
	int64_t n = v.cut.n, at0 = t.row * n;
	float y[8], g[8], s = 0;

	if (t.row >= v.cut.rows)
		return;
	float norm = v.norms[t.row];
	ROW_EACH(t, n, at, span)
	{
		take(v.x, at0 + at, span, y);
		take(v.gy, at0 + at, span, g);
		for (int k = 0; k < span; k++)
			s += y[k] * g[k];
	}
	float dot = team_sum(&t, s);
	dot = norm < 0 ? 0.0f : dot;
	ROW_EACH(t, n, at, span)
	{
		take(v.x, at0 + at, span, y);
		take(v.gy, at0 + at, span, g);
		for (int k = 0; k < span; k++)
			g[k] = (g[k] - y[k] * dot) / fabsf(norm);
		give(v.y, at0 + at, span, g, v.acc);
	}
}

CUDA_RUN(wl_cuda_l2norm_bwd)
{
	struct l2 v = l2_of(op->in[0], op->out[0]);

	(void)run;
	(void)err;
	v.norms = cuda_f32(op->in[1]);
	v.gy = cuda_act_of(op->in[2]);
	v.acc = cuda_acc(op, 0);
	CUDA_BLOCKS(c, cut_blocks(&v.cut), k_l2norm_bwd, v);
	return 0;
}
