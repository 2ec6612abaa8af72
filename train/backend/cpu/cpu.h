/* What the CPU backend's files share; nothing outside this folder includes it. */
#ifndef WL_TRAIN_BACKEND_CPU_CPU_H
#define WL_TRAIN_BACKEND_CPU_CPU_H

#include "train/backend/backend.h"
#include "train/backend/elementwise.h"

struct cpu {
	struct wl_backend be;
	int threads;
	bool bf16;    /* the processor multiplies bf16 */
	float **pack; /* [threads] private memory of a thread for packed matrix panels */
};

/*
 * Work is cut into blocks whose size depends on shapes only, never on the number
 * of threads; partial sums are kept per block and added in the order of blocks.
 * That makes every result the same for any number of threads.
 */
#define CPU_FOR(c) _Pragma("omp parallel for schedule(static) num_threads((c)->threads)")

typedef void (*cpu_run_fn)(struct cpu *c, const struct wl_op *op, const struct wl_run *run);

struct cpu_kernel {
	/* Bytes of scratch that a run needs; NULL for none. */
	size_t (*scratch)(const struct cpu *c, const struct wl_op *op);
	cpu_run_fn run;
};
extern const struct cpu_kernel wl_cpu_kernels[WL_OP_KINDS];

/* --- matrix products: gemm.c --- */

/* c(i,j) [+]= sum_p a(i,p) b(p,j); then act(c + bias), z keeping the value before act. */
struct gemm {
	int64_t m, n, k;
	const float *a;
	int64_t a_row, a_col; /* a(i,p) is a[i * a_row + p * a_col]; one of them is 1 */
	const float *b;
	int64_t b_row, b_col; /* b(p,j) is b[p * b_row + j * b_col]; one of them is 1 */
	float *c;
	int64_t ldc;
	bool add;
	const float *bias; /* [n] or NULL */
	enum wl_act act;
	float *z; /* as c, or NULL */
	/* What operands are rounded to before they are multiplied; sums are f32 in all.  WL_BF16
	 * only where gemm_bf16_available. */
	enum wl_dtype operands;
};

/* All threads. scratch: gemm_scratch bytes (0 unless k is far larger than m and n), or NULL:
 * then k is not cut, with less parallelism where m and n are small. */
void wl_gemm(struct cpu *c, const struct gemm *g, void *scratch);
size_t wl_gemm_scratch(int64_t m, int64_t n, int64_t k);
/* One thread, whole product; pack is its c->pack[]. */
void wl_gemm_serial(const struct gemm *g, float *pack);
/* act(c + bias) on the block of rows from i0, columns from j0: what ends a product. */
void wl_gemm_epilogue(const struct gemm *g, int64_t i0, int64_t rows, int64_t j0, int64_t n);

/* Gradients of y = x w^T: x [rows,i], w [o,i], gy [rows,o]; gw [o,i] += gy^T x,
 * gx [rows,i] [+]= gy w.  All threads; scratch: gemm_scratch bytes of the product. */
void wl_gemm_weights_bwd(struct cpu *c, enum wl_dtype operands, int64_t rows, int64_t i, int64_t o,
	const float *x, const float *gy, float *gw, void *scratch);
void wl_gemm_data_bwd(struct cpu *c, enum wl_dtype operands, int64_t rows, int64_t i, int64_t o,
	const float *w, const float *gy, float *gx, bool acc, void *scratch);

/* gemm_bf16.c: a part of a product with bf16 operands; false where the processor has none. */
bool wl_gemm_bf16_available(void);
void wl_gemm_bf16_part(const struct gemm *g, int64_t m0, int64_t m1, int64_t n0, int64_t n1,
	int64_t k0, int64_t k1, float *out, int64_t ldc, bool add, bool finish, float *pack);
size_t wl_gemm_bf16_pack_floats(void);
/* Floats of a thread's pack buffer. */
size_t wl_gemm_pack_floats(void);

/* --- small helpers: cpu.c --- */

static inline int64_t cpu_min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static inline int64_t cpu_max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static inline int64_t cpu_ceil_div(int64_t a, int64_t b)
{
	return (a + b - 1) / b;
}

static inline float *cpu_f32(const struct wl_tensor *t)
{
	return t ? t->data : NULL;
}

static inline bool cpu_acc(const struct wl_op *op, int out)
{
	return (op->acc >> out) & 1;
}

/* Rows of a [rows, cols] matrix in one block of work: about 64K elements. */
static inline int64_t cpu_block_rows(int64_t cols)
{
	return cpu_max(16, 65536 / cpu_max(cols, 1));
}

/* out[c] += sum over rows of x[rows, cols], blockwise; scratch: cpu_colsum_scratch bytes. */
void wl_cpu_colsum(
	struct cpu *c, const float *x, int64_t rows, int64_t cols, float *out, void *scratch);
