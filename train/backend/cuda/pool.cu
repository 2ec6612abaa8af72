/*
 * Means over space or sequence, the squeeze-excite gate, RoI pooling.  The mean, the gate and its
 * gradient take batch norm before them on load (see cuda_norm), so that a squeeze-excite block
 * reads what the depthwise convolution wrote and writes what the next one reads, nothing between.
 */
#include "train/backend/cuda/image.h"

#include "train/backend/roi.h"

/* --- mean over an image, and the gate --- */

struct pool {
	struct rows8 at;
	struct cuda_act x, gy, y; /* [N,H,W,C] */
	struct cuda_act s;	  /* [N,C] */
	struct cuda_norm norm;	  /* of x */
	float *partial;		  /* [N, chunks, C] */
	bool acc;
};

/* Of the gate's backward: x g_y, and the four of WL_OP_CHANNEL_SCALE_BWD in backend.h. */
enum { GATE_SUMS = 5 };

static struct pool pool_of(const struct wl_tensor *x, const struct wl_run *run)
{
	const struct wl_shape *s = &x->shape;
	struct pool v;

	memset(&v, 0, sizeof v);
	v.at = rows8_of(s->dim[0], s->dim[1] * s->dim[2], s->dim[3]);
	v.partial = (float *)run->scratch;
	return v;
}

size_t wl_cuda_pool_scratch(const struct wl_op *op)
{
	const struct wl_shape *s = &op->in[0]->shape;
	struct rows8 v = rows8_of(s->dim[0], s->dim[1] * s->dim[2], s->dim[3]);

	return (size_t)(v.images * v.chunks * v.c) * sizeof(float) *
	       (op->kind == WL_OP_CHANNEL_SCALE_BWD && op->out[2] ? GATE_SUMS : 1);
}

CUDA_INLINE void normalise(
	enum wl_act act, const int W, const float a[8], const float b[8], float x[8])
{
	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		x[k] = x[k] * a[k] + b[k];
	norm_acts(act, W, x, x, NULL);
}

/* partial: sums of x, or of x g_y where that is there.  Reads each once. */
CUDA_INLINE void pool_sums(const struct pool f, const int W)
{
	struct place8 p = place8_of(f.at);
	float a[8], b[8], sum[8], x[8], g[8];

	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		sum[k] = 0;
	load_lines(f.norm, f.at.c, p.ch, W, a, b);
	for (int64_t r = p.first; r < p.end; r += f.at.lanes) {
		load_wide(f.x, r * f.at.c + p.ch, W, x);
		if (f.gy.p)
			load_wide(f.gy, r * f.at.c + p.ch, W, g);
		if (f.norm.gamma)
			normalise(f.norm.act, W, a, b, x);
		CUDA_UNROLL
		for (int k = 0; k < W; k++)
			sum[k] += f.gy.p ? x[k] * g[k] : x[k];
	}
	put_lanes(f.at, W, sum, f.partial + p.part * f.at.c);
}
KERNEL_8_1(k_pool_sums, pool_sums, struct pool)

/* y [+]= by * the sum over an image's chunks; with gates s, by * sigmoid'(s). */
static __global__ void k_pool_end(
	int64_t n, struct pool f, struct cuda_act s, float by, struct cuda_act y, bool acc)
{
	EACH(e, n)
	{
		const float *at = f.partial + e / f.at.c * f.at.chunks * f.at.c + e % f.at.c;
		double sum = 0;
		float v;

		for (int64_t k = 0; k < f.at.chunks; k++)
			sum += (double)at[k * f.at.c];
		v = (float)sum * by;
		if (s.p) {
			float gate = wl_sigmoidf(act_load(s, e));

			v *= gate * (1.0f - gate);
		}
		act_store(y, e, (acc ? act_load(y, e) : 0.0f) + v);
	}
}

/* A gate's gradient by s, and what batch norm's backward wants of the same reads. */
struct gate {
	struct pool f;
	struct cuda_act s, g_s;
	bool acc;
	float *sums; /* [N, GATE_SUMS - 1, C] */
};

