#include "train/backend/backend.h"

#include "ops/log.h"

/* Without nvcc there is no CUDA backend, and no GPU is looked for. */
#ifdef WL_HAVE_CUDA
static const char none[] = "this machine has no GPU that the driver shows";
#else
static const char none[] = "this build has no CUDA backend (nvcc was not found when it was built)";
/* Weak: tests bring an emulated one (tests/support/emulated.h). */
__attribute__((weak)) int wl_backend_cuda_count(void)
{
	return 0;
}

__attribute__((weak)) struct wl_backend *wl_backend_cuda_open(int device, struct wl_err *err)
{
	(void)device;
	wl_err_set(err, WL_EUSAGE, "%s", none);
	return NULL;
}
#endif

struct wl_backend *wl_backend_open(const char *device, int which, int threads, struct wl_err *err)
{
	int gpus = strcmp(device, "cpu") == 0 ? 0 : wl_backend_cuda_count();

	if (gpus)
		return wl_backend_cuda_open(which % gpus, err);
	if (strcmp(device, "cuda") == 0) {
		wl_err_set(err, WL_EUSAGE,
			"device is \"cuda\": %s; use --device cpu, or auto", none);
		return NULL;
	}
	if (strcmp(device, "auto") == 0)
		wl_info("computing on the processor (%s)", none);
	return wl_backend_cpu_open(threads, err);
}

void wl_backend_close(struct wl_backend *be)
{
	if (be)
		be->close(be);
}

/* Bit k: slot k is an activation. */
struct halves {
	unsigned char in, out;
};

static const struct halves halves[WL_OP_KINDS] = {
	[WL_OP_CONV] = {1 | 64, 1},
	[WL_OP_CONV_BWD] = {1 | 4 | 64, 1},
	[WL_OP_DEPTHWISE] = {1, 1 | 4},
	[WL_OP_DEPTHWISE_BWD] = {1 | 4, 1},
	[WL_OP_BATCH_NORM] = {1 | 32, 1},
	[WL_OP_BATCH_NORM_BWD] = {1 | 16 | 32 | 64, 1},
	[WL_OP_LINEAR] = {1, 1 | 2},
	[WL_OP_LINEAR_BWD] = {1 | 4 | 8 | 16, 1},
	[WL_OP_LAYER_NORM] = {1 | 8, 1 | 4},
	[WL_OP_LAYER_NORM_BWD] = {1 | 8, 1 | 8},
	[WL_OP_ATTENTION] = {1 | 2 | 4, 1},
	[WL_OP_ATTENTION_BWD] = {1 | 2 | 4 | 16, 1 | 2 | 4},
	[WL_OP_EMBED] = {0, 1},
	[WL_OP_EMBED_BWD] = {2, 0},
	[WL_OP_MEAN_HW] = {1, 1},
	[WL_OP_MEAN_HW_BWD] = {1, 1},
	[WL_OP_CHANNEL_SCALE] = {1 | 2, 1},
	[WL_OP_CHANNEL_SCALE_BWD] = {1 | 2 | 4, 1 | 2},
	[WL_OP_ADD] = {1 | 2, 1},
	[WL_OP_SCALE] = {1, 1},
	[WL_OP_ACT] = {1, 1},
	[WL_OP_ACT_BWD] = {1 | 2, 1},
	[WL_OP_DROPOUT] = {1, 1},
	[WL_OP_L2NORM] = {1, 1},
	[WL_OP_L2NORM_BWD] = {1 | 4, 1},
	[WL_OP_TOKENS] = {1, 1},
	[WL_OP_TOKENS_BWD] = {1, 1},
	[WL_OP_ROI_GRID] = {1, 1},
	[WL_OP_ROI_GRID_BWD] = {2, 1},
	[WL_OP_MASKED_MEAN] = {1, 1},
	[WL_OP_MASKED_MEAN_BWD] = {2, 1},
	[WL_OP_SLICE] = {1, 1},
	[WL_OP_SLICE_BWD] = {1, 1},
	[WL_OP_CONCAT] = {1 | 2, 1},
	[WL_OP_COPY] = {1, 1},
};

bool wl_op_activation(enum wl_op_kind kind, bool out, int slot)
{
	const struct halves *h = &halves[kind];

	return ((out ? h->out : h->in) >> slot) & 1;
}

enum wl_dtype wl_backend_store(const struct wl_backend *be, enum wl_dtype compute)
{
	return compute != WL_F32 && be->stores && be->stores(WL_OP_LINEAR, compute) ? compute
										    : WL_F32;
}

const char *wl_op_name(enum wl_op_kind kind)
{
	static const char *const names[WL_OP_KINDS] = {
		[WL_OP_CONV] = "conv",
		[WL_OP_CONV_BWD] = "conv_bwd",
		[WL_OP_DEPTHWISE] = "depthwise",
		[WL_OP_DEPTHWISE_BWD] = "depthwise_bwd",
		[WL_OP_BATCH_NORM] = "batch_norm",
		[WL_OP_BATCH_NORM_BWD] = "batch_norm_bwd",
		[WL_OP_LINEAR] = "linear",
		[WL_OP_LINEAR_BWD] = "linear_bwd",
		[WL_OP_LAYER_NORM] = "layer_norm",
		[WL_OP_LAYER_NORM_BWD] = "layer_norm_bwd",
		[WL_OP_ATTENTION] = "attention",
		[WL_OP_ATTENTION_BWD] = "attention_bwd",
		[WL_OP_EMBED] = "embed",
		[WL_OP_EMBED_BWD] = "embed_bwd",
		[WL_OP_MEAN_HW] = "mean_hw",
		[WL_OP_MEAN_HW_BWD] = "mean_hw_bwd",
		[WL_OP_CHANNEL_SCALE] = "channel_scale",
		[WL_OP_CHANNEL_SCALE_BWD] = "channel_scale_bwd",
		[WL_OP_ADD] = "add",
		[WL_OP_SCALE] = "scale",
		[WL_OP_ACT] = "act",
		[WL_OP_ACT_BWD] = "act_bwd",
		[WL_OP_DROPOUT] = "dropout",
		[WL_OP_L2NORM] = "l2norm",
		[WL_OP_L2NORM_BWD] = "l2norm_bwd",
		[WL_OP_TOKENS] = "tokens",
		[WL_OP_TOKENS_BWD] = "tokens_bwd",
		[WL_OP_ROI_GRID] = "roi_grid",
		[WL_OP_ROI_GRID_BWD] = "roi_grid_bwd",
		[WL_OP_MASKED_MEAN] = "masked_mean",
		[WL_OP_MASKED_MEAN_BWD] = "masked_mean_bwd",
		[WL_OP_SLICE] = "slice",
		[WL_OP_SLICE_BWD] = "slice_bwd",
		[WL_OP_CONCAT] = "concat",
		[WL_OP_INFONCE] = "infonce",
		[WL_OP_INFONCE_BWD] = "infonce_bwd",
		[WL_OP_BOTH_NEAR] = "both_near",
		[WL_OP_DOT] = "dot",
		[WL_OP_DOT_BWD] = "dot_bwd",
		[WL_OP_FILL] = "fill",
		[WL_OP_COPY] = "copy",
	};
	return kind >= 0 && kind < WL_OP_KINDS ? names[kind] : "?";
}
