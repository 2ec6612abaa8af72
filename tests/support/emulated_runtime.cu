/* See emulated_runtime.h; its memory is in emulated_memory.cu. */
#include "tests/support/emulated_parts.h"

#include <atomic>
#include <deque>
#include <vector>

/* Threads that are ranks, and those that watch over them, read these without the device's lock. */
static std::atomic<bool> stuck, late, idle;
static std::atomic<int64_t> given, replayed, waits;

/* Work not done yet, and how much was put there and done so far. */
static std::deque<std::function<void()>> queue;
static std::atomic<uint64_t> put, done;

/*
 * Objects are never given back, so that one used after its end is found.  A capture is what a
 * stream and those that joined it by events keep instead of doing it.
 */
struct emulated_capture {
	std::vector<std::function<void()>> work;
	std::vector<const void *> holds; /* communicators in it */
	std::vector<cudaStream_t> streams;
	bool invalid;
};

struct emulated_stream {
	bool alive;
	int device;
	emulated_capture *capture;
	uint64_t given, joined; /* while it is captured: pieces of work, and of them waited for */
	/* emulated_idle: it has more than copies; copies not done yet, each with how much had been
	 * put before it; how many there were and are done. */
	bool computes;
	std::deque<std::pair<uint64_t, std::function<void()>>> copies;
	uint64_t copied, copied_done;
};

struct emulated_event {
	bool alive, recorded;
	int device;
	uint64_t after; /* so much was put before it */
	emulated_capture *capture; /* it was recorded in */
	cudaStream_t stream; /* there, when so much had been given to it */
	uint64_t given, copied;
};

struct emulated_graph {
	bool alive;
	std::vector<std::function<void()>> work;
	std::vector<const void *> holds;
};

/* Outlive the process's end, for whom looks there for what was lost. */
static auto &graphs = *new std::vector<emulated_graph *>;
static auto &streams = *new std::vector<emulated_stream *>;
static auto &events = *new std::vector<emulated_event *>;
static auto &captured = *new std::vector<emulated_capture *>;
static thread_local emulated_capture *captures; /* begun by this thread */
static thread_local cudaStream_t current;
static thread_local int chosen = -1; /* the thread's device */
static thread_local cudaError_t last;

cudaError_t emulated_say(cudaError_t code)
{
	last = code != cudaSuccess ? code : last;
	return code;
}

bool emulated_unsafe(void)
{
	FORBID(chosen < 0, "a thread uses the GPU and never called cudaSetDevice");
	if (captures)
		captures->invalid = true;
	return captures != NULL;
}

static void check_stream(cudaStream_t s)
{
	FORBID(!s, "work is given to the legacy stream");
	FORBID(!s->alive, "a stream is used after cudaStreamDestroy");
	FORBID(s->device != chosen, "a stream of GPU %d is used by a thread whose GPU is %d",
		s->device, chosen);
}

static void check_event(cudaEvent_t e)
{
	FORBID(!e || !e->alive, "an event is used after cudaEventDestroy");
}

void emulated_on(cudaStream_t s)
{
	check_stream(s);
	current = s;
}

bool emulated_grid(int64_t n)
{
	if (n > 0 && n <= 0x7fffffff)
		return true;
	emulated_say(cudaErrorInvalidConfiguration);
	return false;
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

static void copy_until(cudaStream_t s, uint64_t at)
{
	emulated_enter();
	while (s->copied_done < at) {
		std::pair<uint64_t, std::function<void()>> work = std::move(s->copies.front());

		s->copies.pop_front();
		s->copied_done++;
		do_until(work.first);
		work.second();
	}
	emulated_leave();
}

/* Everything that one stream was given before an event. */
static void do_before(cudaEvent_t e)
{
	do_until(e->after);
	copy_until(e->stream, e->copied);
}

void emulated_finish(void)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	do_until(put);
	for (emulated_stream *s : streams)
		copy_until(s, s->copied);
}

extern "C" void emulated_idle(bool yes)
{
	emulated_finish();
	idle = yes;
}

extern "C" void emulated_late(bool yes)
{
	emulated_finish();
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
static void give(std::function<void()> work, std::atomic<int64_t> *count)
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

static void keep(emulated_capture *c, std::function<void()> work)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	c->work.push_back(std::move(work));
	current->given++;
}

void emulated_give(std::function<void()> work)
{
#ifdef WL_RACE
	work = race_work(std::move(work));
#endif
	if (current && current->capture) {
		keep(current->capture, std::move(work));
		return;
	}
	if (current) {
		copy_until(current, current->copied);
		current->computes = true;
	}
	give(std::move(work), &given);
}

