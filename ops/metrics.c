/*
 * A table of named numbers, a tiny HTTP server for it, and JSON lines: see metrics.h.
 *
 * The table is searched linearly: a program has some dozens of metrics and sets them a
 * few times a second.
 */
#include "ops/metrics.h"
#include "ops/buf.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/path.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct metric {
	char *name, *help;
	double value;
	bool counter;
};

/* One table a process, as there is one port and one scraper. */
static struct {
	pthread_mutex_t lock;
	struct metric *v;
	size_t n, cap;
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* With the lock held; NULL when out of memory, in which case the number is not kept. */
static struct metric *find(const char *name, const char *help, bool counter)
{
	struct metric *m;

	for (size_t i = 0; i < table.n; i++)
		if (!strcmp(table.v[i].name, name))
			return &table.v[i];
	if (table.n == table.cap) {
		size_t cap = table.cap ? 2 * table.cap : 32;
		struct metric *v = realloc(table.v, cap * sizeof *v);

		if (!v)
			return NULL;
		table.v = v;
		table.cap = cap;
	}
	m = &table.v[table.n];
	*m = (struct metric){.name = strdup(name), .counter = counter};
	if (!m->name)
		return NULL;
	m->help = help ? strdup(help) : NULL;
	table.n++;
	return m;
}

void wl_metric_set(const char *name, const char *help, double value)
{
	struct metric *m;

	pthread_mutex_lock(&table.lock);
	m = find(name, help, false);
	if (m)
		m->value = value;
	pthread_mutex_unlock(&table.lock);
}

void wl_metric_add(const char *name, const char *help, double value)
{
	struct metric *m;

	pthread_mutex_lock(&table.lock);
	m = find(name, help, true);
	if (m)
		m->value += value;
	pthread_mutex_unlock(&table.lock);
}

int wl_metrics_text(struct wl_buf *out, struct wl_err *err)
{
	int ret = 0;

	pthread_mutex_lock(&table.lock);
	for (size_t i = 0; i < table.n && !ret; i++) {
		const struct metric *m = &table.v[i];

		if (m->help)
			ret = wl_buf_printf(out, err, "# HELP %s %s\n", m->name, m->help);
		if (!ret)
			ret = wl_buf_printf(out, err, "# TYPE %s %s\n%s %.17g\n", m->name,
				m->counter ? "counter" : "gauge", m->name, m->value);
	}
	pthread_mutex_unlock(&table.lock);
	return ret;
}

static int send_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

/* One request, one answer, the connection closed: all that a scraper needs. */
static void answer(int fd)
{
	struct timeval patience = {.tv_sec = 5};
	char request[4096];
	struct wl_buf body;
	char head[160];
	size_t used = 0;
	bool ours;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	do {
		ssize_t k = recv(fd, request + used, sizeof request - 1 - used, 0);

		if (k <= 0)
			return;
		used += (size_t)k;
		request[used] = 0;
	} while (!strstr(request, "\r\n\r\n") && used < sizeof request - 1);
	ours = !strncmp(request, "GET /metrics ", 13) || !strncmp(request, "GET /metrics?", 13);
	wl_buf_init(&body, 1 << 20);
	if (ours ? wl_metrics_text(&body, NULL) : wl_buf_puts(&body, "see /metrics\n", NULL))
		wl_buf_reset(&body);
	snprintf(head, sizeof head,
		"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %zu\r\n"
		"Connection: close\r\n\r\n",
		ours ? "200 OK" : "404 Not Found", body.len);
	if (!send_all(fd, head, strlen(head)))
		(void)send_all(fd, wl_buf_str(&body), body.len);
	wl_buf_release(&body);
}

static void *serve(void *arg)
{
	int listener = (int)(intptr_t)arg;

	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno != EINTR && errno != ECONNABORTED)
				usleep(100000); /* out of descriptors: others will close some */
			continue;
		}
		answer(fd);
		close(fd);
	}
	return NULL;
}

