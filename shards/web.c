/*
 * Ranged requests: see web.h.  Each thread that asks borrows a libcurl handle, whose connection
 * stays open for the next one: so many transfers run at once as threads ask, with no thread between
 * them, and decryption is spread over cores.
 */
#include "shards/web.h"

#include "ops/clock.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/wait.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_IDLE = 64, MAX_TRIES = 7, MAX_IN_ALL = 100, CONNECT_S = 15, STALL_S = 20 };

struct wl_web {
	char *base;
	char *sign, *user; /* CURLOPT_AWS_SIGV4 and its KEY:SECRET; NULL: unsigned */
	struct curl_slist *headers;
	int stall_s;
	pthread_mutex_t lock; /* idle, n_idle, stopping */
	pthread_cond_t stopped;
	CURL *idle[MAX_IDLE];
	size_t n_idle;
	bool stopping;
};

/* ---- where ---- */

bool wl_web_is_url(const char *s)
{
	return !strncmp(s, "http://", 7) || !strncmp(s, "https://", 8) || !strncmp(s, "s3://", 5);
}

static const char *env(const char *a, const char *b, const char *otherwise)
{
	const char *v = getenv(a);

	if (!v || !*v)
		v = b ? getenv(b) : NULL;
	return v && *v ? v : otherwise;
}

/* s3://BUCKET/PREFIX as the address of its service. */
static char *s3_address(const char *s3, struct wl_err *err)
{
	const char *bucket = s3 + 5, *slash = strchr(bucket, '/');
	int n = slash ? (int)(slash - bucket) : (int)strlen(bucket);
	const char *endpoint = env("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", NULL);
	const char *region = env("AWS_REGION", "AWS_DEFAULT_REGION", "us-east-1");

	if (!n) {
		wl_err_set(err, WL_EUSAGE, "%s: expected s3://BUCKET/PREFIX", s3);
		return NULL;
	}
	if (endpoint)
		return wl_strf(err, "%s/%s", endpoint, bucket);
	return wl_strf(
		err, "https://%.*s.s3.%s.amazonaws.com%s", n, bucket, region, slash ? slash : "");
}

static int use_keys(struct wl_web *w, struct wl_err *err)
{
	const char *id = env("AWS_ACCESS_KEY_ID", NULL, NULL);
	const char *secret = env("AWS_SECRET_ACCESS_KEY", NULL, NULL);
	const char *token = env("AWS_SESSION_TOKEN", NULL, NULL);
	char *line = NULL;

	if (!id || !secret)
		return 0; /* a bucket that anybody may read */
	w->user = wl_strf(err, "%s:%s", id, secret);
	w->sign =
		wl_strf(err, "aws:amz:%s:s3", env("AWS_REGION", "AWS_DEFAULT_REGION", "us-east-1"));
	if (token) {
		line = wl_strf(err, "x-amz-security-token: %s", token);
		w->headers = line ? curl_slist_append(NULL, line) : NULL;
	}
	free(line);
	return w->user && w->sign && (!token || w->headers) ? 0 : -1;
}

static int set_base(struct wl_web *w, const char *base, struct wl_err *err)
{
	static const char manifest[] = "/manifest.db";
	bool s3 = !strncmp(base, "s3://", 5);
	size_t n;

	w->base = s3 ? s3_address(base, err) : wl_strf(err, "%s", base);
	if (!w->base)
		return -1;
	n = strlen(w->base);
	if (n >= sizeof manifest && !strcmp(w->base + n - (sizeof manifest - 1), manifest))
		w->base[n -= sizeof manifest - 1] = 0;
	while (n && w->base[n - 1] == '/')
		w->base[--n] = 0;
	return s3 ? use_keys(w, err) : 0;
}

struct wl_web *wl_web_open(const char *base, int stall_s, struct wl_err *err)
{
	struct wl_web *w = calloc(1, sizeof *w);

	if (!w || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		wl_err_nomem(err, "libcurl", sizeof *w);
		free(w);
		return NULL;
	}
	w->stall_s = stall_s ? stall_s : STALL_S;
	pthread_mutex_init(&w->lock, NULL);
	wl_wait_init(&w->stopped);
	if (set_base(w, base, err) < 0) {
		wl_web_close(w);
		return NULL;
	}
	return w;
}

