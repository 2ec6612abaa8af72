/* Layer norm (with dropout and residual before it) and L2 normalisation, row by row. */
#include "train/backend/cpu/cpu.h"

/* s = dropout(x) + residual for one row; s may be x's own row when there is neither. */
static void ln_sum(const float *restrict x, const float *restrict res, float *restrict s, int64_t c,
	struct wl_rng_key key, uint64_t first, float p)
{
	if (p > 0) {
#pragma omp simd
		for (int64_t j = 0; j < c; j++)
			s[j] = x[j] * wl_keep_scale(key, first + (uint64_t)j, p) +
			       (res ? res[j] : 0.0f);
	} else {
#pragma omp simd
		for (int64_t j = 0; j < c; j++)
			s[j] = x[j] + (res ? res[j] : 0.0f);
	}
}

void wl_cpu_ln(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	int64_t rows = wl_shape_rows(&op->in[0]->shape), n = wl_shape_last(&op->in[0]->shape);
	const float *x = cpu_f32(op->in[0]), *res = cpu_f32(op->in[3]);
	const float *restrict gamma = cpu_f32(op->in[1]), *restrict beta = cpu_f32(op->in[2]);
	float *saved = cpu_f32(op->out[1]), *sum = cpu_f32(op->out[2]);
	struct wl_rng_key key = cpu_key(op, run);
	int64_t each = rows * n / op->in[0]->shape.dim[0]; /* elements of a sample */
	CPU_FOR(c)
	for (int64_t r = 0; r < rows; r++) {
		const float *restrict s = x + r * n;
		if (sum) {
			ln_sum(x + r * n, res ? res + r * n : NULL, sum + r * n, n, key,
				cpu_rng_index(run, r * n, each), op->attr.p);
			s = sum + r * n;
		}
		float total = 0, square = 0, shift = s[0];
#pragma omp simd reduction(+ : total)
		for (int64_t j = 0; j < n; j++)
			total += s[j] - shift;
		float mean = shift + total / (float)n;
#pragma omp simd reduction(+ : square)
		for (int64_t j = 0; j < n; j++)
			square += (s[j] - mean) * (s[j] - mean);
		float rstd = 1.0f / sqrtf(square / (float)n + op->attr.eps);
		float *restrict y = cpu_f32(op->out[0]) + r * n;
#pragma omp simd
		for (int64_t j = 0; j < n; j++)
			y[j] = (s[j] - mean) * rstd * gamma[j] + beta[j];
		saved[2 * r] = mean;
		saved[2 * r + 1] = rstd;
	}
}

/* Partial sums of g_gamma and g_beta: one pair of rows a block. */
static int64_t ln_per(int64_t n)
{
	return cpu_block_rows(n);
}

size_t wl_cpu_ln_bwd_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	int64_t rows = wl_shape_rows(&op->in[0]->shape), n = wl_shape_last(&op->in[0]->shape);
	return (size_t)(cpu_ceil_div(rows, ln_per(n)) * 2 * n) * sizeof(float);
}

struct ln_bwd {
	const float *gamma;
	float *g_sum, *g_x;
	bool acc_sum, acc_x;
	struct wl_rng_key key;
	float p;
	const struct wl_run *run;
	int64_t each; /* elements of a sample */
};

enum { GROUP = 256 };

/* to [+]= d */
static inline void put(float *restrict to, const float *restrict d, int64_t n, bool acc)
{
	if (acc) {
#pragma omp simd
		for (int64_t j = 0; j < n; j++)
			to[j] += d[j];
	} else {
		memcpy(to, d, (size_t)n * sizeof(float));
	}
}

/* One row: gs = rstd * (h - mean(h) - xhat * mean(h xhat)), h = g_y gamma. */
static void ln_bwd_row(const struct ln_bwd *b, const float *restrict s, const float *gy, float mean,
	float rstd, int64_t r, int64_t n)
{
	const float *restrict gamma = b->gamma;
	float m1 = 0, m2 = 0;
#pragma omp simd reduction(+ : m1, m2)
	for (int64_t j = 0; j < n; j++) {
		float h = gy[j] * gamma[j];
		m1 += h;
		m2 += h * (s[j] - mean) * rstd;
	}
	m1 /= (float)n;
	m2 /= (float)n;
	/* Groups of columns and plain loops: gs and gx may be the memory of gy. */
	for (int64_t c0 = 0; c0 < n; c0 += GROUP) {
		float d[GROUP];
		int64_t w = n - c0 < GROUP ? n - c0 : GROUP;
#pragma omp simd
		for (int64_t j = 0; j < w; j++)
			d[j] = rstd *
			       (gy[c0 + j] * gamma[c0 + j] - m1 - (s[c0 + j] - mean) * rstd * m2);
		if (b->g_sum)
			put(b->g_sum + r * n + c0, d, w, b->acc_sum);
		if (!b->g_x)
			continue;
		uint64_t first = cpu_rng_index(b->run, r * n + c0, b->each);
		float p = b->p;
		if (p > 0) {
#pragma omp simd
			for (int64_t j = 0; j < w; j++)
				d[j] *= wl_keep_scale(b->key, first + (uint64_t)j, p);
		}
		put(b->g_x + r * n + c0, d, w, b->acc_x);
	}
}