int wl_metrics_serve(int64_t port, struct wl_err *err)
{
	const char *address = getenv("WENLAN_METRICS_ADDRESS");
	struct sockaddr_in sa = {.sin_family = AF_INET};
	pthread_t id;
	int fd, one = 1;

	address = address && *address ? address : "127.0.0.1";
	if (port < 1 || port > 65535)
		return wl_err_set(err, WL_EUSAGE, "metrics port %lld is not between 1 and 65535",
			(long long)port);
	if (inet_pton(AF_INET, address, &sa.sin_addr) != 1)
		return wl_err_set(err, WL_EUSAGE,
			"WENLAN_METRICS_ADDRESS is '%s' where an IPv4 address is expected",
			address);
	sa.sin_port = htons((uint16_t)port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return wl_err_errno(err, "a socket for the metrics cannot be made");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&sa, sizeof sa) || listen(fd, 8)) {
		wl_err_errno(
			err, "metrics cannot be served on %s port %lld", address, (long long)port);
		close(fd);
		return -1;
	}
	if (pthread_create(&id, NULL, serve, (void *)(intptr_t)fd)) {
		close(fd);
		return wl_err_set(err, WL_EFAIL, "the thread for the metrics cannot be started");
	}
	pthread_detach(id);
	return 0;
}

/* Cuts off a torn last line, which a kill during a write may have left. */
static int trim_torn_line(struct wl_jsonl *f, struct wl_err *err)
{
	int64_t end = lseek(f->fd, 0, SEEK_END), keep = end;
	char c;

	while (keep > 0) {
		WL_TRY(wl_pread_full(f->fd, &c, 1, keep - 1, f->path, err));
		if (c == '\n')
			break;
		keep--;
	}
	if (keep < end && ftruncate(f->fd, keep))
		return wl_err_errno(err, "%s cannot be truncated to its last whole line", f->path);
	return 0;
}

int wl_jsonl_open(struct wl_jsonl *f, const char *path, struct wl_err *err)
{
	f->path = wl_strf(err, "%s", path);
	f->fd = -1;
	if (!f->path)
		return -1;
	f->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (f->fd < 0)
		wl_path_failed(path, "opened", NULL, err);
	if (f->fd < 0 || trim_torn_line(f, err) < 0) {
		wl_jsonl_close(f);
		return -1;
	}
	return 0;
}

int wl_jsonl_add(struct wl_jsonl *f, const json_t *o, struct wl_err *err)
{
	char *text = json_dumps(o, JSON_COMPACT);
	size_t len;
	ssize_t put;

	if (!text)
		return wl_err_set(
			err, WL_EFAIL, "%s: a line is not an object, or memory is out", f->path);
	len = strlen(text);
	text[len] = '\n'; /* in place of the closing 0: the line goes out in one write */
	put = write(f->fd, text, len + 1);
	free(text);
	if (put == (ssize_t)(len + 1))
		return 0;
	if (put >= 0)
		errno = ENOSPC;
	return wl_err_errno(err, "%s: a line of %zu bytes cannot be written", f->path, len + 1);
}

void wl_jsonl_close(struct wl_jsonl *f)
{
	if (!f || !f->path)
		return;
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	*f = (struct wl_jsonl){.fd = -1};
}

int wl_jsonl_read(const char *path,
	int (*fn)(json_t *o, size_t line, void *user, struct wl_err *err), void *user,
	struct wl_err *err)
{
	FILE *fp = fopen(path, "re");
	char *text = NULL;
	size_t cap = 0, line = 0;
	ssize_t n;
	int ret = -1;

	if (!fp)
		return wl_path_failed(path, "opened", NULL, err);
	while ((n = getline(&text, &cap, fp)) > 0) {
		json_t *o;
		int r;

		line++;
		if (text[n - 1] != '\n')
			break; /* torn by a kill: it never happened */
		o = wl_json_parse(text, (size_t)n, "the line", err);
		if (!o) {
			wl_err_prefix(err, "%s line %zu", path, line);
			goto out;
		}
		r = fn(o, line, user, err);
		json_decref(o);
		WL_TRY_OUT(r);
	}
	if (ferror(fp)) {
		wl_err_errno(err, "%s cannot be read", path);
		goto out;
	}
	ret = 0;
out:
	free(text);
	fclose(fp);
	return ret;
}
