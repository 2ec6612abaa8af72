/*
 * How both walks of 1x1 convolutions read x: batch norm, activation and gate from tables of what is
 * the same for all rows, or for those of an image, which are made before a walk begins.
 *
 * Bytes: 12 a channel and 4 a gate are written, and read by every block from the caches.
 */
#include "train/backend/cuda/pointwise.h"

size_t wl_cuda_pointwise_tables(const struct pointwise *p)
{
	int64_t images = p->gate.p ? p->rows / p->image_rows : 0;

	if (!p->norm.gamma && !p->gate.p)
		return 0;
	return cuda_round((size_t)(3 * p->i) * sizeof(float)) +
	       cuda_round((size_t)(images * p->i) * sizeof(float));
}

/* n: of gates, and at least the channels. */
static __global__ void k_pointwise_tables(int64_t n, struct cuda_norm norm, struct cuda_act gate,
	int64_t gates, int64_t c, float *lines, float *to)
{
	EACH(i, n)
	{
		if (i < c) {
			float a = 1, b = 0;

			if (norm.gamma)
				norm_line(norm, c, i, &a, &b);
			lines[i] = a;
			lines[c + i] = b;
			lines[2 * c + i] = 1;
		}
		if (i < gates)
			to[i] = wl_sigmoidf(act_load(gate, i));
	}
}

struct pointwise_read wl_cuda_pointwise_read(
	struct cuda *c, const struct pointwise *p, void *scratch)
{
	struct pointwise_read f = {p->x, (int)p->rows, (int)p->i, (int)p->image_rows,
		p->norm.gamma ? p->norm.act : WL_ACT_NONE, NULL, NULL};
	int64_t gates = p->gate.p ? p->rows / p->image_rows * p->i : 0;
	int64_t n = gates > p->i ? gates : p->i;
	float *lines = (float *)scratch;
	float *to = lines + cuda_round((size_t)(3 * p->i) * sizeof *to) / sizeof *to;

	if (!p->norm.gamma && !p->gate.p)
		return f;
	CUDA_EACH(c, n, k_pointwise_tables, p->norm, p->gate, gates, p->i, lines, to);
	f.lines = lines;
	f.gates = gates ? to : NULL;
	return f;
}
