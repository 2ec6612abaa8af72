/* See emulated.h. */
#include "train/backend/cuda/cuda.h"

#include <numeric>
#include <stdio.h>
#include <ucontext.h>

struct emulated_index threadIdx, blockIdx, blockDim, gridDim;
double emulated_lane[1024];

enum { STACK = 65536, LANES = 32 };

/* Contexts start the fibers, once; jumps, which need no system call, switch between them, and a
 * fiber that is through with a block waits for the next one.  Launches come one at a time, from
 * any thread. */
static ucontext_t start, first[CUDA_THREADS];
static void *scheduler[5], *fiber[CUDA_THREADS][5]; /* gcc's: libc's jump takes far longer */
static char stacks[CUDA_THREADS][STACK] __attribute__((aligned(64)));
static bool started[CUDA_THREADS], done[CUDA_THREADS], in_fibers;
static int current;
static enum place { RUNS, AT_BARRIER, AT_WARP, AT_SHUFFLE } place[CUDA_THREADS];
static unsigned mask_of[CUDA_THREADS]; /* of lanes that wait */
static void (*body)(void *);
static void *body_arg;

static void enter(void)
{
	for (;;) {
		body(body_arg);
		done[current] = true;
		if (!__builtin_setjmp(fiber[current]))
			__builtin_longjmp(scheduler, 1);
	}
}

static void start_fiber(int t)
{
	started[t] = true;
	getcontext(&first[t]);
	first[t].uc_stack.ss_sp = stacks[t];
	first[t].uc_stack.ss_size = STACK;
	first[t].uc_link = NULL;
	makecontext(&first[t], enter, 0);
	swapcontext(&start, &first[t]);
}

__attribute__((noreturn)) static void wrong(const char *what)
{
	fprintf(stderr, "emulated: %s (thread %d of block %u)\n", what, current, blockIdx.x);
	abort();
}

static void wait_for(enum place where, unsigned mask)
{
	if (!in_fibers)
		wrong("a kernel launched by CUDA_EACH has a barrier");
	if (!(mask >> current % LANES & 1))
		wrong("a lane is not in the mask that it says");
	place[current] = where;
	mask_of[current] = mask;
	if (!__builtin_setjmp(fiber[current]))
		__builtin_longjmp(scheduler, 1);
}

extern "C" void emulated_barrier(void)
{
	wait_for(AT_BARRIER, 0xffffffffu);
}

extern "C" void emulated_warp(unsigned mask)
{
	wait_for(AT_WARP, mask);
}

extern "C" void emulated_meet_lanes(unsigned mask)
{
	wait_for(AT_SHUFFLE, mask);
}

extern "C" void emulated_source(unsigned mask, unsigned lane)
{
	if (!(mask >> lane & 1) || done[current / LANES * LANES + (int)lane])
		wrong("a shuffle asks for the value of a lane that takes no part");
}

#ifdef WL_RACE
extern "C" void emulated_ahead_copy(void *shared, const void *from, size_t bytes)
{
	race_ahead_copy(shared, from, bytes);
}

extern "C" void emulated_ahead_commit(void)
{
	race_ahead_commit();
}

extern "C" void emulated_ahead_wait(int groups)
{
	race_ahead_wait(groups);
}
#else
extern "C" void emulated_ahead_copy(void *shared, const void *from, size_t bytes)
{
	memcpy(shared, from, bytes);
}

extern "C" void emulated_ahead_commit(void)
{
}

extern "C" void emulated_ahead_wait(int)
{
}
#endif

/* Lets the block go on when all that have not returned wait for it. */
static bool let_block_go(void)
{
	int i, waiting = 0;

	for (i = 0; i < CUDA_THREADS; i++) {
		if (!done[i] && place[i] != AT_BARRIER)
			return false;
		waiting += !done[i];
	}
	for (i = 0; i < CUDA_THREADS; i++)
		place[i] = RUNS;
	if (waiting)
		race_barrier();
	return waiting > 0;
}

