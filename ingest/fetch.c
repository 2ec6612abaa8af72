/*
 * The fetcher's loop: see fetch.h.
 *
 * A turn: take URLs from the lane into tasks (a bounded window, so memory does not grow with the
 * list), start what may start, let libcurl move bytes, settle what ended and what the pool has
 * checked, commit when a batch is full, sleep until something can happen.
 */
#include "ingest/fetch_priv.h"

#include "ops/file.h"
#include "ops/log.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	WINDOW = 8192,	      /* tasks at a time */
	SITE_QUEUE = 512,     /* of them waiting for one site */
	SCAN = 4096,	      /* rows looked at in a turn */
	DEAD_AFTER = 5,	      /* rounds without any answer, and a site is left alone */
	DEAD_REST_S = 3600,   /* until a later run may ask it again */
	MEMORY_REST_MS = 300, /* before what did not fit into memory is asked for again */
	SLEEP_MS = 500,
	NOTE_MS = 1000,
	STALL_MS = 15000,
	ROBOTS_MS = 24 * 3600 * 1000, /* RFC 9309, 2.4: a day at most */
	CHECKS_PER_THREAD = 16,
};

static int64_t steady_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void look_at_clocks(struct wl_fetcher *f)
{
	f->now_ms = steady_ms();
	f->now_s = (int64_t)time(NULL);
}

/* ---- taking URLs from the lane ---- */

static bool has_room(const struct wl_fetcher *f)
{
	return f->sites.n_tasks < WINDOW;
}

/* Makes a task of a URL, to start in wait_ms.  A URL that is none fails at once. */
static struct wl_task *take_url(
	struct wl_fetcher *f, const char *url, const char *referer, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_task *t =
		wl_task_new(&f->sites, &f->http, url, f->o.referer ? referer : "", &why);
	if (!t && why.code != WL_EDATA)
		wl_err_set(err, why.code, "%s", why.msg);
	return t;
}

static int schedule(struct wl_fetcher *f, struct wl_task *t, int64_t wait_ms, struct wl_err *err)
{
	f->pass_added++;
	if (wait_ms > 0)
		return wl_task_queue_at(&f->sites, t, f->now_ms + wait_ms, err);
	wl_task_queue(&f->sites, t, false);
	return wl_site_wake(&f->sites, t->site, f->now_ms, err);
}

/* A site's queue is bounded, so that there is always room for the others. */
static int site_is_full(struct wl_fetcher *f, const char *url, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_url u;
	if (wl_url_parse(&u, url, &why) < 0)
		return why.code == WL_EDATA ? 0 : wl_err_set(err, why.code, "%s", why.msg);
	struct wl_site *site = wl_site_get(&f->sites, u.site, err);
	wl_url_release(&u);
	return site ? site->n_tasks >= SITE_QUEUE : -1;
}

static int give_up_bad_url(struct wl_fetcher *f, const char *url, struct wl_err *err)
{
	struct wl_fetch row = {.url = url,
		.etag = "",
		.last_modified = "",
		.format = "",
		.fetched_at = f->now_s,
		.reason = "the image's URL is unusable"};
	int64_t pairs = wl_lane_give_up(f->lane, &row, err);
	WL_TRY(pairs);
	f->out->quarantined += pairs;
	f->out->failed++;
	return 0;
}

static int consider(struct wl_fetcher *f, const char *url, const char *referer, struct wl_err *err)
{
	int64_t tries, wait_ms;
	if (wl_task_find(&f->sites, url))
		return 0;
	int known = wl_outcome_known(f, url, &tries, &wait_ms, err);
	if (known == 0 && tries == 0 && f->corpus)
		known = wl_outcome_elsewhere(f, f->corpus, url, err);
	if (known)
		return known < 0 ? -1 : 0;
	int full = site_is_full(f, url, err);
	WL_TRY(full);
	if (full) {
		f->pass_skipped++;
		return 0;
	}
	struct wl_task *t = take_url(f, url, referer, err);
	if (!t)
		return err->code == WL_OK ? give_up_bad_url(f, url, err) : -1;
	t->tries = tries;
	return schedule(f, t, wait_ms, err);
}

