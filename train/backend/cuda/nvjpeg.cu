/*
 * nvJPEG, loaded when it is asked for.  It does not come with every toolkit, so what is used of its
 * interface (nvjpeg.h, the same since CUDA 11.0) is declared here.
 *
 * Decoders in hardware (A100: one of 5 engines, H100 and H200: 7) are asked first, then the GPU's
 * multiprocessors.  Planes come out as they are stored, without upsampling or colour conversion,
 * which the resize does.
 */
#include "train/backend/cuda/cuda.h"

#include <dlfcn.h>
#include <stdio.h>

enum { OUTPUT_UNCHANGED = 0, CHANNELS = 4, CPU_THREADS = 1 };
enum { BACKEND_DEFAULT = 0, BACKEND_GPU_HYBRID = 2, BACKEND_HARDWARE = 3 };
static const int backends[] = {BACKEND_HARDWARE, BACKEND_GPU_HYBRID, BACKEND_DEFAULT};
enum { BACKENDS = sizeof backends / sizeof *backends };

struct nv_image {
	unsigned char *channel[CHANNELS];
	size_t pitch[CHANNELS];
};

/* Statuses are int; 0 is success. */
enum { BAD_JPEG = 3 };
struct cuda_jpegs {
	void *library, *handle, *state;
	size_t backend; /* of backends[] */
	int64_t batch, begun; /* begun: pictures that the state is set up for */
	const unsigned char **bytes;
	size_t *lengths;
	struct nv_image *images;
	int (*create)(int backend, void *dev, void *pinned, unsigned flags, void **handle);
	int (*destroy)(void *handle);
	int (*state_create)(void *handle, void **state);
	int (*state_destroy)(void *state);
	int (*batch_begin)(void *handle, void *state, int n, int cpu_threads, int format);
	int (*batch_decode)(void *handle, void *state, const unsigned char *const *data,
		const size_t *lengths, struct nv_image *to, cudaStream_t stream);
};

static int load(struct cuda_jpegs *j, struct wl_err *err)
{
	char path[64];

	snprintf(path, sizeof path, "libnvjpeg.so.%d", CUDART_VERSION / 1000);
	j->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!j->library)
		return wl_err_set(err, WL_EUSAGE,
			"data.nvjpeg is on and %s could not be loaded: %s; install nvJPEG %d, or "
			"leave data.nvjpeg off",
			path, dlerror(), CUDART_VERSION / 1000);
	*(void **)&j->create = dlsym(j->library, "nvjpegCreateEx");
	*(void **)&j->destroy = dlsym(j->library, "nvjpegDestroy");
	*(void **)&j->state_create = dlsym(j->library, "nvjpegJpegStateCreate");
	*(void **)&j->state_destroy = dlsym(j->library, "nvjpegJpegStateDestroy");
	*(void **)&j->batch_begin = dlsym(j->library, "nvjpegDecodeBatchedInitialize");
	*(void **)&j->batch_decode = dlsym(j->library, "nvjpegDecodeBatched");
	if (!j->create || !j->destroy || !j->state_create || !j->state_destroy ||
		!j->batch_begin || !j->batch_decode)
		return wl_err_set(err, WL_EUSAGE, "%s lacks a function of nvJPEG: %s", path,
			dlerror());
	return 0;
}

static void stop(struct cuda_jpegs *j)
{
	if (j->state)
		j->state_destroy(j->state);
	if (j->handle)
		j->destroy(j->handle);
	j->state = j->handle = NULL;
	j->begun = 0;
}

/* The first decoder from j->backend on that this GPU has. */
static int start(struct cuda_jpegs *j, struct wl_err *err)
{
	int code = 1;

	for (; j->backend < BACKENDS; j->backend++) {
		code = j->create(backends[j->backend], NULL, NULL, 0, &j->handle);
		if (!code)
			code = j->state_create(j->handle, &j->state);
		if (!code)
			break;
		stop(j);
	}
	return code ? wl_err_set(err, WL_EFAIL,
			      "nvJPEG did not start: status %d; leave data.nvjpeg off", code)
		    : 0;
}

extern "C" int wl_cuda_jpegs_open(struct cuda_jpegs **to, int64_t batch, struct wl_err *err)
{
	struct cuda_jpegs *j = (struct cuda_jpegs *)calloc(1, sizeof *j);
	size_t n = (size_t)batch;

	*to = j; /* the caller closes it, whole or not */
	if (!j)
		return wl_err_nomem(err, "nvJPEG", sizeof *j);
	j->batch = batch;
	j->bytes = (const unsigned char **)calloc(n, sizeof *j->bytes);
	j->lengths = (size_t *)calloc(n, sizeof *j->lengths);
	j->images = (struct nv_image *)calloc(n, sizeof *j->images);
	if (!j->bytes || !j->lengths || !j->images)
		return wl_err_nomem(err, "nvJPEG", n * sizeof *j->images);
	WL_TRY(load(j, err));
	return start(j, err);
}

extern "C" void wl_cuda_jpegs_close(struct cuda_jpegs *j)
{
	if (!j)
		return;
	stop(j);
	free(j->bytes); /* the library stays, as in nvidia.cu */
	free(j->lengths);
	free(j->images);
	free(j);
}

static int batch(struct cuda_jpegs *j, int64_t n, cudaStream_t stream)
{
	int code = 0;

	if (j->begun != n)
		code = j->batch_begin(j->handle, j->state, (int)n, CPU_THREADS, OUTPUT_UNCHANGED);
	j->begun = code ? 0 : n;
	if (!code)
		code = j->batch_decode(
			j->handle, j->state, j->bytes, j->lengths, j->images, stream);
	if (code)
		j->begun = 0; /* a batch that failed is begun anew */
	return code;
}

extern "C" int wl_cuda_jpegs_decode(struct cuda_jpegs *j, const struct cuda_jpeg *list, int64_t n,
	cudaStream_t stream, struct wl_err *err)
{
	int code;

	WL_ASSERT(n <= j->batch);
	memset(j->images, 0, (size_t)n * sizeof *j->images);
	for (int64_t i = 0; i < n; i++) {
		j->bytes[i] = list[i].bytes;
		j->lengths[i] = list[i].n;
		for (int c = 0; c < list[i].planes; c++) {
			j->images[i].channel[c] = list[i].plane[c];
			j->images[i].pitch[c] = list[i].pitch[c];
		}
	}
	code = batch(j, n, stream);
	/* The decoders in hardware do not know 4:1:0 and 4:1:1: the multiprocessors take over. */
	while (code && code != BAD_JPEG && j->backend + 1 < BACKENDS) {
		cudaStreamSynchronize(stream);
		stop(j);
		j->backend++;
		WL_TRY(start(j, err));
		code = batch(j, n, stream);
	}
	return code ? wl_err_set(err, WL_EDATA,
			      "nvJPEG could not decode a batch of %lld JPEGs: status %d; run "
			      "wenlan-shard verify, or leave data.nvjpeg off (which leaves out "
			      "damaged pictures one by one)",
			      (long long)n, code)
		    : 0;
}
