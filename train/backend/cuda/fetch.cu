/*
 * Copies to the host beside the work that follows (wl_backend.fetch): a checkpoint's, of tens of
 * gigabytes.  They have a stream of their own, which begins behind the work given so far; what is
 * to change what they read waits for them there (hold), which in training is the optimiser, so that
 * a step's forward and backward run meanwhile; and a thread that writes files waits on the host.
 */
#include "train/backend/cuda/cuda.h"

#include <pthread.h>

struct cuda_fetch {
	cudaStream_t stream;
	cudaEvent_t given, done; /* the work before a copy; the last copy */
	pthread_mutex_t lock;
	cudaError_t code; /* the first that failed, until it is told: by the thread that writes */
};

static int failed(cudaError_t code, struct wl_err *err)
{
	return wl_err_set(err, WL_EFAIL, "the GPU failed in copying to the host: %s",
		cudaGetErrorString(code));
}

static void note(struct cuda_fetch *f, cudaError_t code)
{
	pthread_mutex_lock(&f->lock);
	f->code = f->code == cudaSuccess ? code : f->code;
	pthread_mutex_unlock(&f->lock);
}

static cudaError_t noted(struct cuda_fetch *f)
{
	cudaError_t code;

	pthread_mutex_lock(&f->lock);
	code = f->code;
	f->code = cudaSuccess;
	pthread_mutex_unlock(&f->lock);
	return code;
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
	pthread_mutex_destroy(&f->lock);
	free(f);
	c->fetch = NULL;
}

static struct cuda_fetch *open_fetch(struct cuda *c)
{
	struct cuda_fetch *f = (struct cuda_fetch *)calloc(1, sizeof *f);

	if (!f)
		return NULL;
	c->fetch = f;
	pthread_mutex_init(&f->lock, NULL);
	if (cudaStreamCreateWithFlags(&f->stream, cudaStreamNonBlocking) == cudaSuccess &&
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
	note(f, code);
}

/* Should it fail, the copies may be of what came later: the checkpoint is not to be written. */
static void cuda_hold(struct wl_backend *be)
{
	struct cuda *c = (struct cuda *)be->impl;

	if (c->fetch) /* an event that was never recorded is not waited for */
		note(c->fetch, cudaStreamWaitEvent(c->stream, c->fetch->done, 0));
}

/* In the thread that writes: the other one may fetch meanwhile only what is written later. */
static int cuda_fetched(struct wl_backend *be, struct wl_err *err)
{
	struct cuda *c = (struct cuda *)be->impl;
	cudaError_t code;

	if (!c->fetch)
		return 0;
	cudaSetDevice(c->device); /* a thread's own setting */
	note(c->fetch, cudaEventSynchronize(c->fetch->done));
	code = noted(c->fetch);
	return code == cudaSuccess ? 0 : failed(code, err);
}

void wl_cuda_fetch_table(struct wl_backend *be)
{
	be->fetch = cuda_fetch;
	be->hold = cuda_hold;
	be->fetched = cuda_fetched;
}