size_t wl_cpu_colsum_scratch(int64_t rows, int64_t cols);

/* gz = gy * act'(…), from z (the value before) or y (after), whichever the activation needs. */
void wl_cpu_act_grad(struct cpu *c, enum wl_act act, const float *y, const float *z,
	const float *gy, float *gz, int64_t n);

/* A batch norm and its activation taken into the reading of x (backend.h, "(norm)"): gamma, beta
 * and the statistics are in[slot] and the two behind it; y = act(a x + b).  Factors of the w
 * channels from c0. */
void wl_cpu_norm_factors(const struct wl_op *op, int slot, int64_t c0, int64_t w, float *a,
	float *b);
/* One row of n channels; in place where y is x. */
static inline void wl_cpu_norm_row(enum wl_act act, int64_t n, const float *x,
	const float *restrict a, const float *restrict b, float *y)
{
	WL_ACT_SWITCH(act, {
		_Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] =
			wl_act_value(ACT, x[j] * a[j] + b[j]);
	})
}

/* What this operation's products round their operands to. */
static inline enum wl_dtype cpu_operands(const struct cpu *c, const struct wl_op *op)
{
	return op->attr.compute == WL_BF16 && !c->bf16 ? WL_F32 : op->attr.compute;
}

/* The index of element `first` of an operation for its random numbers, where a sample has
 * `each` elements: what it would be on one rank that holds all ranks' samples. */
static inline uint64_t cpu_rng_index(const struct wl_run *run, int64_t first, int64_t each)
{
	if (run->world <= 1)
		return (uint64_t)first;
	return (uint64_t)(first + (first / each * (run->world - 1) + run->rank) * each);
}

/* The key of this operation's random numbers in this run. */
static inline struct wl_rng_key cpu_key(const struct wl_op *op, const struct wl_run *run)
{
	return wl_rng_key(run->seed, run->step, op->attr.rng_op);
}

/* --- kernels, by file --- */
size_t wl_cpu_conv_scratch(const struct cpu *c, const struct wl_op *op);
size_t wl_cpu_conv_bwd_scratch(const struct cpu *c, const struct wl_op *op);
void wl_cpu_conv(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_conv_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
size_t wl_cpu_depthwise_scratch(const struct cpu *c, const struct wl_op *op);
size_t wl_cpu_depthwise_bwd_scratch(const struct cpu *c, const struct wl_op *op);
void wl_cpu_depthwise(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_depthwise_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
size_t wl_cpu_bn_scratch(const struct cpu *c, const struct wl_op *op);
void wl_cpu_bn(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_bn_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
size_t wl_cpu_linear_scratch(const struct cpu *c, const struct wl_op *op);
size_t wl_cpu_linear_bwd_scratch(const struct cpu *c, const struct wl_op *op);
void wl_cpu_linear(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_linear_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
size_t wl_cpu_ln_bwd_scratch(const struct cpu *c, const struct wl_op *op);
void wl_cpu_ln(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_ln_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
size_t wl_cpu_attention_scratch(const struct cpu *c, const struct wl_op *op);
size_t wl_cpu_attention_bwd_scratch(const struct cpu *c, const struct wl_op *op);
void wl_cpu_attention(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_attention_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_embed(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_embed_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_mean_hw(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_mean_hw_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_channel_scale(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_channel_scale_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_add(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_scale(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_act(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_act_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_dropout(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_l2norm(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_l2norm_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_tokens(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_tokens_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_roi(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_roi_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_masked_mean(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_masked_mean_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_slice(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_slice_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_concat(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
size_t wl_cpu_infonce_scratch(const struct cpu *c, const struct wl_op *op);
void wl_cpu_infonce(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_infonce_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
size_t wl_cpu_both_near_scratch(const struct cpu *c, const struct wl_op *op);
void wl_cpu_both_near(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_dot(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_dot_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
size_t wl_cpu_dot_scratch(const struct cpu *c, const struct wl_op *op);
void wl_cpu_fill(struct cpu *c, const struct wl_op *op, const struct wl_run *run);
void wl_cpu_copy(struct cpu *c, const struct wl_op *op, const struct wl_run *run);

/* --- optimiser: optim.c --- */
void wl_cpu_adamw(struct wl_backend *be, float *w, const float *grad, void *m, void *v,
	const struct wl_adamw_range *ranges, int n_ranges, const struct wl_adamw *how);
void wl_cpu_ema(struct wl_backend *be, float *k, const float *q, int64_t n, float momentum);
double wl_cpu_sum_squares(struct wl_backend *be, const float *x, int64_t n);
void wl_cpu_squares(struct wl_backend *be, const float *x, int64_t n, int64_t step, int64_t rows,
	double *to, bool add);

#endif
