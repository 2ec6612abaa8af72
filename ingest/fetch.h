/*
 * Fetching the pictures that are only a URL so far (corpus.h, "pending").
 *
 * One thread keeps many requests in flight (libcurl's multi interface) and writes the lane; a pool
 * decodes what came, for what a server says of its bytes is not trusted.  Every URL gets one
 * outcome, which commits together with all pairs that wait for it, so that it is fetched once
 * whatever happens between, and a kill loses only requests that were under way.
 *
 * Manners: at most per_host requests to one site at a time and delay_ms between two of them;
 * robots.txt (RFC 9309; Crawl-delay too), asked once per site and run; X-Robots-Tag noai and
 * noimageai; 429 and 503 slow the whole site down, for as long as Retry-After says.  A site that
 * does not answer at all is left alone until a later run.
 *
 * Safety: http and https only; each address is checked at the moment of connecting, so that
 * neither a redirect nor a name server can lead into our own network; redirects are followed one
 * by one, and each is checked like a URL of its own; sizes and times are bounded.
 */
#ifndef WL_INGEST_FETCH_H
#define WL_INGEST_FETCH_H

#include "ingest/corpus.h"

struct wl_fetch_opts {
	int64_t connections;	/* requests in flight, all sites together */
	int64_t per_host;	/* of them to one site */
	int64_t delay_ms;	/* between the starts of two requests to one site */
	int64_t retries;	/* tries after the first, of failures that may pass */
	int64_t max_redirects;
	int64_t max_bytes;	/* of a picture */
	double connect_s;	/* to connect in */
	double stall_s;		/* as long without 1 KB a second, and it is given up */
	double total_s;		/* for one request */
	double retry_s;		/* before the second try; doubled for each further one, +- 50 % */
	double wait_s;		/* no longer is waited in a run; what is due later stays pending */
	bool allow_private;	/* addresses that are not of the public Internet too */
	const char *allow_nets; /* of them these networks only: "10.1.0.0/16,..."; NULL: none */
	bool robots;		/* respect robots.txt and X-Robots-Tag */
	bool referer;		/* send the page's URL, which hot-link protection asks for */
	bool retry_failed;	/* what was given up in earlier runs is tried again */
	int64_t refresh_s;	/* ask again for what was fetched this long ago; -1: never */
	const char *user_agent; /* its first word is the name that robots.txt knows us by */
	const char *proxy;	/* NULL: none.  Then the proxy resolves names, and only addresses
				 * written into URLs can be refused */
	bool quick;		/* pictures are not decoded, only looked at from end to end */
	size_t workers;		/* decoding threads; 0: one per core */
	int64_t commit_every;	/* outcomes in one transaction; 0: 1000 */
};
#define WL_FETCH_DEFAULTS                                                                          \
	{.connections = 256, .per_host = 8, .retries = 3, .max_redirects = 5,                      \
		.max_bytes = 32 << 20, .connect_s = 10, .stall_s = 20, .total_s = 120,             \
		.retry_s = 1, .wait_s = 120, .robots = true, .referer = true, .refresh_s = -1,     \
		.user_agent = "wenlan-ingest/1.0"}

struct wl_fetch_counts {
	int64_t requests;	   /* HTTP requests made, robots.txt and redirects included */
	int64_t ok, failed, later; /* URLs by outcome */
	int64_t unchanged, changed; /* refreshed URLs */
	int64_t pages, found;	   /* URLs that were pages, and the pictures found in them */
	int64_t pairs;		   /* completed */
	int64_t quarantined;	   /* pairs given up */
	int64_t waiting;	   /* pairs still pending at the end */
	int64_t bytes;		   /* of pictures received */
	int64_t busy_lanes;	   /* left alone: another process writes them */
	json_t *reasons;	   /* class of reason -> URLs that failed; owned */
};

/* Fetches what waits in every lane, one lane after the other, until nothing is due within wait_s
 * or a stop is asked for (then 0 too).  A failing URL is an outcome, no error.  *out is filled in
 * any case; release it. */
WL_MUST_CHECK int wl_fetch_corpus(const struct wl_fetch_opts *o, struct wl_corpus *c,
	struct wl_fetch_counts *out, struct wl_err *err);
void wl_fetch_counts_release(struct wl_fetch_counts *c);

/* The same for lanes that the caller holds open (a consumer that never ends): a fetcher lives
 * through many calls and remembers sites.  Commits the lane's open batch with its own. */
struct wl_fetcher;
struct wl_fetcher *wl_fetcher_new(const struct wl_fetch_opts *o, struct wl_err *err);
/* In steps, between which the caller does other things: start, step as long as it gives 1 (0:
 * nothing more is due within wait_s), stop, which drops what is under way; it stays pending.  A
 * step waits for the network for most_ms at most.  c, which may be NULL, as for
 * wl_lane_fetch_elsewhere. */
WL_MUST_CHECK int wl_fetcher_start(struct wl_fetcher *f, struct wl_corpus *c, struct wl_lane *lane,
	struct wl_fetch_counts *out, struct wl_err *err);
WL_MUST_CHECK int wl_fetcher_step(struct wl_fetcher *f, int most_ms, struct wl_err *err);
WL_MUST_CHECK int wl_fetcher_stop(struct wl_fetcher *f, struct wl_err *err);
WL_MUST_CHECK int wl_fetcher_run(struct wl_fetcher *f, struct wl_lane *lane,
	struct wl_fetch_counts *out, struct wl_err *err);
void wl_fetcher_free(struct wl_fetcher *f);

#endif
