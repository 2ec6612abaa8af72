/* Means over space or sequence, the squeeze-excite gate, RoI pooling. */
#include "train/backend/cuda/cuda.h"

#include "train/backend/roi.h"

/* A thread a channel of an image: neighbours read neighbouring channels. */
static __global__ void k_mean_hw(int64_t n, const float *x, int64_t hw, int64_t ch, float *y)
{
	EACH(e, n)
	{
		const float *at = x + e / ch * hw * ch + e % ch;
		float s = 0;
		for (int64_t r = 0; r < hw; r++)
			s += at[r * ch];
		y[e] = s / (float)hw;
	}
}

CUDA_RUN(wl_cuda_mean_hw)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->in[0]->shape;
	int64_t n = s->dim[0] * s->dim[3];
	CUDA_EACH(c, n, k_mean_hw, cuda_f32(op->in[0]), s->dim[1] * s->dim[2], s->dim[3],
		cuda_f32(op->out[0]));
	return 0;
}

static __global__ void k_mean_hw_bwd(
	int64_t n, const float *gy, int64_t hw, int64_t ch, float *gx, bool acc)
{
	EACH(e, n)
	gx[e] = old(gx, e, acc) + gy[e / (hw * ch) * ch + e % ch] * (1.0f / (float)hw);
}

CUDA_RUN(wl_cuda_mean_hw_bwd)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->out[0]->shape;
	int64_t n = wl_shape_count(s);
	CUDA_EACH(c, n, k_mean_hw_bwd, cuda_f32(op->in[0]), s->dim[1] * s->dim[2], s->dim[3],
		cuda_f32(op->out[0]), cuda_acc(op, 0));
	return 0;
}

/* y [+]= x * sigmoid(s) */
static __global__ void k_gate(
	int64_t n, const float *x, const float *s, int64_t hw, int64_t ch, float *y, bool acc)
{
	EACH(e, n)
	y[e] = old(y, e, acc) + x[e] * wl_sigmoidf(s[e / (hw * ch) * ch + e % ch]);
}

CUDA_RUN(wl_cuda_channel_scale)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->in[0]->shape;
	int64_t n = wl_shape_count(s);
	CUDA_EACH(c, n, k_gate, cuda_f32(op->in[0]), cuda_f32(op->in[1]), s->dim[1] * s->dim[2],
		s->dim[3], cuda_f32(op->out[0]), false);
	return 0;
}

static __global__ void k_gate_bwd(int64_t n, const float *x, const float *s, const float *gy,
	int64_t hw, int64_t ch, float *gs, bool acc)
{
	EACH(e, n)
	{
		int64_t at = e / ch * hw * ch + e % ch;
		float gate = wl_sigmoidf(s[e]), sum = 0;
		for (int64_t r = 0; r < hw; r++)
			sum += gy[at + r * ch] * x[at + r * ch];
		gs[e] = old(gs, e, acc) + sum * gate * (1.0f - gate);
	}
}

CUDA_RUN(wl_cuda_channel_scale_bwd)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->in[0]->shape;
	int64_t hw = s->dim[1] * s->dim[2], ch = s->dim[3], n = wl_shape_count(s);
	int64_t gates = s->dim[0] * ch;
	/* The gates first: g_x may be the memory of g_y. */
	if (op->out[1])
		CUDA_EACH(c, gates, k_gate_bwd, cuda_f32(op->in[0]), cuda_f32(op->in[1]),
			cuda_f32(op->in[2]), hw, ch, cuda_f32(op->out[1]), cuda_acc(op, 1));
	if (op->out[0])
		CUDA_EACH(c, n, k_gate, cuda_f32(op->in[2]), cuda_f32(op->in[1]), hw, ch,
			cuda_f32(op->out[0]), cuda_acc(op, 0));
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
	int64_t n, struct roi v, const float *map, const float *boxes, float *y)
{
	EACH(e, n)
	{
		int64_t i = e / v.c;
		const float *box = boxes + 4 * i;
		const float *x = map + i / v.regions * v.h * v.w * v.c + e % v.c;
		struct wl_roi_axis ax = wl_roi_axis(v.align, box[0] * v.sx, box[2] * v.sx, v.w);
		struct wl_roi_axis ay = wl_roi_axis(v.align, box[1] * v.sy, box[3] * v.sy, v.h);
		float s = 0;
		for (int a = 0; a < ay.n; a++)
			for (int b = 0; b < ax.n; b++)
				s += ay.weight[a] * ax.weight[b] *
				     x[(ay.at[a] * v.w + ax.at[b]) * v.c];
		y[e] = s;
	}
}

CUDA_RUN(wl_cuda_roi)
{
	(void)run;
	(void)err;
	struct roi v = roi_of(op, op->in[0], op->in[1]);
	int64_t n = v.n * v.regions * v.c;
	CUDA_EACH(c, n, k_roi, v, cuda_f32(op->in[0]), cuda_f32(op->in[1]), cuda_f32(op->out[0]));
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
	int64_t n, struct roi v, const float *weights, const float *gy, float *gx, bool acc)
{
	EACH(e, n)
	{
		int64_t ch = e % v.c, x = e / v.c % v.w, y = e / (v.c * v.w) % v.h;
		int64_t first = e / (v.c * v.w * v.h) * v.regions;
		float s = 0;
		for (int64_t i = first; i < first + v.regions; i++) {
			float w = weights[i * (v.h + v.w) + y];
			if (w != 0)
				s += w * weights[i * (v.h + v.w) + v.h + x] * gy[i * v.c + ch];
		}
		gx[e] = old(gx, e, acc) + s;
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
	CUDA_EACH(c, n, k_roi_bwd, v, weights, cuda_f32(op->in[1]), cuda_f32(op->out[0]),
		cuda_acc(op, 0));
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
	int64_t n, const float *x, const float *mask, int64_t len, int64_t d, float *y)
{
	EACH(e, n)
	{
		int64_t b = e / d;
		const float *keep = mask ? mask + b * len : NULL;
		float s = 0;
		for (int64_t i = 0; i < len; i++)
			if (!keep || keep[i] != 0)
				s += x[(b * len + i) * d + e % d];
		y[e] = s * mask_share(keep, len);
	}
}

CUDA_RUN(wl_cuda_masked_mean)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->in[0]->shape;
	int64_t n = s->dim[0] * s->dim[2];
	CUDA_EACH(c, n, k_masked_mean, cuda_f32(op->in[0]), cuda_f32(op->in[1]), s->dim[1],
		s->dim[2], cuda_f32(op->out[0]));
	return 0;
}

static __global__ void k_masked_mean_bwd(int64_t n, const float *mask, const float *gy, int64_t len,
	int64_t d, float *gx, bool acc)
{
	EACH(e, n)
	{
		int64_t b = e / (d * len), i = e / d % len;
		const float *keep = mask ? mask + b * len : NULL;
		float w = keep && keep[i] == 0 ? 0.0f : mask_share(keep, len);
		gx[e] = old(gx, e, acc) + w * gy[b * d + e % d];
	}
}

CUDA_RUN(wl_cuda_masked_mean_bwd)
{
	(void)run;
	(void)err;
	const struct wl_shape *s = &op->out[0]->shape;
	int64_t n = wl_shape_count(s);
	CUDA_EACH(c, n, k_masked_mean_bwd, cuda_f32(op->in[0]), cuda_f32(op->in[1]), s->dim[1],
		s->dim[2], cuda_f32(op->out[0]), cuda_acc(op, 0));
	return 0;
}
