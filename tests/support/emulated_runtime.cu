/* See emulated_runtime.h. */
#include <deque>
#include <mutex>
#include <new>
#include <vector>

#include <stdio.h>
#include <sys/mman.h>

/* Device memory is taken from one stretch of addresses, so that one call opens and closes all. */
enum { BLOCK = 4096 };
static const size_t SPACE = (size_t)1 << 36;

static std::recursive_mutex device;
static char *base;
static size_t used;
static int depth;
static bool apart, stuck, late;
static int64_t given, replayed, waits;

/* Work not done yet, and how much was put there and done so far. */
static std::deque<std::function<void()>> queue;
static uint64_t put, done;

struct emulated_event {
	uint64_t after; /* so much was put before it */
	bool given, recorded; /* at all; as a part of a recording */
};

struct emulated_graph {
	std::vector<std::function<void()>> work;
};
static thread_local emulated_graph *recording;
static thread_local int held; /* times that this thread has entered */

static void open_memory(bool yes)
{
	if (apart && base && used)
		mprotect(base, used, yes ? PROT_READ | PROT_WRITE : PROT_NONE);
}

extern "C" void emulated_enter(void)
{
	device.lock();
	held++;
	if (depth++ == 0)
		open_memory(true);
}

extern "C" void emulated_leave(void)
{
	if (--depth == 0)
		open_memory(false);
	held--;
	device.unlock();
}

extern "C" void emulated_apart(bool yes)
{
	std::lock_guard<std::recursive_mutex> hold(device);

	if (apart && !yes)
		open_memory(true);
	apart = yes;
	open_memory(false);
}

extern "C" void emulated_stuck(bool yes)
{
	stuck = yes;
}

static void do_until(uint64_t at)
{
	emulated_enter();
	while (done < at) {
		std::function<void()> work = std::move(queue.front());

		queue.pop_front();
		done++;
		work();
	}
	emulated_leave();
}

extern "C" void emulated_late(bool yes)
{
	do_until(put);
	late = yes;
}

extern "C" int64_t emulated_waits(void)
{
	return waits;
}

extern "C" int64_t emulated_given(void)
{
	return given;
}

extern "C" int64_t emulated_replayed(void)
{
	return replayed;
}

/* Adds one to *count. */
static void give(std::function<void()> work, int64_t *count)
{
	emulated_enter();
	++*count;
	if (late) {
		queue.push_back(std::move(work));
		put++;
	} else {
		work();
	}
	emulated_leave();
}

void emulated_give(std::function<void()> work)
{
	if (recording)
		recording->work.push_back(std::move(work));
	else
		give(std::move(work), &given);
}

static void without_lock(const std::function<void()> &work)
{
	int times = held;

	for (int i = 0; i < times; i++)
		emulated_leave();
	work();
	for (int i = 0; i < times; i++)
		emulated_enter();
}

void emulated_meet(std::function<void()> work)
{
	if (recording)
		recording->work.push_back([=] { without_lock(work); });
	else
		without_lock(work);
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
	waits++;
	do_until(put);
	return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, int)
{
	*e = new emulated_event();
	return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
	delete e;
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t)
{
	e->after = put;
	e->given = true;
	e->recorded = recording != NULL;
	return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t e, unsigned)
{
	return e->given && e->recorded != (recording != NULL) ? cudaErrorStreamCaptureIsolation
							      : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
	do_until(e->after);
	return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
	bool there = base && (const char *)p >= base && (const char *)p < base + SPACE;

	a->type = there ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
	return cudaSuccess;
}

/* Addresses are used once, so that a touch after free is found too. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
	std::lock_guard<std::recursive_mutex> hold(device);
	size_t whole = (bytes + 2 * BLOCK - 1) / BLOCK * BLOCK;

	if (!base) {
		void *m = mmap(NULL, SPACE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		base = m == MAP_FAILED ? NULL : (char *)m;
	}
	if (!base || used + whole > SPACE)
		return cudaErrorMemoryAllocation;
	*p = base + used + BLOCK;
	used += whole + BLOCK;
	mprotect(base, used, PROT_READ | PROT_WRITE);
	*(size_t *)((char *)*p - BLOCK) = whole;
	if (!depth)
		open_memory(false);
	return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
	if (!p)
		return cudaSuccess;
	emulated_enter();
	do_until(put); /* as the driver waits */
	madvise((char *)p - BLOCK, *(size_t *)((char *)p - BLOCK) + BLOCK, MADV_DONTNEED);
	emulated_leave();
	return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
	emulated_give([=] { memset(p, value, bytes); });
	return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, int, cudaStream_t)
{
	emulated_give([=] { memcpy(to, from, bytes); });
	return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_step, const void *from, size_t from_step,
	size_t bytes, size_t rows, int, cudaStream_t)
{
	emulated_give([=] {
		for (size_t r = 0; r < rows; r++)
			memcpy((char *)to + r * to_step, (const char *)from + r * from_step, bytes);
	});
	return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
	return stuck || e->after > done ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, int)
{
	recording = new emulated_graph;
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph)
{
	*graph = recording;
	recording = NULL;
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, int)
{
	*exec = new emulated_graph(*graph);
	return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t)
{
	give([=] {
		for (const std::function<void()> &work : exec->work)
			work();
	}, &replayed);
	return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	delete graph;
	return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	do_until(put);
	delete exec;
	return cudaSuccess;
}
