/*
 * Ranks by counting: see train/backend/ranks.h.
 *
 * A block takes 64 pictures and 64 texts, a thread 4 x 4 of them, both sides 16 numbers at a time
 * through shared memory; then every score is compared with the two targets that it matters for, and
 * only counts leave the block.  Sums run in the order of the dimension, which tensor cores and the
 * library's products do not, so that the score of a right answer has the same bits here and among
 * the pairs, and a tie is one.
 *
 * What the device has no room for goes through it in blocks of rows: each block of pictures meets
 * all blocks of texts.  A score needs one row of each side, so its bits are the same.
 *
 * 2 N M D operations of f32; bytes: 4 D (N M / 64 twice), mostly from the cache.  Counts are added
 * by integer atomics, whose order does not show.
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

/* A side, all of it or a block of its rows on the device. */
struct side {
	const float *host; /* [all, dim] */
	int64_t all, rows; /* rows: of a block at most */
	int64_t at;	   /* the first row that is there, -1: none is */
	float *here;	   /* [rows, dim] */
};

struct wl_ranks {
	struct cuda *c;
	int64_t dim;
	struct side image, text;
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
	cudaFree(r->image.here);
	cudaFree(r->text.here);
	cudaFree(r->row);
	cudaFree(r->col);
	cudaFree(r->row_above);
	cudaFree(r->col_above);
	cudaFree(r->pair);
	cudaFree(r->score);
	free(r);
}

enum { PAIRS = 1 << 20 /* of a launch */, LEAST_ROWS = SIDE /* of a block */ };
enum { BROUGHT = 16 << 20 /* numbers of a side at a time */ };

static bool in_blocks(const struct wl_ranks *r)
{
	return r->image.rows < r->image.all || r->text.rows < r->text.all;
}

/* Both sides; a block of the larger one is halved until they fit. */
static cudaError_t allocate_sides(struct wl_ranks *r, size_t most)
{
	size_t row = (size_t)r->dim * sizeof(float);

	r->image.rows = r->image.all;
	r->text.rows = r->text.all;
	for (;;) {
		struct side *larger = r->image.rows > r->text.rows ? &r->image : &r->text;
		size_t bytes = (size_t)(r->image.rows + r->text.rows) * row;
		cudaError_t code = most && bytes > most ? cudaErrorMemoryAllocation
						     : cudaMalloc((void **)&r->image.here,
							       (size_t)r->image.rows * row + 1);

		if (code == cudaSuccess)
			code = cudaMalloc((void **)&r->text.here, (size_t)r->text.rows * row + 1);
		if (code == cudaSuccess || larger->rows <= LEAST_ROWS)
			return code;
		cudaGetLastError(); /* it is mended */
		cudaFree(r->image.here);
		r->image.here = NULL;
		larger->rows = cuda_ceil_div(cuda_ceil_div(larger->rows, 2), SIDE) * SIDE;
	}
}

/* What is as long as the sides first: it must fit as it is. */
static cudaError_t allocate(struct wl_ranks *r, size_t most)
{
	const struct {
		void **at;
		size_t bytes;
	} all[] = {
		{(void **)&r->row, (size_t)r->image.all * sizeof *r->row},
		{(void **)&r->col, (size_t)r->text.all * sizeof *r->col},
		{(void **)&r->row_above, (size_t)r->image.all * sizeof *r->row_above},
		{(void **)&r->col_above, (size_t)r->text.all * sizeof *r->col_above},
		{(void **)&r->pair, 2 * (size_t)PAIRS * sizeof *r->pair},
		{(void **)&r->score, (size_t)PAIRS * sizeof *r->score},
	};
	cudaError_t code = cudaSuccess;

	for (size_t i = 0; i < sizeof all / sizeof *all && code == cudaSuccess; i++)
		code = cudaMalloc(all[i].at, all[i].bytes ? all[i].bytes : 1);
	return code == cudaSuccess ? allocate_sides(r, most) : code;
}

/* Rows from `at` on are on the device. */
static void load(struct wl_ranks *r, struct side *s, int64_t at)
{
	struct wl_backend *be = &r->c->be;
	int64_t n = s->all - at < s->rows ? s->all - at : s->rows;

	if (s->at == at)
		return;
	be->upload(be, s->here, s->host + at * r->dim, (size_t)(n * r->dim) * sizeof *s->here);
	s->at = at;
}

