/* Values made from names: see fill.h. */
#include "tests/support/fill.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t fnv1a(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3u;
	return h;
}

/* splitmix64's output function at key + i, 24 bits of it. */
static uint32_t bits(uint64_t key, int64_t i)
{
	uint64_t x = key + (uint64_t)i;

	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return (uint32_t)((x ^ (x >> 31)) >> 40);
}

void fill_values(const char *name, int64_t n, float *out)
{
	uint64_t key = fnv1a(name);

	for (int64_t i = 0; i < n; i++)
		out[i] = (float)((double)bits(key, i) * 0x1p-23 - 1.0);
}

void fill_tokens(const char *name, int64_t n, int32_t vocab, int32_t *out)
{
	uint64_t key = fnv1a(name);

	for (int64_t i = 0; i < n; i++)
		out[i] = (int32_t)(bits(key, i) % (uint32_t)vocab);
}

static int ends(const char *s, const char *tail)
{
	size_t n = strlen(s), k = strlen(tail);

	return n >= k && !strcmp(s + n - k, tail);
}

void fill_weight(const char *name, const struct wl_shape *s, float *out)
{
	int64_t n = wl_shape_count(s);

	fill_values(name, n, out);
	if (s->rank > 1) {
		float scale = (float)(1.5 * sqrt(3.0 / (double)(n / s->dim[0])));

		for (int64_t i = 0; i < n; i++)
			out[i] *= scale;
		return;
	}
	for (int64_t i = 0; i < n; i++)
		out[i] = ends(name, "running_var") ? 1 + 0.5f * out[i] :
			 ends(name, "weight")      ? 1 + 0.1f * out[i] :
						     0.1f * out[i];
}

void fill_params(struct wl_params *p)
{
	for (int i = 0; i < p->n; i++) {
		float *v = malloc((size_t)p->item[i].count * sizeof *v);

		fill_weight(p->item[i].name, &p->item[i].torch_shape, v);
		wl_param_from_torch(p, i, v);
		free(v);
	}
}

void fill_probe(const char *name, int64_t n, const float *x, double *norm, double *dot)
{
	float *v = malloc((size_t)n * sizeof *v + 1);
	double sum = 0;

	fill_values(name, n, v);
	*dot = 0;
	for (int64_t i = 0; i < n; i++) {
		sum += (double)x[i] * (double)x[i];
		*dot += (double)x[i] * (double)v[i];
	}
	*norm = sqrt(sum);
	free(v);
}
