/* The CPU backend: its table of kernels, its memory, and helpers that kernels share. */
#include "train/backend/cpu/cpu.h"

#include <omp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

const struct cpu_kernel wl_cpu_kernels[WL_OP_KINDS] = {
	[WL_OP_CONV] = {wl_cpu_conv_scratch, wl_cpu_conv},
	[WL_OP_CONV_BWD] = {wl_cpu_conv_bwd_scratch, wl_cpu_conv_bwd},
	[WL_OP_DEPTHWISE] = {wl_cpu_depthwise_scratch, wl_cpu_depthwise},
	[WL_OP_DEPTHWISE_BWD] = {wl_cpu_depthwise_bwd_scratch, wl_cpu_depthwise_bwd},
	[WL_OP_BATCH_NORM] = {wl_cpu_bn_scratch, wl_cpu_bn},
	[WL_OP_BATCH_NORM_BWD] = {wl_cpu_bn_scratch, wl_cpu_bn_bwd},
	[WL_OP_LINEAR] = {wl_cpu_linear_scratch, wl_cpu_linear},
	[WL_OP_LINEAR_BWD] = {wl_cpu_linear_bwd_scratch, wl_cpu_linear_bwd},
	[WL_OP_LAYER_NORM] = {NULL, wl_cpu_ln},
	[WL_OP_LAYER_NORM_BWD] = {wl_cpu_ln_bwd_scratch, wl_cpu_ln_bwd},
	[WL_OP_ATTENTION] = {wl_cpu_attention_scratch, wl_cpu_attention},
	[WL_OP_ATTENTION_BWD] = {wl_cpu_attention_bwd_scratch, wl_cpu_attention_bwd},
	[WL_OP_EMBED] = {NULL, wl_cpu_embed},
	[WL_OP_EMBED_BWD] = {NULL, wl_cpu_embed_bwd},
	[WL_OP_MEAN_HW] = {NULL, wl_cpu_mean_hw},
	[WL_OP_MEAN_HW_BWD] = {NULL, wl_cpu_mean_hw_bwd},
	[WL_OP_CHANNEL_SCALE] = {NULL, wl_cpu_channel_scale},
	[WL_OP_CHANNEL_SCALE_BWD] = {NULL, wl_cpu_channel_scale_bwd},
	[WL_OP_ADD] = {NULL, wl_cpu_add},
	[WL_OP_SCALE] = {NULL, wl_cpu_scale},
	[WL_OP_ACT] = {NULL, wl_cpu_act},
	[WL_OP_ACT_BWD] = {NULL, wl_cpu_act_bwd},
	[WL_OP_DROPOUT] = {NULL, wl_cpu_dropout},
	[WL_OP_L2NORM] = {NULL, wl_cpu_l2norm},
	[WL_OP_L2NORM_BWD] = {NULL, wl_cpu_l2norm_bwd},
	[WL_OP_TOKENS] = {NULL, wl_cpu_tokens},
	[WL_OP_TOKENS_BWD] = {NULL, wl_cpu_tokens_bwd},
	[WL_OP_ROI_GRID] = {NULL, wl_cpu_roi},
	[WL_OP_ROI_GRID_BWD] = {NULL, wl_cpu_roi_bwd},
	[WL_OP_MASKED_MEAN] = {NULL, wl_cpu_masked_mean},
	[WL_OP_MASKED_MEAN_BWD] = {NULL, wl_cpu_masked_mean_bwd},
	[WL_OP_SLICE] = {NULL, wl_cpu_slice},
	[WL_OP_SLICE_BWD] = {NULL, wl_cpu_slice_bwd},
	[WL_OP_CONCAT] = {NULL, wl_cpu_concat},
	[WL_OP_INFONCE] = {wl_cpu_infonce_scratch, wl_cpu_infonce},
	[WL_OP_INFONCE_BWD] = {wl_cpu_infonce_scratch, wl_cpu_infonce_bwd},
	[WL_OP_BOTH_NEAR] = {wl_cpu_both_near_scratch, wl_cpu_both_near},
	[WL_OP_DOT] = {wl_cpu_dot_scratch, wl_cpu_dot},
	[WL_OP_DOT_BWD] = {NULL, wl_cpu_dot_bwd},
	[WL_OP_FILL] = {NULL, wl_cpu_fill},
	[WL_OP_COPY] = {NULL, wl_cpu_copy},
};

enum { PAGE = 4096 }; /* where the system's are larger, discard only zeroes */

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

