/*
 * Batch norm with activation, drop path and residual in the same passes.
 *
 * Forward reads x twice (sums, then the result), backward x and g_y twice.  Where what reads the
 * result normalises for itself (see cuda_norm), forward is the sums alone.  Where the result went
 * into a squeeze-excite gate, backward takes the gradient of the gate's product and of the mean
 * and makes g_y of them as it reads: g_y sigmoid(s) + g_mean / hw.
 *
 * Sums that another kernel made on its way are not made again: a depthwise convolution leaves the
 * moments of what it writes, its backward the sums of what it writes, the gate's backward what an
 * image adds to them, which are linear in sigmoid(s) and g_mean.
 *
 * Sums are of x less a rough mean, in f32 within a thread's rows (256 at most) and a block, in
 * double over blocks, in a fixed order.
 */
#include "train/backend/cuda/image.h"

struct bn {
	struct rows8 at;
	struct cuda_act x, gy, residual, y; /* y: g_x in backward */
	struct cuda_norm norm;
	int64_t image_rows;
	struct cuda_draw draw; /* p: of a sample's branch to be dropped */
	struct cuda_act gate, g_mean; /* [N,C] */
	const float *shift, *mean1, *mean2;
	float *partial; /* [parts, 2, c] */
	bool acc;
};

/* Scratch: sums [2 c]; shift, mean1, mean2 [c]; partial. */
struct bn_scratch {
	double *sums;
	float *shift, *mean1, *mean2, *partial;
};

static struct bn_scratch bn_scratch_of(int64_t c, void *scratch)
{
	struct bn_scratch s;

	s.sums = (double *)scratch;
	s.shift = (float *)(s.sums + 2 * c);
	s.mean1 = s.shift + c;
	s.mean2 = s.mean1 + c;
	s.partial = s.mean2 + c;
	return s;
}

/* A chunk stays within an image where images are large, and where it must. */
static struct rows8 bn_rows(const struct wl_op *op)
{
	const struct wl_shape *x = &op->in[0]->shape;
	int64_t images = x->dim[0] > 0 ? x->dim[0] : 1, rows = wl_shape_rows(x) / images;
	bool gated = op->kind == WL_OP_BATCH_NORM_BWD && op->in[5];

	if (rows < 64 && !gated)
		return rows8_of(1, images * rows, wl_shape_last(x));
	return rows8_of(images, rows, wl_shape_last(x));
}

static struct bn bn_of(const struct wl_op *op, const struct wl_run *run)
{
	const struct wl_shape *x = &op->in[0]->shape;
	struct bn_scratch s = bn_scratch_of(wl_shape_last(x), run->scratch);
	struct bn v;

	memset(&v, 0, sizeof v);
	v.at = bn_rows(op);
	v.x = cuda_act_of(op->in[0]);
	v.y = cuda_act_of(op->out[0]);
	v.norm.gamma = cuda_f32(op->in[1]);
	v.norm.beta = cuda_f32(op->in[2]);
	v.norm.act = op->attr.act;
	v.image_rows = wl_shape_rows(x) / (x->dim[0] > 0 ? x->dim[0] : 1);
	v.draw = cuda_draw_of(op, run, 1);
	v.shift = s.shift;
	v.mean1 = s.mean1;
	v.mean2 = s.mean2;
	v.partial = s.partial;
	v.acc = cuda_acc(op, 0);
	return v;
}

static double all_rows(const struct wl_op *op, const struct wl_run *run)
{
	return (double)wl_shape_rows(&op->in[0]->shape) * (run->sum ? (double)run->world : 1);
}

size_t wl_cuda_bn_scratch(const struct wl_op *op)
{
	struct rows8 v = bn_rows(op);

	return (size_t)(v.c * (2 * v.images * v.chunks + 3)) * sizeof(float) +
	       (size_t)(2 * v.c) * sizeof(double);
}

/* A rough mean of each channel, so that no digits go in the difference of large numbers. */
static __global__ void k_bn_shift(int64_t n, int64_t rows, struct cuda_act x, float *shift)
{
	EACH(j, n)
	{
		int64_t take = rows < 16 ? rows : 16, step = rows / (take > 0 ? take : 1);
		float s = 0;

		for (int64_t i = 0; i < take; i++)
			s += act_load(x, i * step * n + j) / (float)take;
		shift[j] = s;
	}
}

