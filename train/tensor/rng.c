#include "train/tensor/rng.h"

#include <math.h>

float wl_rng_normal(struct wl_rng_key key, uint64_t index)
{
	/* u in (0, 1], so that its logarithm is finite. */
	double u = ((double)wl_rng_u32(key, 2 * index) + 1.0) / 4294967296.0;
	double v = (double)wl_rng_u32(key, 2 * index + 1) / 4294967296.0;
	return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

float wl_rng_trunc_normal(struct wl_rng_key key, uint64_t index, float std)
{
	/* Redraws have their own keys; 4.6 % need one, so 16 leave a chance of 1e-21. */
	float x = 0;
	for (uint32_t draw = 0; draw < 16; draw++) {
		struct wl_rng_key k = {key.a + draw * 0x9e3779b9u, key.b ^ draw};
		x = wl_rng_normal(k, index);
		if (fabsf(x) <= 2.0f)
			return x * std;
	}
	return 0;
}

struct wl_rng_key wl_rng_key_name(uint64_t seed, const char *name)
{
	uint64_t h = 0xcbf29ce484222325u;
	for (const char *s = name; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3u;
	return wl_rng_key(seed, 0, h);
}
