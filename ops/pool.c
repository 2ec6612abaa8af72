/*
 * A ring of slots with serial numbers: see pool.h.
 *
 * Job number s lives in slot s % capacity from submit to take.  Workers claim numbers in
 * order; a slot is marked done by whoever ran it; take waits for the oldest number only.
 * So the order of results is the order of submission by construction, and the ring's
 * size bounds memory.
 */
#include "ops/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

struct slot {
	void (*fn)(void *job);
	void *job;
	bool done;
};

struct loop {
	void (*fn)(void *ctx, size_t i);
	void *ctx;
	size_t next, n, finished;
};

struct wl_pool {
	pthread_mutex_t lock;
	pthread_cond_t work;  /* a job or a loop is there, or the end */
	pthread_cond_t room;  /* a slot became free */
	pthread_cond_t ready; /* a job or a loop was finished */
	struct slot *ring;
	size_t capacity, threads;
	uint64_t submitted, claimed, taken; /* serial numbers: taken <= claimed <= submitted */
	struct loop *loop;                  /* on the stack of wl_pool_for, or NULL */
	bool stop;
	pthread_t *ids;
};

size_t wl_cores(void)
{
	cpu_set_t set;
	long online;

	/* The affinity mask knows about taskset and containers. */
	if (!sched_getaffinity(0, sizeof set, &set) && CPU_COUNT(&set) > 0)
		return (size_t)CPU_COUNT(&set);
	online = sysconf(_SC_NPROCESSORS_ONLN);
	return online > 0 ? (size_t)online : 1;
}

/* Runs iterations until none is left to claim; the lock is held on entry and on return. */
static void run_loop(struct wl_pool *p, struct loop *loop)
{
	while (loop->next < loop->n) {
		size_t i = loop->next++;

		pthread_mutex_unlock(&p->lock);
		loop->fn(loop->ctx, i);
		pthread_mutex_lock(&p->lock);
		if (++loop->finished == loop->n)
			pthread_cond_broadcast(&p->ready);
	}
}

static void *worker(void *arg)
{
	struct wl_pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		if (p->loop && p->loop->next < p->loop->n) {
			run_loop(p, p->loop);
		} else if (p->claimed < p->submitted && !p->stop) {
			struct slot *s = &p->ring[p->claimed++ % p->capacity];

			pthread_mutex_unlock(&p->lock);
			s->fn(s->job);
			pthread_mutex_lock(&p->lock);
			s->done = true;
			pthread_cond_broadcast(&p->ready);
		} else if (p->stop) {
			break;
		} else {
			pthread_cond_wait(&p->work, &p->lock);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct wl_pool *wl_pool_new(size_t threads, size_t capacity, struct wl_err *err)
{
	struct wl_pool *p = calloc(1, sizeof *p);

	threads = threads ? threads : wl_cores();
	capacity = capacity ? capacity : 4 * threads;
	if (p) {
		p->ring = calloc(capacity, sizeof *p->ring);
		p->ids = calloc(threads, sizeof *p->ids);
	}
	if (!p || !p->ring || !p->ids) {
		wl_err_nomem(err, "a pool of threads", capacity * sizeof *p->ring);
		if (p) {
			free(p->ring);
			free(p->ids);
		}
		free(p);
		return NULL;
	}
	p->capacity = capacity;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->room, NULL);
	pthread_cond_init(&p->ready, NULL);
	for (; p->threads < threads; p->threads++)
		if (pthread_create(&p->ids[p->threads], NULL, worker, p)) {
			wl_err_set(err, WL_EFAIL, "thread %zu of %zu cannot be started",
				p->threads + 1, threads);
			wl_pool_free(p);
			return NULL;
		}
	return p;
}

void wl_pool_free(struct wl_pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < p->threads; i++)
		pthread_join(p->ids[i], NULL);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->room);
	pthread_cond_destroy(&p->ready);
	free(p->ids);
	free(p->ring);
	free(p);
}

size_t wl_pool_threads(const struct wl_pool *p)
{
	return p->threads;
}

void wl_pool_submit(struct wl_pool *p, void (*fn)(void *job), void *job)
{
	pthread_mutex_lock(&p->lock);
	while (p->submitted - p->taken == p->capacity)
		pthread_cond_wait(&p->room, &p->lock);
	p->ring[p->submitted++ % p->capacity] = (struct slot){fn, job, false};
	pthread_cond_signal(&p->work);
	/* A taker may be waiting for a first job that only now exists. */
	pthread_cond_broadcast(&p->ready);
	pthread_mutex_unlock(&p->lock);
}

bool wl_pool_has_room(struct wl_pool *p)
{
	bool room;

	pthread_mutex_lock(&p->lock);
	room = p->submitted - p->taken < p->capacity;
	pthread_mutex_unlock(&p->lock);
	return room;
}

void *wl_pool_take(struct wl_pool *p)
{
	void *job = NULL;

	pthread_mutex_lock(&p->lock);
	if (p->taken < p->submitted) {
		struct slot *s = &p->ring[p->taken % p->capacity];

		while (!s->done)
			pthread_cond_wait(&p->ready, &p->lock);
		job = s->job;
		p->taken++;
		pthread_cond_signal(&p->room);
	}
	pthread_mutex_unlock(&p->lock);
	return job;
}

void wl_pool_for(struct wl_pool *p, size_t n, void (*fn)(void *ctx, size_t i), void *ctx)
{
	struct loop loop = {fn, ctx, 0, n, 0};

	if (!n)
		return;
	pthread_mutex_lock(&p->lock);
	while (p->loop) /* one loop at a time */
		pthread_cond_wait(&p->ready, &p->lock);
	p->loop = &loop;
	pthread_cond_broadcast(&p->work);
	run_loop(p, &loop);
	while (loop.finished < n)
		pthread_cond_wait(&p->ready, &p->lock);
	p->loop = NULL;
	pthread_cond_broadcast(&p->ready);
	pthread_mutex_unlock(&p->lock);
}