void wl_cpu_ln_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	int64_t rows = wl_shape_rows(&op->in[0]->shape), n = wl_shape_last(&op->in[0]->shape);
	const float *sum = cpu_f32(op->in[0]), *saved = cpu_f32(op->in[2]),
		    *gy = cpu_f32(op->in[3]);
	float *g_gamma = cpu_f32(op->out[1]), *g_beta = cpu_f32(op->out[2]);
	struct ln_bwd b = {cpu_f32(op->in[1]), cpu_f32(op->out[0]), cpu_f32(op->out[3]),
		cpu_acc(op, 0), cpu_acc(op, 3), cpu_key(op, run), op->attr.p, run,
		rows * n / op->in[0]->shape.dim[0]};
	int64_t per = ln_per(n), blocks = cpu_ceil_div(rows, per);
	float *partial = run->scratch;
	CPU_FOR(c)
	for (int64_t k = 0; k < blocks; k++) {
		float *restrict pg = partial + 2 * k * n, *restrict pb = pg + n;
		memset(pg, 0, (size_t)(2 * n) * sizeof(float));
		for (int64_t r = k * per; r < cpu_min(rows, (k + 1) * per); r++) {
			const float *restrict s = sum + r * n, *restrict g = gy + r * n;
			float mean = saved[2 * r], rstd = saved[2 * r + 1];
#pragma omp simd
			for (int64_t j = 0; j < n; j++) {
				pg[j] += g[j] * (s[j] - mean) * rstd;
				pb[j] += g[j];
			}
			ln_bwd_row(&b, s, g, mean, rstd, r, n);
		}
	}
	for (int64_t k = 0; k < blocks; k++)
		for (int64_t j = 0; j < n; j++) {
			if (g_gamma)
				g_gamma[j] += partial[2 * k * n + j];
			if (g_beta)
				g_beta[j] += partial[(2 * k + 1) * n + j];
		}
}

void wl_cpu_l2norm(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	int64_t rows = wl_shape_rows(&op->in[0]->shape), n = wl_shape_last(&op->in[0]->shape);
	float *norms = cpu_f32(op->out[1]);
	CPU_FOR(c)
	for (int64_t r = 0; r < rows; r++) {
		const float *restrict x = cpu_f32(op->in[0]) + r * n;
		float *restrict y = cpu_f32(op->out[0]) + r * n, s = 0;
#pragma omp simd reduction(+ : s)
		for (int64_t j = 0; j < n; j++)
			s += x[j] * x[j];
		float norm = sqrtf(s), by = norm > op->attr.eps ? norm : op->attr.eps;
		/* Negative where eps ruled: the divisor was then a constant. */
		norms[r] = norm > op->attr.eps ? norm : -by;
#pragma omp simd
		for (int64_t j = 0; j < n; j++)
			y[j] = x[j] / by;
	}
}

/* gx = (gy - y (y . gy)) / |x| */
void wl_cpu_l2norm_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	int64_t rows = wl_shape_rows(&op->in[0]->shape), n = wl_shape_last(&op->in[0]->shape);
	const float *norms = cpu_f32(op->in[1]);
	bool acc = cpu_acc(op, 0);
	CPU_FOR(c)
	for (int64_t r = 0; r < rows; r++) {
		const float *restrict y = cpu_f32(op->in[0]) + r * n,
				      *gy = cpu_f32(op->in[2]) + r * n;
		float *gx = cpu_f32(op->out[0]) + r * n, dot = 0, norm = fabsf(norms[r]);
#pragma omp simd reduction(+ : dot)
		for (int64_t j = 0; j < n; j++)
			dot += y[j] * gy[j];
		if (norms[r] < 0)
			dot = 0;
#pragma omp simd
		for (int64_t j = 0; j < n; j++) {
			float d = (gy[j] - y[j] * dot) / norm;
			gx[j] = acc ? gx[j] + d : d;
		}
	}
}
