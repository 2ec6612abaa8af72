/*
 * The optimiser's passes over flat memory.  An update of all ranges is one launch a hundred ranges,
 * whose table travels as the kernel's argument: nothing is allocated, uploaded or waited for.
 *
 * Bytes a parameter of the whole pass (bf16 moments, momentum weights, both bf16 copies):
 * w 4+4, gradient 4, m 2+2, v 2+2, k 4+4, copies 2+2 = 32; with f32 moments 40.
 */
#include "train/backend/cuda/cuda.h"

/* --- sums of squares --- */

enum { SQUARE_CHUNK = 4 }; /* floats of a load; alignment allowing */

static __device__ inline double square4(const float *x)
{
	uint4 u = *(const uint4 *)x;
	double a = (double)wl_float_of_bits(u.x), b = (double)wl_float_of_bits(u.y);
	double c = (double)wl_float_of_bits(u.z), d = (double)wl_float_of_bits(u.w);

	return (a * a + b * b) + (c * c + d * d);
}

enum { SQUARE_UNIT = 4 * CUDA_THREADS }; /* chunks of a row that a block takes at once */

/* partial[block]: the block's share depends on the shape and the alignment of x alone; head: floats
 * before the first multiple of 16 bytes, where there is one row. */
static __global__ void k_squares(
	int64_t n, int64_t head, const float *x, int64_t step, int64_t rows, double *partial)
{
	int64_t fours = (n - head) / SQUARE_CHUNK, tail = head + fours * SQUARE_CHUNK;
	int64_t units = (fours + SQUARE_UNIT - 1) / SQUARE_UNIT;
	double s = 0;

	for (int64_t u = blockIdx.x; u < rows * units; u += gridDim.x) {
		const float *row = x + u / units * step + head;
		int64_t from = u % units * SQUARE_UNIT;
		int64_t end = fours - from < SQUARE_UNIT ? fours : from + SQUARE_UNIT;

		for (int64_t i = from + threadIdx.x; i < end; i += CUDA_THREADS)
			s += square4(row + i * SQUARE_CHUNK);
	}
	if (blockIdx.x == 0 && threadIdx.x < (unsigned)head)
		s += (double)x[threadIdx.x] * (double)x[threadIdx.x];
	if (blockIdx.x == 0 && threadIdx.x < n - tail)
		s += (double)x[tail + threadIdx.x] * (double)x[tail + threadIdx.x];
	s = block_sum(s);
	if (threadIdx.x == 0)
		partial[blockIdx.x] = s;
}

static __global__ void k_squares_end(int64_t n, const double *partial, double *to, bool add)
{
	double s = 0;

	for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
		s += partial[i];
	s = block_sum(s);
	if (threadIdx.x == 0)
		*to = (add ? *to : 0.0) + s;
}

void wl_cuda_squares(struct wl_backend *be, const float *x, int64_t n, int64_t step, int64_t rows,
	double *to, bool add)
{
	struct cuda *c = (struct cuda *)be->impl;
	int64_t head = (int64_t)(-((uintptr_t)x / sizeof *x) & 3), blocks;

	if (rows > 1 && (head || n % SQUARE_CHUNK || step % SQUARE_CHUNK)) {
		for (int64_t r = 0; r < rows; r++)
			wl_cuda_squares(be, x + r * step, n, 0, 1, to, add || r > 0);
		return;
	}
	head = head < n ? head : n;
	blocks = rows * cuda_ceil_div((n - head) / SQUARE_CHUNK, SQUARE_UNIT);
	blocks = blocks < CUDA_REDUCE_BLOCKS ? blocks : (int64_t)CUDA_REDUCE_BLOCKS;
	blocks = blocks > 0 ? blocks : 1;
	CUDA_BLOCKS(c, blocks, k_squares, n, head, x, step, rows, c->reduce);
	CUDA_BLOCKS(c, 1, k_squares_end, blocks, c->reduce, to, add);
}

double wl_cuda_sum_squares(struct wl_backend *be, const float *x, int64_t n)
{
	struct cuda *c = (struct cuda *)be->impl;
	double total = NAN; /* stays where the device fails, which sync reports */

	wl_cuda_squares(be, x, n, 0, 1, c->reduce + CUDA_REDUCE_BLOCKS, false);
	be->download(be, &total, c->reduce + CUDA_REDUCE_BLOCKS, sizeof total);
	return total;
}

/* --- AdamW --- */

enum { TABLE = 100, PER_BLOCK = 4096 }; /* ranges of a launch; elements of a block */

struct share {
	int64_t begin, end;
	int64_t block; /* the first of the range's blocks */
	float lr, decay;
};

/* 3.2 kB of the 4 kB that a kernel's arguments may have. */
struct table {
	int n;
	struct share at[TABLE];
};

struct adamw {
	float *w, *k;
	const float *grad;
	struct cuda_act m, v, w_half, k_half;
	uint64_t seed;
	const struct cuda_verdict *judged; /* NULL: what follows is as the host says */
	struct cuda_verdict now;
	float beta1, beta2, eps, momentum;
};

