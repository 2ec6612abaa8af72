/* A bounded queue and one thread: see courier.h. */
#include "ops/courier.h"

#include "ops/comm_priv.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

enum { JOBS = 1024 };

struct job {
	wl_courier_fn fn;
	void *user;
	int64_t arg;
};

struct wl_courier {
	struct wl_comm *comm, front; /* front: what wl_courier_comm gives */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t posted, finished;
	struct job jobs[JOBS]; /* number n at n % JOBS */
	uint64_t next, done;   /* numbers: to be posted, finished */
	bool closing, failed;
	struct wl_err err;
	double busy, waited;
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *work(void *arg)
{
	struct wl_courier *c = arg;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (c->done == c->next && !c->closing)
			pthread_cond_wait(&c->posted, &c->lock);
		if (c->done == c->next)
			break;
		struct job j = c->jobs[c->done % JOBS];
		bool run = !c->failed;

		pthread_mutex_unlock(&c->lock);
		double start = now_s();
		int ret = run ? j.fn(c->comm, j.user, j.arg, &c->err) : 0;
		double took = now_s() - start;
		pthread_mutex_lock(&c->lock);
		c->failed = c->failed || ret < 0;
		c->busy += took;
		c->done++;
		pthread_cond_broadcast(&c->finished);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* --- plain calls as jobs --- */

/* The arguments of one call; each kind uses those that it has. */
struct call {
	void *v;
	const void *in;
	size_t n;
	const size_t *send, *recv;
	enum wl_comm_type type;
	enum wl_comm_op op;
	int root;
};

static int do_barrier(struct wl_comm *c, void *user, int64_t arg, struct wl_err *err)
{
	(void)user;
	(void)arg;
	return wl_comm_barrier(c, err);
}

static int do_all_reduce(struct wl_comm *c, void *user, int64_t arg, struct wl_err *err)
{
	const struct call *k = user;

	(void)arg;
	return wl_comm_all_reduce(c, k->v, k->n, k->type, k->op, err);
}

static int do_reduce_scatter(struct wl_comm *c, void *user, int64_t arg, struct wl_err *err)
{
	const struct call *k = user;

	(void)arg;
	return wl_comm_reduce_scatter(c, k->in, k->v, k->n, k->type, err);
}

static int do_broadcast(struct wl_comm *c, void *user, int64_t arg, struct wl_err *err)
{
	const struct call *k = user;

	(void)arg;
	return wl_comm_broadcast(c, k->v, k->n, k->root, err);
}

static int do_gather_in_place(struct wl_comm *c, void *user, int64_t arg, struct wl_err *err)
{
	const struct call *k = user;

	(void)arg;
	return wl_comm_all_gather_in_place(c, k->v, k->n, err);
}

static int do_exchange(struct wl_comm *c, void *user, int64_t arg, struct wl_err *err)
{
	const struct call *k = user;
	int ret;

	(void)arg;
	comm_watch_enter(c->watch, "an exchange");
	ret = c->ops->exchange(c, k->in, k->send, k->v, k->recv, err);
	comm_watch_leave(c->watch);
	return ret;
}

static int front_barrier(struct wl_comm *c, struct wl_err *err)
{
	return wl_courier_call(c->state, do_barrier, NULL, 0, err);
}

static int front_all_reduce(struct wl_comm *c, void *v, size_t n, enum wl_comm_type t,
	enum wl_comm_op op, struct wl_err *err)
{
	struct call k = {.v = v, .n = n, .type = t, .op = op};

	return wl_courier_call(c->state, do_all_reduce, &k, 0, err);
}

static int front_reduce_scatter(struct wl_comm *c, const void *in, void *out, size_t n,
	enum wl_comm_type t, struct wl_err *err)
{
	struct call k = {.in = in, .v = out, .n = n, .type = t};

	return wl_courier_call(c->state, do_reduce_scatter, &k, 0, err);
}

static int front_broadcast(
	struct wl_comm *c, void *v, size_t bytes, int root, struct wl_err *err)
{
	struct call k = {.v = v, .n = bytes, .root = root};

	return wl_courier_call(c->state, do_broadcast, &k, 0, err);
}

static int front_gather_in_place(struct wl_comm *c, void *v, size_t bytes, struct wl_err *err)
{
	struct call k = {.v = v, .n = bytes};

	return wl_courier_call(c->state, do_gather_in_place, &k, 0, err);
}

static int front_exchange(struct wl_comm *c, const void *in, const size_t *send, void *out,
	const size_t *recv, struct wl_err *err)
{
	struct call k = {.in = in, .v = out, .send = send, .recv = recv};

	return wl_courier_call(c->state, do_exchange, &k, 0, err);
}

static void front_nothing(struct wl_comm *c)
{
	(void)c; /* leaving and closing is the business of the communicator behind */
}

static bool front_lost(const struct wl_comm *c, int *rank)
{
	return wl_comm_lost(((const struct wl_courier *)c->state)->comm, rank);
}

static const struct comm_ops front_ops = {front_barrier, front_all_reduce, front_reduce_scatter,
	front_broadcast, front_gather_in_place, front_exchange, front_nothing, front_nothing,
	false, front_lost};

struct wl_comm *wl_courier_comm(struct wl_courier *c)
{
	return &c->front;
}

struct wl_courier *wl_courier_open(struct wl_comm *comm, struct wl_err *err)
{
	struct wl_courier *c = calloc(1, sizeof *c);

	if (!c) {
		wl_err_nomem(err, "the thread of exchanges", sizeof *c);
		return NULL;
	}
	c->comm = comm;
	c->front = (struct wl_comm){.ops = comm->ops ? &front_ops : NULL, .rank = comm->rank,
		.size = comm->size, .local_size = comm->local_size, .local_rank = comm->local_rank,
		.state = c};
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->posted, NULL);
	pthread_cond_init(&c->finished, NULL);
	if (pthread_create(&c->thread, NULL, work, c) != 0) {
		wl_err_set(err, WL_EFAIL, "the thread of exchanges cannot be started; raise the "
			"limit of threads (ulimit -u)");
		pthread_cond_destroy(&c->finished);
		pthread_cond_destroy(&c->posted);
		pthread_mutex_destroy(&c->lock);
		free(c);
		return NULL;
	}
	return c;
}

void wl_courier_close(struct wl_courier *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->closing = true;
	pthread_cond_broadcast(&c->posted);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->finished);
	pthread_cond_destroy(&c->posted);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

uint64_t wl_courier_post(struct wl_courier *c, wl_courier_fn fn, void *user, int64_t arg)
{
	uint64_t job;

	pthread_mutex_lock(&c->lock);
	while (c->next - c->done == JOBS)
		pthread_cond_wait(&c->finished, &c->lock);
	job = c->next++;
	c->jobs[job % JOBS] = (struct job){fn, user, arg};
	pthread_cond_signal(&c->posted);
	pthread_mutex_unlock(&c->lock);
	return job;
}

int wl_courier_wait(struct wl_courier *c, uint64_t job, struct wl_err *err)
{
	bool failed;

	pthread_mutex_lock(&c->lock);
	if (c->done <= job) {
		double start = now_s();

		while (c->done <= job)
			pthread_cond_wait(&c->finished, &c->lock);
		c->waited += now_s() - start;
	}
	failed = c->failed;
	if (failed && err)
		*err = c->err;
	pthread_mutex_unlock(&c->lock);
	return failed ? -1 : 0;
}

int wl_courier_call(struct wl_courier *c, wl_courier_fn fn, void *user, int64_t arg,
	struct wl_err *err)
{
	return wl_courier_wait(c, wl_courier_post(c, fn, user, arg), err);
}

int wl_courier_drain(struct wl_courier *c, struct wl_err *err)
{
	uint64_t next;

	pthread_mutex_lock(&c->lock);
	next = c->next;
	pthread_mutex_unlock(&c->lock);
	return next ? wl_courier_wait(c, next - 1, err) : 0;
}

void wl_courier_seconds(struct wl_courier *c, double *busy, double *waited)
{
	pthread_mutex_lock(&c->lock);
	*busy = c->busy;
	*waited = c->waited;
	pthread_mutex_unlock(&c->lock);
}
