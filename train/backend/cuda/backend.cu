/* The CUDA backend: its table of kernels and its memory. */
#include "train/backend/cuda/pointwise.h"
#include "train/backend/cuda/room.h"

extern "C" {
#include "ops/log.h"
}

/* A switch, because C++ has no array elements by name. */
static struct cuda_kernel kernel_of(enum wl_op_kind kind)
{
	struct cuda_kernel none = {NULL, NULL, false, NULL, NULL};
#define ROW(kind, scratch, run, half)                                                              \
	case kind: {                                                                               \
		struct cuda_kernel k = {scratch, run, half, NULL, NULL};                           \
		return k;                                                                          \
	}
#define KERNEL(kind, scratch, run) ROW(kind, scratch, run, false) /* f32 only */
#define HALF(kind, scratch, run) ROW(kind, scratch, run, true)
#define PLANNED(kind, run)                                                                         \
	case kind: {                                                                               \
		struct cuda_kernel k = {NULL, run, false, run##_plan, run##_release};              \
		return k;                                                                          \
	}
#define DENSE(kind, run)                                                                           \
	case kind: {                                                                               \
		struct cuda_kernel k = {                                                           \
			NULL, run, true, wl_cuda_dense_plan, wl_cuda_dense_release};               \
		return k;                                                                          \
	}
	switch (kind) {
		DENSE(WL_OP_CONV, wl_cuda_conv)
		DENSE(WL_OP_CONV_BWD, wl_cuda_conv_bwd)
		HALF(WL_OP_DEPTHWISE, wl_cuda_depthwise_scratch, wl_cuda_depthwise)
		HALF(WL_OP_DEPTHWISE_BWD, wl_cuda_depthwise_bwd_scratch, wl_cuda_depthwise_bwd)
		HALF(WL_OP_BATCH_NORM, wl_cuda_bn_scratch, wl_cuda_bn)
		HALF(WL_OP_BATCH_NORM_BWD, wl_cuda_bn_scratch, wl_cuda_bn_bwd)
		DENSE(WL_OP_LINEAR, wl_cuda_linear)
		DENSE(WL_OP_LINEAR_BWD, wl_cuda_linear_bwd)
		HALF(WL_OP_LAYER_NORM, NULL, wl_cuda_ln)
		HALF(WL_OP_LAYER_NORM_BWD, wl_cuda_ln_bwd_scratch, wl_cuda_ln_bwd)
		HALF(WL_OP_ATTENTION, wl_cuda_attention_scratch, wl_cuda_attention)
		HALF(WL_OP_ATTENTION_BWD, wl_cuda_attention_bwd_scratch, wl_cuda_attention_bwd)
		HALF(WL_OP_EMBED, NULL, wl_cuda_embed)
		HALF(WL_OP_EMBED_BWD, wl_cuda_embed_bwd_scratch, wl_cuda_embed_bwd)
		HALF(WL_OP_TOKENS, NULL, wl_cuda_tokens)
		HALF(WL_OP_TOKENS_BWD, NULL, wl_cuda_tokens_bwd)
		HALF(WL_OP_MEAN_HW, wl_cuda_pool_scratch, wl_cuda_mean_hw)
		HALF(WL_OP_MEAN_HW_BWD, NULL, wl_cuda_mean_hw_bwd)
		HALF(WL_OP_CHANNEL_SCALE, NULL, wl_cuda_channel_scale)
		HALF(WL_OP_CHANNEL_SCALE_BWD, wl_cuda_pool_scratch,
			wl_cuda_channel_scale_bwd)
		HALF(WL_OP_ADD, NULL, wl_cuda_add)
		HALF(WL_OP_SCALE, NULL, wl_cuda_scale)
		HALF(WL_OP_ACT, NULL, wl_cuda_act)
		HALF(WL_OP_ACT_BWD, NULL, wl_cuda_act_bwd)
		HALF(WL_OP_DROPOUT, NULL, wl_cuda_dropout)
		HALF(WL_OP_L2NORM, NULL, wl_cuda_l2norm)
		HALF(WL_OP_L2NORM_BWD, NULL, wl_cuda_l2norm_bwd)
		HALF(WL_OP_ROI_GRID, NULL, wl_cuda_roi)
		HALF(WL_OP_ROI_GRID_BWD, wl_cuda_roi_bwd_scratch, wl_cuda_roi_bwd)
		HALF(WL_OP_MASKED_MEAN, NULL, wl_cuda_masked_mean)
		HALF(WL_OP_MASKED_MEAN_BWD, NULL, wl_cuda_masked_mean_bwd)
		HALF(WL_OP_SLICE, NULL, wl_cuda_slice)
		HALF(WL_OP_SLICE_BWD, NULL, wl_cuda_slice_bwd)
		HALF(WL_OP_CONCAT, NULL, wl_cuda_concat)
		KERNEL(WL_OP_INFONCE, wl_cuda_infonce_scratch, wl_cuda_infonce)
		PLANNED(WL_OP_INFONCE_BWD, wl_cuda_infonce_bwd)
		KERNEL(WL_OP_BOTH_NEAR, wl_cuda_both_near_scratch, wl_cuda_both_near)
		KERNEL(WL_OP_DOT, NULL, wl_cuda_dot)
		KERNEL(WL_OP_DOT_BWD, NULL, wl_cuda_dot_bwd)
		HALF(WL_OP_FILL, NULL, wl_cuda_fill)
		HALF(WL_OP_COPY, NULL, wl_cuda_copy)
	default:
		return none;
	}
#undef DENSE
#undef PLANNED
#undef HALF
#undef KERNEL
#undef ROW
}

/* What a kernel did wrong shows at some later call, whose name then says little. */
static int failed(cudaError_t code, const char *what, struct wl_err *err)
{
	return wl_err_set(err, WL_EFAIL,
		"the GPU failed in %s, or in something given to it before: "
		"%s; with CUDA_LAUNCH_BLOCKING=1 in the environment and --cuda-graph false the "
		"name is that of the operation",
		what, cudaGetErrorString(code));
}

/* Where tests write the device's memory in place, nothing of it may be under way. */
static void settle_managed(struct cuda *c)
{
	enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
	if (c->managed && cudaStreamIsCapturing(c->stream, &status) == cudaSuccess &&
		status == cudaStreamCaptureStatusNone)
		cudaStreamSynchronize(c->stream);
}

static void *cuda_alloc(struct wl_backend *be, size_t bytes, struct wl_err *err)
{
	struct cuda *c = (struct cuda *)be->impl;
	void *p = NULL;
	/* Memory that the host reaches too, for tests that write and read tensors in place. */
	cudaError_t code = c->managed ? cudaMallocManaged(&p, bytes ? bytes : 1)
				      : cudaMalloc(&p, bytes ? bytes : 1);
	if (code == cudaSuccess)
		code = cudaMemsetAsync(p, 0, bytes ? bytes : 1, c->stream);
	settle_managed(c);
	if (code == cudaSuccess && wl_cuda_memory_add(c, p, bytes, err) < 0) {
		cudaFree(p);
		return NULL;
	}
	if (code != cudaSuccess) {
		cudaGetLastError(); /* it is told here */
		wl_cuda_no_room("tensors", bytes, cudaGetErrorString(code), "", err);
		return NULL;
	}
	return p;
}

static void cuda_free_mem(struct wl_backend *be, void *p)
{
	struct cuda *c = (struct cuda *)be->impl;
	wl_cuda_memory_drop(c, p);
	if (!wl_cuda_unmap(c, p))
		cudaFree(p);
}

/* Up or down: either side may be the device.  It waits, as callers use the host's memory at once;
 * an error stays for sync to report. */
static void cuda_copy(struct wl_backend *be, void *to, const void *from, size_t bytes)
{
	struct cuda *c = (struct cuda *)be->impl;
	cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, c->stream);
	wl_cuda_touched(c, to, bytes);
	cudaStreamSynchronize(c->stream);
}

