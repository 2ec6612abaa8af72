/*
 * Whether a step counts, decided on the device: see train/backend/judge.h.
 *
 * What is carried and what was decided lie in one piece of device memory that a kernel of one
 * thread writes; the kernels of the rest of the step (the optimiser, the queues, the running
 * statistics) read their part of it and do nothing where the step does not count.  The host gives
 * all of them whatever becomes of the step, so it has nothing to wait for.
 *
 * Cost: three launches of one thread (on several ranks five), 1.5 kB down to pinned memory, and one
 * launch that returns at once (blame), unless the step is bad.
 */
#include "train/backend/cuda/cuda.h"

struct judge_memory {
	struct wl_judge_state state;
	struct cuda_verdict now;
	struct wl_judged judged;
	double squares, mine[WL_JUDGE_MEASURES];
	float scale;
	int64_t bad[CUDA_REDUCE_BLOCKS];
};

struct wl_judge {
	struct cuda *c;
	struct wl_judge_settings how;
	struct judge_memory *at; /* device */
	double *all;		 /* device, with ranks */
	float *scales;
	/* Alone, what decide and tell do in their launch before what they are for. */
	const float *scores;
	int64_t parts;
	float *clamped, most;
	struct wl_judged *told[WL_JUDGE_SLOTS]; /* pinned */
	cudaEvent_t arrived[WL_JUDGE_SLOTS];
};

static int failed(cudaError_t code, const char *what, struct wl_err *err)
{
	return wl_err_set(
		err, WL_EFAIL, "the GPU failed in %s: %s", what, cudaGetErrorString(code));
}

static void judge_close(struct wl_judge *j)
{
	if (!j)
		return;
	cudaStreamSynchronize(j->c->stream);
	for (int i = 0; i < WL_JUDGE_SLOTS; i++) {
		if (j->told[i])
			cudaFreeHost(j->told[i]);
		if (j->arrived[i])
			cudaEventDestroy(j->arrived[i]);
	}
	cudaFree(j->at);
	cudaFree(j->all);
	cudaFree(j->scales);
	free(j);
}

static cudaError_t make_room(struct wl_judge *j)
{
	size_t world = (size_t)j->how.world;
	cudaError_t code = cudaMalloc((void **)&j->at, sizeof *j->at);

	if (code == cudaSuccess && world > 1)
		code = cudaMalloc((void **)&j->all, world * sizeof j->at->mine);
	if (code == cudaSuccess && world > 1)
		code = cudaMalloc((void **)&j->scales, world * sizeof *j->scales);
	if (code == cudaSuccess)
		code = cudaMemsetAsync(j->at, 0, sizeof *j->at, j->c->stream);
	for (int i = 0; i < WL_JUDGE_SLOTS && code == cudaSuccess; i++) {
		code = cudaMallocHost((void **)&j->told[i], sizeof *j->told[i]);
		if (code == cudaSuccess)
			code = cudaEventCreateWithFlags(&j->arrived[i], cudaEventDisableTiming);
	}
	return code;
}

static struct wl_judge *judge_open(
	struct wl_backend *be, const struct wl_judge_settings *how, struct wl_err *err)
{
	struct wl_judge *j = (struct wl_judge *)calloc(1, sizeof *j);
	cudaError_t code;

	if (!j) {
		wl_err_nomem(err, "a step's decisions", sizeof *j);
		return NULL;
	}
	j->c = (struct cuda *)be->impl;
	j->how = *how;
	code = make_room(j);
	if (code == cudaSuccess)
		return j;
	failed(code, "making room for a step's decisions", err);
	judge_close(j);
	return NULL;
}

static void judge_places(struct wl_judge *j, struct wl_judge_places *out)
{
	out->squares = &j->at->squares;
	out->mine = j->at->mine;
	out->all = j->all ? j->all : j->at->mine;
	out->scale = &j->at->scale;
	out->scales = j->scales ? j->scales : &j->at->scale;
}

static void judge_put(struct wl_judge *j, const struct wl_judge_state *s)
{
	j->c->be.upload(&j->c->be, &j->at->state, s, sizeof *s);
}

const struct cuda_verdict *wl_cuda_verdict(const struct wl_judge *j)
{
	return &j->at->now;
}

static __global__ void k_seed(int64_t n, const struct judge_memory *at, double weight, float *to)
{
	EACH(i, n)
	to[i] = (float)(wl_scaler_factor(&at->state.scaler) * weight);
}

static void judge_seed(struct wl_judge *j, double weight, float *to)
{
	CUDA_EACH(j->c, 1, k_seed, j->at, weight, to);
}

static __device__ void measure(
	struct judge_memory *at, const float *scores, int64_t parts, double loss_weight)
{
	double v[4] = {0}, unscale = 1 / wl_scaler_factor(&at->state.scaler);

