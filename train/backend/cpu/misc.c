/* Element-wise operations, copies and sums. */
#include "train/backend/cpu/cpu.h"

enum { BLOCK = 16384 };

/* for i in [at, end): body, over all elements of t, by blocks. */
#define EACH_BLOCK(c, n, body)                                                                     \
	CPU_FOR(c)                                                                                 \
	for (int64_t at = 0; at < (n); at += BLOCK) {                                              \
		int64_t end = cpu_min((n), at + BLOCK);                                            \
		body                                                                               \
	}

static int64_t count(const struct wl_tensor *t)
{
	return wl_shape_count(&t->shape);
}

void wl_cpu_add(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const float *a = cpu_f32(op->in[0]), *b = cpu_f32(op->in[1]);
	float *y = cpu_f32(op->out[0]);
	EACH_BLOCK(c, count(op->out[0]), {
		for (int64_t i = at; i < end; i++)
			y[i] = a[i] + b[i];
	})
}

void wl_cpu_scale(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const float *x = cpu_f32(op->in[0]);
	float *y = cpu_f32(op->out[0]), s = op->attr.scale;
	bool acc = cpu_acc(op, 0);
	EACH_BLOCK(c, count(op->out[0]), {
		for (int64_t i = at; i < end; i++)
			y[i] = (acc ? y[i] : 0.0f) + s * x[i];
	})
}

void wl_cpu_act(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const float *x = cpu_f32(op->in[0]);
	float *y = cpu_f32(op->out[0]);
	EACH_BLOCK(c, count(op->out[0]), {WL_ACT_SWITCH(op->attr.act, {
		_Pragma("omp simd") for (int64_t i = at; i < end; i++) y[i] =
			wl_act_value(ACT, x[i]);
	})})
}

void wl_cpu_act_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const float *x = cpu_f32(op->in[0]), *gy = cpu_f32(op->in[1]);
	float *gx = cpu_f32(op->out[0]);
	bool acc = cpu_acc(op, 0);
	EACH_BLOCK(c, count(op->out[0]), {WL_ACT_SWITCH(op->attr.act, {
		_Pragma("omp simd") for (int64_t i = at; i < end; i++) gx[i] =
			(acc ? gx[i] : 0.0f) + gy[i] * wl_act_grad(ACT, x[i]);
	})})
}

void wl_cpu_dropout(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	const float *x = cpu_f32(op->in[0]);
	float *y = cpu_f32(op->out[0]), p = op->attr.p;
	bool acc = cpu_acc(op, 0);
	struct wl_rng_key key = cpu_key(op, run);
	int64_t samples = op->out[0]->shape.dim[0], each = count(op->out[0]) / samples;
	if (run->world <= 1) { /* the blocks need not end where samples do */
		samples = 1;
		each = count(op->out[0]);
	}
	for (int64_t s = 0; s < samples; s++) {
		uint64_t shift = cpu_rng_index(run, s * each, each);
		const float *xs = x + s * each;
		float *ys = y + s * each;
		EACH_BLOCK(c, each, {
			_Pragma("omp simd") for (int64_t i = at; i < end; i++) ys[i] =
				(acc ? ys[i] : 0.0f) +
				xs[i] * wl_keep_scale(key, shift + (uint64_t)i, p);
		})
	}
}

void wl_cpu_fill(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	float *y = cpu_f32(op->out[0]), s = op->attr.scale;
	bool acc = cpu_acc(op, 0);
	EACH_BLOCK(c, count(op->out[0]), {
		for (int64_t i = at; i < end; i++)
			y[i] = (acc ? y[i] : 0.0f) + s;
	})
}

void wl_cpu_copy(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	const float *x = cpu_f32(op->in[0]);
	float *y = cpu_f32(op->out[0]);
	bool acc = cpu_acc(op, 0);
	EACH_BLOCK(c, count(op->out[0]), {
		for (int64_t i = at; i < end; i++)
			y[i] = (acc ? y[i] : 0.0f) + x[i];
	})
}

/* A tensor seen as [outer, n, inner] about an axis. */
struct split {
	int64_t outer, n, inner;
};

static struct split split_of(const struct wl_tensor *t, int axis)
{
	struct split s = {1, t->shape.dim[axis], 1};
	for (int i = 0; i < t->shape.rank; i++) {
		if (i < axis)
			s.outer *= t->shape.dim[i];
		if (i > axis)
			s.inner *= t->shape.dim[i];
	}
	return s;
}

void wl_cpu_slice(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	struct split s = split_of(op->in[0], op->attr.axis);
	int64_t len = op->attr.len * s.inner;
	bool acc = cpu_acc(op, 0);
	CPU_FOR(c)
	for (int64_t o = 0; o < s.outer; o++) {
		const float *restrict x = cpu_f32(op->in[0]) + (o * s.n + op->attr.begin) * s.inner;
		float *restrict y = cpu_f32(op->out[0]) + o * len;
		for (int64_t j = 0; j < len; j++)
			y[j] = (acc ? y[j] : 0.0f) + x[j];
	}
}

void wl_cpu_slice_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	struct split s = split_of(op->out[0], op->attr.axis);
	int64_t len = op->attr.len * s.inner, row = s.n * s.inner;
	bool acc = cpu_acc(op, 0);
	CPU_FOR(c)
	for (int64_t o = 0; o < s.outer; o++) {
		float *restrict gx = cpu_f32(op->out[0]) + o * row;
		const float *restrict gy = cpu_f32(op->in[0]) + o * len;
		if (!acc)
			memset(gx, 0, (size_t)row * sizeof(float));
		gx += op->attr.begin * s.inner;
		for (int64_t j = 0; j < len; j++)
			gx[j] += gy[j];
	}
}

void wl_cpu_concat(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	struct split a = split_of(op->in[0], op->attr.axis), b = split_of(op->in[1], op->attr.axis);
	int64_t la = a.n * a.inner, lb = b.n * b.inner;
	CPU_FOR(c)
	for (int64_t o = 0; o < a.outer; o++) {
		float *y = cpu_f32(op->out[0]) + o * (la + lb);
		memcpy(y, cpu_f32(op->in[0]) + o * la, (size_t)la * sizeof(float));
		memcpy(y + la, cpu_f32(op->in[1]) + o * lb, (size_t)lb * sizeof(float));
	}
}

size_t wl_cpu_dot_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	return (size_t)cpu_ceil_div(count(op->in[0]), BLOCK) * sizeof(double);
}

void wl_cpu_dot(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	const float *x = cpu_f32(op->in[0]), *y = cpu_f32(op->in[1]);
	double *partial = run->scratch, total = 0;
	int64_t n = count(op->in[0]);
	EACH_BLOCK(c, n, {
		double s = 0;
		for (int64_t i = at; i < end; i++)
			s += (double)x[i] * (double)y[i];
		partial[at / BLOCK] = s;
	})
	for (int64_t b = 0; b < cpu_ceil_div(n, BLOCK); b++)
		total += partial[b];
	*cpu_f32(op->out[0]) = (float)total;
}

void wl_cpu_dot_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	(void)run;
	float g = *cpu_f32(op->in[2]);
	for (int k = 0; k < 2; k++) {
		float *to = cpu_f32(op->out[k]);
		const float *other = cpu_f32(op->in[1 - k]);
		bool acc = cpu_acc(op, k);
		if (!to)
			continue;
		EACH_BLOCK(c, count(op->in[0]), {
			for (int64_t i = at; i < end; i++)
				to[i] = (acc ? to[i] : 0.0f) + g * other[i];
		})
	}
}