static void end_pass(struct wl_fetcher *f)
{
	f->exhausted = !f->pass_added && !f->pass_skipped;
	f->sated = f->pass_skipped > 0;
	f->pass_added = f->pass_skipped = 0;
	f->cursor = -1;
}

/* The next row that waits.  1; 0: a pass has ended. */
static int take_waiting(struct wl_fetcher *f, struct wl_err *err)
{
	const char *url, *page;
	int row = wl_lane_waiting(f->lane, f->cursor, &f->cursor, &url, &page, err);
	if (row <= 0) {
		if (row == 0)
			end_pass(f);
		return row;
	}
	/* What follows may move the row away under the strings. */
	char *u = wl_strf(err, "%s", url), *p = u ? wl_strf(err, "%s", page) : NULL;
	int ret = p ? consider(f, u, p, err) : -1;
	free(u);
	free(p);
	return ret < 0 ? -1 : 1;
}

/* The next URL to refresh.  1; 0: there is none. */
static int take_stale(struct wl_fetcher *f, struct wl_err *err)
{
	struct wl_fetch row;
	int more = wl_lane_stale(
		f->lane, f->url_cursor ? f->url_cursor : "", f->now_s - f->o.refresh_s, &row, err);
	if (more <= 0) {
		f->exhausted = more == 0;
		return more;
	}
	free(f->url_cursor);
	f->url_cursor = wl_strf(err, "%s", row.url);
	struct wl_task *t = f->url_cursor ? take_url(f, row.url, "", err) : NULL;
	if (!t)
		return -1;
	t->refresh = true;
	memcpy(t->known_sha256, row.sha256, sizeof t->known_sha256);
	t->etag = wl_strf(err, "%s", row.etag);
	t->last_modified = wl_strf(err, "%s", row.last_modified);
	if (!t->etag || !t->last_modified)
		return -1;
	return schedule(f, t, 0, err) < 0 ? -1 : 1;
}

static int fill(struct wl_fetcher *f, struct wl_err *err)
{
	if (f->exhausted || f->sated)
		return 0;
	for (int i = 0; i < SCAN && has_room(f); i++) {
		int more = f->refreshing ? take_stale(f, err) : take_waiting(f, err);
		WL_TRY(more);
		if (!more)
			break;
	}
	/* Full queues: nothing to be had before one of them has shrunk. */
	if (f->pass_skipped > SCAN / 2)
		f->sated = true;
	return 0;
}

/* ---- starting requests ---- */

static void link_active(struct wl_fetcher *f, struct wl_task *t)
{
	t->started_ms = f->now_ms;
	t->older = f->newest;
	t->newer = NULL;
	*(f->newest ? &f->newest->newer : &f->oldest) = t;
	f->newest = t;
	f->n_active++;
	t->site->active++;
}

static void unlink_active(struct wl_fetcher *f, struct wl_task *t)
{
	*(t->older ? &t->older->newer : &f->oldest) = t->newer;
	*(t->newer ? &t->newer->older : &f->newest) = t->older;
	t->older = t->newer = NULL;
	f->n_active--;
	t->site->active--;
}

static int start_request(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	struct wl_site *site = t->site;
	int64_t delay = wl_robots_delay_ms(site->robots);
	WL_TRY(wl_request_start(&t->req, &t->at, t->referer, t->etag, t->last_modified, err));
	link_active(f, t);
	f->out->requests++;
	if (delay < f->o.delay_ms)
		delay = f->o.delay_ms;
	if (site->not_before_ms < f->now_ms + delay)
		site->not_before_ms = f->now_ms + delay;
	return 0;
}

/* Everything that is queued for a dead site waits for another run. */
static int put_off_all(struct wl_fetcher *f, struct wl_site *site, struct wl_err *err)
{
	struct wl_task *t;
	bool kept;
	while ((t = wl_site_dequeue(site)) != NULL) {
		WL_TRY(wl_outcome_again(
			f, t, "the site does not answer", (int64_t)DEAD_REST_S * 1000, &kept, err));
		if (kept) /* wait_s is longer than the rest */
			WL_TRY(wl_task_queue_at(
				&f->sites, t, f->now_ms + (int64_t)DEAD_REST_S * 1000, err));
	}
	f->sated = false;
	return 0;
}