/* Lets the lanes of a mask that lane i waits with go on, once all of them wait with it. */
static bool let_lanes_go(int i)
{
	int warp = i / LANES * LANES;
	unsigned mask = mask_of[i], gone = 0;
	enum place where = place[i];

	for (int l = 0; l < LANES; l++) {
		int t = warp + l;

		gone |= (unsigned)done[t] << l;
		if ((mask >> l & 1) && !done[t] && (place[t] != where || mask_of[t] != mask))
			return false;
	}
	for (int l = 0; l < LANES; l++)
		if ((mask >> l & 1) && !done[warp + l])
			place[warp + l] = RUNS;
	if (where == AT_WARP)
		race_warp((unsigned)(warp / LANES), mask & ~gone, (mask | gone) == 0xffffffffu);
	return true;
}

/* Opens the barriers that all have reached; false: some thread waits for ever. */
static bool open_barriers(void)
{
	bool any = let_block_go();

	for (int i = 0; i < CUDA_THREADS; i++)
		if (!done[i] && (place[i] == AT_WARP || place[i] == AT_SHUFFLE))
			any = let_lanes_go(i) || any;
	return any;
}

/* The i-th of n in the order that WL_EMULATED_ORDER says. */
static int64_t nth(int64_t i, int64_t n)
{
	static const char *order = getenv("WL_EMULATED_ORDER");
	static uint64_t seed =
		order && !strncmp(order, "random:", 7) ? strtoull(order + 7, NULL, 10) : 0;
	static bool back = order && !strcmp(order, "reverse");

	if (!seed || n < 3)
		return back ? n - 1 - i : i;
	int64_t step = (int64_t)(wl_rng_mix64(seed) % (uint64_t)n) | 1;

	while (std::gcd(step, n) != 1)
		step += 2;
	return (int64_t)(((unsigned __int128)step * (uint64_t)i + wl_rng_mix64(seed + 1)) %
			 (uint64_t)n);
}

/* Every thread of the block up to its next barrier, until all have returned. */
static void run_fibers(void)
{
	static int left, t, k; /* static: they outlive the jumps */

	for (t = 0; t < CUDA_THREADS; t++) {
		done[t] = false;
		place[t] = RUNS;
	}
	in_fibers = true;
	left = CUDA_THREADS;
	while (left) {
		for (k = 0; k < CUDA_THREADS; k++) {
			t = (int)nth(k, CUDA_THREADS);
			if (done[t] || place[t] != RUNS)
				continue;
			current = t;
			threadIdx.x = (unsigned)t;
			if (!__builtin_setjmp(scheduler)) {
				if (started[t])
					__builtin_longjmp(fiber[t], 1);
				start_fiber(t);
			}
			left -= done[t];
		}
		if (left && !open_barriers())
			wrong("threads wait at different barriers");
	}
	in_fibers = false;
}

static void run_block(bool fibers)
{
	race_block();
	if (fibers) {
		run_fibers();
		return;
	}
	for (int i = 0; i < CUDA_THREADS; i++) {
		current = (int)nth(i, CUDA_THREADS);
		threadIdx.x = (unsigned)current;
		body(body_arg);
	}
}

extern "C" void emulated_run(int64_t blocks, bool fibers, void (*fn)(void *), void *arg)
{
	body = fn;
	body_arg = arg;
	blockDim.x = CUDA_THREADS;
	gridDim.x = (unsigned)blocks;
	race_private(stacks, sizeof stacks);
	race_launch(fibers ? NULL : __builtin_frame_address(0));
	for (int64_t b = 0; b < blocks; b++) {
		blockIdx.x = (unsigned)nth(b, blocks);
		run_block(fibers);
	}
	race_launched();
}

extern "C" int wl_cuda_blas_open(struct cuda *, struct wl_err *)
{
	return 0;
}

