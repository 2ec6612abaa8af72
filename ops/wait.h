/* Waiting for a condition for some time at most, by a clock that nobody sets: by the other one, a
 * machine whose clock is put back by an hour naps for an hour. */
#ifndef WL_OPS_WAIT_H
#define WL_OPS_WAIT_H

#include <pthread.h>
#include <time.h>

/* To be destroyed with pthread_cond_destroy; timed waits take what wl_wait_until gives. */
static inline void wl_wait_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

/* The moment in that many seconds (not negative). */
static inline struct timespec wl_wait_until(double seconds)
{
	struct timespec t;
	long ns;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns = t.tv_nsec + (long)((seconds - (double)(time_t)seconds) * 1e9);
	t.tv_sec += (time_t)seconds + ns / 1000000000;
	t.tv_nsec = ns % 1000000000;
	return t;
}

#endif