void wl_web_stop(struct wl_web *w)
{
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_broadcast(&w->stopped);
	pthread_mutex_unlock(&w->lock);
}

void wl_web_close(struct wl_web *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->n_idle; i++)
		curl_easy_cleanup(w->idle[i]);
	curl_slist_free_all(w->headers);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->stopped);
	free(w->base);
	free(w->sign);
	free(w->user);
	free(w);
	curl_global_cleanup();
}

const char *wl_web_base(const struct wl_web *w)
{
	return w->base;
}

/* ---- one try ---- */

struct request {
	struct wl_web *w;
	const char *name, *known;
	int64_t from, n; /* n -1: the whole file */
	struct wl_buf *out;
	size_t start;	       /* of out: what was there before */
	char tag[WL_ETAG_MAX]; /* of a whole file: what its beginning had */
	bool body;	       /* of this try: some of it came */
	struct wl_web_answer *a;
	long status;
	int64_t first; /* of Content-Range; -1: there was none */
	struct wl_err why;
	bool refused;	/* why is final */
	double after_s; /* what Retry-After asks for */
	int64_t heard;	/* wl_now_ms of the last header or byte of this try, or of its beginning */
	bool stalled;	/* this try ended as nothing came for stall_s */
};

static int64_t got(const struct request *r)
{
	return (int64_t)(r->out->len - r->start);
}

static void refuse_as(struct request *r, enum wl_code code, const char *what)
{
	r->refused = true;
	wl_err_set(&r->why, code, "%s/%s: %s", r->w->base, r->name, what);
}

static void refuse(struct request *r, const char *what)
{
	refuse_as(r, WL_EDATA, what);
}

/* Status lines and headers; a redirect begins anew. */
static size_t on_header(char *p, size_t size, size_t n, void *user)
{
	struct request *r = user;
	size_t len = size * n;
	char line[512];
	long long first, last, total;

	r->heard = wl_now_ms();
	snprintf(line, sizeof line, "%.*s", (int)(len < 500 ? len : 500), p);
	line[strcspn(line, "\r\n")] = 0;
	if (!strncmp(line, "HTTP/", 5)) {
		const char *code = strchr(line, ' ');

		r->status = code ? strtol(code, NULL, 10) : 0;
		r->first = r->a->total = -1;
		r->a->etag[0] = 0;
	} else if (sscanf(line, "%*[cC]ontent-%*[rR]ange: bytes %lld-%lld/%lld", &first, &last,
			   &total) == 3) {
		r->first = first;
		r->a->total = total;
	} else if (!strncasecmp(line, "Content-Length:", 15) && r->status == 200) {
		r->a->total = atoll(line + 15);
	} else if (!strncasecmp(line, "ETag:", 5)) {
		const char *v = line + 5 + strspn(line + 5, " ");

		if (strlen(v) < sizeof r->a->etag)
			strcpy(r->a->etag, v);
	}
	return len;
}

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
	struct request *r = user;
	size_t len = size * n;

	r->heard = wl_now_ms();
	if (r->status != 200 && r->status != 206)
		return len; /* a page that explains the error */
	if (r->n < 0 && !r->body && r->status == 200)
		r->out->len = r->start; /* it has changed meanwhile, or there are no ranges */
	if (r->n < 0 && !r->body && r->status == 206 && r->first != got(r)) {
		refuse(r, "the server sent another range than was asked for");
		return 0;
	}
	r->body = true;
	if (r->n >= 0 && r->status == 200 && (r->from + got(r) > 0 || r->a->total != r->n)) {
		refuse_as(r, WL_EUSAGE,
			"the server answers a request for a range with the whole file; serve it "
			"by one that knows ranges (nginx, Apache, any S3), or copy the set here");
		return 0;
	}
	if (r->n >= 0 && r->status == 206 && r->first < r->from) {
		refuse(r, "the server sent another range than was asked for");
		return 0;
	}
	if (r->n >= 0 && got(r) + (int64_t)len > r->n) {
		refuse(r, "the server sent more bytes than were asked for");
		return 0;
	}
	if (wl_buf_add(r->out, p, len, &r->why) < 0) {
		r->refused = true;
		return 0;
	}
	return len;
}