/* partial: of x - shift and its square.  Reads x once. */
CUDA_INLINE void bn_sums(const struct bn f, const int W)
{
	struct place8 p = place8_of(f.at);
	float s1[8], s2[8], shift[8], x[8];

	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		s1[k] = s2[k] = shift[k] = 0;
	if (p.first < p.end)
		load_f32(f.shift + p.ch, W, 0, shift);
	for (int64_t r = p.first; r < p.end; r += f.at.lanes) {
		load_wide(f.x, r * f.at.c + p.ch, W, x);
		CUDA_UNROLL
		for (int k = 0; k < W; k++) {
			float d = x[k] - shift[k];

			s1[k] += d;
			s2[k] += d * d;
		}
	}
	put_lanes(f.at, W, s1, f.partial + 2 * p.part * f.at.c);
	put_lanes(f.at, W, s2, f.partial + (2 * p.part + 1) * f.at.c);
}
KERNEL_8_1(k_bn_sums, bn_sums, struct bn)

/* sums [c, 2]: of x and its square, where ranks share statistics; else of x - shift. */
static __global__ void k_bn_gather(int64_t n, int64_t parts, double rows, const float *shift,
	const float *partial, double *sums, bool shared)
{
	int64_t j = end_col();
	double s1, s2;

	sum_parts(n, parts, partial, j, &s1, &s2);
	if (threadIdx.x >= END_COLS || j >= n)
		return;
	if (shared) {
		double mean = (double)shift[j] + s1 / rows;

		s2 = s2 - s1 * s1 / rows + rows * mean * mean;
		s1 = rows * mean;
	}
	sums[2 * j] = s1;
	sums[2 * j + 1] = s2;
}

/* The same from moments, where x - mean takes the place of x - shift. */
static __global__ void k_bn_take(
	int64_t n, double rows, const float *moments, double *sums, bool shared)
{
	EACH(j, n)
	{
		double mean = (double)moments[j], var = (double)moments[n + j];

		sums[2 * j] = shared ? rows * mean : 0;
		sums[2 * j + 1] = rows * (shared ? var + mean * mean : var);
	}
}

static __global__ void k_moments(int64_t n, int64_t parts, double rows, const float *shift,
	const float *partial, float *moments)
{
	int64_t j = end_col();
	double s1, s2;

	sum_parts(n, parts, partial, j, &s1, &s2);
	if (threadIdx.x >= END_COLS || j >= n)
		return;
	s1 /= rows;
	s2 = s2 / rows - s1 * s1;
	moments[j] = (float)((double)shift[j] + s1);
	moments[n + j] = s2 > 0 ? (float)s2 : 0.0f;
}

void wl_cuda_moments_of(struct cuda *c, int64_t ch, int64_t parts, int64_t n, const float *shift,
	const float *partial, float *moments)
{
	CUDA_BLOCKS(c, cuda_ceil_div(ch, END_COLS), k_moments, ch, parts, (double)n, shift, partial,
		moments);
}

size_t wl_cuda_moments_scratch(int64_t ch, int64_t n)
{
	return (size_t)(ch * (2 * rows8_of(1, n, ch).chunks + 1)) * sizeof(float);
}

void wl_cuda_moments(
	struct cuda *c, struct cuda_act x, int64_t ch, int64_t n, void *scratch, float *moments)
{
	float *shift = (float *)scratch;
	struct bn v;

	memset(&v, 0, sizeof v);
	v.at = rows8_of(1, n, ch);
	v.x = x;
	v.shift = shift;
	v.partial = shift + ch;
	CUDA_EACH(c, ch, k_bn_shift, n, x, shift);
	RUN_8_1(c, v.at, k_bn_sums, v);
	wl_cuda_moments_of(c, ch, v.at.chunks, n, shift, v.partial, moments);
}

struct bn_stats {
	float *run_mean, *run_var, *saved;
	double rows, momentum, eps;
};

