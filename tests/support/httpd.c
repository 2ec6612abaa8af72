/* See httpd.h.  One thread a connection; plain sockets, so that it can do what no server does. */
#include "tests/support/httpd.h"

#include "ingest/image.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/server.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct wl_err err;

void httpd_picture(uint32_t n, struct wl_buf *out)
{
	struct wl_image im = {.width = 40 + (int)(n % 13), .height = 30, .channels = 3};
	size_t size = (size_t)im.width * 30 * 3;
	im.data = malloc(size);
	if (!im.data)
		abort();
	for (size_t i = 0; i < size; i++)
		im.data[i] = (uint8_t)(i * (n + 3) + wl_rand64(n, 0, i / 30) % 40);
	wl_buf_init(out, 1 << 20);
	if (wl_image_encode_jpeg(&im, 90, out, &err) < 0)
		abort();
	wl_image_release(&im);
}

static size_t slot(const char *path)
{
	return wl_hash64(path, strlen(path), 0) % HTTPD_COUNTERS;
}

int httpd_hits(const struct httpd *h, const char *path)
{
	return (int)h->shared->counter[slot(path)];
}

/* ---- answering ---- */

struct conn {
	int fd;
	struct httpd_shared *sh;
	char request[8192];
	char path[1024];
	unsigned n;	  /* the number at the path's end */
	uint32_t earlier; /* requests for this path before this one */
	bool counted;	  /* in at_once */
};

static atomic_int at_once;

static void come(struct conn *c)
{
	int now = ++at_once, most = c->sh->most_at_once;

	c->counted = true;
	while (now > most && !atomic_compare_exchange_weak(&c->sh->most_at_once, &most, now))
		;
}

static void go(struct conn *c)
{
	if (c->counted)
		at_once--;
	c->counted = false;
}

/* A whole answer; headers: lines with \r\n.  Its last byte goes when it is not counted any more:
 * who has it may ask for the next, by another connection. */
static bool answer(
	struct conn *c, const char *status, const char *headers, const void *body, size_t n)
{
	char head[2048];
	size_t len = (size_t)snprintf(head, sizeof head,
		"HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n", status, headers, n);
	const char *last = n ? (const char *)body + n - 1 : head + len - 1;
	bool ok = server_send(c->fd, head, len - !n) && (!n || server_send(c->fd, body, n - 1));

	go(c);
	return ok && server_send(c->fd, last, 1);
}

static bool text(struct conn *c, const char *status, const char *headers)
{
	return answer(c, status, headers, "<html><p>text</p></html>", 24);
}

static bool redirect(struct conn *c, const char *to)
{
	char h[1200];
	snprintf(h, sizeof h, "Location: %s\r\n", to);
	return text(c, "302 Found", h);
}

static bool picture(struct conn *c, uint32_t n, const char *headers)
{
	struct wl_buf b;
	char h[512], etag[64];
	snprintf(etag, sizeof etag, "\"p%u\"", n);
	snprintf(h, sizeof h, "ETag: %s\r\nLast-Modified: Sat, 01 Nov 2025 10:00:00 GMT\r\n%s",
		etag, headers);
	const char *match = strcasestr(c->request, "\r\nIf-None-Match: ");
	c->sh->conditional += match != NULL;
	if (match && strncmp(match + 17, etag, strlen(etag)) == 0)
		return answer(c, "304 Not Modified", h, "", 0);
	httpd_picture(n, &b);
	bool ok = answer(c, "200 OK", h, b.data, b.len);
	wl_buf_release(&b);
	return ok;
}

/* `part` of a picture after headers of the caller's; then the connection ends. */
static bool part_of_picture(struct conn *c, bool with_length)
{
	struct wl_buf b;
	char head[256];
	httpd_picture(c->n, &b);
	int len = with_length ? snprintf(head, sizeof head,
					"HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", b.len)
			      : snprintf(head, sizeof head,
					"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
	server_send(c->fd, head, (size_t)len);
	server_send(c->fd, b.data, b.len / 2);
	wl_buf_release(&b);
	return false;
}

/* Sends a byte every tenth of a second, or nothing, until the other side goes. */
static bool dawdle(struct conn *c, bool send_some)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n";
	if (send_some && !server_send(c->fd, head, sizeof head - 1))
		return false;
	for (int i = 0; i < 600; i++) {
		struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLRDHUP};
		if (poll(&p, 1, 100) > 0 || (send_some && !server_send(c->fd, "x", 1)))
			break;
	}
	return false;
}