/* A copy; false: it is not put off. */
static bool put_off(cudaStream_t s, std::function<void()> work)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	if (!idle || s->capture || s->computes)
		return false;
#ifdef WL_RACE
	work = race_work(std::move(work));
#endif
	given++;
	s->copies.push_back({put, std::move(work)});
	s->copied++;
	return true;
}

static void without_lock(const std::function<void()> &work)
{
	int times = emulated_entered();

	for (int i = 0; i < times; i++)
		emulated_leave();
	work();
	for (int i = 0; i < times; i++)
		emulated_enter();
}

void emulated_meet(std::function<void()> work, const void *comm)
{
	if (!current->capture) {
		without_lock(work);
		return;
	}
	keep(current->capture, [=] { without_lock(work); });
	current->capture->holds.push_back(comm);
}

bool emulated_holds(const void *comm)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	for (const emulated_graph *g : graphs)
		for (const void *c : g->holds)
			if (g->alive && c == comm)
				return true;
	return false;
}

/* --- devices, errors --- */

cudaError_t cudaSetDevice(int d)
{
	if (d < 0 || d >= EMULATED_DEVICES)
		return emulated_say(cudaErrorInvalidDevice);
	chosen = d;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
	*n = EMULATED_DEVICES;
	return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
	*version = 13000;
	return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
	if (emulated_unsafe())
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	waits++;
	emulated_finish();
	return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, int, int)
{
	*value = 9; /* the one that is asked for: compute capability */
	return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
	cudaError_t was = last;

	last = cudaSuccess;
	return was;
}

const char *cudaGetErrorString(cudaError_t code)
{
	static const char *const text[] = {"no error", "invalid argument", "out of memory",
		"not ready", "dependency created on uncaptured work in another stream",
		"operation not permitted when stream is capturing",
		"operation failed due to a previous error during capture",
		"capturing stream has unjoined work",
		"operation not permitted on an event last recorded in a capturing stream",
		"invalid configuration argument", "invalid device ordinal", "no device"};

	return text[code];
}

/* --- streams and events --- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, int flags)
{
	FORBID(flags != cudaStreamNonBlocking, "a stream that waits for the legacy stream");
	if (emulated_unsafe())
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	*s = new emulated_stream();
	(*s)->alive = true;
	(*s)->device = chosen;
	std::lock_guard<std::recursive_mutex> hold(emulated_device);
	streams.push_back(*s);
	return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
	check_stream(s);
	copy_until(s, s->copied);
	FORBID(s->capture, "a stream is destroyed while it is captured");
	s->alive = false;
	if (current == s)
		current = NULL;
	return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
	check_stream(s);
	if (emulated_unsafe())
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	waits++;
	do_until(put);
	copy_until(s, s->copied);
	return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, int)
{
	FORBID(chosen < 0, "a thread uses the GPU and never called cudaSetDevice");
	*e = new emulated_event();
	(*e)->alive = true;
	(*e)->device = chosen;
	std::lock_guard<std::recursive_mutex> hold(emulated_device);
	events.push_back(*e);
	return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
	check_event(e);
	e->alive = false;
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
	check_event(e);
	check_stream(s);
	FORBID(e->device != s->device, "an event of GPU %d is recorded on GPU %d", e->device,
		s->device);
	e->after = put;
	e->recorded = true;
	e->capture = s->capture;
	e->stream = s;
	e->given = s->given;
	e->copied = s->copied;
	return cudaSuccess;
}

/* As CUDA: what is captured waits for captured events alone, and a stream that waits for one is
 * captured from then on. */
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
	check_event(e);
	check_stream(s);
	FORBID(!e->recorded, "a stream waits for an event that was never recorded");
	if (e->capture && !s->capture) {
		if (e->capture->streams.empty()) /* it has ended */
			return emulated_say(cudaErrorStreamCaptureIsolation);
		s->capture = e->capture;
		s->given = s->joined = 0;
		s->capture->streams.push_back(s);
	}
	if (e->capture != s->capture) {
		if (s->capture)
			s->capture->invalid = true;
		return emulated_say(cudaErrorStreamCaptureIsolation);
	}
	if (!s->capture) {
		if (e->stream != s) /* whatever this one is given may be done from now on */
			copy_until(e->stream, e->copied);
		return cudaSuccess;
	}
	if (e->stream != s && e->given > e->stream->joined)
		e->stream->joined = e->given;
	s->given++; /* what it waited for is to be joined with it */
	return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
	check_event(e);
	FORBID(!e->recorded, "the host waits for an event that was never recorded");
	if (e->capture)
		return emulated_say(cudaErrorCapturedEvent);
	if (emulated_unsafe())
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	do_before(e);
	return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
	/* Work counts as done before it begins, but whoever does it has the lock. */
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	check_event(e);
	FORBID(!e->recorded, "an event is asked for that was never recorded");
	if (e->capture)
		return emulated_say(cudaErrorCapturedEvent);
	if (emulated_unsafe())
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	return emulated_say(stuck || e->after > done || e->copied > e->stream->copied_done
				    ? cudaErrorNotReady : cudaSuccess);
}