/* mean and 1/std into saved; the running statistics move, or without sums serve. */
static __global__ void k_bn_stats(
	int64_t n, struct bn_stats s, const double *sums, const float *shift)
{
	EACH(j, n)
	{
		double m = (double)s.run_mean[j], var = (double)s.run_var[j];

		if (sums) {
			double d = sums[2 * j] / s.rows, unbiased;

			var = sums[2 * j + 1] / s.rows - d * d;
			var = var > 0 ? var : 0;
			m = (shift ? (double)shift[j] : 0) + d;
			unbiased = s.rows > 1 ? var * s.rows / (s.rows - 1) : var;
			s.run_mean[j] = (float)((1 - s.momentum) * (double)s.run_mean[j] +
						s.momentum * m);
			s.run_var[j] = (float)((1 - s.momentum) * (double)s.run_var[j] +
					       s.momentum * unbiased);
		}
		s.saved[j] = (float)m;
		s.saved[n + j] = (float)(1.0 / sqrt(var + s.eps));
	}
}

/* What the branch of a row's sample is multiplied by. */
CUDA_INLINE float bn_keep(const struct bn *v, int64_t row)
{
	return v->draw.p > 0 ? draw_keep(v->draw, row / v->image_rows) : 1.0f;
}

/* y = act(a x + b) keep + residual.  Reads x (and the residual), writes y. */
CUDA_INLINE void bn_apply(const struct bn f, const int W)
{
	struct place8 p = place8_of(f.at);
	float a[8], b[8], x[8], res[8];

	load_lines(f.norm, f.at.c, p.ch, W, a, b);
	for (int64_t r = p.first; r < p.end; r += f.at.lanes) {
		int64_t i = r * f.at.c + p.ch;
		float keep = bn_keep(&f, r);

		load_wide(f.x, i, W, x);
		if (f.residual.p)
			load_wide(f.residual, i, W, res);
		CUDA_UNROLL
		for (int k = 0; k < W; k++)
			x[k] = x[k] * a[k] + b[k];
		norm_acts(f.norm.act, W, x, x, NULL);
		CUDA_UNROLL
		for (int k = 0; k < W; k++)
			x[k] = x[k] * keep + (f.residual.p ? res[k] : 0.0f);
		store_wide(f.y, i, W, x);
	}
}
KERNEL_8_1(k_bn_apply, bn_apply, struct bn)

/* Sums over the ranks, in the device's memory and the stream's order. */
static int sum_ranks(
	struct cuda *, const struct wl_run *run, double *sums, int64_t n, struct wl_err *)
{
	run->sum(run->peers, sums, (size_t)n);
	return 0;
}

static int find_stats(struct cuda *c, const struct wl_op *op, const struct wl_run *run,
	const struct bn *v, struct wl_err *err)
{
	int64_t ch = v->at.c, rows = wl_shape_rows(&op->in[0]->shape);
	struct bn_scratch s = bn_scratch_of(ch, run->scratch);
	struct bn_stats stats = {cuda_f32(op->in[3]), cuda_f32(op->in[4]), cuda_f32(op->out[1]),
		all_rows(op, run), (double)op->attr.momentum, (double)op->attr.eps};
	const float *moments = cuda_f32(op->in[6]), *shift = moments ? moments : s.shift;
	bool shared = run->sum != NULL;

	if (op->attr.use_running) {
		CUDA_EACH(c, ch, k_bn_stats, stats, (const double *)NULL, (const float *)NULL);
		return 0;
	}
	if (moments) {
		CUDA_EACH(c, ch, k_bn_take, (double)rows, moments, s.sums, shared);
	} else {
		CUDA_EACH(c, ch, k_bn_shift, rows, v->x, s.shift);
		RUN_8_1(c, v->at, k_bn_sums, *v);
		CUDA_BLOCKS(c, cuda_ceil_div(ch, END_COLS), k_bn_gather, ch,
			v->at.images * v->at.chunks, (double)rows, s.shift, s.partial, s.sums,
			shared);
	}
	if (shared)
		WL_TRY(sum_ranks(c, run, s.sums, 2 * ch, err));
	CUDA_EACH(c, ch, k_bn_stats, stats, s.sums, shared ? (const float *)NULL : shift);
	return 0;
}

CUDA_RUN(wl_cuda_bn)
{
	struct bn v = bn_of(op, run);

	v.residual = cuda_act_of(op->in[5]);
	v.norm.saved = cuda_f32(op->out[1]);
	if (!op->attr.replay) /* else the statistics of this run are there already */
		WL_TRY(find_stats(c, op, run, &v, err));
	if (op->out[0])
		RUN_8_1(c, v.at, k_bn_apply, v);
	return 0;
}