/* Each second at least.  CURLOPT_LOW_SPEED_TIME would look at the mean of five seconds: what had
 * come fast and then hangs, it gives up that much later. */
static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct request *r = user;
	struct wl_web *w = r->w;
	bool stop;

	(void)a, (void)b, (void)c, (void)d;
	pthread_mutex_lock(&w->lock);
	stop = w->stopping;
	pthread_mutex_unlock(&w->lock);
	r->stalled = !stop && wl_now_ms() - r->heard >= w->stall_s * INT64_C(1000);
	return stop || r->stalled;
}

static CURL *borrow(struct wl_web *w)
{
	CURL *e = NULL;

	pthread_mutex_lock(&w->lock);
	if (w->n_idle)
		e = w->idle[--w->n_idle];
	pthread_mutex_unlock(&w->lock);
	return e ? e : curl_easy_init();
}

static void give_back(struct wl_web *w, CURL *e)
{
	pthread_mutex_lock(&w->lock);
	if (w->n_idle < MAX_IDLE) {
		w->idle[w->n_idle++] = e;
		e = NULL;
	}
	pthread_mutex_unlock(&w->lock);
	curl_easy_cleanup(e);
}

static void set_up(CURL *e, struct request *r, const char *url)
{
	struct wl_web *w = r->w;

	curl_easy_reset(e);
	curl_easy_setopt(e, CURLOPT_URL, url);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "wenlan");
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, r);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(e, CURLOPT_XFERINFODATA, r);
	if (w->sign) {
		curl_easy_setopt(e, CURLOPT_AWS_SIGV4, w->sign);
		curl_easy_setopt(e, CURLOPT_USERPWD, w->user);
	} else { /* a signature is for one host only */
		curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 1L);
		curl_easy_setopt(e, CURLOPT_MAXREDIRS, 5L);
	}
}

/* One request for what is still missing. */
static CURLcode try_once(struct request *r, CURL *e, const char *url)
{
	struct curl_slist *all = NULL, *grown = NULL;
	char range[64], line[WL_ETAG_MAX + 32] = "";
	CURLcode rc;

	set_up(e, r, url);
	r->body = r->stalled = false;
	r->heard = wl_now_ms();
	for (const struct curl_slist *h = r->w->headers; h; h = h->next)
		if ((grown = curl_slist_append(all, h->data)))
			all = grown;
	if (r->n >= 0) {
		snprintf(range, sizeof range, "%lld-%lld", (long long)(r->from + got(r)),
			(long long)(r->from + r->n - 1));
		curl_easy_setopt(e, CURLOPT_RANGE, range);
	} else if (got(r) && *r->tag) {
		snprintf(range, sizeof range, "%lld-", (long long)got(r));
		curl_easy_setopt(e, CURLOPT_RANGE, range);
		snprintf(line, sizeof line, "If-Range: %s", r->tag);
	} else {
		r->out->len = r->start;
		if (*r->known)
			snprintf(line, sizeof line, "If-None-Match: %s", r->known);
	}
	if (*line && (grown = curl_slist_append(all, line)))
		all = grown;
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, all);
	r->status = 0;
	rc = curl_easy_perform(e);
	if (r->status == 200)
		memcpy(r->tag, r->a->etag, sizeof r->tag);
	if (r->status == 429 || r->status == 503) {
		curl_off_t s = 0;

		curl_easy_getinfo(e, CURLINFO_RETRY_AFTER, &s);
		r->after_s = (double)s;
	}
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(all);
	return rc;
}

/* ---- again and again ---- */

static const char *explain(long status)
{
	switch (status) {
	case 401:
	case 403:
		return "reading it is not allowed: check the address, or AWS_ACCESS_KEY_ID and its "
		       "like for s3://";
	case 404:
	case 410:
		return "it is not there: is this the folder that wenlan-shard wrote, copied whole?";
	case 416:
		return "it is shorter than the manifest says: it was not copied whole, or is of "
		       "another set";
	default:
		return "the server refuses it";
	}
}