/* --- copies --- */

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
	emulated_on(s);
	emulated_give([=] { memset(p, value, bytes); });
	return cudaSuccess;
}

/* Memory that the host may page out cannot be copied by a recording. */
static bool copies(cudaStream_t s, const void *to, const void *from)
{
	emulated_on(s);
	if (!s->capture || (!emulated_pageable(to) && !emulated_pageable(from)))
		return true;
	s->capture->invalid = true;
	return false;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, int, cudaStream_t s)
{
	if (!copies(s, to, from))
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	bool computes = s->computes;
	if (!put_off(s, [=] { memcpy(to, from, bytes); }))
		emulated_give([=] { memcpy(to, from, bytes); });
	s->computes = computes;
	return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_step, const void *from, size_t from_step,
	size_t bytes, size_t rows, int, cudaStream_t s)
{
	if (!copies(s, to, from))
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	if (bytes > to_step || bytes > from_step || to_step > 0x7fffffff || from_step > 0x7fffffff)
		return emulated_say(cudaErrorInvalidValue); /* as its pitches */
	emulated_give([=] {
		for (size_t r = 0; r < rows; r++)
			memcpy((char *)to + r * to_step, (const char *)from + r * from_step, bytes);
	});
	return cudaSuccess;
}

/* --- captures and graphs --- */

cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *status)
{
	check_stream(s);
	*status = s->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
	return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, int)
{
	check_stream(s);
	FORBID(s->capture || captures, "a capture begins within another");
	captures = s->capture = new emulated_capture();
	captures->streams.push_back(s);
	s->given = s->joined = 0;
	std::lock_guard<std::recursive_mutex> hold(emulated_device);
	captured.push_back(captures);
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
	emulated_capture *c = s->capture;
	cudaError_t code = cudaSuccess;

	check_stream(s);
	FORBID(!c || c != captures, "a capture ends that this thread did not begin");
	for (cudaStream_t other : c->streams) {
		if (other != s && other->joined < other->given)
			code = cudaErrorStreamCaptureUnjoined;
		other->capture = NULL;
	}
	c->streams.clear();
	captures = NULL;
	code = c->invalid ? cudaErrorStreamCaptureInvalidated : code;
	*graph = NULL;
	if (code != cudaSuccess)
		return emulated_say(code);
	*graph = new emulated_graph{true, c->work, c->holds};
	c->work.clear();
	std::lock_guard<std::recursive_mutex> hold(emulated_device);
	graphs.push_back(*graph);
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, int)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	FORBID(!graph->alive, "a graph is used after cudaGraphDestroy");
	*exec = new emulated_graph(*graph);
	graphs.push_back(*exec);
	return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
	emulated_on(s);
	FORBID(!exec->alive, "a graph is used after cudaGraphExecDestroy");
	FORBID(s->capture, "a graph is launched while its stream is captured");
	give([=] {
		for (const std::function<void()> &work : exec->work)
			work();
	}, &replayed);
	return cudaSuccess;
}

static void end_graph(cudaGraph_t graph)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	FORBID(!graph->alive, "a graph is destroyed twice");
	emulated_finish();
	graph->alive = false;
	graph->work.clear();
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	end_graph(graph);
	return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	end_graph(exec);
	return cudaSuccess;
}

/* --- the end --- */

template <typename T> static int living(const std::vector<T *> &all)
{
	int n = 0;

	for (const T *one : all)
		n += one->alive;
	return n;
}

/* A process that ends as it should has given back what it made. */
static struct at_end {
	~at_end()
	{
		int s = living(streams), e = living(events), g = living(graphs);

		FORBID(s + e + g, "%d streams, %d events and %d graphs are left at the end", s, e,
			g);
	}
} at_end;
