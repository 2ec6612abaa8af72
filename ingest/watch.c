/* See watch.h.  One mutex: a begin and an end are tens of nanoseconds apart from records that
 * cost microseconds at least. */
#include "ingest/watch.h"

#include "ops/log.h"
#include "ops/wait.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PLACE = 96, NAMED = 4 /* in one message */ };

struct slot {
	const char *doing, *name; /* doing NULL: idle */
	char place[PLACE];
	int64_t since_ms;
};

struct wl_watch {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	bool started, stopping;
	int64_t limit_ms, alive_ms, next_ms;
	size_t n;
	struct slot slot[];
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The busy slot that has been at it longest, of those not in said[]. */
static const struct slot *longest(
	const struct wl_watch *w, const struct slot *const *said, size_t n_said)
{
	const struct slot *best = NULL;
	for (size_t i = 0; i < w->n; i++) {
		const struct slot *s = &w->slot[i];
		bool known = !s->doing;
		for (size_t k = 0; k < n_said && !known; k++)
			known = said[k] == s;
		if (!known && (!best || s->since_ms < best->since_ms))
			best = s;
	}
	return best;
}

/* With the lock held; the text goes out without it. */
static void describe(const struct wl_watch *w, int64_t now, char *out, size_t size)
{
	const struct slot *said[NAMED], *s;
	size_t used = 0, n = 0;
	while (n < NAMED && used < size && (s = longest(w, said, n)) != NULL) {
		used += (size_t)snprintf(out + used, size - used, "%s%s %s%s%s (%lld s)",
			n ? "; " : "", s->doing, s->name, *s->place ? ", " : "", s->place,
			(long long)(now - s->since_ms) / 1000);
		said[n++] = s;
	}
	if (!n)
		snprintf(out, size, "no thread is at anything");
}

/* With the lock held. */
static bool look(struct wl_watch *w, int64_t now, char *text, size_t size)
{
	char busy[800];
	int64_t silent = now - w->alive_ms;
	if (silent < w->limit_ms)
		w->next_ms = w->limit_ms;
	if (!w->limit_ms || silent < w->next_ms)
		return false;
	describe(w, now, busy, sizeof busy);
	snprintf(text, size, "nothing was finished for %lld s; busy: %s", (long long)silent / 1000,
		busy);
	w->next_ms = 2 * silent;
	return true;
}

bool wl_watch_stalled(struct wl_watch *w, int64_t now, char *text, size_t size)
{
	pthread_mutex_lock(&w->lock);
	bool speak = look(w, now, text, size);
	pthread_mutex_unlock(&w->lock);
	return speak;
}

static void *watch(void *arg)
{
	struct wl_watch *w = arg;
	char text[900];
	pthread_mutex_lock(&w->lock);
	while (!w->stopping) {
		struct timespec until = wl_wait_until(0.2);
		pthread_cond_timedwait(&w->wake, &w->lock, &until);
		if (w->stopping || !look(w, now_ms(), text, sizeof text))
			continue;
		pthread_mutex_unlock(&w->lock);
		wl_warn("%s", text);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

struct wl_watch *wl_watch_new(size_t slots, int64_t seconds, struct wl_err *err)
{
	struct wl_watch *w = calloc(1, sizeof *w + slots * sizeof *w->slot);
	if (!w) {
		wl_err_nomem(err, "the stall detector", slots * sizeof *w->slot);
		return NULL;
	}
	w->n = slots;
	w->limit_ms = w->next_ms = 1000 * seconds;
	w->alive_ms = now_ms();
	pthread_mutex_init(&w->lock, NULL);
	wl_wait_init(&w->wake);
	if (seconds > 0 && pthread_create(&w->thread, NULL, watch, w)) {
		wl_err_set(err, WL_EFAIL, "the stall detector's thread cannot be started");
		wl_watch_free(w);
		return NULL;
	}
	w->started = seconds > 0;
	return w;
}

void wl_watch_free(struct wl_watch *w)
{
	if (!w)
		return;
	if (w->started) {
		pthread_mutex_lock(&w->lock);
		w->stopping = true;
		pthread_cond_signal(&w->wake);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
	}
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void wl_watch_begin(
	struct wl_watch *w, size_t slot, const char *doing, const char *name, const char *place)
{
	struct slot *s = &w->slot[slot];
	size_t n = place ? strnlen(place, PLACE - 1) : 0;
	int64_t now = now_ms();
	pthread_mutex_lock(&w->lock);
	s->doing = doing;
	s->name = name;
	memcpy(s->place, n ? place : "", n);
	s->place[n] = '\0';
	s->since_ms = now;
	pthread_mutex_unlock(&w->lock);
}

void wl_watch_end(struct wl_watch *w, size_t slot)
{
	int64_t now = now_ms();
	pthread_mutex_lock(&w->lock);
	w->slot[slot].doing = NULL;
	w->alive_ms = now;
	pthread_mutex_unlock(&w->lock);
}

void wl_watch_alive(struct wl_watch *w)
{
	int64_t now = now_ms();
	pthread_mutex_lock(&w->lock);
	w->alive_ms = now;
	pthread_mutex_unlock(&w->lock);
}
