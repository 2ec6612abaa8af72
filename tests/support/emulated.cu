/* See emulated.h. */
#include "train/backend/cuda/cuda.h"

#include <setjmp.h>
#include <stdio.h>
#include <ucontext.h>

struct emulated_index threadIdx, blockIdx, blockDim, gridDim;

enum { STACK = 32768 };

/* Contexts start the fibers; jumps, which need no system call, switch between them. */
static ucontext_t start, first[CUDA_THREADS];
static jmp_buf scheduler, fiber[CUDA_THREADS];
static char stacks[CUDA_THREADS][STACK] __attribute__((aligned(64)));
static bool done[CUDA_THREADS], in_fibers;
static int current;
static void (*body)(void *);
static void *body_arg;

static void enter(void)
{
	body(body_arg);
	done[current] = true;
	_longjmp(scheduler, 1);
}

extern "C" void emulated_barrier(void)
{
	if (!in_fibers) {
		fprintf(stderr, "emulated: a kernel launched by CUDA_EACH has a barrier\n");
		abort();
	}
	if (!_setjmp(fiber[current]))
		_longjmp(scheduler, 1);
}

/* Every thread of the block up to its next barrier, until all have returned; threads that return
 * while others wait would hang on a GPU only if those others counted on them, which ours never do.
 */
static void run_fibers(void)
{
	static int left, t; /* static: they outlive the jumps */
	static bool started;

	for (t = 0; t < CUDA_THREADS; t++) {
		done[t] = false;
		getcontext(&first[t]);
		first[t].uc_stack.ss_sp = stacks[t];
		first[t].uc_stack.ss_size = STACK;
		first[t].uc_link = NULL;
		makecontext(&first[t], enter, 0);
	}
	in_fibers = true;
	left = CUDA_THREADS;
	for (started = false; left; started = true)
		for (t = 0; t < CUDA_THREADS; t++) {
			if (done[t])
				continue;
			current = t;
			threadIdx.x = (unsigned)t;
			if (!_setjmp(scheduler)) {
				if (started)
					_longjmp(fiber[t], 1);
				swapcontext(&start, &first[t]);
			}
			left -= done[t];
		}
	in_fibers = false;
}

extern "C" void emulated_run(int64_t blocks, bool fibers, void (*fn)(void *), void *arg)
{
	body = fn;
	body_arg = arg;
	blockDim.x = CUDA_THREADS;
	gridDim.x = (unsigned)blocks;
	for (int64_t b = 0; b < blocks; b++) {
		blockIdx.x = (unsigned)b;
		if (fibers) {
			run_fibers();
			continue;
		}
		for (unsigned t = 0; t < CUDA_THREADS; t++) {
			threadIdx.x = t;
			fn(arg);
		}
	}
}

extern "C" int wl_cuda_blas_open(struct cuda *, struct wl_err *)
{
	return 0;
}

extern "C" void wl_cuda_blas_close(struct cuda *)
{
}

static double at(const void *p, int64_t i, bool bf16)
{
	return bf16 ? (double)wl_float_of_bits((uint32_t)((const uint16_t *)p)[i] << 16)
		    : (double)((const float *)p)[i];
}

extern "C" int wl_cuda_blas(struct cuda *, const struct cuda_gemm *g, const void *a, const void *b,
	struct wl_err *)
{
	for (int64_t i = 0; i < g->m; i++)
		for (int64_t j = 0; j < g->n; j++) {
			double s = g->add ? (double)g->c[i * g->ldc + j] : 0;

			for (int64_t p = 0; p < g->k; p++)
				s += at(a, i * g->a_row + p * g->a_col, g->bf16) *
				     at(b, p * g->b_row + j * g->b_col, g->bf16);
			g->c[i * g->ldc + j] = (float)s;
		}
	return 0;
}
