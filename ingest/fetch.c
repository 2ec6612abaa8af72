/*
 * The fetcher's loop: see fetch.h.
 *
 * A turn: take URLs from the lane into tasks and start what may start (fetch_ask.c), let libcurl
 * move bytes, settle what ended and what the pool has checked, commit when a batch is full, sleep
 * until something can happen.
 */
#include "ingest/fetch_priv.h"

#include "ops/clock.h"
#include "ops/file.h"
#include "ops/log.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	MEMORY_REST_MS = 300, /* before what did not fit into memory is asked for again */
	SLEEP_MS = 500,
	NOTE_MS = 1000,
	STALL_MS = 15000,
	CHECKS_PER_THREAD = 16,
};

static void look_at_clocks(struct wl_fetcher *f)
{
	f->now_ms = wl_now_ms();
	f->now_s = (int64_t)time(NULL);
}

/* ---- checking what came ---- */

/* On a thread of the pool: decodes, for no header is believed. */
static void check(void *arg)
{
	struct wl_task *t = arg;
	const struct wl_buf *b = &t->req.a.body;
	struct wl_err why = WL_ERR_INIT;
	t->check_code = WL_OK;
	if (t->page)
		wl_page_read(t);
	else if (wl_fetch_check(b, t->req.http->o->quick, &t->info, &why) < 0) {
		t->check_code = why.code;
		snprintf(t->why, sizeof t->why, "%s", why.msg);
	}
	CURLM *multi = t->req.http->multi; /* t may be gone once it is marked */
	atomic_store(&t->checked, true);
	curl_multi_wakeup(multi);
}

static int settle_checked(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	const struct wl_answer *a = &t->req.a;
	char reason[WL_REASON + 160];
	if (t->page)
		return wl_outcome_page(f, t, err);
	if (t->check_code == WL_OK)
		return wl_outcome_ok(f, t, err);
	if (t->check_code != WL_EDATA)
		return wl_err_set(err, (enum wl_code)t->check_code, "%s: %s", t->url, t->why);
	snprintf(reason, sizeof reason, "%s%s%s", t->why,
		a->type[0] ? ": the server calls it " : "", a->type);
	return wl_outcome_failed(f, t, reason, err);
}

/* Takes results from the pool, in the order they were given: all that are there, or (wait) one at
 * least. */
static int take_checked(struct wl_fetcher *f, bool wait, struct wl_err *err)
{
	int ret = 0;
	while (f->n_checking) {
		struct wl_task *t = f->checking[f->first_checking];
		if (!wait && !atomic_load(&t->checked))
			break;
		t = wl_pool_take(f->pool);
		f->first_checking = (f->first_checking + 1) % f->cap_checking;
		f->n_checking--;
		wait = false;
		if (f->lane)
			WL_TRY(settle_checked(f, t, err));
		else
			wl_task_free(&f->sites, t);
	}
	return ret;
}

static int submit(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	if (f->n_checking == f->cap_checking)
		WL_TRY(take_checked(f, true, err));
	WL_TRY(wl_page_begin(f, t, err));
	atomic_store(&t->checked, false);
	f->checking[(f->first_checking + f->n_checking++) % f->cap_checking] = t;
	wl_pool_submit(f->pool, check, t);
	return 0;
}

/* ---- what answers mean ---- */

static int redirect(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	char reason[WL_REASON];
	if (t->hops++ >= f->o.max_redirects)
		return wl_outcome_failed(f, t, "too many redirects", err);
	if (wl_task_move(&f->sites, t, t->req.a.location, &why) < 0) {
		if (why.code != WL_EDATA)
			return wl_err_set(err, why.code, "%s", why.msg);
		snprintf(reason, sizeof reason, "the redirect leads nowhere: %.300s", why.msg);
		return wl_outcome_failed(f, t, reason, err);
	}
	wl_task_queue(&f->sites, t, true);
	return wl_site_wake(&f->sites, t->site, f->now_ms, err);
}