/* What is known of a site does not hold for ever (RFC 9309, 2.4): a consumer may run for weeks. */
static void expire(const struct wl_fetcher *f, struct wl_site *site)
{
	if (site->dead && f->now_ms - site->failed_ms > (int64_t)DEAD_REST_S * 1000) {
		site->dead = false;
		site->failures = 0;
		site->robots_tries = 0;
	}
	if (site->robots_state == WL_ROBOTS_KNOWN && f->now_ms - site->robots_ms > ROBOTS_MS)
		site->robots_state = WL_ROBOTS_UNKNOWN;
}

static int start_next_of(struct wl_fetcher *f, struct wl_site *site, struct wl_err *err)
{
	struct wl_task *t;
	expire(f, site);
	if (site->dead)
		return put_off_all(f, site, err);
	if (f->o.robots && site->robots_state == WL_ROBOTS_UNKNOWN) {
		t = wl_task_robots(&f->sites, &f->http, site, err);
		if (!t)
			return -1;
		site->robots_state = WL_ROBOTS_ASKING;
		return start_request(f, t, err);
	}
	t = wl_site_dequeue(site);
	if (!t)
		return 0;
	if (site->n_tasks < SITE_QUEUE / 2)
		f->sated = false;
	if (f->o.robots && !wl_robots_allows(site->robots, t->at.path))
		WL_TRY(wl_outcome_failed(f, t, "robots.txt forbids it", err));
	else
		WL_TRY(start_request(f, t, err));
	return wl_site_wake(&f->sites, site, f->now_ms, err);
}

static bool may_start(const struct wl_fetcher *f)
{
	return f->n_active < f->o.connections && f->http.held < f->http.held_max / 2;
}

static int start_some(struct wl_fetcher *f, struct wl_err *err)
{
	struct wl_site *site;
	WL_TRY(wl_sites_tick(&f->sites, f->now_ms, err));
	while (may_start(f) && (site = wl_sites_next_ready(&f->sites)) != NULL)
		WL_TRY(start_next_of(f, site, err));
	return 0;
}

/* ---- what sites do ---- */

/* 429 and 503 are about the site, not the picture. */
static void slow_down(struct wl_fetcher *f, struct wl_site *site, int64_t pause_ms)
{
	int64_t longest = (int64_t)(f->o.wait_s * 1000);
	if (pause_ms > longest)
		pause_ms = longest;
	site->limit = site->limit > 1 ? site->limit / 2 : 1;
	site->good = 0;
	if (site->not_before_ms < f->now_ms + pause_ms)
		site->not_before_ms = f->now_ms + pause_ms;
}

static void site_answered(struct wl_fetcher *f, struct wl_site *site)
{
	site->failures = 0;
	if (site->limit < f->o.per_host && ++site->good > 4 * site->limit) {
		site->limit++;
		site->good = 0;
	}
}

/* A burst of failures of requests that ran side by side is one round. */
static void site_was_silent(struct wl_fetcher *f, struct wl_site *site, int64_t started_ms)
{
	if (site->failures && started_ms < site->failed_ms)
		return;
	site->failed_ms = f->now_ms;
	if (++site->failures >= DEAD_AFTER) {
		wl_warn("%s does not answer; its URLs are left for a later run", site->name);
		site->dead = true;
		site->not_before_ms = f->now_ms;
	} else if (site->failures > 1) {
		slow_down(f, site, wl_retry_ms(f->o.retry_s, site->failures, site->name));
		site->limit = 1;
	}
}

static void note_site(struct wl_fetcher *f, struct wl_task *t, struct wl_site *site)
{
	const struct wl_answer *a = &t->req.a;
	if (a->status == 429 || a->status == 503)
		slow_down(f, site,
			a->retry_after_s >= 0
				? a->retry_after_s * 1000
				: wl_retry_ms(f->o.retry_s, t->tries + 1, site->name));
	else if (a->status)
		site_answered(f, site);
	else if (a->no_contact)
		site_was_silent(f, site, t->started_ms);
}

