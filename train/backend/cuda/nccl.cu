/*
 * Exchanges between GPUs: NCCL on a stream of its own.
 *
 *   begin   the exchange stream waits for an event of the compute stream
 *   end     an event on the exchange stream, by the job's number
 *   wait    the compute stream waits for that event; the host waits for nothing
 *
 * So reductions run beside backward, and gathers beside forward, by the order of events alone.  A
 * thread watches: NCCL's kernels spin for ever on a peer that is gone, and a stream cannot be given
 * up, so that a lost peer ends the process (exit code 75), and the same command goes on from the
 * last checkpoint.
 */
#include "train/backend/cuda/nccl.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

extern "C" {
#include "ops/log.h"
#include "ops/wait.h"
}

/* Jobs whose events are kept apart; waiting for an older one waits for one that came later. */
enum { JOBS = 256, ABORT_S = 10 };

struct nccl {
	struct wl_wire wire;
	struct cuda *c;
	struct nccl_library lib;
	void *comm;
	int rank, world;
	cudaStream_t stream;
	cudaEvent_t given[JOBS], done[JOBS];
	uint64_t next;
	/* the watch */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool watched, closing, recording, meeting;
	bool (*lost)(const void *peers, int *rank); /* NULL: nobody else knows */
	const void *peers;
	double timeout_s, since; /* since: when the oldest job that is not done was given */
	uint64_t seen;		 /* jobs before it are done */
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct nccl *self(struct wl_wire *w)
{
	return (struct nccl *)w->impl;
}

static int failed(struct nccl *n, int code, const char *what, struct wl_err *err)
{
	return code == NCCL_OK ? 0
			       : wl_err_set(err, WL_ERETRY,
					 "NCCL's %s failed: %s; run the same command again, with "
					 "NCCL_DEBUG=WARN for more", what, n->lib.text(code));
}

static int cuda_failed(cudaError_t code, const char *what, struct wl_err *err)
{
	return code == cudaSuccess
		       ? 0
		       : wl_err_set(err, WL_EFAIL, "the GPU failed in %s: %s", what,
				 cudaGetErrorString(code));
}

/* --- the watch --- */

static void *end_soon(void *)
{
	sleep(ABORT_S);
	_exit(WL_ERETRY);
}

/* Abort frees the device from kernels that spin; should it hang itself, nobody stays for it. */
static void give_up(struct nccl *n, const char *why)
{
	pthread_t thread;

	wl_error("rank %d: %s; the same command goes on from the last checkpoint", n->rank, why);
	if (n->comm && pthread_create(&thread, NULL, end_soon, NULL) == 0)
		n->lib.abort(n->comm);
	_exit(WL_ERETRY);
}

/* While ranks meet there is nothing to ask: only time passes, and hosts may lose each other. */
static void look_outside(struct nccl *n)
{
	char why[160];
	int rank = 0;

	if (n->lost && n->lost(n->peers, &rank)) {
		snprintf(why, sizeof why, "rank %d is lost (its connection was closed)", rank);
		give_up(n, why);
	}
	if (n->meeting && n->timeout_s > 0 && now_s() - n->since > n->timeout_s) {
		snprintf(why, sizeof why,
			"the ranks' GPUs have not met within %.0f s (dist.timeout)", n->timeout_s);
		give_up(n, why);
	}
}

/* Moves past jobs that are done; the lock is held. */
static void look(struct nccl *n)
{
	char why[160];
	int code = NCCL_OK;

	look_outside(n);
	if (n->meeting)
		return;
	if (n->lib.async_error(n->comm, &code) != NCCL_OK ||
		(code != NCCL_OK && code != NCCL_IN_PROGRESS)) {
		snprintf(why, sizeof why, "another rank is lost (NCCL: %s)", n->lib.text(code));
		give_up(n, why);
	}
	if (n->recording)
		return; /* events that are recorded cannot be asked, and nothing is computed */
	if (n->next - n->seen > JOBS)
		n->seen = n->next - JOBS; /* their events stand for later jobs by now */
	while (n->seen < n->next && cudaEventQuery(n->done[n->seen % JOBS]) == cudaSuccess) {
		n->seen++;
		n->since = now_s();
	}
	if (n->seen < n->next && n->timeout_s > 0 && now_s() - n->since > n->timeout_s) {
		snprintf(why, sizeof why, "an exchange has lasted %.0f s (dist.timeout): another "
			"rank is lost, or far slower", now_s() - n->since);
		give_up(n, why);
	}
}

static void *watch(void *arg)
{
	struct nccl *n = (struct nccl *)arg;

	cudaSetDevice(n->c->device);
	pthread_mutex_lock(&n->lock);
	while (!n->closing) {
		struct timespec t;

		look(n);
		t = wl_wait_until(0.2); /* by a clock that nobody sets back */
		pthread_cond_timedwait(&n->wake, &n->lock, &t);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

/* --- jobs --- */

static int wire_begin(struct wl_wire *w, struct wl_err *err)
{
	struct nccl *n = self(w);
	cudaEvent_t e = n->given[n->next % JOBS];
	cudaError_t code = cudaEventRecord(e, n->c->stream);

	if (code == cudaSuccess)
		code = cudaStreamWaitEvent(n->stream, e, 0);
	return cuda_failed(code, "handing work to the exchange", err);
}

static int wire_reduce_scatter(struct wl_wire *w, float *v, size_t count, bool mean,
	struct wl_err *err)
{
	struct nccl *n = self(w);

	return failed(n, n->lib.reduce_scatter(v, v + (size_t)n->rank * count, count, NCCL_F32,
				 mean ? NCCL_AVG : NCCL_SUM, n->comm, n->stream),
		"reduce-scatter", err);
}

static int wire_all_gather(struct wl_wire *w, const void *in, void *out, size_t bytes,
	struct wl_err *err)
{
	struct nccl *n = self(w);
	bool floats = bytes % sizeof(float) == 0;

	wl_cuda_touched(n->c, out, (size_t)n->world * bytes);
	return failed(n, n->lib.all_gather(in, out, floats ? bytes / sizeof(float) : bytes,
				 floats ? NCCL_F32 : NCCL_U8, n->comm, n->stream),
		"all-gather", err);
}

static int wire_all_mean(struct wl_wire *w, float *v, size_t count, struct wl_err *err)
{
	struct nccl *n = self(w);

	return failed(n, n->lib.all_reduce(v, v, count, NCCL_F32, NCCL_AVG, n->comm, n->stream),
		"all-reduce", err);
}

static int wire_all_sum(struct wl_wire *w, double *v, size_t count, struct wl_err *err)
{
	struct nccl *n = self(w);

	return failed(n, n->lib.all_reduce(v, v, count, NCCL_F64, NCCL_SUM, n->comm, n->stream),
		"all-reduce", err);
}

/* The next job is done when what the stream was given is. */
static int job_on(struct nccl *n, cudaStream_t stream, uint64_t *job, struct wl_err *err)
{
	int ret;

	pthread_mutex_lock(&n->lock);
	ret = cuda_failed(cudaEventRecord(n->done[n->next % JOBS], stream),
		"marking an exchange", err);
	if (n->seen == n->next)
		n->since = now_s();
	*job = n->next++;
	pthread_mutex_unlock(&n->lock);
	return ret;
}

static int wire_end(struct wl_wire *w, uint64_t *job, struct wl_err *err)
{
	return job_on(self(w), self(w)->stream, job, err);
}

static int wire_mark(struct wl_wire *w, uint64_t *job, struct wl_err *err)
{
	return job_on(self(w), self(w)->c->stream, job, err);
}

static void wire_recording(struct wl_wire *w, bool yes)
{
	struct nccl *n = self(w);

	pthread_mutex_lock(&n->lock);
	n->recording = yes;
	n->seen = n->next; /* the earlier ones come before what mark will stand for */
	pthread_mutex_unlock(&n->lock);
}

static void wire_watch(struct wl_wire *w, bool (*lost)(const void *peers, int *rank),
	const void *peers)
{
	struct nccl *n = self(w);

	pthread_mutex_lock(&n->lock);
	n->lost = lost;
	n->peers = peers;
	pthread_mutex_unlock(&n->lock);
}

static int wire_wait(struct wl_wire *w, uint64_t job, struct wl_err *err)
{
	struct nccl *n = self(w);

	return cuda_failed(cudaStreamWaitEvent(n->c->stream, n->done[job % JOBS], 0),
		"waiting for an exchange", err);
}

static void wire_close(struct wl_wire *w)
{
	struct nccl *n = w ? self(w) : NULL;

	if (!n)
		return;
	if (n->stream)
		cudaStreamSynchronize(n->stream);
	if (n->watched) {
		pthread_mutex_lock(&n->lock);
		n->closing = true;
		pthread_cond_broadcast(&n->wake);
		pthread_mutex_unlock(&n->lock);
		pthread_join(n->thread, NULL);
	}
	/* NCCL waits, for ever, until no graph refers to its communicator (init.cc, "keep polling
	 * until all graphs referencing us die"), and who closes the wire frees graphs after it. */
	wl_cuda_recordings_end(n->c);
	if (n->comm)
		n->lib.destroy(n->comm);
	for (int i = 0; i < JOBS; i++) {
		if (n->given[i])
			cudaEventDestroy(n->given[i]);
		if (n->done[i])
			cudaEventDestroy(n->done[i]);
	}
	if (n->stream)
		cudaStreamDestroy(n->stream);
	pthread_cond_destroy(&n->wake);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

static int make_stream(struct nccl *n, struct wl_err *err)
{
	cudaError_t code = cudaStreamCreateWithFlags(&n->stream, cudaStreamNonBlocking);

	for (int i = 0; i < JOBS && code == cudaSuccess; i++) {
		code = cudaEventCreateWithFlags(&n->given[i], cudaEventDisableTiming);
		if (code == cudaSuccess)
			code = cudaEventCreateWithFlags(&n->done[i], cudaEventDisableTiming);
	}
	return cuda_failed(code, "making a stream for exchanges", err);
}

static int meet(struct nccl *n, const char *name, struct wl_err *err)
{
	struct nccl_id id;
	void *comm = NULL;

	WL_TRY(wl_cuda_nccl_load(&n->lib, err));
	WL_TRY(make_stream(n, err));
	memcpy(id.internal, name, sizeof id.internal);
	/* The watch first: init waits for ever for a rank that does not come. */
	n->meeting = true;
	n->since = now_s();
	n->watched = pthread_create(&n->thread, NULL, watch, n) == 0;
	if (!n->watched)
		return wl_err_set(err, WL_EFAIL,
			"the watch over exchanges cannot be started; raise "
			"the limit of threads (ulimit -u)");
	WL_TRY(failed(n, n->lib.init(&comm, n->world, id, n->rank), "meeting of ranks", err));
	pthread_mutex_lock(&n->lock);
	n->comm = comm;
	n->meeting = false;
	pthread_mutex_unlock(&n->lock);
	return 0;
}

int wl_cuda_wire_id(struct wl_backend *be, char id[WL_WIRE_ID], struct wl_err *err)
{
	struct nccl n;
	struct nccl_id made;

	(void)be;
	memset(&n, 0, sizeof n);
	WL_TRY(wl_cuda_nccl_load(&n.lib, err));
	WL_TRY(failed(&n, n.lib.get_id(&made), "naming of a meeting", err));
	memcpy(id, made.internal, WL_WIRE_ID);
	return 0;
}

struct wl_wire *wl_cuda_wire(struct wl_backend *be, int rank, int world, const char id[WL_WIRE_ID],
	double timeout_s, struct wl_err *err)
{
	struct nccl *n = (struct nccl *)calloc(1, sizeof *n);

	if (!n) {
		wl_err_nomem(err, "the exchange between GPUs", sizeof *n);
		return NULL;
	}
	pthread_mutex_init(&n->lock, NULL);
	wl_wait_init(&n->wake);
	n->wire.impl = n;
	n->wire.begin = wire_begin;
	n->wire.reduce_scatter = wire_reduce_scatter;
	n->wire.all_gather = wire_all_gather;
	n->wire.all_mean = wire_all_mean;
	n->wire.all_sum = wire_all_sum;
	n->wire.end = wire_end;
	n->wire.wait = wire_wait;
	n->wire.recording = wire_recording;
	n->wire.mark = wire_mark;
	n->wire.watch = wire_watch;
	n->wire.close = wire_close;
	n->c = (struct cuda *)be->impl;
	n->rank = rank;
	n->world = world;
	n->timeout_s = timeout_s;
	if (meet(n, id, err) == 0)
		return &n->wire;
	wire_close(&n->wire);
	return NULL;
}
