/* See rangesd.h.  One thread a connection; plain sockets, so that it can do what no server does. */
#include "tests/support/rangesd.h"

#include "ops/hash.h"
#include "tests/support/server.h"
#include "tests/support/tmp.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct conn {
	int fd;
	const char *dir;
	struct rangesd_shared *sh;
	char request[8192], kind[32], name[256];
};

/* Earlier requests of this kind for that file and, if that is told apart, up to that byte. */
static unsigned earlier(const struct conn *c, long long last)
{
	char what[400];
	int n = snprintf(what, sizeof what, "%s %s %lld", c->kind, c->name, last);

	return c->sh->counter[wl_hash64(what, (size_t)n, 0) % RANGESD_COUNTERS]++;
}

static bool plain(struct conn *c, const char *status)
{
	char text[256];

	c->sh->broken++;
	snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: 5\r\n\r\nsorry", status);
	return server_send(c->fd, text, strlen(text));
}

static bool is(const struct conn *c, const char *kind)
{
	return !strcmp(c->kind, kind);
}

/* After a few bytes, until the other side goes. */
static bool say_nothing(struct conn *c, const char *p100)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLRDHUP};

	c->sh->broken++;
	if (!server_send(c->fd, p100, 100))
		return false;
	poll(&p, 1, 60000);
	return false;
}

static bool send_body(struct conn *c, const char *p, size_t n, long long last)
{
	if (is(c, "cut") && n > 1000) {
		c->sh->broken++;
		server_send(c->fd, p, n / 2);
		return false;
	}
	if (is(c, "hang") && n > 100 && earlier(c, last) == 0)
		return say_nothing(c, p);
	if (!is(c, "slow"))
		return server_send(c->fd, p, n);
	for (size_t at = 0; at < n; at += n / 8 + 1) {
		size_t part = n - at < n / 8 + 1 ? n - at : n / 8 + 1;

		usleep(10000);
		if (!server_send(c->fd, p + at, part))
			return false;
	}
	return true;
}

static bool answer(struct conn *c, char *file, long long size)
{
	const char *range = strcasestr(c->request, "\r\nRange: bytes=");
	long long first = 0, last = size - 1;
	char head[512], etag[64];
	const char *match = strcasestr(c->request, "\r\nIf-None-Match: ");
	bool tar = strlen(c->name) > 4 && !strcmp(c->name + strlen(c->name) - 4, ".tar");
	int n;

	snprintf(etag, sizeof etag, "\"%s-%lld\"", c->name, size);
	if (match && !strncmp(match + 17, etag, strlen(etag))) {
		c->sh->unchanged++;
		n = snprintf(
			head, sizeof head, "HTTP/1.1 304 Not Modified\r\nETag: %s\r\n\r\n", etag);
		return server_send(c->fd, head, (size_t)n);
	}
	if (is(c, "flipped") && tar)
		for (long long i = size - 6000; i < size - 5900; i++)
			file[i] = (char)~file[i];
	if (range && !is(c, "whole"))
		sscanf(range + 15, "%lld-%lld", &first, &last);
	if (last >= size)
		last = size - 1;
	if (first > last)
		return plain(c, "416 Range Not Satisfiable");
	c->sh->bytes += last - first + 1;
	if (tar && last == size - 1) {
		c->sh->to_end++;
		c->sh->to_end_bytes += last - first + 1;
	}
	if (range && !is(c, "whole"))
		n = snprintf(head, sizeof head,
			"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %lld-%lld/%lld\r\n"
			"Content-Length: %lld\r\n\r\n",
			first, last, size + (is(c, "longer") && tar), last - first + 1);
	else
		n = snprintf(head, sizeof head,
			"HTTP/1.1 200 OK\r\nETag: %s\r\nContent-Length: %lld\r\n\r\n", etag, size);
	return server_send(c->fd, head, (size_t)n) &&
	       send_body(c, file + first, (size_t)(last - first + 1), last);
}

static bool serve(struct conn *c)
{
	char path[1024], *file;
	struct stat st;
	bool ok = false;
	int fd;

	if (is(c, "busy") && earlier(c, 0) < 2)
		return plain(c, "503 Service Unavailable");
	if (is(c, "secret"))
		return plain(c, "403 Forbidden");
	snprintf(path, sizeof path, "%s/%s", c->dir, c->name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0 || strstr(c->name, ".."))
		return plain(c, "404 Not Found");
	file = malloc((size_t)st.st_size + 1);
	if (file && pread(fd, file, (size_t)st.st_size, 0) == st.st_size)
		ok = answer(c, file, st.st_size);
	close(fd);
	free(file);
	return ok;
}

static void note(const struct conn *c, const char *header, char *out, size_t size)
{
	char find[64];
	const char *p;

	snprintf(find, sizeof find, "\r\n%s: ", header);
	p = strcasestr(c->request, find);
	snprintf(out, size, "%.*s", p ? (int)strcspn(p + strlen(find), "\r\n") : 0,
		p ? p + strlen(find) : "");
}

static bool read_request(struct conn *c)
{
	if (!server_head(c->fd, c->request, sizeof c->request))
		return false;
	note(c, "Authorization", c->sh->authorization, sizeof c->sh->authorization);
	note(c, "X-Amz-Date", c->sh->date, sizeof c->sh->date);
	note(c, "X-Amz-Security-Token", c->sh->token, sizeof c->sh->token);
	note(c, "X-Amz-Content-Sha256", c->sh->content, sizeof c->sh->content);
	note(c, "Host", c->sh->host, sizeof c->sh->host);
	return sscanf(c->request, "GET /%31[^/]/%255s", c->kind, c->name) == 2;
}

static void *run_connection(void *arg)
{
	struct conn *c = arg;

	while (read_request(c) && serve(c))
		;
	close(c->fd);
	c->sh->open--;
	free(c);
	return NULL;
}

static void run_server(int fd, const char *dir, struct rangesd_shared *sh)
{
	for (;;) {
		struct conn *c = calloc(1, sizeof *c);
		pthread_t id;

		if (!c)
			_exit(1);
		c->sh = sh;
		c->dir = dir;
		c->fd = accept(fd, NULL, NULL);
		if (c->fd < 0) {
			free(c);
			continue;
		}
		sh->open++;
		if (pthread_create(&id, NULL, run_connection, c))
			_exit(1);
		pthread_detach(id);
	}
}

struct rangesd rangesd_start(const char *dir)
{
	struct rangesd d = {0};
	int fd = server_port(&d.port, 128);

	d.shared = server_shared(sizeof *d.shared);
	d.pid = fork();
	if (d.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_server(fd, dir, d.shared);
	}
	close(fd);
	return d;
}

/* Connections are accepted in their order: when one made now gets its answer, all others have been
 * accepted, and those that clients closed end once what stood in them is served. */
bool rangesd_settle(struct rangesd *d)
{
	static const char ask[] = "GET /secret/x HTTP/1.1\r\n\r\n";
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)d->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer[256];
	bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
		  server_send(fd, ask, sizeof ask - 1) && recv(fd, answer, sizeof answer, 0) > 0;

	if (fd >= 0)
		close(fd);
	for (int64_t since = 0; ok && d->shared->open;)
		ok = tmp_wait(&since);
	return ok;
}

void rangesd_stop(struct rangesd *d)
{
	kill(d->pid, SIGKILL);
	waitpid(d->pid, NULL, 0);
	munmap(d->shared, sizeof *d->shared);
}
