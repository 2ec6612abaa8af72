/*
 * Sites and tasks: who may start the next request, and when.
 *
 * A task is one URL on its way to an outcome.  It waits in its site's queue, in the heap of timers
 * (a retry), is in flight, or is with the pool.  A site that may start a request is in the ready
 * list; one that must wait is in the heap.  Sites take turns, so that one with a million URLs does
 * not hold up the others.
 */
#include "ingest/fetch_priv.h"

#include "ops/file.h"
#include "ops/grow.h"
#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

enum {
	MANY_SITES = 20000,
	MANY_ROBOTS_BYTES = 64 << 20,
	LONGEST_RETRY_S = 3600,
};

/* ---- tables ---- */

static uint64_t hash_of(const char *s)
{
	return wl_hash64(s, strlen(s), 7);
}

struct wl_site *wl_site_get(struct wl_sites *s, const char *name, struct wl_err *err)
{
	uint64_t h = hash_of(name);
	struct wl_site **bucket = &s->sites[h % WL_SITE_BUCKETS], *site = *bucket;
	for (; site; site = site->next)
		if (site->hash == h && strcmp(site->name, name) == 0)
			return site;
	site = calloc(1, sizeof *site);
	if (!site) {
		wl_err_nomem(err, "a site", sizeof *site);
		return NULL;
	}
	*site = (struct wl_site){.next = *bucket, .hash = h, .limit = s->per_host};
	site->name = wl_strf(err, "%s", name);
	if (!site->name) {
		free(site);
		return NULL;
	}
	*bucket = site;
	s->n_sites++;
	return site;
}

static void site_free(struct wl_sites *s, struct wl_site *site)
{
	s->robots_bytes -= wl_robots_bytes(site->robots);
	s->n_sites--;
	wl_robots_free(site->robots);
	free(site->name);
	free(site);
}

void wl_sites_trim(struct wl_sites *s)
{
	if (s->n_sites < MANY_SITES && s->robots_bytes < MANY_ROBOTS_BYTES)
		return;
	for (size_t i = 0; i < WL_SITE_BUCKETS; i++) {
		struct wl_site **at = &s->sites[i];
		while (*at) {
			struct wl_site *site = *at;
			/* A dead one is remembered, or it would be asked again and again. */
			if (site->n_tasks || site->scheduled || site->dead) {
				at = &site->next;
				continue;
			}
			*at = site->next;
			site_free(s, site);
		}
	}
}

struct wl_task *wl_task_find(struct wl_sites *s, const char *url)
{
	uint64_t h = hash_of(url);
	struct wl_task *t = s->tasks[h % WL_TASK_BUCKETS];
	while (t && (t->hash != h || strcmp(t->url, url) != 0))
		t = t->next;
	return t;
}

static void join_site(struct wl_task *t, struct wl_site *site)
{
	if (t->site)
		t->site->n_tasks--;
	t->site = site;
	site->n_tasks++;
}

struct wl_task *wl_task_new(struct wl_sites *s, struct wl_http *h, const char *url,
	const char *referer, struct wl_err *err)
{
	struct wl_task *t = calloc(1, sizeof *t);
	struct wl_site *site;
	if (!t) {
		wl_err_nomem(err, "a URL to fetch", sizeof *t);
		return NULL;
	}
	wl_request_init(&t->req, h);
	t->req.user = t;
	t->url = wl_strf(err, "%s", url);
	t->referer = t->url ? wl_strf(err, "%s", referer) : NULL;
	if (!t->referer || wl_url_parse(&t->at, url, err) < 0)
		goto fail;
	site = wl_site_get(s, t->at.site, err);
	if (!site)
		goto fail;
	join_site(t, site);
	t->hash = hash_of(url);
	t->next = s->tasks[t->hash % WL_TASK_BUCKETS];
	s->tasks[t->hash % WL_TASK_BUCKETS] = t;
	s->n_tasks++;
	return t;
fail:
	free(t->url);
	t->url = NULL;
	wl_task_free(s, t);
	return NULL;
}

struct wl_task *wl_task_robots(
	struct wl_sites *s, struct wl_http *h, struct wl_site *site, struct wl_err *err)
{
	struct wl_task *t = calloc(1, sizeof *t);
	char *url = wl_strf(err, "%s/robots.txt", site->name);
	if (!t || !url || wl_url_parse(&t->at, url, err) < 0) {
		free(t);
		free(url);
		return NULL;
	}
	free(url);
	wl_request_init(&t->req, h);
	t->req.user = t;
	t->req.is_robots = true;
	join_site(t, site);
	(void)s;
	return t;
}

int wl_task_move(struct wl_sites *s, struct wl_task *t, const char *location, struct wl_err *err)
{
	struct wl_url to;
	struct wl_site *site = t->site;
	WL_TRY(wl_url_resolve(&to, t->at.text, location, err));
	/* A robots.txt speaks for the site that was asked, wherever it is kept. */
	if (!t->req.is_robots)
		site = wl_site_get(s, to.site, err);
	if (!site) {
		wl_url_release(&to);
		return -1;
	}
	wl_url_release(&t->at);
	t->at = to;
	join_site(t, site);
	return 0;
}

void wl_task_free(struct wl_sites *s, struct wl_task *t)
{
	if (!t)
		return;
	if (t->url) {
		struct wl_task **at = &s->tasks[t->hash % WL_TASK_BUCKETS];
		while (*at != t)
			at = &(*at)->next;
		*at = t->next;
		s->n_tasks--;
	}
	if (t->site)
		t->site->n_tasks--;
	wl_page_job_free(t->page);
	wl_request_release(&t->req);
	wl_url_release(&t->at);
	free(t->url);
	free(t->referer);
	free(t->etag);
	free(t->last_modified);
	free(t);
}

