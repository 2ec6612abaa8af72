/* Between the files of the fetcher; not for others. */
#ifndef WL_INGEST_FETCH_PRIV_H
#define WL_INGEST_FETCH_PRIV_H

#include "ingest/fetch.h"
#include "ingest/image.h"
#include "ingest/netaddr.h"
#include "ingest/robots.h"
#include "ingest/url.h"
#include "ops/buf.h"
#include "ops/pool.h"
#include "ops/progress.h"

#include <curl/curl.h>
#include <stdatomic.h>

/* ---- fetch_http.c: one request and its answer ---- */

enum wl_answer_kind {
	WL_ANSWER_BODY,	    /* 200: the bytes are in body */
	WL_ANSWER_SAME,	    /* 304 */
	WL_ANSWER_REDIRECT, /* to location */
	WL_ANSWER_AGAIN,    /* a failure that may pass */
	WL_ANSWER_NEVER,    /* a failure that will not */
};

enum { WL_HEADER_KEPT = 512, WL_REASON = 400 };
struct wl_answer {
	enum wl_answer_kind kind;
	int status;	       /* 0: there was no answer */
	bool no_contact;       /* AGAIN because the site could not be reached */
	bool out_of_memory;    /* AGAIN because too much is in memory: no try is counted */
	int64_t retry_after_s; /* what the server asked for; -1: nothing */
	char etag[WL_HEADER_KEPT], last_modified[WL_HEADER_KEPT], type[128];
	char location[WL_URL_MAX + 1];
	char denied[WL_ROBOTS_TOKEN]; /* the word of X-Robots-Tag that forbids it */
	char reason[WL_REASON];	      /* AGAIN, NEVER: "class: detail" */
	struct wl_buf body;
};

/* What requests share.  One thread only. */
struct wl_http {
	const struct wl_fetch_opts *o;
	CURLM *multi;
	struct wl_nets allowed;
	char token[WL_ROBOTS_TOKEN];
	CURL **idle; /* handles to be used again */
	size_t n_idle, cap_idle;
	size_t held, held_max;		   /* bytes of bodies in memory */
	const struct wl_request *favoured; /* may go on when held_max is reached */
	struct curl_slist *headers;
};

struct wl_request {
	struct wl_http *http;
	CURL *easy; /* while under way */
	struct curl_slist *headers;
	struct wl_answer a;
	size_t held; /* of http->held */
	bool is_robots, too_large, over_memory;
	bool done_headers;
	size_t skipped;		    /* bytes of a body that nobody wants */
	char refused[WL_ADDR_TEXT]; /* the address that was not connected to */
	void *user;
};

WL_MUST_CHECK int wl_http_init(
	struct wl_http *h, const struct wl_fetch_opts *o, struct wl_err *err);
void wl_http_release(struct wl_http *h);
/* Prepares r for its first use; release frees the answer. */
void wl_request_init(struct wl_request *r, struct wl_http *h);
void wl_request_release(struct wl_request *r);
/* Puts a GET under way.  etag and last_modified "" or NULL: an unconditional one. */
WL_MUST_CHECK int wl_request_start(struct wl_request *r, const struct wl_url *u,
	const char *referer, const char *etag, const char *last_modified, struct wl_err *err);
/* A request that has ended, with its answer classified; NULL: none has. */
struct wl_request *wl_http_ended(struct wl_http *h);
/* Drops a request that is under way. */
void wl_request_abort(struct wl_request *r);
/* The body's memory is given back. */
void wl_request_drop_body(struct wl_request *r);
/* Takes one header line as libcurl hands it over (status lines too) into the answer. */
void wl_answer_header(struct wl_answer *a, const char *line, size_t n, const char *token);

/* ---- fetch_site.c: sites, tasks, and when they may run ---- */

struct wl_task;
enum wl_robots_state { WL_ROBOTS_UNKNOWN, WL_ROBOTS_ASKING, WL_ROBOTS_KNOWN };

struct wl_site {
	struct wl_site *next; /* in its bucket */
	uint64_t hash;
	char *name; /* "https://host:port" */
	enum wl_robots_state robots_state;
	struct wl_robots *robots;
	struct wl_task *first, *last;	 /* queued; n_queued of them */
	size_t n_queued, n_tasks;	 /* n_tasks: all that belong here, in whatever state */
	int64_t active, limit;		 /* requests in flight, and how many may be */
	int64_t good;			 /* answers since the limit last changed */
	int failures;			 /* rounds in a row without any answer */
	int64_t failed_ms;		 /* when the last of them ended */
	int64_t robots_tries, robots_ms; /* robots_ms: when it was read */
	bool dead;			 /* not asked any more in this run */
	bool scheduled;			 /* in the heap or the ready list */
	int64_t not_before_ms;
	struct wl_site *next_ready;
};