/* Of a block: its range, and what the decision makes of it. */
struct part {
	int64_t begin, end;
	float factor, step, root, decay;
	struct wl_rng_key key;
};

/* Four neighbours, of 16 bytes in f32 and 8 in bf16; element i is a multiple of 4. */
static __device__ inline void load4(struct cuda_act a, int64_t i, float v[4])
{
	if (is_half(a.type)) {
		const uint32_t *p = (const uint32_t *)((const uint16_t *)a.p + i);

		for (int j = 0; j < 2; j++) {
			v[2 * j] = bf16_to_float(p[j] & 0xffffu);
			v[2 * j + 1] = bf16_to_float(p[j] >> 16);
		}
		return;
	}
	uint4 u = *(const uint4 *)((const float *)a.p + i);

	v[0] = wl_float_of_bits(u.x), v[1] = wl_float_of_bits(u.y);
	v[2] = wl_float_of_bits(u.z), v[3] = wl_float_of_bits(u.w);
}

static __device__ inline void store4_f32(float *p, const float v[4])
{
	uint4 u;

	u.x = wl_bits_of_float(v[0]), u.y = wl_bits_of_float(v[1]);
	u.z = wl_bits_of_float(v[2]), u.w = wl_bits_of_float(v[3]);
	*(uint4 *)p = u;
}

/* Four halves as one transaction of 8 bytes. */
static __device__ inline void store4_half(void *p, int64_t i, const uint16_t h[4])
{
	uint64_t u = (uint64_t)h[0] | (uint64_t)h[1] << 16 | (uint64_t)h[2] << 32 |
		     (uint64_t)h[3] << 48;

	*(uint64_t *)((uint16_t *)p + i) = u;
}

static __device__ inline void put_half(struct cuda_act to, int64_t i, const float v[4])
{
	uint16_t h[4];

	for (int j = 0; j < 4; j++)
		h[j] = (uint16_t)half_of_float(v[j], to.type);
	store4_half(to.p, i, h);
}

/* Moments, rounded up with the probability of what is cut off where they are bf16. */
static __device__ inline void put_moments(const struct adamw *a, const struct part *s, int64_t i,
	const float m[4], const float v[4])
{
	uint16_t hm[4], hv[4];

	if (!is_half(a->m.type)) {
		store4_f32((float *)a->m.p + i, m);
		store4_f32((float *)a->v.p + i, v);
		return;
	}
	for (int j = 0; j < 4; j++) {
		uint32_t random = wl_rng_u32(s->key, (uint64_t)(i + j));

		hm[j] = wl_bf16_round(m[j], random);
		hv[j] = wl_bf16_round(v[j], random >> 16);
	}
	store4_half(a->m.p, i, hm);
	store4_half(a->v.p, i, hv);
}

/* fmaf, so that no compiler chooses what is rounded. */
static __device__ inline float follow(float k, float w, float momentum)
{
	return fmaf(momentum, k, (1.0f - momentum) * w);
}

static __device__ inline void adamw4(
	const struct adamw *a, const struct part *s, int64_t i)
{
	struct cuda_act aw = {a->w, WL_F32}, ag = {(void *)a->grad, WL_F32}, ak = {a->k, WL_F32};
	float w[4], g[4], m[4], v[4], k[4];

	load4(aw, i, w);
	if (a->k)
		load4(ak, i, k);
	if (s->factor == s->factor) {
		load4(ag, i, g);
		load4(a->m, i, m);
		load4(a->v, i, v);
		for (int j = 0; j < 4; j++)
			w[j] = wl_adamw_one(w[j], g[j] * s->factor, &m[j], &v[j], a->beta1,
				a->beta2, a->eps, s->step, s->root, s->decay);
		store4_f32(a->w + i, w);
		put_moments(a, s, i, m, v);
	}
	if (a->w_half.p)
		put_half(a->w_half, i, w);
	if (!a->k)
		return;
	for (int j = 0; j < 4; j++)
		k[j] = follow(k[j], w[j], a->momentum);
	store4_f32(a->k + i, k);
	if (a->k_half.p)
		put_half(a->k_half, i, k);
}

/* The ends of a range, where four neighbours are not all its own. */
static __device__ inline void adamw1(
	const struct adamw *a, const struct part *s, int64_t i)
{
	if (s->factor == s->factor) {
		uint32_t random = wl_rng_u32(s->key, (uint64_t)i);
		float m = act_load(a->m, i), v = act_load(a->v, i);

		a->w[i] = wl_adamw_one(a->w[i], a->grad[i] * s->factor, &m, &v, a->beta1,
			a->beta2, a->eps, s->step, s->root, s->decay);
		if (is_half(a->m.type)) {
			((uint16_t *)a->m.p)[i] = wl_bf16_round(m, random);
			((uint16_t *)a->v.p)[i] = wl_bf16_round(v, random >> 16);
		} else {
			((float *)a->m.p)[i] = m;
			((float *)a->v.p)[i] = v;
		}
	}
	if (a->w_half.p)
		act_store(a->w_half, i, a->w[i]);
	if (a->k)
		a->k[i] = follow(a->k[i], a->w[i], a->momentum);
	if (a->k && a->k_half.p)
		act_store(a->k_half, i, a->k[i]);
}

