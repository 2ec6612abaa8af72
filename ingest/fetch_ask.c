/*
 * What is asked for, and when: URLs from the lane into tasks (a bounded window, so that memory does
 * not grow with the list), requests started where a site may be asked, and what sites are found to
 * be: slow, dead, their robots.txt.
 */
#include "ingest/fetch_priv.h"

#include "ops/file.h"
#include "ops/log.h"

#include <stdlib.h>
#include <string.h>

enum {
	WINDOW = 8192,	      /* tasks at a time */
	SITE_QUEUE = 512,     /* of them waiting for one site */
	SCAN = 4096,	      /* rows looked at in a turn */
	DEAD_AFTER = 5,	      /* rounds without any answer, and a site is left alone */
	DEAD_REST_S = 3600,   /* until a later run may ask it again */
	ROBOTS_MS = 24 * 3600 * 1000, /* RFC 9309, 2.4: a day at most */
};

/* ---- taking URLs from the lane ---- */

bool wl_ask_has_room(const struct wl_fetcher *f)
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

int wl_ask_fill(struct wl_fetcher *f, struct wl_err *err)
{
	/* The queues may have shrunk without anybody saying so. */
	if (f->sites.n_tasks < SITE_QUEUE / 2)
		f->sated = false;
	if (f->exhausted || f->sated)
		return 0;
	for (int i = 0; i < SCAN && wl_ask_has_room(f); i++) {
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

void wl_ask_ended(struct wl_fetcher *f, struct wl_task *t)
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

bool wl_ask_may_start(const struct wl_fetcher *f)
{
	return f->n_active < f->o.connections && f->http.held < f->http.held_max / 2;
}

int wl_ask_start(struct wl_fetcher *f, struct wl_err *err)
{
	struct wl_site *site;
	WL_TRY(wl_sites_tick(&f->sites, f->now_ms, err));
	while (wl_ask_may_start(f) && (site = wl_sites_next_ready(&f->sites)) != NULL)
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

void wl_ask_note_site(struct wl_fetcher *f, const struct wl_task *t, struct wl_site *site)
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

int wl_ask_robots(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
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
