/*
 * The server for bench_fetch.sh: pictures out of memory, so that what is measured is who fetches.
 *
 * Usage: bench_fetch PORT_FILE
 *        bench_fetch cpu COMMAND...   runs it and prints its CPU seconds (children's too)
 *
 * Listens on 127.0.0.1, writes its port into PORT_FILE and serves /ANYTHING/N.jpg (picture N of
 * 64, 500x375, about 60 KB) with keep-alive until it is killed; everything else is 404.
 */
#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <turbojpeg.h>
#include <unistd.h>

enum { PICTURES = 64 };

static struct wl_buf pictures[PICTURES];

static void must(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_fetch: %s\n", what);
	exit(1);
}

/* Smooth shapes with some grain: bytes a pixel as in photographs. */
static void make_picture(int i, struct wl_buf *out)
{
	struct wl_image im = {.width = 500, .height = 375, .channels = 3};
	struct wl_err err = WL_ERR_INIT;
	im.data = malloc((size_t)500 * 375 * 3);
	must(im.data != NULL, "no memory");
	for (int y = 0; y < 375; y++)
		for (int x = 0; x < 500; x++)
			for (int c = 0; c < 3; c++) {
				size_t k = ((size_t)y * 500 + (size_t)x) * 3 + (size_t)c;
				double v = 128 + 70 * sin(x * 0.02 * (i % 7 + 1) + c) +
					   40 * cos(y * 0.05 * (i % 5 + 1));
				im.data[k] =
					(uint8_t)(v + (double)(wl_rand64(2, (uint64_t)i, k) & 31) -
						  16);
			}
	/* Half the chroma, as nearly all pictures of the web have it. */
	unsigned char *jpeg = NULL;
	unsigned long n = 0;
	tjhandle tj = tjInitCompress();
	must(tj && tjCompress2(tj, im.data, 500, 0, 375, TJPF_RGB, &jpeg, &n, TJSAMP_420, 85, 0) ==
				0,
		"the picture cannot be encoded");
	wl_buf_init(out, 1 << 22);
	must(wl_buf_add(out, jpeg, n, &err) == 0, err.msg);
	tjFree(jpeg);
	tjDestroy(tj);
	free(im.data);
}

static int answer(int fd, const char *request)
{
	char head[256], path[1024];
	const char *slash;
	must(sscanf(request, "GET %1023s", path) == 1, "no GET");
	slash = strrchr(path, '/');
	const struct wl_buf *b =
		strstr(path, ".jpg") ? &pictures[strtoul(slash + 1, NULL, 10) % PICTURES] : NULL;
	int n = snprintf(head, sizeof head,
		"HTTP/1.1 %s\r\nContent-Type: image/jpeg\r\nContent-Length: %zu\r\n\r\n",
		b ? "200 OK" : "404 Not Found", b ? b->len : 0);
	struct iovec v[2] = {{head, (size_t)n}, {b ? b->data : NULL, b ? b->len : 0}};
	size_t all = v[0].iov_len + v[1].iov_len;
	ssize_t sent = writev(fd, v, 2);
	while (sent > 0 && (size_t)sent < all) {
		size_t in_body = (size_t)sent - v[0].iov_len;
		ssize_t more = write(fd, (char *)v[1].iov_base + in_body, v[1].iov_len - in_body);
		if (more <= 0)
			return -1;
		sent += more;
	}
	return sent > 0 ? 0 : -1;
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char request[8192];
	size_t n = 0;
	for (;;) {
		ssize_t got = read(fd, request + n, sizeof request - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
		request[n] = '\0';
		if (!strstr(request, "\r\n\r\n"))
			continue;
		if (answer(fd, request) < 0)
			break;
		n = 0;
	}
	close(fd);
	return NULL;
}

/* CPU time is "a core" whatever else the machine does meanwhile. */
static int run_cpu(char **command)
{
	struct rusage u;
	int status = 1;
	pid_t pid = fork();
	if (pid == 0) {
		execvp(command[0], command);
		_exit(127);
	}
	must(pid > 0 && wait4(pid, &status, 0, &u) == pid, "no process");
	printf("CPU %.3f\n", (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
				     1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	struct wl_err err = WL_ERR_INIT;
	char text[16];
	int one = 1;
	if (argc > 2 && strcmp(argv[1], "cpu") == 0)
		return run_cpu(argv + 2);
	must(argc == 2, "usage: bench_fetch PORT_FILE");
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < PICTURES; i++)
		make_picture(i, &pictures[i]);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	must(fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof a) && !listen(fd, 4096) &&
			!getsockname(fd, (struct sockaddr *)&a, &n),
		"no port");
	snprintf(text, sizeof text, "%d\n", ntohs(a.sin_port));
	must(wl_write_file(argv[1], text, strlen(text), &err) == 0, err.msg);
	for (;;) {
		pthread_t id;
		int c = accept(fd, NULL, NULL);
		if (c < 0)
			continue;
		setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (pthread_create(&id, NULL, serve, (void *)(intptr_t)c) == 0)
			pthread_detach(id);
		else
			close(c);
	}
}