/* --- backward --- */

/* What a thread knows of its channels: a x + b is the value before the activation. */
struct bn_line {
	float a[8], b[8];
};

/* Each thread's own gate, mean's gradient and last summand: 24 floats that have no room beside the
 * rest in the registers that three blocks leave. */
struct bn_parked {
	uint4 gate[2][CUDA_THREADS], g_mean[2][CUDA_THREADS], last[2][CUDA_THREADS];
};

CUDA_INLINE void park(uint4 to[2][CUDA_THREADS], const float v[8])
{
	CUDA_UNROLL
	for (int h = 0; h < 2; h++) {
		uint4 u;

		u.x = wl_bits_of_float(v[4 * h]), u.y = wl_bits_of_float(v[4 * h + 1]);
		u.z = wl_bits_of_float(v[4 * h + 2]), u.w = wl_bits_of_float(v[4 * h + 3]);
		to[h][threadIdx.x] = u;
	}
}

CUDA_INLINE void take_parked(const uint4 from[2][CUDA_THREADS], int h, float v[4])
{
	uint4 u = from[h][threadIdx.x];

	v[0] = wl_float_of_bits(u.x), v[1] = wl_float_of_bits(u.y);
	v[2] = wl_float_of_bits(u.z), v[3] = wl_float_of_bits(u.w);
}

CUDA_INLINE void bn_lines(const struct bn *f, struct place8 p, const int W, struct bn_line *l,
	struct bn_parked *own)
{
	int64_t at = p.image * f->at.c + p.ch;
	float v[8] = {0, 0, 0, 0, 0, 0, 0, 0};

	load_lines(f->norm, f->at.c, p.ch, W, l->a, l->b);
	if (!f->gate.p || p.first >= p.end)
		return;
	load_wide(f->gate, at, W, v);
	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		v[k] = wl_sigmoidf(v[k]);
	park(own->gate, v);
	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		v[k] = 0;
	if (f->g_mean.p)
		load_wide(f->g_mean, at, W, v);
	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		v[k] /= (float)f->image_rows;
	park(own->g_mean, v);
}

CUDA_INLINE void take_last(const struct bn_parked *own, const int W, float v[8])
{
	take_parked(own->last, 0, v);
	if (W > 4)
		take_parked(own->last, 1, v + 4);
}

/* g = g gate + g_mean of the thread's channels. */
CUDA_INLINE void bn_gated(const struct bn_parked *own, const int W, float g[8])
{
	CUDA_UNROLL
	for (int h = 0; h < 2; h++) {
		float gate[4], mean[4];

		if (4 * h >= W)
			break;
		take_parked(own->gate, h, gate);
		take_parked(own->g_mean, h, mean);
		CUDA_UNROLL
		for (int k = 0; k < 4; k++)
			g[4 * h + k] = g[4 * h + k] * gate[k] + mean[k];
	}
}

/* x and g = g_y keep act'(a x + b) of the row. */
CUDA_INLINE void bn_grad(const struct bn *f, const struct bn_line *l, const struct bn_parked *own,
	int64_t row, int64_t ch, const int W, float x[8], float g[8])
{
	float keep = bn_keep(f, row), z[8], d[8];

	load_wide(f->x, row * f->at.c + ch, W, x);
	load_wide(f->gy, row * f->at.c + ch, W, g);
	if (f->gate.p)
		bn_gated(own, W, g);
	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		z[k] = x[k] * l->a[k] + l->b[k];
	norm_acts(f->norm.act, W, z, NULL, d);
	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		g[k] *= keep * d[k];
}

