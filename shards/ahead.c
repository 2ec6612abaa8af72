/* Reading ahead: see ahead.h.  A table of fixed size; whoever needs an entry looks through it. */
#include "shards/ahead.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

enum state { FREE, WANTED, RUNNING, DONE, FAILED };

struct entry {
	enum state state;
	int64_t number;
	uint64_t order; /* of the announcement */
	struct wl_buf bytes;
	struct wl_err err;
};

struct wl_ahead {
	wl_ahead_fetch *fetch;
	void *ctx;
	size_t max_bytes, bytes; /* DONE ones */
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	struct entry v[WL_AHEAD_MOST];
	uint64_t order;
	pthread_t *threads;
	size_t n_threads;
	bool stopping;
};

/* The entry announced first among those in that state; NULL: none. */
static struct entry *oldest(struct wl_ahead *a, enum state state)
{
	struct entry *found = NULL;

	for (size_t i = 0; i < WL_AHEAD_MOST; i++)
		if (a->v[i].state == state && (!found || a->v[i].order < found->order))
			found = &a->v[i];
	return found;
}

static struct entry *find(struct wl_ahead *a, int64_t number)
{
	for (size_t i = 0; i < WL_AHEAD_MOST; i++)
		if (a->v[i].state != FREE && a->v[i].number == number)
			return &a->v[i];
	return NULL;
}

static void forget(struct wl_ahead *a, struct entry *e)
{
	if (e->state == DONE)
		a->bytes -= e->bytes.len;
	wl_buf_reset(&e->bytes);
	e->state = FREE;
}

static void *work(void *arg)
{
	struct wl_ahead *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->stopping) {
		struct entry *e = a->bytes < a->max_bytes ? oldest(a, WANTED) : NULL;
		int rc;

		if (!e) {
			pthread_cond_wait(&a->work, &a->lock);
			continue;
		}
		e->state = RUNNING;
		e->err = (struct wl_err)WL_ERR_INIT;
		pthread_mutex_unlock(&a->lock);
		rc = a->fetch(a->ctx, e->number, &e->bytes, &e->err);
		pthread_mutex_lock(&a->lock);
		e->state = rc < 0 ? FAILED : DONE;
		a->bytes += rc < 0 ? 0 : e->bytes.len;
		pthread_cond_broadcast(&a->done);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

struct wl_ahead *wl_ahead_new(size_t threads, size_t max_bytes, size_t max_one,
	wl_ahead_fetch *fetch, void *ctx, struct wl_err *err)
{
	struct wl_ahead *a = calloc(1, sizeof *a);
	sigset_t all, old;
	int rc = 0;

	if (a)
		a->threads = calloc(threads, sizeof *a->threads);
	if (!a || !a->threads) {
		wl_err_nomem(err, "reading ahead", sizeof *a);
		free(a);
		return NULL;
	}
	a->fetch = fetch;
	a->ctx = ctx;
	a->max_bytes = max_bytes;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->work, NULL);
	pthread_cond_init(&a->done, NULL);
	for (size_t i = 0; i < WL_AHEAD_MOST; i++)
		wl_buf_init(&a->v[i].bytes, max_one);
	sigfillset(&all); /* signals are for the main thread */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (a->n_threads < threads && rc == 0) {
		rc = pthread_create(&a->threads[a->n_threads], NULL, work, a);
		a->n_threads += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (a->n_threads)
		return a;
	wl_err_set(err, WL_EFAIL, "a thread to read ahead cannot be started");
	wl_ahead_free(a);
	return NULL;
}

void wl_ahead_free(struct wl_ahead *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->stopping = true;
	pthread_cond_broadcast(&a->work);
	pthread_mutex_unlock(&a->lock);
	for (size_t i = 0; i < a->n_threads; i++)
		pthread_join(a->threads[i], NULL);
	for (size_t i = 0; i < WL_AHEAD_MOST; i++)
		wl_buf_release(&a->v[i].bytes);
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->work);
	pthread_cond_destroy(&a->done);
	free(a->threads);
	free(a);
}

void wl_ahead_want(struct wl_ahead *a, int64_t number)
{
	struct entry *e;

	pthread_mutex_lock(&a->lock);
	e = find(a, number) ? NULL : oldest(a, FREE);
	if (!e && !find(a, number)) {
		/* Full of what nobody took: left over from before a seek. */
		e = oldest(a, DONE);
		e = e ? e : oldest(a, FAILED);
		if (e)
			forget(a, e);
	}
	if (e) {
		e->state = WANTED;
		e->number = number;
		e->order = a->order++;
		pthread_cond_signal(&a->work);
	}
	pthread_mutex_unlock(&a->lock);
}

int wl_ahead_take(struct wl_ahead *a, int64_t number, struct wl_buf *out, struct wl_err *err)
{
	struct entry *e;
	int rc = 0;

	pthread_mutex_lock(&a->lock);
	while ((e = find(a, number)) && e->state == RUNNING)
		pthread_cond_wait(&a->done, &a->lock);
	if (e && e->state == FAILED)
		rc = wl_err_set(err, e->err.code, "%s", e->err.msg);
	if (e && e->state == DONE) {
		struct wl_buf was = *out;
		size_t max = out->max, room = e->bytes.max;

		a->bytes -= e->bytes.len;
		*out = e->bytes;
		e->bytes = was;
		out->max = max; /* a buffer's bound belongs to its owner */
		e->bytes.max = room;
		wl_buf_reset(&e->bytes);
		e->state = FREE;
		rc = 1;
	} else if (e) {
		forget(a, e);
	}
	pthread_cond_signal(&a->work);
	pthread_mutex_unlock(&a->lock);
	return rc;
}
