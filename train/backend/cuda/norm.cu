/* Batch norm with activation, drop path and residual in the same passes. */
#include "train/backend/cuda/cuda.h"

struct bn {
	struct columns at; /* rows of channels */
	int64_t image_rows;
	double all_rows;
	struct cuda_draw draw; /* p: of a sample's branch to be dropped */
	enum wl_act act;
};

static struct bn bn_of(const struct wl_op *op, const struct wl_run *run)
{
	const struct wl_shape *x = &op->in[0]->shape;
	struct wl_run none;
	struct bn v;

	memset(&none, 0, sizeof none);
	v.at = columns_of(wl_shape_rows(x), wl_shape_last(x));
	v.image_rows = v.at.rows / (x->dim[0] > 0 ? x->dim[0] : 1);
	v.all_rows = (double)v.at.rows * (run && run->sum ? (double)run->world : 1);
	v.draw = cuda_draw_of(op, run ? run : &none, 1);
	v.act = op->attr.act;
	return v;
}

/* Scratch: partial sums [chunks, 2, c]; shift, scale, offset, mean1, mean2 [c]; sums [2 c]. */
struct bn_scratch {
	double *sums;
	float *partial, *shift, *a, *b, *mean1, *mean2;
};

static struct bn_scratch bn_scratch_of(const struct bn *v, void *scratch)
{
	struct bn_scratch s;
	s.sums = (double *)scratch;
	s.shift = (float *)(s.sums + 2 * v->at.cols);
	s.a = s.shift + v->at.cols;
	s.b = s.a + v->at.cols;
	s.mean1 = s.b + v->at.cols;
	s.mean2 = s.mean1 + v->at.cols;
	s.partial = s.mean2 + v->at.cols;
	return s;
}

size_t wl_cuda_bn_scratch(const struct wl_op *op)
{
	struct bn v = bn_of(op, NULL);
	return (size_t)(v.at.cols * (2 * v.at.chunks + 5)) * sizeof(float) +
	       (size_t)(2 * v.at.cols) * sizeof(double);
}

/* A rough mean of each channel, so that no digits go in the difference of large numbers. */
static __global__ void k_bn_shift(int64_t n, int64_t rows, const float *x, float *shift)
{
	EACH(j, n)
	{
		int64_t take = rows < 16 ? rows : 16, step = rows / (take > 0 ? take : 1);
		float s = 0;
		for (int64_t i = 0; i < take; i++)
			s += x[i * step * n + j] / (float)take;
		shift[j] = s;
	}
}

static __global__ void k_bn_sums(
	struct columns v, const float *x, const float *shift, float *partial)
{
	COLUMN_PLACE(v);
	float s1 = 0, s2 = 0;
	for (int64_t r = row_first; r < row_end; r += COLUMN_LANES) {
		float d = x[r * v.cols + col] - shift[col];
		s1 += d;
		s2 += d * d;
	}
	put_sums(v, chunk, col, s1, s2, partial);
}

/* sums [c, 2]: of x and its square, where ranks share statistics; else of x - shift. */
static __global__ void k_bn_gather(int64_t n, struct columns v, const float *shift,
	const float *partial, double *sums, bool shared)
{
	EACH(j, n)
	{
		double s1 = 0, s2 = 0, rows = (double)v.rows;
		for (int64_t k = 0; k < v.chunks; k++) {
			s1 += (double)partial[2 * k * n + j];
			s2 += (double)partial[(2 * k + 1) * n + j];
		}
		if (shared) {
			double mean = (double)shift[j] + s1 / rows;
			s2 = s2 - s1 * s1 / rows + rows * mean * mean;
			s1 = rows * mean;
		}
		sums[2 * j] = s1;
		sums[2 * j + 1] = s2;
	}
}

struct bn_stats {
	const float *gamma, *beta;
	float *run_mean, *run_var, *saved;
	double rows, momentum, eps;
};