static void cuda_zero(struct wl_backend *be, void *p, size_t bytes)
{
	struct cuda *c = (struct cuda *)be->impl;
	cudaMemsetAsync(p, 0, bytes, c->stream);
	wl_cuda_touched(c, p, bytes);
	settle_managed(c);
}

static int cuda_plan_op(struct wl_backend *be, struct wl_op *op, struct wl_err *err)
{
	struct cuda_kernel k = kernel_of(op->kind);
	if (!k.run)
		return wl_err_set(err, WL_EUSAGE, "the CUDA backend has no kernel for operation %s",
			wl_op_name(op->kind));
	op->scratch_bytes = k.scratch ? k.scratch(op) : 0;
	op->plan = NULL;
	return k.plan ? k.plan((struct cuda *)be->impl, op, err) : 0;
}

static bool cuda_stores(enum wl_op_kind kind, enum wl_dtype dtype)
{
	return dtype == WL_F32 || (is_half(dtype) && kernel_of(kind).half);
}

static bool cuda_fuses(enum wl_op_kind kind)
{
	return kind == WL_OP_DEPTHWISE || kind == WL_OP_DEPTHWISE_BWD || kind == WL_OP_MEAN_HW ||
	       kind == WL_OP_CHANNEL_SCALE || kind == WL_OP_CHANNEL_SCALE_BWD ||
	       kind == WL_OP_BATCH_NORM || kind == WL_OP_BATCH_NORM_BWD;
}

