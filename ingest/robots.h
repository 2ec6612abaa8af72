/*
 * robots.txt (RFC 9309) and the X-Robots-Tag header: what a site lets a crawler take.
 */
#ifndef WL_INGEST_ROBOTS_H
#define WL_INGEST_ROBOTS_H

#include "ops/err.h"

#include <stdbool.h>

/* The part of a robots.txt that is read; RFC 9309, 2.5, asks for 500 KiB at least. */
enum { WL_ROBOTS_MAX_BYTES = 512 * 1024 };
/* The longest product token, e.g. "wenlan-ingest". */
enum { WL_ROBOTS_TOKEN = 64 };

struct wl_robots; /* the rules of one site that are for one crawler */

/* The product token of a User-Agent: its first letters, '-' and '_' (RFC 9309, 2.2.1). */
void wl_robots_token(const char *user_agent, char token[WL_ROBOTS_TOKEN]);

/* Reads the file's bytes (any bytes: what makes no sense is passed over, as the RFC says) and keeps
 * the rules of the groups for `token`, or of those for "*" when none names it.  NULL: no memory. */
struct wl_robots *wl_robots_parse(
	const char *bytes, size_t n, const char *token, struct wl_err *err);
void wl_robots_free(struct wl_robots *r);
/* The memory that it takes. */
size_t wl_robots_bytes(const struct wl_robots *r);

/* Whether path ("/a/b?c", as in a request) may be fetched: of the rules that match, the longest
 * decides; allow wins over a disallow of the same length.  NULL: everything is allowed. */
bool wl_robots_allows(const struct wl_robots *r, const char *path);
/* Crawl-delay in milliseconds (not in the RFC, but meant), at most a minute; 0: none. */
int wl_robots_delay_ms(const struct wl_robots *r);

/* Whether the value of an X-Robots-Tag header forbids to use the picture for training: noai,
 * noimageai, noindex, noimageindex or none, for everyone or for `token` ("otherbot: noai" is not
 * for us).  The word is put into word[], for the reason. */
bool wl_robots_tag_denies(
	const char *value, size_t n, const char *token, char word[WL_ROBOTS_TOKEN]);

#endif
