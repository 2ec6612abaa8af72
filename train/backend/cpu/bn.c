/*
 * Batch norm with the activation, drop path and residual in the same passes over
 * memory: forward reads x twice (statistics, then result), backward reads x and
 * g_y twice (sums, then result); the value before the activation is computed
 * again from x rather than kept.
 */
#include "train/backend/cpu/cpu.h"

struct bn {
	int64_t rows, c, image_rows; /* image_rows: rows of one sample, for drop path */
	int64_t per, blocks;
	double all_rows; /* over the ranks that share statistics */
	const struct wl_run *run;
};

static struct bn bn_of(const struct wl_tensor *x, const struct wl_run *run)
{
	struct bn v = {.rows = wl_shape_rows(&x->shape), .c = wl_shape_last(&x->shape)};
	v.run = run;
	v.all_rows = (double)v.rows * (run && run->sum ? (double)run->world : 1);
	v.image_rows = v.rows / cpu_max(1, x->shape.dim[0]);
	/* Few rows a block: sums within one are in f32, sums over blocks in f64. */
	v.per = cpu_min(cpu_block_rows(v.c), 256);
	v.blocks = cpu_ceil_div(v.rows, v.per);
	return v;
}

size_t wl_cpu_bn_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	struct bn v = bn_of(op->in[0], NULL);
	/* The doubles that ranks sum, 2 a channel, come after the floats. */
	return (size_t)((2 * v.blocks + 4 + 4) * v.c + 2) * sizeof(float);
}

/* A rough mean of each channel from a few rows spread over the batch. One row alone would not
 * do: the first is a picture's corner, several deviations off the mean behind a padded
 * convolution, and costs the variance as many digits. */
static void find_shift(const struct bn *v, const float *x, float *restrict shift)
{
	int64_t n = cpu_min(v->rows, 16), step = v->rows / cpu_max(1, n);
	memset(shift, 0, (size_t)v->c * sizeof(float));
	for (int64_t i = 0; i < n; i++) {
		const float *restrict row = x + i * step * v->c;
#pragma omp simd
		for (int64_t j = 0; j < v->c; j++)
			shift[j] += row[j] / (float)n;
	}
}

/* Sums of (x - shift) and its square by block; the shift keeps the difference of large
 * numbers out of the variance. */
static void forward_sums(struct cpu *c, const struct bn *v, const float *x,
	const float *restrict shift, float *partial)
{
	CPU_FOR(c)
	for (int64_t b = 0; b < v->blocks; b++) {
		float *restrict s1 = partial + 2 * b * v->c, *restrict s2 = s1 + v->c;
		memset(s1, 0, (size_t)(2 * v->c) * sizeof(float));
		for (int64_t r = b * v->per; r < cpu_min(v->rows, (b + 1) * v->per); r++) {
			const float *restrict row = x + r * v->c;
#pragma omp simd
			for (int64_t j = 0; j < v->c; j++) {
				float d = row[j] - shift[j];
				s1[j] += d;
				s2[j] += d * d;
			}
		}
	}
}

/* The doubles behind the floats of the scratch memory. */
static double *summed(const struct bn *v, const float *scratch)
{
	uintptr_t end = (uintptr_t)(scratch + (2 * v->blocks + 4) * v->c);
	return (double *)((end + 7) / 8 * 8);
}

/* Blocks of sums to sum of x and of its square over this rank's rows, then over all ranks'.  In
 * double the square costs no digits that a variance in float would show. */
static void sums_of_ranks(struct cpu *c, const struct bn *v, const float *shift,
	const float *partial, double *sums)
{
	double n = (double)v->rows;
	CPU_FOR(c)
	for (int64_t j = 0; j < v->c; j++) {
		double s1 = 0, s2 = 0, mean;
		for (int64_t b = 0; b < v->blocks; b++) {
			s1 += (double)partial[2 * b * v->c + j];
			s2 += (double)partial[(2 * b + 1) * v->c + j];
		}
		mean = (double)shift[j] + s1 / n;
		sums[2 * j] = n * mean;
		sums[2 * j + 1] = s2 - s1 * s1 / n + n * mean * mean;
	}
	v->run->sum(v->run->peers, sums, 2 * (size_t)v->c);
}

