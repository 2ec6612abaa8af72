/*
 * Ranks by counting: see train/backend/ranks.h.
 *
 * A block takes 64 pictures and 64 texts, a thread 4 x 4 of them, both sides 16 numbers at a time
 * through shared memory; then every score is compared with the two targets that it matters for, and
 * only counts leave the block.  Sums run in the order of the dimension, which tensor cores and the
 * library's products do not, so that the score of a right answer has the same bits here and among
 * the pairs, and a tie is one.
 *
 * 2 N M D operations of f32; bytes: 4 D (N M / 64 twice), mostly from the cache.  Counts are added by
 * integer atomics, whose order does not show.
 */
#include "train/backend/cuda/cuda.h"

extern "C" {
#include "train/backend/ranks.h"
}

enum {
	SIDE = 64, DEPTH = 16, ACROSS = 16, OWN = SIDE / ACROSS,
	PITCH = SIDE + 1,
	LAUNCH = 1 << 20 /* blocks */
};

struct wl_ranks {
	struct cuda *c;
	int64_t n, m, dim;
	float *images, *texts;
	struct wl_rank_target *row, *col;
	unsigned long long *row_above, *col_above;
	/* Pairs on their way. */
	int64_t *pair;
	float *score;
};

static int failed(cudaError_t code, const char *what, struct wl_err *err)
{
	return wl_err_set(
		err, WL_EFAIL, "the GPU failed in %s: %s", what, cudaGetErrorString(code));
}

static void ranks_close(struct wl_ranks *r)
{
	if (!r)
		return;
	cudaStreamSynchronize(r->c->stream);
	cudaFree(r->images);
	cudaFree(r->texts);
	cudaFree(r->row);
	cudaFree(r->col);
	cudaFree(r->row_above);
	cudaFree(r->col_above);
	cudaFree(r->pair);
	cudaFree(r->score);
	free(r);
}

enum { PAIRS = 1 << 20 }; /* of a launch */

static cudaError_t allocate(struct wl_ranks *r)
{
	const struct {
		void **at;
		size_t bytes;
	} all[] = {
		{(void **)&r->images, (size_t)(r->n * r->dim) * sizeof *r->images},
		{(void **)&r->texts, (size_t)(r->m * r->dim) * sizeof *r->texts},
		{(void **)&r->row, (size_t)r->n * sizeof *r->row},
		{(void **)&r->col, (size_t)r->m * sizeof *r->col},
		{(void **)&r->row_above, (size_t)r->n * sizeof *r->row_above},
		{(void **)&r->col_above, (size_t)r->m * sizeof *r->col_above},
		{(void **)&r->pair, 2 * (size_t)PAIRS * sizeof *r->pair},
		{(void **)&r->score, (size_t)PAIRS * sizeof *r->score},
	};
	cudaError_t code = cudaSuccess;

	for (size_t i = 0; i < sizeof all / sizeof *all && code == cudaSuccess; i++)
		code = cudaMalloc(all[i].at, all[i].bytes ? all[i].bytes : 1);
	return code;
}

static struct wl_ranks *ranks_open(struct wl_backend *be, const float *images, int64_t n,
	const float *texts, int64_t m, int64_t dim, struct wl_err *err)
{
	struct wl_ranks *r = (struct wl_ranks *)calloc(1, sizeof *r);
	cudaError_t code;

	if (!r) {
		wl_err_nomem(err, "ranks", sizeof *r);
		return NULL;
	}
	r->c = (struct cuda *)be->impl;
	r->n = n;
	r->m = m;
	r->dim = dim;
	code = allocate(r);
	if (code != cudaSuccess) {
		wl_err_set(err, WL_EFAIL, "the GPU has no %.1f GB of memory for %lld pictures and "
			"%lld texts of %lld numbers (%s); use --device cpu",
			4e-9 * (double)((n + m) * dim), (long long)n, (long long)m,
			(long long)dim, cudaGetErrorString(code));
		ranks_close(r);
		return NULL;
	}
	be->upload(be, r->images, images, (size_t)(n * dim) * sizeof *images);
	be->upload(be, r->texts, texts, (size_t)(m * dim) * sizeof *texts);
	return r;
}

static __global__ void k_pairs(int64_t n, const float *images, const float *texts,
	const int64_t *pair, int64_t dim, float *score)
{
	EACH(i, n)
	{
		const float *a = images + pair[2 * i] * dim, *b = texts + pair[2 * i + 1] * dim;
		float s = 0;

		for (int64_t k = 0; k < dim; k++)
			s = fmaf(a[k], b[k], s);
		score[i] = s;
	}
}

static int ranks_pairs(struct wl_ranks *r, const int64_t *image, const int64_t *text,
	int64_t count, float *score, struct wl_err *err)
{
	int64_t most = count < (int64_t)PAIRS ? count : (int64_t)PAIRS;
	int64_t *host = (int64_t *)malloc((size_t)(most + 1) * 2 * sizeof *host);
	struct wl_backend *be = &r->c->be;

	if (!host)
		return wl_err_nomem(err, "pairs", (size_t)most * 2 * sizeof *host);
	for (int64_t at = 0; at < count; at += PAIRS) {
		int64_t n = count - at < (int64_t)PAIRS ? count - at : (int64_t)PAIRS;

		for (int64_t i = 0; i < n; i++) {
			host[2 * i] = image[at + i];
			host[2 * i + 1] = text[at + i];
		}
		be->upload(be, r->pair, host, (size_t)n * 2 * sizeof *host);
		CUDA_EACH(r->c, n, k_pairs, r->images, r->texts, r->pair, r->dim, r->score);
		be->download(be, score + at, r->score, (size_t)n * sizeof *score);
	}
	free(host);
	return be->sync(be, err);
}