static int again(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	const struct wl_answer *a = &t->req.a;
	int64_t delay = wl_retry_ms(f->o.retry_s, t->tries + 1, t->url);
	bool kept;
	if (a->out_of_memory)
		return wl_task_queue_at(&f->sites, t, f->now_ms + MEMORY_REST_MS, err);
	if (a->retry_after_s * 1000 > delay)
		delay = a->retry_after_s * 1000;
	WL_TRY(wl_outcome_again(f, t, a->reason, delay, &kept, err));
	return kept ? wl_task_queue_at(&f->sites, t, f->now_ms + delay, err) : 0;
}

static int on_answer(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	const struct wl_answer *a = &t->req.a;
	switch (a->kind) {
	case WL_ANSWER_BODY:
		return submit(f, t, err);
	case WL_ANSWER_SAME:
		return t->refresh ? wl_outcome_same(f, t, err)
				  : wl_outcome_failed(f, t, "the server answered 304", err);
	case WL_ANSWER_REDIRECT:
		return redirect(f, t, err);
	case WL_ANSWER_AGAIN:
		return again(f, t, err);
	case WL_ANSWER_NEVER:
		break;
	}
	return wl_outcome_failed(f, t, a->reason, err);
}

static int on_ended(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	struct wl_site *site = t->site;
	wl_ask_ended(f, t);
	wl_ask_note_site(f, t, site);
	WL_TRY(t->req.is_robots ? wl_ask_robots(f, t, err) : on_answer(f, t, err));
	return wl_site_wake(&f->sites, site, f->now_ms, err);
}

/* ---- the loop ---- */

/* Says what it waits for, so that a slow site is not taken for a hang. */
static void note(struct wl_fetcher *f)
{
	char text[80];
	if (f->now_ms - f->noted_ms < NOTE_MS)
		return;
	f->noted_ms = f->now_ms;
	int64_t age_s = f->oldest ? (f->now_ms - f->oldest->started_ms) / 1000 : 0;
	if (age_s < 3)
		snprintf(text, sizeof text, "%lld in flight", (long long)f->n_active);
	else
		snprintf(text, sizeof text, "%lld in flight, %.40s for %llds",
			(long long)f->n_active, f->oldest->at.host, (long long)age_s);
	wl_progress_set(f->progress, f->done, text);
	if (f->now_ms - f->settled_ms < STALL_MS || f->now_ms - f->warned_ms < STALL_MS)
		return;
	f->warned_ms = f->now_ms;
	if (f->oldest)
		wl_warn("no picture for %lld s: %lld requests are in flight, the oldest, to %s, "
			"for %lld s (it is given up after %g s)",
			(long long)(f->now_ms - f->settled_ms) / 1000, (long long)f->n_active,
			f->oldest->at.host, (long long)age_s, f->o.total_s);
	else
		wl_warn("no picture for %lld s: %zu URLs wait to be tried again",
			(long long)(f->now_ms - f->settled_ms) / 1000, f->sites.n_tasks);
}

static int move_bytes(struct wl_fetcher *f, struct wl_err *err)
{
	int running;
	struct wl_request *r;
	CURLMcode rc = curl_multi_perform(f->http.multi, &running);
	if (rc != CURLM_OK)
		return wl_err_set(err, WL_EFAIL, "fetching: %s", curl_multi_strerror(rc));
	while ((r = wl_http_ended(&f->http)) != NULL)
		WL_TRY(on_ended(f, r->user, err));
	return 0;
}

static void sleep_a_little(struct wl_fetcher *f)
{
	int64_t ms = wl_sites_next_ms(&f->sites, f->now_ms);
	if (ms < 0 || ms > f->most_ms)
		ms = f->most_ms;
	/* Work is at hand when a site is ready and a place is free, or the window can be filled. */
	if ((f->sites.ready && wl_ask_may_start(f)) ||
		(!f->exhausted && !f->sated && wl_ask_has_room(f)))
		ms = 0;
	curl_multi_poll(f->http.multi, NULL, 0, (int)ms, NULL);
}

/* 1: go on; 0: this lane is done. */
static int turn(struct wl_fetcher *f, struct wl_err *err)
{
	look_at_clocks(f);
	WL_TRY(wl_ask_fill(f, err));
	WL_TRY(wl_ask_start(f, err));
	WL_TRY(move_bytes(f, err));
	WL_TRY(take_checked(f, false, err));
	WL_TRY(wl_fetch_commit_when_due(f, err));
	wl_sites_trim(&f->sites);
	note(f);
	if (f->exhausted && f->sites.n_tasks == 0) {
		if (f->refreshing || f->o.refresh_s < 0)
			return 0;
		f->refreshing = true;
		f->exhausted = false;
		return 1;
	}
	sleep_a_little(f);
	return 1;
}