CUDA_INLINE void gate_sums(const struct pool f, const int W)
{
	struct place8 p = place8_of(f.at);
	float a[8], b[8], mean[8], rstd[8], x[8], g[8], z[8], d[8];
	float sum[GATE_SUMS][8];

	CUDA_UNROLL
	for (int k = 0; k < W; k++) {
		CUDA_UNROLL
		for (int i = 0; i < GATE_SUMS; i++)
			sum[i][k] = 0;
		mean[k] = p.ch < f.at.c ? f.norm.saved[p.ch + k] : 0.0f;
	}
	load_lines(f.norm, f.at.c, p.ch, W, a, b);
	for (int64_t r = p.first; r < p.end; r += f.at.lanes) {
		load_wide(f.x, r * f.at.c + p.ch, W, x);
		load_wide(f.gy, r * f.at.c + p.ch, W, g);
		CUDA_UNROLL
		for (int k = 0; k < W; k++)
			z[k] = x[k] * a[k] + b[k];
		norm_acts(f.norm.act, W, z, z, d);
		CUDA_UNROLL
		for (int k = 0; k < W; k++) {
			sum[0][k] += g[k] * z[k];
			sum[1][k] += g[k] * d[k];
			sum[2][k] += d[k];
			sum[3][k] += g[k] * d[k] * (x[k] - mean[k]);
			sum[4][k] += d[k] * (x[k] - mean[k]);
		}
	}
	CUDA_UNROLL
	for (int k = 0; k < W; k++) {
		rstd[k] = p.ch < f.at.c ? f.norm.saved[f.at.c + p.ch + k] : 0.0f;
		sum[3][k] *= rstd[k];
		sum[4][k] *= rstd[k];
	}
	CUDA_UNROLL
	for (int i = 0; i < GATE_SUMS; i++)
		put_lanes(f.at, W, sum[i], f.partial + (GATE_SUMS * p.part + i) * f.at.c);
}

/* 128 registers a thread: 40 of them are sums. */
static __global__ void __launch_bounds__(CUDA_THREADS, 2) k_gate_sums_8(struct pool f)
{
	gate_sums(f, 8);
}

static __global__ void k_gate_sums_1(struct pool f)
{
	gate_sums(f, 1);
}

/* The sums over an image's chunks. */
static __global__ void k_gate_end(int64_t n, struct gate v)
{
	EACH(e, n)
	{
		int64_t c = v.f.at.c, image = e / c, ch = e % c;
		const float *at = v.f.partial + image * v.f.at.chunks * GATE_SUMS * c + ch;
		float gate = wl_sigmoidf(act_load(v.s, e));

		for (int i = 0; i < GATE_SUMS; i++) {
			double sum = 0;

			for (int64_t k = 0; k < v.f.at.chunks; k++)
				sum += (double)at[(k * GATE_SUMS + i) * c];
			if (i)
				v.sums[(image * (GATE_SUMS - 1) + i - 1) * c + ch] = (float)sum;
			else if (v.g_s.p)
				act_store(v.g_s, e, (v.acc ? act_load(v.g_s, e) : 0.0f) +
							    (float)sum * gate * (1.0f - gate));
		}
	}
}

size_t wl_cuda_mean_scratch(const struct rows8 *at)
{
	return (size_t)(at->images * at->chunks * at->c) * sizeof(float);
}

void wl_cuda_mean(struct cuda *c, struct cuda_act x, struct rows8 at, struct cuda_norm norm,
	struct cuda_act y, void *scratch)
{
	int64_t n = at.images * at.c;
	struct cuda_act none = {NULL, WL_F32};
	struct pool v;

	memset(&v, 0, sizeof v);
	v.at = at;
	v.x = x;
	v.norm = norm;
	v.partial = (float *)scratch;
	RUN_8_1(c, v.at, k_pool_sums, v);
	CUDA_EACH(c, n, k_pool_end, v, none, 1.0f / (float)v.at.rows, y, false);
}

CUDA_RUN(wl_cuda_mean_hw)
{
	(void)err;
	wl_cuda_mean(c, cuda_act_of(op->in[0]), pool_of(op->in[0], run).at, cuda_norm_of(op, 1),
		cuda_act_of(op->out[0]), run->scratch);
	return 0;
}

/* y [+]= g_y / hw of the image (x absent), or x sigmoid(s).  Reads x once, writes y. */
CUDA_INLINE void pool_spread(const struct pool f, const int W)
{
	struct place8 p = place8_of(f.at);
	float a[8], b[8], s[8], x[8] = {0}, was[8];

	if (p.first >= p.end)
		return;
	load_lines(f.norm, f.at.c, p.ch, W, a, b);
	load_wide(f.s, p.image * f.at.c + p.ch, W, s);
	CUDA_UNROLL
	for (int k = 0; k < W; k++)
		s[k] = f.x.p ? wl_sigmoidf(s[k]) : s[k] * (1.0f / (float)f.at.rows);
	for (int64_t r = p.first; r < p.end; r += f.at.lanes) {
		int64_t i = r * f.at.c + p.ch;

		if (f.x.p)
			load_wide(f.x, i, W, x);
		if (f.acc)
			load_wide(f.y, i, W, was);
		if (f.norm.gamma)
			normalise(f.norm.act, W, a, b, x);
		CUDA_UNROLL
		for (int k = 0; k < W; k++)
			x[k] = (f.acc ? was[k] : 0.0f) + (f.x.p ? x[k] * s[k] : s[k]);
		store_wide(f.y, i, W, x);
	}
}
KERNEL_8_1(k_pool_spread, pool_spread, struct pool)