/* partial: of g and g xhat.  Reads x and g_y. */
CUDA_INLINE void bn_bwd_sums(const struct bn f, const int W)
{
	__shared__ struct bn_parked own;
	struct place8 p = place8_of(f.at);
	struct bn_line l;
	float s1[8], s2[8], mean[8] = {0, 0, 0, 0, 0, 0, 0, 0}, x[8], g[8];

	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		s1[k] = s2[k] = 0;
	bn_lines(&f, p, W, &l, &own);
	if (p.first < p.end)
		load_f32(f.norm.saved + p.ch, W, 0, mean);
	park(own.last, mean);
	for (int64_t r = p.first; r < p.end; r += f.at.lanes) {
		bn_grad(&f, &l, &own, r, p.ch, W, x, g);
		take_last(&own, W, mean);
		CUDA_UNROLL
		for (int k = 0; k < W; k++) {
			s1[k] += g[k];
			s2[k] += g[k] * (x[k] - mean[k]);
		}
	}
	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		s2[k] *= p.ch < f.at.c ? f.norm.saved[f.at.c + p.ch + k] : 0.0f;
	put_lanes(f.at, W, s1, f.partial + 2 * p.part * f.at.c);
	put_lanes(f.at, W, s2, f.partial + (2 * p.part + 1) * f.at.c);
}
KERNEL_8_1(k_bn_bwd_sums, bn_bwd_sums, struct bn)

struct bn_ends {
	int64_t parts;
	const float *partial;
	double *sums; /* of this rank, for the others; or NULL */
	double rows;  /* 0: running statistics, which do not depend on x */
	float *g_gamma, *g_beta, *mean1, *mean2;
};

CUDA_INLINE void bn_means(const struct bn_ends *e, int64_t j, double s1, double s2)
{
	e->mean1[j] = e->rows > 0 ? (float)(s1 / e->rows) : 0.0f;
	e->mean2[j] = e->rows > 0 ? (float)(s2 / e->rows) : 0.0f;
}

CUDA_INLINE void bn_bwd_end(const struct bn_ends *e, int64_t j, double s1, double s2)
{
	if (e->g_gamma)
		e->g_gamma[j] += (float)s2;
	if (e->g_beta)
		e->g_beta[j] += (float)s1;
	if (e->sums) {
		e->sums[2 * j] = s1;
		e->sums[2 * j + 1] = s2;
	} else {
		bn_means(e, j, s1, s2);
	}
}

static __global__ void k_bn_bwd_ends(int64_t n, struct bn_ends e)
{
	int64_t j = end_col();
	double s1, s2;

	sum_parts(n, e.parts, e.partial, j, &s1, &s2);
	if (threadIdx.x < END_COLS && j < n)
		bn_bwd_end(&e, j, s1, s2);
}

/* The same from the gate's sums [images, 4, n]: g_y is sigmoid(s) times the gate's and g_mean / hw
 * of every pixel, constant over an image. */
static __global__ void k_bn_gate_ends(int64_t n, struct bn_ends e, struct bn v, const float *sums)
{
	int64_t j = end_col();
	double s1 = 0, s2 = 0;

	for (int64_t i = threadIdx.x / END_COLS; j < n && i < e.parts; i += END_LANES) {
		const float *at = sums + 4 * i * n + j;
		double gate = (double)wl_sigmoidf(act_load(v.gate, i * n + j));
		double mean = (double)act_load(v.g_mean, i * n + j) / (double)v.image_rows;

		s1 += gate * (double)at[0] + mean * (double)at[n];
		s2 += gate * (double)at[2 * n] + mean * (double)at[3 * n];
	}
	sum_lanes(&s1, &s2);
	if (threadIdx.x < END_COLS && j < n)
		bn_bwd_end(&e, j, s1, s2);
}

/* The same from sums [2, n]. */
static __global__ void k_bn_sums_ends(int64_t n, struct bn_ends e, const float *sums)
{
	EACH(j, n)
	bn_bwd_end(&e, j, (double)sums[j], (double)sums[n + j]);
}

static __global__ void k_norm_sums(int64_t n, int64_t parts, const float *partial, float *sums)
{
	int64_t j = end_col();
	double s1, s2;

	sum_parts(n, parts, partial, j, &s1, &s2);
	if (threadIdx.x >= END_COLS || j >= n)
		return;
	sums[j] = (float)s1;
	sums[n + j] = (float)s2;
}

size_t wl_cuda_norm_sums_scratch(int64_t ch, int64_t rows)
{
	return (size_t)(2 * rows8_of(1, rows, ch).chunks * ch) * sizeof(float);
}