/* mean and 1/std into saved; the running statistics move. */
static void forward_stats(struct cpu *c, const struct bn *v, const struct wl_op *op,
	const float *shift, const float *partial, const double *sums)
{
	float *run_mean = cpu_f32(op->in[3]), *run_var = cpu_f32(op->in[4]);
	float *mean = cpu_f32(op->out[1]), *rstd = mean + v->c;
	double n = v->all_rows, mom = (double)op->attr.momentum;
	CPU_FOR(c)
	for (int64_t j = 0; j < v->c; j++) {
		double s1 = 0, s2 = 0;
		for (int64_t b = 0; b < v->blocks && !sums; b++) {
			s1 += (double)partial[2 * b * v->c + j];
			s2 += (double)partial[(2 * b + 1) * v->c + j];
		}
		if (sums) {
			s1 = sums[2 * j];
			s2 = sums[2 * j + 1];
		}
		double d = s1 / n, var = s2 / n - d * d, m = (sums ? 0 : (double)shift[j]) + d;
		var = var > 0 ? var : 0;
		mean[j] = (float)m;
		rstd[j] = (float)(1.0 / sqrt(var + (double)op->attr.eps));
		double unbiased = n > 1 ? var * n / (n - 1) : var;
		run_mean[j] = (float)((1 - mom) * (double)run_mean[j] + mom * m);
		run_var[j] = (float)((1 - mom) * (double)run_var[j] + mom * unbiased);
	}
}

static void running_stats(const struct bn *v, const struct wl_op *op)
{
	const float *run_mean = cpu_f32(op->in[3]), *run_var = cpu_f32(op->in[4]);
	float *mean = cpu_f32(op->out[1]), *rstd = mean + v->c;
	for (int64_t j = 0; j < v->c; j++) {
		mean[j] = run_mean[j];
		rstd[j] = (float)(1.0 / sqrt((double)run_var[j] + (double)op->attr.eps));
	}
}

/* What a sample's branch is multiplied by. */
static float keep_of(const struct bn *v, const struct wl_op *op, struct wl_rng_key key, int64_t row)
{
	if (op->attr.p <= 0)
		return 1;
	return wl_keep_scale(key, cpu_rng_index(v->run, row / v->image_rows, 1), op->attr.p);
}

/* y = act(x * a + b): a = gamma / std, b = beta - mean * a */
static void factors(int64_t n, const float *gamma, const float *beta, const float *mean,
	const float *rstd, float *restrict a, float *restrict b)
{
	for (int64_t j = 0; j < n; j++) {
		a[j] = gamma[j] * rstd[j];
		b[j] = beta[j] - mean[j] * a[j];
	}
}

void wl_cpu_norm_factors(const struct wl_op *op, int slot, int64_t c0, int64_t w, float *a,
	float *b)
{
	const float *saved = cpu_f32(op->in[slot + 2]);
	factors(w, cpu_f32(op->in[slot]) + c0, cpu_f32(op->in[slot + 1]) + c0, saved + c0,
		saved + wl_shape_last(&op->in[0]->shape) + c0, a, b);
}

