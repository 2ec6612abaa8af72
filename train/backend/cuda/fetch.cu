/*
 * Copies to the host beside the work that follows (wl_backend.fetch): a checkpoint's, of tens of
 * gigabytes.  They have a stream of their own, which begins behind the work given so far; what is to
 * change what they read waits for them there (hold), which in training is the optimiser, so that a
 * step's forward and backward run meanwhile; and a thread that writes files waits on the host.
 */
#include "train/backend/cuda/cuda.h"

struct cuda_fetch {
	cudaStream_t stream;
	cudaEvent_t given, done; /* the work before a copy; the last copy */
	cudaError_t code;	 /* the first that failed, until it is told */
};

static int failed(cudaError_t code, struct wl_err *err)
{
	return wl_err_set(err, WL_EFAIL, "the GPU failed in copying to the host: %s",
		cudaGetErrorString(code));
}

void wl_cuda_fetch_close(struct cuda *c)
{
	struct cuda_fetch *f = c->fetch;

	if (!f)
		return;
	if (f->stream) {
		cudaStreamSynchronize(f->stream);
		cudaStreamDestroy(f->stream);
	}
	if (f->given)
		cudaEventDestroy(f->given);
	if (f->done)
		cudaEventDestroy(f->done);
	free(f);
	c->fetch = NULL;
}

static struct cuda_fetch *open_fetch(struct cuda *c)
{
	struct cuda_fetch *f = (struct cuda_fetch *)calloc(1, sizeof *f);

	c->fetch = f;
	if (f && cudaStreamCreateWithFlags(&f->stream, cudaStreamNonBlocking) == cudaSuccess &&
		cudaEventCreateWithFlags(&f->given, cudaEventDisableTiming) == cudaSuccess &&
		cudaEventCreateWithFlags(&f->done, cudaEventDisableTiming) == cudaSuccess)
		return f;
	cudaGetLastError(); /* without them a copy is waited for */
	wl_cuda_fetch_close(c);
	return NULL;
}

static void cuda_fetch(struct wl_backend *be, void *host, const void *src, size_t bytes)
{
	struct cuda *c = (struct cuda *)be->impl;
	struct cuda_fetch *f = c->fetch ? c->fetch : open_fetch(c);
	cudaError_t code;

	if (!f) {
		be->download(be, host, src, bytes);
		return;
	}
	code = cudaEventRecord(f->given, c->stream);
	if (code == cudaSuccess)
		code = cudaStreamWaitEvent(f->stream, f->given, 0);
	if (code == cudaSuccess)
		code = cudaMemcpyAsync(host, src, bytes, cudaMemcpyDefault, f->stream);
	if (code == cudaSuccess)
		code = cudaEventRecord(f->done, f->stream);
	f->code = f->code == cudaSuccess ? code : f->code;
}

static void cuda_hold(struct wl_backend *be)
{
	struct cuda *c = (struct cuda *)be->impl;

	if (c->fetch) /* an event that was never recorded is not waited for */
		cudaStreamWaitEvent(c->stream, c->fetch->done, 0);
}

/* In the thread that writes: the other one may fetch meanwhile only what is written later. */
static int cuda_fetched(struct wl_backend *be, struct wl_err *err)
{
	struct cuda *c = (struct cuda *)be->impl;
	cudaError_t code;

	if (!c->fetch)
		return 0;
	cudaSetDevice(c->device); /* a thread's own setting */
	code = cudaEventSynchronize(c->fetch->done);
	if (c->fetch->code != cudaSuccess)
		code = c->fetch->code;
	c->fetch->code = cudaSuccess;
	return code == cudaSuccess ? 0 : failed(code, err);
}

void wl_cuda_fetch_table(struct wl_backend *be)
{
	be->fetch = cuda_fetch;
	be->hold = cuda_hold;
	be->fetched = cuda_fetched;
}
