/*
 * One request: how libcurl is set up, what is kept of the answer, and what kind of answer it is.
 *
 * Reasons must not hold what differs between two runs (libcurl's own texts count milliseconds), or
 * the catalog would not be the same after a kill.
 */
#include "ingest/fetch_priv.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum {
	HELD_MAX = 1 << 30,   /* of all bodies together */
	SKIP_MAX = 256 << 10, /* of a body that nobody wants, for the sake of the connection */
	SLOW_BYTES = 1024,    /* a second */
};

/* ---- headers ---- */

static bool is_name(const char *line, size_t n, const char *name)
{
	return n == strlen(name) && strncasecmp(line, name, n) == 0;
}

/* What does not fit is left out: half an ETag is none. */
static void keep(char *out, size_t size, const char *s, size_t n)
{
	snprintf(out, size, "%.*s", n < size && !memchr(s, '\0', n) ? (int)n : 0, s);
}

static int64_t parse_retry_after(const char *s, size_t n)
{
	char text[64], *end;
	keep(text, sizeof text, s, n);
	long long seconds = strtoll(text, &end, 10);
	if (end != text && *end == '\0')
		return seconds < 0 ? 0 : seconds;
	time_t at = curl_getdate(text, NULL), now = time(NULL);
	return at < 0 ? -1 : at > now ? (int64_t)(at - now) : 0;
}

/* A status line starts anew: 100 Continue and a proxy's answer come before the one that counts. */
static void take_status(struct wl_answer *a, const char *line, size_t n)
{
	const char *blank = memchr(line, ' ', n);
	unsigned status = 0;
	a->etag[0] = a->last_modified[0] = a->type[0] = a->location[0] = a->denied[0] = '\0';
	a->retry_after_s = -1;
	for (size_t i = 1; blank && i <= 3 && (size_t)(blank - line) + i < n; i++)
		status = 10 * status +
			 (unsigned)(blank[i] >= '0' && blank[i] <= '9' ? blank[i] - '0' : 0);
	a->status = (int)status;
}

void wl_answer_header(struct wl_answer *a, const char *line, size_t n, const char *token)
{
	while (n && strchr(" \t\r\n", line[n - 1]) && line[n - 1])
		n--;
	if (n >= 5 && strncasecmp(line, "HTTP/", 5) == 0) {
		take_status(a, line, n);
		return;
	}
	const char *colon = memchr(line, ':', n);
	if (!colon)
		return;
	size_t name = (size_t)(colon - line), len = n - name - 1;
	const char *v = colon + 1;
	for (; len && (*v == ' ' || *v == '\t'); v++)
		len--;
	if (is_name(line, name, "etag"))
		keep(a->etag, sizeof a->etag, v, len);
	else if (is_name(line, name, "last-modified"))
		keep(a->last_modified, sizeof a->last_modified, v, len);
	else if (is_name(line, name, "content-type"))
		keep(a->type, sizeof a->type, v, len);
	else if (is_name(line, name, "location"))
		keep(a->location, sizeof a->location, v, len);
	else if (is_name(line, name, "retry-after"))
		a->retry_after_s = parse_retry_after(v, len);
	else if (is_name(line, name, "x-robots-tag") && !a->denied[0])
		(void)wl_robots_tag_denies(v, len, token, a->denied);
}

static size_t on_header(char *line, size_t one, size_t n, void *user)
{
	struct wl_request *r = user;
	(void)one;
	wl_answer_header(&r->a, line, n, r->http->token);
	return n;
}

/* ---- the body ---- */

static bool takes_memory(struct wl_request *r, size_t n)
{
	struct wl_http *h = r->http;
	if (h->held + n > h->held_max) {
		if (!h->favoured)
			h->favoured = r; /* one goes on, or all might wait for each other */
		if (h->favoured != r)
			return false;
	}
	h->held += n;
	r->held += n;
	return true;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *user)
{
	struct wl_request *r = user;
	(void)one;
	if (r->a.status != 200) {
		r->skipped += n;
		return r->skipped > SKIP_MAX ? 0 : n;
	}
	/* What was forbidden need not be sent to its end. */
	if (r->a.denied[0] && r->http->o->robots && !r->is_robots)
		return 0;
	size_t room = r->a.body.max - r->a.body.len;
	if (n > room) {
		r->too_large = true;
		if (!r->is_robots || wl_buf_add(&r->a.body, bytes, room, NULL) < 0)
			return 0;
		return 0;
	}
	if (!takes_memory(r, n)) {
		r->over_memory = true;
		return 0;
	}
	return wl_buf_add(&r->a.body, bytes, n, NULL) < 0 ? 0 : n;
}

/* ---- the address ---- */

