/*
 * The emulation's memory, streams, events and graphs (see emulated.h, which includes this).  A
 * stream does everything at once, or (emulated_late) only when the host waits for it; while one
 * records, what it is given is kept instead.  Device
 * memory may be taken away from the host (emulated_apart), so that a program that reads or writes
 * it in place is found out.
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

void emulated_give(std::function<void()> work);
/* Work in which threads wait for each other: it runs at once, or is kept, and holds nothing. */
void emulated_meet(std::function<void()> work);

typedef void *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef struct emulated_graph *cudaGraph_t, *cudaGraphExec_t;
typedef enum { cudaSuccess, cudaErrorMemoryAllocation, cudaErrorNotReady,
	cudaErrorStreamCaptureIsolation } cudaError_t;
enum { cudaMemcpyDefault, cudaHostAllocDefault };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum { cudaStreamCaptureModeThreadLocal = 1 };

cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, int, cudaStream_t);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_step, const void *from, size_t from_step,
	size_t bytes, size_t rows, int, cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, int);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
/* As CUDA: what is recorded waits for recorded events alone, and nothing else does. */
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned);
cudaError_t cudaEventQuery(cudaEvent_t);
enum { cudaMemoryTypeUnregistered, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
	int type;
};
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p);
cudaError_t cudaStreamBeginCapture(cudaStream_t, int);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, int);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

static inline cudaError_t cudaMallocManaged(void **p, size_t bytes)
{
	return cudaMalloc(p, bytes);
}
static inline cudaError_t cudaMallocHost(void **p, size_t bytes)
{
	*p = malloc(bytes);
	return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
static inline cudaError_t cudaHostAlloc(void **p, size_t bytes, int)
{
	return cudaMallocHost(p, bytes);
}
static inline cudaError_t cudaFreeHost(void *p)
{
	free(p);
	return cudaSuccess;
}

#define EMULATED_NOTHING(name, ...)                                                                \
	static inline cudaError_t name(__VA_ARGS__)                                                \
	{                                                                                          \
		return cudaSuccess;                                                                \
	}
EMULATED_NOTHING(cudaStreamDestroy, cudaStream_t)
EMULATED_NOTHING(cudaSetDevice, int)
EMULATED_NOTHING(cudaGetLastError, void)
#undef EMULATED_NOTHING

static inline cudaError_t cudaStreamCreate(cudaStream_t *s)
{
	*s = NULL;
	return cudaSuccess;
}
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, int)
{
	return cudaStreamCreate(s);
}
static inline cudaError_t cudaGetDeviceCount(int *n)
{
	*n = 1;
	return cudaSuccess;
}
static inline const char *cudaGetErrorString(cudaError_t code)
{
	return code == cudaErrorNotReady ? "not ready" : "no memory";
}
#endif

#endif