static bool endless(struct conn *c)
{
	static char block[65536] = "\xff\xd8\xff\xe0";
	server_send(c->fd, "HTTP/1.1 200 OK\r\n\r\n", 19);
	while (server_send(c->fd, block, sizeof block))
		;
	return false;
}

static bool reset(struct conn *c)
{
	struct linger l = {.l_onoff = 1};
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	return false;
}

static bool robots(struct conn *c)
{
	static const char rules[] = "User-agent: otherbot\nDisallow: /\n\nUser-agent: *\n"
				    "Disallow: /denied/\nAllow: /denied/but-this\n";
	char status[32];
	int code = c->sh->robots;
	if (code == 200)
		return answer(c, "200 OK", "", rules, sizeof rules - 1);
	snprintf(status, sizeof status, "%d Whatever", code);
	return text(c, status, "");
}

static bool page(struct conn *c)
{
	char html[2048];
	int n = snprintf(html, sizeof html,
		"<!DOCTYPE html><html><head><meta charset=utf-8><title>第 %u "
		"页</title></head><body>"
		"<article><h1>山里的湖</h1><p>湖边有一座白色的房子，房子前面停着一条小船。</p>"
		"<figure><img src='/img/%u.jpg' alt='湖边的白房子 %u'>"
		"<figcaption>湖边的白房子，摄于秋天</figcaption></figure>"
		"<p>船夫说，这条船已经用了二十年，每年春天都要重新刷一次漆。</p>"
		"<img src='../img/%u.jpg' alt='刷了漆的小船 %u'>"
		"<img src='/missing/%u' alt='找不到的图'></article></body></html>",
		c->n, c->n, c->n, c->n + 1, c->n, c->n);
	return answer(c, "200 OK", "Content-Type: text/html; charset=utf-8\r\n", html, (size_t)n);
}

static bool starts(const struct conn *c, const char *prefix)
{
	return strncmp(c->path, prefix, strlen(prefix)) == 0;
}

static bool redirects(struct conn *c)
{
	char to[256], host[64] = "";
	unsigned k, port;
	if (sscanf(c->path, "/hop/%u/", &k) == 1) {
		if (k > 1)
			snprintf(to, sizeof to, "/hop/%u/%u", k - 1, c->n);
		else
			snprintf(to, sizeof to, "../../img/%u.jpg", c->n);
		return redirect(c, to);
	}
	if (sscanf(c->path, "/away/%u/", &port) == 1) {
		snprintf(to, sizeof to, "http://127.0.0.1:%u/img/%u.jpg", port, c->n);
		return redirect(c, to);
	}
	if (starts(c, "/loop/"))
		return redirect(c, c->path);
	if (starts(c, "/file/"))
		return redirect(c, "file:///etc/passwd");
	const char *h = strcasestr(c->request, "\r\nHost: ");
	if (h)
		sscanf(h + 8, "%*[^:]:%63[0-9]", host);
	snprintf(to, sizeof to, "http://127.0.0.2:%s/img/%u.jpg", host, c->n);
	return redirect(c, to);
}

