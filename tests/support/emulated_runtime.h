/*
 * The emulation's memory, streams, events and graphs (see emulated.h, which includes this).  A
 * stream does everything at once, or (emulated_late) only when the host waits for it; while one
 * records, what it is given is kept instead.  Device memory may be taken away from the host
 * (emulated_apart), so that a program that reads or writes it in place is found out.
 *
 * It is as strict as CUDA's documentation: what that forbids while a stream is captured fails and
 * ends the capture, a grid without blocks is an error, and what is undefined there (streams, events
 * and graphs after their end, memory freed twice, another GPU's stream, a thread that never chose a
 * GPU, events never recorded) ends the program here.
 */
#ifndef WL_TESTS_SUPPORT_EMULATED_RUNTIME_H
#define WL_TESTS_SUPPORT_EMULATED_RUNTIME_H

#ifdef __cplusplus
extern "C" {
#endif
/* From now on only kernels and copies reach device memory; the host's touch is a SIGSEGV. */
void emulated_apart(bool yes);
/* Kernels and copies run between these, one thread at a time; they nest. */
void emulated_enter(void);
void emulated_leave(void);
/* Events are never done: a device that hangs. */
void emulated_stuck(bool yes);
/* From now on work is done when the host waits for it or for an event after it, in the order in
 * which it was given: what the host changes too early, or reads too early, shows. */
void emulated_late(bool yes);
/* Waits for a whole stream so far. */
int64_t emulated_waits(void);
/* Operations given one by one, and recordings given, so far. */
int64_t emulated_given(void);
int64_t emulated_replayed(void);
/* Bytes of memory that lie in parts of arrays, and the most that did since `again` was said. */
int64_t emulated_parts(void);
int64_t emulated_parts_most(bool again);
/* What NCCL says of itself from now on; 0: all is well. */
void emulated_nccl_fails(int code);
#ifdef __cplusplus
}

#include <functional>

#include "tests/support/racecheck.h"

typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef struct emulated_graph *cudaGraph_t, *cudaGraphExec_t;
typedef enum { cudaSuccess, cudaErrorInvalidValue, cudaErrorMemoryAllocation, cudaErrorNotReady,
	cudaErrorStreamCaptureIsolation, cudaErrorStreamCaptureUnsupported,
	cudaErrorStreamCaptureInvalidated, cudaErrorStreamCaptureUnjoined, cudaErrorCapturedEvent,
	cudaErrorInvalidConfiguration, cudaErrorInvalidDevice, cudaErrorNoDevice } cudaError_t;
enum { EMULATED_DEVICES = 8 };
enum { cudaMemcpyDefault, cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum { cudaStreamCaptureModeThreadLocal = 1, cudaDevAttrComputeCapabilityMajor = 75 };

/* Work given from now on by this thread is the stream's. */
void emulated_on(cudaStream_t s);
/* Whether a launch may have so many blocks; else it is noted as the last error. */
bool emulated_grid(int64_t blocks);
void emulated_give(std::function<void()> work);
/* Work in which threads wait for each other: it runs at once, or is kept, and holds nothing.
 * comm: what a recording of it refers to. */
void emulated_meet(std::function<void()> work, const void *comm);
/* Whether a recording refers to it still. */
bool emulated_holds(const void *comm);

cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaMemGetInfo(size_t *left, size_t *all);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, int, cudaStream_t);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_step, const void *from, size_t from_step,
	size_t bytes, size_t rows, int, cudaStream_t);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, int flags);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, int);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned);
cudaError_t cudaEventQuery(cudaEvent_t);
enum { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice,
	cudaMemoryTypeManaged };
struct cudaPointerAttributes {
	int type;
};
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p);
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
cudaError_t cudaStreamIsCapturing(cudaStream_t, enum cudaStreamCaptureStatus *status);
cudaError_t cudaStreamBeginCapture(cudaStream_t, int);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, int);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaSetDevice(int d);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaDeviceGetAttribute(int *value, int attribute, int d);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t code);

static inline cudaError_t cudaMallocManaged(void **p, size_t bytes)
{
	return cudaMalloc(p, bytes);
}
#endif

#endif