static void *cpu_alloc(struct wl_backend *be, size_t bytes, struct wl_err *err)
{
	(void)be;
	size_t whole = (bytes + PAGE - 1) / PAGE * PAGE + PAGE;
#ifdef SANITIZED /* the sanitizer watches the ends of what the heap gives */
	/* (not aligned_alloc, which wants whole pages and so would hide those ends) */
	void *heap = NULL;
	if (posix_memalign(&heap, PAGE, PAGE + (bytes + 63) / 64 * 64) == 0)
		memset(heap, 0, PAGE + (bytes + 63) / 64 * 64);
	else
		heap = NULL;
	size_t *p = heap;
#else
	size_t *p = mmap(NULL, whole, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		p = NULL;
#endif
	if (!p) {
		wl_err_set(err, WL_EFAIL, "out of memory: %.1f GiB for tensors could not be "
			"allocated; lower the batch (--data.batch of wenlan-train, --batch of the "
			"others)", (double)bytes / (1024.0 * 1024 * 1024));
		return NULL;
	}
	*p = whole; /* a page before, for free_mem */
	return (char *)p + PAGE;
}

static void cpu_free_mem(struct wl_backend *be, void *p)
{
	(void)be;
	size_t *start = p ? (size_t *)(void *)((char *)p - PAGE) : NULL;
#ifdef SANITIZED
	free(start);
#else
	if (start)
		munmap(start, *start);
#endif
}

static void cpu_upload(struct wl_backend *be, void *dst, const void *host, size_t bytes)
{
	(void)be;
	if (bytes)
		memcpy(dst, host, bytes);
}

static void cpu_zero(struct wl_backend *be, void *p, size_t bytes)
{
	struct cpu *c = be->impl;
	int64_t block = 1 << 20, n = cpu_ceil_div((int64_t)bytes, block);
	CPU_FOR(c)
	for (int64_t i = 0; i < n; i++)
		memset((char *)p + i * block, 0,
			(size_t)cpu_min(block, (int64_t)bytes - i * block));
}

/* The pages that lie wholly inside go back to the system, the ends are overwritten. */
static void cpu_discard(struct wl_backend *be, void *p, size_t bytes)
{
	uintptr_t at = (uintptr_t)p, end = at + bytes;
	uintptr_t from = (at + PAGE - 1) / PAGE * PAGE, to = end / PAGE * PAGE;
	if (from >= to || madvise((void *)from, to - from, MADV_DONTNEED) < 0) {
		cpu_zero(be, p, bytes);
		return;
	}
	memset(p, 0, from - at);
	memset((void *)to, 0, end - to);
}

/* A fetch is done when it returns. */
static void cpu_hold(struct wl_backend *be)
{
	(void)be;
}

static void cpu_copy(struct wl_backend *be, void *dst, size_t dst_step, const void *src,
	size_t src_step, size_t bytes, size_t rows)
{
	(void)be;
	for (size_t r = 0; bytes && r < rows; r++)
		memcpy((char *)dst + r * dst_step, (const char *)src + r * src_step, bytes);
}

static void cpu_add(struct wl_backend *be, float *y, const float *x, int64_t n)
{
	(void)be;
	for (int64_t i = 0; i < n; i++)
		y[i] += x[i];
}

static int cpu_plan_op(struct wl_backend *be, struct wl_op *op, struct wl_err *err)
{
	const struct cpu_kernel *k = &wl_cpu_kernels[op->kind];
	if (!k->run)
		return wl_err_set(err, WL_EUSAGE, "the CPU backend has no kernel for operation %s",
			wl_op_name(op->kind));
	op->scratch_bytes = k->scratch ? k->scratch(be->impl, op) : 0;
	op->plan = NULL;
	return 0;
}

/* Readers of a batch norm's result that can compute it: the convolution's tensor goes through
 * scratch memory, the others take rows. */
static bool cpu_fuses(enum wl_op_kind kind)
{
	return kind == WL_OP_DEPTHWISE || kind == WL_OP_DEPTHWISE_BWD || kind == WL_OP_MEAN_HW ||
	       kind == WL_OP_CHANNEL_SCALE || kind == WL_OP_CHANNEL_SCALE_BWD ||
	       kind == WL_OP_BATCH_NORM;
}

static int cpu_run_op(
	struct wl_backend *be, const struct wl_op *op, const struct wl_run *run, struct wl_err *err)
{
	(void)err;
	wl_cpu_kernels[op->kind].run(be->impl, op, run);
	return 0;
}

static void cpu_release_op(struct wl_backend *be, struct wl_op *op)
{
	(void)be;
	op->plan = NULL;
}

static int cpu_sync(struct wl_backend *be, struct wl_err *err)
{
	(void)be;
	(void)err;
	return 0;
}

static void cpu_close(struct wl_backend *be)
{
	struct cpu *c = be->impl;
	for (int t = 0; c->pack && t < c->threads; t++)
		free(c->pack[t]);
	free(c->pack);
	free(c);
}

static const struct wl_backend cpu_table = {
	.name = "cpu",
	.alloc = cpu_alloc,
	.free_mem = cpu_free_mem,
	.upload = cpu_upload,
	.send = cpu_upload,
	.download = cpu_upload,
	.zero = cpu_zero,
	.discard = cpu_discard,
	.fetch = cpu_upload,
	.hold = cpu_hold,
	.fetched = cpu_sync,
	.alloc_host = cpu_alloc,
	.free_host = cpu_free_mem,
	.copy = cpu_copy,
	.add = cpu_add,
	.plan_op = cpu_plan_op,
	.fuses = cpu_fuses,
	.run_op = cpu_run_op,
	.release_op = cpu_release_op,
	.sync = cpu_sync,
	.adamw = wl_cpu_adamw,
	.ema = wl_cpu_ema,
	.sum_squares = wl_cpu_sum_squares,
	.squares = wl_cpu_squares,
	.close = cpu_close,
};

bool wl_backend_cpu_has_bf16(void)
{
	return wl_gemm_bf16_available();
}

struct wl_backend *wl_backend_cpu_open(int threads, struct wl_err *err)
{
	struct cpu *c = calloc(1, sizeof(*c));
	if (!c) {
		wl_err_nomem(err, "the CPU backend", sizeof(*c));
		return NULL;
	}
	c->be = cpu_table;
	c->be.impl = c;
	c->threads = threads > 0 ? threads : omp_get_max_threads();
	c->bf16 = wl_gemm_bf16_available();
	c->pack = calloc((size_t)c->threads, sizeof(*c->pack));
	size_t bytes = wl_gemm_pack_floats() * sizeof(float);
	for (int t = 0; c->pack && t < c->threads; t++) {
		c->pack[t] = aligned_alloc(64, bytes);
		if (!c->pack[t])
			break;
	}
	if (!c->pack || !c->pack[c->threads - 1]) {
		wl_err_nomem(err, "the CPU backend's work space", bytes * (size_t)c->threads);
		cpu_close(&c->be);
		return NULL;
	}
	return &c->be;
}

size_t wl_cpu_colsum_scratch(int64_t rows, int64_t cols)
{
	return (size_t)(cpu_ceil_div(rows, cpu_block_rows(cols)) * cols) * sizeof(float);
}

void wl_cpu_colsum(
	struct cpu *c, const float *x, int64_t rows, int64_t cols, float *out, void *scratch)
{
	int64_t per = cpu_block_rows(cols), blocks = cpu_ceil_div(rows, per);
	float *partial = scratch;
	CPU_FOR(c)
	for (int64_t b = 0; b < blocks; b++) {
		float *restrict sum = partial + b * cols;
		memset(sum, 0, (size_t)cols * sizeof(float));
		for (int64_t r = b * per; r < cpu_min(rows, (b + 1) * per); r++) {
			const float *restrict row = x + r * cols;
#pragma omp simd
			for (int64_t j = 0; j < cols; j++)
				sum[j] += row[j];
		}
	}
	for (int64_t j = 0; j < cols; j++) {
		double s = 0;
		for (int64_t b = 0; b < blocks; b++)
			s += (double)partial[b * cols + j];
		out[j] += (float)s;
	}
}

void wl_cpu_act_grad(struct cpu *c, enum wl_act act, const float *y, const float *z,
	const float *gy, float *gz, int64_t n)
{
	const int64_t block = 16384;
	CPU_FOR(c)
	for (int64_t b = 0; b < n; b += block) {
		int64_t end = cpu_min(n, b + block);
		WL_ACT_SWITCH(act, {
			if (wl_act_grad_from_y(ACT)) {
				_Pragma("omp simd") for (int64_t i = b; i < end; i++) gz[i] =
					gy[i] * wl_act_grad_y(ACT, y[i]);
			} else {
				_Pragma("omp simd") for (int64_t i = b; i < end; i++) gz[i] =
					gy[i] * wl_act_grad(ACT, z[i]);
			}
		})
	}
}