struct wl_task {
	struct wl_task *next; /* in its bucket */
	uint64_t hash;
	char *url; /* as in the catalog; robots.txt: NULL */
	struct wl_url at;
	char *referer, *etag, *last_modified;
	struct wl_site *site;
	struct wl_task *next_queued;
	struct wl_task *older, *newer; /* in flight, by start */
	int64_t started_ms, tries;
	int hops;
	bool refresh; /* its bytes are in the lane: known_sha256 */
	uint8_t known_sha256[32];
	struct wl_request req;
	/* from the pool: */
	atomic_bool checked;
	struct wl_image_info info;
	struct wl_page_job *page; /* a row waits for it to be a page, and it is one */
	char why[WL_REASON];
	int check_code; /* WL_OK, WL_EDATA: why; else a failure that is not the picture's */
};

/* A time at which a task is due again, or a site may start its next request. */
struct wl_timer {
	int64_t at_ms;
	uint64_t serial; /* first in, first out among equals */
	struct wl_task *task;
	struct wl_site *site;
};

enum { WL_SITE_BUCKETS = 16384, WL_TASK_BUCKETS = 16384 };
struct wl_sites {
	struct wl_site *sites[WL_SITE_BUCKETS];
	struct wl_task *tasks[WL_TASK_BUCKETS];
	size_t n_sites, n_tasks, robots_bytes;
	struct wl_timer *heap;
	size_t n_heap, cap_heap;
	uint64_t serial;
	struct wl_site *ready, *last_ready;
	int64_t per_host;
};

/* NULL: no memory. */
struct wl_site *wl_site_get(struct wl_sites *s, const char *name, struct wl_err *err);
/* Forgets sites without tasks when there are many. */
void wl_sites_trim(struct wl_sites *s);
void wl_sites_release(struct wl_sites *s);

struct wl_task *wl_task_find(struct wl_sites *s, const char *url);
/* A task for a URL of the catalog, belonging to its site; NULL: no memory, or no URL. */
struct wl_task *wl_task_new(struct wl_sites *s, struct wl_http *h, const char *url,
	const char *referer, struct wl_err *err);
/* A task for a site's robots.txt; in no table. */
struct wl_task *wl_task_robots(
	struct wl_sites *s, struct wl_http *h, struct wl_site *site, struct wl_err *err);
/* Moves it to where a redirect leads. */
WL_MUST_CHECK int wl_task_move(
	struct wl_sites *s, struct wl_task *t, const char *location, struct wl_err *err);
void wl_task_free(struct wl_sites *s, struct wl_task *t);

/* The end of its site's queue (front: the start), now or from at_ms on. */
void wl_task_queue(struct wl_sites *s, struct wl_task *t, bool front);
WL_MUST_CHECK int wl_task_queue_at(
	struct wl_sites *s, struct wl_task *t, int64_t at_ms, struct wl_err *err);
struct wl_task *wl_site_dequeue(struct wl_site *site);
/* Lets the site start its next request when it may, if it has any and none is scheduled. */
WL_MUST_CHECK int wl_site_wake(
	struct wl_sites *s, struct wl_site *site, int64_t now_ms, struct wl_err *err);
/* Moves what is due into queues and the ready list. */
WL_MUST_CHECK int wl_sites_tick(struct wl_sites *s, int64_t now_ms, struct wl_err *err);
struct wl_site *wl_sites_next_ready(struct wl_sites *s);
/* Milliseconds until the next timer; -1: there is none. */
int64_t wl_sites_next_ms(const struct wl_sites *s, int64_t now_ms);
/* Milliseconds to wait before try number `tries` + 1, doubled each time, +- 50 % by URL. */
int64_t wl_retry_ms(double retry_s, int64_t tries, const char *url);

/* ---- fetch_check.c: whether what came is a picture ---- */

/* Fills in *info.  quick: the header, and that the file has its end; else every pixel.  WL_EDATA:
 * it is no picture, or a damaged one. */
WL_MUST_CHECK int wl_fetch_check(
	const struct wl_buf *b, bool quick, struct wl_image_info *info, struct wl_err *err);

/* ---- the fetcher: fetch.c runs it, fetch_ask.c asks, fetch_outcome.c settles ---- */

