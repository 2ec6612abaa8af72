/*
 * C11's threads by POSIX's, preloaded under the thread sanitizer (make test-tsan), which knows only
 * those: librdkafka begins threads by thrd_create, in which the sanitizer would crash.  glibc's two
 * kinds of mutexes and conditions are of the same make.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "a mutex is a mutex");
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "a condition is a condition");

static int c11(int error)
{
	return error == 0	    ? thrd_success
	       : error == EBUSY	    ? thrd_busy
	       : error == ENOMEM    ? thrd_nomem
	       : error == ETIMEDOUT ? thrd_timedout
				    : thrd_error;
}

struct begin {
	thrd_start_t run;
	void *arg;
};

static void *begin(void *arg)
{
	struct begin b = *(struct begin *)arg;

	free(arg);
	return (void *)(intptr_t)b.run(b.arg);
}

int thrd_create(thrd_t *thread, thrd_start_t run, void *arg)
{
	struct begin *b = malloc(sizeof *b);
	int ret;

	if (!b)
		return thrd_nomem;
	*b = (struct begin){run, arg};
	ret = c11(pthread_create(thread, NULL, begin, b));
	if (ret != thrd_success)
		free(b);
	return ret;
}

int thrd_join(thrd_t thread, int *result)
{
	void *value;
	int ret = c11(pthread_join(thread, &value));

	if (ret == thrd_success && result)
		*result = (int)(intptr_t)value;
	return ret;
}

int thrd_detach(thrd_t thread)
{
	return c11(pthread_detach(thread));
}

int mtx_init(mtx_t *m, int type)
{
	pthread_mutexattr_t attr;
	int ret;

	pthread_mutexattr_init(&attr);
	if (type & mtx_recursive)
		pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	ret = c11(pthread_mutex_init((pthread_mutex_t *)m, &attr));
	pthread_mutexattr_destroy(&attr);
	return ret;
}

int mtx_lock(mtx_t *m)
{
	return c11(pthread_mutex_lock((pthread_mutex_t *)m));
}

int mtx_trylock(mtx_t *m)
{
	return c11(pthread_mutex_trylock((pthread_mutex_t *)m));
}

int mtx_unlock(mtx_t *m)
{
	return c11(pthread_mutex_unlock((pthread_mutex_t *)m));
}

void mtx_destroy(mtx_t *m)
{
	pthread_mutex_destroy((pthread_mutex_t *)m);
}

int cnd_init(cnd_t *c)
{
	return c11(pthread_cond_init((pthread_cond_t *)c, NULL));
}

int cnd_signal(cnd_t *c)
{
	return c11(pthread_cond_signal((pthread_cond_t *)c));
}

int cnd_broadcast(cnd_t *c)
{
	return c11(pthread_cond_broadcast((pthread_cond_t *)c));
}

int cnd_wait(cnd_t *c, mtx_t *m)
{
	return c11(pthread_cond_wait((pthread_cond_t *)c, (pthread_mutex_t *)m));
}

int cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m, const struct timespec *restrict until)
{
	return c11(pthread_cond_timedwait((pthread_cond_t *)c, (pthread_mutex_t *)m, until));
}

void cnd_destroy(cnd_t *c)
{
	pthread_cond_destroy((pthread_cond_t *)c);
}

void call_once(once_flag *flag, void (*run)(void))
{
	pthread_once((pthread_once_t *)flag, run);
}
