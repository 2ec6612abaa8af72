/*
 * URLs: see url.h.  The grammar is libcurl's, so that what is compared is what is requested; most
 * URLs of pages are in no need of it, and are told without (tests/test_url.c compares).
 */
#include "ingest/url.h"

#include "ops/file.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int refuse(struct wl_err *err, const char *text, const char *why)
{
	return wl_err_set(err, WL_EDATA, "the image's URL is unusable: %s: %.300s", why, text);
}

static char *part(CURLU *h, CURLUPart what)
{
	char *v = NULL;
	return curl_url_get(h, what, &v, 0) == CURLUE_OK ? v : NULL;
}

/* A port that the scheme has by itself says nothing. */
static bool is_default_port(const char *scheme, const char *port)
{
	return !port || !strcmp(port, strcmp(scheme, "https") == 0 ? "443" : "80");
}

static int fill(struct wl_url *u, const char *scheme, char *host, const char *port,
	const char *path, const char *query, struct wl_err *err)
{
	size_t n = strlen(host);
	const char *colon = port ? ":" : "";
	for (char *p = host; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	port = port ? port : "";
	u->site = wl_strf(err, "%s://%s%s%s", scheme, host, colon, port);
	u->path = wl_strf(err, "%s%s%s", path, query ? "?" : "", query ? query : "");
	/* "[::1]" is written with brackets and connected to without. */
	u->host = *host == '[' && n > 2 ? wl_strf(err, "%.*s", (int)(n - 2), host + 1)
					: wl_strf(err, "%s", host);
	u->text = u->site && u->path ? wl_strf(err, "%s%s", u->site, u->path) : NULL;
	return u->host && u->text ? 0 : -1;
}

static int take_parts(struct wl_url *u, CURLU *h, const char *text, struct wl_err *err)
{
	char *scheme = part(h, CURLUPART_SCHEME), *host = part(h, CURLUPART_HOST),
	     *port = part(h, CURLUPART_PORT), *path = part(h, CURLUPART_PATH),
	     *query = part(h, CURLUPART_QUERY);
	int ret;
	if (!scheme || (strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0))
		ret = refuse(err, text, "it is neither http nor https");
	else if (!host || !*host || !path)
		ret = refuse(err, text, "it names no host");
	else
		ret = fill(u, strcasecmp(scheme, "http") ? "https" : "http", host,
			is_default_port(scheme, port) ? NULL : port, path, query, err);
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_free(path);
	curl_free(query);
	if (ret == 0 && strlen(u->text) > WL_URL_MAX)
		ret = refuse(err, text, "it is too long");
	return ret;
}

/* Sets one URL over another, as a browser follows a link; base NULL: it stands alone. */
static int parse(struct wl_url *u, const char *base, const char *text, struct wl_err *err)
{
	const unsigned flags = CURLU_URLENCODE | CURLU_NON_SUPPORT_SCHEME;
	CURLU *h = curl_url();
	CURLUcode rc = CURLUE_OK;
	int ret = -1;
	if (!h)
		return wl_err_nomem(err, "a URL", 0);
	if (base)
		rc = curl_url_set(h, CURLUPART_URL, base, flags);
	if (rc == CURLUE_OK)
		rc = curl_url_set(h, CURLUPART_URL, text, flags);
	if (rc == CURLUE_OUT_OF_MEMORY)
		wl_err_nomem(err, "a URL", strlen(text));
	else if (rc != CURLUE_OK)
		refuse(err, text, curl_url_strerror(rc));
	else
		ret = take_parts(u, h, text, err);
	curl_url_cleanup(h);
	if (ret < 0)
		wl_url_release(u);
	return ret;
}

/* ---- what needs no grammar ---- */

/* Bytes that libcurl leaves as they are in a path or query: all others may be escaped, normalised
 * or mean something. */
static bool is_plain_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("/-_.?=&~,!;@:+*()", c));
}

/* The length of a host that is a plain name: a-z, digits, '.' and '-', its last label of letters,
 * so that it is no number; 0: look closer. */
static size_t plain_host(const char *s)
{
	size_t n = 0, label = 0;
	bool letters = true;
	for (; (s[n] >= 'a' && s[n] <= 'z') || (s[n] >= '0' && s[n] <= '9') || s[n] == '.' ||
		s[n] == '-';
		n++) {
		if (s[n] == '.') {
			if (n == label)
				return 0;
			label = n + 1;
			letters = true;
		} else {
			letters = letters && s[n] >= 'a';
		}
	}
	return s[n] == '/' && n > label && letters ? n : 0;
}