	for (int64_t p = 0; p < parts; p++)
		for (int k = 0; k < 4; k++)
			v[k] += 1 / (double)parts * (double)scores[4 * p + k];
	at->mine[0] = loss_weight * (v[0] + v[1]);
	for (int k = 0; k < 4; k++)
		at->mine[1 + k] = v[k];
	at->mine[5] = at->squares * unscale * unscale;
}

static __global__ void k_measure(
	int64_t n, struct judge_memory *at, const float *scores, int64_t parts, double loss_weight)
{
	EACH(i, n)
	measure(at, scores, parts, loss_weight);
}

static void judge_measure(struct wl_judge *j, const float *scores, int64_t parts)
{
	j->scores = scores;
	j->parts = parts;
	if (j->all) /* others are to have it before */
		CUDA_EACH(j->c, 1, k_measure, j->at, scores, parts, j->how.loss_weight);
}

/* What the optimiser needs to know. */
static __device__ void settle(struct judge_memory *at, const struct wl_judge_settings *how)
{
	struct cuda_verdict *now = &at->now;
	bool ok = at->judged.verdict == WL_GUARD_OK;

	now->verdict = at->judged.verdict;
	now->factor = NAN;
	if (!ok)
		return;
	now->updates = ++at->state.updates;
	now->factor = wl_judge_factor(how->clip, at->judged.norm, at->judged.loss_scale);
	now->c1 = 1.0 - pow((double)how->beta1, (double)now->updates);
	now->root = (float)sqrt(1.0 - pow((double)how->beta2, (double)now->updates));
}

/* Where the keys go. */
static __device__ void settle_queues(struct judge_memory *at, const struct wl_judge_settings *how)
{
	for (int q = 0; q < 2; q++) {
		at->now.push_at[q] = -1;
		if (!how->rows || wl_judge_undoes(at->judged.verdict))
			continue;
		at->now.push_at[q] = at->state.next[q];
		at->state.next[q] = (at->state.next[q] + how->rows) % how->size[q];
	}
}

/* scores: to be measured first; NULL: that is done. */
static __global__ void k_decide(int64_t n, struct judge_memory *at, const double *all,
	const float *scores, int64_t parts, struct wl_judge_settings how)
{
	EACH(i, n)
	{
		struct wl_judged *r = &at->judged;
		double v[WL_JUDGE_MEASURES] = {0};

		if (scores)
			measure(at, scores, parts, how.loss_weight);
		for (int rank = 0; rank < how.world; rank++) /* in order: the same everywhere */
			for (int k = 0; k < WL_JUDGE_MEASURES; k++)
				v[k] += all[rank * WL_JUDGE_MEASURES + k];
		r->loss = v[0] / how.world;
		r->loss_i2t = v[1] / how.world;
		r->loss_t2i = v[2] / how.world;
		r->acc_i2t = v[3] / how.world;
		r->acc_t2i = v[4] / how.world;
		r->norm = sqrt(v[5]);
		r->loss_scale = wl_scaler_factor(&at->state.scaler);
		r->bad = -1;
		r->verdict = wl_judge_rule(
			&at->state.guard, &at->state.scaler, r->loss, r->norm);
		settle(at, &how);
		settle_queues(at, &how);
	}
}

static void judge_decide(struct wl_judge *j)
{
	CUDA_EACH(j->c, 1, k_decide, j->at, j->all ? j->all : j->at->mine,
		j->all ? NULL : j->scores, j->parts, j->how);
}

/* bad[block] = the first place in the block's share, rows * step where there is none. */
static __global__ void k_blame(
	int64_t n, int64_t step, int64_t rows, const float *grad, struct judge_memory *at)
{
	__shared__ int64_t part[CUDA_THREADS];
	int64_t none = rows * step, first = none;

	if (at->now.verdict != WL_GUARD_NONFINITE)
		return;
	EACH(i, rows * n)
	{
		int64_t place = i / n * step + i % n;

		if (first == none && !wl_is_finite((double)grad[place]))
			first = place;
	}
	part[threadIdx.x] = first;
	__syncthreads();
	for (unsigned w = CUDA_THREADS / 2; w > 0; w /= 2) {
		if (threadIdx.x < w && part[threadIdx.x + w] < part[threadIdx.x])
			part[threadIdx.x] = part[threadIdx.x + w];
		__syncthreads();
	}
	if (threadIdx.x == 0)
		at->bad[blockIdx.x] = part[0];
}

static __global__ void k_blame_end(
	int64_t threads, struct judge_memory *at, int64_t blocks, int64_t n, int64_t begin)
{
	EACH(i, threads)
	{
		int64_t first = n;

		if (at->now.verdict != WL_GUARD_NONFINITE || at->judged.bad >= 0)
			continue;
		for (int64_t b = 0; b < blocks; b++)
			first = at->bad[b] < first ? at->bad[b] : first;
		at->judged.bad = first < n ? begin + first : -1;
	}
}