/* 1: done; 0: worth another try; -1: never, r->why says what. */
static int judge(struct request *r, CURLcode rc)
{
	if (r->refused)
		return -1;
	if (rc == CURLE_ABORTED_BY_CALLBACK && !r->stalled) {
		wl_err_set(&r->why, WL_EFAIL, "%s/%s: reading it was stopped", r->w->base, r->name);
		return -1;
	}
	if (rc == CURLE_OK && (r->status == 200 || r->status == 206) &&
		(r->n < 0 || got(r) == r->n))
		return 1;
	if (rc == CURLE_OK && r->status == 304)
		return r->a->unchanged = 1;
	if (rc == CURLE_OK && r->status >= 300 && r->status < 500 && r->status != 408 &&
		r->status != 425 && r->status != 429) {
		char what[256];

		snprintf(what, sizeof what, "the server answers %ld; %s", r->status,
			explain(r->status));
		refuse(r, what);
		return -1;
	}
	if (rc == CURLE_URL_MALFORMAT || rc == CURLE_UNSUPPORTED_PROTOCOL) {
		refuse(r, curl_easy_strerror(rc));
		return -1;
	}
	if (rc == CURLE_OK && r->status >= 400)
		wl_err_set(&r->why, WL_ERETRY, "%s/%s: the server answers %ld", r->w->base, r->name,
			r->status);
	else
		wl_err_set(&r->why, WL_ERETRY, "%s/%s: %s after %lld bytes", r->w->base, r->name,
			rc == CURLE_OK ? "the answer ends"
			: r->stalled   ? "nothing more came"
				       : curl_easy_strerror(rc),
			(long long)got(r));
	return 0;
}

/* Waits, or returns early when the web is stopped. */
static void nap(struct wl_web *w, double s)
{
	struct timespec t = wl_wait_until(s);

	pthread_mutex_lock(&w->lock);
	while (!w->stopping && pthread_cond_timedwait(&w->stopped, &w->lock, &t) == 0)
		;
	pthread_mutex_unlock(&w->lock);
}

static int perform(struct request *r, struct wl_err *err)
{
	char *url = wl_strf(err, "%s/%s", r->w->base, r->name);
	CURL *e = url ? borrow(r->w) : NULL;
	int tries = 0, all = 0, done = 0;

	if (!e) {
		free(url);
		return err && err->code != WL_OK ? -1 : wl_err_nomem(err, "libcurl", 0);
	}
	*r->a = (struct wl_web_answer){0};
	for (;;) {
		int64_t before = got(r);
		double wait;

		r->after_s = 0;
		done = judge(r, try_once(r, e, url));
		tries = got(r) > before ? 1 : tries + 1;
		if (done || tries == MAX_TRIES || ++all == MAX_IN_ALL)
			break;
		/* Some jitter, so that many readers do not come back at one moment. */
		wait = 0.1 * (double)(1 << tries) *
		       (0.5 + 0.5 * wl_rand_unit((uint64_t)r->from, (uint64_t)tries, 0));
		wait = got(r) > before ? 0.02 : wait > 10 ? 10 : wait;
		nap(r->w, r->after_s > wait ? (r->after_s < 60 ? r->after_s : 60) : wait);
	}
	give_back(r->w, e);
	free(url);
	if (done > 0 && r->status == 206 && r->n < 0)
		memcpy(r->a->etag, r->tag, sizeof r->tag);
	if (done > 0)
		return 0;
	return wl_err_set(err, r->why.code, "%s%s", r->why.msg,
		done ? "" : "; it was tried again and again: run the same command later");
}

int wl_web_range(struct wl_web *w, const char *name, int64_t from, int64_t n, struct wl_buf *out,
	struct wl_web_answer *a, struct wl_err *err)
{
	struct request r = {.w = w,
		.name = name,
		.from = from,
		.n = n,
		.out = out,
		.start = out->len,
		.a = a,
		.why = WL_ERR_INIT};

	return perform(&r, err);
}

int wl_web_file(struct wl_web *w, const char *name, const char *known, struct wl_buf *out,
	struct wl_web_answer *a, struct wl_err *err)
{
	struct request r = {.w = w,
		.name = name,
		.n = -1,
		.known = known,
		.out = out,
		.start = out->len,
		.a = a,
		.why = WL_ERR_INIT};

	return perform(&r, err);
}