static bool faults(struct conn *c)
{
	if (starts(c, "/slow/") || starts(c, "/hang/"))
		return dawdle(c, c->path[1] == 's');
	if (starts(c, "/cut/") || starts(c, "/short/"))
		return part_of_picture(c, c->path[1] == 'c');
	if (starts(c, "/reset/"))
		return reset(c);
	if (starts(c, "/endless/"))
		return endless(c);
	if (starts(c, "/huge/")) {
		server_send(c->fd, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", 49);
		return false;
	}
	if (starts(c, "/busy/") && c->earlier < 2)
		return text(c, "503 Service Unavailable", "Retry-After: 0\r\n");
	if (starts(c, "/later/"))
		return text(c, "429 Too Many Requests", "Retry-After: 7200\r\n");
	if (starts(c, "/error/"))
		return text(c, "500 Internal Server Error", "");
	if (starts(c, "/referer/") && !strcasestr(c->request, "\r\nReferer: http"))
		return text(c, "403 Forbidden", "");
	return text(c, "404 Not Found", "");
}

/* False: the connection is to be closed. */
static bool serve(struct conn *c)
{
	if (strcmp(c->path, "/robots.txt") == 0)
		return robots(c);
	if (starts(c, "/img/") || starts(c, "/denied/") || (starts(c, "/busy/") && c->earlier >= 2))
		return picture(c, c->n, "Content-Type: image/jpeg\r\n");
	if (starts(c, "/change/"))
		return picture(c, c->n + 1000 * (unsigned)c->sh->version, "");
	if (starts(c, "/nameless/"))
		return picture(c, c->n, "Content-Type: text/plain\r\n");
	if (starts(c, "/noai/"))
		return picture(c, c->n, "X-Robots-Tag: noai, nosnippet\r\n");
	if (starts(c, "/otherbot/"))
		return picture(c, c->n, "X-Robots-Tag: otherbot: noai\r\n");
	if (starts(c, "/referer/") && strcasestr(c->request, "\r\nReferer: http"))
		return picture(c, c->n, "");
	if (starts(c, "/page/"))
		return page(c);
	if (starts(c, "/text/"))
		return text(c, "200 OK", "Content-Type: text/html; charset=utf-8\r\n");
	if (starts(c, "/lying/"))
		return text(c, "200 OK", "Content-Type: image/jpeg\r\n");
	if (starts(c, "/hop/") || starts(c, "/loop/") || starts(c, "/inward/") ||
		starts(c, "/away/") || starts(c, "/file/"))
		return redirects(c);
	return faults(c);
}

static bool read_request(struct conn *c)
{
	return server_head(c->fd, c->request, sizeof c->request) &&
	       sscanf(c->request, "GET %1023s", c->path) == 1;
}

static void *run_connection(void *arg)
{
	struct conn *c = arg;
	bool more = true;
	while (more && read_request(c)) {
		const char *slash = strrchr(c->path, '/');
		c->n = (unsigned)strtoul(slash ? slash + 1 : "0", NULL, 10);
		c->sh->hits++;
		c->earlier = c->sh->counter[slot(c->path)]++;
		come(c);
		more = serve(c);
		go(c);
	}
	close(c->fd);
	free(c);
	return NULL;
}

static void run_server(int fd, struct httpd_shared *sh)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 << 10);
	for (;;) {
		struct conn *c = calloc(1, sizeof *c);
		pthread_t id;
		if (!c)
			_exit(1);
		c->sh = sh;
		c->fd = accept(fd, NULL, NULL);
		if (c->fd < 0) {
			free(c);
			continue;
		}
		if (pthread_create(&id, &attr, run_connection, c)) {
			close(c->fd);
			free(c);
		}
	}
}

/* ---- life ---- */

int httpd_dead_port(void)
{
	int port;
	/* Bound, so that nobody else gets it, but not listening: it refuses. */
	(void)server_port(&port, 0);
	return port;
}

struct httpd httpd_start(void)
{
	struct httpd h;
	int fd = server_port(&h.port, 1024);
	h.shared = server_shared(sizeof *h.shared);
	h.shared->robots = 200;
	h.pid = fork();
	assert_true(h.pid >= 0);
	if (h.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN);
		run_server(fd, h.shared);
		_exit(0);
	}
	close(fd);
	return h;
}

void httpd_stop(struct httpd *h)
{
	kill(h->pid, SIGKILL);
	waitpid(h->pid, NULL, 0);
	munmap(h->shared, sizeof *h->shared);
	*h = (struct httpd){0};
}
