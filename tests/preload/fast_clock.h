/* A steady clock that hurries, in place of clock_gettime: what waits for somebody in vain finds out
 * soon, and not because the machine is slow. */
#ifndef WL_TESTS_FAST_CLOCK_H
#define WL_TESTS_FAST_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FAST_CLOCK = 1000 };

/* As clock_gettime; the steady clock runs a thousand times as fast from `since` on, in nanoseconds
 * of its own; 0: it does not. */
static inline int fast_clock(clockid_t clock, struct timespec *t, int64_t since)
{
	int ret = (int)syscall(SYS_clock_gettime, clock, t);
	int64_t now;

	if (ret < 0 || !since || clock != CLOCK_MONOTONIC)
		return ret;
	now = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
	now += now > since ? (now - since) * FAST_CLOCK : 0;
	t->tv_sec = now / 1000000000;
	t->tv_nsec = now % 1000000000;
	return 0;
}

/* As pthread_cond_timedwait, until a moment that the hurrying clock named (ops/wait.h): the system
 * waits by its own, to which that moment is far off.  The other clock's are those of 2001 and
 * later, the steady one's begin with the machine. */
static inline int fast_wait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until,
	int64_t since)
{
	bool steady = until->tv_sec < 1000000000;
	int64_t at = (int64_t)until->tv_sec * 1000000000 + until->tv_nsec;
	struct timespec t = *until;

	if (steady && since && at > since) {
		at = since + (at - since) / (FAST_CLOCK + 1);
		t.tv_sec = at / 1000000000;
		t.tv_nsec = at % 1000000000;
	}
	return pthread_cond_clockwait(c, m, steady ? CLOCK_MONOTONIC : CLOCK_REALTIME, &t);
}

#endif
