/* A web server that misbehaves on purpose, in a process of its own, for tests of the fetcher. */
#ifndef WL_TESTS_HTTPD_H
#define WL_TESTS_HTTPD_H

#include "ops/buf.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

enum { HTTPD_COUNTERS = 1 << 16, HTTPD_PICTURES = 64 };

/* What tests and server share. */
struct httpd_shared {
	atomic_int robots; /* status that robots.txt is answered with; 200: see below */
	atomic_int version; /* of the pictures under /change/ */
	atomic_int hits;    /* requests in all */
	atomic_int conditional; /* of them with If-None-Match */
	atomic_int most_at_once; /* requests in service at one time: up to an answer's last byte */
	_Atomic uint32_t counter[HTTPD_COUNTERS]; /* requests by hash of the path */
};

struct httpd {
	pid_t pid;
	int port;
	struct httpd_shared *shared;
};

/*
 * Serves on 127.0.0.1, until stopped:
 *   /img/N.jpg      picture N (httpd_picture), ETag, 304 when it is known
 *   /text/N.jpg     a page;  /lying/N.jpg  a page that is called image/jpeg
 *   /nameless/N     picture N, called text/plain
 *   /hop/K/N        K redirects, then /img/N.jpg;  /loop/N  redirects to itself
 *   /inward/N       redirects to 127.0.0.2;  /file/N  to file:///etc/passwd
 *   /away/PORT/N    redirects to /img/N.jpg of the same host at that port
 *   /slow/N         a byte now and then;  /hang/N  nothing at all
 *   /cut/N          half of what Content-Length says;  /short/N  half without saying so
 *   /reset/N        a reset;  /endless/N  no end;  /huge/N  Content-Length: 99999999999
 *   /busy/N         503 with Retry-After: 0 twice, then picture N
 *   /later/N        429 with Retry-After: 7200;  /error/N  500;  /missing/N  404
 *   /noai/N         X-Robots-Tag: noai;  /otherbot/N  X-Robots-Tag: otherbot: noai
 *   /page/N         an article with pictures N, N+1 (relative) and one that is missing
 *   /denied/N       picture N, but forbidden by robots.txt
 *   /change/N       picture N + version * 1000
 *   /referer/N      picture N to whom sends a Referer, else 403
 */
struct httpd httpd_start(void);
/* Serves pictures only, from a port that answers nothing: for sites that are down. */
int httpd_dead_port(void);
void httpd_stop(struct httpd *h);
/* Requests for the path so far. */
int httpd_hits(const struct httpd *h, const char *path);

/* Picture N: a JPEG, a function of N alone.  Released by the caller. */
void httpd_picture(uint32_t n, struct wl_buf *out);

/* Options of wenlan-ingest for this server: it must be allowed, and tries follow soon; but a
 * request may take its time, since a machine may. */
#define HTTPD_QUICK                                                                                \
	"--allow-net 127.0.0.1/32 --fetch-retry-seconds 0.01 --fetch-timeout 60 "                  \
	"--fetch-connect-timeout 60 --fetch-max-bytes 300000 "

#endif