/* mean and 1/std into saved, y = a x + b; the running statistics move. */
static __global__ void k_bn_stats(int64_t n, struct bn_stats s, const double *sums,
	const float *shift, float *a, float *b)
{
	EACH(j, n)
	{
		double m, rstd;
		if (sums) {
			double d = sums[2 * j] / s.rows, var = sums[2 * j + 1] / s.rows - d * d;
			var = var > 0 ? var : 0;
			m = (shift ? (double)shift[j] : 0) + d;
			rstd = 1.0 / sqrt(var + s.eps);
			var = s.rows > 1 ? var * s.rows / (s.rows - 1) : var;
			s.run_mean[j] = (float)((1 - s.momentum) * (double)s.run_mean[j] +
						s.momentum * m);
			s.run_var[j] = (float)((1 - s.momentum) * (double)s.run_var[j] +
					       s.momentum * var);
		} else {
			m = (double)s.run_mean[j];
			rstd = 1.0 / sqrt((double)s.run_var[j] + s.eps);
		}
		s.saved[j] = (float)m;
		s.saved[n + j] = (float)rstd;
		a[j] = s.gamma[j] * (float)rstd;
		b[j] = s.beta[j] - (float)m * a[j];
	}
}

static __device__ inline float bn_keep(const struct bn *v, int64_t row)
{
	return v->draw.p > 0 ? draw_keep(v->draw, row / v->image_rows) : 1.0f;
}

static __global__ void k_bn_apply(int64_t n, struct bn v, const float *x, const float *a,
	const float *b, const float *residual, float *y)
{
	EACH(i, n)
	{
		int64_t j = i % v.at.cols;
		y[i] = wl_act_value(v.act, x[i] * a[j] + b[j]) * bn_keep(&v, i / v.at.cols) +
		       (residual ? residual[i] : 0.0f);
	}
}

/* Sums over the ranks by way of the host, which is where the ranks meet. */
static int sum_ranks(struct cuda *c, const struct wl_run *run, double *sums, int64_t n,
	struct wl_err *err)
{
	double *host = (double *)malloc((size_t)n * sizeof *host);
	if (!host)
		return wl_err_nomem(err, "batch norm's sums", (size_t)n * sizeof *host);
	c->be.download(&c->be, host, sums, (size_t)n * sizeof *host);
	run->sum(run->peers, host, (size_t)n);
	c->be.upload(&c->be, sums, host, (size_t)n * sizeof *host);
	free(host);
	return 0;
}

/* a x + b: the value before the activation; saved: mean, 1/std. */
static __global__ void k_bn_line(int64_t n, const float *gamma, const float *beta,
	const float *saved, float *a, float *b)
{
	EACH(j, n)
	{
		a[j] = gamma[j] * saved[n + j];
		b[j] = beta[j] - saved[j] * a[j];
	}
}

CUDA_RUN(wl_cuda_bn)
{
	struct bn v = bn_of(op, run);
	struct bn_scratch s = bn_scratch_of(&v, run->scratch);
	const float *x = cuda_f32(op->in[0]);
	int64_t ch = v.at.cols, n = v.at.rows * ch;
	struct bn_stats stats = {cuda_f32(op->in[1]), cuda_f32(op->in[2]), cuda_f32(op->in[3]),
		cuda_f32(op->in[4]), cuda_f32(op->out[1]), v.all_rows, (double)op->attr.momentum,
		(double)op->attr.eps};
	if (op->attr.use_running) {
		CUDA_EACH(c, ch, k_bn_stats, stats, (const double *)NULL, (const float *)NULL, s.a,
			s.b);
	} else if (op->attr.replay) { /* the statistics of this run are there already */
		CUDA_EACH(c, ch, k_bn_line, stats.gamma, stats.beta, stats.saved, s.a, s.b);
	} else {
		bool shared = run->sum != NULL;
		CUDA_EACH(c, ch, k_bn_shift, v.at.rows, x, s.shift);
		CUDA_BLOCKS(c, v.at.chunks * v.at.tiles, k_bn_sums, v.at, x, s.shift, s.partial);
		CUDA_EACH(c, ch, k_bn_gather, v.at, s.shift, s.partial, s.sums, shared);
		if (shared)
			WL_TRY(sum_ranks(c, run, s.sums, 2 * ch, err));
		CUDA_EACH(c, ch, k_bn_stats, stats, s.sums, shared ? (const float *)NULL : s.shift,
			s.a, s.b);
	}
	CUDA_EACH(c, n, k_bn_apply, v, x, s.a, s.b, cuda_f32(op->in[5]), cuda_f32(op->out[0]));
	return 0;
}

