/*
 * Extra positives of the contrastive loss: what is near a sample's keys in both queues.  Writes the
 * similarities to both out, 8 B K bytes: the best T of a row are taken one after the other, which
 * wants the row in one place.
 */
#include "train/backend/cuda/cuda.h"

/* A block a row of one side: the `top` best columns, best first, ties to the lower column; a column
 * taken becomes -inf. */
static __global__ void k_best(int64_t k, int64_t top, float *sim, int32_t *out)
{
	__shared__ int32_t at[CUDA_THREADS];
	float *row = sim + (int64_t)blockIdx.x * k;
	for (int64_t t = 0; t < top; t++) {
		int32_t best = -1;
		for (int64_t j = threadIdx.x; j < k; j += blockDim.x)
			if (row[j] > -INFINITY && (best < 0 || row[j] > row[best]))
				best = (int32_t)j;
		at[threadIdx.x] = best;
		__syncthreads();
		if (threadIdx.x == 0) {
			for (int i = 1; i < CUDA_THREADS; i++) {
				int32_t o = at[i];
				if (o >= 0 && (best < 0 || row[o] > row[best] ||
						      (row[o] == row[best] && o < best)))
					best = o;
			}
			out[(int64_t)blockIdx.x * top + t] = best;
			if (best >= 0)
				row[best] = -INFINITY;
		}
		__syncthreads();
	}
}

static __global__ void k_both(int64_t n, int64_t top, const int32_t *other, int32_t *mine)
{
	EACH(e, n)
	{
		bool both = false;
		for (int64_t u = 0; u < top; u++)
			both |= mine[e] == other[e / top * top + u];
		mine[e] = both ? mine[e] : -1;
	}
}

size_t wl_cuda_both_near_scratch(const struct wl_op *op)
{
	int64_t b = op->in[0]->shape.dim[0], k = op->in[1]->shape.dim[0];
	return (size_t)(2 * b * k) * sizeof(float) +
	       (size_t)cuda_count(op->out[0]) * sizeof(int32_t);
}

CUDA_RUN(wl_cuda_both_near)
{
	int64_t b = op->in[0]->shape.dim[0], d = op->in[0]->shape.dim[1];
	int64_t k = op->in[1]->shape.dim[0], top = op->out[0]->shape.dim[1], n = b * top;
	float *sim[2] = {(float *)run->scratch, (float *)run->scratch + b * k};
	int32_t *mine = (int32_t *)op->out[0]->data, *other = (int32_t *)(sim[1] + b * k);
	for (int i = 0; i < 2; i++) {
		struct cuda_gemm g = {b, k, d, cuda_f32(op->in[2 * i]), d, 1,
			cuda_f32(op->in[2 * i + 1]), 1, d, sim[i], k, false, false};
		WL_TRY(wl_cuda_gemm(c, &g, NULL, err));
		CUDA_BLOCKS(c, b, k_best, k, top, sim[i], i ? other : mine);
	}
	CUDA_EACH(c, n, k_both, top, other, mine);
	return 0;
}
