/*
 * The backend's memory as seen from the host, and its stream: copies that keep their place among
 * kernels, pinned memory, and steps recorded as CUDA graphs.
 *
 * A graph of operations launches thousands of kernels a step.  Recorded, they are one launch: the
 * host then has nothing to do but the next batch, and the device no gaps between small kernels.
 * What differs from step to step is read from device memory (struct cuda_step), so a recording
 * stays good as long as no pointer and no shape changes.
 */
#include "train/backend/cuda/cuda.h"

static int failed(cudaError_t code, const char *what, struct wl_err *err)
{
	const char *why = cudaGetErrorString(code);

	return wl_err_set(err, WL_EFAIL, "the GPU failed in %s: %s", what, why);
}

static void *cuda_alloc_host(struct wl_backend *be, size_t bytes, struct wl_err *err)
{
	void *p = NULL;
	/* Of whatever thread: a first call on another GPU would make a context there. */
	cudaError_t code = cudaSetDevice(((struct cuda *)be->impl)->device);

	if (code == cudaSuccess)
		code = cudaMallocHost(&p, bytes ? bytes : 1);
	if (code == cudaSuccess) {
		memset(p, 0, bytes);
		return p;
	}
	cudaGetLastError(); /* it is told here */
	wl_err_set(err, WL_EFAIL,
		"%zu bytes of pinned host memory cannot be had (%s); free memory, "
		"or raise the limit of locked memory (ulimit -l)",
		bytes, cudaGetErrorString(code));
	return NULL;
}

static void cuda_free_host(struct wl_backend *be, void *p)
{
	cudaSetDevice(((struct cuda *)be->impl)->device);
	cudaFreeHost(p);
}

static void cuda_move(struct wl_backend *be, void *dst, size_t dst_step, const void *src,
	size_t src_step, size_t bytes, size_t rows)
{
	struct cuda *c = (struct cuda *)be->impl;

	if (!bytes || !rows)
		return;
	wl_cuda_touched(c, dst, (rows - 1) * dst_step + bytes);
	if (rows == 1)
		cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, c->stream);
	else
		cudaMemcpy2DAsync(dst, dst_step, src, src_step, bytes, rows, cudaMemcpyDefault,
			c->stream);
}

static __global__ void k_add(int64_t n, float *y, const float *x)
{
	EACH(i, n)
	y[i] += x[i];
}

static void cuda_add(struct wl_backend *be, float *y, const float *x, int64_t n)
{
	struct cuda *c = (struct cuda *)be->impl;

	CUDA_EACH(c, n, k_add, y, x);
}

/* --- recordings --- */

struct cuda_recording {
	cudaGraphExec_t exec; /* NULL: ended with the wire that it held */
	struct cuda_recording *next;
};

static int cuda_record(struct wl_backend *be, uint64_t seed, uint64_t step, struct wl_err *err)
{
	struct cuda *c = (struct cuda *)be->impl;
	cudaError_t code;

	/* Not a part of what is recorded. */
	wl_cuda_at_step(c, seed, step);
	wl_cuda_weights_ready(c);
	/* Of this thread alone: the watch over exchanges and the loader's may ask and allocate. */
	code = cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal);
	c->recording = code == cudaSuccess;
	return code == cudaSuccess ? 0 : failed(code, "beginning to record", err);
}

static void *cuda_recorded(struct wl_backend *be, struct wl_err *err)
{
	struct cuda *c = (struct cuda *)be->impl;
	struct cuda_recording *r = (struct cuda_recording *)calloc(1, sizeof *r);
	cudaGraph_t graph = NULL;
	cudaError_t code = cudaStreamEndCapture(c->stream, &graph);

	c->recording = false;
	wl_cuda_weights_ready(c); /* nothing was computed */
	if (code == cudaSuccess && r)
		code = cudaGraphInstantiate(&r->exec, graph, 0);
	if (graph)
		cudaGraphDestroy(graph);
	if (code == cudaSuccess && r) {
		r->next = c->recordings;
		c->recordings = r;
		return r;
	}
	free(r);
	if (code == cudaSuccess) {
		wl_err_nomem(err, "a recording", sizeof *r);
		return NULL;
	}
	cudaGetLastError(); /* it is told here */
	failed(code, "recording a step", err);
	return NULL;
}

static int cuda_replay(struct wl_backend *be, void *recording, uint64_t seed, uint64_t step,
	struct wl_err *err)
{
	struct cuda *c = (struct cuda *)be->impl;
	const struct cuda_recording *r = (const struct cuda_recording *)recording;
	cudaError_t code;

	WL_ASSERT(r->exec);
	wl_cuda_at_step(c, seed, step);
	wl_cuda_weights_ready(c);
	code = cudaGraphLaunch(r->exec, c->stream);
	wl_cuda_weights_ready(c); /* what came went again */
	return code == cudaSuccess ? 0 : failed(code, "a recorded step", err);
}

static void cuda_forget(struct wl_backend *be, void *recording)
{
	struct cuda_recording **at = &((struct cuda *)be->impl)->recordings, *r;

	while (*at != recording)
		at = &(*at)->next;
	r = *at;
	*at = r->next;
	if (r->exec)
		cudaGraphExecDestroy(r->exec);
	free(r);
}

void wl_cuda_recordings_end(struct cuda *c)
{
	for (struct cuda_recording *r = c->recordings; r; r = r->next) {
		if (r->exec)
			cudaGraphExecDestroy(r->exec);
		r->exec = NULL;
	}
}

void wl_cuda_stream_table(struct wl_backend *be)
{
	be->apart = true;
	be->alloc_host = cuda_alloc_host;
	be->free_host = cuda_free_host;
	be->copy = cuda_move;
	be->add = cuda_add;
	be->record = cuda_record;
	be->recorded = cuda_recorded;
	be->replay = cuda_replay;
	be->forget = cuda_forget;
	be->wire_id = wl_cuda_wire_id;
	be->wire = wl_cuda_wire;
}
