/*
 * cuDNN for dense convolutions, loaded when the first one is planned; without it they are products
 * over gathered patches (dense.cu).  Tensors are NHWC and weights [O,kh,kw,I], as ours; padding is
 * symmetric here, dense.cu pads TensorFlow's by itself.  Only algorithms that give the same bits in
 * every run are taken.
 */
#include "train/backend/cuda/cuda.h"

#if __has_include(<cudnn.h>) /* it is not part of the toolkit */
#include <cudnn.h>
#include <dlfcn.h>
#include <stdio.h>

#define FUNCTIONS(X)                                                                               \
	X(create, cudnnCreate)                                                                     \
	X(destroy, cudnnDestroy)                                                                   \
	X(set_stream, cudnnSetStream)                                                              \
	X(tensor_create, cudnnCreateTensorDescriptor)                                              \
	X(tensor_destroy, cudnnDestroyTensorDescriptor)                                            \
	X(tensor_set, cudnnSetTensor4dDescriptor)                                                  \
	X(filter_create, cudnnCreateFilterDescriptor)                                              \
	X(filter_destroy, cudnnDestroyFilterDescriptor)                                            \
	X(filter_set, cudnnSetFilter4dDescriptor)                                                  \
	X(conv_create, cudnnCreateConvolutionDescriptor)                                           \
	X(conv_destroy, cudnnDestroyConvolutionDescriptor)                                         \
	X(conv_set, cudnnSetConvolution2dDescriptor)                                               \
	X(conv_math, cudnnSetConvolutionMathType)                                                  \
	X(choose_y, cudnnGetConvolutionForwardAlgorithm_v7)                                        \
	X(choose_x, cudnnGetConvolutionBackwardDataAlgorithm_v7)                                   \
	X(choose_w, cudnnGetConvolutionBackwardFilterAlgorithm_v7)                                 \
	X(bytes_y, cudnnGetConvolutionForwardWorkspaceSize)                                        \
	X(bytes_x, cudnnGetConvolutionBackwardDataWorkspaceSize)                                   \
	X(bytes_w, cudnnGetConvolutionBackwardFilterWorkspaceSize)                                 \
	X(text, cudnnGetErrorString)                                                               \
	X(run_y, cudnnConvolutionForward)                                                          \
	X(run_x, cudnnConvolutionBackwardData)                                                     \
	X(run_w, cudnnConvolutionBackwardFilter)

struct dnn {
	void *library; /* NULL: there is none */
	cudnnHandle_t handle;
#define MEMBER(member, function) decltype(&function) member;
	FUNCTIONS(MEMBER)
#undef MEMBER
};

struct conv_plan {
	enum cuda_conv_what what;
	cudnnTensorDescriptor_t x, y;
	cudnnFilterDescriptor_t w;
	cudnnConvolutionDescriptor_t conv;
	int algo;
	enum wl_dtype type;
	size_t bytes;
};

static bool load(struct dnn *d, cudaStream_t stream)
{
	char path[64];
	bool all = true;

	snprintf(path, sizeof path, "libcudnn.so.%d", CUDNN_MAJOR);
	d->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!d->library)
		return false;
#define FIND(member, function)                                                                     \
	*(void **)&d->member = dlsym(d->library, #function);                                       \
	all = all && d->member;
	FUNCTIONS(FIND)
#undef FIND
	if (all && d->create(&d->handle) == CUDNN_STATUS_SUCCESS)
		return d->set_stream(d->handle, stream) == CUDNN_STATUS_SUCCESS;
	d->handle = NULL;
	return false;
}

/* NULL: cuDNN is missing or too old; asked once. */
static struct dnn *dnn_of(struct cuda *c)
{
	struct dnn *d = (struct dnn *)c->dnn;

	if (!d) {
		d = (struct dnn *)calloc(1, sizeof *d);
		if (!d)
			return NULL;
		c->dnn = d;
		if (!load(d, c->stream))
			d->library = NULL;
	}
	return d->library ? d : NULL;
}