/* The block's place and what it reads. */
struct pool {
	int64_t n, m, dim, i0, tiles; /* i0: the launch's first picture; tiles: of texts */
	const float *images, *texts;
	const struct wl_rank_target *row, *col;
	unsigned long long *row_above, *col_above;
};

/* Numbers k0.. of 64 rows from `first` on, turned, zeros beyond the ends. */
static __device__ inline void fetch(float *to, const float *rows, int64_t first, int64_t end,
	int64_t k0, int64_t dim)
{
	for (int e = threadIdx.x; e < SIDE * DEPTH; e += CUDA_THREADS) {
		int row = e / DEPTH, k = e % DEPTH;
		bool in = first + row < end && k0 + k < dim;

		to[k * PITCH + row] = in ? rows[(first + row) * dim + k0 + k] : 0.0f;
	}
}

static __device__ inline bool stands_before(struct wl_rank_target t, float score, int64_t index)
{
	return t.index >= 0 && (score > t.score || (score == t.score && index < t.index));
}

static __global__ void k_above(struct pool p)
{
	__shared__ float a[DEPTH * PITCH], b[DEPTH * PITCH];
	__shared__ int above[2 * SIDE];
	int64_t i0 = p.i0 + blockIdx.x / p.tiles * SIDE, j0 = blockIdx.x % p.tiles * SIDE;
	int tx = threadIdx.x % ACROSS, ty = threadIdx.x / ACROSS;
	float s[OWN][OWN] = {{0}};

	if (threadIdx.x < 2 * SIDE)
		above[threadIdx.x] = 0;
	for (int64_t k0 = 0; k0 < p.dim; k0 += DEPTH) {
		__syncthreads();
		fetch(a, p.images, i0, p.n, k0, p.dim);
		fetch(b, p.texts, j0, p.m, k0, p.dim);
		__syncthreads();
		/* Beyond the dimension both sides are 0, and a sum is what it was. */
		for (int k = 0; k < DEPTH; k++)
			for (int r = 0; r < OWN; r++)
				for (int c = 0; c < OWN; c++)
					s[r][c] = fmaf(a[k * PITCH + ty + r * ACROSS],
						b[k * PITCH + tx + c * ACROSS], s[r][c]);
	}
	__syncthreads();
	for (int r = 0; r < OWN; r++)
		for (int c = 0; c < OWN; c++) {
			int row = ty + r * ACROSS, col = tx + c * ACROSS;
			int64_t i = i0 + row, j = j0 + col;

			if (i >= p.n || j >= p.m)
				continue;
			if (stands_before(p.row[i], s[r][c], j))
				atomicAdd(&above[row], 1);
			if (stands_before(p.col[j], s[r][c], i))
				atomicAdd(&above[SIDE + col], 1);
		}
	__syncthreads();
	if (threadIdx.x < SIDE && above[threadIdx.x])
		atomicAdd(&p.row_above[i0 + threadIdx.x], (unsigned long long)above[threadIdx.x]);
	else if (threadIdx.x >= SIDE && threadIdx.x < 2 * SIDE && above[threadIdx.x])
		atomicAdd(&p.col_above[j0 + threadIdx.x - SIDE],
			(unsigned long long)above[threadIdx.x]);
}

static int ranks_above(struct wl_ranks *r, const struct wl_rank_target *image,
	const struct wl_rank_target *text, int64_t *image_above, int64_t *text_above,
	struct wl_err *err)
{
	struct wl_backend *be = &r->c->be;
	struct pool p = {r->n, r->m, r->dim, 0, cuda_ceil_div(r->m, SIDE), r->images, r->texts,
		r->row, r->col, r->row_above, r->col_above};
	int64_t rows = cuda_ceil_div(r->n, SIDE), at_once = (int64_t)LAUNCH / p.tiles;

	at_once = at_once > 0 ? at_once : 1;
	be->upload(be, r->row, image, (size_t)r->n * sizeof *image);
	be->upload(be, r->col, text, (size_t)r->m * sizeof *text);
	be->zero(be, r->row_above, (size_t)r->n * sizeof *r->row_above);
	be->zero(be, r->col_above, (size_t)r->m * sizeof *r->col_above);
	for (int64_t t = 0; t < rows; t += at_once) {
		int64_t n = rows - t < at_once ? rows - t : at_once;
		cudaError_t code;

		p.i0 = t * SIDE;
		CUDA_BLOCKS(r->c, n * p.tiles, k_above, p);
		code = cudaGetLastError();
		if (code != cudaSuccess)
			return failed(code, "counting of ranks", err);
	}
	be->download(be, image_above, r->row_above, (size_t)r->n * sizeof *image_above);
	be->download(be, text_above, r->col_above, (size_t)r->m * sizeof *text_above);
	return be->sync(be, err);
}

extern "C" const struct wl_rank_ops *wl_cuda_ranks(void)
{
	static const struct wl_rank_ops ops = {ranks_open, ranks_close, ranks_pairs, ranks_above};

	return &ops;
}