static __device__ inline struct part part_of(const struct adamw *a, const struct share *s)
{
	struct cuda_verdict now = a->now;
	struct part p;

	if (a->judged)
		now = *a->judged;
	p.begin = s->begin;
	p.end = s->end;
	p.factor = now.factor;
	p.step = (float)((double)s->lr / now.c1);
	p.root = now.root;
	p.decay = s->decay;
	p.key = wl_rng_key(a->seed, (uint64_t)now.updates, 0);
	return p;
}

static __global__ void k_adamw(struct table t, struct adamw a)
{
	int lo = 0, hi = t.n - 1;

	while (lo < hi) { /* the last range that begins at this block or before */
		int mid = (lo + hi + 1) / 2;

		if (t.at[mid].block <= (int64_t)blockIdx.x)
			lo = mid;
		else
			hi = mid - 1;
	}
	const struct part s = part_of(&a, &t.at[lo]);
	/* Blocks cut at multiples of 4 of the store, so that loads are aligned. */
	int64_t from = s.begin / 4 * 4 + (blockIdx.x - t.at[lo].block) * (int64_t)PER_BLOCK;

	for (int64_t i = from + 4 * (int64_t)threadIdx.x; i < from + PER_BLOCK && i < s.end;
		i += 4 * blockDim.x) {
		if (i >= s.begin && i + 4 <= s.end) {
			adamw4(&a, &s, i);
			continue;
		}
		for (int64_t j = i < s.begin ? s.begin : i; j < i + 4 && j < s.end; j++)
			adamw1(&a, &s, j);
	}
}

static struct adamw adamw_of(float *w, const float *grad, void *m, void *v,
	const struct wl_adamw *how)
{
	struct adamw a;

	memset(&a, 0, sizeof a);
	a.w = w;
	a.grad = grad;
	a.k = how->k;
	a.m.p = m;
	a.v.p = v;
	a.m.type = a.v.type = how->state;
	a.w_half.p = how->w_half;
	a.k_half.p = how->k_half;
	a.w_half.type = a.k_half.type = WL_BF16;
	a.seed = how->seed;
	a.judged = how->judge ? wl_cuda_verdict(how->judge) : NULL;
	a.now.factor = how->grad_scale;
	a.now.updates = how->step;
	a.now.c1 = 1.0 - pow((double)how->beta1, (double)how->step);
	a.now.root = (float)sqrt(1.0 - pow((double)how->beta2, (double)how->step));
	a.beta1 = how->beta1;
	a.beta2 = how->beta2;
	a.eps = how->eps;
	a.momentum = how->momentum;
	return a;
}

/* A range of a store has new values, and `copied`: its bf16 copy too.  A weight that lies in the
 * range in part only is copied when it is used. */
static void rewritten(struct cuda *c, float *w, const struct wl_adamw_range *r, bool copied)
{
	int64_t n = r->end - r->begin;

	if (n <= 0)
		return;
	wl_cuda_touched(c, w + r->begin, (size_t)n * sizeof *w);
	if (copied)
		wl_cuda_shadow_written(c, w + r->begin, n);
}

void wl_cuda_adamw(struct wl_backend *be, float *w, const float *grad, void *m, void *v,
	const struct wl_adamw_range *ranges, int n_ranges, const struct wl_adamw *how)
{
	struct cuda *c = (struct cuda *)be->impl;
	struct adamw a = adamw_of(w, grad, m, v, how);
	struct table t;
	int64_t blocks = 0;

	/* The copies that products take, where there are some, unless the caller has its own. */
	if (!a.w_half.p)
		a.w_half = wl_cuda_shadow(c, w);
	if (!a.k_half.p && a.k)
		a.k_half = wl_cuda_shadow(c, a.k);
	t.n = 0;
	for (int i = 0; i < n_ranges; i++) {
		const struct wl_adamw_range *r = &ranges[i];
		struct share s = {r->begin, r->end, blocks, r->lr,
			1.0f - r->lr * r->weight_decay};

		if (r->end > r->begin) {
			t.at[t.n++] = s;
			blocks += cuda_ceil_div(r->end - r->begin / 4 * 4, PER_BLOCK);
		}
		if (t.n && (t.n == TABLE || i == n_ranges - 1)) {
			CUDA_BLOCKS(c, blocks, k_adamw, t, a);
			t.n = 0;
			blocks = 0;
		}
		rewritten(c, w, r, how->w_half == NULL);
		if (a.k)
			rewritten(c, a.k, r, how->k_half == NULL);
	}
}

static __global__ void k_ema(int64_t n, float *k, const float *q, float momentum)
{
	EACH(i, n)
	k[i] = follow(k[i], q[i], momentum);
}

void wl_cuda_ema(struct wl_backend *be, float *k, const float *q, int64_t n, float momentum)
{
	struct cuda *c = (struct cuda *)be->impl;

	CUDA_EACH(c, n, k_ema, k, q, momentum);
	wl_cuda_touched(c, k, (size_t)n * sizeof *k);
}