extern "C" void wl_cuda_dnn_close(struct cuda *c)
{
	struct dnn *d = (struct dnn *)c->dnn;

	if (d && d->handle)
		d->destroy(d->handle);
	free(d); /* the library stays, as in nvidia.cu */
	c->dnn = NULL;
}

static bool describe(const struct dnn *d, struct conv_plan *p, const struct cuda_conv *v)
{
	cudnnDataType_t type = v->type == WL_F16    ? CUDNN_DATA_HALF
			       : v->type == WL_BF16 ? CUDNN_DATA_BFLOAT16
						      : CUDNN_DATA_FLOAT;
	const cudnnStatus_t ok = CUDNN_STATUS_SUCCESS;

	return d->tensor_create(&p->x) == ok && d->tensor_create(&p->y) == ok &&
	       d->filter_create(&p->w) == ok && d->conv_create(&p->conv) == ok &&
	       d->tensor_set(p->x, CUDNN_TENSOR_NHWC, type, (int)v->n, (int)v->i, (int)v->h,
		       (int)v->w) == ok &&
	       d->tensor_set(p->y, CUDNN_TENSOR_NHWC, type, (int)v->n, (int)v->o, (int)v->oh,
		       (int)v->ow) == ok &&
	       d->filter_set(p->w, type, CUDNN_TENSOR_NHWC, (int)v->o, (int)v->i, v->kh, v->kw) ==
		       ok &&
	       d->conv_set(p->conv, v->pad_h, v->pad_w, v->stride, v->stride, 1, 1,
		       CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT) == ok &&
	       d->conv_math(p->conv, is_half(v->type) ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH) ==
		       ok;
}

/*
 * The fastest, as cuDNN thinks, of the algorithms that are deterministic and within the memory.
 * The list is a heuristic's: whether one can do it, asking for its workspace (size_of) tells.
 */
#define TAKE(perf, found, size_of)                                                                 \
	for (int k = 0; k < (found); k++) {                                                        \
		if ((perf)[k].status != CUDNN_STATUS_SUCCESS ||                                    \
			(perf)[k].determinism != CUDNN_DETERMINISTIC ||                            \
			(perf)[k].memory > (size_t)CUDA_CONV_WORKSPACE ||                          \
			(!is_half(p->type) && (perf)[k].mathType != CUDNN_FMA_MATH)) /* no TF32 */ \
			continue;                                                                  \
		if (d->conv_math(p->conv, (perf)[k].mathType) != CUDNN_STATUS_SUCCESS ||           \
			(size_of) != CUDNN_STATUS_SUCCESS ||                                       \
			p->bytes > (size_t)CUDA_CONV_WORKSPACE)                                    \
			continue;                                                                  \
		p->algo = (int)(perf)[k].algo;                                                     \
		return true;                                                                       \
	}                                                                                          \
	return false

enum { CHOICES = 16 };

static bool choose_y(const struct dnn *d, struct conv_plan *p)
{
	cudnnConvolutionFwdAlgoPerf_t perf[CHOICES];
	int found = 0;

	if (d->choose_y(d->handle, p->x, p->w, p->conv, p->y, CHOICES, &found, perf) !=
		CUDNN_STATUS_SUCCESS)
		return false;
	TAKE(perf, found,
		d->bytes_y(d->handle, p->x, p->w, p->conv, p->y, perf[k].algo, &p->bytes));
}

static bool choose_x(const struct dnn *d, struct conv_plan *p)
{
	cudnnConvolutionBwdDataAlgoPerf_t perf[CHOICES];
	int found = 0;

	if (d->choose_x(d->handle, p->w, p->y, p->conv, p->x, CHOICES, &found, perf) !=
		CUDNN_STATUS_SUCCESS)
		return false;
	TAKE(perf, found,
		d->bytes_x(d->handle, p->w, p->y, p->conv, p->x, perf[k].algo, &p->bytes));
}

static bool choose_w(const struct dnn *d, struct conv_plan *p)
{
	cudnnConvolutionBwdFilterAlgoPerf_t perf[CHOICES];
	int found = 0;

	if (d->choose_w(d->handle, p->x, p->y, p->conv, p->w, CHOICES, &found, perf) !=
		CUDNN_STATUS_SUCCESS)
		return false;
	TAKE(perf, found,
		d->bytes_w(d->handle, p->x, p->y, p->conv, p->w, perf[k].algo, &p->bytes));
}