static curl_socket_t on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct wl_request *r = user;
	(void)purpose;
	if (!r->http->o->allow_private && !r->http->o->proxy &&
		!wl_addr_is_public(&a->addr, a->addrlen) &&
		!wl_nets_has(&r->http->allowed, &a->addr, a->addrlen)) {
		wl_addr_text(&a->addr, r->refused);
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* ---- life ---- */

int wl_http_init(struct wl_http *h, const struct wl_fetch_opts *o, struct wl_err *err)
{
	*h = (struct wl_http){.o = o, .held_max = HELD_MAX};
	wl_robots_token(o->user_agent, h->token);
	WL_TRY(wl_nets_parse(&h->allowed, o->allow_nets, err));
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
		return wl_err_set(err, WL_EFAIL, "libcurl cannot be set up");
	h->multi = curl_multi_init();
	h->headers = curl_slist_append(
		NULL, "Accept: image/jpeg,image/png,image/webp,image/*;q=0.8,*/*;q=0.5");
	if (!h->multi || !h->headers)
		return wl_err_nomem(err, "libcurl", 0);
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)o->connections + 16);
	return 0;
}

void wl_http_release(struct wl_http *h)
{
	for (size_t i = 0; i < h->n_idle; i++)
		curl_easy_cleanup(h->idle[i]);
	free(h->idle);
	curl_slist_free_all(h->headers);
	curl_multi_cleanup(h->multi);
	*h = (struct wl_http){0};
	curl_global_cleanup();
}

void wl_request_init(struct wl_request *r, struct wl_http *h)
{
	*r = (struct wl_request){.http = h};
	wl_buf_init(&r->a.body, (size_t)h->o->max_bytes);
}

void wl_request_drop_body(struct wl_request *r)
{
	r->http->held -= r->held;
	r->held = 0;
	if (r->http->favoured == r)
		r->http->favoured = NULL;
	wl_buf_release(&r->a.body);
}

/* Handles keep what is costly to make (DNS and TLS states are the multi handle's). */
static void put_back(struct wl_http *h, CURL *easy)
{
	if (h->n_idle == h->cap_idle) {
		size_t cap = h->cap_idle ? 2 * h->cap_idle : 64;
		CURL **grown = realloc(h->idle, cap * sizeof *grown);
		if (!grown) {
			curl_easy_cleanup(easy);
			return;
		}
		h->idle = grown;
		h->cap_idle = cap;
	}
	h->idle[h->n_idle++] = easy;
}

void wl_request_abort(struct wl_request *r)
{
	if (!r->easy)
		return;
	curl_multi_remove_handle(r->http->multi, r->easy);
	curl_easy_reset(r->easy);
	put_back(r->http, r->easy);
	r->easy = NULL;
	curl_slist_free_all(r->headers);
	r->headers = NULL;
}

void wl_request_release(struct wl_request *r)
{
	if (!r->http)
		return;
	wl_request_abort(r);
	wl_request_drop_body(r);
}

/* ---- starting ---- */

static long ms(double s)
{
	return s > 1e6 ? 1000000000L : s < 0.001 ? 1 : (long)(s * 1000);
}

static void set_options(struct wl_request *r, const struct wl_url *u, const char *referer)
{
	const struct wl_fetch_opts *o = r->http->o;
	CURL *e = r->easy;
	curl_easy_setopt(e, CURLOPT_URL, u->text);
	curl_easy_setopt(e, CURLOPT_PRIVATE, r);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* a hanging name server must not hold us */
	curl_easy_setopt(e, CURLOPT_PROXY, o->proxy ? o->proxy : "");
	curl_easy_setopt(e, CURLOPT_USERAGENT, o->user_agent);
	curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "");
	curl_easy_setopt(e, CURLOPT_DNS_CACHE_TIMEOUT, 300L);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, ms(o->connect_s));
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, ms(o->total_s));
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, o->stall_s < 1 ? 1L : (long)o->stall_s);
	if (!r->is_robots)
		curl_easy_setopt(e, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)o->max_bytes);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, r);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, r);
	if (referer && *referer)
		curl_easy_setopt(e, CURLOPT_REFERER, referer);
}

static int add_condition(
	struct wl_request *r, const char *name, const char *value, struct wl_err *err)
{
	char line[WL_HEADER_KEPT + 32];
	struct curl_slist *grown;
	if (!value || !*value)
		return 0;
	snprintf(line, sizeof line, "%s: %s", name, value);
	grown = curl_slist_append(r->headers, line);
	if (!grown)
		return wl_err_nomem(err, "a request", 0);
	r->headers = grown;
	return 0;
}

static int set_headers(
	struct wl_request *r, const char *etag, const char *last_modified, struct wl_err *err)
{
	r->headers = NULL;
	WL_TRY(add_condition(r, "If-None-Match", etag, err));
	WL_TRY(add_condition(r, "If-Modified-Since", last_modified, err));
	if (r->headers)
		WL_TRY(add_condition(r, "Accept", strchr(r->http->headers->data, ' ') + 1, err));
	curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers ? r->headers : r->http->headers);
	return 0;
}

