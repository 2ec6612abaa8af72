/* The optimiser's passes over flat memory. */
#include "train/backend/cuda/cuda.h"

struct adamw_one {
	float beta1, beta2, eps, grad_scale, step, root, decay;
};

static __global__ void k_adamw(
	int64_t n, float *w, const float *grad, float *m, float *v, struct adamw_one how)
{
	EACH(i, n)
	w[i] = wl_adamw_one(w[i], grad[i] * how.grad_scale, &m[i], &v[i], how.beta1, how.beta2,
		how.eps, how.step, how.root, how.decay);
}

/* bf16 moments, rounded up with the probability of what is cut off; `at`: the first element's
 * number in the store. */
static __global__ void k_adamw_bf16(int64_t n, float *w, const float *grad, uint16_t *m,
	uint16_t *v, struct adamw_one how, struct wl_rng_key key, int64_t at)
{
	EACH(i, n)
	{
		uint32_t random = wl_rng_u32(key, (uint64_t)(at + i));
		float mi = wl_bf16_value(m[i]), vi = wl_bf16_value(v[i]);
		w[i] = wl_adamw_one(w[i], grad[i] * how.grad_scale, &mi, &vi, how.beta1, how.beta2,
			how.eps, how.step, how.root, how.decay);
		m[i] = wl_bf16_round(mi, random);
		v[i] = wl_bf16_round(vi, random >> 16);
	}
}

void wl_cuda_adamw(struct wl_backend *be, float *w, const float *grad, void *m, void *v,
	const struct wl_adamw_range *ranges, int n_ranges, const struct wl_adamw *how)
{
	struct cuda *c = (struct cuda *)be->impl;
	double c1 = 1.0 - pow((double)how->beta1, (double)how->step);
	double c2 = 1.0 - pow((double)how->beta2, (double)how->step);
	struct wl_rng_key key = wl_rng_key(how->seed, (uint64_t)how->step, 0);
	for (int i = 0; i < n_ranges; i++) {
		const struct wl_adamw_range *r = &ranges[i];
		struct adamw_one one = {how->beta1, how->beta2, how->eps, how->grad_scale,
			(float)((double)r->lr / c1), (float)sqrt(c2),
			1.0f - r->lr * r->weight_decay};
		int64_t at = r->begin, n = r->end - r->begin;
		if (n > 0 && how->state == WL_BF16)
			CUDA_EACH(c, n, k_adamw_bf16, w + at, grad + at, (uint16_t *)m + at,
				(uint16_t *)v + at, one, key, at);
		else if (n > 0)
			CUDA_EACH(c, n, k_adamw, w + at, grad + at, (float *)m + at,
				(float *)v + at, one);
		wl_cuda_touched(c, w + at, n > 0 ? (size_t)n * sizeof *w : 0);
	}
}

static __global__ void k_ema(int64_t n, float *k, const float *q, float momentum, float rest)
{
	EACH(i, n)
	k[i] = momentum * k[i] + rest * q[i];
}

void wl_cuda_ema(struct wl_backend *be, float *k, const float *q, int64_t n, float momentum)
{
	struct cuda *c = (struct cuda *)be->impl;
	CUDA_EACH(c, n, k_ema, k, q, momentum, 1.0f - momentum);
	wl_cuda_touched(c, k, (size_t)n * sizeof *k);
}