static bool cuda_sums(enum wl_op_kind kind)
{
	return kind == WL_OP_DEPTHWISE || kind == WL_OP_DEPTHWISE_BWD ||
	       kind == WL_OP_CHANNEL_SCALE_BWD || kind == WL_OP_MEAN_HW;
}

static __global__ void k_step(int64_t n, struct cuda_step *to, struct cuda_step value)
{
	EACH(i, n)
	to[i] = value;
}

void wl_cuda_at_step(struct cuda *c, uint64_t seed, uint64_t step)
{
	struct cuda_step value = {wl_rng_of_step(seed, step)};
	if (c->has_step && seed == c->seed_now && step == c->step_now)
		return;
	CUDA_EACH(c, 1, k_step, c->step, value);
	c->seed_now = seed;
	c->step_now = step;
	c->has_step = true;
}

/* The emulation checks that kernels touch nothing but what is the operation's. */
#ifdef WL_CUDA_EMULATED
#define CUDA_OPERATION(op, run) race_operation(op, run)
#else
#define CUDA_OPERATION(op, run) ((void)0)
#endif

static int cuda_run_op(
	struct wl_backend *be, const struct wl_op *op, const struct wl_run *run, struct wl_err *err)
{
	struct cuda *c = (struct cuda *)be->impl;
	struct wl_run here = *run;
	cudaError_t code;
	int rc;
	wl_cuda_at_step(c, run->seed, run->step);
	here.at_step = c->step;
	CUDA_OPERATION(op, &here);
	rc = kernel_of(op->kind).run(c, op, &here, err);
	CUDA_OPERATION(NULL, NULL);
	if (rc < 0)
		return rc;
	code = cudaGetLastError(); /* of the launch; the kernel itself may still fail later */
	return code == cudaSuccess ? 0 : failed(code, wl_op_name(op->kind), err);
}

static void cuda_release_op(struct wl_backend *be, struct wl_op *op)
{
	struct cuda_kernel k = kernel_of(op->kind);
	if (k.release)
		k.release((struct cuda *)be->impl, op);
	op->plan = NULL;
}

static int cuda_sync(struct wl_backend *be, struct wl_err *err)
{
	struct cuda *c = (struct cuda *)be->impl;
	cudaError_t code = cudaStreamSynchronize(c->stream);
	if (code == cudaSuccess)
		code = cudaGetLastError(); /* a launch outside operations that was refused */
	return code == cudaSuccess ? 0 : failed(code, "the work given to it", err);
}