extern "C" void wl_cuda_blas_close(struct cuda *)
{
}

static double at(const void *p, int64_t i, enum wl_dtype type)
{
	struct cuda_act a = {(void *)p, type};

	return (double)act_load(a, i);
}

/* rows x cols values, as f64; value(r, c) is one of them. */
template <typename F> static double *taken(int64_t rows, int64_t cols, F value)
{
	double *v = new double[(size_t)(rows * cols) + 1];

	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = 0; c < cols; c++)
			v[r * cols + c] = value(r, c);
	return v;
}

/* sums[n] += row[k] b[k][n], each sum in the order of k. */
static void add_row(double *sums, const double *row, const double *b, int64_t k, int64_t n)
{
	for (int64_t p = 0; p < k; p++)
		for (int64_t j = 0; j < n; j++)
			sums[j] += row[p] * b[p * n + j];
}

static void product(const struct cuda_gemm *g, const void *a, const void *b)
{
	enum wl_dtype type = g->bf16 ? WL_BF16 : WL_F32;
	double *x = taken(g->m, g->k,
		[&](int64_t i, int64_t p) { return at(a, i * g->a_row + p * g->a_col, type); });
	double *y = taken(g->k, g->n,
		[&](int64_t p, int64_t j) { return at(b, p * g->b_row + j * g->b_col, type); });
	double *s = new double[(size_t)g->n + 1];

	for (int64_t i = 0; i < g->m; i++) {
		for (int64_t j = 0; j < g->n; j++)
			s[j] = g->add ? (double)g->c[i * g->ldc + j] : 0;
		add_row(s, x + i * g->k, y, g->k, g->n);
		for (int64_t j = 0; j < g->n; j++)
			g->c[i * g->ldc + j] = (float)s[j];
	}
	delete[] x;
	delete[] y;
	delete[] s;
}

extern "C" int wl_cuda_blas(struct cuda *c, const struct cuda_gemm *g, const void *a,
	const void *b, struct wl_err *)
{
	const struct cuda_gemm copy = *g;

	emulated_on(c->stream);
	emulated_give([=] { product(&copy, a, b); });
	return 0;
}

extern "C" int wl_cuda_product_plan(
	struct cuda *, const struct cuda_product *p, void **plan, struct wl_err *err)
{
	*plan = NULL;
	if (p->a.type != p->b.type || (p->bias.p && p->bias.type != p->c.type))
		return wl_err_set(err, WL_EFAIL, "operands of a product have different types");
	return 0;
}

/* Element (i,j) where the library would find it. */
static int64_t placed(struct cuda_lies v, int64_t i, int64_t j)
{
	return v.turned ? j * v.ld + i : i * v.ld + j;
}

static void activation_product(const struct cuda_product *p)
{
	struct cuda_lies a = cuda_lies_of(p->m, p->k, p->a_row, p->a_col);
	struct cuda_lies b = cuda_lies_of(p->k, p->n, p->b_row, p->b_col);
	double *x = taken(p->m, p->k,
		[&](int64_t i, int64_t k) { return at(p->a.p, placed(a, i, k), p->a.type); });
	double *y = taken(p->k, p->n,
		[&](int64_t k, int64_t j) { return at(p->b.p, placed(b, k, j), p->b.type); });
	double *s = new double[(size_t)p->n + 1];

	for (int64_t i = 0; i < p->m; i++) {
		for (int64_t j = 0; j < p->n; j++)
			s[j] = p->add ? at(p->c.p, i * p->ldc + j, p->c.type) : 0;
		add_row(s, x + i * p->k, y, p->k, p->n);
		for (int64_t j = 0; j < p->n; j++) {
			s[j] += p->bias.p ? at(p->bias.p, j, p->bias.type) : 0;
			act_store(p->c, i * p->ldc + j, (float)(p->relu && s[j] < 0 ? 0 : s[j]));
		}
		if (!p->rowsum)
			continue;
		double sum = 0;
		for (int64_t k = 0; k < p->k; k++)
			sum += x[i * p->k + k];
		p->rowsum[i] = (float)sum;
	}
	delete[] x;
	delete[] y;
	delete[] s;
}