void wl_sites_release(struct wl_sites *s)
{
	for (size_t i = 0; i < WL_TASK_BUCKETS; i++)
		while (s->tasks[i])
			wl_task_free(s, s->tasks[i]);
	for (size_t i = 0; i < WL_SITE_BUCKETS; i++)
		for (struct wl_site *x = s->sites[i], *next; x; x = next) {
			next = x->next;
			site_free(s, x);
		}
	free(s->heap);
	*s = (struct wl_sites){0};
}

/* ---- the heap of timers ---- */

static bool before(const struct wl_timer *a, const struct wl_timer *b)
{
	return a->at_ms < b->at_ms || (a->at_ms == b->at_ms && a->serial < b->serial);
}

static void swap(struct wl_timer *a, struct wl_timer *b)
{
	struct wl_timer t = *a;
	*a = *b;
	*b = t;
}

static int heap_push(struct wl_sites *s, int64_t at_ms, struct wl_task *t, struct wl_site *site,
	struct wl_err *err)
{
	WL_TRY(WL_GROW(s->heap, s->n_heap, s->cap_heap, "timers", err));
	size_t i = s->n_heap++;
	s->heap[i] = (struct wl_timer){at_ms, s->serial++, t, site};
	for (; i && before(&s->heap[i], &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&s->heap[i], &s->heap[(i - 1) / 2]);
	return 0;
}

static struct wl_timer heap_pop(struct wl_sites *s)
{
	struct wl_timer top = s->heap[0];
	s->heap[0] = s->heap[--s->n_heap];
	for (size_t i = 0;;) {
		size_t least = i, l = 2 * i + 1;
		if (l < s->n_heap && before(&s->heap[l], &s->heap[least]))
			least = l;
		if (l + 1 < s->n_heap && before(&s->heap[l + 1], &s->heap[least]))
			least = l + 1;
		if (least == i)
			return top;
		swap(&s->heap[i], &s->heap[least]);
		i = least;
	}
}

int64_t wl_sites_next_ms(const struct wl_sites *s, int64_t now_ms)
{
	if (!s->n_heap)
		return -1;
	return s->heap[0].at_ms > now_ms ? s->heap[0].at_ms - now_ms : 0;
}

/* ---- queues ---- */

void wl_task_queue(struct wl_sites *s, struct wl_task *t, bool front)
{
	struct wl_site *site = t->site;
	(void)s;
	t->next_queued = front ? site->first : NULL;
	if (front) {
		site->first = t;
		if (!site->last)
			site->last = t;
	} else {
		if (site->last)
			site->last->next_queued = t;
		else
			site->first = t;
		site->last = t;
	}
	site->n_queued++;
}

int wl_task_queue_at(struct wl_sites *s, struct wl_task *t, int64_t at_ms, struct wl_err *err)
{
	return heap_push(s, at_ms, t, NULL, err);
}

struct wl_task *wl_site_dequeue(struct wl_site *site)
{
	struct wl_task *t = site->first;
	if (!t)
		return NULL;
	site->first = t->next_queued;
	if (!site->first)
		site->last = NULL;
	site->n_queued--;
	return t;
}

static void make_ready(struct wl_sites *s, struct wl_site *site)
{
	site->next_ready = NULL;
	if (s->last_ready)
		s->last_ready->next_ready = site;
	else
		s->ready = site;
	s->last_ready = site;
}

int wl_site_wake(
	struct wl_sites *s, struct wl_site *site, int64_t now_ms, struct wl_err *err)
{
	if (site->scheduled || !site->n_queued || site->active >= site->limit ||
		site->robots_state == WL_ROBOTS_ASKING)
		return 0;
	site->scheduled = true;
	if (site->not_before_ms > now_ms)
		return heap_push(s, site->not_before_ms, NULL, site, err);
	make_ready(s, site);
	return 0;
}

int wl_sites_tick(struct wl_sites *s, int64_t now_ms, struct wl_err *err)
{
	while (s->n_heap && s->heap[0].at_ms <= now_ms) {
		struct wl_timer due = heap_pop(s);
		if (due.site) {
			/* It may have been slowed down meanwhile. */
			due.site->scheduled = false;
			WL_TRY(wl_site_wake(s, due.site, now_ms, err));
		} else {
			wl_task_queue(s, due.task, false);
			WL_TRY(wl_site_wake(s, due.task->site, now_ms, err));
		}
	}
	return 0;
}

struct wl_site *wl_sites_next_ready(struct wl_sites *s)
{
	struct wl_site *site = s->ready;
	if (!site)
		return NULL;
	s->ready = site->next_ready;
	if (!s->ready)
		s->last_ready = NULL;
	site->scheduled = false;
	return site;
}

int64_t wl_retry_ms(double retry_s, int64_t tries, const char *url)
{
	double s = retry_s;
	for (int64_t i = 1; i < tries && s < LONGEST_RETRY_S; i++)
		s *= 2;
	/* Spread, so that a site's URLs do not all come back in one moment. */
	s *= 0.5 + wl_rand_unit(hash_of(url), 1, (uint64_t)tries);
	return (int64_t)((s < LONGEST_RETRY_S ? s : LONGEST_RETRY_S) * 1000);
}