static bool choose(const struct dnn *d, struct conv_plan *p)
{
	switch (p->what) {
	case CUDA_CONV_Y:
		return choose_y(d, p);
	case CUDA_CONV_X:
		return choose_x(d, p);
	default:
		return choose_w(d, p);
	}
}

extern "C" int wl_cuda_conv_plan(struct cuda *c, const struct cuda_conv *v,
	enum cuda_conv_what what, void **plan, size_t *bytes, struct wl_err *err)
{
	struct dnn *d = dnn_of(c);
	struct conv_plan *p;

	*plan = NULL;
	*bytes = 0;
	if (!d)
		return 0;
	p = (struct conv_plan *)calloc(1, sizeof *p);
	if (!p)
		return wl_err_nomem(err, "the plan of a convolution", sizeof *p);
	p->what = what;
	p->type = v->type;
	if (!describe(d, p, v) || !choose(d, p)) {
		wl_cuda_conv_release(c, p);
		return 0;
	}
	*plan = p;
	*bytes = p->bytes;
	return 0;
}

extern "C" int wl_cuda_conv_run(struct cuda *c, const void *plan, const void *x, const void *w,
	const void *y, void *workspace, struct wl_err *err)
{
	const struct dnn *d = (const struct dnn *)c->dnn;
	const struct conv_plan *p = (const struct conv_plan *)plan;
	const float one = 1, none = 0;
	cudnnStatus_t code;

	if (p->what == CUDA_CONV_Y)
		code = d->run_y(d->handle, &one, p->x, x, p->w, w, p->conv,
			(cudnnConvolutionFwdAlgo_t)p->algo, workspace, p->bytes, &none, p->y,
			(void *)y);
	else if (p->what == CUDA_CONV_X)
		code = d->run_x(d->handle, &one, p->w, w, p->y, y, p->conv,
			(cudnnConvolutionBwdDataAlgo_t)p->algo, workspace, p->bytes, &none, p->x,
			(void *)x);
	else
		code = d->run_w(d->handle, &one, p->x, x, p->y, y, p->conv,
			(cudnnConvolutionBwdFilterAlgo_t)p->algo, workspace, p->bytes, &none, p->w,
			(void *)w);
	return code == CUDNN_STATUS_SUCCESS
		       ? 0
		       : wl_err_set(err, WL_EFAIL, "cuDNN failed in a convolution: %s",
				 d->text(code));
}

extern "C" void wl_cuda_conv_release(struct cuda *c, void *plan)
{
	const struct dnn *d = (const struct dnn *)c->dnn;
	struct conv_plan *p = (struct conv_plan *)plan;

	if (!p)
		return;
	if (p->x)
		d->tensor_destroy(p->x);
	if (p->y)
		d->tensor_destroy(p->y);
	if (p->w)
		d->filter_destroy(p->w);
	if (p->conv)
		d->conv_destroy(p->conv);
	free(p);
}

#else

extern "C" int wl_cuda_conv_plan(struct cuda *c, const struct cuda_conv *v,
	enum cuda_conv_what what, void **plan, size_t *bytes, struct wl_err *err)
{
	(void)c, (void)v, (void)what, (void)err;
	*plan = NULL;
	*bytes = 0;
	return 0;
}

extern "C" int wl_cuda_conv_run(struct cuda *c, const void *plan, const void *x, const void *w,
	const void *y, void *workspace, struct wl_err *err)
{
	(void)c, (void)plan, (void)x, (void)w, (void)y, (void)workspace;
	return wl_err_set(err, WL_EFAIL, "this build has no cuDNN (cudnn.h was not found)");
}

extern "C" void wl_cuda_conv_release(struct cuda *c, void *plan)
{
	(void)c, (void)plan;
}

extern "C" void wl_cuda_dnn_close(struct cuda *c)
{
	(void)c;
}
#endif