CUDA_RUN(wl_cuda_mean_hw_bwd)
{
	(void)err;
	struct pool v = pool_of(op->out[0], run);

	v.s = cuda_act_of(op->in[0]);
	v.y = cuda_act_of(op->out[0]);
	v.acc = cuda_acc(op, 0);
	RUN_8_1(c, v.at, k_pool_spread, v);
	return 0;
}

CUDA_RUN(wl_cuda_channel_scale)
{
	(void)err;
	struct pool v = pool_of(op->in[0], run);

	v.x = cuda_act_of(op->in[0]);
	v.s = cuda_act_of(op->in[1]);
	v.norm = cuda_norm_of(op, 2);
	v.y = cuda_act_of(op->out[0]);
	RUN_8_1(c, v.at, k_pool_spread, v);
	return 0;
}

CUDA_RUN(wl_cuda_channel_scale_bwd)
{
	(void)err;
	struct pool v = pool_of(op->in[0], run);
	int64_t gates = v.at.images * v.at.c;

	/* The gates first: g_x may be the memory of g_y. */
	if (op->out[2]) {
		struct gate g;

		v.x = cuda_act_of(op->in[0]);
		v.norm = cuda_norm_of(op, 3);
		v.gy = cuda_act_of(op->in[2]);
		g.f = v;
		g.s = cuda_act_of(op->in[1]);
		g.g_s = cuda_act_of(op->out[1]);
		g.acc = cuda_acc(op, 1);
		g.sums = cuda_f32(op->out[2]);
		RUN_8_1(c, v.at, k_gate_sums, v);
		CUDA_EACH(c, gates, k_gate_end, g);
	} else if (op->out[1]) {
		v.x = cuda_act_of(op->in[0]);
		v.norm = cuda_norm_of(op, 3);
		v.gy = cuda_act_of(op->in[2]);
		RUN_8_1(c, v.at, k_pool_sums, v);
		CUDA_EACH(c, gates, k_pool_end, v, cuda_act_of(op->in[1]), 1.0f,
			cuda_act_of(op->out[1]), cuda_acc(op, 1));
	}
	if (op->out[0]) {
		memset(&v.norm, 0, sizeof v.norm);
		v.x = cuda_act_of(op->in[2]);
		v.s = cuda_act_of(op->in[1]);
		v.y = cuda_act_of(op->out[0]);
		v.acc = cuda_acc(op, 0);
		RUN_8_1(c, v.at, k_pool_spread, v);
	}
	return 0;
}

/* --- RoI pooling of FACTS section 2, as a sum over the map with weights wy[y] * wx[x] --- */

struct roi {
	int64_t n, h, w, c, regions;
	float sx, sy; /* feature pixels per input pixel */
	bool align;
};

static struct roi roi_of(
	const struct wl_op *op, const struct wl_tensor *map, const struct wl_tensor *boxes)
{
	struct roi r = {map->shape.dim[0], map->shape.dim[1], map->shape.dim[2],
		map->shape.dim[3], boxes->shape.dim[1], 0, 0, op->attr.align};
	r.sx = (float)r.w / op->attr.image_w;
	r.sy = (float)r.h / op->attr.image_h;
	return r;
}

/* The weight of pixel i on the axis of a side [lo, hi]. */
static __device__ inline float roi_weight(bool align, float lo, float hi, int64_t size, int64_t i)
{
	struct wl_roi_axis a = wl_roi_axis(align, lo, hi, size);
	float s = 0;
	for (int k = 0; k < a.n; k++)
		s += a.at[k] == i ? a.weight[k] : 0.0f;
	return s;
}

/* A thread a channel of a region. */
static __global__ void k_roi(
	int64_t n, struct roi v, struct cuda_act map, const float *boxes, struct cuda_act y)
{
	EACH(e, n)
	{
		int64_t i = e / v.c;
		const float *box = boxes + 4 * i;
		int64_t image = i / v.regions * v.h * v.w * v.c + e % v.c;
		struct wl_roi_axis ax = wl_roi_axis(v.align, box[0] * v.sx, box[2] * v.sx, v.w);
		struct wl_roi_axis ay = wl_roi_axis(v.align, box[1] * v.sy, box[3] * v.sy, v.h);
		float s = 0;
		for (int a = 0; a < ay.n; a++)
			for (int b = 0; b < ax.n; b++)
				s += ay.weight[a] * ax.weight[b] *
				     act_load(map,
					     image + (ay.at[a] * v.w + ax.at[b]) * v.c);
		act_store(y, e, s);
	}
}