static void cuda_close(struct wl_backend *be)
{
	struct cuda *c = (struct cuda *)be->impl;
	wl_cuda_dnn_close(c);
	wl_cuda_blas_close(c);
	wl_cuda_mail_close(c);
	wl_cuda_fetch_close(c);
	wl_cuda_memory_release(c);
	cudaFree(c->reduce);
	cudaFree(c->step);
	if (c->stream)
		cudaStreamDestroy(c->stream);
	free(c);
}

static void fill_table(struct wl_backend *be)
{
	be->name = "cuda";
	be->alloc = cuda_alloc;
	be->free_mem = cuda_free_mem;
	be->upload = cuda_copy;
	be->send = wl_cuda_send;
	be->download = cuda_copy;
	be->zero = cuda_zero;
	be->discard = cuda_zero;
	be->plan_op = cuda_plan_op;
	be->stores = cuda_stores;
	be->fuses = cuda_fuses;
	be->sums = cuda_sums;
	be->pointwise = wl_cuda_pointwise;
	be->run_op = cuda_run_op;
	be->release_op = cuda_release_op;
	be->sync = cuda_sync;
	be->adamw = wl_cuda_adamw;
	be->ema = wl_cuda_ema;
	be->sum_squares = wl_cuda_sum_squares;
	be->pictures = wl_cuda_pictures();
	be->judges = wl_cuda_judges();
	be->ranks = wl_cuda_ranks();
	be->squares = wl_cuda_squares;
	be->close = cuda_close;
	wl_cuda_stream_table(be);
	wl_cuda_fetch_table(be);
}

/* The stream waits for nothing of the legacy stream's, which libraries may use: in a capture that
 * would be an error. */
static int start(struct cuda *c, int device, struct wl_err *err)
{
	cudaError_t code = cudaSetDevice(device);
	int major = 0;
	c->managed = getenv("WL_CUDA_MANAGED") != NULL;
	c->device = device;
	if (code == cudaSuccess)
		code = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
	if (code == cudaSuccess && major < 8)
		return wl_err_set(err, WL_EUSAGE,
			"GPU %d has compute capability %d: expected 8.0 or "
			"later (A100, H100 and what came after them); use --device cpu",
			device, major);
	if (code == cudaSuccess)
		code = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
	if (code == cudaSuccess)
		code = cudaMalloc((void **)&c->reduce,
			(CUDA_REDUCE_BLOCKS + 1) * sizeof *c->reduce);
	if (code == cudaSuccess)
		code = cudaMalloc((void **)&c->step, sizeof *c->step);
	if (code != cudaSuccess)
		return wl_err_set(err, WL_EUSAGE, "GPU %d cannot be used: %s", device,
			cudaGetErrorString(code));
	return wl_cuda_blas_open(c, err);
}

/* Without any driver the runtime calls it an old one. */
static bool have_driver(void)
{
	int version = 0;
	return cudaDriverGetVersion(&version) == cudaSuccess && version > 0;
}

extern "C" int wl_backend_cuda_count(void)
{
	int n = 0;
	cudaError_t code = cudaGetDeviceCount(&n);
	if (code == cudaSuccess)
		return n;
	cudaGetLastError();
	if (code != cudaErrorNoDevice && have_driver())
		wl_warn("the driver shows no GPU: %s", cudaGetErrorString(code));
	return 0;
}

extern "C" struct wl_backend *wl_backend_cuda_open(int device, struct wl_err *err)
{
	struct cuda *c = (struct cuda *)calloc(1, sizeof *c);
	if (!c) {
		wl_err_nomem(err, "the CUDA backend", sizeof *c);
		return NULL;
	}
	fill_table(&c->be);
	c->be.impl = c;
	if (start(c, device, err) < 0) {
		cuda_close(&c->be);
		return NULL;
	}
	wl_cuda_mapped_table(&c->be);
	return &c->be;
}