/* The length of "http://host" when text is what normalising would make of it; 0: look closer. */
static size_t plain_site(const char *text)
{
	size_t scheme = strncmp(text, "http://", 7) == 0    ? 7
			: strncmp(text, "https://", 8) == 0 ? 8
							    : 0;
	size_t host = scheme ? plain_host(text + scheme) : 0;
	const char *path = text + scheme + host, *p = path;
	if (!host)
		return 0;
	for (; is_plain_byte(*p); p++)
		if (*p == '/' && p[1] == '.')
			return 0;
	return *p || p - text > WL_URL_MAX ? 0 : scheme + host;
}

static char *copy_of(const char *s, size_t n, struct wl_err *err)
{
	char *copy = malloc(n + 1);
	if (!copy) {
		wl_err_nomem(err, "a URL", n + 1);
		return NULL;
	}
	memcpy(copy, s, n);
	copy[n] = '\0';
	return copy;
}

/* 1: done; 0: look closer. */
static int take_plain(struct wl_url *u, const char *text, struct wl_err *err)
{
	size_t site = plain_site(text), n = site ? strlen(text) : 0;
	if (!site)
		return 0;
	size_t scheme = text[4] == 's' ? 8 : 7;
	u->text = copy_of(text, n, err);
	u->site = u->text ? copy_of(text, site, err) : NULL;
	u->host = u->site ? copy_of(text + scheme, site - scheme, err) : NULL;
	u->path = u->host ? copy_of(text + site, n - site, err) : NULL;
	if (u->path)
		return 1;
	wl_url_release(u);
	return -1;
}

/* `location` over a plain base, when it is an absolute path or a name beside it.  1: done; 0: look
 * closer. */
static int join_plain(
	struct wl_url *u, const char *base, const char *location, struct wl_err *err)
{
	char joined[2048];
	size_t keep = plain_site(base), n = strlen(location);
	if (!keep || !n || strchr(location, ':') || *location == '.' || *location == '?' ||
		*location == '#' || strstr(base + keep, "//"))
		return 0;
	if (strncmp(location, "//", 2) == 0) {
		keep = (size_t)(strchr(base, '/') - base);
	} else if (*location != '/') {
		const char *end = base + strcspn(base, "?");
		while (end[-1] != '/')
			end--;
		keep = (size_t)(end - base);
	}
	if (keep + n >= sizeof joined)
		return 0;
	memcpy(joined, base, keep);
	memcpy(joined + keep, location, n + 1);
	return take_plain(u, joined, err);
}

int wl_url_parse(struct wl_url *u, const char *text, struct wl_err *err)
{
	*u = (struct wl_url){0};
	int plain = take_plain(u, text, err);
	if (plain)
		return plain < 0 ? -1 : 0;
	text += strspn(text, " \t\r\n\f");
	size_t n = strlen(text);
	while (n && strchr(" \t\r\n\f", text[n - 1]))
		n--;
	if (n == 0)
		return refuse(err, text, "it is empty");
	if (n > WL_URL_MAX)
		return refuse(err, text, "it is too long");
	char *copy =
		wl_strf(err, "%s%.*s", strncmp(text, "//", 2) == 0 ? "https:" : "", (int)n, text);
	int ret = copy ? parse(u, NULL, copy, err) : -1;
	free(copy);
	return ret;
}

bool wl_url_is_plain(const char *text)
{
	return plain_site(text) > 0;
}

int wl_url_resolve(struct wl_url *u, const char *base, const char *location, struct wl_err *err)
{
	*u = (struct wl_url){0};
	int plain = take_plain(u, location, err);
	if (plain == 0)
		plain = join_plain(u, base, location, err);
	if (plain)
		return plain < 0 ? -1 : 0;
	if (strlen(location) > WL_URL_MAX)
		return refuse(err, location, "it is too long");
	return parse(u, base, location, err);
}

void wl_url_release(struct wl_url *u)
{
	if (!u)
		return;
	free(u->text);
	free(u->site);
	free(u->host);
	free(u->path);
	*u = (struct wl_url){0};
}