CUDA_RUN(wl_cuda_roi)
{
	(void)run;
	(void)err;
	struct roi v = roi_of(op, op->in[0], op->in[1]);
	int64_t n = v.n * v.regions * v.c;
	CUDA_EACH(c, n, k_roi, v, cuda_act_of(op->in[0]), cuda_f32(op->in[1]),
		cuda_act_of(op->out[0]));
	return 0;
}

/* weights [n * regions, h + w]: of each row and column of the map. */
static __global__ void k_roi_weights(int64_t n, struct roi v, const float *boxes, float *weights)
{
	EACH(e, n)
	{
		int64_t i = e / (v.h + v.w), at = e % (v.h + v.w);
		const float *box = boxes + 4 * i;
		weights[e] =
			at < v.h ? roi_weight(v.align, box[1] * v.sy, box[3] * v.sy, v.h, at)
				 : roi_weight(v.align, box[0] * v.sx, box[2] * v.sx, v.w, at - v.h);
	}
}

static __global__ void k_roi_bwd(
	int64_t n, struct roi v, const float *weights, struct cuda_act gy, struct cuda_act gx,
	bool acc)
{
	EACH(e, n)
	{
		int64_t ch = e % v.c, x = e / v.c % v.w, y = e / (v.c * v.w) % v.h;
		int64_t first = e / (v.c * v.w * v.h) * v.regions;
		float s = 0;
		for (int64_t i = first; i < first + v.regions; i++) {
			float w = weights[i * (v.h + v.w) + y];
			if (w != 0)
				s += w * weights[i * (v.h + v.w) + v.h + x] *
				     act_load(gy, i * v.c + ch);
		}
		act_store(gx, e, (acc ? act_load(gx, e) : 0.0f) + s);
	}
}

size_t wl_cuda_roi_bwd_scratch(const struct wl_op *op)
{
	struct roi v = roi_of(op, op->out[0], op->in[0]);
	return (size_t)(v.n * v.regions * (v.h + v.w)) * sizeof(float);
}

CUDA_RUN(wl_cuda_roi_bwd)
{
	(void)err;
	struct roi v = roi_of(op, op->out[0], op->in[0]);
	int64_t sides = v.n * v.regions * (v.h + v.w), n = v.n * v.h * v.w * v.c;
	float *weights = (float *)run->scratch;
	CUDA_EACH(c, sides, k_roi_weights, v, cuda_f32(op->in[0]), weights);
	CUDA_EACH(c, n, k_roi_bwd, v, weights, cuda_act_of(op->in[1]),
		cuda_act_of(op->out[0]), cuda_acc(op, 0));
	return 0;
}

/* --- means over the rows of a sequence that count --- */

/* 1 / (number of rows that count), 0 for none. */
static __device__ inline float mask_share(const float *mask, int64_t len)
{
	float n = 0;
	for (int64_t i = 0; i < len; i++)
		n += !mask || mask[i] != 0 ? 1.0f : 0.0f;
	return n > 0 ? 1.0f / n : 0.0f;
}

static __global__ void k_masked_mean(
	int64_t n, struct cuda_act x, const float *mask, int64_t len, int64_t d, struct cuda_act y)
{
	EACH(e, n)
	{
		int64_t b = e / d;
		const float *keep = mask ? mask + b * len : NULL;
		float s = 0;
		for (int64_t i = 0; i < len; i++)
			if (!keep || keep[i] != 0)
				s += act_load(x, (b * len + i) * d + e % d);
		act_store(y, e, s * mask_share(keep, len));
	}
}

CUDA_RUN(wl_cuda_masked_mean)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->in[0]->shape;
	int64_t n = s->dim[0] * s->dim[2];
	CUDA_EACH(c, n, k_masked_mean, cuda_act_of(op->in[0]), cuda_f32(op->in[1]), s->dim[1],
		s->dim[2], cuda_act_of(op->out[0]));
	return 0;
}

static __global__ void k_masked_mean_bwd(int64_t n, const float *mask, struct cuda_act gy,
	int64_t len, int64_t d, struct cuda_act gx, bool acc)
{
	EACH(e, n)
	{
		int64_t b = e / (d * len), i = e / d % len;
		const float *keep = mask ? mask + b * len : NULL;
		float w = keep && keep[i] == 0 ? 0.0f : mask_share(keep, len);
		act_store(gx, e,
			(acc ? act_load(gx, e) : 0.0f) + w * act_load(gy, b * d + e % d));
	}
}

CUDA_RUN(wl_cuda_masked_mean_bwd)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->out[0]->shape;
	int64_t n = wl_shape_count(s);
	CUDA_EACH(c, n, k_masked_mean_bwd, cuda_f32(op->in[0]), cuda_act_of(op->in[1]), s->dim[1],
		s->dim[2], cuda_act_of(op->out[0]), cuda_acc(op, 0));
	return 0;
}