/* Drops what is under way; the lane's rows say what is still to be done. */
static void drop_all(struct wl_fetcher *f)
{
	f->lane = NULL;
	while (f->n_checking)
		(void)take_checked(f, true, NULL);
	while (f->oldest) {
		struct wl_task *t = f->oldest;
		wl_ask_ended(f, t);
		if (t->req.is_robots) {
			t->site->robots_state = WL_ROBOTS_UNKNOWN;
			wl_task_free(&f->sites, t);
		} else {
			wl_request_abort(&t->req);
		}
	}
	for (size_t i = 0; i < WL_TASK_BUCKETS; i++)
		while (f->sites.tasks[i])
			wl_task_free(&f->sites, f->sites.tasks[i]);
	f->sites.n_heap = 0;
	f->sites.ready = f->sites.last_ready = NULL;
	for (size_t i = 0; i < WL_SITE_BUCKETS; i++)
		for (struct wl_site *s = f->sites.sites[i]; s; s = s->next) {
			s->first = s->last = NULL;
			s->n_queued = 0;
			s->scheduled = false;
		}
}

static int begin(struct wl_fetcher *f, struct wl_err *err)
{
	look_at_clocks(f);
	f->batch_ms = f->settled_ms = f->warned_ms = f->now_ms;
	f->cursor = -1;
	f->refreshing = f->exhausted = f->sated = false;
	f->pass_added = f->pass_skipped = 0;
	free(f->url_cursor);
	f->url_cursor = NULL;
	if (f->o.retry_failed) {
		WL_TRY(wl_lane_retry_failed(f->lane, err) < 0 ? -1 : 0);
		WL_TRY(wl_fetch_commit(f, err));
	}
	f->done = 0;
	return 0;
}

int wl_fetcher_start(struct wl_fetcher *f, struct wl_corpus *c, struct wl_lane *lane,
	struct wl_fetch_counts *out, struct wl_err *err)
{
	f->corpus = c;
	f->lane = lane;
	f->out = out;
	if (!out->reasons)
		out->reasons = json_object();
	if (!out->reasons)
		return wl_err_nomem(err, "counts", 0);
	return begin(f, err);
}

int wl_fetcher_step(struct wl_fetcher *f, int most_ms, struct wl_err *err)
{
	f->most_ms = most_ms;
	return turn(f, err);
}

int wl_fetcher_stop(struct wl_fetcher *f, struct wl_err *err)
{
	int ret = f->lane ? wl_fetch_commit(f, err) : 0;
	drop_all(f);
	return ret;
}

int wl_fetcher_run(
	struct wl_fetcher *f, struct wl_lane *lane, struct wl_fetch_counts *out, struct wl_err *err)
{
	int more = 1, ret = -1;
	int64_t waiting = 0;
	WL_TRY_OUT(wl_fetcher_start(f, f->corpus, lane, out, err));
	WL_TRY_OUT(wl_lane_count_waiting(lane, &waiting, err));
	f->progress = wl_progress_new("fetch", "pictures", (uint64_t)waiting);
	while (more && !wl_stop_requested()) {
		more = wl_fetcher_step(f, SLEEP_MS, err);
		WL_TRY_OUT(more);
	}
	WL_TRY_OUT(wl_fetch_commit(f, err));
	WL_TRY_OUT(wl_lane_count_waiting(lane, &waiting, err));
	out->waiting += waiting;
	wl_progress_set(f->progress, f->done, "");
	ret = 0;
out:
	drop_all(f);
	wl_progress_free(f->progress);
	f->progress = NULL;
	return ret;
}

/* ---- life ---- */