static void judge_blame(struct wl_judge *j, const float *grad, int64_t n, int64_t step,
	int64_t rows, int64_t at)
{
	int64_t blocks = cuda_blocks(rows * n);

	step = rows > 1 ? step : n;
	blocks = blocks < CUDA_REDUCE_BLOCKS ? blocks : (int64_t)CUDA_REDUCE_BLOCKS;
	CUDA_BLOCKS(j->c, blocks, k_blame, n, step, rows, grad, j->at);
	CUDA_EACH(j->c, 1, k_blame_end, j->at, blocks, rows * step, at);
}

static __global__ void k_undo(
	int64_t n, const struct cuda_verdict *now, float *to, const float *from)
{
	EACH(i, n)
	if (wl_judge_undoes((enum wl_guard_verdict)now->verdict))
		to[i] = from[i];
}

static void judge_undo(struct wl_judge *j, float *to, const float *from, int64_t n)
{
	if (n > 0)
		CUDA_EACH(j->c, n, k_undo, &j->at->now, to, from);
}

/* Rows from the first on: those before it, later ones of the same push would overwrite. */
struct push {
	int q;
	struct cuda_act keys;
	int64_t *key_ids;
	const float *rows;
	const int64_t *ids;
	int64_t first, dim, size;
};

static __global__ void k_push(int64_t n, const struct cuda_verdict *now, struct push p)
{
	EACH(i, n)
	{
		int64_t row = p.first + i / p.dim, col = i % p.dim;
		int64_t to = (now->push_at[p.q] + row) % p.size;

		if (now->push_at[p.q] < 0)
			continue;
		act_store(p.keys, to * p.dim + col, p.rows[row * p.dim + col]);
		for (int k = 0; k < 2 && col == 0; k++)
			p.key_ids[2 * to + k] = p.ids[2 * row + k];
	}
}

static void judge_push(struct wl_judge *j, int q, void *keys, enum wl_dtype type, int64_t *key_ids,
	const float *rows, const int64_t *ids, int64_t dim)
{
	int64_t n = j->how.rows, size = j->how.size[q], first = n > size ? n - size : 0;
	struct push p = {q, {keys, type}, key_ids, rows, ids, first, dim, size};

	CUDA_EACH(j->c, (n - first) * dim, k_push, &j->at->now, p);
	wl_cuda_touched(j->c, keys, (size_t)(size * dim) * wl_dtype_bytes(type));
}

static __device__ void clamp(float *v, float most, float *scale)
{
	if (*v > most)
		*v = most;
	*scale = *v;
}

static __global__ void k_clamp(int64_t n, float *v, float most, float *scale)
{
	EACH(i, n)
	clamp(v, most, scale);
}

/* Alone it is a part of tell, before which nothing reads it. */
static void judge_clamp(struct wl_judge *j, float *v, float most)
{
	j->clamped = v;
	j->most = most;
	if (j->all)
		CUDA_EACH(j->c, 1, k_clamp, v, most, &j->at->scale);
	wl_cuda_touched(j->c, v, sizeof *v);
}

static __global__ void k_tell(
	int64_t n, struct judge_memory *at, const float *scale, float *clamped, float most)
{
	EACH(i, n)
	{
		if (clamped)
			clamp(clamped, most, &at->scale);
		at->judged.log_scale = *scale;
		at->judged.after = at->state;
	}
}

static int judge_tell(struct wl_judge *j, int owner, int slot, struct wl_err *err)
{
	cudaStream_t stream = j->c->stream;
	cudaError_t code;

	CUDA_EACH(j->c, 1, k_tell, j->at, owner < 0 ? &j->at->scale : j->scales + owner,
		j->all ? NULL : j->clamped, j->most);
	code = cudaMemcpyAsync(j->told[slot], &j->at->judged, sizeof *j->told[slot],
		cudaMemcpyDefault, stream);
	if (code == cudaSuccess)
		code = cudaEventRecord(j->arrived[slot], stream);
	return code == cudaSuccess ? 0 : failed(code, "a step", err);
}

static int judge_hear(struct wl_judge *j, int slot, struct wl_judged *out, struct wl_err *err)
{
	cudaError_t code = cudaEventSynchronize(j->arrived[slot]);

	if (code != cudaSuccess)
		return failed(code, "a step", err);
	*out = *j->told[slot];
	return 0;
}

extern "C" const struct wl_judge_ops *wl_cuda_judges(void)
{
	static const struct wl_judge_ops ops = {judge_open, judge_close, judge_places, judge_put,
		judge_seed, judge_measure, judge_decide, judge_blame, judge_undo, judge_push,
		judge_clamp, judge_tell, judge_hear};

	return &ops;
}
