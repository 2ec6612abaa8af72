/*
 * Extra positives of the contrastive loss: what is near a sample's keys in both queues.
 * Similarities are made as the loss makes its logits (infonce.h) and never written: a block walks a
 * part of the queue for ROWS samples and keeps the best T of each row, best first; then the parts'
 * lists of a row become one.
 *
 * Bytes: both queues once for the first ROWS samples (from L2 for others), and 16 B T of lists for
 * each of 264 / (B / ROWS) parts, against 16 B K of similarities that were written and read again T
 * times.  4 B K D operations of f32, beside which a thread's walk along its row is little.
 */
#include "train/backend/cuda/infonce.h"

struct near {
	int64_t top, parts, per; /* lists of a row, and the tiles of columns that each is of */
	float *value;		 /* [2, B, parts, top] */
	int32_t *at;		 /* the columns, -1: none */
	int32_t *best;		 /* [B, top] of the second side */
};

/* One side, as the loss over its queue would be. */
static struct nce side_of(const struct wl_op *op, int side)
{
	struct nce v;

	memset(&v, 0, sizeof v);
	v.b = op->in[0]->shape.dim[0];
	v.d = op->in[0]->shape.dim[1];
	v.who.k = v.neg = op->in[1]->shape.dim[0];
	v.query = cuda_f32(op->in[2 * side]);
	v.queue = cuda_act_of(op->in[2 * side + 1]);
	v.row_tiles = cuda_ceil_div(v.b, ROWS);
	v.queue_tiles = v.tiles = cuda_ceil_div(v.who.k, COLS);
	v.wide = v.d % 8 == 0 && (uintptr_t)v.query % 16 == 0 && (uintptr_t)v.queue.p % 16 == 0;
	return v;
}

static struct near near_of(const struct wl_op *op, void *scratch)
{
	struct nce v = side_of(op, 0);
	struct near n;
	int64_t most = cuda_ceil_div(BLOCKS_AT_ONCE, v.row_tiles);

	n.top = op->out[0]->shape.dim[1];
	n.per = cuda_ceil_div(v.queue_tiles, least(most, v.queue_tiles));
	n.parts = cuda_ceil_div(v.queue_tiles, n.per);
	n.value = (float *)scratch;
	n.at = (int32_t *)(n.value + 2 * v.b * n.parts * n.top);
	n.best = n.at + 2 * v.b * n.parts * n.top;
	return n;
}

/* Column j, which comes after all in the list, enters it where it is among the best. */
static __device__ inline void enter(float *value, int32_t *at, int64_t top, float s, int32_t j)
{
	int64_t t = top - 1;

	if (at[t] >= 0 && !(s > value[t]))
		return;
	for (; t > 0 && (at[t - 1] < 0 || s > value[t - 1]); t--) {
		value[t] = value[t - 1];
		at[t] = at[t - 1];
	}
	value[t] = s;
	at[t] = j;
}

static __global__ void __launch_bounds__(CUDA_THREADS, 2) k_near(struct nce v, struct near n)
{
	__shared__ __attribute__((aligned(32))) char mem[STAGED];
	int64_t part = blockIdx.x / v.row_tiles, b = blockIdx.x % v.row_tiles * ROWS + threadIdx.x;
	int64_t list = (b * n.parts + part) * n.top, end = least((part + 1) * n.per, v.queue_tiles);
	bool mine = threadIdx.x < ROWS && b < v.b;

	for (int64_t t = 0; mine && t < n.top; t++)
		n.value[list + t] = 0.0f, n.at[list + t] = -1;
	for (int64_t tile = part * n.per; tile < end; tile++) {
		struct spot s = spot_at(&v, tile, blockIdx.x % v.row_tiles);

		float_logits(&v, &s, false, 0, mem);
		__syncthreads();
		for (int c = 0; mine && c < s.cols; c++)
			enter(n.value + list, n.at + list, n.top,
				((const float *)mem)[threadIdx.x * LD_LOGITS + c],
				(int32_t)(s.j0 + c));
		__syncthreads();
	}
}

/* A block a row of one side: the best of its lists, ties to the lower column; what is taken leaves
 * its list. */
static __global__ void k_best(struct near n, int32_t *out)
{
	__shared__ int64_t found[CUDA_THREADS];
	int64_t all = n.parts * n.top, row = blockIdx.x * all;
	const float *value = n.value + row;
	int32_t *at = n.at + row;

	for (int64_t t = 0; t < n.top; t++) {
		int64_t best = -1;

		for (int64_t i = threadIdx.x; i < all; i += blockDim.x)
			if (at[i] >= 0 && (best < 0 || value[i] > value[best] ||
						  (value[i] == value[best] && at[i] < at[best])))
				best = i;
		found[threadIdx.x] = best;
		__syncthreads();
		if (threadIdx.x == 0) {
			for (int k = 1; k < CUDA_THREADS; k++) {
				int64_t i = found[k];

				if (i >= 0 &&
					(best < 0 || value[i] > value[best] ||
						(value[i] == value[best] && at[i] < at[best])))
					best = i;
			}
			out[(int64_t)blockIdx.x * n.top + t] = best < 0 ? -1 : at[best];
			if (best >= 0)
				at[best] = -1;
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
	struct near n = near_of(op, NULL);
	int64_t lists = 2 * op->in[0]->shape.dim[0] * n.parts * n.top;

	return (size_t)lists * (sizeof *n.value + sizeof *n.at) +
	       (size_t)cuda_count(op->out[0]) * sizeof *n.best;
}

CUDA_RUN(wl_cuda_both_near)
{
	struct near n = near_of(op, run->scratch);
	int32_t *mine = (int32_t *)op->out[0]->data;

	(void)err;
	for (int side = 0; side < 2; side++) {
		struct nce v = side_of(op, side);

		CUDA_BLOCKS(c, v.row_tiles * n.parts, k_near, v, n);
		CUDA_BLOCKS(c, v.b, k_best, n, side ? n.best : mine);
		n.value += v.b * n.parts * n.top;
		n.at += v.b * n.parts * n.top;
	}
	CUDA_EACH(c, cuda_count(op->out[0]), k_both, n.top, n.best, mine);
	return 0;
}