extern "C" int wl_cuda_product(struct cuda *c, const void *, const struct cuda_product *p,
	void *, struct wl_err *)
{
	const struct cuda_product copy = *p;

	emulated_on(c->stream);
	emulated_give([=] { activation_product(&copy); });
	return 0;
}

extern "C" bool wl_cuda_product_sums(const void *)
{
	return true;
}

extern "C" void wl_cuda_product_release(struct cuda *, void *)
{
}

/* The library's convolutions: of bf16 only, so that f32 ones go by patches and both ways are
 * tested. */
struct emulated_conv {
	struct cuda_conv v;
	enum cuda_conv_what what;
};

extern "C" int wl_cuda_conv_plan(struct cuda *, const struct cuda_conv *v,
	enum cuda_conv_what what, void **plan, size_t *bytes, struct wl_err *)
{
	struct emulated_conv own = {*v, what};

	*plan = is_half(v->type) ? memcpy(malloc(sizeof own), &own, sizeof own) : NULL;
	*bytes = 0;
	return 0;
}

/* fn(index of x, of w, of y) for every product of a convolution. */
template <typename F> static void each_product(const struct cuda_conv *v, F fn)
{
	for (int64_t y = 0; y < v->n * v->oh * v->ow * v->o; y++)
		for (int64_t t = 0; t < v->kh * v->kw * v->i; t++) {
			int64_t o = y % v->o, ow = y / v->o % v->ow;
			int64_t oh = y / (v->o * v->ow) % v->oh;
			int64_t img = y / (v->o * v->ow * v->oh);
			int64_t h = oh * v->stride - v->pad_h + t / (v->i * v->kw);
			int64_t w = ow * v->stride - v->pad_w + t / v->i % v->kw;
			if (h >= 0 && h < v->h && w >= 0 && w < v->w)
				fn(((img * v->h + h) * v->w + w) * v->i + t % v->i,
					o * v->kh * v->kw * v->i + t, y);
		}
}

static void convolve(const struct emulated_conv *e, const void *x, const void *w, const void *y)
{
	const struct cuda_conv *v = &e->v;
	int64_t n[] = {v->n * v->oh * v->ow * v->o, v->n * v->h * v->w * v->i,
		v->o * v->kh * v->kw * v->i};
	struct cuda_act to = {
		(void *)(e->what == CUDA_CONV_Y ? y : e->what == CUDA_CONV_X ? x : w), v->type};
	double *sum = (double *)calloc((size_t)n[e->what], sizeof *sum);

	each_product(v, [&](int64_t ix, int64_t iw, int64_t iy) {
		if (e->what == CUDA_CONV_Y)
			sum[iy] += at(x, ix, v->type) * at(w, iw, v->type);
		else if (e->what == CUDA_CONV_X)
			sum[ix] += at(y, iy, v->type) * at(w, iw, v->type);
		else
			sum[iw] += at(x, ix, v->type) * at(y, iy, v->type);
	});
	for (int64_t i = 0; i < n[e->what]; i++)
		act_store(to, i, (float)sum[i]);
	free(sum);
}

extern "C" int wl_cuda_conv_run(struct cuda *c, const void *plan, const void *x, const void *w,
	const void *y, void *, struct wl_err *)
{
	const struct emulated_conv *e = (const struct emulated_conv *)plan;

	emulated_on(c->stream);
	emulated_give([=] { convolve(e, x, w, y); });
	return 0;
}

extern "C" void wl_cuda_conv_release(struct cuda *, void *plan)
{
	free(plan);
}

extern "C" void wl_cuda_dnn_close(struct cuda *)
{
}