void wl_cuda_norm_sums(struct cuda *c, struct cuda_act x, struct cuda_act g, struct cuda_norm norm,
	int64_t ch, int64_t rows, void *scratch, float *sums)
{
	struct bn v;

	memset(&v, 0, sizeof v);
	v.at = rows8_of(1, rows, ch);
	v.x = x;
	v.gy = g;
	v.norm = norm;
	v.image_rows = rows;
	v.partial = (float *)scratch;
	RUN_8_1(c, v.at, k_bn_bwd_sums, v);
	CUDA_BLOCKS(c, cuda_ceil_div(ch, END_COLS), k_norm_sums, ch, v.at.chunks, v.partial, sums);
}

static __global__ void k_bn_bwd_means(int64_t n, struct bn_ends e)
{
	EACH(j, n)
	bn_means(&e, j, e.sums[2 * j], e.sums[2 * j + 1]);
}

/* gx [+]= a (g - mean(g) - xhat mean(g xhat)) = a g + q x + r.  Reads x and g_y, writes g_x, which
 * may be g_y's memory: an element is read by the thread that writes it. */
CUDA_INLINE void bn_bwd_data(const struct bn f, const int W)
{
	__shared__ struct bn_parked own;
	struct place8 p = place8_of(f.at);
	struct bn_line l;
	float q[8], t[8] = {0, 0, 0, 0, 0, 0, 0, 0}, x[8], g[8], was[8];

	bn_lines(&f, p, W, &l, &own);
	CUDA_UNROLL
	for (int k = 0; k < W; k++) {
		q[k] = 0;
		if (p.first < p.end) {
			int64_t j = p.ch + k;
			float mean = f.norm.saved[j], rstd = f.norm.saved[f.at.c + j];

			q[k] = -l.a[k] * rstd * f.mean2[j];
			t[k] = -l.a[k] * (f.mean1[j] - mean * rstd * f.mean2[j]);
		}
	}
	park(own.last, t);
	for (int64_t r = p.first; r < p.end; r += f.at.lanes) {
		int64_t i = r * f.at.c + p.ch;

		bn_grad(&f, &l, &own, r, p.ch, W, x, g);
		if (f.acc)
			load_wide(f.y, i, W, was);
		take_last(&own, W, t);
		CUDA_UNROLL
		for (int k = 0; k < W; k++)
			g[k] = (f.acc ? was[k] : 0.0f) + l.a[k] * g[k] + q[k] * x[k] + t[k];
		store_wide(f.y, i, W, g);
	}
}
KERNEL_8_1(k_bn_bwd_data, bn_bwd_data, struct bn)

CUDA_RUN(wl_cuda_bn_bwd)
{
	struct bn v = bn_of(op, run);
	int64_t ch = v.at.c;
	struct bn_scratch s = bn_scratch_of(ch, run->scratch);
	bool shared = run->sum && !op->attr.use_running && op->out[0];
	struct bn_ends e = {v.at.images * v.at.chunks, s.partial, shared ? s.sums : NULL,
		op->attr.use_running ? 0.0 : all_rows(op, run), cuda_f32(op->out[1]),
		cuda_f32(op->out[2]), s.mean1, s.mean2};

	v.norm.saved = cuda_f32(op->in[3]);
	v.gy = cuda_act_of(op->in[4]);
	v.gate = cuda_act_of(op->in[5]);
	v.g_mean = cuda_act_of(op->in[6]);
	if (op->in[7] && !op->in[5]) {
		CUDA_EACH(c, ch, k_bn_sums_ends, e, cuda_f32(op->in[7]));
	} else if (op->in[7]) {
		e.parts = op->in[0]->shape.dim[0];
		CUDA_BLOCKS(c, cuda_ceil_div(ch, END_COLS), k_bn_gate_ends, ch, e, v,
			cuda_f32(op->in[7]));
	} else {
		RUN_8_1(c, v.at, k_bn_bwd_sums, v);
		CUDA_BLOCKS(c, cuda_ceil_div(ch, END_COLS), k_bn_bwd_ends, ch, e);
	}
	if (!op->out[0])
		return 0;
	if (shared) {
		WL_TRY(sum_ranks(c, run, s.sums, 2 * ch, err));
		CUDA_EACH(c, ch, k_bn_bwd_means, e);
	}
	RUN_8_1(c, v.at, k_bn_bwd_data, v);
	return 0;
}
