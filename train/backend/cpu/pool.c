/* RoI pooling, means over a sequence. */
#include "train/backend/cpu/cpu.h"
#include "train/backend/roi.h"

struct roi {
	bool align;
	int64_t n, h, w, c, regions;
	float sx, sy; /* feature pixels per input pixel */
};

static struct roi roi_of(
	const struct wl_op *op, const struct wl_tensor *map, const struct wl_tensor *boxes)
{
	struct roi r = {op->attr.align, map->shape.dim[0], map->shape.dim[1], map->shape.dim[2],
		map->shape.dim[3],
		boxes->shape.dim[1], 0, 0};
	r.sx = (float)r.w / op->attr.image_w;
	r.sy = (float)r.h / op->attr.image_h;
	return r;
}

void wl_cpu_roi(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	struct roi v = roi_of(op, op->in[0], op->in[1]);
	CPU_FOR(c)
	for (int64_t i = 0; i < v.n * v.regions; i++) {
		const float *box = cpu_f32(op->in[1]) + 4 * i;
		const float *map = cpu_f32(op->in[0]) + i / v.regions * v.h * v.w * v.c;
		float *restrict y = cpu_f32(op->out[0]) + i * v.c;
		struct wl_roi_axis ax = wl_roi_axis(v.align, box[0] * v.sx, box[2] * v.sx, v.w);
		struct wl_roi_axis ay = wl_roi_axis(v.align, box[1] * v.sy, box[3] * v.sy, v.h);
		memset(y, 0, (size_t)v.c * sizeof(float));
		for (int a = 0; a < ay.n; a++)
			for (int b = 0; b < ax.n; b++) {
				const float *restrict x = map + (ay.at[a] * v.w + ax.at[b]) * v.c;
				float w = ay.weight[a] * ax.weight[b];
#pragma omp simd
				for (int64_t j = 0; j < v.c; j++)
					y[j] += w * x[j];
			}
	}
}

void wl_cpu_roi_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	struct roi v = roi_of(op, op->out[0], op->in[0]);
	bool acc = cpu_acc(op, 0);
	CPU_FOR(c)
	for (int64_t n = 0; n < v.n; n++) {
		float *map = cpu_f32(op->out[0]) + n * v.h * v.w * v.c;
		if (!acc)
			memset(map, 0, (size_t)(v.h * v.w * v.c) * sizeof(float));
		for (int64_t i = n * v.regions; i < (n + 1) * v.regions; i++) {
			const float *box = cpu_f32(op->in[0]) + 4 * i;
			const float *restrict gy = cpu_f32(op->in[1]) + i * v.c;
			struct wl_roi_axis ax =
				wl_roi_axis(v.align, box[0] * v.sx, box[2] * v.sx, v.w);
			struct wl_roi_axis ay =
				wl_roi_axis(v.align, box[1] * v.sy, box[3] * v.sy, v.h);
			for (int a = 0; a < ay.n; a++)
				for (int b = 0; b < ax.n; b++) {
					float *restrict gx =
						map + (ay.at[a] * v.w + ax.at[b]) * v.c;
					float w = ay.weight[a] * ax.weight[b];
#pragma omp simd
					for (int64_t j = 0; j < v.c; j++)
						gx[j] += w * gy[j];
				}
		}
	}
}

/* 1 / (number of rows that count), 0 for none. */
static float mask_share(const float *mask, int64_t s)
{
	if (!mask)
		return 1.0f / (float)s;
	float n = 0;
	for (int64_t i = 0; i < s; i++)
		n += mask[i] != 0 ? 1.0f : 0.0f;
	return n > 0 ? 1.0f / n : 0.0f;
}

void wl_cpu_masked_mean(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const struct wl_shape *s = &op->in[0]->shape;
	int64_t len = s->dim[1], d = s->dim[2];
	CPU_FOR(c)
	for (int64_t b = 0; b < s->dim[0]; b++) {
		const float *mask = op->in[1] ? cpu_f32(op->in[1]) + b * len : NULL;
		float *restrict y = cpu_f32(op->out[0]) + b * d, share = mask_share(mask, len);
		memset(y, 0, (size_t)d * sizeof(float));
		for (int64_t i = 0; i < len; i++) {
			const float *restrict x = cpu_f32(op->in[0]) + (b * len + i) * d;
			if (mask && mask[i] == 0)
				continue;
#pragma omp simd
			for (int64_t j = 0; j < d; j++)
				y[j] += x[j];
		}
		for (int64_t j = 0; j < d; j++)
			y[j] *= share;
	}
}

void wl_cpu_masked_mean_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const struct wl_shape *s = &op->out[0]->shape;
	int64_t len = s->dim[1], d = s->dim[2];
	bool acc = cpu_acc(op, 0);
	CPU_FOR(c)
	for (int64_t b = 0; b < s->dim[0]; b++) {
		const float *mask = op->in[0] ? cpu_f32(op->in[0]) + b * len : NULL;
		const float *restrict gy = cpu_f32(op->in[1]) + b * d;
		float share = mask_share(mask, len);
		for (int64_t i = 0; i < len; i++) {
			float *restrict gx = cpu_f32(op->out[0]) + (b * len + i) * d;
			float w = mask && mask[i] == 0 ? 0 : share;
			for (int64_t j = 0; j < d; j++)
				gx[j] = (acc ? gx[j] : 0.0f) + w * gy[j];
		}
	}
}