struct wl_fetcher {
	struct wl_fetch_opts o;
	struct wl_http http;
	struct wl_sites sites;
	struct wl_pool *pool;
	struct wl_task **checking; /* ring of those in the pool, in order of submission */
	size_t cap_checking, first_checking, n_checking;
	struct wl_task *oldest, *newest; /* in flight */
	int64_t n_active;
	int64_t now_ms, now_s; /* steady and wall clock, of this turn of the loop */
	struct wl_lane *lane;
	int most_ms; /* that a turn waits for the network */
	struct wl_corpus *corpus; /* NULL: other lanes are not looked into */
	struct wl_fetch_counts *out;
	/* walking the lane: waiting pairs, then (refreshing) what was fetched long ago */
	int64_t cursor;
	char *url_cursor;
	bool refreshing, exhausted, sated;
	int64_t pass_added, pass_skipped;
	struct wl_named_profile {
		char *name;
		struct wl_profile *profile;
	} * profiles;
	size_t n_profiles;
	/* the open batch, and progress */
	int64_t batch, batch_bytes, batch_ms, settled_ms, warned_ms, noted_ms;
	struct wl_progress *progress;
	uint64_t done;
};

/* fetch_ask.c.  Takes rows of the lane into tasks while there is room. */
WL_MUST_CHECK int wl_ask_fill(struct wl_fetcher *f, struct wl_err *err);
bool wl_ask_has_room(const struct wl_fetcher *f);
/* Starts what may start. */
WL_MUST_CHECK int wl_ask_start(struct wl_fetcher *f, struct wl_err *err);
bool wl_ask_may_start(const struct wl_fetcher *f);
/* A task's request is no longer in flight; and what its answer says of the site. */
void wl_ask_ended(struct wl_fetcher *f, struct wl_task *t);
void wl_ask_note_site(struct wl_fetcher *f, const struct wl_task *t, struct wl_site *site);
/* The answer to a request for robots.txt; frees the task. */
WL_MUST_CHECK int wl_ask_robots(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err);

/* fetch_page.c.  Before the pool: sets t->page when what came is a page and a row without a
 * caption waits for it. */
WL_MUST_CHECK int wl_page_begin(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err);
/* In the pool: reads it. */
void wl_page_read(struct wl_task *t);
/* After: its pictures take its place, and *row is put.  *bad: why it cannot be read. */
WL_MUST_CHECK int wl_page_settle(struct wl_fetcher *f, struct wl_task *t, struct wl_fetch *row,
	const char **bad, struct wl_err *err);
/* The URL of *row was a page.  0: it must be fetched again, for a row that came since; 1: settled.
 */
WL_MUST_CHECK int wl_page_known(struct wl_fetcher *f, struct wl_fetch *row, struct wl_err *err);
void wl_page_job_free(struct wl_page_job *j);
void wl_fetch_profiles_release(struct wl_fetcher *f);

/* Outcomes of a task; each frees it. */
WL_MUST_CHECK int wl_outcome_ok(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err);
WL_MUST_CHECK int wl_outcome_page(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err);
WL_MUST_CHECK int wl_outcome_same(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err);
WL_MUST_CHECK int wl_outcome_failed(
	struct wl_fetcher *f, struct wl_task *t, const char *reason, struct wl_err *err);
/* A try was lost: failed when it was the last one; otherwise again in delay_ms, in this run (the
 * task stays) or, when that is too long, in another (*kept false). */
WL_MUST_CHECK int wl_outcome_again(struct wl_fetcher *f, struct wl_task *t, const char *reason,
	int64_t delay_ms, bool *kept, struct wl_err *err);
/* An outcome of an earlier run, or of another pair's URL, for pairs that came to wait since.
 * 1: that settled it; 0: the URL is due now or in *wait_ms; 2: it is not due in this run. */
WL_MUST_CHECK int wl_outcome_known(struct wl_fetcher *f, const char *url, int64_t *tries,
	int64_t *wait_ms, struct wl_err *err);
/* Another lane has the URL's outcome.  1: that settled it; 0: none has. */
WL_MUST_CHECK int wl_outcome_elsewhere(
	struct wl_fetcher *f, struct wl_corpus *c, const char *url, struct wl_err *err);
WL_MUST_CHECK int wl_fetch_commit(struct wl_fetcher *f, struct wl_err *err);
/* Commits when the batch is large or old. */
WL_MUST_CHECK int wl_fetch_commit_when_due(struct wl_fetcher *f, struct wl_err *err);

#endif
