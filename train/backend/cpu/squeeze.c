/*
 * Squeeze-excite: the mean over space, the gate, and both backward.  Where x is a batch norm's
 * result that nobody else reads, it is never written: each of the three that read it computes it
 * again from the norm's input, a row of GROUP channels at a time, which stays in the first-level
 * cache.
 */
#include "train/backend/cpu/cpu.h"

/* Channels are taken in groups, whose gates stay on the stack. */
enum { GROUP = 256 };

/* The part of an [N,H,W,C] tensor that one piece of work has: the channels of a group of one
 * picture.  Sums of a channel are over one picture, so any cut gives the same. */
struct part {
	int64_t hw, ch, n, c0, w;
};

static struct part part_of(const struct wl_shape *s, int64_t piece)
{
	int64_t groups = cpu_ceil_div(s->dim[3], GROUP), c0 = piece % groups * GROUP;
	return (struct part){s->dim[1] * s->dim[2], s->dim[3], piece / groups, c0,
		cpu_min(GROUP, s->dim[3] - c0)};
}

static int64_t parts_of(const struct wl_shape *s)
{
	return s->dim[0] * cpu_ceil_div(s->dim[3], GROUP);
}

/* Reads x, a group of channels of a row at a time. */
struct reader {
	const float *x;
	bool norm;
	enum wl_act act;
	float a[GROUP], b[GROUP], value[GROUP];
};

static void reader_init(struct reader *r, const struct wl_op *op, int slot, const struct part *p)
{
	r->x = cpu_f32(op->in[0]) + p->n * p->hw * p->ch + p->c0;
	r->norm = op->in[slot] != NULL;
	r->act = op->attr.act;
	if (r->norm)
		wl_cpu_norm_factors(op, slot, p->c0, p->w, r->a, r->b);
}

static inline const float *reader_row(struct reader *r, const struct part *p, int64_t row)
{
	const float *x = r->x + row * p->ch;
	if (!r->norm)
		return x;
	wl_cpu_norm_row(r->act, p->w, x, r->a, r->b, r->value);
	return r->value;
}

void wl_cpu_mean_hw(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const struct wl_shape *s = &op->in[0]->shape;
	CPU_FOR(c)
	for (int64_t t = 0; t < parts_of(s); t++) {
		struct part p = part_of(s, t);
		struct reader in;
		float sum[GROUP] = {0}, *y = cpu_f32(op->out[0]) + p.n * p.ch + p.c0;
		reader_init(&in, op, 1, &p);
		for (int64_t r = 0; r < p.hw; r++) {
			const float *row = reader_row(&in, &p, r);
#pragma omp simd
			for (int64_t j = 0; j < p.w; j++)
				sum[j] += row[j];
		}
		for (int64_t j = 0; j < p.w; j++)
			y[j] = sum[j] / (float)p.hw;
	}
}

void wl_cpu_mean_hw_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const struct wl_shape *s = &op->out[0]->shape;
	int64_t hw = s->dim[1] * s->dim[2], ch = s->dim[3];
	bool acc = cpu_acc(op, 0);
	float by = 1.0f / (float)hw;
	CPU_FOR(c)
	for (int64_t r = 0; r < s->dim[0] * hw; r++) {
		const float *restrict gy = cpu_f32(op->in[0]) + r / hw * ch;
		float *restrict gx = cpu_f32(op->out[0]) + r * ch;
		if (acc) {
#pragma omp simd
			for (int64_t j = 0; j < ch; j++)
				gx[j] += gy[j] * by;
		} else {
#pragma omp simd
			for (int64_t j = 0; j < ch; j++)
				gx[j] = gy[j] * by;
		}
	}
}

static void gates(const struct wl_op *op, const struct part *p, float *restrict gate)
{
	const float *restrict from = cpu_f32(op->in[1]) + p->n * p->ch + p->c0;
#pragma omp simd
	for (int64_t j = 0; j < p->w; j++)
		gate[j] = wl_sigmoidf(from[j]);
}

void wl_cpu_channel_scale(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const struct wl_shape *s = &op->in[0]->shape;
	CPU_FOR(c)
	for (int64_t t = 0; t < parts_of(s); t++) {
		struct part p = part_of(s, t);
		struct reader in;
		float gate[GROUP];
		reader_init(&in, op, 2, &p);
		gates(op, &p, gate);
		for (int64_t r = 0; r < p.hw; r++) {
			const float *restrict x = reader_row(&in, &p, r);
			float *restrict y =
				cpu_f32(op->out[0]) + (p.n * p.hw + r) * p.ch + p.c0;
#pragma omp simd
			for (int64_t j = 0; j < p.w; j++)
				y[j] = x[j] * gate[j];
		}
	}
}

/* The gradient by a row of x. */
static inline void gate_back(int64_t n, const float *gy, const float *restrict gate, float *gx,
	bool acc)
{
	if (acc) {
#pragma omp simd
		for (int64_t j = 0; j < n; j++)
			gx[j] += gy[j] * gate[j];
	} else {
#pragma omp simd
		for (int64_t j = 0; j < n; j++)
			gx[j] = gy[j] * gate[j];
	}
}

void wl_cpu_channel_scale_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const struct wl_shape *s = &op->in[0]->shape;
	float *out_x = cpu_f32(op->out[0]), *out_s = cpu_f32(op->out[1]);
	bool acc_x = cpu_acc(op, 0), acc_s = cpu_acc(op, 1);
	CPU_FOR(c)
	for (int64_t t = 0; t < parts_of(s); t++) {
		struct part p = part_of(s, t);
		struct reader in;
		float gate[GROUP], sum[GROUP] = {0};
		reader_init(&in, op, 3, &p);
		gates(op, &p, gate);
		for (int64_t r = 0; r < p.hw; r++) {
			int64_t at = (p.n * p.hw + r) * p.ch + p.c0;
			const float *x = reader_row(&in, &p, r);
			const float *gy = cpu_f32(op->in[2]) + at;
#pragma omp simd
			for (int64_t j = 0; j < p.w; j++)
				sum[j] += gy[j] * x[j];
			if (out_x)
				gate_back(p.w, gy, gate, out_x + at, acc_x);
		}
		for (int64_t j = 0; out_s && j < p.w; j++) {
			float *to = out_s + p.n * p.ch + p.c0 + j;
			*to = (acc_s ? *to : 0.0f) + sum[j] * gate[j] * (1.0f - gate[j]);
		}
	}
}