/* ---- robots.txt ---- */

static int robots_known(
	struct wl_fetcher *f, struct wl_task *t, struct wl_robots *rules, struct wl_err *err)
{
	struct wl_site *site = t->site;
	f->sites.robots_bytes -= wl_robots_bytes(site->robots);
	wl_robots_free(site->robots);
	site->robots = rules;
	site->robots_ms = f->now_ms;
	site->robots_tries = 0;
	site->robots_state = WL_ROBOTS_KNOWN;
	f->sites.robots_bytes += wl_robots_bytes(rules);
	wl_task_free(&f->sites, t);
	return wl_site_wake(&f->sites, site, f->now_ms, err);
}

/* RFC 9309, 2.3.1.4: a robots.txt that cannot be had now forbids everything for now. */
static int robots_again(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	struct wl_site *site = t->site;
	int64_t pause = wl_retry_ms(f->o.retry_s, ++site->robots_tries, site->name);
	if (t->req.a.retry_after_s * 1000 > pause)
		pause = t->req.a.retry_after_s * 1000;
	if (site->robots_tries > f->o.retries && !site->dead) {
		wl_warn("%s/robots.txt cannot be had (%s); its URLs are left for a later run",
			site->name, t->req.a.reason);
		site->dead = true;
		site->failed_ms = f->now_ms;
	}
	site->robots_state = WL_ROBOTS_UNKNOWN;
	slow_down(f, site, site->dead ? 0 : pause);
	wl_task_free(&f->sites, t);
	return wl_site_wake(&f->sites, site, f->now_ms, err);
}

static int on_robots(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	const struct wl_answer *a = &t->req.a;
	struct wl_robots *rules;
	if (a->kind == WL_ANSWER_AGAIN)
		return robots_again(f, t, err);
	if (a->kind == WL_ANSWER_REDIRECT && t->hops++ < f->o.max_redirects &&
		wl_task_move(&f->sites, t, a->location, NULL) == 0)
		return start_request(f, t, err);
	/* 2.3.1.3: there is none, so nothing is forbidden.  What else is wrong with the site its
	 * URLs will find out. */
	if (a->kind != WL_ANSWER_BODY)
		return robots_known(f, t, NULL, err);
	rules = wl_robots_parse(a->body.data ? a->body.data : "", a->body.len, f->http.token, err);
	return rules ? robots_known(f, t, rules, err) : -1;
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
	unlink_active(f, t);
	note_site(f, t, site);
	WL_TRY(t->req.is_robots ? on_robots(f, t, err) : on_answer(f, t, err));
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
	if (ms < 0 || ms > SLEEP_MS)
		ms = SLEEP_MS;
	/* Work is at hand when a site is ready and a place is free, or the window can be filled. */
	if ((f->sites.ready && may_start(f)) || (!f->exhausted && !f->sated && has_room(f)))
		ms = 0;
	curl_multi_poll(f->http.multi, NULL, 0, (int)ms, NULL);
}

/* 1: go on; 0: this lane is done. */
static int turn(struct wl_fetcher *f, struct wl_err *err)
{
	look_at_clocks(f);
	/* The queues may have shrunk without anybody saying so. */
	if (f->sites.n_tasks < SITE_QUEUE / 2)
		f->sated = false;
	WL_TRY(fill(f, err));
	WL_TRY(start_some(f, err));
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
		unlink_active(f, t);
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
	int64_t waiting;
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
	WL_TRY(wl_lane_count_waiting(f->lane, &waiting, err));
	f->done = 0;
	f->progress = wl_progress_new("fetch", "pictures", (uint64_t)waiting);
	return 0;
}

int wl_fetcher_run(
	struct wl_fetcher *f, struct wl_lane *lane, struct wl_fetch_counts *out, struct wl_err *err)
{
	int more = 1, ret = -1;
	int64_t waiting = 0;
	f->lane = lane;
	f->out = out;
	if (!out->reasons)
		out->reasons = json_object();
	if (!out->reasons)
		return wl_err_nomem(err, "counts", 0);
	WL_TRY_OUT(begin(f, err));
	while (more && !wl_stop_requested()) {
		more = turn(f, err);
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