void wl_cpu_bn(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct bn v = bn_of(op->in[0], run);
	const float *x = cpu_f32(op->in[0]), *gamma = cpu_f32(op->in[1]),
		    *beta = cpu_f32(op->in[2]);
	const float *residual = cpu_f32(op->in[5]);
	float *y = cpu_f32(op->out[0]), *mean = cpu_f32(op->out[1]), *rstd = mean + v.c;
	if (op->attr.use_running) {
		running_stats(&v, op);
	} else if (!op->attr.replay) {
		float *partial = run->scratch, *shift = partial + 2 * v.blocks * v.c;
		find_shift(&v, x, shift);
		double *sums = run->sum ? summed(&v, run->scratch) : NULL;
		forward_sums(c, &v, x, shift, partial);
		if (sums)
			sums_of_ranks(c, &v, shift, partial, sums);
		forward_stats(c, &v, op, shift, partial, sums);
	}
	if (!y)
		return; /* those that read it compute it */
	float *restrict a = run->scratch, *restrict b = a + v.c;
	factors(v.c, gamma, beta, mean, rstd, a, b);
	struct wl_rng_key key = cpu_key(op, run);
	CPU_FOR(c)
	for (int64_t k = 0; k < v.blocks; k++) {
		int64_t from = k * v.per, to = cpu_min(v.rows, from + v.per);
		for (int64_t r = from; r < to; r++) {
			const float *restrict in = x + r * v.c;
			const float *restrict res = residual ? residual + r * v.c : NULL;
			float *restrict out = y + r * v.c, keep = keep_of(&v, op, key, r);
			wl_cpu_norm_row(op->attr.act, v.c, in, a, b, out);
			if (keep != 1)
				for (int64_t j = 0; j < v.c; j++)
					out[j] *= keep;
			if (res)
				for (int64_t j = 0; j < v.c; j++)
					out[j] += res[j];
		}
	}
}

/* What backward needs of a channel: x * a + b is the value before the activation,
 * x * rstd + off the normalised x. */
struct bwd {
	const float *x, *gy, *a, *b, *rstd, *off;
};

/* Channels are taken in groups; what a group's rows need stays on the stack. */
enum { GROUP = 256 };

/* g = g_y * keep * act'(x a + b) for n channels of one row. Loops apart from those that use g:
 * the compiler vectorises short ones reliably. */
static inline void grad_group(enum wl_act act, int64_t n, const float *restrict x,
	const float *restrict gy, const float *restrict a, const float *restrict b, float keep,
	float *restrict g)
{
	WL_ACT_SWITCH(act, {
		_Pragma("omp simd") for (int64_t j = 0; j < n; j++) g[j] =
			gy[j] * keep * wl_act_grad(ACT, x[j] * a[j] + b[j]);
	})
}

/* Sums of g and g * xhat by block, g = g_y * keep * act'. */
static void backward_sums(struct cpu *c, const struct bn *v, const struct wl_op *op,
	struct wl_rng_key key, const struct bwd *w, float *partial)
{
	CPU_FOR(c)
	for (int64_t t = 0; t < v->blocks; t++) {
		int64_t from = t * v->per, to = cpu_min(v->rows, from + v->per);
		for (int64_t c0 = 0; c0 < v->c; c0 += GROUP) {
			int64_t n = cpu_min(GROUP, v->c - c0);
			float s1[GROUP] = {0}, s2[GROUP] = {0}, g[GROUP];
			for (int64_t r = from; r < to; r++) {
				const float *restrict x = w->x + r * v->c + c0;
				const float *restrict rstd = w->rstd + c0, *restrict off =
										   w->off + c0;
				grad_group(op->attr.act, n, x, w->gy + r * v->c + c0, w->a + c0,
					w->b + c0, keep_of(v, op, key, r), g);
#pragma omp simd
				for (int64_t j = 0; j < n; j++) {
					s1[j] += g[j];
					s2[j] += g[j] * (x[j] * rstd[j] + off[j]);
				}
			}
			memcpy(partial + 2 * t * v->c + c0, s1, (size_t)n * sizeof(float));
			memcpy(partial + (2 * t + 1) * v->c + c0, s2, (size_t)n * sizeof(float));
		}
	}
}

/* gx = a * (g - mean(g) - xhat * mean(g xhat)); mean1, mean2 are those means (0 under running
 * statistics, which do not depend on x). */
