/* The fetcher's options on the command line of wenlan-ingest. */
#ifndef WL_INGEST_FETCH_OPT_H
#define WL_INGEST_FETCH_OPT_H

#include "ingest/fetch.h"
#include "ops/opt.h"

/* Rows of an option table for `f`, a struct wl_fetch_opts that holds the defaults. */
#define WL_FETCH_OPTIONS(f)                                                                        \
	{"fetch-connections", WL_OPT_INT, &(f).connections, "N", "requests in flight", false},     \
		{"fetch-per-host", WL_OPT_INT, &(f).per_host, "N",                                 \
			"of them to one site; fewer when it answers 429 or 503", false},           \
		{"fetch-delay-ms", WL_OPT_INT, &(f).delay_ms, "MS",                                \
			"between two requests to one site (robots.txt may ask for more)", false},  \
		{"fetch-retries", WL_OPT_INT, &(f).retries, "N",                                   \
			"further tries after a failure that may pass", false},                     \
		{"fetch-retry-seconds", WL_OPT_DOUBLE, &(f).retry_s, "S",                          \
			"before the second try; doubled for each further one", false},             \
		{"fetch-wait", WL_OPT_DOUBLE, &(f).wait_s, "S",                                    \
			"what is due later than this is left for another run", false},             \
		{"fetch-timeout", WL_OPT_DOUBLE, &(f).total_s, "S", "for one request", false},     \
		{"fetch-connect-timeout", WL_OPT_DOUBLE, &(f).connect_s, "S", "to connect in",     \
			false},                                                                    \
		{"fetch-stall-timeout", WL_OPT_DOUBLE, &(f).stall_s, "S",                          \
			"without 1 KB a second", false},                                           \
		{"fetch-max-bytes", WL_OPT_INT, &(f).max_bytes, "N", "of one picture", false},     \
		{"fetch-redirects", WL_OPT_INT, &(f).max_redirects, "N",                           \
			"followed, each checked like the first URL", false},                       \
		{"fetch-user-agent", WL_OPT_STR, &(f).user_agent, "TEXT",                          \
			"its first word is our name in robots.txt; add how to reach you", false},  \
		{"fetch-proxy", WL_OPT_STR, &(f).proxy, "URL",                                     \
			"a proxy; it then resolves names, so it must refuse private addresses",    \
			false},                                                                    \
		{"fetch-referer", WL_OPT_BOOL, &(f).referer, NULL,                                 \
			"send the page's URL along (hot-link protection wants it)", false},        \
		{"fetch-quick", WL_OPT_BOOL, &(f).quick, NULL,                                     \
			"do not decode what was fetched, only see that it has its end", false},    \
		{"robots", WL_OPT_BOOL, &(f).robots, NULL,                                         \
			"respect robots.txt and X-Robots-Tag: noai, noimageai, noindex", false},   \
		{"allow-private", WL_OPT_BOOL, &(f).allow_private, NULL,                           \
			"fetch from private, loopback and link-local addresses too", false},       \
		{"allow-net", WL_OPT_STR, &(f).allow_nets, "NET,...",                              \
			"of such addresses only these, e.g. 10.1.0.0/16", false},                  \
		{"retry-failed", WL_OPT_BOOL, &(f).retry_failed, NULL,                             \
			"try again what could not be fetched in earlier runs", false},             \
	{                                                                                          \
		"refresh-older-than", WL_OPT_INT, &(f).refresh_s, "S",                             \
			"ask again, conditionally, for what was fetched S seconds ago; a "         \
			"picture that changed becomes a new pair; -1: never",                      \
			false                                                                      \
	}

/* What the fetch did, in words, and as JSON (a new reference). */
void wl_fetch_say(const struct wl_fetch_counts *n);
json_t *wl_fetch_counts_json(const struct wl_fetch_counts *n);

#endif