static int check_opts(const struct wl_fetch_opts *o, struct wl_err *err)
{
	char token[WL_ROBOTS_TOKEN];
	if (o->connections < 1 || o->connections > 10000 || o->per_host < 1 || o->delay_ms < 0 ||
		o->retries < 0 || o->max_redirects < 0 || o->max_bytes < 1 ||
		o->max_bytes > WL_IMAGE_MAX_BYTES)
		return wl_err_set(err, WL_EUSAGE,
			"fetching: connections must be 1 to 10000, per-host >= 1, delay, retries "
			"and "
			"redirects >= 0, the size limit 1 to %d bytes",
			WL_IMAGE_MAX_BYTES);
	if (!(o->connect_s > 0 && o->stall_s > 0 && o->total_s > 0 && o->retry_s >= 0 &&
		    o->wait_s >= 0))
		return wl_err_set(err, WL_EUSAGE, "fetching: times must be positive");
	wl_robots_token(o->user_agent, token);
	if (!token[0] || strpbrk(o->user_agent, "\r\n"))
		return wl_err_set(err, WL_EUSAGE,
			"the user agent \"%.100s\" must begin with a name of letters, '-' and '_', "
			"by which robots.txt can speak of it",
			o->user_agent);
	return 0;
}

struct wl_fetcher *wl_fetcher_new(const struct wl_fetch_opts *o, struct wl_err *err)
{
	struct wl_fetcher *f;
	if (check_opts(o, err) < 0)
		return NULL;
	f = calloc(1, sizeof *f);
	if (!f) {
		wl_err_nomem(err, "a fetcher", sizeof *f);
		return NULL;
	}
	f->o = *o;
	f->sites.per_host = o->per_host;
	size_t threads = o->workers ? o->workers : wl_cores();
	f->cap_checking = threads * CHECKS_PER_THREAD;
	if (wl_http_init(&f->http, &f->o, err) < 0)
		goto fail;
	f->pool = wl_pool_new(threads, f->cap_checking, err);
	f->checking = calloc(f->cap_checking, sizeof(struct wl_task *));
	if (f->pool && f->checking)
		return f;
	if (f->pool)
		wl_err_nomem(err, "a fetcher", f->cap_checking * sizeof(struct wl_task *));
fail:
	wl_fetcher_free(f);
	return NULL;
}

void wl_fetcher_free(struct wl_fetcher *f)
{
	if (!f)
		return;
	drop_all(f);
	wl_pool_free(f->pool);
	wl_sites_release(&f->sites);
	wl_http_release(&f->http);
	free(f->checking);
	free(f->url_cursor);
	wl_fetch_profiles_release(f);
	free(f);
}

/* A lane that another process writes is that process's to fetch. */
static int fetch_lane(struct wl_fetcher *f, struct wl_corpus *c, int number,
	struct wl_fetch_counts *out, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_lane *lane = wl_lane_open(c, number, &why);
	if (!lane && why.code == WL_EFAIL && strstr(why.msg, "another process")) {
		wl_warn("partition %d is being written by another process; what waits there is "
			"left "
			"to it",
			number);
		out->busy_lanes++;
		return 0;
	}
	if (!lane)
		return wl_err_set(err, why.code, "%s", why.msg);
	/* A failure is tried again in every lane, or it would be found in the next. */
	f->corpus = f->o.retry_failed ? NULL : c;
	int ret = wl_fetcher_run(f, lane, out, err);
	wl_lane_close(lane);
	return ret;
}

int wl_fetch_corpus(const struct wl_fetch_opts *o, struct wl_corpus *c, struct wl_fetch_counts *out,
	struct wl_err *err)
{
	int ret = 0;
	*out = (struct wl_fetch_counts){.reasons = json_object()};
	struct wl_fetcher *f = wl_fetcher_new(o, err);
	if (!f)
		return -1;
	for (int p = 0; p < wl_corpus_partitions(c) && ret == 0 && !wl_stop_requested(); p++) {
		/* A lane that nothing was written to must not be made. */
		char *path = wl_strf(err, "%s/part-%05d/catalog.db", wl_corpus_dir(c), p);
		if (!path)
			ret = -1;
		else if (wl_exists(path))
			ret = fetch_lane(f, c, p, out, err);
		free(path);
	}
	wl_fetcher_free(f);
	return ret;
}

void wl_fetch_counts_release(struct wl_fetch_counts *c)
{
	if (!c)
		return;
	json_decref(c->reasons);
	*c = (struct wl_fetch_counts){0};
}