static void backward_data(struct cpu *c, const struct bn *v, const struct wl_op *op,
	struct wl_rng_key key, const struct bwd *w, const float *mean1, const float *mean2)
{
	float *out = cpu_f32(op->out[0]);
	bool acc = cpu_acc(op, 0);
	CPU_FOR(c)
	for (int64_t t = 0; t < v->blocks; t++) {
		int64_t from = t * v->per, to = cpu_min(v->rows, from + v->per);
		for (int64_t c0 = 0; c0 < v->c; c0 += GROUP) {
			int64_t n = cpu_min(GROUP, v->c - c0);
			const float *restrict a = w->a + c0;
			/* a (g - m1 - (x rstd + off) m2) = a g + p x + q */
			float p[GROUP], q[GROUP], g[GROUP];
			for (int64_t j = 0; j < n; j++) {
				p[j] = -a[j] * w->rstd[c0 + j] * mean2[c0 + j];
				q[j] = -a[j] * (mean1[c0 + j] + w->off[c0 + j] * mean2[c0 + j]);
			}
			for (int64_t r = from; r < to; r++) {
				const float *restrict x = w->x + r * v->c + c0;
				float *gx = out + r * v->c + c0; /* may be the memory of gy */
				grad_group(op->attr.act, n, x, w->gy + r * v->c + c0, a, w->b + c0,
					keep_of(v, op, key, r), g);
				if (acc) {
#pragma omp simd
					for (int64_t j = 0; j < n; j++)
						gx[j] += a[j] * g[j] + p[j] * x[j] + q[j];
				} else {
#pragma omp simd
					for (int64_t j = 0; j < n; j++)
						gx[j] = a[j] * g[j] + p[j] * x[j] + q[j];
				}
			}
		}
	}
}

void wl_cpu_bn_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct bn v = bn_of(op->in[0], run);
	const float *gamma = cpu_f32(op->in[1]), *beta = cpu_f32(op->in[2]);
	const float *mean = cpu_f32(op->in[3]), *rstd = mean + v.c;
	float *g_gamma = cpu_f32(op->out[1]), *g_beta = cpu_f32(op->out[2]);
	float *a = run->scratch, *b = a + v.c, *off = b + v.c, *partial = off + v.c;
	factors(v.c, gamma, beta, mean, rstd, a, b);
	for (int64_t j = 0; j < v.c; j++)
		off[j] = -mean[j] * rstd[j];
	struct bwd w = {cpu_f32(op->in[0]), cpu_f32(op->in[4]), a, b, rstd, off};
	struct wl_rng_key key = cpu_key(op, run);
	backward_sums(c, &v, op, key, &w, partial);
	float *m1 = partial, *m2 = partial + v.c; /* the sums of block 0, overwritten in turn */
	double *sums = run->sum && !op->attr.use_running ? summed(&v, run->scratch) : NULL;
	for (int64_t j = 0; j < v.c; j++) {
		double s1 = 0, s2 = 0;
		for (int64_t k = 0; k < v.blocks; k++) {
			s1 += (double)partial[2 * k * v.c + j];
			s2 += (double)partial[(2 * k + 1) * v.c + j];
		}
		if (g_gamma)
			g_gamma[j] += (float)s2;
		if (g_beta)
			g_beta[j] += (float)s1;
		double n = op->attr.use_running ? INFINITY : v.all_rows;
		m1[j] = (float)(s1 / n);
		m2[j] = (float)(s2 / n);
		if (sums) {
			sums[2 * j] = s1;
			sums[2 * j + 1] = s2;
		}
	}
	if (sums) {
		run->sum(run->peers, sums, 2 * (size_t)v.c);
		for (int64_t j = 0; j < v.c; j++) {
			m1[j] = (float)(sums[2 * j] / v.all_rows);
			m2[j] = (float)(sums[2 * j + 1] / v.all_rows);
		}
	}
	if (op->out[0])
		backward_data(c, &v, op, key, &w, m1, m2);
}