int wl_request_start(struct wl_request *r, const struct wl_url *u, const char *referer,
	const char *etag, const char *last_modified, struct wl_err *err)
{
	struct wl_http *h = r->http;
	r->easy = h->n_idle ? h->idle[--h->n_idle] : curl_easy_init();
	if (!r->easy)
		return wl_err_nomem(err, "a request", 0);
	wl_request_drop_body(r);
	struct wl_buf body = r->a.body;
	body.max = r->is_robots ? WL_ROBOTS_MAX_BYTES : (size_t)h->o->max_bytes;
	r->a = (struct wl_answer){.retry_after_s = -1, .body = body};
	r->too_large = r->over_memory = false;
	r->skipped = 0;
	r->refused[0] = '\0';
	set_options(r, u, referer);
	WL_TRY(set_headers(r, etag, last_modified, err));
	CURLMcode rc = curl_multi_add_handle(h->multi, r->easy);
	if (rc != CURLM_OK)
		return wl_err_set(
			err, WL_EFAIL, "a request cannot be started: %s", curl_multi_strerror(rc));
	return 0;
}

/* ---- what came of it ---- */

static void conclude(
	struct wl_answer *a, enum wl_answer_kind kind, const char *class, const char *detail)
{
	a->kind = kind;
	snprintf(a->reason, sizeof a->reason, "%s%s%s", class, *detail ? ": " : "", detail);
}

static void conclude_status(struct wl_answer *a)
{
	static const int passing[] = {408, 425, 429, 500, 502, 503, 504};
	char text[48];
	snprintf(text, sizeof text, "the server answered %d", a->status);
	for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
		if (a->status == passing[i]) {
			conclude(a, WL_ANSWER_AGAIN, text, "");
			return;
		}
	if (a->status == 304)
		a->kind = WL_ANSWER_SAME;
	else if (a->location[0] && (a->status == 301 || a->status == 302 || a->status == 303 ||
					   a->status == 307 || a->status == 308))
		a->kind = WL_ANSWER_REDIRECT;
	else
		conclude(a, WL_ANSWER_NEVER, text, "");
}

/* Failures below HTTP. */
static void conclude_failure(struct wl_request *r, CURLcode rc)
{
	struct wl_answer *a = &r->a;
	const char *what = curl_easy_strerror(rc);
	if (r->refused[0] && (rc == CURLE_COULDNT_CONNECT || rc == CURLE_OPERATION_TIMEDOUT)) {
		conclude(a, WL_ANSWER_NEVER, "the address is not public", r->refused);
		return;
	}
	switch (rc) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
		a->no_contact = true;
		conclude(a, WL_ANSWER_AGAIN, "there was no connection", what);
		return;
	case CURLE_OPERATION_TIMEDOUT:
		a->no_contact = a->status == 0;
		conclude(a, WL_ANSWER_AGAIN, "it took too long", "");
		return;
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
	case CURLE_SSL_CONNECT_ERROR:
		/* Which of these it is depends on timing. */
		conclude(a, WL_ANSWER_AGAIN, "the answer was cut off", "");
		return;
	default:
		conclude(a, WL_ANSWER_NEVER, "the answer is unusable", what);
	}
}

static void conclude_all(struct wl_request *r, CURLcode rc)
{
	struct wl_answer *a = &r->a;
	char detail[64];
	if (a->status && a->status != 200 && (rc == CURLE_OK || rc == CURLE_WRITE_ERROR)) {
		conclude_status(a);
	} else if (r->is_robots && a->status == 200 && (rc == CURLE_OK || r->too_large)) {
		a->kind = WL_ANSWER_BODY;
	} else if (r->too_large || rc == CURLE_FILESIZE_EXCEEDED) {
		snprintf(detail, sizeof detail, "more than %lld bytes",
			(long long)r->http->o->max_bytes);
		conclude(a, WL_ANSWER_NEVER, "the image file is too large", detail);
	} else if (a->denied[0] && r->http->o->robots && a->status == 200) {
		conclude(a, WL_ANSWER_NEVER, "X-Robots-Tag forbids it", a->denied);
	} else if (r->over_memory) {
		a->out_of_memory = true;
		conclude(a, WL_ANSWER_AGAIN, "too much is in memory", "");
	} else if (rc != CURLE_OK) {
		conclude_failure(r, rc);
	} else {
		a->kind = WL_ANSWER_BODY;
	}
}

struct wl_request *wl_http_ended(struct wl_http *h)
{
	int left;
	CURLMsg *m;
	while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
		struct wl_request *r = NULL;
		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode rc = m->data.result;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &r);
		wl_request_abort(r); /* takes the handle back; m is void from here on */
		conclude_all(r, rc);
		if (r->a.kind != WL_ANSWER_BODY)
			wl_request_drop_body(r);
		return r;
	}
	return NULL;
}
