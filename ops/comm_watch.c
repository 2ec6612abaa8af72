/*
 * A thread that looks how long the current exchange has lasted.  MPI's calls wait for ever for a
 * rank that is gone without its launcher noticing (a machine without power, a process that is
 * stopped), and cannot be cancelled: then only the end of the process helps.
 */
#include "ops/comm_priv.h"
#include "ops/log.h"
#include "ops/wait.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct comm_watch {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int rank;
	double limit;
	bool closing;
	const char *what; /* NULL: no exchange is under way */
	double since;
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *look(void *arg)
{
	struct comm_watch *w = arg;
	double pause = w->limit / 4 < 1 ? w->limit / 4 : 1;

	pthread_mutex_lock(&w->lock);
	while (!w->closing) {
		struct timespec t = wl_wait_until(pause);
		double waited = w->what ? now_s() - w->since : 0;

		if (waited > w->limit) {
			wl_error("rank %d has waited %.0f s in %s: another rank is lost, or far "
				 "slower (the limit is %.0f s); the same command goes on from "
				 "the last checkpoint", w->rank, waited, w->what, w->limit);
			_exit(WL_ERETRY);
		}
		pthread_cond_timedwait(&w->wake, &w->lock, &t);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

struct comm_watch *comm_watch_open(int rank, double seconds, struct wl_err *err)
{
	struct comm_watch *w = calloc(1, sizeof *w);

	if (!w) {
		wl_err_nomem(err, "the watch over exchanges", sizeof *w);
		return NULL;
	}
	w->rank = rank;
	w->limit = seconds;
	pthread_mutex_init(&w->lock, NULL);
	wl_wait_init(&w->wake);
	if (pthread_create(&w->thread, NULL, look, w) == 0)
		return w;
	wl_err_set(err, WL_EFAIL, "no thread can be started.");
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return NULL;
}

void comm_watch_close(struct comm_watch *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->closing = true;
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void comm_watch_enter(struct comm_watch *w, const char *what)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->what = what;
	w->since = now_s();
	pthread_mutex_unlock(&w->lock);
}

void comm_watch_leave(struct comm_watch *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->what = NULL;
	pthread_mutex_unlock(&w->lock);
}
