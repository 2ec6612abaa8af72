/* Updates of flat parameter memory. */
#include "train/backend/cpu/cpu.h"

enum { BLOCK = 16384, ROUND = 1024 /* blocks */, STRETCHES = 8, SUMS = 16 };

/* Elements [from, end) with f32 moments. */
static void adamw_f32(float *restrict w, const float *restrict grad, float *restrict m,
	float *restrict v, int64_t from, int64_t end, const struct wl_adamw *how, float step,
	float root, float decay)
{
	float b1 = how->beta1, b2 = how->beta2, eps = how->eps;
#pragma omp simd
	for (int64_t j = from; j < end; j++)
		w[j] = wl_adamw_one(w[j], grad[j] * how->grad_scale, &m[j], &v[j], b1, b2, eps,
			step, root, decay);
}

/* The same with bf16 moments: the update uses them unrounded. */
static void adamw_bf16(float *restrict w, const float *restrict grad, uint16_t *restrict m,
	uint16_t *restrict v, int64_t from, int64_t end, const struct wl_adamw *how, float step,
	float root, float decay)
{
	float b1 = how->beta1, b2 = how->beta2, eps = how->eps, scale = how->grad_scale;
	struct wl_rng_key key = wl_rng_key(how->seed, (uint64_t)how->step, 0);
#pragma omp simd
	for (int64_t j = from; j < end; j++) {
		uint32_t random = wl_rng_u32(key, (uint64_t)j);
		float mj = wl_bf16_value(m[j]), vj = wl_bf16_value(v[j]);
		w[j] = wl_adamw_one(
			w[j], grad[j] * scale, &mj, &vj, b1, b2, eps, step, root, decay);
		m[j] = wl_bf16_round(mj, random);
		v[j] = wl_bf16_round(vj, random >> 16);
	}
}

static void ema(float *restrict k, const float *restrict q, int64_t from, int64_t end,
	float momentum, float rest)
{
#pragma omp simd
	for (int64_t j = from; j < end; j++)
		k[j] = momentum * k[j] + rest * q[j];
}

/* To the nearest bf16, ties to even. */
static void halve(const float *restrict x, uint16_t *restrict to, int64_t from, int64_t end)
{
#pragma omp simd
	for (int64_t j = from; j < end; j++)
		to[j] = wl_bf16_nearest(x[j]);
}

/* One range's share of an update. */
struct share {
	float step, root, decay;
};

/* Elements [at, end), which stay in the cache between the passes over them. */
static void adamw_block(float *w, const float *grad, void *m, void *v, int64_t at, int64_t end,
	const struct wl_adamw *how, const struct share *s)
{
	if (how->state == WL_BF16)
		adamw_bf16(w, grad, m, v, at, end, how, s->step, s->root, s->decay);
	else
		adamw_f32(w, grad, m, v, at, end, how, s->step, s->root, s->decay);
	if (how->w_half)
		halve(w, how->w_half, at, end);
	if (how->k)
		ema(how->k, w, at, end, how->momentum, 1.0f - how->momentum);
	if (how->k && how->k_half)
		halve(how->k, how->k_half, at, end);
}

void wl_cpu_adamw(struct wl_backend *be, float *w, const float *grad, void *m, void *v,
	const struct wl_adamw_range *ranges, int n_ranges, const struct wl_adamw *how)
{
	struct cpu *c = be->impl;
	double c1 = 1.0 - pow((double)how->beta1, (double)how->step);
	double c2 = 1.0 - pow((double)how->beta2, (double)how->step);
	struct share s = {.root = (float)sqrt(c2)};

	for (int i = 0; i < n_ranges; i++) {
		const struct wl_adamw_range *r = &ranges[i];
		s.step = (float)((double)r->lr / c1);
		s.decay = 1.0f - r->lr * r->weight_decay;
		CPU_FOR(c)
		for (int64_t at = r->begin; at < r->end; at += BLOCK)
			adamw_block(w, grad, m, v, at, cpu_min(r->end, at + BLOCK), how, &s);
	}
}

void wl_cpu_ema(struct wl_backend *be, float *k, const float *q, int64_t n, float momentum)
{
	struct cpu *c = be->impl;
	CPU_FOR(c)
	for (int64_t at = 0; at < n; at += BLOCK)
		ema(k, q, at, cpu_min(n, at + BLOCK), momentum, 1.0f - momentum);
}

/* Several stretches side by side, each with sums of its own: an addition need not wait for the one
 * before it, and memory is fetched from as many pages at once. */
static double squares(const float *x, int64_t n)
{
	double s[STRETCHES][SUMS] = {{0}}, total = 0;
	const int64_t each = n / STRETCHES / SUMS * SUMS;
	for (int64_t j = 0; j < each; j += SUMS)
#pragma GCC unroll 8
		for (int k = 0; k < STRETCHES; k++) {
			const float *v = x + k * each + j;
#pragma omp simd
			for (int l = 0; l < SUMS; l++)
				s[k][l] += (double)v[l] * (double)v[l];
		}
	for (int64_t j = STRETCHES * each; j < n; j++)
		s[0][0] += (double)x[j] * (double)x[j];
	for (int k = 0; k < STRETCHES; k++)
		for (int l = 0; l < SUMS; l++)
			total += s[k][l];
	return total;
}

double wl_cpu_sum_squares(struct wl_backend *be, const float *x, int64_t n)
{
	struct cpu *c = be->impl;
	/* Rounds of blocks, so that partial sums fit on the stack for any n. */
	double total = 0;
	for (int64_t from = 0; from < n; from += ROUND * BLOCK) {
		double partial[ROUND];
		int64_t blocks = cpu_min(ROUND, cpu_ceil_div(n - from, BLOCK));
		CPU_FOR(c)
		for (int64_t b = 0; b < blocks; b++) {
			int64_t at = from + b * BLOCK, end = cpu_min(n, at + BLOCK);
			partial[b] = squares(x + at, end - at);
		}
		for (int64_t b = 0; b < blocks; b++)
			total += partial[b];
	}
	return total;
}

void wl_cpu_squares(struct wl_backend *be, const float *x, int64_t n, int64_t step, int64_t rows,
	double *to, bool add)
{
	double sum = add ? *to : 0;

	for (int64_t r = 0; r < rows; r++)
		sum += wl_cpu_sum_squares(be, x + r * step, n);
	*to = sum;
}