static struct wl_ranks *ranks_open(struct wl_backend *be, const float *images, int64_t n,
	const float *texts, int64_t m, int64_t dim, size_t most, struct wl_err *err)
{
	struct wl_ranks *r = (struct wl_ranks *)calloc(1, sizeof *r);
	struct side image = {images, n, 0, -1, NULL}, text = {texts, m, 0, -1, NULL};
	cudaError_t code;

	if (!r) {
		wl_err_nomem(err, "ranks", sizeof *r);
		return NULL;
	}
	r->c = (struct cuda *)be->impl;
	r->dim = dim;
	r->image = image;
	r->text = text;
	code = allocate(r, most);
	if (code == cudaSuccess)
		return r;
	wl_err_set(err, WL_EFAIL,
		"the GPU has no memory for ranks of %lld pictures and %lld texts, "
		"and blocks of %d rows of %lld numbers (%s); use --device cpu",
		(long long)n, (long long)m, (int)LEAST_ROWS, (long long)dim,
		cudaGetErrorString(code));
	ranks_close(r);
	return NULL;
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

/* Where a side is in blocks, pairs bring their rows with them: row i of both sides is pair i's. */
static void bring(struct wl_ranks *r, struct side *s, const int64_t *of, int64_t n, float *room)
{
	struct wl_backend *be = &r->c->be;
	size_t row = (size_t)r->dim * sizeof *room;

	for (int64_t i = 0; i < n; i++)
		memcpy(room + i * r->dim, s->host + of[i] * r->dim, row);
	be->upload(be, s->here, room, (size_t)n * row);
	s->at = -1;
}

static int64_t smallest(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int ranks_pairs(struct wl_ranks *r, const int64_t *image, const int64_t *text,
	int64_t count, float *score, struct wl_err *err)
{
	bool brings = in_blocks(r);
	int64_t few = smallest(smallest(r->image.rows, r->text.rows), BROUGHT / r->dim + 1);
	int64_t most = smallest(count > 0 ? count : 1, brings ? few : (int64_t)PAIRS);
	int64_t *host;
	float *room = NULL;
	struct wl_backend *be = &r->c->be;

	most = smallest(most, (int64_t)PAIRS);
	host = (int64_t *)malloc((size_t)most * 2 * sizeof *host);
	if (host && brings)
		room = (float *)malloc((size_t)(most * r->dim) * sizeof *room);
	if (!host || (brings && !room)) {
		free(host);
		return wl_err_nomem(err, "pairs", (size_t)(most * (r->dim + 4)) * sizeof *room);
	}
	if (!brings) {
		load(r, &r->image, 0);
		load(r, &r->text, 0);
	}
	for (int64_t at = 0; at < count; at += most) {
		int64_t n = smallest(count - at, most);

		for (int64_t i = 0; i < n; i++) {
			host[2 * i] = brings ? i : image[at + i];
			host[2 * i + 1] = brings ? i : text[at + i];
		}
		if (brings) {
			bring(r, &r->image, image + at, n, room);
			bring(r, &r->text, text + at, n, room);
		}
		be->upload(be, r->pair, host, (size_t)n * 2 * sizeof *host);
		CUDA_EACH(r->c, n, k_pairs, r->image.here, r->text.here, r->pair, r->dim, r->score);
		be->download(be, score + at, r->score, (size_t)n * sizeof *score);
	}
	free(room);
	free(host);
	return be->sync(be, err);
}

/* A block of pictures and one of texts, n and m of them, which begin at row i_at and j_at of all;
 * row, col and what is counted are theirs. */
struct pool {
	int64_t n, m, dim, i0, tiles; /* i0: the launch's first picture; tiles: of texts */
	int64_t i_at, j_at;
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
			if (stands_before(p.row[i], s[r][c], p.j_at + j))
				atomicAdd(&above[row], 1);
			if (stands_before(p.col[j], s[r][c], p.i_at + i))
				atomicAdd(&above[SIDE + col], 1);
		}
	__syncthreads();
	if (threadIdx.x < SIDE && above[threadIdx.x])
		atomicAdd(&p.row_above[i0 + threadIdx.x], (unsigned long long)above[threadIdx.x]);
	else if (threadIdx.x >= SIDE && threadIdx.x < 2 * SIDE && above[threadIdx.x])
		atomicAdd(&p.col_above[j0 + threadIdx.x - SIDE],
			(unsigned long long)above[threadIdx.x]);
}

/* All pictures that are here against all texts that are. */
static int count_block(struct wl_ranks *r, struct wl_err *err)
{
	const struct side *a = &r->image, *b = &r->text;
	struct pool p = {smallest(a->all - a->at, a->rows), smallest(b->all - b->at, b->rows),
		r->dim, 0, 0, a->at, b->at, a->here, b->here, r->row + a->at, r->col + b->at,
		r->row_above + a->at, r->col_above + b->at};
	int64_t rows = cuda_ceil_div(p.n, SIDE), at_once;

	p.tiles = cuda_ceil_div(p.m, SIDE);
	at_once = (int64_t)LAUNCH / p.tiles;
	at_once = at_once > 0 ? at_once : 1;
	for (int64_t t = 0; t < rows; t += at_once) {
		cudaError_t code;

		p.i0 = t * SIDE;
		CUDA_BLOCKS(r->c, smallest(rows - t, at_once) * p.tiles, k_above, p);
		code = cudaGetLastError();
		if (code != cudaSuccess)
			return failed(code, "counting of ranks", err);
	}
	return 0;
}

static int ranks_above(struct wl_ranks *r, const struct wl_rank_target *image,
	const struct wl_rank_target *text, int64_t *image_above, int64_t *text_above,
	struct wl_err *err)
{
	struct wl_backend *be = &r->c->be;
	size_t n = (size_t)r->image.all, m = (size_t)r->text.all;

	be->upload(be, r->row, image, n * sizeof *image);
	be->upload(be, r->col, text, m * sizeof *text);
	be->zero(be, r->row_above, n * sizeof *r->row_above);
	be->zero(be, r->col_above, m * sizeof *r->col_above);
	for (int64_t i = 0; i < r->image.all; i += r->image.rows) {
		load(r, &r->image, i);
		for (int64_t j = 0; j < r->text.all; j += r->text.rows) {
			load(r, &r->text, j);
			WL_TRY(count_block(r, err));
		}
	}
	be->download(be, image_above, r->row_above, n * sizeof *image_above);
	be->download(be, text_above, r->col_above, m * sizeof *text_above);
	return be->sync(be, err);
}

extern "C" const struct wl_rank_ops *wl_cuda_ranks(void)
{
	static const struct wl_rank_ops ops = {ranks_open, ranks_close, ranks_pairs, ranks_above};

	return &ops;
}
