/* Time since some moment of the past, which setting the machine's clock does not change. */
#ifndef WL_OPS_CLOCK_H
#define WL_OPS_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t wl_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t wl_now_ms(void)
{
	return wl_now_ns() / 1000000;
}

static inline double wl_now_s(void)
{
	return (double)wl_now_ns() * 1e-9;
}

/* Processor time of all threads of this process, which a busy machine does not stretch. */
static inline double wl_cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