/* Sums of g and g * xhat, g = g_y * keep * act'. */
static __global__ void k_bn_bwd_sums(struct bn v, const float *x, const float *gy, const float *a,
	const float *b, const float *saved, float *partial)
{
	int64_t ch = v.at.cols;
	COLUMN_PLACE(v.at);
	float s1 = 0, s2 = 0;
	for (int64_t r = row_first; r < row_end; r += COLUMN_LANES) {
		float at = x[r * ch + col];
		float g = gy[r * ch + col] * bn_keep(&v, r) *
			  wl_act_grad(v.act, at * a[col] + b[col]);
		s1 += g;
		s2 += g * (at - saved[col]) * saved[ch + col];
	}
	put_sums(v.at, chunk, col, s1, s2, partial);
}

static __global__ void k_bn_bwd_params(
	int64_t n, const double *sums, float *g_gamma, float *g_beta)
{
	EACH(j, n)
	{
		if (g_gamma)
			g_gamma[j] += (float)sums[2 * j + 1];
		if (g_beta)
			g_beta[j] += (float)sums[2 * j];
	}
}

/* rows 0: running statistics, which do not depend on x. */
static __global__ void k_bn_bwd_means(
	int64_t n, const double *sums, double rows, float *mean1, float *mean2)
{
	EACH(j, n)
	{
		mean1[j] = rows > 0 ? (float)(sums[2 * j] / rows) : 0.0f;
		mean2[j] = rows > 0 ? (float)(sums[2 * j + 1] / rows) : 0.0f;
	}
}

/* gx [+]= a (g - mean(g) - xhat mean(g xhat)) */
static __global__ void k_bn_bwd_data(int64_t n, struct bn v, const float *x, const float *gy,
	struct bn_scratch s, const float *saved, float *gx, bool acc)
{
	EACH(i, n)
	{
		int64_t ch = v.at.cols, j = i % ch;
		float g = gy[i] * bn_keep(&v, i / ch) * wl_act_grad(v.act, x[i] * s.a[j] + s.b[j]);
		float hat = (x[i] - saved[j]) * saved[ch + j];
		gx[i] = old(gx, i, acc) + s.a[j] * (g - s.mean1[j] - hat * s.mean2[j]);
	}
}

CUDA_RUN(wl_cuda_bn_bwd)
{
	struct bn v = bn_of(op, run);
	struct bn_scratch s = bn_scratch_of(&v, run->scratch);
	const float *x = cuda_f32(op->in[0]), *saved = cuda_f32(op->in[3]),
		    *gy = cuda_f32(op->in[4]);
	int64_t ch = v.at.cols, n = v.at.rows * ch;
	CUDA_EACH(c, ch, k_bn_line, cuda_f32(op->in[1]), cuda_f32(op->in[2]), saved, s.a, s.b);
	CUDA_BLOCKS(c, v.at.chunks * v.at.tiles, k_bn_bwd_sums, v, x, gy, s.a, s.b, saved,
		s.partial);
	CUDA_EACH(c, ch, k_bn_gather, v.at, (const float *)NULL, s.partial, s.sums, false);
	CUDA_EACH(c, ch, k_bn_bwd_params, s.sums, cuda_f32(op->out[1]), cuda_f32(op->out[2]));
	if (!op->out[0])
		return 0;
	if (run->sum && !op->attr.use_running)
		WL_TRY(sum_ranks(c, run, s.sums, 2 * ch, err));
	CUDA_EACH(c, ch, k_bn_bwd_means, s.sums, op->attr.use_running ? 0.0 : v.all_rows, s.mean1,
		s.mean2);
	CUDA_EACH(c, n, k_bn_bwd_data, v, x, gy, s, saved, cuda_f32(op->out[0]), cuda_acc(op, 0));
	return 0;
}
